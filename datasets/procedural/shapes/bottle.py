"""Bottles: upright; a pump's or sprayer's spout points to -z, a handle to +z. The ids are this twin's own."""

import numpy as np

from pcsa.datasets.procedural.shapes.design import AROUND, Design, Part, log_uniform, numbered, palette
from pcsa.datasets.procedural.shapes.solids import box, ellipse, revolved, tube
from pcsa.datasets.procedural.types import Array

NAMES = numbered(
    """
    mouth/base/shoulder/neck right/front/left/back, underside center, cap top center, cap rim right/front/left/back,
    spout tip, handle top/bottom
    """
)
_SIDES = 32


def _ring(half_x: float, half_z: float, power: float, y: float) -> Array:
    """Make a superellipse at a height: power 2 is an ellipse, 10 nearly a rectangle."""
    return np.insert(ellipse(_SIDES, power) * (half_x, half_z), 1, y, axis=1)


def draw(rng: np.random.Generator) -> Design:
    """Draw a bottle: its body is about 1 wide."""
    d = Design()
    glass, lid, label = palette(rng, 3)
    style = rng.choice(
        ["wine", "burgundy", "beer", "soda", "flask", "square", "dispenser", "jug"],
        p=[0.1, 0.07, 0.12, 0.13, 0.11, 0.11, 0.18, 0.18],
    )
    flat, power = 1.0, 2.0  # depth over width and squareness of the body
    neck, waist = rng.uniform(0.12, 0.17), 0.0
    if style == "wine":
        body, shoulder, long = log_uniform(rng, 1.9, 2.5), rng.uniform(0.3, 0.5), log_uniform(rng, 0.7, 1.1)
    elif style == "burgundy":
        body, shoulder, long = log_uniform(rng, 1.2, 1.7), rng.uniform(1.0, 1.5), log_uniform(rng, 0.5, 0.9)
    elif style == "beer":
        body, shoulder, long = log_uniform(rng, 1.3, 2.0), rng.uniform(0.4, 0.7), log_uniform(rng, 0.4, 1.0)
        neck = rng.uniform(0.18, 0.23)
    elif style == "soda":
        body, shoulder, long = log_uniform(rng, 1.5, 2.2), rng.uniform(0.6, 1.0), log_uniform(rng, 0.12, 0.3)
        neck, waist = rng.uniform(0.17, 0.25), rng.uniform(0.05, 0.22)
    elif style == "flask":
        body, shoulder, long = log_uniform(rng, 0.9, 1.5), rng.uniform(0.25, 0.6), log_uniform(rng, 0.15, 0.5)
        flat = rng.uniform(0.35, 0.7)
    elif style == "square":
        body, shoulder, long = log_uniform(rng, 0.9, 1.7), rng.uniform(0.15, 0.4), log_uniform(rng, 0.2, 0.6)
        flat, power = rng.choice([1.0, rng.uniform(0.5, 0.85)]), rng.uniform(6, 14)
    elif style == "dispenser":
        body, shoulder, long = log_uniform(rng, 1.0, 2.2), rng.uniform(0.12, 0.5), log_uniform(rng, 0.1, 0.2)
        flat = rng.choice([1.0, rng.uniform(0.5, 0.8)])
    else:
        body, shoulder, long = log_uniform(rng, 0.7, 1.4), rng.uniform(0.4, 0.8), log_uniform(rng, 0.15, 0.5)
        neck = rng.uniform(0.14, 0.24)
    wide, taper = 0.5, rng.choice([0.0, rng.uniform(-0.12, 0.2)])
    curve = rng.uniform(1.5, 3.0)  # 1 is a cone; more is a rounder shoulder
    foot = rng.choice([0.0, rng.uniform(0.02, 0.08)])
    top = body + shoulder + long

    def half(y: float) -> float:
        """Half the width at height y."""
        if y <= body:
            t = y / body
            bend = foot * (1 - np.sqrt(1 - max(0.0, 1 - y / 0.15) ** 2))
            return wide * (1 - taper * (1 - t) - waist * np.sin(np.pi * t) ** 4) - bend
        t = min(1.0, (y - body) / shoulder)
        # A quarter of a superellipse out of the body, and a soft landing on the neck.
        fall = (1 - t**curve) * (1 - t) ** 0.35
        return neck + (wide - neck) * fall

    def section(y: float, margin: float = 0.0) -> Array:
        share = np.clip((y - body) / shoulder, 0, 1)  # the neck is round whatever the body
        r, f = half(y) + margin, flat + (1 - flat) * share
        return _ring(r, f * (r - margin) + margin, power + (2 - power) * share**0.5, y)

    levels = np.concatenate(
        [[0, 0.02, 0.06, 0.15], np.linspace(0.15, body, 9)[1:], body + shoulder * np.linspace(0, 1, 10)[1:], [top]]
    )
    closed = style == "dispenser" or rng.random() < 0.5
    lip = rng.choice([0.0, rng.uniform(0.015, 0.04)])
    rings = [section(y) for y in levels]
    if not closed and lip:
        rings[-1] = section(top - 3 * lip)
        rings += [section(top - 3 * lip, lip), section(top, lip)]
    edge = neck + (lip if not closed else 0.0)
    outer = len(rings)
    if not closed:
        hole = neck * rng.uniform(0.6, 0.8)
        rings += [_ring(hole, hole, 2, y) for y in (top, top - 0.8 * long)]
        d.mark_around("mouth", (edge + hole) / 2, (edge + hole) / 2, top)
    d.parts.append(Part(np.stack(rings), glass, outer))
    d.mark("underside center", (0, 0, 0))
    d.mark_around("base", half(0), flat * half(0), 0)
    d.mark_around("shoulder", half(body), flat * half(body), body)
    if long > 0.3:
        d.mark_around("neck", neck, neck, body + shoulder)

    turns = flat == 1
    if closed:
        grip = neck + rng.uniform(0.02, 0.06)
        low = top - min(0.7 * long, log_uniform(rng, 0.12, 0.35))
        high = top + rng.uniform(0.02, 0.1)
        d.parts.append(revolved([(grip, low), (grip * rng.uniform(0.85, 1.0), high)], lid))
        rim = float(d.parts[-1].rings[1, 0, 0])
        if style == "dispenser":
            turns = False
            _dispenser(d, rng, high, rim, lid)
        else:
            d.mark_around("cap rim", rim, rim, high)
            d.mark("cap top center", (0, high, 0))
    if style == "jug":
        turns = False
        thick = rng.uniform(0.04, 0.075)
        high, low = body + 0.6 * shoulder, body * rng.uniform(0.3, 0.7)
        reach = wide * rng.uniform(1.25, 1.6)
        path = [
            (high, 0.5 * half(high)),
            (high, 0.7 * reach),
            (high - 0.1, reach),
            (low + 0.1, reach),
            (low, 0.93 * reach),
        ]
        path.append((low, half(low) - 0.05))
        d.parts.append(tube([(0, y, z) for y, z in path], thick, glass))
        # Just above and just below the joints: within them is no surface.
        d.mark("handle top", (0, high + 1.1 * thick, half(high + 1.1 * thick)))
        d.mark("handle bottom", (0, low - 1.1 * thick, half(low - 1.1 * thick)))
    if rng.random() < 0.5 and style not in ("soda", "jug"):
        a, b = sorted(rng.uniform(0.2, 0.85, 2) * body)
        b = max(b, a + 0.2 * body)
        d.parts.append(Part(np.stack([section(y, 0.008) for y in np.linspace(a, min(b, 0.95 * body), 5)]), label))

    if turns or style in ("flask", "square"):
        for stem in ("mouth", "base", "shoulder", "neck", "cap rim"):
            d.turns(stem, AROUND, turns, power == 2)
    return d


