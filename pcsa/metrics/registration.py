"""Registration of clouds: how one is to be moved so that it lies on another, without a pair of points that is known."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from pcsa._core.principal import principal_frames
from pcsa.metrics.per_shape import TensorOrArray, matched

Array = npt.NDArray[np.float64]

# Points of each cloud that look for a neighbor: while starts are compared, and in the end. All are found.
_FEW, _MANY = 128, 512
FINE = 2048
"""Of a cloud that is compared with no other: its place is as good as the number of points that look."""
# Starts that go on after a look at each, then after some steps.
_KEPT, _LAST = 8, 2
_STEPS, _MOST_STEPS = 10, 100
# A step that gains less than this share of the residual is the last.
_LEAST_GAIN = 1e-4
_MIRROR = np.diag([-1.0, 1.0, 1.0])


class Registration(NamedTuple):
    """How a cloud is moved onto another, from :func:`register_cloud`.

    Attributes:
        linear: Rotation, times a scale where sizes may differ, times a reflection where it is mirrored; float64.
        offset: Shift after it, float64.
        residual: Root mean square distance of points from the nearest of the other cloud, both ways, in the units of
            the cloud that is moved onto.
        mirrored: Whether the cloud is mirrored.
    """

    linear: Float[Tensor, "3 3"]
    offset: Float[Tensor, " 3"]
    residual: float
    mirrored: bool

    def move(self, points: Float[Tensor, "k 3"]) -> Float[Tensor, "k 3"]:
        """Points in the frame of the cloud that was moved, where they lie on the other: float64."""
        return points.detach().cpu().double() @ self.linear.T + self.offset


def register_cloud(
    source: TensorOrArray, target: TensorOrArray, *, scaled: bool = False, mirrored: bool = False
) -> Registration:
    r"""Move a cloud onto another by the iterative closest point method, from many starts.

    `Besl and McKay, 1992 <https://doi.org/10.1109/34.121791>`_, with the nearest points of both clouds as pairs: each
    cloud has to explain the other, and a scale cannot shrink to nothing. It starts from the clouds as they lie, with
    their means together, and with their principal axes together in every order and direction, and keeps the best: so
    clouds may lie in different frames, such as those of scanners. Of large clouds 512 points look for their nearest
    ones, among all points of the other; the same on each call.

    Args:
        source: Points of the cloud to move.
        target: Points of the cloud to move it onto.
        scaled: Whether it may change its size.
        mirrored: Whether it may be mirrored, too, if it fits better so: a left bone on a right one.

    Returns:
        :class:`Registration`. Not differentiable.

    Shapes:
        - **source:** :math:`(N, 3)`
        - **target:** :math:`(M, 3)`

    Raises:
        ValueError: If shapes do not fit, a position is not finite, or all points of a cloud are equal.

    Example:
        >>> source = torch.tensor([[0.0, 0, 0], [3, 0, 0], [0, 2, 0], [0, 0, 1]])
        >>> target = source[:, [1, 2, 0]] + 5
        >>> register_cloud(source, target).move(source).round(decimals=6)
        tensor([[5., 5., 5.],
                [5., 5., 8.],
                [7., 5., 5.],
                [5., 6., 5.]], dtype=torch.float64)
    """
    return registered(Placed.of("source", source), Placed.of("target", target), scaled=scaled, mirrored=mirrored)


class Placed:
    """A cloud about its mean and of size 1, with its tree; that of its mirror image if it is asked for."""

    def __init__(self, points: Array, center: Array, size: float) -> None:
        from scipy.spatial import cKDTree

        self.center, self.size, self.points = center, size, points
        self.tree = cKDTree(points)
        self._mirror: Placed | None = None
        p = torch.from_numpy(points)
        ptr = torch.tensor([0, len(p)])
        self.frames = principal_frames(p, torch.zeros(len(p), dtype=torch.long), ptr)[0].numpy()

    @classmethod
    def of(cls, name: str, cloud: TensorOrArray) -> Placed:
        """Check a cloud ``[N, 3]``.

        Raises:
            ValueError: If it is none; the message calls it ``name``.
        """
        ((points,),) = matched(**{name: [cloud]})
        if points.shape[1] != 3:
            raise ValueError(f"`{name}` {list(points.shape)} must be [N, 3]")
        center = points.mean(axis=0)
        away = points - center
        size = float(np.sqrt((away**2).sum(axis=1).mean()))
        # Equal points differ from their mean by its rounding.
        if size <= 1e-12 * np.abs(points).max():
            raise ValueError(f"`{name}` must have points in different places: all {len(points)} are equal")
        return cls(away / size, center, size)

    @property
    def mirror(self) -> Placed:
        """Its mirror image across x."""
        if self._mirror is None:
            self._mirror = Placed(self.points @ _MIRROR, self.center, self.size)
        return self._mirror

    def some(self, count: int) -> Array:
        """So many of the points, the same on each call."""
        if len(self.points) <= count:
            return self.points
        return self.points[np.random.default_rng(0).permutation(len(self.points))[:count]]


class _Motion(NamedTuple):
    """Between clouds about their means and of their own sizes over that of the target."""

    residual: float
    linear: Array
    offset: Array


def registered(
    source: Placed, target: Placed, *, scaled: bool = False, mirrored: bool = False, count: int = _MANY
) -> Registration:
    """:func:`register_cloud` for clouds that were checked, with trees that are kept."""
    sides = [(False, source), (True, source.mirror)] if mirrored else [(False, source)]
    found: list[tuple[_Motion, bool]] = []
    for flipped, given in sides:
        begun = [_icp(given, target, start, 0, _FEW, scaled) for start in _starts(source, given, target, scaled)]
        begun.sort(key=lambda motion: motion.residual)
        found += [(_icp(given, target, start, _STEPS, _FEW, scaled), flipped) for start in begun[:_KEPT]]
    found.sort(key=lambda both: both[0].residual)
    ended = [
        (_icp(source.mirror if flipped else source, target, start, _MOST_STEPS, count, scaled), flipped)
        for start, flipped in found[:_LAST]
    ]
    (residual, linear, offset), flipped = min(ended, key=lambda both: both[0].residual)
    # Back to the units and places of both.
    linear = linear * (target.size / source.size)
    linear = linear @ _MIRROR if flipped else linear
    offset = offset * target.size + target.center - linear @ source.center
    return Registration(torch.from_numpy(linear), torch.from_numpy(offset), residual * target.size, flipped)


def _starts(source: Placed, given: Placed, target: Placed, scaled: bool) -> list[_Motion]:
    """Where to begin; sizes stay as they are unless they are scaled. ``given`` is the source or its mirror image."""
    size = 1.0 if scaled else source.size / target.size
    turns = [np.eye(3), *(target.frames @ given.frames[0].T)]
    starts = [_Motion(np.inf, size * turn, np.zeros(3)) for turn in turns]
    if given is source:
        as_it_lies = np.eye(3) * source.size / target.size
        starts.append(_Motion(np.inf, as_it_lies, (source.center - target.center) / target.size))
    return starts


def _icp(source: Placed, target: Placed, start: _Motion, steps: int, count: int, scaled: bool) -> _Motion:
    """The best motion that is met on the way from a start, with its residual."""
    a, b = source.some(count), target.some(count)
    _, linear, offset = start
    best = _Motion(np.inf, linear, offset)
    for step in range(steps + 1):
        there, i = map(np.asarray, target.tree.query(a @ linear.T + offset))
        back, j = map(np.asarray, source.tree.query((b - offset) @ np.linalg.inv(linear).T))
        scale = np.cbrt(np.linalg.det(linear))
        residual = float(np.sqrt(((there**2).mean() + (back**2).mean() * scale**2) / 2))
        gain = best.residual - residual
        if gain > 0:
            best = _Motion(residual, linear, offset)
        if step == steps or (step and gain <= _LEAST_GAIN * residual):
            break
        # Both ways weigh the same where one cloud has fewer points.
        weights = np.repeat([0.5 / len(a), 0.5 / len(b)], [len(a), len(b)])
        ends = np.concatenate([a, source.points[j]]), np.concatenate([target.points[i], b])
        linear, offset = best_motion(*ends, weights, None if scaled else scale)
    return best


def best_motion(a: Array, b: Array, weights: Array, scale: float | None = None) -> tuple[Array, Array]:
    """Rotation times a scale, and shift, that bring points ``[k, 3]`` onto others in pairs, by least squares.

    Without a scale that is given, it is the ratio of their spreads. The weights sum to 1.
    """
    from scipy.spatial.transform import Rotation

    middles = [weights @ points for points in (a, b)]
    away = [points - middle for points, middle in zip((a, b), middles, strict=True)]
    if scale is None:
        spreads = [float(np.sqrt(weights @ (x**2).sum(axis=1))) for x in away]
        scale = spreads[1] / spreads[0]
    with warnings.catch_warnings():
        # Points on a line leave the turn about it open: any is as good.
        warnings.simplefilter("ignore")
        turn = Rotation.align_vectors(away[1], away[0], weights=weights)[0].as_matrix()
    linear = turn * scale
    return linear, middles[1] - linear @ middles[0]
