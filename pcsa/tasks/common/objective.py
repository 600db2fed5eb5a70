"""The objectives of :mod:`pcsa.losses` as configurations name them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import pcsa
from pcsa import losses
from pcsa.tasks.common.config import BandwidthConfig, LocalizationConfig, SamplerConfig


def point_bandwidth(config: BandwidthConfig, pos: Tensor, ptr: Tensor) -> float | Tensor:
    """Standard deviations of the bases: the one that ``config`` names, or those from the neighbors."""
    if config.bandwidth is not None:
        return config.bandwidth
    return pcsa.knn_bandwidth(pos, ptr=ptr, scale=config.bandwidth_scale, validate=False)


def tempered_logits(config: SamplerConfig, logits: Tensor, temperature: float) -> Tensor:
    """What a sampler takes, so that its temperature divides what ``config`` says."""
    # In float32: what half precision rounds off here would be divided by the temperature.
    return logits.float() * temperature if config.tempering == "noise" else logits


def draw_samples(
    config: SamplerConfig,
    logits: Tensor,
    pos: Tensor,
    bandwidth: float | Tensor,
    ptr: Tensor,
    temperature: float,
    generator: torch.Generator,
) -> Tensor:
    """Samples ``[B, K, S, 3]`` as ``config`` wants them."""
    return pcsa.sampling_argmax(
        tempered_logits(config, logits, temperature),
        pos,
        bandwidth,
        ptr=ptr,
        num_samples=config.num_samples,
        temperature=temperature,
        basis_noise=config.basis_noise,
        generator=generator,
        validate=False,
    )


def localization_loss(
    config: LocalizationConfig,
    samples: Tensor | None,
    logits: Tensor,
    pos: Tensor,
    bandwidth: float | Tensor | None,
    regularization_sigma: float,
    target: Tensor,
    visible: Tensor,
    ptr: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The objective that ``config`` names, with its regularization, and its parts for the log.

    ``samples`` are those of ``method="sampling"``; ragged ``[N, K]`` logits come with ``ptr``, dense ``[B, N, K]``
    without. All lengths are in the units of ``pos``.
    """
    # Values are checked where data is read; a check here would wait for the device in every step.
    masked: dict[str, Any] = {"visible": visible, "validate": False}
    points: dict[str, Any] = {"ptr": ptr, **masked}
    if config.method == "sampling":
        assert samples is not None
        loss = losses.sample_error(samples, target, norm=config.norm, **masked)
    elif config.method == "soft":
        loss = losses.expectation_error(logits, pos, target, norm=config.norm, **points)
    elif config.method == "discrete":
        loss = losses.discrete_expected_error(logits, pos, target, norm=config.norm, **points)
    elif config.method == "mixture":
        assert bandwidth is not None
        assert config.norm != "l2"
        loss = losses.mixture_expected_error(logits, pos, bandwidth, target, norm=config.norm, **points)
    elif config.method == "nll":
        assert bandwidth is not None
        loss = losses.mixture_nll(logits, pos, bandwidth, target, **points)
    else:
        loss = losses.nearest_point_cross_entropy(logits, pos, target, **points)
    parts = {"localization": loss.detach()}
    if config.regularization != "none":
        if config.regularization == "variance":
            extra = losses.variance_regularization(logits, pos, target_variance=regularization_sigma**2, **points)
        else:
            extra = losses.js_regularization(logits, pos, regularization_sigma, **points)
        parts[config.regularization] = extra.detach()
        loss = loss + config.regularization_weight * extra
    return loss, parts
