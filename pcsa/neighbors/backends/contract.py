"""What a backend is: two searches, and when it is the one to choose."""

import importlib
from abc import ABC, abstractmethod
from functools import cache
from typing import Any, Literal, NamedTuple

from torch import Tensor

from pcsa.neighbors.ragged import Ragged

Backend = Literal["torch", "scipy", "torch_cluster", "pyg_lib"]
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
    cpu_only = False

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
