"""The networks of poses, in images and volumes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import nn

from pcsa.models import LandmarkNet, SimplePose, load_imagenet_weights


@dataclass(frozen=True)
class PoseModelConfig:
    """SimplePose, with the integral volumetric head where an image's joints have a depth; or a small U-Net."""

    network: Literal["simple_pose", "unet"] = "simple_pose"
    """The U-Net has a cell per two pixels, in images or volumes."""
    channels: tuple[int, ...] = (16, 32, 64)
    """Channels of the U-Net's levels."""
    layers: Literal["small", "18", "34", "50", "101", "152"] = "small"
    """Depth of SimplePose's ResNet; small has one block per stage and a quarter of the widths."""
    deconv: tuple[int, ...] | None = None
    """Channels of the deconvolutions, each of which doubles the map's resolution. Default: 64, 64 for small and images
    (a cell per 4 pixels), 32, 32, 32 for small and volumes (per 2), else 256, 256, 256 (per 4)."""
    weights: Path | None = None
    """ImageNet weights of that ResNet, a file in torchvision's format."""

    def __post_init__(self) -> None:
        # ImageNet weights are for ResNets as they are trained on ImageNet.
        if self.weights is not None and (self.network != "simple_pose" or self.layers == "small"):
            raise ValueError(
                f"`model.weights` (={str(self.weights)!r}) must come with `model.network` 'simple_pose' and "
                f"`model.layers` 18 to 152; they are {self.network!r} and {self.layers!r}"
            )

    def build(self, num_keypoints: int, *, volume: bool = False, depth: int | None = None) -> nn.Module:
        """The network, for volumes or for images whose joints have a depth of so many pixels, or none."""
        options: dict[str, Any] = {"spatial_dims": 3, "in_channels": 1} if volume else {}
        if self.network == "unet":
            return LandmarkNet(num_keypoints, channels=self.channels, **options)
        if depth is not None:
            options = {"depth": max(1, depth // 4)}
        if self.layers == "small":
            options |= {"layers": (1, 1, 1, 1), "widths": (16, 32, 64, 128), "stem": "small"}
            options |= {"deconv": ((32, 32, 32) if volume else (64, 64)) if self.deconv is None else self.deconv}
        else:
            deconv = (256, 256, 256) if self.deconv is None else self.deconv
            options |= {"layers": int(self.layers), "deconv": deconv}
        return SimplePose(num_keypoints, **options)

    def load_weights(self, network: nn.Module) -> None:
        """Begin with the ImageNet weights, if there are any."""
        if self.weights is not None and isinstance(network, SimplePose):
            load_imagenet_weights(network, self.weights)
