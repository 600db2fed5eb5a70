"""Point clouds in the PCD format: reading versions .5 to .7, ASCII, binary and compressed; writing .7."""

import os
import struct
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pcsa._core.checks import check_shape
from pcsa.datasets.columns import cloud_of_columns
from pcsa.datasets.faults import reading
from pcsa.datasets.limits import read_whole
from pcsa.datasets.point_cloud import PointCloud, finite_cloud, lossless_dtype
from pcsa.datasets.text import as_bytes, parse_table

_TYPES = {
    **{("F", n): f"<f{n}" for n in (2, 4, 8)},
    **{("I", n): f"<i{n}" for n in (1, 2, 4, 8)},
    **{("U", n): f"<u{n}" for n in (1, 2, 4, 8)},
}
_KEYS = ("VERSION", "FIELDS", "COLUMNS", "SIZE", "TYPE", "COUNT", "WIDTH", "HEIGHT", "VIEWPOINT", "POINTS", "DATA")
_ENCODINGS = ("ascii", "binary", "binary_compressed")
_AXES = ("x", "y", "z")
_MOST_TIMES = 264 // 3  # bytes that LZF makes of one: at most 264 of three
_COLORS = ("rgb", "rgba", "r", "g", "b", "red", "green", "blue")


class _Field(NamedTuple):
    name: str  # in lower case
    kind: str  # F, I or U
    dtype: np.dtype[Any]  # of all its values for one point
    num_values: int  # for one point


class _Header(NamedTuple):
    fields: list[_Field]
    num_points: int
    encoding: str
    start: int  # of the data, in bytes
    lines: int


def read_pcd(path: str | os.PathLike[str], *, drop_invalid: bool = False) -> PointCloud:
    """Read a `.pcd` file: ASCII, binary or compressed, any order of fields, versions .5 to .7.

    The file must have the fields `x`, `y` and `z` (in upper case too), of any number type. It may have colors: `rgb` or
    `rgba`, packed as ``r << 16 | g << 8 | b`` in an integer or as a float with those bits, or `r`, `g` and `b` as
    :func:`~pcsa.datasets.colors.color_bytes` takes them. Other fields are skipped, and `VIEWPOINT` is not applied.

    Args:
        path: The file.
        drop_invalid: Whether to leave out the points that are not finite (the pixels of a depth camera that saw
            nothing), and count them.

    Returns:
        ``(points, colors)``: float64 `[N, 3]` in the file's own units, and uint8 `[N, 3]` or None. Colors are None
        too where an ASCII file spells packed floats as `nan` (opaque colors written by PCL), which loses the bits.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the header is malformed or does not agree with the data (a truncated file, or more than padding
            after the data), or a point is not finite. The message names the file.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_pcd(f"{folder}/two.pcd", [[0.0, 0.0, 0.0], [0.5, 0.0, 1.0]])
        ...     read_pcd(f"{folder}/two.pcd").points.shape
        (2, 3)

    """
    with reading(path, "a PCD file"):
        raw = as_bytes(read_whole(path))
        header = _parse_header(raw)
        body = raw[header.start :]
        columns = _read_ascii(body, header) if header.encoding == "ascii" else _read_binary(body, header)
        cloud = cloud_of_columns(columns)
        return finite_cloud(cloud.points, cloud.colors, drop_invalid=drop_invalid)


def write_pcd(
    path: str | os.PathLike[str],
    points: ArrayLike,
    colors: ArrayLike | None = None,
    *,
    binary: bool = False,
) -> None:
    """Write a `.pcd` file with the fields of KeypointNet's release.

    The fields are `x y z` and, with colors, `rgb` packed into uint32. Coordinates are float32 where that keeps the
    shape of the cloud (:func:`~pcsa.datasets.point_cloud.lossless_dtype`), else float64. The same arrays give the same
    bytes, and what :func:`read_pcd` gives back, from either encoding, is the same when it is rounded to that.

    Args:
        path: The file to write. Its folder must exist.
        points: `[N, 3]`, finite.
        colors: `[N, 3]` integers from 0 to 255 (r, g, b).
        binary: Whether to write the binary encoding, which takes a third of the space and a tenth of the time of ASCII.

    Raises:
        ValueError: If the shapes do not fit, a coordinate is not finite or a color is out of range.

    """
    xyz = np.asarray(points)
    check_shape("points", xyz, ("N", 3))
    if not np.isfinite(xyz).all():
        raise ValueError("`points` must be finite")
    size = lossless_dtype(xyz).itemsize
    coordinates = [(axis, f"<f{size}") for axis in "xyz"]
    table = np.empty(len(xyz), dtype=coordinates + ([] if colors is None else [("rgb", "<u4")]))
    table["x"], table["y"], table["z"] = xyz.T
    if colors is not None:
        rgb = np.asarray(colors)
        check_shape("colors", rgb, xyz.shape)
        if rgb.dtype.kind not in "iu" or (rgb.size and (rgb.min() < 0 or rgb.max() > 255)):
            raise ValueError(f"`colors` (dtype {rgb.dtype}) must be integers from 0 to 255")
        r, g, b = rgb.astype(np.uint32).T
        table["rgb"] = r << 16 | g << 8 | b

    extra = colors is not None
    header = (
        f"VERSION .7\nFIELDS x y z{' rgb' * extra}\nSIZE {size} {size} {size}{' 4' * extra}\nTYPE F F F{' U' * extra}\n"
        f"COUNT 1 1 1{' 1' * extra}\nWIDTH {len(xyz)}\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS {len(xyz)}\n"
        f"DATA {'binary' if binary else 'ascii'}\n"
    )
    if binary:
        body = table.tobytes()
    else:
        # What it takes to get every float32, and every float64, back.
        number = "%.9g" if size == 4 else "%.17g"
        line = f"{number} {number} {number}{' %d' * extra}\n"
        body = ((line * len(table)) % tuple(value for row in table.tolist() for value in row)).encode()
    Path(path).write_bytes(header.encode() + body)


