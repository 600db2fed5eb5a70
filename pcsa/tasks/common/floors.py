"""Scores of keypoints found without labels, the floors that they must beat, and a check for collapse."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pcsa._core.checks import check_thresholds
from pcsa.datasets.keypointnet import KeypointNet
from pcsa.metrics import (
    THRESHOLDS,
    alignment_per_shape,
    collapsed_keypoints,
    coverage,
    dual_alignment,
    from_box,
    geodesic_keypoint_distances,
    inclusivity,
    keypoint_distances,
    keypoint_miou,
    random_keypoints,
    separation,
    template_keypoints,
    to_box,
)
from pcsa.tasks.common.tables import markdown_table, number, shown_thresholds
from pcsa.tasks.common.task import Details

COLLAPSED = 0.01
"""Keypoints are called collapsed if the two nearest of a shape are on average less apart than this share of its
diagonal."""

_NAMES = {
    "detector": "detector",
    "template": "template (k-means)",
    "template_in_box": "template in each cloud's box",
    "random": "random fixed set",
    "collapsed_centroid": "collapsed (cloud's centroid)",
    "collapsed_corner": "collapsed (corner of the box)",
}
_SCORES = {
    "dual_alignment": "dual alignment",
    "miou_euclidean": "mIoU (Euclidean)",
    "miou_geodesic": "mIoU (geodesic)",
}


class _Shapes(NamedTuple):
    places: list[int]
    """Items of the dataset that have annotations."""
    clouds: list[Tensor]
    annotated: list[Tensor]
    semantic_ids: list[list[int]]
    annotated_index: list[Tensor]


def evaluate_category(
    predicted: Sequence[Tensor],
    category: KeypointNet,
    train: KeypointNet,
    held_out: KeypointNet,
    *,
    geodesic: bool = True,
    thresholds: Sequence[float] = THRESHOLDS,
    num_random: int = 20,
    seed: int = 0,
    read_out: str = "expectation",
) -> dict[str, Any]:
    """Score a detector twice: over the whole category, as the literature does, and on held-out shapes alone.

    Over the whole category the template is made of the annotations that the score is of. On the held-out shapes it is
    made of those of the training shapes, so neither detector nor template has seen what they are scored on.

    Args:
        predicted: Keypoints ``[K, 3]`` of every item of ``category``, in the dataset's own units and frame.
        category: All clouds, ``KeypointNet(…, split="all")``.
        train: The training clouds.
        held_out: The clouds to score alone, usually ``"val"``; all of them in ``category``.
        geodesic: Also measure distances along the surface.
        thresholds: Thresholds of the mIoU, in the dataset's own units.
        num_random: Random sets to average over.
        seed: Seed of template and random sets.
        read_out: How the keypoints were read, for ``per_shape``.

    Returns:
        JSON types: under ``category`` and ``held_out`` what :func:`evaluate_keypoints` returns; under ``per_shape``
        what each shape of the category adds to the dual alignment score (:func:`pcsa.metrics.alignment_per_shape`).

    Raises:
        ValueError: As :func:`evaluate_keypoints`, or if a held-out cloud is not in ``category``.
    """
    _check_annotated("category", category)
    _check_annotated("held_out", held_out)
    _check_count(predicted, category)
    place = {model_id: i for i, model_id in enumerate(category.model_ids)}
    absent = [model_id for model_id in held_out.model_ids if model_id not in place]
    if absent:
        raise ValueError(f"`held_out` has {len(absent)} clouds that `category` has not: {', '.join(absent[:3])}")
    of_held_out = [predicted[place[model_id]] for model_id in held_out.model_ids]
    options: dict[str, Any] = {
        "geodesic": geodesic,
        "thresholds": thresholds,
        "num_random": num_random,
        "seed": seed,
    }
    return {
        "category": evaluate_keypoints(predicted, category, category, **options),
        "held_out": evaluate_keypoints(of_held_out, held_out, train, **options),
        "per_shape": _per_shape(predicted, category, read_out),
    }


def evaluate_keypoints(
    predicted: Sequence[Tensor],
    dataset: KeypointNet,
    template_source: KeypointNet,
    *,
    geodesic: bool = True,
    thresholds: Sequence[float] = THRESHOLDS,
    num_random: int = 20,
    seed: int = 0,
) -> dict[str, Any]:
    """Scores of predicted keypoints, the same scores of their floors, and which floors they do not beat.

    The floors: a template (k-means of annotations), the same in each cloud's own bounding box, random sets (uniform in
    the box of the annotations; mean over the sets), and all keypoints collapsed into the centroid of each cloud or into
    one corner of the box around all clouds.
    See :mod:`pcsa.metrics` for the protocols. Distances and thresholds are in the dataset's own units.

    Args:
        predicted: Keypoints ``[K, 3]`` of every item of ``dataset``, in its units and frame, in the same order.
        dataset: Clouds with annotations, without a transform. Shapes that have none are left out and counted.
        template_source: Clouds whose annotations make the template and the box of the random sets.
        geodesic: Also measure distances along the surface: some milliseconds per cloud.
        thresholds: Thresholds of the mIoU, in the dataset's own units.
        num_random: Random sets to average over.
        seed: Seed of template and random sets.

    Returns:
        JSON types. ``rows`` has one entry per detector and floor: ``dual_alignment`` (forward, backward, mean),
        ``miou_euclidean`` (predictions moved to the cloud), ``miou_euclidean_as_predicted``, ``miou_geodesic`` (lists
        over ``thresholds``), ``coverage``, ``inclusivity`` and ``separation`` (least, mean, worst), as fractions.
        ``not_above_template`` lists scores in which the detector is not above the template,
        ``not_above_template_in_box`` those in which it is not above the one in each cloud's box, ``collapsed`` says
        whether at least two of its keypoints lie together.

    Raises:
        ValueError: If nothing is annotated, the dataset has a transform, predictions do not fit, or ``num_random`` is
            below 1.
    """
    _check_annotated("dataset", dataset)
    _check_annotated("template_source", template_source)
    _check_count(predicted, dataset)
    if num_random < 1:
        raise ValueError(f"`num_random` (={num_random}) must be at least 1")
    shapes, source = _read(dataset), _read(template_source)
    detector = [predicted[i].detach().cpu().double() for i in shapes.places]
    n, K = len(detector), len(detector[0])
    boxed = _template([to_box(a, c) for a, c in zip(source.annotated, source.clouds, strict=True)], K, seed)
    sets = {
        "detector": [detector],
        "template": [[_template(source.annotated, K, seed)] * n],
        "template_in_box": [[from_box(boxed, cloud) for cloud in shapes.clouds]],
        "random": [[random_keypoints(source.annotated, K, seed=seed + i)] * n for i in range(num_random)],
        "collapsed_centroid": [collapsed_keypoints(shapes.clouds, K)],
        "collapsed_corner": [collapsed_keypoints(shapes.clouds, K, place="corner")],
    }
    thresholds = check_thresholds("thresholds", thresholds)
    rows = _score(sets, shapes, geodesic, thresholds)

    def not_above(floor: str) -> list[str]:
        scores = [key for key in _SCORES if key in rows["detector"]]
        return [key for key in scores if not _at(rows["detector"], key) > _at(rows[floor], key)]

    return {
        "name": dataset.category,
        "split": dataset.split,
        "template_split": template_source.split,
        "num_clouds": n,
        "num_clouds_without_annotation": len(dataset) - n,
        "num_clouds_missing": len(dataset.missing),
        "num_keypoints": K,
        "num_random": num_random,
        "units": "the dataset's own",
        "thresholds": list(thresholds),
        "rows": rows,
        "not_above_template": not_above("template"),
        "not_above_template_in_box": not_above("template_in_box"),
        "collapsed": rows["detector"]["separation"]["least"] < COLLAPSED,
    }


def _template(annotated: Sequence[Tensor], K: int, seed: int) -> Tensor:
    """K places of annotations, float64."""
    # Fewer places than keypoints, as two shapes may have: all of them, some more than once.
    places = len(torch.cat(list(annotated)).unique(dim=0))
    return template_keypoints(annotated, min(K, places), seed=seed)[torch.arange(K) % places]


def _per_shape(predicted: Sequence[Tensor], category: KeypointNet, read_out: str) -> dict[str, dict[str, Any]]:
    shapes = _read(category)
    found = [predicted[i].detach().cpu().double() for i in shapes.places]
    values = alignment_per_shape(found, shapes.annotated, shapes.semantic_ids).tolist()
    return {
        category.model_ids[place]: {
            "num_keypoints": len(ids),
            "read_outs": {read_out: {"dual_alignment": float(f"{value:.6g}")}},
        }
        for place, ids, value in zip(shapes.places, shapes.semantic_ids, values, strict=True)
    }


def format_category(result: Mapping[str, Any]) -> str:
    """The tables of what :func:`evaluate_category` returned."""
    return f"{format_keypoints(result['category'])}\n\n{format_keypoints(result['held_out'])}"


def format_keypoints(result: Mapping[str, Any]) -> str:
    """The table of what :func:`evaluate_keypoints` returned."""
    whole = result["split"] == "all"
    title = f"{result['name']}, " + (
        "whole category (the protocol of the literature: training shapes included)"
        if whole
        else f"{result['split']} alone"
    )
    counts = f"{result['num_clouds']} clouds, {result['num_keypoints']} keypoints"
    for key, what in (("missing", "missing"), ("without_annotation", "without annotation left out")):
        if result[f"num_clouds_{key}"]:
            counts += f", {result[f'num_clouds_{key}']} {what}"
    of = "these shapes" if result["template_split"] == result["split"] else f"the {result['template_split']} shapes"
    geodesic = "miou_geodesic" in result["rows"]["detector"]
    thresholds = result["thresholds"]
    # Of the usual ones the last says most, and what was asked for is shown.
    shown = [len(thresholds) - 1] if tuple(thresholds) == THRESHOLDS else shown_thresholds(thresholds)
    heads = ["", "DAS fwd", "DAS bwd", "DAS mean", *(f"mIoU@{thresholds[i]:g}" for i in shown)]
    heads += ["geodesic"] * geodesic
    heads += ["coverage", "inclusive", "sep. least", "sep. mean"]
    rows = []
    for key, row in result["rows"].items():
        values = [*row["dual_alignment"].values(), *(row["miou_euclidean"][i] for i in shown)]
        values += [row["miou_geodesic"][-1]] if geodesic else []
        values += [row["coverage"], row["inclusivity"], row["separation"]["least"], row["separation"]["mean"]]
        rows.append([_NAMES[key], *(number(100 * value, 1) for value in values)])
    lines = [
        f"{title}: {counts}",
        f"In percent. Templates and {result['num_random']} random sets (mean) are from the annotations of {of}.",
        "mIoU: Euclidean, geodesic; predictions moved to the cloud; sep.: between a shape's keypoints, in diagonals.",
        "",
        markdown_table(heads, rows),
        "",
    ]
    alignment = {key: row["dual_alignment"]["mean"] for key, row in result["rows"].items()}
    if alignment["detector"] <= max(alignment["collapsed_centroid"], alignment["collapsed_corner"]):
        lines.append("Keypoints all in one place have no lower DAS: read it only beside mIoU and separation.")
    for floor, which in (
        ("template", "the template, which never looks at a cloud"),
        ("template_in_box", "the template in each cloud's box, which sees that box alone"),
    ):
        not_above = result[f"not_above_{floor}"]
        if not_above:
            named = ", ".join(_SCORES[key] for key in not_above)
            lines.append(f"The detector does NOT beat {which}, in: {named}.")
        else:
            lines.append(f"The detector beats {which.split(',')[0]} in every score.")
    if result["collapsed"]:
        least = 100 * result["rows"]["detector"]["separation"]["least"]
        lines.append(
            f"Keypoints have COLLAPSED: the two nearest of a shape are {least:.2g}% of its diagonal apart on average. "
            "Keypoints in one place agree whatever they mean, which raises the dual alignment score."
        )
    return "\n".join(lines)


def category_details(metrics: Mapping[str, Any]) -> Details:
    """The detector and its floors in what :func:`evaluate_category` returned."""
    found: dict[str, dict[str, float | None]] = {}
    for part, of in (("category", ", all shapes"), ("held_out", "")):
        result = metrics.get(part, {})
        for key, row in result.get("rows", {}).items():
            miou = {f"mIoU@{result['thresholds'][-1]:g}{of}": 100 * row["miou_euclidean"][-1]}
            least = {f"least separation{of}": 100 * row["separation"]["least"]}
            scores = {f"DAS{of}": 100 * row["dual_alignment"]["mean"], **miou, **least}
            found.setdefault(_NAMES.get(key, key), {}).update(scores)
    own = _NAMES["detector"]
    return Details({k: row for k, row in found.items() if k == own}, {k: row for k, row in found.items() if k != own})


def _score(
    sets: dict[str, list[list[Tensor]]], shapes: _Shapes, geodesic: bool, thresholds: Sequence[float]
) -> dict[str, dict[str, Any]]:
    """One row per entry: the mean over its sets of keypoints."""
    # All sets of a shape at once: the paths on its graph and the search in its cloud are the same for all.
    flat = [keypoints for group in sets.values() for keypoints in group]
    together = [torch.cat(of_shape) for of_shape in zip(*flat, strict=True)]
    distances = {
        "miou_euclidean": keypoint_distances(together, shapes.annotated, shapes.clouds),
        "miou_euclidean_as_predicted": keypoint_distances(together, shapes.annotated),
    }
    if geodesic:
        distances["miou_geodesic"] = geodesic_keypoint_distances(
            together, shapes.clouds, shapes.annotated_index, limit=max(thresholds)
        )
    K = len(flat[0][0])
    rows: dict[str, dict[str, Any]] = {}
    start = 0
    for name, group in sets.items():
        alignment = np.mean([dual_alignment(k, shapes.annotated, shapes.semantic_ids) for k in group], axis=0)
        apart = np.mean([separation(k, shapes.clouds) for k in group], axis=0)
        row: dict[str, Any] = {
            "dual_alignment": dict(zip(("forward", "backward", "mean"), alignment.tolist(), strict=True))
        }
        for key, matrices in distances.items():
            curves = []
            for i in range(start, start + len(group)):
                curves.append(keypoint_miou([d[i * K : (i + 1) * K] for d in matrices], thresholds))
            row[key] = torch.stack(curves).mean(dim=0).tolist()
        row["coverage"] = float(np.mean([coverage(k, shapes.clouds) for k in group]))
        row["inclusivity"] = inclusivity([torch.cat(k) for k in zip(*group, strict=True)], shapes.clouds)
        row["separation"] = dict(zip(("least", "mean", "worst"), apart.tolist(), strict=True))
        rows[name] = row
        start += len(group)
    return rows


def _at(row: dict[str, Any], key: str) -> float:
    """The figure of a score that counts: mIoU at the last threshold."""
    value = row[key]["mean"] if key == "dual_alignment" else row[key][-1]
    return float(value) if math.isfinite(value) else -math.inf


def _read(dataset: KeypointNet) -> _Shapes:
    shapes = _Shapes([], [], [], [], [])
    for i in range(len(dataset)):
        data = dataset[i]
        visible = data.visible[0]
        if visible.any():
            shapes.places.append(i)
            shapes.clouds.append(data.pos)
            shapes.annotated.append(data.keypoints[0][visible])
            shapes.semantic_ids.append([dataset.semantic_ids[k] for k in visible.nonzero()[:, 0].tolist()])
            shapes.annotated_index.append(data.keypoint_index[0][visible])
    if not shapes.places:
        raise ValueError(f"{dataset!r} has no annotated keypoint: there is nothing to score against")
    return shapes


def _check_annotated(name: str, dataset: object) -> None:
    if not isinstance(dataset, KeypointNet):
        raise ValueError(
            f"`{name}` (={type(dataset).__name__}) must be a KeypointNet: other clouds have no annotations to score "
            "against"
        )
    if dataset.transform is not None:
        raise ValueError(f"`{name}` must have no transform: scores are in the dataset's own units")


def _check_count(predicted: Sequence[Tensor], dataset: KeypointNet) -> None:
    if len(predicted) != len(dataset):
        raise ValueError(f"`predicted` (for {len(predicted)} clouds) must be for the {len(dataset)} of {dataset!r}")
    for i, keypoints in enumerate(predicted):
        if keypoints.ndim != 2 or keypoints.shape != (len(predicted[0]), 3) or len(keypoints) < 2:
            raise ValueError(
                f"`predicted` of cloud {i} {list(keypoints.shape)} must be [K, 3], K at least 2 and the same for all"
            )
