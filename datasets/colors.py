"""Colors of files, in whatever range they are stored, as bytes."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def color_bytes(values: NDArray[Any]) -> NDArray[np.uint8] | None:
    """Return stored colors as uint8, by one rule for all formats.

    Integers up to 255 are bytes, whatever their type: many programs write bytes into the 16 bits of a LAS file.
    Integers up to 65535 are 16 bits, of which the upper 8 are kept. Of floats, those up to 1 are shares; above, whole
    numbers are like integers (a text has no types), and others up to 255 are bytes.

    Args:
        values: Colors of a whole file, of any shape.

    Returns:
        The colors in the shape of ``values``; None if there are none, or if their values fit none of these ranges.

    Example:
        >>> color_bytes(np.array([0.0, 0.5, 1.0])), color_bytes(np.array([0, 65535]))
        (array([  0, 128, 255], dtype=uint8), array([  0, 255], dtype=uint8))

    """
    if values.size == 0 or not np.isfinite(values).all() or values.min() < 0:
        return None
    most = values.max()
    if values.dtype.kind == "f" and not (1 < most <= 65535 and (values == np.rint(values)).all()):
        if most > 255:
            return None
        return np.rint(values * (255 if most <= 1 else 1)).astype(np.uint8)
    if most > 65535:
        return None
    return (values if most <= 255 else values.astype(np.int64) >> 8).astype(np.uint8)


def unpack_colors(packed: NDArray[Any]) -> NDArray[np.uint8] | None:
    """Return the colors in ``r << 16 | g << 8 | b``, stored as an integer or as a float with those bits.

    Args:
        packed: `[N]`. What is above the lowest 24 bits is opacity.

    Returns:
        `[N, 3]` uint8, or None for a number that has lost bits: a NaN in another size than four bytes.

    """
    if packed.dtype.kind == "f":
        if packed.dtype.itemsize != 4:
            if not np.isfinite(packed).all():
                return None
            with np.errstate(over="ignore"):
                packed = packed.astype(np.float32)
        packed = np.ascontiguousarray(packed, dtype="<f4").view("<u4")
    bits = packed.astype(np.int64)
    return np.stack([bits >> 16 & 255, bits >> 8 & 255, bits & 255], axis=1).astype(np.uint8)
