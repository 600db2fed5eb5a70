"""What holds for all datasets of drawn items."""

import numpy as np
import pytest
import torch

from pcsa.datasets.procedural import Faces, FigureImages3D, Figures2D, Figures3D, Retinas
from pcsa.datasets.procedural.pictures.items import Items

COUNTS = {
    Figures2D: "num_images",
    FigureImages3D: "num_images",
    Figures3D: "num_volumes",
    Faces: "num_images",
    Retinas: "num_scans",
}


def make(dataset, split, count, **more):
    return dataset(split, **{COUNTS[dataset]: count}, **more)


def test_items_are_drawn_once_each_from_its_own_randomness():
    drawn = []
    items = Items([7], 3, lambda rng: drawn.append(rng.random()) or drawn[-1])
    assert len(items) == 3
    assert items[-1] == items[2] == np.random.default_rng([7, 2]).random()
    assert list(items) == [np.random.default_rng([7, i]).random() for i in range(3)]
    assert len(drawn) == 3


@pytest.mark.parametrize("dataset", COUNTS)
def test_an_item_depends_on_seed_split_and_index_alone(dataset):
    longer, shorter = make(dataset, "train", 6), make(dataset, "train", 3)
    # In another order, and in a set of another length.
    for i in (2, 0, 1):
        source = longer.source(i)
        torch.testing.assert_close(shorter.source(i), source, rtol=0, atol=0)
        # Whoever changes a sample changes no other.
        labels = "boundaries" if dataset is Retinas else "keypoints"
        source[labels].zero_()
        source["image"].zero_()
        torch.testing.assert_close(longer.source(i), shorter.source(i), rtol=0, atol=0)
        assert longer.source(i)[labels].abs().sum() > 0
    others = [make(dataset, "train", 3, seed=1), make(dataset, "val", 3), make(dataset, "test", 3)]
    images = [data.source(i)["image"] for data in (shorter, *others) for i in range(3)]
    for a in range(len(images)):
        for b in range(a):
            assert (images[a] - images[b]).abs().mean() > 0.01


@pytest.mark.parametrize("dataset", COUNTS)
def test_items_end_where_the_split_ends(dataset):
    data = make(dataset, "val", 2)
    for get in (data.__getitem__, data.source, lambda i: data.augmented(i, torch.Generator())):
        with pytest.raises(IndexError, match=r"`index` \(=2\) must be below 2"):
            get(2)
    assert len(list(data)) == len(data) == 2
    assert data[-1]["index"] == 1


@pytest.mark.parametrize("dataset", COUNTS)
def test_bad_input(dataset):
    count = COUNTS[dataset]
    with pytest.raises(ValueError, match=r"`split` \(='all'\) must be one of 'train', 'val', 'test'"):
        make(dataset, "all", 3)
    for bad, rule in ((0, "at least 1"), (-1, "at least 1"), (2.0, "a whole number of at least 1")):
        with pytest.raises(ValueError, match=rf"`{count}` \(={bad}\) must be {rule}"):
            make(dataset, "train", bad)
    with pytest.raises(ValueError, match=r"`seed` \(=-1\) must be at least 0"):
        make(dataset, "train", 3, seed=-1)
    volumes = dataset in (FigureImages3D, Figures3D)
    rule = r"\(depth, height, width\)" if volumes else r"\(height, width\)"
    for size in ((96,), (96, 0, 72) if volumes else (96, 0), (96, 72, 64, 32), 96):
        with pytest.raises(ValueError, match=rf"`input_size` \(=.*\) must be {rule}: whole numbers above 0"):
            make(dataset, "train", 3, input_size=size)
