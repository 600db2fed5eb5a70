"""Calibration: how the confidence of predictions goes with their correctness."""

import math
from typing import Literal, NamedTuple, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pcsa._core.checks import check_count, check_floating, check_mask, check_one_of, reads_values

Binning = Literal["equal_count", "equal_width"]


class ReliabilityCurve(NamedTuple):
    """Confidence against correctness, per bin, from :func:`reliability_curve`.

    Attributes:
        confidence: Mean confidence; NaN in an empty bin.
        accuracy: Fraction that is correct; NaN in an empty bin.
        counts: Predictions in the bin.
    """

    confidence: Float[Tensor, " bins"]
    accuracy: Float[Tensor, " bins"]
    counts: Int[Tensor, " bins"]


def confidence_correlation(
    confidence: Float[Tensor, " M"], correct: Bool[Tensor, " M"], *, validate: bool = True
) -> Float[Tensor, ""]:
    r"""Pearson correlation of confidence with correctness.

    Table 3 of `"Localization with Sampling-Argmax" <https://arxiv.org/abs/2110.08825>`_.

    Args:
        confidence: Confidence per prediction, 0 to 1; there the peak probability of its map.
        correct: Whether each prediction is correct, say within 0.01 of the annotation.
        validate: Check that confidences lie in 0 to 1.

    Returns:
        A float64 scalar in -1 to 1; NaN if all confidences are equal or all predictions are equally right.
        Not differentiable.

    Shapes:
        - **confidence**, **correct:** :math:`(M)`
        - **output:** scalar

    Raises:
        ValueError: If shapes or dtypes do not fit, there is no prediction, or a confidence is not within 0 to
            1.
    """
    from torchmetrics.functional.regression import pearson_corrcoef

    _check_confidence(confidence, correct, validate)
    confidence, label = confidence.detach().double(), correct.double()
    if not (confidence != confidence[0]).any() or not (label != label[0]).any():
        return confidence.new_tensor(math.nan)
    # Pearson is blind to scale; torchmetrics is not blind to tiny variances.
    return pearson_corrcoef((confidence - confidence.mean()) / confidence.std(), label)


def reliability_curve(
    confidence: Float[Tensor, " M"],
    correct: Bool[Tensor, " M"],
    num_bins: int = 10,
    binning: Binning = "equal_count",
    *,
    validate: bool = True,
) -> ReliabilityCurve:
    r"""Mean confidence and fraction correct in bins of increasing confidence.

    Args:
        confidence: Confidence per prediction, 0 to 1.
        correct: Whether each prediction is correct.
        num_bins: Number of bins.
        binning: ``"equal_count"`` puts (nearly) as many predictions into each bin, equal confidences always
            into the same one: peak probabilities over thousands of points crowd near 0. ``"equal_width"``
            divides 0 to 1.
        validate: Check that confidences lie in 0 to 1.

    Returns:
        :class:`ReliabilityCurve`, float64 and int64. Not differentiable.

    Shapes:
        - **confidence**, **correct:** :math:`(M)`
        - **output:** three times (num_bins)

    Raises:
        ValueError: If shapes or dtypes do not fit, there is no prediction, a confidence is not within 0 to 1,
            ``num_bins`` is below 1 or ``binning`` is unknown.

    Example:
        >>> confidence = torch.tensor([0.1, 0.3, 0.6, 0.8])
        >>> reliability_curve(confidence, torch.tensor([False, True, True, True]), num_bins=2).accuracy
        tensor([0.5000, 1.0000], dtype=torch.float64)
    """
    check_binning(num_bins, binning)
    _check_confidence(confidence, correct, validate)
    confidence = confidence.detach()
    if binning == "equal_width":
        bins = (confidence * num_bins).long().clamp(0, num_bins - 1)
    else:
        num_smaller = torch.searchsorted(confidence.sort().values, confidence)
        bins = num_smaller * num_bins // confidence.numel()
    # A product instead of a weighted `bincount`, which has no deterministic form on CUDA.
    member = bins[:, None] == torch.arange(num_bins, device=bins.device)
    counts = member.sum(dim=0)
    mean = confidence.double() @ member.double() / counts
    accuracy = correct.double() @ member.double() / counts
    return ReliabilityCurve(mean, accuracy, counts)


def check_binning(num_bins: int, binning: str) -> None:
    """Raise unless ``num_bins`` is a whole number of at least 1 and ``binning`` is known."""
    check_count("num_bins", num_bins)
    check_one_of("binning", binning, get_args(Binning))


def _check_confidence(confidence: Tensor, correct: Tensor, validate: bool) -> None:
    if confidence.ndim != 1 or confidence.numel() == 0:
        raise ValueError(f"`confidence` {list(confidence.shape)} must be [M], M at least 1")
    check_floating("confidence", confidence)
    check_mask("correct", correct, confidence.shape)
    check_unit_interval(confidence, validate)


def check_unit_interval(confidence: Tensor, validate: bool) -> None:
    """Raise unless every confidence lies in 0 to 1; ``validate=False`` and compilation skip it."""
    # A softmax may round a little above 1.
    if reads_values(validate) and not ((confidence >= 0) & (confidence <= 1 + 1e-5)).all():
        raise ValueError("`confidence` must lie in 0 to 1 and not be NaN")
