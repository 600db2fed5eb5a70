"""Motorcycles: facing -z, so -x is the rider's left. The ids are this twin's own."""

import numpy as np

from pcsa.datasets.procedural.shapes.design import Design, log_uniform, numbered, palette
from pcsa.datasets.procedural.shapes.solids import box, hoop, loft, rounded, spindle, tube, turned
from pcsa.datasets.procedural.types import Array

NAMES = numbered(
    """
    front/back axle right/left, front/back wheel bottom, handle end right/left, headlight, tail light, tank top,
    windshield top, mirror right/left, peg right/left, exhaust end right/left, pannier right/left
    """
)

_RUBBER, _GLASS, _RED = np.array([35.0, 35, 40]), np.array([90.0, 120, 150]), np.array([200.0, 40, 40])
_SHARES = {"standard": 0.18, "cruiser": 0.19, "sport": 0.16, "touring": 0.18, "dirt": 0.11, "scooter": 0.18}


def draw(rng: np.random.Generator) -> Design:
    """Draw a motorcycle."""
    d = Design()
    paint, metal, dark = palette(rng, 3)
    style = str(rng.choice(list(_SHARES), p=list(_SHARES.values())))
    # In meters, before the shape is normalized.
    base = log_uniform(rng, 1.25, 1.55) * {"cruiser": 1.12, "touring": 1.1, "scooter": 0.88}.get(style, 1.0)
    radius = log_uniform(rng, 0.28, 0.34) * {"scooter": 0.75, "dirt": 1.1}.get(style, 1.0)
    fatness = {"cruiser": 1.3, "touring": 1.25, "sport": 1.15, "dirt": 0.85}
    tire = log_uniform(rng, 0.045, 0.06) * fatness.get(style, 1.0)
    fork = max(2.0 * tire, 0.1)  # half the distance of its legs
    front_z, back_z = -0.5 * base, 0.5 * base
    spoked = style in ("dirt", "cruiser") or rng.random() < 0.4
    for name, z in (("front", front_z), ("back", back_z)):
        big = radius * (1.12 if name == "front" and style in ("dirt", "cruiser") else 1.0)
        thick = tire * (1.25 if name == "back" else 1.0)
        center = np.array([0, big, z])
        d.parts += hoop(center, big - thick, thick, _RUBBER)
        d.parts.append(turned([(0.055, -0.07), (0.055, 0.07)], center, metal, sides=12))
        if spoked:
            for angle in np.linspace(0, 2 * np.pi, 9)[:-1]:
                end = center + (big - thick) * np.array([0, np.cos(angle), np.sin(angle)])
                d.parts.append(tube([center, end], 0.012, metal, 4))
        else:
            d.parts.append(turned([(big - 1.5 * thick, -0.018), (big - 1.5 * thick, 0.018)], center, metal))
        half = fork + 0.05
        d.parts.append(tube([(-half, big, z), (half, big, z)], 0.024, metal, 8, across=(0, 1, 0)))
        d.mark_both(f"{name} axle", (half, big, z))
        d.mark(f"{name} wheel bottom", (0, 0, z))
        if name == "front":
            front_axle = center

    # The fork leans back from the front axle to the steering head.
    chopped = style == "cruiser" and rng.random() < 0.5
    rake = np.deg2rad(rng.uniform(36, 46) if chopped else rng.uniform(22, 31))
    lift = {"scooter": 0.9, "dirt": 1.05, "cruiser": 0.88}.get(style, 0.92) * rng.uniform(0.95, 1.08) - front_axle[1]
    way = np.array([0, 1, np.tan(rake)])
    head = front_axle + lift * way
    side = np.array([fork, 0, 0])
    top = head + 0.08 * way
    d.both(tube([front_axle + side, top + side], 0.03, metal))
    d.parts.append(tube([head - side, head + side], 0.035, metal, 6, across=(0, 1, 0)))
    d.parts.append(tube([top - 1.2 * side, top + 1.2 * side], 0.03, metal, 6, across=(0, 1, 0)))

    # Handlebar.
    rise = {
        "sport": rng.uniform(-0.03, 0.03),
        "cruiser": rng.choice([rng.uniform(0.08, 0.15), rng.uniform(0.25, 0.4)]),
    }.get(style, rng.uniform(0.06, 0.15))
    reach, pull = rng.uniform(0.32, 0.42), rng.uniform(0.06, 0.18)
    bend = top + np.array([0.6 * reach, rise, 0.2 * pull])
    grip = top + np.array([reach, rise - 0.01, pull])
    out = (grip - bend) / np.linalg.norm(grip - bend)
    d.both(tube([top + 0.5 * side, bend, grip], 0.02, metal, 8, across=(0, 1, 0)))
    d.both(tube([grip - 0.03 * out, grip + 0.12 * out], 0.028, dark, 8, across=(0, 1, 0)))
    d.mark_both("handle end", grip + 0.12 * out)
    if rng.random() < (0.25 if style == "dirt" else 0.75):
        foot = bend + 0.6 * (grip - bend)
        glass = foot + np.array([0.06, rng.uniform(0.12, 0.2), rng.uniform(-0.06, 0.02)])
        d.both(tube([foot, glass], 0.014, dark, 6))
        size = log_uniform(rng, 0.045, 0.06)
        case = [(0.5 * size, -0.04), (size, 0.0), (size, 0.02)]
        d.both(turned(case, glass, dark, 2, 12))
        d.mark_both("mirror", glass + np.array([0, 0, 0.02]))

    seat_y = {"cruiser": 0.7, "sport": 0.83, "dirt": 0.93, "scooter": 0.78}.get(style, 0.8) * rng.uniform(0.95, 1.05)
    if style == "scooter":
        _scooter(d, rng, front_axle, radius, head, back_z, seat_y, paint, dark)
    else:
        _machine(d, rng, style, radius, head, back_z, seat_y, paint, metal, dark)

    _lamp_and_shield(d, rng, style, head, top, paint, metal)
    arc = np.deg2rad(np.linspace(-35, 75, 9) if style != "dirt" else np.linspace(-45, 25, 6))
    gap = front_axle[1] + (0.03 if style != "dirt" else 0.12)
    # From ahead of the fork to behind it; a dirt bike's mudguard is high above the wheel.
    guard = front_axle + gap * np.stack([0 * arc, np.cos(arc), np.sin(arc)], axis=1)
    d.parts.append(tube(guard, 1.35 * tire, paint, 4, flat=0.2))
    return d


