"""``pcsa evaluate`` of the grid tasks: each by its field's own metric."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pcsa import metrics
from pcsa.datasets.coco import CocoKeypoints, person_results
from pcsa.datasets.crops import to_source
from pcsa.datasets.human36m import Human36M, to_camera
from pcsa.datasets.procedural import Figures2D, Figures3D
from pcsa.grid_training import (
    GridConfig,
    Located,
    OctData,
    Pose2dData,
    depth_of,
    load_grid_network,
    locate,
    open_items,
    trained_on,
)
from pcsa.localization import ReadOut
from pcsa.scripts.evaluate import pick_device
from pcsa.training import write_json
from pcsa.viz import Overlay, save_overlays


@dataclass(frozen=True)
class EvaluateGridConfig:
    """Score a network of poses, surfaces or landmarks."""

    checkpoint: Annotated[Path, tyro.conf.Positional]
    """Written by `pcsa train pose2d|pose3d|oct|landmarks`."""
    split: Literal["val", "test"] | None = None
    """Default test; of COCO val, for which alone it has labels."""
    root: Path | None = None
    """Another root of the same layout; default that of the training."""
    annotations: Path | None = None
    """COCO: annotation file to score on, relative to the root; default that of the training's validation."""
    images: Path | None = None
    """COCO: folder of its images."""
    detections: Path | None = None
    """COCO: person boxes of a detector, in place of the annotated ones."""
    read_out: ReadOut = "expectation"
    """See pcsa.localize."""
    flip_test: bool = True
    """Poses and landmarks: mean of the maps of the input and of its mirror image."""
    correct_threshold: float | None = None
    """Error below which a keypoint counts as right, for the calibration; default 0.2 torsos, 100 mm, 1 pixel, or 0.05
    distances of the eyes."""
    pictures: int = 0
    """Draw this many items, predictions beside annotations, into predictions-<split>.png beside the metrics."""
    batch_size: int = 16
    device: str = "auto"
    """cpu, cuda, or auto."""
    out: Path | None = None
    """Metrics file; default metrics-<split>.json beside the checkpoint."""


def main(argv: list[str]) -> int:
    """Parse options, evaluate, print the table."""
    result = evaluate_grid(tyro.cli(EvaluateGridConfig, args=argv, prog="pcsa evaluate"))
    print(format_grid_table(result))
    print("\nwritten: " + ", ".join(result[key] for key in ("file", "picture") if key in result))
    return 0


@dataclass
class _Collected:
    """What the network found on all items, and what is true of them."""

    items: Any
    batches: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    found: list[Located] = dataclasses.field(default_factory=list)

    def all(self, name: str) -> Tensor:
        return torch.cat([batch[name] for batch in self.batches])

    @property
    def position(self) -> Tensor:
        return torch.cat([found.position for found in self.found])

    @property
    def peak(self) -> Tensor:
        return torch.cat([found.peak for found in self.found]).clamp(0, 1)


