import numpy as np
import pytest

from pcsa.datasets.labeling.mirror import Mirror, choose_plane, mirror_planes, side_pairs


@pytest.mark.parametrize(
    ("names", "pairs"),
    [
        (["nose", "right_ear", "left_ear"], [("left_ear", "right_ear")]),
        (["L knee", "R knee", "l_hip", "r_hip"], [("L knee", "R knee"), ("l_hip", "r_hip")]),
        (["earLeft", "earRight"], [("earLeft", "earRight")]),
        (["LEFT", "RIGHT"], [("LEFT", "RIGHT")]),
        (["leftear", "rightear"], [("leftear", "rightear")]),
        (["left_ear", "nose"], []),
        (["heel", "roof", "lamp", "ramp"], []),
        ([], []),
    ],
)
def test_sides(names, pairs):
    assert side_pairs(names) == pairs


def surface(seed):
    """A surface, points on one side and then their images across x = 0, that no other plane mirrors."""
    half = np.random.default_rng(seed).normal(size=(700, 3))
    half *= np.array([0.7, 1.0, 0.5]) / np.linalg.norm(half, axis=1, keepdims=True)
    half[:, 0] = np.abs(half[:, 0])
    half[:, 1] += 0.4 * half[:, 2] ** 2 + 0.2 * half[:, 0]
    half[:, 2] += 0.3 * half[:, 1].clip(min=0) ** 2
    return np.concatenate([half, half * [-1, 1, 1]])


@pytest.fixture(params=[0.0, 1e6])
def turned(request):
    """A surface turned by 20 degrees and shifted; the normal of its plane, and the offset."""
    c, s = np.cos(0.35), np.sin(0.35)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])
    shift = np.array([1.0, -2, 3]) + request.param
    return surface(0) @ turn.T + shift, turn[:, 0], float(turn[:, 0] @ shift)


def test_the_plane_of_a_turned_shape_is_found(turned):
    cloud, normal, offset = turned
    best = mirror_planes(cloud)[0]
    sign = np.sign(best.normal @ normal)
    np.testing.assert_allclose(sign * best.normal, normal, atol=1e-4)
    assert sign * best.offset == pytest.approx(offset, abs=1e-3)
    assert best.error < 1e-3
    np.testing.assert_allclose(best.image(cloud[:700]), cloud[700:], atol=2e-3)


def test_what_one_side_has_alone_does_not_turn_the_plane():
    handle = np.random.default_rng(1).uniform(0, 0.2, (100, 3)) + [0.9, 0.1, 0.1]
    across = choose_plane(mirror_planes(np.concatenate([surface(0), handle])), [], np.array([1.0, 0, 0]))
    assert abs(across.normal[0]) > 0.999
    assert abs(across.offset) < 0.01


def test_an_image_is_an_involution():
    plane = Mirror(np.array([0.6, 0.8, 0]), 2.0, 0.0)
    x = np.random.default_rng(0).normal(size=(5, 3))
    np.testing.assert_allclose(plane.image(plane.image(x)), x, atol=1e-12)
    np.testing.assert_allclose((x + plane.image(x)) @ plane.normal / 2, 2.0)


def test_the_plane_between_left_and_right_is_chosen():
    planes = [Mirror(axis, 0.0, error) for axis, error in zip(np.eye(3), (0.1, 0.2, 0.3), strict=True)]
    left, right = np.array([0, 1.0, 0.2]), np.array([0, -1.0, 0.2])
    assert choose_plane(planes, [], None) is planes[0]
    assert choose_plane(planes, [(left, right)], None) is planes[1]
    assert choose_plane(planes, [], np.array([0.1, 0, 0.9])) is planes[2]
    assert choose_plane(planes, [], np.array([1.0, 1, 1])) is None
    assert choose_plane([], [], None) is None


@pytest.mark.parametrize("points", [np.zeros((1, 3)), np.zeros((50, 3)), np.eye(3)])
def test_too_few_places_have_no_plane(points):
    assert mirror_planes(points) == []
