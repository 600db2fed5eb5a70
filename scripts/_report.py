"""How ``pcsa bench`` shows what it measured: tables, a page of documentation, a plot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

BEGIN, END = "<!-- pcsa bench: begin -->", "<!-- pcsa bench: end -->"


def format_report(report: dict[str, Any]) -> str:
    """The tables, readable in a terminal and as Markdown."""
    m, s = report["machine"], report["settings"]
    lines = [
        f"{m['cpu']}, {m['cores']} cores, {m['threads']} threads used; device {m['device']}; {m['system']}; "
        f"Python {m['python']}, torch {m['torch']}, pcsa {m['pcsa']}; {m['date']}. Median and quartiles of "
        f"{s['repeats']} turns; load average {m['load_before']} before and {m['load_after']} after. MB = 10⁶ bytes, "
        "above the inputs." + (f" Numbers of points divided by {s['shrink']}." if s["shrink"] > 1 else "")
    ]
    for result in report["results"]:
        lines += ["", f"### {result['title']}", ""]
        if result["rows"]:
            table = []
            for row in result["rows"]:
                show = _nanoseconds if row["unit"] == "ns" else duration
                memory = "" if row["memory_bytes"] is None else size(row["memory_bytes"])
                spread = f"{show(row['low'])} – {show(row['high'])}"
                table.append([row["what"], show(row["median"]), spread, memory, row["note"]])
            lines += _table(["", "time", "quartiles", "peak memory", ""], table)
        if result["checks"]:
            table = []
            for check in result["checks"]:
                value = f"{_digits(check['median'])} {check['unit']}".rstrip()
                spread = "" if check["low"] == check["high"] else f"{check['low']:.3g} – {check['high']:.3g}"
                target = "" if check["target"] is None or s["shrink"] > 1 else f"≤ {check['target']:.3g}"
                met = ("yes" if check["median"] <= check["target"] else "no") if target else ""
                table.append([check["what"], value, spread, target, met])
            lines += [""] * bool(result["rows"]) + _table(["", "value", "quartiles", "target", "met"], table)
    for curve in report["curves"]:
        lines += ["", f"### Over {curve['over']} ({curve['fixed']})", ""]
        table = []
        for i, value in enumerate(curve["values"]):
            cells = [f"{value:,.3g}" if isinstance(value, float) else f"{value:,}"]
            for name in ("sampler", "literal"):
                t, b = curve["seconds"][name][i], curve["memory_bytes"][name][i]
                cells += ["–" if t is None else duration(t), "–" if b is None else size(b)]
            table.append(cells)
        heads = [curve["over"], "sampling_argmax", "its memory", "literal Eq. 11-12", "its memory"]
        lines += _table(heads, table)
    return "\n".join(lines)


def _table(heads: list[str], rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in [heads, *rows]) for i in range(len(heads))]

    def line(cells: list[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"

    return [line(heads), line(["-" * max(width, 1) for width in widths]), *(line(row) for row in rows)]


def duration(seconds: float) -> str:
    """Three digits and a unit."""
    scale, unit = next((x for x in ((1.0, "s"), (1e-3, "ms")) if seconds >= x[0]), (1e-6, "µs"))
    return f"{seconds / scale:.3g} {unit}"


def _digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _nanoseconds(value: float) -> str:
    return f"{value:.3g} ns"


def size(number: float) -> str:
    """Bytes as megabytes."""
    return f"{number / 1e6:,.1f} MB" if number < 1e8 else f"{number / 1e6:,.0f} MB"


def write_page(report: dict[str, Any], path: Path) -> None:
    """Replace what stands between the marks by the tables."""
    before, after = split_page(path)
    path.write_text(f"{before}{BEGIN}\n\n{format_report(report)}\n\n{END}{after}")


def split_page(path: Path) -> tuple[str, str]:
    """What stands before and after the marks."""
    if not path.is_file():
        raise FileNotFoundError(f"`markdown` (={str(path)!r}) must be a file: there is none")
    before, begin, rest = path.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"`markdown` (={str(path)!r}) must have the lines {BEGIN!r} and then {END!r}")
    return before, after


def plot(curves: list[dict[str, Any]], path: Path) -> None:
    """Time above, memory below, one column per curve; logarithmic, but for shares."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.2 * len(curves), 5.6), layout="constrained")
    axes = figure.subplots(2, len(curves), squeeze=False, sharey="row")
    for curve, column in zip(curves, axes.T, strict=True):
        for axis, key, unit in ((column[0], "seconds", 1e3), (column[1], "memory_bytes", 1e-6)):
            for name, color, title in (("literal", "tab:gray", "literal Eq. 11-12"), ("sampler", "tab:blue", "pcsa")):
                known = [(v, y * unit) for v, y in zip(curve["values"], curve[key][name], strict=True) if y is not None]
                if known:
                    axis.plot(*zip(*known, strict=True), "o-", color=color, label=title)
            share = isinstance(curve["values"][0], float)
            axis.set(xscale="linear" if share else "log", yscale="log", xlabel=curve["over"])
            axis.set_xticks(curve["values"], [f"{v:g}" for v in curve["values"]], minor=False)
            axis.minorticks_off()
            axis.grid(alpha=0.3)
        column[0].set_title(curve["fixed"], fontsize=7)
    axes[0, 0].set_ylabel("time (ms)")
    axes[1, 0].set_ylabel("peak memory (MB)")
    axes[0, 0].legend()
    figure.savefig(path, dpi=130)
