"""LAS and LAZ files of laser scanners."""

import os
from pathlib import Path

import numpy as np

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
        ValueError: If the file holds fewer points than its header declares, or none, the scale or a coordinate is not
            finite, or what unpacks `.laz` is not installed; the message names the file.

    """
    with reading(path, "a LAS file"):
        import laspy

        size = Path(path).stat().st_size
        with laspy.open(os.fspath(path)) as file:
            header = file.header
            declared, width = header.point_count, header.point_format.size
            if header.are_points_compressed and not laspy.LazBackend.detect_available():
                raise ValueError("compressed points (`.laz`) need lazrs: pip install lazrs")
            if not header.are_points_compressed:
                held = max(0, size - header.offset_to_point_data) // width
                if held < declared:
                    raise ValueError(f"the header declares {declared} points, the file holds {held} (cut off?)")
            if not (np.isfinite(header.scales).all() and np.isfinite(header.offsets).all()) or 0 in header.scales:
                raise ValueError(f"the scales {header.scales.tolist()} and offsets must be finite, no scale 0")
            if declared == 0:
                raise ValueError("the file holds no points")
            names = set(header.point_format.dimension_names)
            points, colors = [], []
            # In chunks, because a damaged header may declare more compressed points than there is memory for.
            for chunk in file.chunk_iterator(_CHUNK):
                points.append(np.stack([np.asarray(chunk[axis], np.float64) for axis in "xyz"], axis=1))
                if {"red", "green", "blue"} <= names:
                    colors.append(np.stack([np.asarray(chunk[name]) for name in ("red", "green", "blue")], axis=1))
        held = sum(map(len, points))
        if held != declared:
            raise ValueError(f"the header declares {declared} points, the file holds {held} (cut off?)")
    return PointCloud(np.concatenate(points), color_bytes(np.concatenate(colors)) if colors else None)
