"""Objectives on the mixture of Gaussians around the points (Eq. 6 and 9), in closed form."""

import math
from typing import Literal, Unpack

import torch
from torch import Tensor

from pcsa._core.checks import check_one_of
from pcsa._core.points import cloud_log_softmax, cloud_logsumexp, cloud_softmax, cloud_sum
from pcsa.losses.arguments import Bandwidth, Clouds, Logits, Options, Positions, Target, map_of
from pcsa.losses.geometry import offsets_and_bandwidths


def mixture_expected_error(
    logits: Logits,
    pos: Positions,
    bandwidth: Bandwidth,
    target: Target,
    batch: Clouds | None = None,
    *,
    norm: Literal["l1", "squared"] = "l1",
    **options: Unpack[Options],
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
        norm: ``"l1"`` or ``"squared"`` (``"l2"`` has no closed form).
        **options: ``ptr``, ``mask``, ``batch_size``, ``visible``, ``reduction`` and ``validate``, see
            :class:`pcsa.losses.Options`.
    """
    check_one_of("norm", norm, ("l1", "squared"))
    points, keypoints = map_of(logits, pos, bandwidth, batch, **options)
    target = keypoints.known(target, points.pos)
    cost = torch.zeros_like(points.logits)
    for offset, sigma in offsets_and_bandwidths(points, target):
        if norm == "squared":
            cost = cost + offset.square() + sigma.square()
        else:
            # exp(-z²/2) is 0 in either precision from 40 on
            z = _standardized(offset, sigma, 40.0)
            cost = cost + math.sqrt(2 / math.pi) * sigma * (-z.square() / 2).exp() + offset * (z * 0.5**0.5).erf()
    return keypoints.reduce(cloud_sum(cloud_softmax(points.logits, points) * cost, points))


def mixture_nll(
    logits: Logits,
    pos: Positions,
    bandwidth: Bandwidth,
    target: Target,
    batch: Clouds | None = None,
    **options: Unpack[Options],
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
        **options: ``ptr``, ``mask``, ``batch_size``, ``visible``, ``reduction`` and ``validate``, see
            :class:`pcsa.losses.Options`.
    """
    points, keypoints = map_of(logits, pos, bandwidth, batch, **options)
    target = keypoints.known(target, points.pos)
    joint = cloud_log_softmax(points.logits, points)
    for offset, sigma in offsets_and_bandwidths(points, target):
        # The bound keeps z² and its gradient finite in float32 for the tiny bandwidths of coinciding points.
        z = _standardized(offset, sigma, 1e15)
        joint = joint - z.square() / 2 - (sigma.log() + math.log(2 * math.pi) / 2)
    return keypoints.reduce(-cloud_logsumexp(joint, points))


def _standardized(offset: Tensor, sigma: Tensor, limit: float) -> Tensor:
    """``offset / sigma``, at most ``limit`` in size, by dividing by more: no infinity forward or backward."""
    return offset / torch.maximum(sigma, offset.detach().abs() / limit)
