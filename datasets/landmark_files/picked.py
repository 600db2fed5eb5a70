"""CloudCompare's lists of picked points: lines of numbers without a header."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pcsa._core.writing import replacing
from pcsa.datasets.faults import reading
from pcsa.datasets.files import existing
from pcsa.datasets.landmark_files.cells import cells_of, is_number, lines_of, number_of, shown
from pcsa.datasets.landmark_files.fcsv import only_one
from pcsa.datasets.landmark_files.landmarks import Landmarks, with_names

_COMMENTS = ("#", "//")


def read_picked(path: str | os.PathLike[str]) -> list[Landmarks]:
    """Read a list of picked points without a header, as CloudCompare saves it, and other programs do.

    A line is ``x,y,z``, ``label,x,y,z`` or ``x,y,z,label``, with commas, semicolons, tabs or blanks between. Without
    labels the names are the numbers of the lines, from 1, and so they are where a number before or behind the
    coordinates counts the lines from 0 or 1.

    Args:
        path: A `.csv` or `.txt`.

    Returns:
        One :class:`Landmarks`. The points are in the frame and units of the cloud.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If lines have different columns, a coordinate is no finite number, labels repeat, or it is not
            certain which columns are the coordinates; the message names the file, the line, the value and the rule.

    """
    with reading(existing(path), "a list of picked points"):
        return [picked(path, lines_of(path))]


def write_picked(path: str | os.PathLike[str], lists: Landmarks | Sequence[Landmarks]) -> None:
    """Write a list of landmarks as CloudCompare saves picked points: ``label,x,y,z``, without a header.

    Landmarks that are not defined are left out.

    Args:
        path: The file, which is replaced as a whole.
        lists: One list; the format has no place for more, nor for frames, units and descriptions.

    Raises:
        ValueError: If there are several, or a name has a comma or a quote.

    """
    landmarks = only_one(lists, path)
    lines = []
    for i in np.flatnonzero(landmarks.there).tolist():
        name, (x, y, z) = landmarks.names[i], landmarks.points[i].tolist()
        if set(name) & set(',"\n\r'):
            raise ValueError(f"`names` (has {name!r}) must have no comma, quote or line end: the format has no quotes")
        lines.append(f"{name},{x!r},{y!r},{z!r}")
    with replacing(Path(path)) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")


def picked(path: str | os.PathLike[str], lines: Sequence[tuple[int, str]]) -> Landmarks:
    """Return the landmarks in lines, each with its number."""
    lines = [(number, line) for number, line in lines if not line.startswith(_COMMENTS)]
    if not lines:
        raise ValueError("has no line of numbers")
    delimiter = next((mark for mark in (",", ";", "\t") if mark in lines[0][1]), None)
    rows = [(number, cells_of(line, number, delimiter)) for number, line in lines]
    labels, coordinates = _columns(rows)
    positions = [
        [number_of(cell, f"line {number}: `{axis}`") for axis, cell in zip("xyz", cells, strict=True)]
        for (number, _), cells in zip(rows, coordinates, strict=True)
    ]
    places = [f"line {number}" for number, _ in rows]
    return Landmarks(with_names(labels, places), np.array(positions).reshape(-1, 3), source=os.fspath(path))


def _columns(rows: Sequence[tuple[int, list[str]]]) -> tuple[list[str], list[list[str]]]:
    """Tell the labels from the coordinates."""
    width = len(rows[0][1])
    if width < 3:
        raise ValueError(f"line {rows[0][0]}: {width} columns, must be x, y and z, with or without a label")
    if width == 3:
        for number, cells in rows:
            if len(cells) != 3:
                raise ValueError(f"line {number}: {len(cells)} columns, the first line has 3")
        return [""] * len(rows), [cells for _, cells in rows]
    # A label may have commas of its own, and CloudCompare writes it first.
    front = all(len(cells) >= 4 and all(map(is_number, cells[-3:])) for _, cells in rows)
    back = all(len(cells) >= 4 and all(map(is_number, cells[:3])) for _, cells in rows)
    if front and back:
        if any(len(cells) != 4 for _, cells in rows):
            raise ValueError(f"line {rows[0][0]}: {width} columns of numbers, must be x, y and z, and at most a label")
        counts = [_counts([cells[place] for _, cells in rows]) for place in (0, 3)]
        if counts[0] == counts[1]:
            number, cells = rows[0]
            raise ValueError(
                f"line {number} (={shown(','.join(cells))}): four numbers, and it is not certain which are x, y and z: "
                "a first line must name the columns, such as name,x,y,z"
            )
        places = slice(1, 4) if counts[0] else slice(0, 3)
        return [""] * len(rows), [cells[places] for _, cells in rows]
    if front:
        return [",".join(cells[:-3]) for _, cells in rows], [cells[-3:] for _, cells in rows]
    if back:
        return [",".join(cells[3:]) for _, cells in rows], [cells[:3] for _, cells in rows]
    number, cells = next((n, c) for n, c in rows if len(c) < 4 or not all(map(is_number, c[-3:])))
    raise ValueError(f"line {number} (={shown(','.join(cells))}) must be x, y and z, with or without a label")


def _counts(cells: Sequence[str]) -> bool:
    """Whether cells count from 0 or 1."""
    return any(list(cells) == [str(start + i) for i in range(len(cells))] for start in (0, 1))
