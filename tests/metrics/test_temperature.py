import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar

from pcsa.metrics import fit_temperature


def loss(logits, index, temperature):
    """Cross-entropy of the annotated points, one after the other."""
    total = 0.0
    for score, rows in zip(logits, index, strict=True):
        for k, row in enumerate(rows.tolist()):
            if row >= 0:
                scaled = score[:, k].double().numpy() / temperature
                top = scaled.max()
                total += math.log(np.exp(scaled - top).sum()) + top - scaled[row]
    return total


def draw(seed, temperature, clouds=30, K=5):
    """Maps whose probabilities at a temperature are those of the annotations."""
    generator = torch.Generator().manual_seed(seed)
    logits, index = [], []
    for i in range(clouds):
        score = 3 * torch.randn(20 + i, K, generator=generator)
        rows = torch.multinomial((score / temperature).softmax(0).T, 1, generator=generator)[:, 0]
        rows[torch.rand(K, generator=generator) < 0.2] = -1
        logits.append(score)
        index.append(rows)
    return logits, index


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_against_scipy(seed, temperature):
    logits, index = draw(seed, temperature)
    found = fit_temperature(logits, index)
    expected = minimize_scalar(lambda t: loss(logits, index, math.exp(t)), bounds=(-3, 3), method="bounded")
    assert found == pytest.approx(math.exp(expected.x), rel=1e-3)


def test_it_is_the_temperature_of_the_annotations():
    assert fit_temperature(*draw(0, 2.0, clouds=1000)) == pytest.approx(2.0, rel=0.03)


def test_logits_of_another_scale_and_offset():
    logits, index = draw(0, 1.0)
    found = fit_temperature(logits, index)
    assert fit_temperature([10 * x - 3 for x in logits], index) == pytest.approx(10 * found, rel=1e-6)
    # The keypoint's own offset is none of the softmax.
    assert fit_temperature([x + torch.arange(5.0) for x in logits], index) == pytest.approx(found, rel=1e-4)


def test_ends_of_the_range():
    logits = torch.tensor([[2.0], [0.0], [-math.inf]])
    assert fit_temperature([logits], [torch.tensor([0])]) < 0.01
    assert fit_temperature([logits], [torch.tensor([1])]) == pytest.approx(1e3)


def test_points_that_do_not_count_and_keypoints_that_are_not_there():
    logits, index = draw(1, 1.0)
    found = fit_temperature(logits, index)
    more = [torch.cat([x, torch.full((2, 5), -math.inf)]) for x in logits]
    assert fit_temperature(more, index) == pytest.approx(found, rel=1e-9)
    absent = [torch.full_like(x, math.nan) for x in logits]
    both = [torch.cat([x, y], 1) for x, y in zip(logits, absent, strict=True)]
    assert fit_temperature(both, [torch.cat([i, torch.full((5,), -1)]) for i in index]) == pytest.approx(found)


def test_mistakes_are_refused():
    logits, index = torch.zeros(4, 2), torch.tensor([0, 3])
    with pytest.raises(ValueError, match=r"`index` \(of 1 clouds\) must be of as many clouds as `logits` \(of 2\)"):
        fit_temperature([logits, logits], [index])
    with pytest.raises(ValueError, match=r"`logits` \[4\] must be \[N, K\]"):
        fit_temperature([logits[:, 0]], [index])
    with pytest.raises(ValueError, match="`index`"):
        fit_temperature([logits], [torch.tensor([0, 4])])
    with pytest.raises(ValueError, match="`index`"):
        fit_temperature([logits], [torch.tensor([0])])
    with pytest.raises(ValueError, match="`index` must have an annotated keypoint"):
        fit_temperature([logits], [torch.tensor([-1, -1])])
    with pytest.raises(ValueError, match="`logits` must not be NaN or infinite"):
        fit_temperature([logits.masked_fill(torch.eye(4, 2) > 0, math.nan)], [torch.tensor([1, 3])])
    with pytest.raises(ValueError, match="`logits` must not be NaN or infinite"):
        fit_temperature([logits.masked_fill(torch.eye(4, 2) > 0, math.inf)], [torch.tensor([1, 3])])
    with pytest.raises(ValueError, match="logits at `index`"):
        fit_temperature([logits.masked_fill(torch.eye(4, 2) > 0, -math.inf)], [torch.tensor([0, 3])])
