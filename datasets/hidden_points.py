"""Which points of a cloud a view point sees."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pcsa._core.checks import check_positive


def seen_points(points: NDArray[np.floating], view_point: ArrayLike, *, radius: float = 100.0) -> NDArray[np.bool_]:
    r"""Find the points that are not hidden by others, without a surface and without normals.

    The operator of Katz, Tal and Basri, `"Direct Visibility of Point Sets"
    <https://doi.org/10.1145/1275808.1276407>`_, 2007: points are flipped across a sphere around the view point,
    :math:`p + 2 (R - \lVert p \rVert) p / \lVert p \rVert` (Eq. 1), and those on the convex hull of what results and
    the view point are seen.

    Args:
        points: `[N, D]`, at least one, finite. Points in the same place are all seen or all hidden.
        view_point: `[D]`, in the units and frame of ``points``, outside of the shape. A point there is seen.
        radius: R as a multiple of the largest distance of a point from the view point, above 1. Larger ones see more:
            hollows of a sparse cloud stay seen, and so do more points of its far side.

    Returns:
        Whether each point is seen, `[N]`.

    Raises:
        ValueError: If an argument is out of its range; the message names it, its value and the rule.

    Example:
        >>> seen_points(np.array([[0.0, 0.0], [1.0, 0.0], [0.5, 1.0], [0.5, -1.0]]), [5.0, 0.0]).tolist()
        [False, True, True, True]

    """
    points = np.asarray(points, dtype=np.float64)
    if points.ndim != 2 or not len(points) or not np.isfinite(points).all():
        raise ValueError(f"`points` {list(points.shape)} must be [N, D], finite, and at least one")
    view = np.asarray(view_point, dtype=np.float64)
    if view.shape != points.shape[1:] or not np.isfinite(view).all():
        raise ValueError(f"`view_point` (={np.asarray(view_point).tolist()}) must be {points.shape[1]} finite numbers")
    check_positive("radius", radius)
    if radius <= 1:
        raise ValueError(f"`radius` (={radius}) must be above 1")
    places, place = np.unique(points - view, axis=0, return_inverse=True)
    distance = np.linalg.norm(places, axis=1)
    seen = distance == 0
    away = ~seen
    if away.any():
        far = distance[away, None]
        flipped = places[away] * (2 * radius * far.max() / far - 1)
        seen[away] = _on_hull(flipped)
    return np.asarray(seen[place.reshape(-1)])


def _on_hull(points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether points are corners of the convex hull of all of them and the origin, in whatever space they span."""
    from scipy.spatial import ConvexHull

    _, size, axes = np.linalg.svd(points, full_matrices=False)
    axes = axes[size > 1e-9 * size[0]]
    inside = np.concatenate([points @ axes.T, np.zeros((1, len(axes)))])
    # In a plane with the view point, or on a line with it, Qhull needs the plane's own axes.
    corners = [inside.argmin(), inside.argmax()] if len(axes) == 1 else ConvexHull(inside).vertices
    on_hull = np.zeros(len(inside), dtype=bool)
    on_hull[corners] = True
    return on_hull[:-1]
