"""What the labels of a category allow: facts, and no faults."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pcsa.datasets.keypointnet.mirror import MirrorPairs, mirror_pairs, spacings

_DISTANCE = 0.01
"""Threshold that the literature reports, for shapes of size 1; else this share of the size."""


class LabelFacts:
    """Collects, cloud after cloud, how dense the points are and how well labels agree."""

    def __init__(self) -> None:
        self.diagonals: list[float] = []
        self.spacings: list[float] = []
        self.apart: list[NDArray[np.float64]] = []
        self.pairs: list[MirrorPairs] = []

    def add(
        self, points: NDArray[np.floating], keypoints: NDArray[np.floating], pairs: Sequence[tuple[int, int]]
    ) -> None:
        """Take in a cloud `[N, 3]`, its labels `[K, 3]` and the pairs of them that a mirror plane exchanges."""
        from scipy.spatial import cKDTree

        self.diagonals.append(float(np.linalg.norm(np.ptp(points, axis=0))))
        self.spacings.append(float(spacings(points).mean()))
        places = np.unique(points, axis=0)
        if len(places) > 1 and len(keypoints):
            self.apart.append(np.asarray(cKDTree(places).query(keypoints, k=[2])[0])[:, 0])
        self.pairs.append(mirror_pairs(points, keypoints, pairs))

    def __bool__(self) -> bool:
        return bool(self.apart)

    def __str__(self) -> str:
        size = float(np.median(self.diagonals))
        within = _DISTANCE if 0.5 < size < 2 else float(f"{_DISTANCE * size:.2g}")
        apart = np.concatenate(self.apart)
        text = (
            f"{len(self.diagonals)} clouds, neighbors {np.mean(self.spacings):.3g} apart on average; "
            f"{(apart > within).mean():.0%} of the {len(apart)} annotated points have no other point within {within:g}"
        )
        pairs = MirrorPairs(*(np.concatenate(values) for values in zip(*self.pairs, strict=True)))
        num = int(pairs.on_surface.sum())
        if not num:
            return text
        wider = math.sqrt(2) * within
        return (
            f"{text}; {num} pairs of left and right annotations, mirrored, agree within {within:g} in "
            f"{pairs.agreement(within):.0%}, within {wider:.3g} in {pairs.agreement(wider):.0%}: the most that can be "
            f"right within {within:g} against one annotator, if the noise of both is equal and independent"
        )
