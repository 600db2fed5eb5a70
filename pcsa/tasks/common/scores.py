"""Scores that tasks share, as JSON types; None where nothing counts."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from pcsa import metrics


def mean_or_none(distance: Tensor, counted: Tensor) -> float | None:
    """Mean over the keypoints of an item, then over items."""
    return float(metrics.mean_error(distance, counted)) if counted.any() else None


def per_keypoint(distance: Tensor, counted: Tensor) -> dict[str, Any]:
    """Mean error of every keypoint, in the unit of the errors."""
    count = counted.sum(0)
    mean = torch.where(counted, distance, 0.0).sum(0) / count.clamp(min=1)
    values = zip(mean.tolist(), count.tolist(), strict=True)
    return {"error_per_keypoint": [value if n else None for value, n in values]}


def calibration(threshold: float, unit: str, distance: Tensor, counted: Tensor, confidence: Tensor) -> dict[str, Any]:
    """Peak probability against an error below the threshold, as in the paper's Table 3."""
    right, sure = distance[counted] < threshold, confidence[counted]
    if not len(right):
        return {}
    pearson = float(metrics.confidence_correlation(sure, right))
    curve = metrics.reliability_curve(sure, right)
    return {
        "calibration": {
            "threshold": threshold,
            "unit": unit,
            "pearson": None if math.isnan(pearson) else pearson,
            **{
                name: [None if math.isnan(x) else x for x in getattr(curve, name).tolist()]
                for name in ("confidence", "accuracy", "counts")
            },
        }
    }
