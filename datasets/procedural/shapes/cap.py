"""Caps and hats: upright, facing -z, so -x is the wearer's left. The ids are this twin's own."""

import numpy as np

from pcsa.datasets.procedural.shapes.design import AROUND, Design, Part, log_uniform, numbered, palette
from pcsa.datasets.procedural.shapes.solids import box, ellipse, revolved, tube
from pcsa.datasets.procedural.types import Array

NAMES = numbered(
    """
    crown top, crown base right/front/left/back, visor tip, visor corner right/left, brim edge right/front/left/back,
    crown edge right/front/left/back, emblem, buckle, visor edge right/left
    """
)
_SIDES = 36


def _ring(half: float, deep: float, y: float) -> Array:
    return np.insert(ellipse(_SIDES) * (half, deep), 1, y, axis=1)


def _four(d: Design, stem: str, ring: Array) -> None:
    """Name the points of a ring that lie on the axes."""
    for place, index in zip(AROUND, (0, 27, 18, 9), strict=True):
        point = ring[index].copy()
        point[2 if place in ("right", "left") else 0] = 0.0
        d.mark(f"{stem} {place}", point)


def draw(rng: np.random.Generator) -> Design:
    """Draw a cap: half its width is 0.5 without the brim."""
    d = Design()
    cloth, second, trim = palette(rng, 3)
    styles = ["baseball", "officer", "bucket", "bowler", "top hat", "cowboy", "beanie"]
    style = str(rng.choice(styles, p=[0.36, 0.14, 0.12, 0.11, 0.1, 0.09, 0.08]))
    peaked = style in ("baseball", "officer")
    round_head = style in ("bucket", "bowler", "top hat", "beanie") and rng.random() < 0.7
    half, deep = 0.5, 0.5 if round_head else 0.5 * rng.uniform(1.05, 1.25)
    low, high = {
        "baseball": (0.42, 0.75),
        "officer": (0.35, 0.55),
        "bucket": (0.45, 0.8),
        "bowler": (0.45, 0.7),
        "top hat": (0.6, 1.3),
        "cowboy": (0.5, 0.8),
        "beanie": (0.6, 1.0),
    }[style]
    height = log_uniform(rng, low, high)
    wall = rng.uniform(0.02, 0.04)

    # The crown's rings from the top down: heights, sizes and shifts to the front, as shares.
    if style in ("baseball", "bowler", "beanie"):
        angle = np.deg2rad(np.linspace(86, 0, 13))
        levels, sizes = np.sin(angle) / np.sin(angle[0]), np.cos(angle) ** rng.uniform(0.55, 1.0)
    elif style == "officer":
        flare, band = log_uniform(rng, 1.15, 1.5), rng.uniform(0.35, 0.5)
        levels = np.array([1.0, 0.96, 0.85, band, band - 0.02, 0.0])
        sizes = np.array([0.5 * flare, 0.93 * flare, flare, 1.03, 1.0, 1.0])
    else:
        top = rng.uniform(*{"bucket": (0.65, 0.9), "top hat": (0.9, 1.2), "cowboy": (0.7, 0.85)}[style])
        waist = rng.uniform(0.9, 1.0) if style == "top hat" else 1.0
        levels, sizes = np.array([1.0, 0.5, 0.0]), np.array([top, (1 + top) / 2 * waist, 1.0])
        if style == "cowboy":  # dented
            dent = rng.uniform(0.1, 0.25)
            levels = np.array([1 - dent, 1, 0.9, 0.5, 0])
            sizes = np.array([0.3 * top, 0.9 * top, top, (1 + top) / 2, 1])
    lean = rng.uniform(0.0, 0.3) if peaked else 0.0
    shifts = lean * levels * (1 - levels)
    rows = list(zip(levels, sizes, shifts, strict=True))

    def crown(level: float, size: float, ahead: float) -> Array:
        return _ring(half * size, deep * size, height * level) - np.array([0, 0, ahead])

    def lining(level: float, size: float, ahead: float) -> Array:
        thin = max(1 - wall / (half * size), 0.3)
        return crown(level * (height - wall) / height, size * thin, ahead)

    def front(y: float) -> float:
        """Z of the crown's front at height y."""
        size, ahead = (np.interp(y / height, levels[::-1], column[::-1]) for column in (sizes, shifts))
        return float(-deep * size - ahead)

    outside = [crown(*row) for row in rows]
    inside = [lining(*row) for row in rows[::-1]]
    base = outside[-1]
    brim = _brim(d, rng, style, half, deep) if not peaked and style != "beanie" else []
    if brim:
        inside[0] = inside[0] * (1, 0, 1) + (0, brim[-1][:, 1].mean(), 0)
    d.parts.append(Part(np.stack([*outside, *brim, *inside]), cloth, len(outside)))

    if style in ("bowler", "top hat", "cowboy", "beanie") and rng.random() < 0.7:
        # A ribbon, or the fold of a beanie. It starts within the crown, else it would close the crown's opening.
        margin, tall = (0.03, rng.uniform(0.2, 0.35)) if style == "beanie" else (0.008, rng.uniform(0.1, 0.25))
        rings, under = [], []
        for level in np.linspace(0.01, tall, 4):
            size = np.interp(level, levels[::-1], sizes[::-1])
            rings.append(_ring(half * size + margin, deep * size + margin, height * level))
            under.append(_ring(0.98 * half * size, 0.98 * deep * size, height * level))
        d.parts.append(Part(np.stack([*rings, *under[::-1]]), second, len(rings), open=True))
        base = rings[0]
    _four(d, "crown base", base)
    peak = outside[0].mean(axis=0)
    if style in ("officer", "bucket", "top hat"):
        _four(d, "crown edge", outside[int(np.argmax(sizes)) if style == "officer" else 0])
    if style in ("baseball", "beanie") and rng.random() < 0.75:
        r, squash = (rng.uniform(0.12, 0.2), 0.9) if style == "beanie" else (rng.uniform(0.03, 0.05), 0.6)
        angles = np.deg2rad([-80, -50, -20, 10, 40, 65, 85])
        button = revolved([(r * np.cos(a), squash * r * (np.sin(a) + 0.4)) for a in angles], trim, 12)
        button.rings += peak
        d.parts.append(button)
        peak = button.rings[-1].mean(axis=0)
    d.mark("crown top", peak)

    if peaked:
        _visor(d, rng, style, half, deep, second)
        d.mark("crown base front", (0, 0.02, front(0.02)))
        if rng.random() < 0.6:
            y, r = height * (rng.uniform(0.35, 0.5) if style == "baseball" else 0.6), rng.uniform(0.06, 0.1)
            center, slope = np.array([0, y, front(y)]), (front(y + 0.02) - front(y - 0.02)) / 0.04
            normal = np.array([0, slope, -1]) / np.hypot(slope, 1)
            d.parts.append(tube([center - 0.02 * normal, center + 0.02 * normal], r, trim, 12))
            d.mark("emblem", center + 0.02 * normal)
        if style == "baseball" and rng.random() < 0.7:
            wide, y = rng.uniform(0.05, 0.12), 0.08 * height
            d.parts.append(box((-wide, 0.01, 0.97 * deep), (wide, 2 * y, deep + 0.02), trim))
            d.mark("buckle", (0, y, deep + 0.02))
    else:
        for stem in ("crown base", "brim edge", "crown edge"):
            d.turns(stem, AROUND, round_head, round_head)
    return d


