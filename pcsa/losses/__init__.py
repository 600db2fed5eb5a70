"""Objectives of sampling-argmax on point sets; a grid is the point set of its cells' centers.

Equation numbers are those of `Localization with Sampling-Argmax <https://arxiv.org/abs/2110.08825>`_.

What all functions share:

* ``logits`` and ``pos`` are ragged ``[N, K]`` and ``[N, D]`` with ``batch [N]`` (sorted) or ``ptr [B + 1]``,
  one cloud without either, or dense ``[B, N, K]`` and ``[B, N, D]`` with an optional bool ``mask [B, N]``
  (true: the point exists). ``bandwidth`` is a number, one per point (``[N]``, dense ``[B, N]``), or one per
  point and axis (the shape of ``pos``).
* ``target [B, K, D]`` holds the true positions, in the units of ``pos``.
* ``visible [B, K]`` (bool) says which keypoints an instance has; without it all of them count. What
  ``target`` holds for the others is never used: it may be NaN. They add exactly zero to loss and gradient.
* ``reduction``: ``"mean"`` over the visible keypoints of the whole batch (0 where there is none), ``"sum"``,
  or ``"none"`` for ``[B, K]`` with zeros where a keypoint isn't visible.
* ``validate=False`` skips the rules on values, and with them the wait for the device; rules on shapes, types
  and options always hold. While compiling, values are not looked at either.
* Computed in float32 at least, under autocast too, and in float64 where the input is float64. Differentiable
  in every floating point tensor unless the function says otherwise.
* A broken rule raises a ValueError that names the argument, its value and the rule.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pcsa._core.points import (
    Points,
    bandwidth_of,
    canonical,
    cloud_log_softmax,
    cloud_max,
    cloud_mean,
    cloud_softmax,
    cloud_sum,
    full_precision,
    raise_first,
)
from pcsa.skeleton import (
    CompositeChamfer as CompositeChamfer,
    composite_chamfer as composite_chamfer,
    keypoint_separation as keypoint_separation,
    mirror_error as mirror_error,
)

__all__ = [
    "CompositeChamfer",
    "composite_chamfer",
    "discrete_expected_error",
    "expectation_error",
    "js_regularization",
    "keypoint_separation",
    "mirror_error",
    "mixture_expected_error",
    "mixture_nll",
    "nearest_point_cross_entropy",
    "position_error",
    "presence_loss",
    "sample_error",
    "variance_regularization",
]

Norm = Literal["l2", "l1", "squared"]
Reduction = Literal["mean", "sum", "none"]


def sample_error(
    samples: Float[Tensor, "B K S D"],
    target: Float[Tensor, "B K D"],
    *,
    norm: Norm = "l2",
    visible: Bool[Tensor, "B K"] | None = None,
    reduction: Reduction = "mean",
    validate: bool = True,
) -> Tensor:
    r"""Expectation of the error, estimated by samples (Eq. 14): :math:`\frac{1}{S} \sum_s d(\hat Y_s, y_t)`.

    Args:
        samples: What :func:`pcsa.sampling_argmax` drew.
        target: True positions, in the units of ``samples``.
        norm: ``"l2"`` Euclidean distance (its gradient at distance zero is zero), ``"l1"`` sum of the
            absolute differences, ``"squared"`` Euclidean distance squared.
        visible: See the module.
        reduction: See the module.
        validate: See the module.

    Example:
        >>> samples = torch.tensor([[[[3.0, 4.0], [0.0, 1.0]]]])  # distances 5 and 1 from the origin
        >>> sample_error(samples, torch.zeros(1, 1, 2))
        tensor(3.)
    """
    if samples.dim() != 4 or samples.shape[2] == 0:
        raise ValueError(f"`samples` {list(samples.shape)} must be [B, K, S, D] with at least one sample")
    _check_options(norm, reduction)
    samples = _at_least_float32("samples", samples)
    target = _known_target(target, visible, samples.shape[:2], samples.shape[3], samples.dtype, validate)
    return _reduce(_distance((samples - target.unsqueeze(2)).unbind(-1), norm).mean(2), visible, reduction)


def position_error(
    position: Float[Tensor, "B K D"],
    target: Float[Tensor, "B K D"],
    *,
    norm: Norm = "l2",
    visible: Bool[Tensor, "B K"] | None = None,
    reduction: Reduction = "mean",
    validate: bool = True,
) -> Tensor:
    """Error of one position per keypoint; for :func:`pcsa.soft_argmax` the error of the expectation (Eq. 2).

    Args:
        position: Predicted positions.
        target: True positions, in the units of ``position``.
        norm: ``"l2"``, ``"l1"`` or ``"squared"``, as in :func:`sample_error`.
        visible: See the module.
        reduction: See the module.
        validate: See the module.
    """
    if position.dim() != 3:
        raise ValueError(f"`position` {list(position.shape)} must be [B, K, D]")
    _check_options(norm, reduction)
    position = _at_least_float32("position", position)
    target = _known_target(target, visible, position.shape[:2], position.shape[2], position.dtype, validate)
    return _reduce(_distance((position - target).unbind(-1), norm), visible, reduction)


def expectation_error(
    logits: Float[Tensor, "*N K"],
    pos: Float[Tensor, "*N D"],
    target: Float[Tensor, "B K D"],
    batch: Int[Tensor, " N"] | None = None,
    *,
    ptr: Int[Tensor, " P"] | None = None,
    mask: Bool[Tensor, "B N"] | None = None,
    batch_size: int | None = None,
    norm: Norm = "l2",
    visible: Bool[Tensor, "B K"] | None = None,
    reduction: Reduction = "mean",
    validate: bool = True,
) -> Tensor:
    r"""Error of the expectation (Eq. 2), :math:`d(\sum_i \pi_i y_i, y_t)`: training with soft-argmax.

    It says nothing of the map's shape, only of its mean. For a position that is computed already, see
    :func:`position_error`.

    Args:
        logits: Scores before softmax.
        pos: Positions of the points.
        target: True positions.
        batch: Cloud of each point.
        ptr: First row of each cloud, in place of ``batch``.
        mask: Points that exist, for dense input.
        batch_size: Number of clouds; with ``batch``, saves the wait to find it.
        norm: ``"l2"``, ``"l1"`` or ``"squared"``, as in :func:`sample_error`.
        visible: See the module.
        reduction: See the module.
        validate: See the module.
    """
    _check_options(norm, reduction)
    points = canonical(logits, pos, None, batch, ptr=ptr, mask=mask, batch_size=batch_size, validate=validate)
    target = _target_of(points, target, visible, validate)
    position = _expectation(cloud_softmax(points.logits, points), points)
    return _reduce(_distance((position - target).unbind(-1), norm), visible, reduction)


def discrete_expected_error(
    logits: Float[Tensor, "*N K"],
    pos: Float[Tensor, "*N D"],
    target: Float[Tensor, "B K D"],
    batch: Int[Tensor, " N"] | None = None,
    *,
    ptr: Int[Tensor, " P"] | None = None,
    mask: Bool[Tensor, "B N"] | None = None,
    batch_size: int | None = None,
    norm: Norm = "l2",
    visible: Bool[Tensor, "B K"] | None = None,
    reduction: Reduction = "mean",
    validate: bool = True,
) -> Tensor:
    r"""Expectation of the error of the discrete map (Eq. 4): :math:`\sum_i \pi_i\, d(y_i, y_t)`.

    Args:
        logits: Scores before softmax.
        pos: Positions of the points.
        target: True positions.
        batch: Cloud of each point.
        ptr: First row of each cloud, in place of ``batch``.
        mask: Points that exist, for dense input.
        batch_size: Number of clouds; with ``batch``, saves the wait to find it.
        norm: ``"l2"``, ``"l1"`` or ``"squared"``, as in :func:`sample_error`.
        visible: See the module.
        reduction: See the module.
        validate: See the module.

    Example:
        >>> pos = torch.tensor([[0.0], [2.0]])  # as likely as each other, and 0 and 2 away from the target
        >>> discrete_expected_error(torch.zeros(2, 1), pos, torch.tensor([[[0.0]]]))
        tensor(1.)
    """
    _check_options(norm, reduction)
    points = canonical(logits, pos, None, batch, ptr=ptr, mask=mask, batch_size=batch_size, validate=validate)
    target = _target_of(points, target, visible, validate)
    cost = _distance(_offsets(points, target), norm)
    return _reduce(cloud_sum(cloud_softmax(points.logits, points) * cost, points), visible, reduction)


def mixture_expected_error(
    logits: Float[Tensor, "*N K"],
    pos: Float[Tensor, "*N D"],
    bandwidth: float | Float[Tensor, " ..."],
    target: Float[Tensor, "B K D"],
    batch: Int[Tensor, " N"] | None = None,
    *,
    ptr: Int[Tensor, " P"] | None = None,
    mask: Bool[Tensor, "B N"] | None = None,
    batch_size: int | None = None,
    norm: Literal["l1", "squared"] = "l1",
    visible: Bool[Tensor, "B K"] | None = None,
    reduction: Reduction = "mean",
    validate: bool = True,
) -> Tensor:
    r"""Expectation of the error (Eq. 3) under the mixture of Gaussians (Eq. 6 and 9), in closed form.

    ``"squared"`` is :math:`\sum_i \pi_i (\|y_i - y_t\|^2 + \sum_d \sigma_{id}^2)`; ``"l1"`` sums over axes
    the mean of the folded normal distribution, with :math:`\mu = y_{id} - y_{td}`:
    :math:`\sigma \sqrt{2/\pi}\, e^{-\mu^2 / 2\sigma^2} + \mu\, \mathrm{erf}(\mu / \sigma\sqrt{2})`.
    As the bandwidth goes to 0 both become :func:`discrete_expected_error`.

    Args:
        logits: Scores before softmax.
        pos: Positions of the points.
        bandwidth: Standard deviation of each point's basis, in the units of ``pos``.
        target: True positions.
        batch: Cloud of each point.
        ptr: First row of each cloud, in place of ``batch``.
        mask: Points that exist, for dense input.
        batch_size: Number of clouds; with ``batch``, saves the wait to find it.
        norm: ``"l1"`` or ``"squared"`` (``"l2"`` has no closed form).
        visible: See the module.
        reduction: See the module.
        validate: See the module.
    """
    _check_options(norm, reduction, norms=("l1", "squared"))
    points = canonical(logits, pos, bandwidth, batch, ptr=ptr, mask=mask, batch_size=batch_size, validate=validate)
    target = _target_of(points, target, visible, validate)
    cost = torch.zeros_like(points.logits)
    for offset, sigma in zip(_offsets(points, target), _bandwidth_axes(points), strict=True):
        if norm == "squared":
            cost = cost + offset.square() + sigma.square()
        else:
            # exp(-z²/2) is 0 in either precision from 40 on
            z = _standardized(offset, sigma, 40.0)
            cost = cost + math.sqrt(2 / math.pi) * sigma * (-z.square() / 2).exp() + offset * (z * 0.5**0.5).erf()
    return _reduce(cloud_sum(cloud_softmax(points.logits, points) * cost, points), visible, reduction)


def variance_regularization(
    logits: Float[Tensor, "*N K"],
    pos: Float[Tensor, "*N D"],
    batch: Int[Tensor, " N"] | None = None,
    *,
    target_variance: float,
    ptr: Int[Tensor, " P"] | None = None,
    mask: Bool[Tensor, "B N"] | None = None,
    batch_size: int | None = None,
    visible: Bool[Tensor, "B K"] | None = None,
    reduction: Reduction = "mean",
    validate: bool = True,
) -> Tensor:
    r"""Variance regularization (Eq. 15): :math:`\|\mathrm{Var}(\pi) - \sigma_t^2\|_2^2`, per axis, summed.

    The variance is that of the discrete map around its own mean; bases don't enter.

    Args:
        logits: Scores before softmax.
        pos: Positions of the points.
        batch: Cloud of each point.
        target_variance: :math:`\sigma_t^2`, wanted along each axis, in squared units of ``pos``; 0 or more.
        ptr: First row of each cloud, in place of ``batch``.
        mask: Points that exist, for dense input.
        batch_size: Number of clouds; with ``batch``, saves the wait to find it.
        visible: See the module.
        reduction: See the module.
        validate: See the module.

    Example:
        >>> pos = torch.tensor([[-1.0], [1.0]])  # the variance of a flat map is 1
        >>> variance_regularization(torch.zeros(2, 1), pos, target_variance=0.25)
        tensor(0.5625)
    """
    _check_options(None, reduction)
    if not 0 <= target_variance < math.inf:
        raise ValueError(f"`target_variance` (={target_variance}) must be finite and not negative")
    points = canonical(logits, pos, None, batch, ptr=ptr, mask=mask, batch_size=batch_size, validate=validate)
    _check_visible(visible, (points.batch_size, points.logits.shape[1]))
    prob = cloud_softmax(points.logits, points)
    loss = prob.new_zeros(points.batch_size, prob.shape[1])
    # Moments around a detached copy of the mean: exact wherever that point lies, derivatives too, without
    # the cancellation of E[y²] - E[y]² far from the origin.
    for offset in _offsets(points, _expectation(prob, points).detach()):
        weighted = prob * offset
        variance = cloud_sum(weighted * offset, points) - cloud_sum(weighted, points).square()
        loss = loss + (variance - target_variance).square()
    return _reduce(loss, visible, reduction)


def js_regularization(
    logits: Float[Tensor, "*N K"],
    pos: Float[Tensor, "*N D"],
    sigma: float,
    target: Float[Tensor, "B K D"] | None = None,
    batch: Int[Tensor, " N"] | None = None,
    *,
    ptr: Int[Tensor, " P"] | None = None,
    mask: Bool[Tensor, "B N"] | None = None,
    batch_size: int | None = None,
    center: Literal["mean", "target"] = "mean",
    detach_center: bool = False,
    visible: Bool[Tensor, "B K"] | None = None,
    reduction: Reduction = "mean",
    validate: bool = True,
) -> Tensor:
    r"""Distribution regularization (Eq. 16): Jensen-Shannon divergence of the map and a discrete Gaussian.

    :math:`D_{JS}(\pi \,\|\, q)` in nats, between 0 and log 2, with
    :math:`q_i \propto e^{-\|y_i - c\|^2 / 2\sigma^2}` normalized over the points of the cloud. The paper
    centers it on the prediction, :math:`c = \sum_i \pi_i y_i`;
    `dsntnn <https://github.com/anibali/dsntnn>`_ on the target.

    Args:
        logits: Scores before softmax.
        pos: Positions of the points.
        sigma: Standard deviation of the Gaussian, in the units of ``pos``; positive.
        target: True positions; read where ``center="target"`` only.
        batch: Cloud of each point.
        ptr: First row of each cloud, in place of ``batch``.
        mask: Points that exist, for dense input.
        batch_size: Number of clouds; with ``batch``, saves the wait to find it.
        center: ``"mean"`` for the prediction (Eq. 16), ``"target"`` for the true position.
        detach_center: Whether the center is a constant. By default it carries gradient: with
            ``center="mean"`` that to ``logits`` and ``pos`` goes through the Gaussian's center as well as
            through the map.
        visible: See the module.
        reduction: See the module.
        validate: See the module.
    """
    _check_options(None, reduction)
    if not 0 < sigma < math.inf:
        raise ValueError(f"`sigma` (={sigma}) must be positive and finite")
    if center not in ("mean", "target"):
        raise ValueError(f"`center` (={center!r}) must be 'mean' or 'target'")
    if center == "target" and target is None:
        raise ValueError("`target` (=None) must be given for `center` (='target')")
    points = canonical(logits, pos, None, batch, ptr=ptr, mask=mask, batch_size=batch_size, validate=validate)
    _check_visible(visible, (points.batch_size, points.logits.shape[1]))
    log_map = cloud_log_softmax(points.logits, points)
    if center == "target" and target is not None:
        middle = _target_of(points, target, visible, validate)
    else:
        middle = _expectation(log_map.exp(), points)
    score = torch.zeros_like(log_map)
    for offset in _offsets(points, middle.detach() if detach_center else middle):
        score = score - (offset / sigma).square() / 2
    log_gauss = cloud_log_softmax(score.masked_fill(points.logits == -math.inf, -math.inf), points)
    # Points that a mask switches off are at -inf in both; a finite floor makes them 0 · 0 instead of 0 · NaN.
    log_map, log_gauss = log_map.clamp(min=-1e30), log_gauss.clamp(min=-1e30)
    log_middle = torch.logaddexp(log_map, log_gauss) - math.log(2)
    divergence = log_map.exp() * (log_map - log_middle) + log_gauss.exp() * (log_gauss - log_middle)
    return _reduce(cloud_sum(divergence, points) / 2, visible, reduction)


def mixture_nll(
    logits: Float[Tensor, "*N K"],
    pos: Float[Tensor, "*N D"],
    bandwidth: float | Float[Tensor, " ..."],
    target: Float[Tensor, "B K D"],
    batch: Int[Tensor, " N"] | None = None,
    *,
    ptr: Int[Tensor, " P"] | None = None,
    mask: Bool[Tensor, "B N"] | None = None,
    batch_size: int | None = None,
    visible: Bool[Tensor, "B K"] | None = None,
    reduction: Reduction = "mean",
    validate: bool = True,
) -> Tensor:
    r"""Negative log-likelihood of the target under the mixture (Eq. 6 and 9).

    :math:`-\log \sum_i \pi_i\, \mathcal{N}(y_t; y_i, \sigma_i^2)`, in nats for the units of ``pos``; negative
    where the density is above 1. As a bandwidth equal for all points goes to 0, its gradient to ``logits``
    becomes that of :func:`nearest_point_cross_entropy`.

    Args:
        logits: Scores before softmax.
        pos: Positions of the points.
        bandwidth: Standard deviation of each point's basis, in the units of ``pos``.
        target: True positions.
        batch: Cloud of each point.
        ptr: First row of each cloud, in place of ``batch``.
        mask: Points that exist, for dense input.
        batch_size: Number of clouds; with ``batch``, saves the wait to find it.
        visible: See the module.
        reduction: See the module.
        validate: See the module.
    """
    _check_options(None, reduction)
    points = canonical(logits, pos, bandwidth, batch, ptr=ptr, mask=mask, batch_size=batch_size, validate=validate)
    target = _target_of(points, target, visible, validate)
    joint = cloud_log_softmax(points.logits, points)
    for offset, sigma in zip(_offsets(points, target), _bandwidth_axes(points), strict=True):
        # The bound keeps z² and its gradient finite in float32 for the tiny bandwidths of coinciding points.
        z = _standardized(offset, sigma, 1e15)
        joint = joint - z.square() / 2 - (sigma.log() + math.log(2 * math.pi) / 2)
    return _reduce(-_cloud_logsumexp(joint, points), visible, reduction)


def nearest_point_cross_entropy(
    logits: Float[Tensor, "*N K"],
    pos: Float[Tensor, "*N D"],
    target: Float[Tensor, "B K D"] | None = None,
    batch: Int[Tensor, " N"] | None = None,
    *,
    index: Int[Tensor, "B K"] | None = None,
    ptr: Int[Tensor, " P"] | None = None,
    mask: Bool[Tensor, "B N"] | None = None,
    batch_size: int | None = None,
    visible: Bool[Tensor, "B K"] | None = None,
    reduction: Reduction = "mean",
    validate: bool = True,
) -> Tensor:
    r"""Cross-entropy of the map with the point nearest to the target, :math:`-\log \pi_n`.

    Up to a constant, the limit of :func:`mixture_nll` (Eq. 6) as the bandwidth goes to 0. Among points that
    are equally near, the first counts. Differentiable in ``logits`` only.

    Args:
        logits: Scores before softmax.
        pos: Positions of the points.
        target: True positions; not read where ``index`` is given.
        batch: Cloud of each point.
        index: The right point of each keypoint, where the annotation names it, in place of ``target``: a row
            of ``pos``, in dense input a row of the cloud's own ``pos[b]`` (as :func:`pcsa.localize` has it).
            Not used where a keypoint isn't visible.
        ptr: First row of each cloud, in place of ``batch``.
        mask: Points that exist, for dense input.
        batch_size: Number of clouds; with ``batch``, saves the wait to find it.
        visible: See the module.
        reduction: See the module.
        validate: See the module.

    Example:
        >>> pos = torch.tensor([[0.0], [2.0]])
        >>> loss = nearest_point_cross_entropy(torch.zeros(2, 1), pos, torch.tensor([[[1.5]]]))
        >>> round(loss.exp().item(), 4)
        2.0
    """
    _check_options(None, reduction)
    if (target is None) == (index is None):
        raise ValueError("`target` and `index` say the same thing: give exactly one of them")
    points = canonical(logits, pos, None, batch, ptr=ptr, mask=mask, batch_size=batch_size, validate=validate)
    if index is not None:
        row = _known_index(points, index, visible, validate, dense=logits.dim() == 3)
    elif target is not None:
        row = _nearest(points, _target_of(points, target, visible, validate))
    return _reduce(-cloud_log_softmax(points.logits, points).gather(0, row), visible, reduction)


def presence_loss(
    presence_logits: Float[Tensor, "B K"],
    visible: Bool[Tensor, "B K"],
    *,
    reduction: Reduction = "mean",
) -> Tensor:
    """Binary cross-entropy of the presence scores with ``visible``, here the label: every keypoint counts.

    Args:
        presence_logits: Scores before the sigmoid; positive means present.
        visible: Which keypoints the instance has.
        reduction: ``"mean"`` over all ``B * K``, ``"sum"`` or ``"none"``.
    """
    _check_options(None, reduction)
    if presence_logits.dim() != 2:
        raise ValueError(f"`presence_logits` {list(presence_logits.shape)} must be [B, K]")
    _check_visible(visible, presence_logits.shape)
    score = _at_least_float32("presence_logits", presence_logits)
    loss = torch.nn.functional.binary_cross_entropy_with_logits(score, visible.to(score.dtype), reduction="none")
    return _reduce(loss, None, reduction)


def _check_options(norm: str | None, reduction: str, norms: Sequence[str] = ("l2", "l1", "squared")) -> None:
    if norm is not None and norm not in norms:
        raise ValueError(f"`norm` (={norm!r}) must be one of {', '.join(map(repr, norms))}")
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"`reduction` (={reduction!r}) must be one of 'mean', 'sum', 'none'")


def _check_visible(visible: Tensor | None, shape: Sequence[int]) -> None:
    if visible is not None and (visible.shape != torch.Size(shape) or visible.dtype != torch.bool):
        raise ValueError(f"`visible` {list(visible.shape)} ({visible.dtype}) must be bool [B, K] {list(shape)}")


def _at_least_float32(name: str, x: Tensor) -> Tensor:
    if not x.is_floating_point():
        raise ValueError(f"`{name}` ({x.dtype}) must be floating point")
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _known_target(
    target: Tensor,
    visible: Tensor | None,
    clouds_keypoints: Sequence[int],
    dim: int,
    dtype: torch.dtype,
    validate: bool,
) -> Tensor:
    """The target with zeros in place of what isn't visible, so that no NaN enters a computation."""
    shape = [*clouds_keypoints, dim]
    if list(target.shape) != shape:
        raise ValueError(f"`target` {list(target.shape)} must be [B, K, D] {shape}")
    _check_visible(visible, clouds_keypoints)
    target = target.to(dtype)
    target = target if visible is None else torch.where(visible.unsqueeze(-1), target, 0.0)
    if validate and not torch.compiler.is_compiling():
        rule = "`target` must be finite wherever `visible`: NaN or infinite values found"
        raise_first([(target.isfinite().all(), rule)])
    return target


