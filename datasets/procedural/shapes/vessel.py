"""Vessels: sailing towards -z, so -x is port, here called left. The ids are this twin's own."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from pcsa.datasets.procedural.shapes.design import Design, Part, log_uniform, numbered, palette
from pcsa.datasets.procedural.shapes.solids import box, loft, tube, turned
from pcsa.datasets.procedural.types import Array

NAMES = numbered(
    """
    bow, stern corner right/left, keel front/back, beam right/left, main/fore mast top, boom end,
    house front/back right/left, funnel top, rudder bottom, bowsprit tip, gun muzzle, oar tip right/left
    """
)

_SHARES = {
    "yacht": 0.19,
    "rowing": 0.2,
    "warship": 0.2,
    "tall ship": 0.14,
    "cargo": 0.12,
    "liner": 0.08,
    "motor": 0.07,
}


def draw(rng: np.random.Generator) -> Design:
    """Draw a vessel."""
    d = Design()
    style = str(rng.choice(list(_SHARES), p=list(_SHARES.values())))
    paint, upper, wood, sail = palette(rng, 4)
    # The length is about 1, z from -0.5 at the bow; y is 0 at the keel.
    beam = {  # half the greatest width
        "yacht": log_uniform(rng, 0.1, 0.17),
        "rowing": log_uniform(rng, 0.11, 0.2),
        "warship": log_uniform(rng, 0.045, 0.075),
        "tall ship": log_uniform(rng, 0.085, 0.14),
        "cargo": log_uniform(rng, 0.06, 0.1),
        "liner": log_uniform(rng, 0.055, 0.095),
        "motor": log_uniform(rng, 0.11, 0.17),
    }[style]
    high = {
        "yacht": rng.uniform(0.6, 0.95),
        "rowing": rng.uniform(0.55, 0.85),
        "warship": rng.uniform(1.0, 1.4),
        "tall ship": rng.uniform(1.1, 1.6),
        "cargo": rng.uniform(0.9, 1.4),
        "liner": rng.uniform(1.0, 1.5),
        "motor": rng.uniform(0.7, 1.0),
    }[style] * beam
    big = style in ("warship", "cargo", "liner")
    entry = rng.uniform(0.2, 0.32) if big else rng.uniform(0.4, 0.6)  # share of the length in which the bow widens
    bluff = rng.uniform(1.5, 1.9)
    transom = {"yacht": rng.uniform(0.45, 0.75), "rowing": rng.choice([0.04, rng.uniform(0.4, 0.65)])}.get(
        style, rng.uniform(0.6, 0.9)
    )
    bilge = rng.uniform(2.5, 4.0) if big else rng.uniform(1.4, 2.2)  # how soon the sides stand upright
    stem = rng.uniform(0.009, 0.014)  # half the width of bow and keel
    rake, overhang = rng.uniform(0.03, 0.12), rng.uniform(0.0, 0.08)
    sheer = 0.0 if style == "motor" else rng.uniform(0.1, 0.35) * high * (2.0 if style == "tall ship" else 1.0)

    def half(share: float) -> float:
        """Half the width of the deck, a share of the length behind the bow."""
        ahead, behind = max(0.0, 1 - share / entry), max(0.0, (share - 0.6) / 0.4)
        return beam * max(0.0, 1 - ahead**bluff) * (1 - (1 - transom) * behind**1.8)

    def rim(share: float) -> float:
        """Height of the edge of the deck."""
        return high + sheer * (2 * share - 1) ** 2 * (1.0 if share < 0.5 else 0.6)

    shares = np.concatenate([np.linspace(0, entry, 9), np.linspace(entry, 1, 9)[1:]])

    def breadth(share: float, level: float) -> float:
        """Half the width of the hull, `level` of the way from keel to deck."""
        return max(half(share) * (1 - (1 - level) ** bilge), stem)

    def ring(level: float, inset: float = 0.0) -> Array:
        """The hull's outline, level but for the edge of the deck."""
        start, stop = -0.5 + rake * (1 - level), 0.5 - overhang * (1 - level)
        right = np.array(
            [
                (
                    max(breadth(s, level) - inset, 0.3 * stem),
                    level * (rim(s) if level == 1 else high),
                    start + (stop - start) * s + inset * (1 - 2 * s),
                )
                for s in shares
            ]
        )
        return np.concatenate([right, right[::-1] * (-1, 1, 1)])

    outer = [ring(level) for level in (0.0, 0.06, 0.2, 0.4, 0.65, 0.97, 1.0)]
    floor_share = rng.uniform(0.25, 0.4)
    if style == "rowing":
        wall = rng.uniform(0.008, 0.014)
        inside = [ring(level, wall) for level in (1.0, 0.96, 0.65, floor_share)]
    else:
        inside = [outer[-1] * (0.0, 1, 1)]  # the deck runs from its edge to the middle line
    # The edge of the deck is not flat: what lies inside the hull is told by the flat outlines below it. Nothing that
    # lies in an open boat is hidden.
    solid = 2 if style == "rowing" else len(outer) - 1
    d.parts.append(Part(np.stack([*outer, *inside]), paint, solid))

    def deck(z: float) -> float:
        return rim(z + 0.5)

    def width(z: float, level: float = 1.0) -> float:
        return breadth(z + 0.5, level)

    d.mark("bow", outer[-1][0] * (0, 1, 1))
    d.mark_both("stern corner", outer[-1][len(shares) - 1])
    d.mark("keel front", outer[0][0] * (0, 1, 1))
    d.mark("keel back", (0, 0, 0.5 - overhang))
    middle = 0.5 * (entry + 0.6)  # of the part that is widest
    d.mark_both("beam", _along(outer[-1], shares, middle))

    if style in ("yacht", "tall ship", "cargo") and rng.random() < 0.75:
        back = 0.5 - overhang * 0.6
        bottom = -0.45 * high if style == "yacht" else -0.05 * high
        blade = 0.05 if style == "yacht" else 0.03
        outline = np.array(
            [(-0.008, back - 0.5 * blade), (0.008, back - 0.5 * blade), (0.008, back + blade), (-0.008, back + blade)]
        )
        d.parts.append(loft([(outline, bottom), (outline, 0.45 * high)], wood, axis=1))
        d.mark("rudder bottom", (0, bottom, back + blade))

    builders = {
        "yacht": _yacht,
        "rowing": _rowing,
        "warship": _warship,
        "tall ship": _tall_ship,
        "cargo": _cargo,
        "liner": _liner,
        "motor": _motor_boat,
    }
    builders[style](_Hull(d, rng, deck, width, beam, high, paint, upper, wood, sail))
    return d


