"""Each corruption keeps its law, leaves its input alone and draws the same for the same cloud and seed."""

import numpy as np
import pytest
import torch
from torch_geometric.data import Data

from pcsa.datasets.corruptions import (
    CORRUPTIONS,
    diagonal_of,
    missing_part,
    noisy,
    occluded,
    resampled,
    rotated,
    thinned,
    uneven,
    with_outliers,
)
from pcsa.datasets.meshes.triangles import Mesh


def sphere(n=1000, name="a", keypoints=20):
    pos = torch.randn(n, 3, generator=torch.Generator().manual_seed(0))
    pos = 2 * pos / pos.norm(dim=1, keepdim=True) + 5
    index = torch.arange(keypoints)[None]
    index[0, -1] = -1
    visible = index >= 0
    known = torch.where(visible[..., None], pos[index.clamp(min=0)], 0.0)
    return Data(pos=pos, keypoints=known, visible=visible, keypoint_index=index, model_id=name)


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_the_same_for_the_same_seed_and_id_and_the_input_stays(kind):
    level = {"rotation": 30, "thinning": 100, "density": 4, "occlusion": 1}.get(kind, 0.1)
    data = sphere()
    before = data.clone()
    first, again = (CORRUPTIONS[kind](data, level, 1) for _ in range(2))
    for name, value in before.to_dict().items():
        assert torch.equal(data[name], value) if isinstance(value, torch.Tensor) else data[name] == value
    assert torch.equal(first.cloud.pos, again.cloud.pos)
    others = [CORRUPTIONS[kind](data, level, 2), CORRUPTIONS[kind](sphere(name="b"), level, 1)]
    for other in others:
        if kind == "rotation":
            assert not torch.equal(first.turn, other.turn)
        else:
            assert first.cloud.pos.shape != other.cloud.pos.shape or not torch.equal(first.cloud.pos, other.cloud.pos)


@pytest.mark.parametrize("up", [None, 1])
def test_a_turn_has_its_angle_and_leaves_the_cloud_to_whoever_locates(up):
    data = sphere()
    for degrees in (15, 90):
        found = rotated(data, degrees, up=up)
        assert found.cloud is data
        # The trace of a rotation is 1 + 2 cos of its angle.
        angle = np.rad2deg(np.arccos((np.trace(found.turn.numpy()) - 1) / 2))
        assert angle == pytest.approx(degrees)
        if up is not None:
            assert found.turn[up].tolist() == [0, 1, 0]


def test_noise_has_its_deviation_and_spares_the_keypoints():
    data = sphere(20000)
    found = noisy(data, 0.02)
    moved = found.cloud.pos - data.pos
    expected = 0.02 * diagonal_of(data.pos)
    np.testing.assert_allclose(moved.std(0).numpy(), expected, rtol=0.03)
    np.testing.assert_allclose(moved.mean(0).numpy(), 0, atol=5 * expected / 20000**0.5)
    assert torch.equal(found.cloud.keypoints, data.keypoints)
    assert torch.equal(found.seen, data.visible)


def test_fewer_points_are_a_random_part_whose_rows_are_known():
    data = sphere()
    found = thinned(data, 300)
    assert len(found.row) == 300
    assert torch.equal(found.cloud.pos, data.pos[found.row])
    kept = [int(i) in found.row.tolist() for i in data.keypoint_index[0]]
    assert found.seen[0].tolist() == kept
    assert torch.equal(found.cloud.visible, data.visible)
    # More than there are: all.
    assert len(thinned(data, 5000).row) == 1000


def test_density_falls_by_its_factor_over_a_quarter_of_the_points():
    data = sphere(20000)
    found = uneven(data, 16)
    assert len(found.row) == 5000
    counts = []
    middle = data.pos.mean(0)
    # The direction is that in which what is left has moved; on a sphere, areas are as heights.
    along = middle - found.cloud.pos.mean(0)
    along = along / along.norm()
    height = (found.cloud.pos - middle) @ along
    for low in (-2.0, 1.2):
        counts.append(int(((height >= low) & (height < low + 0.8)).sum()))
    # Between the middles of both caps lie 3.2 of 4: 16 ** 0.8.
    assert counts[0] / counts[1] == pytest.approx(16**0.8, rel=0.2)
    assert len(uneven(data, 1).row) == 5000


