"""Keypoints that were taken for others: left for right, one leg of a chair for another."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pcsa._core.checks import check_shape, reads_values
from pcsa.metrics.errors import masked


class Confusion(NamedTuple):
    """What :func:`confused_keypoints` found.

    Attributes:
        nearest: Column of the annotated place that is nearest to each prediction, its own where it is as near as
            another; -1 where not visible.
        exchanged: Predictions that are nearer to the place of a partner than to their own.
        paired: Keypoints that are visible and have a visible partner: ``exchanged[paired].double().mean()``.
    """

    nearest: Int[Tensor, "B K"]
    exchanged: Bool[Tensor, "B K"]
    paired: Bool[Tensor, "B K"]


def confused_keypoints(
    predicted: Float[Tensor, "B K D"],
    target: Float[Tensor, "B K D"],
    visible: Bool[Tensor, "B K"],
    pairs: Int[Tensor, "B P 2"] | None = None,
    *,
    validate: bool = True,
) -> Confusion:
    r"""Say which annotated keypoint each prediction is nearest to, and which are nearer to their mirror partner.

    A distance does not tell a keypoint that was missed by a hand's width from one that was set on the other hand. This
    does. Thresholds have no part in it.

    Args:
        predicted: Predicted positions, in the dataset's own units.
        target: Annotated positions, in the same units; may hold anything where not visible.
        visible: Which keypoints each shape has.
        pairs: Columns that a plane of symmetry exchanges, such as left and right, filled up with -1: ``reflection`` of
            :class:`pcsa.datasets.KeypointNet`. A keypoint may be in several, one for each plane; the nearest partner
            counts. None: no keypoint has a partner.
        validate: Check the values (synchronizes with the device).

    Returns:
        :class:`Confusion`. Not differentiable.

    Shapes:
        - **predicted**, **target:** :math:`(B, K, D)`
        - **visible:** :math:`(B, K)`
        - **pairs:** :math:`(B, P, 2)`
        - **output:** three times :math:`(B, K)`

    Raises:
        ValueError: If shapes or dtypes do not fit, a position is not finite where visible, or a pair has a column that
            there is not.

    Example:
        >>> eyes = torch.tensor([[[-1.0, 0.0], [1.0, 0.0]]])
        >>> found = confused_keypoints(eyes.flip(1), eyes, torch.ones(1, 2, dtype=torch.bool), torch.tensor([[[0, 1]]]))
        >>> found.nearest.tolist(), found.exchanged.tolist()
        ([[1, 0]], [[True, True]])
    """
    predicted, target = masked(predicted.detach(), target.detach(), visible, validate)
    B, K = visible.shape
    away = torch.linalg.vector_norm(predicted.unsqueeze(2) - target.unsqueeze(1), dim=-1)
    own = away.diagonal(dim1=1, dim2=2)
    others = away.masked_fill(~visible.unsqueeze(1), torch.inf)
    least, nearest = others.min(2)
    nearest = torch.where(own <= least, torch.arange(K, device=own.device), nearest).masked_fill(~visible, -1)
    if pairs is None:
        none = torch.zeros_like(visible)
        return Confusion(nearest, none, none)
    _check_pairs(pairs, B, K, validate)
    # What is filled up goes to a row and a column of its own.
    first, second = torch.where((pairs >= 0).all(2, keepdim=True), pairs, K).long().unbind(2)
    shape = torch.arange(B, device=own.device).unsqueeze(1)
    partner = torch.zeros(B, K + 1, K + 1, dtype=torch.bool, device=own.device)
    partner[shape, first, second] = True
    partner = (partner | partner.mT)[:, :K, :K] & visible.unsqueeze(1) & visible.unsqueeze(2)
    return Confusion(nearest, others.masked_fill(~partner, torch.inf).amin(2) < own, partner.any(2))


def _check_pairs(pairs: Tensor, B: int, K: int, validate: bool) -> None:
    check_shape("pairs", pairs, (B, "P", 2))
    if pairs.is_floating_point() or pairs.is_complex() or pairs.dtype == torch.bool:
        raise ValueError(f"`pairs` must be whole numbers, not {pairs.dtype}")
    if reads_values(validate) and bool(((pairs < -1) | (pairs >= K)).any()):
        raise ValueError(f"`pairs` must be columns below K (={K}), or -1")
