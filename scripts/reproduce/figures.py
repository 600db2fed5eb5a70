"""The figures of a run, out of what ``pcsa evaluate`` wrote."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pcsa.tasks.common.task import Task

Distances = Sequence[float | None]


def run_figures(task: Task[Any, Any], metrics: Mapping[str, Any]) -> dict[str, float]:
    """Figures of a whole run by their names: the columns of its task, and the means of :func:`shape_figures`."""
    columns = {column.title: column.value(metrics) for column in task.columns}
    found = {name: float(f"{value:.6g}") for name, value in columns.items() if value is not None}
    for name, values in shape_figures(metrics).items():
        if name not in ("shapes", "keypoints"):
            found[name] = float(f"{sum(values) / len(values):.6g}")
    return found


def shape_figures(metrics: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Figures of each shape, so that runs can be compared shape by shape; none where a task has no such figures.

    ``shapes`` and ``keypoints`` are the shapes' names and the number of keypoints that each has; all other lists are
    figures. Shapes without a keypoint are left out, as in the figures of the whole run.
    """
    per_shape: Mapping[str, Mapping[str, Distances]] = metrics.get("per_shape") or {}
    counted = {name: shape for name, shape in per_shape.items() if _count(shape["euclidean"])}
    if not counted:
        return {}
    found: dict[str, list[Any]] = {
        "shapes": list(counted),
        "keypoints": [_count(shape["euclidean"]) for shape in counted.values()],
    }
    for name, (kind, figure) in _FIGURES.items():
        if all(kind in shape for shape in counted.values()):
            values = [figure(shape[kind], _count(shape["euclidean"])) for shape in counted.values()]
            found[name] = [float(f"{value:.5g}") for value in values]
    return found


def _count(distances: Distances) -> int:
    return sum(distance is not None for distance in distances)


def _pck(threshold: float) -> Callable[[Distances, int], float]:
    """Percent of a shape's keypoints that are nearer than the threshold."""
    return lambda distances, count: 100 * sum(d is not None and d < threshold for d in distances) / count


def _mean(distances: Distances, count: int) -> float:
    return math.fsum(d for d in distances if d is not None) / count


# In the dataset's own units. An infinite geodesic distance is None and counts as wrong.
_FIGURES: dict[str, tuple[str, Callable[[Distances, int], float]]] = {
    "PCK@0.01": ("euclidean", _pck(0.01)),
    "PCK@0.02": ("euclidean", _pck(0.02)),
    "PCK@0.05": ("euclidean", _pck(0.05)),
    "geodesic PCK@0.01": ("geodesic", _pck(0.01)),
    "mean error": ("euclidean", _mean),
}
