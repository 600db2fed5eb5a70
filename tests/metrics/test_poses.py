import math

import numpy as np
import pytest
import torch
from scipy.linalg import orthogonal_procrustes
from scipy.spatial import procrustes
from scipy.spatial.transform import Rotation

from pcsa.metrics import mean_error, mpjpe, pa_mpjpe, procrustes_align

NAN = math.nan


def test_position_errors_by_hand(bools):
    target = torch.zeros(2, 2, 3)
    predicted = torch.tensor([[[0.0, 0.0, 3.0], [0.0, 4.0, 3.0]], [[1.0, 0.0, 0.0], [9.0, 9.0, 9.0]]])
    target[1, 1] = NAN
    error = mpjpe(predicted, target, bools("11", "10"))
    assert error.distance.tolist() == [[3, 5], [1, 0]]
    assert mean_error(*error).item() == 2.5
    # By the first joint: errors 0 and 4; the second pose has only its root.
    error = mpjpe(predicted, target, bools("11", "10"), root=0)
    assert error.distance.tolist() == [[0, 4], [0, 0]]
    assert mean_error(*error).item() == 1
    # By the second joint, which the second pose lacks.
    error = mpjpe(predicted, target, bools("11", "10"), root=1)
    assert error.distance.tolist() == [[4, 0], [0, 0]]
    assert error.counted.tolist() == bools("11", "00").tolist()


def test_a_pose_at_another_place_has_no_error_about_its_root(bools, poses):
    target = poses((3, 5, 3))
    visible = bools("11111", "10111", "11100")
    error = mpjpe(target + poses((3, 1, 3), 1), target, visible, root=2)
    assert error.distance.max() < 1e-12
    assert torch.equal(error.counted, visible)


def turned_by(size, seed=0):
    return torch.from_numpy(Rotation.random(size, random_state=np.random.default_rng(seed)).as_matrix())


def naive_alignment(predicted, target, visible):
    """One pose after the other, by SciPy's rotation between vectors (never a reflection)."""
    out = []
    for p, t, v in zip(predicted.numpy(), target.numpy(), visible.numpy(), strict=True):
        center, wanted = p[v].mean(0), t[v].mean(0)
        a, b = p[v] - center, t[v] - wanted
        rotation, _ = Rotation.align_vectors(b, a)
        scale = (rotation.apply(a) * b).sum() / (a * a).sum()
        out.append(scale * rotation.apply(p - center) + wanted)
    return torch.from_numpy(np.stack(out))


def test_alignment_is_that_of_scipys_rotations(poses, close):
    target = poses((40, 6, 3))
    # Some near to a turned target, the others with nothing in common with it, so that half of the best orthogonal
    # maps are reflections.
    predicted = torch.cat([target[:20] @ turned_by(20).mT * 3 + 5 + 0.1 * poses((20, 6, 3), 2), poses((20, 6, 3), 3)])
    visible = torch.rand(40, 6, generator=torch.Generator().manual_seed(4)) < 0.7
    visible[:, :3] = True
    aligned = procrustes_align(predicted, target, visible)
    close(aligned, naive_alignment(predicted, target, visible))
    mirrors = [
        np.linalg.det(orthogonal_procrustes(*(x.numpy() - x.numpy().mean(0) for x in pair))[0])
        for pair in zip(predicted[20:], target[20:], strict=True)
    ]
    assert 4 < np.sum(np.array(mirrors) < 0) < 16


@pytest.mark.parametrize("dim", [2, 3])
def test_alignment_is_that_of_scipys_procrustes(poses, dim, close):
    target = poses((30, 5, dim))
    predicted = target + 0.3 * poses((30, 5, dim), 1)
    error = pa_mpjpe(predicted, target, torch.ones(30, 5, dtype=torch.bool)).distance
    for p, t, ours in zip(predicted.numpy(), target.numpy(), error, strict=True):
        a = p - p.mean(0)
        b = t - t.mean(0)
        if np.linalg.det(orthogonal_procrustes(a, b)[0]) > 0:  # SciPy would mirror
            wanted, found, disparity = procrustes(t, p)
            # SciPy's target has the norm 1.
            np.testing.assert_allclose(np.linalg.norm(wanted - found, axis=1) * np.linalg.norm(b), ours, atol=1e-12)
            assert ours.square().sum() / (b**2).sum() == pytest.approx(disparity)


