"""What ``pcsa bench`` measured: plain data that become JSON, tables, a page of documentation and a picture."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pcsa.tasks.common.tables import markdown_table

BEGIN, END = "<!-- pcsa bench: begin -->", "<!-- pcsa bench: end -->"
# The issues that asked for a target.
GROUND, FAST, SKELETON, HOUSE = "#2 detector", "#3 fast and small", "#4 Skeleton Merger", "#10 house"
LOADED = "#13 under load"
CARD = "#13 on a card"


@dataclass(frozen=True)
class Spread:
    """Median and quartiles; None where nothing was measured."""

    what: str
    unit: str
    median: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Row(Spread):
    """Time and peak memory of one contender."""

    memory_bytes: int | None = None
    note: str = ""


@dataclass(frozen=True)
class Check(Spread):
    """A figure that may have a target: at most that much."""

    target: float | None = None
    promise: str | None = None
    """The issue that asked for the target, by number and first words."""
    timed: bool = True
    """Whether it depends on what else the machine does."""

    @property
    def met(self) -> bool | None:
        """Whether the figure keeps to its target, where it has both."""
        return None if self.target is None or self.median is None else self.median <= self.target


@dataclass(frozen=True)
class Result:
    """One table of contenders and one of figures."""

    case: str
    title: str
    rows: list[Row] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)


@dataclass(frozen=True)
class Curve:
    """Time and memory of the operator and its literal reference over one size; None where it was left out."""

    over: str
    fixed: str
    values: list[float] = field(default_factory=list)
    seconds: dict[str, list[float | None]] = field(default_factory=lambda: {"sampler": [], "literal": []})
    memory_bytes: dict[str, list[int | None]] = field(default_factory=lambda: {"sampler": [], "literal": []})


@dataclass(frozen=True)
class Report:
    """Everything that ``pcsa bench`` prints and writes."""

    machine: dict[str, str | int | float | None]
    settings: dict[str, int]
    results: list[Result] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)


def row(what: str, times: Sequence[float], memory: int | None = None, note: str = "", unit: str = "s") -> Row:
    """Summarize the times of a contender."""
    return Row(what, unit, *_spread(times), memory_bytes=memory, note=note)


def ratio(
    what: str, ours: Sequence[float], theirs: Sequence[float], target: float | None = None, promise: str | None = None
) -> Check:
    """Divide our times by theirs, turn by turn."""
    return Check(what, "×", *_spread([a / b for a, b in zip(ours, theirs, strict=True)]), target, promise)


def seconds(what: str, times: Sequence[float], target: float | None = None, promise: str | None = None) -> Check:
    """Summarize times that have a target of their own."""
    return Check(what, "s", *_spread(times), target, promise)


def deterministic(
    what: str, value: float, unit: str = "", target: float | None = None, promise: str | None = None
) -> Check:
    """Keep a figure that no other load of the machine changes: memory or a count."""
    return Check(what, unit, value, value, value, target, promise, timed=False)


def _spread(values: Sequence[float]) -> tuple[float | None, float | None, float | None]:
    if not values:
        return None, None, None
    low, median, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
    return median, low, high


def format_report(report: Report) -> str:
    """Write the tables, readable in a terminal and as Markdown."""
    shrink, turns = report.settings["shrink"], report.settings["repeats"]
    parts = [
        f"{format_machine(report)} Median and quartiles of {turns} turns. MB = 10⁶ bytes, above the inputs."
        + (f" Numbers of points divided by {shrink}." if shrink > 1 else "")
    ]
    for result in report.results:
        parts.append(f"### {result.title}")
        if result.rows:
            rows = [_row_cells(row) for row in result.rows]
            parts.append(markdown_table(["", "time", "quartiles", "peak memory", ""], rows))
        checks = [_check_cells(check, shrink) for check in result.checks if check.median is not None]
        if checks:
            parts.append(markdown_table(["", "value", "quartiles", "target", "met"], checks))
    for curve in report.curves:
        parts += [f"### Over {curve.over} ({curve.fixed})", _curve_table(curve)]
    return "\n\n".join(parts)


def format_machine(report: Report) -> str:
    """Say in one line what the figures were measured on."""
    return (
        "{cpu}, {cores} cores, {threads} threads used; device {device}; {system}; Python {python}, torch {torch}, "
        "pcsa {pcsa}; {date}; load average {load_before} before and {load_after} after."
    ).format(**report.machine)


def _row_cells(row: Row) -> list[str]:
    memory = "" if row.memory_bytes is None else size(row.memory_bytes)
    if row.median is None or row.low is None or row.high is None:
        return [row.what, "", "", memory, row.note]
    show = "{:.3g} ns".format if row.unit == "ns" else duration
    return [row.what, show(row.median), f"{show(row.low)} – {show(row.high)}", memory, row.note]


def _check_cells(check: Check, shrink: int) -> list[str]:
    spread = "" if check.low == check.high else f"{check.low:.3g} – {check.high:.3g}"
    return [check.what, value_of(check), spread, *(target_cells(check) if shrink == 1 else ["", ""])]


def value_of(check: Check) -> str:
    """Show the figure and its unit."""
    return "" if check.median is None else f"{_digits(check.median)} {check.unit}".rstrip()


def target_cells(check: Check) -> list[str]:
    """Show the target and whether it is met."""
    met = {None: "", True: "yes", False: "no"}[check.met]
    return ["" if check.target is None else f"≤ {_digits(check.target)}", met]


def _curve_table(curve: Curve) -> str:
    table = []
    for i, value in enumerate(curve.values):
        cells = [f"{value:,.3g}" if isinstance(value, float) else f"{value:,}"]
        for name in ("sampler", "literal"):
            t, b = curve.seconds[name][i], curve.memory_bytes[name][i]
            cells += ["–" if t is None else duration(t), "–" if b is None else size(b)]
        table.append(cells)
    return markdown_table([curve.over, "sampling_argmax", "its memory", "literal Eq. 11-12", "its memory"], table)


def duration(seconds: float) -> str:
    """Show three digits and a unit."""
    scale, unit = next((x for x in ((1.0, "s"), (1e-3, "ms")) if seconds >= x[0]), (1e-6, "µs"))
    return f"{seconds / scale:.3g} {unit}"


def _digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def size(number: float) -> str:
    """Show bytes as megabytes."""
    return f"{number / 1e6:,.1f} MB" if number < 1e8 else f"{number / 1e6:,.0f} MB"


def write_json(report: Report, path: Path) -> None:
    """Write everything, with the quartiles of each figure."""
    path.write_text(json.dumps(asdict(report), indent=1) + "\n")


def plot(report: Report, path: Path) -> None:
    """Draw time above and memory below, one column per curve; logarithmic, but for shares."""
    from matplotlib.figure import Figure

    curves = report.curves
    figure = Figure(figsize=(3.2 * len(curves), 5.6), layout="constrained")
    axes = figure.subplots(2, len(curves), squeeze=False, sharey="row")
    for curve, column in zip(curves, axes.T, strict=True):
        for axis, curves_of, unit in ((column[0], curve.seconds, 1e3), (column[1], curve.memory_bytes, 1e-6)):
            for name, color, title in (("literal", "tab:gray", "literal Eq. 11-12"), ("sampler", "tab:blue", "pcsa")):
                heights = [math.nan if y is None else y * unit for y in curves_of[name]]
                axis.plot(curve.values, heights, "o-", color=color, label=title)
            axis.set(xscale="linear" if isinstance(curve.values[0], float) else "log", yscale="log", xlabel=curve.over)
            axis.set_xticks(curve.values, [f"{v:g}" for v in curve.values], minor=False)
            axis.minorticks_off()
            axis.grid(alpha=0.3)
        column[0].set_title(curve.fixed, fontsize=7)
    axes[0, 0].set_ylabel("time (ms)")
    axes[1, 0].set_ylabel("peak memory (MB)")
    axes[0, 0].legend()
    figure.savefig(path, dpi=130)


def write_page(report: Report, path: Path) -> None:
    """Replace what stands between the marks by the tables."""
    write_between_marks(format_report(report), path)


def write_between_marks(text: str, path: Path) -> None:
    """Replace what stands between the marks."""
    before, after = split_page(path)
    path.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")


def split_page(path: Path) -> tuple[str, str]:
    """Return what stands before and after the marks."""
    if not path.is_file():
        raise FileNotFoundError(f"`markdown` (={str(path)!r}) must be a file: there is none")
    before, begin, rest = path.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"`markdown` (={str(path)!r}) must have the lines {BEGIN!r} and then {END!r}")
    return before, after
