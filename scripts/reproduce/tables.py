"""Tables of a study in the paper's shape: methods by categories, with their spread and their lead over a baseline."""

from __future__ import annotations

import csv
import io
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from pcsa.metrics import Interval, paired_bootstrap
from pcsa.scripts.reproduce.combined import Combination
from pcsa.scripts.reproduce.confidence import pooled
from pcsa.scripts.reproduce.joint import Joint
from pcsa.scripts.reproduce.marks import mark_figure
from pcsa.scripts.reproduce.runs import Planned
from pcsa.scripts.reproduce.study import Study
from pcsa.tasks.common.tables import markdown_table

MEAN = "mean"


class Made(NamedTuple):
    """A run of a study, with its row if it is finished."""

    run: Planned
    row: Mapping[str, Any] | None


@dataclass
class Cell:
    """A figure of a method on a category, or its mean over categories."""

    column: str
    read_out: str
    method: str
    category: str
    mean: float | None = None
    """Over folds and shapes, then over seeds."""
    spread: float | None = None
    """Standard deviation over seeds; None for one."""
    difference: Interval | None = None
    """From the baseline, on the same shapes with the same seeds."""
    shapes: int | None = None
    seeds: int = 0
    runs: int = 0
    wanted: int = 0
    """Runs that the study has here."""

    @property
    def digits(self) -> int:
        if "error" in self.column:
            return 4
        if self.column.startswith(("nats ", "gain ")):
            return 2
        # What the metrics call with slashes is no percentage.
        return 3 if "/" in self.column or self.column.startswith("r ") else 1


@dataclass
class _Seeds:
    """What the runs of a method on a category say, by seed."""

    shapes: dict[int, dict[str, float]] = field(default_factory=dict)
    """The figure of each shape; its mean over the runs that have it, where several folds score all shapes."""
    whole: dict[int, list[float]] = field(default_factory=dict)
    """The figures of whole runs, one for each fold, where there are none of shapes."""
    networks: dict[int, set[int]] = field(default_factory=dict)
    """The seeds of the networks behind each: several where they are combined."""

    def means(self) -> list[float]:
        if self.shapes:
            return [statistics.fmean(values.values()) for _, values in sorted(self.shapes.items())]
        return [statistics.fmean(values) for _, values in sorted(self.whole.items())]


def cells(study: Study, made: Sequence[Made]) -> list[Cell]:
    """All cells of the tables: for each figure and read-out the methods, each with the categories and their mean."""
    methods = [name for name in study.names if any(run.method == name for run, _ in made)]
    categories = list(dict.fromkeys(run.category for run, _ in made))
    read_outs = list(dict.fromkeys(name for run, _ in made for name in run.read_outs))
    found = []
    for column in study.columns:
        for read_out in read_outs:
            groups = {
                (method, category): _collect(made, method, category, column, read_out)
                for method in methods
                for category in categories
            }
            if not any(group.means() for group in groups.values()):
                continue
            for method in methods:
                row, baseline = [], study.baseline_of(method)
                for category in categories:
                    runs = [m for m in made if (m.run.method, m.run.category) == (method, category)]
                    cell = Cell(column, read_out, method, category, wanted=len(runs))
                    cell.runs = sum(m.row is not None for m in runs)
                    _fill(cell, groups[method, category], groups.get((baseline, category)))
                    row.append(cell)
                found += row
                if len(categories) > 1:
                    pairs = [(groups[method, c], groups.get((baseline, c))) for c in categories]
                    found.append(_mean_cell(row, pairs))
    return found


