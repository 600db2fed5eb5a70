"""A procedural twin of KeypointNet: parametric shapes, written in KeypointNet's release layout.

A category is one function that draws a :class:`Design` (parts and named landmarks) from a random generator,
a table of names, and one line in ``_CATEGORIES``. All else (normalization, sampling, snapping, files) is
shared.

Frame: y is up and the bounding box's diagonal is 1, as in ShapeNet. The origin is the centroid of the
surface, except along the axis of the mirror symmetry, where the symmetry plane stays at 0. Chairs and
airplanes face -z, as KeypointNet's do, so -x is the sitter's and the pilot's left and +x their right;
tables have their front at -z too. A mug's handle points along +x.

Semantic ids: chairs 0-5 and 17-20 and airplanes 0-9 and 12-17 mean what they mean in KeypointNet; the other
ids are this twin's own.
"""

import contextlib
import hashlib
import itertools
import json
import os
import tempfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pcsa.datasets.pcd import write_pcd

if TYPE_CHECKING:
    import trimesh

Array = NDArray[np.float64]
Point = tuple[float, float, float] | Array

# Every model id starts with "pcsa" in hex, so that our files are told from KeypointNet's by name alone.
_ID_PREFIX = "70637361"
_SPLITS = ("train", "val", "test")
_MIN_POINTS = 256


@dataclass
class Part:
    """One lofted solid: rings of equally many vertices, joined in order and capped at both ends.

    Args:
        rings: ``[R, n, 3]``; each ring is a convex polygon.
        color: red, green and blue, 0 to 255.
        solid: how many of the first rings bound the volume from which points of other parts are dropped
            (default all). A mug's wall comes back inside itself: its outer rings bound the volume.
    """

    rings: Array
    color: Array
    solid: int | None = None


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
        self.parts += [part, Part(part.rings * flip, part.color, part.solid)]

    def mark_both(self, name: str, point: Point) -> None:
        """Name a point at x > 0 ``"<name> right"`` and its mirror image ``"<name> left"``."""
        x, y, z = point
        self.mark(f"{name} right", (x, y, z))
        self.mark(f"{name} left", (-x, y, z))


@dataclass(frozen=True)
class Shape:
    """A shape with its keypoints, before it is sampled.

    Args:
        category: name of the category.
        vertices: ``[V, 3]``, bounding-box diagonal 1.
        faces: ``[F, 3]`` vertex indexes, normals outwards.
        face_parts: ``[F]`` index of the part of every face.
        part_colors: ``[P, 3]`` uint8.
        solids: per part its convex cells as planes ``[C, n, 4]``: inside where ``n·x + d < 0`` for all n.
        keypoints: semantic id to position on the surface.
        names: semantic id to name, for the keypoints this shape has.
        pairs: semantic ids that mirror one another across ``mirror_axis`` = 0.
        groups: semantic ids in the order of a rotation about y, and whether it is a full circle.
        mirror_axis: 0 (x) or 2 (z).
    """

    category: str
    vertices: Array
    faces: NDArray[np.int64]
    face_parts: NDArray[np.int64]
    part_colors: NDArray[np.uint8]
    solids: list[Array]
    keypoints: dict[int, Array]
    names: dict[int, str]
    pairs: list[tuple[int, int]]
    groups: list[tuple[tuple[int, ...], bool]]
    mirror_axis: int

    @property
    def mesh(self) -> "trimesh.Trimesh":
        """The shape as one trimesh mesh with a color per vertex (parts share no vertex)."""
        import trimesh

        colors = np.zeros((len(self.vertices), 3), np.uint8)
        colors[self.faces] = self.part_colors[self.face_parts][:, None]
        return trimesh.Trimesh(self.vertices, self.faces, vertex_colors=colors, process=False)


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _palette(rng: np.random.Generator, count: int) -> list[Array]:
    return list(rng.integers(30, 231, (count, 3)).astype(np.float64))


# ---------------------------------------------------------------------------------------------- parts


def _box(low: Point, high: Point, color: Array) -> Part:
    (x0, y0, z0), (x1, y1, z1) = low, high
    ring = np.array([(x0, y0, z0), (x1, y0, z0), (x1, y0, z1), (x0, y0, z1)])
    return Part(np.stack([ring, ring + np.array([0, y1 - y0, 0])]), color)


def _prism(outline: Array, heights: Sequence[float], scales: Sequence[float], color: Array) -> Part:
    """Stack one outline in the x-z plane ``[n, 2]`` at several heights, scaled at each."""
    rings = [np.insert(outline * scale, 1, y, axis=1) for y, scale in zip(heights, scales, strict=True)]
    return Part(np.stack(rings), color)


def _revolved(profile: Sequence[tuple[float, float]], color: Array, sides: int = 24) -> Part:
    """Turn a profile of (radius, height) about the y axis."""
    angle = 2 * np.pi * np.arange(sides) / sides
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    rings = [np.insert(circle * radius, 1, y, axis=1) for radius, y in profile]
    return Part(np.stack(rings), color)


