"""What the processes of one training have to agree on: each holds an equal part of every batch.

Gradients are averaged over processes. A mean over the items of a batch needs nothing else; a mean over what only some
items have does, and so does what compares items with each other. In a training of one process nothing here costs or
changes anything.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed


def num_processes() -> int:
    """Processes of this training."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def share_of(counted: Tensor) -> Tensor | None:
    """Factor that turns a mean over what is counted here into this process's part of the mean over all processes.

    The parts' mean over processes, which is what becomes of their gradients, is the mean over the whole batch. A batch
    in which nothing counts has the mean 0.

    Args:
        counted: True at what the mean is over.

    Returns:
        A scalar; None in a training of one process.
    """
    processes = num_processes()
    if processes == 1:
        return None
    own = counted.sum()
    everywhere = own.clone()
    distributed.all_reduce(everywhere)
    return processes * own / everywhere.clamp(min=1)


def mean_over_processes(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """The means of numbers over all processes, by one exchange."""
    processes = num_processes()
    if processes == 1:
        return values
    total = torch.stack([value.detach().float() for value in values.values()])
    distributed.all_reduce(total)
    return dict(zip(values, (total / processes).unbind(), strict=True))


def of_all_processes(x: Tensor) -> Tensor:
    """The rows of all processes, one process after the other; every process has as many.

    Of a loss of all rows, every process computes the same, and the mean of the gradients is that of the loss.
    """
    return x if num_processes() == 1 else _OfAll.apply(x)


class _OfAll(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(num_processes())]
        distributed.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        grad = grad.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(grad)
        return grad.chunk(num_processes())[distributed.get_rank()]
