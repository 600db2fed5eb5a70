"""The ball of a given radius that holds the most probability, by branch and bound; and the mass of given balls."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from pcsa._core.checks import check_floating, finite, raise_first, reads_values
from pcsa._core.points import Points, cloud_max, cloud_mean, cloud_sum, first_maximum

# Lengths below are in radii of the ball.
#: The search finds the ball of this radius that holds the most, and reads off what the whole ball holds there: so what
#: it counts on lies inside with a margin, and cells end where they are finer than the difference.
SEARCH_RADIUS = 0.985
#: What lies in a ball of this radius is held whatever rounding does.
SAFE_RADIUS = 0.999
_SEARCHED = 512  # most probable points of a map that the search sees
_ROOTS = 64  # the most probable of those that the best ball can have as its most probable point
_NEAR = 128  # most probable points about a root that the search sees
_CELLS = 32  # cells kept at each level
_POLISHED = 24  # projections onto the farthest ball
_TILE = 1 << 22  # numbers in a temporary tensor


class Ball(NamedTuple):
    """Where the search ends."""

    offset: Tensor  # [..., D]: the center, in radii from the most probable point
    missed: Tensor  # [...]: no ball of SEARCH_RADIUS holds more than this above what the found ball holds


def check_centers(center: Tensor, points: Points, validate: bool) -> None:
    """Raise a ValueError unless ``center`` is a place ``[B, K, D]`` for each keypoint of each cloud."""
    check_floating("center", center)
    shape = [points.batch_size, points.logits.shape[1], points.pos.shape[1]]
    if list(center.shape) != shape:
        raise ValueError(f"`center` {list(center.shape)} must be [B, K, D], here {shape}")
    if reads_values(validate):
        raise_first([finite("center", center)])


def squared_distance(center: Tensor, points: Points, scale: Tensor | None = None) -> Tensor:
    """Squared distance of every point to its cloud's centers [B, K, D], [N, K]; over ``scale``, a bandwidth."""
    oriented = scale is not None and scale.dim() == 3
    before: list[Tensor] = []
    total = points.pos.new_zeros(points.pos.shape[0], center.shape[1])
    for d in range(points.pos.shape[1]):
        away = points.pos[:, d : d + 1] - center[..., d].index_select(0, points.batch)
        if scale is not None and oriented:
            for e, other in enumerate(before):
                away = away - scale[:, d, e, None] * other
            away = away / scale[:, d, d, None]
            before.append(away)
            total += away.square()
            continue
        if scale is not None:
            away = away / scale[:, min(d, scale.shape[1] - 1), None]
        total += away.square_()
    return total


def mass_within(prob: Tensor, center: Tensor, radius: Tensor, points: Points) -> Tensor:
    """Probability at less than ``radius`` [B] from the centers [B, K, D], [B, K]; exactly at the radius is outside."""
    return cloud_sum(prob * _is_within(center, radius, points), points)


def _is_within(center: Tensor, radius: Tensor, points: Points) -> Tensor:
    # Roots are compared: the square of a tiny radius may be 0.
    return squared_distance(center, points).sqrt_() < radius.index_select(0, points.batch)[:, None]


