import math

import pytest
import torch

import pcsa
from pcsa.certainty import expected_distance


def draw(sizes, K=3, D=3, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    N = sum(sizes)
    logits, pos = (4 * torch.randn(N, K, generator=generator), torch.randn(N, D, generator=generator))
    ptr = torch.tensor([0, *sizes]).cumsum(0)
    center = torch.randn(len(sizes), K, D, generator=generator)
    return logits.to(dtype), pos.to(dtype), center.to(dtype), ptr


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("D", [1, 2, 3])
def test_against_a_loop(D, temperature):
    logits, pos, center, ptr = draw((5, 1, 8), D=D)
    found = expected_distance(logits, pos, center, ptr=ptr, temperature=temperature)
    for b in range(3):
        own = slice(int(ptr[b]), int(ptr[b + 1]))
        for k in range(3):
            weight = [math.exp(x / temperature) for x in logits[own, k].tolist()]
            away = [math.dist(y, center[b, k].tolist()) for y in pos[own].tolist()]
            expected = sum(w * d for w, d in zip(weight, away, strict=True)) / sum(weight)
            assert found[b, k].item() == pytest.approx(expected)


def test_ragged_is_dense_is_one_cloud_at_a_time():
    logits, pos, center, ptr = draw((6, 6))
    found = expected_distance(logits, pos, center, ptr=ptr)
    dense = [x.view(2, 6, -1) for x in (logits, pos)]
    torch.testing.assert_close(expected_distance(*dense, center), found)
    torch.testing.assert_close(expected_distance(logits, pos, center, torch.arange(2).repeat_interleave(6)), found)
    padded = [torch.cat([x, torch.full_like(x[:, :1], math.nan)], 1) for x in dense]
    mask = torch.arange(7).expand(2, -1) < 6
    torch.testing.assert_close(expected_distance(*padded, center, mask=mask), found)
    for b in range(2):
        torch.testing.assert_close(expected_distance(dense[0][b], dense[1][b], center[b : b + 1]), found[b : b + 1])


def test_the_median_has_the_least():
    logits, pos, _, ptr = draw((40, 30))
    found = {
        how: expected_distance(logits, pos, pcsa.localize(logits, pos, 1.0, ptr=ptr, read_out=how).position, ptr=ptr)
        for how in ("median", "expectation", "peak", "mode")
    }
    for how in found:
        assert (found["median"] <= 1.01 * found[how]).all()


def test_it_moves_and_scales_with_the_cloud():
    logits, pos, center, ptr = draw((9, 4))
    found = expected_distance(logits, pos, center, ptr=ptr)
    torch.testing.assert_close(expected_distance(logits, 7 * pos + 1, 7 * center + 1, ptr=ptr), 7 * found)
    # Repeated points share their probability.
    twice = [x.repeat_interleave(2, 0) for x in (logits, pos)]
    torch.testing.assert_close(expected_distance(*twice, center, ptr=2 * ptr), found)


def test_mistakes():
    logits, pos, center, ptr = draw((5,))
    with pytest.raises(ValueError, match=r"`center` \[3, 3\] must be \[B, K, D\], here \[1, 3, 3\]"):
        expected_distance(logits, pos, center[0], ptr=ptr)
    with pytest.raises(ValueError, match=r"`temperature` \(=0\.0\)"):
        expected_distance(logits, pos, center, temperature=0)
    with pytest.raises(ValueError, match="`center`"):
        expected_distance(logits, pos, center * math.nan)
