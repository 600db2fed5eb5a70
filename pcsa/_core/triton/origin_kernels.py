# mypy: ignore-errors
"""Where clouds far from the origin lie, and their points less that."""

import triton
import triton.language as tl


@triton.jit
def origin_kernel(pos, ptr, origin, moved, D: tl.constexpr, FAR: tl.constexpr, POINTS: tl.constexpr):
    """Write of one cloud and axis what `pcsa._core.points.far_origin` subtracts, and the positions less that."""
    like = pos.dtype.element_ty
    cloud, axis = tl.program_id(0) // D, tl.program_id(0) % D
    begin, end = tl.load(ptr + cloud), tl.load(ptr + cloud + 1)
    low = tl.full([POINTS], float("inf"), like)
    high = tl.full([POINTS], -float("inf"), like)
    broken = tl.zeros([POINTS], tl.int32)
    for start in range(begin, end, POINTS):
        row = start + tl.arange(0, POINTS)
        value = tl.load(pos + row * D + axis, mask=row < end, other=0.0)
        low = tl.where((row < end) & (value < low), value, low)
        high = tl.where((row < end) & (value > high), value, high)
        broken = tl.where(value != value, 1, broken)
    lowest, highest = tl.where(begin < end, tl.min(low, 0), 0.0), tl.where(begin < end, tl.max(high, 0), 0.0)
    # Halved before the sum, which may be too large.
    middle = highest * 0.5 + lowest * 0.5
    far = (tl.abs(middle) > FAR * (highest - lowest)) & (tl.max(broken, 0) == 0)
    less = tl.where(far, middle, 0.0)
    tl.store(origin + cloud.to(tl.int64) * D + axis, less)
    for start in range(begin, end, POINTS):
        row = start + tl.arange(0, POINTS)
        value = tl.load(pos + row * D + axis, mask=row < end, other=0.0)
        tl.store(moved + row * D + axis, value - less, mask=row < end)
