"""The command runs and writes what it says. No time is asserted."""

import json
from typing import get_args

import pytest
import torch

from pcsa.scripts.bench import command, contenders
from pcsa.scripts.bench.config import BenchConfig, Case
from pcsa.scripts.bench.measure import describe_machine
from pcsa.scripts.bench.report import BEGIN, END, Report, Result, deterministic, format_report, ratio


@pytest.mark.slow
def test_command_measures_writes_and_draws(tmp_path, monkeypatch, capsys):
    called = []
    monkeypatch.setattr(
        contenders, "peak_memory", lambda workloads, _: [called.append(w) or 1_000_000 for w, _ in workloads]
    )
    monkeypatch.delenv("PCSA_TEST_DATA", raising=False)
    page, out, picture = tmp_path / "page.md", tmp_path / "bench.json", tmp_path / "curves.png"
    page.write_text(f"# Before\n{BEGIN}\nold\n{END}\nafter\n")
    cases = [case for case in get_args(Case) if case != "compiled"]
    options = ["--quick", "--shrink", "64", "--repeats", "1", "--memory-budget", "0.03"]
    files = ["--out", str(out), "--plot", str(picture), "--markdown", str(page)]
    threads = torch.get_num_threads()
    assert command.main([*cases, *options, *files]) == 0
    assert torch.get_num_threads() == threads
    report = json.loads(out.read_text())
    assert set(report) == {"machine", "settings", "results", "curves"}
    assert {"cpu", "cores", "threads", "torch", "date", "load_before", "load_after"} <= set(report["machine"])
    assert {result["case"] for result in report["results"]} == set(cases) - {"scaling"}
    for result in report["results"]:
        for row in result["rows"]:
            assert row["what"]
            assert 0 < row["low"] <= row["median"] <= row["high"]
        assert all(
            {"what", "unit", "median", "low", "high", "target", "promise", "timed"} == set(c) for c in result["checks"]
        )
    step = next(result for result in report["results"] if result["case"] == "step")
    parts = [f"  {part}" for part in ("data", "forward", "objective", "backward", "optimizer")]
    kinds = ["searches in the step", "searches done before", "searches done before, 1 loading"]
    assert [row["what"] for row in step["rows"]] == [name for kind in kinds for name in (kind, *parts)]
    assert [curve["over"] for curve in report["curves"]] == ["S", "K", "N", "B", "share of the largest cloud"]
    # 8 clouds of 32 points, K=10: S=100 needs 256,000 elements of 56 bytes, and fits 30 MB; of K=40 and S=30 too.
    S = report["curves"][0]
    assert S["values"] == [1, 10, 100]
    assert all(isinstance(x, float) for name in ("sampler", "literal") for x in S["seconds"][name])
    # B=16 is 153,600 elements; the cloud of 8,192 / 64 = 128 points 307,200 elements: 17 MB.
    assert all(isinstance(x, int) for x in report["curves"][2]["memory_bytes"]["literal"])
    assert {"sampler", "literal", "network", "skeleton"} == set(called)
    assert picture.stat().st_size > 10_000
    text = page.read_text()
    assert text.startswith(f"# Before\n{BEGIN}\n")
    assert text.endswith(f"{END}\nafter\n")
    assert "old" not in text
    printed = capsys.readouterr().out.partition("\nwritten: ")[0].strip()
    assert printed in text
    assert all(result["title"] in printed for result in report["results"])


@pytest.mark.slow
def test_literal_beyond_the_budget_is_left_out(monkeypatch):
    monkeypatch.setattr(contenders, "peak_memory", lambda workloads, _: [1_000_000] * len(workloads))
    config = BenchConfig(("operator",), shrink=64, repeats=1, memory_budget=0.005)
    (result,) = command.bench(config).results
    # 8 × 32 points, K=10: S=30 needs 76,800 elements × 56 bytes = 4.3 MB, S=100 needs 14 MB.
    assert [row.what for row in result.rows if "threads" not in row.what] == [
        "sampling_argmax, S=30",
        "literal Eq. 11-12, S=30",
        "sampling_argmax, S=100",
    ]


def test_targets_show_whether_they_are_met():
    checks = [deterministic("memory", 3.0, "GB", 4.0), ratio("time", [2.0], [1.0], 1.3)]
    machine = {**describe_machine(torch.device("cpu"), 1), "load_after": 0.0}
    report = Report(machine, {"repeats": 1, "shrink": 1}, [Result("scan", "Scan", checks=checks)])
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in format_report(report).splitlines()]
    assert ["memory", "3 GB", "", "≤ 4", "yes"] in lines
    assert ["time", "2 ×", "", "≤ 1.3", "no"] in lines


def test_bad_input(tmp_path):
    for options, message in (
        ({"repeats": 0}, r"`repeats` \(=0\)"),
        ({"threads": 0}, r"`threads` \(=0\)"),
        ({"shrink": 0}, r"`shrink` \(=0\)"),
        ({"memory_budget": -1.0}, r"`memory_budget` \(=-1.0\)"),
        ({"num_workers": 0}, r"`num_workers` \(=0\)"),
        ({"device": "tpu"}, r"`device` \(='tpu'\)"),
        ({"cases": ("limits",), "deterministic": True}, "`deterministic` .* limits"),
        ({"cases": ("scan",), "plot": tmp_path / "x.png"}, "`plot` .* scaling"),
    ):
        with pytest.raises(ValueError, match=message):
            BenchConfig(**options)
    with pytest.raises(FileNotFoundError, match="`markdown`"):
        command.main(["scan", "--markdown", str(tmp_path / "none.md")])
    with pytest.raises(FileNotFoundError, match="`out`"):
        command.main(["scan", "--out", str(tmp_path / "none" / "bench.json")])
    (tmp_path / "plain.md").write_text("no marks")
    with pytest.raises(ValueError, match=r"`markdown` .* must have the lines"):
        command.main(["scan", "--markdown", str(tmp_path / "plain.md")])
    with pytest.raises(FileNotFoundError, match=r"`root` .* annotations"):
        command.bench(BenchConfig(("data",), root=tmp_path))
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match=r"`device` .*'cuda'"):
            command.bench(BenchConfig(("scan",), device="cuda"))
