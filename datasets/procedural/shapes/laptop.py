"""Laptops: open towards -z, where the user sits. Right is +x, as a chair's: not the right of the user who faces it.

The ids are this twin's own.
"""

import numpy as np

from pcsa.datasets.procedural.shapes.design import Design, Part, log_uniform, numbered, palette
from pcsa.datasets.procedural.shapes.solids import rounded, rounded_corner, tube
from pcsa.datasets.procedural.types import Array

NAMES = numbered(
    """
    base front right/left, base back left/right, screen top/bottom right/left, display top right/left,
    display bottom left/right, keyboard front right/left, keyboard back left/right, touchpad front right/left,
    touchpad back left/right, camera, hinge right/left, stand right/left
    """
)


def draw(rng: np.random.Generator) -> Design:
    """Draw a laptop: it is 1 wide."""
    d = Design()
    shell, keys, glass = palette(rng, 3)
    style = str(rng.choice(["clamshell", "thin", "old", "rear", "tablet"], p=[0.3, 0.2, 0.17, 0.12, 0.21]))
    x, z = 0.5, 0.5 / rng.uniform(1.2, 1.6)
    thick = {
        "clamshell": log_uniform(rng, 0.02, 0.05),
        "thin": log_uniform(rng, 0.02, 0.04),
        "old": log_uniform(rng, 0.06, 0.14),
        "rear": log_uniform(rng, 0.04, 0.09),
        "tablet": log_uniform(rng, 0.01, 0.018),
    }[style]
    fall = thick * (rng.uniform(0.4, 0.75) if style == "thin" else rng.choice([0.0, rng.uniform(0.0, 0.3)]))
    corner = rng.choice([0.0, rng.uniform(0.01, 0.05)])
    opening = np.deg2rad(rng.uniform(75, 150) if style != "tablet" else rng.uniform(98, 125))

    def top(at: float) -> float:
        """Height of the base's upper side, which falls to the front."""
        return thick - fall * (z - at) / (2 * z)

    outline = rounded(x, x, z, corner)
    upper = np.stack([outline[:, 0], [top(at) for at in outline[:, 1]], outline[:, 1]], axis=1)
    d.parts.append(Part(np.stack([upper * (1, 0, 1), upper]), shell))
    for name, edge in (("front", -z), ("back", z)):
        a, b = rounded_corner(x, edge, corner)
        d.mark_both(f"base {name}", (a, top(b), b))

    def plate(half: float, ahead: float, behind: float, lift: float, color: Array, center: float = 0.0) -> None:
        """Add a plate that lies on the base."""
        plan = [(center - half, ahead), (center + half, ahead), (center + half, behind), (center - half, behind)]
        high = np.array([(a, top(b) + lift, b) for a, b in plan])
        d.parts.append(Part(np.stack([high - (0, lift + 0.004, 0), high]), color))

    lift = rng.uniform(0.004, 0.008)
    hinge_z = z - (2 * z * rng.uniform(0.15, 0.25) if style == "rear" else 0.02)
    back = hinge_z - z * rng.uniform(0.08, 0.2)
    front = back - z * rng.uniform(0.75, 0.95)
    half = x * rng.uniform(0.82, 0.95)
    rows = int(rng.integers(4, 7))
    pitch = (back - front) / rows
    for row in range(rows):
        ahead = front + row * pitch
        if row == 0:  # the space bar between two keys
            bar = half * rng.uniform(0.35, 0.5)
            plate(bar, ahead, ahead + 0.8 * pitch, lift, keys)
            side, middle = (half - bar) / 2 - 0.007, (half + bar) / 2 + 0.007
            plate(side, ahead, ahead + 0.8 * pitch, lift, keys, middle)
            plate(side, ahead, ahead + 0.8 * pitch, lift, keys, -middle)
        else:
            plate(half, ahead, ahead + 0.8 * pitch, lift, keys)
    for name, at in (("front", front), ("back", back - 0.2 * pitch)):
        d.mark_both(f"keyboard {name}", (half, top(at) + lift, at))
    if rng.random() < 0.75:
        wide = x * log_uniform(rng, 0.2, 0.42)
        ahead, behind = -z + (front + z) * rng.uniform(0.1, 0.25), front - (front + z) * rng.uniform(0.1, 0.25)
        plate(wide, ahead, behind, 0.004, glass)
        for name, at in (("front", ahead), ("back", behind)):
            d.mark_both(f"touchpad {name}", (wide, top(at) + 0.004, at))

    _screen(d, rng, style, (x, z, corner), (top(hinge_z), hinge_z), opening, shell, glass)
    return d


