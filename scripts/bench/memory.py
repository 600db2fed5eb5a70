"""Peak memory of one call, and contenders compared by time and memory.

On a CPU it is that of the process: contenders run in a process beside (this module is what it runs), one after the
other. Each computes the same once at a tiny size (so that libraries and kernels are loaded); then the kernel's peak
counter is reset, and what comes on top of the inputs counts. On CUDA it is the peak of the allocator.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import sys
from pathlib import Path
from typing import Any

import torch

from pcsa.scripts.bench.measure import run_module, take_turns, wait
from pcsa.scripts.bench.workloads import BUILDERS

Sizes = dict[str, Any]
"""Arguments of one of the builders, as JSON types."""


def compare(
    contenders: dict[str, tuple[str, Sizes]], turns: int, device: torch.device
) -> tuple[dict[str, list[float]], dict[str, int]]:
    """Measure the seconds in each turn and the peak memory of contenders: builders and their sizes."""
    runs = {name: BUILDERS[builder](device, **sizes) for name, (builder, sizes) in contenders.items()}
    seconds = take_turns(runs, turns, device)
    del runs
    return seconds, dict(zip(contenders, peak_memory(list(contenders.values()), device), strict=True))


def peak_memory(workloads: list[tuple[str, Sizes]], device: torch.device) -> list[int]:
    """Measure the bytes at the peak of each run, built as in :func:`compare`, above what its inputs occupy."""
    if device.type == "cuda":
        return [_peak_here(builder, sizes, device) for builder, sizes in workloads]
    arguments = {"workloads": workloads, "device": str(device), "threads": torch.get_num_threads()}
    # Every tensor of 64 kB gets pages of its own and gives them back: the peak does not depend on what lay free.
    return run_module("pcsa.scripts.bench.memory", arguments, MALLOC_MMAP_THRESHOLD_="65536")


def _tiny(sizes: Sizes) -> Sizes:
    """Shrink a computation, but keep its path through the code: clouds stay unequal where they are."""
    if "clouds" in sizes:
        return {**sizes, "clouds": [32 + (n != sizes["clouds"][0]) for n in sizes["clouds"]], "S": 2}
    return {**sizes, "B": 2, "N": 64, **({"K": 3} if "K" in sizes else {})}


def _peak_here(builder: str, sizes: Sizes, device: torch.device) -> int:
    BUILDERS[builder](device, **_tiny(sizes))()
    run = BUILDERS[builder](device, **sizes)
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        wait(device)
        return torch.cuda.max_memory_allocated(device) - before
    with contextlib.suppress(OSError, AttributeError):  # Linux only
        libc = ctypes.CDLL(None)
        libc.prctl(41, 1, 0, 0, 0)  # PR_SET_THP_DISABLE: huge pages round by 2 MB, now up, now down
        libc.malloc_trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak becomes what is resident now
        before = _status("VmRSS")
        run()
        return _status("VmHWM") - before
    except OSError:
        # Elsewhere the peak cannot be reset: what the inputs' making took hides a smaller run.
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        run()
        return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {field}")


def _main(workloads: list[tuple[str, Sizes]], device: str, threads: int) -> list[int]:
    torch.set_num_threads(threads)
    return [_peak_here(builder, sizes, torch.device(device)) for builder, sizes in workloads]


if __name__ == "__main__":
    print(_main(**json.loads(sys.argv[1])))
