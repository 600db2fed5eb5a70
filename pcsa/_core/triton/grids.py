"""Launch the fused kernels of the marginals of grids: two of them forward, two backward."""

import torch
from torch import Tensor

from pcsa._core.triton.launch import FOUR_WARPS, ONE_WARP, Launch, builds, cdiv
from pcsa._core.triton.points import inverse_of, seed_of

# Cells of a step of the normalizer's program, which goes through a whole map.
_NORM_CELLS = 128
_LANES = 32
_CELLS = 64


def takes(logits: Tensor, shape: list[int]) -> bool:
    """Whether the fused kernels draw on this device."""

    def run() -> None:
        one, ones = logits.new_ones(1, 1), [1] * len(shape)
        seed, temperature = torch.tensor(0), torch.tensor(1.0)
        drawn = draw(one, ones, seed, temperature, 1)
        draw_backward(drawn[0], *drawn, one, ones, seed, temperature)

    what = f"marginals of {logits.dtype} on {len(shape)} axes"
    return len(shape) <= 3 and builds(logits.device, what, run)


def draw(
    logits: Tensor, shape: list[int], seed: Tensor, temperature: Tensor, num_samples: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return what `pcsa._core.marginals.draw_marginals` returns."""
    from pcsa._core.triton.grid_kernels import axes_kernel, norm_kernel

    (R, N), S = logits.shape, num_samples
    groups = cdiv(S, 4)
    highest, log_norm = logits.new_empty(R), logits.new_empty(R, S)
    marginals = logits.new_empty(R, S, sum(shape))
    inputs = (logits.contiguous(), *seed_of(seed), *inverse_of(temperature), highest, log_norm)
    Launch(norm_kernel, {"CELLS": _NORM_CELLS}, FOUR_WARPS).run(R * groups, *inputs, N, S, groups)
    blocks = [cdiv(n, _LANES) for n in reversed(shape)]
    sizes, none = _sizes(shape), [0] * (3 - len(shape))
    programs = R * groups * sum(blocks)
    axes = Launch(axes_kernel, {"LANES": _LANES}, ONE_WARP)
    axes.run(programs, *inputs, marginals, N, S, groups, *sizes, *blocks, *none)
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
    from pcsa._core.triton.grid_kernels import grid_gradient_kernel, rest_kernel

    (R, N), (_, S, total) = logits.shape, marginals.shape
    rest, grad_logits = torch.empty_like(marginals), logits.new_empty(R, N)
    rests = Launch(rest_kernel, {"SIZE": _LANES}, ONE_WARP)
    rests.run(R * S, grad, marginals, rest, S, total, len(shape), *grad.stride())
    blocks = cdiv(N, _CELLS)
    inputs = (logits.contiguous(), *seed_of(seed), *inverse_of(temperature), highest, log_norm)
    x_size, y_size, _ = _sizes(shape)
    gradient = Launch(grid_gradient_kernel, {"AXES": len(shape), "CELLS": _CELLS}, ONE_WARP)
    gradient.run(R * blocks, *inputs, rest, grad_logits, N, S, total, x_size, y_size, blocks)
    return grad_logits


def _sizes(shape: list[int]) -> list[int]:
    """Lengths along x, y and z; 1 where there is no such axis."""
    return [*reversed(shape), *[1] * (3 - len(shape))]