def _machine(
    d: Design,
    rng: np.random.Generator,
    style: str,
    radius: float,
    head: Array,
    back_z: float,
    seat_y: float,
    paint: Array,
    metal: Array,
    dark: Array,
) -> None:
    """Add all between the wheels of a motorcycle that is no scooter."""
    long = back_z - head[2]  # from the steering head to the back axle
    engine_z = head[2] + rng.uniform(0.36, 0.44) * long
    seat_front = head[2] + rng.uniform(0.5, 0.56) * long
    sill = rng.uniform(0.16, 0.22) + (0.1 if style == "dirt" else 0.0)
    wide = rng.uniform(0.14, 0.19) * (0.75 if style == "dirt" else 1.0)
    tank_y = max(seat_y + 0.08, head[1] - rng.uniform(0.02, 0.08))

    # Crank case and cylinders.
    case = rounded(0.2, 0.24, 0.13, 0.06)[:, ::-1] + np.array([sill + 0.13, engine_z])
    d.parts.append(loft([(case, -wide), (case, wide)], metal, axis=0))
    twin = style == "cruiser" or rng.random() < 0.25
    for lean in (-26.0, 26.0) if twin else (-8.0,):
        up = np.array([0, np.cos(np.deg2rad(lean)), np.sin(np.deg2rad(lean))])
        start = np.array([0, sill + 0.2, engine_z])
        stop = start + (tank_y - 0.16 - start[1]) * up
        d.parts.append(tube([start, stop], 0.11 if twin else 0.13, dark, 8 if twin else 4, flat=1.0 if twin else 0.8))
        for share in (0.45, 0.65, 0.85):  # cooling fins
            at = start + share * (stop - start)
            d.parts.append(tube([at - 0.012 * up, at + 0.012 * up], 0.14 if twin else 0.16, metal, 8 if twin else 4))

    # Frame.
    under = np.array([0.05, sill + 0.05, engine_z - 0.16])
    d.both(tube([head + np.array([0.02, -0.06, 0]), under], 0.024, paint))
    pivot = np.array([0.1, sill + 0.16, engine_z + 0.24])
    d.both(tube([pivot, (0.13, radius, back_z)], 0.03, metal, 4))
    tail_z = back_z + rng.uniform(-0.12, 0.12)
    tail_y = seat_y + {"sport": rng.uniform(0.08, 0.18), "dirt": 0.03}.get(style, rng.uniform(-0.02, 0.06))
    rail = [(0.06, tank_y - 0.12, engine_z - 0.1), (0.08, seat_y - 0.1, seat_front), (0.08, tail_y - 0.08, tail_z)]
    d.both(tube(rail, 0.024, paint))
    d.both(tube([pivot, (0.08, seat_y - 0.1, seat_front + 0.12)], 0.024, paint))
    damper = [(0.14, radius + 0.02, back_z - 0.02), (0.12, seat_y - 0.1, back_z - rng.uniform(0.16, 0.26))]
    d.both(tube(damper, 0.03, dark))

    # Tank and seat.
    fat, tall = rng.uniform(0.12, 0.17) * (0.75 if style == "dirt" else 1.0), rng.uniform(0.1, 0.14)
    start, stop = head[2] + 0.05, seat_front + 0.06
    shape = [(0.0, 0.35), (0.15, 0.8), (0.4, 1.0), (0.7, 0.85), (0.9, 0.55), (1.0, 0.3)]
    tank = [
        ((0, tank_y - tall + 0.05 - 0.12 * max(0.0, t - 0.4), start + t * (stop - start)), fat * s, tall * s)
        for t, s in shape
    ]
    d.parts.append(spindle(tank, paint))
    d.mark("tank top", (0, tank_y + 0.05, start + 0.4 * (stop - start)))
    pad, hump = rng.uniform(0.11, 0.15), rng.uniform(0.04, 0.07)
    rows = [
        (seat_front - 0.08, seat_y + 0.02, 0.6),
        (seat_front + 0.12, seat_y, 1.0),
        (0.5 * (seat_front + tail_z) + 0.06, seat_y + 0.3 * (tail_y - seat_y), 1.1),
        (0.4 * seat_front + 0.6 * tail_z, 0.3 * seat_y + 0.7 * tail_y + hump * 0.5, 0.95),
        (tail_z, tail_y + hump * 0.5, 0.6),
    ]
    sections = [(rounded(pad * w, 0.8 * pad * w, 0.05, 0.03) + np.array([0, y - 0.05]), z) for z, y, w in rows]
    d.parts.append(loft(sections, dark))
    tail = [
        (rounded(pad * w, 0.9 * pad * w, 0.05, 0.02) + np.array([0, tail_y - 0.08 + 0.02 * k]), z)
        for k, (z, w) in enumerate(((tail_z - 0.3, 0.6), (tail_z - 0.05, 0.9), (tail_z + 0.07, 0.55)))
    ]
    d.parts.append(loft(tail, paint))
    lamp = np.array([0, tail_y - 0.045, tail_z + 0.1])
    d.parts.append(box(lamp - np.array([0.06, 0.03, 0.05]), lamp + np.array([0.06, 0.03, 0]), _RED))
    d.mark("tail light", lamp)
    if style in ("cruiser", "standard", "touring"):
        arc = np.deg2rad(np.linspace(-50, 85 if style != "standard" else 60, 9))
        gap = radius + 0.035
        guard = np.array([0, radius, back_z]) + gap * np.stack([0 * arc, np.cos(arc), np.sin(arc)], axis=1)
        d.parts.append(tube(guard, 0.1, paint, 4, flat=0.15))

    # Pegs, pipes and luggage.
    peg_z = engine_z + (-0.3 if style == "cruiser" else 0.2)
    peg = np.array([wide + rng.uniform(0.17, 0.22), sill + rng.uniform(0.06, 0.14), peg_z])
    d.both(tube([peg * (0.25, 1, 1), peg], 0.022, dark, 6, across=(0, 1, 0)))
    d.mark_both("peg", peg)
    pipe_x = wide + 0.03
    high = style == "dirt" or (style == "sport" and rng.random() < 0.6)
    end_y = tail_y - 0.16 if high else radius + rng.uniform(-0.08, 0.08)
    end = np.array([pipe_x + 0.02, end_y, back_z + rng.uniform(-0.2, 0.15)])
    knee = np.array([pipe_x, sill + (0.3 if style == "dirt" else 0.04), engine_z - 0.05])
    middle = np.array([pipe_x, 0.5 * knee[1] + 0.5 * end[1] if high else knee[1] + 0.02, engine_z + 0.28])
    port = [(0.08, sill + 0.32, engine_z - 0.12), (pipe_x - 0.02, sill + 0.2, engine_z - 0.2)]
    pipe = tube([*port, knee, middle], 0.028, metal)
    run = end - middle
    muffler = tube([middle - 0.02 * run, middle + 0.2 * run, end], [0.032, 0.055, 0.055], metal, 10)
    if rng.random() < 0.6:
        d.both(pipe)
        d.both(muffler)
        d.mark_both("exhaust end", end)
    else:
        d.parts += [pipe, muffler]
    if style == "touring" or (style in ("standard", "cruiser") and rng.random() < 0.2):
        x, z, y = 0.16, back_z + rng.uniform(-0.12, 0.02), rng.uniform(0.2, 0.26)
        low = np.array([x, seat_y - 0.12 - y, z - 0.2])
        far = np.array([rng.uniform(0.28, 0.36), seat_y - 0.06, z + 0.22])
        d.both(box(low, far, paint))
        d.both(box((0.05, seat_y - 0.13, z - 0.03), (x + 0.02, seat_y - 0.1, z + 0.03), dark))
        d.mark_both("pannier", far)


