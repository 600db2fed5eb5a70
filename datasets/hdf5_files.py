"""Datasets of HDF5 files that others wrote: read where they are in the file itself, and not larger than it may be."""

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pcsa.datasets.limits import check_unpacked


def own_dataset(file: Any, name: str) -> Any:
    """Return what a group has under a name, None if it has nothing.

    Raises:
        ValueError: If it is a link: one may lead to another file, or to a pipe.

    """
    import h5py

    link = file.get(name, getlink=True)
    if link is None:
        return None
    if not isinstance(link, h5py.HardLink):
        raise ValueError(f"`{name}` must lie in the file itself, is a link")
    return file[name]


def read_dataset(dataset: Any, path: str | os.PathLike[str]) -> NDArray[Any]:
    """Read the values of a dataset; they are compressed, perhaps, or not there at all.

    Args:
        dataset: The dataset.
        path: Its file.

    Raises:
        ValueError: If it takes more memory than the file may (:mod:`pcsa.datasets.limits`), or its values lie in other
            files.

    """
    if dataset.external or dataset.is_virtual:
        raise ValueError(f"`{dataset.name}` must have its values in the file itself, they are in another one")
    check_unpacked(f"`{dataset.name}` {list(dataset.shape or ())}", dataset.nbytes, path)
    return np.asarray(dataset[()])
