"""Cars: facing -z, so -x is the driver's left. The ids are this twin's own."""

from typing import NamedTuple

import numpy as np

from pcsa.datasets.procedural.shapes.design import Design, log_uniform, numbered, palette
from pcsa.datasets.procedural.shapes.solids import box, loft, prism, rounded, rounded_corner, tube, turned
from pcsa.datasets.procedural.types import Array

NAMES = numbered(
    """
    wheel front/back right/left, headlight right/left, tail light right/left, windscreen top/bottom right/left,
    roof back right/left, rear window bottom right/left, mirror right/left, spoiler right/left
    """
)


class _Style(NamedTuple):
    """A kind of car.

    Args:
        long: Length in meters.
        wide: Width.
        roof: Height of the roof.
        belt: Height of the windows' lower edge, as a share of `roof`.
        foot: Where the foot of the windscreen lies, as a share of the length; so are the next three.
        top_front: Front of the roof.
        top_back: Back of the roof.
        rear_foot: Foot of the rear window.
        hood: Height of the hood, as a share of the belt.
        deck: Height of what lies behind the rear window, as a share of the belt.
        share: The kind's share of all cars.
    """

    long: float
    wide: float
    roof: float
    belt: float
    foot: float
    top_front: float
    top_back: float
    rear_foot: float
    hood: float
    deck: float
    share: float


_STYLES = {
    "sedan": _Style(4.6, 1.75, 1.42, 0.64, 0.29, 0.43, 0.7, 0.85, 0.87, 0.97, 0.24),
    "hatchback": _Style(3.9, 1.7, 1.47, 0.63, 0.25, 0.41, 0.88, 0.97, 0.87, 1.0, 0.15),
    "estate": _Style(4.7, 1.78, 1.52, 0.63, 0.28, 0.41, 0.91, 0.975, 0.88, 1.0, 0.1),
    "jeep": _Style(4.3, 1.85, 1.85, 0.62, 0.28, 0.35, 0.95, 0.98, 0.97, 1.0, 0.13),
    "roadster": _Style(4.1, 1.75, 1.22, 0.68, 0.35, 0.47, 0.47, 0.75, 0.86, 0.97, 0.19),
    "pickup": _Style(5.2, 1.85, 1.75, 0.6, 0.27, 0.38, 0.55, 0.6, 0.95, 0.78, 0.08),
    "van": _Style(4.9, 1.9, 2.1, 0.52, 0.13, 0.28, 0.97, 0.985, 0.8, 1.0, 0.06),
    "bus": _Style(9.5, 2.4, 2.9, 0.45, 0.02, 0.035, 0.98, 0.985, 1.0, 1.0, 0.05),
}
_GLASS, _RUBBER, _RED = np.array([45.0, 60, 80]), np.array([35.0, 35, 40]), np.array([200.0, 40, 40])


