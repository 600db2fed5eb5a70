"""The table of promises: what fails, what does not, and that every target of the benchmark is in it."""

import json
from pathlib import Path

import pytest

from pcsa.scripts import promises
from pcsa.scripts.bench.config import CASES, DETERMINISTIC_CASES
from pcsa.scripts.bench.report import Report, Result, deterministic, ratio, seconds

GRID_TASKS = ("pose2d", "pose3d", "oct", "landmarks")
METRICS = {"thresholds": [0.0, 0.01], "overall": {"euclidean": {"pck": [0.0, 0.415]}}}
MACHINE = dict.fromkeys(
    ("cpu", "cores", "threads", "device", "system", "python", "torch", "pcsa", "date", "load_before", "load_after"), 0
)


@pytest.fixture
def measured(monkeypatch, tmp_path):
    """Let the benchmark give these checks, in a folder without README and runs."""
    monkeypatch.chdir(tmp_path)
    asked = []

    def give(*checks):
        def bench(config):
            asked.append(config)
            return Report(MACHINE, {"repeats": 1, "shrink": 1}, [Result("scan", "Scan", checks=list(checks))])

        monkeypatch.setattr(promises, "bench", bench)
        return asked

    return give


def cells(text):
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]


def test_a_deterministic_miss_fails(measured, capsys):
    measured(deterministic("memory", 5.0, "GB", 4.0, "#3"), deterministic("kernels", 3, target=3, promise="#3"))
    assert promises.main(["--deterministic"]) == 1
    out = capsys.readouterr().out
    assert cells(out)[2:] == [
        ["scan: memory", "#3", "`pcsa bench scan`", "≤ 4", "5 GB", "no", "deterministic"],
        ["scan: kernels", "#3", "`pcsa bench scan`", "≤ 3", "3", "yes", "deterministic"],
    ]
    assert "broken: scan: memory" in out


def test_a_slow_machine_does_not_fail(measured, capsys):
    asked = measured(ratio("time", [3.0], [1.0], 0.3, "#3"), ratio("other", [1.0], [1.0]))
    assert promises.main([]) == 0
    assert not asked[0].deterministic
    rows = cells(capsys.readouterr().out)[2:]
    assert rows[0] == ["scan: time", "#3", "`pcsa bench scan`", "≤ 0.3", "3 ×", "no", "timed"]
    # What nobody promised is left out; trainings are named, and not run.
    assert [row[2] for row in rows[1:]] == ["`make demo`", *(f"`pcsa train {task}`" for task in GRID_TASKS)]
    assert {row[4] for row in rows[1:]} == {"not measured"}


def test_deterministic_leaves_out_times(measured, capsys):
    asked = measured(seconds("import", [], 0.3, "#2"))
    assert promises.main(["--deterministic"]) == 0
    assert asked[0].deterministic
    assert asked[0].selected == DETERMINISTIC_CASES
    assert len(cells(capsys.readouterr().out)) == 2


def test_scores_are_read_and_a_long_readme_fails(measured, tmp_path, capsys):
    measured()
    (tmp_path / "runs" / "demo").mkdir(parents=True)
    (tmp_path / "runs" / "demo" / "metrics-test.json").write_text(json.dumps(METRICS))
    (tmp_path / "README.md").write_text("line\n" * 111)
    assert promises.main([]) == 1
    rows = cells(capsys.readouterr().out)
    assert ["README: lines", "#10 house", "`wc -l README.md`", "≤ 110", "111", "no", "deterministic"] in rows
    assert next(row for row in rows if row[0].startswith("demo"))[4] == "41.5 %"


def test_full_trains(measured, monkeypatch, capsys):
    measured()
    started = []

    def run(*args):
        started.append(args[2:4])
        if args[2] == "evaluate":
            Path(args[3]).parent.mkdir()
            Path(args[3]).with_name("metrics-test.json").write_text(json.dumps(METRICS))

    monkeypatch.setattr(promises, "run_python", run)
    assert promises.main(["--full"]) == 0
    assert [command for command, _ in started] == ["train", "evaluate", *["train"] * 4]
    assert [task for _, task in started[2:]] == list(GRID_TASKS)
    rows = cells(capsys.readouterr().out)[2:]
    assert rows[0][4] == "41.5 %"
    assert [row[3] for row in rows[1:]] == ["≤ 300"] * 4
    assert all(row[5] == "yes" for row in rows[1:])


def test_every_case_with_times_or_counts_is_asked_for():
    # Neighbors and curves have no targets.
    assert set(CASES) - set(promises.CASES) == {"neighbors", "scaling"}
