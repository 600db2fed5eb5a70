"""A scan as people label it: all of its points, or its mesh, and what a click on it hits."""

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pcsa.datasets.faults import reading
from pcsa.datasets.meshes import MESHES, load_mesh
from pcsa.datasets.meshes.triangles import Mesh, no_faces, sample_triangles
from pcsa.datasets.point_cloud import lossless_dtype
from pcsa.datasets.points import UNNAMED, read_cloud

Array = NDArray[np.float64]

_FACES_AT_ONCE = 200_000
# About twelve pixels of a window of 800, at the usual angle of view.
_NEAR_MISS = 0.015
_AROUND = 5.0  # distances of points: within so many, a surface has twenty
_BESIDE = 2.0  # and within so many, most often one
_MEASURED = 20_000  # points


class Shape(NamedTuple):
    """A scan.

    Args:
        vertices: `[V, 3]` float64, finite, in the file's own units and frame: points, or the corners of faces.
        faces: `[F, 3]`, rows of ``vertices``; no row for a cloud.
        colors: `[V, 3]` uint8, or None.

    """

    vertices: Array
    faces: NDArray[np.int64]
    colors: NDArray[np.uint8] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Numbers of vertices and faces."""
        return len(self.vertices), len(self.faces)

    @property
    def middle(self) -> Array:
        """Middle of the bounding box."""
        return np.asarray(self.vertices.min(0) / 2 + self.vertices.max(0) / 2)

    @property
    def radius(self) -> float:
        """Half the diagonal of the bounding box; 1 where that is 0."""
        return float(np.linalg.norm(np.ptp(self.vertices, axis=0))) / 2 or 1.0


def read_shape(path: str | os.PathLike[str], *, columns: str | None = None, drop_invalid: bool = False) -> Shape:
    """Read a cloud or a mesh with all of its points.

    Args:
        path: A file of the suffixes of :func:`pcsa.datasets.points.read_cloud`.
        columns: Names of the columns of formats that have none, see there.
        drop_invalid: Whether to leave out points that are not finite, and faces that use them.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read, is empty, or has points that are not finite; the message names the file.

    """
    path = Path(path)
    if path.suffix.lower() in MESHES:
        mesh = load_mesh(path)
        with reading(path, "a mesh"):
            if len(mesh.faces):
                return _whole_mesh(mesh, drop_invalid)
    named = columns if path.suffix.lower() in UNNAMED else None
    cloud = read_cloud(path, columns=named, drop_invalid=drop_invalid)
    return Shape(cloud.points, no_faces(), cloud.colors)


def _whole_mesh(mesh: Mesh, drop_invalid: bool) -> Shape:
    """Leave out the vertices that no face uses: nobody sees them."""
    finite = np.asarray(np.isfinite(mesh.vertices).all(axis=1))
    faces = mesh.faces[finite[mesh.faces].all(axis=1)]
    if len(faces) < len(mesh.faces) and not drop_invalid:
        raise ValueError(
            f"{len(mesh.faces) - len(faces)} of {len(mesh.faces)} faces use vertices that are not finite "
            "(`drop_invalid` leaves them out)"
        )
    if not len(faces):
        raise ValueError("every face has a vertex that is not finite")
    used, corners = np.unique(faces, return_inverse=True)
    colors = None if mesh.colors is None else mesh.colors[used]
    return Shape(mesh.vertices[used], corners.reshape(-1, 3).astype(np.int64), colors)


def shape_scene_fields(shape: Shape) -> dict[str, Any]:
    """Return a scan as fields of :class:`pcsa.viz.Scene`."""
    colors = None if shape.colors is None else shape.colors / 255
    fields: dict[str, Any] = {"pos": shape.vertices, "color": colors}
    if len(shape.faces):
        fields |= {"vertices": shape.vertices, "faces": shape.faces, "vertex_color": colors}
    return fields


def sample_shape(
    shape: Shape, num_points: int, seed: int = 0, keep: Array | None = None
) -> tuple[NDArray[Any], NDArray[np.uint8] | None]:
    """Return the points that a training sees of a scan, each once, and their colors.

    Args:
        shape: The scan.
        num_points: Number of points sampled on a mesh, by area; of a cloud with more points, so many are chosen at
            random.
        seed: Seed of both.
        keep: Positions `[k, 3]` of vertices of a cloud: each takes the place of the nearest chosen one. A mesh is
            sampled without them: where no other cloud has a point at its corners, they would give the answer away.

    Returns:
        `[n, 3]` in the precision that keeps the shape, and `[n, 3]` or None.

    """
    from scipy.spatial import KDTree

    if len(shape.faces):
        points, colors = sample_triangles(Mesh(*shape), num_points, seed)
    else:
        rows = np.arange(len(shape.vertices))
        if num_points < len(rows):
            rows = np.sort(np.random.default_rng(seed).choice(rows, num_points, replace=False))
            if keep is not None and len(keep):
                wanted = np.asarray(KDTree(shape.vertices).query(keep)[1])
                missing = np.setdiff1d(wanted, rows)
                free = ~np.isin(rows, wanted)
                for row in missing[: int(free.sum())]:
                    # The nearest of those that no label needs makes room.
                    aside = np.linalg.norm(shape.vertices[rows] - shape.vertices[row], axis=1)
                    place = int(np.where(free, aside, np.inf).argmin())
                    rows[place], free[place] = row, False
        points = shape.vertices[rows]
        colors = None if shape.colors is None else shape.colors[rows]
    points = points.astype(lossless_dtype(points))
    first = np.sort(np.unique(points, axis=0, return_index=True)[1])
    return points[first], None if colors is None else colors[first]


def spacing_of(points: Array) -> float:
    """Return the mean distance from a point to the nearest other place; of many points, from some, as on a surface."""
    from scipy.spatial import KDTree

    places = np.unique(points, axis=0) if len(points) <= _MEASURED else points[:: len(points) // _MEASURED]
    if len(places) < 2:
        return 0.0
    distance = np.asarray(KDTree(places).query(places, k=[2])[0])
    return float(distance.mean()) * min(1.0, (len(places) / len(points)) ** 0.5)


def hit(
    shape: Shape, origin: Array, direction: Array, *, free: bool = False, radius: float = 0.0, spacing: float = 0.0
) -> Array | None:
    """Return the position that a click means, None if it goes past the shape.

    On a mesh it is where the ray first meets a face, or the nearest corner to that. On a cloud it is a point of the
    foremost surface that is drawn there or lies all around the ray, the nearest one to the ray: the gaps between
    points show those of the far side, and nobody means them.

    Args:
        shape: The scan.
        origin: Where the eye is `[3]`, in the units and frame of the scan.
        direction: Where it looks `[3]`.
        free: Whether any place of a face counts, not its corners only. A cloud has none but its points.
        radius: Radius by which the points of a cloud are drawn.
        spacing: Distance of its points, see :func:`spacing_of`.

    """
    direction = np.asarray(direction, np.float64)
    direction = direction / np.linalg.norm(direction)
    if not len(shape.faces):
        row = _seen_point(shape.vertices, np.asarray(origin, np.float64), direction, radius, spacing)
        return None if row is None else shape.vertices[row]
    found = _first_face(shape, np.asarray(origin, np.float64), direction)
    if found is None:
        return None
    face, place = found
    corners = shape.vertices[shape.faces[face]]
    return place if free else np.asarray(corners[np.linalg.norm(corners - place, axis=1).argmin()])


def _seen_point(points: Array, origin: Array, direction: Array, radius: float, spacing: float) -> int | None:
    away = points - origin
    depth = away @ direction
    offset = away - depth[:, None] * direction
    aside = np.linalg.norm(offset, axis=1)
    reach = max(_AROUND * spacing, radius)
    near = np.flatnonzero((depth > 0) & (aside <= reach))
    while len(near):
        layer = near[depth[near] <= depth[near].min() + 2 * reach]
        row = int(layer[aside[layer].argmin()])
        if aside[row] <= max(_BESIDE * spacing, radius) or _surround(offset[layer], direction):
            return row
        near = np.setdiff1d(near, layer)
    angle = np.where(depth > 0, aside / np.where(depth > 0, depth, 1), np.inf)
    row = int(angle.argmin())
    return row if angle[row] <= _NEAR_MISS else None


def _surround(offset: Array, direction: Array) -> bool:
    """Whether places aside of a ray `[n, 3]` lie on all sides of it."""
    across = np.linalg.svd(direction[None])[2][1:]
    turn = np.sort(np.arctan2(*(across @ offset.T)))
    gaps = np.diff(turn, append=turn[:1] + 2 * np.pi)
    return bool(gaps.max() < np.pi)


def _first_face(shape: Shape, origin: Array, direction: Array) -> tuple[int, Array] | None:
    """Return the face that a ray meets first, and where (Möller and Trumbore 1997), from either side."""
    best, face = np.inf, -1
    for start in range(0, len(shape.faces), _FACES_AT_ONCE):
        a, b, c = np.moveaxis(shape.vertices[shape.faces[start : start + _FACES_AT_ONCE]], 1, 0)
        u, v, to = b - a, c - a, origin - a
        across = np.cross(direction, v)
        det = np.einsum("fd,fd->f", u, across)
        with np.errstate(divide="ignore", invalid="ignore"):
            first = np.einsum("fd,fd->f", to, across) / det
            turned = np.cross(to, u)
            second = turned @ direction / det
            depth = np.einsum("fd,fd->f", v, turned) / det
            # A click on the edge of two faces must not fall between them.
            inside = (first >= -1e-9) & (second >= -1e-9) & (first + second <= 1 + 1e-9) & (depth > 0)
        depth = np.where(inside, depth, np.inf)
        row = int(depth.argmin())
        if depth[row] < best:
            best, face = float(depth[row]), start + row
    return None if face < 0 else (face, origin + best * direction)