def _brim(d: Design, rng: np.random.Generator, style: str, half: float, deep: float) -> list[Array]:
    """Make the rings of a brim all around, out along the top and back along the underside."""
    reach, slope, curl = {
        "bucket": (rng.uniform(0.18, 0.4), rng.uniform(0.4, 1.0), 0.0),
        "bowler": (log_uniform(rng, 0.15, 0.5), rng.uniform(-0.15, 0.2), 0.0),
        "top hat": (rng.uniform(0.15, 0.35), rng.uniform(-0.15, 0.1), 0.0),
        "cowboy": (rng.uniform(0.3, 0.5), rng.uniform(0.0, 0.1), rng.uniform(0.4, 0.9)),
    }[style]
    thick = rng.uniform(0.015, 0.03)
    rings = []
    for share in (0.3, 0.6, 1.0):
        out = share * reach
        ring = _ring(half + out, deep + out, -slope * out)
        ring[:, 1] += curl * share**2 * reach * (2 * (ring[:, 0] / (half + out)) ** 2 - 0.6)
        rings.append(ring)
    _four(d, "brim edge", rings[-1])
    return rings + [ring - (0, thick, 0) for ring in rings[::-1]]


def _visor(d: Design, rng: np.random.Generator, style: str, half: float, deep: float, color: Array) -> None:
    """Add a crescent in front; its corners lie at the crown."""
    spread = np.deg2rad(rng.uniform(55, 80))
    long = log_uniform(rng, 0.4, 0.68) if style == "baseball" else log_uniform(rng, 0.2, 0.4)
    tilt = rng.uniform(0.0, 0.3) if style == "baseball" else rng.uniform(0.3, 0.9)
    bow = rng.choice([0.0, rng.uniform(0.05, 0.3)])  # the sides hang
    blunt = rng.uniform(0.4, 0.9)
    top, thick = 0.02, rng.uniform(0.015, 0.03)
    rings, edge = [], []
    for angle in np.linspace(-spread, spread, 13):
        x, z = half * np.sin(angle), -deep * np.cos(angle)
        out = long * max(0.0, np.cos(np.pi / 2 * angle / spread)) ** blunt
        tip = np.array([1.03 * x, top - tilt * out - bow * (x / half) ** 2 * out / long, 1.03 * z - out])
        root = np.array([0.96 * x, top, 0.96 * z])
        down = np.array([0, thick, 0])
        rings.append([root, tip, tip - down, root - down])
        edge.append(tip)
    d.parts.append(Part(np.array(rings), color))
    d.mark("visor tip", edge[6] * (0, 1, 1))
    d.mark_both("visor edge", edge[9])
    d.mark_both("visor corner", edge[12])
