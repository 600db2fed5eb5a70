"""Mugs: the handle points along +x. The ids are this twin's own."""

import numpy as np

from pcsa.datasets.procedural.shapes.design import Design, log_uniform, numbered, palette
from pcsa.datasets.procedural.shapes.solids import revolved, tube

NAMES = numbered(
    """
    rim handle side, rim front/opposite/back, bottom handle side, bottom front/opposite/back, handle top/bottom joint,
    handle outermost, floor/underside center
    """
)


def draw(rng: np.random.Generator) -> Design:
    """Draw a mug."""
    d = Design(mirror_axis=2)
    body, grip = palette(rng, 2)
    height = log_uniform(rng, 0.6, 1.9)  # the radius of the mouth is about 0.5
    taper, bulge, flare = (
        rng.uniform(-0.3, 0.35),
        rng.choice([0.0, rng.uniform(-0.12, 0.28)]),
        rng.uniform(0, 0.12),
    )
    round_foot = rng.choice([0.0, rng.uniform(0.05, 0.3)])
    wall, floor = log_uniform(rng, 0.02, 0.1), log_uniform(rng, 0.03, 0.15) * height

    def radius(y: float) -> float:
        t = y / height
        foot = round_foot * max(0.0, 1 - t / 0.25) ** 2
        return 0.5 * (1 + taper * (t - 1) * 0.8 + bulge * np.sin(np.pi * t) + flare * t**6 - foot)

    levels = np.linspace(0, height, 13)
    inner = np.linspace(height, floor, 11)
    outer_wall = [(radius(y), y) for y in levels]
    inner_wall = [(radius(y) - wall, y) for y in inner]
    cup = revolved([*outer_wall, *inner_wall], body, 36)
    cup.solid = len(outer_wall)
    d.parts.append(cup)
    for name, a, b in (("handle side", 1, 0), ("front", 0, -1), ("opposite", -1, 0), ("back", 0, 1)):
        d.mark(f"rim {name}", (a * (radius(height) - wall / 2), height, b * (radius(height) - wall / 2)))
        d.mark(f"bottom {name}", (a * radius(0), 0, b * radius(0)))
    d.mark("floor center", (0, floor, 0))
    d.mark("underside center", (0, 0, 0))

    if rng.random() < 0.22:
        # Wider than tall, a mug without a handle would be a bowl.
        for places in (cup.rings, *d.marks.values()):
            places[..., 1] *= max(1.0, 1.2 / height)
        for name in ("rim", "bottom"):
            d.turns(name, ("handle side", "front", "opposite", "back"), circle=True)
        return d

    high = height * rng.uniform(0.7, 0.9)
    low = height * rng.uniform(0.1, 0.4)
    reach = log_uniform(rng, 0.2, 0.5)
    square = log_uniform(rng, 2.0, 6.0)  # 2 is an ellipse, more is squarer
    slant = rng.uniform(-0.3, 0.3)  # an ear: wider above or below
    thick, strap = min(log_uniform(rng, 0.03, 0.075), 0.08 * height), log_uniform(rng, 0.8, 2.2)
    hook = rng.random() < 0.15  # open below
    angle = np.linspace(-np.pi / 2, np.pi / 2 * (0.55 if hook else 1.0), 21)
    out = np.abs(np.cos(angle)) ** (2 / square)
    fall = np.sign(np.sin(angle)) * np.abs(np.sin(angle)) ** (2 / square)
    ys = (high + low) / 2 - fall * (high - low) / 2
    xs = (
        np.array([radius(y) for y in ys]) * (1 - out) + (radius(high) * (1 - fall) + radius(low) * (1 + fall)) / 2 * out
    )
    xs += reach * out * (1 - slant * fall)
    xs[0] -= wall / 2
    if not hook:
        xs[-1] -= wall / 2
    path = np.stack([xs, ys, 0 * xs], axis=1)
    # Even steps: the superellipse crowds its points at the corners.
    along = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])
    even = np.linspace(0, along[-1], 25)
    path = np.stack([np.interp(even, along, path[:, k]) for k in range(3)], axis=1)
    d.parts.append(tube(path, thick * strap, grip, 10, flat=1 / strap, across=(0, 0, 1)))
    d.mark("handle top joint", (radius(high + thick), high + thick, 0))
    if not hook:
        d.mark("handle bottom joint", (radius(low - thick), low - thick, 0))
    far = int(np.argmax(path[:, 0]))
    d.mark("handle outermost", path[far] + np.array([thick, 0, 0]))
    return d
