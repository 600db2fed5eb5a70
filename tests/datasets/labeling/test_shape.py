import numpy as np
import pytest

from pcsa.datasets.labeling.shape import Shape, hit, read_shape, sample_shape, shape_scene_fields, spacing_of
from pcsa.datasets.meshes.triangles import no_faces
from pcsa.datasets.points import read_cloud

SQUARE = "ply\nformat ascii 1.0\nelement vertex 5\n" + "".join(f"property float {a}\n" for a in "xyz")
SQUARE += "element face 2\nproperty list uchar int vertex_indices\nend_header\n"
SQUARE += "9 9 9\n0 0 0\n1 0 0\n1 1 0\n0 1 0\n3 1 2 3\n3 1 3 4\n"


@pytest.fixture
def square(tmp_path):
    """The unit square of two triangles, and a vertex that none of them uses."""
    path = tmp_path / "square.ply"
    path.write_text(SQUARE)
    return path


def cloud(points):
    return Shape(np.asarray(points, np.float64), no_faces())


def naive_hit(shape, origin, direction):
    """Solve for the place on each triangle's plane, and keep the nearest inside."""
    best = None
    for corners in shape.vertices[shape.faces]:
        a, b, c = corners
        try:
            u, v, depth = np.linalg.solve(np.stack([b - a, c - a, -direction], 1), origin - a)
        except np.linalg.LinAlgError:
            continue
        if u >= 0 and v >= 0 and u + v <= 1 and depth > 0 and (best is None or depth < best[0]):
            best = depth, origin + depth * direction
    return None if best is None else best[1]


def test_a_mesh_has_the_vertices_that_faces_use(square):
    shape = read_shape(square)
    assert shape.size == (4, 2)
    assert shape.vertices.max() == 1
    np.testing.assert_allclose(shape.middle, [0.5, 0.5, 0])
    assert shape.radius == pytest.approx(2**0.5 / 2)
    assert set(shape_scene_fields(shape)) == {"pos", "color", "vertices", "faces", "vertex_color"}


def test_a_vertex_that_is_not_finite_is_refused_or_left_out(square):
    square.write_text(SQUARE.replace("0 1 0", "0 nan 0"))
    with pytest.raises(ValueError, match=r"square.ply`: 1 of 2 faces use vertices that are not finite"):
        read_shape(square)
    assert read_shape(square, drop_invalid=True).size == (3, 1)


def test_a_cloud_is_read_whole(tmp_path):
    points = np.random.default_rng(0).random((5000, 3))
    np.save(tmp_path / "a.npy", points)
    shape = read_shape(tmp_path / "a.npy")
    assert shape.size == (5000, 0)
    np.testing.assert_array_equal(shape.vertices, points)
    assert set(shape_scene_fields(shape)) == {"pos", "color"}


def test_a_ray_meets_what_a_naive_search_finds():
    rng = np.random.default_rng(0)
    shape = Shape(rng.normal(size=(40, 3)), rng.permuted(np.tile(np.arange(40), (60, 1)), axis=1)[:, :3])
    met = 0
    for _ in range(40):
        origin, direction = rng.normal(size=3) * 5, rng.normal(size=3)
        direction = -origin + direction
        direction /= np.linalg.norm(direction)
        expected, found = naive_hit(shape, origin, direction), hit(shape, origin, direction, free=True)
        assert (expected is None) == (found is None)
        if expected is not None:
            met += 1
            np.testing.assert_allclose(found, expected, atol=1e-9)
            corner = hit(shape, origin, 3 * direction)
            assert (shape.vertices == corner).all(1).any()
    assert met > 20


def test_the_nearest_corner_of_the_face_is_taken(square):
    shape = read_shape(square)
    eye = np.array([0.9, 0.2, 5.0])
    np.testing.assert_allclose(hit(shape, eye, np.array([0, 0, -1.0])), [1, 0, 0])
    np.testing.assert_allclose(hit(shape, eye, np.array([0, 0, -1.0]), free=True), [0.9, 0.2, 0])
    # From behind as from before; past it, nothing.
    np.testing.assert_allclose(hit(shape, -eye * [-1, -1, 1], np.array([0, 0, 1.0])), [1, 0, 0])
    assert hit(shape, eye, np.array([0, 0, 1.0])) is None
    assert hit(shape, eye + 1, np.array([0, 0, -1.0])) is None
    # On the edge that both triangles share.
    assert hit(shape, np.array([0.5, 0.5, 5.0]), np.array([0, 0, -1.0]), free=True) is not None


def test_far_from_the_origin_a_click_is_as_exact(square):
    shape = read_shape(square)
    far = Shape(shape.vertices + [5e5, 4.6e6, 100], shape.faces)
    found = hit(far, np.array([5e5 + 0.9, 4.6e6 + 0.2, 105.0]), np.array([0, 0, -1.0]), free=True)
    np.testing.assert_allclose(found - [5e5, 4.6e6, 100], [0.9, 0.2, 0], atol=1e-8)


