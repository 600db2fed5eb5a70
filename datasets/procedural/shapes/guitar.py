"""Guitars: standing upright, strings facing -z; right is +x. The ids are this twin's own."""

import numpy as np

from pcsa.datasets.procedural.shapes.design import Design, log_uniform, numbered, palette
from pcsa.datasets.procedural.shapes.solids import box, loft, tube, turned
from pcsa.datasets.procedural.types import Array

NAMES = numbered(
    """
    head top, head corner right/left, nut right/left, fingerboard end, upper bout right/left, waist right/left,
    lower bout right/left, bottom center, bridge, sound hole, horn right/left, neck pickup, neck heel right/left
    """
)


def draw(rng: np.random.Generator) -> Design:
    """Draw a guitar."""
    d = Design()
    wood, neck_color, dark, metal = palette(rng, 4)
    style = rng.choice(["acoustic", "jazz", "double cut", "single cut", "vee"], p=[0.36, 0.08, 0.26, 0.12, 0.18])
    hollow = style in ("acoustic", "jazz")
    # The length of the body is about 0.5.
    long = log_uniform(rng, 0.43, 0.54) if hollow else log_uniform(rng, 0.36, 0.46)
    lower = long * log_uniform(rng, 0.34, 0.44)
    upper = lower * rng.uniform(0.68, 0.86)
    waist = upper * rng.uniform(0.7, 0.93)
    deep = log_uniform(rng, 0.04, 0.075) if hollow else log_uniform(rng, 0.018, 0.032)  # half the thickness
    low, middle, high = (
        long * share for share in (rng.uniform(0.26, 0.33), rng.uniform(0.55, 0.62), rng.uniform(0.76, 0.83))
    )
    shoulder = rng.uniform(1.6, 2.4)

    def half(y: float) -> float:
        """Half the width of a waisted body at height y."""
        if y < low:
            return lower * max(0.0, 1 - (1 - y / low) ** 2.3) ** (1 / 2.3)
        if y < middle:
            return waist + (lower - waist) * (0.5 + 0.5 * np.cos(np.pi * (y - low) / (middle - low)))
        if y < high:
            return upper + (waist - upper) * (0.5 + 0.5 * np.cos(np.pi * (y - middle) / (high - middle)))
        return upper * max(0.0, 1 - ((y - high) / (long - high)) ** shoulder) ** (1 / shoulder)

    def slab(left: float, right: float) -> Array:
        return np.array([(left, -deep), (right, -deep), (right, deep), (left, deep)])

    neck = log_uniform(rng, 0.021, 0.03)  # half the width where it meets the body
    reach = log_uniform(rng, 0.34, 0.48)  # from the body to the nut
    joint = long
    if style == "vee":
        # Two arms from the neck down.
        joint = long * rng.uniform(0.82, 0.92)
        wide, tip, split = lower * rng.uniform(0.8, 1.05), rng.uniform(0.1, 0.17), long * rng.uniform(0.3, 0.5)
        top = neck + rng.uniform(0.02, 0.05)
        arm = [
            (slab(wide - 1.3 * tip * long, wide), 0.0),
            (slab(-0.15 * lower, wide + (top - wide) * split / long), split),
            (slab(-top, top), joint),
        ]
        d.both(loft(arm, wood, axis=1))
        d.mark_both("lower bout", (wide, 0, -deep))
        d.mark_both("upper bout", (top, joint, -deep))
        # The arms meet in the middle, above where they part.
        inner = wide - 1.3 * tip * long
        crotch = split * inner / (inner + 0.15 * lower)
        d.mark("bottom center", (0, crotch, -deep))
        floor = split
    else:
        levels = [
            *(low * (1 - np.cos(np.linspace(0.12, np.pi / 2, 9)))),
            *np.linspace(low, high, 14)[1:],
            *(high + (long - high) * np.sin(np.linspace(0, np.pi / 2, 8)[1:])),
        ]
        cut = style == "double cut" or (style == "jazz" and rng.random() < 0.5)
        right_cut = cut or style == "single cut"
        base = levels[0]
        profile = []
        for y in levels:
            # A cutaway closes a side early; a horn goes on from there.
            close = max(0.0, (y - middle) / (long - middle)) if right_cut else 0.0
            keep = 1 - 0.62 * close**1.5
            right = max(half(y) * keep, 0.9 * neck) if right_cut else max(half(y), 0.004)
            left = right if cut else max(half(y), 0.004)
            profile.append((slab(-left, right), y - base))
        d.parts.append(loft(profile, wood, axis=1))
        joint, low, middle, high = (y - base for y in (long, low, middle, high))
        d.mark_both("lower bout", (lower, low, -deep))
        d.mark_both("waist", (_edge(profile, middle), middle, -deep))
        d.mark("bottom center", (0, 0, 0))
        floor = low
        if right_cut:
            joint -= rng.uniform(0.0, 0.06)
            out = upper * rng.uniform(0.85, 1.05)
            crest = joint + rng.uniform(-0.01, 0.06)
            thick = upper * rng.uniform(0.26, 0.36)
            root = middle + 0.35 * (high - middle)
            shapes = []
            for t in np.linspace(0, 1, 9):
                y = root + t * (crest - root)
                outer = _edge(profile, root) + (out - _edge(profile, root)) * np.sin(0.5 * np.pi * t)
                width = (outer - 0.5 * neck) * (1 - t) ** 1.3 + thick * (0.15 + 0.85 * np.sqrt(max(0.0, 1 - t * t))) * t
                shapes.append((slab(outer - max(width, 0.012), outer), y))
            horn = loft(shapes, wood, axis=1)
            if cut:
                d.both(horn)
                d.mark_both("horn", (out, crest, -deep))
            else:
                d.parts.append(horn)
        else:
            d.mark_both("upper bout", (_edge(profile, high), high, -deep))

    # Neck, fingerboard and head lean on the top of the body.
    front = -deep - 0.008
    nut_y = joint + reach
    nut = neck * rng.uniform(0.75, 0.95)
    inside = rng.uniform(0.05, 0.16) * long if hollow else rng.uniform(0.12, 0.3) * long
    rear = front + rng.uniform(0.024, 0.032)
    stick = [
        (np.array([(-x, front), (x, front), (0.7 * x, rear), (-0.7 * x, rear)]), y)
        for x, y in ((neck, joint - 0.08 * long), (neck, joint), (nut, nut_y))
    ]
    d.parts.append(loft(stick, neck_color, axis=1))
    board = [
        (np.array([(-x, front - 0.006), (x, front - 0.006), (x, front + 0.01), (-x, front + 0.01)]), y)
        for x, y in ((neck * 1.06, joint - inside), (nut * 1.03, nut_y))
    ]
    d.parts.append(loft(board, dark, axis=1))
    d.mark("fingerboard end", (0, joint - inside, front - 0.006))
    ivory = np.array([225.0, 220, 205])
    saddle = nut * 1.08
    d.parts.append(box((-saddle, nut_y - 0.005, front - 0.01), (saddle, nut_y + 0.006, front + 0.012), ivory))
    d.mark_both("nut", (saddle, nut_y, front - 0.01))
    if style != "vee":
        d.mark_both("neck heel", (neck * 1.06, joint, front - 0.006))

    tall, back = log_uniform(rng, 0.11, 0.17), rng.uniform(0.0, 0.25)
    wide_low, wide_top = nut * rng.uniform(1.15, 1.7), nut * rng.uniform(0.9, 1.7)
    head_front = front - 0.002
    outline = []
    for share, x in ((0.0, nut), (0.22, wide_low), (1.0, wide_top)):
        z = head_front + back * tall * share
        outline.append((np.array([(-x, z), (x, z), (x, z + 0.017), (-x, z + 0.017)]), nut_y + share * tall))
    tip = rng.choice([0.0, rng.uniform(0.01, 0.03)])
    z = head_front + back * tall
    d.mark_both("head corner", (wide_top, nut_y + tall, z))
    if tip:
        x = 0.25 * wide_top
        outline.append((np.array([(-x, z), (x, z), (x, z + 0.017), (-x, z + 0.017)]), nut_y + tall + tip))
    d.parts.append(loft(outline, wood if rng.random() < 0.5 else neck_color, axis=1))
    d.mark("head top", (0, nut_y + tall + tip, z))
    bass = not hollow and rng.random() < 0.3
    count, peg = (2, 0.014) if bass else (3, 0.01)
    for share in np.linspace(0.3, 0.85, count):
        y, x = nut_y + share * tall, wide_low + (wide_top - wide_low) * (share - 0.22) / 0.78
        z = head_front + back * tall * share + 0.009
        d.both(tube([(x - 0.01, y, z), (x + 0.02, y, z)], 0.004, metal, 6, across=(0, 1, 0)))
        d.both(turned([(peg, 0.014), (peg, 0.03)], (x, y, z), metal, sides=8))

    if style == "acoustic":
        hole_y, hole = joint - inside - 0.12 * long, waist * rng.uniform(0.36, 0.46)
        d.parts.append(turned([(1.2 * hole, -deep - 0.002), (1.2 * hole, 0)], (0, hole_y, 0), metal, 2))
        d.parts.append(turned([(hole, -deep - 0.004), (hole, 0)], (0, hole_y, 0), np.array([30.0, 25, 20]), 2))
        d.mark("sound hole", (0, hole_y, -deep - 0.004))
        y, x = floor * rng.uniform(0.9, 1.15), lower * rng.uniform(0.4, 0.55)
        bar = rng.uniform(0.01, 0.016)
        d.parts.append(box((-x, y - bar, -deep - 0.012), (x, y + bar, -deep + 0.01), dark))
        d.mark("bridge", (0, y, -deep - 0.012))
        return d

    if style == "jazz":  # sound holes like an f
        x, y, tall = 0.62 * waist, 0.5 * (low + middle), 0.13 * long
        ends = np.array([(x - 0.015, y + tall, -deep), (x + 0.015, y - tall, -deep)])
        d.both(tube(ends, 0.007, dark, 4, flat=0.5))
        for end, side in zip(ends, (0.012, -0.012), strict=True):
            d.both(turned([(0.012, -0.003), (0.012, 0.01)], end + np.array([side, 0, 0]), dark, 2, 12))
    top = joint - inside
    y = floor + rng.uniform(0.0, 0.12) * (top - floor)
    wide = rng.uniform(0.035, 0.055)
    d.parts.append(box((-wide, y - 0.014, front - 0.004), (wide, y + 0.014, -deep + 0.01), metal))
    d.mark("bridge", (0, y, front - 0.004))
    places = np.linspace(y, top, int(rng.integers(3, 6)))[1:-1]
    for place in places:
        d.parts.append(box((-0.04, place - 0.013, front - 0.001), (0.04, place + 0.013, -deep + 0.01), dark))
    d.mark("neck pickup", (0, places[-1], front - 0.001))
    if style != "vee":
        for k in range(int(rng.integers(1, 4))):
            knob = lower * (0.45 + 0.16 * k), floor * (0.75 - 0.1 * k), 0.0
            d.parts.append(turned([(0.012, -deep - 0.014), (0.014, 0)], knob, metal, 2, 10))
    return d


def _edge(profile: list[tuple[Array, float]], y: float) -> float:
    """Half the width at height y of a body that was cut into slabs."""
    return float(np.interp(y, [at for _, at in profile], [outline[:, 0].max() for outline, _ in profile]))
