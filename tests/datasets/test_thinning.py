import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch_geometric.data import Data

from pcsa.datasets.hidden_points import seen_points
from pcsa.datasets.keypointnet import KeypointData
from pcsa.datasets.thinning import Thin, Thinning, draw_rows, falling_shares, kept_rows, thin_cloud


def cloud(n=400, name="a", dtype=torch.float32):
    pos = torch.rand(n, 3, generator=torch.Generator().manual_seed(1), dtype=dtype) * torch.tensor([4.0, 1, 2]).to(
        dtype
    )
    index = torch.tensor([[0, 7, -1, 3]]).clamp(max=n - 1)
    visible = index >= 0
    return KeypointData(
        pos=pos,
        color=torch.arange(n)[:, None].expand(n, 3),
        keypoints=torch.where(visible[..., None], pos[index.clamp(min=0)], 0.0),
        visible=visible,
        keypoint_index=index,
        model_id=name,
    )


@pytest.mark.parametrize("options", [Thin(), Thin(num_points=0, falloff=1.0, occlude=False), Thin(num_points=400)])
def test_nothing_is_left_out_by_default(options):
    data = cloud()
    assert thin_cloud(data, options) is data


def test_even_thinning_keeps_so_many_points_in_their_order():
    data = cloud()
    thin = thin_cloud(data, Thin(num_points=100))
    rows = thin.color[:, 0]
    assert len(rows) == 100
    assert (rows.diff() > 0).all()
    assert torch.equal(thin.pos, data.pos[rows])


@pytest.mark.parametrize("options", [Thin(num_points=40), Thin(falloff=9.0), Thin(occlude=True)])
def test_keypoints_stay_and_their_targets_are_the_nearest_points_left(options):
    data = cloud()
    thin = thin_cloud(data, options)
    assert thin.num_nodes < 400
    assert torch.equal(thin.keypoints, data.keypoints)
    assert torch.equal(thin.visible, data.visible)
    for k in range(4):
        row = int(thin.keypoint_index[0, k])
        if not data.visible[0, k]:
            assert row == -1
            continue
        away = (thin.pos.double() - data.keypoints[0, k].double()).norm(dim=1)
        assert away[row] == away.min()


@pytest.mark.parametrize("options", [Thin(num_points=40), Thin(falloff=9.0, num_points=50), Thin(occlude=True)])
def test_a_cloud_loses_the_same_points_whenever_it_is_read(options):
    first = kept_rows(cloud().pos, options, "a")
    torch.rand(3)  # the global generator plays no part
    assert torch.equal(first, kept_rows(cloud().pos, options, "a"))
    transform = Thinning(options)
    for _ in range(2):
        assert torch.equal(transform(cloud()).color[:, 0], first)
    others = [kept_rows(cloud().pos, options, "b"), kept_rows(cloud().pos, Thin(seed=1).over(options), "a")]
    assert not any(torch.equal(first, other) for other in others)


def test_clouds_that_share_an_id_are_told_apart():
    transform = Thinning(Thin(num_points=30))
    assert transform(cloud(400)).color[:, 0].max() > 99
    assert transform(cloud(99)).color[:, 0].max() <= 98


def test_the_density_falls_by_the_factor_from_end_to_end():
    # An even line: over the way t the density is 8^-t, in all 1/ln 8 (1 - 1/8) of it.
    pos = torch.zeros(80_000, 3, dtype=torch.double)
    pos[:, 1] = torch.linspace(0, 5, len(pos))
    rows = kept_rows(pos, Thin(falloff=8.0, along=(0.0, 2.0, 0.0)))
    assert len(rows) == pytest.approx(len(pos) * (1 - 1 / 8) / math.log(8), abs=2)
    count = torch.histc(rows.double(), 10, 0, len(pos)).tolist()
    whole = [len(pos) / 10 * 8 ** -((i + 0.5) / 10) for i in range(10)]
    assert count == pytest.approx(whole, rel=0.05)
    # Fewer points, the same fall.
    count = torch.histc(kept_rows(pos, Thin(20_000, 8.0, (0.0, 1.0, 0.0))).double(), 10, 0, len(pos))
    assert count.sum() == 20_000
    assert float(count[0] / count[-1]) == pytest.approx(8**0.9, rel=0.1)


def test_the_falloff_bounds_the_number():
    pos = torch.linspace(0, 1, 1000, dtype=torch.double)[:, None].expand(1000, 3)
    share = falling_shares(pos[:, 0], 16.0, 900)
    assert share.max() <= 1
    assert float(share.sum()) == pytest.approx(len(kept_rows(pos, Thin(900, 16.0, (1.0, 0.0, 0.0)))))
    assert share.sum() < 400


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.floats(1, 100), st.integers(1, 40), st.integers(0, 99))
def test_rows_are_drawn_as_often_as_the_shares_add_up_to(height, falloff, number, seed):
    share = falling_shares(torch.tensor(height, dtype=torch.double), falloff, number)
    assert 0 < share.min() <= share.max() <= 1 + 1e-12
    rows = draw_rows(share, torch.Generator().manual_seed(seed))
    assert len(rows) == round(float(share.sum())) <= number
    assert len(rows.unique()) == len(rows) >= 1


def test_every_row_is_kept_with_its_probability():
    share = torch.tensor([1.0, 0.5, 0.25, 0.125, 0.125], dtype=torch.double)
    kept = torch.zeros(5)
    for seed in range(4000):
        kept[draw_rows(share, torch.Generator().manual_seed(seed))] += 1
    # Standard deviations of at most 0.008.
    assert (kept / 4000).tolist() == pytest.approx(share.tolist(), abs=0.03)


