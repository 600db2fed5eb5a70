"""Searches by torch-cluster."""

from typing import cast

import torch
from torch import Tensor

from pcsa.neighbors.backends.compiled import Compiled, ratios_of
from pcsa.neighbors.backends.contract import Task


class TorchCluster(Compiled):
    """torch-cluster's ``fps`` and ``knn``."""

    name = "torch_cluster"
    install = "`pip install pcsa[cluster]`"

    def wins(self, task: Task, pos: Tensor, largest: int) -> bool:
        return super().wins(task, pos, largest) and torch.ops.torch_cluster.cuda_version() != -1

    def fps(self, pos: Tensor, ptr: Tensor, counts: Tensor) -> Tensor:
        ratio = ratios_of(counts, ptr).float().to(pos.device)
        return cast(Tensor, self.load().fps(pos, ratio=ratio, random_start=False, ptr=ptr.to(pos.device)))

    def knn(self, pos: Tensor, ptr: Tensor, query: Tensor, query_ptr: Tensor, k: int) -> Tensor:
        clouds = torch.arange(len(ptr) - 1, device=pos.device)
        batch, query_batch = (
            clouds.repeat_interleave(p.diff(), output_size=len(x)) for p, x in ((ptr, pos), (query_ptr, query))
        )
        return cast(Tensor, self.load().knn(pos, query, k, batch, query_batch, batch_size=len(clouds))[1])