def _tube(
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


def _rounded(front: float, back: float, depth: float, corner: float) -> Array:
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


def _corner(half: float, edge: float, corner: float) -> tuple[float, float]:
    """Find the middle of a rounded corner's arc, as (x > 0, z)."""
    inset = corner * (1 - np.sqrt(0.5))
    return half - inset, edge - np.sign(edge) * inset


# ---------------------------------------------------------------------------------------------- chair

_CHAIR_NAMES = {
    0: "back top right",
    1: "back top left",
    2: "seat back right",
    3: "seat back left",
    4: "seat front right",
    5: "seat front left",
    6: "arm front right",
    7: "arm front left",
    8: "arm back right",
    9: "arm back left",
    10: "star hub",
    12: "star tip front",
    13: "star tip side right",
    14: "star tip side left",
    15: "star tip back right",
    16: "star tip back left",
    17: "foot front right",
    18: "foot back right",
    19: "foot back left",
    20: "foot front left",
}


def _chair(rng: np.random.Generator) -> Design:
    d = Design()
    wood, cloth, metal = _palette(rng, 3)
    front = _log_uniform(rng, 0.18, 0.33)  # half the width of the seat
    back = front * rng.uniform(0.78, 1.05)
    depth = front * _log_uniform(rng, 0.75, 1.35)  # half the depth
    height = _log_uniform(rng, 0.28, 0.62)
    thick = _log_uniform(rng, 0.015, 0.09)
    corner = rng.choice([0.0, rng.uniform(0.05, 0.35)]) * min(back, depth)
    low = height - thick

    outline = _rounded(front, back, depth, corner)
    d.parts.append(_prism(outline, (low, height), (1, 1), wood))
    cushion = rng.random() < 0.4
    if cushion:
        puff = _log_uniform(rng, 0.02, 0.07)
        heights = (height - thick / 2, height + 0.6 * puff, height + puff)
        d.parts.append(_prism(outline, heights, (0.93, 0.93, 0.84), cloth))
    d.mark_both("seat front", np.insert(_corner(front, -depth, corner), 1, height))
    d.mark_both("seat back", np.insert(_corner(back, depth, corner), 1, height))

    _chair_back(d, rng, back * rng.uniform(0.82, 1.0), depth - 0.3 * corner, height, thick, front, wood, cloth)

    style = rng.choice(["legs", "star", "sled", "cantilever"], p=[0.48, 0.24, 0.16, 0.12])
    bar = _log_uniform(rng, 0.011, 0.032)
    spread = rng.uniform(0.8, 0.96)
    splay = max(1.0, rng.uniform(0.9, 1.25))
    xf, xb, zf = front * spread - bar, back * spread - bar, depth * spread - bar
    if style == "legs":
        sides = int(rng.choice([4, 8]))
        slim = rng.uniform(0.5, 1.0)
        feet = {}
        for name, x, z in (("front", xf, -zf), ("back", xb, zf)):
            foot = np.array([x * splay, 0.0, z * splay])
            d.both(_tube([foot, (x, height - thick / 2, z)], [bar * slim, bar], wood, sides))
            d.mark_both(f"foot {name}", foot)
            feet[name] = foot
        if rng.random() < 0.45:  # a stretcher on either side, and one between the two
            share = rng.uniform(0.25, 0.6)
            ends = [
                feet[n] + share * (np.array([x, low, z]) - feet[n])
                for n, x, z in (("front", xf, -zf), ("back", xb, zf))
            ]
            d.both(_tube(ends, 0.5 * bar, wood, sides))
            middle = np.mean(ends, axis=0)
            d.parts.append(_tube([middle, middle * (-1, 1, 1)], 0.5 * bar, wood, sides, across=(0, 1, 0)))
    elif style == "star":
        reach = max(front, depth) * rng.uniform(0.8, 1.2)
        caster = _log_uniform(rng, 0.015, 0.035)
        hub = 2 * caster + rng.uniform(0.02, 0.12) * height
        radius = _log_uniform(rng, 0.016, 0.035)
        d.parts.append(_tube([(0, hub, 0), (0, height - thick / 2, 0)], radius, metal, 12))
        d.parts.append(_tube([(0, hub - 0.02, 0), (0, hub + 0.04, 0)], 1.6 * radius, metal, 12))
        d.mark("star hub", (0, hub - 0.02, 0))
        for angle, name in ((0, "front"), (72, "side"), (144, "back")):
            way = np.array([np.sin(np.deg2rad(angle)), 0, -np.cos(np.deg2rad(angle))])
            tip = reach * way + (0, 2 * caster, 0)
            wheel = _tube([tip - caster * way - (0, 2 * caster, 0), tip - caster * way], 0.8 * caster, metal)
            arm = _tube([(0, hub, 0), tip], [0.8 * radius, 0.6 * caster], metal, 6, across=(0, 1, 0))
            if name == "front":
                d.parts += [arm, wheel]
                d.mark("star tip front", tip)
            else:
                d.both(arm)
                d.both(wheel)
                d.mark_both(f"star tip {name}", tip)
    else:
        base_f, base_b = np.array([xf * splay, bar, -zf]), np.array([xf * splay, bar, zf * splay])
        path: list[Point] = [(xf, low + thick / 2, -zf * 0.98), base_f, base_b]
        if style == "sled":
            path.append((xb, low + thick / 2, zf * 0.98))
        else:
            d.parts.append(_tube([base_b, base_b * (-1, 1, 1)], bar, metal, across=(0, 1, 0)))
        for start, end in itertools.pairwise(path):
            d.both(_tube([start, end], bar, metal))
        for name, base in (("front", base_f), ("back", base_b)):
            d.mark_both(f"foot {name}", (base[0], 0, base[2] + np.sign(base[2]) * bar * 0.5))

    lean = rng.uniform(-0.06, 0.1)
    for part in d.parts:
        part.rings[..., 2] += lean * part.rings[..., 1]
    for point in d.marks.values():
        point[2] += lean * point[1]
    return d


def _chair_back(
    d: Design,
    rng: np.random.Generator,
    half: float,
    edge: float,
    height: float,
    thick: float,
    seat_half: float,
    wood: Array,
    cloth: Array,
) -> None:
    """Add the back, which rises at z = ``edge``, and perhaps arm rests, which hang on it."""
    rise = _log_uniform(rng, 0.24, 0.75)
    deep = _log_uniform(rng, 0.015, 0.06)
    tilt, bend = rng.uniform(0.0, 0.3), rng.uniform(-0.15, 0.2)
    curve = rng.choice([0.0, rng.uniform(0.05, 0.4)]) * half
    flare = rng.uniform(-0.15, 0.15)
    arch = rng.choice([0.0, rng.uniform(-0.1, 0.25)])
    base = height - thick / 2

    def at(u: float, s: float, n: float) -> Array:
        """Place u (-1 left to 1 right), s (0 base to 1 top), n (0 front to 1 rear)."""
        sag = curve * (1 - u * u) * min(1.0, 2 * s)
        z = edge + (tilt * s + bend * s * s) * rise + sag + (n - 1) * deep
        return np.array([u * half * (1 + flare * s), base + s * rise, z])

    def top(u: float) -> float:
        return 1 + arch * (1 - u * u)

    def across(s0: float, s1: float | None, color: Array) -> Part:
        rings = [
            [at(u, s, n) for s, n in ((s0, 0), (e, 0), (e, 1), (s0, 1))]
            for u in np.linspace(-1, 1, 9)
            for e in (top(u) if s1 is None else s1,)
        ]
        return Part(np.array(rings), color)

    def upright(u0: float, u1: float, s1: float, color: Array) -> Part:
        rings = [[at(u, s, n) for u, n in ((u0, 0), (u1, 0), (u1, 1), (u0, 1))] for s in np.linspace(0, s1, 7)]
        return Part(np.array(rings), color)

    style = rng.choice(["panel", "floating", "slats", "ladder"])
    post = rng.uniform(0.08, 0.16)
    if style == "panel":
        # Rows of cells, so that the panel follows the bend.
        rows = np.linspace(0, 1, 5)
        for s0, s1 in itertools.pairwise(rows):
            d.parts.append(across(s0, None if s1 == 1 else s1, cloth))
    else:
        d.both(upright(1 - post, 1, 0.99, wood))
    if style == "floating":
        d.parts.append(across(rng.uniform(0.3, 0.6), None, cloth))
    if style == "slats":
        rail = rng.uniform(0.08, 0.25)
        d.parts.append(across(1 - rail, None, wood))
        count = int(rng.integers(1, 6))
        width = min(rng.uniform(0.05, 0.25), 0.6 / count)
        for u in np.linspace(-1, 1, count + 2)[1:-1]:
            d.parts.append(upright(u - width, u + width, 1 - rail / 2, wood))
    if style == "ladder":
        count = int(rng.integers(2, 5))
        width = rng.uniform(0.3, 0.7) / count
        levels = np.linspace(0.1, 1, count + 1)[1:]
        for s in levels[:-1]:
            d.parts.append(across(s - width, s, wood))
        d.parts.append(across(1 - width, None, wood))
    d.mark_both("back top", at(1, 1, 0.5))

    if rng.random() < 0.45:
        level = min(_log_uniform(rng, 0.12, 0.3), 0.8 * rise)
        wide, pad = _log_uniform(rng, 0.014, 0.05), _log_uniform(rng, 0.3, 1.0)
        hang = at(1, level / rise, 0.5)
        x = max(hang[0] + wide, seat_half * rng.uniform(0.95, 1.1))
        ahead = np.array([x, hang[1], -edge * rng.uniform(0.2, 0.95)])
        behind = np.array([hang[0] + 0.8 * wide, hang[1], hang[2]])
        d.both(_tube([behind, ahead], wide, wood, 4, flat=pad))
        lift = np.array([0, wide * pad, 0])
        d.mark_both("arm front", ahead + lift)
        d.mark_both("arm back", behind + lift)
        support = rng.choice(["post", "panel", "middle", "none"], p=[0.45, 0.2, 0.2, 0.15])
        foot_x = min(ahead[0], 0.95 * min(seat_half, half))
        if support == "panel":
            low, w = height - thick, wide / 2
            side = np.array([(foot_x - w, low), (foot_x + w, low), (x + w, hang[1]), (x - w, hang[1])])
            rings = [np.insert(side, 2, z, axis=1) for z in (ahead[2] + 0.01, edge - deep)]
            d.both(Part(np.stack(rings), cloth))
        elif support != "none":
            share = 0.08 if support == "post" else 0.5
            start = ahead + share * (behind - ahead)
            foot = (foot_x, height - thick / 2, start[2])
            d.both(_tube([foot, start], 0.6 * wide, wood, 4))


# ---------------------------------------------------------------------------------------------- table

_TABLE_NAMES = {
    0: "top front right",
    1: "top front left",
    2: "top back left",
    3: "top back right",
    4: "foot front right",
    5: "foot front left",
    6: "foot back left",
    7: "foot back right",
    8: "rim right",
    9: "rim front",
    10: "rim left",
    11: "rim back",
    12: "shelf front right",
    13: "shelf front left",
    14: "shelf back left",
    15: "shelf back right",
    16: "base right",
    17: "base front",
    18: "base left",
    19: "base back",
}


def _table(rng: np.random.Generator) -> Design:
    d = Design()
    top_color, leg_color, extra_color = _palette(rng, 3)
    plan = rng.choice(["rectangle", "square", "round", "oval"], p=[0.5, 0.12, 0.23, 0.15])
    x = _log_uniform(rng, 0.25, 0.8)  # half the length
    z = x if plan in ("square", "round") else x * _log_uniform(rng, 0.35, 0.9)
    height = _log_uniform(rng, 0.3, 0.9)
    thick = _log_uniform(rng, 0.012, 0.08)
    curved = plan in ("round", "oval")
    # Half an extent that legs keep within: the corners, or 45 degrees on the ellipse.
    reach = np.array([x, z]) * (np.sqrt(0.5) if curved else 1.0)

    if curved:
        angle = 2 * np.pi * np.arange(32) / 32
        outline = np.stack([x * np.cos(angle), z * np.sin(angle)], axis=1)
        for name, a, b in (("right", x, 0), ("front", 0, -z), ("left", -x, 0), ("back", 0, z)):
            d.mark(f"rim {name}", (a, height, b))
    else:
        corner = rng.choice([0.0, rng.uniform(0.05, 0.3)]) * z
        outline = _rounded(x, x, z, corner)
        for name, edge in (("front", -z), ("back", z)):
            d.mark_both(f"top {name}", np.insert(_corner(x, edge, corner), 1, height))
    under = rng.choice([1.0, rng.uniform(0.9, 1.0)])
    d.parts.append(_prism(outline, (height - thick, height), (under, 1), top_color))

    style = rng.choice(["legs", "pedestal", "feet", "trestle"], p=[0.5, 0.2, 0.12, 0.18])
    if curved and style == "trestle":
        style = "pedestal"
    bar = min(_log_uniform(rng, 0.012, 0.05), 0.15 * z)
    turned = True  # a half turn maps the shape to itself
    if style == "legs":
        inset = rng.uniform(0.75, 0.97)
        splay = max(1.0, rng.uniform(0.85, 1.15))
        slim = rng.uniform(0.4, 1.0)
        sides = int(rng.choice([4, 10]))
        at = reach * inset - bar
        for name, sign in (("front", -1), ("back", 1)):
            foot = np.array([at[0] * splay, 0.0, sign * at[1] * splay])
            leg: list[Point] = [foot, (at[0], height - thick / 2, sign * at[1])]
            d.both(_tube(leg, [bar * slim, bar], leg_color, sides))
            d.mark_both(f"foot {name}", foot)
        if rng.random() < 0.4:  # an apron under the top
            low = height - thick - rng.uniform(0.04, 0.15) * height
            for sign in (-1, 1):
                a, b = sorted((sign * (at[1] - bar / 2), sign * (at[1] + bar / 2)))
                d.parts.append(_box((-at[0], low, a), (at[0], height - thick / 2, b), leg_color))
            d.both(_box((at[0] - bar / 2, low, -at[1]), (at[0] + bar / 2, height - thick / 2, at[1]), leg_color))
        if rng.random() < 0.35:
            share = rng.uniform(0.15, 0.6)
            y = share * (height - thick)
            sx, sz = (at * (splay + (1 - splay) * y / (height - thick / 2)) + bar) * rng.uniform(1.0, 1.04)
            d.parts.append(_box((-sx, y - 0.4 * bar, -sz), (sx, y + 0.4 * bar, sz), extra_color))
            for name, sign in (("front", -1), ("back", 1)):
                d.mark_both(f"shelf {name}", (sx, y + 0.4 * bar, sign * sz))
        elif not curved and rng.random() < 0.35:  # drawers under one end
            side = rng.choice([-1, 1])
            a, b = sorted((side * at[0], side * at[0] * rng.uniform(0.1, 0.6)))
            low = height * rng.uniform(0.1, 0.75)
            d.parts.append(_box((a, low, -at[1]), (b, height - thick / 2, at[1]), extra_color))
            turned = False
    elif style == "trestle":
        at_x, foot_z = x * rng.uniform(0.55, 0.9), z * rng.uniform(0.7, 0.97)
        wide = z * rng.uniform(0.15, 0.7)
        d.both(_box((at_x - bar / 2, bar, -wide), (at_x + bar / 2, height - thick / 2, wide), leg_color))
        d.both(_box((at_x - bar, 0, -foot_z), (at_x + bar, 2 * bar, foot_z), leg_color))
        y = rng.uniform(0.2, 0.7) * height
        d.parts.append(_box((-at_x, y, -bar / 2), (at_x, y + 2 * bar, bar / 2), leg_color))
        for name, sign in (("front", -1), ("back", 1)):
            d.mark_both(f"foot {name}", (at_x, 0, sign * foot_z))
    else:
        stem = _log_uniform(rng, 0.02, 0.08)
        waist = stem * rng.uniform(0.6, 1.6)
        profile = [(stem, 0.02), (waist, 0.5 * height), (stem, height - thick / 2)]
        if style == "pedestal":
            radius = max(reach.min() * _log_uniform(rng, 0.45, 1.0), 1.5 * max(stem, waist))
            plate, cone = _log_uniform(rng, 0.01, 0.05), rng.uniform(0.2, 1.0)
            d.parts.append(_revolved(profile, leg_color))
            d.parts.append(_revolved([(radius, 0), (radius, plate), (cone * radius, 2 * plate)], leg_color))
            for name, a, b in (("right", 1, 0), ("front", 0, -1), ("left", -1, 0), ("back", 0, 1)):
                d.mark(f"base {name}", (a * radius, plate, b * radius))
        else:
            d.parts.append(_revolved([(r, max(y, 0.08 * height)) for r, y in profile], leg_color))
            hub = height * rng.uniform(0.1, 0.35)
            for name, sign in (("front", -1), ("back", 1)):
                tip = np.array([reach[0] * 0.8, bar, sign * reach[1] * 0.8])
                d.both(_tube([(0, hub, 0), tip], bar, leg_color, 6))
                d.mark_both(f"foot {name}", tip)

    circular = plan == "round" and style == "pedestal"
    fourfold = plan in ("square", "round") and style != "trestle"
    for stem_name, cycle in (
        ("top", ("front right", "front left", "back left", "back right")),
        ("foot", ("front right", "front left", "back left", "back right")),
        ("shelf", ("front right", "front left", "back left", "back right")),
        ("rim", ("right", "front", "left", "back")),
        ("base", ("right", "front", "left", "back")),
    ):
        ring = tuple(f"{stem_name} {end}" for end in cycle)
        if not turned or ring[0] not in d.marks:
            continue
        if fourfold:
            d.groups.append((ring, circular))
        else:
            d.groups += [(ring[0::2], False), (ring[1::2], False)]
    return d


# ------------------------------------------------------------------------------------------- airplane

_AIRPLANE_NAMES = {
    0: "nose",
    1: "cockpit top",
    2: "tail end",
    3: "wing tip left",
    4: "wing root front left",
    5: "wing tip right",
    6: "wing root front right",
    7: "tailplane tip left",
    8: "tailplane tip right",
    9: "fin tip",
    10: "tail engine left",
    11: "tail engine right",
    12: "wing root back left",
    13: "wing root back right",
    14: "inner engine left",
    15: "inner engine right",
    16: "outer engine left",
    17: "outer engine right",
    18: "fin root front",
}

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


def _wing(stations: Sequence[tuple[Point, float]], thickness: float, color: Array, upright: bool = False) -> Part:
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


def _spindle(stations: Sequence[tuple[Point, float, float]], color: Array, sides: int = 18) -> Part:
    """Loft ellipses across z: center, half width, half height at each station."""
    angle = 2 * np.pi * np.arange(sides) / sides
    circle = np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)
    return Part(np.stack([np.asarray(c) + circle * (a, b, 0) for c, a, b in stations]), color)


