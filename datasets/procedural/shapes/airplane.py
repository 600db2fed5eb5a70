"""Airplanes: facing -z, so -x is the pilot's left. Ids 0-9 and 12-17 mean what they mean in KeypointNet."""

import numpy as np

from pcsa.datasets.procedural.shapes.design import Design, Part, log_uniform, numbered, palette
from pcsa.datasets.procedural.shapes.solids import box, spindle, wing
from pcsa.datasets.procedural.types import Array

NAMES = numbered(
    """
    nose, cockpit top, tail end, wing tip left, wing root front left, wing tip right, wing root front right,
    tailplane tip left/right, fin tip, tail engine left/right, wing root back left/right, inner engine left/right,
    outer engine left/right, fin root front
    """
)


def draw(rng: np.random.Generator) -> Design:
    """Draw an airplane."""
    d = Design()
    skin, wing_color, engine_color = palette(rng, 3)
    # The length of the fuselage is 1, z from 0 (nose) to 1.
    wide = log_uniform(rng, 0.035, 0.085)
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
    d.parts.append(spindle(sections, skin))
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
    d.parts.append(spindle(canopy, engine_color))
    d.mark("cockpit top", (0, roof(cab) + bump, cab))

    swept = rng.random() < 0.65
    half = log_uniform(rng, 0.3, 0.62)
    chord = log_uniform(rng, 0.11, 0.26) * (1.4 if swept else 1.0)
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
    d.both(wing([(lead_at(s), chord_at(s)) for s in shares], thickness, wing_color))
    winglet = swept and rng.random() < 0.3
    tip, tip_c = lead_at(1.0), chord_at(1.0)
    if winglet:
        top = tip + np.array([0.01, rng.uniform(0.04, 0.09), 0.5 * tip_c])
        d.both(
            wing(
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

    fin, fin_chord = log_uniform(rng, 0.1, 0.22), log_uniform(rng, 0.1, 0.2)
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
    d.parts.append(wing(fin_stations, 0.1, wing_color, True))
    t_tail = rng.random() < 0.3
    d.mark("fin root front", fin_lead(roof(fin_z)))

    plane, plane_chord = half * rng.uniform(0.28, 0.5), chord * rng.uniform(0.4, 0.7)
    plane_tip, plane_sweep = plane_chord * rng.uniform(0.35, 0.9), max(0.0, sweep + rng.uniform(-0.1, 0.2))
    plane_rise = rng.uniform(-0.05, 0.15)
    share = rng.uniform(0.88, 0.97) if t_tail else 0.0
    root = fin_lead(roof(fin_z) + share * fin) if t_tail else np.array([0, body(0.9)[1], 0.97 - plane_chord])
    plane_end = root + np.array([plane, plane_rise * plane, plane_sweep * plane])
    d.both(wing([(root, plane_chord), (plane_end, plane_tip)], 0.1, wing_color))
    d.mark_both("tailplane tip", plane_end + np.array([0, 0, 0.5 * plane_tip]))
    d.mark("fin tip", fin_top + np.array([0, 0, 0.5 * fin_tip]))

    engines = rng.choice(["none", "wing 2", "wing 4", "tail 2"], p=[0.2, 0.4, 0.2, 0.2])
    radius = log_uniform(rng, 0.018, 0.034)
    long = radius * rng.uniform(2.8, 5.0)

    def nacelle(name: str, center: Array, pylon: Part) -> None:
        outline = [(0, 0.85), (0.08, 1.0), (0.45, 1.05), (0.75, 0.85), (1.0, 0.5)]
        d.both(
            spindle(
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
            pylon = box(
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
        pylon = box((0, center[1] - slab, z - 0.2 * long), (center[0], center[1] + slab, z + 0.3 * long), wing_color)
        nacelle("tail engine", center, pylon)
    elif not swept:  # a propeller on the nose
        blade = rng.uniform(1.2, 1.9) * tall
        y = body(0)[1]
        spinner = [
            ((0, y, -0.035), 0.003, 0.003),
            ((0, y, -0.02), 0.012, 0.012),
            ((0, y, 0.01), 0.018, 0.018),
        ]
        d.parts.append(spindle(spinner, engine_color))
        d.parts.append(box((-0.008, y - blade, -0.014), (0.008, y + blade, -0.008), engine_color))
        d.mark("nose", (0, y, -0.035))
    return d
