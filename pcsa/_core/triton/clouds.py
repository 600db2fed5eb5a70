"""Maximum and sum over the points of each cloud by fused kernels: one launch each way.

Plain torch takes two forward, and for the gradient of a maximum a dozen.
"""

from typing import Any

import torch
from torch import Tensor

from pcsa._core.transforms import plain
from pcsa._core.triton.launch import FOUR_WARPS, Launch, builds, cdiv

# Rows and columns of a step of a program, and of one that knows but a range of points.
_TILE = {"ROWS": 64, "COLUMNS": 32}
_OWNED = 256
# Points of a batch. A program goes through a whole cloud: of more, torch's kernels with the whole device are as fast.
_MOST_POINTS = 1 << 17
_TYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def takes(x: Tensor) -> bool:
    """Whether the kernels reduce rows of points ``x`` ``[N, C]``."""
    return (
        plain()
        and x.dim() == 2
        and 0 < x.shape[0] <= _MOST_POINTS
        and x.shape[1] > 0
        and x.dtype in _TYPES
        and x.device.type in ("cpu", "cuda")
        and builds(x.device, f"maximum and sum over clouds of {x.dtype}", lambda: _try(x))
    )


def maximum(x: Tensor, ptr: Tensor) -> Tensor:
    """Largest row of each cloud, column by column, ``[B, C]``; -inf for a cloud without points.

    Differentiable; equal numbers share the gradient.
    """
    return _Maximum.apply(x, ptr)


def first_maximum(x: Tensor, ptr: Tensor) -> Tensor:
    """Row of the largest number of each cloud and column, ``[B, C]``: the first of equals."""
    return _largest(x.contiguous(), ptr)[2]


def plus(x: Tensor, y: Tensor, ptr: Tensor) -> Tensor:
    """Rows of points ``[N, C]`` plus the row ``[B, C]`` of their cloud. Differentiable."""
    return _Plus.apply(x, y, ptr)


def owners(ptr: Tensor, num_points: int) -> Tensor:
    """Cloud of each point ``[N]``."""
    from pcsa._core.triton.cloud_kernels import owners_kernel

    B, out = ptr.numel() - 1, ptr.new_empty(num_points)
    launch = Launch(owners_kernel, {"ROWS": _OWNED}, FOUR_WARPS)
    launch.run(cdiv(num_points, _OWNED), ptr, out, num_points, B, B.bit_length())
    return out


def owns(ptr: Tensor, num_points: int) -> bool:
    """Whether :func:`owners` runs on this device."""
    if not plain() or not num_points or ptr.device.type not in ("cpu", "cuda"):
        return False
    return builds(ptr.device, "clouds of points", lambda: owners(torch.tensor([0, 1], device=ptr.device), 1))


def _try(x: Tensor) -> None:
    with torch.enable_grad():
        rows, ptr = x.new_zeros(1, 1, requires_grad=True), torch.tensor([0, 1], device=x.device)
        plus(rows, maximum(rows, ptr), ptr).sum().backward()


def _largest(x: Tensor, ptr: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    from pcsa._core.triton.cloud_kernels import largest_kernel

    (N, C), B = x.shape, ptr.numel() - 1
    largest, times, rows = x.new_empty(B, C), ptr.new_empty(B, C, dtype=torch.int32), ptr.new_empty(B, C)
    blocks = cdiv(C, _TILE["COLUMNS"])
    Launch(largest_kernel, _TILE, FOUR_WARPS).run(B * blocks, x, ptr, largest, times, rows, N, C, blocks)
    return largest, times, rows


class _Maximum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, ptr: Tensor) -> Tensor:
        x = x.contiguous()
        largest, times, _ = _largest(x, ptr)
        ctx.save_for_backward(x, ptr, largest, times)
        return largest

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        from pcsa._core.triton.cloud_kernels import shares_kernel

        x, ptr, largest, times = ctx.saved_tensors
        (N, C), B = x.shape, ptr.numel() - 1
        if torch.is_grad_enabled():  # to differentiate again
            owner = owners(ptr, N)
            return torch.where(x == largest[owner], (grad / times)[owner], 0.0), None
        blocks, out = cdiv(C, _TILE["COLUMNS"]), torch.empty_like(x)
        Launch(shares_kernel, _TILE, FOUR_WARPS).run(
            (N // _TILE["ROWS"] + B) * blocks,
            *(grad.contiguous(), x, ptr, largest, times, out, C, B, B.bit_length(), blocks),
        )
        return out, None


class _Plus(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, ptr: Tensor) -> Tensor:
        from pcsa._core.triton.cloud_kernels import plus_kernel

        (N, C), B, blocks = x.shape, ptr.numel() - 1, cdiv(x.shape[1], _TILE["COLUMNS"])
        out = x.new_empty(N, C, dtype=torch.promote_types(x.dtype, y.dtype))
        Launch(plus_kernel, _TILE, FOUR_WARPS).run(
            (N // _TILE["ROWS"] + B) * blocks,
            *(x.contiguous(), y.contiguous(), ptr, out, C, B, B.bit_length(), blocks),
        )
        ctx.save_for_backward(ptr)
        ctx.types = x.dtype, y.dtype
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        from pcsa._core.triton.cloud_kernels import sums_kernel

        (ptr,), (of_x, of_y), C = ctx.saved_tensors, ctx.types, grad.shape[1]
        B, blocks = ptr.numel() - 1, cdiv(C, _TILE["COLUMNS"])
        if torch.is_grad_enabled():  # to differentiate again
            owner = owners(ptr, len(grad))
            return grad.to(of_x), grad.new_zeros(B, C).index_add(0, owner, grad).to(of_y), None
        sums = grad.new_empty(B, C, dtype=of_y)
        Launch(sums_kernel, _TILE, FOUR_WARPS).run(B * blocks, grad.contiguous(), ptr, sums, C, blocks)
        return grad.to(of_x), sums, None
