"""``pcsa bench``: time and memory of the package against what it replaces, and against the machine."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
import tyro

from pcsa.scripts.bench.config import BenchConfig, Case
from pcsa.scripts.bench.launches import bench_launches
from pcsa.scripts.bench.measure import describe_machine, load_average, log
from pcsa.scripts.bench.network_cases import bench_neighbors, bench_pointnet2, bench_skeleton
from pcsa.scripts.bench.operator_cases import bench_compiled, bench_limits, bench_operator, bench_ragged, bench_scan
from pcsa.scripts.bench.report import Report, Result, format_report, split_page, write_json, write_page
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
    report = bench(config)
    print(format_report(report))
    for path, write in ((config.out, write_json), (config.plot, plot), (config.markdown, write_page)):
        if path is not None:
            write(report, path)
            print(f"written: {path}")
    return 0


def bench(config: BenchConfig) -> Report:
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
                report.curves.extend(bench_scaling(config, device))
            else:
                report.results.extend(FUNCTIONS[case](config, device))
            log(f"{case}: {time.perf_counter() - start:.0f} s")
    finally:
        torch.set_num_threads(threads_before)
    report.machine["load_after"] = load_average()
    return report
