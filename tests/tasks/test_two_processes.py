"""Trainings by the command in two processes: the weights of one, one log, and one end whatever happens to either."""

import csv
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch

from pcsa.datasets.keypointnet import KeypointNet
from pcsa.datasets.procedural import generate
from pcsa.tasks import open_run
from pcsa.tasks.common.engine import StepData

pytestmark = pytest.mark.slow

TINY = """supervised soft --data.augment.mirror 0 --model.out-channels 16 --model.norm group --optimizer.batch-size 4
    --trainer.accelerator cpu --trainer.no-progress"""
COMMAND = [sys.executable, "-m", "pcsa.scripts.cli", "train"]
ENV = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Chairs that lack some keypoints: eight to train on, and three to validate on."""
    root = generate(tmp_path_factory.mktemp("chairs"), "chair", 12, num_points=256, split=(0.67, 0.25, 0.08))
    seen = [KeypointNet(root, "chair", split).visible for split in ("train", "val")]
    assert not seen[0].all()
    assert len(seen[1]) % 2
    return root


def logged(out, name):
    with (out / "log" / "version_0" / "metrics.csv").open() as file:
        return [float(row[name]) for row in csv.DictReader(file) if row[name]]


def children(pid):
    """Processes that a process started."""
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(child) for child in file.read().split()]


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("norm", ["group", "batch"])
def test_the_weights_the_log_and_the_scores_are_those_of_one(train_quietly, weights, root, tmp_path, norm):
    # The loss is logged in every tenth step.
    flags = TINY.replace("group", norm) + f" --data.root {root} --trainer.validate-every 1"
    flags += " --optimizer.steps 10 --objective.plus cross_entropy 0.1 --objective.regularization js"
    # Adam's steps are as long where the gradient is nothing but rounding, as that of the scores' bias.
    flags += " --optimizer.kind adadelta --optimizer.lr 1"
    one, two = tmp_path / "one", tmp_path / "two"
    train_quietly(f"{flags} --trainer.devices 2 --trainer.strategy ddp --out {two}")
    # Each process writes nothing of its own.
    assert sorted(file.name for file in two.iterdir()) == ["config.json", "config.yaml", "last.ckpt", "log"]
    assert [folder.name for folder in (two / "log").iterdir()] == ["version_0"]
    # Scores are over every shape, once, by the network that the checkpoint has.
    run = open_run(two / "last.ckpt")
    training = run.task.training(replace(run.config, resume=True))
    training.module.network.load_state_dict(run.model.state_dict())
    training.module.eval()
    with torch.no_grad():
        for number, batch in enumerate(StepData.val_dataloader(training.data)):
            training.module.validation_step(batch, number)
    assert logged(two, "val_error")[-1] == pytest.approx(float(training.module.error.compute()), rel=1e-6)
    if norm == "batch":
        return  # statistics of a batch are each process's own on a CPU
    train_quietly(f"{flags} --out {one}")
    assert logged(one, "loss")
    for name in ("loss", "loss_localization", "loss_presence", "loss_js", "val_error", "val_pck@0.05"):
        assert logged(two, name) == pytest.approx(logged(one, name), rel=1e-4, abs=1e-6), name
    a, b = weights(one / "last.ckpt"), weights(two / "last.ckpt")
    apart = {key: float((a[key].double() - b[key].double()).abs().max()) for key in a}
    assert max(apart.values()) <= 1e-6, apart
    begun = run.task.training(run.config).module.network.state_dict()
    moved = max(float((begun[key] - value).abs().max()) for key, value in run.model.state_dict().items())
    assert moved > 0.01


@pytest.fixture
def running(root, tmp_path):
    """A long training in two processes that has written its first checkpoint: it, its two processes, its folder."""
    out = tmp_path / "run"
    flags = f"{TINY} --data.root {root} --optimizer.steps 100000 --trainer.devices 2 --trainer.strategy ddp --out {out}"
    run = subprocess.Popen(
        [*COMMAND, *flags.split()], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENV
    )
    pids = [run.pid]
    try:
        end = time.monotonic() + 300
        while not (out / "last.ckpt").exists():
            assert run.poll() is None, run.communicate()[1]
            assert time.monotonic() < end
            time.sleep(0.2)
        pids += children(run.pid)
        assert len(pids) == 2
        yield run, pids, out
    finally:
        for pid in pids:
            if alive(pid):
                os.kill(pid, signal.SIGKILL)
        run.wait()


def ended(run, pids):
    """What a run says until all of its processes are gone."""
    out, err = run.communicate(timeout=60)  # all who hold the pipes have closed them
    end = time.monotonic() + 30
    while any(map(alive, pids)):
        assert time.monotonic() < end
        time.sleep(0.1)
    assert out == ""
    return err


@pytest.mark.parametrize("rank", [0, 1])
def test_one_process_killed_ends_the_other_with_a_message(running, rank):
    run, pids, out = running
    os.kill(pids[rank], signal.SIGKILL)
    err = ended(run, pids)
    said = "process 1 of 2 was ended by SIGKILL" if rank else "process 0, which started this one, is gone"
    advice = f"the training cannot go on without it; `{out / 'last.ckpt'}` stays as it was, set `resume` to go on"
    assert f"{said}: {advice}" in err
    assert "Traceback" not in err
    assert run.returncode == (2 if rank else -signal.SIGKILL)
    assert torch.load(out / "last.ckpt", weights_only=True)["global_step"] > 0


@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_to_one_process_ends_both_with_one_checkpoint(running, rank):
    run, pids, out = running
    os.kill(pids[rank], signal.SIGTERM)
    err = ended(run, pids)
    assert run.returncode == 128 + signal.SIGTERM
    assert err.count("SIGTERM: writing a checkpoint after this step") == 1
    assert err.count("stopped by SIGTERM after step") == 1
    step = torch.load(out / "last.ckpt", weights_only=True)["global_step"]
    assert f"stopped by SIGTERM after step {step}, `{out / 'last.ckpt'}` is written; go on by" in err
    assert sorted(file.name for file in out.iterdir()) == ["config.json", "config.yaml", "last.ckpt", "log"]
