"""Tables: the front is at -z. The ids are this twin's own."""

import numpy as np

from pcsa.datasets.procedural.shapes.design import AROUND, CORNERS, ENDS, Design, Point, log_uniform, numbered, palette
from pcsa.datasets.procedural.shapes.solids import box, ellipse, prism, revolved, rounded, rounded_corner, tube

NAMES = numbered(
    """
    top front right/left, top back left/right, foot front right/left, foot back left/right, rim right/front/left/back,
    shelf front right/left, shelf back left/right, base right/front/left/back
    """
)


def draw(rng: np.random.Generator) -> Design:
    """Draw a table."""
    d = Design()
    top_color, leg_color, extra_color = palette(rng, 3)
    plan = rng.choice(["rectangle", "square", "round", "oval"], p=[0.5, 0.12, 0.23, 0.15])
    x = log_uniform(rng, 0.25, 0.8)  # half the length
    z = x if plan in ("square", "round") else x * log_uniform(rng, 0.35, 0.9)
    height = log_uniform(rng, 0.3, 0.9)
    thick = log_uniform(rng, 0.012, 0.08)
    curved = plan in ("round", "oval")
    # Half an extent that legs keep within: the corners, or 45 degrees on the ellipse.
    reach = np.array([x, z]) * (np.sqrt(0.5) if curved else 1.0)

    if curved:
        outline = ellipse(32) * (x, z)
        d.mark_around("rim", x, z, height)
    else:
        corner = rng.choice([0.0, rng.uniform(0.05, 0.3)]) * z
        outline = rounded(x, x, z, corner)
        for name, edge in (("front", -z), ("back", z)):
            d.mark_both(f"top {name}", np.insert(rounded_corner(x, edge, corner), 1, height))
    under = rng.choice([1.0, rng.uniform(0.9, 1.0)])
    d.parts.append(prism(outline, (height - thick, height), (under, 1), top_color))

    style = rng.choice(["legs", "pedestal", "feet", "trestle"], p=[0.5, 0.2, 0.12, 0.18])
    if curved and style == "trestle":
        style = "pedestal"
    bar = min(log_uniform(rng, 0.012, 0.05), 0.15 * z)
    turned = True  # a half turn maps the shape to itself
    if style == "legs":
        inset = rng.uniform(0.75, 0.97)
        splay = max(1.0, rng.uniform(0.85, 1.15))
        slim = rng.uniform(0.4, 1.0)
        sides = int(rng.choice([4, 10]))
        at = reach * inset - bar
        for name, sign in ENDS:
            foot = np.array([at[0] * splay, 0.0, sign * at[1] * splay])
            leg: list[Point] = [foot, (at[0], height - thick / 2, sign * at[1])]
            d.both(tube(leg, [bar * slim, bar], leg_color, sides))
            d.mark_both(f"foot {name}", foot)
        if rng.random() < 0.4:  # an apron under the top
            low = height - thick - rng.uniform(0.04, 0.15) * height
            for sign in (-1, 1):
                near, far = sign * (at[1] - bar / 2), sign * (at[1] + bar / 2)
                d.parts.append(box((-at[0], low, near), (at[0], height - thick / 2, far), leg_color))
            d.both(box((at[0] - bar / 2, low, -at[1]), (at[0] + bar / 2, height - thick / 2, at[1]), leg_color))
        if rng.random() < 0.35:
            share = rng.uniform(0.15, 0.6)
            y = share * (height - thick)
            sx, sz = (at * (splay + (1 - splay) * y / (height - thick / 2)) + bar) * rng.uniform(1.0, 1.04)
            d.parts.append(box((-sx, y - 0.4 * bar, -sz), (sx, y + 0.4 * bar, sz), extra_color))
            for name, sign in ENDS:
                d.mark_both(f"shelf {name}", (sx, y + 0.4 * bar, sign * sz))
        elif not curved and rng.random() < 0.35:  # drawers under one end
            side = rng.choice([-1, 1])
            end, inner = side * at[0], side * at[0] * rng.uniform(0.1, 0.6)
            low = height * rng.uniform(0.1, 0.75)
            d.parts.append(box((end, low, -at[1]), (inner, height - thick / 2, at[1]), extra_color))
            turned = False
    elif style == "trestle":
        at_x, foot_z = x * rng.uniform(0.55, 0.9), z * rng.uniform(0.7, 0.97)
        wide = z * rng.uniform(0.15, 0.7)
        d.both(box((at_x - bar / 2, bar, -wide), (at_x + bar / 2, height - thick / 2, wide), leg_color))
        d.both(box((at_x - bar, 0, -foot_z), (at_x + bar, 2 * bar, foot_z), leg_color))
        y = rng.uniform(0.2, 0.7) * height
        d.parts.append(box((-at_x, y, -bar / 2), (at_x, y + 2 * bar, bar / 2), leg_color))
        for name, sign in ENDS:
            d.mark_both(f"foot {name}", (at_x, 0, sign * foot_z))
    else:
        stem = log_uniform(rng, 0.02, 0.08)
        waist = stem * rng.uniform(0.6, 1.6)
        profile = [(stem, 0.02), (waist, 0.5 * height), (stem, height - thick / 2)]
        if style == "pedestal":
            radius = max(reach.min() * log_uniform(rng, 0.45, 1.0), 1.5 * max(stem, waist))
            plate, cone = log_uniform(rng, 0.01, 0.05), rng.uniform(0.2, 1.0)
            d.parts.append(revolved(profile, leg_color))
            d.parts.append(revolved([(radius, 0), (radius, plate), (cone * radius, 2 * plate)], leg_color))
            d.mark_around("base", radius, radius, plate)
        else:
            d.parts.append(revolved([(r, max(y, 0.08 * height)) for r, y in profile], leg_color))
            hub = height * rng.uniform(0.1, 0.35)
            for name, sign in ENDS:
                tip = np.array([reach[0] * 0.8, bar, sign * reach[1] * 0.8])
                d.both(tube([(0, hub, 0), tip], bar, leg_color, 6))
                d.mark_both(f"foot {name}", tip)

    circular = plan == "round" and style == "pedestal"
    fourfold = plan in ("square", "round") and style != "trestle"
    for name in ("top", "foot", "shelf", "rim", "base") if turned else ():
        d.turns(name, AROUND if name in ("rim", "base") else CORNERS, fourfold, circular)
    return d
