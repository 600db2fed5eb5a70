"""How far a network on clouds holds where clouds are turned, noisy, sparse, uneven, hidden in part or broken."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

import pcsa
from pcsa.datasets.corruptions import CORRUPTIONS, Corrupted, Sampling, diagonal_of, resampled, rotated
from pcsa.datasets.keypointnet import KeypointNet
from pcsa.datasets.meshes import load_mesh
from pcsa.datasets.up import up_axis
from pcsa.losses import mixture_nll
from pcsa.metrics import dual_alignment, paired_bootstrap
from pcsa.tasks.common.located_clouds import LocatedClouds
from pcsa.tasks.common.tables import markdown_table, number
from pcsa.tasks.common.turned_clouds import locate_turned

LEVELS: dict[str, tuple[float | str, ...]] = {
    "heading": (15, 30, 60, 90, 180),
    "rotation": (15, 30, 60, 90, 180),
    "noise": (0.005, 0.01, 0.02, 0.03, 0.05),
    "thinning": (1024, 512, 256, 128),
    "density": (1, 4, 16, 64),
    "occlusion": (4, 2, 1),
    "outliers": (0.01, 0.05, 0.1, 0.2),
    "missing": (0.1, 0.2, 0.3, 0.5),
    "sampling": get_args(Sampling),
}
"""Kinds of corruptions, and the levels at which clouds are scored."""
TITLES = {
    "heading": "turned about the axis that points up (degrees)",
    "rotation": "turned about any axis (degrees)",
    "noise": "noise (share of the diagonal)",
    "thinning": "points kept",
    "density": "density gradient, a quarter of the points (factor)",
    "occlusion": "seen from so many view points",
    "outliers": "outliers added (share of the points)",
    "missing": "part cut off (share of the points)",
    "sampling": "sampled anew on the mesh",
}
CLEAN = "whole"
"""The kind of the clouds as they are."""
SHARE = 0.05
"""A keypoint is right within this share of the diagonal of the clouds' bounding boxes, a median."""

# Kinds under which the spacing of the points is another than the network has seen, or uneven.
_SPACED = (CLEAN, "thinning", "density", "occlusion")
# Factors on a bandwidth among which the best is chosen, on other clouds than those that it is judged on.
_FACTORS = tuple(2.0**i for i in range(-2, 5))
# Probability that a keypoint lies anywhere, in a cube as wide as the diagonal.
_STRAY = 0.05
# Folders of a root that hold its meshes, and endings of these.
_MESHES = ("meshes", "ShapeNetCore.v2.ply")
_ENDINGS = (".ply", ".obj", ".off", ".stl")
# A mesh whose box is off that of its cloud by more of its diagonal stands in another frame.
_SAME_FRAME = 0.1

log = logging.getLogger(__name__)

Locate = Callable[[Sequence[Tensor]], LocatedClouds]


class Setting(NamedTuple):
    """A kind of corruption at a level."""

    kind: str
    level: float | str
    corrupt: Callable[[Data], Corrupted]


def settings_of(kinds: Sequence[str], dataset: Any, seed: int = 0) -> list[Setting]:
    """The corruptions that clouds of a dataset can be given, the clouds as they are first.

    Args:
        kinds: Kinds out of :data:`LEVELS`; none for all.
        dataset: Its ``up`` and, for another sampling, its meshes, if it has any.
        seed: Seed of all that is drawn.

    Raises:
        ValueError: If there is no such kind.
    """
    unknown = [kind for kind in kinds if kind not in LEVELS]
    if unknown:
        raise ValueError(f"`robustness_kinds` (={unknown[0]!r}) must be out of {', '.join(LEVELS)}")
    found = [Setting(CLEAN, 0, whole)]
    up = up_axis(getattr(dataset, "up", "y"))
    most = max(len(dataset[i].pos) for i in range(len(dataset)))
    for kind in kinds or LEVELS:
        if kind == "heading" and up < 0:
            log.info("heading: left out, for no axis points up")
            continue
        if kind == "sampling":
            meshes = meshes_of(dataset)
            if not meshes:
                log.info("sampling: left out, for there are no meshes beside the clouds")
                continue
            found += [Setting(kind, level, partial(_anew, meshes, str(level), seed)) for level in LEVELS[kind]]
            continue
        for level in LEVELS[kind]:
            if kind == "thinning" and float(level) >= most:
                continue
            if kind == "heading":
                corrupt: Any = partial(_with_level, partial(rotated, up=up), level, seed)
            else:
                corrupt = partial(_with_level, CORRUPTIONS[kind], level, seed)
            found.append(Setting(kind, level, corrupt))
    return found


