import pytest
import torch
from hypothesis import given, settings, strategies as st
from scipy import stats

from pcsa import grid

quick = settings(deadline=None, max_examples=25, derandomize=True)


def test_a_ring_has_no_seam():
    # Two equal neighbors across the seam of eight cells: halfway between them, not in the middle of the array.
    logits = torch.full((1, 1, 8), -1e3)
    logits[..., [0, 7]] = 0.0
    assert grid.soft_argmax(logits).item() == pytest.approx(3.5)
    assert grid.soft_argmax(logits, periodic="x").item() == pytest.approx(-0.5, abs=1e-5)
    ring = grid.soft_argmax(logits, periodic="x", frame="normalized").item()
    assert abs(ring) == pytest.approx(1.0, abs=1e-5)


def test_the_mean_on_a_ring_is_that_of_scipy(maps):
    prob = maps((12,), 1, 1).flatten().softmax(0)
    count = (prob * 1000).round().long()
    values = torch.repeat_interleave(torch.arange(12), count)
    ours = grid.soft_argmax(count.double().log().clamp_min(-1e3)[None, None], periodic="x").item()
    assert ours == pytest.approx(stats.circmean(values.numpy(), high=11.5, low=-0.5))


@given(shift=st.integers(0, 11), seed=st.integers(0, 99))
@quick
def test_turning_a_ring_turns_the_mean(maps, shift, seed):
    logits = maps((5, 12), 1, 3, seed=seed)
    here = grid.soft_argmax(logits, periodic="x")
    there = grid.soft_argmax(logits.roll(shift, -1), periodic=["x"])
    away = (there[..., 0] - here[..., 0] - shift) % 12
    assert torch.minimum(away, 12 - away).max() < 1e-8
    # The other axis is as it was.
    torch.testing.assert_close(here[..., 1], grid.soft_argmax(logits)[..., 1])
    torch.testing.assert_close(there[..., 1], here[..., 1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_map_without_a_direction_gets_no_gradient(dtype):
    for n in (1, 2, 5, 360):
        logits = torch.zeros(1, 1, n, dtype=dtype, requires_grad=True)
        where = grid.soft_argmax(logits, periodic="x")
        where.sum().backward()
        assert where.item() == 0
        assert logits.grad.abs().max() == 0


def test_samples_on_a_ring(densities, seeded, way):
    # A peak at the seam: samples on both sides of it, none outside of the ring, the density that of the basis.
    logits = torch.full((1, 1, 3, 8), -1e3, dtype=torch.float64)
    logits[..., 1, 0] = 0.0
    options = {**way, "num_samples": 20_000, "temperature": 1e-4}
    drawn = grid.sampling_argmax(logits, periodic="x", generator=seeded(), **options)[0, 0]
    assert drawn[:, 0].min() >= -0.5
    assert drawn[:, 0].max() < 7.5
    away = (drawn[:, 0] + 4) % 8 - 4
    assert stats.kstest(away.numpy(), densities[way["basis"]].cdf).pvalue > 1e-3
    assert stats.kstest(drawn[:, 1].numpy() - 1, densities[way["basis"]].cdf).pvalue > 1e-3
    assert way["basis"] == "uniform" or (drawn[:, 0] > 7).any()


def test_far_from_the_seam_a_ring_is_a_line(seeded, maps, same_mean, way):
    # The circular mean of neighbors differs from the mean in the third order of the angle between them.
    logits = torch.full((1, 1, 2, 1000), -1e3, dtype=torch.float64)
    logits[..., 500:503] = maps((2, 3), 1, 1)
    options = {**way, "num_samples": 2000}
    line, ring = (grid.sampling_argmax(logits, periodic=p, generator=seeded(2), **options)[0, 0] for p in ("", "x"))
    same_mean(line, ring)
    same_mean((line - 500).square(), (ring - 500).square())
    if way["noise_axes"] == "marginal":
        torch.testing.assert_close(line, ring, rtol=0, atol=1e-4)
