"""Rows of numbers in text: what the text forms of PLY and OFF have in common."""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# What Microsoft's library prints for values that are not finite.
_NOT_FINITE = re.compile(r"[-+]?(?:nan\([^)\s]*\)|\d\.#[A-Za-z]+\d*)", re.IGNORECASE)


class Lines(NamedTuple):
    """The lines of a text that are not blank, each with its number in the file."""

    texts: list[str]
    numbers: list[int]

    def part(self, start: int, stop: int) -> "Lines":
        """Return the lines from ``start`` up to ``stop``."""
        return Lines(self.texts[start:stop], self.numbers[start:stop])


def text_lines(text: bytes, first: int = 1, comment: str | None = None) -> Lines:
    """Split a text of any line break into its lines, without those that are blank.

    Args:
        text: The text, of any encoding that agrees with ASCII on digits.
        first: Number of its first line in the file.
        comment: What begins a comment.

    """
    # splitlines would also split at form feeds and at bytes that Latin-1 calls line breaks.
    split = text.decode("latin-1").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    if comment is not None:
        split = [line.partition(comment)[0] for line in split]
    kept = [(line, number) for number, line in enumerate(split, first) if line.strip(" \t\0\f\v")]
    return Lines([line for line, _ in kept], [number for _, number in kept])


def number_rows(lines: Lines, width: int, more: bool = False) -> NDArray[np.float64]:
    """Parse lines of ``width`` numbers, `[len(lines), width]`.

    Args:
        lines: The lines.
        width: How many numbers a line has.
        more: Whether a line may have more, which are skipped.

    Raises:
        ValueError: If a line has fewer numbers, more of them, or something else; the message names it.

    """
    if not lines.texts:
        return np.empty((0, width))
    columns = range(width) if more else None
    rows = _parsed(lines.texts, columns)
    if rows is None:
        rows = _parsed([_NOT_FINITE.sub("nan", text) for text in lines.texts], columns)
    if rows is None or rows.shape != (len(lines.texts), width):
        raise ValueError(_odd_line(lines, width, more))
    return rows


def _parsed(texts: Sequence[str], columns: Sequence[int] | None) -> NDArray[np.float64] | None:
    try:
        return np.loadtxt(texts, dtype=np.float64, ndmin=2, comments=None, usecols=columns)
    except ValueError:
        return None


def _odd_line(lines: Lines, width: int, more: bool) -> str:
    for text, number in zip(*lines, strict=True):
        words = _NOT_FINITE.sub("nan", text).split()
        if len(words) < width or (len(words) > width and not more):
            return f"line {number}: {len(words)} values where {width} must stand (`{text.strip()[:60]}`)"
        for word in words[:width]:
            try:
                float(word)
            except ValueError:
                return f"line {number}: `{word[:40]}` must be a number"
    return f"lines {lines.numbers[0]} to {lines.numbers[-1]}: must be {width} numbers each"
