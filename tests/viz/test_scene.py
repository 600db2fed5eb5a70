import dataclasses
import logging

import numpy as np
import pytest
import torch

import pcsa
from pcsa.viz import LAYERS, Scene, keypoint_colors, keypoint_scene
from pcsa.viz.colors import oklab
from pcsa.viz.scene import balls, lines, map_shares, shading, size_of, thin


def test_colors_belong_to_ids_and_differ():
    colors = keypoint_colors(24)
    assert colors.shape == (24, 3)
    np.testing.assert_array_equal(keypoint_colors([7, 3]), colors[[7, 3]])
    apart = np.linalg.norm(colors[:, None] - colors, axis=2) + np.eye(24)
    assert apart.min() > 0.15
    # Neither white nor gray, as background and cloud are.
    assert (np.ptp(colors, axis=1) > 0.15).all()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"pos": np.zeros((0, 3))}, r"`pos` \[0, 3\]"),
        ({"pos": np.zeros((4, 2))}, r"`pos` \[4, 2\]"),
        ({"pos": np.full((4, 3), np.nan)}, "`pos` has 12 values that are not finite"),
        ({"pos": "cloud"}, "`pos` must be numbers"),
        ({"keypoints": [[0.0, 0.0, np.inf]]}, "`keypoints` has 1 values that are not finite"),
        ({"keypoints": [[0.0, 0.0]]}, r"`keypoints` \[1, 2\] must be \[1, 3\]"),
        ({"annotated": [[np.nan] * 3]}, "`annotated` has 3 values"),
        ({"keypoints": [[0.0] * 3], "prob": np.ones((3, 1))}, r"`prob` \[3, 1\] must be \[4, 1\]"),
        ({"keypoints": [[0.0] * 3], "names": ["a", "b"]}, r"`names` \(2\)"),
        ({"keypoints": [[0.0] * 3], "segments": [[0, 1]]}, "`segments` must be places in the 1 `keypoints`"),
        ({"segments": [[0, 0]]}, "`segments`"),
        ({"vertices": np.zeros((2, 3)), "faces": [[0, 1, 2]]}, "`faces` must be places in the 2 `vertices`"),
    ],
)
def test_what_does_not_fit_is_named(fields, message):
    with pytest.raises(ValueError, match=message):
        Scene(**{"pos": np.zeros((4, 3)), **fields})


def test_what_is_not_drawn_may_hold_anything():
    scene = Scene(
        torch.rand(5, 3),
        keypoints=[[0.0] * 3, [np.nan] * 3],
        present=[True, False],
        annotated=torch.tensor([[0.0, 3.0, 4.0], [torch.nan] * 3]),
        visible=[True, False],
    )
    np.testing.assert_array_equal(scene.error, [5.0, np.nan])
    assert scene.layers == ("cloud", "keypoints", "annotated", "errors")
    assert len(balls(scene, LAYERS).center) == 1


def test_a_cloud_alone():
    scene = Scene([[1.0, 2.0, 3.0]])
    assert scene.layers == ("cloud",)
    assert scene.num_keypoints == 0
    assert len(balls(scene, LAYERS).center) == len(lines(scene, LAYERS, None, np.eye(3)).start) == 0


def test_ellipsoids_are_one_standard_deviation(box):
    drawn = lines(box, ["covariance"], None, np.eye(3))
    away = drawn.start[drawn.keypoint == 0] - box.keypoints[0]
    # Each point y of the three ellipses has y' C^-1 y = 1.
    np.testing.assert_allclose(np.einsum("ma,ab,mb->m", away, np.linalg.inv(box.covariance[0]), away), 1.0)
    assert np.abs(away).max(0) == pytest.approx([0.1, 0.001**0.5, 0.001**0.5])


def test_a_map_shows_the_marks_of_its_keypoint_alone(box):
    assert set(balls(box, LAYERS, 1).keypoint) == {1}
    assert set(lines(box, ["annotated", "errors", "covariance"], 1, np.eye(3)).keypoint) == {1}


def test_the_mark_of_a_map_leaves_its_peak_open(box):
    assert len(balls(box, ["keypoints"], 1).center) == 0
    cross = lines(box, ["keypoints"], 1, np.eye(3))
    assert len(cross.start) == 4
    away = np.linalg.norm(np.stack([cross.start, cross.end]) - box.keypoints[1], axis=2)
    # Two points of a map have room in it, the largest of which have twice the radius of the others.
    assert away.min() > 0.03 * size_of(box)
    assert away.max() < 0.1 * size_of(box)
    # Without a map it is a ball.
    assert len(balls(box, ["keypoints"]).center) == 2
    assert len(lines(box, ["keypoints"], None, np.eye(3)).start) == 0


def test_a_log_scale_shows_what_a_peak_hides():
    share = np.array([1, 0.1, 1e-3, 1e-9, 0])
    scene = Scene(np.eye(5, 3), keypoints=np.zeros((1, 3)), prob=0.5 * share[:, None], map_scale="log")
    np.testing.assert_allclose(map_shares(scene, 0), [1, 2 / 3, 0, 0, 0], atol=1e-6)
    np.testing.assert_allclose(map_shares(dataclasses.replace(scene, map_scale="linear"), 0), share)
    with pytest.raises(ValueError, match=r"`map_scale` \(='square'\)"):
        Scene(np.eye(3), map_scale="square")


def test_segments_are_as_thick_as_they_are_active(box):
    scene = dataclasses.replace(box, segments=[[0, 1], [1, 0], [0, 1]], activation=[0.8, 0.4, 0.0])
    drawn = lines(scene, ["skeleton"], None, np.eye(3))
    assert len(drawn.start) == 2  # what has no activation is not there
    assert drawn.radius[0] == pytest.approx(2 * drawn.radius[1])


