# mypy: ignore-errors
"""First linear layer of what a ball's points are and where, after a gather, as fused kernels."""

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["M"])
def gather_kernel(
    table,
    pos,
    centers,
    weight,
    near,
    inside,
    out,
    rows,
    M,
    C,
    near_0,
    inside_0,
    inside_1,
    blocks,
    K: tl.constexpr,
    RADIUS: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Rows of the table of K points of each ball, plus the weight times their offsets over the radius; and which rows.

    A slot outside the ball repeats the nearest point.
    """
    like = out.dtype.element_ty
    place = tl.program_id(0).to(tl.int64) // blocks * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(0) % blocks * COLUMNS + tl.arange(0, COLUMNS)
    asked, known = place < M * K, column < C
    ball, slot = place // K, place % K
    there = tl.load(inside + ball * inside_0 + slot * inside_1, mask=asked, other=0) != 0
    row = tl.load(near + ball * near_0 + tl.where(there, slot, 0), mask=asked, other=0)
    both = asked[:, None] & known[None, :]
    value = tl.load(table + row[:, None] * C + column[None, :], mask=both, other=0.0).to(like)
    for d in tl.static_range(3):
        offset = tl.load(pos + row * 3 + d, mask=asked, other=0.0)
        offset = (offset - tl.load(centers + ball * 3 + d, mask=asked, other=0.0)).to(like) / RADIUS
        value += offset[:, None] * tl.load(weight + column * 3 + d, mask=known, other=0.0).to(like)[None, :]
    tl.store(out + place[:, None] * C + column[None, :], value, mask=both)
    if tl.program_id(0) % blocks == 0:
        tl.store(rows + place, row, mask=asked)


@triton.jit(do_not_specialize=["R", "size"])
def offsets_kernel(
    grad,
    pos,
    centers,
    rows,
    sums,
    R,
    C,
    size,
    blocks,
    K: tl.constexpr,
    RADIUS: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Sums over a range of rows of the gradients times the offsets [parts, C, 3]."""
    like = grad.dtype.element_ty
    part = tl.program_id(0) // blocks
    column = tl.program_id(0) % blocks * COLUMNS + tl.arange(0, COLUMNS)
    known = column < C
    first = part.to(tl.int64) * size
    last = tl.minimum(first + size, R)
    x, y, z = tl.zeros([COLUMNS], like), tl.zeros([COLUMNS], like), tl.zeros([COLUMNS], like)
    for start in range(first, last, ROWS):
        place = start + tl.arange(0, ROWS)
        asked = place < last
        row = tl.load(rows + place, mask=asked, other=0)
        both = asked[:, None] & known[None, :]
        g = tl.load(grad + place[:, None] * C + column[None, :], mask=both, other=0.0)
        there, center = pos + row * 3, centers + place // K * 3
        offset = tl.load(there, mask=asked, other=0.0) - tl.load(center, mask=asked, other=0.0)
        x += tl.sum(g * offset.to(like)[:, None], 0)
        offset = tl.load(there + 1, mask=asked, other=0.0) - tl.load(center + 1, mask=asked, other=0.0)
        y += tl.sum(g * offset.to(like)[:, None], 0)
        offset = tl.load(there + 2, mask=asked, other=0.0) - tl.load(center + 2, mask=asked, other=0.0)
        z += tl.sum(g * offset.to(like)[:, None], 0)
    at = sums + (part * C + column) * 3
    tl.store(at, x / RADIUS, mask=known)
    tl.store(at + 1, y / RADIUS, mask=known)
    tl.store(at + 2, z / RADIUS, mask=known)
