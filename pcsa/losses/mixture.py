"""Objectives on the mixture of Gaussians around the points (Eq. 6 and 9), in closed form."""

import functools
import math
from typing import Unpack, get_args

import torch
from torch import Tensor

from pcsa._core.checks import check_one_of
from pcsa._core.points import Points, bandwidth_of, cloud_log_softmax, cloud_logsumexp, cloud_softmax, cloud_sum
from pcsa._core.triangular import cholesky, covariance_columns, lower_matrix
from pcsa.losses.arguments import Bandwidth, Clouds, Logits, Norm, Options, Positions, Target, map_of
from pcsa.losses.geometry import (
    bounded_width,
    distance,
    offsets,
    offsets_and_bandwidths,
    standardized,
    whitened,
)


def mixture_expected_error(
    logits: Logits,
    pos: Positions,
    bandwidth: Bandwidth,
    target: Target,
    batch: Clouds | None = None,
    *,
    norm: Norm = "l1",
    sigma: float | None = None,
    **options: Unpack[Options],
) -> Tensor:
    r"""Expectation of the error (Eq. 3) under the mixture of Gaussians (Eq. 6 and 9), in closed form.

    ``"squared"`` is :math:`\sum_i \pi_i (\|y_i - y_t\|^2 + \sum_d \sigma_{id}^2)`; ``"l1"`` sums over axes
    the mean of the folded normal distribution, with :math:`\mu = y_{id} - y_{td}`:
    :math:`\sigma \sqrt{2/\pi}\, e^{-\mu^2 / 2\sigma^2} + \mu\, \mathrm{erf}(\mu / \sigma\sqrt{2})`.
    ``"bounded"``, :math:`1 - e^{-d^2 / 2s^2}` of the distance d with ``sigma`` :math:`= s`, is a convolution of two
    Gaussians: :math:`1 - \sum_i \pi_i \prod_d s\, e^{-\mu_d^2 / 2(s^2 + \sigma_{id}^2)} / \sqrt{s^2 + \sigma_{id}^2}`.
    ``"l2"`` is the mean length of a normal vector: :math:`\sigma \sqrt{\pi / 2}\, L_{1/2}^{(D/2 - 1)}(-\|\mu\|^2 / 2
    \sigma^2)` with a generalized Laguerre function, by Bessel functions for D = 2 and the error function for D = 1, 3.
    As the bandwidth goes to 0 all of them become :func:`discrete_expected_error`. With a covariance :math:`C_i` for
    each point, :math:`\sigma_{id}^2` is its diagonal, and :math:`s^2 + \sigma_{id}^2` becomes :math:`s^2 I + C_i`.

    Args:
        logits: Scores before softmax.
        pos: Positions of the points.
        bandwidth: Standard deviation of each point's basis, in the units of ``pos``, or a factor of its covariance, as
            in :func:`pcsa.sampling_argmax`.
        target: True positions.
        batch: Cloud of each point.
        norm: ``"l1"``, ``"squared"`` or ``"bounded"``, as in :func:`sample_error`; ``"l2"`` on up to three axes where
            every point has one bandwidth for all of them, since others have no closed form.
        sigma: Width of ``"bounded"``, in the units of ``pos``.
        **options: ``ptr``, ``mask``, ``batch_size``, ``temperature``, ``visible``, ``reduction`` and ``validate``, see
            :class:`pcsa.losses.Options`.
    """
    check_one_of("norm", norm, get_args(Norm))
    width = bounded_width(sigma) if norm == "bounded" else 0.0
    points, keypoints = map_of(logits, pos, bandwidth, batch, **options)
    return keypoints.reduce(expected_error(points, keypoints.known(target, points), norm, width))


def expected_error(points: Points, target: Tensor, norm: str, width: float) -> Tensor:
    """Expectation of the error ``[B, K]`` under the mixture, from a target in the frame of ``points``."""
    if norm == "l2":
        cost = _mean_length(points, target)
        return cloud_sum(cloud_softmax(points.logits, points) * cost, points)
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
    return cloud_sum(cloud_softmax(points.logits, points) * cost, points)


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
    return keypoints.reduce(-log_density(points, keypoints.known(target, points)))


def log_density(points: Points, place: Tensor) -> Tensor:
    """Logarithm of the density of each keypoint's mixture at a place ``[B, K, D]`` in the frame of ``points``."""
    joint = cloud_log_softmax(points.logits, points)
    bandwidth = bandwidth_of(points)
    factor = bandwidth if bandwidth.dim() == 3 else bandwidth.expand_as(points.pos)
    # The bound keeps z² and its gradient finite in float32 for the tiny bandwidths of coinciding points.
    for z, sigma in whitened(offsets(points, place), factor, 1e15):
        joint = joint - z.square() / 2 - (sigma.log() + math.log(2 * math.pi) / 2)
    return cloud_logsumexp(joint, points)


def _mean_length(points: Points, target: Tensor) -> Tensor:
    """Mean distance ``[N, K]`` of a point of each round basis from the target."""
    sigma, D = bandwidth_of(points), points.pos.shape[1]
    if sigma.shape[1:] != (1,) or D > 3:
        raise ValueError(
            f"`norm` (='l2') must be another, such as 'squared', for bandwidths along axes or {D} axes: only that of "
            "round bases on up to three axes has a closed form"
        )
    away = list(offsets(points, target))
    length = distance(away, "l2")
    q = distance([standardized(x, sigma, 1e15) for x in away], "squared")
    if D == 2:
        x = q / 4
        inner = math.sqrt(math.pi / 2) * ((1 + 2 * x) * torch.special.i0e(x) + 2 * x * torch.special.i1e(x))
        # So far out the mean is the distance, to the last digit but one.
        return torch.where(q > 1e6, length, sigma * inner)
    near = q < 0.05
    z = torch.where(near, 1.0, q).sqrt()
    beyond, root = (z * 0.5**0.5).erf(), (2 / math.pi) ** 0.5
    # erf(z / sqrt(2)) / z, whose slope to q is a difference of huge numbers near 0, there by its series.
    terms = (q**n / divisor for n, divisor in enumerate((1, -6, 40, -336, 3456, -42240)))
    series = root * functools.reduce(torch.add, terms)
    mean = sigma * root * (-q / 2).exp() + torch.where(near, sigma * q * series, length * beyond)
    return mean if D == 1 else mean + sigma * torch.where(near, series, beyond / z)


def _bounded_logarithm(points: Points, target: Tensor, width: float) -> Tensor:
    """Logarithm of what the bounded error of each point's basis lacks to 1, ``[N, K]``, of covariances A A'."""
    factor = lower_matrix(cholesky(covariance_columns(bandwidth_of(points) / width, plus=1.0)))
    logarithm = torch.zeros_like(points.logits)
    for z, scale in whitened((x / width for x in offsets(points, target)), factor, 1e15):
        logarithm = logarithm - z.square() / 2 - scale.log()
    return logarithm
