"""Positions less the middle of a cloud that is far from the origin: one launch, where plain torch takes 15."""

import torch
from torch import Tensor

from pcsa._core.triton.launch import FOUR_WARPS, Launch, builds

_POINTS = 1024
# Points of a batch. A program goes through a whole cloud: of more, torch's kernels with the whole device are as fast.
_MOST_POINTS = 1 << 17


def takes(pos: Tensor) -> bool:
    """Whether the kernel moves clouds of ``pos`` ``[N, D]``."""
    return (
        not torch.compiler.is_compiling()
        and 0 < pos.shape[0] <= _MOST_POINTS
        and pos.dtype in (torch.float32, torch.float64)
        and pos.device.type in ("cpu", "cuda")
        and builds(pos.device, f"origins of {pos.dtype} with D={pos.shape[1]}", lambda: _try(pos))
    )


def moved(pos: Tensor, ptr: Tensor, far: float) -> tuple[Tensor, Tensor]:
    """What `pcsa._core.points.far_origin` finds, ``[B, D]``, and positions less that; nothing is differentiable."""
    from pcsa._core.triton.origin_kernels import origin_kernel

    pos, B, D = pos.detach().contiguous(), ptr.numel() - 1, pos.shape[1]
    origin, out = pos.new_empty(B, D), torch.empty_like(pos)
    Launch(origin_kernel, {"D": D, "FAR": far, "POINTS": _POINTS}, FOUR_WARPS).run(B * D, pos, ptr, origin, out)
    return origin, out


def _try(pos: Tensor) -> None:
    moved(pos.new_zeros(1, pos.shape[1]), torch.tensor([0, 1], device=pos.device), 4.0)
