"""Meshes of triangles: polygons cut into triangles, and points sampled by area."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_MOST_CORNERS = 1000  # the time of clipping ears grows with the cube
_THIN = 1e-12
# Ears that are looked for: so many at all, and for each corner. Two or three do; a spiral takes more than forty.
_LEAST_TRIES, _TRIES = 100_000, 10


class Mesh(NamedTuple):
    """A mesh as its file has it.

    Args:
        vertices: `[V, 3]` float64, in the file's own units and frame; they may be NaN.
        faces: `[F, 3]` int64, rows of ``vertices``; no row for a file of points.
        colors: `[V, 3]` uint8, or None.

    """

    vertices: NDArray[np.float64]
    faces: NDArray[np.int64]
    colors: NDArray[np.uint8] | None = None


def no_faces() -> NDArray[np.int64]:
    """Return the faces of a file of points."""
    return np.empty((0, 3), np.int64)


def check_corners(index: NDArray[Any], counts: NDArray[np.int64], num_vertices: int, places: list[int]) -> None:
    """Raise unless every corner of the faces is one of the vertices.

    Args:
        index: Vertices of the corners of one face after the other, from 0.
        counts: Number of corners of every face.
        num_vertices: Number of vertices.
        places: Line of every face in a file of text; empty for other files.

    """
    bad = (index < 0) | (index >= num_vertices)
    if bad.any():
        first = int(bad.argmax())
        face = int(np.searchsorted(np.cumsum(counts), first, side="right"))
        place = f"line {places[face]}: " if places else ""
        raise ValueError(
            f"{place}face {face}: vertex {int(index[first])} must be one of the {num_vertices} vertices, from 0"
        )


def triangulate(
    vertices: NDArray[np.float64], index: NDArray[np.int64], counts: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Cut polygons into triangles, `[F, 3]`; those of fewer than three corners have no area and are left out.

    A convex polygon becomes a fan around its first corner, also if its corners do not lie in a plane. Where such a fan
    would cover what lies outside, it is a fan around another corner, or the polygon loses one ear after the other in
    the plane that fits it best; one that crosses itself becomes a fan around its first corner all the same.

    Args:
        vertices: `[V, 3]`.
        index: Vertices of the corners of one polygon after the other.
        counts: Number of corners of every polygon.

    Raises:
        ValueError: If a polygon of which no fan can be made has more than 1000 corners, or many of them are spirals,
            so that cutting them would take more than time in proportion to their corners.

    """
    starts = np.cumsum(counts) - counts
    triangles, order = [no_faces()], [np.empty(0, np.int64)]
    tries = iter(range(_LEAST_TRIES + _TRIES * len(index)))
    for size in np.unique(counts[counts >= 3]).tolist():
        (rows,) = np.nonzero(counts == size)
        corners = index[starts[rows, None] + np.arange(size)]
        steps = np.arange(1, size - 1)
        fan = np.stack([np.zeros_like(steps), steps, steps + 1], axis=1)
        local = np.broadcast_to(fan, (len(rows), size - 2, 3))
        if size > 3:
            local = local.copy()
            (folded,) = np.nonzero(_folds(vertices, corners[:, fan]))
            # Most often a fan around another corner will do, which is quick for many polygons at once.
            for shift in range(1, min(size, 8)):
                turned = (fan + shift) % size
                good = ~_folds(vertices, corners[folded][:, turned])
                local[folded[good]] = turned
                folded = folded[~good]
            for row in folded:
                local[row] = _without_ears(vertices[corners[row]], fan, tries)
        triangles.append(np.take_along_axis(corners, local.reshape(len(rows), -1), axis=1).reshape(-1, 3))
        order.append(np.repeat(rows, size - 2))
    return np.concatenate(triangles)[np.argsort(np.concatenate(order), kind="stable")]


