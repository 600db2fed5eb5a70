"""Distances between predicted and annotated keypoints, and their means."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pcsa._core.checks import check_floating, check_mask, check_positive, joined_hint, reads_values
from pcsa._core.points import working_dtype


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
        Distances, at least float32; 0 where not visible. Differentiable with respect to ``predicted`` and ``target``;
        the gradient is 0 where not visible and where both coincide.

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


def mean_error(
    distance: Float[Tensor, "B K"], visible: Bool[Tensor, "B K"], *, validate: bool = True
) -> Float[Tensor, ""]:
    r"""Mean distance, averaged as by :func:`pcsa.metrics.pck`: over the keypoints that a shape has, then over shapes.

    Args:
        distance: Distances, in the dataset's own units.
        visible: Which keypoints each shape has.
        validate: Check the values (synchronizes with the device). Without it the result is NaN if no keypoint is
            visible.

    Returns:
        A float64 scalar in the units of ``distance``. Differentiable with respect to ``distance``.

    Shapes:
        - **distance**, **visible:** :math:`(B, K)`
        - **output:** scalar

    Raises:
        ValueError: If shapes do not match, a distance is NaN or negative where visible, or nothing is visible.
    """
    check_distance(distance, visible, validate)
    return ratio(*error_sums(distance, visible), validate)


class CountedError(NamedTuple):
    """Distances, and which of them count: ``mean_error(*error)``, ``pck(*error, thresholds)``.

    Attributes:
        distance: 0 where not counted.
        counted: Takes the place of ``visible``.
    """

    distance: Float[Tensor, "B K"]
    counted: Bool[Tensor, "B K"]


def failure_rate(
    distance: Float[Tensor, "B K"], counted: Bool[Tensor, "B K"], threshold: float = 0.1, *, validate: bool = True
) -> Float[Tensor, ""]:
    """Share of the instances whose mean distance is above a threshold.

    For faces: the share of images whose normalized mean error is above 0.1.

    Args:
        distance: Distances from :func:`pcsa.metrics.normalized_error`.
        counted: Which of them count; instances of which none does are left out.
        threshold: Positive, in the units of ``distance``.
        validate: Check values (synchronizes with the device). Without it the result is NaN if nothing counts.

    Returns:
        A float64 scalar, 0 to 1. Not differentiable.

    Shapes:
        - **distance**, **counted:** :math:`(B, K)`
        - **output:** scalar

    Raises:
        ValueError: If shapes or dtypes do not fit, a distance that counts is negative or NaN, the threshold is not
            positive, or nothing counts.

    Example:
        >>> distance = torch.tensor([[0.0, 0.1], [0.0, 0.3]])
        >>> failure_rate(distance, torch.tensor([[True, True], [True, True]]))
        tensor(0.5000, dtype=torch.float64)
    """
    check_distance(distance, counted, validate, mask_name="counted")
    check_positive("threshold", threshold)
    num = counted.sum(dim=1)
    mean = distance.detach().double().masked_fill(~counted, 0).sum(dim=1) / num.clamp(min=1)
    return ratio((mean > threshold).sum().double(), (num > 0).sum(), validate, "counted")


def distances(predicted: Tensor, target: Tensor, visible: Tensor, validate: bool, name: str = "target") -> Tensor:
    """Compute :func:`keypoint_error`; errors call ``target`` by ``name``."""
    predicted, target = masked(predicted, target, visible, validate, name)
    return torch.linalg.vector_norm(predicted - target, dim=-1)


def masked(
    predicted: Tensor, target: Tensor, visible: Tensor, validate: bool, name: str = "target"
) -> tuple[Tensor, Tensor]:
    """Return both positions, checked, in one dtype, and 0 where not visible."""
    if predicted.ndim != 3 or predicted.shape != target.shape:
        hint = joined_hint(target.shape, predicted.shape)
        raise ValueError(
            f"`predicted` {list(predicted.shape)} and `{name}` {list(target.shape)} must both be [B, K, D]{hint}"
        )
    check_floating("predicted", predicted)
    check_floating(name, target)
    check_mask("visible", visible, predicted.shape[:2])
    dtype = working_dtype(predicted, target)
    # Masked before the norm: what an annotation holds where it is missing must reach neither value nor gradient.
    missing = ~visible[..., None]
    predicted, target = (x.to(dtype).masked_fill(missing, 0) for x in (predicted, target))
    if reads_values(validate) and not torch.stack((predicted, target)).isfinite().all():
        culprit = name if predicted.isfinite().all() else "predicted"
        raise ValueError(f"`{culprit}` must be finite where `visible`")
    return predicted, target


def check_distance(
    distance: Tensor, mask: Tensor, validate: bool, *, name: str = "distance", mask_name: str = "visible"
) -> None:
    """Raise unless ``distance`` is ``[B, K]``, and neither negative nor NaN where ``mask`` is true."""
    if distance.ndim != 2:
        raise ValueError(f"`{name}` {list(distance.shape)} must be [B, K]")
    check_floating(name, distance)
    if distance.shape != mask.shape:
        raise ValueError(f"`{name}` {list(distance.shape)} must have the shape of `{mask_name}` {list(mask.shape)}")
    check_mask(mask_name, mask, distance.shape)
    if reads_values(validate) and (mask & ~(distance >= 0)).any():
        raise ValueError(f"`{name}` must be at least 0 and not NaN where `{mask_name}`")


def sum_over_shapes(value: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
    """Sum each shape's mean of ``value`` (0 where not visible) over shapes, and count the shapes."""
    weight = visible / visible.sum(dim=1, keepdim=True).clamp(min=1).double()
    return torch.einsum("bk,bk...->...", weight, value.double()), visible.any(dim=1).sum()


def error_sums(distance: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
    """Sum each shape's mean distance over shapes, and count the shapes."""
    return sum_over_shapes(distance.masked_fill(~visible, 0), visible)


def ratio(total: Tensor, num_shapes: Tensor, validate: bool = True, mask_name: str = "visible") -> Tensor:
    """Divide a sum over shapes by their number; raise if there is no shape."""
    if reads_values(validate) and num_shapes == 0:
        raise ValueError(f"no {mask_name} keypoint was seen: there is nothing to compute a score from")
    return total / num_shapes
