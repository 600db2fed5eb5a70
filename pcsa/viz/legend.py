"""Write text into pictures, and legends beside them: within bounds, whatever the number and the letters of names."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pcsa.viz.colors import Array, heat, strengths

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

Color = tuple[int, int, int]

MAX_WIDTH = 640
"""A legend may be as wide as its picture, and at least so wide; what has no room is counted in its last line."""
_SMALLEST = 11


class Entry(NamedTuple):
    """A line of the legend: the text, and the mark before it in its color."""

    mark: str
    text: str
    color: Color = (70, 70, 70)


def rgb(color: Array) -> Color:
    """Convert a color of 0 to 1 to that of Pillow."""
    red, green, blue = (color * 255 + 0.5).astype(int).tolist()
    return red, green, blue


@cache
def _font_file(name: str = "DejaVuSans.ttf") -> str:
    import matplotlib

    # Matplotlib brings it along: the same letters on every machine, Greek and Cyrillic among them.
    return str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name)


@cache
def _letters(file: str) -> frozenset[int]:
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(FT2Font(file).get_charmap())
    except RuntimeError:  # a font in a format that it does not know
        return frozenset()


@cache
def _file_for(letters: frozenset[int]) -> str | None:
    """Find a font of this machine that has all of some letters; None if there is none."""
    from matplotlib.font_manager import fontManager

    # The last resort draws every letter as the same box.
    files = [_font_file(), *sorted({f.fname for f in fontManager.ttflist if "LastResort" not in f.fname})]
    return next((file for file in files if letters <= _letters(file) and _opens(file)), None)


def _opens(file: str) -> bool:
    from PIL import ImageFont

    try:
        ImageFont.truetype(file, 12)
    except OSError:  # of pictures in one size, as those of emoji
        return False
    return True


def plain(text: str, fallback: bool = True) -> str:
    """Return text on one line, in which a letter without a font here is its number in brackets.

    Args:
        text: Any text.
        fallback: Whether other fonts of the machine are searched for letters.
    """
    # Marks that turn the direction of what follows are no text, nor are halves of letters.
    kinds = {"Cc": " ", "Cf": "", "Cs": "\ufffd"}
    line = " ".join("".join(kinds.get(unicodedata.category(c), c) for c in text).split())
    letters = frozenset(map(ord, line))
    missing = letters - _letters(_font_file())
    if not missing or (fallback and _file_for(letters)):
        return line
    return "".join(f"⟨{ord(c):X}⟩" if ord(c) in missing else c for c in line)


@cache
def _font(file: str, size: int) -> Any:
    from PIL import ImageFont

    return ImageFont.truetype(file, size)


def font_of(size: int, text: str = "") -> Any:
    """Return the font of titles and legends, ``size`` pixels high, that has the letters of a text."""
    file = None if text.isascii() else _file_for(frozenset(map(ord, text)))
    return _font(file or _font_file(), size)


def shortened(text: str, width: float, size: int) -> str:
    """Return a text that is at most ``width`` pixels wide: its middle gives way, as names differ at their ends."""
    text = plain(text)
    font = font_of(size, text)
    if len(text) < 1000 and font.getlength(text) <= width:
        return text
    few, many = 1, min(len(text), 1000)
    while many - few > 1:
        half = (few + many) // 2
        few, many = (half, many) if font.getlength(_cut(text, half)) <= width else (few, half)
    return _cut(text, few)


def _cut(text: str, kept: int) -> str:
    return text[: -(-kept // 2)] + "…" + text[len(text) - kept // 2 :]


def write(picture: Image, place: tuple[float, float], text: str, size: int, color: Any, anchor: str) -> None:
    """Write a text into a picture."""
    from PIL import ImageDraw

    ImageDraw.Draw(picture).text(place, text, fill=color, font=font_of(size, text), anchor=anchor)


def beside(picture: Image, entries: Sequence[Entry]) -> Image:
    """Put a legend at the right of a picture, in as many columns as its height needs and its width allows.

    Where the entries are too many for :data:`MAX_WIDTH` or the width of the picture, letters become smaller, and then
    the last line counts what is left out.
    """
    from PIL import Image, ImageDraw, ImageOps

    if not entries:
        return picture
    limit = max(picture.width, MAX_WIDTH)
    for font in range(int(np.clip(picture.height // 40, _SMALLEST + 1, 17)), _SMALLEST - 1, -1):
        step = int(1.7 * font)
        texts = [shortened(e.text, 16 * font, font) for e in entries]
        # A flat picture gives its legend more room than it has itself.
        rows = max(1, min(len(entries), 10), (picture.height - step) // step)
        columns = -(-len(entries) // rows)
        rows = -(-len(entries) // columns)
        widths = _widths(texts, rows, font)
        if sum(widths) <= limit:
            break
    else:
        rows = max(rows, (picture.height - step) // step)
        widths = _widths(texts, rows, font)
        while len(widths) > 1 and sum(widths) > limit:
            del widths[-1]
        kept = rows * len(widths) - 1
        entries = [*entries[:kept], Entry("", f"… and {len(entries) - kept:,} more")]
        texts = [*texts[:kept], entries[-1].text]
    height, width = max(picture.height, (rows + 1) * step), sum(widths)
    spare = height - picture.height
    sheet = ImageOps.expand(picture, (0, spare // 2, width, spare - spare // 2), "white")
    # Drawn three times as large, and made smaller: Pillow's circles have no smooth edges.
    marks = Image.new("RGB", (3 * width, 3 * height), "white")
    pen = ImageDraw.Draw(marks)
    left = np.cumsum([0, *widths])
    places = [
        (left[n // rows] + font, (height - rows * step) / 2 + (n % rows + 0.5) * step) for n in range(len(entries))
    ]
    for (x, y), entry in zip(places, entries, strict=True):
        _mark(pen, entry, 3 * (x + 0.6 * font), 3 * y, 1.26 * font)
    sheet.paste(marks.reduce(3), (picture.width, 0))
    for (x, y), text in zip(places, texts, strict=True):
        write(sheet, (picture.width + x + 1.9 * font, y), text, font, "black", "lm")
    return sheet


def _widths(texts: Sequence[str], rows: int, font: int) -> list[int]:
    """Return the widths of the columns, with their marks."""
    lengths = [font_of(font, text).getlength(text) for text in texts]
    return [int(max(lengths[n : n + rows])) + 4 * font for n in range(0, len(texts), rows)]


# Middles, half widths and half heights of a mark's ovals; ends of its lines. In units of a ball's radius.
_OVALS: dict[str, list[tuple[float, float, float, float]]] = {
    "ball": [(0, 0, 1, 1)],
    "ring": [(0, 0, 1.2, 1.2)],
    "ellipse": [(0, 0, 1.4, 0.8), (0, 0, 0.5, 0.8), (0, 0, 1.4, 0.25)],
    "dots": [(x, y, 0.2, 0.2) for x, y in ((-1.0, 0.4), (-0.3, -0.5), (0.3, 0.5), (0.9, -0.2), (-0.2, 0.1))],
}
_STROKES = {"line": [(-1.4, 1.4)], "dashes": [(-1.5, -0.7), (-0.4, 0.4), (0.7, 1.5)]}
_SCALES: dict[str, Callable[[Array], Array]] = {"heat": heat, "bar": strengths}


def _mark(pen: ImageDraw, entry: Entry, x: float, y: float, r: float) -> None:
    edge = {"ring": 0.5, "ellipse": 0.2}.get(entry.mark)
    how: dict[str, Any] = {"fill": entry.color} if edge is None else {"outline": entry.color, "width": int(edge * r)}
    for dx, dy, a, b in _OVALS.get(entry.mark, ()):
        pen.ellipse([x + (dx - a) * r, y + (dy - b) * r, x + (dx + a) * r, y + (dy + b) * r], **how)
    if entry.mark == "dashes":  # white in a dark casing
        for start, stop in _STROKES["dashes"]:
            pen.rectangle([x + start * r, y - 0.4 * r, x + stop * r, y + 0.4 * r], "white", "black", int(0.2 * r))
        return
    if entry.mark == "cross":  # open in the middle
        for dx, dy in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
            ends = [x + 0.45 * dx * r, y + 0.45 * dy * r, x + 1.1 * dx * r, y + 1.1 * dy * r]
            pen.line(ends, fill=entry.color, width=int(0.35 * r))
    for start, stop in _STROKES.get(entry.mark, ()):
        pen.line([x + start * r, y, x + stop * r, y], fill=entry.color, width=int(0.35 * r))
    if entry.mark in _SCALES:
        at = np.linspace(0, 1, 24)
        for left, tint in zip(x + (3 * at * 23 / 24 - 1.5) * r, _SCALES[entry.mark](at), strict=True):
            pen.rectangle([left, y - r, left + 0.15 * r, y + r], fill=rgb(tint))
