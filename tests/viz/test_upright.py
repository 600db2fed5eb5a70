"""A shape whose axis x or z points up looks as the same shape with y up."""

import zlib
from dataclasses import replace

import numpy as np
import pytest

from pcsa.viz import Scene, fit, render, save_html
from pcsa.viz.page import front_of
from pcsa.viz.upright import to_upright, upright

PLACES = ("pos", "keypoints", "annotated", "samples", "vertices")
others = pytest.mark.parametrize("up", ["x", "z"])


@pytest.fixture
def solid(box):
    """The box with a mesh and a keypoint that was not found."""
    corners = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.4, 0.4) for z in (-0.3, 0.3)])
    faces = np.array([[0, 1, 2], [1, 2, 3], [4, 5, 6], [5, 6, 7]])
    keypoints = np.array([[0.5, 0.4, -0.3], [np.nan, np.inf, 1.0]])
    tilted = np.array([[4.0, 1.0, 0.5], [1.0, 2.0, 0.25], [0.5, 0.25, 1.0]]) / 100
    options = {"present": [True, False], "covariance": np.stack([tilted, tilted]), "vertices": corners, "faces": faces}
    return replace(box, keypoints=keypoints, **options)


def laid(scene, up):
    """The same scene in a frame whose axis ``up`` points up."""
    turn = to_upright(up)

    def back(x):
        # As :func:`upright`, what is not finite stays where it is.
        return np.stack([np.where(turn[:, i] != 0, turn[:, i] * x, 0.0).sum(-1) for i in range(3)], -1)

    moved = {name: back(getattr(scene, name)) for name in PLACES if getattr(scene, name) is not None}
    return replace(scene, up=up, covariance=turn.T @ scene.covariance @ turn, **moved)


@others
def test_axes_change_places_and_nothing_else(solid, up):
    turn = to_upright(up)
    np.testing.assert_array_equal(turn @ turn.T, np.eye(3))
    assert np.linalg.det(turn) == 1  # no mirror image
    np.testing.assert_array_equal(turn @ np.eye(3)["xyz".index(up)], [0, 1, 0])
    with np.errstate(invalid="ignore"):
        lying = laid(solid, up)
    assert np.ptp(lying.pos, axis=0)["xyz".index(up)] == 0.8
    stood = upright(lying)
    assert stood.up == "y"
    for name in (*PLACES, "covariance"):
        np.testing.assert_array_equal(getattr(stood, name), getattr(solid, name))
    assert upright(solid) is solid


@others
def test_pages_and_pictures_are_the_same(box, up, tmp_path):
    lying = laid(box, up)
    pages = []
    for scene in (box, lying):
        save_html(tmp_path / "a.html", [scene])
        pages.append((tmp_path / "a.html").read_bytes())
    assert pages[0] == pages[1]
    frames = [fit([scene]) for scene in (box, lying)]
    np.testing.assert_array_equal(frames[0][0], frames[1][0])
    straight, turned = render([box, lying], backend="matplotlib", size=(160, 120))
    np.testing.assert_array_equal(straight, turned)
    # Without being told which way is up, it lies.
    (fallen,) = render([replace(lying, up="y")], backend="matplotlib", size=(160, 120))
    assert zlib.crc32(fallen.tobytes()) != zlib.crc32(straight.tobytes())


@others
def test_served_pages_stand_as_their_first_scene(box, up):
    pytest.importorskip("viser", reason="viser is not installed (pcsa[viz])")
    from pcsa.viz.browser import ViewPage

    with ViewPage(laid(box, up), port=0) as page:
        assert page.up == up
        np.testing.assert_array_equal(page.server.initial_camera.position, front_of(up))
        np.testing.assert_array_equal(page.server.initial_camera.up, np.eye(3)["xyz".index(up)])


def test_another_axis_is_refused(box):
    with pytest.raises(ValueError, match=r"`up` \(='none'\) must be one of"):
        Scene(box.pos, up="none")