def whole(cloud: Data) -> Corrupted:
    """A cloud as it is."""
    return Corrupted(cloud, torch.arange(len(cloud.pos)))


def _with_level(corruption: Any, level: Any, seed: int, cloud: Data) -> Corrupted:
    found: Corrupted = corruption(cloud, level, seed)
    return found


def _anew(meshes: Mapping[str, Path], kind: Any, seed: int, cloud: Data) -> Corrupted:
    path = meshes.get(cloud.model_id)
    return whole(cloud) if path is None else resampled(cloud, load_mesh(path), kind, seed)


def meshes_of(dataset: Any) -> dict[str, Path]:
    """Meshes of clouds of a dataset that stand in their frame, by model id."""
    if not isinstance(dataset, KeypointNet):
        return {}
    found = {}
    for i, model_id in enumerate(dataset.model_ids):
        for folder in _MESHES:
            places = [dataset.root / folder / dataset.class_id / f"{model_id}{ending}" for ending in _ENDINGS]
            path = next((place for place in places if place.is_file()), None)
            if path is not None and _stands_there(path, dataset[i].pos):
                found[model_id] = path
                break
    return found


def _stands_there(path: Path, pos: Tensor) -> bool:
    mesh = load_mesh(path)
    corners = torch.from_numpy(mesh.vertices[np.unique(mesh.faces)])
    if not len(corners) or not bool(corners.isfinite().all()):
        return False
    pos = pos.double()
    ends = [(f(corners) - f(pos)).abs().max() for f in (lambda x: x.amin(0), lambda x: x.amax(0))]
    same = float(torch.stack(ends).max()) <= _SAME_FRAME * diagonal_of(pos)
    if not same:
        log.info("`%s` stands in another frame than its cloud, and is not sampled", path)
    return same


class Bench(NamedTuple):
    """What a network is scored on."""

    locate: Locate
    clouds: Sequence[Data]
    """Whole clouds with the keypoints that should be found, in their own units."""
    threshold: float
    """A keypoint is right within it, in the same units."""
    annotated: KeypointNet | None
    """The same clouds with annotations, for the alignment of keypoints that are found without any; else None."""
    batch_size: int


def own_keypoints(locate: Locate, clouds: Sequence[Data], batch_size: int) -> list[Data]:
    """Clouds with the keypoints that a network finds in them while they are whole, in place of annotations."""
    found = []
    for part in _batches(clouds, batch_size):
        located = locate([cloud.pos for cloud in part])
        for cloud, position in zip(part, located.position, strict=True):
            distance = torch.cdist(position, cloud.pos, compute_mode="donot_use_mm_for_euclid_dist")
            found.append(
                Data(
                    pos=cloud.pos,
                    keypoints=position[None],
                    visible=torch.ones(1, len(position), dtype=torch.bool),
                    keypoint_index=distance.argmin(1)[None],
                    model_id=cloud.model_id,
                )
            )
    return found


def _batches(clouds: Sequence[Data], size: int) -> Iterator[list[Data]]:
    for start in range(0, len(clouds), size):
        yield [clouds[i] for i in range(start, min(start + size, len(clouds)))]


def measure(bench: Bench, setting: Setting) -> dict[str, list[Any]]:
    """What is found in every cloud under a corruption: lists with an entry per cloud, None where there is none.

    Returns:
        ``points``; ``right``, the share of keypoints within the threshold, and ``error``, their mean distance, of
        those that are left; ``right_unseen`` of those whose own points are gone; ``present_left`` and
        ``present_gone``, the shares of keypoints that are left and gone of which the network says that they are there;
        ``neighbors`` and ``constant``, the likelihoods of :func:`likelihoods`; ``position``, of keypoints without
        annotations.
    """
    found: dict[str, list[Any]] = {}
    for part in _batches(bench.clouds, bench.batch_size):
        corrupted = [setting.corrupt(cloud) for cloud in part]
        turns = None if corrupted[0].turn is None else [c.turn for c in corrupted if c.turn is not None]
        located = locate_turned(bench.locate, [c.cloud.pos for c in corrupted], turns)
        for i, (cloud, broken) in enumerate(zip(part, corrupted, strict=True)):
            row = _score(bench, cloud, broken, located, i, spaced=setting.kind in _SPACED)
            for name, value in row.items():
                found.setdefault(name, []).append(value)
    return found


