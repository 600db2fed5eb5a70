"""Reading and writing point clouds in the PCD 0.7 format, ASCII and binary."""

import io
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pcsa._core.checks import check_shape

_TYPES = {
    **{("F", n): f"<f{n}" for n in (2, 4, 8)},
    **{("I", n): f"<i{n}" for n in (1, 2, 4, 8)},
    **{("U", n): f"<u{n}" for n in (1, 2, 4, 8)},
}
_HEADER_KEYS = (
    "VERSION",
    "FIELDS",
    "SIZE",
    "TYPE",
    "COUNT",
    "WIDTH",
    "HEIGHT",
    "VIEWPOINT",
    "POINTS",
    "DATA",
)


class PointCloud(NamedTuple):
    """The contents of a PCD file: ``points [N, 3]`` float32 and ``colors [N, 3]`` uint8 (r, g, b) or None."""

    points: NDArray[np.float32]
    colors: NDArray[np.uint8] | None


class _Header(NamedTuple):
    fields: list[str]
    types: list[str]
    sizes: list[int]
    counts: list[int]
    num_points: int
    encoding: str
    start: int


def read_pcd(path: str | os.PathLike[str]) -> PointCloud:
    """Read a `.pcd` file (ASCII or uncompressed binary, any order of fields).

    The file must have the fields `x`, `y` and `z`, all finite. It may have `rgb` or `rgba`, packed as
    ``r << 16 | g << 8 | b`` in an integer, or as a float with those bits. Other fields are skipped.

    Args:
        path: The file.

    Returns:
        ``(points, colors)``: float32 `[N, 3]` in the file's own units, and uint8 `[N, 3]` or None. Colors are None
        too where an ASCII file spells packed floats as `nan` (opaque colors written by PCL), which loses the bits.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the header is malformed or does not agree with the data (a truncated file), the data
            is `binary_compressed`, or a coordinate is not finite. The message names the file.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_pcd(f"{folder}/two.pcd", [[0.0, 0.0, 0.0], [0.5, 0.0, 1.0]])
        ...     read_pcd(f"{folder}/two.pcd").points.shape
        (2, 3)

    """
    raw = Path(path).read_bytes()
    try:
        header = _parse_header(raw)
        body = raw[header.start :]
        columns = _read_ascii(body, header) if header.encoding == "ascii" else _read_binary(body, header)
        with np.errstate(over="ignore"):  # doubles beyond float32 become infinite and are refused below
            points = np.stack([columns[axis].astype(np.float32) for axis in "xyz"], axis=1)
        bad = ~np.isfinite(points).all(axis=1)
        if bad.any():
            raise ValueError(f"{int(bad.sum())} points are not finite, the first is point {int(bad.argmax())}")
    except ValueError as error:
        raise ValueError(f"`{os.fspath(path)}`: {error}") from error
    color = next((columns[name] for name in ("rgb", "rgba") if name in columns), None)
    return PointCloud(points, None if color is None else _unpack_colors(color))


def write_pcd(
    path: str | os.PathLike[str],
    points: ArrayLike,
    colors: ArrayLike | None = None,
    *,
    binary: bool = False,
) -> None:
    """Write a `.pcd` file with the fields of KeypointNet's release.

    The fields are `x y z` in float32 and, with colors, `rgb` packed into uint32. The same arrays give the same bytes,
    and :func:`read_pcd` gives the same float32 values back from either encoding.

    Args:
        path: The file to write. Its folder must exist.
        points: `[N, 3]`, finite; stored as float32.
        colors: `[N, 3]` integers from 0 to 255 (r, g, b).
        binary: Whether to write the binary encoding, which takes a third of the space and a tenth of the time of ASCII.

    Raises:
        ValueError: If the shapes do not fit, a coordinate is not finite or a color is out of range.

    """
    xyz = np.asarray(points, dtype=np.float32)
    check_shape("points", xyz, ("N", 3))
    if not np.isfinite(xyz).all():
        raise ValueError("`points` must be finite")
    table = np.empty(len(xyz), dtype=[(axis, "<f4") for axis in "xyz"] + ([] if colors is None else [("rgb", "<u4")]))
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
        f"VERSION .7\nFIELDS x y z{' rgb' * extra}\nSIZE 4 4 4{' 4' * extra}\nTYPE F F F{' U' * extra}\n"
        f"COUNT 1 1 1{' 1' * extra}\nWIDTH {len(xyz)}\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS {len(xyz)}\n"
        f"DATA {'binary' if binary else 'ascii'}\n"
    )
    if binary:
        body = table.tobytes()
    else:
        # Nine digits are what it takes to get every float32 back.
        line = "%.9g %.9g %.9g" + " %d" * extra + "\n"
        body = ((line * len(table)) % tuple(value for row in table.tolist() for value in row)).encode()
    Path(path).write_bytes(header.encode() + body)


