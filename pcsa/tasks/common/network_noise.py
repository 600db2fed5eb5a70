"""Dropout that a resumed run repeats."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def network_noise(generator: torch.Generator, device: torch.device) -> Iterator[None]:
    """Draw from ``generator`` what a network draws within from torch's own generators, such as its dropout.

    The step's generator follows from the seed, the step and the process, so a resumed run drops the same, and several
    processes drop differently. Torch's own generators go on afterwards as if nothing had been drawn.

    Args:
        generator: On the CPU; one number is drawn.
        device: Device of the network.

    """
    seed = int(torch.randint(2**63 - 1, (), generator=generator))
    devices = [] if device.type == "cpu" else [device]
    with torch.random.fork_rng(devices, device_type="cuda" if device.type == "cpu" else device.type):
        torch.manual_seed(seed)
        yield
