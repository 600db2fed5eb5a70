"""What a checkpoint remembers of the clouds that it was trained on, and how far another cloud is from them.

A network finds keypoints in whatever it is given, and is as sure of a cloud that lies on its side. Its training clouds
say how a cloud should look: robust statistics of their shape, of the spacing of their points and of lone points, each
with the range that clouds of the training have that these statistics were not computed of.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.data import Data

from pcsa._core.checks import check_one_of
from pcsa.datasets.transforms import Normalize
from pcsa.datasets.turning import frames_of
from pcsa.datasets.up import up_axis

Array = NDArray[np.float64]
Turns = Literal["none", "any", "x", "y", "z"]
"""How clouds may be turned: not at all, in any way, or about an axis."""

# Measurements: of as many clouds, where there are so many. On beds and on procedural chairs, 64 tell as many others
# apart as four times as many do, and give as many false alarms.
_MEASURED = 64
# Neighbors whose distances count, and the least distance, in units of the normalized cloud.
_NEAR, _LEAST = (4, 16), 1e-6
# How fast presence falls with scores of shape and spacing above 1: as these powers of them. An unlike shape costs
# more: on procedural chairs, hardly a keypoint is right where they are turned by 90 degrees, most are right where one
# point lies a little off.
_FALL = (3.0, 0.5)
# Spreads that a training cloud counts as being off by at most.
_CLIP = 6.0
# Parts that limits are found by, each measured by the rest.
_FOLDS = 5
# Share of the training clouds that are within the limit.
_KEPT = 0.9

_AXES = "xyz"
_PAIRS = ((0, 1), (0, 2), (1, 2))
_TRIPLES = tuple((i, j, k) for i in range(3) for j in range(i, 3) for k in range(j, 3))
_RADII = (0.1, 0.25, 0.5, 0.75, 0.9)
SHAPE = (
    *(f"the {end} end along {a}" for end in ("lower", "upper") for a in _AXES),
    *(f"the spread along {a}" for a in _AXES),
    *(f"the slant between {_AXES[i]} and {_AXES[j]}" for i, j in _PAIRS),
    *(f"the imbalance along {''.join(_AXES[i] for i in t)}" for t in _TRIPLES),
    *(f"the peakedness along {a}" for a in _AXES),
    *(f"the radius within which {100 * q:.0f} % of the points lie" for q in _RADII),
)
"""Statistics of the shape of a normalized cloud."""
SPACING = (
    "the spacing of the points",
    "the unevenness of their spacing",
    "the thickness of the surface of points",
    "the distance of the loneliest point, in spacings,",
    "the distance of one point in 200, in spacings,",
)
"""Statistics of the distances between points, as logarithms."""
_LONE = slice(len(SHAPE) + 3, None)


def statistics(pos: Tensor, frame: str, turns: Turns = "none") -> Array:
    """Describe a cloud ``[N, 3]`` by :data:`SHAPE` and :data:`SPACING`, whatever its place, size and order.

    With ``turns`` other than none, whatever its turns about that axis, or all turns, too.
    """
    pos = pos.double().cpu()
    points = Normalize(frame)(Data(pos=pos if turns == "none" else _standing(pos, turns))).pos.double().numpy()
    ends = np.quantile(points, (0.02, 0.98), axis=0)
    centered = points - points.mean(0)
    spread = np.maximum(centered.std(0), _LEAST)
    unit = centered / spread
    slants = [(unit[:, i] * unit[:, j]).mean() for i, j in _PAIRS]
    imbalance = [np.cbrt((unit[:, i] * unit[:, j] * unit[:, k]).mean()) for i, j, k in _TRIPLES]
    peaked = np.log((unit**4).mean(0).clip(_LEAST))
    radii = np.quantile(np.linalg.norm(centered, axis=1), _RADII)
    distance = _distances(points).clip(_LEAST)
    median = np.median(distance, axis=0)
    spacing = np.log(
        [
            median[0],
            np.quantile(distance[:, 0], 0.95) / median[0],
            median[1] / median[0],
            distance[:, 0].max() / median[0],
            np.quantile(distance[:, 0], 0.995) / median[0],
        ]
    )
    return np.concatenate([ends.ravel(), spread, slants, imbalance, peaked, radii, spacing])


def _standing(pos: Tensor, turns: Turns) -> Tensor:
    """A cloud in the one of its frames in which it is longest, and leans to the upper end, along its first axes."""
    up = None if turns == "any" else up_axis(turns)
    framed = pos @ frames_of(pos, up)
    away = framed - framed.mean(1, keepdim=True)
    first = torch.zeros(3, dtype=pos.dtype)
    first[[0, 1] if up is None else [(up + 1) % 3]] = torch.tensor([2.0, 1.0], dtype=pos.dtype)[
        : 2 if up is None else 1
    ]
    # Sums of sorted variances are the largest.
    length = away.square().mean(1) @ first
    leaning = (away.pow(3).mean(1) > 0).to(first) @ first
    longest = length >= length.max() * (1 - 1e-9)
    return framed[int(torch.where(longest, leaning, -1.0).argmax())]


def _distances(points: Array) -> Array:
    """Distances ``[M, 2]`` of the points to the neighbors that count, of which copies of a point are none."""
    from scipy.spatial import cKDTree

    def search(places: Array) -> Array:
        # Such trees are quicker to build than balanced ones.
        tree = cKDTree(places, balanced_tree=False, compact_nodes=False)
        return np.asarray(tree.query(places, k=[min(k + 1, len(places)) for k in (1, *_NEAR)])[0])

    found = search(points)
    # The nearest other point tells copies: to sort every cloud for them would take a third of the search.
    if len(points) > 1 and found[:, 0].min() == 0:
        found = search(np.unique(points, axis=0))
    return found[:, 1:]


class Novelty(NamedTuple):
    """How far a cloud is from the training clouds."""

    score: float
    """0 and more; above 1 a cloud is farther from them than 9 of 10 of them are from the others."""
    reason: str
    """What differs most, where the score is above 1; else empty."""

    kept_presence: float
    """Share that is kept of the probability that a keypoint is there: all where the score is at most 1."""


@dataclass(frozen=True)
class TrainingClouds:
    """What a checkpoint remembers of the clouds that a network was trained on, as they were varied in training.

    The score of a cloud is the largest of its groups of statistics: in each, its Mahalanobis distance from the training
    clouds (Mahalanobis, 1936; used on features of a network by `Lee et al., 2018 <https://arxiv.org/abs/1807.03888>`_)
    over that which 9 of 10 training clouds keep when they are measured by the others.
    """

    frame: str
    """What clouds are normalized to, see :class:`pcsa.datasets.transforms.Normalize`."""
    num_points: int
    """Median number of points."""
    center: tuple[float, ...]
    """Median of each statistic."""
    low: tuple[float, ...]
    """Value of each that one cloud in a hundred is below."""
    high: tuple[float, ...]
    """Value of each that one cloud in a hundred is above."""
    shape: tuple[tuple[float, ...], ...]
    """Takes what the statistics of shape are off their center by to a distance: rows of a triangular matrix."""
    spacing: tuple[tuple[float, ...], ...]
    """The same of the statistics of spacing and lone points."""
    turns: Turns = "none"
    """How clouds may be turned and are not unlike for it: about which axis, or in any way."""

    def __post_init__(self) -> None:
        check_one_of("frame", self.frame, ("unit_sphere", "min_max"))
        check_one_of("turns", self.turns, get_args(Turns))
        sizes = [len(x) for x in (self.center, self.low, self.high)]
        rows = [len(row) for row in (*self.shape, *self.spacing)]
        numbers = np.array([*self.center, *self.low, *self.high, *np.concatenate([*self.shape, *self.spacing])], float)
        expected = [len(SHAPE)] * len(SHAPE) + [len(SPACING)] * len(SPACING)
        if set(sizes) != {len(SHAPE) + len(SPACING)} or rows != expected or not np.isfinite(numbers).all():
            raise ValueError("`clouds` must have every statistic of the training clouds, all finite")
        if not self.num_points >= 1:
            raise ValueError(f"`num_points` (={self.num_points}) must be at least 1")

    def novelty(self, pos: Tensor) -> Novelty:
        """How far a cloud ``[N, 3]`` is from the training clouds, and in what."""
        value = statistics(pos, self.frame, self.turns)
        away = value - self.center
        off_shape = np.asarray(self.shape) @ away[: len(SHAPE)]
        off_spacing = np.asarray(self.spacing) @ away[len(SHAPE) :]
        scores = [float(np.linalg.norm(off)) for off in (off_shape, off_spacing)]
        score = max(scores)
        if score <= 1:
            return Novelty(score, "", 1.0)
        kept = float(np.prod([max(1.0, s) ** -fall for s, fall in zip(scores, _FALL, strict=True)]))
        return Novelty(score, self._reason(value, scores[0] >= scores[1]), kept)

    def has_lone_points(self, pos: Tensor) -> bool:
        """Whether points of a cloud ``[N, 3]`` lie farther from all others than those of training clouds."""
        value = statistics(pos, self.frame, self.turns)
        return bool((value[_LONE] > np.asarray(self.high)[_LONE]).any())

    def _reason(self, value: Array, is_shape: bool) -> str:
        """What differs most: points far off where there are some, for they change all the rest."""
        low, high = np.asarray(self.low), np.asarray(self.high)
        beyond = np.maximum(low - value, value - high) / np.maximum(high - low, 1e-6)
        group = slice(0, len(SHAPE)) if is_shape else slice(len(SHAPE), None)
        if beyond[_LONE].max() > 1:
            group = _LONE
        worst = group.start + int(beyond[group].argmax())
        if beyond[worst] <= 0:
            return "its proportions together, though each alone is as in training"
        shown = [np.exp(x[worst]) if worst >= len(SHAPE) else x[worst] for x in (value, low, high)]
        return "{} is {:.2g}, in training {:.2g} to {:.2g}".format((*SHAPE, *SPACING)[worst], *shown)


def training_clouds(
    count: int, cloud: Callable[[int | None, int], Tensor], frame: str, turns: Turns = "none"
) -> TrainingClouds:
    """Measure training clouds as they are and as they are varied in training; of many clouds each in one of these ways.

    Args:
        count: Number of training clouds, at least 1.
        cloud: Makes the positions ``[N, 3]`` of one: of an epoch, as it is varied then, or of none, as it is.
        frame: What clouds are normalized to.
        turns: How clouds may be turned.
    """
    chosen = np.linspace(0, count - 1, min(count, _MEASURED)).round().astype(int).tolist()
    epochs = range(max(1, _MEASURED // len(chosen)))
    rows, shapes, sizes = [], [], []
    for place, index in enumerate(chosen):
        for epoch in (None, *epochs) if len(chosen) < _MEASURED else ((None, 0)[place % 2],):
            pos = cloud(epoch, index)
            rows.append(statistics(pos, frame, turns))
            shapes.append(place)
            sizes.append(len(pos))
    value, shape = np.stack(rows), np.asarray(shapes)
    center = np.median(value, axis=0)
    low, high = np.quantile(value, (0.01, 0.99), axis=0)
    groups = (slice(0, len(SHAPE)), slice(len(SHAPE), None))
    (of_shape, shape_length), (of_spacing, spacing_length) = (
        _distance(value[:, group] - center[group], shape) for group in groups
    )
    # A cloud has two chances to be beyond a limit.
    together = _limit(np.maximum(shape_length, spacing_length), shape)
    return TrainingClouds(
        frame,
        int(np.median(sizes)),
        center=tuple(center.tolist()),
        low=tuple(low.tolist()),
        high=tuple(high.tolist()),
        shape=tuple(tuple(row) for row in (of_shape / together).tolist()),
        spacing=tuple(tuple(row) for row in (of_spacing / together).tolist()),
        turns=turns,
    )


def _distance(away: Array, shape: Array) -> tuple[Array, Array]:
    """What takes differences ``[M, D]`` from a center to vectors whose length is at most 1 for 9 of 10 training clouds.

    Beside it are the lengths ``[M]`` of each by what was found without its own shape: the limit is theirs.
    """
    folds = shape % min(_FOLDS, int(shape.max()) + 1)
    whitening = _whitening(away, shape)
    # One shape says nothing of others.
    length = 2 * np.linalg.norm(away @ whitening.T, axis=1)
    if folds.max() > 0:
        for fold in range(int(folds.max()) + 1):
            held_out = folds == fold
            of_others = _whitening(away[~held_out], shape[~held_out])
            length[held_out] = np.linalg.norm(away[held_out] @ of_others.T, axis=1)
    limit = _limit(length, shape)
    return whitening / limit, length / limit


def _limit(length: Array, shape: Array) -> float:
    """The length that a cloud of another shape keeps with the probability that is wanted, or the largest of few."""
    count = int(shape.max()) + 1
    return max(float(np.quantile(length, min(1.0, _KEPT * (count + 1) / count))), _LEAST)


def _whitening(away: Array, shape: Array) -> Array:
    """A matrix by which differences have about unit covariance: shrunk to unrelated statistics, the more the fewer."""
    num_shapes = len(np.unique(shape))
    spread = np.maximum(1.4826 * np.median(np.abs(away), axis=0), 0.25 * away.std(0))
    spread = np.maximum(spread, 1e-3)
    unit = np.clip(away / spread, -_CLIP, _CLIP)
    size = unit.shape[1]
    share = min(1.0, 0.1 + size / (size + num_shapes))
    second = unit.T @ unit / len(unit)
    covariance = (1 - share) * second + share * np.diag(np.maximum(np.diag(second), 0.1))
    return np.linalg.inv(np.linalg.cholesky(covariance)) / spread
