import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of the real data; tests that want it are skipped where there is none."""
    folder = os.environ.get("PCSA_TEST_DATA")
    if not folder:
        pytest.skip("PCSA_TEST_DATA is not set")
    return Path(folder)


@pytest.fixture(scope="session")
def save_73() -> Callable[[Path, dict[str, Any]], None]:
    """Write variables as MATLAB's files of version 7.3 have them."""
    return _save_73


def _save_73(path: Path, variables: dict[str, Any]) -> None:
    """Write MATLAB's files of version 7.3: HDF5 after 512 bytes of text, axes reversed, cells as references."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, value in variables.items():
            _put(file, file, name, value)
    with open(path, "r+b") as stream:
        stream.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")


def _put(file: h5py.File, group: h5py.Group, name: str, value: np.ndarray) -> h5py.Dataset:
    if value.dtype == object:
        cells = np.empty(value.T.shape, dtype=h5py.ref_dtype)
        for place in np.ndindex(cells.shape):
            inside = file.require_group("#refs#")
            cells[place] = _put(file, inside, f"{name}{len(inside)}", value.T[place]).ref
        return group.create_dataset(name, data=cells, dtype=h5py.ref_dtype)
    if value.size == 0:
        empty = group.create_dataset(name, data=np.array(value.shape, np.uint64))
        empty.attrs["MATLAB_empty"] = np.uint8(1)
        return empty
    return group.create_dataset(name, data=value.T)
