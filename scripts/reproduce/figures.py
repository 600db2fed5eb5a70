"""The figures of a run, out of what ``pcsa evaluate`` wrote."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pcsa.tasks.common.task import Task

Distances = Sequence[float | None]


def run_figures(task: Task[Any, Any], metrics: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Figures of a whole run by read-out and name.

    Of every read-out that was scored they are the means of :func:`shape_figures` and what the metrics say of it under
    ``read_outs``; of the one that was asked for also the columns of the task and what the metrics say under
    ``confidence``. What is nested has a name with slashes, such as ``mass/pearson``.
    """
    asked = metrics["read_out"]
    found: dict[str, dict[str, Any]] = {asked: {}}
    for read_out, values in metrics.get("read_outs", {}).items():
        found.setdefault(read_out, {}).update(_numbers(values))
    found[asked] |= dict(_numbers(metrics.get("confidence", {}), "confidence/"))
    found[asked] |= {name: value for name, value in _numbers(metrics.get("confusion", {}), "confusion/")
                     if "per_keypoint" not in name}  # fmt: skip
    found[asked] |= {column.title: column.value(metrics) for column in task.columns}
    for read_out, figures in shape_figures(metrics).items():
        means = {name: math.fsum(values) / len(values) for name, values in figures.items()}
        found.setdefault(read_out, {}).update(means)
    return {
        read_out: {name: float(f"{value:.6g}") for name, value in figures.items() if value is not None}
        for read_out, figures in found.items()
    }


def _numbers(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{prefix}{name}", value


def scored_shapes(metrics: Mapping[str, Any]) -> dict[str, int]:
    """The shapes that were scored, each with the number of its keypoints; those without any are left out."""
    per_shape: Mapping[str, Mapping[str, Any]] = metrics.get("per_shape") or {}
    return {name: shape["num_keypoints"] for name, shape in per_shape.items() if shape["num_keypoints"]}


def shape_figures(metrics: Mapping[str, Any]) -> dict[str, dict[str, list[float]]]:
    """Figures of the shapes of :func:`scored_shapes` by read-out, so that runs can be compared shape by shape.

    None where a task has no such figures.
    """
    counts = scored_shapes(metrics)
    if not counts:
        return {}
    per_shape = metrics["per_shape"]
    read_outs = next(iter(per_shape.values()))["read_outs"]
    found = {
        read_out: _figures([(per_shape[n]["read_outs"][read_out], counts[n]) for n in counts]) for read_out in read_outs
    }
    if all("diagonal" in per_shape[n] for n in counts):
        for figures in found.values():
            for name in _LENGTHS:
                pairs = zip(figures.get(name, ()), counts, strict=name in figures)
                shares = [100 * error / per_shape[shape]["diagonal"] for error, shape in pairs]
                if shares:
                    figures[f"{name}, % of the diagonal"] = [float(f"{share:.5g}") for share in shares]
    return found


def _figures(shapes: Sequence[tuple[Mapping[str, Any], int]]) -> dict[str, list[float]]:
    return {
        name: [float(f"{figure(shape[kind], count):.5g}") for shape, count in shapes]
        for name, (kind, figure) in _FIGURES.items()
        if all(kind in shape for shape, _ in shapes)
    }


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
    "mean error on a point": ("surface", _mean),
    "DAS, all shapes": ("dual_alignment", lambda value, _: 100 * value),
}
_LENGTHS = ("mean error", "mean error on a point")
