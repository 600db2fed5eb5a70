"""Floors: keypoints that never look at a shape, whose scores a detector has to beat."""

import math
import warnings
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from pcsa._core.checks import check_count, check_one_of
from pcsa.metrics.per_shape import PerShape, TensorOrArray, matched


def template_keypoints(
    annotated: PerShape, num_keypoints: int, *, seed: int = 0, restarts: int = 20
) -> Float[Tensor, "K D"]:
    r"""Floor: one set of keypoints for every shape, the k-means centers of the annotations.

    It never looks at a cloud, so a detector that does should score more. K-means runs from several random starts, and
    the one with the smallest sum of squares counts.

    Args:
        annotated: Annotated keypoints of each shape, in one frame: those of the training shapes where the score is of
            others.
        num_keypoints: Number of keypoints K.
        seed: Seed of the starts.
        restarts: Number of starts.

    Returns:
        Positions, float64, in the frame and units of ``annotated``.

    Shapes:
        - **annotated:** n times :math:`(k_i, D)`
        - **output:** :math:`(K, D)`

    Raises:
        ValueError: If there is no shape, shapes do not fit, a position is not finite, ``num_keypoints`` is below 1 or
            above the number of different annotated positions, or ``restarts`` is below 1.
    """
    from scipy.cluster.vq import kmeans2

    points = _all_points(annotated=annotated)
    distinct = np.unique(points, axis=0)
    check_count("restarts", restarts)
    check_count("num_keypoints", num_keypoints)
    if num_keypoints > len(distinct):
        raise ValueError(
            f"`num_keypoints` (={num_keypoints}) must be from 1 to {len(distinct)}, the number of different positions "
            "in `annotated`"
        )
    generator = np.random.default_rng(seed)
    best, lowest = distinct[:num_keypoints], math.inf
    for _ in range(restarts):
        start = distinct[generator.choice(len(distinct), num_keypoints, replace=False)]
        with warnings.catch_warnings():
            # A center that lost its points stays where it is, which SciPy warns of.
            warnings.simplefilter("ignore")
            centers, label = kmeans2(points, start, iter=50, minit="matrix")
        error = float(((points - centers[label]) ** 2).sum())
        if error < lowest:
            best, lowest = centers, error
    return torch.from_numpy(best)


def to_box(points: TensorOrArray, cloud: TensorOrArray) -> Float[Tensor, "k D"]:
    r"""Where points are in the bounding box of a cloud: -1 to 1 along each axis.

    Made in these coordinates, and put into each cloud's own box by :func:`from_box`, :func:`template_keypoints` is a
    stronger floor than in the clouds' frame: it knows the proportions of every shape, and nothing else of it.

    Args:
        points: Positions, such as the annotated keypoints of the shape.
        cloud: The shape's points, in the same frame.

    Returns:
        Places, float64; 0 along an axis in which the cloud has no extent and the point is in its plane. Not
        differentiable.

    Shapes:
        - **points:** :math:`(k, D)`
        - **cloud:** :math:`(N, D)`
        - **output:** :math:`(k, D)`

    Raises:
        ValueError: If shapes do not fit, or a position is not finite.

    Example:
        >>> to_box(torch.tensor([[3.0, 0.5]]), torch.tensor([[1.0, 0.0], [3.0, 1.0]]))
        tensor([[1., 0.]], dtype=torch.float64)
    """
    own, middle, half = _box(points, cloud)
    return torch.from_numpy((own - middle) / half)


def from_box(places: TensorOrArray, cloud: TensorOrArray) -> Float[Tensor, "k D"]:
    r"""Positions of places in the bounding box of a cloud: the inverse of :func:`to_box`.

    Args:
        places: Places in the box, -1 to 1.
        cloud: The shape's points.

    Returns:
        Positions, float64, in the frame and units of ``cloud``. Not differentiable.

    Shapes:
        - **places:** :math:`(k, D)`
        - **cloud:** :math:`(N, D)`
        - **output:** :math:`(k, D)`

    Raises:
        ValueError: As :func:`to_box`.

    Example:
        >>> from_box(torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0], [3.0, 1.0]]))
        tensor([[3.0000, 0.5000]], dtype=torch.float64)
    """
    own, middle, half = _box(places, cloud)
    return torch.from_numpy(own * half + middle)


def random_keypoints(annotated: PerShape, num_keypoints: int, *, seed: int = 0) -> Float[Tensor, "K D"]:
    r"""Floor: one random set of keypoints for every shape, uniform in the bounding box of all annotations.

    One set's score depends much on the draw (a standard deviation of 4 to 7 points of dual alignment on KeypointNet's
    bathtubs and beds): average over some.

    Args:
        annotated: Annotated keypoints of each shape, in one frame.
        num_keypoints: Number of keypoints K.
        seed: Seed of the draw.

    Returns:
        Positions, of the shape, dtype and frame of those of :func:`template_keypoints`.

    Raises:
        ValueError: If there is no shape, shapes do not fit, a position is not finite, or ``num_keypoints`` is below 1.
    """
    points = _all_points(annotated=annotated)
    check_count("num_keypoints", num_keypoints)
    low, high = points.min(axis=0), points.max(axis=0)
    return torch.from_numpy(np.random.default_rng(seed).uniform(low, high, (num_keypoints, points.shape[1])))


def collapsed_keypoints(
    clouds: PerShape, num_keypoints: int, *, place: Literal["centroid", "corner"] = "centroid"
) -> list[Float[Tensor, "_K _D"]]:
    r"""Floor: all keypoints of a shape in one point.

    Args:
        clouds: The shapes' points, in one frame.
        num_keypoints: Number of keypoints K.
        place: ``"centroid"``, the mean of each cloud's own points, is where a flat probability map puts its
            expectation. ``"corner"`` is one place for all shapes, the lowest corner of the box around all clouds: seen
            from outside, the nearest annotation often is the same on every shape.

    Returns:
        Positions of each shape, float64, in the frame and units of ``clouds``.

    Shapes:
        - **clouds:** n times :math:`(N_i, D)`
        - **output:** n times :math:`(K, D)`

    Raises:
        ValueError: If there is no shape, shapes do not fit, a position is not finite, ``num_keypoints`` is below 1, or
            ``place`` is unknown.
    """
    check_count("num_keypoints", num_keypoints)
    check_one_of("place", place, ("centroid", "corner"))
    if place == "centroid":
        centers = [cloud.mean(axis=0) for (cloud,) in matched(clouds=clouds)]
    else:
        centers = [_all_points(clouds=clouds).min(axis=0)] * len(clouds)
    return [torch.from_numpy(np.repeat(center[None], num_keypoints, axis=0)) for center in centers]


def _box(points: TensorOrArray, cloud: TensorOrArray) -> tuple[npt.NDArray[np.float64], ...]:
    """Points in float64, and the middle and half the extent of the cloud's box; 1 where it is flat."""
    ((own, around),) = matched(points=[points], cloud=[cloud])
    low, high = around.min(axis=0), around.max(axis=0)
    half = (high - low) / 2
    return own, (high + low) / 2, np.where(half > 0, half, 1.0)


def _all_points(**lists: PerShape) -> npt.NDArray[np.float64]:
    return np.concatenate([points for (points,) in matched(**lists)])
