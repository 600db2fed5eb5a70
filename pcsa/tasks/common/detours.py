"""How much longer the way along a cloud's surface is than the straight one, found once and kept with the dataset.

A detour is the geodesic over the Euclidean distance of a point from a keypoint, at least 1. It does not change where a
cloud is turned, mirrored, shifted or scaled, and hardly where it is stretched a little along one axis, so that one
search per cloud serves every augmented copy of it.
"""

from __future__ import annotations

import copy
import hashlib
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor
from torch_geometric.data import Data

from pcsa._core.progress import progress
from pcsa.datasets.keypointnet import KeypointNet
from pcsa.metrics.geodesic import geodesic_distances

_VERSION = 1


class Detours:
    """The detours of each cloud of a dataset; ``table`` is what :func:`search` returns."""

    def __init__(self, table: dict[str, npt.NDArray[Any]]) -> None:
        self._detour = torch.from_numpy(table["detour"])
        self._ptr: list[int] = table["ptr"].tolist()

    def attach(self, data: Data, index: int) -> Data:
        """Return a copy of cloud ``index`` that carries its ``detour [N, K]``."""
        detour = self._detour[self._ptr[index] : self._ptr[index + 1]]
        if data.num_nodes != len(detour):
            raise ValueError(f"`data` has {data.num_nodes} points, cloud {index} has {len(detour)}")
        out = copy.copy(data)
        out.detour = detour.float()
        return out


def open_detours(dataset: KeypointNet) -> Detours:
    """Search along every cloud of a dataset, or read what an earlier call found.

    The file lies beside the processed category and is named by a hash of positions and annotated points.
    """
    clouds = [dataset[i] for i in range(len(dataset))]
    digest = hashlib.sha256(repr((_VERSION, [cloud.pos.shape for cloud in clouds])).encode())
    for cloud in clouds:
        digest.update(cloud.pos.numpy().tobytes())
        digest.update(cloud.keypoint_index.numpy().tobytes())
    name = f"{dataset.category}-detours-{digest.hexdigest()[:16]}"
    return Detours(dataset.cached(name, lambda: search(clouds)))


def search(clouds: list[Data]) -> dict[str, npt.NDArray[Any]]:
    """Search along every cloud.

    Returns:
        ``detour``: of every point from every keypoint, cloud after cloud, in half precision: 1 where the cloud lacks
        the keypoint, infinite where no path leads; ``ptr``: where each cloud begins, then the number of points.

    """
    found = [_of_cloud(cloud) for cloud in progress(clouds, "measuring along surfaces")]
    ptr = torch.tensor([0, *(len(detour) for detour in found)]).cumsum(0)
    return {"detour": torch.cat(found).half().numpy(), "ptr": ptr.numpy()}


def _of_cloud(cloud: Data) -> Tensor:
    index = cloud.keypoint_index[0]
    visible = (index >= 0).nonzero()[:, 0]
    pos = cloud.pos.double()
    straight = torch.cdist(pos, pos[index[visible]], compute_mode="donot_use_mm_for_euclid_dist")
    along = geodesic_distances(pos, index[visible]).T
    detour = pos.new_ones(len(pos), len(index))
    detour[:, visible] = torch.where(straight > 0, (along / straight).clamp(min=1), 1.0)
    return detour


@torch.no_grad()
def distance_along(detour: Tensor, pos: Tensor, target: Tensor, ptr: Tensor) -> Tensor:
    """Distance of each point from each keypoint of its cloud along the surface ``[N, K]``, in the units of ``pos``."""
    batch = torch.searchsorted(ptr, torch.arange(len(pos), device=pos.device), right=True) - 1
    squared = [(pos[:, d, None] - target[..., d].index_select(0, batch)).square() for d in range(pos.shape[1])]
    straight = torch.stack(squared).sum(0).sqrt()
    # On the keypoint itself no way is a detour.
    return torch.where(straight > 0, straight * detour, 0.0)
