"""Launch the fused kernels of the marginals of grids: two of them forward, two backward."""

import functools

import torch
from torch import Tensor

from pcsa._core import triton
from pcsa._core.fused import inverse_of, launch, seed_of

# The normalizer's program goes through a whole map, with four warps.
_NORM_WARPS = 4
_LANES = 32
_CELLS = 64


def takes(logits: Tensor, shape: list[int]) -> bool:
    """Whether the fused kernels draw; the answer for a device and type never changes, as a backward pass needs it."""
    if len(shape) > 3 or not triton.usable(logits.device):
        return False
    return triton.interpreted() or _built(logits.device, logits.dtype, len(shape))


@functools.cache
def _built(device: torch.device, dtype: torch.dtype, num_axes: int) -> bool:
    def build() -> bool:
        one, shape = torch.ones(1, 1, dtype=dtype, device=device), [1] * num_axes
        seed, temperature = torch.tensor(0), torch.tensor(1.0)
        drawn = draw(one, shape, seed, temperature, 1)
        draw_backward(drawn[0], *drawn, one, shape, seed, temperature)
        return True

    return triton.attempt(f"marginals of {dtype} on {num_axes} axes", build, lambda: False)


def draw(
    logits: Tensor, shape: list[int], seed: Tensor, temperature: Tensor, num_samples: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return what `pcsa._core.marginals.draw_marginals` returns."""
    from pcsa._core.fused_grids import axes_kernel, norm_kernel

    (R, N), S = logits.shape, num_samples
    groups = triton.cdiv(S, 4)
    highest, log_norm = logits.new_empty(R), logits.new_empty(R, S)
    marginals = logits.new_empty(R, S, sum(shape))
    inputs = (logits.contiguous(), *seed_of(seed), *inverse_of(temperature), highest, log_norm)
    launch(norm_kernel, R * groups, *inputs, N, S, groups, CELLS=32 * _NORM_WARPS, warps=_NORM_WARPS)
    blocks = [triton.cdiv(n, _LANES) for n in reversed(shape)]
    sizes, none = _sizes(shape), [0] * (3 - len(shape))
    programs = R * groups * sum(blocks)
    launch(axes_kernel, programs, *inputs, marginals, N, S, groups, *sizes, *blocks, *none, LANES=_LANES)
    return marginals, log_norm, highest


def draw_backward(
    grad: Tensor,
    marginals: Tensor,
    log_norm: Tensor,
    highest: Tensor,
    logits: Tensor,
    shape: list[int],
    seed: Tensor,
    temperature: Tensor,
) -> Tensor:
    """Return what `pcsa._core.marginals.draw_marginals_backward` returns."""
    from pcsa._core.fused_grids import grid_gradient_kernel, rest_kernel

    (R, N), (_, S, total) = logits.shape, marginals.shape
    rest, grad_logits = torch.empty_like(marginals), logits.new_empty(R, N)
    launch(rest_kernel, R * S, grad, marginals, rest, S, total, len(shape), *grad.stride(), SIZE=_LANES)
    blocks = triton.cdiv(N, _CELLS)
    inputs = (logits.contiguous(), *seed_of(seed), *inverse_of(temperature), highest, log_norm)
    x_size, y_size, _ = _sizes(shape)
    launch(
        grid_gradient_kernel,
        R * blocks,
        *(*inputs, rest, grad_logits, N, S, total, x_size, y_size, blocks),
        AXES=len(shape),
        CELLS=_CELLS,
    )
    return grad_logits


def _sizes(shape: list[int]) -> list[int]:
    """Lengths along x, y and z; 1 where there is no such axis."""
    return [*reversed(shape), *[1] * (3 - len(shape))]
