"""Cross-entropy: which point is the keypoint, and is there one."""

import math
from typing import Unpack

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pcsa._core.checks import Reduction, check_mask, check_shape
from pcsa._core.places import first_in_place
from pcsa._core.points import Points, cloud_log_softmax, cloud_logsumexp, first_maximum
from pcsa._core.triton import means, nearest
from pcsa.losses.arguments import Clouds, Logits, Options, Positions, Target, at_least_float32, keypoints_of, map_of
from pcsa.losses.geometry import distance, offsets


def nearest_point_cross_entropy(
    logits: Logits,
    pos: Positions,
    target: Target | None = None,
    batch: Clouds | None = None,
    *,
    index: Int[Tensor, "B K"] | None = None,
    **options: Unpack[Options],
) -> Tensor:
    r"""Cross-entropy of the map with the point nearest to the target, :math:`-\log \pi_n`.

    Up to a constant, the limit of :func:`mixture_nll` (Eq. 6) as the bandwidth goes to 0. Among places that
    are equally near, that of the first point counts; the probabilities of points in exactly one place add up.
    Differentiable in ``logits`` only.

    Args:
        logits: Scores before softmax.
        pos: Positions of the points.
        target: True positions; not read where ``index`` is given.
        batch: Cloud of each point.
        index: The right point of each keypoint, where the annotation names it, in place of ``target``: a row
            of ``pos``, in dense input a row of the cloud's own ``pos[b]`` (as :func:`pcsa.localize` has it).
            Not used where a keypoint is not visible.
        **options: ``ptr``, ``mask``, ``batch_size``, ``temperature``, ``visible``, ``reduction`` and ``validate``, see
            :class:`pcsa.losses.Options`.

    Example:
        >>> pos = torch.tensor([[0.0], [2.0]])
        >>> loss = nearest_point_cross_entropy(torch.zeros(2, 1), pos, torch.tensor([[[1.5]]]))
        >>> round(loss.exp().item(), 4)
        2.0
    """
    if (target is None) == (index is None):
        raise ValueError("`target` and `index` say the same thing: give exactly one of them")
    points, keypoints = map_of(logits, pos, None, batch, **options)
    if index is not None:
        loss = _at(points, keypoints.known_rows(index, points, dense=logits.dim() == 3))
    elif target is not None and nearest.takes(points.logits, points.pos):
        at = keypoints.known(target, points.pos, masked=False)
        plain = lambda logits: _at(points._replace(logits=logits), _nearest(points, at))  # noqa: E731
        loss = nearest.cross_entropy(points.logits, points.pos, at, points.ptr, plain)
    elif target is not None:
        loss = _at(points, _nearest(points, keypoints.known(target, points)))
    return keypoints.reduce(loss)


def _at(points: Points, row: Tensor) -> Tensor:
    """Negative log-probability of the places of rows ``[B, K]``."""
    # No score can tell copies of a point apart: all of them are right.
    first = first_in_place(points.pos, points.batch)
    right = first[:, None] == first[row].index_select(0, points.batch)
    log_prob = cloud_log_softmax(points.logits, points).masked_fill(~right, -math.inf)
    return -cloud_logsumexp(log_prob, points)


def presence_loss(
    presence_logits: Float[Tensor, "B K"], visible: Bool[Tensor, "B K"], *, reduction: Reduction = "mean"
) -> Tensor:
    """Binary cross-entropy of the presence scores with ``visible``, here the label: every keypoint counts.

    Args:
        presence_logits: Scores before the sigmoid; positive means present.
        visible: Which keypoints the instance has.
        reduction: ``"mean"`` over all ``B * K``, ``"sum"`` or ``"none"``.
    """
    check_shape("presence_logits", presence_logits, ("B", "K"))
    check_mask("visible", visible, presence_logits.shape)
    keypoints = keypoints_of(presence_logits.shape, reduction=reduction)
    score = at_least_float32("presence_logits", presence_logits)
    if reduction == "mean" and means.takes(score):
        return means.binary_cross_entropy(score, visible)
    loss = torch.nn.functional.binary_cross_entropy_with_logits(score, visible.to(score.dtype), reduction="none")
    return keypoints.reduce(loss)


@torch.no_grad()
def _nearest(points: Points, target: Tensor) -> Tensor:
    """Row of the point nearest to each target, the first of several, ``[B, K]``."""
    away = distance(offsets(points, target), "squared").masked_fill(points.logits == -math.inf, math.inf)
    return first_maximum(-away, points)
