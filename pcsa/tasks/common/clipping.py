"""Clipping of gradients on a card: torch's numbers, with less of the host's time."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


def clip_together(parameters: Iterable[Tensor], most: float) -> bool:
    """Do what `torch.nn.utils.clip_grad_norm_` does to gradients of one device and type; say whether they are.

    Torch looks for the device and type of each gradient twice, and asks each norm to come to the first device.
    """
    grads = [x.grad for x in parameters if x.grad is not None]
    if not grads or any(g.dtype != grads[0].dtype or g.device != grads[0].device or g.is_sparse for g in grads):
        return False
    with torch.no_grad():
        total = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads, 2.0)), 2.0)
        torch._foreach_mul_(grads, torch.clamp(most / (total + 1e-6), max=1.0))
    return True
