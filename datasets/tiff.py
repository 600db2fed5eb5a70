"""TIFF files that Pillow reads wrongly or not at all, through tifffile.

Pillow wraps unsigned integers of 32 bits, drops the sign of 8 bits, keeps 8 of the 16 bits of colors, takes gray of 16
bits that counts from white for gray that counts from black, and refuses floats of 16 and 64 bits. tifffile cannot
decompress JPEG or LZW by itself, so that what Pillow reads rightly stays Pillow's.
"""

import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pcsa.datasets.limits import check_pixels, check_unpacked

_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_BITS, _PHOTOMETRIC, _DESCRIPTION, _FORMAT = 258, 262, 270, 339  # tags
_UNSIGNED, _FLOAT, _UNKNOWN = 1, 3, 4  # values of the tag for the format
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB = 0, 1, 2  # values of the tag for the photometric interpretation
_REDUCED, _MASK = 1, 4  # flags of a page that is no picture of its own
_MOST_PAGES = 10_000
_OPACITY = 2  # value of the tag for extra samples: an opacity that colors are not multiplied by


def is_tiff(path: Path) -> bool:
    """Whether a file begins as a TIFF does."""
    with open(path, "rb") as file:
        return file.read(4) in _MAGIC


def needs_tifffile(tags: Mapping[int, Any]) -> bool:
    """Whether Pillow would read a page with these tags wrongly."""
    bits, formats = tags.get(_BITS, (1,)), tags.get(_FORMAT, (_UNSIGNED,))
    unsigned = set(formats) <= {_UNSIGNED, _UNKNOWN}
    if max(bits) <= 8:
        return not unsigned
    if len(bits) > 1 or tags.get(_PHOTOMETRIC) != _BLACK_IS_ZERO:
        return True
    return not (bits[0] in (12, 16) and unsigned) and not (bits[0] == 32 and set(formats) == {_FLOAT})


def declared_bits(tags: Mapping[int, Any]) -> int | None:
    """Return the number of bits of the values if the type that holds them has more."""
    bits = max(tags.get(_BITS, (1,)))
    return int(bits) if bits in (10, 12, 14) else None


def may_have_more(tags: Mapping[int, Any]) -> bool:
    """Whether a page says, as ImageJ's do, that pictures follow it without pages of their own."""
    return "images=" in str(tags.get(_DESCRIPTION, ""))


def num_pages(path: Path) -> int:
    """Count the pictures of a file, without smaller copies and masks; ImageJ's stacks may have one page for all."""
    import tifffile

    _check_chain(path)
    with tifffile.TiffFile(path) as file:
        return _count(file)


def _check_chain(path: Path) -> None:
    """Raise if pages follow each other in a circle, which tifffile would go round four million times."""
    with open(path, "rb") as file:
        head = file.read(16).ljust(16, b"\0")
        order, big = "<" if head.startswith(b"II") else ">", 43 in head[2:4]
        count_type, entry, next_type = ("Q", 20, "Q") if big else ("H", 12, "I")
        (place,) = struct.unpack(order + next_type, head[8:16] if big else head[4:8])
        seen: set[int] = set()
        while place:
            if place in seen or len(seen) >= _MOST_PAGES:
                raise ValueError(
                    f"pages (at least {len(seen)}) must be at most {_MOST_PAGES}, and no page follow itself"
                )
            seen.add(place)
            file.seek(place)
            (count,) = struct.unpack(order + count_type, file.read(struct.calcsize(count_type)))
            file.seek(count * entry, os.SEEK_CUR)
            (place,) = struct.unpack(order + next_type, file.read(struct.calcsize(next_type)))


def _count(file: Any) -> int:
    pages = sum(not page.subfiletype & (_REDUCED | _MASK) for page in file.pages)
    if pages == 0:
        return 0
    images = (file.imagej_metadata or {}).get("images", 1)
    return max(pages, int(images))


def read_tiff(path: Path) -> tuple[NDArray[Any], NDArray[np.float32] | None]:
    """Read the values of the one picture in a file, `[H, W]` or `[H, W, 3]`, and its opacity `[H, W]`.

    The type is the file's own. Colors that the file has multiplied by their opacity come without it: they lie on black.

    Raises:
        ValueError: If the file holds several pictures, or one that is neither gray nor RGB.

    """
    import tifffile

    _check_chain(path)
    with tifffile.TiffFile(path) as file:
        number = _count(file)
        if number != 1:
            raise ValueError(f"must hold one picture: it has {number}")
        page: Any = file.pages[0]
        tag = page.tags.get("Orientation")
        if tag is not None and tag.value != 1:
            raise ValueError(f"orientation (={int(tag.value)}) must be 1 in a TIFF of {page.dtype}")
        if page.photometric not in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB):
            kind = page.photometric.name
            raise ValueError(f"photometric interpretation ({kind}) of {page.dtype} must be gray or RGB")
        # Depth, and copies of a picture in one page, count as well.
        check_pixels(path, page.imagewidth, page.imagelength * max(1, page.imagedepth))
        check_unpacked("the picture", page.size * page.dtype.itemsize, path)
        try:
            values, axes = page.asarray(), page.axes
        except ValueError as error:
            kind, message = page.compression.name, "must be none, packed bits or deflate: save the picture anew"
            if "imagecodecs" not in str(error):
                raise
            raise ValueError(f"compression ({kind}) of {page.dtype} {message}") from error
        if page.photometric == _WHITE_IS_ZERO:
            if values.dtype.kind != "u" or page.samplesperpixel != 1:
                raise ValueError(f"gray that counts from white ({page.dtype}) must be unsigned integers")
            values = np.iinfo(values.dtype).max - values
        extra = tuple(int(kind) for kind in page.extrasamples)
    if axes == "SYX":
        values, axes = values.transpose(1, 2, 0), "YXS"
    colors = 3 if page.photometric == _RGB else 1
    if axes not in ("YX", "YXS") or (axes == "YX") != (page.samplesperpixel == 1):
        raise ValueError(f"axes ({axes}) must be those of one picture")
    if axes == "YX":
        return values, None
    if values.shape[2] < colors or values.shape[2] > colors + 1:
        raise ValueError(f"channels (={values.shape[2]}) must be {colors}, or one more for the opacity")
    alpha = None
    if extra == (_OPACITY,):
        full = np.iinfo(values.dtype).max if values.dtype.kind in "iu" else 1
        alpha = (values[:, :, colors].astype(np.float64) / full).astype(np.float32)
    values = values[:, :, :colors]
    return (values[:, :, 0] if colors == 1 else values), alpha
