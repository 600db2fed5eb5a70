"""The parts that shapes are built of, and the design that a category's function returns."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Point = tuple[float, float, float] | Array


@dataclass
class Part:
    """One lofted solid: rings of equally many vertices, joined in order and capped at both ends.

    Args:
        rings: ``[R, n, 3]``; each ring is a convex polygon.
        color: red, green and blue, 0 to 255.
        solid: how many of the first rings bound the volume from which points of other parts are dropped
            (default all). A mug's wall comes back inside itself: its outer rings bound the volume.
        open: what the remaining rings enclose is outside: other parts may show in it, as a drain in a tub.
    """

    rings: Array
    color: Array
    solid: int | None = None
    open: bool = False


@dataclass
class Design:
    """What a category's function returns: parts, named landmarks and symmetries, in any unit of length.

    Args:
        parts: the solids.
        marks: landmark name to position on the surface. Left out: this shape does not have it.
        groups: names of landmarks that a rotation about the y axis maps to one another, in the order of the
            rotation, and whether the shape is a surface of revolution there.
        mirror_axis: 0 or 2, the axis normal to the symmetry plane, which holds the origin.
    """

    parts: list[Part] = field(default_factory=list)
    marks: dict[str, Array] = field(default_factory=dict)
    groups: list[tuple[tuple[str, ...], bool]] = field(default_factory=list)
    mirror_axis: int = 0

    def mark(self, name: str, point: Point) -> None:
        """Name a point of the surface."""
        self.marks[name] = np.array(point, dtype=np.float64)

    def both(self, part: Part) -> None:
        """Add a part and its mirror image."""
        flip = np.ones(3)
        flip[self.mirror_axis] = -1
        self.parts += [part, Part(part.rings * flip, part.color, part.solid, part.open)]

    def mark_both(self, name: str, point: Point) -> None:
        """Name a point at x > 0 ``"<name> right"`` and its mirror image ``"<name> left"``."""
        x, y, z = point
        self.mark(f"{name} right", (x, y, z))
        self.mark(f"{name} left", (-x, y, z))


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def palette(rng: np.random.Generator, count: int) -> list[Array]:
    return list(rng.integers(30, 231, (count, 3)).astype(np.float64))


def box(low: Point, high: Point, color: Array) -> Part:
    (x0, y0, z0), (x1, y1, z1) = low, high
    ring = np.array([(x0, y0, z0), (x1, y0, z0), (x1, y0, z1), (x0, y0, z1)])
    return Part(np.stack([ring, ring + np.array([0, y1 - y0, 0])]), color)


def prism(outline: Array, heights: Sequence[float], scales: Sequence[float], color: Array) -> Part:
    """Stack one outline in the x-z plane ``[n, 2]`` at several heights, scaled at each."""
    rings = [np.insert(outline * scale, 1, y, axis=1) for y, scale in zip(heights, scales, strict=True)]
    return Part(np.stack(rings), color)


def revolved(profile: Sequence[tuple[float, float]], color: Array, sides: int = 24) -> Part:
    """Turn a profile of (radius, height) about the y axis."""
    angle = 2 * np.pi * np.arange(sides) / sides
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    rings = [np.insert(circle * radius, 1, y, axis=1) for radius, y in profile]
    return Part(np.stack(rings), color)


def tube(
    path: Sequence[Point] | Array,
    radius: float | Sequence[float],
    color: Array,
    sides: int = 8,
    flat: float = 1.0,
    across: Point = (1, 0, 0),
) -> Part:
    """Sweep a regular polygon along a path.

    Args:
        path: centers of the rings.
        radius: one for all rings or one per ring; half the width for ``sides=4``.
        color: the part's color.
        sides: 4 is a rectangle whose sides follow ``across``.
        flat: size perpendicular to ``across`` over the size along it.
        across: direction of the first axis of every ring (made perpendicular to the path).
    """
    centers = np.asarray(path, dtype=np.float64)
    tangents = np.gradient(centers, axis=0)
    tangents /= np.linalg.norm(tangents, axis=1, keepdims=True)
    first = np.asarray(across, dtype=np.float64) - tangents * (tangents @ np.asarray(across))[:, None]
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    second = np.cross(tangents, first)
    angle = 2 * np.pi * (np.arange(sides) + 0.5) / sides
    # Flat sides, not corners, face along the two axes; a rectangle reaches its half width there.
    reach = np.broadcast_to(np.asarray(radius, dtype=np.float64), len(centers)) / np.cos(np.pi / sides)
    offset = np.cos(angle)[:, None] * first[:, None] + flat * np.sin(angle)[:, None] * second[:, None]
    return Part(centers[:, None] + reach[:, None, None] * offset, color)


def rounded(front: float, back: float, depth: float, corner: float) -> Array:
    """Outline ``[n, 2]`` in x-z of a trapezoid with rounded corners.

    Args:
        front: half the width of the front edge, at z = ``-depth``.
        back: half the width of the back edge, at z = ``depth``.
        depth: half the depth.
        corner: radius of the corners; 0 keeps them sharp.
    """
    points = []
    for x, z, start in ((front, -depth, -90), (back, depth, 0), (-back, depth, 90), (-front, -depth, 180)):
        if corner == 0:
            points.append((x, z))
            continue
        for angle in np.deg2rad(np.linspace(start, start + 90, 4)):
            arc = corner * (np.cos(angle) - np.sign(x)), corner * (np.sin(angle) - np.sign(z))
            points.append((x + arc[0], z + arc[1]))
    return np.array(points)


def rounded_corner(half: float, edge: float, corner: float) -> tuple[float, float]:
    """Find the middle of a rounded corner's arc, as (x > 0, z)."""
    inset = corner * (1 - np.sqrt(0.5))
    return half - inset, edge - np.sign(edge) * inset


