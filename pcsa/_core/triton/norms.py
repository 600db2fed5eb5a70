"""Batch normalization of rows, then ReLU, then perhaps the maximum over balls: two kernels forward, two backward.

Plain torch takes a dozen, and writes and reads every row between them. Statistics, running ones and their counter are
those of :class:`torch.nn.BatchNorm1d` in train mode.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from pcsa._core.transforms import plain
from pcsa._core.triton.launch import FOUR_WARPS, Launch, builds, cdiv, next_power

# Rows of a step of a program that sums, columns of all programs, and ranges at most: what combines them keeps all.
_ROWS, _COLUMNS, _PARTS = 64, 32, 64
_SMALLEST_RANGE = 64
# Numbers of a tile of rows.
_TILE = 4096
_MOST_ROWS = 64
_TYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def takes(x: Tensor, norm: nn.Module, size: int = 1) -> bool:
    """Whether the kernels normalize rows ``x`` by ``norm``, with the maximum over ``size`` of them at a time."""
    return (
        # Not what a strategy for several devices puts in its place.
        type(norm) is nn.BatchNorm1d
        and norm.training
        and norm.affine
        and norm.track_running_stats
        and norm.momentum is not None
        and x.dim() == 2
        and x.shape[0] > 1
        and size <= _MOST_ROWS
        and x.dtype in _TYPES
        and x.device.type in ("cpu", "cuda")
        and plain()
        and builds(x.device, f"batch normalization of {x.dtype}, {size} rows at a time", lambda: _try(x, size))
    )


def normalized_maximum(x: Tensor, norm: nn.BatchNorm1d, size: int = 1) -> Tensor:
    """ReLU of the normalized rows ``[M * size, C]``, the largest of ``size`` at a time, ``[M, C]``.

    Differentiable once in ``x`` and in what scales and shifts. Of equal rows the first gets the gradient.
    """
    return _Normalized.apply(
        x, norm.weight, norm.bias, norm.running_mean, norm.running_var, norm.num_batches_tracked,
        float(norm.momentum or 0.0), norm.eps, size,
    )  # fmt: skip


def _try(x: Tensor, size: int) -> None:
    """Run on a few rows like ``x``."""
    like = torch.float64 if x.dtype == torch.float64 else torch.float32
    norm = nn.BatchNorm1d(1, device=x.device, dtype=like)
    with torch.enable_grad():
        rows = x.new_zeros(2 * size, 1, requires_grad=True)
        normalized_maximum(rows, norm, size).sum().backward()


class _Cut(NamedTuple):
    """Ranges of rows, and what programs do with them."""

    size: int
    parts: int
    blocks: int

    @classmethod
    def of(cls, rows: int, channels: int) -> "_Cut":
        size = _ROWS * cdiv(max(_SMALLEST_RANGE, cdiv(rows, _PARTS)), _ROWS)
        return cls(size, cdiv(rows, size), cdiv(channels, _COLUMNS))

    @property
    def programs(self) -> int:
        return self.parts * self.blocks


def _groups(size: int) -> dict[str, int]:
    """Of a tile of ``size`` rows at a time: how many, and in how many slots."""
    slots = next_power(size)
    return {"K": size, "SLOTS": slots, "GROUPS": max(1, _TILE // (_COLUMNS * slots)), "COLUMNS": _COLUMNS}


class _Normalized(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        running_mean: Tensor,
        running_variance: Tensor,
        counter: Tensor,
        momentum: float,
        eps: float,
        size: int,
    ) -> Tensor:
        from pcsa._core.triton.norm_kernels import moments_kernel, normalize_kernel

        x = x.contiguous()
        (R, C), M = x.shape, x.shape[0] // size
        like = torch.float64 if x.dtype == torch.float64 else torch.float32
        cut = _Cut.of(R, C)
        means, squares = torch.empty(2, cut.parts, C, dtype=like, device=x.device).unbind()
        moments = Launch(moments_kernel, {"ROWS": _ROWS, "COLUMNS": _COLUMNS}, FOUR_WARPS)
        moments.run(cut.programs, x, means, squares, R, C, cut.size, cut.blocks)
        out = x.new_empty(M, C)
        place = torch.empty(M if size > 1 else 0, C, dtype=torch.int32, device=x.device)
        mean, inverse = torch.empty(2, C, dtype=like, device=x.device).unbind()
        groups = _groups(size)
        constants = {"MOMENTUM": momentum, "EPS": eps, "PARTS": _PARTS, **groups}
        Launch(normalize_kernel, constants, FOUR_WARPS).run(
            cdiv(M, groups["GROUPS"]) * cut.blocks,
            *(x, means, squares, weight, bias, out, place, mean, inverse, running_mean, running_variance, counter),
            *(M, C, cut.size, cut.blocks, cut.parts),
        )
        ctx.save_for_backward(x, weight, out, place, mean, inverse)
        ctx.size = size
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        from pcsa._core.triton.norm_kernels import gradient_kernel, pulls_kernel

        x, weight, out, place, mean, inverse = ctx.saved_tensors
        grad = grad.contiguous()
        M, C = out.shape
        cut = _Cut.of(M, C)
        sums, products = mean.new_empty(2, cut.parts, C).unbind()
        given = (grad, x, out, place, mean, inverse)
        pulls = Launch(pulls_kernel, {"K": ctx.size, "ROWS": _ROWS // 2, "COLUMNS": _COLUMNS}, FOUR_WARPS)
        pulls.run(cut.programs, *given, sums, products, M, C, cut.size, cut.blocks)
        grad_x, grad_weight, grad_bias = torch.empty_like(x), torch.empty_like(weight), torch.empty_like(weight)
        groups = _groups(ctx.size)
        Launch(gradient_kernel, {"PARTS": _PARTS, **groups}, FOUR_WARPS).run(
            cdiv(M, groups["GROUPS"]) * cut.blocks,
            *(*given, weight, sums, products, grad_x, grad_weight, grad_bias, M, C, cut.blocks, cut.parts),
        )
        return grad_x, grad_weight, grad_bias, *[None] * 6
