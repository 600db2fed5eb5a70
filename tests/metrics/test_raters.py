import math

import pytest
import torch

from pcsa.metrics import mean_error, rater_error


def test_every_mark_is_held_against_the_mean_of_the_others():
    generator = torch.Generator().manual_seed(0)
    marks = torch.randn(3, 4, 5, 3, generator=generator, dtype=torch.double)
    marked = torch.rand(3, 4, 5, generator=generator) < 0.7
    marked[0, 0] = torch.tensor([True, False, False, False, False])
    marked[1, 1] = False
    marks[~marked] = math.nan
    found = rater_error(marks, marked)
    for b in range(3):
        for k in range(4):
            own = marks[b, k, marked[b, k]]
            assert found.counted[b, k] == (len(own) > 1)
            away = [
                float((own[m] - torch.cat([own[:m], own[m + 1 :]]).mean(0)).norm())
                for m in range(len(own))
                if len(own) > 1
            ]
            assert float(found.distance[b, k]) == pytest.approx(sum(away) / len(away) if away else 0.0)


def test_known_noise_gives_its_known_distance():
    """A mark and the mean of n - 1 others: normal noise of variance s² (1 + 1 / (n - 1)) on each of three axes."""
    generator = torch.Generator().manual_seed(0)
    marks = 7 + 0.5 * torch.randn(200, 10, 5, 3, generator=generator, dtype=torch.double)
    error = rater_error(marks, torch.ones(200, 10, 5, dtype=torch.bool))
    expected = 0.5 * math.sqrt(5 / 4) * 2 * math.sqrt(2 / math.pi)
    assert float(mean_error(*error)) == pytest.approx(expected, rel=0.01)


def test_marks_that_are_no_marks_are_refused():
    with pytest.raises(ValueError, match=r"`marks` \[2, 3, 3\] must be \[B, K, M, D\]"):
        rater_error(torch.zeros(2, 3, 3), torch.ones(2, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match="`marks` must be finite where marked"):
        rater_error(torch.full((1, 1, 2, 3), math.nan), torch.ones(1, 1, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match="`marked`"):
        rater_error(torch.zeros(1, 1, 2, 3), torch.ones(1, 1, 3, dtype=torch.bool))
