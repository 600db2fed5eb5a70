import os
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from pcsa.metrics import (
    TrainingShapes,
    mean_shape,
    mean_shape_keypoints,
    nearest_shape_keypoints,
    procrustes_align,
    register_cloud,
)


def shape(seed, count=300):
    """A cloud without any symmetry, whose proportions the seed determines, and six of its points."""
    rng = np.random.default_rng(seed)
    arms = np.array([[4.0, 0.6, 0.4], [0.5, 2.4, 0.3], [0.4, 0.2, 1.3]]) * rng.uniform(0.8, 1.25, (3, 3))
    # The same points of each arm: only the proportions differ.
    unit, arm = np.random.default_rng(99).random((count, 3)), np.arange(count) % 3
    points = unit * arms[arm]
    return points, points[:6]


def turned(points, seed=1, scale=1.0):
    return scale * points @ Rotation.random(random_state=seed).as_matrix().T + np.array([5.0, -3.0, 9.0])


def training(count=3):
    shapes = [shape(seed) for seed in range(count)]
    # Each in a frame of its own, as a scanner gives it.
    keypoints = torch.from_numpy(np.stack([turned(at, seed) for seed, (_, at) in enumerate(shapes)]))
    return keypoints, torch.ones(count, 6, dtype=torch.bool), [turned(p, seed) for seed, (p, _) in enumerate(shapes)]


@pytest.mark.parametrize("which", range(3))
def test_a_moved_copy_of_a_training_shape_gives_its_keypoints(which):
    keypoints, visible, clouds = training()
    cloud, expected = (turned(x, 30) for x in shape(which))
    found = nearest_shape_keypoints(keypoints, visible, clouds, cloud, scaled=False)
    torch.testing.assert_close(found.keypoints, torch.from_numpy(expected), rtol=0, atol=1e-9)
    assert found.which.tolist() == [which] * 6
    assert int(found.residual.argmin()) == which
    assert found.residual[which] < 1e-9
    # Larger, it is another shape, unless sizes may change.
    large = nearest_shape_keypoints(keypoints, visible, clouds, turned(shape(which)[0], 30, 1.5))
    expected = torch.from_numpy(turned(shape(which)[1], 30, 1.5))
    torch.testing.assert_close(large.keypoints, expected, rtol=0, atol=1e-9)


def test_a_mirrored_copy_gives_its_keypoints_with_their_names():
    keypoints, visible, clouds = training()
    cloud, expected = (turned(x * [-1, 1, 1], 30) for x in shape(1))
    found = nearest_shape_keypoints(keypoints, visible, clouds, cloud, mirrored=True)
    torch.testing.assert_close(found.keypoints, torch.from_numpy(expected), rtol=0, atol=1e-9)
    assert found.mirrored[1]
    assert found.which.tolist() == [1] * 6
    plain = nearest_shape_keypoints(keypoints, visible, clouds, cloud)
    assert not plain.mirrored.any()
    assert (plain.keypoints - torch.from_numpy(expected)).norm(dim=1).mean() > 0.1


def test_the_nearest_shape_is_that_of_the_smallest_residual():
    keypoints, visible, clouds = training(4)
    cloud = turned(shape(11)[0], 8)
    found = nearest_shape_keypoints(keypoints, visible, clouds, cloud, scaled=False)
    each = [register_cloud(source, cloud) for source in clouds]
    assert found.residual.tolist() == [r.residual for r in each]
    best = int(np.argmin([r.residual for r in each]))
    torch.testing.assert_close(found.keypoints, each[best].move(keypoints[best]))
    snapped = nearest_shape_keypoints(keypoints, visible, clouds, cloud, scaled=False, snap=True)
    distance = torch.cdist(found.keypoints, torch.from_numpy(cloud))
    torch.testing.assert_close(snapped.keypoints, torch.from_numpy(cloud)[distance.argmin(1)])


def test_what_the_nearest_shape_lacks_comes_from_the_next():
    keypoints, visible, clouds = training()
    visible[1, [0, 4]] = False
    visible[:, 4] = False
    keypoints[~visible] = torch.nan
    found = nearest_shape_keypoints(keypoints, visible, clouds, turned(shape(1)[0], 30), scaled=False)
    next_best = int(found.residual.argsort()[1])
    assert found.which.tolist() == [next_best, 1, 1, 1, -1, 1]
    assert found.keypoints[4].isnan().all()
    assert found.keypoints[:4].isfinite().all()


def test_the_mean_of_moved_copies_is_their_shape():
    points, places = shape(0)
    keypoints = torch.from_numpy(np.stack([turned(places, seed) for seed in range(4)]))
    clouds = [turned(points, seed) for seed in range(4)]
    mean = mean_shape(keypoints, torch.ones(4, 6, dtype=torch.bool), clouds, scaled=False)
    torch.testing.assert_close(torch.cdist(mean.keypoints, mean.keypoints), torch.cdist(keypoints[0], keypoints[0]))
    expected = torch.from_numpy(turned(places, 40))
    torch.testing.assert_close(mean_shape_keypoints(mean, turned(points, 40)), expected, rtol=0, atol=1e-6)