def test_the_foremost_of_the_points_that_are_drawn_there_is_meant():
    # From the eye at z = 10: one before, a little aside, one behind it, in the middle of the ray.
    shape = cloud([[0.04, 0, 1], [0, 0, -1], [0.5, 0, 1]])
    eye, look = np.array([0, 0, 10.0]), np.array([0, 0, -1.0])
    np.testing.assert_array_equal(hit(shape, eye, look, radius=0.05), [0.04, 0, 1])
    # Drawn smaller, what is before does not hide what is behind.
    np.testing.assert_array_equal(hit(shape, eye, look, radius=0.01), [0, 0, -1])
    # Between the points a near miss counts, a wide one does not.
    np.testing.assert_array_equal(hit(shape, eye + [0.6, 0, 0], look, radius=0.01), [0.5, 0, 1])
    assert hit(shape, eye + [2, 0, 0], look, radius=0.01) is None
    # What lies behind the eye is not seen.
    assert hit(shape, eye, -look, radius=0.05) is None


@pytest.fixture
def sphere():
    points = np.random.default_rng(0).normal(size=(2000, 3))
    return cloud(points / np.linalg.norm(points, axis=1, keepdims=True))


def test_the_far_side_is_not_meant_though_it_is_seen_through_the_gaps(sphere):
    rng = np.random.default_rng(1)
    spacing = spacing_of(sphere.vertices)
    assert spacing == pytest.approx(0.5 * (4 * np.pi / 2000) ** 0.5, rel=0.1)
    through = 0
    for aim in rng.uniform(-0.6, 0.6, (200, 2)):
        eye = np.array([*aim, 4.0])
        found = hit(sphere, eye, np.array([0, 0, -1.0]), radius=0.005, spacing=spacing)
        assert found[2] > 0
        assert np.linalg.norm(found[:2] - aim) < 5 * spacing
        # Without the spacing, the far side is taken where it is drawn.
        drawn = hit(sphere, eye, np.array([0, 0, -1.0]), radius=0.02)
        through += drawn is not None and drawn[2] < 0
    assert through > 10


def test_beside_what_is_before_the_far_side_is_meant(sphere):
    spacing = spacing_of(sphere.vertices)
    # A wall far behind the sphere: just beside the rim nothing of the sphere lies around the ray.
    y, z = np.random.default_rng(0).uniform(-2, 2, (2, 8000))
    wall = np.stack([y, z, np.full(8000, -5.0)], 1)
    both = cloud(np.concatenate([sphere.vertices, wall]))
    for turn in np.linspace(0, 6, 20):
        aim = 1.12 * np.array([np.cos(turn), np.sin(turn)])
        found = hit(both, np.array([*aim, 40.0]), np.array([0, 0, -1.0]), radius=0.005, spacing=spacing)
        assert found[2] == -5


def test_the_spacing_of_many_points_is_that_of_some():
    u, v = np.random.default_rng(0).random((2, 100_000))
    plane = np.stack([u, v, np.zeros_like(u)], 1)
    assert spacing_of(plane) == pytest.approx(0.5 / 100_000**0.5, rel=0.1)
    assert spacing_of(plane[:1]) == spacing_of(np.zeros((5, 3))) == 0


def test_a_mesh_is_sampled_as_predict_does(square):
    points, colors = sample_shape(read_shape(square), 100)
    np.testing.assert_array_equal(points, read_cloud(square, num_points=100).points.astype(np.float32))
    assert colors is None


def test_a_thinned_cloud_keeps_what_is_labeled():
    points = np.random.default_rng(0).random((3000, 3))
    shape = Shape(points, no_faces(), np.arange(9000).reshape(3000, 3).astype(np.uint8))
    keep = points[[5, 6, 2999]]
    plain, _ = sample_shape(shape, 200)
    few, colors = sample_shape(shape, 200, keep=keep)
    assert len(plain) == len(few) == len(colors) == 200
    for position in keep.astype(few.dtype):
        assert (few == position).all(1).any()
    # The others are the same.
    assert len({*map(tuple, few.tolist())} & {*map(tuple, plain.tolist())}) >= 197
    # Colors go with their points.
    rows = [int(np.linalg.norm(points - p, axis=1).argmin()) for p in few]
    np.testing.assert_array_equal(colors, shape.colors[rows])


def test_all_labels_are_kept_where_few_points_are():
    points = np.random.default_rng(0).random((100, 3))
    few, _ = sample_shape(cloud(points), 3, keep=points[:3])
    assert {*map(tuple, few.tolist())} == {*map(tuple, points[:3].astype(few.dtype).tolist())}


def test_points_that_repeat_others_are_left_out():
    points = np.array([[0, 0, 0], [1, 2, 3], [0, 0, 0], [1, 2, 4.0]])
    np.testing.assert_array_equal(sample_shape(cloud(points), 10)[0], points[[0, 1, 3]])