def test_occlusion_keeps_what_the_view_point_sees():
    pos = cloud(dtype=torch.float64).pos
    low, high = pos.amin(0), pos.amax(0)
    view = (low + high) / 2 + 2.0 * (high - low).norm() / 2 * torch.tensor([0.0, 0.0, 1.0])
    rows = kept_rows(pos, Thin(occlude=True, view=(0.0, 0.0, 9.0), view_distance=2.0))
    assert rows.tolist() == np.flatnonzero(seen_points(pos.numpy(), view.numpy())).tolist()
    # What is seen is thinned then, and is the same.
    fewer = kept_rows(pos, Thin(occlude=True, view=(0.0, 0.0, 9.0), view_distance=2.0, num_points=20))
    assert len(fewer) == 20
    assert set(fewer.tolist()) < set(rows.tolist())


def test_evenly_spaced_points_are_farther_apart_than_any_random_ones():
    data = cloud()
    options = Thin(num_points=200, even=True)
    rows = kept_rows(data.pos, options, "a")
    assert len(rows) == 200
    assert torch.equal(rows, rows.unique())
    assert torch.equal(rows, kept_rows(data.pos, options, "a"))
    # From a point of its own each cloud and seed.
    assert not torch.equal(rows, kept_rows(data.pos, options, "b"))
    assert not torch.equal(rows, kept_rows(data.pos, replace(options, seed=1), "a"))

    def least(rows):
        return torch.pdist(data.pos[rows].double()).min()

    assert all(least(rows) > least(kept_rows(data.pos, Thin(num_points=200, seed=s), "a")) for s in range(20))
    # The first that is farther than the least distance would have been chosen: what is left lies nearer.
    left = torch.cdist(data.pos.double(), data.pos[rows].double()).min(1).values
    assert left.max() <= least(rows) + 1e-6


@pytest.mark.parametrize("options", [Thin(num_points=900, even=True), Thin(num_points=400, even=True)])
def test_evenly_spaced_points_of_too_few_are_all(options):
    data = cloud()
    assert thin_cloud(data, options).num_nodes == data.num_nodes


def test_evenly_spaced_points_of_what_is_seen():
    data = cloud()
    seen = kept_rows(data.pos, Thin(occlude=True), "a")
    rows = kept_rows(data.pos, Thin(occlude=True, num_points=30, even=True), "a")
    assert set(rows.tolist()) < set(seen.tolist())


@pytest.mark.parametrize(
    "options",
    [
        Thin(num_points=1),
        Thin(falloff=1e6),
        Thin(occlude=True),
        Thin(1, 5.0, None, True),
        Thin(num_points=1, even=True),
        Thin(num_points=4, even=True),
    ],
)
@pytest.mark.parametrize("pos", [torch.ones(1, 3), torch.ones(6, 3), torch.arange(4.0)[:, None].expand(4, 3)])
def test_at_least_one_point_stays(options, pos):
    data = thin_cloud(Data(pos=pos.contiguous()), options)
    assert 1 <= data.num_nodes <= len(pos)
    assert data.pos.isfinite().all()


def test_what_is_given_goes_before_what_is_not():
    trained = Thin(num_points=512, falloff=4.0, seed=3)
    assert Thin().over(trained) == trained
    assert Thin(num_points=0, falloff=1.0).over(trained) == Thin(0, 1.0, seed=3)
    assert not Thin(num_points=0, falloff=1.0).over(trained).active
    assert str(Thin(512, 4.0, occlude=True)) == "occluded, falloff 4, 512 points"
    assert str(Thin(512, even=True)) == "512 points, evenly spaced"
    assert str(Thin(even=True)) == "evenly spaced"
    assert str(Thin(512, even=False)) == "512 points, at random"
    assert Thin(even=False).over(Thin(512, even=True)) == Thin(512, even=False)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"num_points": -1}, "`num_points`"),
        ({"num_points": 1.5}, "`num_points`"),
        ({"falloff": 0.5}, "`falloff`"),
        ({"falloff": math.inf}, "`falloff`"),
        ({"along": (0.0, 0.0, 0.0)}, "`along`"),
        ({"view": (math.nan, 0.0, 0.0)}, "`view`"),
        ({"view_distance": 1.0}, "`view_distance`"),
        ({"seed": -1}, "`seed`"),
        ({"even": True, "falloff": 2.0}, r"`even` \(=True\) must be False with `falloff` \(=2.0\)"),
    ],
)
def test_bad_options_are_named(change, name):
    with pytest.raises(ValueError, match=name):
        Thin(**change)


@pytest.mark.parametrize("options", [Thin(even=True), Thin(num_points=0, even=True), Thin(occlude=True, even=True)])
def test_even_without_a_number_is_refused_where_options_are_complete(options):
    with pytest.raises(ValueError, match=r"`even` \(=True\) takes a number of points, `num_points`"):
        options.check()
    replace(options, num_points=5).check()
    with pytest.raises(ValueError, match=r"`even` \(=True\) must be False with `falloff`"):
        Thin(falloff=4.0).over(Thin(512, even=True))
    assert Thin(falloff=4.0, even=False).over(Thin(512, even=True)).falloff == 4


def test_of_a_dense_cloud_strays_are_not_sought_out():
    pos = torch.randn(20_000, 3, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    pos = pos / pos.norm(dim=1, keepdim=True)
    pos[::100] *= 2
    rows = kept_rows(pos, Thin(num_points=300, even=True))
    # Six or so of twice as many random points; of all points it would be 200.
    assert 1 <= int((rows % 100 == 0).sum()) <= 15
