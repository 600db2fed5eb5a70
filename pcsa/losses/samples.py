"""Errors of positions: of drawn samples (Eq. 14), or of one position per keypoint."""

from typing import Literal, Unpack

import torch
from jaxtyping import Float
from torch import Tensor

from pcsa._core.checks import check_one_of, check_shape, check_tensor
from pcsa.losses.arguments import Masking, Norm, Target, at_least_float32, keypoints_of
from pcsa.losses.geometry import distance


def sample_error(
    samples: Float[Tensor, "B K S D"],
    target: Target,
    *,
    norm: Norm = "l2",
    sigma: float | None = None,
    **options: Unpack[Masking],
) -> Tensor:
    r"""Expectation of the error, estimated by samples (Eq. 14): :math:`\frac{1}{S} \sum_s d(\hat Y_s, y_t)`.

    Args:
        samples: What :func:`pcsa.sampling_argmax` drew.
        target: True positions, in the units of ``samples``.
        norm: ``"l2"`` Euclidean distance (its gradient at distance zero is zero), ``"l1"`` sum of the
            absolute differences, ``"squared"`` Euclidean distance squared, ``"bounded"``
            :math:`1 - e^{-d^2 / 2\sigma^2}` of the Euclidean distance d, between 0 and 1: a smooth form of "farther
            than about :math:`\sigma`", whose mean over keypoints is one minus a smooth PCK.
        sigma: Width :math:`\sigma` of ``"bounded"``, in the units of ``samples``; it is 1/2 at a distance of
            :math:`1.18 \sigma`. Read for this norm only, which cannot do without.
        **options: ``visible``, ``reduction`` and ``validate``, see :class:`pcsa.losses.Masking`.

    Example:
        >>> import torch
        >>> samples = torch.tensor([[[[3.0, 4.0], [0.0, 1.0]]]])  # distances 5 and 1 from the origin
        >>> sample_error(samples, torch.zeros(1, 1, 2))
        tensor(3.)
    """
    check_samples(samples, least=1)
    keypoints = keypoints_of(samples.shape[:2], **options)
    samples = at_least_float32("samples", samples)
    target = keypoints.known(target, samples)
    return keypoints.reduce(distance((samples - target.unsqueeze(2)).unbind(-1), norm, sigma).mean(2))


def energy_score(
    samples: Float[Tensor, "B K S D"], target: Target, *, norm: Literal["l2", "l1"] = "l2", **options: Unpack[Masking]
) -> Tensor:
    r"""Energy score of samples, on one axis the continuous ranked probability score (CRPS).

    .. math:: \frac{1}{S} \sum_s d(\hat Y_s, y_t) - \frac{1}{2 S (S - 1)} \sum_{s, r} d(\hat Y_s, \hat Y_r)

    The first half is :func:`sample_error`; the second rewards spread, so that in the mean no distribution scores better
    than the true one (`"Strictly Proper Scoring Rules, Prediction, and Estimation"
    <https://doi.org/10.1198/016214506000001437>`_, Eq. 22): where the error alone draws all samples to one place, this
    keeps them as uncertain as the targets are. Unbiased for any number of samples, and below 0 for some.

    Needs S (S - 1) / 2 distances of each keypoint. Samples of the mixture itself, as the estimators ``"reinmax"``,
    ``"straight_through"`` and ``"implicit"`` draw them, make it a score of the mixture; relaxed ones are contracted.

    Args:
        samples: What :func:`pcsa.sampling_argmax` drew; at least two of each keypoint.
        target: True positions, in the units of ``samples``.
        norm: ``"l2"`` Euclidean distance, or ``"l1"``: the CRPS of each axis, summed.
        **options: ``visible``, ``reduction`` and ``validate``, see :class:`pcsa.losses.Masking`.

    Example:
        >>> import torch
        >>> samples = torch.tensor([[[[-1.0], [1.0]]]])  # each 1 from the target, and 2 from the other
        >>> energy_score(samples, torch.zeros(1, 1, 1))
        tensor(0.)
    """
    check_one_of("norm", norm, ("l2", "l1"))
    check_samples(samples, least=2)
    S = samples.shape[2]
    keypoints = keypoints_of(samples.shape[:2], **options)
    samples = at_least_float32("samples", samples)
    target = keypoints.known(target, samples)
    error = distance((samples - target.unsqueeze(2)).unbind(-1), norm).mean(2)
    one, other = torch.triu_indices(S, S, 1, device=samples.device).unbind()
    apart = distance((samples.index_select(2, one) - samples.index_select(2, other)).unbind(-1), norm)
    return keypoints.reduce(error - apart.mean(2) / 2)


def position_error(
    position: Float[Tensor, "B K D"],
    target: Target,
    *,
    norm: Norm = "l2",
    sigma: float | None = None,
    **options: Unpack[Masking],
) -> Tensor:
    """Error of one position per keypoint; for :func:`pcsa.soft_argmax` the error of the expectation (Eq. 2).

    Args:
        position: Predicted positions.
        target: True positions, in the units of ``position``.
        norm: ``"l2"``, ``"l1"``, ``"squared"`` or ``"bounded"``, as in :func:`sample_error`.
        sigma: Width of ``"bounded"``, in the units of ``position``.
        **options: ``visible``, ``reduction`` and ``validate``, see :class:`pcsa.losses.Masking`.
    """
    check_shape("position", position, ("B", "K", "D"))
    keypoints = keypoints_of(position.shape[:2], **options)
    position = at_least_float32("position", position)
    target = keypoints.known(target, position)
    return keypoints.reduce(distance((position - target).unbind(-1), norm, sigma))


def check_samples(samples: Tensor, least: int) -> None:
    """Raise unless ``samples`` is ``[B, K, S, D]`` with at least so many samples."""
    check_tensor("samples", samples)
    if samples.dim() != 4 or samples.shape[2] < least:
        number = "one sample" if least == 1 else f"{least} samples"
        raise ValueError(f"`samples` {list(samples.shape)} must be [B, K, S, D] with at least {number}")
