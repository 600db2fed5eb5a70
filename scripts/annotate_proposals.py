"""Predictions of a detector as proposals for labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pcsa._core.progress import progress
from pcsa.datasets.faults import said
from pcsa.datasets.labeling.book import Book
from pcsa.datasets.labeling.session import Proposal
from pcsa.datasets.labeling.shape import Shape, sample_shape
from pcsa.scripts.runs import open_cloud_run
from pcsa.tasks.common.given_clouds import give, points_to_sample
from pcsa.tasks.common.training_clouds import TrainingClouds

_RADIUS = 0.02  # of the diagonal of a scan: within it, a prediction is taken for right


def propose(
    book: Book,
    scans: Sequence[str],
    read: Callable[[str], Shape],
    checkpoint: Path,
    num_points: int,
    device: str,
    *,
    trust: bool = False,
) -> tuple[dict[str, dict[str, Proposal]], dict[str, str]]:
    """Predict the keypoints of scans that are not done, and move each to the nearest vertex.

    Returns:
        The proposals of each scan, by keypoint, and why scans cannot be read.

    Raises:
        ValueError: If the detector knows none of the names.
    """
    task, run = open_cloud_run(checkpoint, device, trust=trust)
    known = {str(name): k for k, name in enumerate(getattr(run.labels, "names", ()))}
    columns = {name: known[name] for name in book.names if name in known}
    if not columns:
        raise ValueError(
            f"`checkpoint` (={checkpoint}) must know one of {', '.join(book.names)}; it knows {', '.join(known)}"
        )
    if len(columns) < len(book.names):
        missing = ", ".join(name for name in book.names if name not in columns)
        print(f"{checkpoint} knows nothing of {missing}: they are to be placed by hand")
    proposals: dict[str, dict[str, Proposal]] = {}
    failed: dict[str, str] = {}
    for scan in progress([scan for scan in scans if not book.is_done(scan)], "predicting"):
        try:
            shape = read(scan)
            points = _points_of(shape, run.clouds, num_points)
        except (ValueError, OSError) as error:
            failed[scan] = said(error)
            continue
        located = task.locate(run, [points], "ball", 2 * shape.radius * _RADIUS)
        position, confidence = located.position[0].double().numpy(), located.confidence[0].tolist()
        presence = located.outputs["presence"][0].sigmoid().tolist() if "presence" in located.outputs else None
        proposals[scan] = {}
        for name, k in columns.items():
            there = 1.0 if presence is None else presence[k]
            if there < 0.5:
                proposals[scan][name] = Proposal(None, "predicted", 1 - there)
            else:
                row = int(np.linalg.norm(shape.vertices - position[k], axis=1).argmin())
                proposals[scan][name] = Proposal(shape.vertices[row], "predicted", there * confidence[k])
    return proposals, failed


def _points_of(shape: Shape, known: TrainingClouds | None, num_points: int) -> Tensor:
    """What a network is given of a scan, as by ``pcsa predict``; ``num_points`` if it knows no training clouds."""
    sampled = len(shape.faces) > 0
    count = points_to_sample(known) if sampled else len(shape.vertices)
    points = sample_shape(shape, num_points if known is None else count)[0]
    return give(torch.from_numpy(points.astype(np.float64)), known, sampled=sampled).pos


def least_sure_first(scans: Sequence[str], proposals: Mapping[str, Mapping[str, Proposal]]) -> list[str]:
    """Order scans by the mean confidence of their proposals; those without any come last, in their order."""

    def sureness(scan: str) -> float:
        values = [p.confidence for p in proposals.get(scan, {}).values() if p.confidence is not None]
        return sum(values) / len(values) if values else 2.0

    return sorted(scans, key=sureness)
