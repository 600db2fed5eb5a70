from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import default_collate

from pcsa.datasets.crops import to_source
from pcsa.datasets.lsp import Lsp


def joints(number: int) -> np.ndarray:
    """Joint k of picture i at (10 + 2 k, 20 + i), all visible but joint 3; what that says means nothing."""
    array = np.zeros((number, 14, 3), dtype=np.float32)
    array[:, :, 0] = 10 + 2 * np.arange(14)
    array[:, :, 1] = 20 + np.arange(number)[:, None]
    array[:, :, 2] = 1
    array[:, 3] = (-500, 900, 0)
    return array


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for i in range(10):
        Image.fromarray(np.full((60, 50, 3), 10 * i, dtype=np.uint8)).save(tmp_path / "images" / f"im{i + 1:04d}.jpg")
    np.savez(tmp_path / "joints.npz", joints=joints(10))
    return tmp_path


def rows(dataset: Lsp) -> list[int]:
    return [round(float(dataset.source(i)["keypoints"][0, 1])) - 20 for i in range(len(dataset))]


def test_splits(root: Path) -> None:
    assert rows(Lsp(root, "train")) == list(range(8))
    assert rows(Lsp(root, "test")) == [8, 9]
    assert rows(Lsp(root, "val")) == [7]
    assert rows(Lsp(root, "train", num_val=3)) == list(range(5))
    assert rows(Lsp(root, "val", num_val=3)) == [5, 6, 7]


def test_source_and_box(root: Path) -> None:
    source = Lsp(root, "train").source(2)
    assert source["visible"].tolist() == [k != 3 for k in range(14)]
    assert source["keypoints"][3].tolist() == [0, 0]
    assert source["keypoints"][13].tolist() == [36, 22]
    assert source["occluded"].tolist() == [k == 3 for k in range(14)]
    assert torch.allclose(source["image"], torch.tensor(20 / 255), atol=2 / 255)
    # The joints span 26 x 0 pixels around (23, 22); a side is 20 at least, and 2.6 more at either end.
    assert source["box"].tolist() == pytest.approx([23.5 - 15.6, 22.5 - 12.6, 31.2, 25.2])


def test_samples(root: Path) -> None:
    dataset = Lsp(root, "train", input_size=(64, 48))
    batch = default_collate([dataset[i] for i in range(3)])
    assert batch["image"].shape == (3, 3, 64, 48)
    assert batch["visible"].sum(1).tolist() == [13, 13, 13]
    back = to_source(batch["keypoints"], batch["to_source"])
    for i in range(3):
        source = dataset.source(i)
        torch.testing.assert_close(back[i][source["visible"]], source["keypoints"][source["visible"]])
    assert set(dataset.augmented(0, torch.Generator())) == set(dataset[0])
    for left, right in dataset.pairs:
        names = {dataset.names[left], dataset.names[right]}
        assert {name.split("_", 1)[1] for name in names} == {dataset.names[left].split("_", 1)[1]}
        assert {name.split("_", 1)[0] for name in names} == {"left", "right"}
    assert len(dataset.pairs) == 6


def test_invisible_persons_are_counted(root: Path) -> None:
    array = joints(10)
    array[[1, 9], :, 2] = 0
    np.savez(root / "joints.npz", joints=array)
    train = Lsp(root, "train")
    assert rows(train) == [0, 2, 3, 4, 5, 6, 7]
    assert train.skipped == {"no visible joint": 1}
    assert len(Lsp(root, "test")) == 1
    assert Lsp(root, "val").skipped == {}


def test_one_visible_joint_has_a_box(root: Path) -> None:
    array = joints(10)
    array[0, 1:, 2] = 0
    np.savez(root / "joints.npz", joints=array)
    box = Lsp(root, "train").source(0)["box"]
    assert box.tolist() == pytest.approx([10.5 - 12, 20.5 - 12, 24, 24])


def test_matlab_files(root: Path) -> None:
    from scipy.io import savemat

    (root / "joints.npz").unlink()
    # The extended set: [14, 3, N], 1 for visible.
    savemat(root / "joints.mat", {"joints": joints(10).transpose(1, 2, 0)})
    extended = Lsp(root, "train").source(1)
    assert extended["visible"].tolist() == [k != 3 for k in range(14)]
    # The first set: [3, 14, N], 1 for occluded, and every joint labeled.
    array = joints(10)
    array[:, :, 2] = 0
    array[:, 3] = (16, 20, 1)
    savemat(root / "joints.mat", {"joints": array.transpose(2, 1, 0)})
    first = Lsp(root, "train").source(1)
    assert first["visible"].all()
    assert first["occluded"].tolist() == [k == 3 for k in range(14)]
    assert first["keypoints"][3].tolist() == [16, 20]


def test_the_official_halves(root: Path) -> None:
    for i in range(10, 2000):
        os.link(root / "images" / "im0001.jpg", root / "images" / f"im{i + 1:04d}.jpg")
    np.savez(root / "joints.npz", joints=joints(2000))
    train, test = Lsp(root, "train"), Lsp(root, "test")
    assert (len(train), len(test)) == (1000, 1000)
    assert test.source(0)["keypoints"][0, 1] == 1020


def test_bad_files(root: Path) -> None:
    with pytest.raises(ValueError, match="`split`"):
        Lsp(root, "all")  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError, match="nowhere"):
        Lsp(root / "nowhere", "train")
    np.savez(root / "joints.npz", joints=joints(9))
    with pytest.raises(ValueError, match="10 pictures in images/ and joints of 9"):
        Lsp(root, "train")
    np.savez(root / "joints.npz", joints=joints(10)[:, :13])
    with pytest.raises(ValueError, match=r"joints\.npz.*\[10, 13, 3\]"):
        Lsp(root, "train")
    broken = joints(10)
    broken[4, 0, 0] = np.nan
    np.savez(root / "joints.npz", joints=broken)
    with pytest.raises(ValueError, match=r"joints\.npz.*not finite"):
        Lsp(root, "train")
    np.savez(root / "joints.npz", others=broken)
    with pytest.raises(ValueError, match=r"joints\.npz.*must hold joints: it has others"):
        Lsp(root, "train")
    (root / "joints.npz").write_text("nonsense")
    with pytest.raises(ValueError, match=r"joints\.npz.*cannot be read"):
        Lsp(root, "train")
    (root / "joints.npz").unlink()
    with pytest.raises(FileNotFoundError, match=r"joints\.npz.*joints\.mat"):
        Lsp(root, "train")
    np.savez(root / "joints.npz", joints=joints(10))
    (root / "images" / "im0003.jpg").write_text("nonsense")
    with pytest.raises(ValueError, match=r"im0003\.jpg.*decoded"):
        Lsp(root, "train")[2]


def test_real_counts(real_data: Path) -> None:
    train, test = Lsp(real_data / "lsp", "train"), Lsp(real_data / "lsp", "test")
    assert (len(train), len(test)) == (240, 60)
    assert train.skipped == {}
    seen = torch.stack([test[i]["visible"] for i in range(20)])
    labeled = torch.stack([test.source(i)["visible"] for i in range(20)])
    # Nothing that is labeled falls out of a crop.
    assert torch.equal(seen, labeled)
    assert 0.8 < labeled.float().mean() < 0.95
