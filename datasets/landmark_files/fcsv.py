"""Slicer's lists of fiducials (`.fcsv`)."""

import math
import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pcsa._core.writing import replacing
from pcsa.datasets.faults import reading
from pcsa.datasets.files import existing
from pcsa.datasets.landmark_files.cells import cells_of, flag_of, is_number, lines_of, number_of, shown
from pcsa.datasets.landmark_files.landmarks import Frame, Landmarks, frame_name, with_names

_COLUMNS = "id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID"
_OLD_COLUMNS = "label,x,y,z,sel,vis"
"""Of Slicer 3, whose files name no version of markups."""
_STATES = {0: False, 1: False, 2: True, 3: False}
"""Whether a point is defined, by the number that some versions write behind the last named column."""


def read_fcsv(path: str | os.PathLike[str]) -> list[Landmarks]:
    """Read a list of fiducials of Slicer, versions 3 to 5.

    Args:
        path: A `.fcsv`. ``CoordinateSystem`` is a word or a number (0 is RAS, 1 is LPS); where it is missing the frame
            is not known, but in files of Slicer 3, which are in RAS.

    Returns:
        One :class:`Landmarks`. The format has no units.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a line has too few columns, a coordinate is no finite number, labels repeat, or the frame is IJK;
            the message names the file, the line, the value and the rule.

    """
    with reading(existing(path), "a list of fiducials of Slicer"):
        columns, frame, version = "", None, False
        rows: list[tuple[int, str]] = []
        for number, line in lines_of(path):
            if not line.startswith("#"):
                rows.append((number, line))
            elif found := re.match(r"#\s*CoordinateSystem\s*=\s*(.*)", line, re.IGNORECASE):
                frame = _frame(found[1], number)
            elif found := re.match(r"#\s*columns\s*=\s*(.*)", line, re.IGNORECASE):
                columns = found[1]
            version = version or "markups fiducial file version" in line.lower()
        if not version and not columns:
            raise ValueError("must name its version (# Markups fiducial file version = …) or its columns")
        if not version and frame is None:
            frame = "RAS"
        names = [name.strip().lower() for name in (columns or (_COLUMNS if version else _OLD_COLUMNS)).split(",")]
        absent = [name for name in ("label", "x", "y", "z") if name not in names]
        if absent:
            raise ValueError(f"its columns (={shown(','.join(names))}) must name {', '.join(absent)}")
        return [_landmarks(path, rows, names, frame)]


def write_fcsv(path: str | os.PathLike[str], lists: Landmarks | Sequence[Landmarks]) -> None:
    """Write a list of landmarks as fiducials of Slicer, version 4.11.

    The format has no place for points that are not defined: they are left out. Without a frame, LPS is written.

    Args:
        path: The file, which is replaced as a whole.
        lists: One list; the format has no place for more.

    Raises:
        ValueError: If there are several.

    """
    landmarks = only_one(lists, path)
    lines = [
        "# Markups fiducial file version = 4.11",
        f"# CoordinateSystem = {landmarks.frame or 'LPS'}",
        f"# columns = {_COLUMNS}",
    ]
    for i in np.flatnonzero(landmarks.there).tolist():
        x, y, z = landmarks.points[i].tolist()
        shows = int(np.asarray(landmarks.visible)[i])
        label, text = quoted(landmarks.names[i]), quoted(landmarks.descriptions[i])
        lines.append(f"vtkMRMLMarkupsFiducialNode_{i},{x!r},{y!r},{z!r},0,0,0,1,{shows},1,0,{label},{text},")
    with replacing(Path(path)) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")


def only_one(lists: Landmarks | Sequence[Landmarks], path: str | os.PathLike[str]) -> Landmarks:
    """Return the list, where a format has no place for more.

    Raises:
        ValueError: If there are several, or none.

    """
    found = [lists] if isinstance(lists, Landmarks) else list(lists)
    if len(found) != 1:
        raise ValueError(f"`lists` ({len(found)}) must be one list: `{os.fspath(path)}` has no place for more")
    return found[0]


def quoted(text: str, delimiter: str = ",") -> str:
    """Return a cell of a table, in quotes where it needs them; line ends become blanks."""
    text = " ".join(text.splitlines())
    return '"' + text.replace('"', '""') + '"' if any(mark in text for mark in (delimiter, '"', "#")) else text


def _frame(text: str, number: int) -> Frame:
    try:
        return frame_name(text)
    except ValueError as error:
        raise ValueError(f"line {number}: `CoordinateSystem`: {error}") from error


def _landmarks(
    path: str | os.PathLike[str], rows: Sequence[tuple[int, str]], names: Sequence[str], frame: Frame | None
) -> Landmarks:
    place = {name: i for i, name in reversed(list(enumerate(names)))}
    labels, positions, defined, visible, texts = [], [], [], [], []
    needed = max(place[name] for name in ("label", "x", "y", "z"))
    for number, line in rows:
        cells = cells_of(line, number, ",")
        if len(cells) <= needed:
            raise ValueError(f"line {number}: {len(cells)} columns, must be at least {needed + 1}: {','.join(names)}")

        def cell(name: str, cells: Sequence[str] = cells) -> str:
            return cells[place[name]] if place.get(name, len(cells)) < len(cells) else ""

        state = cells[len(names)] if len(cells) > len(names) else "2"
        there = _STATES.get(int(float(state)), True) if is_number(state) else True
        labels.append(cell("label"))
        position = [cell(axis) for axis in "xyz"]
        positions.append(
            [number_of(text, f"line {number}: `{axis}`") for axis, text in zip("xyz", position, strict=True)]
            if there
            else [math.nan] * 3
        )
        defined.append(there)
        visible.append(flag_of(cell("vis"), f"line {number}: `vis`"))
        texts.append(cell("desc"))
    return Landmarks(
        with_names(labels, [f"line {number}" for number, _ in rows]),
        np.array(positions, dtype=np.float64).reshape(-1, 3),
        np.array(defined, dtype=bool),
        np.array(visible, dtype=bool),
        frame,
        descriptions=texts,
        source=os.fspath(path),
    )