class _Hull(NamedTuple):
    """What the rest of a vessel is built on.

    Args:
        design: What it is added to.
        rng: Source of the randomness.
        deck: Height of the deck's edge at z.
        width: Half the width of the hull at z, at the deck or on a level that is 0 at the keel and 1 at the deck.
        beam: Half the greatest width.
        high: Height of the deck amidships.
        paint: Color of the hull.
        upper: Color of what stands on it.
        wood: Color of spars, boards and, on ships of steel, of dark parts.
        sail: Color of sails.
    """

    design: Design
    rng: np.random.Generator
    deck: Callable[[float], float]
    width: Callable[..., float]
    beam: float
    high: float
    paint: Array
    upper: Array
    wood: Array
    sail: Array


_GLASS = np.array([45.0, 60, 80])


def _along(outline: Array, shares: Array, share: float) -> Array:
    """Find a place on the right edge of a hull's outline."""
    right = outline[: len(shares)]
    return np.array([np.interp(share, shares, right[:, k]) for k in range(3)])


def _house(d: Design, low: Array, high: Array, color: Array, rake: float = 0.0, marked: bool = True) -> None:
    """Add a deck house with a band of windows, from a low left front corner to a high right back one."""
    (x0, y0, z0), (x1, y1, z1) = low, high
    base = np.array([(x0, z0), (x1, z0), (x1, z1), (x0, z1)])
    top = base + np.array([(0, rake), (0, rake), (0, 0), (0, 0)]) * (y1 - y0)
    d.parts.append(loft([(base, y0), (top, y1)], color, axis=1))
    bands = [(base + (top - base) * t, y0 + (y1 - y0) * t) for t in (0.6, 0.85)]
    grow = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * 0.0025
    d.parts.append(loft([(outline + grow, y) for outline, y in bands], _GLASS, axis=1))
    if marked:
        d.mark_both("house front", (x1, y1, top[0, 1]))
        d.mark_both("house back", (x1, y1, z1))


