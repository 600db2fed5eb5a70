import subprocess
import sys

import pytest

from pcsa._core.memory import keep_freed_memory

_STEPS = """
import resource, sys, torch
from pcsa._core.memory import keep_freed_memory
torch.set_num_threads(1)
kept = sys.argv[1] == "keep" and keep_freed_memory()
def step():
    # Of 40 MB each: larger than any that glibc keeps by default.
    held = [torch.ones(10 << 20) for _ in range(2)]
# Small blocks come to lie between large ones in the first steps.
for _ in range(20):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3):
    step()
print(int(kept), resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how):
    out = subprocess.run([sys.executable, "-c", _STEPS, how], capture_output=True, text=True, check=True).stdout
    return [int(x) for x in out.split()]


def test_what_is_freed_is_taken_again():
    kept, few = faults("keep")
    if not kept:
        pytest.skip("another C library than glibc, or the environment sets its own")
    assert few < faults("default")[1] / 4


def test_the_environment_has_its_way(monkeypatch):
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "65536")
    assert not keep_freed_memory()
    monkeypatch.delenv("MALLOC_TRIM_THRESHOLD_")
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.trim_threshold=65536")
    assert not keep_freed_memory()


def test_another_c_library(monkeypatch):
    monkeypatch.setattr("ctypes.CDLL", lambda name: object())
    assert not keep_freed_memory()
