"""Clouds as text: lines of numbers, with or without names for their columns."""

import csv
import io
import math
import os
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pcsa.datasets.columns import Columns, cloud_of_columns, column_names, coordinates, plain_name, unnamed
from pcsa.datasets.faults import reading
from pcsa.datasets.limits import read_whole
from pcsa.datasets.point_cloud import PointCloud, finite_cloud

TEXTS = (".xyz", ".txt", ".pts", ".csv")
# Leica's scanners: after a line with the number of points.
_PTS = {4: ("x", "y", "z", "intensity"), 7: ("x", "y", "z", "intensity", "r", "g", "b")}
_COMMENT = re.compile(rb"#|//|%|!")
_NOT_FINITE = re.compile(rb"1\.#[A-Za-z]+\d*|nan\(\w+\)", re.IGNORECASE)  # what C's libraries print for NaN
_TAIL = re.compile(rb"(\.\d*(?:[eE][-+]\d*)?)?\s*$")
_MAX_HEADER = 50
_MISSING = (b"", b"NA", b"NULL", b"null")


class _Start(NamedTuple):
    """What stands before the numbers, and where these begin."""

    offset: int
    line: int
    declared: int | None
    titles: list[bytes]
    comments: list[bytes]


def read_text(
    path: str | os.PathLike[str], columns: Columns | None = None, *, drop_invalid: bool = False
) -> PointCloud:
    """Read the points of a text file: one a line, separated by spaces, tabs, commas or semicolons.

    Three columns are x, y and z. More are read where they are named: by ``columns``, by a line of names before the
    numbers (CSV; CloudCompare's ``//X Y Z R G B``), or, in a `.pts` file that begins with the number of its points, as
    Leica has them (x y z intensity, or x y z intensity r g b). Columns r, g and b become the colors, others are
    skipped. A point whose values are all empty or NA is not finite. A line that numbers the columns (pandas: ``0,1,2``)
    is no point. Where the file begins with the number of its points, it must be right. Comments begin with ``#``,
    ``//``, ``%`` or ``!``.

    Args:
        path: The file, in UTF-8, UTF-16 or Latin-1.
        columns: Names of all columns in their order, such as ``"label x y z"``; they replace those in the file.
        drop_invalid: Whether to leave out the points that are not finite, and count them.

    Raises:
        ValueError: If a line has other columns than the first or a value is no number, the columns are more than three
            and have no names, fewer or more points are there than declared, or a point is not finite; the message
            names the file and the line.

    """
    names = column_names(columns)
    with reading(path, "lines of points"):
        body = as_bytes(read_whole(path))
        if b"\n" not in body:
            body = body.replace(b"\r", b"\n")  # old Macintosh line ends
        start = _find_start(body)
        body = body[start.offset :]
        first = next((code for code in map(_code, io.BytesIO(body)) if code.strip(b",; \t")), b"")
        if not first:
            raise ValueError("has no line of numbers")
        delimiter = _delimiter(first, start.line)
        num_columns = _count_columns(first, delimiter, start)
        named = _names(start, num_columns, delimiter, names, Path(path).suffix.lower())
        if named is None and num_columns != 3:
            raise ValueError(unnamed(sum(bool(line.strip()) for line in body.split(b"\n")), num_columns))
        wanted = None if named is None else set(coordinates(named).values())
        table = parse_table(body, num_columns, first_line=start.line, delimiter=delimiter, wanted=wanted)
        if start.declared not in (None, len(table)):
            raise ValueError(f"declares {start.declared} points and holds {len(table)}")
        places = coordinates("xyz" if named is None else named)
        cloud = cloud_of_columns({name: table[:, place] for name, place in places.items()})
        return finite_cloud(cloud.points, cloud.colors, drop_invalid=drop_invalid)


def as_bytes(raw: bytes) -> bytes:
    """Return text without its byte-order mark, and UTF-16 as UTF-8."""
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raw = raw.decode("utf-16").encode()
    return raw.removeprefix(b"\xef\xbb\xbf")


def parse_table(
    body: bytes,
    num_columns: int,
    *,
    first_line: int = 1,
    delimiter: str | None = None,
    wanted: Collection[int] | None = None,
) -> NDArray[np.float64]:
    """Parse lines of numbers.

    Args:
        body: The lines.
        num_columns: Number of values that every line must have.
        first_line: The number of the first line, for messages.
        delimiter: What separates values: ``","``, ``";"``, or None for white space.
        wanted: The columns that must hold numbers; in the others anything else becomes NaN. Default: all.

    Returns:
        `[N, num_columns]`.

    Raises:
        ValueError: If a line has another number of values, one of them is no number, or the file is cut off within the
            last one as far as can be seen; the message names the line.

    """
    body = body.rstrip(b"\0\x1a")  # padding, and the mark with which DOS ends a text
    if not body.strip():
        return np.empty((0, num_columns))
    _check_end(body)
    try:
        # An order of magnitude faster than what follows, and right whenever it succeeds.
        table = np.loadtxt(io.BytesIO(body), dtype=np.float64, ndmin=2, comments=None, delimiter=delimiter)
    except ValueError:
        table = None
    if table is None or table.shape[1] != num_columns:
        table = _parse_lines(body, num_columns, first_line, delimiter, wanted or range(num_columns))
    return table


