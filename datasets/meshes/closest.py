"""How far points are from a mesh."""

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
    from scipy.spatial import KDTree

    points = np.asarray(points, dtype=np.float64).reshape(-1, 3)
    if not len(points):
        return np.empty(0)
    if not len(mesh.faces):
        return np.asarray(KDTree(mesh.vertices).query(points)[0])
    from trimesh.triangles import closest_point

    corners = np.asarray(mesh.vertices, dtype=np.float64)[mesh.faces]
    middle = corners.mean(axis=1)
    reach = float(np.linalg.norm(corners - middle[:, None], axis=2).max())
    tree = KDTree(middle)
    # A triangle that is nearer than the middle of another has its own middle no farther away than that and its size.
    nearest = np.asarray(tree.query(points)[0])
    found = np.empty(len(points))
    for i, point in enumerate(points):
        near = tree.query_ball_point(point, nearest[i] + reach * (1 + 1e-9))
        places = closest_point(corners[near], np.broadcast_to(point, (len(near), 3)))
        found[i] = np.linalg.norm(places - point, axis=1).min()
    return found
