"""``pcsa bench``: time and memory of the package against what it replaces, and against the machine."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import tyro

from pcsa.scripts.bench.config import BenchConfig, Case
from pcsa.scripts.bench.launches import bench_launches
from pcsa.scripts.bench.measure import describe_machine, load_average
from pcsa.scripts.bench.network_cases import bench_neighbors, bench_pointnet2, bench_skeleton
from pcsa.scripts.bench.operator_cases import bench_compiled, bench_limits, bench_operator, bench_ragged, bench_scan
from pcsa.scripts.bench.report import format_report, split_page, write_page
from pcsa.scripts.bench.results import Report, Result
from pcsa.scripts.bench.scaling import bench_scaling, plot
from pcsa.scripts.bench.start import bench_start
from pcsa.scripts.bench.training_cases import bench_data, bench_step

FUNCTIONS: dict[Case, Callable[[BenchConfig, torch.device], list[Result]]] = {
    "limits": bench_limits,
    "operator": bench_operator,
    "compiled": bench_compiled,
    "ragged": bench_ragged,
    "scan": bench_scan,
    "neighbors": bench_neighbors,
    "pointnet2": bench_pointnet2,
    "skeleton": bench_skeleton,
    "data": bench_data,
    "step": bench_step,
    "launches": bench_launches,
    "start": bench_start,
}


def main(argv: list[str]) -> int:
    """Parse options, measure, print the tables."""
    config = tyro.cli(BenchConfig, args=argv, prog="pcsa bench")
    # Found out now rather than after ten minutes.
    for name, path in (("out", config.out), ("plot", config.plot)):
        if path is not None and not path.parent.is_dir():
            raise FileNotFoundError(f"`{name}` (={str(path)!r}) must lie in a folder that exists")
    if config.markdown is not None:
        split_page(config.markdown)
    report = bench(config, log=print_progress)
    print(format_report(report))
    for path in write(report, config):
        print(f"written: {path}")
    return 0


def print_progress(line: str) -> None:
    """Say on stderr what is done."""
    print(line, file=sys.stderr, flush=True)


def bench(config: BenchConfig, log: Callable[[str], None] = lambda line: None) -> Report:
    """Measure everything that is printed and written."""
    device = torch.device(config.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"`device` (={config.device!r}) is not available: torch finds no CUDA device")
    threads_before = torch.get_num_threads()
    torch.set_num_threads(config.threads)
    report = Report(describe_machine(device, config.threads), {"repeats": config.turns, "shrink": config.shrink})
    try:
        for case in config.selected:
            start = time.perf_counter()
            if case == "scaling":
                report.curves.extend(bench_scaling(config, device, log))
            else:
                report.results.extend(FUNCTIONS[case](config, device))
            log(f"{case}: {time.perf_counter() - start:.0f} s")
    finally:
        torch.set_num_threads(threads_before)
    report.machine["load_after"] = load_average()
    return report


def write(report: Report, config: BenchConfig) -> list[Path]:
    """Write the files that the configuration asks for."""
    if config.out is not None:
        config.out.write_text(json.dumps(dataclasses.asdict(report), indent=1) + "\n")
    if config.plot is not None:
        plot(report.curves, config.plot)
    if config.markdown is not None:
        write_page(report, config.markdown)
    return [path for path in (config.out, config.plot, config.markdown) if path is not None]
