"""Bathtubs: long along x; the faucet's end is at -x, the reclining end at +x. The mirror plane is z = 0.

Ids 0-23 mean what they mean in KeypointNet: corners and end middles of the outer rim, the base, the inner rim and
the floor within. The others are this twin's own.
"""

import numpy as np

from pcsa.datasets.procedural.shapes.design import Design, Part, log_uniform, numbered, palette
from pcsa.datasets.procedural.shapes.solids import ellipse, prism, revolved, spindle, tube
from pcsa.datasets.procedural.types import Array

NAMES = numbered(
    """
    outer rim right front/back, outer rim left back/front, base right front/back, base left back/front,
    inner rim right front/back, inner rim left back/front, floor right front/back, floor left back/front,
    outer rim right/left end, base right/left end, inner rim right/left end, floor right/left end, faucet tip, drain,
    headrest
    """
)
_SIDES = 48


def _ring(extents: tuple[float, float, float], power: float, y: float, margin: float = 0.0) -> Array:
    """Make a superellipse with its own extent to the left, to the right and across; power 20 is nearly a rectangle."""
    left, right, half = extents
    x, z = ellipse(_SIDES, power).T
    wide = np.where(x > 0, right + margin, left + margin)
    return np.stack([x * wide, np.full(_SIDES, y), z * (half + margin)], axis=1)


def _corners(d: Design, stem: str, ring: Array) -> None:
    eighth = _SIDES // 8
    for side, back in (("right", ring[eighth]), ("left", ring[3 * eighth])):
        d.mark(f"{stem} {side} back", back)
        d.mark(f"{stem} {side} front", back * (1, 1, -1))


