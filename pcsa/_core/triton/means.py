"""Mean of what a mask keeps, and mean binary cross-entropy: one launch each way, where plain torch takes several."""

from typing import Any

import torch
from torch import Tensor

from pcsa._core.transforms import plain
from pcsa._core.triton.launch import FOUR_WARPS, Launch, builds, cdiv

_SIZE = 1024
# Numbers that one program sums.
_MOST = 1 << 16


def takes(x: Tensor) -> bool:
    """Whether the kernels take the mean of ``x``."""
    return (
        plain()
        and 0 < x.numel() <= _MOST
        and x.dtype in (torch.float32, torch.float64)
        and x.device.type in ("cpu", "cuda")
        and builds(x.device, f"means of {x.dtype}", lambda: _try(x))
    )


def mean(x: Tensor, mask: Tensor | None) -> Tensor:
    """Mean of ``x`` where ``mask`` (of its shape) is true, 0 where it is nowhere. Differentiable in ``x``.

    What is not kept is not read: NaN there does no harm, in the gradient neither.
    """
    return _Mean.apply(x, mask)


def binary_cross_entropy(score: Tensor, label: Tensor) -> Tensor:
    """Mean binary cross-entropy of scores before the sigmoid with labels of bool. Differentiable in the scores."""
    return _Binary.apply(score, label)


def _try(x: Tensor) -> None:
    with torch.enable_grad():
        one = x.new_ones(1, requires_grad=True)
        binary_cross_entropy(one, one > 0).backward()
        for mask in (None, torch.ones(1, dtype=torch.bool, device=x.device)):
            mean(one, mask).backward()


class _Mean(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, mask: Tensor | None) -> Tensor:
        from pcsa._core.triton.mean_kernels import mean_kernel

        mask = None if mask is None else mask.contiguous()
        out, count = x.new_empty(()), x.new_empty(())
        Launch(mean_kernel, {"SIZE": _SIZE}, FOUR_WARPS).run(1, x.contiguous(), mask, out, count, x.numel())
        ctx.save_for_backward(mask, count)
        ctx.shape = x.shape
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        from pcsa._core.triton.mean_kernels import mean_gradient_kernel

        mask, count = ctx.saved_tensors
        if torch.is_grad_enabled():  # to differentiate again
            share = (grad / count).expand(ctx.shape)
            return share if mask is None else torch.where(mask, share, 0.0), None
        out = grad.new_empty(ctx.shape)
        Launch(mean_gradient_kernel, {"SIZE": _SIZE}, FOUR_WARPS).run(
            cdiv(out.numel(), _SIZE), grad.contiguous(), mask, count, out, out.numel()
        )
        return out, None


class _Binary(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, score: Tensor, label: Tensor) -> Tensor:
        from pcsa._core.triton.mean_kernels import binary_kernel

        score, label, out = score.contiguous(), label.contiguous(), score.new_empty(())
        Launch(binary_kernel, {"SIZE": _SIZE}, FOUR_WARPS).run(1, score, label, out, score.numel())
        ctx.save_for_backward(score, label)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        from pcsa._core.triton.mean_kernels import binary_gradient_kernel

        score, label = ctx.saved_tensors
        if torch.is_grad_enabled():  # to differentiate again
            return grad / score.numel() * (score.sigmoid() - label.to(score.dtype)), None
        out = torch.empty_like(score)
        Launch(binary_gradient_kernel, {"SIZE": _SIZE}, FOUR_WARPS).run(
            cdiv(out.numel(), _SIZE), grad.contiguous(), score, label, out, out.numel()
        )
        return out, None
