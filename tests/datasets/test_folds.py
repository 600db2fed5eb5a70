from collections import Counter

import h5py
import numpy as np
import pytest
import torch

from pcsa.datasets.clouds import UnlabeledClouds
from pcsa.datasets.folds import Fold, content_digest
from pcsa.datasets.keypointnet import KeypointNet
from pcsa.datasets.pcd import write_pcd
from pcsa.datasets.procedural import generate
from pcsa.datasets.shapenet import ShapeNetPoints

NAMES = [f"{i:03x}" for i in range(23)]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Twelve mugs to train on, four to validate on and four to test on."""
    return generate(tmp_path_factory.mktemp("mugs"), "mug", 20, num_points=256, split=(0.6, 0.2, 0.2))


def test_folds_share_the_clouds_evenly():
    held = [Fold(i, 5).part("val", NAMES) for i in range(5)]
    assert Counter(name for part in held for name in part) == Counter(NAMES)
    assert sorted(map(len, held)) == [4, 4, 5, 5, 5]
    for i, part in enumerate(held):
        assert Fold(i, 5).part("train", NAMES) == [name for name in NAMES if name not in part]
        assert Fold(i, 5).part("test", NAMES) == NAMES


def test_a_fold_is_the_same_whatever_the_order():
    shuffled = NAMES[::-1]
    for i in range(3):
        assert set(Fold(i, 3).part("val", shuffled)) == set(Fold(i, 3).part("val", NAMES))
    # Written down, so that no later version deals out otherwise.
    assert Fold(0, 5).part("val", [*"abcdefghij"]) == ["e", "j"]


def test_equal_clouds_lie_in_one_fold():
    rng = torch.Generator().manual_seed(0)
    clouds = {name: torch.rand(5, 3, generator=rng) for name in NAMES}
    for name in NAMES[10:15]:
        clouds[name] = clouds[NAMES[3]].clone()
    held = [set(Fold(i, 4).part("val", NAMES, clouds)) for i in range(4)]
    assert Counter(name for part in held for name in part) == Counter(NAMES)
    twins = {NAMES[3], *NAMES[10:15]}
    assert [len(twins & part) for part in held].count(6) == 1
    # The others stay where they are, and a cloud that is not there is known by its name alone.
    rest = set(NAMES) - twins
    assert [part & rest for part in held] == [set(Fold(i, 4).part("val", NAMES)) & rest for i in range(4)]
    some = {name: clouds[name] for name in NAMES[:10]}
    assert Fold(1, 4).part("val", NAMES, some) == Fold(1, 4).part("val", NAMES)


def test_digests_tell_clouds_apart():
    pos = torch.rand(4, 3)
    assert content_digest(pos) == content_digest(pos.clone())
    assert content_digest(pos) != content_digest(pos.flip(0))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"index": 5}, r"`index` \(=5\) must be from 0 to 4"),
        ({"index": -1}, r"`index` \(=-1\) must be from 0 to 4"),
        ({"index": 0, "count": 1}, r"`count` \(=1\) must be at least 2"),
        ({"index": 0, "of": ("training",)}, "`split` "),
    ],
)
def test_broken_rules(values, message):
    with pytest.raises(ValueError, match=message):
        Fold(**values)


def test_a_fold_without_clouds_is_refused():
    with pytest.raises(
        ValueError, match=r"`fold` \(=3\) must leave clouds .* there are 3 clouds in train, for 5 folds"
    ):
        Fold(3).part("val", ["a", "b", "c"])
    with pytest.raises(ValueError, match=r"there are 1 clouds in train and val, for 2 folds"):
        Fold(0, 2, ("train", "val")).part("train", ["a"])


@pytest.mark.parametrize("of", [("train",), ("train", "val")])
def test_keypointnet(root, of):
    own = {split: set(KeypointNet(root, "mug", split).model_ids) for split in ("train", "val", "test")}
    pool = set().union(*(own[split] for split in of))
    held = []
    for i in range(4):
        fold = Fold(i, 4, of)
        train, val, test = (KeypointNet(root, "mug", split, fold=fold) for split in ("train", "val", "test"))
        assert set(train.model_ids) | set(val.model_ids) == pool
        assert not set(train.model_ids) & set(val.model_ids)
        assert set(test.model_ids) == own["test"]
        assert len(KeypointNet(root, "mug", "all", fold=fold)) == 20
        assert train.semantic_ids == val.semantic_ids == test.semantic_ids
        held += val.model_ids
        # The same without annotations.
        for split, with_labels in (("train", train), ("val", val), ("test", test)):
            assert UnlabeledClouds(root, "mug", split, fold=fold).model_ids == with_labels.model_ids
    assert Counter(held) == Counter(pool)
    assert repr(val) == f"KeypointNet(mug, 'val' (fold 3 of 4 of {' and '.join(of)}), {len(val)} clouds, 13 keypoints)"


def test_keypointnet_without_the_clouds_of_a_fold(root, tmp_path):
    fold = Fold(0, 12)
    (gone,) = KeypointNet(root, "mug", "val", fold=fold).model_ids
    copy = tmp_path / "root"
    for file in root.rglob("*"):
        if file.is_file() and gone not in file.name:
            target = copy / file.relative_to(root)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
    # Who lacks a cloud has the others in the folds in which everybody has them.
    assert (
        KeypointNet(copy, "mug", "train", fold=fold).model_ids == KeypointNet(root, "mug", "train", fold=fold).model_ids
    )
    message = r"1 of the 1 mug clouds that split 'val' \(fold 0 of 12 of train\) names are missing"
    with pytest.raises(FileNotFoundError, match=message):
        KeypointNet(copy, "mug", "val", fold=fold)
    with pytest.raises(FileNotFoundError, match=r"has no cloud of split 'val' \(fold 0 of 12 of train\)"):
        UnlabeledClouds(copy, "mug", "val", fold=fold)


def test_clouds_without_splits_are_dealt_out_too(tmp_path):
    folder = tmp_path / "pcds" / "bed of mine"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(6):
        write_pcd(folder / f"{i}.pcd", rng.uniform(size=(20, 3)))
    (folder / "6.pcd").write_bytes((folder / "2.pcd").read_bytes())
    held = [UnlabeledClouds(tmp_path, "bed of mine", "val", fold=Fold(i, 3)).model_ids for i in range(3)]
    assert sorted(name for part in held for name in part) == [str(i) for i in range(7)]
    assert [{"2", "6"} <= set(part) for part in held].count(True) == 1


def test_hdf5(tmp_path):
    rng = np.random.default_rng(0)
    for name, count in (("train0", 5), ("train1", 4), ("val0", 3), ("test0", 2)):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file["data"] = rng.uniform(size=(count, 8, 3)).astype(np.float32)
            file["label"] = np.zeros(count, int)
    held = [ShapeNetPoints(tmp_path, 0, "val", Fold(i, 3, ("train", "val"))) for i in range(3)]
    assert [len(part) for part in held] == [4, 4, 4]
    assert len({name for part in held for name in part.model_ids}) == 12
    assert len(ShapeNetPoints(tmp_path, 0, "train", Fold(0, 3))) == 6
    assert len(ShapeNetPoints(tmp_path, 0, "test", Fold(0, 3))) == 2
    everything = ShapeNetPoints(tmp_path, 0, "all")
    row = everything.model_ids.index(held[0].model_ids[1])
    assert held[0][1].pos.equal(everything[row].pos)
