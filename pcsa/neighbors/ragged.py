"""A ragged batch whose sizes are known on the host."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from pcsa._core.checks import check_finite, check_floating, check_index, check_tensor, raise_first, reads_values
from pcsa._core.data import Cloud, unpacked
from pcsa._core.transforms import refuse_vmap

#: Whole numbers on a device, by the device and themselves.
Tables: TypeAlias = dict[tuple[torch.device, tuple[int, ...]], Tensor]
_TABLES: ContextVar[Tables | None] = ContextVar("tables", default=None)
# More than any network's searches need for batches of one shape.
_MOST_TABLES = 64


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


class Clouds(NamedTuple):
    """What a function was given to say which points are a cloud's, with the names of its arguments."""

    pos: Tensor | Cloud | None
    ptr: Tensor | None
    batch: Tensor | None
    prefix: str = ""

    def names(self) -> tuple[str, str, str]:
        """Names of the three arguments."""
        return self.prefix.rstrip("_") or "pos", f"{self.prefix}ptr", f"{self.prefix}batch"


def read_ragged(given: Clouds, validate: bool, num_clouds: int | None = None) -> Ragged:
    """Check one ragged batch, and read its boundaries; ``batch`` may leave the last of ``num_clouds`` empty."""
    name, ptr_name, batch_name = given.names()
    pos, batch, ptr = unpacked(given.pos, given.batch, given.ptr)
    check_floating(name, pos)
    refuse_vmap("searches for neighbors")
    if pos.dim() != 2 or pos.shape[1] < 1:
        raise ValueError(f"`{name}` {list(pos.shape)} must be [N, D] with D of at least 1")
    if batch is not None and ptr is not None:
        raise ValueError(f"`{batch_name}` and `{ptr_name}` say the same thing: give one of them")
    bounds = [0, len(pos)]
    if batch is not None:
        check_index(batch_name, batch, pos.shape[:1])
        if reads_values(validate) and len(batch):
            sorted_from_0 = (batch[:1] >= 0).all() & (batch[1:] >= batch[:-1]).all()
            raise_first([(sorted_from_0, f"`{batch_name}` must be sorted, with cloud numbers from 0 on")])
        bounds = [0, *itertools.accumulate(torch.bincount(batch, minlength=num_clouds or 1).tolist())]
    elif ptr is not None:
        check_tensor(ptr_name, ptr)
        if ptr.dim() != 1 or len(ptr) < 1 or ptr.dtype not in (torch.int64, torch.int32):
            raise ValueError(f"`{ptr_name}` {list(ptr.shape)} ({ptr.dtype}) must be int64 [B + 1]")
        bounds = ptr.tolist()
        if bounds[0] != 0 or bounds[-1] != len(pos) or sorted(bounds) != bounds:
            shown = f"{bounds[:5]}…" if len(bounds) > 5 else bounds
            hint = f"; the cloud of each point is `{batch_name}`" if len(bounds) == len(pos) else ""
            raise ValueError(f"`{ptr_name}` (={shown}) must rise from 0 to {len(pos)}, the rows of `{name}`{hint}")
    check_finite(name, pos, validate)
    return Ragged(pos, bounds)


def for_search(pos: Tensor) -> Tensor:
    """Positions without gradient, in a precision that every search knows."""
    pos = pos.detach()
    return pos if pos.dtype in (torch.float32, torch.float64) else pos.float()


def on_device(values: list[int], device: torch.device) -> Tensor:
    """Whole numbers as a tensor, without waiting for the device; not to be written to."""
    kept = _TABLES.get()
    if kept is None or device.type == "cpu":
        # A tensor made on the GPU right away would wait for it.
        return torch.tensor(values).to(device, non_blocking=True)
    key = (device, tuple(values))
    if key in kept:
        return kept[key]
    table = torch.tensor(values).to(device, non_blocking=True)
    if len(kept) < _MOST_TABLES:
        kept[key] = table
    return table


@contextmanager
def tables_kept(tables: Tables) -> Iterator[None]:
    """Let :func:`on_device` keep in ``tables`` what it sends to a device within, and find it there again.

    A CUDA graph that is captured then reads tables that stay where they are, instead of a copy from the host, whose
    memory is gone when the graph is replayed. They must have been sent before: by a pass that warms up.
    """
    token = _TABLES.set(tables)
    try:
        yield
    finally:
        _TABLES.reset(token)
