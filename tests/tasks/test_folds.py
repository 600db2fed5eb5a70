"""Folds in place of the splits, for tasks on clouds."""

import json
from dataclasses import replace

import pytest

from pcsa.datasets.folds import Fold
from pcsa.datasets.keypointnet import KeypointNet
from pcsa.tasks import get_task, open_run
from pcsa.tasks.common.clouds import CloudConfig, CloudsConfig
from pcsa.tasks.unsupervised import UnsupervisedConfig, UnsupervisedData


@pytest.fixture(scope="module", params=["supervised", "unsupervised"])
def run(request, tiny, tmp_path_factory):
    """A run that holds out a fold of the eight chairs of train and the two of val."""
    config, out = tiny(request.param), tmp_path_factory.mktemp("fold")
    data = replace(config.data, fold=1, num_folds=3, fold_of="train+val")
    steps = replace(config.optimizer, steps=2)
    return open_run(get_task(request.param).train(replace(config, data=data, optimizer=steps, out=out)))


def test_a_fold_is_validated_and_scored_on(run, clouds_root):
    fold = Fold(1, 3, ("train", "val"))
    part = {split: KeypointNet(clouds_root, "chair", split, fold=fold).model_ids for split in ("train", "val")}
    assert len(part["train"]) + len(part["val"]) == 10
    training = run.task.training(run.config)
    assert training.data.train_items.dataset.model_ids == part["train"]
    assert training.data.val_items.dataset.model_ids == part["val"]
    evaluation = run.task.evaluation(run, run.task.evaluate_options(run.path))
    # Unsupervised keypoints are scored over the category, and those held out apart.
    assert getattr(evaluation, "held_out", evaluation.items).model_ids == part["val"]
    test = run.task.evaluation(run, run.task.evaluate_options(run.path, split="test"))
    official = KeypointNet(clouds_root, "chair", "test").model_ids
    assert getattr(test, "held_out", test.items).model_ids == official


def test_the_fold_is_written_beside_the_checkpoint(run):
    data = json.loads((run.path.parent / "config.json").read_text())["config"]["data"]
    assert (data["fold"], data["num_folds"], data["fold_of"]) == (1, 3, "train+val")
    other = replace(run.config, data=replace(run.config.data, fold=0), resume=True)
    with pytest.raises(ValueError, match="`data` "):
        run.task.train(other)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"fold": 5}, r"`data.fold` \(=5\) must be below `data.num_folds` \(=5\)"),
        ({"fold": -1}, r"`data.fold` \(=-1\) must be at least 0"),
        ({"num_folds": 1}, r"`data.num_folds` \(=1\) must be at least 2"),
    ],
)
def test_a_bad_value_is_refused_by_its_name(values, message):
    with pytest.raises(ValueError, match=message):
        CloudConfig(data=CloudsConfig(**values))


def test_all_clouds_leave_none_to_hold_out():
    with pytest.raises(ValueError, match=r"`data.split` \(='all'\) must be 'train' with `data.fold`"):
        UnsupervisedConfig(data=UnsupervisedData(fold=0, split="all"))
