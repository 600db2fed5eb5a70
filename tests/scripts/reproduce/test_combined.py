"""Means of networks and of variations as rows of a study."""

import json
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from pcsa.scripts.cli import main
from pcsa.scripts.reproduce.combined import Combination
from pcsa.scripts.reproduce.digests import ROOT, row_key
from pcsa.scripts.reproduce.plan import Selection, plan
from pcsa.scripts.reproduce.results import Results
from pcsa.scripts.reproduce.study import open_study

STUDY = """
title = "Tiny"
task = "supervised"
preset = "default"
baseline = "plain"
categories = ["mug"]
columns = ["PCK@0.01", "mean error"]
read_outs = ["ball"]
folds = 3
seeds = 2
options = "--model.out-channels 16 --optimizer.batch-size 4 --optimizer.steps 2 --trainer.accelerator cpu"
[methods]
plain = ""
broken = "--data.num-keypoints 99"
[combined]
two = { of = "plain", networks = 2 }
"two, varied" = { of = "plain", networks = 2, test_time = 3 }
varied = { of = "plain", test_time = 3 }
lost = { of = "broken", test_time = 3 }
"""
SOUND = ("--methods", "plain", "two", "two, varied", "varied", "--folds", "0")


@pytest.fixture
def rows(tmp_path):
    """The rows of the results, by method and number."""
    return lambda: {(row["method"], row["seed"]): row for row in Results(tmp_path / "results").rows.values()}


def test_networks_are_made_first_and_once(call, trains, rows, tmp_path, capsys):
    assert main(call(*SOUND)) == 0
    out, err = capsys.readouterr()
    assert [path.name.split("-f0-")[1][:2] for path in trains] == ["s0", "s1"]
    order = [line.split(": ")[1] for line in err.splitlines() if " of 6: " in line]
    names = ("plain 0", "varied 0", "plain 1", "two 0", "two, varied 0", "varied 1")
    assert order == [f"mug, {name[:-2]}, fold 0, seed {name[-1]}" for name in names]
    found = rows()
    assert set(found) == {(name[:-2], int(name[-1])) for name in names}
    assert "combined" not in found["plain", 0]
    assert found["two, varied", 0]["combined"] == {"seeds": [0, 1], "test_time": 3}
    assert found["varied", 1]["combined"] == {"seeds": [1], "test_time": 3}
    assert all(row["digest"] == row_key(row) and row["digest"] in row["run"] for row in found.values())
    # Fields that are added later have their defaults in every network.
    del found["two", 0]["config"]["objective"]["bandwidth_scale"]
    assert row_key(found["two", 0]) == found["two", 0]["digest"]
    assert str(tmp_path.parent) not in (tmp_path / "results" / "results.jsonl").read_text()
    # A row of each in the tables, compared with the mean of its networks: 50 and 0 percent.
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in out.splitlines()]
    at = lines.index(["two", "50.0"])
    assert lines[at - 1] == ["plain", "25.0 ± 35.4"]
    assert lines[at + 1][1] == "+25.0 [+25.0, +25.0]"
    assert "- two, varied: the mean of the maps of 2 networks of plain, over 3 variations of each cloud" in out
    assert "- varied: the mean of the maps of a network of plain, over 3 variations of each cloud" in out

    assert main(call(*SOUND)) == 0
    assert "6 of 6 runs are finished" in capsys.readouterr().err
    assert len(trains) == 2


def test_networks_without_rows_of_their_own(call, trains, rows, capsys):
    assert main(call("--methods", "two", "varied", "--folds", "0")) == 0
    said = capsys.readouterr().err
    assert "to be trained alone: mug, plain, fold 0, seed 0: needed for 'varied', 'two'" in said
    assert "1 of 5: mug, plain, fold 0, seed 0: trained" in said
    assert set(rows()) == {("two", 0), ("varied", 0), ("varied", 1)}
    assert main(call("--methods", "plain", "--folds", "0")) == 0
    assert len(trains) == 2
    assert {("plain", 0), ("plain", 1)} < set(rows())


def test_a_finished_row_is_trained_again_only_for_a_combined_one(call, trains, rows, tmp_path, capsys):
    assert main(call("--methods", "plain", "--folds", "0")) == 0
    before = rows()
    shutil.rmtree(tmp_path / "runs")
    assert main(call("--methods", "plain", "--folds", "0")) == 0
    assert len(trains) == 2
    capsys.readouterr()
    assert main(call("--methods", "plain", "two", "--folds", "0")) == 0
    said = capsys.readouterr().err
    assert "2 of 3 runs are finished" in said
    for seed in (0, 1):
        run = f"mug, plain, fold 0, seed {seed}"
        why = "its row is finished, but its checkpoint is not here; needed for 'two'"
        assert f"to be trained alone: {run}: {why}" in said
    assert len(trains) == 4
    after = rows()
    assert after.pop(("two", 0))["figures"]
    assert after == before
    # A checkpoint alone that is gone, too.
    (Path(trains[-1]) / "last.ckpt").unlink()
    assert main(call("--methods", "varied", "--folds", "0")) == 0
    assert len(trains) == 5


def test_a_cut_call_goes_on(call, trains, rows, monkeypatch, capsys):
    def cut(*_):
        raise RuntimeError("no power")

    with monkeypatch.context() as patch:
        patch.setattr("pcsa.scripts.reproduce.combined.CombinedRun.networks", cut)
        assert main(call(*SOUND)) == 3
    assert "failed: 4 of 6 runs" in capsys.readouterr().err
    assert set(rows()) == {("plain", 0), ("plain", 1)}

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Results, "add", interrupt)
        assert main(call(*SOUND)) == 130
    assert main(call(*SOUND, "--show")) == 0
    assert "3 of 6 runs are finished" in capsys.readouterr().err
    assert main(call(*SOUND)) == 0
    assert (len(trains), len(rows())) == (2, 6)


