"""The radius by which maps are read, and names of read-outs that have one of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

from pcsa.localization import NEED_RADIUS, ReadOut
from pcsa.tasks.common.fitting import Scale, check_suited, suited, suits

KEYPOINTNET_RADIUS = 0.01
"""In the units of KeypointNet, whose clouds have a diagonal of about 1."""

TEMPLATE = "template"
"""Floor that does not look at the shape."""
MEAN_SHAPE, NEAREST_SHAPE = "mean shape", "nearest shape"
"""Floors that do: the mean of the training shapes, and the one that fits best."""


def shape_floors(*, scaled: bool, mirrored: bool) -> tuple[str, str]:
    """Names of both such floors: how training shapes may change is part of them."""
    how = ", rigid" * (not scaled) + ", mirrored" * mirrored
    return MEAN_SHAPE + how, NEAREST_SHAPE + how


_WAYS = [{"scaled": scaled, "mirrored": mirrored} for scaled in (True, False) for mirrored in (False, True)]
FLOORS = (TEMPLATE, *(name for way in _WAYS for name in shape_floors(**way)))
"""Rows among the read-outs that no map is behind."""


def cloud_radius(read_out: ReadOut, radius: float | None, scale: Scale, default: float | None = None) -> float | None:
    """The radius to read maps of clouds with, in their units; where one is needed the default, or else KeypointNet's.

    Raises:
        ValueError: If it is as large as the clouds, or if there is none and KeypointNet's does not suit them.
    """
    if radius is not None:
        check_suited("radius", [radius], scale, [KEYPOINTNET_RADIUS])
    elif read_out in NEED_RADIUS:
        if default is not None:
            return default
        radius = KEYPOINTNET_RADIUS
        # As with the threshold of right keypoints: a coarse cloud of KeypointNet's size has its radius, too.
        if not suits([radius], scale._replace(spacing=0.0)):
            better = suited([radius], scale)[0]
            raise ValueError(
                f"`radius` (=None) must be given with `read_out` {read_out!r}: the default of {radius:g} is that of "
                f"KeypointNet; these clouds have a diagonal of {scale.diagonal:.3g}, and {better:g} is "
                f"{KEYPOINTNET_RADIUS:g} of it"
            )
    return radius


def ball_named(radius: float) -> str:
    """Name of the read-out ball with a radius of its own, among others that share one: "ball, 0.02"."""
    return f"ball, {radius:g}"


def parse_read_out(name: str, radius: float | None = None) -> tuple[ReadOut, float | None]:
    """Read-out and radius behind a name, which may be one of :func:`ball_named`; ``radius`` is that of the others.

    Raises:
        ValueError: If there is no such read-out.
    """
    kind, comma, own = name.partition(", ")
    try:
        radius = float(own) if comma else radius
    except ValueError:
        kind = ""
    if kind not in get_args(ReadOut) or (comma and (kind != "ball" or ball_named(radius or 0) != name)):
        known = ", ".join(map(repr, get_args(ReadOut)))
        raise ValueError(f"`read_outs` (={name!r}) must be out of {known}, or ball with a radius, such as 'ball, 0.02'")
    return kind, radius if kind in NEED_RADIUS else None  # type: ignore[return-value]  # checked above


def own_radii(names: Sequence[str]) -> tuple[float, ...]:
    """The radii that read-outs have of their own."""
    found = (parse_read_out(name)[1] for name in names if "," in name and name not in FLOORS)
    return tuple(radius for radius in found if radius is not None)


def floor_options(names: Sequence[str]) -> dict[str, bool]:
    """Options of ``pcsa evaluate`` for the floors among some names; none where they come without being asked for.

    Raises:
        ValueError: If they are not made in one way.
    """
    ways = {tuple(name.split(", ")[1:]) for name in names if name in FLOORS and name != TEMPLATE}
    if len(ways) > 1:
        raise ValueError(f"`read_outs` (={list(names)}) must have floors of one kind")
    return {"floors": True, **{f"floors_{way}": True for way in next(iter(ways))}} if ways else {}


def check_map_radius(read_out: ReadOut, radius: float | None) -> None:
    """Raise if a read-out of maps of images, volumes or scans lacks its radius: no length suits all of them."""
    if radius is None and read_out in NEED_RADIUS:
        raise ValueError(
            f"`radius` (=None) must be given with `read_out` {read_out!r}, in pixels of the network's input"
        )
