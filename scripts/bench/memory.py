"""Peak memory of one call.

On a CPU it is that of the process: each measurement runs in a process of its own (this module is what it runs), which
computes the same once at a tiny size (so that libraries and kernels are loaded), resets the kernel's peak counter, and
then counts from what the inputs occupy. On CUDA it is that of the allocator.
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

from pcsa.scripts.bench.measure import run_module, wait
from pcsa.scripts.bench.workloads import BUILDERS


def peak_memory(function: str, sizes: dict[str, Any], tiny: dict[str, Any], device: torch.device) -> int:
    """Measure the bytes at the peak of one call of ``BUILDERS[function]`` above what its inputs occupy."""
    arguments = {"function": function, "sizes": sizes, "tiny": tiny, "device": str(device)}
    arguments["threads"] = torch.get_num_threads()
    if device.type == "cuda":
        return _peak_here(**arguments)
    # Every tensor of 64 kB gets pages of its own and gives them back: the peak does not depend on what lay free.
    return int(run_module("pcsa.scripts.bench.memory", arguments, MALLOC_MMAP_THRESHOLD_="65536"))


def _peak_here(function: str, sizes: dict[str, Any], tiny: dict[str, Any], device: str, threads: int) -> int:
    torch.set_num_threads(threads)
    where = torch.device(device)
    BUILDERS[function](where, **tiny)()
    run = BUILDERS[function](where, **sizes)
    gc.collect()
    if where.type == "cuda":
        torch.cuda.reset_peak_memory_stats(where)
        before = torch.cuda.memory_allocated(where)
        run()
        wait(where)
        return torch.cuda.max_memory_allocated(where) - before
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


if __name__ == "__main__":
    print(_peak_here(**json.loads(sys.argv[1])))