def _score(
    bench: Bench, cloud: Data, broken: Corrupted, located: LocatedClouds, place: int, *, spaced: bool
) -> dict[str, Any]:
    visible, target = broken.cloud.visible[0], broken.cloud.keypoints[0]
    distance = (located.position[place] - target).double().norm(dim=1)
    right = distance < bench.threshold
    unseen = visible & ~broken.seen[0] & (broken.row >= 0).any()
    row: dict[str, Any] = {
        "points": len(broken.cloud.pos),
        "right": _mean(right[visible].double()),
        "error": _mean(distance[visible]),
        "right_unseen": _mean(right[unseen].double()),
    }
    if "presence" in located.outputs:
        present = located.outputs["presence"][place] > 0
        gone = cloud.visible[0] & ~visible
        row |= {"present_left": _mean(present[visible].double()), "present_gone": _mean(present[gone].double())}
    if bench.annotated is not None:
        row["position"] = located.position[place].tolist()
    elif spaced:
        row |= likelihoods(located.logits[place], broken.cloud.pos, target, visible, diagonal_of(cloud.pos))
    return row


def _mean(values: Tensor) -> float | None:
    return float(values.mean()) if values.numel() else None


def likelihoods(
    logits: Tensor, pos: Tensor, target: Tensor, visible: Tensor, diagonal: float
) -> dict[str, list[float] | None]:
    """Mean log-likelihood of keypoints under the mixture, in nats, for each of some factors on the bandwidth.

    One keypoint in 20 is taken to lie anywhere, so that a few that are far off do not outweigh all others.
    ``neighbors``: that of each point from its neighbors; ``constant``: one for all, a hundredth of the diagonal, as in
    the paper.

    Args:
        logits: ``[N, K]``.
        pos: ``[N, 3]``.
        target: ``[K, 3]``, in the same frame.
        visible: ``[K]``.
        diagonal: The unit of length, so that clouds of other sizes have the same likelihoods.
    """
    if not visible.any() or diagonal == 0:
        return {"neighbors": None, "constant": None}
    pos, target = (pos / diagonal).float(), (target / diagonal).float()
    own, log_stray = pcsa.knn_bandwidth(pos), math.log(_STRAY)
    ptr = torch.tensor([0, len(pos)])
    found: dict[str, list[float] | None] = {}
    for name, bandwidth in (("neighbors", own), ("constant", torch.full_like(own, 0.01))):
        values = []
        for factor in _FACTORS:
            loss = mixture_nll(
                logits, pos, factor * bandwidth, target[None], ptr=ptr, visible=visible[None], reduction="none"
            )
            each = -loss[0][visible].double()
            values.append(float(torch.logaddexp(each + math.log(1 - _STRAY), torch.full_like(each, log_stray)).mean()))
        found[name] = values
    return found


def summary(bench: Bench, settings: Sequence[Setting], found: Sequence[Mapping[str, list[Any]]]) -> dict[str, Any]:
    """The table of all settings, as JSON types: a row for each, with what it loses against the whole clouds."""
    clean = found[0]
    rows = []
    for setting, measured in zip(settings, found, strict=True):
        both = [
            (a, b) for a, b in zip(measured["right"], clean["right"], strict=True) if a is not None and b is not None
        ]
        row: dict[str, Any] = {
            "kind": setting.kind,
            "level": setting.level,
            "num_shapes": len(both),
            "points": _known_mean(measured["points"]),
            "right": _known_mean(measured["right"]),
            "error": _known_mean(measured["error"]),
            "right_unseen": _known_mean(measured["right_unseen"]),
        }
        if both and setting.kind != CLEAN:
            lost = paired_bootstrap(*map(list, zip(*both, strict=True)))
            row["difference"] = {"mean": lost.mean, "low": lost.low, "high": lost.high}
        for name in ("present_left", "present_gone"):
            if name in measured:
                row[name] = _known_mean(measured[name])
        if "position" in measured and bench.annotated is not None:
            row["dual_alignment"] = _alignment(measured["position"], bench.annotated)
        if "neighbors" in measured:
            judged = {name: _cross_fitted(measured[name], clean[name]) for name in ("neighbors", "constant")}
            row["likelihood"] = {name: _known_mean(values) for name, values in judged.items()}
            pairs = [(a, b) for a, b in zip(*judged.values(), strict=True) if a is not None and b is not None]
            if pairs:
                gain = paired_bootstrap(*map(list, zip(*pairs, strict=True)))
                row["likelihood"]["gain"] = {"mean": gain.mean, "low": gain.low, "high": gain.high}
        rows.append(row)
    return {"threshold": bench.threshold, "num_items": len(bench.clouds), "rows": rows}