def _scooter(
    d: Design,
    rng: np.random.Generator,
    front_axle: Array,
    radius: float,
    head: Array,
    back_z: float,
    seat_y: float,
    paint: Array,
    dark: Array,
) -> None:
    """Add a leg shield, a floor and a body over the engine."""
    wide = rng.uniform(0.19, 0.25)
    floor = radius + rng.uniform(0.06, 0.12)
    shield_z = max(head[2] + 0.03, front_axle[2] + radius + 0.06)
    slant = shield_z - head[2] + 0.08
    upper = np.array([head[1] - 0.02, head[2] - 0.05])

    def plate(y: float, z: float, half: float) -> tuple[Array, float]:
        return np.array([(-half, z), (half, z), (half, z + 0.05), (-half, z + 0.05)]), y

    rows = [
        plate(floor - 0.06, shield_z, 0.85 * wide),
        plate(0.5 * (floor + upper[0]), upper[1] + 0.45 * slant, wide),
        plate(upper[0], upper[1] + 0.06, 0.55 * wide),
    ]
    d.parts.append(loft(rows, paint, axis=1))
    body_z = 0.35 * shield_z + 0.65 * back_z - rng.uniform(0.22, 0.3)
    d.parts.append(box((-0.8 * wide, floor - 0.07, shield_z), (0.8 * wide, floor, body_z + 0.1), dark))
    end = back_z + rng.uniform(0.18, 0.28)
    rows = []
    for share, width, low, high in (
        (0.0, 0.5, floor - 0.05, seat_y - 0.12),
        (0.25, 0.8, floor - 0.05, seat_y - 0.04),
        (0.6, 1.0, floor, seat_y - 0.04),
        (0.85, 0.85, floor + 0.12, seat_y - 0.03),
        (1.0, 0.4, floor + 0.24, seat_y - 0.05),
    ):
        outline = rounded(width * wide, 0.8 * width * wide, (high - low) / 2, 0.05)
        rows.append((outline + np.array([0, (low + high) / 2]), body_z + share * (end - body_z)))
    d.parts.append(loft(rows, paint))
    pad = [
        (rounded(0.14 * w, 0.12 * w, 0.055, 0.04) + np.array([0, seat_y - 0.02 + y]), body_z + t * (end - body_z))
        for t, w, y in ((0.05, 0.6, 0.0), (0.2, 1.0, 0.0), (0.55, 1.1, 0.01), (0.62, 1.0, 0.03), (0.95, 0.7, 0.02))
    ]
    d.parts.append(loft(pad, dark))
    lamp = np.array([0, 0.5 * (floor + 0.24 + seat_y), end + 0.03])
    d.parts.append(box(lamp - np.array([0.06, 0.035, 0.08]), lamp + np.array([0.06, 0.035, 0]), _RED))
    d.mark("tail light", lamp)
    d.both(tube([(0.12, floor + 0.02, body_z + 0.2), (0.11, radius, back_z)], 0.035, dark, 4))


