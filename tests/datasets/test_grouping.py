import logging
from pathlib import Path

import numpy as np
import pytest

from pcsa.datasets.custom import write_labeled
from pcsa.datasets.folds import Fold
from pcsa.datasets.grouping import deal_out, group_names, per_item
from pcsa.datasets.keypointnet import KeypointNet, check_root
from pcsa.tasks.common.held_out import check_clouds_held_out

NAMES = ["nose", "left", "right"]


def samples(num_meshes: int, each: int = 6) -> tuple[list[tuple], list[str]]:
    """Samples of meshes, and the mesh of each: keypoints as they lie on the mesh, near the samples."""
    items, groups = [], []
    for mesh in range(num_meshes):
        rng = np.random.default_rng(mesh)
        surface = rng.random((60, 3))
        for _ in range(each):
            items.append((surface[np.r_[:3, 3 + rng.permutation(57)[:40]]], surface[:3], NAMES))
            groups.append(f"mesh {mesh}")
    return items, groups


def splits_of(root: Path, category: str = "thing") -> dict[str, list[str]]:
    return {split: KeypointNet(root, category, split).model_ids for split in ("train", "val", "test")}


def test_samples_of_a_mesh_lie_in_one_split(tmp_path: Path) -> None:
    items, groups = samples(10)
    write_labeled(tmp_path, "thing", items, groups=groups)
    found = splits_of(tmp_path)
    # Shares of ten meshes, six samples each.
    assert [len(found[split]) for split in found] == [48, 6, 6]
    for model_ids in found.values():
        assert all(f"{6 * (int(name) // 6) + i:06d}" in model_ids for name in model_ids for i in range(6))
    assert check_root(tmp_path) == []
    assert KeypointNet(tmp_path, "thing", "val").groups["000007"] == "mesh 1"


def test_folds_respect_groups(tmp_path: Path) -> None:
    items, groups = samples(7, each=3)
    write_labeled(tmp_path, "thing", items, groups=groups, fractions=(1, 0, 0))
    held_out = []
    for index in range(3):
        fold = Fold(index, 3)
        train, val = (KeypointNet(tmp_path, "thing", split, fold=fold) for split in ("train", "val"))
        check_clouds_held_out("`root`", train, val)
        assert not {train.groups[name] for name in train.model_ids} & {val.groups[name] for name in val.model_ids}
        held_out += val.model_ids
        # Seven groups of three: two folds of two, one of three.
        assert len(val) in (6, 9)
    assert sorted(held_out) == [f"{i:06d}" for i in range(21)]


def test_large_groups_fill_the_emptiest_fold() -> None:
    names = [f"cloud {i}" for i in range(12)]
    groups = dict.fromkeys(names[:6], "large")
    sizes = sorted(len(Fold(i, 2).part("val", names, groups=groups)) for i in range(2))
    assert sizes == [6, 6]
    # Without groups the folds are what they were.
    assert Fold(0, 2).part("val", names, groups={}) == Fold(0, 2).part("val", names)


def test_equal_clouds_join_their_groups() -> None:
    import torch

    names = list("abcdefgh")
    clouds = {name: torch.full((2, 3), float(i)) for i, name in enumerate(names)}
    clouds["c"] = clouds["a"]
    groups = {"a": "one", "b": "one", "c": "two", "d": "two"}
    for index in range(2):
        part = set(Fold(index, 2).part("val", names, clouds, groups))
        assert not part & set("abcd") or part >= set("abcd")


def test_splits_are_as_told(tmp_path: Path) -> None:
    items, groups = samples(3, each=2)
    split = ["val", "val", "train", "train", "test", "test"]
    write_labeled(tmp_path, "thing", items, split=split, groups=groups)
    ids = [f"{i:06d}" for i in range(6)]
    assert splits_of(tmp_path) == {"train": ids[2:4], "val": ids[:2], "test": ids[4:]}
    by_id = dict(zip(reversed(ids), split, strict=True))
    write_labeled(tmp_path, "thing", items, split=by_id, overwrite=True)
    assert splits_of(tmp_path) == {"train": ids[2:4], "val": ids[4:], "test": ids[:2]}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": ["train"]}, r"`split` \(1 values\) must have one for each of the 4 items"),
        ({"split": "train"}, "`split`"),
        ({"split": ["train", "val", "train", "dev"]}, r"`split` \(='dev'\)"),
        ({"split": ["val"] * 4}, "`split` must have an item in 'train'"),
        ({"split": ["train", "val"] * 2, "groups": [0, 0, 1, 1]}, "'0' is in train and val; '1' is in train and val"),
        ({"groups": {"000000": "a"}}, "`groups` must have a value for the model id of each item: it lacks 000001"),
        ({"groups": dict.fromkeys(["000000", "000001", "000002", "000003", "x"])}, "it has x, which no item"),
        ({"groups": ["a", "", "b", "c"]}, "`groups` .has ''. must be names"),
        ({"groups": [1.5, 1, 1, 1]}, "`groups` .has 1.5. must be names"),
        ({"up": "Z"}, r"`up` \(='Z'\) must be one of 'x', 'y', 'z', 'none'"),
    ],
)
def test_bad_arguments(tmp_path: Path, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write_labeled(tmp_path, "thing", samples(2, each=2)[0], **options)
    assert not (tmp_path / "annotations").exists()


def test_torn_groups_are_found_and_refused(tmp_path: Path) -> None:
    items, groups = samples(4, each=2)
    write_labeled(tmp_path, "thing", items, groups=groups, fractions=(0.5, 0.5, 0))
    lists = {split: tmp_path / "splits" / f"{split}.txt" for split in ("train", "val")}
    lines = lists["val"].read_text().splitlines()
    lists["val"].write_text("".join(f"{line}\n" for line in lines[1:]))
    lists["train"].write_text(f"{lists['train'].read_text()}{lines[0]}\n")
    (problem,) = check_root(tmp_path)
    assert "of class thing are in train and val" in problem.message
    train, val = (KeypointNet(tmp_path, "thing", split) for split in ("train", "val"))
    with pytest.raises(ValueError, match="1 groups of clouds are both in 'train' and in 'val': mesh"):
        check_clouds_held_out("`root`", train, val)


def test_samples_of_a_mesh_without_groups_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    items, groups = samples(2, each=3)
    with caplog.at_level(logging.WARNING):
        write_labeled(tmp_path, "thing", items)
    assert [record.message[:29] for record in caplog.records] == ["3 clouds have equal keypoints"] * 2
    caplog.clear()
    write_labeled(tmp_path, "thing", items, groups=groups, overwrite=True)
    assert not caplog.records


def test_the_draw_without_groups_is_that_of_clouds() -> None:
    alone = deal_out([None] * 10, (0.8, 0.1, 0.1), 3)
    assert alone == deal_out([str(i) for i in range(10)], (0.8, 0.1, 0.1), 3)
    assert sorted(alone) == [0] * 8 + [1, 2]


def test_values_per_item() -> None:
    assert per_item("split", ("a", "b"), ["x", "y"]) == ["a", "b"]
    assert per_item("split", {"y": 2, "x": 1}, ["x", "y"]) == [1, 2]
    assert group_names([np.int64(3), 3, "a", None]) == ["3", "3", "a", None]
