"""The one rule for the values of pictures, scans and volumes: what 0 and 1 stand for in a file."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pcsa._core.checks import check_interval

#: What 0 and 1 stand for in a file: its lowest and its highest possible value.
ValueRange = tuple[float, float]


def unit_values(
    values: NDArray[Any], value_range: ValueRange | None = None, *, bits: int | None = None
) -> NDArray[np.float32]:
    """Bring the values of a file to 0 to 1; nothing is guessed, and nothing is clipped.

    ============================  =====================================================================
    values                        without ``value_range``
    ============================  =====================================================================
    bool                          0 and 1
    unsigned integers of 8 bits   divided by 255
    of more bits                  divided by the largest of the type; refused if they use less than a
                                  quarter of it, as 10 to 14 bits stored in 16 do
    floats                        as they are: from 0 to 1, or refused
    signed integers, any other    refused
    ============================  =====================================================================

    With ``value_range`` (low, high), numbers of every type become (value - low) / (high - low).

    Args:
        values: Numbers or bools of any shape, at least one.
        value_range: What 0 and 1 stand for. Default: see the table.
        bits: The number of bits that the file declares for unsigned integers. Default: those of the type.

    Raises:
        ValueError: If a value is not finite or out of the range, or the range is not known; the message has the
            values' own range and the rule.

    Example:
        >>> unit_values(np.array([0, 51, 255], dtype=np.uint8)).tolist()
        [0.0, 0.20000000298023224, 1.0]
        >>> unit_values(np.array([0, 2048, 4096], dtype=np.int16), (0, 4096)).tolist()
        [0.0, 0.5, 1.0]

    """
    kind = values.dtype.kind
    if kind not in "bfiu" or values.size == 0:
        raise ValueError(f"values ({values.dtype} {list(values.shape)}) must be numbers, at least one")
    if kind == "f" and not np.isfinite(values).all():
        first = [int(i) for i in np.argwhere(~np.isfinite(values))[0]]
        count = int((~np.isfinite(values)).sum())
        raise ValueError(f"values ({values.dtype}) must be finite: {count} are NaN or infinite, the first at {first}")
    least, most = values.min().item(), values.max().item()
    seen = f"values ({values.dtype}, from {least:g} to {most:g})"
    if value_range is not None:
        check_interval("value_range", value_range)
        low, high = value_range
        if least < low or most > high:
            raise ValueError(f"{seen} must be from {low:g} to {high:g}, the `value_range`")
        return ((values.astype(np.float64) - low) / (high - low)).astype(np.float32)
    if kind == "b":
        return values.astype(np.float32)
    if kind == "f":
        if least < 0 or most > 1:
            raise ValueError(f"{seen} must be from 0 to 1, or `value_range` must say what 0 and 1 stand for")
        return values.astype(np.float32)
    if kind == "i":
        raise ValueError(f"{seen} must come with `value_range`: signed integers do not say what 1 stands for")
    size = 8 * values.dtype.itemsize if bits is None else bits
    full = 2**size - 1
    if size > 8 and bits is None and 0 < most < full / 4:
        needed = max(8, most.bit_length())
        raise ValueError(
            f"{seen} use less than a quarter of {size} bits: `value_range` must say what 1 stands for, such as "
            f"(0, {2**needed - 1}) for {needed} bits or (0, {full}) for {size}"
        )
    if most > full:
        raise ValueError(f"{seen} must be at most {full}, of {size} bits")
    if size <= 16:
        unit: NDArray[np.float32] = values.astype(np.float32) / np.float32(full)
        return unit
    return (values.astype(np.float64) / np.float64(full)).astype(np.float32)
