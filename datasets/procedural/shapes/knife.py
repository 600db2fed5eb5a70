"""Knives: the tip points to -z, the handle to +z, the edge is down. The mirror plane halves the blade's thickness.

The ids are this twin's own.
"""

import numpy as np

from pcsa.datasets.procedural.shapes.design import Design, Part, log_uniform, numbered, palette
from pcsa.datasets.procedural.shapes.solids import ellipse, spindle, tube
from pcsa.datasets.procedural.types import Array

NAMES = numbered(
    """
    tip, heel, spine base, edge/spine middle, handle end top/bottom, butt, guard top/bottom,
    front/back rivet right/left, point shoulder, blade side right/left, handle middle top/bottom
    """
)
_SIDES = 16

# Height over length of the blade; where spine and edge start to bend to the tip, and how sharply; how far below
# the spine the tip lies, as a share of the height.
_BLADES = {
    "chef": ((0.16, 0.28), (0.5, 0.75), (1.5, 2.5), (0.2, 0.45), (1.6, 2.6), (0.3, 0.7)),
    "santoku": ((0.22, 0.32), (0.6, 0.8), (1.8, 3.0), (0.4, 0.6), (2.0, 3.0), (0.75, 0.95)),
    "bread": ((0.09, 0.15), (0.8, 0.92), (1.5, 3.0), (0.7, 0.85), (2.0, 3.5), (0.2, 0.6)),
    "hunting": ((0.16, 0.3), (0.6, 0.78), (0.8, 1.1), (0.3, 0.6), (1.8, 3.0), (0.3, 0.6)),
    "pocket": ((0.18, 0.3), (0.3, 0.7), (1.0, 2.0), (0.3, 0.6), (1.6, 2.8), (0.35, 0.7)),
    "dagger": ((0.1, 0.2), (0.2, 0.7), (1.0, 2.2), (0.2, 0.7), (1.0, 2.2), (0.5, 0.5)),
    "table": ((0.13, 0.2), (0.75, 0.9), (2.2, 3.5), (0.6, 0.8), (2.2, 3.5), (0.15, 0.5)),
    "cleaver": ((0.35, 0.6), (1.0, 1.0), (1.0, 1.0), (1.0, 1.0), (1.0, 1.0), (0.0, 0.0)),
}


def draw(rng: np.random.Generator) -> Design:
    """Draw a knife: its blade is 1 long."""
    d = Design()
    steel, grip, metal = palette(rng, 3)
    style = str(rng.choice(list(_BLADES), p=[0.18, 0.1, 0.1, 0.17, 0.11, 0.14, 0.12, 0.08]))
    tall, spine_from, spine_power, edge_from, edge_power, drop = (rng.uniform(*r) for r in _BLADES[style])
    spine_from = round(24 * spine_from) / 24  # a corner of the spine falls on one of the rings below
    if style == "dagger":
        edge_from, edge_power = spine_from, spine_power
    thick = log_uniform(rng, 0.008, 0.02)  # half of the blade's
    sweep = rng.choice([0.0, rng.uniform(-0.06, 0.12)]) if style != "dagger" else 0.0
    guard = style == "dagger" or (style == "hunting" and rng.random() < 0.75)
    narrow = rng.uniform(0.4, 0.75) if style == "table" else 1.0  # the blade next to the handle
    saw = 0.012 if style == "bread" else 0.0

    def bend(share: float, start: float, power: float) -> float:
        return max(0.0, (share - start) / (1 - start)) ** power if start < 1 else 0.0

    def spine(share: float) -> float:
        return sweep * share**2 - drop * tall * bend(share, spine_from, spine_power)

    def edge(share: float) -> float:
        neck = (1 - narrow) * tall * max(0.0, 1 - share / 0.3) ** 2
        rise = (1 - drop) * tall * bend(share, edge_from, edge_power)
        return sweep * share**2 - tall + neck + rise

    shares = np.linspace(0, 1, 49 if saw else 25)
    rings = []
    for index, share in enumerate(shares):
        high, low = spine(share), edge(share) + saw * (index % 2)
        low = min(low, high - 0.004)
        t = thick * (1 - 0.5 * share**2)
        middle, sharp = high + 0.5 * (low - high), 0.15 * t
        if style == "dagger":
            section = [(sharp, high), (t, middle), (sharp, low), (-sharp, low), (-t, middle), (-sharp, high)]
        else:
            section = [(0.9 * t, high), (t, middle), (sharp, low), (-sharp, low), (-t, middle), (-0.9 * t, high)]
        rings.append([(x, y, -share) for x, y in section])
    d.parts.append(Part(np.array(rings), steel))

    start = 0.04 if guard else 0.0  # ahead of the guard
    d.mark("heel", (0, edge(start), -start))
    d.mark("spine base", (0, spine(start), -start))
    d.mark("edge middle", (0, edge(0.5), -0.5))
    d.mark("spine middle", (0, spine(0.5), -0.5))
    if style == "cleaver":
        d.mark("tip", (0, edge(1), -1))
        d.mark("point shoulder", (0, spine(1), -1))
    else:
        d.mark("tip", (0, spine(1), -1))
        if style in ("hunting", "santoku"):
            d.mark("point shoulder", (0, spine(spine_from), -spine_from))
    d.mark_both("blade side", rings[round(0.4 * len(rings))][1])

    _handle(d, rng, style, (tall, edge(0)), guard, grip if style != "table" else steel, metal)
    return d


