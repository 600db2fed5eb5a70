"""Beds: the head is at +z and the foot at -z, so +x is the right of a sleeper on their back.

Ids 0-19 mean what they mean in KeypointNet: feet, mattress, a bunk's upper mattress, post tops, foot- and
headboard. The others are this twin's own.
"""

import itertools

import numpy as np

from pcsa.datasets.procedural.shapes.design import ENDS, Design, Part, log_uniform, numbered, palette
from pcsa.datasets.procedural.shapes.solids import box, prism, rounded, rounded_corner, tube
from pcsa.datasets.procedural.types import Array

NAMES = numbered(
    """
    foot front/back right, foot back/front left, mattress front/back right, mattress back/front left,
    upper mattress front/back right, upper mattress back/front left, post top front/back right,
    post top back/front left, footboard right, headboard right/left, footboard left, pillow right/left/middle,
    ladder top right/left
    """
)


def draw(rng: np.random.Generator) -> Design:
    """Draw a bed: half the length of its frame is 1."""
    d = Design()
    style = rng.choice(["legs", "platform", "posts", "bunk", "loft"], p=[0.25, 0.2, 0.15, 0.28, 0.12])
    if style in ("bunk", "loft"):
        _bunk(d, rng, loft=style == "loft")
        return d
    wood, cloth, linen, cover = palette(rng, 4)
    x, z = log_uniform(rng, 0.42, 1.0), 1.0
    deck = log_uniform(rng, 0.14, 0.5)  # height of the frame's upper edge
    rail = deck * rng.uniform(0.25, 0.6)
    top = deck + log_uniform(rng, 0.09, 0.22)  # of the mattress
    rise = log_uniform(rng, 0.2, 0.85)  # of the headboard above it
    bar = log_uniform(rng, 0.03, 0.08)
    board = rng.uniform(0.02, 0.045)  # half the thickness of the head- and footboard

    headboard = rng.random() < 0.85
    footboard = headboard and rng.random() < 0.5
    rear, ahead = z + 2 * board * headboard, z + 2 * board * footboard
    if style == "platform":
        inset = rng.choice([0.0, rng.uniform(0.03, 0.15)])
        if inset:  # a plinth under a wider slab
            d.parts.append(box((-x, deck - rail, -z), (x, deck, z), wood))
        d.parts.append(box((inset - x, 0, inset - z), (x - inset, deck - rail / 2, z - inset), wood))
        for name, sign in ENDS:
            d.mark_both(f"foot {name}", (x - inset, 0, sign * (z - inset)))
    else:
        d.parts.append(box((-x, deck - rail, -z), (x, deck, z), wood))
        slim, lean = rng.uniform(0.4, 1.0), rng.choice([0.0, rng.uniform(0.0, 0.08)])
        tall = max(log_uniform(rng, 0.9, 1.9), top + rise + 0.25) if style == "posts" else 0.0
        for name, sign, reach in (("front", -1, ahead), ("back", 1, rear)):
            at = np.array([x - bar, deck - rail / 2, sign * (reach - bar)])
            if tall:
                d.both(box((x - 2 * bar, 0, at[2] - bar), (x, tall, at[2] + bar), wood))
                d.mark_both(f"post top {name}", (x - bar, tall, at[2]))
                d.mark_both(f"foot {name}", (x, 0, at[2] + sign * bar))
            else:
                leg = prism(np.array([(1, -1), (1, 1), (-1, 1), (-1, -1)]) * bar, (0, at[1]), (slim, 1), wood)
                leg.rings += at * (1, 0, 1)
                leg.rings[0] += lean * np.array([1, 0, sign])
                d.both(leg)
                d.mark_both(f"foot {name}", (at[0] + lean + slim * bar, 0, at[2] + sign * (lean + slim * bar)))
        if tall and rng.random() < 0.75:  # a canopy's frame
            for sign, reach in ((-1, ahead), (1, rear)):
                one, other = (2 * bar - x, tall - 1.4 * bar), (x - 2 * bar, tall - 0.2 * bar)
                d.parts.append(box((*one, sign * (reach - 1.6 * bar)), (*other, sign * (reach - 0.4 * bar)), wood))
            beam = (x - 1.6 * bar, tall - 1.4 * bar, 2 * bar - ahead), (x - 0.4 * bar, tall - 0.2 * bar, rear - 2 * bar)
            d.both(box(*beam, wood))

    wide = x * rng.choice([1.0, rng.uniform(1.0, 1.12)]) if style != "posts" else x - 2 * bar
    kind = rng.choice(["panel", "bars", "padded", "planks"])
    low = rng.choice([0.0, 0.5]) * deck if style != "posts" else 0.5 * deck
    arch = rng.choice([0.0, rng.uniform(0.05, 0.3)])
    boards = [("headboard", "foot back", 1, 1.0)] if headboard else []
    if footboard:
        boards.append(("footboard", "foot front", -1, rng.uniform(0.3, 0.75)))
    for name, foot, sign, share in boards:
        high = top + 0.08 + share * rise
        _board(d, rng, kind, (wide, low, top, high), (sign * z, sign * 2 * board), share * arch, wood, cloth)
        d.mark_both(name, (wide, high, sign * (z + board)))
        if low == 0:  # it stands on the floor
            d.mark_both(foot, (wide, 0, sign * (z + 2 * board)))

    fit = x - rng.choice([0.0, rng.uniform(0.0, 0.06)]) - (2 * bar + 0.04 if style == "posts" else 0.0)
    _bedding(d, rng, (fit, deck - 0.02, top, z), linen, cover)
    return d


