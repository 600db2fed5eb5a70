"""One detector of two categories: trained, scored, and used for files of one."""

import json
from dataclasses import replace

import pytest
import torch
from torch_geometric.data import Batch

from pcsa import losses
from pcsa.datasets.procedural import generate
from pcsa.datasets.transforms import Augment
from pcsa.scripts.evaluate import evaluate
from pcsa.scripts.predict import predict
from pcsa.scripts.view import ViewConfig, open_scenes
from pcsa.tasks import get_task, open_run
from pcsa.tasks.common.categories import KeypointLabels, of_category
from pcsa.tasks.common.config import OptimizerConfig, TrainerConfig
from pcsa.tasks.common.detector import DetectorConfig
from pcsa.tasks.supervised import (
    ObjectiveConfig,
    SupervisedConfig,
    SupervisedData,
    SupervisedEvaluateOptions,
    SupervisedPredictOptions,
    detection_loss,
)

TASK = get_task("supervised")


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    root = generate(tmp_path_factory.mktemp("two"), ["chair", "mug"], 8, num_points=256, split=(0.5, 0.25, 0.25))
    return SupervisedConfig(
        data=SupervisedData(root=root, category="mug, chair", augment=Augment(mirror=0.5, shift=0.1)),
        model=DetectorConfig(out_channels=16),
        objective=ObjectiveConfig(method="cross_entropy"),
        optimizer=OptimizerConfig(steps=3, batch_size=4),
        trainer=TrainerConfig(accelerator="cpu", progress=False, validate_every=1),
        out=tmp_path_factory.mktemp("run") / "out",
    )


@pytest.fixture(scope="module")
def run(config):
    return open_run(TASK.train(config))


def test_labels_have_a_category_for_each_keypoint(config, run):
    labels = run.labels
    assert labels.category == "mug,chair"
    assert list(dict.fromkeys(labels.categories)) == ["mug", "chair"]
    assert run.model.num_keypoints == len(labels.names) == len(labels.categories) == len(labels.semantic_ids)
    for category in ("mug", "chair"):
        alone = replace(config, data=replace(config.data, category=category))
        one = TASK.training(alone).labels
        assert of_category(run, category).labels == one
        assert one.categories == ()
        assert labels.ids[category] == one.semantic_ids == one.ids


def test_keypoints_of_other_categories_count_nowhere(config):
    training = TASK.training(config)
    items = [training.data.train_items[(0, i)] for i in range(len(training.data.train_items))]
    batch = Batch.from_data_list(items)
    out = training.module.network(None, batch.pos, ptr=batch.ptr)
    out = {name: value.detach().requires_grad_() for name, value in out.items()}
    loss, parts = detection_loss(config.objective, out, batch, 1.0, torch.Generator())
    counted = batch.counted
    each = losses.presence_loss(out["presence"], batch.visible, reduction="none")
    torch.testing.assert_close(parts["presence"], each[counted].mean().detach())
    loss.backward()
    assert torch.equal(out["presence"].grad != 0, counted)
    other = ~counted[torch.arange(len(items)).repeat_interleave(batch.ptr.diff())]
    assert not out["logits"].grad[other].any()
    assert out["logits"].grad[~other].any()


def test_scores_are_by_category(config, run, tmp_path):
    options = SupervisedEvaluateOptions(checkpoint=run.path, out=tmp_path / "metrics.json", progress=False)
    result = evaluate(run, options)
    assert set(result["per_category"]) == {"mug", "chair"}
    assert result["num_items"] == 4
    assert result["per_category"]["mug"]["num_shapes"] == 2
    for category, keypoints in result["per_keypoint"].items():
        assert keypoints
        assert all(name.startswith(f"{category}/") for name in keypoints)
    # A category's scores are those of its own detector, cut out of that of both.
    for category in ("mug", "chair"):
        alone = evaluate(of_category(run, category), replace(options, out=tmp_path / f"{category}.json"))
        for kind, score in alone["overall"].items():
            if isinstance(score, dict) and "pck" in score:
                assert score["pck"] == pytest.approx(result["per_category"][category][kind]["pck"])
    table = TASK.table(result)
    mean = [sum(result["per_category"][c]["euclidean"]["mean_error"] for c in ("mug", "chair")) / 2]
    assert "mean of the categories" in table
    assert f"{mean[0]:.4f}" in table


def test_predictions_are_of_one_category(config, run, tmp_path):
    (file,) = sorted((config.data.root / "pcds").glob("*/*.pcd"))[:1]
    options = SupervisedPredictOptions(checkpoint=run.path, inputs=(file,), progress=False, out=tmp_path / "none.json")
    with pytest.raises(ValueError, match=r"`category` \(=None\) must be one that the detector has learned: mug, chair"):
        predict(run, options)
    with pytest.raises(ValueError, match=r"`category` \(='bed'\) must be one that the detector has learned"):
        predict(run, replace(options, category="bed"))
    out = tmp_path / "chairs.json"
    predict(run, replace(options, category="chair", out=out))
    found = json.loads(out.read_text())
    own = of_category(run, "chair")
    assert found["category"] == "chair"
    assert found["names"] == list(own.labels.names)
    assert found["semantic_ids"] == list(own.labels.semantic_ids)
    (item,) = found["items"]
    assert len(item["position"]) == len(own.labels.names)
    assert len(item["presence"]) == len(own.labels.names)


def test_scenes_are_of_one_category_or_of_all(config, run):
    view = ViewConfig(checkpoint=run.path, data=(config.data.root,))
    assert tuple(open_scenes(view, TASK, run)[0].names) == run.labels.names
    chairs = open_scenes(replace(view, category="chair"), TASK, run)
    assert len(chairs) == 2
    assert tuple(chairs[0].names) == of_category(run, "chair").labels.names


def test_a_detector_of_one_category_knows_its_own(run):
    one = replace(run, labels=KeypointLabels("chair", ("a",), (0,)))
    assert of_category(one, None) is one
    assert of_category(one, "chair") is one
    with pytest.raises(ValueError, match=r"`category` \(='mug'\) must be one that .* learned: chair"):
        of_category(one, "mug")


def test_errors(config):
    with pytest.raises(ValueError, match=r"`data.num_keypoints` \(=3\) must not be given with several categories"):
        TASK.training(replace(config, data=replace(config.data, num_keypoints=3)))
