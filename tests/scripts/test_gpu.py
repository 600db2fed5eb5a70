"""What `make gpu` does around what it measures: budgets, failures, the table. Without a card it says so."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch

from pcsa.scripts import gpu
from pcsa.scripts.gpu import BUDGETS, PARTS, Done, GpuConfig, Measured

MACHINE = {"device": "H100", "triton": "runs", "capability": "9.0", "cuda": "13.0", "cpu": "x", "cores": 8}
MACHINE |= {"torch": "2.13", "pcsa": "0.1.0", "date": "today"}


def spread(what, median, **more):
    return {"what": what, "unit": "×", "median": median, "low": median, "high": median, "target": None, **more}


def report(rows=(), checks=()):
    return {"results": [{"rows": list(rows), "checks": list(checks)}]}


def cells(text):
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]


def test_what_is_missing_is_said_in_one_line(monkeypatch, capsys):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "tyro" else find(name))
    assert gpu.main([]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("make gpu: tyro cannot be imported; install")
    monkeypatch.undo()
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "is built without CUDA" in gpu.missing("cuda")
    assert gpu.missing("cpu") is None
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "finds no CUDA device" in gpu.missing("cuda")


def test_parts_end_when_their_time_is_up_and_a_failure_stops_no_other(monkeypatch, tmp_path):
    codes = {"operator": "import time; time.sleep(600)", "step": "raise SystemExit('no card')", "limits": "print(7)"}
    monkeypatch.setattr(gpu, "_command", lambda part, *_: (["-c", codes[part]], lambda output: int(output)))
    monkeypatch.setitem(BUDGETS, "operator", 0.5)
    measured = gpu.measure(GpuConfig(("operator", "step", "limits"), out=tmp_path / "gpu.json", device="cpu"))
    stopped, failed, done = measured.parts
    assert stopped.state == "stopped after 0 s"
    assert stopped.seconds < 60
    assert failed.state == "failed (1): no card"
    assert (done.state, done.found) == ("done", 7)
    # What is left of the whole budget is the last limit.
    assert gpu._run("limits", GpuConfig(out=tmp_path / "gpu.json"), tmp_path, 0.0).state.startswith("left out")
    # However long the others take, something is left for the tests.
    assert PARTS[-1] == "tests"
    assert sum(BUDGETS[part] for part in PARTS[:-1]) <= 480 - 90


def test_table_has_the_targets_of_a_card():
    training = {"seconds": 8.0, "step": 0.005, "peak_bytes": 300_000_000, "pck": 55.5, "split": "test"}
    found = {
        "operator": report(
            checks=[spread("time / literal, both CUDA graphs, S=30", 0.04), spread("memory / literal, S=30", 0.03)]
        ),
        "limits": report([spread("uniform_", 2.0), spread("operator", 10.0)]),
        "neighbors": report(
            [spread("farthest points, 512: default", 0.001), spread("farthest points, 512: torch_cluster", 0.002)],
            [spread("farthest points, 512: time / usual", 0.1)],
        ),
        "train-graph": training,
        "train-32": {**training, "seconds": 21.0},
        "train-bf16": {**training, "pck": 54.0},
    }
    parts = [Done(part, "done", 3.0, value) for part, value in found.items()]
    parts += [Done("tests", "done", 9.0, "5 passed, 1 skipped"), Done("step", "failed (1): boom", 2.0, "long output")]
    table = gpu.format_table(Measured(MACHINE, {"shrink": 1, "device": "cuda", "steps": 800}, parts))
    rows = {row[0]: row[1:] for row in cells(table)}
    assert rows["operator, S=30: time / literal Eq. 11-12, both CUDA graphs"] == ["0.04 ×", "≤ 0.05", "yes"]
    assert rows["operator, S=30: memory / literal Eq. 11-12"] == ["0.03 ×", "≤ 0.02", "no"]
    # 10 ns an element, of which random numbers alone take 2 in each of two passes.
    assert rows["operator: time / random numbers written, both passes"] == ["2.5 ×", "≤ 2", "no"]
    assert rows["farthest points, 512: time / torch-cluster"] == ["0.5 ×", "≤ 1", "yes"]
    assert rows["training, float32, CUDA graphs: 800 steps"] == ["8 s", "≤ 10", "yes"]
    assert rows["training, float32, launched one by one: 800 steps"] == ["21 s", "", ""]
    assert rows["training, float32, CUDA graphs: one step"] == ["0.005 s", "≤ 0.004", "no"]
    assert rows["training, bfloat16, CUDA graphs: PCK@0.01 on test"] == ["54 %", "", ""]
    assert rows["training, float32, CUDA graphs: peak memory"] == ["300 MB", "", ""]
    assert rows["tests"] == ["done", "9 s", "5 passed, 1 skipped"]
    assert rows["step"] == ["failed (1): boom", "2 s", ""]
    assert table.startswith("H100, capability 9.0, cuda 13.0; Triton: runs; ")
    # Fewer points, or no card: no targets.
    tried = gpu.figures(Measured(MACHINE, {"shrink": 64, "device": "cuda", "steps": 800}, parts))
    assert {check.target for check in tried} == {None}


def test_finds_the_tests_that_need_a_card(tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "searches").mkdir()
    for name, text in (
        ("models/test_a.py", "@pytest.mark.cuda"),
        ("models/test_b.py", "cuda"),
        ("searches/conftest.py", "pytest.mark.cuda"),
        ("searches/test_c.py", "def test(device): ..."),
        ("searches/test_d.py", "def test(): ..."),
    ):
        (tmp_path / name).write_text(text)
    files = [Path(file).relative_to(tmp_path).as_posix() for file in gpu.cuda_tests(tmp_path)]
    assert files == ["models/test_a.py", "searches/test_c.py"]


@pytest.mark.slow
def test_the_whole_command_on_a_cpu_in_small(root, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    # However busy the machine is.
    monkeypatch.setattr(gpu, "BUDGETS", dict.fromkeys(PARTS, 3600))
    parts = ["--parts", "limits", "train-32", "train-graph", "tests"]
    options = "--device cpu --shrink 64 --repeats 1 --steps 3 --num-workers 0 --budget 7200"
    assert gpu.main([*parts, *options.split(), "--root", str(root)]) == 0
    written = json.loads(Path("gpu.json").read_text())
    assert [part["part"] for part in written["parts"]] == ["limits", "train-32", "tests"]
    assert written["parts"][2]["state"] == "left out: there is no folder tests here"
    training = written["parts"][1]["found"]
    assert training["seconds"] > training["step"] > 0
    assert 0 <= training["pck"] <= 100
    assert training["peak_bytes"] is None
    table = Path("gpu.md").read_text()
    assert table.strip() in capsys.readouterr().out
    assert "training, float32, launched one by one: 3 steps" in {row[0] for row in cells(table)}


def test_bad_input(tmp_path):
    for options, message in (
        ({"device": "tpu"}, r"`device` \(='tpu'\)"),
        ({"steps": 0}, r"`steps` \(=0\)"),
        ({"budget": 0.0}, r"`budget` \(=0.0\)"),
        ({"out": tmp_path / "none" / "gpu.json"}, "`out` .* must lie in a folder"),
    ):
        with pytest.raises(ValueError, match=message):
            GpuConfig(**options)
