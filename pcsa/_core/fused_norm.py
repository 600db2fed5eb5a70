"""Batch normalization of rows, then ReLU, then perhaps the maximum over balls: two kernels forward, two backward.

Plain torch takes a dozen, and writes and reads every row between them. Statistics, running ones and their counter are
those of :class:`torch.nn.BatchNorm1d` in train mode.
"""

import functools
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from pcsa._core import triton

# Rows of a step of a program that sums, columns of all programs, and ranges at most: what combines them keeps all.
_ROWS, _COLUMNS, _PARTS = 64, 32, 64
_SMALLEST_RANGE = 64
# Numbers of a tile of rows.
_TILE = 4096
_MOST_ROWS = 64
#: What all kernels are compiled with.
OPTIONS = {"num_warps": 4, "enable_fp_fusion": True}
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
        and not torch.compiler.is_compiling()
        and triton.usable(x.device)
        and (triton.interpreted() or _built(x.device, x.dtype, size))
    )


def normalized_maximum(x: Tensor, norm: nn.BatchNorm1d, size: int = 1) -> Tensor:
    """ReLU of the normalized rows ``[M * size, C]``, the largest of ``size`` at a time, ``[M, C]``.

    Differentiable once in ``x`` and in what scales and shifts. Of equal rows the first gets the gradient.
    """
    return _Normalized.apply(
        x, norm.weight, norm.bias, norm.running_mean, norm.running_var, norm.num_batches_tracked,
        float(norm.momentum or 0.0), norm.eps, size,
    )  # fmt: skip


@functools.cache
def _built(device: torch.device, dtype: torch.dtype, size: int) -> bool:
    """Build the kernels by a run on a few rows, before the first of them is needed."""

    def build() -> bool:
        norm = nn.BatchNorm1d(1, device=device, dtype=torch.float64 if dtype == torch.float64 else torch.float32)
        with torch.enable_grad():
            x = torch.zeros(2 * size, 1, device=device, dtype=dtype, requires_grad=True)
            normalized_maximum(x, norm, size).sum().backward()
        return True

    return triton.attempt(f"batch normalization of {dtype}, {size} rows at a time", build, lambda: False)


class _Cut(NamedTuple):
    """Ranges of rows, and what programs do with them."""

    size: int
    parts: int
    blocks: int

    @classmethod
    def of(cls, rows: int, channels: int) -> "_Cut":
        size = _ROWS * triton.cdiv(max(_SMALLEST_RANGE, triton.cdiv(rows, _PARTS)), _ROWS)
        return cls(size, triton.cdiv(rows, size), triton.cdiv(channels, _COLUMNS))

    @property
    def programs(self) -> int:
        return self.parts * self.blocks


def _launch(kernel: Any, programs: int, *arguments: Any, **constants: Any) -> None:
    triton.Launch(kernel, constants, OPTIONS).run(programs, *arguments)


def _groups(size: int) -> dict[str, int]:
    """Of a tile of ``size`` rows at a time: how many, and in how many slots."""
    slots = triton.next_power(size)
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
        from pcsa._core.fused_rows import moments_kernel, normalize_kernel

        x = x.contiguous()
        (R, C), M = x.shape, x.shape[0] // size
        like = torch.float64 if x.dtype == torch.float64 else torch.float32
        cut = _Cut.of(R, C)
        means, squares = torch.empty(2, cut.parts, C, dtype=like, device=x.device).unbind()
        _launch(
            moments_kernel, cut.programs, x, means, squares, R, C, cut.size, cut.blocks, ROWS=_ROWS, COLUMNS=_COLUMNS
        )
        out = x.new_empty(M, C)
        place = torch.empty(M if size > 1 else 0, C, dtype=torch.int32, device=x.device)
        mean, inverse = torch.empty(2, C, dtype=like, device=x.device).unbind()
        groups = _groups(size)
        _launch(
            normalize_kernel,
            triton.cdiv(M, groups["GROUPS"]) * cut.blocks,
            *(x, means, squares, weight, bias, out, place, mean, inverse, running_mean, running_variance, counter),
            *(M, C, cut.size, cut.blocks, cut.parts),
            MOMENTUM=momentum,
            EPS=eps,
            PARTS=_PARTS,
            **groups,
        )
        ctx.save_for_backward(x, weight, out, place, mean, inverse)
        ctx.size = size
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        from pcsa._core.fused_rows import gradient_kernel, pulls_kernel

        x, weight, out, place, mean, inverse = ctx.saved_tensors
        grad = grad.contiguous()
        M, C = out.shape
        cut = _Cut.of(M, C)
        sums, products = mean.new_empty(2, cut.parts, C).unbind()
        given = (grad, x, out, place, mean, inverse)
        _launch(
            pulls_kernel, cut.programs, *given, sums, products, M, C, cut.size, cut.blocks,
            K=ctx.size, ROWS=_ROWS // 2, COLUMNS=_COLUMNS,
        )  # fmt: skip
        grad_x, grad_weight, grad_bias = torch.empty_like(x), torch.empty_like(weight), torch.empty_like(weight)
        groups = _groups(ctx.size)
        _launch(
            gradient_kernel,
            triton.cdiv(M, groups["GROUPS"]) * cut.blocks,
            *(*given, weight, sums, products, grad_x, grad_weight, grad_bias, M, C, cut.blocks, cut.parts),
            PARTS=_PARTS,
            **groups,
        )
        return grad_x, grad_weight, grad_bias, *[None] * 6
