# mypy: ignore-errors
# ruff: noqa: RUF005 (a kernel's tuples know concatenation, not unpacking)
"""The operator on point sets as fused kernels: Eq. 11-12 in one pass over the points, and its gradients.

A program of one warp owns what it writes; nothing is added to by two of them, so results are the same bits every time.
Clouds are cut into ranges of ``size`` points. Range j of cloud b has the number ``ptr[b] // size + b + j``: it is found
without knowing the sizes of the clouds, there are never more than ``N // size + B``, and some stay empty.

Weights are in base 2 and relative to the largest logit (of the range, then of the cloud), as in `pcsa._core.kernel`.
A lane keeps the sums over its own points, relative to its own largest weight; lanes meet at the end of the range.
"""

import triton
import triton.language as tl

from pcsa._core.triton.noise import exp2, four_log2_exponentials, four_normals

_LOG2_E = tl.constexpr(1.4426950408889634)
# Numbers whose values need no kernel of their own.
PLAIN = [
    "seed", "inverse_high", "inverse_low", "K", "S", "N", "num_clouds", "steps", "size", "groups", "blocks", "total",
    "parts", "per_part", "share", "first_size", "second_size", "grad_0", "grad_1", "grad_2", "grad_3",
    "x_size", "y_size", "z_size", "x_blocks", "y_blocks", "z_blocks",
]  # fmt: skip
# Below every weight's logarithm, and finite: -inf less -inf is NaN.
_LOWEST = tl.constexpr(-3.0e38)


