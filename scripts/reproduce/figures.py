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
        found[name] = float(f"{math.fsum(values) / len(values):.6g}")
    return found


def scored_shapes(metrics: Mapping[str, Any]) -> dict[str, int]:
    """The shapes that were scored, each with the number of its keypoints; those without any are left out."""
    per_shape: Mapping[str, Mapping[str, Any]] = metrics.get("per_shape") or {}
    return {name: shape["num_keypoints"] for name, shape in per_shape.items() if shape["num_keypoints"]}


def shape_figures(metrics: Mapping[str, Any]) -> dict[str, list[float]]:
    """Figures of the shapes of :func:`scored_shapes`, so that runs can be compared shape by shape.

    None where a task has no such figures.
    """
    counts = scored_shapes(metrics)
    shapes: list[Mapping[str, Any]] = [metrics["per_shape"][name] for name in counts]
    found = {}
    for name, (kind, figure) in _FIGURES.items():
        if shapes and all(kind in shape for shape in shapes):
            values = [figure(shape[kind], count) for shape, count in zip(shapes, counts.values(), strict=True)]
            found[name] = [float(f"{value:.5g}") for value in values]
    return found


def _pck(threshold: float) -> Callable[[Distances, int], float]:
    """Percent of a shape's keypoints that are nearer than the threshold."""
    return lambda distances, count: 100 * sum(d is not None and d < threshold for d in distances) / count


def _mean(distances: Distances, count: int) -> float:
    return math.fsum(d for d in distances if d is not None) / count


# Distances are in the dataset's own units. An infinite geodesic distance is None and counts as wrong.
_FIGURES: dict[str, tuple[str, Callable[[Any, int], float]]] = {
    "PCK@0.01": ("euclidean", _pck(0.01)),
    "PCK@0.02": ("euclidean", _pck(0.02)),
    "PCK@0.05": ("euclidean", _pck(0.05)),
    "geodesic PCK@0.01": ("geodesic", _pck(0.01)),
    "mean error": ("euclidean", _mean),
    "DAS, all shapes": ("dual_alignment", lambda value, count: 100 * value),
}
