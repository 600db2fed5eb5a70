"""Searches by Triton's kernels: one launch for a batch, however its clouds differ."""

import importlib
import itertools
import math

import torch
from torch import Tensor

from pcsa._core.triton.launch import Launch, attempt, next_power, obstacle, usable
from pcsa.neighbors.backends.contract import Start, Task
from pcsa.neighbors.backends.torch import Torch
from pcsa.neighbors.ragged import Ragged, on_device

# Points of a block whose threads hold them in registers, words of four bytes that a thread holds, points of a tile.
_BLOCK, _WORDS, _TILE = 8192, 36, 4096
# One program works on a cloud. On larger ones PyTorch, which works on one with the whole device, should be as fast.
_LARGEST = 1 << 18
# Neighbors of a query, and bytes of its coordinates: of more a program would spill.
_MOST_NEIGHBORS, _MOST_BYTES = 1024, 128
# Kernels say themselves where a square is added to a sum with one rounding, as PyTorch does it on a CPU, so that all
# choose the same points: a compiler is free to fuse another of the products.
_OPTIONS = {"enable_fp_fusion": False, "num_stages": 1}


class Triton(Torch):
    """Kernels of this package, on CUDA."""

    name = "triton"
    install = "torch for CUDA on Linux brings it; else `pip install triton`"

    def obstacle(self, device: torch.device) -> str | None:
        return obstacle(device)

    def wins(self, task: Task, pos: Tensor, largest: int) -> bool:
        return pos.is_cuda and (task == "nearest" or largest <= _LARGEST) and usable(pos.device)

    def distinct_farthest(self, pos: Tensor, clouds: list[Start]) -> Tensor:
        largest = next_power(max(cloud.size for cloud in clouds))

        def kernel() -> Tensor:
            launch = farthest_launch(largest, pos.shape[1], pos.itemsize)
            counts = [cloud.wanted for cloud in clouds]
            places = itertools.accumulate(counts, initial=0)
            rows = ((*cloud, place) for cloud, place in zip(clouds, places, strict=False))
            table = on_device(list(itertools.chain.from_iterable(rows)), pos.device)
            out = torch.empty(sum(counts), dtype=torch.long, device=pos.device)
            scratch = [] if "nearest" not in launch.kernel.arg_names else [torch.empty_like(pos[:, 0])]
            launch.run(len(clouds), pos.contiguous(), table, *scratch, out)
            return out

        what = f"farthest points ({pos.dtype}, {pos.shape[1]} axes, up to {largest:,} points)"
        return attempt(what, kernel, lambda: Torch.distinct_farthest(self, pos, clouds))

    def padded_nearest(self, points: Ragged, queries: Ragged, k: int, radius: float | None) -> Tensor:
        # The caller looks at the radius.
        found = self.complete(points, queries, k, None, False)
        if found is None:
            return Torch.padded_nearest(self, points, queries, k, radius)
        index, _, valid = found
        return torch.where(valid, index, -1)

    def complete(
        self, points: Ragged, queries: Ragged, k: int, radius: float | None, weights: bool
    ) -> tuple[Tensor, Tensor, Tensor] | None:
        pos, query = points.pos.contiguous(), queries.pos.contiguous()
        dim, clouds = pos.shape[1], len(queries.sizes)
        # Numbers come to a kernel in float32.
        narrow = radius is not None and pos.dtype != torch.float32
        if k > _MOST_NEIGHBORS or dim * pos.itemsize > _MOST_BYTES or narrow:
            return None

        def kernel() -> tuple[Tensor, Tensor, Tensor] | None:
            launch = nearest_launch(k, dim, pos.dtype, weights)
            bounds = on_device([*points.bounds, *queries.bounds], pos.device)
            index = torch.empty(len(query), k, dtype=torch.long, device=pos.device)
            value, valid = torch.empty_like(index, dtype=pos.dtype), torch.empty_like(index, dtype=torch.bool)
            tensors = (pos, query, bounds, index, value, valid)
            programs = nearest_programs(len(query), clouds, launch)
            launch.run(programs, *tensors, math.inf if radius is None else radius, clouds, clouds.bit_length(), k)
            return index, value, valid

        what = f"nearest points ({pos.dtype}, {dim} axes, up to {next_power(k)} of them, weights={weights})"
        return attempt(what, kernel, lambda: None)


def farthest_launch(largest: int, dim: int, itemsize: int) -> Launch:
    """Compile for clouds of at most ``largest`` points: in registers where they fit, else in tiles."""
    kernels = importlib.import_module("pcsa.neighbors.backends.triton_farthest")
    block = max(next_power(largest), 128)
    for warps in (4, 8, 16, 32):
        points = block // (32 * warps)
        # A point's coordinates, and its distance to what was chosen.
        if block <= _BLOCK and points <= 8 and points * (dim + 1) * itemsize // 4 <= _WORDS:
            return Launch(kernels.farthest_in_registers, {"D": dim, "BLOCK": block}, {"num_warps": warps, **_OPTIONS})
    return Launch(kernels.farthest_in_tiles, {"D": dim, "BLOCK": min(block, _TILE)}, {"num_warps": 16, **_OPTIONS})


def nearest_launch(k: int, dim: int, dtype: torch.dtype, weights: bool = False) -> Launch:
    """Compile for the k nearest points, and their distances or weights."""
    kernels = importlib.import_module("pcsa.neighbors.backends.triton_nearest")
    kept, queries = next_power(k), 1
    # So that the points kept and the coordinates of the queries fit a warp's registers.
    while queries < 4 and 2 * queries * kept <= 512 and 2 * queries * dim * dtype.itemsize <= _MOST_BYTES:
        queries *= 2
    blocks = {"QUERIES": queries, "POINTS": 64, "KEPT": kept}
    constants = {"D": dim, **blocks, "WEIGHTS": weights, "TINY": torch.finfo(dtype).tiny}
    return Launch(kernels.nearest, constants, {"num_warps": 1, **_OPTIONS})


def nearest_programs(queries: int, clouds: int, launch: Launch) -> int:
    """Count programs: enough, as the last of each cloud may have fewer queries."""
    return queries // launch.constants["QUERIES"] + clouds
