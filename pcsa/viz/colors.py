"""Choose the colors of keypoints, probabilities and skeletons: one place for every picture, page and window."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Chosen together in OKLab, so that the two nearest are as far apart as can be, none is near white or the grays of
# clouds, and each is far from the ones before.
_COLORS = (
    "c20024 24ff00 0000ff ff92ff 00550c 00b6aa b69200 7900ce 790061 ffaa92 0079ff 003d92 "
    "c2009e ff00ff dbdb3d 18f3e7 c2799e ff5500 007992 00c200 86aaff 6d3100 aa61ff 3d8600"
)
_FIRST = np.frombuffer(bytes.fromhex(_COLORS), np.uint8).reshape(-1, 3) / 255
_NUM_COLORS = 1024

# From no probability to the largest; the first is the gray of a cloud.
_HEAT = np.array([[0.84, 0.84, 0.84], [0.99, 0.80, 0.44], [0.96, 0.43, 0.20], [0.75, 0.08, 0.15], [0.35, 0.0, 0.16]])
# From a weak to a strong segment of a skeleton.
_STRENGTH = np.array([[0.80, 0.84, 0.90], [0.05, 0.15, 0.40]])


def keypoint_colors(ids: int | Sequence[int]) -> Array:
    """Return the color of each semantic id, [K, 3] in 0 to 1; the same id always has the same color.

    Args:
        ids: Semantic ids, or a number K for the ids 0 to K - 1. Those of the ids 0 to 23 are easy to tell apart: no
            two are nearer than 0.16 in OKLab, where white is 1 from black. No two of the ids 0 to 1023 share a color;
            after that the colors repeat.
    """
    listed = range(ids) if isinstance(ids, int) else [int(i) for i in ids]
    place = np.asarray(listed, dtype=np.int64) % _NUM_COLORS
    return (_FIRST if place.max(initial=0) < len(_FIRST) else _palette())[place]


@cache
def _palette() -> Array:
    """Continue the first colors, each as far as possible from the ones before, from white and from gray: [M, 3]."""
    level = np.linspace(0, 1, 18)
    grid = np.stack(np.meshgrid(level, level, level, indexing="ij"), -1).reshape(-1, 3)
    lab = oklab(grid)
    # Neither nearly white, black or gray.
    grid = grid[(np.linalg.norm(lab[:, 1:], axis=1) > 0.06) & (lab[:, 0] > 0.3) & (lab[:, 0] < 0.92)]
    lab, colors = oklab(grid), list(_FIRST)
    apart = np.linalg.norm(lab[:, None] - oklab(_FIRST), axis=2).min(1)
    while len(colors) < _NUM_COLORS:
        best = int(apart.argmax())
        colors.append(grid[best])
        apart = np.minimum(apart, np.linalg.norm(lab - lab[best], axis=1))
    return np.array(colors)


def oklab(color: Array) -> Array:
    """Convert sRGB colors [..., 3], 0 to 1, to OKLab, where distances are as the eye sees them.

    See https://bottosson.github.io/posts/oklab.
    """
    light = np.where(color <= 0.04045, color / 12.92, ((color + 0.055) / 1.055) ** 2.4)
    return np.asarray(np.cbrt(light @ _LMS) @ _LAB)


_LMS = np.array(
    [
        [0.4122214708, 0.2119034982, 0.0883024619],
        [0.5363325363, 0.6806995451, 0.2817188376],
        [0.0514459929, 0.1073969566, 0.6299787005],
    ]
)
_LAB = np.array(
    [
        [0.2104542553, 1.9779984951, 0.0259040371],
        [0.7936177850, -2.4285922050, 0.7827717662],
        [-0.0040720468, 0.4505937099, -0.8086757660],
    ]
)


def _blend(stops: Array, value: Array) -> Array:
    at = np.linspace(0, 1, len(stops))
    return np.stack([np.interp(value, at, channel) for channel in stops.T], axis=-1)


MapScale = Literal["linear", "log"]

LOG_LEAST = 1e-3
"""Share of the largest probability that has the color of none on a logarithmic scale."""


def scaled(share: Array, scale: MapScale) -> Array:
    """Return the places on a scale, 0 to 1, of shares of the largest probability."""
    if scale == "linear":
        return share
    return np.asarray(1 - np.log(np.maximum(share, LOG_LEAST)) / np.log(LOG_LEAST))


def heat(value: Array) -> Array:
    """Color probabilities, as shares of the largest: [N, 3]."""
    return _blend(_HEAT, value)


def strengths(value: Array) -> Array:
    """Color the activations of a skeleton, 0 to 1: [N, 3]."""
    return _blend(_STRENGTH, value)
