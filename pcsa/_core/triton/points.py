"""Launch the fused kernels of the operator on point sets: two of them forward, three backward.

Kernels stand in files that import Triton, which are imported here when they are first launched.
"""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pcsa._core.triton.launch import ONE_WARP, Launch, builds, cdiv, next_power

# Columns of positions and of variances at most: a program keeps sums of them in registers, for each of its samples.
_MOST_COLUMNS = {torch.float32: 18, torch.float64: 8}
# Points of a range at least, and programs wanted: enough to fill a card, few enough for their sums to stay small.
_SMALLEST_RANGE = 256
_PROGRAMS = 8192
# Points (or pairs of keypoint and sample) of one step of a program.
_DRAW_POINTS = 32
_GRADIENT_POINTS = 64
_PAIRS = 32
_SUM_SIZE = 256


def takes(logits: Tensor, columns: int, axes: int, mixture: bool) -> bool:
    """Whether the fused kernels draw: on this device, with D ``columns`` and ``axes`` (1 or D) of the variance."""

    def run() -> None:
        one = logits.new_ones(1, 1)
        pos, variance = one.expand(1, columns).contiguous(), one.expand(1, axes).contiguous()
        ptr, seed, temperature = torch.tensor([0, 1], device=one.device), torch.tensor(0), torch.tensor(1.0)
        inputs = (one, pos, variance, ptr, seed, temperature)
        drawn = draw(*inputs, 1, mixture)
        draw_backward(drawn[0], *drawn, *inputs, mixture, True, True, True)
        choose(one, ptr, seed, temperature, 1)

    what = f"sampling_argmax of {logits.dtype} with D={columns}, {axes} axes of the bandwidth and mixture={mixture}"
    return columns + axes <= _MOST_COLUMNS[logits.dtype] and builds(logits.device, what, run)


