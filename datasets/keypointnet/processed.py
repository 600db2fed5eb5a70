"""A category as arrays, made of its annotations and clouds and kept in a file."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pcsa.datasets.keypointnet.annotations import Record, cloud_faults, read_records
from pcsa.datasets.keypointnet.cache import Table, kept
from pcsa.datasets.keypointnet.layout import cloud_files
from pcsa.datasets.pcd import PointCloud, read_pcd

_VERSION = 1


def processed_category(root: Path, category: str, cache_dir: Path | None) -> Table:
    """Return the whole category as arrays, from the processed file where that is up to date."""

    def current(file: Mapping[str, NDArray[Any]]) -> bool:
        return str(file["fingerprint"]) == _fingerprint(root, category, str(file["class_id"]))

    return kept(category, root, cache_dir, current, lambda: _process(root, category))


def _fingerprint(root: Path, category: str, class_id: str) -> str:
    """Hash what changes whenever a file that the processed category is made of does."""
    annotations = (root / "annotations" / f"{category}.json").stat()
    listing: list[Any] = [_VERSION, category, class_id, annotations.st_size, annotations.st_mtime_ns]
    for name, entry in sorted(cloud_files(root / "pcds" / class_id).items()):
        stat = entry.stat()
        listing.append((name, stat.st_size, stat.st_mtime_ns))
    return hashlib.sha256(json.dumps(listing).encode()).hexdigest()


def _process(root: Path, category: str) -> Table:
    path = root / "annotations" / f"{category}.json"
    records, faults = read_records(path)
    for fault in faults:
        raise ValueError(f"`{path}`: {fault}")
    class_id = records[0].class_id
    fingerprint = _fingerprint(root, category, class_id)  # before reading: a change meanwhile shows later
    names: dict[int, str] = {}
    for record in records:
        for semantic_id, name in zip(record.semantic_ids, record.names, strict=True):
            names.setdefault(semantic_id, str(semantic_id) if name is None else str(name))
    semantic_ids = sorted(names)

    files = cloud_files(root / "pcds" / class_id)
    present = [record for record in records if record.model_id in files]
    clouds = [_read_cloud(path, record, files[record.model_id].path) for record in present]
    return {
        "fingerprint": np.array(fingerprint),
        "class_id": np.array(class_id),
        "points": np.concatenate([np.empty((0, 3), np.float32), *(cloud.points for cloud in clouds)]),
        "colors": np.concatenate([np.empty((0, 3), np.uint8), *(_colors(cloud) for cloud in clouds)]),
        "ptr": np.cumsum([0, *(len(cloud.points) for cloud in clouds)], dtype=np.int64),
        "model_ids": np.array([record.model_id for record in present], dtype=np.str_),
        "semantic_ids": np.array(semantic_ids, dtype=np.int64),
        "names": np.array([names[i] for i in semantic_ids], dtype=np.str_),
        **_columns(present, semantic_ids),
    }


def _read_cloud(annotations: Path, record: Record, path: str) -> PointCloud:
    cloud = read_pcd(path)
    for fault in cloud_faults(record, cloud.points):
        raise ValueError(f"`{annotations}`: model {record.model_id}: {fault}")
    return cloud


def _colors(cloud: PointCloud) -> NDArray[np.uint8]:
    return np.full(cloud.points.shape, 255, np.uint8) if cloud.colors is None else cloud.colors


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
