"""The annotations of a category: one record per shape, and what can be wrong with them."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pcsa._core.json_text import parse_json
from pcsa.datasets.faults import reading
from pcsa.datasets.limits import leads_out, read_whole
from pcsa.datasets.up import UPS

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
    targets: Sequence[list[float] | None] = ()
    """Where each keypoint is, of those that are not at their point."""
    marks: Sequence[list[list[float]]] = ()
    """Places that people marked for each keypoint, where there are several."""
    group: str | None = None
    """What the shape belongs to with others, which must lie in the same split; None if it is alone."""
    up: str = "y"
    """The axis that points up, see :data:`pcsa.datasets.up.Up`."""


def read_records(path: Path, class_id: str | None = None) -> tuple[list[Record], list[str]]:
    """Read the records of an annotation file, and list what is wrong with them, clouds aside.

    Args:
        path: The file, in any encoding of JSON, with or without a byte-order mark.
        class_id: Keep the records of this class only: those of one category out of a file of all.

    Raises:
        ValueError: If the file is no list of annotations; the message names the file.

    """
    with reading(path, "annotations of KeypointNet"):
        entries = _entries(read_whole(path))
        if class_id is not None:
            entries = [(n, e) for n, e in entries if not isinstance(e, dict) or e.get("class_id") in (None, class_id)]
            if not entries:
                raise ValueError(f"has no annotation with `class_id` (={class_id!r})")
    records, faults = [], []
    for number, entry in entries:
        try:
            records.append(_parse(entry))
        except (ValueError, OverflowError, RecursionError) as error:
            faults.append(f"record {number}{_name_of(entry)}: {error}")
    repeated = [model_id for model_id, count in Counter(r.model_id for r in records).items() if count > 1]
    faults += [f"model {model_id} is annotated more than once" for model_id in repeated]
    class_ids = {record.class_id for record in records}
    if len(class_ids) > 1:
        faults.append(f"more than one class id: {', '.join(sorted(class_ids))}")
    ups = {record.up for record in records}
    if len(ups) > 1 and len(class_ids) == 1:
        faults.append(f"more than one axis that points `up`: {', '.join(sorted(ups))}")
    if records and not any(record.semantic_ids for record in records):
        faults.append("no keypoint in the whole category")
    return records, faults


def class_ids_of(path: Path) -> set[str]:
    """Return the class ids that an annotation file names, read without parsing it where that is possible.

    Raises:
        ValueError: If the file is no list of annotations; the message names the file.

    """
    with reading(path, "annotations of KeypointNet"):
        raw = read_whole(path)
        # Inside a string of JSON the quotes would be escaped: what looks like the field is the field.
        if found := re.findall(rb'"class_id"\s*:\s*"([\w.-]+)"', raw):
            names = {name.decode("ascii", "replace") for name in set(found)}
        else:
            names = {str(e["class_id"]) for _, e in _entries(raw) if isinstance(e, dict) and "class_id" in e}
        for name in names:
            if leads_out(name) or "/" in name:
                raise ValueError(f"`class_id` (={name[:80]}) must be a name without a path")
        return names


def _entries(raw: bytes) -> list[tuple[int, Any]]:
    try:
        entries = parse_json(raw)
    except ValueError as error:
        raise ValueError(f"not a JSON file ({error})") from error
    if not isinstance(entries, list) or not entries:
        raise ValueError("must be a list of annotations with at least one")
    return list(enumerate(entries))


def _name_of(entry: Any) -> str:
    model_id = entry.get("model_id") if isinstance(entry, dict) else None
    return f" (model {model_id})" if isinstance(model_id, str) else ""


def _parse(entry: Any) -> Record:
    """Return an entry as a record; what is wrong with it becomes a sentence that names the field."""
    _check(isinstance(entry, dict), "the annotation", entry, "an object with `class_id`, `model_id` and `keypoints`")
    keypoints = _list(entry, "keypoints", required=True)
    semantic_ids, point_index, xyz, names, targets, marks = [], [], [], [], [], []
    for number, keypoint in enumerate(keypoints):
        where = f"keypoint {number}"
        _check(isinstance(keypoint, dict), where, keypoint, "an object")
        semantic_ids.append(_whole(keypoint, "semantic_id", where))
        info = _field(keypoint, "pcd_info", where)
        _check(isinstance(info, dict), f"{where}: `pcd_info`", info, "an object with `point_index`")
        point_index.append(_whole(info, "point_index", where))
        xyz.append(_numbers(keypoint, "xyz", where))
        name = keypoint.get("name")
        names.append(None if name is None else str(name))
        targets.append(_place(keypoint["target"], f"{where}: `target`") if "target" in keypoint else None)
        marks.append([_place(mark, f"{where}: `marks`") for mark in _list(keypoint, "marks")])
    symmetries = entry.get("symmetries") or {}
    _check(isinstance(symmetries, dict), "`symmetries`", symmetries, "an object with `rotation` and `reflection`")
    rotation = [
        (_places(group, f"rotation {number}"), bool(group.get("is_circle")))
        for number, group in enumerate(_list(symmetries, "rotation"))
    ]
    pairs = [_places(group, f"reflection {number}") for number, group in enumerate(_list(symmetries, "reflection"))]
    return Record(
        _identifier(entry, "class_id"),
        _identifier(entry, "model_id"),
        semantic_ids,
        point_index,
        np.array(xyz, dtype=np.float64).reshape(len(keypoints), 3),
        names,
        rotation,
        [(pair[0], pair[1]) for pair in pairs if len(pair) == 2],
        targets,
        marks,
        _group(entry),
        _up(entry),
    )


def _place(value: Any, where: str) -> list[float]:
    good = isinstance(value, list) and len(value) == 3 and all(type(x) in (int, float) for x in value)
    _check(good and all(abs(x) < 1e300 for x in value), where, value, "three finite numbers")
    return [float(x) for x in value]


def _group(entry: dict[str, Any]) -> str | None:
    value = entry.get("group")
    _check(value is None or (isinstance(value, str) and value.strip() != ""), "`group`", value, "a name")
    return value


def _up(entry: dict[str, Any]) -> str:
    value = entry.get("up", "y")
    _check(value in UPS, "`up`", value, f"one of {', '.join(UPS)}")
    return str(value)


def _check(good: bool, what: str, value: Any, rule: str) -> None:
    if not good:
        shown = json.dumps(value, default=str)
        raise ValueError(f"{what} (={shown if len(shown) < 80 else shown[:77] + '…'}) must be {rule}")


def _field(entry: dict[str, Any], name: str, where: str = "") -> Any:
    if name not in entry:
        raise ValueError(f"{where}{': ' * bool(where)}`{name}` is missing")
    return entry[name]


def _list(entry: dict[str, Any], name: str, required: bool = False) -> list[Any]:
    value = _field(entry, name) if required else entry.get(name) or []
    _check(isinstance(value, list), f"`{name}`", value, "a list")
    return value


def _identifier(entry: dict[str, Any], name: str) -> str:
    value = _field(entry, name)
    good = (isinstance(value, str) and value.strip() != "") or (isinstance(value, int) and not isinstance(value, bool))
    _check(good, f"`{name}`", value, "a name")
    # A file and a folder have these names.
    _check(not (leads_out(str(value)) or "/" in str(value)), f"`{name}`", value, "a name without a path")
    return str(value)


def _whole(entry: dict[str, Any], name: str, where: str) -> int:
    value = _field(entry, name, where)
    if type(value) is int and abs(value) < 2**62:
        return value
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,18}", value):
        return int(value)
    whole = type(value) is float and value.is_integer() and abs(value) < 2**53
    _check(whole, f"{where}: `{name}`", value, "a whole number")
    return int(value)


def _numbers(entry: dict[str, Any], name: str, where: str) -> list[float]:
    value = _field(entry, name, where)
    good = isinstance(value, list) and len(value) == 3 and all(type(x) in (int, float) for x in value)
    _check(good, f"{where}: `{name}`", value, "three numbers")
    return value


def _places(group: Any, where: str) -> list[int]:
    _check(isinstance(group, dict), where, group, "an object with `kp_indexes`")
    places = _field(group, "kp_indexes", where)
    _check(isinstance(places, list), f"{where}: `kp_indexes`", places, "a list of whole numbers")
    return [_whole({"kp_indexes": place}, "kp_indexes", where) for place in places]


def cloud_faults(record: Record, points: NDArray[np.floating]) -> Iterator[str]:
    """Yield what is wrong between an annotation and the points of its cloud, in the precision of the file."""
    if len(points) == 0:
        yield "the cloud has no points"
        return
    for semantic_id, count in Counter(record.semantic_ids).items():
        if count > 1:
            yield f"semantic id {semantic_id} occurs {count} times"
    index = np.array(record.point_index, dtype=np.int64)
    inside = (index >= 0) & (index < len(points))
    right = _same(points[np.where(inside, index, 0)], record.xyz, float(np.ptp(points, axis=0).max()))
    for place in np.flatnonzero(~(inside & right)).tolist():
        semantic_id, row, xyz = record.semantic_ids[place], record.point_index[place], record.xyz[place]
        if not inside[place]:
            yield f"`point_index` {row} of keypoint {semantic_id} is out of range for {len(points)} points"
        elif not np.isfinite(xyz).all():
            yield f"`xyz` of keypoint {semantic_id} (={xyz.tolist()}) must be finite"
        else:
            distance = float(np.linalg.norm(points[row] - xyz))
            yield f"`xyz` of keypoint {semantic_id} is not that of point {row}, but {distance:.4g} away"
    groups = [columns for columns, _ in record.rotation] + [list(pair) for pair in record.reflection]
    if any(not 0 <= place < len(record.semantic_ids) for group in groups for place in group):
        yield f"`kp_indexes` of a symmetry points beyond the {len(record.semantic_ids)} keypoints"


def _same(points: NDArray[np.floating], xyz: NDArray[np.float64], extent: float) -> NDArray[np.bool_]:
    """Tell which rows of ``xyz`` are those of ``points``."""
    # By the extent of the cloud, not by how far off it lies: at 4.6e6 m a share of the coordinate is the whole cloud.
    limit = _XYZ_TOLERANCE * extent + 4 * np.spacing(np.abs(xyz))
    # A cloud kept in float32 far off has no digits left in which the two could agree better.
    with np.errstate(over="ignore"):
        rounded = xyz.astype(np.float32)
    return (np.abs(points - xyz) <= limit).all(axis=1) | (points == rounded).all(axis=1)
