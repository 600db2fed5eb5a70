"""NumPy's files: the arrays in them, and volumes."""

import math
import os
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from pcsa.datasets.faults import reading
from pcsa.datasets.limits import check_unpacked
from pcsa.datasets.values import ValueRange, unit_values

ARRAYS = (".npy", ".npz")
_MOST_ARRAYS = 10_000


def read_arrays(path: str | os.PathLike[str], names: Sequence[str] = ()) -> dict[str, NDArray[Any]]:
    """Read the arrays of a `.npz` file by name, or the one of a `.npy` file, called ``array``.

    Args:
        path: The file.
        names: The arrays to read. Default: all.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file cannot be read, holds objects (which are never unpickled), more than one array after
            another, or lacks one of ``names``; the message names the file.

    """
    with reading(path, "arrays"):
        # Opened here, because NumPy leaves a damaged file open.
        with open(path, "rb") as stream:
            begin = stream.read(6)
            stream.seek(0)
            # NumPy takes anything else for a pickle, which begins with another byte.
            if not begin.startswith((b"\x93NUMPY", b"PK", b"\x80")):
                raise ValueError("cannot be read as arrays (not written by np.save or np.savez)")
            try:
                if begin.startswith(b"\x93NUMPY"):
                    _check_header(stream, os.fstat(stream.fileno()).st_size)
                    stream.seek(0)
                loaded = np.load(stream)
                if isinstance(loaded, np.ndarray):
                    # np.save into an open file appends.
                    if stream.read().strip(b"\0\r\n"):
                        raise ValueError("more follows after its first array: np.savez keeps several in one file")
                    loaded = {"array": loaded}
                else:
                    _check_members(loaded.zip, names, path)
                absent = [name for name in names if name not in loaded]
                arrays = {} if absent else {name: loaded[name] for name in names or loaded}
                # Other files may lie in a zip file; they come as bytes.
                arrays = {name: array for name, array in arrays.items() if isinstance(array, np.ndarray)}
                absent += [name for name in names if name not in arrays and name not in absent]
                for name, array in arrays.items():
                    _check_text(name, array)
            except ValueError as error:  # NumPy's own words are about what its caller might do
                objects = " of objects, which may run anything" * ("allow_pickle" in str(error))
                raise ValueError(f"cannot be read as arrays{objects} ({str(error).split('. ')[0]})") from error
        if absent:
            raise ValueError(f"must hold {', '.join(names)}: it has {', '.join(loaded)}")
        return arrays


def _check_members(packed: zipfile.ZipFile, names: Sequence[str], path: str | os.PathLike[str]) -> None:
    """Raise unless the arrays of a zip file fit into the memory that it may take, and into what they are packed in."""
    members = [info for info in packed.infolist() if not names or info.filename.removesuffix(".npy") in names]
    if len(members) > _MOST_ARRAYS:
        raise ValueError(f"{len(members)} arrays, must be at most {_MOST_ARRAYS}")
    check_unpacked(f"the content of {len(members)} arrays", sum(info.file_size for info in members), path)
    for info in members:
        with packed.open(info) as stream:
            if info.filename.endswith(".npy"):
                _check_header(stream, info.file_size)


def _check_header(stream: IO[bytes], size: int) -> None:
    """Raise unless the array that a header describes is as large as what holds it, of ``size`` bytes."""
    version = np.lib.format.read_magic(stream)
    if version > (2, 0):
        return  # names of fields beyond Latin-1: NumPy has no public reader of that header
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a header is evaluated as Python, which warns of odd texts
        shape, _, dtype = read(stream)
    needed, held = math.prod(shape) * dtype.itemsize, size - stream.tell()
    if not dtype.hasobject and (min(shape, default=0) < 0 or needed > held):
        raise ValueError(f"an array {list(shape)} of {dtype} takes {needed} bytes, {held} are there")


def _check_text(name: str, array: NDArray[Any]) -> None:
    """Raise if texts of an array, or in its fields, are of numbers that are no characters: Python breaks on them."""
    if array.dtype.names:
        for field in array.dtype.names:
            _check_text(f"{name}[{field}]", array[field])
    elif array.dtype.kind == "U" and array.size and array.dtype.itemsize:
        points = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("="))).view(np.uint32)
        wrong = (points > 0x10FFFF) | ((points >= 0xD800) & (points < 0xE000))
        if wrong.any():
            raise ValueError(f"text of `{name}` has {points[wrong][0]:#x}, which is no character")


def read_volume(file: str | os.PathLike[str], value_range: ValueRange | None = None) -> Float[Tensor, "1 D H W"]:
    """Read a volume from a `.npy` file, or a `.npz` file with one array, as values from 0 to 1.

    Args:
        file: The file.
        value_range: What 0 and 1 stand for in it. Default: see :func:`pcsa.datasets.values.unit_values`.

    Raises:
        ValueError: If the file cannot be read or holds anything else; the message names the file.

    """
    arrays = read_arrays(file)
    if len(arrays) != 1:
        raise ValueError(f"`{os.fspath(file)}`: must hold one array, has {', '.join(arrays) or 'none'}")
    ((name, values),) = arrays.items()
    return check_unit_values(Path(file), values, 3, value_range, name)


def check_unit_values(
    file: Path, values: NDArray[Any], axes: int, value_range: ValueRange | None = None, name: str = "array"
) -> Tensor:
    """Return the values of a file as float32 from 0 to 1, `[1, *shape]`; raise unless they can be that.

    Args:
        file: The file, for the message.
        values: What it holds.
        axes: The number of axes that the values must have.
        value_range: What 0 and 1 stand for. Default: see :func:`pcsa.datasets.values.unit_values`.
        name: What the file calls them, for the message.

    """
    with reading(file, "an array of numbers"):
        if values.ndim != axes or values.dtype.kind not in "bfiu" or 0 in values.shape:
            raise ValueError(f"`{name}` ({values.dtype} {list(values.shape)}) must be numbers of {axes} axes")
        try:
            # A mask is often kept in bytes.
            if value_range is None and values.dtype == np.uint8 and values.max() == 1:
                raise ValueError("values (uint8, from 0 to 1) must come with `value_range`: (0, 1), or (0, 255)")
            return torch.from_numpy(unit_values(values, value_range))[None]
        except ValueError as error:
            raise ValueError(f"`{name}`: {error}") from error
