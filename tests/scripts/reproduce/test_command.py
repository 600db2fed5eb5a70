"""``pcsa reproduce`` as a user calls it."""

import json
import os
import subprocess
import sys
import time

import pytest

from pcsa.scripts.cli import main
from pcsa.scripts.reproduce import runs as runs_module
from pcsa.scripts.reproduce.results import Results

STUDY = '''
title = "Tiny"
task = "supervised"
preset = "sampling"
baseline = "soft"
categories = ["mug", "bed"]
columns = ["PCK@0.01", "mean error"]
read_outs = ["expectation"]
folds = 3
seeds = 1
options = """
--model.out-channels 16 --optimizer.batch-size 4 --optimizer.steps 2 --trainer.accelerator cpu --trainer.save-every 1
"""
[methods]
soft = "--objective.method soft"
"sampling, S = 2" = "--objective.num-samples 2"
broken = "--data.num-keypoints 99"
'''


def test_runs_are_made_once_and_leave_rows_and_tables(call, trains, tmp_path, capsys):
    some = ("--methods", "soft", "sampling, S = 2", "--folds", "0", "2")
    assert main(call(*some)) == 0
    out, err = capsys.readouterr()
    assert len(trains) == 4
    assert "left out: bed: no annotations" in err
    assert "4 of 4: mug, sampling, S = 2, fold 2, seed 0: 12 s" in err
    results = tmp_path / "results"
    page = (results / "table.md").read_text()
    assert page in out
    assert (
        f"pcsa reproduce {tmp_path}/tiny.toml --root KEYPOINTNET --methods soft 'sampling, S = 2' --folds 0 2" in page
    )
    assert "left out, because it is not here: bed: no annotations" in page
    assert "| soft            | 50.0 " in page
    assert len((results / "table.csv").read_text().splitlines()) == 1 + 2 * 2
    text = (results / "results.jsonl").read_text()
    rows = [json.loads(line) for line in text.splitlines()]
    assert [(row["method"], row["fold"], row["seed"]) for row in rows] == [
        ("sampling, S = 2", 0, 0),
        ("sampling, S = 2", 2, 0),
        ("soft", 0, 0),
        ("soft", 2, 0),
    ]
    # What is committed knows nothing of this machine's folders.
    assert str(tmp_path.parent) not in text
    assert rows[0]["config"]["data"]["fold"] == 0
    assert rows[0]["config"]["objective"]["num_samples"] == 2
    assert "pcsa train supervised sampling --model.out-channels 16" in rows[0]["command"]

    assert main(call(*some)) == 0
    assert len(trains) == 4
    assert "4 of 4 runs are finished" in capsys.readouterr().err
    assert (results / "table.md").read_text() == page


def test_a_finished_run_stays_finished(call, trains, tmp_path, capsys, monkeypatch):
    one = ("--methods", "soft", "--folds", "0")
    assert main(call(*one)) == 0
    # Another read-out needs no training, other steps do.
    assert main(call(*one, "--read-outs", "peak")) == 0
    assert len(trains) == 1
    assert "## PCK@0.01, peak" in capsys.readouterr().out
    assert [list(row["figures"]) for row in Results(tmp_path / "results").rows.values()] == [["expectation", "peak"]]
    assert main(call(*one, "--steps", "3")) == 0
    assert len(trains) == 2
    assert len(Results(tmp_path / "results").rows) == 2

    # A field that this version added counts with its default, also where a read-out is missing.
    file = tmp_path / "results" / "results.jsonl"
    file.write_text(file.read_text().replace('"bandwidth_scale":1.0,', ""))
    capsys.readouterr()
    assert main(call(*one, "--show")) == 0
    assert "1 of 1 runs are finished" in capsys.readouterr().err
    # Another version of the package is another experiment.
    monkeypatch.setattr(runs_module.pcsa, "__version__", "9")
    assert main(call(*one, "--show")) == 0
    assert "0 of 1 runs are finished" in capsys.readouterr().err


def test_what_is_finished_outlives_the_call_that_made_it(call, trains, capsys, monkeypatch):
    one = call("--methods", "soft", "--folds", "1")

    def cut(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Results, "add", cut)
        assert main(one) == 130
    assert main(one) == 0
    assert len(trains) == 1
    assert "1 of 1 runs are finished" in capsys.readouterr().err