def _dispenser(d: Design, rng: np.random.Generator, high: float, rim: float, lid: Array) -> None:
    """Add a pump or a trigger sprayer on the cap."""
    if rng.random() < 0.6:
        rise, reach = rng.uniform(0.15, 0.4), rng.uniform(0.35, 0.6)
        thick = rng.uniform(0.04, 0.06)
        head = high + rise
        d.parts.append(tube([(0, high - 0.02, 0), (0, head, 0)], 0.4 * rim, lid, 10))
        button = [(0.7 * rim, head - thick), (0.75 * rim, head + thick), (0.5 * rim, head + 1.6 * thick)]
        d.parts.append(revolved(button, lid))
        droop = rng.uniform(0.0, 0.15)
        tip = np.array([0, head - droop, -reach])
        d.parts.append(tube([(0, head, 0), (0, head, -0.7 * reach), tip], [thick, 0.9 * thick, 0.6 * thick], lid))
        d.mark("spout tip", tip)
    else:
        tall, thick = rng.uniform(0.3, 0.45), rng.uniform(0.08, 0.12)
        d.parts.append(box((-thick, high - 0.02, -0.15), (thick, high + tall, 0.12), lid))
        reach = rng.uniform(0.35, 0.5)
        d.parts.append(box((-thick, high + 0.55 * tall, -reach), (thick, high + tall, 0.3), lid))
        nozzle = tube([(0, high + 0.78 * tall, -reach), (0, high + 0.78 * tall, -reach - 0.08)], 0.05, lid)
        d.parts.append(nozzle)
        trigger = [(0, high + u * tall, -v * reach) for u, v in ((0.6, 0.75), (0.2, 0.65), (-0.4, 0.85))]
        d.parts.append(tube(trigger, 0.6 * thick, lid, 4, flat=0.5))
        d.mark("spout tip", (0, high + 0.78 * tall, -reach - 0.08))
