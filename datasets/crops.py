"""Crops of pictures with keypoints, as a network takes them, and the way back: flips, rotations, scales.

Pixel frame: pixel centers are integers, and pixel (0, 0) covers -1/2 to 1/2. A box is (x, y, width, height) with the
outer edge of its top left pixel, where the picture spans 0 to its width; in the pixel frame the box spans x - 1/2 to
x + width - 1/2. The edges of the box become the edges of the crop, so that the scale is a ratio of widths, never of
widths less one.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from pcsa._core.checks import (
    check_between,
    check_floating,
    check_mask,
    check_non_negative,
    check_positive,
    check_shape,
    check_size,
)
from pcsa.datasets.own_function import OwnFunction
from pcsa.datasets.own_samples import vary_sample
from pcsa.datasets.samples import parts


@dataclass(frozen=True)
class CropAugment(OwnFunction):
    """How much :func:`crop` varies a sample; zeros vary nothing.

    Args:
        flip: Probability of a horizontal flip, from 0 to 1.
        scale: The box becomes 1 - scale to 1 + scale times as large, uniformly; at least 0 and below 1.
        rotation: The crop is turned by -rotation to rotation degrees, uniformly; from 0 to 180.
        shift: The center moves by up to this share of the box's width and height, uniformly; at least 0.
        custom: Function of your own, as package.module:function, called last as ``function(sample, generator)``; see
            :func:`pcsa.datasets.own_samples.vary_sample` and the guide "Your own backbone".

    Raises:
        ValueError: If an argument is out of its range; the message names it, its value and the rule.

    """

    flip: float = 0.5
    scale: float = 0.3
    rotation: float = 40.0
    shift: float = 0.0
    custom: str | None = None

    def __post_init__(self) -> None:
        check_between("flip", self.flip, 0, 1)
        check_between("scale", self.scale, 0, 1, "[)")
        check_between("rotation", self.rotation, 0, 180)
        check_non_negative("shift", self.shift)
        self.check_custom()


def crop(
    source: Mapping[str, Any],
    size: tuple[int, int],
    *,
    padding: float = 1.25,
    pairs: Sequence[tuple[int, int]] = (),
    augment: CropAugment | None = None,
    generator: torch.Generator | None = None,
) -> dict[str, Any]:
    r"""Cut a box out of a picture, with its keypoints, at the size that a network takes.

    The box grows to the aspect ratio of ``size`` around its center, then by ``padding``; what lies outside of the
    picture is zero. kornia's ``warp_affine`` samples the picture (bilinear, ``align_corners=True``: pixel centers are
    integers), and the same matrix moves the keypoints. Where the crop shrinks the picture, the picture is first made
    that much smaller (``interpolate`` with ``antialias``, edges to edges), so that nothing aliases and the places
    stay. Values stay within 0 and 1.

    Random numbers come from ``generator`` alone, and equally many at every call, but for what ``augment.custom`` draws.
    The flip is a flip of the finished crop: column x becomes column width - 1 - x, and ``pairs`` change places.

    Args:
        source: ``image`` `[C, H, W]`, ``keypoints`` `[K, D]` in source pixels (x, y first; the rest, such as a depth,
            is untouched), ``visible`` `[K]`, ``box`` `[4]`. The result has everything else as it is.
        size: (height, width) of the crop.
        padding: How much larger than the box the crop is. Default 1.25, as in SimplePose.
        pairs: Left and right keypoints, which a flip exchanges.
        augment: How the sample varies at random. Default: not at all.
        generator: The source of randomness, on the CPU; needed with ``augment``.

    Returns:
        ``image`` `[C, *size]`, ``keypoints`` `[K, D]` in pixels of the crop, ``visible`` `[K]` (False too for those
        that are outside of the crop; their rows are 0), ``to_source`` `[2, 3]`: from pixels of the crop to pixels of
        the source; and the rest of ``source`` but for ``box``.

    Raises:
        ValueError: If the source lacks something or has other shapes or dtypes, if the box has no area or does not
            touch the picture, or if there is ``augment`` without ``generator``; the message names the argument.

    Example:
        >>> image = torch.zeros(3, 40, 40)
        >>> source = {"image": image, "box": torch.tensor([10.0, 10.0, 20.0, 20.0])}
        >>> source |= {"keypoints": torch.tensor([[9.5, 9.5], [29.5, 19.5]]), "visible": torch.ones(2, dtype=bool)}
        >>> crop(source, (10, 10), padding=1.0)["keypoints"]  # the box's corner, and the middle of its right edge
        tensor([[-0.5000, -0.5000],
                [ 9.5000,  4.5000]])

    """
    from kornia.geometry.transform import warp_affine

    height, width = check_size("size", size)
    image, keypoints, visible = _check_source(source)
    check_pairs(pairs, len(keypoints))
    check_positive("padding", padding)
    center, extent = _check_box(source["box"], image)

    flipped, turn, factor = False, 0.0, 1.0
    if augment is not None:
        if generator is None:
            raise ValueError("`generator` (=None) must be given with `augment`: all randomness comes from it")
        draws = torch.rand(5, generator=generator, dtype=torch.float64).tolist()
        signed = [2 * draw - 1 for draw in draws]
        flipped = draws[0] < augment.flip
        factor = 1 + augment.scale * signed[1]
        turn = math.radians(augment.rotation * signed[2])
        center = [c + augment.shift * s * e for c, s, e in zip(center, signed[3:], extent, strict=True)]

    shrink = max(extent[0] / width, extent[1] / height) * padding * factor
    to_crop = _matrix(center, shrink, turn, (height, width), flipped)
    pixels, to_pixels = _shrunk(image, shrink)
    matrix = (to_crop @ torch.linalg.inv(to_pixels))[None, :2].to(image.dtype)
    warped = warp_affine(pixels[None], matrix, (height, width), padding_mode="zeros", align_corners=True)

    moved = keypoints.double()
    moved = torch.cat([moved[:, :2] @ to_crop[:2, :2].T + to_crop[:2, 2], moved[:, 2:]], 1)
    upper = torch.tensor([width - 0.5, height - 0.5], dtype=torch.float64)
    # Half a thousandth of a pixel for float32: a keypoint on the edge of the box is on the edge of the crop.
    visible = visible & (moved[:, :2] >= -0.5005).all(1) & (moved[:, :2] <= upper + 0.0005).all(1)
    moved = torch.where(visible[:, None], moved, 0.0).to(keypoints.dtype)
    if flipped:
        order = _swapped(pairs, len(keypoints))
        moved, visible = moved[order], visible[order]
    back = torch.linalg.inv(to_crop)[:2].float()
    rest = {name: value for name, value in source.items() if name != "box"}
    sample = rest | {"image": warped[0].clamp(0, 1), "keypoints": moved, "visible": visible, "to_source": back}
    if augment is None or augment.custom is None:
        return sample
    assert generator is not None
    return vary_sample(augment.custom, sample, generator)


def flip_back(logits: Float[Tensor, "B K *spatial"], pairs: Sequence[tuple[int, int]]) -> Float[Tensor, "B K *spatial"]:
    """Undo a horizontal flip of a network's input in its output: mirror the last axis and exchange the pairs.

    The flip test takes the mean of the network's output and of ``flip_back`` of its output on the flipped input.
    Differentiable.

    Args:
        logits: The output on the flipped input, x last.
        pairs: Left and right keypoints.

    Raises:
        ValueError: If ``logits`` or ``pairs`` has another form; the message names it.

    Example:
        >>> flip_back(torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]), [(0, 1)])
        tensor([[[4., 3.],
                 [2., 1.]]])

    """
    if logits.dim() < 3:
        raise ValueError(f"`logits` (of shape {list(logits.shape)}) must be [B, K, *spatial]")
    check_pairs(pairs, logits.shape[1])
    return logits.flip(-1)[:, _swapped(pairs, logits.shape[1])]


def to_source(points: Float[Tensor, "B K D"], matrix: Float[Tensor, "B 2 3"]) -> Float[Tensor, "B K D"]:
    """Take pixels of the crop to pixels of the source.

    Differentiable in ``points``.

    Args:
        points: x and y in pixels of the crop; further coordinates, such as a depth, stay.
        matrix: ``to_source`` of the samples.

    Raises:
        ValueError: If an argument has another shape; the message names it.

    """
    if points.dim() != 3 or points.shape[2] < 2:
        raise ValueError(f"`points` (of shape {list(points.shape)}) must be [B, K, D] with D of at least 2")
    check_shape("matrix", matrix, (len(points), 2, 3))
    matrix = matrix.to(points)
    xy = points[..., :2] @ matrix[:, :, :2].transpose(1, 2) + matrix[:, None, :, 2]
    return torch.cat([xy, points[..., 2:]], 2)


def check_pairs(pairs: Sequence[tuple[int, int]], num_keypoints: int) -> None:
    """Raise unless the pairs are of different keypoints, each in one pair at most."""
    flat = [index for pair in pairs for index in pair]
    different = len(set(flat)) == len(flat) and all(len(pair) == 2 for pair in pairs)
    if not different or any(not 0 <= index < num_keypoints for index in flat):
        rule = f"must be pairs of different keypoints from 0 to {num_keypoints - 1}, each in one pair at most"
        raise ValueError(f"`pairs` (={tuple(pairs)}) {rule}")


def _swapped(pairs: Sequence[tuple[int, int]], num_keypoints: int) -> list[int]:
    order = list(range(num_keypoints))
    for left, right in pairs:
        order[left], order[right] = right, left
    return order


def _check_source(source: Mapping[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
    image, keypoints, visible, _ = parts(source, ("image", "keypoints", "visible", "box"))
    check_floating("image", image)
    check_shape("image", image, ("C", "H", "W"))
    if 0 in image.shape:
        raise ValueError(f"`image` {list(image.shape)} must have no axis of size 0")
    if keypoints.dim() != 2 or keypoints.shape[1] < 2:
        raise ValueError(f"`keypoints` (of shape {list(keypoints.shape)}) must be [K, D] with D of at least 2")
    check_mask("visible", visible, keypoints.shape[:1])
    return image, keypoints, visible


def _check_box(box: Tensor, image: Tensor) -> tuple[list[float], list[float]]:
    """Return center (in the pixel frame) and extent of a box that touches the picture."""
    check_shape("box", box, (4,))
    x, y, width, height = box.double().tolist()
    if not all(map(math.isfinite, (x, y, width, height))) or width <= 0 or height <= 0:
        raise ValueError(f"`box` (={[x, y, width, height]}) must have a width and a height above 0, all finite")
    image_height, image_width = image.shape[1:]
    if x >= image_width or y >= image_height or x + width <= 0 or y + height <= 0:
        raise ValueError(
            f"`box` (={[x, y, width, height]}) must touch the picture of {image_width} x {image_height} pixels"
        )
    return [x + width / 2 - 0.5, y + height / 2 - 0.5], [width, height]


def _shrunk(image: Tensor, shrink: float) -> tuple[Tensor, Tensor]:
    """Return the picture, smaller if ``shrink`` is above 1, and the matrix `[3, 3]` from its pixels to the new ones."""
    old = torch.tensor(image.shape[1:])
    new = (old / max(shrink, 1.0)).round().long().clamp(min=1)
    if not torch.equal(old, new):
        image = torch.nn.functional.interpolate(image[None], new.tolist(), mode="bilinear", antialias=True)[0]
    ratio_y, ratio_x = (new.double() / old).tolist()
    matrix = torch.tensor(
        [[ratio_x, 0, (ratio_x - 1) / 2], [0, ratio_y, (ratio_y - 1) / 2], [0, 0, 1]], dtype=torch.float64
    )
    # kornia divides by the width less one: a row or column of zeros beside a single one changes nothing.
    return torch.nn.functional.pad(image, (0, int(new[1] == 1), 0, int(new[0] == 1))), matrix


def _matrix(center: list[float], shrink: float, turn: float, size: tuple[int, int], flipped: bool) -> Tensor:
    """Return the matrix `[3, 3]` from source pixels to pixels of the crop.

    A positive turn is clockwise to the eye, as y points down.
    """
    cos, sin = math.cos(turn) / shrink, math.sin(turn) / shrink
    linear = torch.tensor([[cos, -sin], [sin, cos]], dtype=torch.float64)
    height, width = size
    middle = torch.tensor([(width - 1) / 2, (height - 1) / 2], dtype=torch.float64)
    matrix = torch.eye(3, dtype=torch.float64)
    matrix[:2, :2] = linear
    matrix[:2, 2] = middle - linear @ torch.tensor(center, dtype=torch.float64)
    if flipped:
        matrix[0] = -matrix[0]
        matrix[0, 2] += width - 1
    return matrix
