from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import default_collate

from pcsa.datasets.crops import to_source
from pcsa.datasets.lsp import Lsp, check_lsp


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
    array = joints(2000)
    array[:, :, 1] = 20 + np.arange(2000)[:, None] / 100
    np.savez(root / "joints.npz", joints=array)
    train, test = Lsp(root, "train"), Lsp(root, "test")
    assert (len(train), len(test)) == (1000, 1000)
    assert test.source(0)["keypoints"][0, 1] == 30


def test_bad_files(root: Path) -> None:
    with pytest.raises(ValueError, match="`split`"):
        Lsp(root, "all")  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError, match="nowhere"):
        Lsp(root / "nowhere", "train")
    np.savez(root / "joints.npz", joints=joints(9))
    with pytest.raises(ValueError, match=r"images`: pictures \(=10\) must be one for each of the 9 joints"):
        Lsp(root, "train")
    np.savez(root / "joints.npz", joints=joints(10)[:, :13])
    with pytest.raises(ValueError, match=r"joints\.npz`: `joints` \(float32 \[10, 13, 3\]\) must be numbers"):
        Lsp(root, "train")
    broken = joints(10)
    broken[4, 0, 0] = np.nan
    np.savez(root / "joints.npz", joints=broken)
    with pytest.raises(ValueError, match=r"joints\.npz`: `joints`: person 5: `right_ankle` \(=nan, 24\) must"):
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
    with pytest.raises(ValueError, match=r"im0003\.jpg`: cannot be read as a picture"):
        Lsp(root, "train")[2]


def test_pictures_go_by_their_numbers(root: Path) -> None:
    # im1, im10, im2, … by text; one of another suffix, and files that are none of the pictures.
    for i in range(10):
        (root / "images" / f"im{i + 1:04d}.jpg").rename(root / "images" / f"lsp2_im{i + 1}.jpg")
    Image.open(root / "images" / "lsp2_im4.jpg").save(root / "images" / "lsp2_im4.PNG")
    (root / "images" / "lsp2_im4.jpg").unlink()
    for name in ("._lsp2_im1.jpg", "Thumbs.db", "notes11.txt"):
        (root / "images" / name).write_text("")
    train = Lsp(root, "train")
    for i in range(8):
        source = train.source(i)
        assert source["keypoints"][0, 1] == 20 + i
        assert torch.allclose(source["image"], torch.tensor(10 * i / 255), atol=3 / 255)
    assert check_lsp(root) == []
    # A gap, which the number of files does not show.
    (root / "images" / "lsp2_im10.jpg").rename(root / "images" / "lsp2_im12.jpg")
    for find in (lambda: Lsp(root, "train"), lambda: raised(check_lsp(root))):
        with pytest.raises(ValueError, match=r"images.*: pictures \(=10, without those numbered 10\) must be one"):
            find()
    (root / "images" / "lsp2_im12.jpg").rename(root / "images" / "lsp2_im03.jpg")
    with pytest.raises(ValueError, match=r"im3\.jpg`: must have a number of its own: `lsp2_im03\.jpg` has it too"):
        Lsp(root, "train")
    (root / "images" / "lsp2_im03.jpg").rename(root / "images" / "last.jpg")
    with pytest.raises(ValueError, match=r"last\.jpg`: must have a number in its name"):
        Lsp(root, "train")


def raised(problems: list) -> None:
    """Raise what a check has found, as one text."""
    raise ValueError("\n".join(map(str, problems)))


def test_pictures_numbered_from_zero(root: Path) -> None:
    for i in range(10):
        (root / "images" / f"im{i + 1:04d}.jpg").rename(root / "images" / f"{i}.jpg")
    assert rows(Lsp(root, "train")) == list(range(8))


