from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import default_collate

from pcsa.datasets.crops import to_source
from pcsa.datasets.mtfl import Mtfl, check_mtfl

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


ATTRIBUTES = [1, 2, 2, 3]


def listing(*, x: Sequence[float] = X, y: Sequence[float] = Y, attributes: Sequence[float] = ATTRIBUTES) -> str:
    """A list of ten faces of these landmarks, which count from 0."""
    values = " ".join(str(v) for v in [*x, *y, *attributes])
    return "".join(f"faces/{i}.png {values}\n" for i in range(10))


def refused(root: Path, message: str, **arguments: Any) -> None:
    with pytest.raises(ValueError, match=message):
        Mtfl(root, "train", num_test=3, **arguments)[0]
    with pytest.raises(ValueError, match=message.replace("`:", ":")):
        raise ValueError("\n".join(map(str, check_mtfl(root, **arguments))))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        # Two numbers for each of 68 landmarks, and a line of 300-W without a picture.
        (listing(x=[*X] * 14, y=[*Y] * 14), r"line 1: must be a path.*it has 144 numbers after `faces/0\.png`"),
        (listing(attributes=[1, 2, 2]), "line 1: .*it has 13 numbers"),
        (listing(attributes=[0.5, 2, 2, 3]), r"line 1: `gender` \(=0.5\) must be a whole number from 1 to 2"),
        (listing(attributes=[1, 2, 2, 6]), r"line 1: `pose` \(=6\) must be a whole number from 1 to 5"),
        # x1 y1 … x5 y5, and the form of the older list: a box, then pairs.
        (
            *(listing(x=[40, 30, 60, 31, 50], y=[40, 44, 50, 56, 51]),),
            r"must be x1 … x5 y1 … y5: 10 of 10 lines make a face only as x1 y1",
        ),
        (
            *(listing(x=[26, 74, 16, 64, 40], y=[30, 60, 31, 50, 40], attributes=[44, 50, 56, 51]),),
            r"line 1: `gender` \(=44\)",
        ),
        (listing(x=Y, y=X), "10 of 10 faces have their eyes not side by side above the mouth"),
        # Left as the person has it.
        (listing(x=[60, 40, 50, 56, 44], y=[31, 30, 40, 51, 50]), "in 10 of 10 faces they are on the right"),
        (listing(x=[v / 100 for v in X], y=[v / 80 for v in Y]), "must be in pixels: these are shares"),
        # Of pictures of twice and half the size.
        (listing(x=[2 * v for v in X], y=[2 * v for v in Y]), r"0\.png`: `right_eye` \(=119, 61\) must lie in its"),
        (listing(x=[v / 2 for v in X], y=[v / 2 for v in Y]), "the middle of the labels .*another size"),
        (listing(x=[0, *X[1:]]), "count from 0: `one_based` must be false"),
        ("", "must have a line for each face"),
        ("faces/0.png\n", "line 1: .*it has 0 numbers"),
        (listing(x=["nan", *X[1:]]), r"line 1: landmarks \(=nan, .*must be finite"),
    ],
)
def test_another_layout_unit_or_frame(root: Path, content: str, message: str) -> None:
    (root / "training.txt").write_text(content)
    refused(root, message)


def test_one_based_or_not(root: Path) -> None:
    (root / "training.txt").write_text(listing().replace(" 40 ", " 0 ", 1))
    zero = Mtfl(root, "train", num_test=3, one_based=False)
    assert zero.source(0)["keypoints"][0].tolist() == [0, 30]
    assert check_mtfl(root, one_based=False) == []


def test_a_face_in_profile_is_one_of_many(root: Path) -> None:
    lines = listing().splitlines()
    lines[3] = "faces/3.png 50 49 60 51 50 30 31 40 50 51 1 2 2 5"
    (root / "training.txt").write_text("\n".join(lines))
    assert Mtfl(root, "train", num_test=3).source(3)["keypoints"][:, 0].tolist() == [49, 48, 59, 50, 49]
    assert check_mtfl(root) == []


def test_paths_of_every_system(root: Path) -> None:
    (root / "fa ces").mkdir()
    (root / "faces" / "1.png").rename(root / "fa ces" / "é 1 2.png")
    line = listing().splitlines()[0].removeprefix("faces/0.png")
    text = f"faces\\0.png{line}\r\nfa ces\\é 1 2.png{line}\r\n\r\nfaces/2.png{line.replace(' ', chr(9))}\r\n"
    for encoding in ("utf-8-sig", "latin-1"):
        (root / "training.txt").write_bytes(text.encode(encoding))
        assert numbers(Mtfl(root, "train", num_test=1)) == [0, 1]
        assert numbers(Mtfl(root, "test", num_test=1)) == [2]
        assert check_mtfl(root) == []
    # The attributes may be left out.
    (root / "training.txt").write_text(listing(attributes=[]))
    (root / "faces" / "1.png").write_bytes((root / "faces" / "2.png").read_bytes())
    assert len(Mtfl(root, "train", num_test=3)) == 7


def test_check_lists_every_fault(root: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.open(root / "faces" / "2.png").save(root / "faces" / "2.png", exif=exif)
    (root / "faces" / "4.png").unlink()
    lines = listing().splitlines()
    lines[6] = lines[6].replace(" 40 ", " 400 ", 1)
    lines[8] += " 1"
    (root / "training.txt").write_text("\n".join(lines))
    (root / "testing.txt").write_text("faces/11.png 1\n")
    found = {(Path(p.path).name, p.message.split(" (=")[0]) for p in check_mtfl(root)}
    rule = "line {}: must be a path, x1 … x5 y1 … y5 and gender, smile, glasses, pose: it has {} numbers after"
    rule += " `faces/{}.png`"
    assert found == {
        ("2.png", "EXIF orientation"),
        ("4.png", "is missing"),
        ("6.png", "`left_eye`"),
        ("training.txt", rule.format(9, 15, 8)),
        ("testing.txt", rule.format(1, 1, 11)),
    }
    assert "missing" in check_mtfl(root / "nowhere")[0].message


@pytest.fixture(scope="module")
def real(real_data: Path) -> Path:
    return real_data / "mtfl"


def test_real_counts(real: Path) -> None:
    train, test = Mtfl(real, "train"), Mtfl(real, "test")
    assert (len(train), len(test)) == (600, 100)
    assert check_mtfl(real) == []
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
