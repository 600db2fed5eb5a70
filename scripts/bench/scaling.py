"""The curves of the case scaling: time and memory of the operator and its literal reference over one size at a time."""

from __future__ import annotations

import statistics
from pathlib import Path

import torch

from pcsa.scripts.bench.config import BenchConfig
from pcsa.scripts.bench.contenders import Sizes, compare, literal_bytes
from pcsa.scripts.bench.measure import log
from pcsa.scripts.bench.operator_cases import equal_clouds
from pcsa.scripts.bench.report import Curve, Report


def bench_scaling(config: BenchConfig, device: torch.device) -> list[Curve]:
    """Measure time and memory over one size at a time."""
    N = config.points(2048)
    base = {"B": 8, "K": 10, "N": N, "S": 30}
    numbers: dict[str, list[int]] = {
        "S": [1, 10, 100] if config.quick else [1, 3, 10, 30, 100, 300],
        "K": [1, 10, 40] if config.quick else [1, 3, 10, 30, 100],
        "N": [config.points(n) for n in ([512, 2048, 8192] if config.quick else [128, 512, 2048, 8192, 32_768])],
        "B": [1, 8, 16] if config.quick else [1, 2, 8, 32, 128],
    }
    curves = []
    for name, values in numbers.items():
        curves.append(Curve(name, ", ".join(f"{k}={v:,}" for k, v in base.items() if k != name)))
        for value in values:
            p = {**base, name: value}
            _add(curves[-1], value, {"clouds": [p["N"]] * p["B"], "K": p["K"], "S": p["S"]}, config, device)
        log(f"scaling over {name}")
    # The total is fixed; the largest cloud has this share of it.
    total = 8 * N
    curves.append(Curve("share of the largest cloud", f"B=8, K=10, S=10, {total:,} points in all"))
    for share in [1 / 8, 0.5, 0.9] if config.quick else [1 / 8, 0.25, 0.5, 0.75, 0.95]:
        largest = round(total * share)
        clouds = [*equal_clouds(total - largest, 7), largest]
        _add(curves[-1], share, {"clouds": clouds, "K": 10, "S": 10}, config, device)
    return curves


def _add(curve: Curve, value: float, sizes: Sizes, config: BenchConfig, device: torch.device) -> None:
    fits = literal_bytes(**sizes) <= config.memory_budget * 1e9
    contenders = {name: (name, sizes) for name in (["sampler", "literal"] if fits else ["sampler"])}
    seconds, memory = compare(contenders, min(3, config.turns), device)
    curve.values.append(value)
    for name in curve.seconds:
        curve.seconds[name].append(statistics.median(seconds[name]) if name in seconds else None)
        curve.memory_bytes[name].append(memory.get(name))


def plot(report: Report, path: Path) -> None:
    """Draw time above and memory below, one column per curve; logarithmic, but for shares."""
    from matplotlib.figure import Figure

    curves = report.curves
    figure = Figure(figsize=(3.2 * len(curves), 5.6), layout="constrained")
    axes = figure.subplots(2, len(curves), squeeze=False, sharey="row")
    for curve, column in zip(curves, axes.T, strict=True):
        for axis, curves_of, unit in ((column[0], curve.seconds, 1e3), (column[1], curve.memory_bytes, 1e-6)):
            for name, color, title in (("literal", "tab:gray", "literal Eq. 11-12"), ("sampler", "tab:blue", "pcsa")):
                known = [(v, y * unit) for v, y in zip(curve.values, curves_of[name], strict=True) if y is not None]
                if known:
                    axis.plot(*zip(*known, strict=True), "o-", color=color, label=title)
            share = isinstance(curve.values[0], float)
            axis.set(xscale="linear" if share else "log", yscale="log", xlabel=curve.over)
            axis.set_xticks(curve.values, [f"{v:g}" for v in curve.values], minor=False)
            axis.minorticks_off()
            axis.grid(alpha=0.3)
        column[0].set_title(curve.fixed, fontsize=7)
    axes[0, 0].set_ylabel("time (ms)")
    axes[1, 0].set_ylabel("peak memory (MB)")
    axes[0, 0].legend()
    figure.savefig(path, dpi=130)
