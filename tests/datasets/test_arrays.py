import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from pcsa.datasets.arrays import read_arrays, read_volume


def test_arrays_by_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "two.npz", a=np.arange(3), b=np.zeros(2))
    assert list(read_arrays(tmp_path / "two.npz")) == ["a", "b"]
    assert read_arrays(tmp_path / "two.npz", ["a"])["a"].tolist() == [0, 1, 2]
    assert list(read_arrays(tmp_path / "two.npz", ["b"])) == ["b"]
    np.save(tmp_path / "one.npy", np.arange(2))
    assert read_arrays(tmp_path / "one.npy")["array"].tolist() == [0, 1]
    with pytest.raises(ValueError, match=r"two\.npz`: must hold a, c: it has a, b"):
        read_arrays(tmp_path / "two.npz", ["a", "c"])


def test_broken_files_are_named_and_closed(tmp_path: Path) -> None:
    np.savez(tmp_path / "cut.npz", a=np.arange(1000))
    whole = (tmp_path / "cut.npz").read_bytes()
    for content in (b"", b"nonsense", whole[:-100], whole[:50]):
        (tmp_path / "cut.npz").write_bytes(content)
        with pytest.raises(ValueError, match=r"cut\.npz`: cannot be read as arrays"):
            read_arrays(tmp_path / "cut.npz")
    with pytest.raises(FileNotFoundError):
        read_arrays(tmp_path / "absent.npy")
    # A header that declares more than any machine has.
    np.save(tmp_path / "huge.npy", np.zeros((5, 3)))
    header = (tmp_path / "huge.npy").read_bytes()
    (tmp_path / "huge.npy").write_bytes(header.replace(b"(5, 3), }" + b" " * 14, b"(50000000000000, 3), }" + b" "))
    with pytest.raises(ValueError, match=r"huge\.npy`: cannot be read as arrays"):
        read_arrays(tmp_path / "huge.npy")


class Runs:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    objects = np.array([Runs(tmp_path / "ran")], dtype=object)
    np.save(tmp_path / "objects.npy", objects, allow_pickle=True)
    np.savez(tmp_path / "objects.npz", points=objects)
    (tmp_path / "pickle.npy").write_bytes(pickle.dumps(objects))
    for name in ("objects.npy", "objects.npz", "pickle.npy"):
        with pytest.raises(ValueError, match=rf"{name}`: cannot be read as arrays of objects, which may run anything"):
            read_arrays(tmp_path / name)
    assert not (tmp_path / "ran").exists()


def test_volumes(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((2, 3, 4))
    np.save(tmp_path / "v.npy", values)
    np.savez(tmp_path / "v.npz", anything=values)
    for name in ("v.npy", "v.npz"):
        volume = read_volume(tmp_path / name)
        assert volume.dtype == torch.float32
        np.testing.assert_array_equal(volume.numpy(), values[None].astype(np.float32))
    np.savez(tmp_path / "v.npz", a=values, b=values)
    with pytest.raises(ValueError, match=r"v\.npz` must hold one array, has \['a', 'b'\]"):
        read_volume(tmp_path / "v.npz")


@pytest.mark.parametrize(
    ("values", "rule"),
    [
        (np.zeros((3, 4)), r"holds float64 \[3, 4\]"),
        (np.zeros((0, 3, 4)), r"holds float64 \[0, 3, 4\]"),
        (np.zeros((2, 3, 4), dtype=bool), r"holds bool \[2, 3, 4\]"),
        (np.full((2, 3, 4), 1.5), "has values from 1.5 to 1.5"),
        (np.full((2, 3, 4), np.nan), "has values from nan to nan"),
    ],
)
def test_what_is_no_volume(tmp_path: Path, values: np.ndarray, rule: str) -> None:
    np.save(tmp_path / "v.npy", values)
    with pytest.raises(ValueError, match=rf"v\.npy` {rule}, must be numbers from 0 to 1 of 3 axes"):
        read_volume(tmp_path / "v.npy")
