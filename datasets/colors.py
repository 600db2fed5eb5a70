"""Colors of files, in whatever range they are stored, as bytes."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def color_bytes(values: NDArray[Any]) -> NDArray[np.uint8] | None:
    """Return stored colors as uint8, by one rule for all formats.

    Integers up to 255 are bytes, whatever their type: many programs write bytes into the 16 bits of a LAS file.
    Integers up to 65535 are 16 bits, of which the upper 8 are kept. Of floats, those up to 1 are shares, and those up
    to 255 are bytes.

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
    if values.dtype.kind == "f":
        if most > 255:
            return None
        return np.rint(values * (255 if most <= 1 else 1)).astype(np.uint8)
    if most > 65535:
        return None
    return (values if most <= 255 else values.astype(np.int64) >> 8).astype(np.uint8)