def _airplane(rng: np.random.Generator) -> Design:
    d = Design()
    skin, wing_color, engine_color = _palette(rng, 3)
    # The length of the fuselage is 1, z from 0 (nose) to 1.
    wide = _log_uniform(rng, 0.035, 0.085)
    tall = wide * rng.uniform(0.85, 1.3)
    nose, tail = rng.uniform(0.08, 0.25), rng.uniform(0.25, 0.45)
    blunt, end = rng.uniform(1.5, 2.5), rng.uniform(0.1, 0.3)
    droop, lift = rng.uniform(0.0, 0.5) * tall, rng.uniform(0.2, 0.75) * tall

    def body(z: float) -> tuple[float, float]:
        """Scale of the section and height of its center at z."""
        ahead, behind = max(0.0, (nose - z) / nose), max(0.0, (z - 1 + tail) / tail)
        scale = (1 - ahead**blunt) ** (1 / blunt) * (1 - (1 - end) * behind**1.6)
        return max(scale, 0.06), lift * behind**1.6 - droop * ahead**2

    def roof(z: float) -> float:
        scale, y = body(z)
        return y + scale * tall

    def beside(y: float, z: float) -> float:
        """Half the width of the body at height y."""
        scale, center = body(z)
        return wide * scale * np.sqrt(max(0.0, 1 - ((y - center) / (scale * tall)) ** 2))

    stations = np.concatenate([nose * (1 - np.cos(np.linspace(0, np.pi / 2, 9))), np.linspace(nose, 1, 15)[1:]])
    sections = [((0, y, z), scale * wide, scale * tall) for z in stations for scale, y in (body(z),)]
    d.parts.append(_spindle(sections, skin))
    d.mark("nose", (0, body(0)[1], 0))
    d.mark("tail end", (0, body(1)[1], 1))

    cab = nose * rng.uniform(0.75, 1.4)
    length, bump = rng.uniform(0.04, 0.1), tall * rng.uniform(0.12, 0.5)
    shell = np.array([0.05, 0.55, 1.0, 0.8, 0.45, 0.05])
    canopy = [
        (
            (0, roof(cab + t * length) - 0.3 * tall, cab + t * length),
            0.6 * wide * h**0.5,
            0.3 * tall + bump * h,
        )
        for t, h in zip((-0.6, -0.3, 0, 0.6, 1.2, 1.8), shell, strict=True)
    ]
    d.parts.append(_spindle(canopy, engine_color))
    d.mark("cockpit top", (0, roof(cab) + bump, cab))

    swept = rng.random() < 0.65
    half = _log_uniform(rng, 0.3, 0.62)
    chord = _log_uniform(rng, 0.11, 0.26) * (1.4 if swept else 1.0)
    sweep = rng.uniform(0.3, 0.9) if swept else rng.uniform(-0.05, 0.12)
    tip_chord = chord * rng.uniform(0.2, 0.5 if swept else 0.95)
    dihedral = rng.uniform(-0.04, 0.16)
    at_y = tall * rng.choice(
        [rng.uniform(-0.75, -0.4), rng.uniform(-0.2, 0.3), rng.uniform(0.6, 0.85)], p=[0.55, 0.2, 0.25]
    )
    at_z = rng.uniform(0.3, 0.45) - (0.0 if swept else 0.02)
    kink = rng.uniform(0.3, 0.45) if swept and rng.random() < 0.5 else 0.0

    def chord_at(share: float) -> float:
        # A kinked wing keeps its trailing edge square to the body up to the kink.
        if kink and share < kink:
            return chord - sweep * half * share * 0.9
        inner = chord - sweep * half * kink * 0.9
        return max(inner + (tip_chord - inner) * (share - kink) / (1 - kink), 0.2 * chord)

    def lead_at(share: float) -> Array:
        return np.array([share * half, at_y + dihedral * share * half, at_z + sweep * share * half])

    thickness = rng.uniform(0.08, 0.15)
    shares = (0.0, kink, 1.0) if kink else (0.0, 1.0)
    wing = _wing([(lead_at(s), chord_at(s)) for s in shares], thickness, wing_color)
    d.both(wing)
    winglet = swept and rng.random() < 0.3
    tip, tip_c = lead_at(1.0), chord_at(1.0)
    if winglet:
        top = tip + np.array([0.01, rng.uniform(0.04, 0.09), 0.5 * tip_c])
        d.both(
            _wing(
                [
                    (tip - np.array([0.008, 0, 0]), tip_c),
                    (tip + np.array([0, 0.01, 0.1 * tip_c]), 0.9 * tip_c),
                    (top, 0.5 * tip_c),
                ],
                0.1,
                wing_color,
                True,
            )
        )
        tip, tip_c = top, 0.5 * tip_c
    d.mark_both("wing tip", tip + np.array([0, 0, 0.5 * tip_c]))
    for name, aft in (("front", 0.0), ("back", 1.0)):
        share = wide / half
        for _ in range(8):  # where the edge enters the body
            edge = lead_at(share) + np.array([0, 0, aft * chord_at(share)])
            share = beside(edge[1], edge[2]) / half
        d.mark_both(f"wing root {name}", lead_at(share) + np.array([0, 0, aft * chord_at(share)]))

    fin, fin_chord = _log_uniform(rng, 0.1, 0.22), _log_uniform(rng, 0.1, 0.2)
    fin_z = 0.97 - fin_chord
    fin_sweep, fin_tip = rng.uniform(0.2, 1.1), fin_chord * rng.uniform(0.35, 0.8)
    fin_base = body(fin_z + fin_chord)[1]
    fin_top = np.array([0, roof(fin_z) + fin, fin_z + fin_sweep * fin])

    def fin_lead(y: float) -> Array:
        share = (y - roof(fin_z)) / fin
        return np.array([0, y, fin_z + share * fin_sweep * fin])

    fin_stations = [
        (np.array([0, fin_base, fin_z]), fin_chord),
        (fin_lead(roof(fin_z)), fin_chord),
        (fin_top, fin_tip),
    ]
    d.parts.append(_wing(fin_stations, 0.1, wing_color, True))
    t_tail = rng.random() < 0.3
    d.mark("fin root front", fin_lead(roof(fin_z)))

    plane, plane_chord = half * rng.uniform(0.28, 0.5), chord * rng.uniform(0.4, 0.7)
    plane_tip, plane_sweep = plane_chord * rng.uniform(0.35, 0.9), max(0.0, sweep + rng.uniform(-0.1, 0.2))
    plane_rise = rng.uniform(-0.05, 0.15)
    share = rng.uniform(0.88, 0.97) if t_tail else 0.0
    root = fin_lead(roof(fin_z) + share * fin) if t_tail else np.array([0, body(0.9)[1], 0.97 - plane_chord])
    plane_end = root + np.array([plane, plane_rise * plane, plane_sweep * plane])
    d.both(_wing([(root, plane_chord), (plane_end, plane_tip)], 0.1, wing_color))
    d.mark_both("tailplane tip", plane_end + np.array([0, 0, 0.5 * plane_tip]))
    d.mark("fin tip", fin_top + np.array([0, 0, 0.5 * fin_tip]))

    engines = rng.choice(["none", "wing 2", "wing 4", "tail 2"], p=[0.2, 0.4, 0.2, 0.2])
    radius = _log_uniform(rng, 0.018, 0.034)
    long = radius * rng.uniform(2.8, 5.0)

    def nacelle(name: str, center: Array, pylon: Part) -> None:
        outline = [(0, 0.85), (0.08, 1.0), (0.45, 1.05), (0.75, 0.85), (1.0, 0.5)]
        d.both(
            _spindle(
                [(center + np.array([0, 0, (t - 0.5) * long]), r * radius, r * radius) for t, r in outline],
                engine_color,
                14,
            )
        )
        d.both(pylon)
        d.mark_both(name, center - np.array([0, 0, 0.5 * long]))

    if engines.startswith("wing"):
        spots = [(rng.uniform(0.28, 0.4), "inner engine")]
        if engines == "wing 4":
            spots = [(rng.uniform(0.25, 0.33), "inner engine"), (rng.uniform(0.52, 0.65), "outer engine")]
        hang = rng.uniform(1.15, 1.6) * radius
        for spot, name in spots:
            lead = lead_at(spot)
            center = lead + np.array([0, -hang, rng.uniform(-0.1, 0.15) * long])
            pylon = _box(
                (
                    lead[0] - 0.12 * radius,
                    center[1],
                    max(lead[2] + 0.1 * chord_at(spot), center[2] - 0.3 * long),
                ),
                (lead[0] + 0.12 * radius, lead[1], lead[2] + 0.5 * chord_at(spot)),
                wing_color,
            )
            nacelle(name, center, pylon)
    elif engines == "tail 2":
        z = rng.uniform(0.68, 0.76)
        scale, y = body(z)
        center = np.array([scale * wide + 1.5 * radius, y + rng.uniform(0, 0.5) * scale * tall, z])
        slab = 0.15 * radius
        pylon = _box((0, center[1] - slab, z - 0.2 * long), (center[0], center[1] + slab, z + 0.3 * long), wing_color)
        nacelle("tail engine", center, pylon)
    elif not swept:  # a propeller on the nose
        blade = rng.uniform(1.2, 1.9) * tall
        y = body(0)[1]
        spinner = [
            ((0, y, -0.035), 0.003, 0.003),
            ((0, y, -0.02), 0.012, 0.012),
            ((0, y, 0.01), 0.018, 0.018),
        ]
        d.parts.append(_spindle(spinner, engine_color))
        d.parts.append(_box((-0.008, y - blade, -0.014), (0.008, y + blade, -0.008), engine_color))
        d.mark("nose", (0, y, -0.035))
    return d


