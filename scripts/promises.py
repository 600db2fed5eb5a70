"""``make promises``: every figure that an issue promised, measured again.

Most come from the cases of ``pcsa bench``, where the targets stand. A deterministic figure (memory, counts, lines) that
misses its target is a failure; a time is shown with its target and never fails, because other load changes it.
"""

from __future__ import annotations

import json
import sys
import tempfile
import timeit
from dataclasses import dataclass, replace
from pathlib import Path

import tyro

from pcsa.scripts.bench import report
from pcsa.scripts.bench.command import bench
from pcsa.scripts.bench.config import CASES as ALL_CASES, DETERMINISTIC_CASES, BenchConfig, Case
from pcsa.scripts.bench.measure import run_python
from pcsa.tasks.common.tables import markdown_table

# The others have no targets.
CASES: tuple[Case, ...] = tuple(case for case in ALL_CASES if case not in ("neighbors", "scaling"))
_GRID = "#6 grid tasks"


@dataclass(frozen=True)
class PromisesConfig:
    """Measure every figure that an issue promised. Takes about eight minutes on two idle cores."""

    deterministic: bool = False
    """Measure only memory, counts and lines, in less than two minutes."""
    full: bool = False
    """Train too, where a promise is about a whole training: a quarter of an hour more."""
    repeats: int = 5
    """Turns of each timing."""


def main(argv: list[str]) -> int:
    """Measure, print the table; exit status 1 if a deterministic figure misses its target."""
    config = tyro.cli(PromisesConfig, args=argv, prog="python -m pcsa.scripts.promises")
    cases = DETERMINISTIC_CASES if config.deterministic else CASES
    measured = bench(BenchConfig(cases, deterministic=config.deterministic, repeats=config.repeats))
    found = [
        (replace(check, what=f"{result.case}: {check.what}"), f"pcsa bench {result.case}")
        for result in measured.results
        for check in result.checks
        if check.promise
    ]
    readme = Path("README.md")
    if readme.is_file():
        lines = readme.read_text().count("\n")
        check = report.deterministic("README: lines", lines, target=110, promise=report.HOUSE)
        found.append((check, "wc -l README.md"))
    if not config.deterministic:
        found += measure_trainings(config.full)
    print(format_promises([pair for pair in found if not (config.deterministic and pair[0].timed)]))
    print(f"\n{report.format_machine(measured)}")
    broken = [check.what for check, _ in found if check.met is False and not check.timed]
    if broken:
        print(f"\nbroken: {'; '.join(broken)}")
    return 1 if broken else 0


def measure_trainings(full: bool) -> list[tuple[report.Check, str]]:
    """Read the demo's score where there is one; with ``full``, train first, and time the grid tasks."""
    found, score = [], Path("runs/demo/metrics-test.json")
    with tempfile.TemporaryDirectory() as folder:
        if full:
            _run(f"train supervised demo --out {folder}/demo")
            _run(f"evaluate {folder}/demo/last.ckpt --split test")
            score = Path(folder, "demo", score.name)
        pck = None
        if score.is_file():
            metrics = json.loads(score.read_text())
            pck = 100 * metrics["overall"]["euclidean"]["pck"][metrics["thresholds"].index(0.01)]
        demo = report.Check("demo: PCK@0.01 of chairs that it never saw", "%", pck, pck, pck, promise=report.GROUND)
        found.append((demo, "make demo"))
        for task in ("pose2d", "pose3d", "oct", "landmarks"):
            times = [_run(f"train {task} --out {folder}/{task}")] if full else []
            found.append((report.seconds(f"{task}: training", times, 300.0, _GRID), f"pcsa train {task}"))
    return found


def _run(command: str) -> float:
    return timeit.timeit(lambda: run_python("-m", "pcsa.scripts.cli", *command.split()), number=1)


def format_promises(found: list[tuple[report.Check, str]]) -> str:
    """Write a table of figures and of the commands that measure each of them."""
    rows = []
    for check, command in found:
        target, met = report.target_cells(check)
        value, kind = report.value_of(check) or "not measured", "timed" if check.timed else "deterministic"
        rows.append([check.what, check.promise or "", f"`{command}`", target, value, met, kind])
    return markdown_table(["what", "promised by", "command", "target", "measured", "met", "kind"], rows)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
