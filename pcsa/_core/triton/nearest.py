"""Cross-entropy with the points at the place nearest to a target: one launch each way, where plain torch takes 80."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pcsa._core.transforms import plain
from pcsa._core.triton.launch import FOUR_WARPS, Launch, builds

# Distances are rounded as in plain torch, so that equally near points stay so.
_ROUNDED = {**FOUR_WARPS, "enable_fp_fusion": False}
_POINTS = 256
_TILE = {"ROWS": 32, "COLUMNS": 32}
_MOST_AXES = 8
# Points of a batch. A program goes through a whole cloud: of more, torch's kernels with the whole device are as fast.
_MOST_POINTS = 1 << 17


def takes(logits: Tensor, pos: Tensor) -> bool:
    """Whether the kernels compute the loss of ``logits`` ``[N, K]`` on points ``pos`` ``[N, D]``."""
    return (
        plain()
        and 0 < logits.shape[0] <= _MOST_POINTS
        and pos.shape[1] <= _MOST_AXES
        and logits.dtype == pos.dtype
        and logits.dtype in (torch.float32, torch.float64)
        and logits.device.type in ("cpu", "cuda")
        and builds(
            logits.device,
            f"nearest_point_cross_entropy of {logits.dtype} with D={pos.shape[1]}",
            lambda: _try(logits, pos),
        )
    )


def cross_entropy(
    logits: Tensor, pos: Tensor, target: Tensor, ptr: Tensor, plain: Callable[[Tensor], Tensor]
) -> Tensor:
    """Negative log-probability of the place nearest to each target ``[B, K]``, every cloud with a point.

    Of equally near places that of the first point; points that are switched off by -inf are not near. A target that is
    not finite is nearest to some point. Differentiable in ``logits``, more than once by what ``plain`` makes of them.
    """
    return _CrossEntropy.apply(logits, pos, target, ptr, plain)


def _try(logits: Tensor, pos: Tensor) -> None:
    with torch.enable_grad():
        one, at = logits.new_ones(1, 1, requires_grad=True), pos.new_zeros(1, pos.shape[1])
        cross_entropy(one, at, at[None], torch.tensor([0, 1], device=one.device), torch.sum).sum().backward()


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, pos: Tensor, target: Tensor, ptr: Tensor, plain: Any) -> Tensor:
        from pcsa._core.triton.nearest_kernels import cross_entropy_kernel

        logits, pos = logits.contiguous(), pos.contiguous()
        K, B, D = logits.shape[1], ptr.numel() - 1, pos.shape[1]
        loss, norm, there = (logits.new_empty(B, K) for _ in range(3))
        chosen = ptr.new_empty(B, K)
        Launch(cross_entropy_kernel, {"D": D, "POINTS": _POINTS}, _ROUNDED).run(
            B * K, logits, pos, target.contiguous(), ptr, loss, chosen, norm, there, K
        )
        ctx.save_for_backward(logits, pos, ptr, chosen, norm, there)
        ctx.plain = plain
        return loss

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        from pcsa._core.triton.nearest_kernels import cross_entropy_gradient_kernel

        logits, pos, ptr, chosen, norm, there = ctx.saved_tensors
        if torch.is_grad_enabled():  # to differentiate again
            return *torch.autograd.grad(ctx.plain(logits), logits, grad, create_graph=True), *[None] * 4
        (N, K), B, out = logits.shape, ptr.numel() - 1, torch.empty_like(logits)
        Launch(cross_entropy_gradient_kernel, {"D": pos.shape[1], **_TILE}, _ROUNDED).run(
            N // _TILE["ROWS"] + B,
            *(grad.contiguous(), logits, pos, ptr, chosen, norm, there, out, K, B, B.bit_length()),
        )
        return out, *[None] * 4
