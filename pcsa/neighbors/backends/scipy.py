"""Nearest neighbors by SciPy's k-d tree, on a CPU."""

import importlib
import math
from typing import Any

import torch
from torch import Tensor

from pcsa.neighbors.backends.contract import Task
from pcsa.neighbors.backends.torch import Torch
from pcsa.neighbors.ragged import Ragged

# The tree wins from about this many points on, and loses to brute force where there are more axes (measured on one
# thread).
_MIN_POINTS, _MAX_DIM = 128, 8


class Scipy(Torch):
    """A k-d tree of each cloud; farthest points as PyTorch finds them."""

    name = "scipy"
    install = "`pip install scipy`"

    def load(self) -> Any:
        return importlib.import_module("scipy.spatial")

    def obstacle(self, device: torch.device) -> str | None:
        return None if device.type == "cpu" else "it needs `pos` on the CPU"

    def wins(self, task: Task, pos: Tensor, largest: int) -> bool:
        on_cpu = task == "nearest" and pos.device.type == "cpu"
        return on_cpu and largest >= _MIN_POINTS and pos.shape[1] <= _MAX_DIM and self.importable()

    def nearest(self, points: Ragged, queries: Ragged, k: int, radius: float | None) -> Tensor:
        cKDTree = self.load().cKDTree
        # The tree's bound excludes and is float64: a little farther, so that the caller's rule alone decides.
        bound = math.inf if radius is None else radius * (1 + 1e-5)
        out = torch.empty(len(queries.pos), k, dtype=torch.long)
        for b, m in enumerate(queries.sizes):
            if m == 0:
                continue
            cloud, around = points.cloud(b).numpy(), queries.cloud(b).numpy()
            tree = cKDTree(cloud, balanced_tree=False)
            found = torch.from_numpy(tree.query(around, k=k, distance_upper_bound=bound)[1]).view(m, k)
            missing = found == len(cloud)
            found = torch.where(missing, -1, found + points.bounds[b])
            if radius is not None and bool(missing[:, 0].any()):
                alone = missing[:, 0]
                found[alone, 0] = torch.from_numpy(tree.query(around[alone.numpy()])[1]) + points.bounds[b]
            out[queries.bounds[b] : queries.bounds[b + 1]] = found
        return out