# ------------------------------------------------------------------------------------------------ mug

_MUG_NAMES = {
    0: "rim handle side",
    1: "rim front",
    2: "rim opposite",
    3: "rim back",
    4: "bottom handle side",
    5: "bottom front",
    6: "bottom opposite",
    7: "bottom back",
    8: "handle top joint",
    9: "handle bottom joint",
    10: "handle outermost",
    11: "floor center",
    12: "underside center",
}


def _mug(rng: np.random.Generator) -> Design:
    d = Design(mirror_axis=2)
    body, grip = _palette(rng, 2)
    height = _log_uniform(rng, 0.6, 1.9)  # the radius of the mouth is about 0.5
    taper, bulge, flare = (
        rng.uniform(-0.3, 0.35),
        rng.choice([0.0, rng.uniform(-0.12, 0.28)]),
        rng.uniform(0, 0.12),
    )
    round_foot = rng.choice([0.0, rng.uniform(0.05, 0.3)])
    wall, floor = _log_uniform(rng, 0.02, 0.1), _log_uniform(rng, 0.03, 0.15) * height

    def radius(y: float) -> float:
        t = y / height
        foot = round_foot * max(0.0, 1 - t / 0.25) ** 2
        return 0.5 * (1 + taper * (t - 1) * 0.8 + bulge * np.sin(np.pi * t) + flare * t**6 - foot)

    levels = np.linspace(0, height, 13)
    inner = np.linspace(height, floor, 11)
    outer_wall = [(radius(y), y) for y in levels]
    inner_wall = [(radius(y) - wall, y) for y in inner]
    cup = _revolved([*outer_wall, *inner_wall], body, 36)
    cup.solid = len(outer_wall)
    d.parts.append(cup)
    for name, a, b in (("handle side", 1, 0), ("front", 0, -1), ("opposite", -1, 0), ("back", 0, 1)):
        d.mark(f"rim {name}", (a * (radius(height) - wall / 2), height, b * (radius(height) - wall / 2)))
        d.mark(f"bottom {name}", (a * radius(0), 0, b * radius(0)))
    d.mark("floor center", (0, floor, 0))
    d.mark("underside center", (0, 0, 0))

    if rng.random() < 0.22:
        d.groups = [
            (tuple(_MUG_NAMES[i] for i in range(0, 4)), True),
            (tuple(_MUG_NAMES[i] for i in range(4, 8)), True),
        ]
        return d

    high = height * rng.uniform(0.7, 0.9)
    low = height * rng.uniform(0.1, 0.4)
    reach = _log_uniform(rng, 0.2, 0.5)
    square = _log_uniform(rng, 2.0, 6.0)  # 2 is an ellipse, more is squarer
    slant = rng.uniform(-0.3, 0.3)  # an ear: wider above or below
    thick, strap = min(_log_uniform(rng, 0.03, 0.075), 0.08 * height), _log_uniform(rng, 0.8, 2.2)
    hook = rng.random() < 0.15  # open below
    angle = np.linspace(-np.pi / 2, np.pi / 2 * (0.55 if hook else 1.0), 21)
    out = np.abs(np.cos(angle)) ** (2 / square)
    fall = np.sign(np.sin(angle)) * np.abs(np.sin(angle)) ** (2 / square)
    ys = (high + low) / 2 - fall * (high - low) / 2
    xs = (
        np.array([radius(y) for y in ys]) * (1 - out) + (radius(high) * (1 - fall) + radius(low) * (1 + fall)) / 2 * out
    )
    xs += reach * out * (1 - slant * fall)
    xs[0] -= wall / 2
    if not hook:
        xs[-1] -= wall / 2
    path = np.stack([xs, ys, 0 * xs], axis=1)
    # Even steps: the superellipse crowds its points at the corners.
    along = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])
    even = np.linspace(0, along[-1], 25)
    path = np.stack([np.interp(even, along, path[:, k]) for k in range(3)], axis=1)
    d.parts.append(_tube(path, thick * strap, grip, 10, flat=1 / strap, across=(0, 0, 1)))
    d.mark("handle top joint", (radius(high + thick), high + thick, 0))
    if not hook:
        d.mark("handle bottom joint", (radius(low - thick), low - thick, 0))
    far = int(np.argmax(path[:, 0]))
    d.mark("handle outermost", path[far] + np.array([thick, 0, 0]))
    return d


