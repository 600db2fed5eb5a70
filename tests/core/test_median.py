import math

import pytest
import torch
from hypothesis import given, settings, strategies as st

from pcsa._core.median import geometric_median
from pcsa._core.points import canonical, cloud_softmax


def median(logits, pos, **layout):
    points = canonical(logits, pos, **layout)
    return geometric_median(cloud_softmax(points.logits, points), points)


def make(N, D, seed=0, spread=1.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    pos = torch.rand(N, D, generator=generator, dtype=dtype)
    return spread * torch.randn(N, 2, generator=generator, dtype=dtype), pos


def mean_distance(y, logits, pos):
    """Of places [K, D] to the points, by each keypoint's map [K]."""
    return (logits.softmax(0).T * (y[:, None] - pos).norm(dim=2)).sum(1)


def descended(logits, pos):
    """The least mean distance found by Weiszfeld's plain iteration with a rounded corner, from many starts."""
    prob = logits.softmax(0).T
    least = pos.new_full((2,), math.inf)
    for i in range(len(pos)):
        least = torch.minimum(least, mean_distance(pos[i].expand(2, -1), logits, pos))
    y = prob @ pos
    for _ in range(500):
        weight = prob / ((y[:, None] - pos).square().sum(2) + 1e-12).sqrt()
        y = weight @ pos / weight.sum(1, keepdim=True)
    return torch.minimum(least, mean_distance(y, logits, pos))


@pytest.mark.parametrize("D", [1, 2, 3])
@settings(deadline=None, max_examples=8, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1), N=st.integers(1, 30), spread=st.sampled_from([0.1, 1.0, 5.0]))
def test_nowhere_is_the_mean_distance_much_smaller(D, seed, N, spread):
    logits, pos = make(N, D, seed, spread)
    found = mean_distance(median(logits, pos)[0], logits, pos)
    least = descended(logits, pos)
    assert (found <= 1.01 * least + 1e-12).all()


def test_hand_checkable_places():
    # Of an equilateral triangle it is the center; where a corner has 120 degrees or more, it is that corner.
    triangle = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.5, math.sqrt(3) / 2]], dtype=torch.float64)
    flat = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.5, 0.2]], dtype=torch.float64)
    even = torch.zeros(3, 1, dtype=torch.float64)
    torch.testing.assert_close(median(even, triangle)[0, 0], triangle.mean(0))
    assert torch.equal(median(even, flat)[0, 0], flat[2])
    # Of half the probability nothing can pull.
    logits = torch.tensor([[0.52], [0.08], [0.4]], dtype=torch.float64).log()
    assert torch.equal(median(logits, triangle)[0, 0], triangle[0])
    # One that lies on a point begins and leaves again: the mean of the four corners is the fifth point, which weighs
    # nothing.
    square = torch.tensor([[-1.0, 0.0], [1.0, 0.0], [0.0, 3.0], [0.0, -1.0], [0.0, 0.5]], dtype=torch.float64)
    logits = torch.tensor([[0.25], [0.25], [0.25], [0.25], [1e-9]], dtype=torch.float64).log()
    torch.testing.assert_close(median(logits, square)[0, 0], torch.zeros(2, dtype=torch.float64), rtol=0, atol=1e-3)


def test_an_iterate_on_an_improbable_point_does_not_stay():
    # Both starts, the mean and the most probable point, are points, and neither is the median, (0, 0).
    cross = torch.tensor([[3.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0], [0.5, 0.0]], dtype=torch.float64)
    logits = torch.tensor([[1.0], [1.0], [1.0], [1.0], [1e-6]], dtype=torch.float64).log()
    torch.testing.assert_close(median(logits, cross)[0, 0], torch.zeros(2, dtype=torch.float64), rtol=0, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_never_nan(dtype):
    pos = torch.tensor([[0.1, 0.2]] * 4 + [[1e6, 0.7], [0.0, 0.0]], dtype=dtype)
    logits = torch.tensor([[0.0], [1.0], [1e4], [-1e4], [1e30], [-1e30]], dtype=dtype)
    for ptr in ([0, 6], [0, 4, 6], [0, 1, 2, 5, 6]):
        assert median(logits, pos, ptr=torch.tensor(ptr)).isfinite().all()
        assert median(0 * logits, pos, ptr=torch.tensor(ptr)).isfinite().all()
    assert torch.equal(median(0 * logits[:4], pos[:4])[0, 0], pos[0])


def test_far_away_and_any_unit():
    logits, pos = make(30, 3)
    plain = median(logits, pos)
    far = torch.tensor([1e6, -1e6, 0.0], dtype=torch.float64)
    torch.testing.assert_close(median(logits, pos + far) - far, plain, rtol=0, atol=1e-7)
    torch.testing.assert_close(median(logits, 1e-20 * pos) * 1e20, plain)
    turned, _ = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    torch.testing.assert_close(median(logits, pos @ turned), plain @ turned)
