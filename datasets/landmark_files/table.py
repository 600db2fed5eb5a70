"""Tables of landmarks (`.csv`, `.tsv`): a line of names, and a line for each landmark."""

import math
import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pcsa._core.writing import replacing
from pcsa.datasets.columns import plain_name
from pcsa.datasets.faults import reading
from pcsa.datasets.files import existing
from pcsa.datasets.landmark_files.cells import MISSING, cells_of, flag_of, lines_of, number_of, shown
from pcsa.datasets.landmark_files.fcsv import quoted
from pcsa.datasets.landmark_files.landmarks import Frame, Landmarks, frame_name, unit_name, with_names
from pcsa.datasets.landmark_files.picked import picked

_AXES: dict[str, Frame | None] = {"xyz": None, "lps": "LPS", "ras": "RAS"}
_ALIASES = {
    "name": ("name", "label", "landmark", "landmark_name", "keypoint", "point", "id"),
    "scan": ("scan", "mesh", "specimen", "model", "subject", "shape", "file", "filename"),
    "rater": ("rater", "observer", "annotator", "expert"),
    "repeat": ("repeat", "trial", "replicate", "repetition", "session"),
    "defined": ("defined",),
    "visible": ("visible", "vis", "visibility"),
    "description": ("description", "desc", "comment"),
    "frame": ("frame", "coordinatesystem", "coordinate_system", "space"),
    "units": ("units", "unit"),
}
_COLUMNS = ("name", "x", "y", "z", "defined", "visible", "description")


def read_table(path: str | os.PathLike[str]) -> list[Landmarks]:
    """Read a table of landmarks, with names of its columns or without.

    The columns are ``x,y,z``, ``l,p,s`` or ``r,a,s`` (Slicer's tables of control points), and may be ``name`` (or
    label, landmark, keypoint, point, id), ``scan`` (mesh, specimen, model, subject, shape, file), ``rater`` (observer,
    annotator, expert), ``repeat`` (trial, replicate, session), ``defined``, ``visible``, ``description``, ``frame`` and
    ``units``; others are left out. ``x [mm]`` names the units, too. Commas, semicolons or tabs lie between; with
    semicolons numbers may have decimal commas. A landmark without numbers (empty, NA, NaN) is not defined. A table
    without names of its columns is read as :func:`read_picked` does.

    Args:
        path: A `.csv`, `.tsv` or `.txt`.

    Returns:
        A :class:`Landmarks` for each scan, rater and repeat, in the order of the file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If x, y or z is missing, a value is no finite number, or a name repeats; the message names the file,
            the line, the value and the rule.

    """
    with reading(existing(path), "a table of landmarks"):
        lines = lines_of(path)
        titles = _title(lines)
        if titles is None:
            return [picked(path, lines)]
        at, delimiter, names = titles
        axes, place = _places(names, lines[at][0])
        units = _title_units(names, lines[at][0])
        parts: dict[tuple[str, str, str], list[tuple[int, list[str]]]] = {}
        for number, line in lines[at + 1 :]:
            if line.startswith(("#", "//")):
                continue
            cells = cells_of(line, number, delimiter)
            if not any(cells):
                continue
            # What stands behind the coordinates may be left out.
            if not max(place[axis] for axis in axes) < len(cells) <= len(names):
                raise ValueError(f"line {number}: {len(cells)} columns, the line of names has {len(names)}")
            cells += [""] * (len(names) - len(cells))
            key = tuple(cells[place[name]] if name in place else "" for name in ("scan", "rater", "repeat"))
            parts.setdefault((key[0], key[1], key[2]), []).append((number, cells))
        if not parts:
            raise ValueError("has no line of landmarks")
        return [
            _landmarks(path, rows, place, axes, units, delimiter == ";", key, len(parts) > 1)
            for key, rows in parts.items()
        ]


def write_table(path: str | os.PathLike[str], lists: Landmarks | Sequence[Landmarks]) -> None:
    """Write lists of landmarks as one table, with the columns that have something to say.

    Args:
        path: The file, which is replaced as a whole. `.tsv` has tabs between the columns, others have commas.
        lists: One or more; several must differ by ``scan`` or ``rater``.

    Raises:
        ValueError: If two have the same.

    """
    lists = [lists] if isinstance(lists, Landmarks) else list(lists)
    keys = [(one.scan, one.rater) for one in lists]
    if len(set(keys)) < len(keys):
        raise ValueError(f"`lists` ({len(lists)}) must differ by `scan` or `rater`")
    columns = [name for name in ("scan", "rater") if any(getattr(one, name) is not None for one in lists)]
    columns += [*_COLUMNS, *(name for name in ("frame", "units") if any(getattr(one, name) for one in lists))]
    mark = "\t" if Path(path).suffix.lower() == ".tsv" else ","
    lines = [mark.join(columns)]
    for one in lists:
        visible = np.asarray(one.visible)
        for i, name in enumerate(one.names):
            coordinates = [repr(x) if math.isfinite(x) else "" for x in one.points[i].tolist()]
            values = {
                "scan": one.scan or "",
                "rater": one.rater or "",
                "name": name,
                **dict(zip("xyz", coordinates, strict=True)),
                "defined": str(int(one.there[i])),
                "visible": str(int(visible[i])),
                "description": one.descriptions[i],
                "frame": one.frame or "",
                "units": one.units or "",
            }
            lines.append(mark.join(quoted(values[column], mark) for column in columns))
    with replacing(Path(path)) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")