def _parse_lines(
    body: bytes, num_columns: int, first_line: int, delimiter: str | None, wanted: Collection[int]
) -> NDArray[np.float64]:
    """Parse lines that may have comments, words in columns that are not wanted, and numbers of other languages."""
    codes = [(number, _code(line)) for number, line in enumerate(body.splitlines(), first_line)]
    codes = [(number, code) for number, code in codes if code]
    for number, code in codes:
        count = len(_split(code, delimiter, num_columns))
        if count != num_columns:
            raise ValueError(f"line {number} has {count} values, must have {num_columns} (truncated?)")
    table = np.full((len(codes), num_columns), np.nan)
    if not codes:
        return table
    columns = sorted(wanted)
    try:
        lines = io.BytesIO(b"\n".join(code for _, code in codes))
        # A quote that does not end makes one line of two: that does not fit, and is found below.
        table[:, columns] = np.loadtxt(
            lines, ndmin=2, comments=None, delimiter=delimiter, usecols=columns, quotechar='"'
        )
    except ValueError:
        table[:, columns] = [
            _parse_line(number, _split(code, delimiter, num_columns), columns) for number, code in codes
        ]
    return table


def _parse_line(number: int, values: Sequence[bytes], columns: Sequence[int]) -> list[float]:
    cells = [values[column] for column in columns]
    if _is_missing(cells):
        return [math.nan] * len(columns)  # a point that is not there, as pandas and R write it
    row = []
    for value in cells:
        parsed = _number(value)
        if parsed is None:
            text = value.decode("latin-1")[:40]
            comma = "; write decimals with a point" * (re.fullmatch(r"[-+]?\d+,\d+", text) is not None)
            raise ValueError(
                f"line {number}: `{text}` must be a number{comma}" if text else f"line {number} lacks a value"
            )
        row.append(parsed)
    return row


def _code(line: bytes) -> bytes:
    """Return a line without its comment, and with ``nan`` for all spellings of what is not finite."""
    if b"#" in line or b"(" in line:
        line = _NOT_FINITE.sub(b"nan", line)
    comment = _COMMENT.search(line)
    return (line if comment is None else line[: comment.start()]).strip(b"\0 \t\r\n")


def _split(code: bytes, delimiter: str | None, num_columns: int = 0) -> list[bytes]:
    """Split a line; some programs end each with a separator, after which nothing is one more value only by number."""
    if delimiter is None:
        return code.split()
    if b'"' in code:
        cells = next(csv.reader([code.decode("latin-1")], delimiter=delimiter, skipinitialspace=True))
        values = [cell.encode("latin-1") for cell in cells]
    else:
        values = code.split(delimiter.encode())
    if len(values) > 1 and len(values) != num_columns and not values[-1].strip():
        del values[-1]
    return values


def _number(value: bytes) -> float | None:
    value = value.strip(b"\"' \t")
    if re.fullmatch(rb"[-+]?[\d.]+[dD][-+]?\d+", value):  # Fortran's doubles
        value = value.lower().replace(b"d", b"e")
    try:
        return None if b"_" in value else float(value)
    except ValueError:
        return None


def _is_missing(cells: Sequence[bytes]) -> bool:
    return all(cell.strip(b"\"' ") in _MISSING for cell in cells)


def _check_end(body: bytes) -> None:
    """Raise if a file that is cut off within its last number shows it.

    A last line without a line break is common and valid. Where all of the lines before it have one number of decimals,
    and the last one has fewer, its end is missing.
    """
    *before, last = body.rsplit(b"\n", 100)
    if body.endswith(b"\r") or not _code(last):
        return
    tails = {_tail(line) for line in before[1:]}
    if len(before) > 30 and len(tails) == 1:
        (tail,) = tails
        if len(tail) > 3 and len(_tail(last)) < len(tail):
            raise ValueError("the last line ends within a number (truncated?)")


def _tail(line: bytes) -> bytes:
    match = _TAIL.search(line)
    return b"" if match is None or match[1] is None else re.sub(rb"[-+\d]", b"0", match[1])


