"""How alike the shapes of a category stand, by their keypoints."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pcsa.datasets.up import up_axis

Array = NDArray[np.float64]

_MIRROR = np.array([-1.0, 1, 1])
_LEAST_KEYPOINTS = 4  # fewer lie in a plane, and have no mirror image of their own
_ROUNDS = 5
_FLAT = 1e-3
"""Keypoints thinner than this share of their width lie in a plane."""
_BETTER = 0.7
"""A shape is taken for a mirror image if that leaves less than this share of the distances."""


class Standing(NamedTuple):
    """How a shape stands among the others, from :func:`standings`; angles in degrees."""

    turn: float
    """Angle of the rotation from how the shapes stand on average."""
    heading: float
    """That about the axis that points up; NaN where none does."""
    lean: float
    """How far that axis itself is turned; NaN where none does."""
    mirrored: bool
    """Whether it is more like a mirror image of most others, as a left bone is among right ones."""


def standings(keypoints: Sequence[Array], up: str = "y") -> list[Standing | None]:
    """Say of each shape how far it is turned from how all of them stand on average.

    Generalized Procrustes analysis (`Gower, 1975 <https://doi.org/10.1007/BF02291478>`_): each shape's keypoints are
    turned, scaled and moved onto the mean of all, mirrored where that is clearly better, over and over. The mean of the
    rotations is how they stand on average. Mirror images have no part in it; each is mirrored at the plane across an
    axis that leaves the least turn.

    Args:
        keypoints: `[K, 3]` of each shape, rows of NaN where it lacks one.
        up: The axis that points up, of :data:`pcsa.datasets.up.Up`.

    Returns:
        One for each shape; None for one that shares fewer than four keypoints with the mean, or whose keypoints lie in
        a plane: of those a mirror image is a turn.

    Example:
        >>> shape = np.array([[0.0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 3]])
        >>> quarter = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
        >>> found = standings([shape, shape, shape, shape @ quarter.T], up="z")
        >>> round(abs(found[3].heading - found[0].heading)), round(found[3].lean), found[3].mirrored
        (90, 0, False)

    """
    from scipy.spatial.transform import Rotation

    shapes = [np.asarray(shape, dtype=np.float64) for shape in keypoints]
    usable = [i for i, shape in enumerate(shapes) if _solid(shape[_known(shape)])]
    found: list[Standing | None] = [None] * len(shapes)
    if not usable:
        return found
    mean = max((shapes[i] for i in usable), key=lambda shape: int(_known(shape).sum()))
    fits: dict[int, Array] = {}
    for _ in range(_ROUNDS):
        fits = {i: fit for i in usable if (fit := _fit(mean, shapes[i])) is not None}
        if not fits:
            return found
        moved = np.stack([_onto(mean, shapes[i], fit) for i, fit in fits.items()])
        counted = np.asarray(np.isfinite(moved).all(axis=2))
        total = np.where(counted[..., None], moved, 0.0).sum(axis=0)
        count = counted.sum(axis=0)
        # A keypoint that no shape of these has stays unknown.
        mean = np.where(count[:, None] > 0, total / np.maximum(count, 1)[:, None], np.nan)
    if sum(np.linalg.det(fit) < 0 for fit in fits.values()) * 2 > len(fits):
        # The mean began with one of the fewer.
        fits = {i: fit * _MIRROR for i, fit in fits.items()}
    average = Rotation.from_matrix([fit for fit in fits.values() if np.linalg.det(fit) > 0]).mean().as_matrix()
    axis = up_axis(up)
    ahead, side = (axis + 1) % 3, (axis + 2) % 3
    for i, fit in fits.items():
        mirrored = bool(np.linalg.det(fit) < 0)
        turn = fit @ average.T
        if mirrored:
            turn = max((turn @ np.diag(1 - 2 * row) for row in np.eye(3)), key=np.trace)
        angle = float(np.degrees(Rotation.from_matrix(turn).magnitude()))
        if axis < 0:
            found[i] = Standing(angle, np.nan, np.nan, mirrored)
            continue
        heading = np.arctan2(turn[side, ahead] - turn[ahead, side], turn[ahead, ahead] + turn[side, side])
        lean = np.arccos(np.clip(turn[axis, axis], -1, 1))
        found[i] = Standing(angle, float(np.degrees(heading)), float(np.degrees(lean)), mirrored)
    return found


def _known(shape: Array) -> NDArray[np.bool_]:
    return np.asarray(np.isfinite(shape).all(axis=1))


def _solid(points: Array) -> bool:
    if len(points) < _LEAST_KEYPOINTS:
        return False
    values = np.linalg.svd(points - points.mean(axis=0), compute_uv=False)
    return bool(values[2] > _FLAT * values[0])


def _fit(mean: Array, shape: Array) -> Array | None:
    """The orthogonal matrix that turns the mean onto a shape: a reflection if that is clearly better."""
    from scipy.spatial.transform import Rotation

    both = _known(mean) & _known(shape)
    if not (_solid(mean[both]) and _solid(shape[both])):
        return None
    a, b = (_about_middle(points[both]) for points in (mean, shape))
    turn, away = Rotation.align_vectors(b, a)
    image, away_mirrored = Rotation.align_vectors(b, a * _MIRROR)
    return np.asarray(image.as_matrix() * _MIRROR if away_mirrored < _BETTER * away else turn.as_matrix())


def _onto(mean: Array, shape: Array, fit: Array) -> Array:
    """The shape, moved onto the mean."""
    both = _known(mean) & _known(shape)
    middle, size = mean[both].mean(axis=0), np.linalg.norm(mean[both] - mean[both].mean(axis=0))
    own, own_size = shape[both].mean(axis=0), np.linalg.norm(shape[both] - shape[both].mean(axis=0))
    return np.asarray(middle + (shape - own) @ fit * (size / own_size))


def _about_middle(points: Array) -> Array:
    """Points about their mean, of size 1."""
    away = points - points.mean(axis=0)
    return np.asarray(away / np.linalg.norm(away))