# category: class id of ShapeNet, names by semantic id, what draws one shape
_CATEGORIES: dict[str, tuple[str, dict[int, str], Callable[[np.random.Generator], Design]]] = {
    "airplane": ("02691156", _AIRPLANE_NAMES, _airplane),
    "chair": ("03001627", _CHAIR_NAMES, _chair),
    "mug": ("03797390", _MUG_NAMES, _mug),
    "table": ("04379243", _TABLE_NAMES, _table),
}

CATEGORIES: tuple[str, ...] = tuple(_CATEGORIES)


def make_shape(category: str, rng: np.random.Generator) -> Shape:
    """Draw one shape of a category.

    Args:
        category: one of :data:`CATEGORIES`.
        rng: source of all its randomness; the same state gives the same shape.

    Returns:
        The shape in the frame that this module's docstring states.

    Raises:
        ValueError: If the category is unknown.

    Example:
        >>> shape = make_shape("mug", np.random.default_rng(0))
        >>> shape.names[0], shape.mesh.is_watertight
        ('rim handle side', True)
    """
    (category,) = _check_categories(category)
    _, names, draw = _CATEGORIES[category]
    design = draw(rng)

    vertices, faces, face_parts, solids = [], [], [], []
    offset = 0
    everything = np.concatenate([part.rings.reshape(-1, 3) for part in design.parts])
    low, high = everything.min(axis=0), everything.max(axis=0)
    scale = 1 / np.linalg.norm(high - low)
    for index, part in enumerate(design.parts):
        rings = part.rings * scale
        triangles = _lattice(*rings.shape[:2])
        points = rings.reshape(-1, 3)
        a, b, c = (points - points.mean(axis=0))[triangles.T]
        if np.einsum("ij,ij->", a, np.cross(b, c)) < 0:  # inside out: a mirrored part, or rings wound clockwise
            triangles = triangles[:, ::-1]
        vertices.append(points)
        faces.append(triangles + offset)
        face_parts.append(np.full(len(triangles), index))
        solids.append(_cells(rings[: part.solid]))
        offset += len(points)
    points, triangles = np.concatenate(vertices), np.concatenate(faces)

    corners = points[triangles]
    areas = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    center = areas @ corners.mean(axis=1) / areas.sum()
    center[design.mirror_axis] = 0.0
    for planes in solids:
        planes[..., 3] += planes[..., :3] @ center

    ids = {name: semantic_id for semantic_id, name in names.items()}
    keypoints = {ids[name]: mark * scale - center for name, mark in design.marks.items()}
    keypoints = dict(sorted(keypoints.items()))
    return Shape(
        category=category,
        vertices=points - center,
        faces=triangles,
        face_parts=np.concatenate(face_parts),
        part_colors=np.array([part.color for part in design.parts]).astype(np.uint8),
        solids=solids,
        keypoints=keypoints,
        names={semantic_id: names[semantic_id] for semantic_id in keypoints},
        pairs=_mirrored(keypoints, design.mirror_axis),
        groups=[(tuple(ids[name] for name in group), circle) for group, circle in design.groups],
        mirror_axis=design.mirror_axis,
    )


