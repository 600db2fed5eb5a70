"""What the labels of a category allow, and how its shapes stand: facts, and no faults."""

import math

import numpy as np
from numpy.typing import NDArray

from pcsa.datasets.keypointnet.annotations import Record
from pcsa.datasets.keypointnet.mirror import MirrorPairs, mirror_pairs, spacings
from pcsa.datasets.keypointnet.standing import standings

_DISTANCE = 0.01
"""Threshold that the literature reports, for shapes of size 1; else this share of the size."""
_LEAST_SHAPES = 3


class LabelFacts:
    """Collects, cloud after cloud, how dense the points are, how well labels agree, and how the shapes stand."""

    def __init__(self) -> None:
        self.diagonals: list[float] = []
        self.spacings: list[float] = []
        self.apart: list[NDArray[np.float64]] = []
        self.pairs: list[MirrorPairs] = []
        self.records: list[Record] = []
        self.keypoints: list[NDArray[np.floating]] = []

    def add(self, points: NDArray[np.floating], record: Record) -> None:
        """Take in a cloud `[N, 3]` and its annotation, in which nothing is wrong."""
        from scipy.spatial import cKDTree

        keypoints = points[record.point_index]
        self.records.append(record)
        self.keypoints.append(keypoints)
        self.diagonals.append(float(np.linalg.norm(np.ptp(points, axis=0))))
        self.spacings.append(float(spacings(points).mean()))
        places = np.unique(points, axis=0)
        if len(places) > 1 and len(keypoints):
            self.apart.append(np.asarray(cKDTree(places).query(keypoints, k=[2])[0])[:, 0])
        self.pairs.append(mirror_pairs(points, keypoints, record.reflection))

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
        text += self._standing()
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

    def _standing(self) -> str:
        if len({record.class_id for record in self.records}) > 1:
            return ""  # the same number is another keypoint in each class
        row = {name: k for k, name in enumerate(sorted({i for record in self.records for i in record.semantic_ids}))}
        shapes = [np.full((len(row), 3), np.nan) for _ in self.records]
        for shape, record, keypoints in zip(shapes, self.records, self.keypoints, strict=True):
            shape[[row[i] for i in record.semantic_ids]] = keypoints
        found = [
            (record.model_id, stands)
            for record, stands in zip(self.records, standings(shapes, self.records[0].up), strict=True)
            if stands is not None
        ]
        if len(found) < _LEAST_SHAPES:
            return ""
        turns = [stands.turn for _, stands in found]
        model_id, farthest = max(found, key=lambda named: named[1].turn)
        text = f"; shapes are turned by up to {farthest.turn:.0f} degrees ({model_id}, half of them by less than "
        text += f"{np.median(turns):.0f}) from how they stand on average"
        if not math.isnan(farthest.lean):
            heading = max(abs(stands.heading) for _, stands in found)
            text += f", about the axis that points up by {heading:.0f}, off it by "
            text += f"{max(stands.lean for _, stands in found):.0f}"
        mirrored = sum(stands.mirrored for _, stands in found)
        return text + (f"; {mirrored} of {len(found)} are mirror images of the others" if mirrored else "")
