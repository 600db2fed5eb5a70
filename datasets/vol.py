"""Heidelberg's raw volumes of retinal scans: ``.vol`` files."""

import os
import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pcsa.datasets.files import existing


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
_FIELDS = struct.Struct("<12s 3I 3d 2I 2d I d 4s Q i I")


def read_vol(path: str | os.PathLike[str], number: int) -> NDArray[np.float32]:
    """Read one B-scan of a Heidelberg ``.vol`` file, as it is shown: the fourth root of the intensity.

    Args:
        path: The file.
        number: Number of the B-scan, from 0.

    Returns:
        `[H, W]` from 0 to 1; samples that the device marks as invalid are 0.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is broken or has no such B-scan; the message names it and what is wrong.

    """
    header = read_vol_header(existing(path))
    if not 0 <= number < header.num_scans:
        raise ValueError(f"`number` (={number}) must be from 0 to {header.num_scans - 1}: `{path}`")
    count = header.width * header.height
    start = _HEADER_BYTES + header.slo_bytes + number * (header.scan_header + 4 * count) + header.scan_header
    with open(path, "rb") as file:
        file.seek(start)
        raw = np.frombuffer(file.read(4 * count), dtype="<f4")
    # The largest float32 stands for no value.
    raw = np.where(np.isfinite(raw) & (raw < 1e38), raw, 0)
    shown: NDArray[np.float32] = np.clip(raw, 0, 1).reshape(header.height, header.width) ** np.float32(0.25)
    return shown


def read_vol_header(path: Path) -> VolHeader:
    """Read the header of a ``.vol`` file, and raise unless the file is as long as the header says."""
    with open(path, "rb") as file:
        start = file.read(_FIELDS.size)
    if len(start) < _FIELDS.size or not start.startswith(b"HSF-OCT-"):
        raise ValueError(f"`{path}` is no Heidelberg .vol file")
    fields = _FIELDS.unpack(start)
    width, num_scans, height, scale_x, _, scale_y, slo_width, slo_height = fields[1:9]
    header = VolHeader(width, num_scans, height, scale_x, scale_y, slo_width * slo_height, fields[-1])
    size = _HEADER_BYTES + header.slo_bytes + num_scans * (header.scan_header + 4 * width * height)
    if 0 in (width, num_scans, height) or path.stat().st_size < size:
        raise ValueError(
            f"`{path}` has {path.stat().st_size} bytes and needs {size} for {num_scans} scans of {height} x {width}"
        )
    return header
