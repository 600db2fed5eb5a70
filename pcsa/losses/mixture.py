"""Objectives on the mixture of Gaussians around the points (Eq. 6 and 9), in closed form."""

import math
from typing import Literal, Unpack

import torch
from torch import Tensor

from pcsa._core.checks import check_one_of
from pcsa._core.points import Points, bandwidth_of, cloud_log_softmax, cloud_logsumexp, cloud_softmax, cloud_sum
from pcsa._core.triangular import cholesky, covariance_columns, lower_matrix
from pcsa.losses.arguments import Bandwidth, Clouds, Logits, Options, Positions, Target, map_of
from pcsa.losses.geometry import bounded_width, offsets, offsets_and_bandwidths, standardized, whitened


def mixture_expected_error(
    logits: Logits,
    pos: Positions,
    bandwidth: Bandwidth,
    target: Target,
    batch: Clouds | None = None,
    *,
    norm: Literal["l1", "squared", "bounded"] = "l1",
    sigma: float | None = None,
    **options: Unpack[Options],
) -> Tensor:
    r"""Expectation of the error (Eq. 3) under the mixture of Gaussians (Eq. 6 and 9), in closed form.

    ``"squared"`` is :math:`\sum_i \pi_i (\|y_i - y_t\|^2 + \sum_d \sigma_{id}^2)`; ``"l1"`` sums over axes
    the mean of the folded normal distribution, with :math:`\mu = y_{id} - y_{td}`:
    :math:`\sigma \sqrt{2/\pi}\, e^{-\mu^2 / 2\sigma^2} + \mu\, \mathrm{erf}(\mu / \sigma\sqrt{2})`.
    ``"bounded"``, :math:`1 - e^{-d^2 / 2s^2}` of the distance d with ``sigma`` :math:`= s`, is a convolution of two
    Gaussians: :math:`1 - \sum_i \pi_i \prod_d s\, e^{-\mu_d^2 / 2(s^2 + \sigma_{id}^2)} / \sqrt{s^2 + \sigma_{id}^2}`.
    As the bandwidth goes to 0 all of them become :func:`discrete_expected_error`. With a covariance :math:`C_i` for
    each point, :math:`\sigma_{id}^2` is its diagonal, and :math:`s^2 + \sigma_{id}^2` becomes :math:`s^2 I + C_i`.

    Args:
        logits: Scores before softmax.
        pos: Positions of the points.
        bandwidth: Standard deviation of each point's basis, in the units of ``pos``, or a factor of its covariance, as
            in :func:`pcsa.sampling_argmax`.
        target: True positions.
        batch: Cloud of each point.
        norm: ``"l1"``, ``"squared"`` or ``"bounded"`` (``"l2"`` has no closed form), as in :func:`sample_error`.
        sigma: Width of ``"bounded"``, in the units of ``pos``.
        **options: ``ptr``, ``mask``, ``batch_size``, ``temperature``, ``visible``, ``reduction`` and ``validate``, see
            :class:`pcsa.losses.Options`.
    """
    check_one_of("norm", norm, ("l1", "squared", "bounded"))
    width = bounded_width(sigma) if norm == "bounded" else 0.0
    points, keypoints = map_of(logits, pos, bandwidth, batch, **options)
    target = keypoints.known(target, points)
    cost = torch.zeros_like(points.logits)
    oriented = norm == "bounded" and bandwidth_of(points).dim() == 3
    if oriented:
        cost = _bounded_logarithm(points, target, width)
    for offset, spread in () if oriented else offsets_and_bandwidths(points, target):
        if norm == "squared":
            cost = cost + offset.square() + spread.square()
        elif norm == "bounded":
            # The logarithm of the product, whose complement is taken below.
            ratio = spread / width
            cost = cost - (offset / width / ratio.hypot(torch.ones_like(ratio))).square() / 2
            cost = cost - ratio.square().log1p() / 2
        else:
            # exp(-z²/2) is 0 in either precision from 40 on
            z = standardized(offset, spread, 40.0)
            cost = cost + math.sqrt(2 / math.pi) * spread * (-z.square() / 2).exp() + offset * (z * 0.5**0.5).erf()
    if norm == "bounded":
        cost = -cost.expm1()
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
        bandwidth: Standard deviation of each point's basis, in the units of ``pos``, or a factor of its covariance, as
            in :func:`pcsa.sampling_argmax`.
        target: True positions.
        batch: Cloud of each point.
        **options: ``ptr``, ``mask``, ``batch_size``, ``temperature``, ``visible``, ``reduction`` and ``validate``, see
            :class:`pcsa.losses.Options`.
    """
    points, keypoints = map_of(logits, pos, bandwidth, batch, **options)
    target = keypoints.known(target, points)
    joint = cloud_log_softmax(points.logits, points)
    bandwidth = bandwidth_of(points)
    factor = bandwidth if bandwidth.dim() == 3 else bandwidth.expand_as(points.pos)
    # The bound keeps z² and its gradient finite in float32 for the tiny bandwidths of coinciding points.
    for z, sigma in whitened(offsets(points, target), factor, 1e15):
        joint = joint - z.square() / 2 - (sigma.log() + math.log(2 * math.pi) / 2)
    return keypoints.reduce(-cloud_logsumexp(joint, points))


def _bounded_logarithm(points: Points, target: Tensor, width: float) -> Tensor:
    """Logarithm of what the bounded error of each point's basis lacks to 1, ``[N, K]``, of covariances A A'."""
    factor = lower_matrix(cholesky(covariance_columns(bandwidth_of(points) / width, plus=1.0)))
    logarithm = torch.zeros_like(points.logits)
    for z, scale in whitened((x / width for x in offsets(points, target)), factor, 1e15):
        logarithm = logarithm - z.square() / 2 - scale.log()
    return logarithm
