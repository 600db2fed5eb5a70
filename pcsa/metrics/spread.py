"""Where keypoints lie on a shape: how much of it they span, whether they are on it, how far apart they are."""

from typing import NamedTuple

import numpy as np

from pcsa._core.checks import check_positive
from pcsa.metrics.per_shape import PerShape, matched, nearest, squared_distances


class Separation(NamedTuple):
    """Distances between the keypoints of a shape in diagonals of its bounding box, from :func:`separation`.

    Attributes:
        least: Least distance between two keypoints of a shape, mean over shapes.
        mean: Mean distance between two keypoints of a shape, mean over shapes.
        worst: Least distance between two keypoints of any shape.
    """

    least: float
    mean: float
    worst: float


def coverage(predicted: PerShape, clouds: PerShape) -> float:
    r"""How much of the shape the keypoints span: IoU of their bounding box with that of the cloud.

    Named by `"Unsupervised Learning of Category-Specific Symmetric 3D Keypoints from Point Sets"
    <https://arxiv.org/abs/2003.07619>`_ and by `"SC3K" <https://arxiv.org/abs/2308.05410>`_. The latter's released code
    compares the boxes' diagonals only, 1 − \|d − d'\| / d, wherever the boxes lie: its figures are higher and not
    comparable. Boxes are along the axes, so a figure holds for one orientation of the shapes.

    Args:
        predicted: Keypoints of each shape.
        clouds: The shapes' points, in the same frame and units. An axis along which a cloud is flat is left out.

    Returns:
        Mean over shapes, 0 to 1.

    Shapes:
        - **predicted:** n times :math:`(K, D)`
        - **clouds:** n times :math:`(N_i, D)`

    Raises:
        ValueError: If there is no shape, the lists or shapes do not fit, or a position is not finite.

    Example:
        >>> cloud = np.array([[0.0, 0.0], [2.0, 2.0]])
        >>> coverage([np.array([[0.0, 0.0], [1.0, 2.0]])], [cloud])
        0.5
    """
    shares = []
    for source, cloud in matched(predicted=predicted, clouds=clouds):
        extent = np.ptp(cloud, axis=0)
        axes = extent > 0
        low = np.maximum(source.min(axis=0), cloud.min(axis=0))
        high = np.minimum(source.max(axis=0), cloud.max(axis=0))
        common = np.prod((high - low).clip(min=0)[axes])
        shares.append(common / (np.prod(np.ptp(source, axis=0)[axes]) + np.prod(extent[axes]) - common))
    return float(np.mean(shares))


def inclusivity(predicted: PerShape, clouds: PerShape, threshold: float = 0.03) -> float:
    r"""Share of keypoints that lie on the shape: nearer than a threshold to some point of the cloud.

    From `"Unsupervised Learning of Category-Specific Symmetric 3D Keypoints from Point Sets"
    <https://arxiv.org/abs/2003.07619>`_ and `"SC3K" <https://arxiv.org/abs/2308.05410>`_, whose threshold of 0.03 is in
    clouds normalized to the unit sphere about their mean. So the threshold here is a share of the cloud's radius, the
    largest distance of a point from the mean: the figure does not depend on the units. It does on the density of the
    cloud, so compare clouds of as many points.

    Args:
        predicted: Keypoints of each shape.
        clouds: The shapes' points, in the same frame and units.
        threshold: Strict limit, as a share of the cloud's radius.

    Returns:
        Share per shape, then averaged over shapes; 0 to 1.

    Shapes:
        - **predicted:** n times :math:`(K, D)`
        - **clouds:** n times :math:`(N_i, D)`

    Raises:
        ValueError: If there is no shape, the lists or shapes do not fit, a position is not finite, or ``threshold`` is
            not positive.
    """
    check_positive("threshold", threshold)
    shares = []
    for source, cloud in matched(predicted=predicted, clouds=clouds):
        radius = np.linalg.norm(cloud - cloud.mean(axis=0), axis=1).max()
        shares.append(np.mean(nearest(cloud, source)[0] < threshold * radius))
    return float(np.mean(shares))


def separation(predicted: PerShape, clouds: PerShape) -> Separation:
    r"""Check for collapse: how far apart the keypoints of a shape are, relative to the shape.

    Args:
        predicted: Keypoints of each shape, at least two.
        clouds: The shapes' points, in the same frame and units.

    Returns:
        :class:`Separation`, in diagonals of the cloud's bounding box.

    Shapes:
        - **predicted:** n times :math:`(K, D)`
        - **clouds:** n times :math:`(N_i, D)`

    Raises:
        ValueError: If there is no shape, the lists or shapes do not fit, a position is not finite, a shape has one
            keypoint only, or all points of a cloud are equal.

    Example:
        >>> cloud = np.array([[0.0, 0.0], [0.0, 4.0]])
        >>> separation([np.array([[0.0, 0.0], [0.0, 1.0], [0.0, 3.0]])], [cloud])  # distances 1, 2, 3 of 4
        Separation(least=0.25, mean=0.5, worst=0.25)
    """
    least, mean = [], []
    for i, (source, cloud) in enumerate(matched(predicted=predicted, clouds=clouds)):
        diagonal = np.linalg.norm(np.ptp(cloud, axis=0))
        if len(source) < 2:
            raise ValueError(f"`predicted` of shape {i} (={len(source)} keypoints) must have at least two")
        if diagonal == 0:
            raise ValueError(f"`clouds` of shape {i} has no extent: all of its {len(cloud)} points are equal")
        distance = np.sqrt(squared_distances(source, source)[np.triu_indices(len(source), 1)]) / diagonal
        least.append(distance.min())
        mean.append(distance.mean())
    return Separation(float(np.mean(least)), float(np.mean(mean)), float(np.min(least)))