def test_the_mean_agrees_with_a_naive_procrustes_analysis():
    keypoints, visible, clouds = training(5)
    mean = mean_shape(keypoints, visible, clouds).keypoints
    # The same by the package's own alignment, round after round, with the mean at the size of one.
    naive = keypoints[0]
    for _ in range(200):
        naive = procrustes_align(keypoints, naive.expand_as(keypoints), visible).mean(0)
        naive = naive - naive.mean(0)
        naive = naive / naive.square().sum().sqrt()
    onto = procrustes_align(mean[None], naive[None], visible[:1])[0]
    torch.testing.assert_close(onto, naive, rtol=0, atol=2e-4)
    # Its size is the geometric mean of theirs.
    sizes = (keypoints - keypoints.mean(1, keepdim=True)).square().sum((1, 2)).sqrt()
    assert float((mean - mean.mean(0)).square().sum().sqrt()) == pytest.approx(
        float(sizes.log().mean().exp()), rel=0.01
    )


def test_left_and_right_shapes_have_one_mean():
    points, places = shape(0)
    sides = [[1, 1, 1], [-1, 1, 1], [1, 1, 1], [-1, 1, 1]]
    keypoints = torch.from_numpy(np.stack([turned(places * s, i) for i, s in enumerate(np.array(sides))]))
    clouds = [turned(points * s, i) for i, s in enumerate(np.array(sides))]
    visible = torch.ones(4, 6, dtype=torch.bool)
    mean = mean_shape(keypoints, visible, clouds, mirrored=True)
    for side in (1, -1):
        cloud, expected = (turned(x * [side, 1, 1], 50) for x in (points, places))
        found = mean_shape_keypoints(mean, cloud, mirrored=True)
        torch.testing.assert_close(found, torch.from_numpy(expected), rtol=0, atol=1e-6)
    # Taken as they are, the sides spoil the mean.
    spoiled = mean_shape(keypoints, visible, clouds)
    assert (
        torch.cdist(spoiled.keypoints, spoiled.keypoints) - torch.cdist(keypoints[0], keypoints[0])
    ).abs().max() > 0.05


def test_keypoints_that_shapes_lack_are_means_of_the_others():
    points, places = shape(0)
    keypoints = torch.from_numpy(np.stack([turned(places, seed) for seed in range(4)]))
    visible = torch.ones(4, 6, dtype=torch.bool)
    visible[0, 0] = visible[1, 1] = visible[1, 2] = False
    visible[:, 5] = False
    # Too few to align it by.
    visible[3, :4] = False
    keypoints[~visible] = torch.nan
    clouds = [turned(points, seed) for seed in range(4)]
    mean = mean_shape(keypoints, visible, clouds)
    found = mean_shape_keypoints(mean, turned(points, 40), snap=True)
    assert found[5].isnan().all()
    torch.testing.assert_close(found[:5], torch.from_numpy(turned(places, 40))[:5], rtol=0, atol=1e-6)


def test_bad_input_of_training_shapes_is_refused():
    keypoints, visible, clouds = training()
    with pytest.raises(ValueError, match=r"`keypoints` \[3, 6, 2\] must be \[n, K, 3\]"):
        TrainingShapes(keypoints[..., :2], visible, clouds)
    with pytest.raises(ValueError, match="`visible`"):
        TrainingShapes(keypoints, visible[:2], clouds)
    with pytest.raises(ValueError, match=r"`clouds` \(of 2 shapes\) must be of 3, as `keypoints`"):
        TrainingShapes(keypoints, visible, clouds[:2])
    with pytest.raises(ValueError, match="`keypoints` must be finite where visible"):
        TrainingShapes(keypoints.where(keypoints < 9, torch.nan), visible, clouds)
    with pytest.raises(ValueError, match=r"`clouds\[1\]` must have points in different places: all 5 are equal"):
        TrainingShapes(keypoints, visible, [clouds[0], np.ones((5, 3)), clouds[2]])
    with pytest.raises(ValueError, match="`visible` must have a shape with 3 keypoints"):
        TrainingShapes(keypoints, visible & (torch.arange(6) < 2), clouds).mean()


@pytest.mark.skipif("PCSA_TEST_DATA" not in os.environ, reason="needs PCSA_TEST_DATA, the folder of real data sets")
def test_femora_of_both_sides_fit_each_other_mirrored():
    folder = Path(os.environ["PCSA_TEST_DATA"]) / "landmarks" / "femur"
    if not folder.exists():
        pytest.skip(f"needs {folder}")
    files = sorted(folder.glob("*.npz"))[:4]
    bones = [np.load(file) for file in files]
    sides = [file.stem[-1] for file in files]
    assert set(sides) == {"L", "R"}
    clouds = [bone["vertices"][:: len(bone["vertices"]) // 1500] for bone in bones]
    keypoints = torch.from_numpy(np.stack([np.nanmean(bone["landmarks"], axis=(0, 1)) for bone in bones]))
    visible = torch.ones(keypoints.shape[:2], dtype=torch.bool)
    found = nearest_shape_keypoints(keypoints[1:], visible[1:], clouds[1:], clouds[0], mirrored=True)
    assert found.mirrored.tolist() == [side != sides[0] for side in sides[1:]]
    # Millimeters, on bones of half a meter.
    assert (found.keypoints - keypoints[0]).norm(dim=1).mean() < 8
