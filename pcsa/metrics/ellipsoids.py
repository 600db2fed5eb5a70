"""A predicted covariance, held against the places that several people marked."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pcsa._core.checks import check_finite, check_floating, check_mask, check_shape, reads_values
from pcsa.losses import mixture_nll

LEVELS = (0.5, 0.8, 0.95)
"""Probabilities of the ellipsoids."""


class SpreadCorrelation(NamedTuple):
    """How predicted spreads go with human ones over keypoints, from :func:`spread_correlation`.

    Attributes:
        pearson: Pearson's correlation.
        spearman: That of the ranks.
        predicted: Predicted spread of each keypoint, in the units of the marks.
        human: Spread of its marks, in the same units; NaN where no shape has two of them.
    """

    pearson: float
    spearman: float
    predicted: Float[Tensor, " K"]
    human: Float[Tensor, " K"]


def ellipsoid_coverage(
    marks: Float[Tensor, "B K M D"],
    marked: Bool[Tensor, "B K M"],
    mean: Float[Tensor, "B K D"],
    covariance: Float[Tensor, "B K D D"],
    levels: Sequence[float] = LEVELS,
    *,
    validate: bool = True,
) -> Float[Tensor, "K L"]:
    r"""Share of the marks of each keypoint within the predicted ellipsoids of some probabilities.

    A mark :math:`m` is within the ellipsoid of level :math:`p` if :math:`(m - \mu)^\top C^{-1} (m - \mu)` is at most
    the p-quantile of the :math:`\chi^2` distribution with D degrees of freedom. If marks are normal with the predicted
    covariances, the shares are the levels; smaller shares tell of covariances that are too small, or of means that are
    off. Marks of one shape share its error, so resample shapes, not marks, for an interval.

    Args:
        marks: Places that people marked, in the dataset's own units; may hold anything where not marked.
        marked: Which of them there are.
        mean: Predicted positions, in the same units.
        covariance: Predicted covariances, in the square of these units, positive definite.
        levels: Probabilities, above 0 and below 1.
        validate: Check the values (synchronizes with the device).

    Returns:
        Shares, float64, pooled over shapes; NaN for a keypoint without a mark. Not differentiable.

    Raises:
        ValueError: If shapes or dtypes do not fit, a mark is not finite, or a covariance is not positive definite.

    Example:
        >>> marks = torch.tensor([[[[0.5], [1.0], [3.0], [-0.1]]]])
        >>> marked = torch.ones(1, 1, 4, dtype=torch.bool)
        >>> ellipsoid_coverage(marks, marked, torch.zeros(1, 1, 1), torch.ones(1, 1, 1, 1))
        tensor([[0.5000, 0.7500, 0.7500]], dtype=torch.float64)
    """
    from scipy.stats import chi2

    for level in levels:
        if not 0 < level < 1:
            raise ValueError(f"`levels` (={level}) must be above 0 and below 1")
    squared = _squared(marks, marked, mean, covariance, validate)[0].detach()
    limits = squared.new_tensor([chi2.ppf(level, marks.shape[-1]) for level in levels])
    within = (squared.unsqueeze(-1) <= limits) & marked.unsqueeze(-1)
    return within.sum((0, 2)).double() / marked.sum((0, 2)).unsqueeze(-1)


def gaussian_log_likelihood(
    marks: Float[Tensor, "B K M D"],
    marked: Bool[Tensor, "B K M"],
    mean: Float[Tensor, "B K D"],
    covariance: Float[Tensor, "B K D D"],
    *,
    validate: bool = True,
) -> Float[Tensor, "B K"]:
    r"""Mean log-likelihood of the marks of each keypoint under a normal distribution, in nats.

    For the same covariance everywhere, pass that of :func:`pooled_covariance`, expanded: the rival that a predicted
    covariance must beat. See :func:`mixture_log_likelihood` for the whole map.

    Args:
        marks: As for :func:`ellipsoid_coverage`.
        marked: As there.
        mean: As there.
        covariance: As there.
        validate: As there.

    Returns:
        Means over the marks, float64, for the units of the marks; NaN where there is none. Differentiable with respect
        to ``mean`` and ``covariance``.

    Raises:
        ValueError: As :func:`ellipsoid_coverage`.
    """
    squared, root = _squared(marks, marked, mean, covariance, validate)
    D = marks.shape[-1]
    log_density = -squared / 2 - root.unsqueeze(-1) - D * math.log(2 * math.pi) / 2
    return _mean_of_marks(log_density, marked)


def mixture_log_likelihood(
    logits: Float[Tensor, "N K"],
    pos: Float[Tensor, "N D"],
    bandwidth: float | Float[Tensor, " N"] | Float[Tensor, "N D D"],
    marks: Float[Tensor, "B K M D"],
    marked: Bool[Tensor, "B K M"],
    *,
    ptr: Int[Tensor, " B_plus_1"] | None = None,
    temperature: float = 1.0,
    validate: bool = True,
) -> Float[Tensor, "B K"]:
    r"""Mean log-likelihood of the marks of each keypoint under the mixture around the points (Eq. 6), in nats.

    The mean over marks of :math:`\log \sum_i \pi_i\, \mathcal{N}(m; y_i, \sigma_i^2 I)`, see
    :func:`pcsa.losses.mixture_nll`.

    Args:
        logits: Scores before softmax.
        pos: Positions of the points, in the units and frame of the marks.
        bandwidth: Of each point's basis, see :func:`pcsa.losses.mixture_nll`.
        marks: As for :func:`ellipsoid_coverage`.
        marked: As there.
        ptr: Where each cloud begins, then N; without it there is one cloud.
        temperature: Divides the logits.
        validate: As there.

    Returns:
        Means over the marks, float64; NaN where there is none.

    Raises:
        ValueError: If shapes or dtypes do not fit, or a mark is not finite.
    """
    check_marks(marks, marked, validate)
    known = torch.where(marked.unsqueeze(-1), marks, 0.0)
    parts = [
        -mixture_nll(
            logits, pos, bandwidth, known[:, :, m].to(pos), ptr=ptr, temperature=temperature, visible=marked[:, :, m],
            reduction="none", validate=validate,
        )
        for m in range(marks.shape[2])
    ]  # fmt: skip
    return _mean_of_marks(torch.stack(parts, 2), marked)


def pooled_covariance(
    marks: Float[Tensor, "B K M D"], marked: Bool[Tensor, "B K M"], mean: Float[Tensor, "B K D"], *,
    per_keypoint: bool = False, validate: bool = True,
) -> Float[Tensor, "*K D D"]:  # fmt: skip
    r"""Second moment of the marks about predictions: the constant covariance of the largest likelihood.

    Take it from the shapes of training folds, and judge it on others.

    Args:
        marks: As for :func:`ellipsoid_coverage`.
        marked: As there.
        mean: As there.
        per_keypoint: Whether each keypoint has one of its own, ``[K, D, D]``, in place of one for all, ``[D, D]``.
        validate: As there.

    Returns:
        Covariances, float64; NaN where there is no mark.

    Raises:
        ValueError: If shapes or dtypes do not fit, or a mark is not finite.
    """
    check_marks(marks, marked, validate)
    check_shape("mean", mean, (*marks.shape[:2], marks.shape[3]))
    away = torch.where(marked.unsqueeze(-1), marks - mean.unsqueeze(2), 0.0).double()
    second = torch.einsum("bkmd,bkme->kde", away, away)
    count = marked.sum((0, 2)).double()
    if per_keypoint:
        return second / count[:, None, None]
    return second.sum(0) / count.sum()


def covariance_factor(
    marks: Float[Tensor, "B K M D"],
    marked: Bool[Tensor, "B K M"],
    mean: Float[Tensor, "B K D"],
    covariance: Float[Tensor, "B K D D"],
    *,
    validate: bool = True,
) -> Float[Tensor, ""]:
    r"""The factor on all covariances under which the marks are most likely: above 1 where they are too small.

    The mean of :math:`(m - \mu)^\top C^{-1} (m - \mu) / D`. Fit it on training folds; multiply the covariances of
    others, and report both.

    Args:
        marks: As for :func:`ellipsoid_coverage`.
        marked: As there.
        mean: As there.
        covariance: As there.
        validate: As there.

    Returns:
        A float64 scalar; NaN without a mark.

    Raises:
        ValueError: As :func:`ellipsoid_coverage`.

    Example:
        >>> marks, marked = torch.tensor([[[[2.0], [-2.0]]]]), torch.ones(1, 1, 2, dtype=torch.bool)
        >>> covariance_factor(marks, marked, torch.zeros(1, 1, 1), torch.ones(1, 1, 1, 1))
        tensor(4., dtype=torch.float64)
    """
    squared = _squared(marks, marked, mean, covariance, validate)[0]
    return torch.where(marked, squared, 0.0).sum() / marked.sum() / marks.shape[-1]


def spread_correlation(
    covariance: Float[Tensor, "B K D D"],
    marks: Float[Tensor, "B K M D"],
    marked: Bool[Tensor, "B K M"],
    *,
    validate: bool = True,
) -> SpreadCorrelation:
    r"""Whether keypoints of which a network is unsure are those on which people disagree.

    The spread of a keypoint is the root of the mean, over shapes, of the trace of a covariance: the predicted one, and
    that of the marks about their own mean (divided by their number less one). Both are standard deviations of the
    distance, and the correlation is over keypoints.

    Args:
        covariance: As for :func:`ellipsoid_coverage`.
        marks: As there.
        marked: As there; shapes with fewer than two marks of a keypoint say nothing about it.
        validate: As there.

    Returns:
        :class:`SpreadCorrelation`; NaN correlations for fewer than three keypoints, or without any difference.

    Raises:
        ValueError: If shapes or dtypes do not fit, or a mark is not finite.
    """
    from scipy.stats import pearsonr, spearmanr

    check_marks(marks, marked, validate)
    check_shape("covariance", covariance, (*marks.shape[:2], marks.shape[3], marks.shape[3]))
    check_finite("covariance", covariance, validate)
    count = marked.sum(2)
    known = torch.where(marked.unsqueeze(-1), marks, 0.0).double()
    middle = known.sum(2) / count.clamp(min=1).unsqueeze(-1)
    away = torch.where(marked.unsqueeze(-1), known - middle.unsqueeze(2), 0.0)
    human = away.square().sum((2, 3)) / (count - 1).clamp(min=1)
    several = (count > 1).double()
    trace = covariance.detach().double().diagonal(dim1=2, dim2=3).sum(-1)
    of_shapes = several.sum(0)
    of_people = ((human * several).sum(0) / of_shapes).sqrt()
    of_network = ((trace * several).sum(0) / of_shapes).sqrt()
    both = (of_shapes > 0).cpu()
    a, b = of_network.cpu()[both].numpy(), of_people.cpu()[both].numpy()
    if len(a) < 3 or not (a != a[0]).any() or not (b != b[0]).any():
        return SpreadCorrelation(math.nan, math.nan, of_network, of_people)
    return SpreadCorrelation(float(pearsonr(a, b)[0]), float(spearmanr(a, b)[0]), of_network, of_people)


def check_marks(marks: Tensor, marked: Tensor, validate: bool) -> None:
    """Raise unless marks are ``[B, K, M, D]`` with their mask, finite where there is one."""
    check_floating("marks", marks)
    if marks.ndim != 4:
        raise ValueError(f"`marks` {list(marks.shape)} must be [B, K, M, D]")
    check_mask("marked", marked, marks.shape[:3])
    if reads_values(validate) and not torch.where(marked.unsqueeze(-1), marks, 0.0).isfinite().all():
        raise ValueError("`marks` must be finite where marked")


def _squared(marks: Tensor, marked: Tensor, mean: Tensor, covariance: Tensor, validate: bool) -> tuple[Tensor, Tensor]:
    """Squared Mahalanobis distances ``[B, K, M]``, 0 where not marked, and log roots of determinants ``[B, K]``."""
    check_marks(marks, marked, validate)
    B, K, _, D = marks.shape
    check_shape("mean", mean, (B, K, D))
    check_shape("covariance", covariance, (B, K, D, D))
    # A keypoint without a mark needs no covariance.
    any_mark = marked.any(2)
    identity = torch.eye(D, dtype=torch.double, device=marks.device)
    used = torch.where(any_mark[..., None, None], covariance.double(), identity)
    factor, info = torch.linalg.cholesky_ex(used)
    if reads_values(validate) and (bool((info != 0).any()) or not bool(used.isfinite().all())):
        raise ValueError("`covariance` must be positive definite and finite wherever there is a mark")
    away = torch.where(marked.unsqueeze(-1), marks.double() - mean.double().unsqueeze(2), 0.0)
    z = torch.linalg.solve_triangular(factor, away.mT, upper=False)
    return z.square().sum(2), factor.diagonal(dim1=2, dim2=3).log().sum(-1)


def _mean_of_marks(values: Tensor, marked: Tensor) -> Tensor:
    return torch.where(marked, values.double(), 0.0).sum(2) / marked.sum(2)
