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

ARRAYS = (".npy", ".npz")


def read_arrays(path: str | os.PathLike[str], names: Sequence[str] = ()) -> dict[str, NDArray[Any]]:
    """Read the arrays of a `.npz` file by name, or the one of a `.npy` file, called ``array``.

    Args:
        path: The file.
        names: The arrays to read. Default: all.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file cannot be read, holds objects (which are never unpickled) or lacks one of ``names``;
            the message names the file.

    """
    with reading(path, "arrays"):
        # Opened here, because NumPy leaves a damaged file open.
        with open(path, "rb") as stream:
            try:
                loaded = np.load(stream)
                if isinstance(loaded, np.ndarray):
                    loaded = {"array": loaded}
                absent = [name for name in names if name not in loaded]
                arrays = {} if absent else {name: loaded[name] for name in names or loaded}
            except ValueError as error:  # NumPy's own words are about what its caller might do
                objects = " of objects, which may run anything" * ("allow_pickle" in str(error))
                raise ValueError(f"cannot be read as arrays{objects} ({str(error).split('. ')[0]})") from error
        if absent:
            raise ValueError(f"must hold {', '.join(names)}: it has {', '.join(loaded)}")
        return arrays


def read_volume(file: Path) -> Float[Tensor, "1 D H W"]:
    """Read a volume of values from 0 to 1 from a `.npy` file, or a `.npz` file with one array.

    Raises:
        ValueError: If the file cannot be read or holds anything else; the message names the file.

    """
    arrays = read_arrays(file)
    if len(arrays) != 1:
        raise ValueError(f"`{file}` must hold one array, has {list(arrays)}")
    (values,) = arrays.values()
    return check_unit_values(file, values, 3)


def check_unit_values(file: Path, values: NDArray[Any], axes: int) -> Tensor:
    """Return the values of a file as float32, `[1, *shape]`; raise unless they are from 0 to 1.

    Args:
        file: The file, for the message.
        values: What it holds.
        axes: The number of axes that the values must have.

    """
    rule = f"numbers from 0 to 1 of {axes} axes"
    if values.ndim != axes or values.dtype.kind not in "fiu" or 0 in values.shape:
        raise ValueError(f"`{file}` holds {values.dtype} {list(values.shape)}, must be {rule}")
    if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
        raise ValueError(f"`{file}` has values from {values.min():g} to {values.max():g}, must be {rule}")
    return torch.from_numpy(values.astype(np.float32))[None]