def _board(
    d: Design,
    rng: np.random.Generator,
    kind: str,
    size: tuple[float, float, float, float],
    place: tuple[float, float],
    arch: float,
    wood: Array,
    cloth: Array,
) -> None:
    """Add a head- or footboard.

    Args:
        d: What it is added to.
        rng: Source of the randomness.
        kind: Panel, bars, padded or planks.
        size: Half the width; heights of the lower edge, of the mattress and of the upper edge.
        place: Z of the inner face, and the thickness away from it.
        arch: Rise of the middle over half the width.
        wood: Color of the frame.
        cloth: Color of the padding.
    """
    wide, low, mattress, high = size
    a, b = sorted((place[0], place[0] + place[1]))

    def piece(u0: float, u1: float, bottom: float, top: float, color: Array, bow: float = 0.0) -> Part:
        rings = []
        for u in np.linspace(u0, u1, 9):
            y = top + bow * wide * (1 - (u / u1) ** 2)
            rings.append([(u * wide, bottom, a), (u * wide, y, a), (u * wide, y, b), (u * wide, bottom, b)])
        return Part(np.array(rings), color)

    if kind == "panel":
        d.parts.append(piece(-1, 1, low, high, wood, arch))
    elif kind == "padded":
        d.parts.append(piece(-1, 1, low, high, cloth))
        bulge = 0.5 * place[1]
        near, far = place[0] - bulge, place[0] + bulge
        for u0, u1 in itertools.pairwise(np.linspace(-0.97, 0.97, int(rng.integers(3, 7))) * wide):
            d.parts.append(box((u0 + 0.01, mattress + 0.05, near), (u1 - 0.01, high - 0.03, far), cloth))
    else:
        post = rng.uniform(0.035, 0.06) / wide
        d.both(piece(1 - 2 * post, 1, low, high, wood))
        if kind == "bars":
            rail = 0.8 * post * wide
            d.parts.append(piece(-1 + post, 1 - post, high - 2 * rail, high - 0.2 * rail, wood, arch))
            d.parts.append(piece(-1 + post, 1 - post, low + 0.1, low + 0.1 + rail, wood))
            for u in np.linspace(-1 + post, 1 - post, int(rng.integers(4, 10)))[1:-1]:
                tip = high - rail + arch * wide * (1 - u * u)
                d.parts.append(tube([(u * wide, low + 0.1, (a + b) / 2), (u * wide, tip, (a + b) / 2)], 0.015, wood, 6))
        else:
            count = int(rng.integers(2, 5))
            levels = np.linspace(low + 0.1, high, count + 1)
            for bottom, top in itertools.pairwise(levels):
                d.parts.append(piece(-1 + post, 1 - post, bottom + 0.2 * (top - bottom), top - 0.01, wood))


def _bedding(
    d: Design, rng: np.random.Generator, size: tuple[float, float, float, float], linen: Array, cover: Array
) -> None:
    """Add the mattress, perhaps a cover over its foot end, and pillows."""
    x, low, top, z = size
    corner = rng.uniform(0.02, 0.12)
    d.parts.append(prism(rounded(x, x, z, corner), (low, top), (1, 1), linen))
    d.mark_both("mattress back", np.insert(rounded_corner(x, z, corner), 1, top))
    if rng.random() < 0.5:
        thick, until = rng.uniform(0.015, 0.04), rng.uniform(0.1, 0.5) * z
        front = z + 0.2 * thick  # in the mattress's own plane it would not be seen which is in front
        half = (until + front) / 2
        outline = rounded(x + thick, x + thick, half, corner)
        sheet = prism(outline, (low + 0.3 * (top - low), top + thick), (1, 1), cover)
        sheet.rings[..., 2] += half - front
        d.parts.append(sheet)
        cx, cz = rounded_corner(x + thick, -half, corner)
        d.mark_both("mattress front", (cx, top + thick, cz + half - front))
    else:
        d.mark_both("mattress front", np.insert(rounded_corner(x, -z, corner), 1, top))

    if rng.random() < 0.25:
        return
    double = x > 0.57
    deep, thick = rng.uniform(0.13, 0.2), rng.uniform(0.07, 0.14)
    wide = (0.42 if double else 0.75) * x * rng.uniform(0.9, 1.05)
    pillow = prism(rounded(wide, wide, deep, 0.5 * deep), (0, 0.5 * thick, thick), (0.85, 1, 0.75), linen * 0.5 + 120)
    center = np.array([0.5 * x if double else 0.0, top - 0.01, z - deep - rng.uniform(0.03, 0.08)])
    pillow.rings += center
    peak = center + np.array([0, thick, 0])
    if double:
        d.both(pillow)
        d.mark_both("pillow", peak)
    else:
        d.parts.append(pillow)
        d.mark("pillow middle", peak)


