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


@pytest.mark.parametrize("code", [0x110000, 0xFFFFFFFF, 0xD800])
@pytest.mark.parametrize("order", ["<", ">"])
def test_texts_of_no_characters_are_refused(tmp_path: Path, code: int, order: str) -> None:
    """NumPy makes strings of them on which Python breaks, in whatever touches them first."""
    names = np.array(["left", "right"])
    numbers = names.view(np.uint32).copy()
    numbers[2] = code
    broken = np.frombuffer(numbers.astype(f"{order}u4").tobytes(), dtype=f"{order}U5")
    np.savez(tmp_path / "a.npz", names=broken, points=np.zeros((2, 3)))
    with pytest.raises(ValueError, match=rf"a\.npz`: .*text of `names` has {code:#x}, which is no character"):
        read_arrays(tmp_path / "a.npz")
    # Those that nobody asks for are not read.
    assert list(read_arrays(tmp_path / "a.npz", ["points"])) == ["points"]
    table = np.zeros(2, dtype=[("name", f"{order}U5"), ("x", "f4")])
    table.view(np.uint8).reshape(2, -1)[1, :20] = np.frombuffer(broken.tobytes()[:20], np.uint8)
    np.save(tmp_path / "a.npy", table)
    with pytest.raises(ValueError, match=r"a\.npy`: .*text of `array\[name\]`"):
        read_arrays(tmp_path / "a.npy")
    np.savez(tmp_path / "b.npz", names=names, none=np.array([], dtype="U3"), empty=np.zeros(2, dtype="U0"))
    assert read_arrays(tmp_path / "b.npz")["names"].tolist() == ["left", "right"]


def test_volumes(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((2, 3, 4))
    np.save(tmp_path / "v.npy", values)
    np.savez(tmp_path / "v.npz", anything=values)
    for name in ("v.npy", "v.npz"):
        volume = read_volume(tmp_path / name)
        assert volume.dtype == torch.float32
        np.testing.assert_array_equal(volume.numpy(), values[None].astype(np.float32))
    np.savez(tmp_path / "v.npz", a=values, b=values)
    with pytest.raises(ValueError, match=r"v\.npz`: must hold one array, has a, b"):
        read_volume(tmp_path / "v.npz")


@pytest.mark.parametrize(
    ("values", "rule"),
    [
        (np.zeros((3, 4)), r"`array` \(float64 \[3, 4\]\) must be numbers of 3 axes"),
        (np.zeros((0, 3, 4)), r"`array` \(float64 \[0, 3, 4\]\) must be numbers of 3 axes"),
        (np.full((2, 3, 4), "a"), r"`array` \(<U1 \[2, 3, 4\]\) must be numbers of 3 axes"),
        (np.full((2, 3, 4), 1.5), r"`array`: values \(float64, from 1.5 to 1.5\) must be from 0 to 1"),
        (np.full((2, 3, 4), np.nan), r"`array`: values \(float64\) must be finite: 24 are NaN"),
        (np.ones((2, 3, 4), np.uint8), r"`array`: values \(uint8, from 0 to 1\) must come with `value_range`"),
        (np.full((2, 3, 4), 1023, np.uint16), r"`array`: values \(uint16, .*less than a quarter"),
        (np.ones((2, 3, 4), np.int64), r"`array`: values \(int64, from 1 to 1\) must come with `value_range`"),
    ],
)
def test_what_is_no_volume(tmp_path: Path, values: np.ndarray, rule: str) -> None:
    np.save(tmp_path / "v.npy", values)
    with pytest.raises(ValueError, match=rf"v\.npy`: {rule}"):
        read_volume(tmp_path / "v.npy")


def test_volumes_of_every_type(tmp_path: Path) -> None:
    unit = np.array([0, 0.2, 1]).reshape(1, 1, 3)
    for values, value_range in (
        ((255 * unit).astype(np.uint8), None),
        ((65535 * unit).round().astype(np.uint16), None),
        ((1000 * unit - 500).astype(np.int16), (-500, 500)),
        (unit.astype(np.float16), None),
        (unit * 255, (0, 255)),
    ):
        np.save(tmp_path / "v.npy", values)
        np.testing.assert_allclose(read_volume(tmp_path / "v.npy", value_range), unit[None], atol=1e-3)
    # Bytes of zeros and ones say nothing by themselves; bools do.
    for values, value_range in ((unit > 0.5, None), ((unit > 0.5).astype(np.uint8), (0, 1))):
        np.save(tmp_path / "v.npy", values)
        assert read_volume(tmp_path / "v.npy", value_range).flatten().tolist() == [0, 0, 1]


def test_what_follows_an_array_is_not_lost(tmp_path: Path) -> None:
    with open(tmp_path / "two.npy", "wb") as file:
        np.save(file, np.zeros((5, 3)))
        np.save(file, np.ones((5, 3)))
    with pytest.raises(ValueError, match=r"two\.npy`: .*more follows after its first array"):
        read_arrays(tmp_path / "two.npy")
    np.save(tmp_path / "padded.npy", np.ones((5, 3)))
    with open(tmp_path / "padded.npy", "ab") as file:
        file.write(bytes(20))
    np.testing.assert_array_equal(read_arrays(tmp_path / "padded.npy")["array"], np.ones((5, 3)))
    (tmp_path / "text.npy").write_text("1 2 3\n")
    with pytest.raises(ValueError, match=r"text\.npy`: cannot be read as arrays \(not written by np.save"):
        read_arrays(tmp_path / "text.npy")
