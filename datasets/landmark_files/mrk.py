"""Slicer's markups (`.mrk.json`)."""

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pcsa._core.json_text import parse_json
from pcsa._core.writing import replacing
from pcsa.datasets.faults import reading
from pcsa.datasets.files import existing
from pcsa.datasets.landmark_files.cells import check_small, shown
from pcsa.datasets.landmark_files.landmarks import Landmarks, frame_name, unit_name, with_names
from pcsa.datasets.limits import read_whole

_SCHEMA = (
    "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/Schema/"
    "markups-schema-v1.0.3.json#"
)
_LISTS = ("Fiducial", "PointList", "Line", "Angle", "Curve", "ClosedCurve")
"""Types whose control points are places that somebody set; those of planes and boxes span a shape."""
_STATES = ("defined", "undefined", "preview", "missing")
_NOWHERE: tuple[Any, ...] = (None, "", [])


def read_mrk(path: str | os.PathLike[str]) -> list[Landmarks]:
    """Read the lists of points of a file of Slicer's markups.

    Points whose ``positionStatus`` is not ``defined``, and those without a position, are not defined. Lists in RAS stay
    in RAS, and say so; without ``coordinateSystem`` they are in LPS, as in Slicer.

    Args:
        path: A `.mrk.json`, schema 1.

    Returns:
        A :class:`Landmarks` for each list; where there are several, their ``rater`` is the name of the list, or its
        number from 1.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is no JSON of markups, a list is a plane or a box, a position is not three finite
            numbers, or labels repeat; the message names the file, the list, the point, the value and the rule.

    """
    with reading(existing(path), "markups of Slicer"):
        check_small(path)
        try:
            content = parse_json(read_whole(path))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"not a JSON file ({' '.join(str(error).split())})") from error
        markups = content.get("markups") if isinstance(content, dict) else None
        if not isinstance(markups, list) or not markups:
            raise ValueError("must be an object whose `markups` is a list with at least one entry")
        found = [_list_of(entry, f"list {number}") for number, entry in enumerate(markups, 1)]
        several = len(found) > 1
        named = [_text(markups[i], "name", f"list {i + 1}") or str(i + 1) for i in range(len(found))]
        if len(set(named)) < len(named):
            named = [str(i + 1) for i in range(len(found))]
        return [
            Landmarks(
                **fields,
                rater=name if several else None,
                source=f"{os.fspath(path)}{f' (list {name})' * several}",
            )
            for fields, name in zip(found, named, strict=True)
        ]


def write_mrk(path: str | os.PathLike[str], lists: Landmarks | Sequence[Landmarks]) -> None:
    """Write lists of landmarks as Slicer's markups.

    Landmarks that are not defined are written as ``missing``, with their position where it is finite. Without a frame,
    LPS is written: Slicer takes a mesh whose file names no frame for LPS, so that both lie on each other. Without
    units, none are written, and Slicer takes those of the scene.

    Args:
        path: The file, which is replaced as a whole.
        lists: One or more.

    """
    lists = [lists] if isinstance(lists, Landmarks) else list(lists)
    content = {"@schema": _SCHEMA, "markups": [_entry(landmarks) for landmarks in lists]}
    with replacing(Path(path)) as temporary:
        temporary.write_text(json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False), encoding="utf-8")


def _entry(landmarks: Landmarks) -> dict[str, Any]:
    points = []
    for i, name in enumerate(landmarks.names):
        position, there = landmarks.points[i].tolist(), bool(landmarks.there[i])
        points.append(
            {
                "id": str(i + 1),
                "label": name,
                "description": landmarks.descriptions[i],
                **({"position": position} if all(map(math.isfinite, position)) else {}),
                "selected": there,
                "locked": False,
                "visibility": bool(np.asarray(landmarks.visible)[i]),
                "positionStatus": "defined" if there else "missing",
            }
        )
    return {
        "type": "Fiducial",
        **({} if landmarks.rater is None else {"name": landmarks.rater}),
        "coordinateSystem": landmarks.frame or "LPS",
        **({} if landmarks.units is None else {"coordinateUnits": landmarks.units}),
        "controlPoints": points,
    }


def _list_of(entry: Any, where: str) -> dict[str, Any]:
    if not isinstance(entry, dict):
        raise ValueError(f"{where} (={shown(entry)}) must be an object with `controlPoints`")
    kind = entry.get("type", "Fiducial")
    if kind not in _LISTS:
        raise ValueError(f"{where}: `type` (={shown(kind)}) must be one of {', '.join(_LISTS)}")
    points = entry.get("controlPoints")
    if not isinstance(points, list):
        raise ValueError(f"{where}: `controlPoints` (={shown(points)}) must be a list of points")
    places = [f"{where}, point {number}" for number in range(1, len(points) + 1)]
    for point, place in zip(points, places, strict=True):
        if not isinstance(point, dict):
            raise ValueError(f"{place} (={shown(point)}) must be an object with `label` and `position`")
    states = [point.get("positionStatus", "defined") for point in points]
    for state, place in zip(states, places, strict=True):
        if state not in _STATES:
            raise ValueError(f"{place}: `positionStatus` (={shown(state)}) must be one of {', '.join(_STATES)}")
    nowhere = [point.get("position") in _NOWHERE for point in points]
    defined = [state == "defined" and not absent for state, absent in zip(states, nowhere, strict=True)]
    positions = [
        _position(point["position"], place, there) if not absent else [math.nan] * 3
        for point, place, there, absent in zip(points, places, defined, nowhere, strict=True)
    ]
    try:
        frame = frame_name(_text(entry, "coordinateSystem", where) or "LPS")
    except ValueError as error:
        raise ValueError(f"{where}: `coordinateSystem`: {error}") from error
    return {
        "names": with_names([_text(p, "label", place) for p, place in zip(points, places, strict=True)], places),
        "positions": np.array(positions, dtype=np.float64).reshape(-1, 3),
        "defined": np.array(defined, dtype=bool),
        "visible": np.array([_flag(p, "visibility", place) for p, place in zip(points, places, strict=True)], bool),
        "frame": frame,
        "units": _units(entry.get("coordinateUnits"), where),
        "descriptions": [_text(p, "description", place) for p, place in zip(points, places, strict=True)],
    }


def _position(value: Any, place: str, there: bool) -> list[float]:
    good = isinstance(value, list) and len(value) == 3 and all(type(x) in (int, float) for x in value)
    if good and all(abs(x) < 1e300 for x in value):
        return [float(x) for x in value]
    if good and not there:
        return [math.nan] * 3
    raise ValueError(f"{place}: `position` (={shown(value)}) must be three finite numbers")


def _units(value: Any, where: str) -> str | None:
    """Return the units of a list, as a text or as a coded entry: a list or an object of the code, its scheme, …."""
    code = value
    if isinstance(value, list) and value:
        code = value[0]
    elif isinstance(value, dict):
        code = {name.lower(): entry for name, entry in value.items()}.get("codevalue")
    if value is None or value == "":
        return None
    try:
        return unit_name(code if isinstance(code, str) else shown(value))
    except ValueError as error:
        raise ValueError(f"{where}: `coordinateUnits`: {error}") from error


def _text(entry: dict[str, Any], name: str, where: str) -> str:
    value = entry.get(name)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(f"{where}: `{name}` (={shown(value)}) must be a text")
    return str(value).strip()


def _flag(entry: dict[str, Any], name: str, where: str) -> bool:
    value = entry.get(name, True)
    if not isinstance(value, bool | int):
        raise ValueError(f"{where}: `{name}` (={shown(value)}) must be true or false")
    return bool(value)
