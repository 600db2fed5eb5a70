"""A training that is stopped, or whose numbers go wrong, keeps what is good and says what to do."""

import csv
import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch

from pcsa.scripts.cli import main
from pcsa.tasks import get_task
from pcsa.tasks.common.endings import DivergedError, Stopped, again, await_the_end
from pcsa.tasks.common.engine import StepTraining


@pytest.fixture(autouse=True)
def signals():
    """Hear of interruptions, which is not so in what a shell starts in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def rows(run):
    """What the logs of a run have by step, without the steps that two of them share."""
    found = {}
    for file in sorted(run.glob("log/*/metrics.csv")):
        with file.open() as lines:
            for row in csv.DictReader(lines):
                values = {key: value for key, value in row.items() if value and key != "epoch"}
                found.setdefault(int(row["step"]), {}).update(values)
    return found


@pytest.fixture
def at_step(monkeypatch):
    """Do something in the beginning of a step."""

    def patch(number, act):
        step = StepTraining.training_step

        def training_step(self, batch, batch_idx):
            if self.global_step == number:
                act()
            return step(self, batch, batch_idx)

        monkeypatch.setattr(StepTraining, "training_step", training_step)
        return monkeypatch

    return patch


@pytest.mark.parametrize("name", ["landmarks", pytest.param("supervised", marks=pytest.mark.slow)])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("step", [0, 3, 4], ids=["first", "last of an epoch", "in an epoch"])
def test_a_signal_ends_a_run_within_its_step_and_nothing_is_lost(
    trained, weights, same, at_step, tmp_path, capsys, name, number, step
):
    task, config, whole = trained(name)
    config = replace(config, out=tmp_path / "run")
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    patch = at_step(step, lambda: os.kill(os.getpid(), number))
    with pytest.raises(Stopped) as stop:
        task.train(config)
    patch.undo()
    assert stop.value.code == 128 + number
    assert (
        str(stop.value)
        == f"stopped by {number.name} after step {step + 1}, `{tmp_path / 'run' / 'last.ckpt'}` is written"
    )
    assert f"{number.name}: writing a checkpoint after this step; once more ends at once\n" in capsys.readouterr().err
    assert before == (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT))
    checkpoint = torch.load(stop.value.checkpoint, weights_only=True)
    assert checkpoint["global_step"] == step + 1
    assert same(weights(whole), weights(task.train(replace(config, resume=True))))
    undisturbed, resumed = rows(whole.parent), rows(config.out)
    assert resumed == undisturbed
    assert any("val" in key for row in resumed.values() for key in row)


def test_a_signal_in_the_last_step_changes_nothing(trained, weights, same, at_step, tmp_path):
    task, config, whole = trained("landmarks")
    at_step(6, lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert same(weights(whole), weights(task.train(replace(config, out=tmp_path / "run"))))


def test_a_second_signal_ends_at_once(trained, at_step, tmp_path):
    task, config, _ = trained("landmarks")
    patch = at_step(4, lambda: [os.kill(os.getpid(), signal.SIGINT) for _ in range(2)])
    with pytest.raises(SystemExit):
        task.train(replace(config, out=tmp_path / "run"))
    patch.undo()
    assert torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)["global_step"] == 4


def test_somebody_elses_handler_stays_theirs(trained, at_step, tmp_path):
    task, config, _ = trained("landmarks")
    heard = []
    before = signal.signal(signal.SIGINT, lambda *_: heard.append(1))
    try:
        at_step(4, lambda: os.kill(os.getpid(), signal.SIGINT))
        task.train(replace(config, out=tmp_path / "run"))
    finally:
        signal.signal(signal.SIGINT, before)
    assert heard == [1]


@pytest.mark.parametrize("broken", ["loss", "weights"])
def test_a_diverged_run_keeps_its_last_good_checkpoint(trained, weights, same, monkeypatch, tmp_path, capsys, broken):
    task, config, whole = trained("landmarks")
    config = replace(config, out=tmp_path / "run")
    step = StepTraining.training_step

    def diverges(self, batch, batch_idx):
        loss = step(self, batch, batch_idx)
        if self.global_step == 5 and broken == "weights":
            next(self.parameters()).data[0] = torch.inf
        return loss

    def nan(self, *given):
        loss, parts, size = terms(self, *given)
        return (loss * torch.nan if self.global_step == 4 else loss), parts, size

    kind = type(task.training(config).module)
    terms = kind.loss
    with monkeypatch.context() as patch:
        if broken == "loss":
            patch.setattr(kind, "loss", nan)
        patch.setattr(StepTraining, "training_step", diverges)
        said = r"the loss of step 5 is nan" if broken == "loss" else r"tensors are not finite after step 6"
        with pytest.raises(DivergedError, match=said + r".*last\.ckpt` stays as it was\. Lower `optimizer\.lr`"):
            task.train(config)
    kept = torch.load(config.out / "last.ckpt", weights_only=True)
    assert kept["global_step"] == 4
    assert not list(config.out.glob(".last-*"))
    assert same(weights(whole), weights(task.train(replace(config, resume=True))))


@pytest.mark.parametrize("file", ["last", "metrics"])
def test_a_full_disk_is_named_and_costs_nothing_that_was_written(
    trained, weights, same, monkeypatch, tmp_path, capsys, file
):
    task, config, whole = trained("landmarks")
    config = replace(config, out=tmp_path / "run")
    fsync = os.fsync

    def full(number):
        # From the second checkpoint on.
        if (config.out / "last.ckpt").exists() and f"/{file}" in os.readlink(f"/proc/self/fd/{number}").replace(
            ".", ""
        ):
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(number)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(
            OSError, match=r"No space left on device; (what it held before is|its rows are) kept"
        ) as error:
            task.train(config)
    assert error.value.filename.endswith("last.ckpt" if file == "last" else "metrics.csv")
    assert sorted(found.name for found in config.out.iterdir()) == ["config.json", "config.yaml", "last.ckpt", "log"]
    assert torch.load(config.out / "last.ckpt", weights_only=True)["global_step"] == 2
    assert same(weights(whole), weights(task.train(replace(config, resume=True))))
    assert rows(config.out) == rows(whole.parent)


def test_rows_are_on_the_disk_before_the_checkpoint_that_follows_them(trained, monkeypatch, tmp_path):
    task, config, _ = trained("landmarks")
    synced = []
    fsync = os.fsync

    def watched(number):
        synced.append(os.path.basename(os.readlink(f"/proc/self/fd/{number}")).strip(".")[:4])
        fsync(number)

    monkeypatch.setattr(os, "fsync", watched)
    task.train(replace(config, out=tmp_path / "run"))
    checkpoints = [i for i, name in enumerate(synced) if name == "last"]
    assert len(checkpoints) > 3
    assert all(synced[i - 1] == "metr" for i in checkpoints)


def loads(ready):
    await_the_end(0)
    os.kill(os.getpid(), signal.SIGINT)
    ready.set()
    time.sleep(600)


@pytest.fixture
def loading():
    """A process that loads, as a training would have it."""
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    process = context.Process(target=loads, args=(ready,), daemon=True)
    process.start()
    assert ready.wait(60)
    yield process
    process.kill()
    process.join()


@pytest.mark.skipif(not hasattr(signal, "sigwaitinfo"), reason="nobody says who sent a signal")
def test_a_process_that_loads_items_outlives_the_first_signal_of_others(loading):
    def tell():
        subprocess.run(["kill", "-TERM", str(loading.pid)], check=True)

    tell()
    loading.join(0.5)
    assert loading.is_alive()
    tell()
    loading.join(60)
    assert loading.exitcode == 128 + signal.SIGTERM


@pytest.mark.skipif(not hasattr(signal, "sigwaitinfo"), reason="nobody says who sent a signal")
def test_a_training_ends_the_processes_that_load_for_it(loading):
    # What Python does at its end, and then waits.
    loading.terminate()
    loading.join(60)
    assert loading.exitcode == 128 + signal.SIGTERM


def test_an_error_in_a_validation_leaves_no_process_that_loads(tiny, tmp_path, monkeypatch):
    task, config = get_task("landmarks"), replace(tiny("landmarks"), out=tmp_path / "run")

    def fails(*arguments):
        assert len(multiprocessing.active_children()) == 2
        raise RuntimeError("out of memory, say")

    module = type(task.training(config).module)
    monkeypatch.setattr(module, "validation_step", fails)
    # As long as the error is held, and with it all that it came from.
    with pytest.raises(RuntimeError, match="out of memory"):
        task.train(replace(config, trainer=replace(config.trainer, num_workers=1)))
    assert multiprocessing.active_children() == []


def test_the_command_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    def stopped(argv):
        raise Stopped(signal.SIGTERM, tmp_path / "last.ckpt", 7)

    monkeypatch.setattr("pcsa.scripts.train.main", stopped)
    assert main(["train", "landmarks", "--out", "a run"]) == 143
    assert capsys.readouterr().err == (
        f"pcsa train: stopped by SIGTERM after step 7, `{tmp_path / 'last.ckpt'}` is written; go on by\n"
        "pcsa train landmarks --out 'a run' --resume\n"
    )
    assert again(["x", "--resume"]) == "pcsa train x --resume"

    def diverged(argv):
        raise DivergedError("the loss of step 5 is nan")

    monkeypatch.setattr("pcsa.scripts.train.main", diverged)
    assert main(["train", "landmarks"]) == 2
    assert capsys.readouterr().err == "pcsa train: the loss of step 5 is nan\n"
    # The first process speaks for all.
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert main(["train", "landmarks"]) == 2
    assert capsys.readouterr().err == ""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_ends_with_the_status_of_the_signal(tmp_path, number):
    options = "landmarks --data.num-images 8 --data.input-size 32 32 --model.channels 8 8 --optimizer.batch-size 4"
    command = [sys.executable, "-m", "pcsa.scripts.cli", "train", *options.split()]
    command += ["--trainer.no-progress", "--trainer.accelerator", "cpu", "--out", str(tmp_path / "run")]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
    try:
        while not (tmp_path / "run" / "last.ckpt").exists():
            assert run.poll() is None
        run.send_signal(number)
        out, err = run.communicate(timeout=120)
    finally:
        run.kill()
    assert (run.returncode, out) == (128 + number, "")
    assert f"pcsa train: stopped by {number.name} after step " in err
    assert err.endswith("--resume\n")
