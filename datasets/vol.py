"""Heidelberg's raw volumes of retinal scans: ``.vol`` files."""

import os
import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pcsa.datasets.faults import reading
from pcsa.datasets.files import existing
from pcsa.datasets.values import unit_values

INVALID = np.finfo(np.float32).max  # stands for no value


class VolHeader(NamedTuple):
    """What the header of a file says; scales are in millimeters per pixel."""

    width: int
    num_scans: int
    height: int
    scale_x: float
    scale_y: float
    slo_bytes: int
    scan_header: int


# The file's header, the picture of the fundus (a byte per pixel), then each B-scan's header and float32 rows.
_HEADER_BYTES = 2048
_SCAN = b"HSF-BS-"  # every B-scan's header begins so
_FIELDS = struct.Struct("<12s 3I 3d 2I 2d I d 4s Q i I")


def read_vol(path: str | os.PathLike[str], number: int) -> NDArray[np.float32]:
    """Read one B-scan of a Heidelberg ``.vol`` file, as it is shown: the fourth root of the intensity.

    Args:
        path: The file.
        number: Number of the B-scan, from 0.

    Returns:
        `[H, W]` from 0 to 1; samples that the device marks as invalid, by the largest float32, are 0.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is broken, has no such B-scan, or has an intensity that is neither from 0 to 1 nor
            marked as invalid; the message names it and what is wrong.

    """
    path = existing(path)
    header = read_vol_header(path)
    if not 0 <= number < header.num_scans:
        raise ValueError(f"`number` (={number}) must be from 0 to {header.num_scans - 1}: `{path}`")
    count = header.width * header.height
    with reading(path, "a Heidelberg .vol file"), open(path, "rb") as file:
        file.seek(_start(header, number))
        if file.read(len(_SCAN)) != _SCAN:
            raise ValueError(f"B-scan {number} must begin with {_SCAN.decode()} where the header's sizes put it")
        file.seek(_start(header, number) + header.scan_header)
        raw = np.frombuffer(file.read(4 * count), dtype="<f4")
        try:
            shown: NDArray[np.float32] = unit_values(np.where(raw == INVALID, np.float32(0), raw)) ** np.float32(0.25)
        except ValueError as error:
            raise ValueError(f"B-scan {number}: {error}") from error
    return shown.reshape(header.height, header.width)


def _start(header: VolHeader, number: int) -> int:
    size = header.scan_header + 4 * header.width * header.height
    return _HEADER_BYTES + header.slo_bytes + number * size


def read_vol_header(path: Path) -> VolHeader:
    """Read the header of a ``.vol`` file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is no such file, is shorter than its header says, or has its last B-scan elsewhere.

    """
    path = existing(path)
    with reading(path, "a Heidelberg .vol file"), open(path, "rb") as file:
        start = file.read(_FIELDS.size)
        if len(start) < _FIELDS.size or not start.startswith(b"HSF-OCT-"):
            raise ValueError("must begin with HSF-OCT-, as a Heidelberg .vol file does")
        fields = _FIELDS.unpack(start)
        width, num_scans, height, scale_x, _, scale_y, slo_width, slo_height = fields[1:9]
        header = VolHeader(width, num_scans, height, scale_x, scale_y, slo_width * slo_height, fields[-1])
        size, needed = path.stat().st_size, _start(header, num_scans)
        if 0 in (width, num_scans, height) or size < needed:
            raise ValueError(f"has {size} bytes and needs {needed} for {num_scans} scans of {height} x {width}")
        file.seek(_start(header, num_scans - 1))
        if file.read(len(_SCAN)) != _SCAN:
            raise ValueError(
                f"B-scan {num_scans - 1} must begin with {_SCAN.decode()} where the header's sizes put it: {num_scans} "
                f"scans of {height} x {width} after {header.slo_bytes} bytes of the fundus"
            )
    return header