def draw(
    logits: Tensor,
    pos: Tensor,
    variance: Tensor,
    ptr: Tensor,
    seed: Tensor,
    temperature: float | Tensor,
    num_samples: int,
    mixture: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return what `pcsa._core.kernel.draw` returns."""
    from pcsa._core.triton.point_kernels import combine_kernel, draw_kernel

    (N, K), B, S = logits.shape, ptr.numel() - 1, num_samples
    D, axes = pos.shape[1], variance.shape[1]
    fours, groups = groups_of(S, D + axes, logits.dtype)
    size = _range_size(N * K * groups)
    ranges = N // size + B
    highest, largest = logits.new_empty(ranges, K), logits.new_empty(ranges, K, S)
    sums = logits.new_empty(ranges, 1 + D + axes, K, S)
    samples, log_norm = logits.new_empty(B, K, S, D), logits.new_empty(B, K, S)
    basis_variance, cloud_highest = logits.new_empty(B, K, S, axes), logits.new_empty(B, K)
    numbers = (*seed_of(seed), *inverse_of(temperature))
    constants = {"D": D, "A": axes, "MIXTURE": mixture}
    Launch(draw_kernel, {**constants, "FOURS": fours, "POINTS": _DRAW_POINTS}, ONE_WARP).run(
        ranges * K * groups,
        *(logits.contiguous(), pos.contiguous(), variance.contiguous(), ptr),
        *numbers,
        *(highest, largest, sums, K, S, B, B.bit_length(), size, groups),
    )
    blocks = cdiv(K * S, _PAIRS)
    Launch(combine_kernel, {**constants, "PAIRS": _PAIRS}, ONE_WARP).run(
        B * blocks,
        *(highest, largest, sums, ptr),
        *numbers,
        *(samples, log_norm, basis_variance, cloud_highest, K, S, size, blocks),
    )
    return samples, log_norm, basis_variance, cloud_highest


def draw_backward(
    grad: Tensor,
    samples: Tensor,
    log_norm: Tensor,
    basis_variance: Tensor,
    cloud_highest: Tensor,
    logits: Tensor,
    pos: Tensor,
    variance: Tensor,
    ptr: Tensor,
    seed: Tensor,
    temperature: float | Tensor,
    mixture: bool,
    need_logits: bool,
    need_pos: bool,
    need_variance: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return what `pcsa._core.kernel.draw_backward` returns."""
    from pcsa._core.triton.point_kernels import gradient_kernel, rows_kernel, sum_kernel

    (N, K), (B, _, S, D), axes = logits.shape, samples.shape, variance.shape[1]
    rows = logits.new_empty(B, K, S, D + 1 + axes)
    held = seed_of(seed)
    constants = {"D": D, "A": axes, "MIXTURE": mixture}
    smallest = math.sqrt(torch.finfo(logits.dtype).tiny)
    Launch(rows_kernel, {**constants, "SMALLEST": smallest, "PAIRS": _PAIRS}, ONE_WARP).run(
        cdiv(B * K * S, _PAIRS),
        *(grad, samples, basis_variance, *held, rows, K, S, B * K * S, *grad.stride()),
    )
    ranges = N // _GRADIENT_POINTS + B
    parts = min(K, max(1, _PROGRAMS // ranges)) if need_pos or need_variance else K
    per_part = cdiv(K, parts)
    parts = cdiv(K, per_part)
    wanted = ((logits, need_logits), (pos, need_pos), (variance, need_variance))
    out = [x.new_empty(x.shape) if needed else x.new_empty(0) for x, needed in wanted]
    partial = [x.new_empty(parts, *x.shape) if parts > 1 else x for x in out[1:]]
    needed = {"LOGITS": need_logits, "POS": need_pos, "VARIANCE": need_variance, "POINTS": _GRADIENT_POINTS}
    Launch(gradient_kernel, {**constants, **needed}, ONE_WARP).run(
        ranges * parts,
        *(logits.contiguous(), pos.contiguous(), variance.contiguous(), ptr, *held, *inverse_of(temperature)),
        *(cloud_highest, log_norm, rows, out[0], *partial, K, S, N, B, B.bit_length(), parts, per_part),
    )
    sizes = [x.numel() for x in out[1:]]
    if parts > 1 and any(sizes):
        sums = Launch(sum_kernel, {"SIZE": _SUM_SIZE}, ONE_WARP)
        sums.run(cdiv(sum(sizes), _SUM_SIZE), *partial, *out[1:], parts, *sizes)
    return out[0], out[1], out[2]


def sample(
    logits: Tensor,
    pos: Tensor,
    variance: Tensor,
    ptr: Tensor,
    seed: Tensor,
    temperature: float,
    num_samples: int,
    mixture: bool,
) -> Tensor:
    """The samples of :func:`draw`, differentiable once in ``logits``, ``pos`` and ``variance``."""
    return _Sample.apply(logits, pos, variance, ptr, seed, temperature, num_samples, mixture)


class _Sample(torch.autograd.Function):
    """What the operator `pcsa::draw` does, without the host's work for an operator: half a millisecond."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        pos: Tensor,
        variance: Tensor,
        ptr: Tensor,
        seed: Tensor,
        temperature: float,
        num_samples: int,
        mixture: bool,
    ) -> Tensor:
        drawn = draw(logits, pos, variance, ptr, seed, temperature, num_samples, mixture)
        if any(ctx.needs_input_grad):
            ctx.save_for_backward(*drawn, logits, pos, variance, ptr, seed)
            ctx.known = temperature, mixture
        return drawn[0]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        inputs = (grad, *ctx.saved_tensors, *ctx.known)
        # Who asks for a graph of this pass learns what it lacks when he follows that.
        compute = _Gradient.apply if torch.is_grad_enabled() else draw_backward
        found = compute(*inputs, *ctx.needs_input_grad[:3])
        return *(x if need else None for x, need in zip(found, ctx.needs_input_grad, strict=False)), *[None] * 5


class _Gradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, Tensor, Tensor]:
        return draw_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        raise RuntimeError("autograd: sampling_argmax can be differentiated once only")


def choose(logits: Tensor, ptr: Tensor, seed: Tensor, temperature: Tensor, num_samples: int) -> Tensor:
    """Return the row of the largest weight of each sample that :func:`draw` takes."""
    from pcsa._core.triton.choice_kernels import choose_kernel, first_kernel

    (N, K), B, S = logits.shape, ptr.numel() - 1, num_samples
    groups = cdiv(S, 4)
    size = _range_size(N * K * groups)
    ranges = N // size + B
    highest, largest = logits.new_empty(ranges, K), logits.new_empty(ranges, K, S)
    rows, chosen = ptr.new_empty(ranges, K, S), ptr.new_empty(B, K, S)
    inverse = inverse_of(temperature)
    Launch(choose_kernel, {"POINTS": _DRAW_POINTS}, ONE_WARP).run(
        ranges * K * groups,
        *(logits.contiguous(), ptr, *seed_of(seed), *inverse),
        *(highest, largest, rows, K, S, B, B.bit_length(), size, groups),
    )
    blocks = cdiv(K * S, _PAIRS)
    Launch(first_kernel, {"PAIRS": _PAIRS}, ONE_WARP).run(
        B * blocks,
        *(highest, largest, rows, ptr, *inverse, chosen, K, S, size, blocks),
    )
    return chosen


def groups_of(num_samples: int, columns: int, dtype: torch.dtype) -> tuple[int, int]:
    """Fours of samples of one program, and programs for all samples: one draw of noise serves four samples."""
    fours = cdiv(num_samples, 4)
    # Points are read once for eight samples, where their sums fit in the registers and few of the eight are spare.
    fit = columns <= 7 and dtype == torch.float32
    at_once = 2 if fit and (fours % 2 == 0 or fours > 4) else 1
    return at_once, cdiv(fours, at_once)


def _range_size(work: int) -> int:
    """Points of a range, given the programs that there would be with one point each."""
    return next_power(max(_SMALLEST_RANGE, cdiv(work, _PROGRAMS)))


def seed_of(seed: Tensor) -> tuple[int, Tensor | None]:
    """The seed as kernels take it: a number, or where the device holds it, so that no one waits for it."""
    return (int(seed), None) if seed.device.type == "cpu" else (0, seed)


def inverse_of(temperature: float | Tensor) -> tuple[float, float]:
    """1 / temperature as the sum of two numbers in float32, the only ones that a kernel takes."""
    inverse = min(1 / float(temperature), torch.finfo(torch.float32).max)
    high = float(np.float32(inverse))
    return high, inverse - high
