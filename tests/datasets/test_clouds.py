from pathlib import Path

import numpy as np
import pytest
import torch

from pcsa.datasets.clouds import UnlabeledClouds
from pcsa.datasets.pcd import write_pcd

RNG = np.random.default_rng(0)


def root_of(tmp_path: Path, *names: str, offset: float = 0.0) -> Path:
    folder = tmp_path / "pcds" / "bed of mine"
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        write_pcd(folder / name, RNG.uniform(size=(20, 3)) + offset)
    return tmp_path


def test_names_of_every_kind(tmp_path: Path) -> None:
    root = root_of(tmp_path, "a b.pcd", "c.PCD", "ü.pcd")
    for hidden in (".d.pcd", "._a b.pcd"):
        (root / "pcds" / "bed of mine" / hidden).write_bytes(b"\x00\x05\x16\x07")
    (root / "pcds" / "bed of mine" / "folder.pcd").mkdir()
    (root / "pcds" / "bed of mine" / "readme.txt").touch()
    clouds = UnlabeledClouds(root, "bed of mine", "train")
    assert clouds.model_ids == ["a b", "c", "ü"]
    write_pcd(root / "pcds" / "bed of mine" / "c.pcd", RNG.uniform(size=(20, 3)))
    with pytest.raises(ValueError, match=r"c\.pcd` and `.*c\.PCD` have one name"):
        UnlabeledClouds(root, "bed of mine", "train")


def test_two_clouds_and_no_split(tmp_path: Path) -> None:
    root = root_of(tmp_path, "a.pcd", "b.pcd")
    assert len(UnlabeledClouds(root, "bed of mine", "train")) == 2
    assert len(UnlabeledClouds(root, "bed of mine", "all")) == 2
    with pytest.raises(FileNotFoundError, match="has no cloud of split 'val'"):
        UnlabeledClouds(root, "bed of mine", "val")


def test_float32_unless_a_cloud_is_far_from_the_origin(tmp_path: Path) -> None:
    root = root_of(tmp_path, "a.pcd", "b.pcd")
    assert {UnlabeledClouds(root, "bed of mine", "train")[i].pos.dtype for i in range(2)} == {torch.float32}
    root_of(tmp_path, "far.pcd", offset=4.6e6)
    clouds = UnlabeledClouds(root, "bed of mine", "train")
    assert {clouds[i].pos.dtype for i in range(3)} == {torch.float64}
    assert clouds[2].pos.unique(dim=0).shape == (20, 3)
    assert clouds[2].pos.sub(4.6e6).clamp(0, 1).add(4.6e6).equal(clouds[2].pos)


def test_points_that_are_not_finite(tmp_path: Path) -> None:
    root = root_of(tmp_path, "a.pcd")
    path = root / "pcds" / "bed of mine" / "b.pcd"
    head = "FIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nPOINTS 3\nDATA ascii\n"
    path.write_text(head + "0 0 1\nnan nan nan\n0 1 0\n")
    with pytest.raises(ValueError, match=r"b\.pcd`: 1 points are not finite, of 3.*`drop_invalid`"):
        UnlabeledClouds(root, "bed of mine", "train")
    clouds = UnlabeledClouds(root, "bed of mine", "train", drop_invalid=True)
    assert clouds.num_dropped == 1
    assert clouds[1].pos.tolist() == [[0, 0, 1], [0, 1, 0]]
    path.write_text(head + "nan nan nan\n" * 3)
    with pytest.raises(ValueError, match=r"b\.pcd`: has no points"):
        UnlabeledClouds(root, "bed of mine", "train", drop_invalid=True)