def _find_start(body: bytes) -> _Start:
    offset, number, declared = 0, 1, None
    titles: list[bytes] = []
    comments: list[bytes] = []
    numbered = False
    while offset < len(body):
        end = body.find(b"\n", offset) + 1 or len(body)
        line = body[offset:end].strip(b"\0\x1a \t\r\n")
        code = _code(line)
        values = re.split(rb"[\s,;]+", code)
        if line and not code:
            comments.append(line.lstrip(b"#/%! \t"))
        elif code and declared is None and len(values) == 1 and re.fullmatch(rb"\d+", code):
            declared = int(code)
        elif titles and code and _is_missing(re.split(rb"[,;\t ]", code)):
            break  # values that are missing
        elif code and not numbered and _numbers_columns(code, body[end : end + 4000]):
            numbered = True
        elif code and _has_numbers(code, values):
            break
        elif code:
            titles.append(line)
            if len(titles) > _MAX_HEADER:
                raise ValueError(f"no line of numbers among the first {number} lines")
        offset, number = end, number + 1
    return _Start(offset, number, declared, titles, comments)


def _has_numbers(code: bytes, words: Sequence[bytes]) -> bool:
    """Whether a line is one of numbers; a name may end with one, as in `x,y,z,Scalar field 2`."""
    cells = re.split(rb"[,;]", code) if re.search(rb"[,;]", code) else words
    return any(_number(cell) is not None for cell in cells) or all(_number(word) is not None for word in words)


def _numbers_columns(code: bytes, following: bytes) -> bool:
    """Whether a line numbers the columns, 0,1,2, as pandas writes those that have no names.

    Such a line is a point too. It is taken for numbers of columns if its first cell is empty, or if each value in the
    next lines has a decimal point; and never between spaces, where pandas is rarely the writer.
    """
    cells = [cell.strip(b"\"' ") for cell in re.split(rb"[,;\t ]", code)]
    indexed = not cells[0]
    cells = cells[indexed:]
    if not re.search(rb"[,;\t]", code) or len(cells) < 3 or cells != [b"%d" % i for i in range(len(cells))]:
        return False
    rows = [row for row in following.splitlines()[:20] if row.strip()]
    values = [value for row in rows for value in re.split(rb"[,;\t ]+", row.strip()) if value]
    return indexed or (bool(values) and all(re.search(rb"[.eE]|nan|inf", value) is not None for value in values))


def _delimiter(first: bytes, line: int) -> str | None:
    decimal_commas = rb"\d,\d+\s+[-+]?\d"  # 1,5 2,5
    if b";" in first:
        delimiter, decimal_commas = ";", rb"\d,\d"
    elif b"," in first:
        delimiter = ","
    else:
        return None
    if re.search(decimal_commas, first):
        text = first.decode("latin-1")[:40]
        raise ValueError(f"line {line}: `{text}` has decimal commas: write decimals with a point")
    return delimiter


def _names(
    start: _Start, num_columns: int, delimiter: str | None, given: tuple[str, ...] | None, suffix: str
) -> tuple[str, ...] | None:
    """Return the names of the columns: given, from a line before the numbers, or from the format."""
    if given is not None:
        if len(given) != num_columns:
            raise ValueError(f"`columns` (={' '.join(given)!r}) names {len(given)} columns, the file has {num_columns}")
        return given
    for line in start.titles + start.comments:
        names = tuple(plain_name(name) for name in _title_names(line, delimiter))
        if len(names) == num_columns + 1 and not names[-1]:
            names = names[:-1]
        if len(names) == num_columns and (line in start.titles or set(names) & set("xyz")):
            if not set("xyz") <= set(names):
                raise ValueError(
                    f"the columns are called {', '.join(names)[:80]}: say by `columns` which are x, y and z"
                )
            return names
    if start.titles:
        title = start.titles[0].decode("latin-1")[:60]
        raise ValueError(f"`{title}` is neither numbers nor names of the {num_columns} columns; `columns` names them")
    if suffix == ".pts" and start.declared is not None:
        return _PTS.get(num_columns)
    return None


def _count_columns(first: bytes, delimiter: str | None, start: _Start) -> int:
    """Count the columns by the first line of numbers; its last value may be missing where that column has a name."""
    names = [_title_names(line, delimiter) for line in start.titles]
    return len(_split(first, delimiter, max((len(line) for line in names if line[-1]), default=0)))


def _title_names(line: bytes, delimiter: str | None) -> list[str]:
    text = line.decode("utf-8", errors="replace").strip()
    sign = next((sign for sign in (delimiter, ";", ",") if sign is not None and sign in text), None)
    return [name.strip() for name in text.split(sign)]
