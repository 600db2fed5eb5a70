"""Where the keypoints of a Skeleton Merger begin."""

from typing import Literal

import torch
from torch import Tensor

from pcsa.neighbors import farthest_points


@torch.no_grad()
def find_anchors(clouds: list[Tensor], num_keypoints: int, kind: Literal["corners", "farthest"]) -> Tensor:
    """Places for the keypoints to begin at, ``[K, 3]``, from aligned clouds ``[N, 3]`` laid over each other.

    ``"farthest"``: on the cells of a grid (16 along the extent) that at least half of the clouds have a point in,
    farthest points, beginning with the one farthest from the middle. ``"corners"``: the eight of the bounding box, and
    more of such cells far from them. No randomness. Not differentiable.
    """
    everything = torch.cat(clouds).float()
    low = everything.amin(0)
    cell_size = ((everything.amax(0) - low).amax() / 16).clamp(min=torch.finfo(torch.float32).tiny)
    place = ((everything - low) / cell_size).long().clamp(max=15)
    cell = (place[:, 0] * 16 + place[:, 1]) * 16 + place[:, 2]
    cloud = torch.arange(len(clouds)).repeat_interleave(torch.tensor([len(c) for c in clouds]))
    share = torch.bincount((cloud * 16**3 + cell).unique() % 16**3, minlength=16**3) / len(clouds)
    points = torch.bincount(cell, minlength=16**3)
    middle = torch.zeros(16**3, 3).index_add(0, cell, everything) / points.clamp(min=1).unsqueeze(1)
    # Half of the clouds, or fewer where that leaves too few cells.
    least = min(0.5, share.sort(descending=True).values[min(num_keypoints, 16**3) - 1].item())
    common = middle[(share >= least) & (points > 0)]
    if kind == "corners":
        corners = torch.cartesian_prod(*torch.stack([low, everything.amax(0)], 1))
        # Farthest points that begin at the eight: each next one is far from all before it.
        while len(corners) < num_keypoints:
            corners = torch.cat([corners, common[torch.cdist(common, corners).amin(1).argmax()].unsqueeze(0)])
        return corners[:num_keypoints]
    first = (common - everything.mean(0)).norm(dim=1).argmax()
    common = torch.cat([common[first : first + 1], common])
    rows, _ = farthest_points(common, torch.tensor([0, len(common)]), num_keypoints)
    anchors = common[rows]
    # Where there are fewer cells than keypoints, some share one.
    return anchors.repeat(-(-num_keypoints // len(anchors)), 1)[:num_keypoints]
