"""What real clouds suffer: noise, few points, uneven ones, hidden and missing parts, outliers, another sampling.

Each corruption takes a cloud, a level and an id from which it draws, and returns the cloud with what is left of its
points and keypoints: a law, tested as such. Lengths are shares of the diagonal of the cloud's bounding box.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from torch_geometric.data import Data

from pcsa._core.checks import check_one_of
from pcsa.datasets.meshes.triangles import Mesh, sample_triangles
from pcsa.datasets.rotations import random_turn, turn_about
from pcsa.datasets.thinning import Thin, kept_rows, named_generator
from pcsa.datasets.transforms import take_points

Sampling = Literal["area", "even", "faces"]
"""How points lie on a mesh: uniformly by area, as far from each other as they can, or as many on each face."""

# Of so many points sampled by area, an even sample keeps those that are far from each other.
_CANDIDATES = 4


class Corrupted(NamedTuple):
    """A corrupted cloud."""

    cloud: Data
    """``pos [M, 3]``; ``visible [1, K]`` is False for keypoints whose part is gone, too."""
    row: Int[Tensor, " M"]
    """The point of the whole cloud that each point was, -1 for one that is new."""
    turn: Tensor | None = None
    """How the network is to be given the cloud turned, ``[3, 3]`` about its middle; ``cloud`` itself is not turned."""

    @property
    def seen(self) -> Tensor:
        """Keypoints ``[1, K]`` that the shape still has and whose own point is left: not hidden, not thinned away."""
        index = self.cloud.keypoint_index
        kept = (index.unsqueeze(-1) == self.row).any(-1) & (index >= 0)
        return kept & self.cloud.visible


def rotated(data: Data, degrees: float, seed: int = 0, *, up: int | None = None) -> Corrupted:
    """Turn by an angle: about the axis ``up`` or, without it, about a random one.

    Args:
        data: The cloud.
        degrees: The angle; 180 or more stands for a random turn of any angle.
        seed: Seed of what is drawn, beside the cloud's ``model_id``.
        up: 0, 1 or 2, or None.
    """
    generator = named_generator(seed, _id(data), "turn")
    if degrees >= 180:
        turn = random_turn(generator, up)
    elif up is None:
        turn = turn_about(torch.randn(3, generator=generator, dtype=torch.double), np.deg2rad(degrees))
    else:
        side = 1 if torch.rand((), generator=generator) < 0.5 else -1
        turn = turn_about(torch.eye(3, dtype=torch.double)[up], side * np.deg2rad(degrees))
    return Corrupted(data, _all_rows(data), turn)


def noisy(data: Data, share: float, seed: int = 0) -> Corrupted:
    """Add Gaussian noise to every point, along each axis with a standard deviation of this share of the diagonal.

    Keypoints stay where the shape has them.
    """
    generator = named_generator(seed, _id(data), "noise")
    noise = torch.randn(data.pos.shape, generator=generator, dtype=torch.double)
    out = copy.copy(data)
    out.pos = data.pos + (share * diagonal_of(data.pos) * noise).to(data.pos)
    return Corrupted(out, _all_rows(data))


def thinned(data: Data, num_points: float, seed: int = 0) -> Corrupted:
    """Keep so many points at random: see :class:`pcsa.datasets.thinning.Thin`."""
    return _only(data, kept_rows(data.pos, Thin(num_points=int(num_points), seed=seed), _id(data)))


def uneven(data: Data, falloff: float, seed: int = 0) -> Corrupted:
    """Keep a quarter of the points, ever fewer along a direction, by the factor ``falloff`` from end to end.

    A falloff of 1 keeps any quarter: against it, the others say what unevenness costs beside the number of points.
    Above 50, fewer than a quarter can be kept.
    """
    thin = Thin(num_points=max(1, len(data.pos) // 4), falloff=falloff, seed=seed)
    return _only(data, kept_rows(data.pos, thin, _id(data)))


def occluded(data: Data, views: float, seed: int = 0) -> Corrupted:
    """Keep the points that are seen from at least one of so many random view points, 3 half diagonals off the middle.

    Keypoints stay visible, for the shape has them, seen or not: :attr:`Corrupted.seen` says which are.
    """
    seen = torch.zeros(len(data.pos), dtype=torch.bool)
    for view in range(int(views)):
        seen[kept_rows(data.pos, Thin(occlude=True, seed=1000 * seed + view), _id(data))] = True
    return _only(data, seen.nonzero()[:, 0])


def with_outliers(data: Data, share: float, seed: int = 0) -> Corrupted:
    """Add points anywhere in the bounding box, enlarged by half about its middle: this share of those that there are.

    A network that centers and scales clouds sees the shape smaller and off its place, which is part of the harm.
    """
    generator = named_generator(seed, _id(data), "outliers")
    count = round(share * len(data.pos))
    low, high = data.pos.amin(0).double(), data.pos.amax(0).double()
    place = torch.rand(count, 3, generator=generator, dtype=torch.double)
    new = (low + high) / 2 + 1.5 * (place - 0.5) * (high - low)
    out = Data(**{key: value for key, value in data.to_dict().items() if key in _KEPT})
    out.pos = torch.cat([data.pos, new.to(data.pos)])
    return Corrupted(out, torch.cat([_all_rows(data), torch.full((count,), -1)]))


def missing_part(data: Data, share: float, seed: int = 0) -> Corrupted:
    """Cut off the points nearest to a random one, this share of all; keypoints whose nearest point goes, go with it."""
    n = len(data.pos)
    generator = named_generator(seed, _id(data), "part")
    center = data.pos[int(torch.randint(n, (), generator=generator))]
    gone = min(round(share * n), n - 1)
    order = (data.pos - center).double().norm(dim=1).argsort(stable=True)
    rows = order[gone:].sort().values
    out = _only(data, rows)
    left = (data.keypoint_index.unsqueeze(-1) == rows).any(-1)
    out.cloud.visible = data.visible & left
    out.cloud.keypoints = torch.where(out.cloud.visible[..., None], data.keypoints, 0.0)
    if "marked" in data:
        out.cloud.marked = data.marked & out.cloud.visible[..., None]
        out.cloud.marks = torch.where(out.cloud.marked[..., None], data.marks, 0.0)
    return out


def resampled(data: Data, mesh: Mesh, kind: Sampling, seed: int = 0) -> Corrupted:
    """Sample as many points anew on the mesh of the shape; keypoints stay.

    Args:
        data: The cloud, in the frame of the mesh.
        mesh: See :func:`pcsa.datasets.meshes.load_mesh`.
        kind: ``"area"``: uniformly by area. ``"even"``: of four times as many those far from each other, as scanners
            with a fixed spacing have them. ``"faces"``: as many on each face as on any other, so that fine parts of a
            mesh get more, as vertices have it.
        seed: Seed of the sampling.
    """
    check_one_of("kind", kind, get_args(Sampling))
    count = len(data.pos)
    state = int(torch.randint(2**31, (), generator=named_generator(seed, _id(data), "mesh")))
    if kind == "faces":
        rng = np.random.default_rng(state)
        weight = rng.dirichlet((1.0, 1.0, 1.0), count)
        corners = mesh.vertices[mesh.faces[rng.integers(len(mesh.faces), size=count)]]
        points = torch.from_numpy((weight[:, :, None] * corners).sum(1))
    else:
        drawn = count if kind == "area" else _CANDIDATES * count
        points = torch.from_numpy(sample_triangles(mesh, drawn, state)[0])
    if kind == "even":
        from pcsa.neighbors import farthest_points

        points = points[farthest_points(points, torch.tensor([0, len(points)]), count)[0]]
    out = Data(**{key: value for key, value in data.to_dict().items() if key in _KEPT})
    out.pos = points.to(data.pos)
    return Corrupted(out, torch.full((count,), -1))


Corruption = Callable[[Data, float, int], Corrupted]
CORRUPTIONS: dict[str, Corruption] = {
    "rotation": rotated,
    "noise": noisy,
    "thinning": thinned,
    "density": uneven,
    "occlusion": occluded,
    "outliers": with_outliers,
    "missing": missing_part,
}
"""Corruptions with a level that is a number."""

# What remains true of a cloud whose points are others; keypoint_index does not, but `seen` compares it with rows.
_KEPT = ("keypoints", "visible", "keypoint_index", "marks", "marked", "model_id", "up")


def diagonal_of(pos: Tensor) -> float:
    """Diagonal of the bounding box of points ``[N, 3]``, 0 for a single place."""
    return float((pos.amax(0) - pos.amin(0)).double().norm())


def _only(data: Data, rows: Tensor) -> Corrupted:
    out = take_points(data, rows)
    # That of the whole cloud, with which rows are compared.
    out.keypoint_index = data.keypoint_index
    return Corrupted(out, rows)


def _all_rows(data: Data) -> Tensor:
    return torch.arange(len(data.pos))


def _id(data: Data) -> str:
    return str(data.model_id) if "model_id" in data else ""
