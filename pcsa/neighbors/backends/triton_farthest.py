# mypy: ignore-errors
"""Farthest points: one program takes all steps of one cloud."""

import triton
import triton.language as tl

# Columns of a table: first row, points, points wanted, number of the first choice, place in the output.
_COLUMNS = tl.constexpr(5)


@triton.jit
def farthest_in_registers(pos, table, out, D: tl.constexpr, BLOCK: tl.constexpr):
    """Choose points of a cloud of at most BLOCK points, which are read once."""
    first, size, wanted, last, out = _cloud(table, out)
    local = tl.arange(0, BLOCK)
    inside = local < size
    axes = ()
    for d in tl.static_range(D):
        axes = axes + (tl.load(pos + (first + local) * D + d, mask=inside, other=0.0),)  # noqa: RUF005
    # Below every distance: what pads the block, and points already chosen. So none is chosen twice.
    nearest = tl.where(inside, float("inf"), -1.0).to(pos.dtype.element_ty)
    for step in range(wanted):
        tl.store(out + step, first + last)
        distance = tl.zeros([BLOCK], pos.dtype.element_ty)
        for d in tl.static_range(D):
            difference = axes[d] - tl.load(pos + (first + last) * D + d)
            distance = tl.fma(difference, difference, distance)
        nearest = tl.where(local == last, -1.0, tl.minimum(nearest, distance))
        last = _largest(nearest, local)


@triton.jit
def farthest_in_tiles(pos, table, nearest, out, D: tl.constexpr, BLOCK: tl.constexpr):
    """Choose points of a cloud of any size; ``nearest [N]`` is scratch."""
    first, size, wanted, last, out = _cloud(table, out)
    pos += first * D
    nearest += first
    for step in range(wanted):
        tl.store(out + step, first + last)
        best = tl.full([BLOCK], -1.0, pos.dtype.element_ty)
        best_index = tl.zeros([BLOCK], tl.int32)
        for start in range(0, size, BLOCK):
            local = start + tl.arange(0, BLOCK)
            inside = local < size
            distance = tl.zeros([BLOCK], pos.dtype.element_ty)
            for d in range(D):
                there = tl.load(pos + local.to(tl.int64) * D + d, mask=inside, other=0.0)
                difference = there - tl.load(pos + last.to(tl.int64) * D + d)
                distance = tl.fma(difference, difference, distance)
            before = tl.load(nearest + local, mask=inside & (step > 0), other=float("inf"))
            now = tl.where(inside & (local != last), tl.minimum(before, distance), -1.0)
            tl.store(nearest + local, now, mask=inside)
            best_index = tl.where(now > best, local, best_index)
            best = tl.maximum(now, best)
        last = _largest(best, best_index)


@triton.jit
def _cloud(table, out):
    """What to do in this program's cloud; the output from its place on."""
    row = table + tl.program_id(0) * _COLUMNS
    # int64 counts points of the batch, int32 points of the cloud.
    size, wanted, start = tl.load(row + 1).to(tl.int32), tl.load(row + 2).to(tl.int32), tl.load(row + 3).to(tl.int32)
    return tl.load(row), size, wanted, start, out + tl.load(row + 4)


@triton.jit
def _largest(value, index):
    """Return the lowest index of a largest value."""
    # The order of numbers of at least 0 is that of their bits, and integers are compared across a warp in one
    # instruction. Of those below 0 none is ever the largest.
    bits = value.to(tl.int32 if value.dtype == tl.float32 else tl.int64, bitcast=True)
    return tl.min(tl.where(bits == tl.max(bits, 0), index, 2147483647), 0)
