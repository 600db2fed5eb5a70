"""Errors of poses in space: MPJPE, and the same after Procrustes alignment."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pcsa._core.checks import check_count
from pcsa.metrics.errors import CountedError, keypoint_error, masked


def mpjpe(
    predicted: Float[Tensor, "B K D"],
    target: Float[Tensor, "B K D"],
    visible: Bool[Tensor, "B K"],
    root: int | None = None,
    *,
    validate: bool = True,
) -> CountedError:
    """Position error of each joint; ``mean_error(*error)`` is the mean per joint position error (MPJPE).

    Args:
        predicted: Predicted positions, in millimeters for Human3.6M's usual figures.
        target: Annotated positions in the same unit; may hold anything where not visible.
        visible: Which joints each pose has.
        root: Joint (the pelvis, say) that is moved to the origin in both poses, so that only the pose counts and not
            the place: Human3.6M's protocol 1. It counts as a joint of error 0. Poses whose root is not visible do not
            count. Default ``None``: poses are not moved.
        validate: Check values (synchronizes with the device).

    Returns:
        :class:`CountedError`, at least float32. Differentiable with respect to ``predicted`` and ``target``.

    Shapes:
        - **predicted**, **target:** :math:`(B, K, D)`
        - **visible**, **output:** :math:`(B, K)`

    Raises:
        ValueError: If shapes or dtypes do not fit, a position is not finite where visible, or ``root`` is not a place
            in the joints.

    Example:
        >>> target = torch.tensor([[[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]])
        >>> predicted = target + torch.tensor([0.0, 0.0, 7.0])
        >>> visible = torch.tensor([[True, True]])
        >>> mpjpe(predicted, target, visible).distance, mpjpe(predicted, target, visible, root=0).distance
        (tensor([[7., 7.]]), tensor([[0., 0.]]))
    """
    predicted, target = masked(predicted, target, visible, validate)
    counted = visible
    if root is not None:
        check_count("root", root, least=0, most=visible.shape[1] - 1)
        counted = visible & visible[:, root : root + 1]
        predicted, target = (x - x[:, root : root + 1] for x in (predicted, target))
    return CountedError(keypoint_error(predicted, target, counted, validate=False), counted)


def procrustes_align(
    predicted: Float[Tensor, "B K D"],
    target: Float[Tensor, "B K D"],
    visible: Bool[Tensor, "B K"],
    *,
    validate: bool = True,
) -> Float[Tensor, "B K D"]:
    r"""Each predicted pose moved, turned and scaled to fit the annotated one as well as it can be.

    The similarity transform with the least :math:`\sum_{k \in V} \|s R \hat y_k + t - y_k\|^2` over the visible
    joints, R a rotation: a mirrored pose stays mirrored. In closed form by the singular value decomposition
    (`Umeyama 1991 <https://doi.org/10.1109/34.88573>`_), in float64.

    Args:
        predicted: Predicted positions.
        target: Annotated positions; may hold anything where not visible.
        visible: Which joints each pose has.
        validate: Check values (synchronizes with the device).

    Returns:
        All joints of ``predicted``, transformed, at least float32. Always finite where visible. Joints on a line leave
        the turn about it open: one of the best turns is taken. Predictions that all coincide, and poses with one
        visible joint, come to lie at the mean of the annotations; poses without a visible joint, at 0. Not
        differentiable.

    Shapes:
        - **predicted**, **target**, **output:** :math:`(B, K, D)`
        - **visible:** :math:`(B, K)`

    Raises:
        ValueError: If shapes or dtypes do not fit or a position is not finite where visible.

    Example:
        >>> target = torch.tensor([[[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]]])
        >>> turned = torch.tensor([[[5.0, 5.0], [5.0, 8.0], [-1.0, 5.0]]])  # by 90 degrees, three times as large
        >>> procrustes_align(turned, target, torch.ones(1, 3, dtype=torch.bool)).round(decimals=4).abs()
        tensor([[[0., 0.],
                 [1., 0.],
                 [0., 2.]]])
    """
    seen, wanted = (x.detach() for x in masked(predicted, target, visible, validate))
    dtype = seen.dtype
    seen, wanted = seen.double(), wanted.double()
    there = visible[..., None]
    num = there.sum(dim=1, keepdim=True).clamp(min=1)
    center, wanted_center = (x.sum(dim=1, keepdim=True) / num for x in (seen, wanted))
    a, b = ((x - c).masked_fill(~there, 0) for x, c in ((seen, center), (wanted, wanted_center)))
    left, strength, right = torch.linalg.svd(a.mT @ b)
    sign = torch.ones_like(strength)
    sign[:, -1] = torch.where(torch.linalg.det(left @ right) < 0, -1.0, 1.0)
    spread = a.square().sum(dim=(1, 2))
    # Equal positions differ from their mean by its rounding.
    rounding = (1e-12 * seen.abs().amax(dim=(1, 2))).square()
    scale = torch.where(spread > rounding, (strength * sign).sum(dim=1) / spread, 0.0)
    turned = (predicted.detach().double() - center) @ ((left * sign[:, None]) @ right)
    return (scale[:, None, None] * turned + wanted_center).to(dtype)


def pa_mpjpe(
    predicted: Float[Tensor, "B K D"],
    target: Float[Tensor, "B K D"],
    visible: Bool[Tensor, "B K"],
    *,
    validate: bool = True,
) -> CountedError:
    """Position error of each joint after :func:`procrustes_align`; ``mean_error(*error)`` is PA-MPJPE.

    Human3.6M's protocol 2.

    Args:
        predicted: Predicted positions, in millimeters for Human3.6M's usual figures.
        target: Annotated positions in the same unit; may hold anything where not visible.
        visible: Which joints each pose has. Poses with fewer than three do not count: any two joints can be brought
            onto any two others.
        validate: Check values (synchronizes with the device).

    Returns:
        :class:`CountedError`, at least float32. Not differentiable.

    Shapes:
        - **predicted**, **target:** :math:`(B, K, D)`
        - **visible**, **output:** :math:`(B, K)`

    Raises:
        ValueError: If shapes or dtypes do not fit or a position is not finite where visible.
    """
    aligned = procrustes_align(predicted, target, visible, validate=validate)
    counted = visible & (visible.sum(dim=1, keepdim=True) >= 3)
    return CountedError(keypoint_error(aligned, target.detach(), counted, validate=False), counted)
