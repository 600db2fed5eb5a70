"""LAS and LAZ files of laser scanners."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pcsa.datasets.colors import color_bytes
from pcsa.datasets.faults import reading
from pcsa.datasets.point_cloud import PointCloud

_CHUNK = 1_000_000


def read_las(path: str | os.PathLike[str]) -> PointCloud:
    """Read the points and colors of a `.las` or `.laz` file, with laspy.

    Coordinates are the integers of the file times its scale plus its offset, in float64. Intensities, classes,
    returns, times and reference systems are skipped; points marked as withheld are read like all others.

    Args:
        path: The file.

    Returns:
        The points in the file's own frame, and the colors if its point format has any. Colors are 16 bits; in a file
        whose colors are all below 256 they are bytes, as many programs write them.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file holds another number of points than its header declares, or none, a scale or offset is
            not finite, or what unpacks `.laz` is not installed; the message names the file.

    """
    with reading(path, "a LAS file"):
        import laspy

        size = Path(path).stat().st_size
        with open(path, "rb") as start:
            if start.read(4) != b"LASF":  # well logs have the same suffix
                raise ValueError("not a LAS file of points: it must begin with `LASF`")
        with laspy.open(os.fspath(path)) as file:
            header = file.header
            declared = header.point_count
            if not (np.isfinite(header.scales).all() and np.isfinite(header.offsets).all() and header.scales.all()):
                raise ValueError(
                    f"the scales {header.scales.tolist()} and offsets {header.offsets.tolist()} must be finite, and no "
                    "scale 0"
                )
            if not header.are_points_compressed:
                _check_count(Path(path), header, size)
            elif not laspy.LazBackend.detect_available():
                raise ValueError("compressed points need a package that unpacks them: pip install lazrs")
            if declared == 0:
                raise ValueError("the file holds no points")
            colored = {"red", "green", "blue"} <= set(header.point_format.dimension_names)
            points: list[NDArray[np.float64]] = []
            colors: list[NDArray[np.uint16]] = []
            try:
                # In chunks, because a damaged header may declare more compressed points than there is memory for.
                for chunk in file.chunk_iterator(_CHUNK):
                    points.append(np.stack([np.asarray(chunk[axis], np.float64) for axis in "xyz"], axis=1))
                    if colored:
                        colors.append(np.stack([np.asarray(chunk[name]) for name in ("red", "green", "blue")], axis=1))
            except Exception as error:  # every package that unpacks has errors of its own
                raise ValueError(f"{declared} points are declared and cannot be unpacked (cut off? {error})") from error
        held = sum(map(len, points))
        if held != declared:
            raise ValueError(f"the header declares {declared} points, the file holds {held} (cut off?)")
    return PointCloud(np.concatenate(points), color_bytes(np.concatenate(colors)) if colors else None)


def _check_count(path: Path, header: Any, size: int) -> None:
    """Raise unless the points that the header declares are all that the file holds."""
    width = header.point_format.size
    end = header.offset_to_point_data + header.point_count * width
    if end > size:
        held = max(0, size - header.offset_to_point_data) // width
        raise ValueError(f"the header declares {header.point_count} points, the file holds {held} (cut off?)")
    # Records and wave forms may follow, and padding.
    if header.number_of_evlrs or header.point_format.has_waveform_packet or size - end < width:
        return
    with open(path, "rb") as file:
        file.seek(end)
        while block := file.read(1 << 20):
            if block.strip(b"\0"):
                held = (size - header.offset_to_point_data) // width
                raise ValueError(f"the header declares {header.point_count} points, the file holds {held}")
