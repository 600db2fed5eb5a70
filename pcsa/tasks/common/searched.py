"""The neighbor searches of a network on one cloud, as operations of tensors that a graph can hold.

They find what :func:`pcsa.models.build_geometry` and :func:`pcsa.knn_bandwidth` find. Every level has as many rows as
it may keep, whatever the cloud: where it has fewer points, the rest repeats the first, which no maximum notices and no
search finds. Memory grows with the square of the points.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pcsa.models import Level, LevelGeometry


def search_all(
    pos: Tensor, levels: Sequence[Level], local_neighbors: int = 0, num_places: int = 3
) -> tuple[list[LevelGeometry], Tensor]:
    """Geometry and bandwidths ``[N]`` of one cloud ``[N, 3]``."""
    apart = _squared(pos, pos)
    around = _nearest(apart, local_neighbors)[0] if local_neighbors else torch.zeros_like(pos[:, :0], dtype=torch.long)
    bandwidth = _bandwidth(pos, apart, num_places)
    real = torch.ones_like(pos[:, 0], dtype=torch.bool)
    geometry: list[LevelGeometry] = []
    for place, level in enumerate(levels):
        if level.num_samples is None:
            index, kept = torch.arange(pos.shape[0]), real
        else:
            index = _farthest(pos, real, level.num_samples)
            kept = torch.arange(level.num_samples) < real.sum()
        centers = pos.index_select(0, index)
        far = _squared(centers, pos)
        neighbors, squared = _nearest(torch.where(real, far, math.inf), max(level.num_neighbors))
        inside = torch.stack([squared.sqrt() <= radius for radius in level.radii], -1)
        coarse, near = _nearest(torch.where(kept, far.t(), math.inf), 3)
        # Inverse squared distances, relative to the nearest; 0 where there is none.
        near = near.clamp(min=torch.finfo(near.dtype).tiny)
        weight = near[:, :1] / near
        weight = weight / weight.sum(1, keepdim=True)
        ptr = torch.arange(2) * index.shape[0]
        geometry.append(
            LevelGeometry(index, ptr, neighbors, inside, coarse, weight, coarse[:, :0] if place else around)
        )
        pos, real = centers, kept
    return geometry, bandwidth


def _squared(x: Tensor, y: Tensor) -> Tensor:
    """Squared distances ``[X, Y]``."""
    parts = [(a[:, None] - b).square() for a, b in zip(x.unbind(1), y.unbind(1), strict=True)]
    return parts[0] + parts[1] + parts[2]


def _nearest(squared: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Columns of the nearest ``[X, count]``, and squared distances; where there are no more, the nearest, and inf."""
    padded = torch.cat([squared, squared.new_full((1, 1), math.inf).expand(squared.shape[0], count)], 1)
    far, index = padded.topk(count, dim=1, largest=False)
    return torch.where(far < math.inf, index, index[:, :1]), far


def _farthest(pos: Tensor, real: Tensor, count: int) -> Tensor:
    """Rows of the farthest points, none of them twice; then row 0."""
    rows = torch.arange(pos.shape[0])
    nearest = torch.where(real, math.inf, -1.0)
    first = torch.zeros(1, dtype=torch.long)

    def step(carry: tuple[Tensor, Tensor], _: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
        nearest, last = carry
        nearest = torch.minimum(nearest, _squared(pos, pos.index_select(0, last))[:, 0])
        nearest = torch.where(rows == last, -1.0, nearest)
        chosen = nearest.argmax(0, keepdim=True)
        return (nearest, chosen), chosen.clone()

    if count == 1:
        return first
    return torch.cat([first, _repeated(step, (nearest, first), count - 1)])


def _repeated(step: Any, carry: tuple[Tensor, ...], times: int) -> Tensor:
    """What so many steps give, one after the other."""
    if torch.compiler.is_compiling():
        from torch._higher_order_ops.scan import scan

        found: Tensor = scan(step, carry, torch.zeros(times, 1))[1]
        return found.flatten()
    chosen = []
    for _ in range(times):
        carry, out = step(carry, None)
        chosen.append(out)
    return torch.cat(chosen)


def _bandwidth(pos: Tensor, apart: Tensor, num_places: int) -> Tensor:
    """Mean distance to the nearest other places, of which several points may be one."""
    rows = torch.arange(pos.shape[0])
    same = apart == 0
    copies = (same & (rows[:, None] < rows)).any(0)
    _, squared = _nearest(torch.where(same | copies, math.inf, apart), num_places)
    valid = squared < math.inf
    distance = torch.where(valid, squared, 0.0).sqrt()
    mean = distance.sum(1) / valid.sum(1).clamp(min=1)
    extent = (pos.amax(0) - pos.amin(0)).norm()
    return torch.maximum(mean, (1e-6 * extent).clamp(min=torch.finfo(pos.dtype).tiny))