def _title(lines: Sequence[tuple[int, str]]) -> tuple[int, str, list[str]] | None:
    """Find the line that names the columns: its place, what lies between them, and their names."""
    for at, (number, raw) in enumerate(lines):
        line = re.sub(r"^(//|#)\s*", "", raw)
        delimiter = max(",;\t", key=line.count)
        names = [plain_name(cell) for cell in cells_of(line, number, delimiter)]
        if any(set(axes) <= set(names) for axes in _AXES):
            return at, delimiter, [cell.strip() for cell in cells_of(line, number, delimiter)]
        if line == raw:
            if re.search(r"[A-Za-z]", names[0]) and any(axis in names for axis in "xyz"):
                raise ValueError(f"line {number}: the columns (={shown(line)}) must name x, y and z once each")
            return None
    return None


def _places(titles: Sequence[str], number: int) -> tuple[str, dict[str, int]]:
    """Return which axes a table has, and the place of each column that it may have."""
    names = [plain_name(title) for title in titles]
    axes = next(axes for axes in _AXES if set(axes) <= set(names))
    repeated = [axis for axis in axes if names.count(axis) > 1]
    if repeated:
        raise ValueError(f"line {number}: the columns (={shown(','.join(titles))}) must name {repeated[0]} once")
    place = {axis: names.index(axis) for axis in axes}
    for column, aliases in _ALIASES.items():
        found = next((alias for alias in aliases if alias in names), None)
        if found is not None:
            place[column] = names.index(found)
    return axes, place


def _title_units(titles: Sequence[str], number: int) -> str | None:
    """Return the units in the names of the coordinates: ``x [mm]``, ``x (mm)``."""
    found = {
        match[1] for title in titles if (match := re.fullmatch(r'"?[xyzlpsra]\s*[\[(]([^\])]+)[\])]"?', title, re.I))
    }
    if len(found) > 1:
        raise ValueError(f"line {number}: the units (={shown(sorted(found))}) must be the same for x, y and z")
    return _stated(unit_name, found.pop(), number, "units") if found else None


def _stated(parse: object, text: str, number: int, name: str) -> str:
    try:
        return str(parse(text))  # type: ignore[operator]
    except ValueError as error:
        raise ValueError(f"line {number}: `{name}`: {error}") from error


def _landmarks(
    path: str | os.PathLike[str],
    rows: Sequence[tuple[int, list[str]]],
    place: dict[str, int],
    axes: str,
    units: str | None,
    decimal_commas: bool,
    key: tuple[str, str, str],
    several: bool,
) -> Landmarks:
    def column(name: str) -> list[tuple[int, str]]:
        return [(number, cells[place[name]] if name in place else "") for number, cells in rows]

    positions = []
    for number, cells in rows:
        texts = [cells[place[axis]] for axis in axes]
        absent = [text.lower() in MISSING for text in texts]
        if any(absent) and not all(absent):
            raise ValueError(f"line {number}: {', '.join(axes)} (={shown(texts)}) must be all there, or all missing")
        if decimal_commas:
            texts = [text.replace(",", ".") for text in texts]
        positions.append(
            [math.nan] * 3
            if all(absent)
            else [number_of(text, f"line {number}: `{axis}`") for axis, text in zip(axes, texts, strict=True)]
        )
    points = np.array(positions, dtype=np.float64).reshape(-1, 3)
    defined = [flag_of(text, f"line {number}: `defined`") for number, text in column("defined")]
    visible = [flag_of(text, f"line {number}: `visible`") for number, text in column("visible")]
    frames = {_stated(frame_name, text, number, "frame") for number, text in column("frame") if text}
    stated = {_stated(unit_name, text, number, "units") for number, text in column("units") if text}
    stated |= set() if units is None else {units}
    frames |= {str(_AXES[axes])} - {"None"}
    for name, values in (("frame", frames), ("units", stated)):
        if len(values) > 1:
            raise ValueError(f"line {rows[0][0]}: `{name}` (={sorted(values)}) must be one for the list")
    scan, rater, repeat = key
    who = " ".join(part for part in (rater, repeat) if part)
    labels = [text for _, text in column("name")]
    about = ", ".join(part for part in (scan, who) if part)
    return Landmarks(
        with_names(labels, [f"line {number}" for number, _ in rows]),
        points,
        np.array(defined, dtype=bool) & np.isfinite(points).all(axis=1),
        np.array(visible, dtype=bool),
        frame_name(frames.pop()) if frames else None,
        stated.pop() if stated else None,
        [text for _, text in column("description")],
        scan or None,
        who or None,
        f"{os.fspath(path)}{f' ({about})' * (several and bool(about))}",
    )
