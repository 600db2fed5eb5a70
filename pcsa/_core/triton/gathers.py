"""First linear layer of the points of balls: rows of features are gathered, and offsets added, in one launch.

Plain torch takes eight, and writes and reads all rows twice; its gradient takes about ten, here it takes six.
"""

from typing import Any

import torch
from torch import Tensor

from pcsa._core.transforms import plain
from pcsa._core.triton.launch import FOUR_WARPS, Launch, builds, cdiv

_TILE = {"ROWS": 64, "COLUMNS": 32}
# Ranges of rows at most, of which programs sum, and their least size.
_PARTS, _SMALLEST_RANGE = 128, 64
_TYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def takes(table: Tensor, pos: Tensor, near: Tensor) -> bool:
    """Whether the kernels gather rows of ``table`` ``[N, C]``."""
    return (
        plain()
        and pos.dtype in (torch.float32, torch.float64)
        and not pos.requires_grad
        and near.numel() > 0
        and table.dtype in _TYPES
        and table.device.type in ("cpu", "cuda")
        and builds(table.device, f"gathers of {table.dtype} at {pos.dtype}", lambda: _try(table, pos))
    )


def gathered(
    table: Tensor, pos: Tensor, centers: Tensor, weight: Tensor, near: Tensor, inside: Tensor, k: int, radius: float
) -> Tensor:
    """Rows ``table[j] + weight (pos[j] - centers[i]) / radius`` of the k points j of each ball i, ``[M * k, C]``.

    ``near [M, k or more]`` has the points, nearest first, of which those that are not ``inside`` count as the first.
    Differentiable in ``table`` and ``weight [C, 3]``.
    """
    return _Gathered.apply(table, pos, centers, weight, near, inside, k, radius)


def _try(table: Tensor, pos: Tensor) -> None:
    with torch.enable_grad():
        one, at, near = table.new_zeros(1, 1, requires_grad=True), pos.new_zeros(1, 3), pos.new_zeros(1, 1).long()
        weight = torch.zeros(1, 3, device=pos.device, dtype=pos.dtype, requires_grad=True)
        gathered(one, at, at, weight, near, near == 0, 1, 1.0).sum().backward()


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        table: Tensor,
        pos: Tensor,
        centers: Tensor,
        weight: Tensor,
        near: Tensor,
        inside: Tensor,
        k: int,
        radius: float,
    ) -> Tensor:
        from pcsa._core.triton.gather_kernels import gather_kernel

        table, pos, centers, weight = (x.contiguous() for x in (table, pos, centers, weight))
        near = near if near.stride(1) == 1 else near.contiguous()
        M, C = near.shape[0], table.shape[1]
        out = table.new_empty(M * k, C, dtype=torch.promote_types(table.dtype, pos.dtype))
        rows, blocks = near.new_empty(M * k), cdiv(C, _TILE["COLUMNS"])
        Launch(gather_kernel, {"K": k, "RADIUS": radius, **_TILE}, FOUR_WARPS).run(
            cdiv(M * k, _TILE["ROWS"]) * blocks,
            *(table, pos, centers, weight, near, inside, out, rows, M, C, near.stride(0), *inside.stride(), blocks),
        )
        ctx.save_for_backward(pos, centers, rows)
        ctx.known = table.shape, table.dtype, weight.dtype, k, radius
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        from pcsa._core.triton.gather_kernels import offsets_kernel

        pos, centers, rows = ctx.saved_tensors
        shape, of_table, of_weight, k, radius = ctx.known
        grad, (R, C) = grad.contiguous(), grad.shape
        to_table = to_weight = None
        if ctx.needs_input_grad[0]:
            to_table = grad.new_zeros(shape).index_add_(0, rows, grad).to(of_table)
        if ctx.needs_input_grad[3] and torch.is_grad_enabled():  # to differentiate again
            offset = pos[rows] - centers.repeat_interleave(k, 0)
            to_weight = (grad.T @ (offset / radius).to(grad.dtype)).to(of_weight)
        elif ctx.needs_input_grad[3]:
            size = _TILE["ROWS"] * cdiv(max(_SMALLEST_RANGE, cdiv(R, _PARTS)), _TILE["ROWS"])
            parts, blocks = cdiv(R, size), cdiv(C, _TILE["COLUMNS"])
            sums = grad.new_empty(parts, C, 3)
            Launch(offsets_kernel, {"K": k, "RADIUS": radius, **_TILE}, FOUR_WARPS).run(
                parts * blocks, grad, pos, centers, rows, sums, R, C, size, blocks
            )
            to_weight = sums.sum(0).to(of_weight)
        return to_table, None, None, to_weight, *[None] * 4
