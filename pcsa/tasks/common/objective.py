"""The objectives of :mod:`pcsa.losses` as configurations name them."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

import pcsa
from pcsa import losses
from pcsa.tasks.common.config import FROM_NEIGHBORS, BandwidthConfig, LocalizationConfig, Method, SamplerConfig
from pcsa.tasks.common.detours import distance_along
from pcsa.tasks.common.processes import share_of


def bases_of(config: Any) -> BandwidthConfig:
    """The bases that a task was trained with; those of its objective, or what it would have by default."""
    objective = getattr(config, "objective", None)
    if not isinstance(objective, BandwidthConfig):
        return FROM_NEIGHBORS
    return BandwidthConfig(objective.bandwidth, objective.bandwidth_scale, objective.bandwidth_normal)


def point_bandwidth(
    config: BandwidthConfig, pos: Tensor, ptr: Tensor | None = None, known: Tensor | None = None
) -> float | Tensor:
    """Standard deviations of the bases, or factors of their covariances where ``config`` wants them along the surface.

    The deviation is the one that ``config`` names, or that from the neighbors, which may be ``known``.

    Args:
        config: Its lengths are in the units of ``pos``, which are those of the normalized clouds.
        pos: ``[N, D]``.
        ptr: Where each cloud begins, then N; without, there is one.
        known: Bandwidths from the neighbors, scaled.
    """
    bandwidth: float | Tensor | None = known if config.bandwidth is None else config.bandwidth
    if bandwidth is None:
        bandwidth = pcsa.knn_bandwidth(pos, ptr=ptr, scale=config.bandwidth_scale, validate=False)
    if config.bandwidth_normal == 1:
        return bandwidth
    how: dict[str, Any] = {"normal": config.bandwidth_normal, "validate": False}
    return pcsa.surface_bandwidth(pos, ptr=ptr, bandwidth=bandwidth, **how)


def each_bandwidth(config: BandwidthConfig, pos: Tensor, ptr: Tensor | None = None) -> Tensor:
    """The same with one for each point, where ``config`` has one for all."""
    bandwidth = point_bandwidth(config, pos, ptr)
    return bandwidth if isinstance(bandwidth, Tensor) else torch.full_like(pos[:, 0], bandwidth)


def tempered_logits(config: SamplerConfig, logits: Tensor, temperature: float) -> Tensor:
    """What a sampler takes, so that its temperature divides what ``config`` says."""
    # In float32: what half precision rounds off here would be divided by the temperature.
    return logits.float() * temperature if config.tempering == "noise" else logits


def draw_samples(
    config: SamplerConfig,
    logits: Tensor,
    pos: Tensor,
    bandwidth: float | Tensor,
    ptr: Tensor | None,
    temperature: float,
    generator: torch.Generator,
) -> Tensor:
    """Samples ``[B, K, S, D]`` as ``config`` wants them."""
    return pcsa.sampling_argmax(
        tempered_logits(config, logits, temperature) if config.estimator == "relaxed" else logits,
        pos,
        bandwidth,
        ptr=ptr,
        num_samples=config.num_samples,
        temperature=temperature,
        basis_noise=config.basis_noise,
        estimator=config.estimator,
        generator=generator,
        validate=False,
    )


OF_MARKS: tuple[Method, ...] = ("nll", "cross_entropy", "soft_label")
"""Methods whose best map is the distribution of the targets."""


def localization_loss(
    config: LocalizationConfig,
    samples: Tensor | None,
    logits: Tensor,
    pos: Tensor,
    bandwidth: float | Tensor | None,
    unit: float,
    target: Tensor,
    visible: Tensor,
    ptr: Tensor | None = None,
    detour: Tensor | None = None,
    marks: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The objective that ``config`` names, with its regularization, and its parts for the log.

    Args:
        config: Its terms, and their options.
        samples: Samples for the terms that are of samples: one draw for all of them.
        logits: Ragged ``[N, K]`` with ``ptr``, or dense ``[B, N, K]``.
        pos: Positions of the points; their units are those of all lengths but the ones of ``config``.
        bandwidth: Standard deviations of the bases, for the terms on the mixture.
        unit: What the standard deviations of ``config`` are multiples of.
        target: True positions ``[B, K, D]``.
        visible: Keypoints that count ``[B, K]``.
        ptr: Where each cloud begins, then N.
        detour: Geodesic over Euclidean distance of each point from each keypoint ``[N, K]``, see
            :mod:`pcsa.tasks.common.detours`; without it, soft labels go by the Euclidean distance.
        marks: Several true positions of each keypoint ``[B, K, M, D]``, and which of them there are ``[B, K, M]``: for
            nll, cross_entropy and soft_label, in place of ``target``.

    Returns:
        The loss, and its parts: ``localization`` is the weighted sum of all terms; where there are several, each has
        its value before the weight under its own name. Of several processes each has its part of the mean over the
        visible keypoints of all of them, see :func:`pcsa.tasks.common.processes.share_of`.
    """
    # Values are checked where data is read; a check here would wait for the device in every step.
    masked: dict[str, Any] = {"visible": visible, "validate": False}
    points: dict[str, Any] = {"ptr": ptr, **masked}
    error: dict[str, Any] = {"norm": config.norm, "sigma": unit * config.norm_sigma}

    def term(method: Method) -> Tensor:
        if marks is None or method not in OF_MARKS:
            return of_one(method, logits, target, **masked)
        return losses.over_marks(functools.partial(of_one, method), logits, *marks, **masked)

    def of_one(method: Method, logits: Tensor, target: Tensor, **masked: Any) -> Tensor:
        points: dict[str, Any] = {"ptr": ptr, **masked}
        if method == "sampling":
            assert samples is not None
            return losses.sample_error(samples, target, **error, **masked)
        if method == "soft":
            return losses.expectation_error(logits, pos, target, **error, **points)
        if method == "discrete":
            return losses.discrete_expected_error(logits, pos, target, **error, **points)
        if method == "mixture":
            assert bandwidth is not None
            return losses.mixture_expected_error(logits, pos, bandwidth, target, **error, **points)
        if method == "nll":
            assert bandwidth is not None
            return losses.mixture_nll(logits, pos, bandwidth, target, **points)
        if method == "soft_label":
            sigma = unit * config.label_sigma
            if detour is None:
                return losses.soft_label_cross_entropy(logits, pos, sigma, target, **points)
            assert ptr is not None
            along = distance_along(detour, pos, target, ptr)
            return losses.soft_label_cross_entropy(logits, pos, sigma, target_distance=along, **points)
        return losses.nearest_point_cross_entropy(logits, pos, target, **points)

    loss = term(config.method)
    parts: dict[str, Tensor] = {}
    if config.plus:
        parts[config.method] = loss.detach()
        for name, weight in config.plus:
            value = term(name)
            parts[name] = value.detach()
            loss = loss + weight * value
    parts["localization"] = loss.detach()
    if config.regularization != "none":
        sigma = unit * config.regularization_sigma
        if config.regularization == "variance":
            extra = losses.variance_regularization(logits, pos, target_variance=sigma**2, **points)
        else:
            extra = losses.js_regularization(logits, pos, sigma, **points)
        parts[config.regularization] = extra.detach()
        loss = loss + config.regularization_weight * extra
    # Every term is a mean over the visible keypoints.
    share = share_of(visible)
    if share is not None:
        loss, parts = share * loss, {name: share * value for name, value in parts.items()}
    return loss, parts
