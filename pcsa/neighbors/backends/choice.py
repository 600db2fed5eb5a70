"""Which backend searches: the one that was asked for, or the fastest there is."""

from typing import get_args

from torch import Tensor

from pcsa._core.checks import check_one_of
from pcsa._core.transforms import transformed
from pcsa.neighbors.backends.contract import Backend, Searcher, Task
from pcsa.neighbors.backends.pyg_lib import PygLib
from pcsa.neighbors.backends.scipy import Scipy
from pcsa.neighbors.backends.torch import Torch
from pcsa.neighbors.backends.torch_cluster import TorchCluster
from pcsa.neighbors.backends.triton import Triton

# In the order in which they are asked whether they win; the last always does.
_ORDER = (Triton(), PygLib(), TorchCluster(), Scipy(), Torch())
BACKENDS: dict[str, Searcher] = {searcher.name: searcher for searcher in _ORDER}


def choose(backend: str | None, task: Task, pos: Tensor, largest: int = 0) -> Searcher:
    """Return a backend for clouds of at most ``largest`` points; raise if the one asked for cannot search here."""
    if backend is None and transformed():
        return BACKENDS["torch"]  # the others read memory that a tensor under torch.func does not have
    if backend is None:
        return next(searcher for searcher in BACKENDS.values() if searcher.wins(task, pos, largest))
    check_one_of("backend", backend, get_args(Backend))
    searcher = BACKENDS[backend]
    if not searcher.importable():
        raise ValueError(f"`backend` (={backend!r}) cannot be imported; install it: {searcher.install}")
    obstacle = searcher.obstacle(pos.device)
    if obstacle is not None:
        raise ValueError(f"`backend` (={backend!r}) does not search on {pos.device}: {obstacle}")
    return searcher
