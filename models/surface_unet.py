"""Surfaces of layers in an image: a U-Net scored column by column."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from pcsa._core.checks import check_count, check_floating
from pcsa.models.grid_network import GridNetwork, Score, check_widths
from pcsa.models.unet import UNet


class SurfaceUNet(GridNetwork):
    """Scores of every pixel for K surfaces, each of which crosses every column once.

    `"U-Net: Convolutional Networks for Biomedical Image Segmentation" <https://arxiv.org/abs/1505.04597>`_ with
    residual units, MONAI's, at full resolution. A column is a grid of one axis: its softmax along y and the expectation
    of y are the caller's, as in `"Fully Convolutional Boundary Regression for Retina OCT Segmentation"
    <https://doi.org/10.1007/978-3-030-32239-7_14>`_; :func:`order_surfaces` then keeps the surfaces in order.

    Images may have any height and width: the network pads them at the bottom and at the right to a multiple of
    2^(levels - 1), repeating the last row and column, and crops the scores.

    Args:
        num_surfaces: K, at least 1.
        in_channels: Channels of the image. Values are 0 to 1; three channels are normalized by ImageNet's statistics,
            others to (x - 1/2) 4.
        channels: Width at full resolution, at half of it, and so on; at least two. A pixel sees about 25 pixels to
            either side with three levels, 50 with four, 100 with five.

    Returns (of ``forward``):
        - **logits** ``[B, K, H, W]``, float32 also under autocast

    Example:
        >>> from pcsa.grid import soft_argmax
        >>> logits = SurfaceUNet(3, channels=(4, 8))(torch.rand(2, 1, 50, 20))["logits"]
        >>> logits.shape
        torch.Size([2, 3, 50, 20])
        >>> columns = logits.permute(0, 3, 1, 2).flatten(0, 1)  # [B W, K, H]
        >>> order_surfaces(soft_argmax(columns), dim=1).view(2, 20, 3).shape  # rows, in pixels
        torch.Size([2, 20, 3])
    """

    def __init__(self, num_surfaces: int, *, in_channels: int = 1, channels: Sequence[int] = (16, 32, 64, 128)) -> None:
        super().__init__(in_channels, spatial_dims=2, stride=1)
        check_count("num_surfaces", num_surfaces)
        channels = check_widths("channels", channels, 2)
        self.num_surfaces = num_surfaces
        self.unet = UNet(in_channels, channels)
        self.score = Score(channels[0], num_surfaces, 2)

    def forward(self, image: Float[Tensor, "B C H W"]) -> dict[str, Tensor]:
        """See the class."""
        return {"logits": self.score(self.unet(self.normalized(image)))}


def order_surfaces(position: Float[Tensor, "*shape"], dim: int = 1) -> Float[Tensor, "*shape"]:
    r"""Put surfaces in order: a surface that would lie above the one before it moves onto that one.

    The rule is :math:`s_k \leftarrow s_{k-1} + \mathrm{relu}(s_k - s_{k-1})`, one after another along ``dim``, as in
    `"Fully Convolutional Boundary Regression for Retina OCT Segmentation"
    <https://doi.org/10.1007/978-3-030-32239-7_14>`_. That is the cumulative maximum, and computed as such, which leaves
    positions in order as they are to the last bit.

    Differentiable: the gradient of a surface that moved goes to the one that it moved onto.

    Args:
        position: Rows, of any shape and unit, growing in the order of the surfaces.
        dim: Axis of the surfaces. Default: 1, as in ``[B, K, ...]``.

    Raises:
        ValueError: If ``position`` is no floating point tensor or lacks that axis.

    Example:
        >>> order_surfaces(torch.tensor([1.0, 3.0, 2.0, 4.0]), dim=0)
        tensor([1., 3., 3., 4.])
    """
    check_floating("position", position)
    if not -position.dim() <= dim < position.dim():
        raise ValueError(f"`dim` (={dim}) must be an axis of `position` {list(position.shape)}")
    return torch.cummax(position, dim).values
