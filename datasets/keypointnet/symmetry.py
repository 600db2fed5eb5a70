"""Symmetries of shapes, and the labelings of a rotationally symmetric shape."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


class Symmetry(NamedTuple):
    """The symmetries of one shape, in columns of `keypoints`.

    ``rotation`` lists ``(columns, is_circle)``: keypoints that a rotation about the up axis takes to each other.
    ``reflection`` lists pairs of columns that a mirror plane exchanges; the data does not say which plane.
    """

    rotation: list[tuple[list[int], bool]]
    reflection: list[tuple[int, int]]


def rotation_groups(rotation: Int[Tensor, "G C"], is_circle: Bool[Tensor, " G"]) -> list[tuple[list[int], bool]]:
    """List the rotation groups of one shape from the filled-up tensors of an item, or of a row of a batch.

    Example:
        >>> rotation_groups(torch.tensor([[0, 2], [1, -1], [-1, -1]]), torch.tensor([False, True, False]))
        [([0, 2], False), ([1], True)]

    """
    rows = zip(rotation.tolist(), is_circle.tolist(), strict=True)
    return [(group, circle) for columns, circle in rows if (group := [c for c in columns if c >= 0])]


def rotated_labelings(
    pos: Float[Tensor, "N 3"],
    keypoints: Float[Tensor, "K 3"],
    visible: Bool[Tensor, " K"],
    groups: Sequence[tuple[Sequence[int], bool]],
    *,
    category: str | None = None,
) -> tuple[Float[Tensor, "R K 3"], Int[Tensor, "R K"]]:
    """Find the labelings of a rotationally symmetric shape that are as right as the annotated one.

    The protocol of KeypointNet's benchmark turns the keypoints about the vertical (y) axis through the mean of the
    first group by 2πi/R and moves them to the nearest point of the cloud; R is 36 if every group is a circle and the
    size of the first group otherwise. Shapes without groups and all chairs have R = 1.

    Args:
        pos: The cloud, in the dataset's own units and frame.
        keypoints: The annotated keypoints.
        visible: Which keypoints the shape has.
        groups: ``(columns, is_circle)`` per group, as in :meth:`KeypointNet.symmetry`.
        category: The shape's category; chairs are exempt.

    Returns:
        ``(keypoints [R, K, 3], index [R, K])``: the positions and the rows of `pos` nearest to them. The first
        labeling is the annotated one. Keypoints that the shape lacks are zeros and -1. Nothing is differentiable.

    """
    if len(pos) == 0:
        raise ValueError("`pos` has no points")
    groups = [(kept, circle) for g, circle in groups if (kept := [c for c in g if visible[c]])]
    num = 1
    if groups and category != "chair":
        num = 36 if all(circle for _, circle in groups) else len(groups[0][0])
    with torch.no_grad():
        turned = keypoints[None]
        if num > 1:
            center = keypoints[list(groups[0][0])].mean(0) * keypoints.new_tensor([1.0, 0.0, 1.0])
            angle = torch.arange(num, device=pos.device, dtype=pos.dtype) * (2 * torch.pi / num)
            cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
            rows = [cos, zero, sin, zero, zero + 1, zero, -sin, zero, cos]
            turned = (keypoints - center) @ torch.stack(rows, -1).view(num, 3, 3).mT + center
        # The exact mode: the matrix form loses digits where distances are compared.
        distance = torch.cdist(turned.flatten(0, 1), pos, compute_mode="donot_use_mm_for_euclid_dist")
        index = distance.argmin(-1).view(num, -1)
        labelings = pos[index]
        labelings[0] = keypoints
        labelings = torch.where(visible[:, None], labelings, 0.0)
        return labelings, torch.where(visible, index, -1)
