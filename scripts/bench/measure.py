"""Time, and what the figures depend on.

Times are wall times of repeats that take turns (A B A B …), so that a busy moment falls on all of them alike; a
ratio is the median of the ratios turn by turn.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

import pcsa

Run = Callable[[], object]


def take_turns(runs: dict[str, Run], turns: int, device: torch.device) -> dict[str, list[float]]:
    """Time each run in each turn, in seconds; runs of less than 10 ms are repeated within their turn."""
    if turns == 0:
        return {name: [] for name in runs}
    inner = {}
    for name, run in runs.items():
        run()
        inner[name] = max(1, math.ceil(0.01 / max(_seconds(run, 1, device), 1e-6)))
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(turns):
        for name, run in runs.items():
            seconds[name].append(_seconds(run, inner[name], device))
    return seconds


def _seconds(run: Run, times: int, device: torch.device) -> float:
    wait(device)
    start = time.perf_counter()
    for _ in range(times):
        run()
    wait(device)
    return (time.perf_counter() - start) / times


def wait(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def run_python(*args: str, **env: str) -> str:
    """Run Python in a process of its own, and return what it printed."""
    done = subprocess.run(
        [sys.executable, *args], capture_output=True, text=True, check=False, env={**os.environ, **env}
    )
    if done.returncode:
        raise RuntimeError(f"measuring by `python {' '.join(args)}` failed: {done.stderr.strip()[-2000:]}")
    return done.stdout


def run_module(module: str, arguments: Mapping[str, object], **env: str) -> Any:
    """Run a module in a process of its own, and return what it printed last, as JSON types."""
    return json.loads(run_python("-m", module, json.dumps(arguments), **env).splitlines()[-1])


def log(line: str) -> None:
    """Say on stderr what is done."""
    print(line, file=sys.stderr, flush=True)


def describe_machine(device: torch.device, threads: int) -> dict[str, str | int | float | None]:
    """Say what the figures depend on."""
    cpu = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, IndexError):
        cpu = Path("/proc/cpuinfo").read_text().split("model name", 1)[1].splitlines()[0].lstrip("\t :")
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": cpu,
        "cores": available_cores(),
        "threads": threads,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "pcsa": pcsa.__version__,
        "device": device.type if device.type == "cpu" else torch.cuda.get_device_name(device),
        "load_before": load_average(),
    }


def available_cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def load_average() -> float | None:
    """Return how many processes wanted to run in the last minute, where the system says so."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
