from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import default_collate

from pcsa.datasets.crops import to_source
from pcsa.datasets.mtfl import Mtfl

# x, then y, of the landmarks, counted from 0; the picture is 100 wide and 80 high.
X, Y = [40, 60, 50, 44, 56], [30, 31, 40, 50, 51]


def line(number: int, folder: str = "faces") -> str:
    values = [x + 1 for x in X] + [y + 1 for y in Y]
    return f" {folder}\\{number}.png " + " ".join(f"{v:.6f}" for v in values) + " 1 2 2 3\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "faces").mkdir()
    pixels = np.zeros((80, 100, 3), dtype=np.uint8)
    pixels[Y, X] = 255
    for i in range(12):
        Image.fromarray(pixels + np.uint8(i)).save(tmp_path / "faces" / f"{i}.png")
    (tmp_path / "training.txt").write_text("".join(line(i) for i in range(10)) + "\n")
    return tmp_path


def numbers(dataset: Mtfl) -> list[int]:
    return [round(float(dataset.source(i)["image"][0, 0, 0]) * 255) for i in range(len(dataset))]


def test_splits(root: Path) -> None:
    assert numbers(Mtfl(root, "train", num_test=3)) == list(range(7))
    assert numbers(Mtfl(root, "test", num_test=3)) == [7, 8, 9]
    assert numbers(Mtfl(root, "val", num_test=3)) == [6]
    assert numbers(Mtfl(root, "train", num_test=3, num_val=2)) == list(range(5))
    assert numbers(Mtfl(root, "val", num_test=3, num_val=2)) == [5, 6]
    (root / "testing.txt").write_text(line(10) + line(11))
    assert numbers(Mtfl(root, "train")) == list(range(10))
    assert numbers(Mtfl(root, "test")) == [10, 11]


def test_source(root: Path) -> None:
    source = Mtfl(root, "train", num_test=3).source(0)
    assert source["keypoints"].T.tolist() == [X, Y]
    assert source["visible"].all()
    for x, y in zip(X, Y, strict=True):
        assert source["image"][:, y, x].tolist() == [1, 1, 1]
    # 0.6 of the shorter side of 80, in the middle of 100 x 80.
    assert source["box"].tolist() == pytest.approx([26, 16, 48, 48])
    as_it_is = Mtfl(root, "train", num_test=3, one_based=False).source(0)
    torch.testing.assert_close(as_it_is["keypoints"], source["keypoints"] + 1)


def test_samples(root: Path) -> None:
    dataset = Mtfl(root, "train", num_test=3)
    assert dataset.input_size == (64, 64)
    batch = default_collate([dataset[i] for i in range(3)])
    assert batch["image"].shape == (3, 3, 64, 64)
    torch.testing.assert_close(
        to_source(batch["keypoints"], batch["to_source"])[1], dataset.source(1)["keypoints"], rtol=0, atol=1e-4
    )
    # 60 pixels on 64; the middle of the picture is the middle of the crop.
    assert batch["keypoints"][0, 2].tolist() == pytest.approx([31.5 + 0.5 * 64 / 60, 31.5 + 0.5 * 64 / 60], abs=1e-4)
    varied = dataset.augmented(1, torch.Generator().manual_seed(1))
    assert set(varied) == set(dataset[1])
    assert varied["keypoints"][0, 0] < varied["keypoints"][1, 0]  # flipped or not, the left eye is on the left


def test_bad_files(root: Path) -> None:
    with pytest.raises(ValueError, match=r"`num_test` \(=100\)"):
        Mtfl(root, "train")
    with pytest.raises(ValueError, match="`num_val`"):
        Mtfl(root, "train", num_test=3, num_val=7)
    with pytest.raises(ValueError, match="`share`"):
        Mtfl(root, "train", num_test=3, share=0)
    with pytest.raises(ValueError, match="`split`"):
        Mtfl(root, "dev", num_test=3)  # type: ignore[arg-type]
    for bad, match in [("faces/1.png 1 2 3\n", "line 11"), (line(1).replace("41.0", "x41.0"), "line 11.*x41")]:
        (root / "training.txt").write_text("".join(line(i) for i in range(10)) + bad)
        with pytest.raises(ValueError, match=match):
            Mtfl(root, "train", num_test=3)
    (root / "training.txt").write_text("".join(line(i, "nowhere") for i in range(10)))
    with pytest.raises(FileNotFoundError, match=r"nowhere/0\.png"):
        Mtfl(root, "train", num_test=3)[0]
    (root / "training.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"training\.txt"):
        Mtfl(root, "train", num_test=3)


@pytest.fixture(scope="module")
def real(real_data: Path) -> Path:
    return real_data / "mtfl"


def test_real_counts(real: Path) -> None:
    train, test = Mtfl(real, "train"), Mtfl(real, "test")
    assert (len(train), len(test)) == (600, 100)
    for i in range(0, 600, 20):
        assert train[i]["visible"].all()
        keypoints = train.source(i)["keypoints"]
        assert keypoints[0, 0] < keypoints[1, 0]
        assert keypoints[:2, 1].max() < keypoints[3:, 1].min()


def test_real_pupils_are_at_the_labels(real: Path) -> None:
    # The dark center of the pupil against the label, horizontally and over both eyes: the lids and brows above move it
    # up only, and the shade of the nose moves the two eyes in opposite directions.
    dataset = Mtfl(real, "train")
    offsets = []
    for i in range(0, 350, 2):
        source = dataset.source(i)
        for x, y in source["keypoints"][:2].tolist():
            cx, cy = x, y
            for _ in range(5):
                left, top = int(cx) - 5, int(cy) - 5
                patch = source["image"].mean(0)[top : top + 12, left : left + 12]
                gx, gy = torch.arange(12) + left, torch.arange(12)[:, None] + top
                weight = torch.exp(-((gx - cx) ** 2 + (gy - cy) ** 2) / 22)
                dark = (patch.quantile(0.45) - patch).clamp(min=0) * weight
                cx, cy = float((dark * gx).sum() / dark.sum()), float((dark * gy).sum() / dark.sum())
            offsets.append(cx - x)
    # 0.9 to the left if the labels counted from 0.
    assert abs(float(np.median(offsets))) < 0.35
