"""Cases of a machine that is shared: the operator on one thread and on all, while another process wants a core."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from pcsa.scripts.bench.config import BenchConfig
from pcsa.scripts.bench.contenders import build_operator
from pcsa.scripts.bench.measure import Run, available_cores, take_turns
from pcsa.scripts.bench.operator_cases import equal_clouds
from pcsa.scripts.bench.report import LOADED, Result, ratio, row

# Says that it runs, and runs until its parent has gone, however that ends.
_BUSY = "import os; p = os.getppid(); print(flush=True)\nwhile os.getppid() == p: sum(range(100_000))"


@contextmanager
def another_process() -> Iterator[None]:
    """Keep one core busy within."""
    process = subprocess.Popen([sys.executable, "-c", _BUSY], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield
    finally:
        process.kill()
        process.communicate()


def bench_busy(config: BenchConfig, device: torch.device) -> list[Result]:
    """Compare threads of a CPU with one, and unequal clouds with equal ones, idle and while another process works."""
    if device.type != "cpu":
        return []
    N, K, S, all_threads = config.points(2048), 10, 30, max(2, available_cores())
    total = 8 * N
    clouds = {"equal clouds": [N] * 8, "unequal clouds": [*equal_clouds(total - total // 2, 31), total // 2]}
    operators = {name: build_operator(device, sizes, K, S) for name, sizes in clouds.items()}
    literal = build_operator(device, [N] * 8, K, S, literal=True)
    runs: dict[str, Run] = {
        f"{name}, {number} {'thread' if number == 1 else 'threads'}": _on_threads(operator, number)
        for name, operator in operators.items()
        for number in (1, all_threads)
    }
    runs[f"literal Eq. 11-12, {all_threads} threads"] = _on_threads(literal, all_threads)
    before = torch.get_num_threads()
    try:
        seconds = {"idle": take_turns(runs, config.turns, device)}
        with another_process():
            seconds["another process busy"] = take_turns(runs, config.turns, device)
    finally:
        torch.set_num_threads(before)
    rows = [row(f"{name}, {state}", times) for state, by_name in seconds.items() for name, times in by_name.items()]
    checks = []
    for state, by_name in seconds.items():
        one, several, unequal_one, unequal, written_out = by_name.values()
        checks += [
            ratio(f"{all_threads} threads / one, {state}", several, one, 1.0, LOADED),
            ratio(f"{all_threads} threads / one, unequal clouds, {state}", unequal, unequal_one, 1.0, LOADED),
            ratio(f"unequal / equal, {all_threads} threads, {state}", unequal, several, 1.3, LOADED),
            ratio(f"time / literal, {all_threads} threads, {state}", several, written_out, 0.3, LOADED),
        ]
    title = f"Shared machine: {total:,} points in 8 equal or 32 unequal clouds, K={K}, S={S}"
    return [Result("busy", title, rows, checks)]


def _on_threads(run: Run, number: int) -> Run:
    def on_threads() -> object:
        torch.set_num_threads(number)
        return run()

    return on_threads
