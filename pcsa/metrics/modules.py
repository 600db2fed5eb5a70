"""Scores that accumulate over batches and sync over processes, by torchmetrics."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from pcsa._core.checks import (
    Numbers,
    check_finite,
    check_floating,
    check_index,
    check_positive,
    check_thresholds,
    reads_values,
    shown,
)
from pcsa.metrics.calibration import (
    Binning,
    check_binning,
    check_unit_interval,
    confidence_correlation,
    reliability_curve,
)
from pcsa.metrics.correct_keypoints import THRESHOLDS, pck, pck_sums
from pcsa.metrics.errors import check_distance, distances, error_sums, keypoint_error, mean_error, ratio
from pcsa.metrics.presence import presence_average_precision

_Sums = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class _MeanOverShapes(Metric):
    """Mean over the shapes of all updates of what ``sums`` sums over those of one, beside their number."""

    is_differentiable = False
    full_state_update = False
    total: Tensor
    num_shapes: Tensor

    def __init__(self, sums: _Sums, size: Sequence[int], validate: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.sums, self.validate = sums, validate
        self.add_state("total", torch.zeros(size, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("num_shapes", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, distance: Float[Tensor, "B K"], visible: Bool[Tensor, "B K"]) -> None:
        """Add shapes: Euclidean or geodesic distances, in the dataset's own units."""
        check_distance(distance, visible, self.validate)
        total, num_shapes = self.sums(distance.detach(), visible)
        self.total += total
        self.num_shapes += num_shapes

    def compute(self) -> Tensor:
        """Mean over shapes.

        Raises:
            ValueError: If no visible keypoint was seen.
        """
        return ratio(self.total, self.num_shapes)


class PCK(_MeanOverShapes):
    """Fraction of correct keypoints over all updates; ``compute()`` gives ``[T]``. See :func:`pcsa.metrics.pck`.

    Args:
        thresholds: Increasing, in the units of the distances.
        validate: Check values at every update.
        **kwargs: Passed on to :class:`torchmetrics.Metric`.
    """

    higher_is_better = True

    def __init__(self, thresholds: Numbers = THRESHOLDS, *, validate: bool = True, **kwargs: Any) -> None:
        self.thresholds = check_thresholds("thresholds", thresholds)
        super().__init__(partial(pck_sums, thresholds=self.thresholds), [len(self.thresholds)], validate, **kwargs)


class MeanKeypointError(_MeanOverShapes):
    """Mean distance over all updates; ``compute()`` gives a scalar. See :func:`pcsa.metrics.mean_error`.

    Args:
        validate: Check values at every update.
        **kwargs: Passed on to :class:`torchmetrics.Metric`.
    """

    higher_is_better = False

    def __init__(self, *, validate: bool = True, **kwargs: Any) -> None:
        super().__init__(error_sums, [], validate, **kwargs)


_DISTANCES = ("euclidean", "euclidean_symmetric", "geodesic", "geodesic_symmetric")


