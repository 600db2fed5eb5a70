"""What a category's function returns: a design of parts and named landmarks, and what all of them draw with."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from pcsa.datasets.procedural.types import Array

Point = tuple[float, float, float] | Array

# The front is at -z; ends in the order of a turn about the y axis.
ENDS = (("front", -1), ("back", 1))
AROUND = ("right", "front", "left", "back")
CORNERS = ("front right", "front left", "back left", "back right")


def numbered(names: str) -> dict[int, str]:
    """Number names from 0, as semantic ids.

    Args:
        names: Separated by commas. A word with slashes stands for several names, one after another; a dash leaves a
            number out.

    Example:
        >>> numbered("nose, -, wing tip left/right")
        {0: 'nose', 2: 'wing tip left', 3: 'wing tip right'}
    """
    words = ([word.split("/") for word in name.split()] for name in names.split(","))
    expanded = [" ".join(chosen) for choices in words for chosen in itertools.product(*choices)]
    return {index: name for index, name in enumerate(expanded) if name != "-"}


@dataclass
class Part:
    """One lofted solid: rings of equally many vertices, joined in order and capped at both ends.

    Args:
        rings: ``[R, n, 3]``; each ring is a convex polygon.
        color: Red, green and blue, 0 to 255.
        solid: How many of the first rings bound the volume from which points of other parts are dropped
            (default all). A mug's wall comes back inside itself: its outer rings bound the volume.
        open: What the remaining rings enclose is outside: other parts may show in it, as a drain in a tub.
    """

    rings: Array
    color: Array
    solid: int | None = None
    open: bool = False


@dataclass
class Design:
    """What a category's function returns: parts, named landmarks and symmetries, in any unit of length.

    Args:
        parts: The solids.
        marks: Landmark name to position on the surface. Left out: this shape does not have it.
        groups: Names of landmarks that a rotation about the y axis maps to one another, in the order of the
            rotation, and whether the shape is a surface of revolution there.
        mirror_axis: 0 or 2, the axis normal to the symmetry plane, which holds the origin.
    """

    parts: list[Part] = field(default_factory=list)
    marks: dict[str, Array] = field(default_factory=dict)
    groups: list[tuple[tuple[str, ...], bool]] = field(default_factory=list)
    mirror_axis: int = 0

    def mark(self, name: str, point: Point) -> None:
        """Name a point of the surface."""
        self.marks[name] = np.array(point, dtype=np.float64)

    def both(self, part: Part) -> None:
        """Add a part and its mirror image."""
        flip = np.ones(3)
        flip[self.mirror_axis] = -1
        self.parts += [part, Part(part.rings * flip, part.color, part.solid, part.open)]

    def mark_both(self, name: str, point: Point) -> None:
        """Name a point at x > 0 ``"<name> right"`` and its mirror image ``"<name> left"``."""
        x, y, z = point
        self.mark(f"{name} right", (x, y, z))
        self.mark(f"{name} left", (-x, y, z))

    def mark_around(self, name: str, half_x: float, half_z: float, y: float) -> None:
        """Name the four points of an ellipse on its axes."""
        for end, a, b in zip(AROUND, (1, 0, -1, 0), (0, -1, 0, 1), strict=True):
            self.mark(f"{name} {end}", (a * half_x, y, b * half_z))

    def turns(self, name: str, ends: Sequence[str], whole: bool = True, circle: bool = False) -> None:
        """Note that turns map landmarks to one another, if the shape has them.

        Args:
            name: Their name but for the end.
            ends: The ends, in the order of a turn.
            whole: A turn leads from each to the next; else, of four, a half turn to the one after the next.
            circle: The shape is a surface of revolution there.
        """
        ring = tuple(f"{name} {end}" for end in ends)
        if ring[0] in self.marks:
            self.groups += [(ring, circle)] if whole else [(ring[0::2], False), (ring[1::2], False)]


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Draw a number whose logarithm is uniform."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def palette(rng: np.random.Generator, count: int) -> list[Array]:
    """Draw colors."""
    return list(rng.integers(30, 231, (count, 3)).astype(np.float64))
