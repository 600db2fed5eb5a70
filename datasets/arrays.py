"""NumPy's files: the arrays in them, and volumes."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from pcsa.datasets.faults import reading
from pcsa.datasets.values import ValueRange, unit_values

ARRAYS = (".npy", ".npz")


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
                loaded = np.load(stream)
                if isinstance(loaded, np.ndarray):
                    # np.save into an open file appends.
                    if stream.read().strip(b"\0\r\n"):
                        raise ValueError("more follows after its first array: np.savez keeps several in one file")
                    loaded = {"array": loaded}
                absent = [name for name in names if name not in loaded]
                arrays = {} if absent else {name: loaded[name] for name in names or loaded}
            except ValueError as error:  # NumPy's own words are about what its caller might do
                objects = " of objects, which may run anything" * ("allow_pickle" in str(error))
                raise ValueError(f"cannot be read as arrays{objects} ({str(error).split('. ')[0]})") from error
        if absent:
            raise ValueError(f"must hold {', '.join(names)}: it has {', '.join(loaded)}")
        return arrays


def read_volume(file: Path, value_range: ValueRange | None = None) -> Float[Tensor, "1 D H W"]:
    """Read a volume from a `.npy` file, or a `.npz` file with one array, as values from 0 to 1.

    Args:
        file: The file.
        value_range: What 0 and 1 stand for in it. Default: see :func:`pcsa.datasets.values.unit_values`.

    Raises:
        ValueError: If the file cannot be read or holds anything else; the message names the file.

    """
    arrays = read_arrays(file)
    if len(arrays) != 1:
        raise ValueError(f"`{file}`: must hold one array, has {', '.join(arrays) or 'none'}")
    ((name, values),) = arrays.items()
    return check_unit_values(file, values, 3, value_range, name)


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