def _collect(made: Sequence[Made], method: str, category: str, column: str, read_out: str) -> _Seeds:
    group = _Seeds()
    all_rows: dict[int, list[Mapping[str, Any]]] = {}
    values: dict[int, dict[str, list[float]]] = {}
    for run, row in made:
        if row is None or (run.method, run.category) != (method, category):
            continue
        group.networks[run.seed] = set(row["combined"]["seeds"] if "combined" in row else [run.seed])
        all_rows.setdefault(run.seed, []).append(row)
        shapes = row["shapes"].get(read_out) or {}
        if column in shapes:
            for shape, value in zip(row["keypoints"], shapes[column], strict=True):
                values.setdefault(run.seed, {}).setdefault(shape, []).append(value)
        elif column in row["figures"].get(read_out, {}):
            group.whole.setdefault(run.seed, []).append(row["figures"][read_out][column])
    for seed, rows in all_rows.items():
        together = pooled(column, rows, read_out)
        if together is None:
            together = mark_figure(column, rows, read_out)
        if together is not None:
            group.whole[seed] = [together]
    group.shapes = {seed: {s: statistics.fmean(v) for s, v in of.items()} for seed, of in values.items()}
    return group


def figures_of_shapes(made: Sequence[Made], method: str, category: str, column: str, read_out: str) -> dict[str, float]:
    """A figure of each shape by its name, the mean over seeds; empty where only whole runs have it."""
    values: dict[str, list[float]] = {}
    for of_seed in _collect(made, method, category, column, read_out).shapes.values():
        for shape, value in of_seed.items():
            values.setdefault(shape, []).append(value)
    return {shape: statistics.fmean(values[shape]) for shape in sorted(values)}


def _fill(cell: Cell, group: _Seeds, baseline: _Seeds | None) -> None:
    means = group.means()
    if not means:
        return
    cell.seeds, cell.mean, cell.spread = len(means), statistics.fmean(means), _spread(means)
    if group.shapes:
        cell.shapes = len(set().union(*group.shapes.values()))
    if baseline is not None and baseline is not group:
        first, second = _paired(group, baseline)
        if len(first):
            cell.difference = paired_bootstrap(first, second)