def test_a_run_that_fails_is_listed_and_the_others_are_made(call, trains, capsys):
    assert main(call("--methods", "broken", "soft", "--folds", "0")) == 3
    out, err = capsys.readouterr()
    assert "1 of 2: mug, broken, fold 0, seed 0: failed" in err
    assert "failed: 1 of 2 runs" in err
    assert "  mug, broken, fold 0, seed 0: `data.num_keypoints` (=99) must be fewer" in err
    assert "1 of 2 runs are finished" in out


def test_without_folds_the_splits_are_scored(call, trains, capsys):
    assert main(call("--methods", "soft", "--num-folds", "0", "--split", "test")) == 0
    assert "Scored on test. 1 of 1 runs are finished." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("--methods hard", "`methods` (='hard') must be out of 'soft', "),
        ("--folds 3", "`folds` (=3) must be out of 0, 1, 2"),
        ("--num-folds 0 --folds 0", "`folds` (=[0]) must not be given: tiny has no folds"),
        ("--num-folds 0 --fold-of train", "`fold_of` (='train') must come with `num_folds`"),
        ("--split test", "`split` (='test') must be 'val' with folds"),
        ("--read-outs middle", "`read_outs` (='middle') must be out of 'expectation'"),
        ("--workers 0", "`workers` (=0) must be at least 1"),
        ("--seeds -1", "`seeds` (=-1) must be at least 0"),
        ("--parameters gpus", "`parameters` (='gpus') must have the form name=value"),
        ("--parameters gpus=1 --executor local", "`executor` (='local') cannot be used with these `parameters`"),
        ("--executor slurm", "`executor` (='slurm') cannot be used with these `parameters`: Could not detect"),
        ("-- --seed 3", "`--seed` after -- must not be given: `pcsa reproduce` sets it for each run, see its own"),
        ("-- --data.num_folds=3", "see its own `folds`"),
        ("-- --optimizer.steps 3", "see its own `steps`"),
        ("-- --optimizer.lr 0", "`optimizer.lr` (=0.0) must be above 0"),
    ],
)
def test_mistakes_end_in_one_message_and_status_2(call, refused, tmp_path, more, message):
    before, rest = (more.split("-- ")[0].split(), more.split()) if more.startswith("-- ") else (more.split(), [])
    assert message in refused(
        call("--methods", "soft", *(rest or before)) if "--methods" not in more else call(*before)
    )
    assert not list(tmp_path.glob("runs/*/*/last.ckpt"))


def test_a_device_that_is_not_here_is_refused(call, refused, monkeypatch):
    monkeypatch.setattr("pcsa.scripts.reproduce.command.visible_gpus", list)
    assert "`device` (='cuda') cannot be used: torch finds no accelerator here" in refused(call("--device", "cuda"))


def test_a_device_is_that_of_trainings_and_of_scores(study, calls, trains, tmp_path, monkeypatch):
    study.write_text(STUDY.replace("--trainer.accelerator cpu", ""))
    asked = []
    monkeypatch.setattr("pcsa.scripts.reproduce.scoring.pick_device", asked.append)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda: "H100")
    monkeypatch.setattr("pcsa.scripts.reproduce.command.visible_gpus", lambda: ["0"])
    call = calls(study)
    some = ("--methods", "soft", "--folds")
    assert main(call(*some, "0", "--device", "cuda", "--", "--trainer.no-cuda-graph")) == 0
    assert main(call(*some, "1", "--device", "cpu", "--threads", "1")) == 0
    # The same runs: neither is made again elsewhere.
    assert main(call(*some, "0", "1", "--device", "cuda")) == 0
    assert asked == ["cuda", "cpu"]
    here, there = Results(tmp_path / "results").rows.values()
    assert (here["device"], "--trainer.accelerator cuda" in here["command"]) == ("H100", True)
    assert there["device"].endswith("threads")
    page = (tmp_path / "results" / "table.md").read_text()
    assert f"2 of 2 runs are finished. Made on: H100 (1); {there['device']} (1)." in page


def test_help_names_the_studies(capsys):
    with pytest.raises(SystemExit):
        main(["reproduce", "--help"])
    said = capsys.readouterr().out
    for name in ("table6", "table7", "ablation", "objectives"):
        assert name in said


