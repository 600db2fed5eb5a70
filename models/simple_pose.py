"""Heatmaps of keypoints in images and volumes: a ResNet and deconvolutions."""

import copy
import itertools
import math
import textwrap
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pcsa._core.checks import check_count, check_one_of
from pcsa.models.grid_network import GridNetwork, Score, check_widths

Stem = Literal["imagenet", "small"]

_PRESETS: dict[int, tuple[str, tuple[int, ...]]] = {
    18: ("basic", (2, 2, 2, 2)),
    34: ("basic", (3, 4, 6, 3)),
    50: ("bottleneck", (3, 4, 6, 3)),
    101: ("bottleneck", (3, 4, 23, 3)),
    152: ("bottleneck", (3, 8, 36, 3)),
}
# Stride of the backbone's last feature map.
_STRIDES = {"imagenet": 32, "small": 16}
_PARTS = ("conv1", "bn1", "act", "maxpool", "layer1", "layer2", "layer3", "layer4")


class SimplePose(GridNetwork):
    r"""Heatmaps by a ResNet, some deconvolutions that double the resolution, and a 1x1 convolution.

    `"Simple Baselines for Human Pose Estimation and Tracking" <https://arxiv.org/abs/1804.06208>`_, for images and,
    with ``spatial_dims=3``, for volumes; with ``depth``, the volumetric head on an image of `"Integral Human Pose
    Regression" <https://arxiv.org/abs/1711.08229>`_. The backbone is MONAI's ResNet, the same function as torchvision's
    with the same weights: see :func:`load_imagenet_weights`.

    ============== =================================== ================= ==========================================
    ``stem``       first layers                        backbone's stride pixels per heatmap cell, n deconvolutions
    ============== =================================== ================= ==========================================
    ``"imagenet"`` 7x7 with stride 2, maximum over 3x3 32                32 / 2^n: 4 for three
    ``"small"``    3x3 with stride 2                   16                16 / 2^n: 2 for three, 4 for two
    ============== =================================== ================= ==========================================

    The second is for small inputs, such as images of 96x72 or volumes of 32^3. An input's sizes must be multiples of
    the pixels per cell, ``net.stride``, not of the backbone's stride: what the backbone sees beyond the last row and
    column is zero, and cells beyond them are cut off.

    Args:
        num_keypoints: K, at least 1.
        spatial_dims: 2 for images, 3 for volumes.
        in_channels: Channels of the image. Values are 0 to 1; three channels are normalized by ImageNet's statistics,
            others to (x - 1/2) 4.
        layers: 18, 34 (basic blocks), 50, 101 or 152 (bottlenecks), or how many basic blocks each of the four stages
            has.
        widths: Channels of the four stages; the outputs of bottlenecks are four times as wide.
        deconv: Channels of each deconvolution (4x4, stride 2).
        depth: Number of cells along z in the heatmaps of an image; None for flat ones. Not for volumes, whose heatmaps
            have three axes anyhow.
        stem: Kind of the first layers, see above.

    Shapes:
        - image ``[B, C, H, W]`` or ``[B, C, D, H, W]``
        - logits, with s = ``net.stride``: ``[B, K, H/s, W/s]``, ``[B, K, depth, H/s, W/s]`` or
          ``[B, K, D/s, H/s, W/s]``; float32 also under autocast. :func:`pcsa.grid.soft_argmax` with
          ``frame="pixels", spacing=net.stride`` gives input pixels (what the cells of ``depth`` are, the caller knows).

    Example:
        >>> net = SimplePose(17, layers=(1, 1, 1, 1), widths=(8, 8, 8, 8), deconv=(8, 8), stem="small")
        >>> net(torch.rand(2, 3, 64, 48))["logits"].shape, net.stride
        (torch.Size([2, 17, 16, 12]), 4)
    """

    def __init__(
        self,
        num_keypoints: int,
        *,
        spatial_dims: int = 2,
        in_channels: int = 3,
        layers: int | Sequence[int] = 50,
        widths: Sequence[int] = (64, 128, 256, 512),
        deconv: Sequence[int] = (256, 256, 256),
        depth: int | None = None,
        stem: Stem = "imagenet",
    ) -> None:
        check_one_of("stem", stem, get_args(Stem))
        deconv = check_widths("deconv", deconv, 0)
        if 2 ** len(deconv) > _STRIDES[stem]:
            raise ValueError(
                f"`deconv` (={deconv}) must have at most {int(math.log2(_STRIDES[stem]))} entries with `stem` "
                f"(={stem!r}): then a cell is a pixel"
            )
        super().__init__(in_channels, spatial_dims, stride=_STRIDES[stem] // 2 ** len(deconv))
        check_count("num_keypoints", num_keypoints)
        if depth is not None:
            check_count("depth", depth)
            if spatial_dims == 3:
                raise ValueError(f"`depth` (={depth}) must be None with `spatial_dims` (=3): volumes have a depth")
        block, blocks = _blocks(layers)
        widths = check_widths("widths", widths, 4)
        if len(widths) != 4:
            raise ValueError(f"`widths` (={widths}) must be four, one per stage")
        self.num_keypoints, self.depth, self.stem = num_keypoints, depth, stem
        self.backbone = _backbone(block, blocks, widths, spatial_dims, in_channels, stem)
        width = widths[-1] * (4 if block == "bottleneck" else 1)
        self.deconvolutions = _deconvolutions([width, *deconv], spatial_dims)
        self.score = Score(deconv[-1] if deconv else width, num_keypoints * (depth or 1), spatial_dims)

    def forward(self, image: Float[Tensor, "B C *spatial"]) -> dict[str, Tensor]:
        """See the class."""
        features = self.deconvolutions(self.backbone(self.normalized(image)))
        # A stage halves sizes upwards, so that there may be more cells than the image fills.
        for axis in range(2, image.dim()):
            features = features.narrow(axis, 0, image.shape[axis] // self.stride)
        logits = self.score(features)
        if self.depth is not None:
            logits = logits.unflatten(1, (self.num_keypoints, self.depth))
        return {"logits": logits}


def load_imagenet_weights(model: SimplePose, path: str | Path) -> list[str]:
    """Load the weights of a ResNet trained on ImageNet into the backbone of ``model``; the rest stays as it is.

    Args:
        model: For images of three channels, with ``stem="imagenet"``.
        path: A state dict as torchvision's ``resnet18`` to ``resnet152`` have it, saved by ``torch.save``; for
            instance ``resnet50-0676ba61.pth``. No code in it is run.

    Returns:
        The names in the file that the backbone lacks: those of the classifier.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no state dict, or not that of this backbone; ``model`` is not changed then.
    """
    if not isinstance(model, SimplePose):
        raise ValueError(f"`model` ({type(model).__name__}) must be a SimplePose")
    if (model.spatial_dims, model.in_channels, model.stem) != (2, 3, "imagenet"):
        raise ValueError(
            f"`model` (spatial_dims={model.spatial_dims}, in_channels={model.in_channels}, stem={model.stem!r}) must "
            "have spatial_dims=2, in_channels=3, stem='imagenet' for ImageNet's weights"
        )
    state = _read_state(path)
    given = {name: value for name, value in state.items() if not name.startswith("fc.")}
    loaded = copy.deepcopy(model.backbone)
    try:
        # Files of old releases don't count batches: batch norm then keeps its own count.
        loaded.load_state_dict(given)
    except RuntimeError as error:
        # It names every weight that does not fit.
        why = textwrap.shorten(str(error), 400, placeholder=" …")
        raise ValueError(f"`path` (={str(path)!r}) must hold the weights of the ResNet of `model`: {why}") from error
    model.backbone.load_state_dict(loaded.state_dict())
    return [name for name in state if name not in given]


def _read_state(path: str | Path) -> dict[str, Tensor]:
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"`path` (={str(path)!r}) must be a file")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes torch raise anything
        raise ValueError(f"`path` (={str(path)!r}) must be a state dict saved by torch.save") from error
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"`path` (={str(path)!r}) must be a state dict, name to tensor")
    return state


