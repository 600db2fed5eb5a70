import itertools
import re

import numpy as np
import pytest

from pcsa.datasets.custom import write_labeled
from pcsa.datasets.folds import Fold
from pcsa.datasets.keypointnet import KeypointNet
from pcsa.datasets.shots import Shots

NAMES = [f"skull {i}" for i in range(23)]


def test_few_are_among_more():
    parts = [Shots(count).part(NAMES) for count in (5, 10, 20, 23)]
    assert [len(part) for part in parts] == [5, 10, 20, 23]
    for few, more in itertools.pairwise(parts):
        assert set(few) < set(more)
    # In the order in which they come, whatever that is.
    assert parts[-1] == NAMES
    assert set(Shots(5).part(NAMES[::-1])) == set(parts[0])
    assert Shots(5, seed=1).part(NAMES) != parts[0]


def test_folds_share_what_both_train_on():
    first, second = (Fold(i, 5).part("train", NAMES) for i in range(2))
    few = [set(Shots(8).part(names)) for names in (first, second)]
    # Those that the other fold holds out make room for others.
    assert few[0] & set(second) <= few[1] or few[1] & set(first) <= few[0]
    assert len(few[0] & few[1]) >= 8 - len(set(first) ^ set(second))


def test_a_group_counts_once_and_comes_whole():
    groups = {name: f"person {i // 2}" for i, name in enumerate(NAMES[:20])}
    part = Shots(6).part(NAMES, groups)
    units = {groups.get(name, name) for name in part}
    assert len(units) == 6
    assert all((name in part) == (groups.get(name, name) in units) for name in NAMES)


def test_a_dataset_has_few_shots_of_train_alone(tmp_path):
    rng = np.random.default_rng(0)
    items = [(points, points[:2], ["a", "b"]) for points in rng.random((20, 30, 3))]
    groups = [i // 2 for i in range(20)]
    write_labeled(tmp_path, "thing", items, groups=groups, fractions=(0.8, 0.1, 0.1))
    full = {split: KeypointNet(tmp_path, "thing", split) for split in ("train", "val", "test", "all")}
    few = {split: KeypointNet(tmp_path, "thing", split, shots=Shots(3)) for split in full}
    assert len(full["train"]) == 16
    assert len(few["train"]) == 6
    assert few["train"].model_ids == Shots(3).part(full["train"].model_ids, full["train"].groups)
    for split in ("val", "test", "all"):
        assert few[split].model_ids == full[split].model_ids
    fold = {"fold": Fold(1, 4), "shots": Shots(2)}
    train, val = (KeypointNet(tmp_path, "thing", split, **fold) for split in ("train", "val"))
    assert len(train) == len(val) == 4
    assert not set(train.model_ids) & set(val.model_ids)
    with pytest.raises(
        ValueError,
        match=re.escape(
            "`shots` (=7) must be at most 6: there are 12 clouds in 6 groups to train on in thing, split 'train' "
            "(fold 1 of 4 of train)"
        ),
    ):
        KeypointNet(tmp_path, "thing", "train", fold=Fold(1, 4), shots=Shots(7))


def test_bad_numbers_of_shots_are_refused():
    with pytest.raises(ValueError, match=r"`shots` \(=0\)"):
        Shots(0)
    with pytest.raises(ValueError, match=r"`shots_seed` \(=-1\)"):
        Shots(3, -1)
    with pytest.raises(ValueError, match=r"`shots` \(=24\) must be at most 23: there are 23 clouds to train on$"):
        Shots(24).part(NAMES)