def _mast(d: Design, z: float, low: float, top: float, radius: float, color: Array, name: str | None) -> None:
    d.parts.append(turned([(radius, low), (0.8 * radius, top)], (0, 0, z), color, 1, 10))
    if name:
        d.mark(f"{name} mast top", (0, top, z))


def _triangle(corners: list[tuple[float, float]], color: Array) -> Part:
    """Hoist a sail in the middle plane; corners are (y, z)."""
    return loft([(np.array(corners), -0.004), (np.array(corners), 0.004)], color, axis=0)


def _yacht(hull: _Hull) -> None:
    d, rng, deck, width = hull.design, hull.rng, hull.deck, hull.width
    high, wood, upper, sail = hull.high, hull.wood, hull.upper, hull.sail
    tall = log_uniform(rng, 0.75, 1.3)
    two = rng.random() < 0.35  # a schooner's second mast stands before the main one
    at = rng.uniform(0.02, 0.1) if two else rng.uniform(-0.14, -0.04)
    thick = rng.uniform(0.011, 0.016)
    _mast(d, at, 0.5 * high, deck(at) + tall, thick, wood, "main")
    gap = rng.uniform(0.05, 0.1)
    boom_y, boom = deck(at) + gap + 0.04, rng.uniform(0.36, 0.5) - at
    d.parts.append(tube([(0, boom_y, at), (0, boom_y, at + boom)], thick * 0.85, wood))
    d.mark("boom end", (0, boom_y, at + boom))
    hoisted = rng.random() < 0.65
    foot = boom_y + 0.01
    sails = [[(foot, at), (foot, at + 0.95 * boom), (deck(at) + 0.95 * tall, at)]]
    ahead, short = at, tall
    if two:
        ahead = rng.uniform(-0.26, -0.18)
        short = tall * rng.uniform(0.72, 0.92)
        _mast(d, ahead, 0.5 * high, deck(ahead) + short, thick, wood, "fore")
        sails.append([(foot, ahead), (foot, at - 0.04), (deck(ahead) + 0.9 * short, ahead)])
    peak = deck(ahead) + short * rng.uniform(0.7, 0.9)
    sails.append([(deck(-0.47) + 0.03, -0.47), (deck(ahead) + 0.05, ahead - 0.03), (peak, ahead - 0.015)])
    if hoisted:
        d.parts += [_triangle(corners, sail) for corners in sails]
    if rng.random() < 0.5:
        reach = rng.uniform(0.08, 0.18)
        tip = np.array([0, deck(-0.5) + 0.25 * reach, -0.5 - reach])
        d.parts.append(tube([(0, deck(-0.4) - 0.01, -0.4), tip], 0.012, wood))
        d.mark("bowsprit tip", tip)
    if rng.random() < 0.6:
        start, end = at + 0.04, at + rng.uniform(0.2, 0.3)
        x = 0.55 * min(width(start), width(end))
        y = deck(0.0)
        _house(d, np.array([-x, y - 0.05, start]), np.array([x, y + 0.8 * gap, end]), upper, 0.8)
    if rng.random() < 0.6:  # a fin under the hull
        deep, chord = rng.uniform(0.6, 1.2) * high, rng.uniform(0.12, 0.25)
        z = rng.uniform(-0.05, 0.05)
        outline = np.array([(0, -0.5 * chord), (0.012, -0.1 * chord), (0, 0.5 * chord), (-0.012, -0.1 * chord)])
        low = outline * (1.5, 0.7) + np.array([0, 0.1 * chord])
        shift = np.array([0, z])
        d.parts.append(loft([(low + shift, -deep), (outline + shift, 0.2 * high)], upper, axis=1))