def test_of_a_sphere_a_view_point_sees_a_cap_and_more_of_them_see_more():
    data = sphere(4000)
    one, four = occluded(data, 1), occluded(data, 4)
    # From 3 half diagonals h of the box, with r = h / sqrt 3: (1 - r / 3h) / 2 of the area, and more for the far side's
    # rim, which a sparse cloud does not hide.
    assert 0.35 < len(one.row) / 4000 < 0.6
    assert set(one.row.tolist()) < set(four.row.tolist())
    assert torch.equal(one.cloud.visible, data.visible)
    assert one.seen.sum() < data.visible.sum()


def test_outliers_come_on_top_within_half_as_large_a_box_again():
    data = sphere(2000)
    found = with_outliers(data, 0.1)
    assert torch.equal(found.cloud.pos[:2000], data.pos)
    new = found.cloud.pos[2000:]
    assert len(new) == 200 == int((found.row < 0).sum())
    low, high = data.pos.amin(0), data.pos.amax(0)
    reach = (new - (low + high) / 2).abs().amax(0) / ((high - low) / 2)
    assert ((reach > 1.3) & (reach <= 1.5)).all()
    assert torch.equal(found.seen, data.visible)


def test_a_part_goes_as_a_whole_with_its_keypoints():
    data = sphere(keypoints=200)
    found = missing_part(data, 0.3)
    assert len(found.row) == 700
    gone = torch.ones(1000, dtype=torch.bool)
    gone[found.row] = False
    # What is gone lies within a ball about one of the points, and nothing else does.
    distance = torch.cdist(data.pos, data.pos)
    assert any(distance[i][gone].max() <= distance[i][~gone].min() for i in gone.nonzero()[:, 0])
    left = [i >= 0 and not bool(gone[i]) for i in data.keypoint_index[0].tolist()]
    assert found.cloud.visible[0].tolist() == left
    assert torch.equal(found.seen, found.cloud.visible)
    assert not found.cloud.keypoints[~found.cloud.visible].any()
    assert len(missing_part(data, 0.9999).row) == 1


@pytest.mark.parametrize("kind", ["area", "even", "faces"])
def test_samplings_of_a_mesh(kind):
    # A square of side 2, a quarter of which is cut into a thousand times as many faces as the rest.
    x = np.linspace(0, 1, 24)
    fine = np.array([(a, b, 0.0) for a in x for b in x])
    quads = [(i * 24 + j, (i + 1) * 24 + j, (i + 1) * 24 + j + 1, i * 24 + j + 1) for i in range(23) for j in range(23)]
    faces = [t for a, b, c, d in quads for t in ((a, b, c), (a, c, d))]
    rest = np.array([(1, 0, 0), (2, 0, 0), (2, 1, 0), (1, 1, 0), (2, 2, 0), (0, 2, 0), (0, 1, 0)], dtype=float)
    n = len(fine)
    coarse = [(n, n + 1, n + 2), (n, n + 2, n + 3), (n + 6, n + 2, n + 4), (n + 6, n + 4, n + 5)]
    mesh = Mesh(np.concatenate([fine, rest]), np.array(faces + coarse))
    data = sphere(800)
    found = resampled(data, mesh, kind)
    pos = found.cloud.pos
    assert pos.shape == (800, 3)
    assert (pos[:, 2] == 0).all()
    share = float(((pos[:, 0] < 1) & (pos[:, 1] < 1)).float().mean())
    assert share == pytest.approx(0.25 if kind != "faces" else 1, abs=0.08)
    assert torch.equal(found.cloud.keypoints, data.keypoints)
    spacing = torch.cdist(pos, pos).fill_diagonal_(9).amin(1)
    uneven = float(spacing.std() / spacing.mean())
    assert uneven < 0.35 if kind == "even" else uneven > 0.4
