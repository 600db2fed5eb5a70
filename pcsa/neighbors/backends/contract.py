"""What a backend is: two searches, and when it is the one to choose."""

import importlib
from abc import ABC, abstractmethod
from functools import cache
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from pcsa.neighbors.ragged import Ragged

Backend = Literal["torch", "triton", "scipy", "torch_cluster", "pyg_lib"]
Task = Literal["farthest", "nearest"]


class Start(NamedTuple):
    """What farthest point sampling is to do in one cloud."""

    first: int  # row of `pos` at which the cloud begins
    size: int  # points of the cloud, at least 1
    wanted: int  # points to choose, from 1 to size
    start: int  # number within the cloud of the point to choose first


class Searcher(ABC):
    """A backend. Searches get positions in float32 or float64, without gradient."""

    name: str
    #: How to install the library it needs.
    install = ""

    def load(self) -> Any:
        """Import and return the library that searches."""
        return importlib.import_module(self.name)

    @cache  # noqa: B019  # there is one of each backend
    def importable(self) -> bool:
        """Whether :meth:`load` succeeds; tried once."""
        try:
            self.load()
        # A library built for another torch fails in any of these ways.
        except (ImportError, OSError, RuntimeError):
            return False
        return True

    def obstacle(self, device: torch.device) -> str | None:
        """Say why it cannot search on ``device``; None where it can."""
        return None

    @abstractmethod
    def wins(self, task: Task, pos: Tensor, largest: int) -> bool:
        """Whether to choose this backend, asked for none, for clouds of at most ``largest`` points."""

    @abstractmethod
    def farthest(self, pos: Tensor, clouds: list[Start]) -> Tensor:
        """Rows of the points chosen, cloud by cloud; duplicates of chosen points may repeat any row of the cloud."""

    @abstractmethod
    def nearest(self, points: Ragged, queries: Ragged, k: int, radius: float | None) -> Tensor:
        """Rows of the k nearest points of each query ``[M, k]``, nearest first.

        No cloud that has queries has fewer than k points. With a ``radius`` slots of points beyond it may be -1,
        but never the first.
        """

    def distinct_farthest(self, pos: Tensor, clouds: list[Start]) -> Tensor:
        """Rows of the points chosen, cloud by cloud, none of them twice: duplicates come last, in order."""
        index = self.farthest(pos, clouds)
        # On a GPU the sorts below are cheap, and asking whether they are needed would cost a sync.
        if not index.is_cuda and int(torch.bincount(index).max()) == 1:
            return index
        M = len(index)
        first_place = torch.arange(M, M + len(pos), device=index.device)
        first_place.scatter_reduce_(0, index, torch.arange(M, device=index.device), "amin")
        # Rows not chosen count from M on.
        return torch.cat(
            [first + first_place[first : first + size].argsort()[:count] for first, size, count, _ in clouds]
        )

    def complete(
        self, points: Ragged, queries: Ragged, k: int, radius: float | None, weights: bool
    ) -> tuple[Tensor, Tensor, Tensor] | None:
        """All parts of :class:`pcsa.neighbors.Neighbors` at once, without gradient; None from most backends.

        With ``weights``, those of an interpolation in place of the squared distances.
        """
        return None

    def padded_nearest(self, points: Ragged, queries: Ragged, k: int, radius: float | None) -> Tensor:
        """What :meth:`nearest` finds, in clouds of any size: slots beyond the last point of a cloud are -1."""
        asked = [b for b, m in enumerate(queries.sizes) if m]
        if all(points.sizes[b] >= k for b in asked):
            return self.nearest(points, queries, k, radius)
        index = torch.full((len(queries.pos), k), -1, device=points.pos.device)
        for b in asked:
            size, m = points.sizes[b], queries.sizes[b]
            cloud, around = Ragged(points.cloud(b), [0, size]), Ragged(queries.cloud(b), [0, m])
            found = self.nearest(cloud, around, min(k, size), radius)
            found = torch.where(found >= 0, found + points.bounds[b], -1)
            index[queries.bounds[b] : queries.bounds[b + 1], : found.shape[1]] = found
        return index
