"""Landmarks in small images and volumes: an encoder and a decoder of a few layers."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from pcsa._core.checks import check_count
from pcsa.models.grid_network import GridNetwork, Score, check_widths
from pcsa.models.unet import UNet


class LandmarkNet(GridNetwork):
    """Heatmaps of K landmarks at half the resolution of the image or volume: one cell per two pixels of every axis.

    The network is a 3x3 convolution with stride 2, then MONAI's U-Net with residual units from 1/2 down to
    1 / 2^levels and back. It suits images of 64x64 to 256x256 that show one object, such as a face. A cell sees about
    50 pixels to either side with three levels, 100 with four, 200 with five; that must hold the object, else a left
    eye looks like a right one.

    Args:
        num_keypoints: K, at least 1.
        spatial_dims: 2 for images, 3 for volumes.
        in_channels: Channels of the image. Values are 0 to 1; three channels are normalized by ImageNet's statistics,
            others to (x - 1/2) 4.
        channels: Width at 1/2 of the resolution, at 1/4, and so on; at least two.

    Returns (of ``forward``):
        - **logits** ``[B, K, H / 2, W / 2]`` (``[B, K, D / 2, H / 2, W / 2]``), float32 also under autocast; sizes must
          be even. :func:`pcsa.grid.soft_argmax` with ``frame="pixels", spacing=net.stride`` gives input pixels.

    Example:
        >>> import torch
        >>> net = LandmarkNet(5, channels=(8, 16))
        >>> net(torch.rand(2, 3, 64, 64))["logits"].shape, net.stride
        (torch.Size([2, 5, 32, 32]), 2)
    """

    def __init__(
        self,
        num_keypoints: int,
        *,
        spatial_dims: int = 2,
        in_channels: int = 3,
        channels: Sequence[int] = (32, 64, 128),
    ) -> None:
        super().__init__(in_channels, spatial_dims, stride=2)
        check_count("num_keypoints", num_keypoints)
        channels = check_widths("channels", channels, 2)
        self.num_keypoints = num_keypoints
        convolution, norm = (nn.Conv2d, nn.BatchNorm2d) if spatial_dims == 2 else (nn.Conv3d, nn.BatchNorm3d)
        self.stem = nn.Sequential(
            convolution(in_channels, channels[0], 3, stride=2, padding=1, bias=False),
            norm(channels[0]),
            nn.ReLU(inplace=True),
        )
        self.unet = UNet(channels[0], channels, spatial_dims)
        self.score = Score(channels[0], num_keypoints, spatial_dims)

    def forward(self, image: Float[Tensor, "B C *spatial"]) -> dict[str, Tensor]:
        """See the class."""
        return {"logits": self.score(self.unet(self.stem(self.normalized(image))))}
