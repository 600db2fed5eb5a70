"""Neighbor searches done once for each cloud and kept with the dataset: a training step then searches for nothing.

What is kept is what :func:`pcsa.models.build_geometry` and :func:`pcsa.knn_bandwidth` find. It stays right for a cloud
that is turned, mirrored or shifted, and for one that is scaled as a whole if the radii are scaled with it; not where
points are jittered, dropped, drawn anew or scaled axis by axis (:attr:`pcsa.datasets.transforms.Augment.deforming`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor
from torch_geometric.data import Data

from pcsa._core.progress import progress
from pcsa.bandwidth import knn_bandwidth
from pcsa.datasets.keypointnet import KeypointData, KeypointNet
from pcsa.models.pointnet2 import Level, LevelGeometry, build_geometry

_VERSION = 2  # 2: bandwidths take copies of a point as one
# Clouds searched together: enough to share the steps of farthest point sampling, few enough for the cache.
_CHUNK = 8
_FIELDS = ("centers", "neighbors", "inside", "coarse", "weight")


class HierarchyData(KeypointData):
    """A cloud with its ``bandwidth [N]`` and, for each level l, where its points are and what they see.

    As in :class:`pcsa.models.LevelGeometry`: ``level{l}_centers [M]`` (its ``index``) and ``level{l}_neighbors [M, k]``
    are rows of the level below, ``level{l}_coarse [N, 3]`` rows of this level, all int32 and counted from the cloud's
    first; ``level{l}_inside [M, k, scales]``, ``level{l}_weight [N, 3]``, and ``level{l}_size [1]``, the number M. For
    local blocks, ``level0_around [N, local_neighbors]`` are rows of the cloud. In a batch, rows count from the batch's
    first.
    """

    def __inc__(self, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        level, _, field = key.partition("_")
        if not level.startswith("level"):
            return super().__inc__(key, value, *args, **kwargs)
        number = int(level.removeprefix("level"))
        if field == "coarse":
            return self[f"level{number}_size"]
        if field in ("centers", "neighbors", "around"):
            return self[f"level{number - 1}_size"] if number else self.num_nodes
        return 0


class Hierarchies:
    """The neighbor structure of each cloud of a dataset; ``table`` is what :func:`search` returns."""

    def __init__(self, table: dict[str, npt.NDArray[Any]]) -> None:
        self._table = {key: torch.from_numpy(value) for key, value in table.items()}
        self._ptr: dict[str, list[int]] = {k: v.tolist() for k, v in table.items() if k.endswith("ptr")}

    def attach(self, data: Data, index: int) -> HierarchyData:
        """Return a copy of cloud `index` that carries its neighbors; see :class:`HierarchyData`."""

        def of_cloud(key: str, ptr: str) -> Tensor:
            return self._table[key][self._ptr[ptr][index] : self._ptr[ptr][index + 1]]

        out = HierarchyData.from_dict(data.to_dict())
        out.bandwidth = of_cloud("bandwidth", "ptr")
        if data.num_nodes != len(out.bandwidth):
            raise ValueError(f"`data` has {data.num_nodes} points, cloud {index} has {len(out.bandwidth)}")
        below = "ptr"
        for number in range(len(self._ptr) - 1):
            here = f"level{number}_ptr"
            for field in _FIELDS:
                key = f"level{number}_{field}"
                out[key] = of_cloud(key, below if field in ("coarse", "weight") else here)
            if number == 0 and "level0_around" in self._table:
                out.level0_around = of_cloud("level0_around", below)
            out[f"level{number}_size"] = torch.tensor([len(out[f"level{number}_centers"])])
            below = here
        return out


def open_hierarchies(
    dataset: KeypointNet, normalize: Callable[[Data], Data], levels: Sequence[Level], local_neighbors: int = 0
) -> Hierarchies:
    """Search in every cloud of a dataset, once normalized, or read what an earlier call found.

    The file lies beside the processed category and is named by a hash of positions and levels: other clouds or
    levels get a file of their own.

    Args:
        dataset: Its clouds, in its order.
        normalize: Applied to each cloud first.
        levels: Levels of the network that will use the result, in the units of the normalized clouds.
        local_neighbors: Nearest points that its local blocks look at; 0 without such blocks.

    """
    clouds = [normalize(dataset[i]).pos for i in range(len(dataset))]
    searched = [(level.num_samples, level.radii, level.num_neighbors) for level in levels]
    digest = hashlib.sha256(repr((_VERSION, searched, [cloud.shape for cloud in clouds])).encode())
    if local_neighbors:
        digest.update(repr(local_neighbors).encode())
    for cloud in clouds:
        digest.update(cloud.numpy().tobytes())
    name = f"{dataset.category}-neighbors-{digest.hexdigest()[:16]}"
    return Hierarchies(dataset.cached(name, lambda: search(clouds, levels, local_neighbors)))


def search(clouds: Sequence[Tensor], levels: Sequence[Level], local_neighbors: int = 0) -> dict[str, npt.NDArray[Any]]:
    """Search in every cloud ``[N, 3]``.

    Returns:
        The arrays of :class:`HierarchyData`, cloud after cloud, and where each cloud begins in them: ``ptr`` for
        points, ``level{l}_ptr`` for what a level keeps.

    """
    parts: dict[str, list[Tensor]] = {}
    for begin in progress(range(0, len(clouds), _CHUNK), "searching neighbors"):
        chunk = clouds[begin : begin + _CHUNK]
        pos = torch.cat(list(chunk))
        below = torch.tensor([0, *(len(cloud) for cloud in chunk)]).cumsum(0)
        found = {"ptr": below.diff(), "bandwidth": knn_bandwidth(pos, ptr=below)}
        for number, level in enumerate(build_geometry(pos, below, levels, local_neighbors)):
            here = level.ptr
            found |= {
                f"level{number}_ptr": here.diff(),
                f"level{number}_centers": _local(level.index, here, below),
                f"level{number}_neighbors": _local(level.neighbors, here, below),
                f"level{number}_inside": level.inside,
                f"level{number}_coarse": _local(level.coarse, below, here),
                f"level{number}_weight": level.weight,
            }
            if local_neighbors and number == 0:
                found["level0_around"] = _local(level.around, below, below)
            below = here
        for key, value in found.items():
            parts.setdefault(key, []).append(value)
    table = {key: torch.cat(values) for key, values in parts.items()}
    return {
        key: (torch.cat([value.new_zeros(1), value.cumsum(0)]) if key.endswith("ptr") else value).numpy()
        for key, value in table.items()
    }


def _local(rows: Tensor, ptr: Tensor, first: Tensor) -> Tensor:
    """Turn rows of a batch into rows of a cloud: subtract ``first[b]`` from the entries from ``ptr[b]`` on."""
    start = first[:-1].repeat_interleave(ptr.diff())
    return (rows - start.view(-1, *[1] * (rows.dim() - 1))).int()


def geometry_of(batch: Data) -> list[LevelGeometry] | None:
    """What a :class:`pcsa.models.PointNet2` takes as ``geometry``; None for a batch without.

    Reads nothing back from an accelerator.
    """
    geometry: list[LevelGeometry] = []
    while f"level{len(geometry)}_size" in batch:
        part = {field: batch[f"level{len(geometry)}_{field}"] for field in ("size", *_FIELDS)}
        size = part["size"]
        ptr = torch.cat([size.new_zeros(1), size.cumsum(0)])
        geometry.append(
            LevelGeometry(
                part["centers"].long(),
                ptr,
                part["neighbors"].long(),
                part["inside"],
                part["coarse"].long(),
                part["weight"],
                batch.level0_around.long() if not geometry and "level0_around" in batch else part["coarse"][:, :0],
            )
        )
    return geometry or None