def heaviest_point(prob: Tensor, radius: Tensor, points: Points) -> Tensor:
    """Points [B, K, D] whose ball of ``radius`` [B] holds the most probability; of equals, the most probable.

    Waits for the device once where clouds have sizes of their own.
    """
    B, N = points.batch_size, points.pos.shape[0]
    size = points.dense_size or int(points.ptr.diff().max())
    place = points.ptr[:-1, None] + torch.arange(size, device=prob.device)
    there = place < points.ptr[1:, None]
    place = place.clamp_max(N - 1)
    pos, weight = points.pos[place], prob[place] * there[..., None]
    rows = max(1, _TILE // (B * size))
    mass = torch.cat(
        [(_squared(part, pos).sqrt_() < radius[:, None, None]).to(prob.dtype) @ weight for part in pos.split(rows, 1)],
        1,
    )
    mass = mass[points.batch, torch.arange(N, device=prob.device) - points.ptr[points.batch]]
    level = cloud_max(mass, points) - _slack(prob)
    as_much = mass >= level.index_select(0, points.batch)
    return points.pos[first_maximum(torch.where(as_much, prob, -1.0), points)]


def best_ball(prob: Tensor, radius: Tensor, points: Points) -> Tensor:
    """Centers [B, K, D] of the balls of ``radius`` [B] that hold the most probability."""
    return search_ball(prob, radius, points)[0]


def search_ball(prob: Tensor, radius: Tensor, points: Points) -> tuple[Tensor, Tensor]:
    """Do the same, and bound what the search may have missed [B, K].

    See :class:`Ball` for the latter; here it includes the points that the search did not see.
    """
    rows, p = _most_probable(prob, points, _SEARCHED)
    origin = points.pos[rows[..., 0]]
    # Far enough for any cloud, and its square is still a number.
    far = math.sqrt(torch.finfo(prob.dtype).max) / 1e3
    unit = radius[:, None, None]
    y = ((points.pos[rows] - origin.unsqueeze(2)) / unit.unsqueeze(3)).clamp(-far, far)
    maps = max(1, _TILE // (max(_ROOTS, 1) * y.shape[2]))
    parts = zip(y.flatten(0, 1).split(maps), p.flatten(0, 1).split(maps), strict=True)
    search = _search_line if y.shape[3] == 1 else _search
    found = [_polished(near, weight, search(near, weight)) for near, weight in parts]
    offset, raw, missed = (torch.cat(part).unflatten(0, p.shape[:2]) for part in zip(*found, strict=True))
    unseen = (cloud_sum(prob, points) - p.sum(2)).clamp_min(0)
    center, safe = origin + unit * offset, origin + unit * raw
    mass = mass_within(prob, safe, radius, points)
    places = [center]
    if rows.shape[2] == _SEARCHED:
        # The mean of what the search did not see, too.
        inside = prob * _is_within(center, radius, points)
        places.append(cloud_mean(inside, points.pos, points) / cloud_sum(inside, points).unsqueeze(2))
    for place in places:
        holds = mass_within(prob, place, radius, points)
        keeps = holds >= mass - _slack(prob)
        safe, mass = torch.where(keeps.unsqueeze(2), place, safe), torch.where(keeps, holds, mass)
    return safe, missed + unseen


def _slack(prob: Tensor) -> float:
    """Difference of sums of probabilities that rounding may make."""
    return 64 * torch.finfo(prob.dtype).eps


def _most_probable(prob: Tensor, points: Points, count: int) -> tuple[Tensor, Tensor]:
    """Rows [B, K, M] and probabilities of the most probable points, in falling order; 0 where a cloud has no more."""
    N, K = prob.shape
    B = points.batch_size
    if points.dense_size is not None:
        M = min(count, points.dense_size)
        dense = prob.view(B, points.dense_size, K).transpose(1, 2)
        p, place = (x[..., :M] for x in dense.sort(dim=2, descending=True, stable=True))
        return place + points.ptr[:-1, None, None], p
    M = min(count, N)
    order = prob.sort(dim=0, descending=True, stable=True).indices
    order = order.gather(0, points.batch[order].sort(dim=0, stable=True).indices)
    rank = torch.arange(M, device=prob.device)
    rows = order[(points.ptr[:-1, None] + rank).clamp_max(N - 1)].transpose(1, 2)
    there = rank < points.ptr.diff()[:, None]
    # What a cloud does not have lies on its most probable point, and weighs nothing.
    rows = torch.where(there[:, None], rows, rows[..., :1])
    return rows, prob.gather(0, rows.permute(0, 2, 1).reshape(-1, K)).view(B, M, K).transpose(1, 2) * there[:, None]


def _search(y: Tensor, p: Tensor) -> Ball:
    """Branch and bound over the cells of possible centers, for points [Q, M, D] of falling probability [Q, M].

    A root is the cube about a point: the centers of the balls whose most probable point it is, so that only points of
    lower rank count. No ball of a center in a cell holds more than the ball about the cell's own center that is larger
    by half the cell's diagonal.
    """
    Q, M, D = y.shape
    R = min(_ROOTS, M)
    rank = torch.arange(M, device=y.device)
    apart = _squared(y[:, :R], y)
    lesser = torch.where(rank >= rank[:R, None], p[:, None], 0.0)
    inside = torch.where(apart < (2 * SEARCH_RADIUS) ** 2, lesser, 0.0)
    bound = inside.sum(2)
    # What has its most probable point beyond the roots.
    open_bound = p[:, R:].sum(1)
    held = torch.where(apart < SAFE_RADIUS**2, p[:, None], 0.0).sum(2)
    best, place = held.max(1)
    center = y.gather(1, place[:, None, None].expand(-1, 1, D))[:, 0]

    C = min(_CELLS, R)
    bound, root = bound.sort(dim=1, descending=True, stable=True)
    if C < R:
        open_bound = torch.maximum(open_bound, bound[:, C])
    root = root[:, :C]
    L = min(_NEAR, M)
    inside = inside.gather(1, root[..., None].expand(-1, -1, M))
    weight, near = inside.sort(dim=2, descending=True, stable=True)
    weight, hidden = weight[..., :L], weight[..., L:].sum(2)
    about = y.gather(1, root[..., None].expand(-1, -1, D))
    local = y.gather(1, near[..., :L].flatten(1)[..., None].expand(-1, -1, D)).view(Q, C, L, D) - about[:, :, None]

    corners = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=y.dtype, device=y.device)] * D).view(-1, D)
    at, half = torch.zeros_like(about), SEARCH_RADIUS
    cell = torch.arange(C, device=y.device).expand(Q, C)  # which root's
    while SEARCH_RADIUS + math.sqrt(D) * half >= SAFE_RADIUS:
        half /= 2
        reach = SEARCH_RADIUS + math.sqrt(D) * half
        at = at[:, :, None] + half * corners
        E = len(corners)
        far = _squared(at.flatten(0, 1), local.gather(1, cell[..., None, None].expand(-1, -1, L, D)).flatten(0, 1))
        far = far.view(Q, -1, E, L)
        mass = weight.gather(1, cell[..., None].expand(-1, -1, L))[:, :, None]
        bound = torch.where(far < reach**2, mass, 0.0).sum(3) + hidden.gather(1, cell)[..., None]
        # The root is not in a ball about a center as far away.
        bound = torch.where(at.square().sum(3) < reach**2, bound, 0.0).flatten(1)
        held = torch.where(far < SAFE_RADIUS**2, mass, 0.0).sum(3).flatten(1)
        at, cell = at.flatten(1, 2), cell.repeat_interleave(E, 1)
        place = held.argmax(1, keepdim=True)
        better = held.gather(1, place)[:, 0] > best
        best = torch.where(better, held.gather(1, place)[:, 0], best)
        origin = about.gather(1, cell.gather(1, place)[..., None].expand(-1, -1, D))
        found = (origin + at.gather(1, place[..., None].expand(-1, -1, D)))[:, 0]
        center = torch.where(better[:, None], found, center)
        bound, order = bound.sort(dim=1, descending=True, stable=True)
        if bound.shape[1] > _CELLS:
            open_bound = torch.maximum(open_bound, bound[:, _CELLS])
            order = order[:, :_CELLS]
        at, cell = at.gather(1, order[..., None].expand(-1, -1, D)), cell.gather(1, order)
    return Ball(center, (torch.maximum(open_bound, bound[:, 0]) - best).clamp_min(0))