def _lattice(count: int, sides: int) -> NDArray[np.int64]:
    """Triangles of `count` joined rings of `sides` vertices, with a fan on the first and on the last."""
    i, j = np.meshgrid(np.arange(count - 1) * sides, np.arange(sides), indexing="ij")
    a, b = (i + j).ravel(), (i + (j + 1) % sides).ravel()
    quads = [np.stack([a, b, b + sides], axis=1), np.stack([a, b + sides, a + sides], axis=1)]
    k = np.arange(1, sides - 1)
    fan = np.stack([0 * k, k + 1, k], axis=1)
    return np.concatenate([*quads, fan, fan[:, ::-1] + (count - 1) * sides])


def _cells(rings: Array) -> Array:
    """Planes ``[R - 1, n + 2, 4]`` that bound the convex cell between each ring and the next."""
    a, b = rings[:-1], rings[1:]
    a_next, b_next = np.roll(a, -1, axis=1), np.roll(b, -1, axis=1)
    middle = (a.mean(axis=1) + b.mean(axis=1)) / 2
    walls = np.cross(b_next - a, b - a_next)
    through = (a + a_next + b + b_next) / 4
    spokes = rings - rings.mean(axis=1, keepdims=True)
    ends = np.cross(spokes, np.roll(spokes, -1, axis=1)).sum(axis=1)
    normals = np.concatenate([walls, ends[:-1, None], ends[1:, None]], axis=1)
    anchors = np.concatenate([through, a.mean(axis=1)[:, None], b.mean(axis=1)[:, None]], axis=1)
    length = np.linalg.norm(normals, axis=2, keepdims=True)
    normals = np.divide(normals, length, out=np.zeros_like(normals), where=length > 1e-12)
    offsets = -(normals * anchors).sum(axis=2)
    flip = np.where((normals * middle[:, None]).sum(axis=2) + offsets > 0, -1.0, 1.0)
    # A side of no area bounds nothing.
    offsets = np.where(length[..., 0] > 1e-12, offsets * flip, -1.0)
    return np.concatenate([normals * flip[..., None], offsets[..., None]], axis=2)


