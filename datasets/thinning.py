"""Clouds that lack points: everywhere, ever more along a direction, or all that a view point does not see."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch_geometric.data import Data

from pcsa._core.checks import check_count, check_positive
from pcsa.datasets.folds import content_digest
from pcsa.datasets.hidden_points import seen_points
from pcsa.datasets.transforms import take_points
from pcsa.neighbors import farthest_points

Direction = tuple[float, float, float]

POOL = 2
"""Evenly spaced points are chosen from so many times as many random ones."""


@dataclass(frozen=True)
class Thin:
    """Which points a cloud loses: the same ones whenever it is read, whatever the order, the epoch and the run's seed.

    Points that a view point does not see go first, then those that a falling density and a number leave out. What is
    None stays off, or has the default named here.
    """

    num_points: int | None = None
    """Points to keep, or all of a cloud that has fewer; 0 for all."""
    falloff: float | None = None
    """Factor by which the density falls, against that of the whole cloud, from one end to the other: exponentially, by
    as much over each tenth of the way. The dense end keeps as many points as it can: at most all. 1 for none."""
    along: Direction | None = None
    """Direction in which the density falls; default one of its own for each cloud."""
    occlude: bool | None = None
    """Keep only the points that are seen from a view point."""
    view: Direction | None = None
    """Direction from the middle of a cloud to the view point; default one of its own for each cloud."""
    view_distance: float | None = None
    """Distance of the view point from the middle of a cloud, in half diagonals of its bounding box, above 1; default
    3."""
    seed: int | None = None
    """Seed of what is drawn for each cloud, beside its id; default 0."""
    even: bool | None = None
    """Keep evenly spaced points, see :func:`evenly_spaced`, in place of random ones: a map on them says more exactly
    where a keypoint lies."""

    def __post_init__(self) -> None:
        if self.num_points is not None:
            check_count("num_points", self.num_points, least=0)
        if self.seed is not None:
            check_count("seed", self.seed, least=0)
        for name, value in (("falloff", self.falloff), ("view_distance", self.view_distance)):
            if value is not None:
                check_positive(name, value)
        if self.even and (self.falloff or 1) > 1:
            raise ValueError(
                f"`even` (=True) must be False with `falloff` (={self.falloff}), which makes the spacing uneven"
            )
        if self.falloff is not None and self.falloff < 1:
            raise ValueError(f"`falloff` (={self.falloff}) must be at least 1")
        if self.view_distance is not None and self.view_distance <= 1:
            raise ValueError(f"`view_distance` (={self.view_distance}) must be above 1: outside of the cloud")
        for name, direction in (("along", self.along), ("view", self.view)):
            if direction is not None and not 0 < sum(x * x for x in direction) < float("inf"):
                raise ValueError(f"`{name}` (={direction}) must be finite, and not zero")

    def check(self) -> None:
        """Check what belongs together in options that are complete."""
        if self.even and not self.num_points:
            raise ValueError(f"`even` (=True) takes a number of points, `num_points` (={self.num_points})")

    @property
    def active(self) -> bool:
        """Whether clouds lose points."""
        return bool(self.num_points or self.occlude or (self.falloff or 1) > 1)

    def over(self, other: Thin) -> Thin:
        """What is given here, and in place of what is None that of another."""
        own = {f.name: getattr(self, f.name) for f in fields(self)}
        return Thin(**{name: getattr(other, name) if value is None else value for name, value in own.items()})

    def __str__(self) -> str:
        parts = ["occluded"] * bool(self.occlude)
        if self.falloff is not None and self.falloff > 1:
            parts.append(f"falloff {self.falloff:g}")
        if self.num_points:
            parts.append(f"{self.num_points} points")
        if self.even is not None:
            parts.append("evenly spaced" if self.even else "at random")
        return ", ".join(parts) or "all points"


class Thinning:
    """A transform: :func:`thin_cloud`, which searches each cloud once.

    Args:
        options: Which points go.

    """

    def __init__(self, options: Thin) -> None:
        self.options = options
        self._rows: dict[tuple[str, bytes], Tensor] = {}

    def __call__(self, data: Data) -> Data:
        """Return a thinned copy of one cloud."""
        # The id alone does not do: clouds of several categories may share one.
        key = (_id(data), content_digest(data.pos))
        if key not in self._rows:
            self._rows[key] = kept_rows(data.pos, self.options, key[0])
        return _only(data, self._rows[key])

    def __repr__(self) -> str:
        return f"Thinning({self.options})"


def thin_cloud(data: Data, options: Thin) -> Data:
    """Return a copy of a cloud that lacks points.

    The keypoints stay where they are and stay ``visible``: this says that the *object* has the keypoint, not that its
    place is seen. A detector of occluded clouds is asked for all keypoints of the object. Where the annotated point is
    gone, ``keypoint_index`` becomes the nearest point that is left: what a classifier of points can at best answer, and
    where paths along the surface begin. A keypoint has kept its own point where ``pos[keypoint_index]`` equals it.

    :class:`~pcsa.datasets.transforms.Augment` mirrors a cloud only where a plane through the middle of the *thinned*
    cloud's bounding box exchanges its keypoints; of occluded clouds it mirrors fewer.

    Args:
        data: ``pos [N, 3]``, and what :class:`pcsa.datasets.keypointnet.KeypointNet` has beside it. Its ``model_id``
            is the id by which its draws are told from those of other clouds; one without is "".
        options: Which points go.

    Returns:
        The points that are left, at least one, in their order; the cloud itself where all are.

    """
    return _only(data, kept_rows(data.pos, options, _id(data)))


def kept_rows(pos: Float[Tensor, "N 3"], options: Thin, name: str = "") -> Int[Tensor, " M"]:
    """Rows of the points that :class:`Thin` leaves, rising.

    Args:
        pos: Positions of one cloud, at least one, in any units.
        options: Which points go.
        name: Id of the cloud.

    """
    pos = pos.double()
    rows = torch.arange(len(pos))
    seed = options.seed or 0
    if options.occlude:
        low, high = pos.amin(0), pos.amax(0)
        half = (high - low).norm() / 2
        away = _direction(options.view, seed, name, "view")
        view_point = (low + high) / 2 + (options.view_distance or 3.0) * half * away
        rows = torch.from_numpy(seen_points(pos.numpy(), view_point.numpy())).nonzero()[:, 0]
    if options.num_points or (options.falloff or 1) > 1:
        generator = named_generator(seed, name, "points")
        if options.even and options.num_points:
            return rows[evenly_spaced(pos[rows], options.num_points, generator)]
        falloff = options.falloff or 1.0
        along = _direction(options.along, seed, name, "along") if falloff > 1 else pos.new_zeros(3)
        share = falling_shares(pos[rows] @ along, falloff, options.num_points or len(rows))
        rows = rows[draw_rows(share, generator)]
    return rows


def evenly_spaced(pos: Float[Tensor, "N 3"], num_points: int, generator: torch.Generator) -> Int[Tensor, " M"]:
    """Rows of points that are far from each other, rising: farthest points of twice as many random ones.

    From all points of a dense cloud, noise and strays would be what is chosen.

    Args:
        pos: Positions of one cloud, in any units.
        num_points: Number of points, or all of a cloud that has fewer.
        generator: The source of randomness, on the CPU.

    """
    pool = torch.arange(len(pos))
    if len(pos) > POOL * num_points:
        pool = torch.randperm(len(pos), generator=generator)[: POOL * num_points].sort().values
    how: dict[str, Any] = {"random_start": True, "generator": generator, "validate": False}
    chosen = farthest_points(pos[pool], torch.tensor([0, len(pool)]), num_points, **how)[0]
    return pool[chosen].sort().values


def falling_shares(height: Float[Tensor, " N"], falloff: float, num_points: int) -> Float[Tensor, " N"]:
    """Probability of each point to be kept, so that the density falls exponentially over the height.

    Args:
        height: Where each point is on the way, in any units; equal heights have equal shares.
        falloff: Factor between the lowest and the highest point.
        num_points: Number of points to keep; where the falloff allows fewer, the lowest point has probability 1, or
            as little less as makes the number whole.

    Returns:
        Probabilities whose sum is a whole number, at least 1 and at most ``num_points``.

    Example:
        >>> falling_shares(torch.tensor([0.0, 0.0, 0.5, 1.0], dtype=torch.double), 4.0, 2)
        tensor([0.7273, 0.7273, 0.3636, 0.1818], dtype=torch.float64)

    """
    low, high = height.min(), height.max()
    way = (height - low) / torch.where(high > low, high - low, 1.0)
    weight = falloff**-way
    total = weight.sum()
    return weight * (min(num_points, int(total)) / total)


def draw_rows(share: Float[Tensor, " N"], generator: torch.Generator) -> Int[Tensor, " M"]:
    """Draw rows, each with its own probability, and in all as many as the probabilities add up to.

    Systematic sampling of the rows in a random order (Madow, `"On the Theory of Systematic Sampling, II"
    <https://doi.org/10.1214/aoms/1177729988>`_, 1949): unlike draws without replacement by weight, it keeps a row with
    exactly its probability. Equal ones draw every set of rows alike.

    Args:
        share: Probabilities, float64, whose sum is a whole number.
        generator: The source of randomness.

    Returns:
        Rows, rising, without repetition.

    """
    order = torch.randperm(len(share), generator=generator)
    ends = share[order].cumsum(0)
    count = int(ends[-1].round())
    start = torch.rand((), generator=generator, dtype=torch.double)
    # Rounding may leave the last end short of the last mark.
    found = torch.searchsorted(ends, start + torch.arange(count), right=True).clamp(max=len(share) - 1)
    return order[found].sort().values


def _only(data: Data, rows: Tensor) -> Data:
    if len(rows) == data.num_nodes:
        return data
    out = take_points(data, rows)
    if "keypoint_index" in data:
        gone = data.visible[0] & (out.keypoint_index[0] < 0)
        index = out.keypoint_index.clone()
        # The exact mode: the matrix form loses digits where distances are compared.
        distance = torch.cdist(data.keypoints[0, gone], out.pos, compute_mode="donot_use_mm_for_euclid_dist")
        index[0, gone] = distance.argmin(1)
        out.keypoint_index = index
    return out


def _id(data: Data) -> str:
    return str(data.model_id) if "model_id" in data else ""


def named_generator(seed: int, *parts: Any) -> torch.Generator:
    """Return the generator of a seed, an id and a purpose, the same in every process and order.

    One for each purpose: what is seen does not depend on how many of the seen points are kept.
    """
    digest = hashlib.sha256(repr((seed, *parts)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def _direction(given: Direction | None, seed: int, name: str, purpose: str) -> Tensor:
    if given is not None:
        direction = torch.tensor(given, dtype=torch.double)
    else:
        direction = torch.randn(3, generator=named_generator(seed, name, purpose), dtype=torch.double)
    return direction / direction.norm()
