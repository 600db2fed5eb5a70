"""Fraction of correct keypoints (PCK), at the thresholds of KeypointNet's benchmark."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pcsa._core.checks import Numbers, check_thresholds
from pcsa._core.points import working_dtype
from pcsa.metrics.errors import check_distance, ratio, sum_over_shapes

THRESHOLDS: tuple[float, ...] = tuple(i / 100 for i in range(11))
"""Thresholds of KeypointNet's benchmark: 0, 0.01, …, 0.1."""


def pck(
    distance: Float[Tensor, "B K"],
    visible: Bool[Tensor, "B K"],
    thresholds: Numbers = THRESHOLDS,
    *,
    validate: bool = True,
) -> Float[Tensor, " T"]:
    r"""Fraction of correct keypoints (PCK), the protocol of KeypointNet's benchmark.

    From `"KeypointNet" <https://arxiv.org/abs/2002.12687>`_.
    A keypoint is correct if its distance is strictly below the threshold (so none is at threshold 0). The fraction is
    taken per shape over the keypoints it has, then averaged over shapes; shapes without any are left out.

    Args:
        distance: Distances, Euclidean or geodesic, in the dataset's own units; infinity is never correct.
        visible: Which keypoints each shape has; the others' distances are not looked at.
        thresholds: Increasing, in the units of ``distance``; compared in its dtype.
        validate: Check the values (synchronizes with the device). Without it the result is NaN if no keypoint is
            visible.

    Returns:
        Fraction per threshold, float64. Not differentiable.

    Shapes:
        - **distance**, **visible:** :math:`(B, K)`
        - **output:** :math:`(T)`

    Raises:
        ValueError: If shapes do not match, a distance is NaN or negative where visible, nothing is visible, or
            ``thresholds`` is empty, negative or not increasing.

    Example:
        >>> distance = torch.tensor([[0.0, 0.5], [0.3, 0.0]])
        >>> pck(distance, torch.tensor([[True, True], [True, False]]), [0.1, 0.4])
        tensor([0.2500, 0.7500], dtype=torch.float64)
    """
    thresholds = check_thresholds("thresholds", thresholds)
    check_distance(distance, visible, validate)
    return ratio(*pck_sums(distance, visible, thresholds), validate)


def pck_sums(distance: Tensor, visible: Tensor, thresholds: Numbers) -> tuple[Tensor, Tensor]:
    """Sum each shape's fractions of correct keypoints over shapes, and count the shapes."""
    distance = distance.detach().to(working_dtype(distance))
    limit = torch.tensor(thresholds, dtype=distance.dtype, device=distance.device)
    return sum_over_shapes((distance[..., None] < limit) & visible[..., None], visible)