def _search_line(y: Tensor, p: Tensor) -> Ball:
    """The same on a line, at once: the best interval can be pushed until it begins at a point."""
    y, order = (x.contiguous() for x in y[..., 0].sort(dim=1))
    total = p.gather(1, order).cumsum(1)
    end = torch.searchsorted(y, y + 2 * SAFE_RADIUS, right=True) - 1
    place = (total.gather(1, end) - total + p.gather(1, order)).argmax(1, keepdim=True)
    center = (y.gather(1, place) + y.gather(1, end.gather(1, place))) / 2
    return Ball(center, torch.zeros_like(center[:, 0]))


def _squared(x: Tensor, y: Tensor) -> Tensor:
    """Squared distances [Q, X, Y] of places [Q, X, D] and [Q, Y, D]."""
    total = None
    for a, b in zip(x.unbind(2), y.unbind(2), strict=True):
        away = a[:, :, None] - b[:, None]
        total = away.square_() if total is None else total.addcmul_(away, away)
    assert total is not None
    return total


def _polished(y: Tensor, p: Tensor, found: Ball) -> tuple[Tensor, Tensor, Tensor]:
    """The mean of the points held, moved no farther than needed to hold all of them; the raw center; what is missed."""
    far = (y - found.offset[:, None]).square().sum(2)
    # What weighs less than rounding must not push.
    held = (far < SAFE_RADIUS**2) & (p > torch.finfo(p.dtype).eps * p[:, :1])
    weight = p * held
    center = (weight[..., None] * y).sum(1) / weight.sum(1, keepdim=True)
    for _ in range(_POLISHED):
        away = center[:, None] - y
        square = torch.where(held, away.square().sum(2), 0.0)
        reach, place = square.max(1, keepdim=True)
        toward = away.gather(1, place[..., None].expand_as(away[:, :1]))[:, 0]
        step = (SEARCH_RADIUS / reach.sqrt().clamp_min(SEARCH_RADIUS)) - 1
        center = center + step * toward
    reach = torch.where(held, (y - center[:, None]).square().sum(2), 0.0).amax(1, keepdim=True)
    return torch.where(reach < SAFE_RADIUS**2, center, found.offset), found.offset, found.missed
