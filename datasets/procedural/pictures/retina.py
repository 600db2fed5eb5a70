"""Retina phantoms: layered scans of optical coherence tomography whose surfaces are known exactly.

The nine surfaces are those of `"Fully Convolutional Boundary Regression for Retina OCT Segmentation"
<https://arxiv.org/abs/1909.00306>`_ (He et al., MICCAI 2019). Everything is drawn in raw intensity, where layers mix
in proportion to the share of a pixel that they fill and speckle multiplies, and shown as its fourth root.
"""

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pcsa._core.checks import check_count
from pcsa.datasets.procedural.pictures.items import Items, as_bytes, check_arguments, stream
from pcsa.datasets.procedural.types import Array
from pcsa.datasets.samples import Samples
from pcsa.datasets.scans import ScanAugment, window
from pcsa.datasets.splits import Split
from pcsa.datasets.surface_labels import SURFACES

__all__ = ["Retinas"]

HEIGHT = 128
SPACING = (0.006, 0.03)  # mm per pixel: about 50 rows of retina, and 6 mm in 192 columns
MIN_THICKNESS = 1.5

# Thickness of the layer below each surface, in pixels beyond the least, and the raw reflectivity of all layers, from
# the vitreous to the choroid; both after the scans of a healthy eye.
_THICKNESS = np.array([5.0, 10.0, 5.0, 3.5, 9.5, 2.2, 2.2, 3.0], np.float32)
_LEVELS = np.array([0.0004, 0.17, 0.05, 0.013, 0.035, 0.005, 0.05, 0.018, 0.2, 0.03], np.float32)
# How much of a layer the pit of the fovea takes away (the outer nuclear layer grows into it).
_PIT = np.array([1.0, 0.95, 0.95, 0.8, -0.5, 0.0, -0.3, 0.0], np.float32)