def evaluate_grid(config: EvaluateGridConfig) -> dict[str, Any]:
    """Everything that is printed and written, as JSON types."""
    for name, number, least in (("batch-size", config.batch_size, 1), ("pictures", config.pictures, 0)):
        if number < least:
            raise ValueError(f"`{name}` (={number}) must be at least {least}")
    if config.correct_threshold is not None and not 0 < config.correct_threshold < math.inf:
        raise ValueError(f"`correct-threshold` (={config.correct_threshold}) must be positive and finite")
    device = pick_device(config.device)
    network, trained, about = load_grid_network(config.checkpoint, device)
    task = about["kind"].removeprefix("pcsa ")
    data = _data(config, trained)
    split = split_of(data, config.split)
    items = _open(data, split, config.detections)
    if list(items.names) != list(about["names"]):
        raise ValueError(
            f"`root` (={str(config.root or trained.data.root)!r}) must have what the network was trained to find, "
            f"{', '.join(about['names'])}; has {', '.join(items.names)}"
        )
    collected = _Collected(items)
    # A mirrored volume of a figure would have the denser limbs on the wrong side; surfaces have no sides.
    mirrors = task != "oct" and not isinstance(items, Figures3D)
    pairs = items.pairs if config.flip_test and mirrors else None
    loader = DataLoader(_WithSource(items), batch_size=config.batch_size)
    for batch in loader:
        image = batch["image"].to(device)
        found = locate(network, image, depth=depth_of(trained.data), read_out=config.read_out, flip_pairs=pairs)
        # The images and maps of a whole dataset need not lie in memory.
        if sum(len(kept["index"]) for kept in collected.batches) >= config.pictures:
            del batch["image"]
        collected.batches.append(batch)
        collected.found.append(Located(found.position.cpu(), found.peak.cpu(), found.maps[:0]))
    scores = {"pose2d": _pose2d, "pose3d": _pose3d, "oct": _oct, "landmarks": _landmarks}[task](config, collected)
    result = {
        "checkpoint": str(config.checkpoint),
        "task": task,
        "split": split,
        "trained_on": trained_on(data, split),
        "data": "procedural" if trained.data.root is None and config.root is None else type(items).__name__,
        "read_out": config.read_out,
        "flip_test": pairs is not None,
        "num_items": len(items),
        "left_out": items.skipped,
        "names": list(items.names),
        **scores,
    }
    file = config.out or config.checkpoint.parent / f"metrics-{split}.json"
    result["file"] = str(file)
    write_json(file, result)
    if config.pictures:
        picture = file.with_name(f"predictions-{split}.png")
        save_overlays(picture, list(_overlays(collected, config.pictures)))
        result["picture"] = str(picture)
    return result


def _data(config: EvaluateGridConfig, trained: GridConfig) -> Any:
    """The training's data, and what was named in its place."""
    data = trained.data
    given = {"root": config.root, "val_annotations": config.annotations, "val_images": config.images}
    given = {name: value for name, value in given.items() if value is not None}
    coco = isinstance(data, Pose2dData) and data.layout == "coco" and (data.root or config.root) is not None
    for name in given:
        if name != "root" and not coco:
            raise ValueError(
                f"`{name.removeprefix('val_')}` (={str(given[name])!r}) is for pose2d in COCO's layout only"
            )
    return dataclasses.replace(data, **given)


def split_of(data: Any, split: Literal["val", "test"] | None) -> Literal["val", "test"]:
    """The split to score on."""
    coco = data.root is not None and getattr(data, "layout", "") == "coco"
    if split == "test" and coco:
        raise ValueError("`split` (='test') must be 'val' for COCO: its test images have no public labels")
    return split or ("val" if coco else "test")


def _open(data: Any, split: Literal["val", "test"], detections: Path | None) -> Any:
    """The items to score on."""
    items = open_items(data, split, detections=detections)
    if isinstance(data, OctData):
        # Whole scans: one window as large as the largest.
        sizes = [items.source(i)["image"].shape[1:] for i in range(len(items))]
        size = (max(s[0] for s in sizes), max(s[1] for s in sizes))
        items = open_items(dataclasses.replace(data, input_size=size), split)
    return items


class _WithSource(Dataset[dict[str, Any]]):
    """Items with the labels of their source, also of keypoints outside of the crop: they count too."""

    def __init__(self, items: Any) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not hasattr(self.items, "source"):  # volumes are taken whole
            return dict(self.items[index])
        source = self.items.source(index)
        names = ("keypoints", "visible", "spacing", "area", "joints")
        return {**self.items[index], **{f"source_{name}": source[name] for name in names if name in source}}