@pytest.mark.slow
def test_a_half_trained_run_goes_on(call, tmp_path, capsys, monkeypatch):
    one = call("--methods", "soft", "--folds", "1", "--steps", "4")
    with monkeypatch.context() as patch:

        def cut(self, trainer, *_):
            if trainer.global_step >= 3:
                raise RuntimeError("no power")

        # An epoch has a step or two; after each there is a checkpoint.
        patch.setattr("pcsa.tasks.common.engine.LearningRateMonitor.on_train_batch_start", cut)
        assert main(one) == 3
    assert "no power" in capsys.readouterr().err
    assert main(one) == 0
    (run,) = tmp_path.glob("runs/mug/*")
    assert sorted(log.name for log in run.glob("log/*")) == ["version_0", "version_1"]
    # Rows and shapes say the same.
    (row,) = Results(tmp_path / "results").rows.values()
    assert row["figures"]["expectation"].keys() >= {"PCK@0.01", "geodesic PCK@0.01", "mean error", "presence AP"}
    for name, values in row["shapes"]["expectation"].items():
        assert len(values) == len(row["keypoints"]) == row["num_items"]
        assert sum(values) / len(values) == pytest.approx(row["figures"]["expectation"][name], rel=1e-4)
    metrics = json.loads((run / "metrics-val-expectation.json").read_text())
    assert metrics["fold"] == "fold 1 of 3 of train"
    assert row["figures"]["expectation"]["mean error"] == pytest.approx(
        metrics["overall"]["euclidean"]["mean_error"], rel=1e-4
    )


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["local", "submitit"])
def test_processes_of_which_one_fails(call, capsys, executor):
    more = ("--methods", "broken", "soft", "--folds", "0", "--workers", "2")
    assert main(call(*more, executor=executor)) == 3
    out, err = capsys.readouterr()
    assert "mug, broken, fold 0, seed 0: ValueError: `data.num_keypoints` (=99) must be at most" in err
    assert f"_log.{'txt' if executor == 'local' else 'err'})" in err
    assert "1 of 2 runs are finished" in out


@pytest.mark.slow
def test_a_call_that_is_killed_has_kept_what_was_finished_and_goes_on(call, tmp_path):
    arguments = call("--methods", "soft", "--folds", "0", "1", "--workers", "1", "--steps", "40", executor="local")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def start():
        command = [sys.executable, "-m", "pcsa.scripts.cli", *arguments]
        return subprocess.Popen(command, start_new_session=True, env=environment, stderr=subprocess.PIPE, text=True)

    def rows():
        return Results(tmp_path / "results").rows.values()

    process = start()
    end = time.monotonic() + 900
    while not (rows() and list(tmp_path.glob("runs/mug/*-f1-*/last.ckpt"))):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end
        time.sleep(0.1)
    process.kill()
    process.wait()
    process.stderr.close()
    (first,) = rows()
    assert first["fold"] == 0
    done = start()
    said = done.communicate(timeout=900)[1]
    assert done.returncode == 0, said
    assert "1 of 2 runs are finished" in said or "2 of 2 runs are finished" in said
    assert [row["fold"] for row in rows()] == [0, 1]
    logs = [len(list(tmp_path.glob(f"runs/mug/{row['run']}/log/version_*"))) for row in rows()]
    assert logs[0] == 1
    # Its process has heard of the kill, finished its step, and written where it is.
    (log,) = tmp_path.glob(f"runs/mug/{list(rows())[1]['run']}/job/{process.pid}_log.txt")
    assert "writing a checkpoint after this step" in log.read_text()
    assert logs[1] == 2


def test_a_network_that_the_file_of_a_study_names_must_be_trusted(study, call, trains, capsys):
    text = STUDY.replace("--model.out-channels 16", "--model.backbone own_networks_of_nobody:Net")
    study.write_text(text)
    some = ("--methods", "soft", "--folds", "0")
    assert main(call(*some)) == 2
    assert "names a network outside of pcsa, `own_networks_of_nobody:Net`" in capsys.readouterr().err
    assert not trains
    # Their trainings only pretend to be made, or the module would be missed.
    assert main(call(*some, "--trust-backbone")) == 0
    assert len(trains) == 1
    study.write_text(STUDY.replace("--model.out-channels 16", ""))
    assert main(call(*some, "--seeds", "1", "--", "--model.backbone", "own_networks_of_nobody:Net")) == 0
    assert len(trains) == 2
