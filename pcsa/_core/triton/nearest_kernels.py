# mypy: ignore-errors
"""Cross-entropy of the map of each keypoint with the points at the place nearest to its target, as fused kernels."""

import triton
import triton.language as tl

from pcsa._core.triton.point_kernels import _LOWEST, range_of


@triton.jit
def exponential_added(state, score):
    """Add exponentials to the sums of the lanes: (largest, sum relative to it)."""
    largest = tl.maximum(state[0], score)
    return largest, state[1] * tl.exp(state[0] - largest) + tl.exp(score - largest)


@triton.jit
def logarithm_of(state):
    """Logarithm of the sum over all lanes."""
    largest = tl.max(state[0], 0)
    return tl.log(tl.sum(state[1] * tl.exp(state[0] - largest), 0)) + largest


@triton.jit(do_not_specialize=["K"])
def cross_entropy_kernel(
    logits, pos, target, ptr, loss, chosen, norm, norm_there, K, D: tl.constexpr, POINTS: tl.constexpr
):
    """Loss of one keypoint of one cloud, the row of the nearest point, and log-sums of exponentials: all, and there."""
    like = logits.dtype.element_ty
    cloud = tl.program_id(0) // K
    keypoint = tl.program_id(0) % K
    begin, end = tl.load(ptr + cloud), tl.load(ptr + cloud + 1)
    at = tl.program_id(0).to(tl.int64)
    logits += keypoint
    lowest = tl.full([POINTS], float("inf"), like)
    first = tl.zeros([POINTS], tl.int64) + begin
    state = tl.full([POINTS], _LOWEST, like), tl.zeros([POINTS], like)
    for start in range(begin, end, POINTS):
        row = start + tl.arange(0, POINTS)
        score = tl.load(logits + row * K, mask=row < end, other=-float("inf"))
        away = tl.zeros([POINTS], like)
        for d in tl.static_range(D):
            offset = tl.load(pos + row * D + d, mask=row < end, other=0.0) - tl.load(target + at * D + d)
            away += offset * offset
        nearer = (away < lowest) & (score > -float("inf"))
        first = tl.where(nearer, row, first)
        lowest = tl.where(nearer, away, lowest)
        state = exponential_added(state, score)
    nearest = tl.min(tl.where(lowest == tl.min(lowest, 0), first, end), 0)
    nearest = tl.maximum(tl.minimum(nearest, end - 1), 0)
    there = tl.full([POINTS], _LOWEST, like), tl.zeros([POINTS], like)
    for start in range(begin, end, POINTS):
        row = start + tl.arange(0, POINTS)
        same = row < end
        for d in tl.static_range(D):
            place = tl.load(pos + row * D + d, mask=row < end, other=0.0)
            same = same & (place == tl.load(pos + nearest * D + d))
        there = exponential_added(there, tl.load(logits + row * K, mask=same, other=-float("inf")))
    of_all, of_there = logarithm_of(state), logarithm_of(there)
    tl.store(loss + at, of_all - of_there)
    tl.store(chosen + at, nearest)
    tl.store(norm + at, of_all)
    tl.store(norm_there + at, of_there)


@triton.jit(do_not_specialize=["K", "num_clouds", "steps"])
def cross_entropy_gradient_kernel(
    grad,
    logits,
    pos,
    ptr,
    chosen,
    norm,
    norm_there,
    out,
    K,
    num_clouds,
    steps,
    D: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Gradient of a range of points: the probability, less that among the points at the nearest place."""
    like = logits.dtype.element_ty
    cloud, _, first, last = range_of(ptr, tl.program_id(0), num_clouds, steps, ROWS)
    row = (first + tl.arange(0, ROWS))[:, None]
    for start in range(0, K, COLUMNS):
        column = (start + tl.arange(0, COLUMNS))[None, :]
        at, known = cloud.to(tl.int64) * K + column, column < K
        inside = (row < last) & known
        score = tl.load(logits + row * K + column, mask=inside, other=-float("inf"))
        nearest = tl.load(chosen + at, mask=known, other=0)
        same = inside
        for d in tl.static_range(D):
            same = same & (tl.load(pos + row * D + d, mask=row < last, other=0.0) == tl.load(pos + nearest * D + d))
        shift = tl.where(same, tl.load(norm_there + at, mask=known, other=0.0), float("inf"))
        slope = tl.exp(score - tl.load(norm + at, mask=known, other=0.0)) - tl.exp(score - shift)
        slope *= tl.load(grad + at, mask=known, other=0.0).to(like)
        tl.store(out + row * K + column, slope, mask=inside)
