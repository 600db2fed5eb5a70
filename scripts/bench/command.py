"""``pcsa bench``: time and memory of the package against what it replaces, and against the machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
import tyro

from pcsa.scripts.bench import busy_cases, estimators, kernels, launches, network_cases, operator_cases, waiting_cases
from pcsa.scripts.bench.config import BenchConfig
from pcsa.scripts.bench.measure import describe_machine, load_average, log
from pcsa.scripts.bench.report import Report, format_report, plot, split_page, write_json, write_page

# The case `scan` is the function `bench_scan` of one of these files.
FUNCTIONS: dict[str, Callable[[BenchConfig, torch.device], list[Any]]] = {}
for module in (operator_cases, busy_cases, network_cases, waiting_cases, launches):
    FUNCTIONS |= {name: function for name, function in vars(module).items() if name.startswith("bench_")}


def main(argv: list[str]) -> int:
    """Parse options, measure, print the tables."""
    if argv[:1] == ["estimators"]:
        return estimators.main(argv[1:])
    if argv[:1] == ["kernels"]:
        return kernels.main(argv[1:])
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
            measured = report.curves if case == "scaling" else report.results
            measured.extend(FUNCTIONS[f"bench_{case}"](config, device))
            log(f"{case}: {time.perf_counter() - start:.0f} s")
    finally:
        torch.set_num_threads(threads_before)
    report.machine["load_after"] = load_average()
    return report