def _lamp_and_shield(
    d: Design, rng: np.random.Generator, style: str, head: Array, top: Array, paint: Array, metal: Array
) -> None:
    """Add the headlight, and perhaps what stands around and above it."""
    size = log_uniform(rng, 0.075, 0.105)
    if style == "sport" or (style == "touring" and rng.random() < 0.6):
        nose = head + np.array([0, 0.0, -rng.uniform(0.26, 0.34)])
        wide, tall = rng.uniform(0.19, 0.25), rng.uniform(0.15, 0.2)
        rows = [(0.0, 0.35, 0.35), (0.2, 0.7, 0.75), (0.6, 1.0, 1.0), (1.0, 1.0, 0.95)]
        depth = 0.34
        fairing = [((0, nose[1] - 0.06 * t, nose[2] + t * depth), wide * w, tall * h) for t, w, h in rows]
        d.parts.append(spindle(fairing, paint))
        if style == "sport":
            # The lower fairing hides the engine's sides.
            y, z = head[1] - 0.1, nose[2]
            belly = np.array([(y, z + 0.2), (y, z + 0.46), (0.3, z + 0.8), (0.24, z + 0.5)])
            d.both(loft([(belly, wide * 0.86), (belly, wide)], paint, axis=0))
        size *= 0.75
        front = nose[2] - 0.02
        d.parts.append(turned([(size, 0), (size, 0.06)], (0, nose[1], front), _GLASS, 2, 14))
        d.mark("headlight", (0, nose[1], front))
        foot, lean = np.array([0, nose[1] + 0.6 * tall, nose[2] + 0.35 * depth]), rng.uniform(0.7, 1.3)
    else:
        lamp = head + np.array([0, 0.02 if style != "scooter" else 0.06, -0.13])
        bowl = [(0.4, 0.14), (0.85, 0.08), (1.0, 0.0)]
        d.parts.append(turned([(s * size, z) for s, z in bowl], lamp, metal, 2, 16))
        d.parts.append(turned([(0.85 * size, -0.012), (0.9 * size, 0.01)], lamp, _GLASS, 2, 16))
        d.parts.append(box(lamp - np.array([0.02, 0.03, 0.0]), lamp + np.array([0.02, 0.03, 0.14]), metal))
        d.mark("headlight", lamp - np.array([0, 0, 0.012]))
        foot = np.array([0, lamp[1] + 0.8 * size, lamp[2] + 0.02])
        wide, lean = rng.uniform(0.16, 0.22), rng.uniform(0.3, 0.7)
        if style == "dirt" and rng.random() < 0.6:  # a number plate around the lamp
            d.parts.append(box(lamp + np.array([-0.11, -0.13, 0.0]), lamp + np.array([0.11, 0.16, 0.02]), paint))
    odds = {"sport": 0.8, "touring": 0.85, "scooter": 0.35, "cruiser": 0.25, "standard": 0.2, "dirt": 0.0}
    if rng.random() >= odds[style]:
        return
    high = rng.uniform(0.16, 0.24) if style == "sport" else rng.uniform(0.26, 0.42)
    panes = []
    for share, narrow in ((0.0, 1.0), (0.5, 0.92), (1.0, 0.6)):
        half, z = wide * narrow, foot[2] + lean * high * share
        pane = np.array([(-half, z + 0.06), (0, z), (half, z + 0.06), (half, z + 0.08), (-half, z + 0.08)])
        panes.append((pane, foot[1] - 0.03 + (high + 0.03) * share))
    d.parts.append(loft(panes, _GLASS, axis=1))
    d.mark("windshield top", (0, foot[1] + high, foot[2] + lean * high))
    if style != "sport":
        # Stays, where the shield does not rise from a fairing.
        held = foot + np.array([0.6 * wide, 0.4 * high, 0.4 * lean * high + 0.06])
        d.both(tube([(0.09, top[1] - 0.02, top[2]), held], 0.014, metal, 6))
