# mypy: ignore-errors
# ruff: noqa: RUF005 (a kernel's tuples know concatenation, not unpacking)
"""The point of the largest weight of each relaxed sample, from the noise that `point_kernels` draws."""

import triton
import triton.language as tl

from pcsa._core.triton.noise import four_log2_exponentials
from pcsa._core.triton.point_kernels import _LOG2_E, _LOWEST, PLAIN, largest_of, number, pairs_of, seed_of, work_of


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
    keypoint, group, piece, cloud, begin, first, last, reference = work_of(
        logits, ptr, range_highest, K, num_clouds, steps, size, groups, POINTS
    )
    inverse = number(inverse_high, inverse_low, like)
    seed = seed_of(seed, held)
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
    cloud, pair, inside, first, last, highest = pairs_of(ptr, range_highest, K, S, size, blocks, PAIRS)
    scale = number(inverse_high, inverse_low, like) * _LOG2_E
    largest = tl.full([PAIRS], -float("inf"), like)
    row = tl.full([PAIRS], 0, tl.int64) + tl.load(ptr + cloud)
    for piece in range(first, last):
        own = largest_of(range_highest, range_largest, piece, pair, inside, highest, scale, K, S)
        row = tl.where(own > largest, tl.load(range_rows + piece * (K * S) + pair, mask=inside, other=0), row)
        largest = tl.maximum(largest, own)
    tl.store(chosen + cloud.to(tl.int64) * (K * S) + pair, row, mask=inside)
