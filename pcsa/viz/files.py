"""Write pictures into files: PNG, or SVG and PDF for papers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from pcsa._core.writing import replacing

if TYPE_CHECKING:
    from PIL.Image import Image

PictureFormat = Literal["png", "svg", "pdf"]

_DPI = 100


def short_ids(text: str) -> str:
    """Shorten long hexadecimal ids in a title, such as those of ShapeNet's models, to their ends.

    Example:
        >>> short_ids("chair 70637361ce74408201945ae87d45dd32, seen from above")
        'chair 7063…dd32, seen from above'
    """
    return re.sub(r"\b([0-9a-f]{4})[0-9a-f]{12,}([0-9a-f]{4})\b", r"\1…\2", text)


def write_picture(path: Path | str, picture: Image, title: str = "") -> None:
    """Write a drawn picture into a file; folders are made if need be.

    Args:
        path: A file that ends in ``.svg`` or ``.pdf`` holds the picture's pixels, without loss; any other is a PNG.
        picture: The picture.
        title: What the file says of itself, unseen: such as the whole of the ids that the picture shortens.
    """
    path = Path(path)
    with replacing(path) as temporary:
        if path.suffix in (".svg", ".pdf"):
            from matplotlib.figure import Figure

            size = (picture.width / _DPI, picture.height / _DPI)
            figure = Figure(figsize=size, dpi=_DPI)
            figure.figimage(np.asarray(picture.convert("RGB")))
            # Without a date the same picture makes the same file.
            about = {"Title": title or None, "Date" if path.suffix == ".svg" else "CreationDate": None}
            figure.savefig(temporary, format=path.suffix[1:], dpi=_DPI, metadata=about)
        else:
            from PIL.PngImagePlugin import PngInfo

            info = PngInfo()
            if title:
                info.add_itxt("Title", title)
            # Level 6, the default, takes four times as long for a tenth less.
            picture.save(temporary, format="PNG", compress_level=2, pnginfo=info)
