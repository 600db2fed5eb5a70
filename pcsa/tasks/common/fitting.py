"""Whether thresholds of distances suit the clouds that they are used on."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pcsa._core.checks import check_thresholds

log = logging.getLogger(__name__)

EVERYTHING = 0.25
"""From this many diagonals of a cloud on, a threshold says nothing: one place for all keypoints, the middle of the
cloud, is about as far from them. It is 0.29 from a sphere, and 0.29 to 0.5 from the surface of a cube."""
NOTHING = 0.002
"""Below this many diagonals, and below half the spacing of the points, a threshold asks for more than a cloud holds."""

# So many clouds are measured, and in so many of them the distances of neighbors.
_CLOUDS, _SPACINGS = 200, 10
_SHARES = (0, 0.01, 0.02, 0.05, 0.1)


class Scale(NamedTuple):
    """Sizes of some clouds, in their units: medians over the clouds."""

    diagonal: float
    """Diagonal of the bounding box."""
    spacing: float
    """Distance from a point to the nearest other place, itself a median over the points."""


def scale_of(clouds: Sequence[Tensor]) -> Scale:
    """Measure clouds ``[N, D]``; of many, every so many."""
    some = [cloud.double().numpy() for cloud in clouds[:: -(-len(clouds) // _CLOUDS)]]
    diagonals = [np.linalg.norm(np.ptp(cloud, axis=0)) for cloud in some]
    spacings = [_spacing(cloud) for cloud in some[:: -(-len(some) // _SPACINGS)]]
    return Scale(float(np.median(diagonals)), float(np.median(spacings)))


def _spacing(cloud: NDArray[np.float64]) -> float:
    from scipy.spatial import cKDTree

    places = np.unique(cloud, axis=0)
    if len(places) == 1:
        return 0.0
    distance, _ = map(np.asarray, cKDTree(places).query(places, k=2))
    return float(np.median(distance[:, 1]))


def suits(thresholds: Sequence[float], scale: Scale) -> bool:
    """Whether some of the thresholds are neither too large nor too small for the clouds to tell predictions apart."""
    return scale.diagonal == 0 or any(_least(scale) <= t < EVERYTHING * scale.diagonal for t in thresholds)


def suited(shares: Sequence[float], scale: Scale) -> tuple[float, ...]:
    """Thresholds of these shares of the diagonal, in two digits."""
    return tuple(float(f"{share * scale.diagonal:.2g}") for share in shares)


def check_suited(name: str, thresholds: Sequence[float], scale: Scale, shares: Sequence[float] = _SHARES) -> None:
    """Refuse thresholds within which every prediction is, and warn of those that do not suit the clouds.

    Args:
        name: Name of the option.
        thresholds: In the units of the clouds.
        scale: Sizes of the clouds.
        shares: Shares of the diagonal that would suit, to be named.

    Raises:
        ValueError: If they are no thresholds, or if all above 0 are so large that even one place for all keypoints
            would be right.
    """
    thresholds = check_thresholds(name, thresholds)
    if scale.diagonal == 0:  # clouds of one place: nothing suits them
        return
    positive = [t for t in thresholds if t > 0]
    large = [t for t in positive if t >= EVERYTHING * scale.diagonal]
    size = f"the clouds' bounding boxes have a median diagonal of {scale.diagonal:.3g}"
    better = " ".join(f"{t:g}" for t in suited(shares, scale))
    option = f"`--{name.replace('_', '-')} {better}` are {_listed(shares)} of it"
    if large and len(large) == len(positive):
        raise ValueError(
            f"`{name}` (={_listed(thresholds)}) must be below {EVERYTHING * scale.diagonal:.3g}, from which on any "
            f"prediction counts as right: {size}; {option}"
        )
    if large:
        log.warning("`%s`: at %s nearly any prediction counts as right: %s; %s", name, _listed(large), size, option)
    if positive and max(positive) < _least(scale):
        log.warning(
            "`%s` (=%s): nearly no prediction can be right: %s, their points are %.3g apart; %s",
            name,
            _listed(thresholds),
            size,
            scale.spacing,
            option,
        )


def _least(scale: Scale) -> float:
    return max(NOTHING * scale.diagonal, min(scale.spacing / 2, EVERYTHING * scale.diagonal / 2))


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)