def _pose2d(config: EvaluateGridConfig, collected: _Collected) -> dict[str, Any]:
    """PCK by the torso (LSP: by the head too), and COCO's average precision where the labels are COCO's."""
    items, confidence = collected.items, collected.peak
    source = to_source(collected.position, collected.all("to_source"))
    target, visible = collected.all("source_keypoints"), collected.all("source_visible")
    scores: dict[str, Any] = {}
    if isinstance(items, (CocoKeypoints, Figures2D)):
        # No threshold: peaks of a probability map are not heights of a heatmap, whose 0.2 is SimplePose's.
        if isinstance(items, CocoKeypoints):
            results = items.results(source, confidence, least_confidence=0.0)
        else:
            areas, ids, ones = collected.all("source_area").tolist(), list(range(len(items))), [1.0] * len(items)
            results = person_results(source, confidence, image_ids=ids, scores=ones, areas=areas, least_confidence=0.0)
        scores["average_precision"] = metrics.coco_average_precision(items.coco_annotations(), results)
    if visible.any():
        names = items.names
        lengths: list[tuple[str, str, str, list[float]]] = [("torso", "left_shoulder", "right_hip", [0.1, 0.2])]
        if "neck" in names and "head_top" in names:
            lengths.append(("head", "neck", "head_top", [0.5]))
        for of, start, end, thresholds in lengths:
            reference = metrics.segment_length(target, visible, (names.index(start), names.index(end)))
            error = metrics.normalized_error(source, target, visible, *reference)
            if error.counted.any():
                values = metrics.pck(*error, thresholds).tolist()
                scores |= {f"pck_{of}@{t:g}": value for t, value in zip(thresholds, values, strict=True)}
            if of == "torso":
                scores["num_without_torso"] = int((~reference.known).sum())
                scores |= _per_keypoint(*error)
                scores |= _calibration(config.correct_threshold or 0.2, "torsos", *error, confidence)
    return scores


def _pose3d(config: EvaluateGridConfig, collected: _Collected) -> dict[str, Any]:
    """MPJPE from the root and after Procrustes alignment, in millimeters."""
    items, position = collected.items, collected.position
    if isinstance(items, Human36M):
        matrix, root, camera, lens = map(collected.all, ("to_source", "root_depth", "camera", "distortion"))
        predicted = to_camera(position, matrix, root, camera, items.input_size[0], lens)
        target, visible = collected.all("positions"), collected.all("labeled")
    elif isinstance(items, Figures3D):
        size = collected.all("voxel_size")[:, None, None]
        predicted, target, visible = position * size, collected.all("keypoints") * size, collected.all("visible")
    else:
        scale = collected.all("mm_per_pixel")
        predicted = items.to_mm(position, scale)
        target, visible = collected.all("source_joints"), torch.ones_like(collected.all("visible"))
    error = metrics.mpjpe(predicted, target, visible, root=0)
    # The root is right by construction. It counts in the mean, as is usual, but proves nothing of the network.
    others = (error.distance[:, 1:], error.counted[:, 1:])
    aligned = metrics.pa_mpjpe(predicted, target, visible)
    return {
        "mpjpe_mm": _mean(*error),
        "pa_mpjpe_mm": _mean(*aligned),
        "pck@150mm": float(metrics.pck(*others, (150.0,))[0]) if others[1].any() else None,
        **_per_keypoint(*error),
        **_calibration(config.correct_threshold or 100.0, "mm", *others, collected.peak[:, 1:]),
    }


def _oct(config: EvaluateGridConfig, collected: _Collected) -> dict[str, Any]:
    """Absolute distance of the surfaces over all labeled columns, mean and standard deviation."""
    predicted, target, visible = collected.position, collected.all("boundaries"), collected.all("visible")
    spacing = collected.all("source_spacing")
    rows = metrics.surface_error(predicted, target, visible)
    scores: dict[str, Any] = {"mean_px": float(rows.overall_mean), "std_px": float(rows.overall_std)}
    # A spacing that is not known is 1.
    if bool((spacing[:, 0] == spacing[0, 0]).all()) and float(spacing[0, 0]) != 1:
        micrometers = 1000 * float(spacing[0, 0])
        scores |= {"mean_um": micrometers * scores["mean_px"], "std_um": micrometers * scores["std_px"]}
    distance = torch.where(visible, (predicted - target).abs(), 0.0)
    scores["surfaces"] = {
        name: {"mean_px": mean if count else None, "std_px": std if count else None, "num_columns": count}
        for name, mean, std, count in zip(
            collected.items.names, rows.mean.tolist(), rows.std.tolist(), rows.num_columns.tolist(), strict=True
        )
    }
    calibration = _calibration(config.correct_threshold or 1.0, "pixels", distance, visible, collected.peak)
    return {**scores, **calibration}


