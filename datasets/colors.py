"""Colors of points, as files spell them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def from_channels(channels: NDArray[Any]) -> NDArray[np.uint8] | None:
    """Return the colors that three numbers of each point spell.

    Args:
        channels: `[N, 3]` (r, g, b): whole numbers from 0 to 255, whole numbers from 0 to 65535 (as LAS has them) of
            which one is above 255, or fractions from 0 to 1.

    Returns:
        `[N, 3]` uint8, or None where the numbers are anything else.

    """
    if channels.dtype.kind not in "fiu" or not np.isfinite(channels).all() or channels.min(initial=0) < 0:
        return None
    most = channels.max(initial=0)
    if channels.dtype.kind == "f":
        if most <= 1:
            return np.rint(channels.astype(np.float64) * 255).astype(np.uint8)
        if most > 65535 or (channels != np.rint(channels)).any():
            return None
    if most > 65535:
        return None
    return (channels.astype(np.int64) >> (8 if most > 255 else 0)).astype(np.uint8)


def from_packed(packed: NDArray[Any]) -> NDArray[np.uint8] | None:
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