class KeypointMetrics(Metric):
    """Everything that ``pcsa evaluate`` reports on labeled clouds, as plain numbers ready for JSON.

    Positions and distances are in the dataset's own units: undo the normalization before ``update``. The name of a
    figure says which distance it uses and whether rotational symmetry was taken into account::

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

    Only what was passed to ``update`` appears. PCK and mean error average over the keypoints of a shape, then over
    shapes (:func:`pcsa.metrics.pck`); ``num_shapes`` counts shapes with a visible keypoint. Calibration judges the
    Euclidean distance without symmetry. Presence average precision is the mean over those (category, keypoint) pairs
    that some shapes have and some have not. Categories without a shape and keypoints that no shape has are left out.
    What is undefined (a correlation of constants, an empty bin) or infinite (the mean of geodesic distances, when one
    of them is infinite) is ``None``.

    Args:
        thresholds: PCK thresholds, increasing.
        categories: Names of the categories that ``update`` numbers.
        keypoint_names: Names of a category's columns; ``"0"``, ``"1"``, … for categories not in it.
        correct_threshold: Distance below which calibration counts a prediction as correct.
        num_bins: Bins of the reliability curve.
        binning: ``"equal_count"`` or ``"equal_width"``.
        validate: Check values at every update.
        **kwargs: Passed on to :class:`torchmetrics.Metric`.
    """

    is_differentiable = False
    higher_is_better = None
    full_state_update = False

    def __init__(
        self,
        thresholds: Numbers = THRESHOLDS,
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
        self.thresholds = check_thresholds("thresholds", thresholds)
        check_positive("correct_threshold", correct_threshold)
        check_binning(num_bins, binning)
        if isinstance(categories, str) or len(categories) == 0 or len(set(categories)) < len(categories):
            raise ValueError(f"`categories` (={categories!r}) must be a list of different names, at least one")
        self.categories = tuple(categories)
        self.keypoint_names = dict(keypoint_names or {})
        unknown = sorted(set(self.keypoint_names) - set(self.categories))
        if unknown:
            raise ValueError(f"`keypoint_names` names {unknown}, not in `categories` {list(categories)}")
        for category, names in self.keypoint_names.items():
            if len(set(names)) < len(names):
                raise ValueError(f"`keypoint_names` (={list(names)} for {category!r}) must be different names")
        self.correct_threshold = float(correct_threshold)
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
                :func:`pcsa.metrics.symmetric_error` (``target`` for shapes without symmetry).
            geodesic: Distances from :func:`pcsa.metrics.geodesic.geodesic_error`; may be infinite.
            geodesic_symmetric: The same against the labeling that counts.
            confidence: Peak probability, 0 to 1.
            presence_logits: Scores for having the keypoint; logits or probabilities.

        Raises:
            ValueError: If shapes, dtypes or values do not fit, or an optional argument comes and goes.
        """
        euclidean = keypoint_error(predicted, target, visible, validate=self.validate)
        B, K = visible.shape
        if category is None:
            category = torch.zeros(B, dtype=torch.long, device=visible.device)
        check_index("category", category, (B,))
        if reads_values(self.validate) and ((category < 0) | (category >= len(self.categories))).any():
            raise ValueError(
                f"`category` (={shown(category.tolist())}) must lie in 0 to {len(self.categories) - 1}, "
                f"as there are {len(self.categories)} `categories`"
            )
        symmetric = symmetric_target
        if symmetric is not None:
            symmetric = distances(predicted, symmetric, visible, self.validate, "symmetric_target")
        for name, distance in (("geodesic", geodesic), ("geodesic_symmetric", geodesic_symmetric)):
            if distance is not None:
                check_distance(distance, visible, self.validate, name=name)
        for name, value in (("confidence", confidence), ("presence_logits", presence_logits)):
            if value is not None:
                check_floating(name, value)
                if value.shape != visible.shape:
                    raise ValueError(f"`{name}` {list(value.shape)} must have the shape of `visible` [{B}, {K}]")
        if confidence is not None:
            check_unit_interval(confidence[visible], self.validate)
        if presence_logits is not None:
            check_finite("presence_logits", presence_logits, self.validate)

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
                # Flat and of the metric's own dtype, because that is what torchmetrics puts in for a process that saw
                # nothing: gathering [n, K] or bool beside it fails.
                seen[name].append(value.detach().reshape(-1).to(self.dtype))

    def compute(self) -> dict[str, Any]:
        """All figures, as floats, ints, lists and ``None``.

        Raises:
            ValueError: If no visible keypoint was seen.
        """
        seen = {name: dim_zero_cat(state) for name, state in self._states().items() if len(state)}
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
        return {
            "thresholds": list(self.thresholds),
            "overall": self._summary(seen, torch.cat(pairs) if pairs else None),
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


def _plain(value: Tensor) -> float | int | list[float | int | None] | None:
    """Numbers for JSON: ``None`` where a value is not finite."""
    numbers = [x if math.isfinite(x) else None for x in value.flatten().tolist()]
    return numbers if value.dim() else numbers[0]
