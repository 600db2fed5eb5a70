"""Keypoints that a detector takes for others, left for right above all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from pcsa.metrics import Confusion
from pcsa.tasks.common.tables import number


def confusion_scores(found: Confusion, names: Sequence[str]) -> dict[str, Any]:
    """Shares of the keypoints that are nearer to another's place, and to their partner's, as JSON types.

    ``mostly_exchanged`` is the share of the shapes, of those with pairs, in which more than half of the paired
    keypoints are exchanged: the shape as a whole is taken for its mirror image.
    """
    visible = found.nearest >= 0
    another = visible & (found.nearest != torch.arange(visible.shape[1]))
    in_shape, exchanged = found.paired.sum(1), (found.exchanged & found.paired).sum(1)
    known = [k for k in range(len(names)) if visible[:, k].any()]
    return {
        "nearer_to_another": _share(another, visible),
        "num_paired": int(found.paired.sum()),
        "exchanged": _share(found.exchanged, found.paired),
        "num_shapes_paired": int((in_shape > 0).sum()),
        "mostly_exchanged": _share(2 * exchanged > in_shape, in_shape > 0),
        "per_keypoint": {
            names[k]: {
                "nearer_to_another": _share(another[:, k], visible[:, k]),
                "most_often": _most_often(found.nearest[another[:, k], k], names),
                "exchanged": _share(found.exchanged[:, k], found.paired[:, k]),
            }
            for k in known
        },
    }


def _share(hits: Tensor, counted: Tensor) -> float | None:
    return float(hits[counted].double().mean()) if counted.any() else None


def _most_often(columns: Tensor, names: Sequence[str]) -> str | None:
    return names[int(columns.mode().values)] if len(columns) else None


def confusion_lines(metrics: Mapping[str, Any]) -> list[str]:
    """What ``pcsa evaluate`` prints of :func:`confusion_scores`; nothing of a file from before there were any."""
    if "confusion" not in metrics:
        return []
    found = metrics["confusion"]
    line = (
        f"nearer to another keypoint's place than to their own: {_percent(found['nearer_to_another'])} of the keypoints"
    )
    if found["num_paired"]:
        line += (
            f"; to their mirror partner's: {_percent(found['exchanged'])} of the {found['num_paired']} that have one, "
            f"in {_percent(found['mostly_exchanged'])} of {found['num_shapes_paired']} shapes most of them"
        )
    return [line]


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{number(100 * share, 1)} %"
