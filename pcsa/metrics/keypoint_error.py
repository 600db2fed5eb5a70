"""Distance between predicted and annotated keypoints, and the checks that all metrics share.

Public in :mod:`pcsa.metrics`.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def keypoint_error(
    predicted: Float[Tensor, "B K D"],
    target: Float[Tensor, "B K D"],
    visible: Bool[Tensor, "B K"],
    *,
    validate: bool = True,
) -> Float[Tensor, "B K"]:
    r"""Euclidean distance between predicted and annotated keypoints.

    Args:
        predicted: Predicted positions, in the dataset's own units.
        target: Annotated positions, in the same units; may hold anything where not visible.
        visible: Which keypoints each shape has.
        validate: Check that positions are finite where visible (synchronizes with the device).

    Returns:
        Distances, at least float32; 0 where not visible. Differentiable with respect to ``predicted`` and
        ``target``; the gradient is 0 where not visible and where both coincide.

    Shapes:
        - **predicted**, **target:** :math:`(B, K, D)`
        - **visible**, **output:** :math:`(B, K)`

    Raises:
        ValueError: If shapes or dtypes do not fit, or a position is not finite where visible.

    Example:
        >>> predicted = torch.tensor([[[0.0, 0.0], [3.0, 4.0]]])
        >>> keypoint_error(predicted, torch.zeros(1, 2, 2), torch.tensor([[True, True]]))
        tensor([[0., 5.]])
    """
    return distances(predicted, target, visible, validate)


def distances(predicted: Tensor, target: Tensor, visible: Tensor, validate: bool, name: str = "target") -> Tensor:
    """:func:`keypoint_error` with another name for ``target`` in what it complains of."""
    predicted, target = masked(predicted, target, visible, validate, name)
    return torch.linalg.vector_norm(predicted - target, dim=-1)


def masked(
    predicted: Tensor, target: Tensor, visible: Tensor, validate: bool, name: str = "target"
) -> tuple[Tensor, Tensor]:
    """Both positions, checked, in one dtype, and 0 where not visible."""
    if predicted.ndim != 3 or predicted.shape != target.shape:
        raise ValueError(
            f"`predicted` {list(predicted.shape)} and `{name}` {list(target.shape)} must both be [B, K, D]"
        )
    check_floating("predicted", predicted)
    check_floating(name, target)
    check_mask("visible", visible, predicted.shape[:2])
    dtype = torch.promote_types(torch.promote_types(predicted.dtype, target.dtype), torch.float32)
    # Masked before the norm: what an annotation holds where it is missing must reach neither value nor
    # gradient.
    missing = ~visible[..., None]
    predicted, target = (x.to(dtype).masked_fill(missing, 0) for x in (predicted, target))
    if checks(validate) and not torch.stack((predicted, target)).isfinite().all():
        culprit = name if predicted.isfinite().all() else "predicted"
        raise ValueError(f"`{culprit}` must be finite where `visible`")
    return predicted, target


def checks(validate: bool) -> bool:
    return validate and not torch.compiler.is_compiling()


def check_floating(name: str, value: Tensor) -> None:
    if not value.is_floating_point():
        raise ValueError(f"`{name}` ({value.dtype}) must be floating point")


def check_mask(name: str, mask: Tensor, shape: Sequence[int]) -> None:
    if mask.dtype != torch.bool or mask.shape != tuple(shape):
        raise ValueError(f"`{name}` ({mask.dtype} {list(mask.shape)}) must be bool {list(shape)}")