def _landmarks(config: EvaluateGridConfig, collected: _Collected) -> dict[str, Any]:
    """Normalized mean error, by the distance of the eyes."""
    items = collected.items
    source = to_source(collected.position, collected.all("to_source"))
    target, visible = collected.all("source_keypoints"), collected.all("source_visible")
    eyes = (items.names.index("left_eye"), items.names.index("right_eye"))
    reference = metrics.segment_length(target, visible, eyes)
    error = metrics.normalized_error(source, target, visible, *reference)
    return {
        "nme": _mean(*error),
        "failure_rate@0.1": float(metrics.failure_rate(*error)) if error.counted.any() else None,
        "num_without_eyes": int((~reference.known).sum()),
        **_per_keypoint(*error),
        **_calibration(config.correct_threshold or 0.05, "distances of the eyes", *error, collected.peak),
    }


def _mean(distance: Tensor, counted: Tensor) -> float | None:
    """Mean over the keypoints of an item, then over items; None if nothing counts."""
    return float(metrics.mean_error(distance, counted)) if counted.any() else None


def _per_keypoint(distance: Tensor, counted: Tensor) -> dict[str, Any]:
    """Mean error of every keypoint, in the unit of the errors; None where none counts."""
    number = counted.sum(0)
    mean = torch.where(counted, distance, 0.0).sum(0) / number.clamp(min=1)
    values = zip(mean.tolist(), number.tolist(), strict=True)
    return {"error_per_keypoint": [value if n else None for value, n in values]}


def _calibration(threshold: float, unit: str, distance: Tensor, counted: Tensor, confidence: Tensor) -> dict[str, Any]:
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


def _overlays(collected: _Collected, count: int) -> Iterator[Overlay]:
    """The first items, as the network takes them."""
    items = collected.items
    row = 0
    for batch, found in zip(collected.batches, collected.found, strict=True):
        for i in range(len(batch["index"])):
            if row == count:
                return
            common = {"image": batch["image"][i], "visible": batch["visible"][i], "names": items.names}
            if "boundaries" in batch:
                yield Overlay(surfaces=found.position[i], annotated_surfaces=batch["boundaries"][i], **common)
            else:
                yield Overlay(predicted=found.position[i], annotated=batch["keypoints"][i], bones=items.bones, **common)
            row += 1


def format_grid_table(result: dict[str, Any]) -> str:
    """What ``pcsa evaluate`` prints."""
    left_out = "".join(f"; {count} left out: {reason}" for reason, count in result["left_out"].items())
    lines = [
        f"{result['task']}, {result['data']}, {result['split']}: {result['num_items']} items{left_out}",
        *(["these items were trained on as well: for watching, not for comparing"] if result["trained_on"] else []),
        f"read-out: {result['read_out']}" + (", flip test" if result["flip_test"] else ""),
        "",
    ]
    for name, value in result.get("average_precision", {}).items():
        lines.append(f"{name:24}{_number(None if value is None else 100 * value, 1)}")
    for name, digits, factor in (
        ("pck_torso@0.1", 1, 100), ("pck_torso@0.2", 1, 100), ("pck_head@0.5", 1, 100), ("mpjpe_mm", 1, 1),
        ("pa_mpjpe_mm", 1, 1), ("pck@150mm", 1, 100), ("nme", 2, 100), ("failure_rate@0.1", 1, 100),
    ):  # fmt: skip
        if name in result:
            value = None if result[name] is None else factor * result[name]
            lines.append(f"{name + (' (%)' if factor == 100 else ''):24}{_number(value, digits)}")
    if "surfaces" in result:
        lines.append(f"{'surface':24}{'mean':>8}{'std':>8}   pixels")
        rows = {**result["surfaces"], "all": result}
        lines += [f"{n:24}{_number(r['mean_px'], 3):>8}{_number(r['std_px'], 3):>8}" for n, r in rows.items()]
        if "mean_um" in result:
            lines.append(f"{'all, micrometers':24}{_number(result['mean_um'], 2):>8}{_number(result['std_um'], 2):>8}")
    if "calibration" in result:
        c = result["calibration"]
        lines += [
            "",
            f"Pearson r of peak probability with error < {c['threshold']:g} {c['unit']}: {_number(c['pearson'], 3)}",
        ]
    return "\n".join(lines)


def _number(value: float | None, digits: int) -> str:
    return "undefined" if value is None or math.isnan(value) else f"{value:.{digits}f}"
