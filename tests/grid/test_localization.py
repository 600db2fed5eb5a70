import math

import pytest
import torch
from hypothesis import given, settings, strategies as st

import pcsa
from pcsa import grid
from pcsa.grid import localize
from pcsa.metrics import object_keypoint_similarity

READ_OUTS = ["expectation", "peak", "local", "mode", "median", "ball", "ball_point"]


def make(*shape, B=2, K=3, seed=0, spread=2.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return spread * torch.randn(B, K, *shape, generator=generator, dtype=dtype)


@pytest.mark.parametrize("shape", [(9,), (6, 8), (4, 5, 3)], ids=str)
@pytest.mark.parametrize("read_out", READ_OUTS)
@pytest.mark.parametrize("how", [{}, {"frame": "pixels", "spacing": 4.0}, {"frame": "physical", "spacing": "axes"}])
def test_a_grid_is_the_point_set_of_its_cells(shape, read_out, how):
    maps = make(*shape)
    if how.get("spacing") == "axes":
        how = {**how, "spacing": [2.0, 0.5, 3.0][: len(shape)]}
    spacing = how.get("spacing", 1.0)
    radius = 1.7 * (spacing[0] if isinstance(spacing, list) else spacing)
    found = localize(maps, read_out=read_out, radius=radius, temperature=0.8, **how)
    pos = grid.cells(shape, dtype=torch.float64, **how).expand(2, -1, -1)
    width = torch.tensor(spacing, dtype=torch.float64).expand(len(shape)).expand_as(pos)
    points = pcsa.localize(grid.flatten(maps), pos, width, read_out=read_out, radius=radius, temperature=0.8)
    for x, y in zip(found, points, strict=True):
        torch.testing.assert_close(x, y)


@settings(deadline=None, max_examples=30, derandomize=True)
@given(
    seed=st.integers(0, 2**32 - 1), radius=st.floats(0.3, 20), sizes=st.lists(st.integers(1, 6), min_size=1, max_size=3)
)
def test_the_heaviest_cell_against_a_loop(seed, radius, sizes):
    maps = make(*sizes, seed=seed, B=1, K=1)
    spacing = [1.0, 0.75, 2.0][: len(sizes)]
    found = localize(maps, read_out="ball_point", radius=radius, frame="physical", spacing=spacing)
    pos = grid.cells(sizes, frame="physical", spacing=spacing, dtype=torch.float64)
    prob = maps.flatten().softmax(0)
    masses = [float(prob[(pos - y).norm(dim=1) < radius].sum()) for y in pos]
    assert found.confidence.item() == pytest.approx(max(masses))
    equal = [i for i, mass in enumerate(masses) if mass > max(masses) - 1e-9]
    torch.testing.assert_close(found.position[0, 0], pos[max(equal, key=lambda i: float(prob[i]))])


def test_a_cell_at_the_radius_is_outside():
    maps = torch.zeros(1, 1, 5)
    assert localize(maps, read_out="ball_point", radius=1.0).confidence.item() == pytest.approx(0.2)
    assert localize(maps, read_out="ball_point", radius=1.001).confidence.item() == pytest.approx(0.6)
    # Between two cells there is room for both.
    assert localize(maps, read_out="ball", radius=0.6).confidence.item() == pytest.approx(0.4)


def test_the_mode_of_the_width_of_oks_has_the_largest_expected_oks():
    maps, area = make(12, 10, K=2, spread=1.5), torch.tensor([90.0, 30.0])
    sigmas = [0.1, 0.2]
    width = 2 * torch.tensor(sigmas) * area.sqrt()[:, None]
    place = localize(maps, read_out="mode", bandwidth=width, frame="pixels", spacing=1.0).position
    prob, truth = maps.flatten(2).softmax(2), grid.cells((12, 10), frame="pixels", spacing=1.0, dtype=torch.float64)

    def expected(b, k, y):
        target = torch.zeros(len(truth), 2, 2, dtype=torch.float64)
        target[:, k] = truth
        predicted = y.expand(len(truth), 2, 2)
        visible = (torch.arange(2) == k).expand(len(truth), 2)
        return (prob[b, k] * object_keypoint_similarity(predicted, target, visible, area[b].expand(120), sigmas)).sum()

    axis = torch.linspace(0, 11, 23, dtype=torch.float64)
    for b in range(2):
        for k in range(2):
            best = max(expected(b, k, y) for y in torch.cartesian_prod(axis, axis))
            assert expected(b, k, place[b, k]) >= best - 1e-3


def test_a_number_as_bandwidth_is_the_same_for_all():
    maps = make(6, 5)
    one = localize(maps, read_out="mode", bandwidth=1.5, radius=2.0)
    each = localize(maps, read_out="mode", bandwidth=torch.full((2, 3), 1.5), radius=2.0)
    for x, y in zip(one, each, strict=True):
        torch.testing.assert_close(x, y)


def test_bad_input():
    maps = make(4, 4)
    with pytest.raises(ValueError, match=r"`radius` \(=None\) must be given with `read_out` 'ball_point'"):
        localize(maps, read_out="ball_point")
    for radius in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match=r"`radius` .* must be positive"):
            localize(maps, radius=radius)
    with pytest.raises(ValueError, match=r"`bandwidth` \[3\] .* must be a number or \[2, 3\]"):
        localize(maps, bandwidth=torch.ones(3))
    with pytest.raises(ValueError, match="`bandwidth` must be positive and finite everywhere"):
        localize(maps, bandwidth=torch.zeros(2, 3))
    with pytest.raises(ValueError, match="`bandwidth`"):
        localize(maps, bandwidth=-1.0)
    with pytest.raises(ValueError, match="`read_out`"):
        localize(maps, read_out="mean")
    with pytest.raises(ValueError, match="`logits` must be finite"):
        localize(maps / 0)


def test_mean_covariance_and_certainty_are_differentiable():
    maps = torch.randn(2, 2, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()

    def read(maps):
        found = grid.localize(maps, frame="pixels", spacing=(4.0, 8.0), temperature=0.7)
        return found.position, found.covariance, found.peak, found.entropy

    assert torch.autograd.gradcheck(read, maps)
    for read_out in ("peak", "mode", "ball_point"):
        found = grid.localize(maps, read_out=read_out, radius=2.0)
        assert not found.position.requires_grad
        assert not found.confidence.requires_grad