def _screen(
    d: Design,
    rng: np.random.Generator,
    style: str,
    plan: tuple[float, float, float],
    hinge: tuple[float, float],
    opening: float,
    shell: Array,
    glass: Array,
) -> None:
    """Add the screen, which turns on the hinge (y, z); `plan` is the base's half width, half depth and corners."""
    x, z, corner = plan
    thick = log_uniform(rng, 0.012, 0.022) if style != "old" else log_uniform(rng, 0.025, 0.05)
    half, tall = x * rng.choice([1.0, rng.uniform(0.94, 1.0)]), 2 * z * rng.uniform(0.88, 1.0)
    if style == "rear":
        tall = max(tall - (z - hinge[1]), 1.2 * z)
    up, out = np.array([0, np.sin(opening), -np.cos(opening)]), np.array([0, -np.cos(opening), -np.sin(opening)])
    origin = np.array([0, hinge[0] + 0.006 + thick * max(0.0, -np.cos(opening)), hinge[1]])

    def at(across: float, rise: float, depth: float = 0.0) -> Array:
        """Place on the front of the screen, or off it."""
        return origin + np.array([across, 0, 0]) + (0.008 + rise) * up + depth * out

    def slab(outline: Array, behind: float, before: float, color: Array) -> None:
        d.parts.append(Part(np.array([[at(a, b, depth) for a, b in outline] for depth in (behind, before)]), color))

    slab(rounded(half, half, tall / 2, corner) + np.array([0, tall / 2]), -thick, 0.0, shell)
    for name, edge in (("bottom", -1), ("top", 1)):
        a, b = rounded_corner(half, edge * tall / 2, corner)
        d.mark_both(f"screen {name}", at(a, b + tall / 2))
    bezel = rng.uniform(0.02, 0.06)
    if rng.random() < 0.8:
        low, high, wide = bezel * rng.uniform(1.0, 2.0), tall - bezel, half - bezel * rng.uniform(0.6, 1.2)
        slab(np.array([(-wide, low), (wide, low), (wide, high), (-wide, high)]), -0.004, 0.003, glass)
        d.mark_both("display bottom", at(wide, low, 0.003))
        d.mark_both("display top", at(wide, high, 0.003))
    if rng.random() < 0.5:
        eye = at(0, tall - bezel / 2)
        d.parts.append(tube([eye - 0.004 * out, eye + 0.006 * out], 0.3 * bezel, glass, 8))
        d.mark("camera", eye + 0.006 * out)

    if style == "tablet":
        head, wide = at(0, rng.uniform(0.45, 0.7) * tall, -thick), half * rng.uniform(0.5, 0.95)
        foot = np.array([0, 0, head[2] + rng.uniform(0.35, 0.7) * head[1]])
        side, deep = np.array([wide, 0, 0]), np.array([0, 0, 0.02])
        section = np.array([head, head + deep, foot + deep, foot])
        d.parts.append(Part(np.stack([section - side, section + side]), shell))
        d.mark_both("stand", foot + side)
    else:
        radius = rng.uniform(0.008, 0.014) + 0.25 * thick
        near, far = x * rng.choice([0.0, rng.uniform(0.4, 0.6)]), x * rng.uniform(0.65, 0.85)
        axle = np.array([0, hinge[0] + 0.5 * radius, hinge[1] + 0.5 * radius])
        end = axle + np.array([far, 0, 0])
        if near == 0:
            d.parts.append(tube([end * (-1, 1, 1), end], radius, shell, 10, across=(0, 1, 0)))
        else:
            d.both(tube([axle + np.array([near, 0, 0]), end], radius, shell, 10, across=(0, 1, 0)))
        d.mark_both("hinge", end)