def _rowing(hull: _Hull) -> None:
    d, rng, deck, width = hull.design, hull.rng, hull.deck, hull.width
    high, wood = hull.high, hull.wood
    level = rng.uniform(0.65, 0.8)
    # Boards end within the hull's wall.
    for z in np.linspace(-0.15, 0.3, int(rng.integers(2, 5))):
        x = min(width(z - 0.035, level - 0.25), width(z + 0.035, level - 0.25)) - 0.004
        d.parts.append(box((-x, level * high - 0.015, z - 0.035), (x, level * high, z + 0.035), wood))
    z, reach = rng.uniform(-0.05, 0.1), rng.uniform(0.2, 0.45)
    thick = rng.uniform(0.011, 0.015)
    slope = rng.uniform(0.1, 0.35)
    sweep = rng.uniform(-0.15, 0.15)
    edge = np.array([width(z), deck(z) + thick, z])
    way = np.array([1, -slope, sweep]) / np.linalg.norm((1, slope, sweep))
    inner, neck, tip = edge - 0.45 * width(z) * way, edge + 0.6 * reach * way, edge + reach * way
    d.both(tube([inner, neck], thick, wood, across=(0, 1, 0)))
    d.both(tube([neck - 0.02 * way, neck + 0.05 * way, tip], [thick, 0.03, 0.034], wood, 4, flat=0.3, across=(0, 0, 1)))
    d.mark_both("oar tip", tip)
    if rng.random() < 0.5:  # a board across the bow
        a, b = (width(z, level - 0.25) - 0.004 for z in (-0.25, -0.4))
        outline = np.array([(-a, -0.25), (a, -0.25), (b, -0.4), (-b, -0.4)])
        d.parts.append(loft([(outline, level * high - 0.015), (outline, level * high)], wood, axis=1))


def _funnel(d: Design, z: float, low: float, top: float, radius: float, color: Array) -> None:
    d.parts.append(turned([(radius, low), (0.85 * radius, top)], (0, 0, z), color, 1, 14))
    d.parts.append(turned([(0.9 * radius, top - 0.3 * radius), (0.88 * radius, top + 0.002)], (0, 0, z), _GLASS, 1, 14))
    d.mark("funnel top", (0, top + 0.002, z))


def _gun(d: Design, at: Array, size: float, way: float, color: Array) -> Array:
    """Add a turret, and return its muzzle."""
    x, y, z = at
    outline = np.array([(-0.7, -1.0), (0.7, -1.0), (1.0, 0.9), (-1.0, 0.9)]) * size * (1, way)
    shift = np.array([x, z])
    d.parts.append(loft([(outline + shift, y - 0.5 * size), (outline * 0.8 + shift, y + size)], color, axis=1))
    muzzle = np.array([x, y + 0.75 * size, z - way * 3.2 * size])
    d.parts.append(tube([(x, y + 0.5 * size, z), muzzle], max(0.24 * size, 0.008), color))
    return muzzle


def _warship(hull: _Hull) -> None:
    d, rng, deck, width = hull.design, hull.rng, hull.deck, hull.width
    beam, upper, dark = hull.beam, hull.upper, hull.wood
    start, end = rng.uniform(-0.16, -0.08), rng.uniform(0.15, 0.25)
    level = rng.uniform(0.035, 0.055)
    y = deck(0.0)
    x = beam * rng.uniform(0.6, 0.8)
    d.parts.append(box((-x, y - 0.03, start - 0.03), (x, y + level, end), upper))
    bridge_end = start + rng.uniform(0.12, 0.17)
    tall = level * rng.uniform(2.0, 2.8)
    _house(d, np.array([-0.8 * x, y, start]), np.array([0.8 * x, y + tall, bridge_end]), upper, 0.25)
    z = bridge_end - rng.uniform(0.01, 0.04)
    radius = rng.uniform(0.009, 0.014)
    top = y + tall + rng.uniform(0.08, 0.2)
    _mast(d, z, y + 0.5 * tall, top, radius, dark, "main")
    d.parts.append(box((-0.05, top - 0.05, z - 0.008), (0.05, top - 0.035, z + 0.008), dark))
    d.parts.append(box((-0.022, top - 0.09, z - 0.03), (0.022, top - 0.06, z + 0.01), upper))
    if rng.random() < 0.7:
        _funnel(d, bridge_end + rng.uniform(0.05, 0.09), y, y + level + rng.uniform(0.04, 0.08), 0.5 * x, upper)
    size = rng.uniform(0.45, 0.6) * beam
    ahead = start - 0.04 - 2.2 * size
    muzzle = _gun(d, np.array([0, deck(ahead) + 0.004, ahead]), size, 1.0, dark)
    d.mark("gun muzzle", muzzle)
    if rng.random() < 0.6:
        back = end + 0.02 + 1.5 * size
        _gun(d, np.array([0, deck(back), back]), size, -1.0, dark)
    if rng.random() < 0.5 and width(ahead - 4 * size) > 0.9 * size:
        # A second turret further ahead, below the first one's barrel, has the foremost muzzle.
        further = ahead - 4.4 * size
        d.mark("gun muzzle", _gun(d, np.array([0, deck(further), further]), 0.8 * size, 1.0, dark))


