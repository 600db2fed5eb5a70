"""Arguments that all objectives share: what may be given, how it is checked, masked and reduced."""

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, TypedDict, Unpack

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pcsa._core.checks import (
    Reduction,
    check_floating,
    check_index,
    check_keypoints,
    check_mask,
    check_reduction,
    check_temperature,
    finite,
    raise_first,
    reads_values,
)
from pcsa._core.data import Cloud
from pcsa._core.points import Points, canonical, tempered, working_dtype
from pcsa._core.triton import means

Norm = Literal["l2", "l1", "squared", "bounded"]
Logits = Float[Tensor, "*N K"]
Positions = Float[Tensor, "*N D"] | Cloud
Bandwidth = float | Float[Tensor, " ..."]
Target = Float[Tensor, "B K D"]
Clouds = Int[Tensor, " N"]  # the cloud of each point


class Masking(TypedDict, total=False):
    """Options of every objective.

    Attributes:
        visible: Keypoints that an instance has ``[B, K]``; all of them by default.
        reduction: ``"mean"`` over the visible keypoints of the whole batch (the default), ``"sum"`` or ``"none"``.
        validate: Check values too. Default true.
    """

    visible: Bool[Tensor, "B K"] | None
    reduction: Reduction
    validate: bool


class Options(Masking, total=False):
    """Options of every objective on a probability map.

    Attributes:
        ptr: First row of each cloud, then N; in place of ``batch``.
        mask: Points that exist ``[B, N]``, for dense input.
        batch_size: Number of clouds; with ``batch``, saves the wait to find it.
        temperature: Divides the logits: a number, or a 0-d tensor, to which the objective is differentiable. Default 1.
    """

    ptr: Int[Tensor, " B_plus_1"] | None
    mask: Bool[Tensor, "B N"] | None
    batch_size: int | None
    temperature: float | Tensor


class Keypoints(NamedTuple):
    """The keypoints that an objective is about, ``shape`` (B, K), and what is done with them."""

    shape: tuple[int, int]
    visible: Tensor | None
    reduction: Reduction
    validate: bool

    def known(self, target: Tensor, like: Tensor | Points, *, masked: bool = True) -> Tensor:
        """Return the target with zeros in place of what is not visible, so that no NaN enters a computation.

        It must have the axes of the positions ``like``, the last of their dimensions, and takes their dtype; of points,
        their frame too. Whoever bears what is not visible asks for it not ``masked``.
        """
        pos = like.pos if isinstance(like, Points) else like
        check_keypoints("target", target, (*self.shape, pos.shape[-1]))
        target = (like.within(target) if isinstance(like, Points) else target).to(pos.dtype)
        if not masked and not reads_values(self.validate):
            return target
        target = target if self.visible is None else torch.where(self.visible.unsqueeze(-1), target, 0.0)
        if reads_values(self.validate):
            raise_first([finite("target", target, "wherever `visible`")])
        return target

    def known_rows(self, index: Tensor, points: Points, *, dense: bool) -> Tensor:
        """Return rows of ``points``, with the cloud's first where a keypoint is not visible."""
        check_index("index", index, self.shape)
        first, end = points.ptr[:-1, None], points.ptr[1:, None]
        index = index.long() + first if dense else index.long()
        used = torch.ones_like(index, dtype=torch.bool) if self.visible is None else self.visible
        inside = (index >= first) & (index < end)
        row = torch.where(used & inside, index, first).clamp(max=len(points.batch) - 1)
        if reads_values(self.validate):
            exists = inside & (points.logits.gather(0, row) > -math.inf)
            rule = "`index` must be an existing point of its own cloud wherever `visible`: others found"
            raise_first([((exists | ~used).all(), rule)])
        return row

    def reduce(self, loss: Tensor) -> Tensor:
        """Reduce a loss ``[B, K]`` over the visible keypoints."""
        if self.reduction == "mean" and means.takes(loss):
            return means.mean(loss, self.visible)
        if self.visible is not None:
            loss = torch.where(self.visible, loss, 0.0)
        if self.reduction == "none":
            return loss
        if self.reduction == "sum":
            return loss.sum()
        if self.visible is None:
            return loss.sum() / max(loss.numel(), 1)
        return loss.sum() / self.visible.sum().clamp(min=1)


def keypoints_of(
    shape: Sequence[int],
    *,
    visible: Bool[Tensor, "B K"] | None = None,
    reduction: Reduction = "mean",
    validate: bool = True,
) -> Keypoints:
    """Check the options of an objective on keypoints ``[B, K]``."""
    check_reduction(reduction)
    if visible is not None:
        check_mask("visible", visible, shape)
    return Keypoints((shape[0], shape[1]), visible, reduction, validate)


def map_of(
    logits: Logits,
    pos: Positions,
    bandwidth: Bandwidth | None,
    batch: Clouds | None,
    *,
    ptr: Int[Tensor, " P"] | None = None,
    mask: Bool[Tensor, "B N"] | None = None,
    batch_size: int | None = None,
    temperature: float | Tensor = 1.0,
    near: bool = False,
    **masking: Unpack[Masking],
) -> tuple[Points, Keypoints]:
    """Check what an objective on a probability map was given; ``near`` for one that takes mean positions."""
    how: dict[str, Any] = {"batch_size": batch_size, "validate": masking.get("validate", True), "near": near}
    check_temperature(temperature)
    points = canonical(logits, pos, bandwidth, batch, ptr=ptr, mask=mask, **how)
    if isinstance(temperature, Tensor) or temperature != 1:
        points = points._replace(logits=tempered(points, temperature))
    return points, keypoints_of((points.batch_size, points.logits.shape[1]), **masking)


def at_least_float32(name: str, x: Tensor) -> Tensor:
    """Return a prediction in float32, or float64 where it is that."""
    check_floating(name, x)
    return x.to(working_dtype(x))
