"""Helmets: facing -z, so -x is the wearer's left. The ids are this twin's own."""

from collections.abc import Callable, Sequence

import numpy as np

from pcsa.datasets.procedural.shapes.design import Design, Part, log_uniform, numbered, palette
from pcsa.datasets.procedural.shapes.solids import tube, turned
from pcsa.datasets.procedural.types import Array

NAMES = numbered(
    """
    crown, brow, nape, side right/left, temple right/left, chin, cheek right/left, hinge right/left, visor bottom,
    peak tip, strap bottom, ridge front/back
    """
)

# Place at an angle about y (0 front, 90 right, in degrees), at an elevation (90 top, 0 widest) and at a scale.
Place = Callable[[float, float, float], Array]


def draw(rng: np.random.Generator) -> Design:
    """Draw a helmet."""
    d = Design()
    paint, second, metal = palette(rng, 3)
    style = rng.choice(
        ["full", "open", "football", "soldier", "cycle", "hard hat"], p=[0.27, 0.15, 0.14, 0.17, 0.16, 0.11]
    )
    # Half the width is about 0.4.
    wide = log_uniform(rng, 0.36, 0.44)
    deep = wide * (log_uniform(rng, 1.25, 1.55) if style == "cycle" else log_uniform(rng, 1.08, 1.32))
    tall = wide * (log_uniform(rng, 0.75, 1.0) if style in ("cycle", "hard hat") else log_uniform(rng, 0.92, 1.2))
    below = wide * rng.uniform(0.75, 1.1)  # how far the sides may reach under the widest place
    tuck = rng.uniform(0.1, 0.3)
    squareness = rng.uniform(0.85, 1.0)
    wall = rng.uniform(0.05, 0.1)
    faced = style in ("full", "open", "football")

    brow = rng.uniform(18, 34) if faced else rng.uniform(-8, 8)
    opening = rng.uniform(48, 66)  # angle at which the face's opening ends
    cheek = opening + rng.uniform(8, 16)
    low_front, low_back = {
        "full": (rng.uniform(-70, -50), rng.uniform(-60, -40)),
        "open": (rng.uniform(-60, -30), rng.uniform(-50, -25)),
        "football": (rng.uniform(-55, -35), rng.uniform(-50, -30)),
        "soldier": (rng.uniform(-32, -8), rng.uniform(-35, -15)),
        "cycle": (rng.uniform(-4, 8), rng.uniform(-25, -5)),
        "hard hat": (-4.0, -4.0),
    }[str(style)]
    if style == "hard hat":
        brow = -4.0
    flare = {"soldier": rng.uniform(0.02, 0.14), "hard hat": rng.uniform(0.12, 0.22)}.get(str(style), 0.0)

    def place(angle: float, rise: float, scale: float = 1.0) -> Array:
        a, e = np.deg2rad(angle), np.deg2rad(rise)
        radius = np.cos(e) ** squareness if rise > 0 else 1 - tuck * np.sin(e) ** 2
        y = np.sin(e) * (tall if rise > 0 else below)
        return scale * np.array([wide * radius * np.sin(a), y, -deep * radius * np.cos(a)])

    def rim(angle: float) -> float:
        """Elevation of the shell's edge."""
        angle = abs((angle + 180) % 360 - 180)
        start, stop = (opening, cheek) if faced else (25.0, 80.0)
        t = np.clip((angle - start) / (stop - start), 0, 1)
        back = np.clip((angle - stop) / (180 - stop), 0, 1)
        lower = low_front + (low_back - low_front) * (3 * back**2 - 2 * back**3)
        return float(brow + (lower - brow) * (3 * t**2 - 2 * t**3))

    # Closer together where the edge falls from the brow to the cheek.
    right = np.unique(np.concatenate([np.linspace(0, 180, 15), np.linspace(opening, cheek, 6) if faced else []]))
    angles = np.concatenate([right, 360 - right[-2:0:-1]])
    rings, depths = [], np.concatenate([np.linspace(0.05, 0.85, 8), np.linspace(0.9, 1, 3)])

    def lip(t: float) -> float:
        return 1 + flare * max(0.0, (t - 0.85) / 0.15) ** 1.5

    for t in depths:
        rings.append([place(a, 90 - t * (90 - rim(a)), lip(t)) for a in angles])
    for t in depths[::-1]:
        rings.append([place(a, 90 - t * (90 - rim(a)), lip(t) - wall) for a in angles])
    d.parts.append(Part(np.array(rings), paint, solid=len(depths)))
    d.mark("crown", rings[0][0] * (0, 1, 0))
    d.mark("brow", place(0, rim(0), lip(1)))
    d.mark("nape", place(180, rim(180), lip(1)) * (0, 1, 1))
    d.mark_both("side", place(90, rim(90), lip(1)))
    if faced:
        d.mark_both("temple", place(opening, rim(opening)))
        d.mark_both("cheek", place(cheek, rim(cheek)))

    if style == "full":
        # A bar in front of the chin, from cheek to cheek.
        top, bottom = low_front + rng.uniform(32, 48), low_front - 2
        jut = rng.uniform(1.02, 1.16)
        bar_angles = np.linspace(-cheek - 8, cheek + 8, 15)

        def out(angle: float) -> float:
            return 1.005 + (jut - 1.005) * np.cos(np.pi / 2 * angle / (cheek + 8)) ** 2

        bar = _sheet(place, bar_angles, lambda a: bottom, lambda a: top, out, 0.1, paint)
        d.parts += bar
        d.mark("chin", place(0, bottom, out(0)))
        vents = [place(a, 0.5 * (top + bottom), out(a) + 0.01) for a in np.linspace(-14, 14, 5)]
        d.parts.append(tube(vents, 0.03, second, 6, flat=0.6, across=(0, 1, 0)))
        if rng.random() < 0.75:
            _visor(d, place, rng, top - 3, brow + 5, cheek, metal)
    elif style == "open" and rng.random() < 0.65:
        _visor(d, place, rng, rng.uniform(-35, -5), brow + 5, cheek, metal)
    elif style == "football":
        _mask(d, place, rng, brow, low_front, cheek, metal)

    peak_odds = {"full": 0.2, "open": 0.4, "cycle": 0.6, "hard hat": 1.0, "soldier": 0.0, "football": 0.0}
    if rng.random() < peak_odds[str(style)]:
        length = wide * (rng.uniform(0.35, 0.7) if faced else rng.uniform(0.2, 0.45))
        rise = brow + 9 if faced else brow + 3
        half = rng.uniform(40, 58)
        dip = rng.uniform(-0.25, 0.3 if faced else 0.05) * length
        scale = lip(1) if style == "hard hat" else 1.0
        tip: Array = np.zeros(3)
        rows = []
        for angle in np.linspace(-half, half, 13):
            near = place(angle, rise, 0.97 * scale)
            reach = max(np.cos(np.pi / 2 * angle / half), 0.02) ** 0.5
            far = place(angle, rise, scale) + reach * np.array([0, dip, -length])
            rows.append([near, near + np.array([0, 0.035, 0]), far + np.array([0, 0.03, 0]), far])
            if abs(angle) < 1e-6:
                tip = far + np.array([0, 0.015, 0])
        d.parts.append(Part(np.array(rows), second if faced else paint))
        d.mark("peak tip", tip)
        if style == "hard hat":
            d.mark("brow", place(0, rise, 0.97 * scale) + np.array([0, 0.035, 0]))

    # Without a strap, a soldier's helmet would be a bowl.
    strap_odds = {"full": 0.0, "open": 0.4, "football": 0.0, "soldier": 1.0, "cycle": 0.8, "hard hat": 0.4}
    if rng.random() < strap_odds[str(style)]:
        side = place(80, rim(80), 0.97 * lip(1) - 0.5 * wall)
        bottom_y = min(side[1] - rng.uniform(0.3, 0.5), -0.65)
        chin = np.array([0, bottom_y, -rng.uniform(0.25, 0.5) * deep])
        turn = np.array([0.42 * wide, bottom_y + 0.1, chin[2]])
        flip = np.array([-1.0, 1, 1])
        path = [side + np.array([0, 0.03, 0]), turn, chin, turn * flip, (side + np.array([0, 0.03, 0])) * flip]
        d.parts.append(tube(path, 0.03, second, 4, flat=0.45, across=(0, 0, 1)))
        if style == "cycle":
            rear = place(125, rim(125), 0.97 - 0.5 * wall)
            d.both(
                tube([rear + np.array([0, 0.03, 0]), 0.5 * (side + turn)], 0.025, second, 4, flat=0.5, across=(0, 0, 1))
            )
        d.mark("strap bottom", chin - np.array([0, 0.0135, 0]))

    if style in ("cycle", "hard hat") or rng.random() < 0.06:
        # Ridges over the shell, from the front to the back.
        count = {"cycle": int(rng.choice([3, 5])), "hard hat": int(rng.choice([1, 3]))}.get(str(style), 1)
        thick = rng.uniform(0.03, 0.05) if style == "cycle" else rng.uniform(0.025, 0.04)
        start, stop = (30, 158) if style != "cycle" else (max(rim(0), 0) + 12, 168)
        for share in np.linspace(0, 0.66 if style == "cycle" else 0.3, (count + 1) // 2):
            shrink = np.sqrt(1 - share**2)
            turn_angles = np.deg2rad(np.linspace(start, stop, 15))
            level = np.maximum(np.sin(turn_angles), 0)
            # The plane at this share of the width cuts the shell in a smaller copy of the middle one.
            line = np.stack(
                [
                    0 * level + share * wide,
                    shrink * tall * level,
                    -np.sign(np.cos(turn_angles)) * shrink * deep * np.abs(np.cos(turn_angles)) ** squareness,
                ],
                axis=1,
            )
            rib = tube(line, thick, second, 6, flat=1.3)
            if share:
                d.both(rib)
            else:
                d.parts.append(rib)
                d.mark("ridge front", line[0] + thick * 1.3 * _unit(line[0]))
                d.mark("ridge back", line[-1] + thick * 1.3 * _unit(line[-1]))
                d.mark("crown", line[np.argmax(line[:, 1])] + np.array([0, 1.3 * thick, 0]))
    return d


def _unit(way: Array) -> Array:
    return way / np.linalg.norm(way)


def _sheet(
    place: Place,
    angles: Sequence[float] | Array,
    low: Callable[[float], float],
    high: Callable[[float], float],
    scale: Callable[[float], float],
    thick: float,
    color: Array,
) -> list[Part]:
    """Bend a sheet around the head, in two strips, as each ring must be convex."""
    strips = []
    for a, b in ((0.0, 0.5), (0.5, 1.0)):
        rows = []
        for angle in angles:
            span = high(angle) - low(angle)
            rises = low(angle) + a * span, low(angle) + b * span
            outer = [place(angle, rise, scale(angle)) for rise in rises]
            inner = [place(angle, rise, scale(angle) - thick) for rise in rises[::-1]]
            rows.append([*outer, *inner])
        strips.append(Part(np.array(rows), color))
    return strips


def _visor(
    d: Design, place: Place, rng: np.random.Generator, bottom: float, top: float, cheek: float, metal: Array
) -> None:
    glass = np.array([45.0, 60, 80])
    end = cheek + rng.uniform(8, 18)
    middle = 0.5 * (bottom + top) - 4

    def narrow(angle: float) -> float:
        """Share of the height: 1 over the face, less towards the hinges."""
        return 1 - 0.55 * max(0.0, (abs(angle) - 0.6 * end) / (0.4 * end)) ** 2

    angles = np.linspace(-end, end, 17)
    scale = 1.045
    d.parts += _sheet(
        place,
        angles,
        lambda a: middle + (bottom - middle) * narrow(a),
        lambda a: middle + (top - middle) * narrow(a),
        lambda a: scale + 0.03 * np.cos(np.pi / 2 * a / end),
        0.04,
        glass,
    )
    d.mark("visor bottom", place(0, bottom, scale + 0.03))
    hub = place(end - 4, middle, 1.02)
    size = rng.uniform(0.045, 0.07)
    d.both(turned([(size, -0.05), (size, 0.03), (0.7 * size, 0.045)], hub, metal, sides=14))
    d.mark_both("hinge", hub + np.array([0.045, 0, 0]))


def _mask(
    d: Design, place: Place, rng: np.random.Generator, brow: float, low: float, cheek: float, metal: Array
) -> None:
    """Add the bars in front of a football player's face."""
    thick = rng.uniform(0.022, 0.03)
    jut = rng.uniform(1.12, 1.28)
    lowest = low - rng.uniform(6, 14)

    end = cheek + 6

    def point(angle: float, rise: float) -> Array:
        # The ends are fastened to the shell, which ends above the lowest bar.
        rise += max(0.0, low + 8 - rise) * (angle / end) ** 2
        return place(angle, rise, 0.99 + (jut - 0.99) * max(0.0, np.cos(np.pi / 2 * angle / end)) ** 0.7)

    rises = np.linspace(lowest, brow - rng.uniform(28, 40), int(rng.integers(2, 4)))
    for rise in rises:
        d.parts.append(tube([point(a, rise) for a in np.linspace(-end, end, 15)], thick, metal, 6, across=(0, 1, 0)))
    levels = np.linspace(rises[0], rises[-1], 7)
    if rng.random() < 0.5:
        d.parts.append(tube([point(0, rise) for rise in levels], thick, metal, 6))
    side = rng.uniform(22, 38)
    d.both(tube([point(side, rise) for rise in levels], thick, metal, 6))
    d.mark("chin", point(0, rises[0]) - np.array([0, 0, thick]))
