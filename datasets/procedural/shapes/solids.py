"""The solids that shapes are built of. All are lofted; see :class:`~pcsa.datasets.procedural.shapes.design.Part`."""

from collections.abc import Sequence

import numpy as np

from pcsa.datasets.procedural.shapes.design import Part, Point
from pcsa.datasets.procedural.types import Array


def ellipse(sides: int, power: float = 2.0) -> Array:
    """Place the corners ``[sides, 2]`` of an ellipse of radius 1, from the first axis to the second.

    A power of more than 2 makes it squarer: 20 is nearly a square.
    """
    angle = 2 * np.pi * np.arange(sides) / sides
    c, s = np.cos(angle), np.sin(angle)
    return np.stack([np.sign(c) * np.abs(c) ** (2 / power), np.sign(s) * np.abs(s) ** (2 / power)], axis=1)


def box(one: Point, other: Point, color: Array) -> Part:
    """Span a box between two opposite corners."""
    (x0, y0, z0), (x1, y1, z1) = np.sort([one, other], axis=0)
    ring = np.array([(x0, y0, z0), (x1, y0, z0), (x1, y0, z1), (x0, y0, z1)])
    return Part(np.stack([ring, ring + np.array([0, y1 - y0, 0])]), color)


def prism(outline: Array, heights: Sequence[float], scales: Sequence[float], color: Array) -> Part:
    """Stack one outline in the x-z plane ``[n, 2]`` at several heights, scaled at each."""
    return loft([(outline * scale, y) for y, scale in zip(heights, scales, strict=True)], color, axis=1)


def revolved(profile: Sequence[tuple[float, float]], color: Array, sides: int = 24) -> Part:
    """Turn a profile of (radius, height) about the y axis."""
    return prism(ellipse(sides), [y for _, y in profile], [radius for radius, _ in profile], color)


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
        path: Centers of the rings.
        radius: One for all rings or one per ring; half the width for ``sides=4``.
        color: The part's color.
        sides: 4 is a rectangle whose sides follow ``across``.
        flat: Size perpendicular to ``across`` over the size along it.
        across: Direction of the first axis of every ring (made perpendicular to the path).
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
    """Outline a trapezoid ``[n, 2]`` in x-z with rounded corners.

    Args:
        front: Half the width of the front edge, at z = ``-depth``.
        back: Half the width of the back edge, at z = ``depth``.
        depth: Half the depth.
        corner: Radius of the corners; 0 keeps them sharp.
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
        stations: Leading edge and chord at each station; the chord runs along z.
        thickness: Thickness over chord.
        color: The part's color.
        upright: A fin, thick along x; else a wing, thick along y.
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
    circle = np.insert(ellipse(sides), 2, 0.0, axis=1)
    return Part(np.stack([np.asarray(c) + circle * (a, b, 0) for c, a, b in stations]), color)


def loft(stations: Sequence[tuple[Array, float]], color: Array, axis: int = 2) -> Part:
    """Join outlines that lie across an axis.

    Args:
        stations: Outline ``[n, 2]`` in the other two axes, in their order, and its place along the axis.
        color: The part's color.
        axis: 0, 1 or 2.
    """
    return Part(np.stack([np.insert(outline, axis, at, axis=1) for outline, at in stations]), color)


def turned(profile: Sequence[tuple[float, float]], center: Point, color: Array, axis: int = 0, sides: int = 20) -> Part:
    """Turn a profile of (radius, offset along the axis) about a line through a center."""
    circle = ellipse(sides)
    part = loft([(circle * radius, offset) for radius, offset in profile], color, axis)
    return Part(part.rings + np.asarray(center, dtype=np.float64), color)


def hoop(center: Point, ring: float, radius: float, color: Array, sides: int = 8) -> list[Part]:
    """Lay a tube in a circle about the x axis, as two halves whose ends lie within one another.

    Args:
        center: Center of the circle.
        ring: Radius of the circle.
        radius: Radius of the tube.
        color: Color of the halves.
        sides: Sides of the tube's polygon.
    """
    halves = []
    for start in (0.0, np.pi):
        angle = start + np.linspace(-0.1, np.pi + 0.1, 14)
        path = np.stack([0 * angle, ring * np.cos(angle), ring * np.sin(angle)], axis=1)
        halves.append(tube(path + np.asarray(center, dtype=np.float64), radius, color, sides))
    return halves
