"""Error of the expectation (Eq. 2), and expectation of the error (Eq. 4), of the discrete map."""

from typing import Unpack

from torch import Tensor

from pcsa._core.points import cloud_softmax, cloud_sum
from pcsa.losses.arguments import Clouds, Logits, Norm, Options, Positions, Target, map_of
from pcsa.losses.geometry import distance, expectation, offsets


def expectation_error(
    logits: Logits,
    pos: Positions,
    target: Target,
    batch: Clouds | None = None,
    *,
    norm: Norm = "l2",
    sigma: float | None = None,
    **options: Unpack[Options],
) -> Tensor:
    r"""Error of the expectation (Eq. 2), :math:`d(\sum_i \pi_i y_i, y_t)`: training with soft-argmax.

    It says nothing of the map's shape, only of its mean. For a position that is computed already, see
    :func:`position_error`.

    Args:
        logits: Scores before softmax.
        pos: Positions of the points.
        target: True positions.
        batch: Cloud of each point.
        norm: ``"l2"``, ``"l1"``, ``"squared"`` or ``"bounded"``, as in :func:`sample_error`.
        sigma: Width of ``"bounded"``, in the units of ``pos``.
        **options: ``ptr``, ``mask``, ``batch_size``, ``temperature``, ``visible``, ``reduction`` and ``validate``, see
            :class:`pcsa.losses.Options`.
    """
    points, keypoints = map_of(logits, pos, None, batch, near=True, **options)
    target = keypoints.known(target, points)
    position = expectation(cloud_softmax(points.logits, points), points)
    return keypoints.reduce(distance((position - target).unbind(-1), norm, sigma))


def discrete_expected_error(
    logits: Logits,
    pos: Positions,
    target: Target,
    batch: Clouds | None = None,
    *,
    norm: Norm = "l2",
    sigma: float | None = None,
    **options: Unpack[Options],
) -> Tensor:
    r"""Expectation of the error of the discrete map (Eq. 4): :math:`\sum_i \pi_i\, d(y_i, y_t)`.

    Args:
        logits: Scores before softmax.
        pos: Positions of the points.
        target: True positions.
        batch: Cloud of each point.
        norm: ``"l2"``, ``"l1"``, ``"squared"`` or ``"bounded"``, as in :func:`sample_error`.
        sigma: Width of ``"bounded"``, in the units of ``pos``.
        **options: ``ptr``, ``mask``, ``batch_size``, ``temperature``, ``visible``, ``reduction`` and ``validate``, see
            :class:`pcsa.losses.Options`.

    Example:
        >>> import torch
        >>> pos = torch.tensor([[0.0], [2.0]])  # as likely as each other, and 0 and 2 away from the target
        >>> discrete_expected_error(torch.zeros(2, 1), pos, torch.tensor([[[0.0]]]))
        tensor(1.)
    """
    points, keypoints = map_of(logits, pos, None, batch, **options)
    target = keypoints.known(target, points)
    cost = distance(offsets(points, target), norm, sigma)
    return keypoints.reduce(cloud_sum(cloud_softmax(points.logits, points) * cost, points))