def _known_mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _cross_fitted(
    values: Sequence[Sequence[float] | None], clean: Sequence[Sequence[float] | None]
) -> list[float | None]:
    """Likelihoods by the factor that is best on the whole clouds of the other half."""
    out: list[float | None] = [None] * len(values)
    for half in (0, 1):
        others = [value for i, value in enumerate(clean) if value is not None and (i % 2 != half or len(clean) == 1)]
        if not others:
            continue
        best = int(np.mean(others, axis=0).argmax())
        for i, value in enumerate(values):
            if i % 2 == half and value is not None:
                out[i] = value[best]
    return out


def _alignment(positions: Sequence[Sequence[Sequence[float]]], annotated: KeypointNet) -> float:
    shapes = [annotated[i] for i in range(len(annotated))]
    kept = [i for i, shape in enumerate(shapes) if shape.visible.any()]
    ids = [[annotated.semantic_ids[k] for k in shapes[i].visible[0].nonzero()[:, 0].tolist()] for i in kept]
    places = [shapes[i].keypoints[0][shapes[i].visible[0]].double() for i in kept]
    predicted = [torch.tensor(positions[i], dtype=torch.double) for i in kept]
    return float(dual_alignment(predicted, places, ids).mean)


def robustness_table(result: Mapping[str, Any]) -> str:
    """What ``pcsa evaluate --robustness`` prints."""
    rows: Sequence[Mapping[str, Any]] = result["rows"]
    own = result["against"] == "own"
    has = {name: any(name in row for row in rows) for name in ("present_gone", "dual_alignment", "likelihood")}
    heads = ["clouds", "level", "points", f"{'found again' if own else 'PCK'}@{result['threshold']:.3g}"]
    heads += ["change (95 %)", "mean error"]
    heads += ["DAS"] * has["dual_alignment"]
    heads += ["hidden"] + ["left: present", "gone: present"] * has["present_gone"]
    heads += ["nats gained by own bandwidths"] * has["likelihood"]
    lines = []
    for row in rows:
        cells = [row["kind"], "" if row["kind"] == CLEAN else str(row["level"]), number(row["points"], 0)]
        cells += [_percent(row["right"]), _interval(row.get("difference"), 100, 1), number(row["error"], 4)]
        if has["dual_alignment"]:
            cells.append(_percent(row.get("dual_alignment")))
        cells.append(_percent(row["right_unseen"]))
        if has["present_gone"]:
            cells += [_percent(row.get("present_left")), _percent(row.get("present_gone"))]
        if has["likelihood"]:
            cells.append(_interval(row.get("likelihood", {}).get("gain"), 1, 2))
        lines.append(cells)
    said = "keypoints of the whole clouds, found again" if own else "annotated keypoints"
    return "\n".join(
        [
            f"{result['category']}, {result['split']}: {result['num_items']} clouds, {said}; read-out: "
            f"{result['read_out']}; in percent; errors in units of the dataset",
            "",
            markdown_table(heads, lines),
        ]
    )


def _percent(value: float | None) -> str:
    return number(None if value is None else 100 * value, 1)


def _interval(value: Mapping[str, float] | None, factor: float, digits: int) -> str:
    if value is None or not all(map(math.isfinite, value.values())):
        return "–"
    mean, low, high = (f"{factor * value[name]:+.{digits}f}" for name in ("mean", "low", "high"))
    return f"{mean} ({low} to {high})"