def _parse_header(raw: bytes) -> _Header:
    entries: dict[str, list[str]] = {}
    start = lines = 0
    while "DATA" not in entries:
        end = raw.find(b"\n", start)
        if end < 0:
            raise ValueError("not a PCD file, or cut off within its header: no `DATA` line")
        line = raw[start:end].split(b"#")[0].decode("latin-1").split()
        start, lines = end + 1, lines + 1
        if not line:
            continue
        key = line[0].upper()
        if key not in _KEYS:
            raise ValueError(f"not a PCD file: unknown header entry {line[0][:40]!r}")
        if key == "COLUMNS":  # as the first versions say
            key = "FIELDS"
        if key in entries:
            raise ValueError(f"line {lines}: the header has `{key}` twice")
        entries[key] = line[1:]
    encoding = " ".join(entries["DATA"]).lower()
    if encoding not in _ENCODINGS:
        raise ValueError(f"`DATA {encoding[:40]}` must be one of {', '.join(_ENCODINGS)}")
    return _Header(_parse_fields(entries), _parse_size(entries), encoding, start, lines)


def _parse_fields(entries: dict[str, list[str]]) -> list[_Field]:
    if not entries.get("FIELDS"):
        raise ValueError("the header has no `FIELDS`")
    names = [name.lower() for name in entries["FIELDS"]]
    # The first versions have nothing but floats, and do not say so.
    sizes = _integers(entries, "SIZE") if "SIZE" in entries else [4] * len(names)
    kinds = [kind.upper() for kind in entries["TYPE"]] if "TYPE" in entries else ["F"] * len(names)
    counts = _integers(entries, "COUNT") if "COUNT" in entries else [1] * len(names)
    if not len(names) == len(sizes) == len(kinds) == len(counts):
        raise ValueError("`FIELDS`, `SIZE`, `TYPE` and `COUNT` of the header differ in length")
    if min(counts) < 0:
        raise ValueError(f"`COUNT` {' '.join(entries['COUNT'])} must not be negative")
    fields = []
    for name, kind, size, count in zip(names, kinds, sizes, counts, strict=True):
        if (kind, size) not in _TYPES:
            raise ValueError(f"unknown field type {kind[:10]} of {size} bytes")
        if count > 0:  # like PCL, which leaves out the fields of no value (padding that some lidars declare)
            fields.append(_Field(name, kind, np.dtype((_TYPES[kind, size], (count,))), count))
    if sorted(field.name for field in fields if field.name in _AXES and field.num_values == 1) != list(_AXES):
        raise ValueError(f"the fields are {' '.join(names)[:80]}: x, y and z must be among them once each, `COUNT` 1")
    return fields


def _parse_size(entries: dict[str, list[str]]) -> int:
    """Return the number of points, which may stand in the header twice."""
    width = _integers(entries, "WIDTH")[0] if "WIDTH" in entries else None
    height = _integers(entries, "HEIGHT")[0] if "HEIGHT" in entries else 1
    points = _integers(entries, "POINTS")[0] if "POINTS" in entries else None
    if points is None:
        if width is None:
            raise ValueError("the header has neither `POINTS` nor `WIDTH`")
        points = width * height
    if (width, height) == (0, 0):
        width = None  # an old way to say that the points have no order
    if points < 0 or (width is not None and width * height != points):
        raise ValueError(f"`WIDTH` {width} times `HEIGHT` {height} is not `POINTS` {points}")
    return points


def _integers(entries: dict[str, list[str]], key: str) -> list[int]:
    try:
        values = [int(text) for text in entries[key]]
    except ValueError:
        values = []
    if not values:
        raise ValueError(f"`{key}` {' '.join(entries[key])[:40]!r} of the header must be integers")
    return values


