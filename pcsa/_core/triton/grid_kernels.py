# mypy: ignore-errors
# ruff: noqa: RUF005 (a kernel's tuples know concatenation, not unpacking)
"""Marginals of the relaxed weights of a grid as fused kernels, and their gradients.

As in `point_kernels`, a program owns what it writes and noise is a function of its place, with the map as
the cloud. The first kernel finds the normalizers. With them known, the weights of any cell are, and a lane of the
second kernel sums those of one index of one axis: noise is drawn once more for every axis, and nothing of the size of
the grid is written. Axes are named x, y, z; one that a grid lacks has no blocks.
"""

import triton
import triton.language as tl

from pcsa._core.triton.noise import exp2, four_log2_exponentials
from pcsa._core.triton.point_kernels import _LOG2_E, _LOWEST, PLAIN, added_to, number, seed_of


@triton.jit(do_not_specialize=PLAIN)
def norm_kernel(
    logits,
    seed: tl.int64,
    held,
    inverse_high,
    inverse_low,
    highests,
    log_norm,
    N,
    S,
    groups,
    CELLS: tl.constexpr,
):
    """Largest logit of a map [maps], and log2-normalizers of four samples relative to it [maps, S]."""
    like = logits.dtype.element_ty
    chart = tl.program_id(0).to(tl.int64) // groups
    group = tl.program_id(0) % groups
    inverse = number(inverse_high, inverse_low, like)
    seed = seed_of(seed, held)
    logits += chart * N
    highest = tl.full([CELLS], -float("inf"), like)
    for start in range(0, N, CELLS):
        cells = start + tl.arange(0, CELLS)
        highest = tl.maximum(highest, tl.load(logits + cells, mask=cells < N, other=-float("inf")))
    highest = tl.max(highest, 0)
    states = ()
    for _ in tl.static_range(4):
        states = states + ((tl.full([CELLS], _LOWEST, like), tl.zeros([CELLS], like)),)
    for start in range(0, N, CELLS):
        cells = start + tl.arange(0, CELLS)
        score = tl.load(logits + cells, mask=cells < N, other=-float("inf"))
        score = (score - highest) * (inverse * _LOG2_E)
        noise = four_log2_exponentials(seed, cells, 0, group, chart)
        added = ()
        for j in tl.static_range(4):
            added = added + (added_to(states[j], score - noise[j].to(like) * inverse, (), (), 0, 0, True),)
        states = added
    for j in tl.static_range(4):
        largest = tl.max(states[j][0], 0)
        norm = tl.sum(states[j][1] * exp2(states[j][0] - largest), 0)
        tl.store(log_norm + chart * S + 4 * group + j, tl.log2(norm) + largest, mask=4 * group + j < S)
    if group == 0:
        tl.store(highests + chart, highest)