def _paired(group: _Seeds, baseline: _Seeds) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The figure of each shape that both have, over the seeds in which both have it.

    Combined networks are compared with the mean of what stands for each of them.
    """
    both: dict[str, list[tuple[float, float]]] = {}
    for seed, shapes in sorted(group.shapes.items()):
        others = [of for s, of in baseline.shapes.items() if group.networks[seed] & baseline.networks[s]]
        for shape, value in shapes.items():
            there = [of[shape] for of in others if shape in of]
            if there:
                both.setdefault(shape, []).append((value, statistics.fmean(there)))
    # In the order of their names: the draws of the bootstrap are the same for all methods.
    pairs = np.array([np.mean(both[shape], axis=0) for shape in sorted(both)]).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


def _mean_cell(row: Sequence[Cell], pairs: Sequence[tuple[_Seeds, _Seeds | None]]) -> Cell:
    """The mean over the categories; none where a category has no figure."""
    first = row[0]
    cell = Cell(first.column, first.read_out, first.method, MEAN)
    cell.runs, cell.wanted = sum(c.runs for c in row), sum(c.wanted for c in row)
    if any(c.mean is None for c in row):
        return cell
    cell.mean = statistics.fmean(c.mean for c in row if c.mean is not None)
    cell.seeds = min(c.seeds for c in row)
    # Seeds that all categories have.
    means = zip(*(group.means()[: cell.seeds] for group, _ in pairs), strict=True)
    cell.spread = _spread([statistics.fmean(values) for values in means])
    if all(c.shapes is not None for c in row):
        cell.shapes = sum(c.shapes or 0 for c in row)
    if all(c.difference is not None for c in row):
        paired = [_paired(group, baseline) for group, baseline in pairs if baseline is not None]
        cell.difference = paired_bootstrap([a for a, _ in paired], [b for _, b in paired])
    return cell


def _spread(means: Sequence[float]) -> float | None:
    return statistics.stdev(means) if len(means) > 1 else None


def markdown(study: Study, made: Sequence[Made], notes: Sequence[str], command: str) -> str:
    """The page of a study: the command, what is missing, and a table for each figure and read-out."""
    found = cells(study, made)
    finished = sum(row is not None for _, row in made)
    lines = [f"# {study.title}", "", "```", command, "```", ""]
    lines += [f"{_scored(study, made)} {finished} of {len(made)} runs are finished.{_devices(made)}", ""]
    shown = {run.method for run, _ in made}
    derived: Mapping[str, Combination | Joint] = {**study.combined, **study.joint}
    notes = [*(f"{name}: {of.words}" for name, of in derived.items() if name in shown), *notes]
    lines += [f"- {note}" for note in notes] + [""] * bool(notes)
    if found:
        text = (
            "Cells: mean over shapes, ± standard deviation over seeds; under it the difference from "
            f"{_baselines(study)} on the same shapes and seeds, with the 95 % interval of a paired bootstrap over "
            "shapes. "
        )
        if shown & study.combined.keys():
            text += "Several networks are compared with the mean of what each of them reaches. "
        lines += [text + "`*`: some of its runs are missing.", ""]
    for column, read_out in dict.fromkeys((cell.column, cell.read_out) for cell in found):
        table = [cell for cell in found if (cell.column, cell.read_out) == (column, read_out)]
        lines += [f"## {column}, {read_out}", "", _table(study, table), ""]
    return "\n".join(lines)


def _baselines(study: Study) -> str:
    """Which row each row is compared with."""
    if not study.baselines:
        return study.baseline
    groups: dict[str, list[str]] = {}
    for name in study.names:
        if name in study.baselines:
            groups.setdefault(study.baselines[name], []).append(name)
    # Names of methods may have commas.
    others = [f"of `{'`, `'.join(names)}` from `{baseline}`" for baseline, names in groups.items()]
    return "; ".join([f"`{study.baseline}`", *others]) + ";"


def _scored(study: Study, made: Sequence[Made]) -> str:
    if study.folds:
        return f"Scored on {study.folds} folds of {study.fold_of}, each held out in turn."
    return f"Scored on {', '.join(sorted({run.split for run, _ in made})) or study.split}."


def _devices(made: Sequence[Made]) -> str:
    """Where the runs were made, where that is not the same for all."""
    counts = Counter(row["device"] for _, row in made if row is not None and "device" in row)
    if len(counts) < 2:
        return ""
    return " Made on: " + "; ".join(f"{device} ({count})" for device, count in sorted(counts.items())) + "."


def _table(study: Study, table: Sequence[Cell]) -> str:
    categories = list(dict.fromkeys(cell.category for cell in table))
    heads = ["method"]
    for category in categories:
        counts = [cell.shapes for cell in table if cell.category == category and cell.shapes is not None]
        heads.append(category + (f" ({max(counts)})" if counts and category != MEAN else ""))
    rows = []
    for method in dict.fromkeys(cell.method for cell in table):
        of_method = [cell for cell in table if cell.method == method]
        rows.append([method, *(_shown(cell) for cell in of_method)])
        if any(cell.difference is not None for cell in of_method):
            rows.append(["", *(_shown_difference(cell) for cell in of_method)])
    for name, values in study.published.get(table[0].column, {}).items():
        rows.append([name, *(f"{values[c]:.{table[0].digits}f}" if c in values else "" for c in categories)])
    return markdown_table(heads, rows)


def _shown(cell: Cell) -> str:
    if cell.mean is None:
        return "–"
    spread = "" if cell.spread is None else f" ± {cell.spread:.{cell.digits}f}"
    return f"{cell.mean:.{cell.digits}f}{spread}{'*' * (cell.runs < cell.wanted)}"


def _shown_difference(cell: Cell) -> str:
    if cell.difference is None:
        return ""
    mean, low, high = (f"{value:+.{cell.digits}f}" for value in cell.difference)
    return f"{mean} [{low}, {high}]"


def as_csv(found: Sequence[Cell]) -> str:
    """All cells, one a line, with all their digits."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    heads = "figure read_out method category mean spread_over_seeds difference low high shapes seeds runs runs_wanted"
    writer.writerow(heads.split())
    writer.writerows(_csv_row(cell) for cell in found)
    return out.getvalue()


def _csv_row(cell: Cell) -> list[Any]:
    interval = cell.difference or (None, None, None)
    numbers = [None if value is None else f"{value:.6g}" for value in (cell.mean, cell.spread, *interval)]
    counts = [cell.shapes, cell.seeds, cell.runs, cell.wanted]
    return [cell.column, cell.read_out, cell.method, cell.category, *numbers, *counts]
