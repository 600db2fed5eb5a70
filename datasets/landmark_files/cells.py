"""Cells of text: numbers, flags, and the lines that hold them."""

import csv
import math
import os
import re

from pcsa.datasets.limits import check_regular
from pcsa.datasets.lines import text_lines

MOST_BYTES = 2**26
"""Bytes of a file of landmarks: 64 MiB hold half a million of them."""

MISSING = ("", "na", "nan", "n/a", "null", "none", "-")
"""What stands for a number that is missing, in lower case."""

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")


def check_small(path: str | os.PathLike[str]) -> None:
    """Raise a ValueError if a file of landmarks is no regular file, or has more than :data:`MOST_BYTES`."""
    check_regular(path)
    if (size := os.stat(path).st_size) > MOST_BYTES:
        raise ValueError(f"`{os.fspath(path)}`: {size} bytes, must be at most {MOST_BYTES} for a file of landmarks")


def lines_of(path: str | os.PathLike[str]) -> list[tuple[int, str]]:
    """Read the lines of a small text file that are not blank, each with its number from 1."""
    check_small(path)
    return text_lines(path, tabs=True)


def cells_of(line: str, number: int, delimiter: str | None) -> list[str]:
    """Split a line into its cells, without blanks around them; quotes may hold the delimiter.

    Args:
        line: The line.
        number: Its number, for messages.
        delimiter: One character, or None for white space.

    """
    if delimiter is None:
        return line.split()
    try:
        (cells,) = csv.reader([line], delimiter=delimiter, skipinitialspace=True, strict=True)
    except (csv.Error, ValueError) as error:
        raise ValueError(f"line {number}: cannot be split at {delimiter!r} ({error})") from error
    return [cell.strip() for cell in cells]


def is_number(text: str) -> bool:
    """Whether a cell is a number, in the C locale and finite."""
    return _NUMBER.fullmatch(text.strip()) is not None and math.isfinite(float(text))


def number_of(text: str, what: str) -> float:
    """Return the number in a cell.

    Raises:
        ValueError: If it holds none, or one that is not finite.

    Example:
        >>> number_of("1.5e2", "line 3: `x`")
        150.0

    """
    if not is_number(text):
        raise ValueError(f"{what} (={shown(text)}) must be a finite number")
    return float(text)


def flag_of(text: str, what: str) -> bool:
    """Return the truth in a cell: 1 or 0, true or false, yes or no; an empty one is true.

    Example:
        >>> flag_of("0", "line 3: `defined`"), flag_of("TRUE", "line 3: `defined`")
        (False, True)

    """
    word = text.strip().lower()
    if word in ("", "1", "1.0", "true", "yes", "y"):
        return True
    if word in ("0", "0.0", "false", "no", "n"):
        return False
    raise ValueError(f"{what} (={shown(text)}) must be 1 or 0")


def shown(value: object) -> str:
    """Show a value of a file in a message, cut off where it is long."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