def _target_of(points: Points, target: Tensor, visible: Tensor | None, validate: bool) -> Tensor:
    shape = (points.batch_size, points.logits.shape[1])
    return _known_target(target, visible, shape, points.pos.shape[1], points.pos.dtype, validate)


def _known_index(points: Points, index: Tensor, visible: Tensor | None, validate: bool, *, dense: bool) -> Tensor:
    """Rows of ``points``, with the cloud's first where a keypoint isn't visible."""
    shape = (points.batch_size, points.logits.shape[1])
    if index.shape != shape or index.dtype not in (torch.int64, torch.int32):
        raise ValueError(f"`index` {list(index.shape)} ({index.dtype}) must be int64 [B, K] {list(shape)}")
    _check_visible(visible, shape)
    first, end = points.ptr[:-1, None], points.ptr[1:, None]
    index = index.long() + first if dense else index.long()
    used = torch.ones_like(index, dtype=torch.bool) if visible is None else visible
    inside = (index >= first) & (index < end)
    row = torch.where(used & inside, index, first).clamp(max=len(points.batch) - 1)
    if validate and not torch.compiler.is_compiling():
        exists = inside & (points.logits.gather(0, row) > -math.inf)
        rule = "`index` must be an existing point of its own cloud wherever `visible`: others found"
        raise_first([((exists | ~used).all(), rule)])
    return row


