"""The case start: what ``import pcsa`` and ``pcsa --help`` cost."""

from __future__ import annotations

import torch

from pcsa.scripts.bench.config import BenchConfig
from pcsa.scripts.bench.measure import run_python
from pcsa.scripts.bench.report import GROUND, HOUSE, Result, deterministic, row, seconds

# With the operator, which is imported where it is first used.
_IMPORT = """
import time, torch, numpy
start = time.process_time()
import pcsa
pcsa.sampling_argmax
print(time.process_time() - start)
"""
# The processor time of the whole process.
_HELP = "import time; from pcsa.scripts.cli import main; main(['--help']); print(time.process_time())"
# Installed packages other than torch, numpy and what annotates shapes, and torch's compiler, which costs seconds.
_BROUGHT = """
import importlib.metadata, sys, torch, numpy
known = set(sys.modules)
import pcsa
pcsa.sampling_argmax, pcsa.losses, pcsa.metrics, pcsa.grid, pcsa.neighbors, pcsa.skeleton
brought = set(sys.modules) - known
installed = set(importlib.metadata.packages_distributions()) - {"pcsa", "torch", "numpy", "jaxtyping", "wadler_lindig"}
print(*sorted(brought & (installed | {"torch._dynamo", "torch._inductor"})))
"""


def bench_start(config: BenchConfig, device: torch.device) -> list[Result]:
    """Measure what a user waits for before anything is computed, in processes of their own."""
    brought = run_python("-c", _BROUGHT).split()
    starts, helps = (
        [float(run_python("-c", code).splitlines()[-1]) for _ in range(config.few_turns)] for code in (_IMPORT, _HELP)
    )
    name = "import pcsa, after torch and numpy"
    checks = [
        deterministic("heavy modules that import pcsa brings", len(brought), target=0, promise=HOUSE),
        seconds(name, starts, 0.3, GROUND),
        seconds("pcsa --help", helps, 0.5, HOUSE),
    ]
    rows = [row(name, starts, note=", ".join(brought))]
    return [Result("start", "Start: processor time of fresh processes", rows, checks)]