def _mirrored(keypoints: dict[int, Array], axis: int) -> list[tuple[int, int]]:
    flip = np.ones(3)
    flip[axis] = -1
    return [
        (i, j)
        for i, p in keypoints.items()
        for j, q in keypoints.items()
        if i < j and np.abs(p * flip - q).max() < 1e-9
    ]


def _inside(points: Array, planes: Array) -> NDArray[np.bool_]:
    """Whether points lie inside any of the cells, more than a hair from their walls."""
    levels = np.einsum("cnk,mk->mcn", planes[..., :3], points) + planes[..., 3]
    return (levels.max(axis=2) < -1e-4).any(axis=1)


@dataclass(frozen=True)
class Cloud:
    """Points sampled on a shape.

    Args:
        points: ``[N, 3]`` float32.
        colors: ``[N, 3]`` uint8.
        faces: ``[N]`` face of the shape on which each point lies.
        weights: ``[N, 3]`` barycentric coordinates of each point in its face.
        indexes: semantic id to the row of `points` that stands for it.
    """

    points: NDArray[np.float32]
    colors: NDArray[np.uint8]
    faces: NDArray[np.int64]
    weights: Array
    indexes: dict[int, int]


def sample_shape(shape: Shape, num_points: int, rng: np.random.Generator) -> Cloud:
    """Sample a shape's outside uniformly by area and pick the points that stand for its keypoints.

    A point that lies inside another part is dropped. A keypoint is the sampled point nearest to its place on
    the surface (no two keypoints share one), as when somebody clicks the cloud: a sample hardly ever has the
    corner itself, so keypoints lie about one spacing of the points away from it.

    Args:
        shape: what to sample.
        num_points: number of points, at least 256.
        rng: source of the randomness.

    Returns:
        The cloud.

    Raises:
        ValueError: If `num_points` is too small.
    """
    _check_num_points(num_points)
    corners = shape.vertices[shape.faces]
    areas = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    steps = np.cumsum(areas)
    boxes = [shape.vertices[np.unique(shape.faces[shape.face_parts == p])] for p in range(len(shape.solids))]
    lows, highs = np.array([b.min(axis=0) for b in boxes]), np.array([b.max(axis=0) for b in boxes])

    kept: list[tuple[Array, NDArray[np.int64], Array]] = []
    missing = num_points
    while missing > 0:
        count = missing + missing // 2 + 32
        faces = np.minimum(np.searchsorted(steps, rng.random(count) * steps[-1], side="right"), len(steps) - 1)
        # Uniform in a triangle: fold the unit square along its diagonal.
        u, v = rng.random((2, count))
        over = u + v > 1
        u, v = np.where(over, 1 - u, u), np.where(over, 1 - v, v)
        weights = np.stack([1 - u - v, u, v], axis=1)
        points = np.einsum("nk,nkd->nd", weights, corners[faces])
        parts = shape.face_parts[faces]
        hidden = np.zeros(count, dtype=bool)
        for part, planes in enumerate(shape.solids):
            near = (parts != part) & ~hidden & (points > lows[part]).all(axis=1) & (points < highs[part]).all(axis=1)
            (rows,) = np.nonzero(near)
            hidden[rows] = _inside(points[rows], planes)
        kept.append((points[~hidden][:missing], faces[~hidden][:missing], weights[~hidden][:missing]))
        missing -= len(kept[-1][0])
    points, faces, weights = (np.concatenate(columns) for columns in zip(*kept, strict=True))

    # The float32 that the file holds is what the keypoints are made of.
    stored = points.astype(np.float32)
    indexes: dict[int, int] = {}
    for semantic_id, place in shape.keypoints.items():
        distance = np.linalg.norm(stored - place, axis=1)
        distance[list(indexes.values())] = np.inf
        indexes[semantic_id] = int(distance.argmin())
    colors = shape.part_colors[shape.face_parts[faces]]
    return Cloud(stored, colors, faces, weights, indexes)


def generate(
    root: str | os.PathLike[str],
    category: str | Sequence[str],
    num_shapes: int = 200,
    *,
    num_points: int = 2048,
    seed: int = 0,
    split: Sequence[float] = (0.7, 0.1, 0.2),
    meshes: bool = False,
    overwrite: bool = False,
) -> Path:
    """Write labelled clouds of procedural shapes in KeypointNet's release layout.

    Writes ``annotations/<category>.json``, ``pcds/<class_id>/<model_id>.pcd``,
    ``splits/{train,val,test}.txt`` (lines of other categories stay) and with `meshes`
    ``meshes/<class_id>/<model_id>.ply``. Shape i depends on `seed`, the category and i alone, so more
    shapes leave the first ones as they were; the same arguments give the same bytes. Every keypoint of an
    annotation also has a ``"name"``.

    Args:
        root: the folder to write into, made if need be. May hold other categories, also KeypointNet's own.
        category: one or several of :data:`CATEGORIES`.
        num_shapes: shapes per category, at least 3.
        num_points: points per cloud, at least 256.
        seed: not negative.
        split: shares of train, val and test; each gets at least one shape.
        meshes: also write every shape's mesh, to which ``mesh_info`` refers.
        overwrite: replace procedural data of these categories. KeypointNet's own is never replaced.

    Returns:
        The root.

    Raises:
        ValueError: If an argument is out of its range or a category is unknown.
        FileExistsError: If the root has the category already (and `overwrite` is False), or if it has clouds,
            annotations or split lines of it that this function did not write. Nothing is written then.

    Example:
        >>> generate("data/procedural", ["chair", "mug"], num_shapes=50)  # doctest: +SKIP
    """
    categories = _check_categories(category)
    if num_shapes < 3:
        raise ValueError(f"`num_shapes` (={num_shapes}) must be at least 3: one for each split")
    _check_num_points(num_points)
    if seed < 0:
        raise ValueError(f"`seed` (={seed}) must not be negative")
    shares = tuple(float(share) for share in split)
    if len(shares) != 3 or not all(share > 0 for share in shares) or abs(sum(shares) - 1) > 1e-6:
        raise ValueError(f"`split` (={tuple(split)}) must be three positive shares that sum to 1")
    root = Path(root)
    if root.exists() and not root.is_dir():
        raise FileExistsError(f"`root` (={root}) must be a folder")
    for name in categories:
        _check_root(root, name, overwrite)

    root.mkdir(parents=True, exist_ok=True)
    for name in categories:
        with tempfile.TemporaryDirectory(prefix=".procedural-", dir=root) as scratch:
            _write_category(root, Path(scratch), name, num_shapes, num_points, seed, shares, meshes)
    return root