@triton.jit
def range_of(ptr, number, num_clouds, steps, size):
    """Cloud of a range, the cloud's first row, the range's first row and the row after its last."""
    low = number * 0
    high = low + num_clouds - 1
    for _ in range(steps):
        middle = (low + high + 1) // 2
        inside = tl.load(ptr + middle) // size + middle <= number
        low = tl.where(inside, middle, low)
        high = tl.where(inside, high, middle - 1)
    begin = tl.load(ptr + low)
    first = begin + (number - (begin // size + low)) * size
    return low, begin, first, tl.minimum(first + size, tl.load(ptr + low + 1))


@triton.jit
def seed_of(seed, held):
    """The seed, from memory where it is held there: a captured graph replays numbers, but reads memory."""
    if held is not None:
        seed = tl.load(held)
    return seed


@triton.jit
def number(high, low, like):
    """A number that comes as two float32, which is what kernels take."""
    return tl.cast(high, like) + tl.cast(low, like)


@triton.jit
def columns_of(x, rows, inside, C: tl.constexpr):
    """Columns of rows, as a tuple; 0 where no row is."""
    columns = ()
    for c in tl.static_range(C):
        columns = columns + (tl.load(x + rows * C + c, mask=inside, other=0.0),)
    return columns


@triton.jit
def zeros_of(C: tl.constexpr, POINTS: tl.constexpr, like):
    """As many columns of zeros."""
    columns = ()
    for _ in tl.static_range(C):
        columns = columns + (tl.zeros([POINTS], like),)
    return columns


@triton.jit
def highest_in(logits, first, last, keypoint, K, POINTS: tl.constexpr):
    """Largest logit of a range."""
    highest = tl.full([POINTS], -float("inf"), logits.dtype.element_ty)
    for start in range(first, last, POINTS):
        rows = start + tl.arange(0, POINTS)
        highest = tl.maximum(highest, tl.load(logits + rows * K + keypoint, mask=rows < last, other=-float("inf")))
    return tl.max(highest, 0)


@triton.jit
def work_of(logits, ptr, range_highest, K, num_clouds, steps, size, groups, POINTS: tl.constexpr):
    """What a program draws: keypoint, group of samples, range, the range's cloud and bounds as in :func:`range_of`.

    With them, what logits are relative to: the range's largest, which the first group writes, or 0 where it is -inf.
    """
    program = tl.program_id(0)
    keypoint = program % K
    group = program // K % groups
    piece = program // K // groups
    cloud, begin, first, last = range_of(ptr, piece, num_clouds, steps, size)
    highest = highest_in(logits, first, last, keypoint, K, POINTS)
    tl.store(range_highest + piece.to(tl.int64) * K + keypoint, highest, mask=(first < last) & (group == 0))
    return keypoint, group, piece, cloud, begin, first, last, tl.where(highest == -float("inf"), 0.0, highest)


@triton.jit
def pairs_of(ptr, range_highest, K, S, size, blocks, PAIRS: tl.constexpr):
    """What a program combines: cloud, pairs of keypoint and sample, which of them exist, the cloud's ranges.

    With them, the cloud's largest logits.
    """
    cloud = tl.program_id(0) // blocks
    pair = tl.program_id(0) % blocks * PAIRS + tl.arange(0, PAIRS)
    inside = pair < K * S
    begin, end = tl.load(ptr + cloud), tl.load(ptr + cloud + 1)
    first = begin // size + cloud
    last = first + (end - begin + size - 1) // size
    highest = tl.full([PAIRS], -float("inf"), range_highest.dtype.element_ty)
    for piece in range(first, last):
        highest = tl.maximum(highest, tl.load(range_highest + piece * K + pair // S, mask=inside, other=0.0))
    return cloud, pair, inside, first, last, highest


@triton.jit
def largest_of(range_highest, range_largest, piece, pair, inside, highest, scale, K, S):
    """Logarithm of a range's largest weights, relative to the cloud's largest logits."""
    offset = tl.load(range_highest + piece * K + pair // S, mask=inside, other=0.0) - highest
    return tl.load(range_largest + piece * (K * S) + pair, mask=inside, other=0.0) + offset * scale


@triton.jit
def added_to(state, score, pos, variance, D: tl.constexpr, A: tl.constexpr, MIXTURE: tl.constexpr):
    """Add points to the sums of one sample: (largest, norm, sums of positions, sums of variances)."""
    # One of two powers is 1: that of the larger number less itself.
    less = exp2(-tl.abs(score - state[0]))
    below = score <= state[0]
    weight = tl.where(below, less, 1.0)
    kept = tl.where(below, 1.0, less)
    out = (tl.maximum(state[0], score), state[1] * kept + weight)
    for d in tl.static_range(D):
        out = out + (state[2 + d] * kept + weight * pos[d],)
    if not MIXTURE:
        weight, kept = weight * weight, kept * kept
    for a in tl.static_range(A):
        out = out + (state[2 + D + a] * kept + weight * variance[a],)
    return out


@triton.jit(do_not_specialize=PLAIN)
def draw_kernel(
    logits,
    pos,
    variance,
    ptr,
    seed: tl.int64,
    held,
    inverse_high,
    inverse_low,
    range_highest,
    range_largest,
    range_sums,
    K,
    S,
    num_clouds,
    steps,
    size,
    groups,
    D: tl.constexpr,
    A: tl.constexpr,
    MIXTURE: tl.constexpr,
    FOURS: tl.constexpr,
    POINTS: tl.constexpr,
):
    """Sums over one range, for one keypoint and 4 * FOURS samples.

    Writes the largest logit [ranges, K], the largest weight's logarithm [ranges, K, S] and the sums relative to it
    [ranges, 1 + D + A, K, S]: of the weights, times positions, times (or their squares times) variances.
    """
    like = logits.dtype.element_ty
    keypoint, group, piece, cloud, begin, first, last, reference = work_of(
        logits, ptr, range_highest, K, num_clouds, steps, size, groups, POINTS
    )
    inverse = number(inverse_high, inverse_low, like)
    seed = seed_of(seed, held)
    states = ()
    for _ in tl.static_range(4 * FOURS):
        states = states + ((tl.full([POINTS], _LOWEST, like),) + zeros_of(1 + D + A, POINTS, like),)
    for start in range(first, last, POINTS):
        rows = start + tl.arange(0, POINTS)
        inside = rows < last
        score = tl.load(logits + rows * K + keypoint, mask=inside, other=-float("inf"))
        score = (score - reference) * (inverse * _LOG2_E)
        position = columns_of(pos, rows, inside, D)
        spread = columns_of(variance, rows, inside, A)
        added = ()
        for four in tl.static_range(FOURS):
            noise = four_log2_exponentials(seed, rows - begin, keypoint, group * FOURS + four, cloud)
            for j in tl.static_range(4):
                perturbed = score - noise[j].to(like) * inverse
                added = added + (added_to(states[4 * four + j], perturbed, position, spread, D, A, MIXTURE),)
        states = added
    if first < last:
        for j in tl.static_range(4 * FOURS):
            sample = group * (4 * FOURS) + j
            inside = sample < S
            largest = tl.max(states[j][0], 0)
            kept = exp2(states[j][0] - largest)
            at = (piece.to(tl.int64) * K + keypoint) * S + sample
            tl.store(range_largest + at, largest, mask=inside)
            for c in tl.static_range(1 + D + A):
                at = ((piece.to(tl.int64) * (1 + D + A) + c) * K + keypoint) * S + sample
                total = tl.sum(states[j][1 + c] * (kept * kept if c > D and not MIXTURE else kept), 0)
                tl.store(range_sums + at, total, mask=inside)


@triton.jit(do_not_specialize=PLAIN)
def combine_kernel(
    range_highest,
    range_largest,
    range_sums,
    ptr,
    seed: tl.int64,
    held,
    inverse_high,
    inverse_low,
    samples,
    log_norm,
    basis_variance,
    cloud_highest,
    K,
    S,
    size,
    blocks,
    D: tl.constexpr,
    A: tl.constexpr,
    MIXTURE: tl.constexpr,
    PAIRS: tl.constexpr,
):
    """Samples from the sums over the ranges of one cloud, for a block of pairs of keypoint and sample."""
    like = samples.dtype.element_ty
    cloud, pair, inside, first, last, highest = pairs_of(ptr, range_highest, K, S, size, blocks, PAIRS)
    keypoint, sample = pair // S, pair % S
    scale = number(inverse_high, inverse_low, like) * _LOG2_E
    largest = tl.full([PAIRS], -float("inf"), like)
    for piece in range(first, last):
        own = largest_of(range_highest, range_largest, piece, pair, inside, highest, scale, K, S)
        largest = tl.maximum(largest, own)
    totals = zeros_of(1 + D + A, PAIRS, like)
    for piece in range(first, last):
        own = largest_of(range_highest, range_largest, piece, pair, inside, highest, scale, K, S)
        kept = exp2(own - largest)
        added = ()
        for c in tl.static_range(1 + D + A):
            at = range_sums + (piece * (1 + D + A) + c) * (K * S) + pair
            factor = kept * kept if c > D and not MIXTURE else kept
            added = added + (totals[c] + factor * tl.load(at, mask=inside, other=0.0),)
        totals = added
    norm = tl.where(inside, totals[0], 1.0)
    out = cloud.to(tl.int64) * (K * S) + pair
    deviations = ()
    for a in tl.static_range(A):
        spread = totals[1 + D + a] / (norm if MIXTURE else norm * norm)
        tl.store(basis_variance + out * A + a, spread, mask=inside)
        deviations = deviations + (tl.sqrt(spread),)
    seed = seed_of(seed, held)
    for four in tl.static_range((D + 3) // 4):
        noise = four_normals(seed, four, keypoint, sample, cloud)
        for j in tl.static_range(4):
            if 4 * four + j < D:
                mean = totals[1 + 4 * four + j] / norm
                moved = mean + noise[j].to(like) * deviations[4 * four + j if A > 1 else 0]
                tl.store(samples + out * D + 4 * four + j, moved, mask=inside)
    tl.store(log_norm + out, tl.log2(norm) + largest, mask=inside)
    tl.store(cloud_highest + cloud.to(tl.int64) * K + keypoint, highest, mask=inside & (sample == 0))


@triton.jit(do_not_specialize=PLAIN)
def rows_kernel(
    grad,
    samples,
    basis_variance,
    seed: tl.int64,
    held,
    rows,
    K,
    S,
    total,
    grad_0,
    grad_1,
    grad_2,
    grad_3,
    D: tl.constexpr,
    A: tl.constexpr,
    MIXTURE: tl.constexpr,
    SMALLEST: tl.constexpr,
    PAIRS: tl.constexpr,
):
    """What a sample says to every point: its gradient g, -sum_j p_j G_j, and c per axis of the bandwidth.

    c is g e / std (half of it under the mixture), as in `pcsa._core.kernel`. The gradient comes with its strides.
    """
    like = samples.dtype.element_ty
    place = tl.program_id(0).to(tl.int64) * PAIRS + tl.arange(0, PAIRS)
    inside = place < total
    sample = place % S
    keypoint = place // S % K
    cloud = place // S // K
    seed = seed_of(seed, held)
    mean = tl.zeros([PAIRS], like)
    pulls = zeros_of(A, PAIRS, like)
    start = grad + cloud * grad_0 + keypoint * grad_1 + sample * grad_2
    out = rows + place * (D + 1 + A)
    for four in tl.static_range((D + 3) // 4):
        noise = four_normals(seed, four, keypoint, sample, cloud)
        for j in tl.static_range(4):
            if 4 * four + j < D:
                g = tl.load(start + (4 * four + j) * grad_3, mask=inside, other=0.0)
                mean += g * tl.load(samples + place * D + 4 * four + j, mask=inside, other=0.0)
                tl.store(out + 4 * four + j, g, mask=inside)
                along = g * noise[j].to(like)
                moved = ()
                for a in tl.static_range(A):
                    moved = moved + (pulls[a] + along if A == 1 or a == 4 * four + j else pulls[a],)
                pulls = moved
    for a in tl.static_range(A):
        deviation = tl.sqrt(tl.load(basis_variance + place * A + a, mask=inside, other=1.0))
        # A variance below the smallest number is 0, and so is what it multiplies.
        pull = pulls[a] / tl.maximum(deviation, SMALLEST)
        if MIXTURE:
            pull *= 0.5
            mean -= 0.5 * pulls[a] * deviation
        tl.store(out + D + 1 + a, pull, mask=inside)
    tl.store(out + D, -mean, mask=inside)


@triton.jit(do_not_specialize=PLAIN)
def gradient_kernel(
    logits,
    pos,
    variance,
    ptr,
    seed: tl.int64,
    held,
    inverse_high,
    inverse_low,
    cloud_highest,
    log_norm,
    sample_rows,
    grad_logits,
    grad_pos,
    grad_variance,
    K,
    S,
    N,
    num_clouds,
    steps,
    parts,
    per_part,
    D: tl.constexpr,
    A: tl.constexpr,
    MIXTURE: tl.constexpr,
    LOGITS: tl.constexpr,
    POS: tl.constexpr,
    VARIANCE: tl.constexpr,
    POINTS: tl.constexpr,
):
    """Gradients of a range of POINTS points, from all samples of ``per_part`` keypoints.

    Writes those of the logits [N, K], and what these keypoints add to those of the positions [parts, N, D] and of
    the variances [parts, N, A].
    """
    like = logits.dtype.element_ty
    part = tl.program_id(0) % parts
    piece = tl.program_id(0) // parts
    cloud, begin, first, last = range_of(ptr, piece, num_clouds, steps, POINTS)
    rows = first + tl.arange(0, POINTS)
    inside = rows < last
    inverse = number(inverse_high, inverse_low, like)
    seed = seed_of(seed, held)
    position = columns_of(pos, rows, inside, D)
    spread = columns_of(variance, rows, inside, A)
    to_pos = zeros_of(D, POINTS, like)
    to_variance = zeros_of(A, POINTS, like)
    if first < last:
        for keypoint in range(part * per_part, tl.minimum((part + 1) * per_part, K)):
            map_at = cloud.to(tl.int64) * K + keypoint
            score = tl.load(logits + rows * K + keypoint, mask=inside, other=-float("inf"))
            score = (score - tl.load(cloud_highest + map_at)) * (inverse * _LOG2_E)
            to_logits = tl.zeros([POINTS], like)
            for group in range(0, (S + 3) // 4):
                noise = four_log2_exponentials(seed, rows - begin, keypoint, group, cloud)
                for j in tl.static_range(4):
                    exists = 4 * group + j < S
                    at = map_at * S + 4 * group + j
                    # A sample that does not exist has no weights.
                    shift = tl.load(log_norm + at, mask=exists, other=float("inf"))
                    weight = exp2(score - noise[j].to(like) * inverse - shift)
                    told = sample_rows + at * (D + 1 + A)
                    slope = tl.load(told + D, mask=exists, other=0.0)
                    moved = ()
                    for d in tl.static_range(D):
                        g = tl.load(told + d, mask=exists, other=0.0)
                        if LOGITS:
                            slope += g * position[d]
                        moved = moved + (to_pos[d] + weight * g if POS else to_pos[d],)
                    to_pos = moved
                    power = weight if MIXTURE else weight * weight
                    moved = ()
                    for a in tl.static_range(A):
                        pull = tl.load(told + D + 1 + a, mask=exists, other=0.0)
                        if LOGITS:
                            slope += pull * spread[a] if MIXTURE else weight * (pull * spread[a])
                        moved = moved + (to_variance[a] + power * pull if VARIANCE else to_variance[a],)
                    to_variance = moved
                    if LOGITS:
                        to_logits += weight * slope
            if LOGITS:
                tl.store(grad_logits + rows * K + keypoint, to_logits * inverse, mask=inside)
        at = part.to(tl.int64) * N + rows
        if POS:
            for d in tl.static_range(D):
                tl.store(grad_pos + at * D + d, to_pos[d], mask=inside)
        if VARIANCE:
            for a in tl.static_range(A):
                tl.store(grad_variance + at * A + a, to_variance[a] * (1.0 if MIXTURE else 0.5), mask=inside)


@triton.jit(do_not_specialize=PLAIN)
def sum_kernel(first, second, first_out, second_out, parts, first_size, second_size, SIZE: tl.constexpr):
    """Sums over the parts of two arrays [parts, size], one after the other."""
    place = tl.program_id(0).to(tl.int64) * SIZE + tl.arange(0, SIZE)
    of_first = place < first_size
    of_second = (place >= first_size) & (place < first_size + second_size)
    total = tl.zeros([SIZE], first_out.dtype.element_ty)
    for part in range(parts):
        part = tl.cast(part, tl.int64)
        total += tl.load(first + (part * first_size + place), mask=of_first, other=0.0)
        total += tl.load(second + (part * second_size + place - first_size), mask=of_second, other=0.0)
    tl.store(first_out + place, total, mask=of_first)
    tl.store(second_out + (place - first_size), total, mask=of_second)
