"""MATLAB's files of versions 5 to 7, `"MAT-File Format" <https://www.mathworks.com/help/pdf_doc/matlab/matfile_format.pdf>`_.

The reader is our own, because SciPy's ends the whole process on some damaged files of a few hundred bytes. It reads
what is needed here, numbers and cells of them, and takes nothing for granted that a file says about itself.
"""

import os
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pcsa.datasets.limits import check_unpacked, read_whole

_HEADER = 128
#: Types of values in the file.
_VALUES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_MATRIX, _COMPRESSED = 14, 15
_CELL, _NUMBERS = 1, range(6, 16)
_CLASSES = {2: "a structure", 3: "an object", 4: "text", 5: "sparse", 16: "a function", 17: "an object"}
_COMPLEX = 0x800
_MOST_AXES = 32
_DEEPEST = 8  # cells in cells


def read_matlab5(path: str | os.PathLike[str], names: Sequence[str]) -> tuple[list[str], dict[str, NDArray[Any]]]:
    """Read arrays and cells of a file, and list the names of all that it has.

    Args:
        path: The file.
        names: The variables to read.

    Returns:
        The names of the variables, and those of ``names`` that are there: arrays as they are stored, of the smallest
        type that MATLAB found for them, and cells as arrays of objects.

    Raises:
        ValueError: If the file is none, is cut off, takes more memory than it may, or has something else than real
            numbers, or cells of them, under one of ``names``.

    """
    raw = read_whole(path)
    order = {b"IM": "<", b"MI": ">"}.get(raw[126:128])
    if order is None or len(raw) < _HEADER:
        raise ValueError("not a MATLAB file: its header must end with `IM` or `MI`")
    there: list[str] = []
    found: dict[str, NDArray[Any]] = {}
    at = _HEADER
    unpacked = 0
    while at < len(raw):
        kind, body, at = _element(raw, at, order, whole=True)
        if kind == _COMPRESSED:
            body = _unpacked(body, unpacked, path)
            unpacked += len(body)
            kind, body, _ = _element(body, 0, order)
        if kind != _MATRIX:
            raise ValueError(f"an element of type {kind} where a variable ({_MATRIX}) must stand")
        name, value = _matrix(body, order, names, 0)
        there.append(name)
        if value is not None:
            found[name] = value
    return [name for name in there if name], {name: found[name] for name in names if name in found}


def _unpacked(body: bytes, before: int, path: str | os.PathLike[str]) -> bytes:
    """Undo the compression of a variable, not further than the file may be unpacked."""
    stream = zlib.decompressobj()
    parts: list[bytes] = []
    size = before
    waiting = body
    while waiting and not stream.eof:
        parts.append(stream.decompress(waiting, 1 << 24))
        size += len(parts[-1])
        check_unpacked("what is compressed", size, path)
        waiting = stream.unconsumed_tail
    if not stream.eof:
        raise ValueError("a compressed variable is cut off")
    return b"".join(parts)


def _element(raw: bytes, at: int, order: str, *, whole: bool = False) -> tuple[int, bytes, int]:
    """Return the type and the bytes of an element, and the place of the next; of short ones, all is in eight bytes."""
    if at + 8 > len(raw):
        raise ValueError(f"cut off: an element at byte {at} of {len(raw)}")
    kind, size = struct.unpack_from(f"{order}II", raw, at)
    if kind >> 16 and not whole:
        kind, size = kind & 0xFFFF, kind >> 16
        if size > 4:
            raise ValueError(f"a short element of {size} bytes")
        return kind, raw[at + 4 : at + 4 + size], at + 8
    start, end = at + 8, at + 8 + size
    if end > len(raw):
        raise ValueError(f"an element of {size} bytes at byte {at} of {len(raw)} (cut off?)")
    # All begin at multiples of eight bytes, but those that follow a compressed one.
    return kind, raw[start:end], end if kind == _COMPRESSED else min(len(raw), end + -end % 8 if not whole else end)


def _matrix(body: bytes, order: str, names: Sequence[str] | None, depth: int) -> tuple[str, NDArray[Any] | None]:
    """Return the name of a variable, and its value if it is one of ``names``; every value, where these are None."""
    if not body and names is None:
        return "", np.zeros((0, 0))  # an empty cell
    kind, flags, at = _element(body, 0, order)
    if kind != 6 or len(flags) != 8:
        raise ValueError("a variable must begin with its flags")
    (word,) = struct.unpack_from(f"{order}I", flags)
    if word & 0xFF == 17:  # an object has its name first, and is never read
        return _name(_element(body, at, order)[1]), None
    kind, axes, at = _element(body, at, order)
    shape = np.frombuffer(axes, f"{order}i4").tolist() if kind in (5, 6) and len(axes) % 4 == 0 else []
    if not 2 <= len(shape) <= _MOST_AXES or min(shape) < 0:
        raise ValueError(f"a variable of the shape {shape[:_MOST_AXES]}")
    kind, text, at = _element(body, at, order)
    name = _name(text)
    if names is not None and name not in names:
        return name, None
    count = 1
    for size in shape:
        count *= size
    what = f"`{name}` {shape}" if name else f"a cell {shape}"
    if word & _COMPLEX or (word & 0xFF) not in (_CELL, *_NUMBERS):
        odd = "complex" if word & _COMPLEX else _CLASSES.get(word & 0xFF, "something else")
        raise ValueError(f"{what} must be numbers, or cells of numbers: it is {odd}")
    if word & 0xFF == _CELL:
        # Each cell takes eight bytes at least.
        if depth >= _DEEPEST or count * 8 > len(body):
            raise ValueError(f"{what}: {count} cells do not fit into {len(body)} bytes, or lie too deep")
        cells = np.empty(count, dtype=object)
        for place in range(count):
            kind, part, at = _element(body, at, order)
            if kind != _MATRIX:
                raise ValueError(f"{what}: a cell of type {kind}, must be {_MATRIX}")
            cells[place] = _matrix(part, order, None, depth + 1)[1]
        return name, cells.reshape(shape, order="F")
    kind, values, _ = _element(body, at, order)
    if kind not in _VALUES or len(values) != count * np.dtype(_VALUES[kind]).itemsize:
        raise ValueError(f"{what}: {len(values)} bytes of type {kind} do not make it (cut off?)")
    array = np.frombuffer(values, order + _VALUES[kind]).reshape(shape, order="F")
    return name, array.astype(array.dtype.newbyteorder("="))


def _name(text: bytes) -> str:
    return text.split(b"\0")[0].decode("latin-1")
