"""Beginning with the weights of another run."""

import json
import logging
from dataclasses import replace

import pytest
import torch

from pcsa.datasets.procedural import generate
from pcsa.tasks import get_task
from pcsa.tasks.common.engine import StepTraining
from pcsa.tasks.common.initial import initialize, transfer

HEAD = ("presence_weight", "presence_bias", "score.2.weight", "score.2.bias")


def begun(task, config, path):
    """The training, what its network begins with, and its weights."""
    training = task.training(config)
    taken = initialize(
        training.module.network,
        path,
        training.labels,
        task=task.name,
        named=task.named,
        larger=lambda: task.build(*task.with_another(config, training.labels)),
    )
    return training, taken, training.module.network.state_dict()


def stored(path):
    state = torch.load(path, weights_only=True)["state_dict"]
    return {name.removeprefix("network."): value for name, value in state.items() if name.startswith("network.")}


@pytest.mark.parametrize("name", ["supervised", "unsupervised", "landmarks", "oct", "pose3d-image"])
def test_the_same_keypoints_take_all(trained, name):
    task, config, path = trained(name)
    _, taken, state = begun(task, config, path)
    assert not taken.new
    assert not taken.rows
    source = stored(path)
    assert state.keys() == source.keys()
    assert all(torch.equal(state[key], source[key]) for key in state)


def test_keypoints_that_both_have_keep_their_rows(trained, caplog):
    task, config, path = trained("supervised")
    few = replace(config, data=replace(config.data, num_keypoints=3))
    fresh = {k: v.clone() for k, v in task.training(few).module.network.state_dict().items()}
    with caplog.at_level(logging.INFO):
        training, taken, state = begun(task, few, path)
    source, ids = stored(path), torch.load(path, weights_only=True)["pcsa"]["labels"]["semantic_ids"]
    assert set(taken.rows) == set(HEAD)
    places = [ids.index(k) for k in training.labels.semantic_ids]
    for name in state:
        assert torch.equal(state[name], source[name][places] if name in HEAD else source[name])
    assert "step 7" in caplog.text
    assert "and 3 of 3 keypoints of" in caplog.text
    # And the other way: the rest is as new.
    _, taken, state = begun(task, few, path)
    known = [("x", 1), ("x", 5)]
    other = {name: state[name][:2].clone() for name in HEAD}
    mine = {name: fresh[name].clone() for name in HEAD}
    taken = transfer(mine, other, set(HEAD), [("x", 5), ("x", 2), ("x", 1)], known, by_name=True)
    for name in HEAD:
        assert torch.equal(mine[name], torch.stack([other[name][1], fresh[name][1], other[name][0]]))
    assert taken.rows == dict.fromkeys(HEAD, 2)


def test_another_category_begins_its_head_anew(trained, tmp_path):
    task, config, path = trained("supervised")
    root = generate(tmp_path / "mugs", "mug", 6, num_points=256, split=(0.5, 0.25, 0.25))
    mugs = replace(config, data=replace(config.data, root=root, category="mug"))
    fresh = {k: v.clone() for k, v in task.training(mugs).module.network.state_dict().items()}
    _, taken, state = begun(task, mugs, path)
    assert sorted(taken.new) == sorted(HEAD)
    source = stored(path)
    assert all(torch.equal(state[name], (fresh if name in HEAD else source)[name]) for name in state)


def test_as_many_keypoints_of_another_category_are_others():
    # Shapes say nothing of what a keypoint is.
    state, source = {"w": torch.zeros(2, 3)}, {"w": torch.ones(2, 3)}
    ids, known = [("bed", 0), ("bed", 1)], [("bath", 0), ("bath", 1)]
    assert transfer(state, source, {"w"}, ids, known, by_name=True).new == ["w"]
    assert not state["w"].any()
    # Nor do names that a training gave itself.
    known = [("bed", 0), ("bed", 1), ("bed", 2)]
    assert transfer(state, {"w": torch.ones(3, 3)}, {"w"}, ids, known, by_name=False).new == ["w"]
    # Several rows of each.
    state, source = {"w": torch.zeros(4, 1)}, {"w": torch.arange(6.0)[:, None]}
    transfer(state, source, {"w"}, [("bed", 2), ("bed", 7)], known, by_name=True)
    assert state["w"].flatten().tolist() == [4, 5, 0, 0]


def test_fewer_keypoints_without_names_begin_anew(trained):
    task, config, path = trained("unsupervised")
    fewer = replace(config, model=replace(config.model, num_keypoints=3))
    training = task.training(fewer)
    anchors = training.module.network.anchors.clone()
    _, taken, state = begun(task, fewer, path)
    assert {"score.2.weight", "anchors", "offsets", "strength.4.weight"} <= set(taken.new)
    assert torch.equal(state["anchors"], anchors)


@pytest.mark.parametrize("change", [{"scales": "multi"}, {"out_channels": 512}])
def test_another_network_is_refused_or_said(trained, change):
    task, config, path = trained("supervised")
    other = replace(config, model=replace(config.model, **change))
    with pytest.raises(ValueError, match=r"`init_from` .* must have a network like that of `model`: \d+ % of its"):
        begun(task, other, path)


def test_another_task_is_refused_and_nothing_is_written(trained, tiny, tmp_path):
    _, _, path = trained("landmarks")
    config = replace(tiny("oct"), init_from=path, out=tmp_path / "run")
    with pytest.raises(ValueError, match=r"`init_from` .* must be a checkpoint of oct, is one of landmarks"):
        get_task("oct").train(config)
    with pytest.raises(FileNotFoundError, match=r"none\.ckpt"):
        get_task("oct").train(replace(config, init_from=tmp_path / "none.ckpt"))
    assert not config.out.exists()


def test_a_resumed_run_has_its_own_weights_and_remembers(trained, weights, same, tmp_path, monkeypatch):
    task, config, path = trained("landmarks")
    config = replace(config, init_from=path, seed=3)
    whole = task.train(replace(config, out=tmp_path / "whole"))
    assert not same(weights(whole), weights(task.train(replace(config, init_from=None, out=tmp_path / "plain"))))
    killed = replace(config, out=tmp_path / "killed")
    step = StepTraining.training_step

    def cut(self, batch, batch_idx):
        if self.global_step == 5:
            raise RuntimeError("power cut")
        return step(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(StepTraining, "training_step", cut)
        with pytest.raises(RuntimeError, match="power cut"):
            task.train(killed)
    # The file is not read again.
    gone = replace(killed, init_from=tmp_path / "gone.ckpt", resume=True)
    assert same(weights(whole), weights(task.train(gone)))
    for out in ("whole", "killed"):
        assert json.loads((tmp_path / out / "config.json").read_text())["config"]["init_from"] == str(path)
        assert torch.load(tmp_path / out / "last.ckpt", weights_only=True)["pcsa"]["config"]["init_from"] == str(path)
