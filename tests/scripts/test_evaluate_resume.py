"""``pcsa evaluate`` that is cut off, and called again."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from pcsa.scripts.cli import main
from pcsa.tasks.common.map_task import MapEvaluation
from pcsa.tasks.supervised import DetectionEvaluation
from pcsa.tasks.unsupervised import CategoryEvaluation

KINDS = {"supervised": DetectionEvaluation, "unsupervised": CategoryEvaluation}


@pytest.fixture
def stop(monkeypatch):
    """Interrupts an evaluation at a batch while a block runs, and counts the items of those before."""

    @contextlib.contextmanager
    def stop(name, at=None):
        kind, seen = KINDS.get(name, MapEvaluation), []
        find = kind.find

        def watched(self, batch):
            if len(seen) == at:
                raise KeyboardInterrupt
            seen.append(batch.num_graphs if name in KINDS else len(batch["image"]))
            return find(self, batch)

        with monkeypatch.context() as patch:
            patch.setattr(kind, "find", watched)
            yield seen

    return stop


@pytest.fixture
def run(trained, capsys):
    """Evaluates a run, and returns exit status and what is said."""

    def run(name, out, *flags):
        capsys.readouterr()
        arguments = ["--split", "test", "--batch-size", "1", "--no-progress", "--out", str(out), *map(str, flags)]
        return main(["evaluate", str(trained(name)), *arguments]), capsys.readouterr()

    return run


@pytest.fixture
def scans(tmp_path):
    """Five labeled scans."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "scans"
    (folder / "splits").mkdir(parents=True)
    for i in range(5):
        boundaries = np.sort(rng.uniform(5, 60, (9, 16)), axis=0)
        np.savez(folder / f"{i}.npz", image=rng.random((64, 16)), boundaries=boundaries)
    for split in ("train", "val", "test"):
        names = {"train": "0", "val": "1\n2", "test": "1\n2\n3\n4"}
        (folder / "splits" / f"{split}.txt").write_text(names[split] + "\n")
    return folder


def without_file(path):
    return path.read_text().replace(str(path.parent), "")


def test_an_evaluation_goes_on_to_the_same_numbers_and_pictures(name, run, stop, tmp_path):
    kind = name.removesuffix("-image")
    whole, cut = tmp_path / "whole" / "m.json", tmp_path / "cut" / "m.json"
    size = 10 if name == "unsupervised" else 2 if name == "supervised" else 4
    with stop(kind) as seen:
        assert run(name, whole, "--pictures", "1")[0] == 0
    assert seen == [1] * size
    with stop(kind, size - 1) as seen:
        status, said = run(name, cut, "--pictures", "1")
    assert status == 130
    assert f"pcsa evaluate: interrupted; the same call goes on from {cut}.partial\n" in said.err
    assert len(seen) == size - 1
    assert not cut.exists()
    partial = cut.with_name("m.json.partial")
    # A kill may cut a line.
    with partial.open("a") as file:
        file.write('{"first": 1')
    with stop(kind) as seen:
        assert run(name, cut, "--pictures", "1")[0] == 0
    # The last one, and the one that has a picture.
    assert seen == [1, 1] if name != "unsupervised" else len(seen) <= 2
    assert without_file(cut) == without_file(whole)
    picture = "predictions-test.png"
    assert (cut.parent / picture).read_bytes() == (whole.parent / picture).read_bytes()
    assert sorted(f.name for f in cut.parent.iterdir()) == ["m.json", picture]


def test_without_pictures_nothing_is_found_again(run, stop, scored, tmp_path):
    out = tmp_path / "m.json"
    with stop("oct", 3):
        assert run("oct", out)[0] == 130
    with stop("oct") as seen:
        assert run("oct", out)[0] == 0
    assert seen == [1]
    scores = json.loads(out.read_text())
    assert scores["mean_px"] == pytest.approx(scored("oct")[0]["mean_px"], rel=1e-5)


def test_what_changed_is_found_again_and_what_failed_is_tried_again(run, stop, scans, tmp_path):
    out, flags = tmp_path / "m.json", ("--root", scans)
    good = (scans / "2.npz").read_bytes()
    before = (scans / "3.npz").read_bytes()
    with stop("oct", 0):
        run("oct", out, *flags)
    assert not out.with_name("m.json.partial").exists()
    archive = dict(np.load(scans / "2.npz"))
    np.savez(scans / "2.npz", **{**archive, "image": np.full((64, 16), np.nan)})
    with stop("oct", 2) as seen:
        assert run("oct", out, *flags)[0] == 130
    assert seen == [1, 1]
    # The second scan still fails, and is not looked at again.
    with stop("oct", 0) as seen:
        assert run("oct", out, *flags)[0] == 130
    (scans / "2.npz").write_bytes(good)
    np.savez(scans / "1.npz", **{**archive, "boundaries": archive["boundaries"] - 1})
    os.utime(scans / "3.npz", ns=(0, 0))
    assert (scans / "3.npz").read_bytes() == before
    with stop("oct") as seen:
        assert run("oct", out, *flags)[0] == 0
    assert len(seen) == 4
    whole = tmp_path / "whole.json"
    assert run("oct", whole, *flags)[0] == 0
    assert without_file(out).replace("m.json", "whole.json") == without_file(whole)


