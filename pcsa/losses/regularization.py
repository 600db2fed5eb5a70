"""Regularization of a map's spread (Eq. 15) and shape (Eq. 16)."""

import math
from typing import Literal, Unpack

import torch
from torch import Tensor

from pcsa._core.checks import check_non_negative, check_one_of, check_positive
from pcsa._core.points import cloud_log_softmax, cloud_softmax, cloud_sum
from pcsa.losses.arguments import Clouds, Logits, Options, Positions, Target, map_of
from pcsa.losses.geometry import expectation, offsets


def variance_regularization(
    logits: Logits, pos: Positions, batch: Clouds | None = None, *, target_variance: float, **options: Unpack[Options]
) -> Tensor:
    r"""Variance regularization (Eq. 15): :math:`\|\mathrm{Var}(\pi) - \sigma_t^2\|_2^2`, per axis, summed.

    The variance is that of the discrete map around its own mean; bases do not enter.

    Args:
        logits: Scores before softmax.
        pos: Positions of the points.
        batch: Cloud of each point.
        target_variance: :math:`\sigma_t^2`, wanted along each axis, in squared units of ``pos``; 0 or more.
        **options: ``ptr``, ``mask``, ``batch_size``, ``temperature``, ``visible``, ``reduction`` and ``validate``, see
            :class:`pcsa.losses.Options`.

    Example:
        >>> pos = torch.tensor([[-1.0], [1.0]])  # the variance of a flat map is 1
        >>> variance_regularization(torch.zeros(2, 1), pos, target_variance=0.25)
        tensor(0.5625)
    """
    check_non_negative("target_variance", target_variance)
    points, keypoints = map_of(logits, pos, None, batch, near=True, **options)
    prob = cloud_softmax(points.logits, points)
    loss = prob.new_zeros(points.batch_size, prob.shape[1])
    # Moments around a detached copy of the mean: exact wherever that point lies, derivatives too, without
    # the cancellation of E[y²] - E[y]² far from the origin.
    for offset in offsets(points, expectation(prob, points).detach()):
        weighted = prob * offset
        variance = cloud_sum(weighted * offset, points) - cloud_sum(weighted, points).square()
        loss = loss + (variance - target_variance).square()
    return keypoints.reduce(loss)


def js_regularization(
    logits: Logits,
    pos: Positions,
    sigma: float,
    target: Target | None = None,
    batch: Clouds | None = None,
    *,
    center: Literal["mean", "target"] = "mean",
    detach_center: bool = False,
    **options: Unpack[Options],
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
        center: ``"mean"`` for the prediction (Eq. 16), ``"target"`` for the true position.
        detach_center: Whether the center is a constant. By default it carries gradient: with
            ``center="mean"`` that to ``logits`` and ``pos`` goes through the Gaussian's center as well as
            through the map.
        **options: ``ptr``, ``mask``, ``batch_size``, ``temperature``, ``visible``, ``reduction`` and ``validate``, see
            :class:`pcsa.losses.Options`.
    """
    check_positive("sigma", sigma)
    check_one_of("center", center, ("mean", "target"))
    if center == "target" and target is None:
        raise ValueError("`target` (=None) must be given for `center` (='target')")
    points, keypoints = map_of(logits, pos, None, batch, near=True, **options)
    log_map = cloud_log_softmax(points.logits, points)
    if center == "target" and target is not None:
        middle = keypoints.known(target, points)
    else:
        middle = expectation(log_map.exp(), points)
    score = torch.zeros_like(log_map)
    for offset in offsets(points, middle.detach() if detach_center else middle):
        score = score - (offset / sigma).square() / 2
    log_gauss = cloud_log_softmax(score.masked_fill(points.logits == -math.inf, -math.inf), points)
    # Points that a mask switches off are at -inf in both; a finite floor makes them 0 · 0 instead of 0 · NaN.
    log_map, log_gauss = log_map.clamp(min=-1e30), log_gauss.clamp(min=-1e30)
    log_middle = torch.logaddexp(log_map, log_gauss) - math.log(2)
    divergence = log_map.exp() * (log_map - log_middle) + log_gauss.exp() * (log_gauss - log_middle)
    return keypoints.reduce(cloud_sum(divergence, points) / 2)
