"""Errors in lengths of the instance's own, such as PCK by the torso, PCKh, and the normalized mean error of faces."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pcsa._core.checks import check_floating, check_mask, reads_values
from pcsa.metrics.errors import CountedError, keypoint_error


class SegmentLength(NamedTuple):
    """Lengths to measure errors by, from :func:`segment_length`.

    Attributes:
        length: In the units of the positions; 0 where not known.
        known: Whether both ends are visible.
    """

    length: Float[Tensor, " B"]
    known: Bool[Tensor, " B"]


def segment_length(
    keypoints: Float[Tensor, "B K D"],
    visible: Bool[Tensor, "B K"],
    ends: tuple[int, int],
    *,
    validate: bool = True,
) -> SegmentLength:
    """Length of each instance's segment between two *annotated* keypoints, to measure errors by.

    - PCK uses the torso, left shoulder to right hip.
    - PCKh uses the head. MPII's figures use 0.6 times the diagonal of the annotated head *box*. Where there is no box
      (LSP), the head's segment, neck to top of the head, stands in for it: near it, but not the same number.
    - The normalized mean error of faces uses the distance of the eyes' centers (or, in other protocols, of their outer
      corners).

    Args:
        keypoints: Annotated positions; may hold anything where not visible.
        visible: Which keypoints each instance has.
        ends: Two different places in the keypoints.
        validate: Check that both ends are finite where visible (synchronizes with the device).

    Returns:
        :class:`SegmentLength`, for :func:`normalized_error`.

    Shapes:
        - **keypoints:** :math:`(B, K, D)`
        - **visible:** :math:`(B, K)`
        - **output:** twice :math:`(B)`

    Raises:
        ValueError: If shapes or dtypes do not fit, a position is not finite where visible, or ``ends`` are not two
            places in the keypoints.

    Example:
        >>> keypoints = torch.tensor([[[0.0, 0.0], [3.0, 4.0], [9.0, 9.0]]])
        >>> segment_length(keypoints, torch.tensor([[True, True, False]]), (0, 1))
        SegmentLength(length=tensor([5.]), known=tensor([True]))
    """
    if keypoints.ndim != 3:
        raise ValueError(f"`keypoints` {list(keypoints.shape)} must be [B, K, D]")
    check_floating("keypoints", keypoints)
    check_mask("visible", visible, keypoints.shape[:2])
    K = keypoints.shape[1]
    if len(ends) != 2 or ends[0] == ends[1] or not all(0 <= end < K for end in ends):
        raise ValueError(f"`ends` (={tuple(ends)}) must be two different places in {K} keypoints")
    first, second = (keypoints[:, end : end + 1] for end in ends)
    known = visible[:, ends[0]] & visible[:, ends[1]]
    if reads_values(validate) and not (keypoints[:, list(ends)][known]).isfinite().all():
        raise ValueError("`keypoints` must be finite where `visible`")
    return SegmentLength(keypoint_error(first, second, known[:, None], validate=False)[:, 0], known)


def normalized_error(
    predicted: Float[Tensor, "B K D"],
    target: Float[Tensor, "B K D"],
    visible: Bool[Tensor, "B K"],
    reference: Float[Tensor, " B"],
    known: Bool[Tensor, " B"],
    *,
    validate: bool = True,
) -> CountedError:
    """Distance between predicted and annotated keypoints, in lengths of a reference of each instance.

    For ``error = normalized_error(…)``, ``mean_error(*error)`` is the normalized mean error (NME),
    ``pck(*error, [0.2])`` is PCK@0.2 and, by the head, ``pck(*error, [0.5])`` is PCKh@0.5. Both average over the
    keypoints of an instance, then over instances; the pooled fraction that some benchmarks report is
    ``(distance < 0.5)[counted].float().mean()``.

    Args:
        predicted: Predicted positions.
        target: Annotated positions in the same unit; may hold anything where not visible.
        visible: Which keypoints each instance has.
        reference: Length of each instance's reference, see :func:`segment_length`.
        known: Which references are known. Instances whose reference is unknown or 0 do not count.
        validate: Check values (synchronizes with the device).

    Returns:
        :class:`CountedError`, at least float32. Differentiable with respect to ``predicted``, ``target`` and
        ``reference``.

    Shapes:
        - **predicted**, **target:** :math:`(B, K, D)`
        - **visible**, **output:** :math:`(B, K)`
        - **reference**, **known:** :math:`(B)`

    Raises:
        ValueError: If shapes or dtypes do not fit, a position is not finite where visible, or a known reference is
            negative or not finite.

    Example:
        >>> predicted, target = torch.tensor([[[0.0, 1.0], [3.0, 4.0]]]), torch.tensor([[[0.0, 0.0], [3.0, 4.0]]])
        >>> visible = torch.tensor([[True, True]])
        >>> normalized_error(predicted, target, visible, *segment_length(target, visible, (0, 1))).distance
        tensor([[0.2000, 0.0000]])
    """
    distance = keypoint_error(predicted, target, visible, validate=validate)
    check_mask("known", known, (len(visible),))
    check_per_shape("reference", reference, visible, known, validate)
    usable = (known & (reference > 0))[:, None]
    counted = visible & usable
    length = torch.where(usable, reference[:, None], 1.0)
    return CountedError((distance / length).masked_fill(~counted, 0), counted)


def check_per_shape(name: str, value: Tensor, visible: Tensor, needed: Tensor, validate: bool) -> None:
    """Raise unless ``value`` is ``[B]``, and finite and at least 0 where ``needed``."""
    if value.shape != visible.shape[:1]:
        raise ValueError(f"`{name}` {list(value.shape)} must be [{len(visible)}], one for each row of `visible`")
    check_floating(name, value)
    if reads_values(validate) and (needed & ~((value >= 0) & value.isfinite())).any():
        raise ValueError(f"`{name}` must be at least 0 and finite where it is needed")