# Chord fraction and half thickness of a wing's section, around the section.
_FOIL = np.array(
    [
        (0, 0),
        (0.04, 0.5),
        (0.25, 1),
        (0.6, 0.7),
        (0.97, 0.1),
        (1, 0),
        (0.97, -0.1),
        (0.6, -0.7),
        (0.25, -1),
        (0.04, -0.5),
    ]
)


def wing(stations: Sequence[tuple[Point, float]], thickness: float, color: Array, upright: bool = False) -> Part:
    """Loft sections from root to tip.

    Args:
        stations: leading edge and chord at each station; the chord runs along z.
        thickness: thickness over chord.
        color: the part's color.
        upright: a fin, thick along x; else a wing, thick along y.
    """
    rings = []
    for lead, chord in stations:
        ring = np.tile(np.asarray(lead, dtype=np.float64), (len(_FOIL), 1))
        ring[:, 2] += _FOIL[:, 0] * chord
        ring[:, 0 if upright else 1] += _FOIL[:, 1] * chord * thickness / 2
        rings.append(ring)
    return Part(np.stack(rings), color)


def spindle(stations: Sequence[tuple[Point, float, float]], color: Array, sides: int = 18) -> Part:
    """Loft ellipses across z: center, half width, half height at each station."""
    angle = 2 * np.pi * np.arange(sides) / sides
    circle = np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)
    return Part(np.stack([np.asarray(c) + circle * (a, b, 0) for c, a, b in stations]), color)


def loft(stations: Sequence[tuple[Array, float]], color: Array, axis: int = 2) -> Part:
    """Join outlines that lie across an axis.

    Args:
        stations: outline ``[n, 2]`` in the other two axes, in their order, and its place along the axis.
        color: the part's color.
        axis: 0, 1 or 2.
    """
    return Part(np.stack([np.insert(outline, axis, at, axis=1) for outline, at in stations]), color)


def turned(profile: Sequence[tuple[float, float]], center: Point, color: Array, axis: int = 0, sides: int = 20) -> Part:
    """Turn a profile of (radius, offset along the axis) about a line through a center."""
    angle = 2 * np.pi * np.arange(sides) / sides
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    part = loft([(circle * radius, offset) for radius, offset in profile], color, axis)
    return Part(part.rings + np.asarray(center, dtype=np.float64), color)


def hoop(center: Point, ring: float, radius: float, color: Array, sides: int = 8) -> list[Part]:
    """Lay a tube in a circle about the x axis, as two halves whose ends lie within one another.

    Args:
        center: of the circle.
        ring: radius of the circle.
        radius: radius of the tube.
        color: the parts' color.
        sides: of the tube.
    """
    halves = []
    for start in (0.0, np.pi):
        angle = start + np.linspace(-0.1, np.pi + 0.1, 14)
        path = np.stack([0 * angle, ring * np.cos(angle), ring * np.sin(angle)], axis=1)
        halves.append(tube(path + np.asarray(center, dtype=np.float64), radius, color, sides))
    return halves
