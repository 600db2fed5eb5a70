# mypy: ignore-errors
"""Nearest points: one program goes once through the points of a cloud, for a few of its queries."""

import triton
import triton.language as tl

# No point of a cloud has so high a number.
_NONE = tl.constexpr(2**31 - 1)


@triton.jit(do_not_specialize=["clouds", "steps", "k"])
def nearest(
    pos,
    query,
    bounds,
    out,
    out_value,
    out_valid,
    radius,
    clouds,
    steps,
    k,
    D: tl.constexpr,
    QUERIES: tl.constexpr,
    POINTS: tl.constexpr,
    KEPT: tl.constexpr,
    WEIGHTS: tl.constexpr,
    TINY: tl.constexpr,
):
    """Write rows of ``pos`` to ``out [M, k]``, nearest first, equal distances by row, and which are within the radius.

    With each goes its squared distance or, with WEIGHTS, its weight in an interpolation. Slots beyond the radius or
    the cloud repeat the first; their weight is zero. In float64 the radius must be infinite. TINY is the least
    squared distance of which there is a weight.

    ``bounds`` holds the bounds of the clouds of points, then those of queries. KEPT is at least k, ``steps`` the
    number of bits of ``clouds``.
    """
    # Tile i of cloud b is program `begin // QUERIES + b + i`, so that few are spare however sizes differ: the last
    # cloud that begins by this program is searched for.
    queries = bounds + clouds + 1
    cloud = tl.program_id(0) * 0
    high = cloud + clouds - 1
    for _ in range(steps):
        middle = (cloud + high + 1) // 2
        begun = tl.load(queries + middle) // QUERIES + middle <= tl.program_id(0)
        cloud = tl.where(begun, middle, cloud)
        high = tl.where(begun, high, middle - 1)
    first = tl.load(bounds + cloud)
    begin = tl.load(queries + cloud)
    tile = tl.program_id(0) - cloud - begin // QUERIES
    row = begin + tile * QUERIES + tl.arange(0, QUERIES)
    asked = row < tl.load(queries + cloud + 1)
    # A spare program has nothing to look at.
    size = (tl.load(bounds + cloud + 1) - first).to(tl.int32) * tl.max(asked.to(tl.int32), 0)
    axes = ()
    for d in tl.static_range(D):
        axes = axes + (tl.load(query + row * D + d, mask=asked, other=0.0),)  # noqa: RUF005

    # Numbers of at least 0 are ordered as their bits are, and integers are compared across a warp in one instruction.
    integer: tl.constexpr = tl.int32 if pos.dtype.element_ty == tl.float32 else tl.int64
    beyond: tl.constexpr = 2**31 - 1 if pos.dtype.element_ty == tl.float32 else 2**63 - 1
    slot = tl.arange(0, KEPT)[None, :]
    # Slots from k on hold less than any distance, so they are never the worst.
    kept = tl.zeros([QUERIES, KEPT], integer) + tl.where(slot < k, beyond, -1)
    kept_point = tl.zeros([QUERIES, KEPT], tl.int32) + _NONE - slot
    worst = tl.max(kept, 1)
    for start in range(0, size, POINTS):
        point = start + tl.arange(0, POINTS)
        total = tl.zeros([QUERIES, POINTS], pos.dtype.element_ty)
        for d in tl.static_range(D):
            # Differences keep the digits of clouds far from the origin.
            there = tl.load(pos + (first + point) * D + d, mask=point < size, other=0.0)
            difference = axes[d][:, None] - there[None, :]
            total = tl.fma(difference, difference, total)
        # A card's NaN has all bits set, and would be taken for a point that is not there.
        bits = tl.minimum(total.to(integer, bitcast=True), beyond - 1)
        distance = tl.where((point < size)[None, :], bits, beyond)
        best = tl.min(distance, 1)
        while tl.max((best < worst).to(tl.int32), 0) > 0:
            best_point = tl.min(tl.where(distance == best[:, None], point[None, :], _NONE), 1)
            # Points come by row: of equally bad ones the last is given up, and an equal one is no better.
            worst_point = tl.max(tl.where(kept == worst[:, None], kept_point, -1), 1)
            replaced = (best < worst)[:, None] & (kept == worst[:, None]) & (kept_point == worst_point[:, None])
            kept = tl.where(replaced, best[:, None], kept)
            kept_point = tl.where(replaced, best_point[:, None], kept_point)
            distance = tl.where(point[None, :] == best_point[:, None], beyond, distance)
            best = tl.min(distance, 1)
            worst = tl.max(kept, 1)

    kept = tl.where(slot < k, kept, beyond)
    nearest = tl.min(kept, 1)
    nearest_point = tl.min(tl.where(kept == nearest[:, None], kept_point, _NONE), 1)
    value = kept.to(pos.dtype.element_ty, bitcast=True)
    if WEIGHTS:
        # Relative to the nearest, as 1 / d² may overflow; at distance zero points share what there is.
        first_value = tl.maximum(nearest.to(pos.dtype.element_ty, bitcast=True), TINY)
        value = first_value[:, None] / tl.where(kept == beyond, 1.0, tl.maximum(value, TINY))
        value = tl.where(kept == beyond, 0.0, value)
        value = value / tl.sum(value, 1)[:, None]
    for place in range(k):
        best = tl.min(kept, 1)
        best_point = tl.min(tl.where(kept == best[:, None], kept_point, _NONE), 1)
        valid = best != beyond
        if pos.dtype.element_ty == tl.float32:
            # Roots are compared, rounded as IEEE asks: sqrt(r · r) is r, so a point at the radius is in.
            away = tl.sqrt_rn(best.to(tl.float32, bitcast=True))
            valid = valid & ((away <= radius) | (radius == float("inf")))
        written = tl.where(valid, best_point, nearest_point)
        if WEIGHTS:
            best_value = tl.sum(tl.where(kept_point == best_point[:, None], value, 0.0), 1)
            best_value = tl.where(best != beyond, best_value, 0.0)
        else:
            best_value = tl.where(valid, best, nearest).to(pos.dtype.element_ty, bitcast=True)
        tl.store(out + row * k + place, first + written, mask=asked)
        tl.store(out_value + row * k + place, best_value, mask=asked)
        tl.store(out_valid + row * k + place, valid, mask=asked)
        kept = tl.where(kept_point == best_point[:, None], beyond, kept)
