"""Searches by pyg-lib."""

import importlib
from typing import Any, cast

import torch
from torch import Tensor

from pcsa.neighbors.backends.compiled import Compiled, ratios_of


class PygLib(Compiled):
    """pyg-lib's ``fps`` and ``knn``."""

    name = "pyg_lib"
    install = "pyg-lib >= 0.6, see https://github.com/pyg-team/pyg-lib"

    def load(self) -> Any:
        ops = importlib.import_module("pyg_lib").ops
        if not hasattr(ops, "fps"):
            raise ImportError("pyg-lib has no `fps` before 0.6")
        return ops

    def fps(self, pos: Tensor, ptr: Tensor, counts: Tensor) -> Tensor:
        fps, sizes, ratios = self.load().fps, ptr.diff().tolist(), ratios_of(counts, ptr).tolist()
        if len(set(zip(sizes, counts.tolist(), strict=True))) == 1:
            return cast(Tensor, fps(pos, ptr.to(pos.device), ratios[0], False))
        # It knows no ratio of each cloud's own.
        return torch.cat(
            [
                begin + fps(part, torch.tensor([0, len(part)], device=pos.device), ratio, False)
                for begin, part, ratio in zip(ptr.tolist(), pos.split(sizes), ratios, strict=False)
            ]
        )

    def knn(self, pos: Tensor, ptr: Tensor, query: Tensor, query_ptr: Tensor, k: int) -> Tensor:
        return cast(Tensor, self.load().knn(pos, query, k, ptr, query_ptr)[1])
