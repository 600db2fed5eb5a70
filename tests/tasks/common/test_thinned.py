"""Detectors of clouds that lack points."""

import json
from dataclasses import replace

import pytest
import torch

from pcsa.datasets.keypointnet import KeypointNet
from pcsa.datasets.thinning import Thin, thin_cloud
from pcsa.scripts.evaluate import evaluate, kind_of
from pcsa.tasks import get_task, open_run
from pcsa.tasks.common.thinned import on_whole_clouds, run_on, thinning
from pcsa.tasks.supervised import SupervisedEvaluateOptions

TASK = get_task("supervised")
THIN = Thin(num_points=60, falloff=3.0, occlude=True)


@pytest.fixture(scope="module")
def path(tiny, tmp_path_factory):
    config = tiny("supervised")
    data = replace(
        config.data, thin=THIN, precompute=True, augment=replace(config.data.augment, jitter=0.0, mirror=0.5)
    )
    optimizer = replace(config.optimizer, steps=2)
    return TASK.train(replace(config, data=data, optimizer=optimizer, out=tmp_path_factory.mktemp("thin")))


def options(path, **more):
    return SupervisedEvaluateOptions(path, split="val", progress=False, num_workers=0, geodesic=False, **more)


def test_no_transform_without_thinning():
    assert thinning(Thin()) is None
    assert thinning(Thin(num_points=0, falloff=1.0, occlude=False)) is None


def test_training_and_validation_see_the_same_thinned_clouds(path, clouds_root):
    run = open_run(path)
    assert run.config.data.thin == THIN
    items = TASK.training(run.config).data.train_items
    whole = KeypointNet(clouds_root, "chair", "train")
    for i in (0, 3):
        assert len(items.dataset[i].pos) <= 60
        assert torch.equal(items.dataset[i].pos, thin_cloud(whole[i], THIN).pos)


def test_scored_on_clouds_thinned_as_in_the_training_or_as_asked(path):
    result = evaluate(open_run(path), options(path))
    assert result["thinned"] == "occluded, falloff 3, 60 points"
    assert json.loads((path.parent / "metrics-val.json").read_text())["thinned"] == result["thinned"]
    other = options(path, thin=Thin(num_points=100, occlude=False))
    assert kind_of(other) == "-100-points"
    result = evaluate(open_run(path), other)
    assert result["thinned"] == "falloff 3, 100 points"
    assert (path.parent / "metrics-val-100-points.json").exists()
    assert "thinned clouds: falloff 3, 100 points" in TASK.table(result)
    whole = options(path, thin=Thin(num_points=0, occlude=False, falloff=1.0))
    assert kind_of(whole) == "-all-points"
    assert "thinned" not in evaluate(open_run(path), whole)


def test_runs_on_other_clouds(path):
    run = open_run(path)
    assert run_on(run, Thin()) is run
    assert run_on(run, Thin(num_points=9)).config.data.thin == replace(THIN, num_points=9)
    assert not on_whole_clouds(run).config.data.thin.active
