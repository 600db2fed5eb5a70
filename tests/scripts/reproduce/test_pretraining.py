"""Networks that methods begin with, made by the study."""

import json
import shlex
import shutil
from pathlib import Path

import pytest
import torch

from pcsa.scripts.cli import main
from pcsa.scripts.reproduce.digests import ROOT, row_key
from pcsa.scripts.reproduce.plan import Selection, plan
from pcsa.scripts.reproduce.results import Results
from pcsa.scripts.reproduce.study import open_study
from pcsa.tasks.common.run import open_run

STUDY = """
title = "Tiny"
task = "supervised"
preset = "default"
baseline = "plain"
categories = ["mug"]
columns = ["PCK@0.01"]
read_outs = ["expectation"]
folds = 2
seeds = 2
options = "--model.out-channels 16 --optimizer.batch-size 4 --optimizer.steps 2 --trainer.accelerator cpu"
[methods]
plain = ""
begun = "--init-from 'a chair' --objective.method soft"
"from a bed" = "--init-from=bed"
"from itself" = "--init-from mug"
[combined]
two = { of = "begun", networks = 2 }
[pretraining]
"a chair" = { options = "--data.category chair --data.num-shapes 10" }
bed = { options = "--data.category bed", root = true }
mug = { options = "--data.category mug", root = true }
"""


@pytest.fixture
def rows(tmp_path):
    return lambda: {
        (row["method"], row["fold"], row["seed"]): row for row in Results(tmp_path / "results").rows.values()
    }


def test_a_network_is_made_once_for_each_seed_and_before_what_begins_with_it(call, trains, rows, tmp_path, capsys):
    assert main(call("--methods", "begun", "plain", "two")) == 0
    said = capsys.readouterr().err
    for seed in (0, 1):
        assert f"to be trained alone: chair, a chair, seed {seed}: needed for 'begun', 'two'" in said
    made = [str(path.relative_to(tmp_path / "runs")).rsplit("-", 1)[0] for path in trains]
    assert made.count("chair/a-chair-s0") == made.count("chair/a-chair-s1") == 1
    assert made.index("chair/a-chair-s0") < made.index("mug/begun-f0-s0")
    assert len(made) == 2 + 4 + 4
    found = rows()
    assert {method for method, *_ in found} == {"begun", "plain", "two"}
    begun = found["begun", 1, 1]
    assert begun["begun_from"]["name"] == "a chair"
    assert begun["begun_from"]["config"]["data"]["category"] == "chair"
    assert begun["config"]["init_from"] is None
    assert "begun_from" not in found["plain", 1, 1]
    assert all(row["digest"] == row_key(row) for row in found.values())
    assert len({row["digest"] for row in found.values()}) == len(found)
    # Fields that are added later have their defaults there, too.
    del begun["begun_from"]["config"]["objective"]["bandwidth_scale"]
    assert row_key(begun) == begun["digest"]
    begun["begun_from"]["config"]["optimizer"]["lr"] = 0.5
    assert row_key(begun) != begun["digest"]
    assert str(tmp_path.parent) not in (tmp_path / "results" / "results.jsonl").read_text()

    # What is finished needs no network any more.
    shutil.rmtree(tmp_path / "runs")
    assert main(call("--methods", "begun", "plain", "two")) == 0
    assert len(trains) == 10
    assert "10 of 10 runs are finished" in capsys.readouterr().err


def test_the_digest_knows_the_training_before(study, root, tmp_path):
    def key(text):
        study.write_text(text)
        (run,) = plan(
            open_study(str(study)), Selection(root, methods=("begun",), folds=(0,), seeds=(0,)), tmp_path
        ).runs
        return run.key

    keys = {
        key(STUDY),
        key(STUDY.replace("num-shapes 10", "num-shapes 11")),
        key(STUDY.replace("--init-from 'a chair' ", "")),
        key(STUDY.replace("'a chair' ", "elsewhere/last.ckpt ")),
    }
    assert len(keys) == 4
    # What it is called makes no number.
    assert key(STUDY.replace("a chair", "stool")) in keys


def test_clouds_that_are_not_here_or_held_out(call, trains, refused, capsys):
    assert main(call("--methods", "from a bed", "plain", "--folds", "0", "--seeds", "0")) == 0
    assert "left out: from a bed: bed has no annotations" in capsys.readouterr().err
    assert len(trains) == 1
    said = refused(call("--methods", "from itself"))
    assert "`pretraining` (='mug') must be on another category than 'mug', whose clouds it would know" in said


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("{ root = true }", "`pretraining` (='a chair') must be a table with 'options' and out of 'root'"),
        ('{ options = "", name = "x" }', "`pretraining` (='a chair') must be a table with 'options'"),
        ('{ options = "", root = "x" }', "`root` (='x') must be true or false"),
        ("{ options = 1 }", "`options` (=1) must be a string"),
    ],
)
def test_mistakes(study, table, message):
    study.write_text(STUDY.replace('{ options = "--data.category chair --data.num-shapes 10" }', table))
    with pytest.raises(ValueError, match=r"must") as caught:
        open_study(str(study))
    assert message in str(caught.value)


@pytest.mark.slow
def test_a_method_begins_with_the_weights_that_its_command_makes(call, rows, root, tmp_path, monkeypatch):
    assert main(call("--methods", "begun", "--folds", "0", "--seeds", "0")) == 0
    (row,) = rows().values()
    (chair,) = tmp_path.glob("runs/chair/*/last.ckpt")
    (begun,) = tmp_path.glob("runs/mug/begun-*/last.ckpt")
    assert torch.load(begun, weights_only=True)["pcsa"]["config"]["init_from"] == str(chair)
    # As the row says it, with other trainings.
    monkeypatch.chdir(tmp_path)
    (tmp_path / ROOT).symlink_to(root)
    for command in row["command"].split(" && "):
        assert main(shlex.split(command)[1:]) == 0
    other = open_run(Path("runs/supervised/last.ckpt"))
    own = open_run(begun)
    for name, value in own.model.state_dict().items():
        torch.testing.assert_close(other.model.state_dict()[name], value)
    assert json.loads((chair.parent / "config.json").read_text())["config"]["data"]["root"] is None
