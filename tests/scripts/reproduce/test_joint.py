"""Detectors of all categories of a study."""

import json
import shlex

import pytest

from pcsa.datasets.keypointnet import KeypointNet
from pcsa.scripts.cli import main
from pcsa.scripts.reproduce.digests import ROOT, row_key
from pcsa.scripts.reproduce.results import Results

STUDY = """
title = "Tiny"
task = "supervised"
preset = "default"
baseline = "plain"
categories = ["mug", "chair"]
columns = ["PCK@0.01"]
read_outs = ["expectation"]
folds = 2
seeds = 1
options = "--model.out-channels 16 --optimizer.batch-size 4 --optimizer.steps 2 --trainer.accelerator cpu"
[methods]
plain = ""
[joint]
both = { of = "plain", options = "--optimizer.lr 0.001" }
"""


CATEGORIES = ('["mug", "chair"]', '["mug"]')


@pytest.fixture
def root(tmp_path_factory):
    """Eight procedural mugs and as many chairs."""
    root = tmp_path_factory.mktemp("both")
    flags = "--categories mug chair --num-shapes 8 --num-points 256"
    assert main(["data", "generate", str(root), *flags.split()]) == 0
    return root


@pytest.fixture
def rows(tmp_path):
    return lambda: {(r["method"], r["category"], r["fold"]): r for r in Results(tmp_path / "results").rows.values()}


def test_one_training_has_a_row_for_each_category(call, trains, rows, tmp_path, capsys):
    assert main(call()) == 0
    out, said = capsys.readouterr()
    assert "to be trained alone: mug,chair, both, fold 1, seed 0: needed for 'both'" in said
    assert sorted(path.parent.name for path in trains) == ["chair"] * 2 + ["mug"] * 2 + ["mug+chair"] * 2
    found = rows()
    assert set(found) == {(m, c, f) for m in ("plain", "both") for c in ("mug", "chair") for f in (0, 1)}
    row = found["both", "chair", 1]
    assert (row["part"], row["config"]["data"]["category"]) == ("chair", "mug,chair")
    assert row["config"]["optimizer"]["lr"] == 0.001
    assert all(row["digest"] == row_key(row) for row in found.values())
    assert len({row["digest"] for row in found.values()}) == 8
    assert "- both: one network for all categories, trained as plain with --optimizer.lr 0.001" in out
    assert main(call()) == 0
    assert "8 of 8 runs are finished" in capsys.readouterr().err
    # In one category alone it is the same network.
    assert main(call("--categories", "mug", "--methods", "both")) == 0
    assert len(trains) == 6


def test_without_the_clouds_of_all_there_is_none(call, trains, root, capsys):
    next((root / "annotations").glob("chair*")).unlink()
    assert main(call("--folds", "0")) == 0
    assert "left out: both: chair has no annotations" in capsys.readouterr().err
    assert [path.parent.name for path in trains] == ["mug"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("both =", "plain =", "`joint` (='plain') must not have the name of a method"),
        ('of = "plain"', 'of = "other"', "`of` (='other') of 'both' must be out of 'plain'"),
        ('["mug", "chair"]', '["mug"]', "`joint` must not be given with one of `categories` (=['mug'])"),
        ('options = "--optimizer.lr', 'steps = "--optimizer.lr', "`joint` (='both') must be a table with 'of' and"),
    ],
)
def test_mistakes(study, call, refused, old, new, message):
    methods, joint = STUDY.split("[joint]")
    study.write_text(
        f"{methods.replace(*CATEGORIES) if old in CATEGORIES else methods}[joint]{joint.replace(old, new)}"
    )
    assert message in refused(call())


@pytest.mark.slow
def test_scores_are_those_of_the_commands(call, rows, root, tmp_path, monkeypatch, capsys):
    assert main(call("--methods", "both", "--folds", "0")) == 0
    row = rows()["both", "chair", 0]
    assert set(row["keypoints"]) <= set(KeypointNet(root, "chair", "all").model_ids)
    monkeypatch.chdir(tmp_path)
    (tmp_path / ROOT).symlink_to(root)
    commands = row["command"].split(" && ")
    assert [command.split()[1] for command in commands] == ["train", "evaluate"]
    for command in commands:
        assert main(shlex.split(command)[1:]) == 0
    (file,) = tmp_path.glob("runs/*/metrics-val-chair.json")
    metrics = json.loads(file.read_text())
    assert metrics["category"] == "chair"
    assert list(row["keypoints"]) == list(metrics["per_shape"])
    found = row["figures"]["expectation"]["euclidean/mean_error"]
    assert found == pytest.approx(metrics["read_outs"]["expectation"]["euclidean"]["mean_error"], rel=1e-5)
    # One temperature for all categories is not that of one.
    (checkpoint,) = file.parent.glob("last.ckpt")
    capsys.readouterr()
    assert main(["evaluate", str(checkpoint), "--category", "chair", "--fit-temperature"]) == 2
    assert "`fit_temperature` (=True) must not be set with `category` (='chair')" in capsys.readouterr().err