def _folds(vertices: NDArray[np.float64], fans: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether a fan `[P, T, 3]` has triangles that turn against the polygon as a whole."""
    with np.errstate(all="ignore"):
        a, b, c = np.moveaxis(vertices[fans], 2, 0)
        turns = np.cross(b - a, c - a)
        whole = turns.sum(axis=1, keepdims=True)
        along = (turns * whole).sum(axis=2)
        return np.asarray(along.min(axis=1) < -1e-6 * (whole**2).sum(axis=2)[:, 0])


def _without_ears(corners: NDArray[np.float64], fan: NDArray[np.int64], tries: Iterator[int]) -> NDArray[np.int64]:
    if len(corners) > _MOST_CORNERS:
        raise ValueError(
            f"a polygon of {len(corners)} corners is not convex, must have at most {_MOST_CORNERS}: cut it into "
            "triangles"
        )
    a, b, c = np.moveaxis((corners - corners[0])[fan], 1, 0)
    whole = np.cross(b - a, c - a).sum(axis=0)
    axis = int(np.abs(whole).argmax())
    flat = np.delete(corners - corners[0], axis, axis=1)
    if (whole[axis] < 0) != (axis == 1):  # without its middle axis a frame is mirrored
        flat[:, 0] *= -1
    ring, triangles = list(range(len(corners))), []
    while len(ring) > 3:
        for i in range(len(ring)):
            if next(tries, None) is None:
                raise ValueError("polygons that are not convex take too long to cut: cut them into triangles")
            ear = (ring[i - 1], ring[i], ring[(i + 1) % len(ring)])
            if _is_ear(flat, ear, ring):
                triangles.append(ear)
                del ring[i]
                break
        else:
            return fan
    return np.array([*triangles, ring])


def _is_ear(flat: NDArray[np.float64], ear: tuple[int, int, int], ring: list[int]) -> bool:
    a, b, c = flat[list(ear)]
    if _turn(a, b, c) <= 0:
        return False
    others = flat[[corner for corner in ring if corner not in ear]]
    inside = (_turn(a, b, others) >= 0) & (_turn(b, c, others) >= 0) & (_turn(c, a, others) >= 0)
    # A polygon with a hole comes as one outline that goes over its bridge twice.
    same = (others[:, None] == flat[list(ear)]).all(axis=2).any(axis=1)
    return not (inside & ~same).any()


def _turn(a: NDArray[np.float64], b: NDArray[np.float64], c: NDArray[np.float64]) -> Any:
    (u, v), w = b - a, c - a
    return u * w[..., 1] - v * w[..., 0]


def sample_triangles(mesh: Mesh, num_points: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.uint8] | None]:
    """Sample points on a mesh of finite vertices, uniformly by area.

    Returns:
        The points `[num_points, 3]` in the frame of the mesh, and their colors, mixed from those of the corners.

    Raises:
        ValueError: If the mesh has no area.

    """
    corners = mesh.vertices[mesh.faces]
    low, high = corners.min(axis=(0, 1)), corners.max(axis=(0, 1))
    with np.errstate(over="ignore"):
        # Far from the origin, or very small, nothing cancels or vanishes in this frame.
        offset, extent = low, float((high - low).max())
    if not 0 < extent < np.inf:
        raise ValueError(f"the mesh has no area to sample: its faces extend over {extent:g}")
    a, b, c = np.moveaxis((corners - offset) / extent, 1, 0)
    areas = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    steps = np.cumsum(areas)
    if not steps[-1] > _THIN:
        raise ValueError("the mesh has no area to sample: its faces are lines or points")
    rng = np.random.default_rng(seed)
    faces = np.minimum(np.searchsorted(steps, rng.random(num_points) * steps[-1], side="right"), len(steps) - 1)
    # Uniform in a triangle: fold the unit square along its diagonal.
    u, v = rng.random((num_points, 2)).T
    u, v = np.where(u + v > 1, [1 - u, 1 - v], [u, v])
    weights = np.stack([1 - u - v, u, v], axis=1)
    a, b, c = a[faces], b[faces], c[faces]
    points = (a + u[:, None] * (b - a) + v[:, None] * (c - a)) * extent + offset
    if mesh.colors is None:
        return points, None
    colors = np.einsum("nk,nkd->nd", weights, mesh.colors[mesh.faces[faces]])
    return points, np.rint(colors).astype(np.uint8)
