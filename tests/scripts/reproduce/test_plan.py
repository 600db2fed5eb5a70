import shutil

import pytest

from pcsa.scripts.reproduce.plan import lacking, slug


@pytest.mark.parametrize(
    ("category", "splits", "partial", "reason"),
    [
        ("mug", ("train", "val"), False, ""),
        ("bed", ("train",), False, "no annotations"),
    ],
)
def test_what_a_root_lacks(root, category, splits, partial, reason):
    assert lacking(root, category, splits, partial) == reason


def test_a_root_with_some_of_the_clouds(root, tmp_path):
    copy = tmp_path / "root"
    shutil.copytree(root, copy)
    clouds = sorted(copy.glob("pcds/*/*.pcd"))
    named = (copy / "splits" / "train.txt").read_text()
    gone = [cloud for cloud in clouds if cloud.stem in named]
    gone[0].unlink()
    assert lacking(copy, "mug", ("train",), False) == f"{len(gone) - 1} of the {len(gone)} clouds of train"
    assert lacking(copy, "mug", ("train",), True) == ""
    assert lacking(copy, "mug", ("val",), False) == ""
    for cloud in gone[1:]:
        cloud.unlink()
    assert lacking(copy, "mug", ("train",), True) == f"0 of the {len(gone)} clouds of train"
    (copy / "splits" / "val.txt").unlink()
    assert lacking(copy, "mug", ("val",), True) == "0 of the 0 clouds of val"


def test_procedural_shapes():
    assert lacking(None, "chair", ("train",), False) == ""
    assert lacking(None, "spoon", ("train",), False) == "no procedural shapes of it"


def test_a_category_that_nobody_knows(root):
    with pytest.raises(ValueError, match=r"`category` \(='spoon'\) must be one of"):
        lacking(root, "spoon", ("train",), False)


def test_names_of_folders():
    assert slug("Sampling, S = 10") == "sampling-s-10"
    assert slug("temperature 0.5") == "temperature-0.5"