def _reduce(loss: Tensor, visible: Tensor | None, reduction: str) -> Tensor:
    if visible is not None:
        loss = torch.where(visible, loss, 0.0)
    if reduction == "none":
        return loss
    if reduction == "sum":
        return loss.sum()
    if visible is None:
        return loss.sum() / max(loss.numel(), 1)
    return loss.sum() / visible.sum().clamp(min=1)


def _distance(offsets: Iterable[Tensor], norm: str) -> Tensor:
    """Length of a vector given axis by axis."""
    total = functools.reduce(torch.add, (x.abs() if norm == "l1" else x.square() for x in offsets))
    if norm != "l2":
        return total
    # The square root's infinite slope at 0 has to be out of the graph before it meets a zero gradient.
    zero = total == 0
    return total.masked_fill(zero, 1.0).sqrt().masked_fill(zero, 0.0)


def _offsets(points: Points, center: Tensor) -> Iterator[Tensor]:
    """``pos`` minus each cloud's center ``[B, K, D]``, one ``[N, K]`` per axis at a time."""
    for y, c in zip(points.pos.unbind(1), center.unbind(2), strict=True):
        yield y.unsqueeze(1) - c.index_select(0, points.batch)


def _bandwidth_axes(points: Points) -> list[Tensor]:
    """The bandwidth as D tensors ``[N, 1]``."""
    return list(bandwidth_of(points).expand_as(points.pos).split(1, dim=1))