def test_similarity_transforms_of_the_prediction_change_nothing_and_reflections_do(poses, close):
    target, predicted = poses((8, 7, 3)), poses((8, 7, 3), 1)
    visible = torch.rand(8, 7, generator=torch.Generator().manual_seed(0)) < 0.8
    visible[:, :4] = True
    error = pa_mpjpe(predicted, target, visible).distance
    scale = torch.linspace(0.01, 50, 8, dtype=torch.float64)[:, None, None]
    moved = scale * predicted @ turned_by(8).mT + 10 * poses((8, 1, 3), 2)
    close(pa_mpjpe(moved, target, visible).distance, error)
    mirrored = target * torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64)
    assert pa_mpjpe(target, target, visible).distance.max() < 1e-12
    assert pa_mpjpe(mirrored, target, visible).distance.square().sum(1).min() > 1e-3
    # Never worse than unaligned, in the squares that it minimizes.
    assert (error.square().sum(1) <= mpjpe(predicted, target, visible).distance.square().sum(1)).all()


def test_what_is_not_visible_does_not_take_part(bools, poses):
    target, predicted = poses((2, 6, 3)), poses((2, 6, 3), 1)
    visible = bools("111110", "110110")
    spoiled, wanted = predicted.clone(), target.clone()
    spoiled[~visible], wanted[~visible] = 1e9, NAN
    error = pa_mpjpe(spoiled, wanted, visible)
    torch.testing.assert_close(error.distance, pa_mpjpe(predicted, target, visible).distance)
    alone = pa_mpjpe(predicted[1:, visible[1]], target[1:, visible[1]], bools("1111")).distance
    torch.testing.assert_close(error.distance[1:, visible[1]], alone)


@pytest.mark.parametrize("far", [0.0, 1e4])
def test_poses_that_leave_the_transform_open_are_finite(bools, poses, far):
    line = torch.linspace(0, 1, 5)[:, None] * torch.tensor([1.0, 2.0, -1.0]) + far
    point = torch.full((5, 3), 0.1) + far
    full = poses((5, 3), dtype=torch.float32)
    predicted = torch.stack([line, point, full, full, full, full])
    target = torch.stack([full, full, line, point, full, full])
    visible = bools("11111", "11111", "11111", "11111", "11000", "10000")
    aligned = procrustes_align(predicted, target, visible)
    assert aligned.isfinite().all()
    # All in one place come to lie at the mean.
    torch.testing.assert_close(aligned[1], full.mean(0).expand(5, 3))
    torch.testing.assert_close(aligned[3], point, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(aligned[5, 0], full[0])
    error = pa_mpjpe(predicted, target, visible)
    assert error.counted.tolist() == bools("11111", "11111", "11111", "11111", "00000", "00000").tolist()
    assert procrustes_align(full[None], full[None], bools("00000")).isfinite().all()


def test_alignment_of_millimeters_in_single_precision(poses):
    # Five meters from the camera, as Human3.6M's poses are.
    target = 300 * poses((4, 17, 3), dtype=torch.float32) + torch.tensor([0.0, 0.0, 5000.0])
    predicted = (target.double() @ turned_by(4).mT * 1.1 + 4000).float()
    error = pa_mpjpe(predicted, target, torch.ones(4, 17, dtype=torch.bool)).distance
    assert error.dtype == torch.float32
    assert error.max() < 0.01


THREE = torch.zeros(1, 2, 3)
SEEN = torch.tensor([[True, True]])


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: mpjpe(THREE, THREE, SEEN, root=2), r"`root` \(=2\) must be from 0 to 1"),
        (lambda: mpjpe(THREE, THREE, SEEN, root=-1), r"`root` \(=-1\) must be from 0 to 1"),
        (lambda: mpjpe(THREE[0], THREE[0], SEEN), r"`predicted` \[2, 3\] and `target` \[2, 3\] must both be"),
        (lambda: procrustes_align(THREE / 0, THREE, SEEN), "`predicted` must be finite where `visible`"),
        (lambda: pa_mpjpe(THREE, THREE, SEEN[0]), r"`visible` \[2\] \(torch.bool\) must be bool \[1, 2\]"),
    ],
)
def test_bad_input(call, match):
    with pytest.raises(ValueError, match=match):
        call()