class Retinas(Samples):
    """Phantoms of retinal scans, drawn as they are asked for and kept.

    Smooth layers at least 1.5 pixels thick, tilted, curved and wavy, in half of the scans with a fovea; reflectivity
    that varies along each layer, up to four vessels with their shadows, loss of signal with depth and across,
    correlated speckle of one to three looks, a noise floor, a cloudy choroid. Every boundary is inside the picture in
    every column and exact to a fraction of a pixel: before noise, the pixel that a surface crosses is the mixture of
    the layers above and below it.

    Scan i depends on (`seed`, `split`, i) alone: splits share none, and more scans leave the first as they were.

    Args:
        split: ``"train"``, ``"val"`` or ``"test"``.
        num_scans: Length of the split, at least 1.
        input_size: (height, width) of the network's input.
        width: Columns of a whole scan, at least 16. Rows are 128.
        augment: How :meth:`augmented` varies. Default: that of :class:`~pcsa.datasets.scans.ScanAugment`.
        seed: Whole number of at least 0.

    Raises:
        ValueError: Naming the argument, its value and the rule.

    Example:
        >>> scans = Retinas("train", num_scans=20)
        >>> scans.names[0], scans.num_keypoints, scans[3]["image"].shape, scans[3]["boundaries"].shape
        ('ILM', 9, torch.Size([1, 128, 64]), torch.Size([9, 64]))

    """

    names = SURFACES
    spacing = SPACING
    input_size: tuple[int, int]

    def __init__(
        self,
        split: Split,
        *,
        num_scans: int,
        input_size: tuple[int, int] = (HEIGHT, 64),
        width: int = 192,
        augment: ScanAugment | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(input_size)
        check_arguments(split, "num_scans", num_scans, seed)
        check_count("width", width, 16)
        self.width = width
        self.augment = augment or ScanAugment()
        self._items = Items([seed, stream(f"retina/{split}")], num_scans, self._draw)

    def source(self, index: int) -> dict[str, Any]:
        """Return the whole scan: ``image [1, 128, width]`` (0..1), ``boundaries [9, width]`` (rows), and more.

        ``visible [9, width]`` is True throughout; ``spacing`` is (y, x) in millimeters per pixel.
        """
        image8, rows = self._items[self._row(index)]
        return {
            "image": torch.from_numpy(image8)[None].float() / 255,
            "boundaries": torch.from_numpy(rows.copy()),
            "visible": torch.ones(rows.shape, dtype=torch.bool),
            "spacing": torch.tensor(SPACING),
        }

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return the central window: `source` cut to `input_size` (``boundaries [9, width]``), and ``index``."""
        return window(self.source(index), self.input_size) | {"index": self._row(index)}

    def augmented(self, index: int, generator: torch.Generator) -> dict[str, Any]:
        """Return a window anywhere, varied as `augment` says; all randomness is from `generator`."""
        index = self._row(index)
        return window(self.source(index), self.input_size, augment=self.augment, generator=generator) | {"index": index}

    def _draw(self, rng: np.random.Generator) -> tuple[NDArray[np.uint8], Array]:
        image, boundaries = make_retina(rng, self.width)
        return as_bytes(image), boundaries


def make_retina(rng: np.random.Generator, width: int) -> tuple[Array, Array]:
    """Draw one scan: its display image ``[128, width]`` (0..1) and its boundaries ``[9, width]``."""
    boundaries = _boundaries(rng, width)
    levels = _LEVELS[:, None] * np.exp(rng.normal(0, 0.15, (10, 1)) + 0.15 * _smooth(rng, 10, width, 3))
    raw = draw_layers(boundaries, levels.astype(np.float32), HEIGHT)
    y = np.arange(HEIGHT, dtype=np.float32)[:, None]
    depth = y - boundaries[0]
    raw *= _choroid(rng, depth - (boundaries[-1] - boundaries[0]))
    raw = _vessels(rng, raw, y, boundaries)
    # Light is lost with depth in tissue, and across where the beam meets the pupil's edge.
    raw *= np.exp(-rng.uniform(0.0, 0.012) * np.maximum(depth, 0) + 0.25 * _smooth(rng, 1, width, 1.5))
    looks = int(rng.integers(1, 4))
    raw *= sum(_speckle(rng, width) for _ in range(looks)) / np.float32(looks)
    raw += rng.uniform(0.0008, 0.004) * rng.standard_exponential((HEIGHT, width), np.float32)
    raw *= rng.uniform(0.6, 1.4)
    return np.clip(raw, 0, 1).astype(np.float32) ** np.float32(0.25), boundaries


def draw_layers(boundaries: Array, levels: Array, height: int) -> Array:
    """Fill the space between surfaces, every pixel the mixture of what its extent along the column holds.

    Args:
        boundaries: ``[K, W]`` rows, in order.
        levels: ``[K + 1, W]`` values above the first, between and below the last surface.
        height: Rows of the result.

    Returns:
        ``[height, W]``.

    """
    y = np.arange(height, dtype=boundaries.dtype)[:, None]
    out = np.repeat(levels[:1], height, axis=0)
    for surface, step in zip(boundaries, np.diff(levels, axis=0), strict=True):
        out += step * np.clip(y + np.float32(0.5) - surface, 0, 1)  # the share of the pixel that is below
    return out


def _smooth(rng: np.random.Generator, count: int, width: int, cycles: float) -> Array:
    """Random smooth functions ``[count, width]`` of mean square 1, with up to `cycles` periods in 192 columns."""
    frequency = rng.uniform(0.2, cycles, (count, 4, 1)) * 2 * math.pi / 192
    phase = rng.uniform(0, 2 * math.pi, (count, 4, 1))
    return (np.sin(frequency * np.arange(width) + phase).sum(1) / math.sqrt(2)).astype(np.float32)


def _boundaries(rng: np.random.Generator, width: int) -> Array:
    x = np.arange(width, dtype=np.float32) - (width - 1) / 2
    factor = np.exp(rng.normal(0, 0.12) + rng.normal(0, 0.15, (8, 1)) + 0.12 * _smooth(rng, 8, width, 4))
    factor[0] *= np.exp(rng.normal(0, 0.006) * np.clip(x, -96, 96))  # nerve fibers thicken towards the optic disc
    if rng.random() < 0.5:
        distance = (x - rng.uniform(-0.4, 0.4) * width) / rng.uniform(9, 20)
        factor *= 1 - rng.uniform(0.75, 1) * _PIT[:, None] * np.exp(-0.5 * distance**2)
    thickness = MIN_THICKNESS + _THICKNESS[:, None] * factor
    # The deepest surface carries the tilt and the curvature; waves of the finer kind differ from layer to layer above.
    bend = rng.normal(0, 0.06) * x + rng.normal(0, 0.0009) * x**2 * min(1, 192 / width)
    bend = bend + rng.uniform(0.3, 2) * _smooth(rng, 1, width, 3)[0] + 0.25 * _smooth(rng, 1, width, 12)[0]
    above = np.concatenate([np.cumsum(thickness[::-1], 0)[::-1], np.zeros((1, width))])
    # Room for the vitreous and the choroid; what bends too far for the picture is flattened.
    top, bottom = 6, HEIGHT - 14
    reach = min(1.0, (bottom - top - above[0].max()) / np.ptp(bend))
    rows = bend * reach - above
    low, high = top - rows.min(), bottom - rows.max()
    return (rows + rng.uniform(low, max(low, high))).astype(np.float32)


def _choroid(rng: np.random.Generator, depth: Array) -> Array:
    """Vessels and stroma below the deepest surface: clouds of 8 pixels, fading with depth; 1 elsewhere."""
    height, width = depth.shape
    coarse = rng.normal(0, 0.5, (height // 8 + 2, width // 8 + 2)).astype(np.float32)
    rows, columns = np.arange(height) / 8, np.arange(width) / 8
    i, j = rows.astype(int), columns.astype(int)
    u, v = (rows - i).astype(np.float32)[:, None], (columns - j).astype(np.float32)
    lines = coarse[i] * (1 - u) + coarse[i + 1] * u
    clouds = lines[:, j] * (1 - v) + lines[:, j + 1] * v
    below = np.clip(depth, 0, None)
    # The clouds start at the surface itself, so that the edge there is as sharp as the others.
    return np.where(depth > 0, np.exp(clouds * np.minimum(below / 6, 1) - below / rng.uniform(12, 40)), 1)


def _vessels(rng: np.random.Generator, raw: Array, y: Array, boundaries: Array) -> Array:
    """Bright vessels in the inner layers and the shadows they cast on all below."""
    width = raw.shape[1]
    x = np.arange(width, dtype=np.float32)
    for _ in range(rng.integers(0, 5)):
        column, radius = rng.uniform(0, width), rng.uniform(1.5, 4.5)
        nearest = int(np.clip(column, 0, width - 1))
        row = boundaries[0, nearest] + rng.uniform(1.0, 1.6) * radius
        distance = np.sqrt(((x - column) / radius) ** 2 + ((y - row) / (0.8 * radius)) ** 2)
        lumen = np.clip((1 - distance) * radius + 0.5, 0, 1)
        # The wall facing the light shines, the blood behind it does not.
        facing = np.clip((row - y) / radius, -1, 1)
        raw = raw + lumen * (np.exp(1.2 * facing - 1.4) * rng.uniform(0.5, 1.0) - raw)
        across = np.exp(-(((x - column) / radius) ** 4))
        raw *= 1 - rng.uniform(0.5, 0.92) * across * np.clip((y - row) / radius, 0, 1)
    return raw


def _speckle(rng: np.random.Generator, width: int) -> Array:
    """Fully developed speckle of mean 1: squared magnitude of a complex Gaussian field, correlated along depth."""
    field = rng.standard_normal((2, HEIGHT + 2, width), np.float32)
    field = field[:, 1:-1] + np.float32(0.5) * (field[:, :-2] + field[:, 2:])
    return (field**2).sum(0) / np.float32(3)  # variance 1 + 1/4 + 1/4 of each of the two parts