def test_thin_keeps_peaks_and_says_so(caplog):
    N = 50_000
    prob = torch.full((N, 1), 1e-9)
    prob[12_345] = 1.0
    scene = Scene(torch.rand(N, 3), prob=prob, ids=[4])
    with caplog.at_level(logging.INFO):
        few = thin(scene, 100)
    assert len(few.pos) <= 100
    assert few.prob.max() == 1.0
    assert "of 50,000 points" in few.note
    assert "of 50,000 points" in caplog.text
    assert thin(few, 100) is few


def test_shading_does_not_depend_on_place_and_size():
    rng = np.random.default_rng(0)
    floor = np.stack([rng.random(200), np.zeros(200), rng.random(200)], 1)
    light = np.array([0.0, 1.0, 0.0])
    np.testing.assert_allclose(shading(floor, light), 1.0, atol=1e-6)
    np.testing.assert_allclose(shading(floor * 1e-8 + 1e-6, light), 1.0, atol=1e-4)
    np.testing.assert_allclose(shading(floor[:, [1, 0, 2]], light), 0.0, atol=1e-6)


def test_keypoint_scene_is_what_localize_finds():
    generator = torch.Generator().manual_seed(0)
    pos = torch.rand(100, 3, generator=generator)
    logits = 3 * torch.randn(100, 2, generator=generator)
    found = pcsa.localize(logits, pos, pcsa.knn_bandwidth(pos))
    # Far away in double precision, where single precision would have steps of 0.06.
    far = pos.double() + 1e6
    scene = keypoint_scene(far, logits, num_samples=5, temperature=0.5, generator=generator, names=["a", "b"])
    np.testing.assert_allclose(scene.keypoints - 1e6, found.position[0], atol=1e-5)
    np.testing.assert_allclose(scene.covariance, found.covariance[0], atol=1e-5)
    np.testing.assert_allclose(scene.confidence, found.peak[0], atol=1e-6)
    assert scene.samples.shape == (2, 5, 3)
    np.testing.assert_allclose(scene.prob.sum(0), 1.0, atol=1e-5)
    with pytest.raises(ValueError, match=r"`tempering` \(='loud'\)"):
        keypoint_scene(pos, logits, tempering="loud")


@pytest.mark.parametrize("tempering", ["logits", "noise"])
def test_samples_are_those_of_the_training(tempering):
    pos = torch.rand(100, 3, generator=torch.Generator().manual_seed(0)).double()
    logits = 3 * torch.randn(100, 2, generator=torch.Generator().manual_seed(1))
    options = {"num_samples": 5, "temperature": 0.5}
    scene = keypoint_scene(
        pos, logits, bandwidth=0.1, tempering=tempering, generator=torch.Generator().manual_seed(2), **options
    )
    # About the middle of the cloud, as the scene draws them.
    center = pos.mean(0)
    expected = pcsa.sampling_argmax(
        logits * 0.5 if tempering == "noise" else logits,
        (pos - center).float(),
        0.1,
        generator=torch.Generator().manual_seed(2),
        **options,
    )
    np.testing.assert_allclose(scene.samples, expected[0].double() + center, atol=1e-6)


def lab(color):
    """CIELAB of sRGB colors, under the white of D65."""
    light = np.where(color <= 0.04045, color / 12.92, ((color + 0.055) / 1.055) ** 2.4)
    xyz = light @ np.array([[0.4124, 0.2126, 0.0193], [0.3576, 0.7152, 0.1192], [0.1805, 0.0722, 0.9505]])
    x, y, z = (
        np.cbrt(v) if v.min() > 0.009 else np.where(v > 0.008856, np.cbrt(v), 7.787 * v + 16 / 116)
        for v in np.moveaxis(xyz / [0.9505, 1.0, 1.089], -1, 0)
    )
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


def test_what_the_docstring_promises_of_the_first_colors():
    found = oklab(keypoint_colors(24))
    apart = np.linalg.norm(found[:, None] - found, axis=2) + np.eye(24)
    assert apart.min() > 0.16
    # Those of few keypoints are farther apart, and all far from the page and the grays of a cloud.
    assert apart[:8, :8].min() > 0.19
    around = oklab(np.array([[1.0] * 3, [0.84] * 3, [0.5] * 3]))
    assert (np.linalg.norm(found[:, None] - around, axis=2).min(0) > [0.17, 0.11, 0.11]).all()


@pytest.mark.parametrize(("count", "least"), [(24, 20), (60, 12), (200, 5.5), (1024, 2.5)])
def test_any_number_of_colors_can_be_told_apart(count, least):
    colors = keypoint_colors(count)
    apart = np.linalg.norm(lab(colors)[:, None] - lab(colors), axis=2) + 1e3 * np.eye(count)
    assert apart.min() > least
    assert (colors[:24] == keypoint_colors(24)).all()
    # Neither white, black nor gray.
    assert np.linalg.norm(lab(colors)[:, 1:], axis=1).min() > 10
    np.testing.assert_array_equal(keypoint_colors([count - 1, 3]), colors[[count - 1, 3]])


def test_names_and_titles_may_be_missing():
    scene = Scene(
        np.zeros((2, 3)), keypoints=np.zeros((3, 3)), names=np.array([None, " ", "a"]), ids=np.array([7, 8, 9])
    )
    assert (scene.names, scene.ids) == (["7", "8", "a"], [7, 8, 9])
    scene = Scene(np.zeros((2, 3)), title=None, note=None, names=None, ids=None, samples=np.zeros((2, 4, 3)))
    assert (scene.title, scene.note, scene.names) == ("", "", ["0", "1"])
