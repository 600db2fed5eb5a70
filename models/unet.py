"""The residual U-Net of the networks on images and volumes."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F


class UNet(nn.Module):
    """MONAI's residual U-Net, from full resolution down to 1 / 2^(levels - 1) and back, for any size.

    The image is padded to a multiple of 2^(levels - 1) at the end of every axis, repeating the last values, and the
    result is cropped, so that pixels stay where they are.
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