def test_another_read_out_is_added(call, trains, rows, capsys):
    some = ("--methods", "two", "--folds", "0")
    assert main(call(*some)) == 0
    assert main(call(*some, "--read-outs", "peak")) == 0
    assert len(trains) == 2
    assert list(rows()["two", 0]["figures"]) == ["ball", "peak"]


def test_what_needs_a_run_that_failed_is_not_made(call, trains, capsys):
    assert main(call("--methods", "lost", "broken", "--folds", "0", "--seeds", "1")) == 3
    said = capsys.readouterr().err
    assert "failed: 2 of 2 runs" in said
    assert "  mug, lost, fold 0, seed 1: it needs what failed: mug, broken, fold 0, seed 1" in said


def test_seeds_make_means_by_number(call, trains, rows, tmp_path, capsys):
    assert main(call("--methods", "two", "--folds", "0", "--seeds", "1")) == 0
    said = "left out: two: its networks have the seeds 0, 1, or as many that follow"
    assert said in capsys.readouterr().err
    assert f"- {said}" in (tmp_path / "results" / "table.md").read_text()
    assert (trains, rows()) == ([], {})
    assert main(call("--methods", "two", "--folds", "0", "--seeds", "3", "2", "0")) == 0
    assert rows()["two", 1]["combined"]["seeds"] == [2, 3]
    assert len(rows()) == 1


def planned(study, root, out, **changes):
    wanted = replace(Selection(root=root, methods=("two",), folds=(0,)), **changes)
    (run,) = plan(study, wanted, out).runs
    return run


def test_a_digest_knows_networks_and_settings_and_no_folder(study, root, tmp_path):
    two = open_study(str(study))
    here = planned(two, root, tmp_path / "here")
    there = shutil.copytree(root, tmp_path / "elsewhere")
    moved = planned(two, there, tmp_path / "there")
    assert (here.key, here.out.name) == (moved.key, moved.out.name)
    assert here.command() == moved.command()
    others = [
        planned(two, root, tmp_path, methods=("two, varied",)),
        planned(two, root, tmp_path, seeds=(2, 3)),
        planned(two, root, tmp_path, folds=(1,)),
        planned(two, root, tmp_path, options=("--optimizer.lr", "0.1")),
        planned(two, root, tmp_path, methods=("varied",), seeds=(0,)),
    ]
    assert len({here.key, *(run.key for run in others), *(run.key for run in here.members)}) == 8


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "`networks` or `test_time` must be above 1: else it is 'a' itself"),
        ({"networks": 0}, "`networks` (=0) must be a whole number of at least 1"),
        ({"networks": 2, "test_time": 1.5}, "`test_time` (=1.5) must be a whole number of at least 1"),
        ({"networks": True}, "`networks` (=True) must be a whole number of at least 1"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011  the text is compared below
        Combination("a", **settings)
    assert str(caught.value) == message


@pytest.mark.slow
def test_figures_are_those_of_the_commands(call, rows, root, tmp_path, monkeypatch, capsys):
    assert main(call("--methods", "two, varied", "--folds", "0", "--read-outs", "ball", "ball, 0.02")) == 0
    row = rows()["two, varied", 0]
    assert list(row["figures"]) == ["ball", "ball, 0.02", "template"]
    checkpoints = sorted(tmp_path.glob("runs/mug/plain-*/last.ckpt"))
    assert len(checkpoints) == 2
    # As the row says it, with another training.
    monkeypatch.chdir(tmp_path)
    (tmp_path / ROOT).symlink_to(root)
    commands = row["command"].split(" && ")
    assert [command.split()[1] for command in commands] == ["train", "train", "evaluate"]
    for command in commands:
        assert main(shlex.split(command)[1:]) == 0
    (file,) = tmp_path.glob("runs/*/metrics-val-mean-of-2-3-variations.json")
    metrics = json.loads(file.read_text())
    assert (len(metrics["ensemble"]), metrics["test_time"]) == (1, 3)
    shapes = metrics["per_shape"]
    assert list(row["keypoints"]) == list(shapes)
    for name in ("ball", "ball, 0.02"):
        found, expected = row["figures"][name], metrics["read_outs"][name]
        for kind in ("euclidean", "geodesic"):
            assert found[f"{kind}/mean_error"] == pytest.approx(expected[kind]["mean_error"], rel=1e-5)
        assert found["mass/mean"] == pytest.approx(expected["mass"]["mean"], rel=1e-5)
        errors = [sum(filter(None, s["read_outs"][name]["euclidean"])) / s["num_keypoints"] for s in shapes.values()]
        assert row["shapes"][name]["mean error"] == pytest.approx(errors, rel=1e-4)
    masses = [m for s in shapes.values() for m in s["read_outs"]["ball"]["mass"] if m is not None]
    assert row["confidence"]["ball"]["mass"] == pytest.approx(masses, rel=1e-3)
    # They are not those of one network.
    assert row["figures"]["ball"]["mass/mean"] != pytest.approx(
        json.loads(_alone(checkpoints[0], tmp_path).read_text())["read_outs"]["ball"]["mass"]["mean"], rel=1e-5
    )


def _alone(checkpoint, tmp_path):
    out = tmp_path / "alone.json"
    assert main(["evaluate", str(checkpoint), "--split", "val", "--out", str(out), "--no-progress"]) == 0
    return out