def _ends(d: Design, stem: str, ring: Array) -> None:
    d.mark(f"{stem} right end", ring[0] * (1, 1, 0))
    d.mark(f"{stem} left end", ring[_SIDES // 2] * (1, 1, 0))


def draw(rng: np.random.Generator) -> Design:
    """Draw a bathtub: half its length is about 1."""
    d = Design(mirror_axis=2)
    enamel, metal, cloth = palette(rng, 3)
    style = rng.choice(["built in", "drop in", "freestanding", "clawfoot", "round"], p=[0.28, 0.16, 0.24, 0.2, 0.12])
    z = 1.0 if style == "round" else log_uniform(rng, 0.36, 0.68)
    height = log_uniform(rng, 0.45, 0.85) if style != "round" else log_uniform(rng, 0.5, 1.2)
    lift = height * rng.uniform(0.12, 0.25) if style == "clawfoot" else 0.0
    wall = log_uniform(rng, 0.025, 0.06)
    floor = lift + wall + rng.uniform(0.0, 0.1) * height
    lean = rng.uniform(0.08, 0.4)  # how far the reclining end slopes in, all the way down
    steep = lean if rng.random() < 0.35 else rng.uniform(0.02, 0.15)
    narrow = rng.uniform(0.05, 0.25) * z
    power = inner_power = float(rng.uniform(2.0, 3.2))
    rim = wall * rng.choice([1.0, rng.uniform(1.3, 2.5)], p=[0.4, 0.6])
    if style in ("built in", "drop in"):
        boxy = style == "built in" or rng.random() < 0.6
        power, inner_power = float(rng.uniform(12, 25)) if boxy else power, float(rng.uniform(2.2, 7.0))
        rim = log_uniform(rng, 0.06, 0.16) * (z + 0.4)
        if not boxy:  # squarer than the outside, the inside would stick out of it at the corners
            inner_power = min(inner_power, power)
    elif style == "round":
        power = inner_power = 2.0
        lean = steep = narrow = rng.choice([0.0, rng.uniform(0.05, 0.3)])
        rim = wall * log_uniform(rng, 1.0, 3.0)
    bend = log_uniform(rng, 0.06, 0.22) * z  # radius between wall and floor

    def extents(t: float) -> tuple[float, float, float]:
        """Extents of the inside at t: 0 at the floor, 1 at the rim."""
        inset = rim + bend * (1 - np.sqrt(1 - max(0.0, 1 - t / 0.25) ** 2))
        return 1 - steep * (1 - t) - inset, 1 - lean * (1 - t) - inset, z - narrow * (1 - t) - inset

    steps = np.array([0, 0.02, 0.06, 0.12, 0.25, 0.5, 0.75, 1.0])
    inner = [_ring(extents(t), inner_power, floor + t * (height - floor)) for t in steps[::-1]]
    full = (1.0, 1.0, z)
    lip = rng.uniform(0.025, 0.06)
    if style == "built in":
        kick = -rng.choice([0.0, rng.uniform(0.01, 0.05)])
        outer = [_ring(full, power, y, kick) for y in (0.0, height - 2 * lip)]
        outer.append(_ring(full, power, height - 2 * lip))
    else:
        bottom = floor - wall if style != "freestanding" else 0.0
        heights = bottom + steps * (height - lip - bottom)
        levels = [max(0.0, (y - floor) / (height - floor)) for y in heights]
        outer = [_ring(extents(t), inner_power, y, wall) for t, y in zip(levels, heights, strict=True)]
        outer.append(_ring(full, power, height - lip))
    outer.append(_ring(full, power, height))
    tub = Part(np.stack([*outer, *inner]), enamel, len(outer), open=True)
    d.parts.append(tub)

    oval = inner_power < 3.5 and style != "round"
    ends = oval and rng.random() < 0.8
    _corners(d, "inner rim", inner[0])
    _corners(d, "floor", inner[-1])
    if rim > 1.25 * wall:
        _corners(d, "outer rim", outer[-1])
    if style in ("built in", "freestanding", "round"):
        _corners(d, "base", outer[0])
    if ends:
        _ends(d, "inner rim", inner[0])
        _ends(d, "floor", inner[-1])
        if power < 6 and rim > 1.25 * wall:
            _ends(d, "outer rim", outer[-1])
        if style == "freestanding":
            _ends(d, "base", outer[0])

    rise = rng.uniform(0.15, 0.5) if style in ("freestanding", "clawfoot") and rng.random() < 0.35 else 0.0
    for ring in (*tub.rings, *(mark[None] for mark in d.marks.values())):  # a slipper: one end is higher
        up = rise * np.clip((ring[:, 1] - floor) / (height - floor), 0, 1)
        ring[:, 1] += up * np.maximum(0, ring[:, 0]) ** 2

    if style == "clawfoot":
        claw = rng.uniform(0.05, 0.08)
        sole = claw * ellipse(8)
        splay = rng.uniform(0.0, 0.08)
        for side, reach in (("right", extents(0.1)[1]), ("left", -extents(0.1)[0])):
            foot = prism(sole, (0, 0.3 * lift, lift, floor), (1.1, 0.75, 0.8, 1.3), metal)
            at = np.array([0.72 * reach, 0, 0.68 * extents(0.1)[2]])
            foot.rings += at
            out = splay * np.array([np.sign(reach), 0, 1])
            foot.rings[:2] += out
            d.both(foot)
            d.mark(f"base {side} back", at + out)
            d.mark(f"base {side} front", (at + out) * (1, 1, -1))
    tap = rng.random() < 0.45
    if tap:
        pipe = rng.uniform(0.016, 0.03)
        if rim > 3 * pipe:
            x, low = -1 + rim / 2, height - lip / 2
        else:  # it stands on the floor beside the tub
            x, low = -1 - 2 * pipe, 0.0
        arch, reach = rng.uniform(0.12, 0.35), rng.uniform(0.1, 0.25) - 1 + rim - x
        bow = np.linspace(0, np.pi, 7)
        curve = [(x + reach * (1 - np.cos(a)) / 2, height + arch + 0.5 * reach * np.sin(a), 0) for a in bow]
        tip = np.array([x + reach, height + 0.6 * arch, 0])
        d.parts.append(tube([(x, low, 0), *curve, tip], pipe, metal, across=(0, 0, 1)))
        d.mark("faucet tip", tip)
        if low > 0:
            knob = revolved([(1.6 * pipe, low), (1.2 * pipe, height + 0.06)], metal, 10)
            knob.rings += np.array([x, 0, rng.uniform(3, 5) * pipe])
            d.both(knob)
    if rng.random() < 0.6:
        at = np.array([0.0 if lean == steep else -0.7 * extents(0)[0], floor + 0.008, 0])
        drain = revolved([(0.045, -0.018), (0.045, 0)], metal, 12)
        drain.rings += at
        d.parts.append(drain)
        d.mark("drain", at)
    cushion = rise == 0 and style != "round" and rng.random() < 0.35
    if cushion:
        wide, thick, tall = rng.uniform(0.3, 0.6) * extents(1)[2], rng.uniform(0.04, 0.07), rng.uniform(0.05, 0.1)
        center = np.array([extents(1)[1] - 0.3 * thick, height - 0.2 * tall, 0])
        shares = ((-1, 0.3), (-0.85, 0.8), (0, 1), (0.85, 0.8), (1, 0.3))
        d.parts.append(spindle([(center + np.array([0, 0, u * wide]), s * thick, s * tall) for u, s in shares], cloth))
        d.mark("headrest", center + np.array([0, tall, 0]))

    if not tap and not cushion and rise == 0 and lean == steep:
        for stem in ("outer rim", "base", "inner rim", "floor"):
            corners, circle = ("right front", "left front", "left back", "right back"), style == "round"
            d.turns(stem, corners, circle, circle)
            d.turns(stem, ("right end", "left end"))
    return d
