"""MATLAB's files: the arrays in them, whichever version wrote them."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pcsa.datasets.faults import reading
from pcsa.datasets.hdf5_files import own_dataset, read_dataset
from pcsa.datasets.limits import check_regular
from pcsa.datasets.matlab5 import read_matlab5

_MOST_CELLS = 10**6


def read_matlab(path: str | os.PathLike[str], names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Read arrays and cells of a `.mat` file, those of ``names`` that it has.

    Versions 5 to 7 are read by :func:`pcsa.datasets.matlab5.read_matlab5`, version 4 by SciPy; a file of version 7.3 is
    HDF5 with its axes the other way around, and h5py reads it. All give the same: axes in MATLAB's order, at least two
    of them, and cells as arrays of objects.

    Args:
        path: The file.
        names: The variables to read.

    Raises:
        ValueError: If the file is no MATLAB file or cut off, has none of ``names``, has a structure or text there, or
            takes more memory than it may (:mod:`pcsa.datasets.limits`); the message names the file.

    """
    with reading(path, "a MATLAB file"):
        with open(path, "rb") as stream:
            # HDF5 in MATLAB's files begins after a block of text; other writers leave that out.
            start = stream.read(520)
        if b"\x89HDF\r\n\x1a\n" in (start[:8], start[512:]):
            there, found = _hdf5(path, names)
        elif b"\0" in start[:4] or len(start) < 128:
            there, found = _oldest(path, names)
        else:
            there, found = read_matlab5(path, names)
        if not found:
            raise ValueError(f"must hold {' or '.join(names)}: it has {', '.join(there) or 'nothing'}")
        for name, array in found.items():
            if array.dtype.kind not in "bfiuO":
                raise ValueError(f"`{name}` ({array.dtype}) must be numbers, or cells of numbers")
        return found


def _oldest(path: str | os.PathLike[str], names: Sequence[str]) -> tuple[list[str], dict[str, NDArray[Any]]]:
    from scipy.io import loadmat, whosmat

    check_regular(path)
    try:
        there = [name for name, *_ in whosmat(path)]
        data = loadmat(path, variable_names=[name for name in names if name in there])
    except ValueError as error:  # SciPy's own, which does not say what it is about
        raise TypeError(str(error)) from error
    return there, {name: np.asarray(data[name]) for name in names if name in data}


def _hdf5(path: str | os.PathLike[str], names: Sequence[str]) -> tuple[list[str], dict[str, NDArray[Any]]]:
    import h5py

    with h5py.File(path) as file:
        there = [name for name in file if not name.startswith("#")]
        return there, {name: _array(own_dataset(file, name), name, path, file, 0) for name in names if name in there}


def _array(item: Any, name: str, path: str | os.PathLike[str], file: Any, depth: int) -> NDArray[Any]:
    """Return a variable of an HDF5 file, or what a reference to one points to."""
    import h5py

    if not isinstance(item, h5py.Dataset):
        raise ValueError(f"`{name}` must be numbers, or cells of numbers: it is a structure")
    stored = read_dataset(item, path)
    if item.attrs.get("MATLAB_empty", 0):
        # An empty array is stored as its shape.
        shape = [int(n) for n in stored.ravel()]
        if len(shape) > 32 or np.prod(shape) != 0:
            raise ValueError(f"`{name}` {shape[:32]} is called empty: one of its axes must be 0")
        return np.zeros(shape)
    if item.dtype == h5py.ref_dtype:
        # A cell that holds itself has no end.
        if depth or stored.size > _MOST_CELLS:
            raise ValueError(f"`{name}` must be at most {_MOST_CELLS} cells of numbers, not cells of cells")
        cells = np.empty(stored.shape, dtype=object)
        for place in np.ndindex(stored.shape):
            cells[place] = _array(file[stored[place]], name, path, file, depth + 1)
        return cells.T
    return stored.T