def _parse_header(raw: bytes) -> _Header:
    entries: dict[str, list[str]] = {}
    start = 0
    while "DATA" not in entries:
        end = raw.find(b"\n", start)
        if end < 0:
            raise ValueError("not a PCD file, or cut off within its header: no `DATA` line")
        line = raw[start:end].split(b"#")[0].decode("latin-1").split()
        start = end + 1
        if not line:
            continue
        if line[0] not in _HEADER_KEYS:
            raise ValueError(f"not a PCD file: unknown header entry {line[0][:40]!r}")
        entries[line[0]] = line[1:]

    for key in ("FIELDS", "SIZE", "TYPE", "DATA"):
        if not entries.get(key):
            raise ValueError(f"the header has no `{key}`")
    fields = entries["FIELDS"]
    sizes = _integers(entries, "SIZE")
    counts = _integers(entries, "COUNT") if "COUNT" in entries else [1] * len(fields)
    if not len(fields) == len(sizes) == len(counts) == len(entries["TYPE"]):
        raise ValueError("`FIELDS`, `SIZE`, `TYPE` and `COUNT` of the header differ in length")
    for kind in zip(entries["TYPE"], sizes, strict=True):
        if kind not in _TYPES:
            raise ValueError(f"unknown field type {kind[0]} of {kind[1]} bytes")
    if "".join(sorted(f for f, c in zip(fields, counts, strict=True) if f in ("x", "y", "z") and c == 1)) != "xyz":
        raise ValueError(f"the fields {fields} must hold x, y and z once each")
    if min(counts) < 1:
        raise ValueError(f"`COUNT` {counts} must be positive")

    width = _integers(entries, "WIDTH")[0] if "WIDTH" in entries else None
    height = _integers(entries, "HEIGHT")[0] if "HEIGHT" in entries else 1
    num_points = _integers(entries, "POINTS")[0] if "POINTS" in entries else None
    if num_points is None:
        if width is None:
            raise ValueError("the header has neither `POINTS` nor `WIDTH`")
        num_points = width * height
    if num_points < 0 or (width is not None and width * height != num_points):
        raise ValueError(f"`WIDTH` {width} times `HEIGHT` {height} is not `POINTS` {num_points}")
    encoding = entries["DATA"][0].lower()
    if encoding not in ("ascii", "binary"):
        raise ValueError(f"`DATA {encoding}` is not supported: convert it to ascii or binary")
    return _Header(fields, entries["TYPE"], sizes, counts, num_points, encoding, start)


def _integers(entries: dict[str, list[str]], key: str) -> list[int]:
    try:
        values = [int(text) for text in entries[key]]
    except ValueError:
        values = []
    if not values:
        raise ValueError(f"`{key}` {' '.join(entries[key])[:40]!r} of the header must be integers")
    return values


def _read_ascii(body: bytes, header: _Header) -> dict[str, NDArray[Any]]:
    num_columns = sum(header.counts)
    if not body.strip():  # loadtxt warns about no data
        table = np.empty((0, num_columns))
    elif not body.endswith(b"\n"):
        # Cut within its last number, a file would still be read, and be wrong.
        raise ValueError("the last line does not end (truncated? if not, end it with a line break)")
    else:
        try:
            table = np.loadtxt(io.BytesIO(body), dtype=np.float64, ndmin=2, comments=None)
        except ValueError:
            raise ValueError(_odd_line(body, num_columns)) from None
    if table.shape != (header.num_points, num_columns):
        raise ValueError(
            f"{table.shape[0]} lines of {table.shape[1]} values where the header says {header.num_points} of "
            f"{num_columns} (truncated?)"
        )
    columns = {}
    starts = np.cumsum([0, *header.counts[:-1]])
    for name, kind, size, start in zip(header.fields, header.types, header.sizes, starts, strict=True):
        if name in ("x", "y", "z"):
            columns[name] = table[:, start]
        elif name in ("rgb", "rgba"):
            if kind == "F":
                if not np.isnan(table[:, start]).any():
                    columns[name] = table[:, start].astype(_TYPES[kind, size])
            elif not np.isfinite(table[:, start]).all() or np.abs(table[:, start]).max(initial=0) >= 2**32:
                raise ValueError(f"`{name}` must hold 32-bit integers")
            else:
                columns[name] = table[:, start].astype(np.int64)
    return columns


def _odd_line(body: bytes, num_columns: int) -> str:
    """Say what is wrong with the first line that is not ``num_columns`` numbers."""
    for number, line in enumerate(body.splitlines(), 1):
        values = line.split()
        if values and len(values) != num_columns:
            return (
                f"line {number} of the data has {len(values)} values where the header says {num_columns} (truncated?)"
            )
        try:
            [float(value) for value in values]
        except ValueError:
            return f"line {number} of the data holds {line[:40].decode('latin-1')!r}, which are not all numbers"
    return "the data are not lines of numbers"


def _read_binary(body: bytes, header: _Header) -> dict[str, NDArray[Any]]:
    # Padding fields are all called `_`, so the places, not the names, make the dtype.
    kinds = zip(header.types, header.sizes, header.counts, strict=True)
    dtype = np.dtype([(f"{i}", _TYPES[kind, size], (count,)) for i, (kind, size, count) in enumerate(kinds)])
    expected = header.num_points * dtype.itemsize
    if len(body) != expected:
        raise ValueError(f"{len(body)} bytes of data where the header says {expected} (truncated?)")
    table = np.frombuffer(body, dtype=dtype)
    wanted = ("x", "y", "z", "rgb", "rgba")
    return {name: table[f"{i}"][:, 0] for i, name in enumerate(header.fields) if name in wanted}


def _unpack_colors(packed: NDArray[Any]) -> NDArray[np.uint8] | None:
    if packed.dtype.kind == "f":
        if packed.dtype.itemsize != 4:
            return None
        bits = np.ascontiguousarray(packed).view(np.uint32).astype(np.int64)
    else:
        bits = packed.astype(np.int64)
    return np.stack([bits >> 16 & 255, bits >> 8 & 255, bits & 255], axis=1).astype(np.uint8)
