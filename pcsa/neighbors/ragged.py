"""A ragged batch whose sizes are known on the host."""

import itertools
from typing import NamedTuple

import torch
from torch import Tensor

from pcsa._core.checks import check_finite, check_floating


class Ragged(NamedTuple):
    """Positions ``[N, D]`` of clouds laid end to end: cloud ``b`` owns rows ``bounds[b]:bounds[b + 1]``."""

    pos: Tensor
    bounds: list[int]

    @property
    def sizes(self) -> list[int]:
        """Points of each cloud."""
        return [end - start for start, end in itertools.pairwise(self.bounds)]

    def cloud(self, b: int) -> Tensor:
        """Positions of one cloud."""
        return self.pos[self.bounds[b] : self.bounds[b + 1]]


def read_ragged(pos: Tensor, ptr: Tensor, validate: bool, name: str = "pos", ptr_name: str = "ptr") -> Ragged:
    """Check one ragged batch, and read its boundaries."""
    check_floating(name, pos)
    if pos.dim() != 2 or pos.shape[1] < 1:
        raise ValueError(f"`{name}` {list(pos.shape)} must be [N, D] with D of at least 1")
    if ptr.dim() != 1 or len(ptr) < 1 or ptr.dtype not in (torch.int64, torch.int32):
        raise ValueError(f"`{ptr_name}` {list(ptr.shape)} ({ptr.dtype}) must be int64 [B + 1]")
    bounds = ptr.tolist()
    if bounds[0] != 0 or bounds[-1] != len(pos) or sorted(bounds) != bounds:
        shown = f"{bounds[:5]}…" if len(bounds) > 5 else bounds
        raise ValueError(f"`{ptr_name}` (={shown}) must rise from 0 to {len(pos)}, the rows of `{name}`")
    check_finite(name, pos, validate)
    return Ragged(pos, bounds)


def for_search(pos: Tensor) -> Tensor:
    """Positions without gradient, in a precision that every search knows."""
    pos = pos.detach()
    return pos if pos.dtype in (torch.float32, torch.float64) else pos.float()


def on_device(values: list[int], device: torch.device) -> Tensor:
    """Whole numbers as a tensor, without waiting for the device."""
    # A tensor made on the GPU right away would wait for it.
    return torch.tensor(values).to(device, non_blocking=True)
