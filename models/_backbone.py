"""What every head asks of the network of per-point features that it stands on."""

from __future__ import annotations

import inspect

from torch import Tensor, nn


def width_of(backbone: nn.Module, in_channels: int | None) -> int:
    """Channels of the features that ``backbone`` returns: those given, else its ``out_channels``."""
    channels = getattr(backbone, "out_channels", None) if in_channels is None else in_channels
    if not isinstance(channels, int):
        raise ValueError("`in_channels` must be given for a `backbone` without `out_channels`")
    return channels


def wants_ptr(backbone: nn.Module) -> bool:
    """Whether it is called with ``ptr=`` instead of ``batch``, which costs no synchronization."""
    return "ptr" in inspect.signature(backbone.forward).parameters


def point_features(
    backbone: nn.Module,
    takes_ptr: bool,
    channels: int,
    x: Tensor | None,
    pos: Tensor,
    batch: Tensor,
    ptr: Tensor,
    **options: object,
) -> Tensor:
    """Features ``[N, channels]`` of the points."""
    features = backbone(x, pos, ptr=ptr, **options) if takes_ptr else backbone(x, pos, batch, **options)
    if features.shape != (pos.shape[0], channels):
        raise ValueError(f"`backbone` returned {list(features.shape)}, must be [N, C] = {[pos.shape[0], channels]}")
    return features
