"""What the networks on images and volumes share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pcsa._core.points import check_count, full_precision

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)


class Normalize(nn.Module):
    """Values of 0..1 to about mean 0 and deviation 1: by ImageNet's statistics for three channels, else (x - 1/2) 4."""

    mean: Tensor
    std: Tensor

    def __init__(self, channels: int, spatial_dims: int) -> None:
        super().__init__()
        mean, std = (_IMAGENET_MEAN, _IMAGENET_STD) if channels == 3 else ((0.5,) * channels, (0.25,) * channels)
        shape = (channels,) + (1,) * spatial_dims
        # Constants, not state: a state dict holds what was learned.
        self.register_buffer("mean", torch.tensor(mean).view(shape), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(shape), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        return (image - self.mean) / self.std


class Score(nn.Module):
    """A 1x1 convolution to logits, in the precision of its weights also under autocast.

    Logits of 20 in bfloat16 are multiples of 1/8: neighboring cells would tie.
    """

    def __init__(self, in_channels: int, out_channels: int, spatial_dims: int) -> None:
        super().__init__()
        kind = nn.Conv2d if spatial_dims == 2 else nn.Conv3d
        self.conv = kind(in_channels, out_channels, 1)
        nn.init.normal_(self.conv.weight, std=0.001)
        nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]

    def forward(self, features: Tensor) -> Tensor:
        with full_precision(features):
            scores: Tensor = self.conv(features.to(self.conv.weight.dtype))
        return scores


def check_image(image: Tensor, channels: int, spatial_dims: int, stride: int) -> None:
    """Raise unless ``image`` is a batch of ``channels``, its sizes multiples of ``stride``."""
    axes = "H, W" if spatial_dims == 2 else "D, H, W"
    if not isinstance(image, Tensor) or not image.is_floating_point():
        kind = image.dtype if isinstance(image, Tensor) else type(image).__name__
        raise ValueError(f"`image` ({kind}) must be a floating point tensor, values 0 to 1")
    if image.dim() != 2 + spatial_dims or image.shape[1] != channels or 0 in image.shape:
        raise ValueError(f"`image` {list(image.shape)} must be [B, {channels}, {axes}], no axis of size 0")
    if any(n % stride for n in image.shape[2:]):
        raise ValueError(f"`image` {list(image.shape)} must have {axes} divisible by {stride}, pixels per heatmap cell")


def check_widths(name: str, widths: Sequence[int], least: int) -> tuple[int, ...]:
    """``widths`` as a tuple; raise unless they are at least ``least`` whole numbers of at least 1."""
    if not isinstance(widths, Sequence) or isinstance(widths, str) or len(widths) < least:
        raise ValueError(f"`{name}` (={widths!r}) must be a sequence of at least {least} widths")
    for width in widths:
        check_count(name, width)
    return tuple(widths)


class UNet(nn.Module):
    """MONAI's residual U-Net, from full resolution down to 1 / 2^(levels - 1) and back, for any size.

    The image is padded to a multiple of that at the end of every axis, repeating the last values, and the result
    cropped: pixels stay where they are.
    """

    def __init__(self, in_channels: int, channels: Sequence[int], spatial_dims: int = 2) -> None:
        super().__init__()
        from monai.networks.nets.unet import UNet as MonaiUNet

        # MONAI's first level may keep the resolution, its last one does: repeated, every width here is a resolution.
        self.multiple = 2 ** (len(channels) - 1)
        self.net = MonaiUNet(
            spatial_dims=spatial_dims,
            in_channels=in_channels,
            out_channels=channels[0],
            channels=(*channels, channels[-1]),
            strides=(1,) + (2,) * (len(channels) - 1),
            num_res_units=2,
            act=("relu", {"inplace": True}),
            norm="batch",
            bias=False,  # batch norm takes it out again
        )

    def forward(self, x: Tensor) -> Tensor:
        ends = [end for n in reversed(x.shape[2:]) for end in (0, -n % self.multiple)]
        features: Tensor = self.net(F.pad(x, ends, mode="replicate"))
        for axis, n in enumerate(x.shape[2:], 2):
            features = features.narrow(axis, 0, n)
        return features
