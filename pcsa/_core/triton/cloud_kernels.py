# mypy: ignore-errors
"""Maximum and sum over the points of each cloud, and what goes back to the points, as fused kernels.

A program takes some columns of one cloud, or a range of points as in `point_kernels`. Nothing is added to by two of
them, so results are the same bits every time.
"""

import triton
import triton.language as tl

from pcsa._core.triton.point_kernels import range_of


@triton.jit(do_not_specialize=["N"])
def largest_kernel(x, ptr, largest, times, rows, N, C, blocks, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Largest number of each column of a cloud, NaN if there is one; how often it is there, and its first row."""
    like = tl.float64 if x.dtype.element_ty == tl.float64 else tl.float32
    cloud = tl.program_id(0) // blocks
    column = tl.program_id(0) % blocks * COLUMNS + tl.arange(0, COLUMNS)
    begin, end = tl.load(ptr + cloud), tl.load(ptr + cloud + 1)
    best = tl.full([ROWS, COLUMNS], -float("inf"), like)
    count = tl.zeros([ROWS, COLUMNS], tl.int32)
    first = tl.zeros([ROWS, COLUMNS], tl.int64) + tl.minimum(begin, N - 1)
    for start in range(begin, end, ROWS):
        row = (start + tl.arange(0, ROWS))[:, None]
        inside = (row < end) & (column < C)[None, :]
        value = tl.load(x + row * C + column[None, :], mask=inside, other=-float("inf")).to(like)
        better = (value > best) | ((value != value) & (best == best))
        count = tl.where(better, 1, tl.where(inside & (value == best), count + 1, count))
        first = tl.where(better, row, first)
        best = tl.where(better, value, best)
    broken = tl.max((best != best).to(tl.int32), 0) > 0
    top = tl.max(tl.where(best == best, best, -float("inf")), 0)
    found = best == top[None, :]
    at = cloud.to(tl.int64) * C + column
    known = column < C
    tl.store(largest + at, tl.where(broken, float("nan"), top).to(x.dtype.element_ty), mask=known)
    tl.store(times + at, tl.sum(tl.where(found, count, 0), 0), mask=known)
    tl.store(rows + at, tl.min(tl.where(found, first, N), 0), mask=known)


@triton.jit(do_not_specialize=["num_clouds", "steps"])
def shares_kernel(
    grad, x, ptr, largest, times, out, C, num_clouds, steps, blocks, ROWS: tl.constexpr, COLUMNS: tl.constexpr
):
    """Gradient of the largest number of a cloud, to equal shares for all points that have it."""
    like = tl.float64 if x.dtype.element_ty == tl.float64 else tl.float32
    cloud, _, first, last = range_of(ptr, tl.program_id(0) // blocks, num_clouds, steps, ROWS)
    column = (tl.program_id(0) % blocks * COLUMNS + tl.arange(0, COLUMNS))[None, :]
    row = (first + tl.arange(0, ROWS))[:, None]
    inside = (row < last) & (column < C)
    at = cloud.to(tl.int64) * C + column
    share = tl.load(grad + at, mask=column < C, other=0.0).to(like)
    share = share / tl.load(times + at, mask=column < C, other=1).to(like)
    value = tl.load(x + row * C + column, mask=inside, other=0.0)
    share = tl.where(value == tl.load(largest + at, mask=column < C, other=0.0), share, 0.0)
    tl.store(out + row * C + column, share.to(out.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["num_clouds", "steps"])
def plus_kernel(x, y, ptr, out, C, num_clouds, steps, blocks, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Rows of points plus the row of their cloud."""
    cloud, _, first, last = range_of(ptr, tl.program_id(0) // blocks, num_clouds, steps, ROWS)
    column = (tl.program_id(0) % blocks * COLUMNS + tl.arange(0, COLUMNS))[None, :]
    row = (first + tl.arange(0, ROWS))[:, None]
    inside = (row < last) & (column < C)
    like = out.dtype.element_ty
    there = tl.load(y + cloud.to(tl.int64) * C + column, mask=column < C, other=0.0).to(like)
    value = tl.load(x + row * C + column, mask=inside, other=0.0).to(like)
    tl.store(out + row * C + column, value + there, mask=inside)


@triton.jit
def sums_kernel(x, ptr, out, C, blocks, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Sum of each column of a cloud."""
    like = tl.float64 if x.dtype.element_ty == tl.float64 else tl.float32
    cloud = tl.program_id(0) // blocks
    column = tl.program_id(0) % blocks * COLUMNS + tl.arange(0, COLUMNS)
    end = tl.load(ptr + cloud + 1)
    total = tl.zeros([ROWS, COLUMNS], like)
    for start in range(tl.load(ptr + cloud), end, ROWS):
        row = (start + tl.arange(0, ROWS))[:, None]
        inside = (row < end) & (column < C)[None, :]
        total += tl.load(x + row * C + column[None, :], mask=inside, other=0.0).to(like)
    at = cloud.to(tl.int64) * C + column
    tl.store(out + at, tl.sum(total, 0).to(out.dtype.element_ty), mask=column < C)


@triton.jit(do_not_specialize=["num_points", "num_clouds", "steps"])
def owners_kernel(ptr, out, num_points, num_clouds, steps, ROWS: tl.constexpr):
    """Cloud of each point; writes nowhere else, whatever ``ptr`` holds."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    low = tl.zeros([ROWS], tl.int32)
    high = low + num_clouds - 1
    for _ in range(steps):
        middle = (low + high + 1) // 2
        begun = tl.load(ptr + middle) <= row
        low = tl.where(begun, middle, low)
        high = tl.where(begun, high, middle - 1)
    tl.store(out + row, low.to(tl.int64), mask=row < num_points)
