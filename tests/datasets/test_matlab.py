from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from scipy.io import savemat

from pcsa.datasets.matlab import read_matlab


def cells() -> np.ndarray:
    array = np.empty((2, 3), dtype=object)
    for i, j in np.ndindex(array.shape):
        array[i, j] = np.arange(2.0 * (i + j)).reshape(i + j, 2)
    return array


@pytest.mark.parametrize("version", ["5", "7.3"])
def test_both_versions_give_the_same(tmp_path: Path, version: str, save_73: Any) -> None:
    save = savemat if version == "5" else save_73
    numbers = np.arange(24.0).reshape(2, 3, 4)
    path = tmp_path / "a.mat"
    save(path, {"numbers": numbers, "cells": cells(), "one": np.array([[7]], np.uint8)})
    found = read_matlab(path, ["cells", "numbers", "one", "absent"])
    assert list(found) == ["cells", "numbers", "one"]
    np.testing.assert_array_equal(found["numbers"], numbers)
    assert found["one"].tolist() == [[7]]
    assert found["cells"].shape == (2, 3)
    for place in np.ndindex(2, 3):
        np.testing.assert_array_equal(found["cells"][place], cells()[place])
    assert found["cells"][0, 0].size == 0


def test_what_is_no_matlab_file(tmp_path: Path, save_73: Any) -> None:
    path = tmp_path / "a.mat"
    save_73(path, {"other": np.zeros((2, 2))})
    with pytest.raises(ValueError, match=r"a\.mat`: must hold joints or points: it has other"):
        read_matlab(path, ["joints", "points"])
    savemat(path, {"joints": {"x": 1.0}})
    with pytest.raises(ValueError, match=r"a\.mat`: `joints` .* must be numbers, or cells of numbers"):
        read_matlab(path, ["joints"])
    with h5py.File(path, "w") as file:
        file.create_group("joints")
    with pytest.raises(ValueError, match=r"a\.mat`: `joints` must be numbers, or cells of numbers"):
        read_matlab(path, ["joints"])
    save_73(path, {"joints": np.zeros((200, 200))})
    whole = path.read_bytes()
    for content in (b"", b"nonsense" * 100, whole[: len(whole) // 2], whole[:600]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"a\.mat`: (cannot be read as|not) a MATLAB file"):
            read_matlab(path, ["joints"])
    with pytest.raises(FileNotFoundError):
        read_matlab(tmp_path / "none.mat", ["joints"])
