"""How far points are from a mesh."""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pcsa.datasets.meshes.triangles import Mesh


def surface_distance(mesh: Mesh, points: ArrayLike) -> NDArray[np.float64]:
    """Return the distance of points to the surface of a mesh, or, where it has no faces, to its vertices.

    Args:
        mesh: Its vertices must be finite where a face uses them.
        points: `[n, 3]`, finite, in the units of the mesh.

    Returns:
        `[n]`, in the same units.

    Example:
        >>> mesh = Mesh(np.array([[0.0, 0, 0], [4, 0, 0], [0, 4, 0]]), np.array([[0, 1, 2]]))
        >>> surface_distance(mesh, [[1, 1, 2], [1, 1, 0], [-3, -4, 0]]).tolist()
        [2.0, 0.0, 5.0]

    """
    return distance_to(mesh)(points)


def distance_to(mesh: Mesh) -> Callable[[ArrayLike], NDArray[np.float64]]:
    """Return what :func:`surface_distance` of a mesh is, for points that come one after the other."""
    from scipy.spatial import KDTree

    if not len(mesh.faces):
        vertices = KDTree(mesh.vertices)
        return lambda points: np.asarray(vertices.query(_rows(points))[0]).reshape(-1)
    from trimesh.triangles import closest_point

    corners = np.asarray(mesh.vertices, dtype=np.float64)[mesh.faces]
    middle = corners.mean(axis=1)
    reach = float(np.linalg.norm(corners - middle[:, None], axis=2).max())
    tree = KDTree(middle)

    def distance(points: ArrayLike) -> NDArray[np.float64]:
        rows = _rows(points)
        # The middle of a nearer triangle is no farther away than the nearest middle, and the size of a triangle.
        most = np.asarray(tree.query(rows)[0]).reshape(-1) + reach * (1 + 1e-9)
        found = np.empty(len(rows))
        for i, point in enumerate(rows):
            near = tree.query_ball_point(point, most[i])
            places = closest_point(corners[near], np.broadcast_to(point, (len(near), 3)))
            found[i] = np.linalg.norm(places - point, axis=1).min()
        return found

    return distance


def _rows(points: ArrayLike) -> NDArray[np.float64]:
    return np.asarray(points, dtype=np.float64).reshape(-1, 3)
