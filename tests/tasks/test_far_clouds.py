"""A root of clouds in UTM coordinates trains, scores and predicts like the same clouds at the origin."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch_geometric.data import Batch

from pcsa.datasets.custom import write_labeled
from pcsa.datasets.keypointnet import KeypointNet, check_root
from pcsa.datasets.pcd import write_pcd
from pcsa.datasets.transforms import Augment
from pcsa.scripts.cli import main
from pcsa.tasks import get_task

UTM = np.array([500_000.0, 4_600_000.0, 300.0])


def clouds(n):
    """Boxes of 1 x 0.5 x 0.25, the center of each bounding box at 0, as float32 has them."""
    rng = np.random.default_rng(0)
    for _ in range(n):
        points = (rng.uniform(-0.5, 0.5, (200, 3)) * [1, 0.5, 0.25]).astype(np.float32).astype(np.float64)
        points[:8] = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * [0.5, 0.25, 0.125]
        yield points


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    root = {name: tmp_path_factory.mktemp(name) for name in ("near", "far")}
    for name, offset in (("near", 0), ("far", UTM)):
        items = [(points + offset, points[[0, 1, 50]] + offset, ["a", "b", "c"]) for points in clouds(8)]
        write_labeled(root[name], "box", items, fractions=(0.5, 0.25, 0.25), mirror_pairs=[("a", "b")])
        assert check_root(root[name]) == []
    return root


def test_items_keep_their_digits(roots):
    near, far = (KeypointNet(roots[name], "box", "all") for name in ("near", "far"))
    assert near[0].pos.dtype == near[0].keypoints.dtype == torch.float32
    assert far[0].pos.dtype == far[0].keypoints.dtype == torch.float64
    for one, other in zip(near, far, strict=True):
        torch.testing.assert_close(other.pos - torch.from_numpy(UTM), one.pos.double(), rtol=0, atol=1e-9)
        torch.testing.assert_close(other.keypoints - torch.from_numpy(UTM), one.keypoints.double(), rtol=0, atol=1e-9)


@pytest.fixture(params=["supervised", "unsupervised"])
def configs(request, roots, tiny):
    """A task, and its configuration on each root."""
    config = tiny(request.param)
    data = replace(config.data, category="box", augment=Augment(mirror=0.5, scale=0.1, shift=0.1))
    optimizer = replace(config.optimizer, steps=2, batch_size=2)
    config = replace(config, optimizer=optimizer)
    return get_task(request.param), {
        name: replace(config, data=replace(data, root=root)) for name, root in roots.items()
    }


def test_the_loss_is_that_at_the_origin(configs):
    task, by_place = configs
    training = {name: task.training(config) for name, config in by_place.items()}
    for items in ("train_items", "val_items"):
        near, far = (getattr(training[name].data, items) for name in ("near", "far"))
        for key in (0, (3, 1)):
            assert far[key].pos.dtype == torch.float32
            torch.testing.assert_close(far[key].pos, near[key].pos, rtol=0, atol=1e-6)
    losses = {}
    for name, one in training.items():
        batch = Batch.from_data_list([one.data.train_items[0, i] for i in range(2)])
        losses[name] = one.module.loss(batch, 1.0, torch.Generator().manual_seed(0))[0].item()
    assert losses["far"] == pytest.approx(losses["near"], rel=1e-4)


def test_scores_and_predictions_are_those_at_the_origin(configs, roots, tmp_path):
    task, by_place = configs
    path = task.train(replace(by_place["far"], out=tmp_path / "run"))
    scores, found, points = {}, {}, next(clouds(1))
    write_pcd(tmp_path / "near.pcd", points)
    np.save(tmp_path / "far.npy", points + UTM)
    for place, file in (("near", "near.pcd"), ("far", "far.npy")):
        out = tmp_path / f"scores-{place}.json"
        assert main(["evaluate", str(path), "--root", str(roots[place]), "--out", str(out)]) == 0
        scores[place] = json.loads(out.read_text())
        out = tmp_path / f"{place}.json"
        assert main(["predict", str(path), str(tmp_path / file), "--out", str(out)]) == 0
        found[place] = json.loads(out.read_text())["items"][0]
    assert numbers(scores["far"]) == pytest.approx(numbers(scores["near"]), rel=1e-4, abs=1e-4)
    for field in ("position", "point"):
        assert np.abs(np.array(found["far"][field]) - UTM - found["near"][field]).max() < 1e-6
    assert found["far"]["index"] == found["near"]["index"]


def numbers(value):
    """All numbers in a JSON value, in order."""
    if isinstance(value, dict):
        return [x for key in sorted(value) for x in numbers(value[key])]
    if isinstance(value, list):
        return [x for item in value for x in numbers(item)]
    return [float(value)] if isinstance(value, int | float) else []
