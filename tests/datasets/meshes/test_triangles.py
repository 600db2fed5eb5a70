import numpy as np
import pytest
import trimesh

from pcsa.datasets.meshes.triangles import Mesh, sample_triangles, triangulate

L_SHAPE = [(0, 0), (3, 0), (3, 1), (1, 1), (1, 3), (0, 3)]  # area 5
COMB = [(0, 0), (5, 0), (5, 3), (4, 3), (4, 1), (3, 1), (3, 3), (2, 3), (2, 1), (1, 1), (1, 3), (0, 3)]  # 5 + 3 · 2
# A square of 4 with a hole of 2, whose outline goes over its bridge twice: area 12.
RING = [(0, 0), (4, 0), (4, 4), (0, 4), (0, 0), (1, 1), (1, 3), (3, 3), (3, 1), (1, 1)]


def area(vertices: np.ndarray, faces: np.ndarray) -> float:
    a, b, c = np.moveaxis(vertices[faces], 1, 0)
    return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2)


def one_polygon(outline: list[tuple[int, int]], turned: np.ndarray, shift: int) -> tuple[np.ndarray, np.ndarray]:
    vertices = np.array([(x, y, 0.5) for x, y in outline]) @ turned.T
    index = np.roll(np.arange(len(outline)), shift)
    return vertices, triangulate(vertices, index, np.array([len(outline)]))


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("axes", [(0, 1, 2), (1, 2, 0), (2, 0, 1), None])
@pytest.mark.parametrize(("outline", "expected"), [(L_SHAPE, 5), (COMB, 11), (RING, 12)])
def test_polygons_that_are_not_convex(
    outline: list[tuple[int, int]], expected: int, axes: tuple[int, ...] | None, backwards: bool
) -> None:
    turned = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0] if axes is None else np.eye(3)[list(axes)]
    for shift in range(6):
        vertices, faces = one_polygon(outline[::-1] if backwards else outline, turned, shift)
        assert len(faces) == len(outline) - 2
        assert area(vertices, faces) == pytest.approx(expected)


def test_polygons_keep_their_order_and_sizes_mix() -> None:
    vertices = np.array([(0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0), (-1, 0.5, 0)], float)
    index = np.array([0, 1, 2, 3, 0, 1, 2, 0, 1, 4, 0, 1, 2, 3, 2])
    faces = triangulate(vertices, index, np.array([4, 3, 2, 5, 1]))
    assert faces.tolist() == [[0, 1, 2], [0, 2, 3], [0, 1, 2], [4, 0, 1], [4, 1, 2], [4, 2, 3]]
    assert triangulate(vertices, index[:0], np.array([], np.int64)).shape == (0, 3)


def test_corners_outside_a_plane_make_a_fan() -> None:
    vertices = np.array([(0, 0, 0), (1, 0, 1), (1, 1, 0), (0, 1, 1)], float)
    assert triangulate(vertices, np.arange(4), np.array([4])).tolist() == [[0, 1, 2], [0, 2, 3]]


def test_many_arrowheads() -> None:
    # The second corner points inwards: only the fans around it and around the fourth one fit.
    arrow = np.array([(0, 0, 0), (1, 1, 0), (2, 0, 0), (1, 4, 0)], float)
    vertices = np.concatenate([np.add(arrow, [5 * i, 0, i]) for i in range(1000)])
    faces = triangulate(vertices, np.arange(4000), np.full(1000, 4))
    assert area(vertices, faces) == pytest.approx(3000)
    assert faces[:2].tolist() == [[1, 2, 3], [1, 3, 0]]


def test_a_polygon_that_crosses_itself_and_one_that_is_not_finite_make_a_fan() -> None:
    crossed = np.array([(0, 0, 0), (2, 2, 0), (2, 0, 0), (0, 1, 0)], float)
    assert len(triangulate(crossed, np.arange(4), np.array([4]))) == 2
    crossed[1] = np.nan
    assert triangulate(crossed, np.arange(4), np.array([4])).tolist() == [[0, 1, 2], [0, 2, 3]]


def test_a_polygon_of_too_many_corners_is_refused_only_if_not_convex() -> None:
    angle = np.linspace(0, 2 * np.pi, 2000, endpoint=False)
    vertices = np.stack([np.cos(angle), np.sin(angle), np.zeros(2000)], 1)
    assert len(triangulate(vertices, np.arange(2000), np.array([2000]))) == 1998
    vertices[::2] *= 0.5
    with pytest.raises(ValueError, match="2000 corners is not convex, must have at most 1000"):
        triangulate(vertices, np.arange(2000), np.array([2000]))


def test_samples_as_trimesh_draws_them() -> None:
    sphere = trimesh.creation.icosphere(2)
    points, _ = sample_triangles(Mesh(sphere.vertices, sphere.faces), 300, 5)
    np.testing.assert_allclose(points, trimesh.sample.sample_surface(sphere, 300, seed=5)[0], atol=1e-12)


@pytest.mark.parametrize(
    ("offset", "scale"), [((691000.25, 4600000.5, -5e6), 1.0), ((0, 0, 0), 1e-170), ((1e9,) * 3, 1e-3)]
)
def test_far_and_small_meshes(offset: tuple[float, ...], scale: float) -> None:
    box = trimesh.creation.box((2, 4, 6))
    mesh = Mesh(box.vertices * scale + offset, box.faces)
    points = (sample_triangles(mesh, 1000, 0)[0] - offset) / scale
    gap = np.abs(np.array([1, 2, 3]) - np.abs(points)).min(1)
    spacing = np.spacing(max(map(abs, offset)) + scale) / scale
    assert gap.max() <= 4 * spacing
    # As many on each side as it has of the area.
    shares = (np.abs(np.abs(points) - [1, 2, 3]) <= 4 * spacing).mean(0)
    np.testing.assert_allclose(shares, np.array([24, 12, 8]) / 44, atol=0.05)


def test_colors_are_mixed_and_vertices_without_faces_never_sampled() -> None:
    vertices = np.array([(1e6, 0, 0), (0, 0, 0), (1, 0, 0), (0, 1, 0), (np.nan, 0, 0)])
    colors = np.array([(9, 9, 9), (0, 0, 0), (200, 0, 0), (0, 100, 0), (9, 9, 9)], np.uint8)
    points, mixed = sample_triangles(Mesh(vertices, np.array([[1, 2, 3], [1, 1, 2]]), colors), 500, 0)
    assert points.max() <= 1
    assert mixed is not None
    np.testing.assert_array_equal(mixed, np.rint(points * [200, 100, 0]))


@pytest.mark.parametrize(
    ("vertices", "message"),
    [
        ([(0, 0, 0), (1, 1, 1), (3, 3, 3)], "lines or points"),
        ([(5, 5, 5)] * 3, "extend over 0"),
        ([(-1.5e308, 0, 0), (1.5e308, 0, 0), (0, 1, 0)], "extend over inf"),
    ],
)
def test_a_mesh_without_area_is_refused(vertices: list[tuple[float, ...]], message: str) -> None:
    with pytest.raises(ValueError, match=f"no area to sample: its faces .*{message}"):
        sample_triangles(Mesh(np.array(vertices), np.array([[0, 1, 2]])), 10, 0)
