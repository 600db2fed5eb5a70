"""What a confidence is worth: calibration error, risk-coverage curve, and how certain such figures are."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pcsa._core.checks import check_count, check_finite, check_floating, check_index, check_mask
from pcsa.metrics.calibration import Binning, reliability_curve


class RiskCoverage(NamedTuple):
    """How wrong the most confident predictions are, from :func:`risk_coverage`.

    Attributes:
        coverage: Share of the predictions that is kept, the most confident first: 1/M to 1.
        risk: Share of these that is wrong.
    """

    coverage: Float[Tensor, " M"]
    risk: Float[Tensor, " M"]


def expected_calibration_error(
    confidence: Float[Tensor, " M"],
    correct: Bool[Tensor, " M"],
    num_bins: int = 10,
    binning: Binning = "equal_count",
    *,
    validate: bool = True,
) -> Float[Tensor, ""]:
    r"""Mean distance between confidence and accuracy over bins of confidence, weighted by their counts (ECE).

    :math:`\sum_b \frac{n_b}{M} |\mathrm{acc}_b - \mathrm{conf}_b|`, Eq. 3 of `"On Calibration of Modern Neural
    Networks" <https://arxiv.org/abs/1706.04599>`_. The bins adapt to the confidences by default, each with as many
    predictions, as in `"Measuring Calibration in Deep Learning" <https://arxiv.org/abs/1904.01685>`_: bins of equal
    width leave most empty where confidences crowd. A finite number of predictions makes the error larger than it is
    (by about :math:`\sqrt{2 a (1 - a) B / (\pi M)}` at accuracy a for B bins, perfectly calibrated); see
    :func:`shape_interval` for how certain it is.

    Args:
        confidence: Probability of being correct that is claimed for each prediction, 0 to 1.
        correct: Whether each prediction is correct.
        num_bins: Number of bins.
        binning: ``"equal_count"`` or ``"equal_width"``, see :func:`reliability_curve`.
        validate: Check that confidences lie in 0 to 1.

    Returns:
        A float64 scalar, 0 to 1. Not differentiable.

    Shapes:
        - **confidence**, **correct:** :math:`(M)`
        - **output:** scalar

    Raises:
        ValueError: As :func:`reliability_curve`.

    Example:
        >>> confidence = torch.tensor([0.2, 0.2, 0.9, 0.9])
        >>> expected_calibration_error(confidence, torch.tensor([False, False, True, True]), num_bins=2)
        tensor(0.1500, dtype=torch.float64)

    """
    curve = reliability_curve(confidence, correct, num_bins, binning, validate=validate)
    gap = torch.where(curve.counts > 0, (curve.accuracy - curve.confidence).abs(), 0.0)
    return (gap * curve.counts).sum() / curve.counts.sum()


def risk_coverage(
    confidence: Float[Tensor, " M"], correct: Bool[Tensor, " M"], *, validate: bool = True
) -> RiskCoverage:
    r"""Share that is wrong among the most confident predictions, for every number of them that is kept.

    The curve of `"Selective Classification for Deep Neural Networks" <https://arxiv.org/abs/1705.08500>`_. Among equal
    confidences the order is not known: there the curve has its mean over all orders.

    Args:
        confidence: What the predictions are sorted by, such as a probability or minus an error; only its order counts.
        correct: Whether each prediction is correct.
        validate: Check that no confidence is NaN or infinite.

    Returns:
        :class:`RiskCoverage`, float64. Not differentiable.

    Shapes:
        - **confidence**, **correct:** :math:`(M)`
        - **output:** twice :math:`(M)`

    Raises:
        ValueError: If shapes or dtypes do not fit, there is no prediction, or a confidence is not finite.

    Example:
        >>> risk_coverage(torch.tensor([0.9, 0.5, 0.5, 0.1]), torch.tensor([True, True, False, False])).risk
        tensor([0.0000, 0.2500, 0.3333, 0.5000], dtype=torch.float64)

    """
    if confidence.ndim != 1 or confidence.numel() == 0:
        raise ValueError(f"`confidence` {list(confidence.shape)} must be [M], M at least 1")
    check_floating("confidence", confidence)
    check_mask("correct", correct, confidence.shape)
    check_finite("confidence", confidence, validate)
    falling = -confidence.detach()
    _, tie, counts = falling.unique(sorted=True, return_inverse=True, return_counts=True)
    # A sum by one-hot would be [M, ties]; integers add up to the same in any order.
    wrong_in_tie = torch.zeros_like(counts).index_add(0, tie, (~correct).long())
    wrong = (wrong_in_tie.double() / counts).repeat_interleave(counts).cumsum(0)
    kept = torch.arange(1, len(confidence) + 1, device=confidence.device, dtype=torch.float64)
    return RiskCoverage(kept / len(confidence), wrong / kept)


def area_under_risk_coverage(
    confidence: Float[Tensor, " M"], correct: Bool[Tensor, " M"], *, validate: bool = True
) -> Float[Tensor, ""]:
    r"""Mean of the risk over all coverages (AURC), less is better.

    As defined by `"Bias-Reduced Uncertainty Estimation for Deep Neural Classifiers"
    <https://arxiv.org/abs/1805.08206>`_. A confidence that says nothing has the share that is wrong; the best there
    is, all right predictions before all wrong ones, has about :math:`r + (1 - r) \ln(1 - r)` at a share r of wrong
    ones.

    Args:
        confidence: As for :func:`risk_coverage`.
        correct: Whether each prediction is correct.
        validate: Check that no confidence is NaN or infinite.

    Returns:
        A float64 scalar, 0 to 1. Not differentiable.

    Shapes:
        - **confidence**, **correct:** :math:`(M)`
        - **output:** scalar

    Raises:
        ValueError: As :func:`risk_coverage`.

    Example:
        >>> area_under_risk_coverage(torch.tensor([0.9, 0.1]), torch.tensor([True, False]))
        tensor(0.2500, dtype=torch.float64)

    """
    return risk_coverage(confidence, correct, validate=validate).risk.mean()


def shape_interval(
    statistic: Callable[[Tensor], Tensor | float],
    shape: Int[Tensor, " M"],
    *,
    confidence: float = 0.95,
    num_resamples: int = 200,
    seed: int = 0,
) -> tuple[float, float]:
    r"""Percentile interval of a figure over predictions, by drawing the shapes that they belong to anew.

    Keypoints of one shape are right or wrong together, so shapes are drawn, not keypoints: with replacement, as many as
    there are. A figure that is biased upward in small samples, as the calibration error is, is so in the interval too.

    Args:
        statistic: Takes rows ``[R]`` of the predictions, some more than once, and returns the figure of these.
        shape: Which shape each prediction belongs to.
        confidence: Share of the resamples that the interval holds.
        num_resamples: Number of resamples.
        seed: Fixes the resamples.

    Returns:
        Lower and upper end. Resamples in which the figure is NaN are left out; NaN if all are.

    Shapes:
        - **shape:** :math:`(M)`

    Raises:
        ValueError: If there is no prediction, ``shape`` is no index, or a number breaks its rule.

    Example:
        >>> value, shape = torch.tensor([0.0, 0.0, 1.0, 1.0]), torch.tensor([0, 0, 1, 1])
        >>> shape_interval(lambda rows: value[rows].mean(), shape)
        (0.0, 1.0)

    """
    check_index("shape", shape, (shape.numel(),))
    if shape.numel() == 0:
        raise ValueError(f"`shape` {list(shape.shape)} must be [M], M at least 1")
    if not 0 < confidence < 1:
        raise ValueError(f"`confidence` (={confidence}) must be above 0 and below 1")
    check_count("num_resamples", num_resamples)
    order = shape.argsort(stable=True)
    rows = order.split(shape.unique(return_counts=True)[1].tolist())
    rng = np.random.default_rng(seed)
    drawn = rng.integers(len(rows), size=(num_resamples, len(rows))).tolist()
    values = np.array([float(statistic(torch.cat([rows[i] for i in draw]))) for draw in drawn])
    values = values[~np.isnan(values)]
    if not len(values):
        return math.nan, math.nan
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)
