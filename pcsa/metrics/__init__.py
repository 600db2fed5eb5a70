"""Scores of predicted keypoints: functions on tensors, and torchmetrics shells that accumulate and sync them.

Distances and thresholds are in the units of the positions that the caller passes. Pass the dataset's own
units (undo the normalization first): thresholds such as PCK@0.01 mean nothing else.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.classification import binary_average_precision
from torchmetrics.functional.regression import pearson_corrcoef
from torchmetrics.utilities import dim_zero_cat

from pcsa.metrics.keypoint_error import (
    check_floating as _check_floating,
    check_mask as _check_mask,
    checks as _checks,
    distances as _keypoint_error,
    keypoint_error as keypoint_error,
)
from pcsa.metrics.poses import (
    COCO_SIGMAS as COCO_SIGMAS,
    CountedError as CountedError,
    SegmentLength as SegmentLength,
    SurfaceError as SurfaceError,
    coco_average_precision as coco_average_precision,
    failure_rate as failure_rate,
    mpjpe as mpjpe,
    normalized_error as normalized_error,
    object_keypoint_similarity as object_keypoint_similarity,
    pa_mpjpe as pa_mpjpe,
    procrustes_align as procrustes_align,
    segment_length as segment_length,
    surface_error as surface_error,
)
from pcsa.metrics.unsupervised import (
    THRESHOLDS as THRESHOLDS,
    DualAlignment as DualAlignment,
    Separation as Separation,
    check_thresholds,
    collapsed_keypoints as collapsed_keypoints,
    coverage as coverage,
    dual_alignment as dual_alignment,
    geodesic_keypoint_distances as geodesic_keypoint_distances,
    inclusivity as inclusivity,
    keypoint_distances as keypoint_distances,
    keypoint_miou as keypoint_miou,
    random_keypoints as random_keypoints,
    repeatability as repeatability,
    separation as separation,
    template_keypoints as template_keypoints,
)

Binning = Literal["equal_count", "equal_width"]


class SymmetricError(NamedTuple):
    """Error against the labeling that counts, from :func:`symmetric_error`."""

    error: Float[Tensor, " K"]
    """Euclidean distances; 0 where not visible."""
    choice: Int[Tensor, ""]
    """Which candidate counts."""


class ReliabilityCurve(NamedTuple):
    """Confidence against correctness, per bin, from :func:`reliability_curve`."""

    confidence: Float[Tensor, " bins"]
    """Mean confidence; NaN in an empty bin."""
    accuracy: Float[Tensor, " bins"]
    """Fraction that is correct; NaN in an empty bin."""
    counts: Int[Tensor, " bins"]
    """Predictions in the bin."""


def pck(
    distance: Float[Tensor, "B K"],
    visible: Bool[Tensor, "B K"],
    thresholds: Sequence[float] = THRESHOLDS,
    *,
    validate: bool = True,
) -> Float[Tensor, " T"]:
    r"""Fraction of correct keypoints (PCK), the protocol of KeypointNet's benchmark.

    From `"KeypointNet" <https://arxiv.org/abs/2002.12687>`_.
    A keypoint is correct if its distance is strictly below the threshold (so none is at threshold 0). The
    fraction is taken per shape over the keypoints it has, then averaged over shapes; shapes without any are
    left out.

    Args:
        distance: Distances, Euclidean or geodesic, in the dataset's own units; infinity is never correct.
        visible: Which keypoints each shape has; the others' distances are not looked at.
        thresholds: Increasing, in the units of ``distance``; compared in its dtype.
        validate: Check the values (synchronizes with the device). Without it no visible keypoint at all gives
            NaN.

    Returns:
        Fraction per threshold, float64. Not differentiable.

    Shapes:
        - **distance**, **visible:** :math:`(B, K)`
        - **output:** :math:`(T)`

    Raises:
        ValueError: If shapes do not match, a distance is NaN or negative where visible, nothing is visible,
            or ``thresholds`` is empty, negative or not increasing.

    Example:
        >>> distance = torch.tensor([[0.0, 0.5], [0.3, 0.0]])
        >>> pck(distance, torch.tensor([[True, True], [True, False]]), [0.1, 0.4])
        tensor([0.2500, 0.7500], dtype=torch.float64)
    """
    check_thresholds(thresholds)
    _check_distance(distance, visible, validate)
    total, num_shapes = _pck_sums(distance, visible, thresholds)
    if _checks(validate):
        _check_seen(num_shapes)
    return total / num_shapes


def mean_error(
    distance: Float[Tensor, "B K"], visible: Bool[Tensor, "B K"], *, validate: bool = True
) -> Float[Tensor, ""]:
    r"""Mean distance, averaged as :func:`pck`: over the keypoints that a shape has, then over shapes.

    Args:
        distance: Distances, in the dataset's own units.
        visible: Which keypoints each shape has.
        validate: Check the values (synchronizes with the device). Without it no visible keypoint at all gives
            NaN.

    Returns:
        A float64 scalar in the units of ``distance``. Differentiable with respect to ``distance``.

    Shapes:
        - **distance**, **visible:** :math:`(B, K)`
        - **output:** scalar

    Raises:
        ValueError: If shapes do not match, a distance is NaN or negative where visible, or nothing is
            visible.
    """
    _check_distance(distance, visible, validate)
    total, num_shapes = _error_sums(distance, visible)
    if _checks(validate):
        _check_seen(num_shapes)
    return total / num_shapes


def symmetric_error(
    predicted: Float[Tensor, "K D"],
    candidates: Float[Tensor, "R K D"],
    visible: Bool[Tensor, " K"],
    *,
    logits: Float[Tensor, "N K"] | None = None,
    index: Int[Tensor, "R K"] | None = None,
    validate: bool = True,
) -> SymmetricError:
    r"""Error of one shape against the best of its equivalent labelings.

    A shape that looks the same after a rotation has several right labelings (the first of ``candidates`` is
    the annotated one, the others are rotated). KeypointNet's benchmark counts the one with the lowest
    cross-entropy :math:`-\frac{1}{|V|} \sum_{k \in V} \log \pi_{i_k, k}` over the visible keypoints; pass
    ``logits`` and ``index`` for that. Without them the one with the lowest mean distance counts, which looks
    at the answer more closely. A figure that uses this has to say so.

    Args:
        predicted: Predicted positions, in the dataset's own units.
        candidates: Equivalent labelings, same units; see ``pcsa.datasets.keypointnet.rotated_labelings``.
        visible: Which keypoints the shape has.
        logits: The network's scores of the cloud's points; log-probabilities do as well.
        index: The candidates as rows of ``logits``; may hold anything where not visible.
        validate: Check the values (synchronizes with the device).

    Returns:
        :class:`SymmetricError`: ``error`` is against ``candidates[choice]``, and differentiable with respect
        to ``predicted`` and ``candidates``; ``choice`` is not.

    Shapes:
        - **predicted:** :math:`(K, D)`
        - **candidates:** :math:`(R, K, D)`
        - **visible:** :math:`(K)`
        - **logits:** :math:`(N, K)`
        - **index:** :math:`(R, K)`
        - **error:** :math:`(K)`, **choice:** scalar

    Raises:
        ValueError: If shapes or dtypes do not fit, there is no candidate, only one of ``logits`` and
            ``index`` is given, values are not finite where visible, or an index is out of range where
            visible.
    """
    if candidates.ndim != 3 or candidates.size(0) == 0 or candidates.shape[1:] != predicted.shape:
        raise ValueError(
            f"`candidates` {list(candidates.shape)} must be [R, K, D], R at least 1, "
            f"with `predicted` [K, D] (={list(predicted.shape)})"
        )
    if (logits is None) != (index is None):
        raise ValueError("`logits` and `index` must be given together")
    R, K = candidates.shape[:2]
    _check_mask("visible", visible, (K,))
    error = _keypoint_error(predicted.expand_as(candidates), candidates, visible.expand(R, K), validate, "candidates")
    if logits is None or index is None:
        choice = error.detach().sum(dim=1).argmin()
        return SymmetricError(error[choice], choice)

    if logits.ndim != 2 or logits.size(1) != K or logits.size(0) == 0:
        raise ValueError(f"`logits` {list(logits.shape)} must be [N, {K}], N at least 1")
    _check_floating("logits", logits)
    if index.shape != (R, K) or index.is_floating_point() or index.dtype == torch.bool:
        raise ValueError(f"`index` ({index.dtype} {list(index.shape)}) must be integer [{R}, {K}]")
    index = index.long().masked_fill(~visible, 0)
    if _checks(validate):
        if not logits.isfinite().all():
            raise ValueError("`logits` must be finite")
        if ((index < 0) | (index >= logits.size(0))).any():
            raise ValueError(f"`index` must lie in 0 to {logits.size(0) - 1}, the rows of `logits`")
    log_prob = logits.detach().to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(dim=0)
    cross_entropy = -(log_prob.gather(0, index) * visible).sum(dim=1)
    choice = cross_entropy.argmin()
    return SymmetricError(error[choice], choice)


def presence_average_precision(
    scores: Float[Tensor, "B K"], present: Bool[Tensor, "B K"], *, validate: bool = True
) -> Float[Tensor, " K"]:
    r"""Average precision of the presence score, per keypoint.

    :math:`\sum_n (R_n - R_{n-1}) P_n`, not interpolated, by torchmetrics. A keypoint that every shape has, or
    none, says nothing about the score and gives NaN: the mean over keypoints is
    ``presence_average_precision(…).nanmean()``.

    Args:
        scores: Presence scores; only their order counts, so logits and probabilities do equally.
        present: Which keypoints each shape has.
        validate: Check that scores are finite.

    Returns:
        Average precision per keypoint, float32. Not differentiable.

    Shapes:
        - **scores**, **present:** :math:`(B, K)`
        - **output:** :math:`(K)`

    Raises:
        ValueError: If shapes or dtypes do not fit or a score is not finite.

    Example:
        >>> scores = torch.tensor([[0.9], [0.8], [0.7]])
        >>> presence_average_precision(scores, torch.tensor([[True], [False], [True]]))  # (1/1 + 2/3) / 2
        tensor([0.8333])
    """
    if scores.ndim != 2:
        raise ValueError(f"`scores` {list(scores.shape)} must be [B, K]")
    _check_floating("scores", scores)
    _check_mask("present", present, scores.shape)
    if _checks(validate) and not scores.isfinite().all():
        raise ValueError("`scores` must be finite")
    result = scores.new_full(scores.shape[1:], math.nan, dtype=torch.float32)
    for k, (score, label) in enumerate(zip(scores.unbind(1), present.unbind(1), strict=True)):
        if label.any() and not label.all():
            # torchmetrics puts logits through a sigmoid, which ties all above 17 in float32: ranks keep their
            # order.
            rank = score.unique(return_inverse=True)[1].double()
            result[k] = binary_average_precision(rank / rank.amax().clamp(min=1), label.long())
    return result


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
    _check_binning(num_bins, binning)
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


class PCK(Metric):
    """Fraction of correct keypoints over all updates; ``compute()`` gives ``[T]``. See :func:`pck`.

    Args:
        thresholds: Increasing, in the units of the distances.
        validate: Check values at every update.
        **kwargs: Of :class:`torchmetrics.Metric`.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    total: Tensor
    num_shapes: Tensor

    def __init__(self, thresholds: Sequence[float] = THRESHOLDS, *, validate: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_thresholds(thresholds)
        self.thresholds = tuple(thresholds)
        self.validate = validate
        self.add_state("total", torch.zeros(len(self.thresholds), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("num_shapes", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, distance: Float[Tensor, "B K"], visible: Bool[Tensor, "B K"]) -> None:
        """Add shapes: Euclidean or geodesic distances, in the dataset's own units."""
        _check_distance(distance, visible, self.validate)
        total, num_shapes = _pck_sums(distance, visible, self.thresholds)
        self.total += total
        self.num_shapes += num_shapes

    def compute(self) -> Tensor:
        """Fraction per threshold.

        Raises:
            ValueError: If no visible keypoint was seen.
        """
        _check_seen(self.num_shapes)
        return self.total / self.num_shapes


class MeanKeypointError(Metric):
    """Mean distance over all updates; ``compute()`` gives a scalar. See :func:`mean_error`.

    Args:
        validate: Check values at every update.
        **kwargs: Of :class:`torchmetrics.Metric`.
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False
    total: Tensor
    num_shapes: Tensor

    def __init__(self, *, validate: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.validate = validate
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("num_shapes", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, distance: Float[Tensor, "B K"], visible: Bool[Tensor, "B K"]) -> None:
        """Add shapes: distances in the dataset's own units."""
        _check_distance(distance, visible, self.validate)
        total, num_shapes = _error_sums(distance.detach(), visible)
        self.total += total
        self.num_shapes += num_shapes

    def compute(self) -> Tensor:
        """Mean error.

        Raises:
            ValueError: If no visible keypoint was seen.
        """
        _check_seen(self.num_shapes)
        return self.total / self.num_shapes


# The list states below are flat and of the metric's own dtype, because that is what torchmetrics puts in for
# a process that saw nothing: gathering [n, K] or bool beside it fails.


class PresenceAveragePrecision(Metric):
    """Average precision of the presence score over all updates. See :func:`presence_average_precision`.

    ``compute()`` gives ``{"per_keypoint": [K], "mean": scalar}``; the mean is over the keypoints that some
    shapes have and some have not (the others, and the mean if there is none, are NaN).

    Args:
        num_keypoints: K.
        validate: Check values at every update.
        **kwargs: Of :class:`torchmetrics.Metric`.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    scores: list[Tensor]
    present: list[Tensor]

    def __init__(self, num_keypoints: int, *, validate: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if num_keypoints < 1:
            raise ValueError(f"`num_keypoints` (={num_keypoints}) must be at least 1")
        self.num_keypoints = num_keypoints
        self.validate = validate
        self.add_state("scores", [], dist_reduce_fx="cat")
        self.add_state("present", [], dist_reduce_fx="cat")

    def update(self, presence_logits: Float[Tensor, "B K"], visible: Bool[Tensor, "B K"]) -> None:
        """Add shapes: scores (logits or probabilities, the same throughout) and which keypoints they have."""
        if presence_logits.ndim != 2 or presence_logits.size(1) != self.num_keypoints:
            raise ValueError(f"`presence_logits` {list(presence_logits.shape)} must be [B, {self.num_keypoints}]")
        _check_mask("visible", visible, presence_logits.shape)
        if _checks(self.validate) and not presence_logits.isfinite().all():
            raise ValueError("`presence_logits` must be finite")
        _append(self.scores, presence_logits, self.dtype)
        _append(self.present, visible, self.dtype)

    def compute(self) -> dict[str, Tensor]:
        """Average precision.

        Raises:
            ValueError: If nothing was seen.
        """
        scores = _cat(self.scores).reshape(-1, self.num_keypoints)
        present = _cat(self.present).reshape(-1, self.num_keypoints).bool()
        per_keypoint = presence_average_precision(scores, present)
        return {"per_keypoint": per_keypoint, "mean": per_keypoint.nanmean()}


class Calibration(Metric):
    """How confidence goes with correctness. See :func:`confidence_correlation` and :func:`reliability_curve`.

    ``compute()`` gives ``{"pearson": scalar, "confidence": [bins], "accuracy": [bins], "counts": [bins]}``.

    Args:
        threshold: A prediction is correct strictly below this distance, in the dataset's own units.
        num_bins: Bins of the reliability curve.
        binning: ``"equal_count"`` or ``"equal_width"``.
        validate: Check values at every update.
        **kwargs: Of :class:`torchmetrics.Metric`.
    """

    is_differentiable = False
    higher_is_better = None
    full_state_update = False
    confidence: list[Tensor]
    correct: list[Tensor]

    def __init__(
        self,
        threshold: float = 0.01,
        num_bins: int = 10,
        binning: Binning = "equal_count",
        *,
        validate: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        _check_correct_threshold("threshold", threshold)
        _check_binning(num_bins, binning)
        self.threshold = threshold
        self.num_bins = num_bins
        self.binning: Binning = binning
        self.validate = validate
        self.add_state("confidence", [], dist_reduce_fx="cat")
        self.add_state("correct", [], dist_reduce_fx="cat")

    def update(
        self,
        confidence: Float[Tensor, "B K"],
        distance: Float[Tensor, "B K"],
        visible: Bool[Tensor, "B K"],
    ) -> None:
        """Add predictions: those of visible keypoints count."""
        _check_distance(distance, visible, self.validate)
        if confidence.shape != distance.shape:
            raise ValueError(
                f"`confidence` {list(confidence.shape)} must have the shape of `distance` {list(distance.shape)}"
            )
        _check_floating("confidence", confidence)
        confidence = confidence[visible]
        _check_unit(confidence, self.validate)
        _append(self.confidence, confidence, self.dtype)
        _append(self.correct, distance[visible].to(self.dtype) < self.threshold, self.dtype)

    def compute(self) -> dict[str, Tensor]:
        """Correlation and curve.

        Raises:
            ValueError: If no visible keypoint was seen.
        """
        confidence, correct = _cat(self.confidence), _cat(self.correct).bool()
        curve = reliability_curve(confidence, correct, self.num_bins, self.binning)
        return {"pearson": confidence_correlation(confidence, correct), **curve._asdict()}


_DISTANCES = ("euclidean", "euclidean_symmetric", "geodesic", "geodesic_symmetric")


class KeypointMetrics(Metric):
    """Everything that ``pcsa evaluate`` reports, as plain numbers ready for JSON.

    Positions and distances are in the dataset's own units: undo the normalization before ``update``. The name
    of a figure says which distance it uses and whether rotational symmetry was taken into account::

        {"thresholds": [0.0, 0.01, …],
         "overall": {"num_shapes": 14, "num_keypoints": 180,
                     "euclidean": {"pck": [0.0, 0.44, …], "mean_error": 0.03},
                     "euclidean_symmetric": {…}, "geodesic": {…}, "geodesic_symmetric": {…},
                     "presence_average_precision": 0.9,
                     "calibration": {"threshold": 0.01, "pearson": 0.5,
                                     "reliability": {"confidence": […], "accuracy": […], "counts": […]}}},
         "per_category": {"bed": {as overall}},
         "per_keypoint": {"bed": {"0": {"num_shapes": 14, "euclidean": {…}, …,
                                        "presence_average_precision": 0.9}}}}

    Only what was passed to ``update`` appears. PCK and mean error average over the keypoints of a shape, then
    over shapes (:func:`pck`); ``num_shapes`` counts shapes with a visible keypoint. Calibration judges the
    Euclidean distance without symmetry. Presence average precision is the mean over those (category,
    keypoint) pairs that some shapes have and some have not. Categories without a shape and keypoints that no
    shape has are left out. What is undefined (a correlation of constants, an empty bin) or infinite (the mean
    of geodesic distances, when one is) is ``None``.

    Args:
        thresholds: PCK thresholds, increasing.
        categories: Names of the categories that ``update`` numbers.
        keypoint_names: Names of a category's columns; ``"0"``, ``"1"``, … for categories not in it.
        correct_threshold: Distance below which calibration counts a prediction as correct.
        num_bins: Bins of the reliability curve.
        binning: ``"equal_count"`` or ``"equal_width"``.
        validate: Check values at every update.
        **kwargs: Of :class:`torchmetrics.Metric`.
    """

    is_differentiable = False
    higher_is_better = None
    full_state_update = False

    def __init__(
        self,
        thresholds: Sequence[float] = THRESHOLDS,
        *,
        categories: Sequence[str] = ("all",),
        keypoint_names: Mapping[str, Sequence[str]] | None = None,
        correct_threshold: float = 0.01,
        num_bins: int = 10,
        binning: Binning = "equal_count",
        validate: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_thresholds(thresholds)
        _check_correct_threshold("correct_threshold", correct_threshold)
        _check_binning(num_bins, binning)
        if isinstance(categories, str) or len(categories) == 0 or len(set(categories)) < len(categories):
            raise ValueError(f"`categories` (={categories!r}) must be a list of different names, at least one")
        self.thresholds = tuple(thresholds)
        self.categories = tuple(categories)
        self.keypoint_names = dict(keypoint_names or {})
        unknown = sorted(set(self.keypoint_names) - set(self.categories))
        if unknown:
            raise ValueError(f"`keypoint_names` names {unknown}, not in `categories` {list(categories)}")
        for category, names in self.keypoint_names.items():
            if len(set(names)) < len(names):
                raise ValueError(f"`keypoint_names` (={list(names)} for {category!r}) must be different names")
        self.correct_threshold = correct_threshold
        self.num_bins = num_bins
        self.binning: Binning = binning
        self.validate = validate
        for name in ("category", "visible", *_DISTANCES, "confidence", "presence"):
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(
        self,
        predicted: Float[Tensor, "B K D"],
        target: Float[Tensor, "B K D"],
        visible: Bool[Tensor, "B K"],
        *,
        category: Int[Tensor, " B"] | None = None,
        symmetric_target: Float[Tensor, "B K D"] | None = None,
        geodesic: Float[Tensor, "B K"] | None = None,
        geodesic_symmetric: Float[Tensor, "B K"] | None = None,
        confidence: Float[Tensor, "B K"] | None = None,
        presence_logits: Float[Tensor, "B K"] | None = None,
    ) -> None:
        """Add shapes. What is optional must be given at every update or at none.

        Args:
            predicted: Predicted positions, in the dataset's own units.
            target: Annotated positions, same units; may hold anything where not visible.
            visible: Which keypoints each shape has. Pad categories with fewer keypoints by invisible ones.
            category: Places in ``categories``; all 0 if not given.
            symmetric_target: For each shape the labeling that counts, ``candidates[choice]`` of
                :func:`symmetric_error` (``target`` for shapes without symmetry).
            geodesic: Distances from :func:`pcsa.metrics.geodesic.geodesic_error`; may be infinite.
            geodesic_symmetric: The same against the labeling that counts.
            confidence: Peak probability, 0 to 1.
            presence_logits: Scores of having the keypoint; logits or probabilities.

        Raises:
            ValueError: If shapes, dtypes or values do not fit, or an optional argument comes and goes.
        """
        euclidean = keypoint_error(predicted, target, visible, validate=self.validate)
        B, K = visible.shape
        if category is None:
            category = torch.zeros(B, dtype=torch.long, device=visible.device)
        if category.shape != (B,) or category.is_floating_point() or category.dtype == torch.bool:
            raise ValueError(f"`category` ({category.dtype} {list(category.shape)}) must be integer [{B}]")
        if _checks(self.validate) and ((category < 0) | (category >= len(self.categories))).any():
            raise ValueError(
                f"`category` (={category.tolist()}) must lie in 0 to {len(self.categories) - 1}, "
                f"as there are {len(self.categories)} `categories`"
            )
        symmetric = None
        if symmetric_target is not None:
            symmetric = _keypoint_error(predicted, symmetric_target, visible, self.validate, "symmetric_target")
        for name, distance in (("geodesic", geodesic), ("geodesic_symmetric", geodesic_symmetric)):
            if distance is not None:
                _check_distance(distance, visible, self.validate, name=name)
        for name, value in (("confidence", confidence), ("presence_logits", presence_logits)):
            if value is not None:
                _check_floating(name, value)
                if value.shape != visible.shape:
                    raise ValueError(f"`{name}` {list(value.shape)} must have the shape of `visible` [{B}, {K}]")
        if confidence is not None:
            _check_unit(confidence[visible], self.validate)
        if presence_logits is not None and _checks(self.validate) and not presence_logits.isfinite().all():
            raise ValueError("`presence_logits` must be finite")

        seen = self._states()
        if seen["visible"]:
            previous = seen["visible"][-1].numel() // seen["category"][-1].numel()
            if previous != K:
                raise ValueError(f"`predicted` has K={K} keypoints, at earlier updates K={previous}")
        values = dict(
            zip(_DISTANCES, (euclidean, symmetric, geodesic, geodesic_symmetric), strict=True),
            confidence=confidence,
            presence=presence_logits,
        )
        arguments = {"euclidean_symmetric": "symmetric_target", "presence": "presence_logits"}
        for name, value in values.items():
            if seen["visible"] and bool(seen[name]) != (value is not None):
                raise ValueError(f"`{arguments.get(name, name)}` must be given at every update or at none")
        if B == 0:
            return
        for name, value in {"category": category, "visible": visible, **values}.items():
            if value is not None:
                _append(seen[name], value, self.dtype)

    def compute(self) -> dict[str, Any]:
        """All figures, as floats, ints, lists and ``None``.

        Raises:
            ValueError: If no visible keypoint was seen.
        """
        seen = {name: _cat(state) for name, state in self._states().items() if len(state)}
        if "visible" not in seen or not seen["visible"].any():
            raise ValueError("no visible keypoint was seen: there is nothing to compute a score from")
        category = seen.pop("category").long()
        seen = {name: state.reshape(len(category), -1) for name, state in seen.items()}
        per_category: dict[str, Any] = {}
        per_keypoint: dict[str, Any] = {}
        pairs = []
        for c, name in enumerate(self.categories):
            rows = {key: value[category == c] for key, value in seen.items()}
            visible = rows["visible"].bool()
            if not visible.any():
                continue
            presence = None
            if "presence" in rows:
                presence = presence_average_precision(rows["presence"], visible)
                pairs.append(presence)
            per_category[name] = self._summary(rows, presence)
            per_keypoint[name] = self._keypoints(name, rows, presence)
        overall = self._summary(seen, torch.cat(pairs) if pairs else None)
        return {
            "thresholds": list(self.thresholds),
            "overall": overall,
            "per_category": per_category,
            "per_keypoint": per_keypoint,
        }

    def _states(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self._defaults}

    def _distances(self, rows: dict[str, Tensor], columns: slice) -> dict[str, Any]:
        visible = rows["visible"][:, columns].bool()
        return {
            name: {
                "pck": _plain(pck(rows[name][:, columns], visible, self.thresholds)),
                "mean_error": _plain(mean_error(rows[name][:, columns], visible)),
            }
            for name in _DISTANCES
            if name in rows
        }

    def _summary(self, rows: dict[str, Tensor], presence: Tensor | None) -> dict[str, Any]:
        visible = rows["visible"].bool()
        summary = {
            "num_shapes": int(visible.any(dim=1).sum()),
            "num_keypoints": int(visible.sum()),
            **self._distances(rows, slice(None)),
        }
        if presence is not None:
            summary["presence_average_precision"] = _plain(presence.nanmean())
        if "confidence" in rows:
            confidence = rows["confidence"][visible]
            correct = rows["euclidean"][visible] < self.correct_threshold
            curve = reliability_curve(confidence, correct, self.num_bins, self.binning)
            summary["calibration"] = {
                "threshold": self.correct_threshold,
                "pearson": _plain(confidence_correlation(confidence, correct)),
                "reliability": {name: _plain(value) for name, value in curve._asdict().items()},
            }
        return summary

    def _keypoints(self, category: str, rows: dict[str, Tensor], presence: Tensor | None) -> dict[str, Any]:
        counts = rows["visible"].sum(dim=0).long().tolist()
        names = self.keypoint_names.get(category, [str(k) for k in range(len(counts))])
        if any(counts[len(names) :]):
            raise ValueError(f"`keypoint_names` gives {len(names)} names for {category!r}, too few for its keypoints")
        table: dict[str, Any] = {}
        for k, (name, count) in enumerate(zip(names, counts, strict=False)):
            if count:
                table[name] = {"num_shapes": count, **self._distances(rows, slice(k, k + 1))}
                if presence is not None:
                    table[name]["presence_average_precision"] = _plain(presence[k])
        return table


def _sum_over_shapes(value: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
    """Per-shape means of ``value`` (0 where not visible) summed over shapes, and the number of shapes."""
    weight = visible / visible.sum(dim=1, keepdim=True).clamp(min=1).double()
    return torch.einsum("bk,bk...->...", weight, value.double()), visible.any(dim=1).sum()


def _pck_sums(distance: Tensor, visible: Tensor, thresholds: Sequence[float]) -> tuple[Tensor, Tensor]:
    distance = distance.detach().to(torch.promote_types(distance.dtype, torch.float32))
    limit = torch.tensor(thresholds, dtype=distance.dtype, device=distance.device)
    return _sum_over_shapes((distance[..., None] < limit) & visible[..., None], visible)


def _error_sums(distance: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
    return _sum_over_shapes(distance.masked_fill(~visible, 0), visible)


def _append(state: list[Tensor], value: Tensor, dtype: torch.dtype) -> None:
    state.append(value.detach().reshape(-1).to(dtype))


def _cat(state: list[Tensor]) -> Tensor:
    if len(state) == 0:
        raise ValueError("no visible keypoint was seen: there is nothing to compute a score from")
    return dim_zero_cat(state)


def _plain(value: Tensor) -> Any:
    def number(x: float | int) -> float | int | None:
        return x if math.isfinite(x) else None

    listed = value.tolist()
    return [number(x) for x in listed] if isinstance(listed, list) else number(listed)


def _check_distance(distance: Tensor, visible: Tensor, validate: bool, name: str = "distance") -> None:
    if distance.ndim != 2:
        raise ValueError(f"`{name}` {list(distance.shape)} must be [B, K]")
    _check_floating(name, distance)
    if distance.shape != visible.shape:
        raise ValueError(f"`{name}` {list(distance.shape)} must have the shape of `visible` {list(visible.shape)}")
    _check_mask("visible", visible, distance.shape)
    if _checks(validate) and (visible & ~(distance >= 0)).any():
        raise ValueError(f"`{name}` must be at least 0 and not NaN where `visible`")


def _check_seen(num_shapes: Tensor) -> None:
    if num_shapes == 0:
        raise ValueError("no visible keypoint was seen: there is nothing to compute a score from")


def _check_correct_threshold(name: str, threshold: float) -> None:
    if not 0 < threshold < math.inf:
        raise ValueError(f"`{name}` (={threshold}) must be above 0 and finite")


def _check_binning(num_bins: int, binning: str) -> None:
    if num_bins < 1:
        raise ValueError(f"`num_bins` (={num_bins}) must be at least 1")
    if binning not in ("equal_count", "equal_width"):
        raise ValueError(f"`binning` (={binning!r}) must be 'equal_count' or 'equal_width'")


def _check_confidence(confidence: Tensor, correct: Tensor, validate: bool) -> None:
    if confidence.ndim != 1 or confidence.numel() == 0:
        raise ValueError(f"`confidence` {list(confidence.shape)} must be [M], M at least 1")
    _check_floating("confidence", confidence)
    _check_mask("correct", correct, confidence.shape)
    _check_unit(confidence, validate)


def _check_unit(confidence: Tensor, validate: bool) -> None:
    # A softmax may round a little above 1.
    if _checks(validate) and not ((confidence >= 0) & (confidence <= 1 + 1e-5)).all():
        raise ValueError("`confidence` must lie in 0 to 1 and not be NaN")
