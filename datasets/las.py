"""LAS and LAZ files of laser scanners."""

import logging
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pcsa.datasets.colors import color_bytes
from pcsa.datasets.faults import reading
from pcsa.datasets.limits import check_unpacked
from pcsa.datasets.point_cloud import PointCloud

_CHUNK = 1_000_000
_LEAST_CHUNK = 20  # bytes of a point, with which each compressed chunk begins
_HEADER = 375  # bytes of the longest header


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
    with reading(path, "a LAS file"), _silence("laspy"):
        import laspy

        size = Path(path).stat().st_size
        with open(path, "rb") as start:
            _check_header(start.read(_HEADER), size)
        with laspy.open(os.fspath(path), read_evlrs=False, encoding_errors="replace") as file:
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
            else:
                _check_chunks(Path(path), header.offset_to_point_data, size)
            if declared == 0:
                raise ValueError("the file holds no points")
            colored = {"red", "green", "blue"} <= set(header.point_format.dimension_names)
            points: list[NDArray[np.float64]] = []
            colors: list[NDArray[np.uint16]] = []
            try:
                if header.are_points_compressed:
                    _check_unpacking(Path(path), header)
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


def _check_chunks(path: Path, start: int, size: int) -> None:
    """Raise unless the table of compressed chunks fits into the file: lazrs would end the whole process."""
    with open(path, "rb") as file:
        file.seek(start)
        place = int.from_bytes(file.read(8), "little", signed=True)
        if place == -1 and size > start + 16:  # as in a file that was written to a pipe
            file.seek(size - 8)
            place = int.from_bytes(file.read(8), "little", signed=True)
        if not start < place < size - 8:
            raise ValueError(
                f"the table of compressed chunks at byte {place} is not in the file of {size} bytes (cut off?)"
            )
        file.seek(place + 4)
        number = int.from_bytes(file.read(4), "little")
    if number * _LEAST_CHUNK > size:
        raise ValueError(f"a table of {number} compressed chunks does not fit into the file of {size} bytes")


def _check_unpacking(path: Path, header: Any) -> None:
    """Raise unless the compressed chunks are in the file and fit into memory: lazrs takes their word for it.

    Where it gets no memory, it ends the whole process.
    """
    check_unpacked(f"{header.point_count} points", header.point_count * (24 + header.point_format.size), path)
    try:
        import lazrs
    except ImportError:  # another package unpacks
        return
    record = next((vlr for vlr in header.vlrs if (vlr.user_id, vlr.record_id) == ("laszip encoded", 22204)), None)
    if record is None:
        raise ValueError("no record says how the points are compressed")
    about = lazrs.LazVlr(record.record_data)
    width = about.item_size()
    if width != header.point_format.size:
        raise ValueError(f"compressed points of {width} bytes, must be {header.point_format.size}")
    if not about.uses_variable_size_chunks():
        check_unpacked(f"a chunk of {about.chunk_size()} points", about.chunk_size() * width, path)
    with open(path, "rb") as file:
        file.seek(header.offset_to_point_data)
        chunks = lazrs.read_chunk_table(file, about)
    points, held = (sum(column) for column in zip(*chunks, strict=True)) if chunks else (0, 0)
    if held > path.stat().st_size or points < header.point_count:
        raise ValueError(f"{len(chunks)} compressed chunks of {points} points and {held} bytes are not all of them")
    check_unpacked("a chunk", max((count for count, _ in chunks), default=0) * width, path)


def _check_header(head: bytes, size: int) -> None:
    """Raise on what laspy does not compare with the size of the file: it would read billions of empty records."""
    if head[:4] != b"LASF":  # well logs have the same suffix
        raise ValueError("not a LAS file of points: it must begin with `LASF`")
    if len(head) < 227:
        raise ValueError(f"cut off within its header: {size} bytes")
    header_size, points, records = struct.unpack_from("<HII", head, 94)
    if not header_size <= points <= size or records * 54 > points - header_size:
        raise ValueError(
            f"a header of {header_size} bytes, {records} records of at least 54 bytes and points from byte {points} do "
            f"not fit into a file of {size} bytes (cut off?)"
        )
    if head[25] >= 4 and len(head) == _HEADER:
        begin, records = struct.unpack_from("<QI", head, 235)
        if records and begin + records * 60 > size:
            raise ValueError(
                f"{records} extended records of at least 60 bytes from byte {begin} do not fit into a file of {size} "
                "bytes (cut off?)"
            )


@contextmanager
def _silence(logger: str) -> Iterator[None]:
    """Keep a library's log messages off the screen: what matters is raised."""
    log = logging.getLogger(logger)
    before = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        log.setLevel(before)


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
