"""What an evaluation says of each shape, so that two runs can be compared shape by shape."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor


def shape_distances(
    names: Sequence[str],
    visible: Tensor,
    distances: Mapping[str, Mapping[str, Tensor]],
    diagonal: Tensor | None = None,
) -> dict[str, dict[str, Any]]:
    """Distances of the keypoints of every shape, as JSON types.

    Args:
        names: Names of the shapes.
        visible: Which keypoints each has, ``[n, K]``.
        distances: By read-out and kind, ``[n, K]``; probabilities within the radius may be kinds, too.
        diagonal: Diagonal of each cloud's bounding box, ``[n]``, if it is to be told.

    Returns:
        For each shape ``num_keypoints``, ``diagonal`` and, under ``read_outs``, read-out and kind, a distance for each
        keypoint: None where there is none or where it is infinite. Nothing if some shapes could not be read: their
        names are not known here.
    """
    if len(visible) != len(names):
        return {}
    masks = visible.bool().tolist()
    listed = {r: {kind: value.tolist() for kind, value in kinds.items()} for r, kinds in distances.items()}
    return {
        name: {
            "num_keypoints": sum(mask),
            **({} if diagonal is None else {"diagonal": float(f"{float(diagonal[i]):.6g}")}),
            "read_outs": {
                r: {kind: _plain(rows[i], mask) for kind, rows in kinds.items()} for r, kinds in listed.items()
            },
        }
        for i, (name, mask) in enumerate(zip(names, masks, strict=True))
    }


def _plain(distances: Sequence[float], mask: Sequence[bool]) -> list[float | None]:
    # Six digits are far below what an annotation is good for.
    return [float(f"{d:.6g}") if there and math.isfinite(d) else None for d, there in zip(distances, mask, strict=True)]