@triton.jit(do_not_specialize=PLAIN)
def axes_kernel(
    logits,
    seed: tl.int64,
    held,
    inverse_high,
    inverse_low,
    highests,
    log_norm,
    marginals,
    N,
    S,
    groups,
    x_size,
    y_size,
    z_size,
    x_blocks,
    y_blocks,
    z_blocks,
    LANES: tl.constexpr,
):
    """Marginals of LANES indices of one axis, for one map and four samples, [maps, S, sum of the axes' lengths]."""
    like = logits.dtype.element_ty
    blocks = x_blocks + y_blocks + z_blocks
    block = tl.program_id(0) % blocks
    group = tl.program_id(0) // blocks % groups
    chart = (tl.program_id(0) // blocks // groups).to(tl.int64)
    on_x, on_y = block < x_blocks, block < x_blocks + y_blocks
    size = tl.where(on_x, x_size, tl.where(on_y, y_size, z_size))
    step = tl.where(on_x, 1, tl.where(on_y, x_size, x_size * y_size))
    before = tl.where(on_x, 0, tl.where(on_y, x_size, x_size + y_size))
    block -= tl.where(on_x, 0, tl.where(on_y, x_blocks, x_blocks + y_blocks))
    index = block * LANES + tl.arange(0, LANES)
    inside = index < size
    inverse = number(inverse_high, inverse_low, like)
    seed = seed_of(seed, held)
    highest = tl.load(highests + chart)
    shifts, sums = (), ()
    for j in tl.static_range(4):
        # A sample that does not exist has no weights.
        at = log_norm + chart * S + 4 * group + j
        shifts = shifts + (tl.load(at, mask=4 * group + j < S, other=float("inf")),)
        sums = sums + (tl.zeros([LANES], like),)
    for other in range(0, N // size):
        cells = other // step * (step * size) + other % step + index * step
        score = tl.load(logits + chart * N + cells, mask=inside, other=-float("inf"))
        score = (score - highest) * (inverse * _LOG2_E)
        noise = four_log2_exponentials(seed, cells, 0, group, chart)
        added = ()
        for j in tl.static_range(4):
            added = added + (sums[j] + exp2(score - noise[j].to(like) * inverse - shifts[j]),)
        sums = added
    total = x_size + tl.where(y_blocks > 0, y_size, 0) + tl.where(z_blocks > 0, z_size, 0)
    for j in tl.static_range(4):
        at = (chart * S + 4 * group + j) * total + before + index
        tl.store(marginals + at, sums[j], mask=index < tl.where(4 * group + j < S, size, 0))


@triton.jit(do_not_specialize=PLAIN)
def rest_kernel(grad, marginals, rest, S, total, share, grad_0, grad_1, grad_2, SIZE: tl.constexpr):
    """A sample's gradient less an equal share of sum_j p_j G_j for every axis. The gradient comes with its strides."""
    like = marginals.dtype.element_ty
    place = tl.program_id(0).to(tl.int64)
    grad += place // S * grad_0 + place % S * grad_1
    products = tl.zeros([SIZE], like)
    for start in range(0, total, SIZE):
        index = start + tl.arange(0, SIZE)
        g = tl.load(grad + index * grad_2, mask=index < total, other=0.0)
        products += g * tl.load(marginals + place * total + index, mask=index < total, other=0.0)
    taken = tl.sum(products, 0) / tl.cast(share, like)
    for start in range(0, total, SIZE):
        index = start + tl.arange(0, SIZE)
        g = tl.load(grad + index * grad_2, mask=index < total, other=0.0)
        tl.store(rest + place * total + index, g - taken, mask=index < total)


@triton.jit(do_not_specialize=PLAIN)
def grid_gradient_kernel(
    logits,
    seed: tl.int64,
    held,
    inverse_high,
    inverse_low,
    highests,
    log_norm,
    rest,
    grad_logits,
    N,
    S,
    total,
    x_size,
    y_size,
    blocks,
    AXES: tl.constexpr,
    CELLS: tl.constexpr,
):
    """Gradient of a block of cells of one map, from all samples."""
    like = logits.dtype.element_ty
    chart = tl.program_id(0).to(tl.int64) // blocks
    cells = tl.program_id(0) % blocks * CELLS + tl.arange(0, CELLS)
    inside = cells < N
    inverse = number(inverse_high, inverse_low, like)
    seed = seed_of(seed, held)
    score = tl.load(logits + chart * N + cells, mask=inside, other=-float("inf"))
    score = (score - tl.load(highests + chart)) * (inverse * _LOG2_E)
    to_logits = tl.zeros([CELLS], like)
    for group in range(0, (S + 3) // 4):
        noise = four_log2_exponentials(seed, cells, 0, group, chart)
        for j in tl.static_range(4):
            exists = 4 * group + j < S
            at = chart * S + 4 * group + j
            # A sample that does not exist has no weights.
            shift = tl.load(log_norm + at, mask=exists, other=float("inf"))
            weight = exp2(score - noise[j].to(like) * inverse - shift)
            told, read = rest + at * total, cells < tl.where(exists, N, 0)
            slope = tl.load(told + cells % x_size, mask=read, other=0.0)
            if AXES > 1:
                slope += tl.load(told + x_size + cells // x_size % y_size, mask=read, other=0.0)
            if AXES > 2:
                slope += tl.load(told + x_size + y_size + cells // x_size // y_size, mask=read, other=0.0)
            to_logits += weight * slope
    tl.store(grad_logits + chart * N + cells, to_logits * inverse, mask=inside)