def _cargo(hull: _Hull) -> None:
    d, rng, deck, width = hull.design, hull.rng, hull.deck, hull.width
    beam, upper, dark = hull.beam, hull.upper, hull.wood
    long = rng.uniform(0.08, 0.14)
    end = 0.46
    x = 0.85 * min(width(end), beam)
    tall = rng.uniform(0.1, 0.18)
    y = deck(end - long)
    _house(d, np.array([-x, deck(0.2) - 0.012, end - long]), np.array([x, y + tall, end]), upper)
    radius = rng.uniform(0.25, 0.4) * x
    _funnel(d, end - 0.3 * long, y, y + tall + rng.uniform(0.03, 0.07), radius, dark)
    start, stop = -0.32, end - long - 0.03
    if rng.random() < 0.55:  # containers
        count = int(rng.integers(4, 8))
        step = (stop - start) / count
        for k, color in enumerate(palette(rng, count)):
            z = start + k * step
            x = 0.9 * min(width(z), width(z + step))
            rows = int(rng.integers(1, 4)) * rng.uniform(0.03, 0.04)
            low = min(deck(z), deck(z + step)) - 0.012
            d.parts.append(box((-x, low, z), (x, deck(0.0) + rows, z + 0.9 * step), color))
    else:  # hatches, and masts with derricks between them
        count = int(rng.integers(2, 4))
        step = (stop - start) / count
        for k in range(count):
            z = start + k * step
            x = 0.6 * min(width(z), width(z + step))
            d.parts.append(box((-x, deck(0.0) - 0.03, z), (x, deck(0.0) + 0.025, z + 0.75 * step), dark))
            at = z + 0.87 * step
            top = deck(0.0) + rng.uniform(0.12, 0.2)
            if k == 0:
                highest = top
            _mast(d, at, deck(0.0) - 0.03, highest, 0.013, upper, "main" if k == count - 1 else None)
            arm = [(0, deck(0.0) + 0.03, at), (0, highest - 0.02, at - 0.5 * step)]
            d.parts.append(tube(arm, 0.008, upper))
    at = -0.42
    if rng.random() < 0.5:
        _mast(d, at, deck(0.0) - 0.03, deck(at) + rng.uniform(0.08, 0.14), 0.011, upper, "fore")


def _liner(hull: _Hull) -> None:
    d, rng, deck, width = hull.design, hull.rng, hull.deck, hull.width
    beam, upper, dark = hull.beam, hull.upper, hull.wood
    floors = int(rng.integers(2, 5))
    story = rng.uniform(0.024, 0.036)
    front, back = rng.uniform(-0.34, -0.28), rng.uniform(0.38, 0.44)
    y = deck(0.0)
    for floor in range(floors):
        x = beam * (0.92 - 0.05 * floor)
        start, end = front + 0.03 * floor, back - rng.uniform(0.02, 0.06) * floor
        x = min(x, 0.95 * width(start), 0.95 * width(end))
        low, high = y - 0.012 if floor == 0 else y + floor * story, y + (floor + 1) * story
        _house(d, np.array([-x, low - 0.002, start]), np.array([x, high, end]), upper, 0.2, floor == floors - 1)
    top = y + floors * story
    radius = rng.uniform(0.25, 0.4) * beam
    spots = np.linspace(-0.02, 0.02 + 0.1 * (rng.integers(1, 4) - 1), int(rng.integers(1, 4)))
    tall = rng.uniform(0.06, 0.11)
    for z in spots:
        _funnel(d, z, top - 0.02, top + tall, radius, dark)
    if rng.random() < 0.7:
        at = front - 0.05
        _mast(d, at, deck(0.0) - 0.03, top + rng.uniform(0.06, 0.14), 0.011, dark, "fore")


