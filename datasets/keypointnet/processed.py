"""A category as arrays, made of its annotations and clouds and kept in the cache."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pcsa._core.progress import progress
from pcsa.datasets.cache import Table, contents_key, kept
from pcsa.datasets.faults import some
from pcsa.datasets.keypointnet.annotations import Record, class_ids_of, cloud_faults, read_records
from pcsa.datasets.keypointnet.layout import annotation_file, cloud_files, misaligned_file, misaligned_models
from pcsa.datasets.pcd import read_pcd
from pcsa.datasets.point_cloud import PointCloud, lossless_dtype

_log = logging.getLogger(__name__)
_VERSION = 4


def processed_category(root: Path, category: str, cache_dir: Path | None) -> Table:
    """Return the whole category as arrays, from the cache where its annotations and clouds are as they were."""
    path, class_id = annotation_file(root, category)
    # Several class ids are a fault that reading the records names.
    folder = class_id or min(class_ids_of(path), default="")
    clouds = cloud_files(root / "pcds" / folder)
    files: dict[str, Any] = {"annotations": path, **{f"pcds/{name}": entry for name, entry in clouds.items()}}
    if (listed := misaligned_file(root, folder)) is not None:
        files["misaligned"] = listed
    key = contents_key(_VERSION, files, cache_dir)
    return kept(cache_dir, f"{category}-{key}", lambda: _process(root, path, class_id, clouds))


def _process(root: Path, path: Path, class_id: str | None, files: Mapping[str, Any]) -> Table:
    records, faults = read_records(path, class_id)
    for fault in faults:
        raise ValueError(f"`{path}`: {fault}")
    class_id = records[0].class_id
    names: dict[int, str] = {}
    for record in records:
        for semantic_id, name in zip(record.semantic_ids, record.names, strict=True):
            names.setdefault(semantic_id, str(semantic_id) if name is None else name)
    semantic_ids = sorted(names)

    present = [record for record in records if record.model_id in files]
    flipped = misaligned_models(root, class_id)
    shown = progress(present, f"reading {path.stem}")
    clouds = [_read_cloud(path, record, files[record.model_id].path) for record in shown]
    points = [
        cloud.points * (-1.0, 1.0, 1.0) if record.model_id in flipped else cloud.points
        for record, cloud in zip(present, clouds, strict=True)
    ]
    # One format for the category, so that its clouds make batches.
    far = [r.model_id for r, array in zip(present, points, strict=True) if lossless_dtype(array) == np.float64]
    if far:
        _log.info("`%s`: float64, because float32 would lose detail of %s", path, some(far))
    return {
        "class_id": np.array(class_id),
        "points": np.concatenate([np.empty((0, 3)), *points]).astype(np.float64 if far else np.float32),
        "colors": np.concatenate([np.empty((0, 3), np.uint8), *(_colors(cloud) for cloud in clouds)]),
        "ptr": np.cumsum([0, *(len(array) for array in points)], dtype=np.int64),
        "model_ids": np.array([record.model_id for record in present], dtype=np.str_),
        "flipped": np.array([record.model_id in flipped for record in present], dtype=bool),
        "groups": np.array([record.group or "" for record in present], dtype=np.str_),
        "up": np.array(records[0].up),
        "semantic_ids": np.array(semantic_ids, dtype=np.int64),
        "names": np.array([names[i] for i in semantic_ids], dtype=np.str_),
        **_columns(present, semantic_ids),
        **_places(present, semantic_ids, np.float64 if far else np.float32, flipped),
    }


def _read_cloud(annotations: Path, record: Record, path: str) -> PointCloud:
    cloud = read_pcd(path)
    for fault in cloud_faults(record, cloud.points):
        raise ValueError(f"`{annotations}`: model {record.model_id}: {fault}")
    return cloud


def _colors(cloud: PointCloud) -> NDArray[np.uint8]:
    return np.full(cloud.points.shape, 255, np.uint8) if cloud.colors is None else cloud.colors


def _places(records: list[Record], semantic_ids: list[int], dtype: type[np.floating], flipped: set[str]) -> Table:
    """Return the places of keypoints that are not at a point, and those that people marked; NaN where there is none."""
    n, column_of = len(records), {semantic_id: column for column, semantic_id in enumerate(semantic_ids)}
    most = max((len(marks) for record in records for marks in record.marks), default=0)
    shape = (n, len(semantic_ids)) if any(place for record in records for place in record.targets) else (0, 0)
    targets = np.full((*shape, 3), np.nan, dtype=dtype)
    marks = np.full((n if most else 0, len(semantic_ids), most, 3), np.nan, dtype=dtype)
    for row, record in enumerate(records):
        sign = np.array((-1.0 if record.model_id in flipped else 1.0, 1.0, 1.0))
        for semantic_id, target, places in zip(record.semantic_ids, record.targets, record.marks, strict=True):
            if target is not None:
                targets[row, column_of[semantic_id]] = sign * target
            if places:
                marks[row, column_of[semantic_id], : len(places)] = sign * np.array(places)
    return {"targets": targets, "marks": marks}


def _columns(records: list[Record], semantic_ids: list[int]) -> Table:
    """Return keypoints and symmetries as columns of all semantic ids, filled up with -1 and False to one size."""
    n = len(records)
    index = np.full((n, len(semantic_ids)), -1, dtype=np.int64)
    reflection = np.full((n, max((len(r.reflection) for r in records), default=0), 2), -1, dtype=np.int64)
    num_groups = max((len(r.rotation) for r in records), default=0)
    group_size = max((len(g) for r in records for g, _ in r.rotation), default=0)
    rotation = np.full((n, num_groups, group_size), -1, dtype=np.int64)
    is_circle = np.zeros((n, num_groups), dtype=bool)
    column_of = {semantic_id: column for column, semantic_id in enumerate(semantic_ids)}
    for row, record in enumerate(records):
        # The symmetries count in the shape's own list of keypoints.
        columns = np.array([column_of[i] for i in record.semantic_ids], dtype=np.int64)
        index[row, columns] = record.point_index
        for number, pair in enumerate(record.reflection):
            reflection[row, number] = columns[list(pair)]
        for number, (group, circle) in enumerate(record.rotation):
            rotation[row, number, : len(group)] = columns[group]
            is_circle[row, number] = circle and len(group) > 0
    return {"keypoint_index": index, "reflection": reflection, "rotation": rotation, "is_circle": is_circle}
