# mypy: ignore-errors
"""Batch normalization of rows, ReLU and the maximum over K rows at a time, as fused kernels.

Rows are cut into ``parts`` ranges of ``size`` rows, of which one program each sums 32 columns; whoever needs the whole
combines them in their order. Nothing is added to by two programs, so results are the same bits every time. Sums are of
differences from a mean, so a large common offset costs nothing.
"""

import triton
import triton.language as tl


@triton.jit
def moments_kernel(x, means, squares, R, C, size, blocks, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Mean of a range of rows and sum of squared differences from it."""
    like = means.dtype.element_ty
    part = tl.program_id(0) // blocks
    column = tl.program_id(0) % blocks * COLUMNS + tl.arange(0, COLUMNS)
    first = part * size
    last = tl.minimum(first + size, R)
    mean, square = tl.zeros([COLUMNS], like), tl.zeros([COLUMNS], like)
    for start in range(first, last, ROWS):
        rows = start + tl.arange(0, ROWS)
        inside = (rows < last)[:, None] & (column < C)[None, :]
        values = tl.load(x + rows.to(tl.int64)[:, None] * C + column[None, :], mask=inside, other=0.0).to(like)
        count = tl.minimum(last - start, ROWS).to(like)
        before = (start - first).to(like)
        own = tl.sum(values, 0) / count
        apart = tl.where(inside, values - own[None, :], 0.0)
        change = own - mean
        mean += change * (count / (before + count))
        square += tl.sum(apart * apart, 0) + change * change * (before * count / (before + count))
    at = part * C + column
    tl.store(means + at, mean, mask=column < C)
    tl.store(squares + at, square, mask=column < C)


@triton.jit
def combined(means, squares, column, R, C, size, parts, PARTS: tl.constexpr):
    """Mean of all rows and sum of squared differences from it."""
    part = tl.arange(0, PARTS)
    inside = (part < parts)[:, None] & (column < C)[None, :]
    at = part[:, None] * C + column[None, :]
    mean = tl.load(means + at, mask=inside, other=0.0)
    square = tl.load(squares + at, mask=inside, other=0.0)
    count = tl.where(part < parts, tl.minimum(R - part * size, size), 0).to(mean.dtype)[:, None]
    whole = tl.sum(mean * count, 0) / R
    apart = mean - whole[None, :]
    return whole, tl.sum(square + apart * apart * count, 0)


@triton.jit
def normalize_kernel(
    x,
    means,
    squares,
    weight,
    bias,
    out,
    place,
    mean,
    inverse,
    running_mean,
    running_variance,
    counter,
    M,
    C,
    size,
    blocks,
    parts,
    MOMENTUM: tl.constexpr,
    EPS: tl.constexpr,
    K: tl.constexpr,
    SLOTS: tl.constexpr,
    PARTS: tl.constexpr,
    GROUPS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Normalized rows, negative ones 0; of K rows the largest and which it was. With the first rows, the statistics."""
    like = means.dtype.element_ty
    tile = tl.program_id(0) // blocks
    column = tl.program_id(0) % blocks * COLUMNS + tl.arange(0, COLUMNS)
    known = column < C
    R = M * K
    whole, square = combined(means, squares, column, R, C, size, parts, PARTS)
    spread = 1.0 / tl.sqrt(square / R + EPS)
    if tile == 0:
        tl.store(mean + column, whole, mask=known)
        tl.store(inverse + column, spread, mask=known)
        kept = tl.load(running_mean + column, mask=known, other=0.0)
        tl.store(running_mean + column, kept + (whole - kept) * MOMENTUM, mask=known)
        kept = tl.load(running_variance + column, mask=known, other=0.0)
        tl.store(running_variance + column, kept + (square / (R - 1) - kept) * MOMENTUM, mask=known)
        if tl.program_id(0) == 0:
            tl.store(counter, tl.load(counter) + 1)
    factor = tl.load(weight + column, mask=known, other=0.0).to(like)
    shift = tl.load(bias + column, mask=known, other=0.0).to(like)
    group, slot = tile * GROUPS + tl.arange(0, GROUPS), tl.arange(0, SLOTS)
    row = group.to(tl.int64)[:, None, None] * K + slot[None, :, None]
    inside = (group < M)[:, None, None] & (slot < K)[None, :, None] & known[None, None, :]
    at = row * C + column[None, None, :]
    values = tl.load(x + at, mask=inside, other=0.0).to(like)
    values = (values - whole[None, None, :]) * (spread * factor)[None, None, :] + shift[None, None, :]
    # Not a maximum with 0, which would hide what is not a number.
    values = tl.where(values < 0, 0.0, values)
    if K == 1:
        tl.store(out + at, values.to(out.dtype.element_ty), mask=inside)
    else:
        values = tl.where((slot < K)[None, :, None], values, -1.0)
        to = group.to(tl.int64)[:, None] * C + column[None, :]
        of_group = (group < M)[:, None] & known[None, :]
        tl.store(out + to, tl.max(values, 1).to(out.dtype.element_ty), mask=of_group)
        tl.store(place + to, tl.argmax(values, 1).to(tl.int32), mask=of_group)


@triton.jit
def pulls_kernel(
    grad,
    x,
    out,
    place,
    mean,
    inverse,
    sums,
    products,
    M,
    C,
    size,
    blocks,
    K: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Sums over a range of the gradients that pass the ReLU, and of them times the normalized values."""
    like = sums.dtype.element_ty
    part = tl.program_id(0) // blocks
    column = tl.program_id(0) % blocks * COLUMNS + tl.arange(0, COLUMNS)
    known = column < C
    first = part * size
    last = tl.minimum(first + size, M)
    whole = tl.load(mean + column, mask=known, other=0.0)[None, :]
    spread = tl.load(inverse + column, mask=known, other=0.0)[None, :]
    total, product = tl.zeros([COLUMNS], like), tl.zeros([COLUMNS], like)
    for start in range(first, last, ROWS):
        rows = (start + tl.arange(0, ROWS)).to(tl.int64)[:, None]
        inside = (rows < last) & known[None, :]
        at = rows * C + column[None, :]
        pull = tl.load(grad + at, mask=inside, other=0.0).to(like)
        pull = tl.where(tl.load(out + at, mask=inside, other=0.0) > 0, pull, 0.0)
        source = rows
        if K > 1:
            source = rows * K + tl.load(place + at, mask=inside, other=0)
        values = tl.load(x + source * C + column[None, :], mask=inside, other=0.0).to(like)
        total += tl.sum(pull, 0)
        product += tl.sum(pull * ((values - whole) * spread), 0)
    tl.store(sums + part * C + column, total, mask=known)
    tl.store(products + part * C + column, product, mask=known)


@triton.jit
def gradient_kernel(
    grad,
    x,
    out,
    place,
    mean,
    inverse,
    weight,
    sums,
    products,
    grad_x,
    grad_weight,
    grad_bias,
    M,
    C,
    blocks,
    parts,
    K: tl.constexpr,
    SLOTS: tl.constexpr,
    PARTS: tl.constexpr,
    GROUPS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Gradients to the rows and, with the first of them, to what scales and shifts."""
    like = sums.dtype.element_ty
    tile = tl.program_id(0) // blocks
    column = tl.program_id(0) % blocks * COLUMNS + tl.arange(0, COLUMNS)
    known = column < C
    R = M * K
    part = tl.arange(0, PARTS)
    there = (part < parts)[:, None] & known[None, :]
    total = tl.sum(tl.load(sums + part[:, None] * C + column[None, :], mask=there, other=0.0), 0)
    product = tl.sum(tl.load(products + part[:, None] * C + column[None, :], mask=there, other=0.0), 0)
    if tile == 0:
        tl.store(grad_weight + column, product.to(grad_weight.dtype.element_ty), mask=known)
        tl.store(grad_bias + column, total.to(grad_bias.dtype.element_ty), mask=known)
    whole = tl.load(mean + column, mask=known, other=0.0)
    spread = tl.load(inverse + column, mask=known, other=0.0)
    factor = tl.load(weight + column, mask=known, other=0.0).to(like) * spread
    group, slot = tile * GROUPS + tl.arange(0, GROUPS), tl.arange(0, SLOTS)
    to = group.to(tl.int64)[:, None] * C + column[None, :]
    of_group = (group < M)[:, None] & known[None, :]
    pull = tl.load(grad + to, mask=of_group, other=0.0).to(like)
    pull = tl.where(tl.load(out + to, mask=of_group, other=0.0) > 0, pull, 0.0)[:, None, :]
    inside = of_group[:, None, :] & (slot < K)[None, :, None]
    if K > 1:
        chosen = tl.load(place + to, mask=of_group, other=0)[:, None, :]
        pull = tl.where(chosen == slot[None, :, None], pull, 0.0)
    row = group.to(tl.int64)[:, None, None] * K + slot[None, :, None]
    at = row * C + column[None, None, :]
    values = tl.load(x + at, mask=inside, other=0.0).to(like)
    values = (values - whole[None, None, :]) * spread[None, None, :]
    pull = pull - (total / R)[None, None, :] - values * (product / R)[None, None, :]
    tl.store(grad_x + at, (pull * factor[None, None, :]).to(grad_x.dtype.element_ty), mask=inside)
