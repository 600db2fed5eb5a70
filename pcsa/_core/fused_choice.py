# mypy: ignore-errors
# ruff: noqa: RUF005 (a kernel's tuples know concatenation, not unpacking)
"""The point of the largest weight of each relaxed sample, from the noise that `pcsa._core.fused_points` draws."""

import triton
import triton.language as tl

from pcsa._core.fused_noise import four_log2_exponentials
from pcsa._core.fused_points import _LOG2_E, _LOWEST, PLAIN, highest_in, number, range_of, seed_of


@triton.jit(do_not_specialize=PLAIN)
def choose_kernel(
    logits,
    ptr,
    seed: tl.int64,
    held,
    inverse_high,
    inverse_low,
    range_highest,
    range_largest,
    range_rows,
    K,
    S,
    num_clouds,
    steps,
    size,
    groups,
    POINTS: tl.constexpr,
):
    """The first of the largest weights of one range, for one keypoint and four samples: logarithm and row."""
    like = logits.dtype.element_ty
    program = tl.program_id(0)
    keypoint = program % K
    group = program // K % groups
    piece = program // K // groups
    cloud, begin, first, last = range_of(ptr, piece, num_clouds, steps, size)
    inverse = number(inverse_high, inverse_low, like)
    seed = seed_of(seed, held)
    highest = highest_in(logits, first, last, keypoint, K, POINTS)
    # Where all logits are -inf, so are all weights.
    reference = tl.where(highest == -float("inf"), 0.0, highest)
    states = ()
    for _ in tl.static_range(4):
        states = states + ((tl.full([POINTS], _LOWEST, like), tl.full([POINTS], 0, tl.int64) + first),)
    for start in range(first, last, POINTS):
        rows = start + tl.arange(0, POINTS)
        score = tl.load(logits + rows * K + keypoint, mask=rows < last, other=-float("inf"))
        score = (score - reference) * (inverse * _LOG2_E)
        noise = four_log2_exponentials(seed, rows - begin, keypoint, group, cloud)
        moved = ()
        for j in tl.static_range(4):
            perturbed = score - noise[j].to(like) * inverse
            larger = perturbed > states[j][0]
            moved = moved + ((tl.where(larger, perturbed, states[j][0]), tl.where(larger, rows, states[j][1])),)
        states = moved
    if first < last:
        if group == 0:
            tl.store(range_highest + piece.to(tl.int64) * K + keypoint, highest)
        for j in tl.static_range(4):
            inside = 4 * group + j < S
            largest = tl.max(states[j][0], 0)
            at = (piece.to(tl.int64) * K + keypoint) * S + 4 * group + j
            tl.store(range_largest + at, largest, mask=inside)
            row = tl.min(tl.where(states[j][0] == largest, states[j][1], last), 0)
            tl.store(range_rows + at, row, mask=inside)


@triton.jit(do_not_specialize=PLAIN)
def first_kernel(
    range_highest,
    range_largest,
    range_rows,
    ptr,
    inverse_high,
    inverse_low,
    chosen,
    K,
    S,
    size,
    blocks,
    PAIRS: tl.constexpr,
):
    """The first of the largest weights over the ranges of one cloud, for a block of pairs of keypoint and sample."""
    like = range_largest.dtype.element_ty
    cloud = tl.program_id(0) // blocks
    pair = tl.program_id(0) % blocks * PAIRS + tl.arange(0, PAIRS)
    inside = pair < K * S
    keypoint = pair // S
    begin, end = tl.load(ptr + cloud), tl.load(ptr + cloud + 1)
    first = begin // size + cloud
    last = first + (end - begin + size - 1) // size
    scale = number(inverse_high, inverse_low, like) * _LOG2_E
    highest = tl.full([PAIRS], -float("inf"), like)
    for piece in range(first, last):
        highest = tl.maximum(highest, tl.load(range_highest + piece * K + keypoint, mask=inside, other=0.0))
    largest = tl.full([PAIRS], -float("inf"), like)
    row = tl.full([PAIRS], 0, tl.int64) + begin
    for piece in range(first, last):
        offset = tl.load(range_highest + piece * K + keypoint, mask=inside, other=0.0) - highest
        at = piece * (K * S) + pair
        own = tl.load(range_largest + at, mask=inside, other=0.0) + offset * scale
        row = tl.where(own > largest, tl.load(range_rows + at, mask=inside, other=0), row)
        largest = tl.maximum(largest, own)
    tl.store(chosen + cloud.to(tl.int64) * (K * S) + pair, row, mask=inside)