def draw(rng: np.random.Generator) -> Design:
    """Draw a car."""
    d = Design()
    paint, second, lamp_color = palette(rng, 3)
    style = str(rng.choice(list(_STYLES), p=[kind.share for kind in _STYLES.values()]))
    kind = _STYLES[style]
    long = kind.long * log_uniform(rng, 0.88, 1.14)
    half = kind.wide / 2 * log_uniform(rng, 0.9, 1.1)
    roof = kind.roof * log_uniform(rng, 0.88, 1.14)
    belt = roof * kind.belt * rng.uniform(0.95, 1.05)
    radius = log_uniform(rng, 0.29, 0.38) * (1.3 if style in ("jeep", "bus") else 1.0)
    radius = min(radius, 0.42 * belt * min(kind.hood, kind.deck))  # the wheels stay below the hood
    clearance = radius * rng.uniform(0.45, 0.8)
    boxy = style in ("jeep", "van", "bus")
    swell = rng.uniform(0.02, 0.1) if boxy else rng.uniform(0.08, 0.26)  # how far the ends taper
    lean = rng.uniform(-0.02, 0.02)
    foot, top_front, top_back, rear_foot = kind.foot + lean, kind.top_front + lean, kind.top_back, kind.rear_foot

    def at(share: float) -> float:
        return long * (share - 0.5)

    # The body is lofted along its length: place, share of the width, bottom, top.
    hood, deck = kind.hood * belt, kind.deck * belt
    nose = hood * (rng.uniform(0.85, 0.97) if boxy else rng.uniform(0.68, 0.85))
    stern = deck * rng.uniform(0.86, 0.98)
    full = min(0.16, 0.75 / long)  # the ends taper over three quarters of a meter
    rise = 0.15 * (belt - clearance)
    stations = [
        (0.0, 1 - swell, clearance + rise, nose - 0.03),
        (0.2 * full, 1 - 0.5 * swell, clearance + 0.2 * rise, nose),
        (full, 1.0, clearance, max(nose, 0.4 * nose + 0.6 * hood)),
        (max(foot, 1.1 * full), 1.0, clearance, max(hood, 0.98 * belt) if foot > 0.1 else belt),
        (max(foot, 1.1 * full) + 0.05, 1.0, clearance, belt),
        (rear_foot - 0.06, 1.0, clearance, belt),
        (min(rear_foot, 1 - 0.9 * full), 1.0, clearance, deck),
        (1 - 0.2 * full, 1 - 0.35 * swell, clearance + 0.2 * rise, deck if style == "pickup" else stern),
        (1.0, 1 - 0.6 * swell, clearance + rise, stern - 0.03),
    ]
    tuck, edge = rng.uniform(0.92, 0.98), rng.uniform(0.04, 0.12)
    sections = []
    for share, width, low, high in stations:
        outline = rounded(width * half * 0.96, width * half * tuck, (high - low) / 2, min(edge, 0.3 * (high - low)))
        sections.append((outline + np.array([0, (high + low) / 2]), at(share)))
    d.parts.append(loft(sections, paint))
    sill = clearance + 0.2 * (belt - clearance)
    d.parts.append(box((-half * 0.985, sill, at(2 * full)), (half * 0.985, sill + 0.12, at(1 - 2 * full)), second))

    _cabin(d, rng, style, half * tuck, belt, roof, [at(s) for s in (foot, top_front, top_back, rear_foot)], paint)

    axles = -long / 2 + rng.uniform(0.72, 0.95) * (2.2 if style == "bus" else 1.0), long / 2 - rng.uniform(0.75, 1.0)
    tread = log_uniform(rng, 0.09, 0.13)
    for name, z in (("front", axles[0]), ("back", axles[1] - (1.0 if style == "bus" else 0.0))):
        x = half - 0.7 * tread
        arch = 1.2 * radius
        d.both(turned([(arch, -0.1), (arch, 0.06)], (half - 0.05, radius, z), second, sides=24))
        tire = [(0.85, -1.0), (1.0, -0.7), (1.0, 0.7), (0.85, 1.0)]
        d.both(turned([(r * radius, s * tread) for r, s in tire], (x, radius, z), _RUBBER, sides=24))
        d.both(turned([(0.62 * radius, 0), (0.55 * radius, 1.25 * tread)], (x, radius, z), lamp_color))
        d.mark_both(f"wheel {name}", (x + 1.25 * tread, radius, z))

    round_lamps = rng.random() < 0.45
    size = rng.uniform(0.09, 0.13)
    at_x = half * (1 - swell) * 0.96 - 1.3 * size
    y = min(nose - 0.03 - 1.3 * size, clearance + rise + 0.75 * (nose - clearance - rise))
    front = at(0) - 0.04
    if round_lamps:
        shape = [(size, 0.5), (size, 0.02), (0.7 * size, 0)]
        d.both(turned(shape, (at_x, y, front), lamp_color, axis=2))
    else:
        d.both(
            box((at_x - 1.3 * size, y - 0.7 * size, front), (at_x + 1.2 * size, y + 0.7 * size, at(0.1)), lamp_color)
        )
    d.mark_both("headlight", (at_x, y, front))
    upright = boxy or style in ("estate", "pickup")
    wide_lamp, tall_lamp = (0.08, 0.16) if upright else (0.17, 0.08)
    at_x = half * (1 - 0.6 * swell) * 0.94 - wide_lamp
    y = clearance + rise + 0.72 * (stern - clearance - rise)
    back = at(1) + 0.04
    d.both(
        box(
            (at_x - wide_lamp, y - tall_lamp, at(0.95)),
            (at_x + wide_lamp, min(y + tall_lamp, stern - 0.04), back),
            _RED,
        )
    )
    d.mark_both("tail light", (at_x, y, back))
    for sign in (-1, 1):  # bumpers
        z = at(0.5 + 0.5 * sign)
        low = clearance + 0.9 * rise
        share = (1 - swell) if sign < 0 else (1 - 0.6 * swell)
        d.parts.append(box((-half * share, low, z + sign * 0.09), (half * share, low + 0.16, z - sign * 0.1), second))

    if rng.random() < 0.72:
        z = at(foot) + 0.25 * (at(top_front) - at(foot))
        arm, y = half * tuck + rng.uniform(0.1, 0.16), belt + 0.12
        big = log_uniform(rng, 0.09, 0.13)
        d.both(tube([(half * tuck - 0.2, belt - 0.06, z + 0.1), (arm, y, z)], 0.035, second))
        case = [(0.5, -0.1), (1.0, -0.02), (0.9, 0.06)]
        d.both(turned([(r * big, s) for r, s in case], (arm, y, z), paint, axis=2, sides=10))
        d.mark_both("mirror", (arm, y, z + 0.06))

    if style == "pickup":
        wall, bed = 0.09, at(rear_foot) - 0.05
        d.both(box((half * 0.98 - wall, deck - 0.1, bed), (half * 0.98, belt, at(1) - 0.02), paint))
        d.parts.append(box((-half * 0.97, deck - 0.1, at(1) - 0.12), (half * 0.97, belt - 0.02, at(1) - 0.03), paint))

    wing_odds = {"sedan": 0.45, "roadster": 0.5, "hatchback": 0.5, "estate": 0.2, "jeep": 0.15}
    if rng.random() < wing_odds.get(style, 0.0):
        span, chord = half * rng.uniform(0.72, 0.95), rng.uniform(0.16, 0.3)
        if style in ("sedan", "roadster"):
            y, z = deck + rng.uniform(0.1, 0.3), at(1) - rng.uniform(0.1, 0.25)
            d.both(box((0.7 * span, stern - 0.15, z - 0.12), (0.7 * span + 0.05, y + 0.01, z - 0.02), second))
        else:
            # Within the corners of the roof, which it would hide.
            span *= 0.64
            y, z = roof - 0.04, at(top_back) + 0.12
        d.parts.append(box((-span, y, z - chord), (span, y + 0.05, z + 0.04), second))
        d.mark_both("spoiler", (span, y + 0.025, z + 0.04))
    return d