def _blocks(layers: int | Sequence[int]) -> tuple[str, tuple[int, ...]]:
    if isinstance(layers, Sequence) and not isinstance(layers, str) and len(layers) == 4:
        for count in layers:
            check_count("layers", count)
        return "basic", tuple(layers)
    if not isinstance(layers, int) or layers not in _PRESETS:
        raise ValueError(
            f"`layers` (={layers!r}) must be one of {', '.join(map(str, _PRESETS))}, or four numbers of basic blocks"
        )
    return _PRESETS[layers]


def _backbone(
    block: str, blocks: tuple[int, ...], widths: tuple[int, ...], spatial_dims: int, in_channels: int, stem: Stem
) -> nn.Sequential:
    """Return MONAI's ResNet up to the last stage, under torchvision's names."""
    from monai.networks.nets.resnet import ResNet

    net = ResNet(
        block,
        list(blocks),
        list(widths),
        spatial_dims=spatial_dims,
        n_input_channels=in_channels,
        conv1_t_size=7 if stem == "imagenet" else 3,
        conv1_t_stride=2,
        no_max_pool=stem == "small",
        feed_forward=False,
        bias_downsample=False,
    )
    parts = [name for name in _PARTS if stem == "imagenet" or name != "maxpool"]
    return nn.Sequential(OrderedDict((name, net.get_submodule(name)) for name in parts))


def _deconvolutions(widths: Sequence[int], spatial_dims: int) -> nn.Sequential:
    modules: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        kind = nn.ConvTranspose2d if spatial_dims == 2 else nn.ConvTranspose3d
        deconvolution = kind(before, after, 4, stride=2, padding=1, bias=False)
        nn.init.normal_(deconvolution.weight, std=0.001)
        norm = nn.BatchNorm2d if spatial_dims == 2 else nn.BatchNorm3d
        modules += [deconvolution, norm(after), nn.ReLU(inplace=True)]
    return nn.Sequential(*modules)
