import math
import os
from pathlib import Path

import numpy as np
import pytest

from pcsa.datasets.keypointnet import KeypointNet
from pcsa.datasets.keypointnet.check import check_root
from pcsa.datasets.keypointnet.mirror import category_mirror_pairs, mirror_pairs, spacings


@pytest.fixture
def shape():
    """A cloud that is its own mirror image about x = 3, and nothing about y and z."""
    rng = np.random.default_rng(0)
    half = rng.random((300, 3)) * (1, 2, 1)
    return np.concatenate([half, half * (-1, 1, 1)]) + (3, 7, -2)


def test_noise_of_the_labels_is_what_is_measured(shape):
    rng = np.random.default_rng(1)
    index = rng.choice(300, 40, replace=False)
    left, right = shape[index], shape[index + 300]
    noise = rng.normal(0, 0.004, left.shape)
    keypoints = np.concatenate([left, right + noise])
    pairs = [(i, i + 40) for i in range(40)]
    found = mirror_pairs(shape, keypoints, pairs)
    np.testing.assert_allclose(found.distance, np.linalg.norm(noise, axis=1), atol=2e-3)
    assert found.on_surface.all()
    for r in (0.003, 0.007, 0.02):
        assert found.agreement(r) == pytest.approx((found.distance < r).mean())
    # Which one is named first says nothing.
    swapped = mirror_pairs(shape, keypoints, [(b, a) for a, b in pairs])
    np.testing.assert_allclose(swapped.distance, found.distance)
    # Neither does the order of the points; and it moves and scales with the cloud.
    other = mirror_pairs(5 * shape[::-1] + 2, 5 * keypoints + 2, pairs)
    np.testing.assert_allclose(other.distance, 5 * found.distance, atol=0.01)


def test_a_plane_where_only_a_part_is_symmetric(shape):
    # What one side has alone moves the middle of the box, and not the plane.
    arm = np.random.default_rng(2).random((20, 3)) * (1, 0.1, 0.1) + (4, 7, -2)
    found = mirror_pairs(np.concatenate([shape, arm]), shape[[5, 305]], [(0, 1)])
    assert found.distance[0] < 0.06


def test_what_has_no_counterpart_is_left_out(shape):
    # The right half is gone beyond y = 8.
    broken = shape[(shape[:, 0] < 3) | (shape[:, 1] < 8)]
    low, high = (shape[i] for i in (shape[:300, 1].argmin(), shape[:300, 1].argmax()))
    mirrored = [keypoint * (-1, 1, 1) + (6, 0, 0) for keypoint in (low, high)]
    found = mirror_pairs(broken, [low, mirrored[0], high, mirrored[1]], [(0, 1), (2, 3)])
    assert found.on_surface.tolist() == [True, False]
    assert found.agreement(0.1) == 1


def test_no_pairs(shape):
    found = mirror_pairs(shape, shape[:2], [])
    assert len(found.distance) == 0
    assert math.isnan(found.agreement(1))
    # One point: a plane goes through it.
    alone = mirror_pairs(np.ones((1, 3)), np.ones((2, 3)), [(0, 1)])
    assert alone.distance.tolist() == [0]


def test_spacings():
    assert spacings(np.array([[0.0], [1], [3], [3]])).tolist() == [1, 1, 2]
    assert spacings(np.ones((4, 3))).tolist() == [0]


def test_beds_of_keypointnet(tmp_path):
    root = os.environ.get("PCSA_TEST_DATA")
    if root is None or not (Path(root) / "keypointnet").is_dir():
        pytest.skip("PCSA_TEST_DATA does not name a folder with keypointnet/")
    dataset = KeypointNet(Path(root) / "keypointnet", "bed", "all", cache_dir=tmp_path)
    found = category_mirror_pairs(dataset)
    # Measured: 67 % and 86 %. With the planes x = 0 and z = 0 as they are it is 47 % and 65 %.
    assert found.agreement(0.01) == pytest.approx(0.67, abs=0.02)
    assert found.agreement(math.sqrt(2) * 0.01) == pytest.approx(0.86, abs=0.02)
    assert found.on_surface.sum() > 440
    again = category_mirror_pairs(dataset)
    np.testing.assert_array_equal(again.distance, found.distance)
    assert len(list(tmp_path.glob("bed-mirror-*.npz"))) == 1


def test_facts_of_a_root(root, points_of):
    facts = []
    check_root(root, facts)
    # aa, bb and cc have clouds, 3 + 1 + 2 keypoints and 2 + 0 + 1 pairs.
    apart = []
    for model_id, rows in (("aa", (4, 1, 0)), ("bb", (3,)), ("cc", (0, 9))):
        away = np.linalg.norm(points_of(model_id)[:, None] - points_of(model_id), axis=2)
        apart += [np.sort(away[row])[1] for row in rows]
    share = np.mean(np.array(apart) > 0.01)
    (fact,) = facts
    assert fact.startswith("bed: 3 clouds, neighbors ")
    assert f"; {share:.0%} of the 6 annotated points have no other point within 0.01" in fact
    assert len(apart) == 6
    dataset = KeypointNet(root, "bed", "all")
    pairs = category_mirror_pairs(dataset)
    assert len(pairs.distance) == 3
    assert f"; {pairs.on_surface.sum()} pairs of left and right annotations" in fact
    assert f"within 0.01 in {pairs.agreement(0.01):.0%}" in fact


def test_nothing_to_say_of_a_root_that_is_broken(root, edit):
    facts = []
    edit(root, lambda records: [record["keypoints"].clear() for record in records])
    check_root(root, facts)
    assert facts == []