def _read_ascii(body: bytes, header: _Header) -> dict[str, NDArray[Any]]:
    starts = np.cumsum([0, *(field.num_values for field in header.fields)]).tolist()
    fields = [(starts[place], field) for place, field in _read_fields(header)]
    wanted = {start for start, _ in fields}
    table = parse_table(body, starts[-1], first_line=header.lines + 1, wanted=wanted)
    if len(table) != header.num_points:
        cut = " (truncated?)" * (len(table) < header.num_points)
        raise ValueError(f"{len(table)} lines of values where the header says {header.num_points} points{cut}")
    columns = {}
    for start, field in fields:
        values = table[:, start]
        if field.name in _AXES:
            columns[field.name] = values
        elif field.kind == "F":
            if not np.isnan(values).any():
                columns[field.name] = values.astype(field.dtype.base)
        elif not np.isfinite(values).all() or np.abs(values).max(initial=0) >= 2**32:
            raise ValueError(f"`{field.name}` must hold 32-bit integers")
        else:
            columns[field.name] = values.astype(np.int64)
    return columns


def _read_binary(body: bytes, header: _Header) -> dict[str, NDArray[Any]]:
    if header.encoding == "binary_compressed":
        return _fields_in_turn(_decompressed(body, header), header)
    # Padding fields are all called `_`, so the places, not the names, make the dtype.
    dtype = np.dtype([(f"{place}", field.dtype) for place, field in enumerate(header.fields)])
    expected = header.num_points * dtype.itemsize
    _check_size(body, expected)
    table = np.frombuffer(body, dtype=dtype, count=header.num_points)
    return {field.name: table[f"{place}"][:, 0] for place, field in _read_fields(header)}


def _check_size(body: bytes, expected: int) -> None:
    """Raise unless the data have a size, but for padding: PCL makes files longer than their data, with zeros."""
    if len(body) < expected:
        raise ValueError(f"{len(body)} bytes of data where the header says {expected} (truncated?)")
    if len(body) > expected and body[expected:].strip(b"\0\r\n"):
        raise ValueError(
            f"{len(body)} bytes of data where the header says {expected}, and what is left over is no padding"
        )


def _decompressed(body: bytes, header: _Header) -> bytes:
    """Undo the compression: two sizes, then LZF.

    The module `lzf` (python-neo-lzf) binds LibLZF itself. pypcd4 as a whole refuses headers that PCL reads (no `COUNT`,
    or one of 0, `COLUMNS`, versions before .7, tabs), and takes a file that is cut off for a whole one.
    """
    try:
        import lzf
    except ImportError:
        raise ValueError("compressed data need the module `lzf`: pip install python-neo-lzf") from None
    if header.num_points == 0:
        return b""
    if len(body) < 8:
        raise ValueError(f"{len(body)} bytes of compressed data (truncated?)")
    compressed, size = struct.unpack("<II", body[:8])
    _check_size(body, 8 + compressed)
    # PCL leaves padding out of what it compresses; others do not.
    sizes = [
        header.num_points * sum(field.dtype.itemsize for field in header.fields if field.name != "_" or padded)
        for padded in (False, True)
    ]
    if size not in sizes:
        raise ValueError(f"{size} bytes of data before compression where the header says {sizes[0]}")
    if size > _MOST_TIMES * compressed:
        raise ValueError(f"{compressed} bytes of compressed data cannot hold {size}")
    try:
        data = lzf.decompress(body[8 : 8 + compressed], size)
    except ValueError:
        data = None
    if data is None or len(data) != size:
        raise ValueError("the compressed data are damaged")
    return data


def _fields_in_turn(data: bytes, header: _Header) -> dict[str, NDArray[Any]]:
    """Take apart the data of a compressed file: the values of one field after those of another."""
    padded = len(data) == header.num_points * sum(field.dtype.itemsize for field in header.fields)
    columns, start = {}, 0
    wanted = dict(_read_fields(header))
    for place, field in enumerate(header.fields):
        if place in wanted:
            values = np.frombuffer(data, field.dtype.base, header.num_points * field.num_values, offset=start)
            columns[field.name] = values.reshape(-1, field.num_values)[:, 0]
        if field.name != "_" or padded:
            start += header.num_points * field.dtype.itemsize
    return columns


def _read_fields(header: _Header) -> list[tuple[int, _Field]]:
    """List the fields that make up a cloud, with their places among all; of two colors of one name the first."""
    found: dict[str, tuple[int, _Field]] = {}
    for place, field in enumerate(header.fields):
        if field.num_values == 1 and field.name in (*_AXES, *_COLORS):
            found.setdefault(field.name, (place, field))
    return list(found.values())
