"""Skateboards: rolling towards -z on wheels below, so +x is right. The ids are this twin's own."""

import numpy as np

from pcsa.datasets.procedural.shapes.design import CORNERS, ENDS, Design, log_uniform, numbered, palette
from pcsa.datasets.procedural.shapes.solids import box, loft, tube, turned
from pcsa.datasets.procedural.types import Array

NAMES = numbered(
    """
    tip front/back, side right/left, wheel front right/left, wheel back left/right, truck front/back,
    bend front right/left, bend back left/right, corner back right/left, rail front right/left, rail back left/right
    """
)


def draw(rng: np.random.Generator) -> Design:
    """Draw a skateboard."""
    d = Design()
    wood, metal, rubber, extra = palette(rng, 4)
    # The length of the deck is 1; a street board is the same at both ends.
    style = rng.choice(["street", "old", "cruiser", "pintail", "longboard"], p=[0.32, 0.24, 0.18, 0.13, 0.13])
    wide = {
        "street": log_uniform(rng, 0.11, 0.155),
        "old": log_uniform(rng, 0.14, 0.19),
        "cruiser": log_uniform(rng, 0.12, 0.16),
        "pintail": log_uniform(rng, 0.1, 0.14),
        "longboard": log_uniform(rng, 0.095, 0.13),
    }[style]
    thick = log_uniform(rng, 0.014, 0.028)
    kicks = {
        "street": (1.0, 1.0),
        "old": (rng.choice([0.0, 0.6]), 1.0),
        "cruiser": (rng.choice([0.0, 0.5]), 1.0),
        "pintail": (0.0, 0.0),
        "longboard": (0.7, 0.7) if rng.random() < 0.4 else (0.0, 0.0),
    }[style]
    slope = np.tan(np.deg2rad(rng.uniform(14, 30)))
    kick = rng.uniform(0.15, 0.21)  # length of a kicked end
    bow = rng.uniform(-0.03, 0.03) if kicks == (0.0, 0.0) else 0.0  # the middle hangs or rises

    # How an end closes, front and back: length, squareness, and half the width that is left at the tip.
    rounding = rng.uniform(0.9, 1.3) * wide, rng.uniform(1.8, 2.8), 0.03
    ends = [rounding, rounding]
    if style == "old":
        ends = [
            (rng.uniform(0.12, 0.3), rng.uniform(1.6, 2.2), 0.04),
            (rng.uniform(0.15, 0.35), rng.uniform(1.2, 2.0), rng.uniform(0.45, 0.75)),
        ]
    elif style == "cruiser":
        ends = [
            (rng.uniform(0.2, 0.35), rng.uniform(1.7, 2.2), 0.03),
            (rng.uniform(0.12, 0.2), rng.uniform(1.8, 2.5), rng.uniform(0.5, 0.75)),
        ]
    elif style == "pintail":
        ends = [
            (rng.uniform(0.25, 0.4), rng.uniform(1.7, 2.1), 0.03),
            (rng.uniform(0.45, 0.6), rng.uniform(1.2, 1.5), 0.03),
        ]
    elif style == "longboard":
        ends = [(rng.uniform(0.1, 0.25), rng.uniform(1.6, 2.2), rng.choice([0.03, 0.4]))] * 2
    waist = rng.uniform(0.0, 0.15) if style in ("old", "longboard") else 0.0

    def half(z: float) -> float:
        length, square, tip = ends[int(z > 0)]
        share = max(0.0, (abs(z) - 0.5 + length) / length)
        close = tip + (1 - tip) * max(0.0, 1 - share**square) ** (1 / square)
        return wide * close * (1 - waist * np.cos(np.pi * z) ** 2)

    def height(z: float) -> float:
        """Height of the middle of the deck above that of its lowest part."""
        beyond = max(0.0, abs(z) - 0.5 + kick)
        return kicks[int(z > 0)] * slope * beyond**2 / (beyond + 0.03) + bow * (1 - 4 * z * z)

    def edge(z: float) -> Array:
        """Top edge of the right side."""
        return np.array([half(z), height(z) + thick / 2, z])

    stations = 0.5 * np.sin(np.linspace(-np.pi / 2, np.pi / 2, 41))
    sections = []
    for z in stations:
        x, y = half(z), height(z)
        corners = [(-x, y - thick / 2), (x, y - thick / 2), (x, y + thick / 2), (-x, y + thick / 2)]
        sections.append((np.array(corners), z))
    d.parts.append(loft(sections, wood))
    d.mark("tip front", (0, height(-0.5), -0.5))
    d.mark("tip back", (0, height(0.5), 0.5))
    d.mark_both("side", edge(0.0))
    for name, sign in ENDS:
        if kicks[int(sign > 0)]:
            d.mark_both(f"bend {name}", edge(sign * (0.5 - kick)))
    if ends[1][2] > 0.42 and style in ("old", "cruiser"):
        d.mark_both("corner back", edge(0.5))

    # A board may stand low on hard little wheels or high on soft ones.
    radius = log_uniform(rng, 0.028, 0.052)
    tread = radius * log_uniform(rng, 0.5, 0.95)  # half the width of a wheel
    below = thick / 2 + rng.uniform(1.1, 1.7) * radius + 0.01
    axle = max(wide * rng.uniform(0.75, 1.0) - tread, 2 * tread)
    at = 0.5 - kick - rng.uniform(0.0, 0.06)
    for name, sign in ENDS:
        z = sign * at
        under = height(z)
        plate = 0.045
        d.parts.append(
            box(
                (-0.5 * wide, under - thick / 2 - 0.012, z - plate),
                (0.5 * wide, under - thick / 4, z + plate),
                metal,
            )
        )
        y = under - below
        kingpin = [(0, under - thick / 2, z - 0.5 * sign * plate), (0, y, z)]
        d.parts.append(tube(kingpin, [0.028, 0.02], metal))
        hanger = [(-axle, y, z), (0, y, z), (axle, y, z)]
        d.parts.append(tube(hanger, [0.009, 0.022, 0.009], metal, across=(0, 1, 0)))
        d.mark(f"truck {name}", (0, y - 0.022, z))
        profile = [(0.7, -1.0), (1.0, -0.6), (1.0, 0.6), (0.7, 1.0)]
        d.both(turned([(r * radius, s * tread) for r, s in profile], (axle, y, z), rubber))
        d.mark_both(f"wheel {name}", (axle + tread, y, z))

    if style in ("street", "old") and rng.random() < 0.55:
        x, bar = rng.uniform(0.55, 0.8) * wide, rng.uniform(0.011, 0.016)
        # Between the trucks, where the deck is flat.
        long = at - 0.06
        d.both(box((x - bar, -thick / 2 - 1.6 * bar, -long), (x + bar, 0, long), extra))
        for name, sign in ENDS:
            d.mark_both(f"rail {name}", (x, -thick / 2 - 1.6 * bar, sign * long))

    if style == "street" or (style == "longboard" and kicks[0] == kicks[1]):
        d.turns("tip", ("front", "back"))
        d.turns("side", ("right", "left"))
        d.turns("truck", ("front", "back"))
        for name in ("wheel", "bend", "rail"):
            d.turns(name, CORNERS, whole=False)
    return d