def _bunk(d: Design, rng: np.random.Generator, loft: bool) -> None:
    """Build a bunk bed, or a loft bed with a desk below."""
    wood, linen, cover = palette(rng, 3)
    x, z = log_uniform(rng, 0.38, 0.62), 1.0
    bar = log_uniform(rng, 0.025, 0.055)
    lower = log_uniform(rng, 0.2, 0.45)
    upper = log_uniform(rng, 1.15, 1.6) if loft else lower + log_uniform(rng, 0.75, 1.05)
    top = upper + log_uniform(rng, 0.25, 0.5)
    rail, pad = rng.uniform(0.08, 0.16), rng.uniform(0.1, 0.16)

    for name, sign in ENDS:
        d.both(box((x - 2 * bar, 0, sign * (z - 2 * bar)), (x, top, sign * z), wood))
        d.mark_both(f"foot {name}", (x, 0, sign * z))
        d.mark_both(f"post top {name}", (x - bar, top, sign * (z - bar)))
    pillow = rng.random() < 0.5
    thick, deep = rng.uniform(0.08, 0.13), rng.uniform(0.12, 0.18)
    # Within the posts, so that the mattress's corners touch the inner corners of the posts.
    half_x, half_z = x - 2 * bar, z - 2 * bar
    for name, y in (("mattress", lower), ("upper mattress", upper)):
        if loft and y == lower:
            continue
        d.parts.append(box((-half_x, y - 0.3 * rail, -half_z), (half_x, y + pad, half_z), linen))
        d.both(box((x - 1.5 * bar, y - rail, -half_z), (x - 0.5 * bar, y + 0.3 * pad, half_z), wood))
        for end, sign in ENDS:
            near, far = sign * (z - 1.5 * bar), sign * (z - 0.5 * bar)
            d.parts.append(box((-half_x, y - rail, near), (half_x, y + 0.3 * pad, far), wood))
            d.mark_both(f"{name} {end}", (half_x, y + pad, sign * half_z))
        if pillow:
            cushion = prism(rounded(0.7 * x, 0.7 * x, deep, 0.5 * deep), (0, thick / 2, thick), (0.85, 1, 0.75), cover)
            cushion.rings += np.array([0, y + pad - 0.01, half_z - deep - 0.03])
            d.parts.append(cushion)
            if name == "upper mattress":
                d.mark("pillow middle", (0, y + pad - 0.01 + thick, half_z - deep - 0.03))

    slats = [(sign * (z - 1.4 * bar), sign * (z - 0.6 * bar)) for sign in (-1, 1)]
    count = int(rng.integers(1, 4))
    for level in np.linspace(upper + pad, top, count + 1)[1:]:  # the guard at the sides, and the ends
        y0, y1 = level - 0.06, level - 0.02
        d.both(box((x - 1.4 * bar, y0, -half_z), (x - 0.6 * bar, y1, half_z), wood))
        d.parts += [box((-half_x, y0, near), (half_x, y1, far), wood) for near, far in slats]
    if not loft and rng.random() < 0.5:
        y0, y1 = lower + pad, lower + pad + 0.25
        d.parts += [box((-half_x, y0, near), (half_x, y1, far), wood) for near, far in slats]
    if loft:
        y = rng.uniform(0.5, 0.7)
        d.parts.append(box((-half_x, y, rng.uniform(-0.2, 0.3)), (half_x, y + bar, z - 0.5 * bar), wood))

    ladder = rng.choice(["none", "foot end", "side"], p=[0.25, 0.55, 0.2])
    if ladder == "foot end":
        wide = rng.uniform(0.3, 0.5) * x
        foot, head = np.array([wide, 0, -z - rng.uniform(0.02, 0.35)]), np.array([wide, top - 0.02, -z - 0.02])
        d.both(tube([foot, head], 0.02, wood, 4))
        d.mark_both("ladder top", head)
        rungs = [foot + t * (head - foot) for t in np.arange(0.12, 0.95, rng.uniform(0.13, 0.2))]
        d.parts += [tube([r, r * (-1, 1, 1)], 0.018, wood, 6, across=(0, 1, 0)) for r in rungs]
    elif ladder == "side":
        out, at = x + 0.02, -z + 0.35
        for shift in (-0.15, 0.15):
            d.parts.append(tube([(out, 0, at + shift), (out, top - 0.05, at + shift)], 0.02, wood, 4))
        for y in np.arange(0.15, top - 0.1, rng.uniform(0.2, 0.3)):
            d.parts.append(tube([(out, y, at - 0.15), (out, y, at + 0.15)], 0.016, wood, 6))
    if ladder == "none" and not pillow and not loft:
        for name in ("foot", "mattress", "upper mattress", "post top"):
            d.turns(name, ("front right", "back right", "back left", "front left"), whole=False)