def test_failures_are_kept(run, stop, scans, tmp_path):
    archive = dict(np.load(scans / "2.npz"))
    np.savez(scans / "2.npz", **{**archive, "image": np.full((64, 16), np.nan)})
    whole, cut = tmp_path / "whole" / "m.json", tmp_path / "cut" / "m.json"
    flags = ("--root", scans, "--batch-size", "2")
    assert run("oct", whole, *flags)[0] == 3
    with stop("oct", 1):
        assert run("oct", cut, *flags)[0] == 130
    with stop("oct") as seen:
        assert run("oct", cut, *flags)[0] == 3
    assert seen == [2]
    assert without_file(cut) == without_file(whole)
    assert [fault["item"] for fault in json.loads(cut.read_text())["failed"]] == [1]
    with stop("oct", 1):
        assert run("oct", cut, *flags)[0] == 130
    assert run("oct", cut, *flags, "--strict")[0] == 2


def test_records_of_something_else_are_refused(run, trained, stop, tmp_path):
    out = tmp_path / "m.json"
    partial = tmp_path / "m.json.partial"
    with stop("oct", 2):
        run("oct", out)
    content = partial.read_bytes()
    said = run("oct", out, "--read-out", "mode")[1].err
    instead = "set `overwrite` to replace it, or choose another `out`"
    assert f"`{partial}` holds scores that are made with another `read_out` (='expectation', now 'mode'): " in said
    assert instead in said
    assert "`batch_size` (=1, now 2)" in run("oct", out, "--batch-size", "2")[1].err
    other = shutil.copy(trained("landmarks"), tmp_path / "other.ckpt")
    assert main(["evaluate", str(other), "--split", "test", "--out", str(out)]) == 2
    assert partial.read_bytes() == content
    # What only says how to go about it is no other option.
    with stop("oct", 0):
        assert run("oct", out, "--num-workers", "1", "--strict")[0] == 130
    assert partial.read_bytes() == content
    with stop("oct") as seen:
        assert run("oct", out, "--read-out", "mode", "--overwrite")[0] == 0
    assert len(seen) == 4
    assert json.loads(out.read_text())["read_out"] == "mode"
    partial.write_text("mine\n")
    status, said = run("oct", out)
    assert status == 2
    assert f"`{partial}` exists, and `pcsa evaluate` of this version did not write it: {instead}" in said.err
    assert partial.read_text() == "mine\n"
    assert run("oct", out, "--overwrite")[0] == 0
    assert not partial.exists()


def test_a_record_that_cannot_be_read_is_named(run, stop, tmp_path):
    with stop("oct", 2):
        run("oct", tmp_path / "m.json")
    partial = tmp_path / "m.json.partial"
    lines = partial.read_text().splitlines()
    line = json.loads(lines[1])
    partial.write_text("\n".join([lines[0], json.dumps({**line, "record": "AAAA"})]) + "\n")
    status, said = run("oct", tmp_path / "m.json")
    assert status == 2
    assert said.err.startswith(f"pcsa evaluate: `{partial}`: cannot be read as scores (")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["supervised", "pose2d"])
def test_an_evaluation_that_is_killed_goes_on(name, trained, root, tmp_path):
    sources = [trained(name), "--batch-size", "1", "--split", "test", "--pictures", "1"]
    if name == "supervised":
        # Clouds enough to be killed among.
        copy = shutil.copytree(root, tmp_path / "data")
        splits = copy / "splits"
        everything = sorted(line for part in ("train", "val", "test") for line in (splits / f"{part}.txt").open())
        (splits / "test.txt").write_text("".join(everything))
        sources += ["--root", copy]
    else:
        sources += ["--no-flip-test"]
    command = [sys.executable, "-m", "pcsa.scripts.cli", "evaluate", *map(str, sources)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    cut, whole = tmp_path / "cut" / "m.json", tmp_path / "whole" / "m.json"
    partial = cut.with_name("m.json.partial")
    killed = subprocess.Popen([*command, "--out", str(cut)], env=environment)
    end = time.monotonic() + 200
    while not (partial.exists() and partial.read_bytes().count(b"\n") > 2):
        assert killed.poll() is None
        assert time.monotonic() < end
        time.sleep(0.001)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    assert not cut.exists()
    for out in (cut, whole):
        again = subprocess.run([*command, "--out", str(out)], env=environment, capture_output=True, text=True)
        assert again.returncode == 0, again.stderr
        assert (" items were found by an earlier call" in again.stderr) == (out == cut)
    assert without_file(cut) == without_file(whole)
    picture = "predictions-test.png"
    assert (cut.parent / picture).read_bytes() == (whole.parent / picture).read_bytes()
