"""Searches in plain PyTorch, on any device."""

import math
from functools import partial

import numpy as np
import torch
from torch import Tensor

from pcsa._core.tiles import in_order, one_thread
from pcsa.neighbors.backends.contract import Searcher, Start, Task
from pcsa.neighbors.ragged import Ragged, on_device

# Floats in one tile of distances: on a CPU it stays in the cache (three times as fast as 2^24), on a GPU few
# launches matter.
TILE_CPU, TILE_GPU = 1 << 18, 1 << 24


class Torch(Searcher):
    """Distances in tiles, never as one N × M matrix."""

    name = "torch"

    def wins(self, task: Task, pos: Tensor, largest: int) -> bool:
        return True

    def farthest(self, pos: Tensor, clouds: list[Start]) -> Tensor:
        sizes, counts = [cloud.size for cloud in clouds], [cloud.wanted for cloud in clouds]
        # All clouds at once take as many steps as one cloud does: one by one only where most would be padding.
        if len(clouds) * max(sizes) * max(counts) > 4 * sum(n * m for n, m in zip(sizes, counts, strict=True)):
            return torch.cat([self.farthest(pos, [cloud]) for cloud in clouds])

        B, n, m = len(clouds), max(sizes), max(counts)
        first = on_device([cloud.first for cloud in clouds], pos.device)[:, None]
        local = torch.arange(n, device=pos.device)
        nearest = pos.new_full((B, n), math.inf)
        if min(sizes) < n:
            nearest.masked_fill_(local >= on_device(sizes, pos.device)[:, None], -math.inf)
        rows = (first + local).clamp(max=len(pos) - 1)
        # One contiguous block per axis, updated in place: about half the time of the usual [B, n, D].
        axes = pos[rows].permute(2, 0, 1).contiguous()
        difference = torch.empty_like(axes)
        distance, *others = difference.unbind(0)

        chosen = torch.empty(m, B, dtype=torch.long, device=pos.device)
        chosen[0] = on_device([cloud.start for cloud in clouds], pos.device)
        last = axes.new_empty(len(axes), B, 1)
        # On a CPU PyTorch's argmax of 8 × 2,048 floats takes ten times NumPy's time, half of the whole loop; and it
        # takes as long to read a few places as to compute.
        host = tuple(x.numpy() for x in (axes, nearest, chosen, last)) if pos.device.type == "cpu" else None
        every = np.arange(B)
        for step in range(1, m):
            if host is None:
                torch.gather(axes, 2, chosen[step - 1, None, :, None].expand_as(last), out=last)
            else:
                host[3][..., 0] = host[0][:, every, host[2][step - 1]]
            torch.sub(axes, last, out=difference)
            distance.square_()
            for axis in others:
                distance.addcmul_(axis, axis)
            torch.minimum(nearest, distance, out=nearest)
            if host is None:
                chosen[step] = nearest.argmax(1)
            else:
                host[1].argmax(1, out=host[2][step])
        index = (first + chosen.t()).contiguous()
        return torch.cat([row[:count] for row, count in zip(index, counts, strict=True)])

    def nearest(self, points: Ragged, queries: Ragged, k: int, radius: float | None) -> Tensor:
        pos, device = points.pos, points.pos.device
        sizes, query_sizes = points.sizes, queries.sizes
        if len(set(sizes)) > 1 or len(set(query_sizes)) > 1:
            out = torch.empty(len(queries.pos), k, dtype=torch.long, device=device)
            for b, (n, m) in enumerate(zip(sizes, query_sizes, strict=True)):
                if m:
                    found = self.nearest(Ragged(points.cloud(b), [0, n]), Ragged(queries.cloud(b), [0, m]), k, radius)
                    out[queries.bounds[b] : queries.bounds[b + 1]] = found + points.bounds[b]
            return out

        B, n, m, D = len(sizes), sizes[0], query_sizes[0], pos.shape[1]
        every = pos.view(B, n, D).permute(2, 0, 1).contiguous()
        around = queries.pos.view(B, m, D).permute(2, 0, 1).contiguous()
        tile = TILE_GPU if pos.is_cuda else TILE_CPU
        clouds = max(1, min(B, tile // n))
        rows = max(1, min(m, tile // (clouds * n)))
        out = torch.empty(B, m, k, dtype=torch.long, device=device)

        def search(b: int, row: int) -> None:
            p, q = every[:, b : b + clouds, None, :], around[:, b : b + clouds, row : row + rows, None]
            # Sums of squared differences in any dimension: |a|² − 2ab + |b|² is a matrix product, but cancels
            # the digits that tell near points apart, and in float64, where it would not, is as slow as this.
            distance = torch.sub(q[0], p[0]).square_()
            difference = torch.empty_like(distance)
            for axis in range(1, D):
                torch.sub(q[axis], p[axis], out=difference)
                distance.addcmul_(difference, difference)
            out[b : b + clouds, row : row + rows] = distance.topk(k, dim=2, largest=False).indices

        tiles = (partial(search, b, row) for b in range(0, B, clouds) for row in range(0, m, rows))
        with one_thread(device) as threads:
            for _ in in_order(tiles, threads):
                pass
        firsts = on_device(points.bounds[:-1], device)[:, None, None]
        return (out + firsts).view(-1, k)
