"""A temperature of the confidences that is fitted on some clouds, and can be judged on the same ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from pcsa.metrics import fit_temperature

PARTS = 5
"""Clouds are dealt out to so many parts; fewer where there are fewer clouds."""


class CrossFitted(NamedTuple):
    """Temperatures, from :func:`cross_fit`."""

    temperature: float
    """Fitted on all clouds."""
    of_others: list[float]
    """For each cloud, fitted without those of its part; empty where no cloud is left to fit on."""


def cross_fit(logits: Sequence[Tensor], index: Sequence[Tensor], parts: int = PARTS) -> CrossFitted:
    """Fit a temperature on all clouds, and for every cloud one that knows nothing of it.

    What the first does on the clouds that it was fitted on is too good; what the others do is not.

    Args:
        logits: Maps ``[N, K]`` of the annotated keypoints of each cloud.
        index: Their annotated points ``[K]``.
        parts: Number of parts.

    Raises:
        ValueError: If no cloud has an annotated keypoint.
    """
    temperature = fit_temperature(logits, index)
    known = [i for i, rows in enumerate(index) if len(rows)]
    parts = min(parts, len(known))
    if parts < 2:
        return CrossFitted(temperature, [])
    # Where there is no keypoint, no confidence is judged.
    of_others = [temperature] * len(index)
    for part in range(parts):
        others = [i for rank, i in enumerate(known) if rank % parts != part]
        found = fit_temperature([logits[i] for i in others], [index[i] for i in others])
        for i in known[part::parts]:
            of_others[i] = found
    return CrossFitted(temperature, of_others)
