"""Tables and numbers as ``pcsa`` prints them: readable in a terminal, and valid Markdown."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pcsa.metrics import THRESHOLDS

_MOST_SHOWN = 8


def markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Align the cells of a table.

    Example:
        >>> print(markdown_table(["method", "PCK"], [["soft", "40.6"], ["sampling", "48.8"]]))
        | method   | PCK  |
        | -------- | ---- |
        | soft     | 40.6 |
        | sampling | 48.8 |
    """
    # Some readers of Markdown want three dashes.
    widths = [max(3, *(len(cell) for cell in column)) for column in zip(heads, *rows, strict=True)]
    lines = [heads, ["-" * width for width in widths], *rows]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    )


def number(value: float | None, digits: int) -> str:
    """A number with so many decimals; a dash if there is none."""
    return "–" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def shown_thresholds(thresholds: Sequence[float]) -> list[int]:
    """Places of the thresholds that tables show: all that were asked for, unless they are too many for a line."""
    if tuple(thresholds) == THRESHOLDS:
        return [i for i, t in enumerate(thresholds) if t in (0.01, 0.02, 0.05, 0.1)]
    if len(thresholds) <= _MOST_SHOWN:
        return list(range(len(thresholds)))
    return sorted({round(i * (len(thresholds) - 1) / (_MOST_SHOWN - 1)) for i in range(_MOST_SHOWN)})
