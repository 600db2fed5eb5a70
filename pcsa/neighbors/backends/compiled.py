"""What the compiled libraries share: their CUDA kernels have the same origin and the same limits."""

from abc import abstractmethod

import torch
from torch import Tensor

from pcsa.neighbors.backends.contract import Searcher, Start, Task
from pcsa.neighbors.ragged import Ragged, on_device


class Compiled(Searcher):
    """A library with ``fps`` and ``knn``. On CUDA these find at most 100 neighbors."""

    def wins(self, task: Task, pos: Tensor, largest: int) -> bool:
        # One launch in place of about ten for every point chosen.
        return task == "farthest" and pos.is_cuda and self.importable()

    @abstractmethod
    def fps(self, pos: Tensor, ptr: Tensor, counts: Tensor) -> Tensor:
        """Rows of ``counts`` points of each cloud, from its first on; ``ptr`` and ``counts`` are on the CPU."""

    @abstractmethod
    def knn(self, pos: Tensor, ptr: Tensor, query: Tensor, query_ptr: Tensor, k: int) -> Tensor:
        """Rows of the k nearest points, query by query ``[M * k]``."""

    def farthest(self, pos: Tensor, clouds: list[Start]) -> Tensor:
        # Both libraries start at the first row of a cloud or at a random one that no generator controls: so the
        # start is brought to the front.
        firsts, sizes, counts, starts = (torch.tensor(column) for column in zip(*clouds, strict=True))
        ptr = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
        cloud = torch.repeat_interleave(torch.arange(len(clouds)), sizes)
        local, start = torch.arange(int(ptr[-1])) - ptr[cloud], starts[cloud]
        source = firsts[cloud] + torch.where(local == 0, start, torch.where(local <= start, local - 1, local))
        source = source.to(pos.device)
        (points,) = unit_scale(pos[source])
        return source[self.fps(points, ptr, counts)]

    def nearest(self, points: Ragged, queries: Ragged, k: int, radius: float | None) -> Tensor:
        if points.pos.is_cuda and k > 100:
            raise ValueError(f"`backend` (={self.name!r}) finds at most 100 neighbors on CUDA, not {k}; use 'torch'")
        pos, query = unit_scale(points.pos, queries.pos)
        ptr, query_ptr = (on_device(batch.bounds, pos.device) for batch in (points, queries))
        return self.knn(pos, ptr, query, query_ptr, k).view(len(query), k)


def ratios_of(counts: Tensor, ptr: Tensor) -> Tensor:
    """Ratios of which the libraries make these counts: both take ceil(float32(size) × ratio) points."""
    return (counts - 0.5) / ptr.diff()


def unit_scale(*tensors: Tensor) -> list[Tensor]:
    """Scale by a power of two, which is exact, into [-1, 1].

    The CUDA kernels of torch-cluster and pyg-lib start from a "largest distance" of 5e4 to 1e10, so they are
    wrong on coordinates in, say, millimeters.
    """
    extent = torch.stack([tensor.abs().amax() for tensor in tensors if tensor.numel()]).amax()
    exponent = torch.frexp(extent).exponent
    return [torch.ldexp(tensor, -exponent).contiguous() for tensor in tensors]
