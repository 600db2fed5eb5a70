"""``pcsa evaluate`` and ``pcsa predict`` with several checkpoints, and with variations of each cloud."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from pcsa.datasets.keypointnet import KeypointNet
from pcsa.scripts.cli import main
from pcsa.tasks import open_run
from pcsa.tasks.common.run import open_ensemble

QUIET = ("--no-progress", "--device", "cpu")


@pytest.fixture(scope="module")
def other(training, tmp_path_factory):
    """The checkpoint of a run with another seed."""
    done = {}

    def get(name):
        if name not in done:
            out = tmp_path_factory.mktemp(name)
            assert main(["train", *training(name), "--seed", "1", "--out", str(out)]) == 0
            done[name] = out / "last.ckpt"
        return done[name]

    return get


@pytest.fixture
def evaluate(tmp_path):
    """Evaluates, and returns what is written."""

    def run(*arguments):
        out = tmp_path / "metrics.json"
        assert main(["evaluate", *map(str, arguments), "--split", "test", "--out", str(out), *QUIET]) == 0
        return json.loads(out.read_text())

    return run


def overall(metrics):
    return {key: value for key, value in metrics.items() if key not in ("checkpoint", "file", "ensemble", "test_time")}


def test_a_mean_of_clouds_is_scored_and_predicted(trained, other, root, evaluate, tmp_path, predict):
    first, second = trained("supervised"), other("supervised")
    alone, both = evaluate(first), evaluate(first, second)
    assert both["ensemble"] == [str(second)]
    assert "ensemble" not in alone
    assert overall(alone) != overall(both) != overall(evaluate(second))
    # Neither order nor way to say it matters.
    turned = evaluate(second, "--ensemble", first)
    assert turned["overall"]["euclidean"]["mean_error"] == pytest.approx(both["overall"]["euclidean"]["mean_error"])
    cloud = KeypointNet(root, "mug", "val")[0].pos
    np.save(tmp_path / "cloud.npy", cloud.numpy())
    written = predict(first, [second, tmp_path / "cloud.npy"], tmp_path)
    assert written["ensemble"] == [str(second)]
    runs = [open_run(path) for path in (first, second)]
    maps = [run.task.locate(run, [cloud], "expectation").logits[0].softmax(0) for run in runs]
    mean = sum(maps) / 2
    torch.testing.assert_close(
        torch.tensor(written["items"][0]["position"][0]), mean[:, 0] @ cloud, rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(torch.tensor(written["items"][0]["confidence"]), mean.amax(0), rtol=1e-4, atol=1e-5)
    # One checkpoint more is another prediction.
    arguments = ["predict", str(first), str(tmp_path / "cloud.npy"), "--out", str(tmp_path / "p.json"), *QUIET]
    assert main(arguments) == 2


def test_variations_are_scored_and_predicted(trained, root, evaluate, tmp_path, refused):
    path = trained("supervised")
    alone, varied = evaluate(path), evaluate(path, "--test-time", "3")
    assert varied["test_time"] == 3
    assert overall(alone) != overall(varied)
    again = evaluate(path, "--test-time", "3", "--batch-size", "1")
    assert again["overall"]["euclidean"]["mean_error"] == pytest.approx(varied["overall"]["euclidean"]["mean_error"])
    assert evaluate(path, "--test-time", "1") == alone
    np.save(tmp_path / "cloud.npy", KeypointNet(root, "mug", "val")[0].pos.numpy())
    command = ["predict", path, tmp_path / "cloud.npy", "--out", tmp_path / "p.json", *QUIET]
    assert main([*map(str, command), "--test-time", "2"]) == 0
    assert json.loads((tmp_path / "p.json").read_text())["made_with"]["test_time"] == 2
    assert "`test_time` (=2, now 1)" in refused(command)
    assert "`test_time` (=0) must be at least 1" in refused([*command, "--test-time", "0"])


def test_variations_of_keypoints_without_labels(trained, evaluate):
    path = trained("unsupervised")
    assert overall(evaluate(path)) != overall(evaluate(path, "--test-time", "2"))


@pytest.mark.parametrize(("mirror", "planes"), [(0.5, {2: (1, 0)}), (0.0, {})])
def test_a_run_knows_how_its_category_is_mirrored(trained, monkeypatch, mirror, planes):
    run = open_run(trained("supervised"))
    assert run.task.mirrors(run) == {}  # procedural mugs have no plane that mirrors most of them
    monkeypatch.setattr("pcsa.tasks.supervised.category_mirrors", lambda clouds, count: {2: (1, 0)})
    data = replace(run.config.data, augment=replace(run.config.data.augment, mirror=mirror))
    labels = run.task.training(replace(run.config, data=data)).labels
    assert run.task.mirrors(replace(run, labels=labels)) == planes
    assert run.task.varied(replace(run, labels=labels), 2).mirrors == list(planes.items())


@pytest.mark.parametrize("name", ["landmarks", "oct"])
def test_a_mean_of_maps_is_scored(trained, other, evaluate, name):
    first, second = trained(name), other(name)
    both = evaluate(first, second)
    assert overall(evaluate(first)) != overall(both) != overall(evaluate(second))
    run = open_run(first)
    ensemble = open_ensemble(run, [second])
    assert not ensemble.model.training
    image = torch.rand(2, *(run.task.items(run.config, "val")[0]["image"].shape))
    with torch.no_grad():
        maps = [network(image)["logits"] for network in (run.model, open_run(second).model)]
        found = ensemble.model(image)["logits"].exp()
    axes = (-2,) if name == "oct" else (-2, -1)
    total = found.sum(axes)
    torch.testing.assert_close(total, torch.ones_like(total))
    weight = [m.exp() / m.exp().sum(axes, keepdim=True) for m in maps]
    torch.testing.assert_close(found, sum(weight) / 2, rtol=1e-3, atol=1e-6)


def test_files_of_other_weights_have_other_names(trained, other, tmp_path):
    first, second = trained("landmarks"), other("landmarks")
    for path, name in ((first, "last.ckpt"), (first, "best.ckpt"), (second, "second.ckpt")):
        shutil.copy(path, tmp_path / name)
    main(["evaluate", str(tmp_path / "best.ckpt"), "--pictures", "1", *QUIET])
    main(["evaluate", str(tmp_path / "last.ckpt"), str(tmp_path / "second.ckpt"), *QUIET])
    names = {file.name for file in tmp_path.iterdir() if file.suffix != ".ckpt"}
    assert names == {"metrics-val-best.json", "predictions-val-best.png", "metrics-val-mean-of-2.json"}


def test_what_does_not_belong_together_is_refused(trained, other, training, refused, tmp_path):
    first = trained("supervised")
    said = refused(["evaluate", first, trained("landmarks"), *QUIET])
    assert "must be a checkpoint of supervised, is one of landmarks" in said
    assert "must name each checkpoint once" in refused(["evaluate", first, first, *QUIET])
    assert "no such file" in refused(["evaluate", first, tmp_path / "none.ckpt", *QUIET])
    few = [*training("supervised"), "--data.num-keypoints", "2", "--out", str(tmp_path / "few")]
    assert main(["train", *few]) == 0
    assert "must find what" in refused(["evaluate", first, tmp_path / "few" / "last.ckpt", *QUIET])
    said = refused(["evaluate", trained("unsupervised"), other("unsupervised"), *QUIET])
    assert "keypoints that two trainings find by themselves are not the same" in said
    assert "only clouds are varied" in refused(["evaluate", trained("landmarks"), "--test-time", "2", *QUIET])
    small = [*training("landmarks"), "--data.input-size", "16", "16", "--out", str(tmp_path / "small")]
    assert main(["train", *small]) == 0
    said = refused(["evaluate", trained("landmarks"), tmp_path / "small" / "last.ckpt", *QUIET])
    assert "must have `data.input_size` (32, 32)" in said