def _handle(
    d: Design,
    rng: np.random.Generator,
    style: str,
    blade: tuple[float, float],
    guard: bool,
    grip: Array,
    metal: Array,
) -> None:
    """Add the handle, perhaps with guard, rivets or pommel; `blade` is its height, and its edge at the handle."""
    tall, low = blade
    long = log_uniform(rng, 0.4, 0.95) if style not in ("pocket", "table") else rng.uniform(0.9, 1.3)
    half = log_uniform(rng, 0.05, 0.08)
    wide = half * rng.uniform(0.45, 0.8)
    if style == "table":
        half, wide = rng.uniform(0.04, 0.065), rng.uniform(0.018, 0.035)
    elif style == "pocket":
        half = 0.5 * tall * rng.uniform(1.0, 1.3)
    elif style == "dagger":
        half = rng.uniform(0.04, 0.06)
        wide = half * rng.uniform(0.8, 1.0)
    centered = style in ("dagger", "table", "pocket") or guard
    center = low / 2 if centered else -half + rng.uniform(0.0, 0.01)
    power = rng.uniform(2.0, 5.0)
    belly, swell = rng.uniform(-0.12, 0.2), rng.choice([0.0, rng.uniform(0.1, 0.45)])
    droop = rng.choice([0.0, rng.uniform(-0.05, 0.09)]) if style not in ("dagger", "table") else 0.0
    pommel = style == "dagger" or (guard and rng.random() < 0.4)
    outline = np.insert(ellipse(_SIDES, power), 2, 0.0, axis=1)

    def section(u: float, scale: float = 1.0, beyond: float = 0.0) -> Array:
        """Ring at u: 0 at the blade, 1 at the end."""
        h = half * (1 + belly * np.sin(np.pi * u) + swell * u**3)
        y = center - droop * u**2 - 0.5 * half * swell * u**3
        ring = outline * (scale * wide * (1 + 0.3 * belly * np.sin(np.pi * u)), scale * h, 1)
        return ring + np.array([0, y, u * long + beyond])

    rings = [section(u) for u in np.linspace(0, 1, 11)]
    if rng.random() < 0.6:
        rings += [section(1, 0.85, 0.25 * half), section(1, 0.5, 0.4 * half)]
    d.parts.append(Part(np.stack(rings), grip))
    top, bottom = _SIDES // 4, 3 * _SIDES // 4
    for name, index in (("top", top), ("bottom", bottom)):
        d.mark(f"handle middle {name}", rings[5][index] * (0, 1, 1))
        if not pommel:
            d.mark(f"handle end {name}", rings[10][index] * (0, 1, 1))
    butt = rings[-1].mean(axis=0)
    if pommel:
        r = rng.uniform(1.1, 1.5) * half
        shares = [(-1, 0.3), (-0.75, 0.7), (-0.3, 0.97), (0.1, 1.0), (0.5, 0.85), (0.85, 0.5), (1, 0.2)]
        d.parts.append(spindle([(butt + np.array([0, 0, u * r]), a * r, a * r) for u, a in shares], metal, 14))
        butt = butt + np.array([0, 0, r])
    d.mark("butt", butt)

    if guard:
        reach, bar = tall / 2 + log_uniform(rng, 0.04, 0.16), rng.uniform(0.018, 0.028)
        bow = rng.uniform(-0.1, 0.1)
        path = [(0, center + v * reach, bow * v * v * reach) for v in np.linspace(-1, 1, 9)]
        d.parts.append(tube(path, max(bar, wide), metal, 8, flat=bar / max(bar, wide)))
        d.mark("guard bottom", path[0])
        d.mark("guard top", path[-1])
    elif style in ("chef", "santoku", "cleaver", "hunting", "pocket", "bread") and rng.random() < 0.7:
        r = rng.uniform(0.012, 0.02)
        for name, u in (("front", 0.15), ("back", 0.75)):
            ring = section(u)
            x, y, z = ring[0]
            d.both(tube([(0.5 * x, y, z), (1.04 * x + 0.004, y, z)], r, metal, 10, across=(0, 1, 0)))
            d.mark_both(f"{name} rivet", (1.04 * x + 0.004, y, z))