def _standardized(offset: Tensor, sigma: Tensor, limit: float) -> Tensor:
    """``offset / sigma``, at most ``limit`` in size, by dividing by more: no infinity forward or backward."""
    return offset / torch.maximum(sigma, offset.detach().abs() / limit)


def _expectation(prob: Tensor, points: Points) -> Tensor:
    # A matrix product: the one operation here that autocast would round to 16 bits.
    with full_precision(prob):
        return cloud_mean(prob, points.pos, points)


def _cloud_logsumexp(x: Tensor, points: Points) -> Tensor:
    top = cloud_max(x.detach(), points)
    return cloud_sum((x - top.index_select(0, points.batch)).exp(), points).log() + top


@torch.no_grad()
def _nearest(points: Points, target: Tensor) -> Tensor:
    """Row of the point nearest to each target, the first of several, ``[B, K]``."""
    away = _distance(_offsets(points, target), "squared")
    away = away.masked_fill(points.logits == -math.inf, math.inf)
    nearest = away == -cloud_max(-away, points).index_select(0, points.batch)
    # float64 holds every row number exactly, and has a maximum on every device.
    row = torch.arange(len(away), device=away.device, dtype=torch.float64).unsqueeze(1)
    first = -cloud_max(torch.where(nearest, -row, -math.inf), points)
    return first.clamp(max=len(away) - 1).long()  # unvalidated, an empty cloud has no row