def embedded_root(category: str, num_shapes: int = 200, *, seed: int = 0) -> Path:
    """The folder of the default data: procedural shapes of one category, generated once and kept.

    Lies under ``$XDG_CACHE_HOME/pcsa`` (``~/.cache/pcsa``), beside those of other arguments and of other versions of
    the generator. Arguments as :func:`generate`.
    """
    _check_categories(category)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "pcsa", "procedural")
    version = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]
    root = cache / f"{version}-{category}-{num_shapes}-{seed}"
    if not root.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".embedded-", dir=cache) as scratch:
            made = generate(Path(scratch, "root"), category, num_shapes, seed=seed)
            # Of two processes that got here at once, one comes second and finds the same data in place.
            with contextlib.suppress(OSError):
                made.rename(root)
    return root


def _check_categories(category: str | Sequence[str]) -> list[str]:
    names = [category] if isinstance(category, str) else list(category)
    unknown = [name for name in names if name not in _CATEGORIES]
    if unknown or not names:
        raise ValueError(f"`category` (={category!r}) must be one or more of {', '.join(CATEGORIES)}")
    return list(dict.fromkeys(names))


def _check_num_points(num_points: int) -> None:
    if num_points < _MIN_POINTS:
        raise ValueError(f"`num_points` (={num_points}) must be at least {_MIN_POINTS}")


def _check_root(root: Path, category: str, overwrite: bool) -> None:
    class_id = _CATEGORIES[category][0]
    annotation = root / "annotations" / f"{category}.json"
    found: dict[Path, list[str]] = {}
    if annotation.exists():
        try:
            found[annotation] = [record["model_id"] for record in json.loads(annotation.read_text())]
        except (ValueError, KeyError, TypeError) as error:
            raise FileExistsError(f"`{annotation}` exists and is not an annotation file: {error!r}") from error
    for folder in (root / "pcds" / class_id, root / "meshes" / class_id):
        if folder.exists():
            found[folder] = [path.stem for path in folder.iterdir()]
    for name in _SPLITS:
        path = root / "splits" / f"{name}.txt"
        if path.exists():
            lines = path.read_text().split()
            found[path] = [line.partition("-")[2] for line in lines if line.startswith(f"{class_id}-")]
    for path, model_ids in found.items():
        foreign = [model_id for model_id in model_ids if not model_id.startswith(_ID_PREFIX)]
        if foreign:
            raise FileExistsError(
                f"`{path}` has {len(foreign)} entries of category `{category}` that are not procedural "
                f"(first: `{foreign[0]}`): choose another `root`"
            )
    if annotation.exists() and not overwrite:
        raise FileExistsError(f"`{annotation}` exists: pass `overwrite=True` to replace it")


def _write_category(
    root: Path,
    scratch: Path,
    category: str,
    num_shapes: int,
    num_points: int,
    seed: int,
    shares: tuple[float, ...],
    meshes: bool,
) -> None:
    class_id = _CATEGORIES[category][0]
    folders = {"pcd": root / "pcds" / class_id, "ply": root / "meshes" / class_id}
    records = []
    for index in range(num_shapes):
        digest = hashlib.blake2b(f"{category}/{seed}/{index}".encode(), digest_size=12).hexdigest()
        model_id = _ID_PREFIX + digest
        rng = np.random.default_rng([seed, zlib.crc32(category.encode()), index])
        shape = make_shape(category, rng)
        cloud = sample_shape(shape, num_points, rng)
        write_pcd(scratch / f"{model_id}.pcd", cloud.points, cloud.colors)
        if meshes:
            shape.mesh.export(scratch / f"{model_id}.ply")
        records.append(_record(class_id, model_id, shape, cloud))

    model_ids = [record["model_id"] for record in records]
    val = min(max(1, round(num_shapes * shares[1])), num_shapes - 2)
    test = min(max(1, round(num_shapes * shares[2])), num_shapes - 1 - val)
    train = num_shapes - val - test
    bounds = dict(zip(_SPLITS, ((0, train), (train, train + val), (train + val, num_shapes)), strict=True))

    # Without its annotation a category counts as absent: it goes first and comes last, so that whoever is
    # interrupted in between leaves no annotation that its clouds do not fit.
    annotation = root / "annotations" / f"{category}.json"
    annotation.unlink(missing_ok=True)
    for suffix, folder in folders.items():
        fresh = {path.name: path for path in scratch.glob(f"*.{suffix}")}
        for stale in folder.iterdir() if folder.exists() else ():
            if stale.name not in fresh:
                stale.unlink()
        if fresh:
            folder.mkdir(parents=True, exist_ok=True)
        for name, path in fresh.items():
            os.replace(path, folder / name)
    for split_name, (start, stop) in bounds.items():
        path = root / "splits" / f"{split_name}.txt"
        lines = path.read_text().split() if path.exists() else []
        lines = [line for line in lines if not line.startswith(f"{class_id}-")]
        lines += [f"{class_id}-{model_id}" for model_id in model_ids[start:stop]]
        _replace(path, scratch, "\n".join(lines) + "\n")
    _replace(annotation, scratch, json.dumps(records))


def _replace(path: Path, scratch: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    (scratch / path.name).write_text(text, newline="\n")
    os.replace(scratch / path.name, path)


def _record(class_id: str, model_id: str, shape: Shape, cloud: Cloud) -> dict[str, Any]:
    """One entry of the annotation file; symmetries index this record's own list of keypoints."""
    place = {semantic_id: row for row, semantic_id in enumerate(shape.keypoints)}
    keypoints = [
        {
            "xyz": cloud.points[row].tolist(),
            "rgb": cloud.colors[row].tolist(),
            "semantic_id": semantic_id,
            "pcd_info": {"point_index": row},
            "mesh_info": {"face_index": int(cloud.faces[row]), "face_uv": cloud.weights[row].tolist()},
            "name": shape.names[semantic_id],
        }
        for semantic_id, row in cloud.indexes.items()
    ]
    rotation = []
    for group, is_circle in shape.groups:
        circle: dict[str, Any] = {}
        if is_circle:
            ring = np.array([shape.keypoints[semantic_id] for semantic_id in group])
            center = ring.mean(axis=0)
            radius = float(np.linalg.norm(ring[0] - center))
            circle = {"center": center.tolist(), "radius": radius, "normal": [0.0, 1.0, 0.0]}
        rotation.append({"kp_indexes": [place[i] for i in group], "is_circle": is_circle, "circle": circle})
    reflection = [{"kp_indexes": [place[i], place[j]]} for i, j in shape.pairs]
    return {
        "class_id": class_id,
        "model_id": model_id,
        "keypoints": keypoints,
        "symmetries": {"reflection": reflection, "rotation": rotation},
    }
