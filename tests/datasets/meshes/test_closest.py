import numpy as np
import pytest

from pcsa.datasets.meshes.closest import surface_distance
from pcsa.datasets.meshes.triangles import Mesh, no_faces


def naive(corners: np.ndarray, point: np.ndarray) -> float:
    """Try many places of the triangle."""
    steps = np.linspace(0, 1, 201)
    u, v = np.meshgrid(steps, steps)
    u, v = u[u + v <= 1 + 1e-12], v[u + v <= 1 + 1e-12]
    a, b, c = corners
    places = a + u[:, None] * (b - a) + v[:, None] * (c - a)
    return float(np.linalg.norm(places - point, axis=1).min())


@pytest.mark.parametrize("seed", range(3))
def test_as_a_search_over_all_triangles_finds_it(seed: int) -> None:
    rng = np.random.default_rng(seed)
    # Large ones among small ones: the nearest triangle need not have the nearest middle.
    vertices = rng.normal(size=(60, 3)) * np.where(np.arange(60) < 6, 5.0, 0.5)[:, None]
    faces = np.concatenate([[[0, 1, 2], [3, 4, 5]], rng.integers(6, 60, (15, 3))])
    mesh, points = Mesh(vertices, faces), rng.normal(size=(8, 3)) * 3
    expected = [min(naive(vertices[face], point) for face in faces) for point in points]
    np.testing.assert_allclose(surface_distance(mesh, points), expected, atol=0.08)
    assert (surface_distance(mesh, points) <= np.array(expected) + 1e-12).all()


def test_clouds_lines_and_points() -> None:
    cloud = Mesh(np.array([[0.0, 0, 0], [1, 0, 0]]), no_faces())
    np.testing.assert_allclose(surface_distance(cloud, [[0.5, 0, 0], [3, 0, 0]]), [0.5, 2])
    # Triangles without area are lines and points.
    flat = Mesh(np.array([[0.0, 0, 0], [2, 0, 0], [1, 0, 0]]), np.array([[0, 1, 2], [0, 0, 0]]))
    np.testing.assert_allclose(surface_distance(flat, [[1, 1, 0], [-3, 0, 0]]), [1, 3])
    assert surface_distance(cloud, np.empty((0, 3))).shape == (0,)
