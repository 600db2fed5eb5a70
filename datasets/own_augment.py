"""Variation of a cloud by a function of one's own."""

import torch
from torch import Tensor
from torch_geometric.data import Data

from pcsa.datasets.own_function import call, called, check_finite, check_same


def vary(path: str, data: Data, generator: torch.Generator, per_cloud: tuple[str, ...]) -> Data:
    """Call a function of one's own on a copy of a cloud, and check what it returns.

    Args:
        path: The function, called as ``function(data, generator)``; see :func:`pcsa.datasets.own_function.call`.
        data: The cloud.
        generator: The source of randomness.
        per_cloud: Names of what a cloud has once, whatever its number of points.

    Returns:
        What the function returned; keypoints that are not visible, and marks that are not there, are zeros.

    Raises:
        ValueError: Naming what is missing or of another shape, not finite, or left behind; or saying what the function
            raised.
    """
    said = called(path)
    out = call(path, data.clone(), generator)
    if not isinstance(out, Data):
        raise ValueError(f"{said} must return a Data, returned a {type(out).__name__}")
    if lost := sorted(key for key in data.to_dict() if key not in out):
        raise ValueError(f"{said} must return all that it was given, lost `{lost[0]}`")
    pos = out.pos
    if not isinstance(pos, Tensor) or pos.dim() != 2 or not len(pos) or pos.shape[1:] != data.pos.shape[1:]:
        shape = list(pos.shape) if isinstance(pos, Tensor) else type(pos).__name__
        raise ValueError(f"{said} returned `pos` {shape}, must be [N, {data.pos.shape[1]}] with at least one point")
    for key, value in data.to_dict().items():
        if isinstance(value, Tensor):
            check_same(path, key, value, out[key], len(pos) if _per_point(key, value, data, per_cloud) else None)
    if "keypoints" in out and "visible" in out:
        out.keypoints = torch.where(out.visible[..., None], out.keypoints, 0.0)
    if "marks" in out and "marked" in out:
        shown = (out.visible & data.visible & data.marked.any(2)) if "visible" in data else data.marked.any(2)
        moved = "keypoints" in data and not torch.equal(data.keypoints[shown], out.keypoints[shown])
        if moved and torch.equal(data.marks, out.marks):
            raise ValueError(f"{said} moved `keypoints` and left `marks` where they were: they are places, too")
        out.marks = torch.where(out.marked[..., None], out.marks, 0.0)
    for key in ("pos", "keypoints", "marks"):
        if key in out:
            check_finite(path, key, out[key])
    return out


def _per_point(key: str, value: Tensor, data: Data, per_cloud: tuple[str, ...]) -> bool:
    return key not in per_cloud and value.dim() > 0 and len(value) == data.num_nodes
