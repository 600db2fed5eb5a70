"""Where the keypoints of a Skeleton Merger begin."""

import math
from typing import Literal

import torch
from torch import Tensor

from pcsa.neighbors import farthest_points

CORNER_RADIUS = 0.6
"""What a corner is looked for in, where the box of a cloud is 2 wide."""
CORNERS_PER_CLOUD = 20
CORNER_SPREAD = 0.25
"""Corners of two clouds are one place if they are about this near, where the box is 2 wide."""
APART = 0.7
"""Two places are at least this far from each other, where the box is 2 wide."""


@torch.no_grad()
def find_anchors(clouds: list[Tensor], num_keypoints: int, kind: Literal["corners", "farthest", "repeated"]) -> Tensor:
    """Places for the keypoints to begin at, ``[K, 3]``, from aligned clouds ``[N, 3]`` laid over each other.

    ``"farthest"``: on the cells of a grid (16 along the extent) that at least half of the clouds have a point in,
    farthest points, beginning with the one farthest from the middle. ``"corners"``: the eight of the bounding box, and
    more of such cells far from them. ``"repeated"``: where most clouds, mirrored across x = 0 too, have a corner of
    their own (:func:`cloud_corners`), see :func:`repeated_places`; the clouds are in their boxes, from -1 to 1. No
    randomness. Not differentiable.
    """
    if kind == "repeated":
        mirror = torch.tensor([-1.0, 1.0, 1.0])
        found = [cloud_corners(cloud.float()) for cloud in clouds]
        # Left and right count as one: a place is chosen with its mirror image, not one of the two by a few clouds.
        return repeated_places([torch.cat([own, own * mirror]) for own in found], num_keypoints)
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


@torch.no_grad()
def cloud_corners(cloud: Tensor, radius: float = CORNER_RADIUS, most: int = CORNERS_PER_CLOUD) -> Tensor:
    """The corners of a cloud ``[N, 3]``, strongest first: points whose neighbors lie to one side.

    The strength of a point is the distance to the mean of the points within ``radius``; corners are those that no point
    within it exceeds. A cloud with more than 1,024 points is thinned evenly.
    """
    cloud = cloud[:: -(-len(cloud) // 1024)]
    near = torch.cdist(cloud, cloud) <= radius
    weight = near.to(cloud.dtype)
    strength = (weight @ cloud / weight.sum(1, keepdim=True) - cloud).norm(dim=1)
    strongest = torch.where(near, strength, -1.0).amax(1)
    rows = (strength >= strongest).nonzero().squeeze(1)
    return cloud[rows[strength[rows].argsort(descending=True, stable=True)[:most]]]


@torch.no_grad()
def repeated_places(
    corners: list[Tensor], num_places: int, spread: float = CORNER_SPREAD, apart: float = APART
) -> Tensor:
    """Places ``[num_places, 3]`` near which most of the clouds have a corner, the most repeated first.

    A corner counts for every cloud by its Gaussian (of width ``spread``) to the nearest corner there. The corner that
    counts most moves to the mean of those around it (mean shift) and is a place; then those less than ``apart`` from
    it are out. Where no more is left, the farthest of all from the places so far.
    """
    everything = torch.cat(corners)
    # A row of corners at a time: of many clouds the matrix would be large.
    count = torch.stack([_closeness(everything, own, spread) for own in corners]).sum(0)
    places = everything[:0]
    while len(places) < num_places:
        away = torch.cdist(everything, places).amin(1) if len(places) else torch.full_like(count, math.inf)
        free = away >= apart
        row = torch.where(free, count, -1.0).argmax() if free.any() else away.argmax()
        place = everything[row]
        for _ in range(5 if free.any() else 0):
            weight = (-(everything - place).square().sum(1) / (2 * spread**2)).exp()
            place = weight @ everything / weight.sum()
        places = torch.cat([places, place.unsqueeze(0)])
    return places


def _closeness(points: Tensor, corners: Tensor, spread: float) -> Tensor:
    return (-torch.cdist(points, corners).amin(1).square() / (2 * spread**2)).exp()
