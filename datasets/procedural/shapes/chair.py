"""Chairs: facing -z, so -x is the sitter's left. Ids 0-5 and 17-20 mean what they mean in KeypointNet."""

import itertools

import numpy as np

from pcsa.datasets.procedural.shapes.design import (
    Design,
    Part,
    Point,
    log_uniform,
    numbered,
    palette,
)
from pcsa.datasets.procedural.shapes.solids import prism, rounded, rounded_corner, tube
from pcsa.datasets.procedural.types import Array

NAMES = numbered(
    """
    back top right/left, seat back/front right/left, arm front/back right/left, star hub, -, star tip front,
    star tip side/back right/left, foot front/back right, foot back/front left
    """
)


def draw(rng: np.random.Generator) -> Design:
    """Draw a chair."""
    d = Design()
    wood, cloth, metal = palette(rng, 3)
    front = log_uniform(rng, 0.18, 0.33)  # half the width of the seat
    back = front * rng.uniform(0.78, 1.05)
    depth = front * log_uniform(rng, 0.75, 1.35)  # half the depth
    height = log_uniform(rng, 0.28, 0.62)
    thick = log_uniform(rng, 0.015, 0.09)
    corner = rng.choice([0.0, rng.uniform(0.05, 0.35)]) * min(back, depth)
    low = height - thick

    outline = rounded(front, back, depth, corner)
    d.parts.append(prism(outline, (low, height), (1, 1), wood))
    cushion = rng.random() < 0.4
    if cushion:
        puff = log_uniform(rng, 0.02, 0.07)
        heights = (height - thick / 2, height + 0.6 * puff, height + puff)
        d.parts.append(prism(outline, heights, (0.93, 0.93, 0.84), cloth))
    d.mark_both("seat front", np.insert(rounded_corner(front, -depth, corner), 1, height))
    d.mark_both("seat back", np.insert(rounded_corner(back, depth, corner), 1, height))

    _back(d, rng, back * rng.uniform(0.82, 1.0), depth - 0.3 * corner, height, thick, front, wood, cloth)

    style = rng.choice(["legs", "star", "sled", "cantilever"], p=[0.48, 0.24, 0.16, 0.12])
    bar = log_uniform(rng, 0.011, 0.032)
    spread = rng.uniform(0.8, 0.96)
    splay = max(1.0, rng.uniform(0.9, 1.25))
    xf, xb, zf = front * spread - bar, back * spread - bar, depth * spread - bar
    if style == "legs":
        sides = int(rng.choice([4, 8]))
        slim = rng.uniform(0.5, 1.0)
        feet = {}
        for name, x, z in (("front", xf, -zf), ("back", xb, zf)):
            foot = np.array([x * splay, 0.0, z * splay])
            d.both(tube([foot, (x, height - thick / 2, z)], [bar * slim, bar], wood, sides))
            d.mark_both(f"foot {name}", foot)
            feet[name] = foot
        if rng.random() < 0.45:  # a stretcher on either side, and one between the two
            share = rng.uniform(0.25, 0.6)
            ends = [
                feet[n] + share * (np.array([x, low, z]) - feet[n])
                for n, x, z in (("front", xf, -zf), ("back", xb, zf))
            ]
            d.both(tube(ends, 0.5 * bar, wood, sides))
            middle = np.mean(ends, axis=0)
            d.parts.append(tube([middle, middle * (-1, 1, 1)], 0.5 * bar, wood, sides, across=(0, 1, 0)))
    elif style == "star":
        reach = max(front, depth) * rng.uniform(0.8, 1.2)
        caster = log_uniform(rng, 0.015, 0.035)
        hub = 2 * caster + rng.uniform(0.02, 0.12) * height
        radius = log_uniform(rng, 0.016, 0.035)
        d.parts.append(tube([(0, hub, 0), (0, height - thick / 2, 0)], radius, metal, 12))
        d.parts.append(tube([(0, hub - 0.02, 0), (0, hub + 0.04, 0)], 1.6 * radius, metal, 12))
        d.mark("star hub", (0, hub - 0.02, 0))
        for angle, name in ((0, "front"), (72, "side"), (144, "back")):
            way = np.array([np.sin(np.deg2rad(angle)), 0, -np.cos(np.deg2rad(angle))])
            tip = reach * way + (0, 2 * caster, 0)
            wheel = tube([tip - caster * way - (0, 2 * caster, 0), tip - caster * way], 0.8 * caster, metal)
            arm = tube([(0, hub, 0), tip], [0.8 * radius, 0.6 * caster], metal, 6, across=(0, 1, 0))
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
            d.parts.append(tube([base_b, base_b * (-1, 1, 1)], bar, metal, across=(0, 1, 0)))
        for start, end in itertools.pairwise(path):
            d.both(tube([start, end], bar, metal))
        for name, base in (("front", base_f), ("back", base_b)):
            d.mark_both(f"foot {name}", (base[0], 0, base[2] + np.sign(base[2]) * bar * 0.5))

    lean = rng.uniform(-0.06, 0.1)
    for part in d.parts:
        part.rings[..., 2] += lean * part.rings[..., 1]
    for point in d.marks.values():
        point[2] += lean * point[1]
    return d


def _back(
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
    rise = log_uniform(rng, 0.24, 0.75)
    deep = log_uniform(rng, 0.015, 0.06)
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
        level = min(log_uniform(rng, 0.12, 0.3), 0.8 * rise)
        wide, pad = log_uniform(rng, 0.014, 0.05), log_uniform(rng, 0.3, 1.0)
        hang = at(1, level / rise, 0.5)
        x = max(hang[0] + wide, seat_half * rng.uniform(0.95, 1.1))
        ahead = np.array([x, hang[1], -edge * rng.uniform(0.2, 0.95)])
        behind = np.array([hang[0] + 0.8 * wide, hang[1], hang[2]])
        d.both(tube([behind, ahead], wide, wood, 4, flat=pad))
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
            d.both(tube([foot, start], 0.6 * wide, wood, 4))
