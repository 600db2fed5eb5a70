"""The annotations of a category: one record per shape, and what can be wrong with them."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

# The release prints xyz with more digits than the clouds have: they agree to 5e-7 of a shape of size 1.
_XYZ_TOLERANCE = 1e-5


class Record(NamedTuple):
    """The annotation of one shape; its symmetries are places in its own list of keypoints, as in the file."""

    class_id: str
    model_id: str
    semantic_ids: list[int]
    point_index: list[int]
    xyz: NDArray[np.float64]
    names: list[str | None]
    rotation: list[tuple[list[int], bool]]
    reflection: list[tuple[int, int]]


def read_records(path: Path) -> tuple[list[Record], list[str]]:
    """Read the records of an annotation file, and list what is wrong with them, clouds aside.

    Raises:
        ValueError: If the file is no list of annotations; the message names the file.

    """
    try:
        entries = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"`{path}`: not a JSON file ({error})") from error
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"`{path}`: must be a list of annotations with at least one")
    records, faults = [], []
    for number, entry in enumerate(entries):
        try:
            records.append(_parse(entry))
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            faults.append(f"record {number}: not an annotation of KeypointNet ({type(error).__name__}: {error})")
    repeated = [model_id for model_id, count in Counter(r.model_id for r in records).items() if count > 1]
    faults += [f"model {model_id} is annotated more than once" for model_id in repeated]
    class_ids = {record.class_id for record in records}
    if len(class_ids) > 1:
        faults.append(f"more than one class id: {', '.join(sorted(class_ids))}")
    if records and not any(record.semantic_ids for record in records):
        faults.append("no keypoint in the whole category")
    return records, faults


def _parse(entry: Any) -> Record:
    keypoints = entry["keypoints"]
    symmetries = entry.get("symmetries") or {}
    return Record(
        str(entry["class_id"]),
        str(entry["model_id"]),
        [int(k["semantic_id"]) for k in keypoints],
        [int(k["pcd_info"]["point_index"]) for k in keypoints],
        np.array([k["xyz"] for k in keypoints], dtype=np.float64).reshape(len(keypoints), 3),
        [k.get("name") for k in keypoints],
        [
            ([int(i) for i in group["kp_indexes"]], bool(group.get("is_circle")))
            for group in symmetries.get("rotation") or []
        ],
        [
            (int(group["kp_indexes"][0]), int(group["kp_indexes"][1]))
            for group in symmetries.get("reflection") or []
            if len(group["kp_indexes"]) == 2
        ],
    )


def cloud_faults(record: Record, points: NDArray[np.float32]) -> Iterator[str]:
    """Yield what is wrong between an annotation and the points of its cloud."""
    if len(points) == 0:
        yield "the cloud has no points"
        return
    for semantic_id, count in Counter(record.semantic_ids).items():
        if count > 1:
            yield f"semantic id {semantic_id} occurs {count} times"
    size = max(np.ptp(points, axis=0).max(), np.abs(points).max())
    for semantic_id, index, xyz in zip(record.semantic_ids, record.point_index, record.xyz, strict=True):
        if not 0 <= index < len(points):
            yield f"`point_index` {index} of keypoint {semantic_id} is out of range for {len(points)} points"
        elif not np.abs(points[index] - xyz).max() <= _XYZ_TOLERANCE * size:
            yield f"`xyz` of keypoint {semantic_id} is not that of point {index}"
    groups = [columns for columns, _ in record.rotation] + [list(pair) for pair in record.reflection]
    if any(not 0 <= place < len(record.semantic_ids) for group in groups for place in group):
        yield f"`kp_indexes` of a symmetry points beyond the {len(record.semantic_ids)} keypoints"
