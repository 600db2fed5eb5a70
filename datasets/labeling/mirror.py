"""The mirror plane of a scan, and which names are the two sides of one: to propose a place on the other side."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy.spatial import KDTree

Array = NDArray[np.float64]

_SIDES = {"left": "right", "right": "left", "l": "r", "r": "l"}
_POINTS = 200  # that are mirrored; the others are there to be matched
_STEPS = 40
_KEPT = 0.8  # of the points: what one side has alone must not turn the plane


def side_pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    """Pair the names that differ in left and right, or l and r, alone.

    Returns:
        The pairs, the left one first, in the order of ``names``.

    Example:
        >>> side_pairs(["nose", "left_ear", "right_ear", "eyeL", "eyeR", "R knee", "leftover"])
        [('left_ear', 'right_ear'), ('eyeL', 'eyeR')]

    """
    pairs: list[tuple[str, str]] = []
    for name in names:
        for place, part in _parts(name):
            if part.lower() in ("left", "l"):
                other = _SIDES[part.lower()]
                other = other.upper() if part.isupper() else other.capitalize() if part[0].isupper() else other
                twin = name[:place] + other + name[place + len(part) :]
                if twin in names and all(twin not in pair for pair in pairs):
                    pairs.append((name, twin))
                    break
    return pairs


def _parts(name: str) -> list[tuple[int, str]]:
    """Split a name into words, and a word into what begins or ends it as a side, with their places."""
    words = [(m.start(), m[0]) for m in re.finditer(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)]
    whole = name.lower()
    ends = [(0, name[:4])] * whole.startswith("left") + [(len(name) - 4, name[-4:])] * whole.endswith("left")
    return [*words, *ends]


class Mirror(NamedTuple):
    """A plane: the places x with ``normal @ x == offset``."""

    normal: Array
    offset: float
    error: float
    """Mean distance of mirrored points to the nearest others, but for the worst of them."""

    def image(self, places: Array) -> Array:
        """Mirror positions `[..., 3]`."""
        return np.asarray(places - 2 * (places @ self.normal - self.offset)[..., None] * self.normal)


def mirror_planes(points: Array) -> list[Mirror]:
    """Fit the planes that mirror a cloud best, from the axes of its frame and from its principal axes, the best first.

    From each start, mirrored points are matched to the nearest ones, and the plane that mirrors these matches best
    takes the place of the former, over and over: its normal is the last principal direction of the symmetric part of
    Σ p qᵀ for matches (p, q) about their means, and it goes through the middle of the means.

    Args:
        points: `[N, 3]`.

    """
    from scipy.spatial import KDTree

    points = np.unique(np.asarray(points, np.float64), axis=0)
    if len(points) < 4:
        return []
    center = points.min(0) / 2 + points.max(0) / 2
    size = float(np.ptp(points, axis=0).max())
    x = (points - center) / size
    tree, few = KDTree(x), x[:: -(-len(x) // _POINTS)]
    principal = np.linalg.svd(x - x.mean(0), full_matrices=False)[2]
    found: list[Mirror] = []
    for start in (*np.eye(3), *principal):
        normal, offset = start, float(start @ (x.min(0) + x.max(0))) / 2
        offset = min((offset, float(np.median(x @ normal))), key=lambda o: _errors(tree, few, normal, o)[0].mean())
        for _ in range(_STEPS):
            distance, match = _errors(tree, few, normal, offset)
            good = distance <= np.quantile(distance, _KEPT)
            p, q = few[good], x[match[good]]
            middle = (p.mean(0) + q.mean(0)) / 2
            cross = (p - p.mean(0)).T @ (q - q.mean(0))
            new = np.linalg.eigh(cross + cross.T)[1][:, 0]
            new = new if new @ normal >= 0 else -new
            moved = np.abs(new - normal).max() + abs(float(new @ middle) - offset)
            normal, offset = new, float(new @ middle)
            if moved < 1e-5:
                break
        distance, _ = _errors(tree, few, normal, offset)
        error = float(np.sort(distance)[: max(int(_KEPT * len(distance)), 1)].mean()) * size
        if all(abs(normal @ other.normal) < 0.99 for other in found):
            found.append(Mirror(normal, offset * size + float(normal @ center), error))
    return sorted(found, key=lambda plane: plane.error)


def _errors(tree: "KDTree", x: Array, normal: Array, offset: float) -> tuple[Array, NDArray[np.int64]]:
    distance, match = tree.query(x - 2 * (x @ normal - offset)[:, None] * normal)
    return np.asarray(distance), np.asarray(match)


def choose_plane(planes: Sequence[Mirror], pairs: Sequence[tuple[Array, Array]], across: Array | None) -> Mirror | None:
    """Choose the plane that has left and right on its two sides.

    Args:
        planes: From :func:`mirror_planes`.
        pairs: Left and right positions that are known in this cloud: the plane that exchanges them best.
        across: Else the direction from right to left in other clouds of the same frame: a plane across it.

    Returns:
        The plane; the best one where nothing is known. None if there are none, or none is across.

    """
    if pairs:
        left, right = (np.array(side) for side in zip(*pairs, strict=True))
        return min(planes, key=lambda p: np.linalg.norm(p.image(left) - right, axis=1).mean(), default=None)
    if across is not None:
        planes = [plane for plane in planes if abs(plane.normal @ across) > 0.8 * np.linalg.norm(across)]
    return planes[0] if planes else None
