"""Files that nobody meant: what the fuzzing has found stays mended, and a little of it runs here."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def regressions(fuzz):
    return fuzz("fuzz_regressions")


def test_what_was_found_is_refused_by_name(fuzz, regressions, tmp_path, monkeypatch, soon):
    """`attempt` raises unless the error is a ValueError or OSError that names a file of the folder."""
    targets = fuzz("fuzz_targets")
    monkeypatch.setenv("PCSA_CACHE_DIR", str(tmp_path / "cache"))
    for number, (what, (name, make)) in enumerate(regressions.REGRESSIONS.items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        targets.prepare(targets.TARGETS[name], folder)
        outcome = targets.attempt(targets.TARGETS[name], folder, make())
        assert outcome == ("read" if what in regressions.READ else "refused"), what


def test_an_undocumented_exception_is_a_finding(fuzz, tmp_path):
    targets = fuzz("fuzz_targets")

    def fail(folder):
        raise KeyError("x")

    with pytest.raises(KeyError):
        targets.attempt(targets.Target("a", list, fail), tmp_path, b"")

    def anonymous(folder):
        raise ValueError("it is wrong")

    with pytest.raises(targets.UndocumentedError, match="without its file"):
        targets.attempt(targets.Target("a", list, anonymous), tmp_path, b"")


def test_the_same_inputs_every_time(fuzz):
    import random

    mutated, seeds = fuzz("fuzz_mutate").mutated, fuzz("fuzz_seeds")
    for make, inside in ((seeds.pcd, ""), (seeds.scans, "zip"), (seeds.mat, "mat"), (seeds.coco, "")):
        whole = make()[0]
        first, again = ([mutated(random.Random(i), whole, inside) for i in range(30)] for _ in range(2))
        assert first == again
        assert len(set(first)) > 20


@pytest.mark.slow
def test_a_short_run_finds_nothing():
    """Every reader, a few inputs each, as `.ci/run` does with ten thousand."""
    command = [sys.executable, str(HERE / "fuzz.py"), "--inputs", "300", "--seed", "5"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    # Shares of 50 readers are rounded.
    assert int(re.search(r"^all +([\d,]+)", done.stdout, re.MULTILINE)[1].replace(",", "")) >= 275
