"""The page of the course project runs from top to bottom, with little data and short trainings."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from pcsa.scripts.cli import main

pytest.importorskip("viser", reason="viser is not installed (pcsa[viz])")

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "guides" / "course.md"
FAST = "--model.out-channels 16 --optimizer.batch-size 4 --trainer.no-progress --trainer.accelerator cpu"
SHORT = {
    "data generate": "--num-shapes 10 --num-points 256",
    "train supervised": f"{FAST} --optimizer.steps 2",
    "train unsupervised": f"{FAST} --optimizer.steps 2",
    "view": "--port 0",
}


@pytest.mark.slow
def test_the_page_runs_as_it_stands(tmp_path, monkeypatch, capsys):
    from pcsa.viz.browser import ViewPage

    shown = []
    monkeypatch.setattr(ViewPage, "run", lambda page: shown.append(page))  # until somebody ends it
    monkeypatch.chdir(tmp_path)
    names, done = {}, []
    for kind, block in re.findall(r"^```(sh|python)\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.M):
        if kind == "python":
            exec(compile(block, PAGE.name, "exec"), names)
            continue
        for line in block.splitlines():
            program, *words = shlex.split(line, comments=True)
            if program == "python":
                script = subprocess.run(
                    [sys.executable, ROOT / words[0], *words[1:]], capture_output=True, text=True, check=False
                )
                assert script.returncode == 0, script.stderr
                printed = script.stdout
                done.append("python")
                continue
            assert program == "pcsa"
            more = next((more for start, more in SHORT.items() if " ".join(words).startswith(start)), "")
            assert main([*words, *more.split()]) == 0, line
            done.append(words[0])
    assert {"data", "train", "evaluate", "python", "view", "report"} <= set(done)
    assert len(shown) == done.count("view")
    # The template knows the box of each cloud, and a network of two steps knows nothing.
    rows = re.findall(r"^\| (detector|merger|template) \| (.+) \|$", printed, re.MULTILINE)
    scores = {name: [float(cell) for cell in row.split(" | ")] for name, row in rows}
    assert [len(row) for row in scores.values()] == [6, 6, 6]
    assert scores["template"][2] > scores["detector"][2]
    assert scores["template"][-1] < scores["detector"][-1]
    table = Path("report/robustness.csv").read_text().splitlines()
    assert table[0] == "kind,level,method,PCK"
    assert len(table) == 1 + 3 * 13
    for file in ("robustness.svg", "pck.svg", "report.html"):
        assert Path("report", file).stat().st_size > 2000
