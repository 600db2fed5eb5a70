"""Points of a cloud that lie in exactly the same place."""

import torch
from torch import Tensor

# Odd, with about as many ones as zeros: 2^64 over the golden ratio.
_MIX = -7046029254386353131


@torch.no_grad()
def first_in_place(pos: Tensor, batch: Tensor) -> Tensor:
    """Find for each point the first point of its cloud that lies in exactly the same place: itself, or one before it.

    -0.0 is 0.0. Nothing here waits for the device. Places are told apart by 64 bits made of batch and coordinates, so
    that one sort is enough; of a million places, two share them with a probability of 3e-8.

    Args:
        pos: Positions ``[N, D]`` in float32 or float64.
        batch: Cloud of each point ``[N]``.

    Returns:
        Rows of ``pos`` ``[N]``; 0, 1, …, N - 1 where no two points of a cloud coincide.
    """
    pos = torch.where(pos == 0, 0.0, pos.detach())
    key = batch.long()
    for bits in pos.view(torch.int32 if pos.dtype == torch.float32 else torch.int64).unbind(1):
        key = (key ^ bits) * _MIX
        key = key ^ (key >> 29)
    key, order = key.sort(stable=True)
    again = torch.cat([key.new_zeros(min(len(pos), 1), dtype=torch.bool), key[1:] == key[:-1]])
    begin = torch.arange(len(pos), device=pos.device).masked_fill(again, 0)
    return torch.empty_like(order).scatter_(0, order, order.index_select(0, begin.cummax(0).values))