def test_matlab_7_3(root: Path, save_73: Any) -> None:
    (root / "joints.npz").unlink()
    save_73(root / "joints.mat", {"joints": joints(10).transpose(1, 2, 0)})
    source = Lsp(root, "train").source(1)
    assert source["visible"].tolist() == [k != 3 for k in range(14)]
    assert source["keypoints"][13].tolist() == [36, 21]
    array = joints(10)
    array[:, 3] = (16, 20, 0)
    save_73(root / "joints.mat", {"joints": array.transpose(2, 1, 0)})
    assert Lsp(root, "train").source(1)["visible"].all()


def test_counted_from_one(root: Path) -> None:
    source, moved = (Lsp(root, "train", one_based=one_based).source(2) for one_based in (False, True))
    torch.testing.assert_close(moved["keypoints"][:3], source["keypoints"][:3] - 1)
    torch.testing.assert_close(moved["box"][:2], source["box"][:2] - 1)
    array = joints(10)
    array[:, :, :2] -= 10
    np.savez(root / "joints.npz", joints=array)
    with pytest.raises(ValueError, match=r"joints\.npz`: positions .* count from 0: `one_based` must be false"):
        Lsp(root, "train", one_based=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a[:, :, :2].__itruediv__(60), r"joints\.npz.*must be in pixels: these are shares of a picture"),
        (lambda a: a[:, :, :2].__imul__(2), r"im0\d+\.jpg.*must lie in its picture of 50 x 60 pixels"),
        (lambda a: a[:, :, :2].__itruediv__(2), r"joints\.npz.*the middle of the labels .*another size"),
        (lambda a: a[:, 0].__setitem__(2, (56, 20, 1)), r"im0003\.jpg.*`right_ankle` \(=56, 20\) must lie in"),
        (lambda a: a[:, 0, 2].__setitem__(2, 2), r"joints\.npz.*the third number of a joint \(=2\) must be 0 or 1"),
    ],
)
def test_labels_of_another_unit_or_size(root: Path, change: Any, message: str) -> None:
    array = joints(10)
    change(array)
    np.savez(root / "joints.npz", joints=array)
    with pytest.raises(ValueError, match=message):
        Lsp(root, "train")[2]
    with pytest.raises(ValueError, match=message):
        raised(check_lsp(root))


def test_a_head_may_be_cut_off(root: Path) -> None:
    array = joints(10)
    array[3, 13] = (30, -5, 1)  # of 60 pixels, a tenth
    np.savez(root / "joints.npz", joints=array)
    assert Lsp(root, "train").source(3)["keypoints"][13].tolist() == [30, -5]
    assert check_lsp(root) == []


def test_check_lists_every_fault(root: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(root / "images" / "im0002.jpg") as picture:
        picture.save(root / "images" / "im0002.jpg", exif=exif)
    (root / "images" / "im0005.jpg").write_text("nonsense")
    array = joints(10)
    array[6, 2] = (200, 20, 1)
    np.savez(root / "joints.npz", joints=array)
    problems = check_lsp(root)
    assert [Path(p.path).name for p in problems] == ["im0002.jpg", "im0005.jpg", "im0007.jpg"]
    assert "EXIF orientation (=6) must be 1" in problems[0].message
    assert "cannot be read as a picture" in problems[1].message
    assert "`right_hip` (=200, 20) must lie in its picture" in problems[2].message
    with pytest.raises(ValueError, match=r"im0002\.jpg`: EXIF orientation \(=6\).*and 2 more problems"):
        Lsp(root, "train")
    (root / "joints.npz").write_text("nonsense")
    assert [Path(p.path).name for p in check_lsp(root)] == ["joints.npz"]
    assert len(check_lsp(root / "nowhere")) == 1


def test_real_counts(real_data: Path) -> None:
    train, test = Lsp(real_data / "lsp", "train"), Lsp(real_data / "lsp", "test")
    assert (len(train), len(test)) == (240, 60)
    assert train.skipped == {}
    assert check_lsp(real_data / "lsp") == []
    seen = torch.stack([test[i]["visible"] for i in range(20)])
    labeled = torch.stack([test.source(i)["visible"] for i in range(20)])
    # Nothing that is labeled falls out of a crop.
    assert torch.equal(seen, labeled)
    assert 0.8 < labeled.float().mean() < 0.95