def _motor_boat(hull: _Hull) -> None:
    d, rng, deck, width = hull.design, hull.rng, hull.deck, hull.width
    high, upper = hull.high, hull.upper
    start, end = rng.uniform(-0.2, -0.08), rng.uniform(0.15, 0.32)
    x = 0.78 * min(width(start), width(end))
    y, tall = deck(0.0), rng.uniform(0.08, 0.14)
    _house(d, np.array([-x, y - 0.04, start]), np.array([x, y + tall, end]), upper, rng.uniform(0.5, 1.0))
    if rng.random() < 0.5:  # a second, open bridge on top
        z = start + tall + 0.03
        d.parts.append(box((-0.8 * x, y + tall - 0.01, z), (0.8 * x, y + 1.5 * tall, z + 0.03), upper))
        d.parts.append(box((-0.4 * x, y + tall - 0.01, z + 0.06), (0.4 * x, y + 1.35 * tall, z + 0.1), _GLASS))
    else:
        _mast(d, end - 0.05, y + tall - 0.02, y + tall + rng.uniform(0.08, 0.15), 0.01, _GLASS, "main")
    d.both(box((0.35 * width(0.45), 0.3 * high, 0.47), (0.6 * width(0.45), 1.15 * high, 0.56), _GLASS))


def _tall_ship(hull: _Hull) -> None:
    d, rng, deck, width = hull.design, hull.rng, hull.deck, hull.width
    high, wood, paint, sail = hull.high, hull.wood, hull.paint, hull.sail
    hoisted = rng.random() < 0.65
    tall = log_uniform(rng, 0.5, 0.8)
    places = (("fore", -0.27, 0.88), ("main", 0.0, 1.0), (None, 0.27, 0.75))
    for name, z, share in places if rng.random() < 0.7 else places[:2]:
        base, top = deck(0.0), deck(0.0) + share * tall
        _mast(d, z, 0.5 * high, top, 0.013, wood, name)
        tiers = 3 if hoisted else 2
        for k in range(tiers):
            low, up = (base + (top - base) * (0.12 + 0.82 * t / tiers) for t in (k, k + 1))
            x_low, x_up = (share * tall * (0.34 - 0.055 * t) for t in (k, k + 1))
            d.parts.append(tube([(-x_up, up, z - 0.015), (x_up, up, z - 0.015)], 0.008, wood, across=(0, 1, 0)))
            if hoisted:
                # Bellied sails: bent across the wind, bowed at half height.
                rings = []
                for x in np.linspace(-1, 1, 7):
                    belly = 0.035 * (1 - 0.6 * x * x)
                    ring = []
                    for t, near in ((0.0, 0.0), (0.5, 1.0), (1.0, 0.0)):
                        ring.append((x * (x_low + (x_up - x_low) * t), low + (up - 0.01 - low) * t + 0.01, near))
                    front = [(a, b, z - 0.02 - belly * c) for a, b, c in ring]
                    rings.append([*front, *[(a, b, c + 0.008) for a, b, c in front[::-1]]])
                d.parts += _strips(np.array(rings), sail)
    reach = rng.uniform(0.14, 0.24)
    tip = np.array([0, deck(-0.5) + 0.4 * reach, -0.5 - reach])
    d.parts.append(tube([(0, deck(-0.5) - 0.06, -0.35), tip], 0.013, wood))
    d.mark("bowsprit tip", tip)
    # The after castle rises over the stern.
    rise = rng.uniform(0.08, 0.15)
    start = rng.uniform(0.28, 0.34)
    a, b = 0.95 * width(start), 0.95 * width(0.47)
    outline = np.array([(-a, start), (a, start), (b, 0.485), (-b, 0.485)])
    y = deck(start) + rise
    d.parts.append(loft([(outline, deck(0.0) - 0.04), (outline * (0.95, 1), y)], paint, axis=1))
    d.mark_both("house front", (0.95 * a, y, start))
    d.mark_both("house back", (0.95 * b, y, 0.485))


def _strips(rings: Array, color: Array) -> list[Part]:
    """Cut a bowed sheet `[n, 6, 3]` at half height, as each ring must be convex."""
    return [Part(rings[:, rows], color) for rows in ([0, 1, 4, 5], [1, 2, 3, 4])]
