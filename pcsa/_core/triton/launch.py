"""Whether Triton's kernels can run here, and what runs where one of them cannot be built.

A file with kernels imports Triton, so it is imported by the function that launches them, after :func:`usable`
said yes. Nothing else imports Triton.

``TRITON_INTERPRET=1``, set before Triton is imported, runs kernels as Python on CPU tensors: for tests, and much slower
than plain torch.
"""

import functools
import importlib
import logging
import os
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import torch

from pcsa._core.triton.direct import launch

log = logging.getLogger(__name__)
R = TypeVar("R")

# Triton's own words for yes.
_YES = ("1", "true", "on", "yes", "y")
_OLDEST = (7, 0)
#: What kernels are compiled with. In one warp no lane waits for another.
ONE_WARP, FOUR_WARPS = ({"num_warps": warps, "enable_fp_fusion": True} for warps in (1, 4))
#: What could not be built, and why.
FAILED: dict[str, str] = {}
# Whether the kernels of an argument set were built for a device.
_BUILT: dict[tuple[torch.device, str], bool] = {}


def usable(device: torch.device) -> bool:
    """Whether kernels run on ``device``; where a CUDA device has none, say once why."""
    reason = obstacle(device)
    if reason is not None and device.type == "cuda":
        _say(f"No Triton kernels run on {device}: {reason}. Slower code runs in their place.")
    return reason is None


def obstacle(device: torch.device) -> str | None:
    """Say why no kernel runs on ``device``; None where they do."""
    if device.type == "cuda":
        if interpreted():
            return "TRITON_INTERPRET is set, which is for tests on the CPU"
        capability = _capability(device)
        if capability < _OLDEST:
            return f"its compute capability {capability[0]}.{capability[1]} is below 7.0"
    elif device.type != "cpu":
        return f"they are for CUDA, not for {device.type}"
    elif not interpreted():
        return "on the CPU they are for tests, with TRITON_INTERPRET=1 in the environment"
    return _import_error()


def interpreted() -> bool:
    """Whether kernels run as Python, on the CPU."""
    return os.environ.get("TRITON_INTERPRET", "").lower() in _YES


def builds(device: torch.device, what: str, run: Callable[[], object]) -> bool:
    """Whether the kernels of ``what``, an argument set, run on ``device``; ``run`` tries it before one is needed.

    The answer never changes: a backward pass must go where its forward pass went.
    """
    # Asked before every launch: what is known is looked up first.
    if (device, what) not in _BUILT:
        if not usable(device):
            return False
        if interpreted():
            return True

        def kernel() -> bool:
            run()
            return True

        _BUILT[device, what] = attempt(what, kernel, lambda: False)
    return _BUILT[device, what]


def attempt(what: str, kernel: Callable[[], R], plain: Callable[[], R]) -> R:
    """Run ``kernel``; where it cannot be built, say so once of ``what``, its argument set, and run ``plain``."""
    if what not in FAILED:
        try:
            return kernel()
        except torch.OutOfMemoryError:
            raise
        # A compiler fails in many ways. After an error of the device itself `plain` raises that error.
        except Exception as error:
            if interpreted():
                raise
            FAILED[what] = f"{type(error).__name__}: {error}"
            _say(f"No Triton kernel for {what}: {FAILED[what]}. Slower code runs in its place.")
    return plain()


class Launch(NamedTuple):
    """A kernel and what it is compiled for."""

    kernel: Any
    constants: dict[str, Any]
    #: ``num_warps`` and others that Triton knows.
    options: dict[str, Any]

    def run(self, programs: int, *args: Any) -> None:
        """Start this many programs, on the device of the first argument, a tensor."""
        launch(self.kernel, self.constants, self.options, programs, args)


def cdiv(a: int, b: int) -> int:
    """Divide and round up."""
    return -(-a // b)


def next_power(n: int) -> int:
    """Return the lowest power of two that is at least ``n``: the sizes that blocks may have."""
    return 1 << max(n - 1, 0).bit_length()


@functools.cache
def _capability(device: torch.device) -> tuple[int, int]:
    return torch.cuda.get_device_capability(device)


@functools.cache
def _import_error() -> str | None:
    try:
        importlib.import_module("triton")
    # A Triton built for another system fails in any of these ways.
    except (ImportError, OSError, RuntimeError) as error:
        return f"Triton cannot be imported ({error})"
    return None


@functools.cache
def _say(line: str) -> None:
    log.warning("%s", line)
