"""The curves of the case scaling: time and memory of the operator and its literal reference over one size at a time."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path

import torch

from pcsa.scripts.bench.config import BenchConfig
from pcsa.scripts.bench.memory import Sizes, compare
from pcsa.scripts.bench.operator_cases import equal_clouds
from pcsa.scripts.bench.results import Curve
from pcsa.scripts.bench.workloads import literal_bytes


def bench_scaling(config: BenchConfig, device: torch.device, log: Callable[[str], None]) -> list[Curve]:
    """Measure time and memory over one size at a time."""
    N = config.points(2048)
    base = {"B": 8, "K": 10, "N": N, "S": 30}
    values: dict[str, list[int]] = {
        "S": [1, 10, 100] if config.quick else [1, 3, 10, 30, 100, 300],
        "K": [1, 10, 40] if config.quick else [1, 3, 10, 30, 100],
        "N": [config.points(n) for n in ([512, 2048, 8192] if config.quick else [128, 512, 2048, 8192, 32_768])],
        "B": [1, 8, 16] if config.quick else [1, 2, 8, 32, 128],
    }
    curves = []
    for name, numbers in values.items():
        points = [{**base, name: n} for n in numbers]
        clouds = [([p["N"]] * p["B"], p["K"], p["S"]) for p in points]
        fixed = ", ".join(f"{k}={v:,}" for k, v in base.items() if k != name)
        curves.append(_curve(name, fixed, numbers, clouds, config, device))
        log(f"scaling over {name}")
    # The total is fixed; the largest cloud has this share of it.
    total, B, S = 8 * N, 8, 10
    shares = [1 / 8, 0.5, 0.9] if config.quick else [1 / 8, 0.25, 0.5, 0.75, 0.95]
    ragged = []
    for share in shares:
        largest = round(total * share)
        ragged.append(([*equal_clouds(total - largest, B - 1), largest], 10, S))
    fixed = f"B={B}, K=10, S={S}, {total:,} points in all"
    curves.append(_curve("share of the largest cloud", fixed, shares, ragged, config, device))
    return curves


def _curve(
    over: str,
    fixed: str,
    values: list[int] | list[float],
    points: list[tuple[list[int], int, int]],
    config: BenchConfig,
    device: torch.device,
) -> Curve:
    seconds: dict[str, list[float | None]] = {"sampler": [], "literal": []}
    memory: dict[str, list[int | None]] = {"sampler": [], "literal": []}
    for clouds, K, S in points:
        fits = literal_bytes(clouds, K, S) <= config.memory_budget * 1e9
        sizes: Sizes = {"clouds": clouds, "K": K, "S": S}
        contenders = {name: (name, sizes) for name in (["sampler", "literal"] if fits else ["sampler"])}
        times, bytes_of = compare(contenders, min(3, config.turns), device)
        for name in seconds:
            seconds[name].append(statistics.median(times[name]) if name in times else None)
            memory[name].append(bytes_of.get(name))
    return Curve(over, fixed, values, seconds, memory)


def plot(curves: list[Curve], path: Path) -> None:
    """Draw time above and memory below, one column per curve; logarithmic, but for shares."""
    from matplotlib.figure import Figure

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
