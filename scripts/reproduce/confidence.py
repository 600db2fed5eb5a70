"""What the confidences of a study's runs are worth, over the keypoints of all folds together.

The calibration error of a few keypoints is too large by chance, so the mean over folds would say little.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

# The read-out whose probability within the radius is the confidence; rows have no room for all.
_READ_OUTS = ("ball",)


def keypoint_confidence(metrics: Mapping[str, Any]) -> dict[str, dict[str, list[float]]]:
    """Confidence and correctness (0 or 1) of all annotated keypoints by read-out, as a row has them.

    ``mass`` is the confidence as trained, ``fitted``, if the metrics have it, that under a temperature which was fitted
    on other clouds, neither of which the network was trained on.
    """
    per_shape: Mapping[str, Mapping[str, Any]] = metrics.get("per_shape") or {}
    found: dict[str, dict[str, list[float]]] = {}
    for shape in per_shape.values():
        for read_out in _READ_OUTS:
            values = shape["read_outs"].get(read_out, {})
            if "mass" in values:
                own = found.setdefault(read_out, {"mass": [], "right": []})
                sure = [mass for mass in values["mass"] if mass is not None]
                # In the order of the keypoints; what is not annotated has no mass.
                pairs = zip(values["mass"], values["euclidean"], strict=True)
                away = [math.inf if d is None else d for mass, d in pairs if mass is not None]
                own["mass"] += map(_short, sure)
                if "cross_fitted" in values:
                    fitted = [mass for mass in values["cross_fitted"] if mass is not None]
                    own.setdefault("fitted", []).extend(map(_short, fitted))
                own["right"] += [int(d < metrics["confidence"]["threshold"]) for d in away]
    return found


def _short(mass: float) -> float:
    return float(f"{min(mass, 1):.4g}")


def _correlation(mass: Sequence[float], right: Sequence[float]) -> float:
    import torch

    from pcsa.metrics import confidence_correlation

    return float(confidence_correlation(torch.tensor(mass).double(), torch.tensor(right) > 0))


def _calibration_error(mass: Sequence[float], right: Sequence[float]) -> float:
    import torch

    from pcsa.metrics import expected_calibration_error

    return float(expected_calibration_error(torch.tensor(mass).double(), torch.tensor(right) > 0))


_FIGURES: dict[str, tuple[str, Callable[[Sequence[float], Sequence[float]], float]]] = {
    "r of the confidence": ("mass", _correlation),
    "calibration error of the confidence": ("mass", _calibration_error),
    # Pooled over the folds: each has temperatures of its own, none of which knows the clouds that it is judged on.
    "r of the confidence, fitted": ("fitted", _correlation),
    "calibration error, fitted": ("fitted", _calibration_error),
}


def pooled(column: str, rows: Sequence[Mapping[str, Any]], read_out: str) -> float | None:
    """A figure of the keypoints of several rows together; None if the column is none of these, or rows lack them."""
    parts = [row.get("confidence", {}).get(read_out) for row in rows]
    if column not in _FIGURES or not parts:
        return None
    kind, figure = _FIGURES[column]
    if any(part is None or kind not in part for part in parts):
        return None
    mass, right = ([value for part in parts for value in part[name]] for name in (kind, "right"))
    value = figure(mass, right)
    return value if math.isfinite(value) else None
