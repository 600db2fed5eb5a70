"""What the networks on images and volumes share."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pcsa._core.checks import check_count, check_floating, check_one_of
from pcsa._core.points import full_precision

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)


class GridNetwork(nn.Module):
    """A network that scores the cells of an image or a volume.

    Args:
        in_channels: Channels of the image. Values are 0 to 1, and :class:`ImageNormalization` normalizes them.
        spatial_dims: 2 for images, 3 for volumes.
        stride: Pixels per cell along every axis.

    """

    def __init__(self, in_channels: int, spatial_dims: int, stride: int) -> None:
        super().__init__()
        check_count("in_channels", in_channels)
        check_one_of("spatial_dims", spatial_dims, (2, 3))
        self.in_channels, self.spatial_dims, self.stride = in_channels, spatial_dims, stride
        self.normalize = ImageNormalization(in_channels, spatial_dims)

    def normalized(self, image: Tensor) -> Tensor:
        """Return the image normalized; raise unless it is a batch of the network's channels and of whole cells."""
        axes = "H, W" if self.spatial_dims == 2 else "D, H, W"
        check_floating("image", image)
        if image.dim() != 2 + self.spatial_dims or image.shape[1] != self.in_channels or 0 in image.shape:
            raise ValueError(f"`image` {list(image.shape)} must be [B, {self.in_channels}, {axes}], no axis of size 0")
        if any(n % self.stride for n in image.shape[2:]):
            rule = f"have {axes} divisible by {self.stride}, pixels per heatmap cell"
            raise ValueError(f"`image` {list(image.shape)} must {rule}")
        out: Tensor = self.normalize(image)
        return out


class ImageNormalization(nn.Module):
    """Values from 0 to 1 to about mean 0 and deviation 1.

    Three channels are normalized by ImageNet's statistics, others to (x - 1/2) 4.
    """

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
        self.conv = (nn.Conv2d if spatial_dims == 2 else nn.Conv3d)(in_channels, out_channels, 1)
        nn.init.normal_(self.conv.weight, std=0.001)
        nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]

    def forward(self, features: Tensor) -> Tensor:
        with full_precision(features):
            scores: Tensor = self.conv(features.to(self.conv.weight.dtype))
        return scores


def check_widths(name: str, widths: Sequence[int], least: int) -> tuple[int, ...]:
    """Return ``widths`` as a tuple; raise unless they are at least ``least`` whole numbers of at least 1."""
    if not isinstance(widths, Sequence) or isinstance(widths, str) or len(widths) < least:
        raise ValueError(f"`{name}` (={widths!r}) must be a sequence of at least {least} widths")
    for width in widths:
        check_count(name, width)
    return tuple(widths)