def _cabin(
    d: Design,
    rng: np.random.Generator,
    style: str,
    half: float,
    belt: float,
    roof: float,
    places: list[float],
    paint: Array,
) -> None:
    """Add windows and roof; `places` are those of the windscreen's foot and top, of the rear window's top and foot."""
    (seat,) = palette(rng, 1)
    foot, top_front, top_back, rear_foot = places
    under = half * 0.93
    narrow = under * (rng.uniform(0.93, 0.98) if style in ("jeep", "van", "bus") else rng.uniform(0.74, 0.86))
    if style == "roadster":
        thick = 0.06
        base = np.array([(-under, foot), (under, foot), (under, foot + thick), (-under, foot + thick)])
        x, z = narrow * 1.05, top_front
        head = np.array([(-x, z), (x, z), (x, z + thick), (-x, z + thick)])
        slope = head - base
        d.parts.append(loft([(base - 0.15 * slope, belt - 0.15 * (roof - belt)), (head, roof)], _GLASS, axis=1))
        d.mark_both("windscreen top", (x, roof, z + thick / 2))
        d.mark_both("windscreen bottom", (under, belt, foot))
        at_z = top_front + 0.55 * (rear_foot - top_front)
        x, high = 0.5 * half, belt + (roof - belt) * rng.uniform(0.4, 0.9)
        d.both(tube([(x, belt - 0.1, at_z), (x, high, at_z + 0.12)], [0.26, 0.17], seat, 4, flat=0.35))
        if rng.random() < 0.5:  # the folded top
            fold = prism(rounded(0.8 * half, 0.75 * half, 0.2, 0.1), (belt - 0.1, belt + 0.12), (1, 0.85), seat)
            fold.rings[..., 2] += rear_foot - 0.2
            d.parts.append(fold)
        return

    def plan(width_front: float, width_back: float, front: float, back: float, corner: float) -> Array:
        return rounded(width_front, width_back, (back - front) / 2, corner) + np.array([0, (front + back) / 2])

    corner = rng.uniform(0.03, 0.1)
    base = plan(under, under, foot, rear_foot, corner)
    head = plan(narrow, narrow * 0.97, top_front, top_back, corner)
    slope = (head - base) / (roof - belt)
    eaves = roof - 0.05
    window_top = base + slope * (eaves - belt)
    d.parts.append(loft([(base - slope * 0.15, belt - 0.15), (base, belt), (window_top, eaves)], _GLASS, axis=1))
    crown = head * (0.85, 1)
    d.parts.append(loft([(window_top, eaves - 0.04), (head, roof - 0.02), (crown, roof)], paint, axis=1))
    x, z = rounded_corner(narrow, -(top_back - top_front) / 2, corner)
    middle = (top_front + top_back) / 2
    d.mark_both("windscreen top", (x, roof - 0.02, middle + z))
    x, z = rounded_corner(narrow * 0.97, (top_back - top_front) / 2, corner)
    d.mark_both("roof back", (x, roof - 0.02, middle + z))
    x, z = rounded_corner(under, (rear_foot - foot) / 2, corner)
    d.mark_both("windscreen bottom", (x, belt, (foot + rear_foot) / 2 - z))
    if style not in ("pickup", "van"):
        d.mark_both("rear window bottom", (x, belt, (foot + rear_foot) / 2 + z))

    # Pillars in the body's color divide the band of glass.
    bar = 0.045
    ends = [(foot, top_front), (rear_foot, top_back)]
    doors = {"bus": 6, "van": 1, "estate": 2, "jeep": 2, "sedan": 1, "hatchback": 1, "pickup": 1}[style]
    ends += [
        (foot + (rear_foot - foot) * t, top_front + (top_back - top_front) * t)
        for t in np.linspace(0.12 if style == "bus" else 0.0, 1.0, doors + 2)[1:-1]
    ]
    for low, high in ends:
        inset = np.sign(low - (foot + rear_foot) / 2) * 0.03 if low in (foot, rear_foot) else 0.0
        path = [(under - 0.01, belt - 0.05, low - inset), (narrow - 0.01, roof - 0.05, high - inset)]
        d.both(tube(path, bar, paint, 4))
    if style == "van" and rng.random() < 0.6:  # a delivery van has no windows behind the seats
        split = foot + 0.3 * (rear_foot - foot)
        split_top = top_front + 0.22 * (top_back - top_front)
        lower = plan(under + 0.02, under + 0.02, split, rear_foot + 0.02, 0.05)
        upper = plan(narrow + 0.02, narrow + 0.02, split_top, top_back + 0.02, 0.05)
        d.parts.append(loft([(lower, belt - 0.1), (upper, roof - 0.03)], paint, axis=1))
