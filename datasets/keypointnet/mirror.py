"""How well two annotations of one place agree: left and right keypoints, mirrored onto each other."""

import hashlib
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pcsa.datasets.keypointnet.dataset import KeypointNet

_VERSION = 1
_POINTS = 512  # of a cloud that are mirrored to find its plane
_STEPS = 10
_REACH = 3.0
"""A mirrored keypoint is on the surface if a point is within so many mean distances of neighbors."""


class MirrorPairs(NamedTuple):
    """Pairs of annotations that a mirror plane exchanges, from :func:`mirror_pairs`."""

    distance: NDArray[np.float64]
    """Distance between one, mirrored, and the other, in the units of the cloud."""
    on_surface: NDArray[np.bool_]
    """Whether both, mirrored, have a point of the cloud near them: else the shape is not symmetric there."""

    def agreement(self, threshold: float) -> float:
        """Share of the pairs on the surface that agree within a distance; NaN where there are none."""
        distance = self.distance[self.on_surface]
        return float((distance < threshold).mean()) if len(distance) else math.nan


def mirror_pairs(
    points: NDArray[np.floating], keypoints: NDArray[np.floating], pairs: Sequence[tuple[int, int]]
) -> MirrorPairs:
    """Mirror one keypoint of each pair of a cloud, and measure how far it is from the other.

    The planes are at right angles to the axes, each where the mirrored cloud lies best on the cloud itself: mirrored
    points are matched to the nearest ones and the plane moves to the median of their middles, over and over. Of each
    pair counts the plane that brings its two nearest to each other: annotations do not say which plane they mean.

    Args:
        points: `[N, 3]`.
        keypoints: `[K, 3]`.
        pairs: Rows of ``keypoints``.

    Example:
        >>> points = np.array([[-1.0, 0, 0], [1, 0, 0], [-1, 2, 1], [1, 2, 1]])
        >>> mirror_pairs(points, points[:2] + [[0.0, 0.5, 0], [0, 0.7, 0]], [(0, 1)]).distance.round(6).tolist()
        [0.2]

    """
    from scipy.spatial import cKDTree

    points, keypoints = (np.asarray(x, dtype=np.float64) for x in (points, keypoints))
    if not len(pairs):
        return MirrorPairs(np.empty(0), np.empty(0, dtype=bool))
    tree = cKDTree(points)
    left, right = keypoints[[a for a, _ in pairs]], keypoints[[b for _, b in pairs]]
    few = points[:: -(-len(points) // _POINTS)]
    reach = _REACH * spacings(points).mean()
    distances, away = [], []
    for axis in range(points.shape[1]):
        column = points[:, axis]
        starts = [(column.min() + column.max()) / 2, float(np.median(column))]
        # What one side has alone moves the middle of the box.
        middle = min(starts, key=lambda start: np.mean(tree.query(_mirrored(few, axis, start))[0]))
        for _ in range(_STEPS):
            before, match = middle, points[tree.query(_mirrored(few, axis, middle))[1]]
            middle = float(np.median(few[:, axis] + match[:, axis]) / 2)
            if abs(middle - before) < 1e-3 * reach:
                break
        image = _mirrored(left, axis, middle)
        distances.append(np.linalg.norm(image - right, axis=1))
        away.append(np.maximum(tree.query(image)[0], tree.query(_mirrored(right, axis, middle))[0]))
    nearest, pair = np.argmin(distances, axis=0), np.arange(len(left))
    return MirrorPairs(np.array(distances)[nearest, pair], np.array(away)[nearest, pair] <= reach)


def category_mirror_pairs(dataset: KeypointNet) -> MirrorPairs:
    """Measure the pairs of all clouds of a dataset; the result is kept in the cache."""
    digest = hashlib.sha256(repr((_VERSION, dataset.model_ids, dataset.semantic_ids)).encode())
    clouds = []
    for i in range(len(dataset)):
        item, pairs = dataset[i], dataset.symmetry(i).reflection
        visible = item.visible[0]
        pairs = [(a, b) for a, b in pairs if visible[a] and visible[b]]
        clouds.append((item.pos.numpy(), item.keypoints[0].numpy(), pairs))
        digest.update(repr(pairs).encode() + clouds[-1][0].tobytes() + clouds[-1][1].tobytes())

    def make() -> dict[str, NDArray[np.generic]]:
        found = [mirror_pairs(*cloud) for cloud in clouds]
        empty = mirror_pairs(np.empty((0, 3)), np.empty((0, 3)), [])
        return {name: np.concatenate([getattr(f, name) for f in [empty, *found]]) for name in MirrorPairs._fields}

    name = f"{dataset.category}-mirror-{digest.hexdigest()[:16]}"
    return MirrorPairs(**dataset.cached(name, make))


def _mirrored(places: NDArray[np.floating], axis: int, middle: float) -> NDArray[np.floating]:
    places = places.copy()
    places[:, axis] = 2 * middle - places[:, axis]
    return places


def spacings(points: NDArray[np.floating]) -> NDArray[np.float64]:
    """Distance of every place of a cloud to the nearest other one; 0 where there is one place only."""
    from scipy.spatial import cKDTree

    places = np.unique(points, axis=0)
    return np.asarray(cKDTree(places).query(places, k=[2])[0])[:, 0] if len(places) > 1 else np.zeros(1)
