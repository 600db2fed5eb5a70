import numpy as np
import pytest
import torch

from pcsa.metrics import paired_bootstrap


def naive(first, second, num_resamples, rng):
    """The percentile interval of 95 %, one resample after the other; groups are drawn each by itself."""
    means = []
    for _ in range(num_resamples):
        drawn = []
        for a, b in zip(first, second, strict=True):
            rows = [int(rng.integers(len(a))) for _ in a]
            drawn.append(sum(a[row] - b[row] for row in rows) / len(rows))
        means.append(sum(drawn) / len(drawn))
    means.sort()
    return means[round(0.025 * num_resamples)], means[round(0.975 * num_resamples)]


@pytest.mark.parametrize("sizes", [[30], [20, 5], [12, 1]])
def test_a_loop_finds_the_same(sizes):
    rng = np.random.default_rng(1)
    first = [rng.normal(1, 1, n) for n in sizes]
    second = [a - rng.normal(0.5, 0.5, len(a)) for a in first]
    found = paired_bootstrap(first, second)
    assert found.mean == pytest.approx(np.mean([np.mean(a - b) for a, b in zip(first, second, strict=True)]))
    low, high = naive(first, second, 2000, rng)
    # Ends of such an interval scatter by some hundredths of its width from one set of resamples to the next.
    assert found.low == pytest.approx(low, abs=0.1 * (high - low))
    assert found.high == pytest.approx(high, abs=0.1 * (high - low))


def test_the_interval_holds_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(2)
    held = 0
    for trial in range(200):
        # Shapes differ much more than the methods do on each.
        shape = rng.normal(0, 10, 60)
        first, second = shape + rng.normal(1, 1, 60), shape + rng.normal(0, 1, 60)
        found = paired_bootstrap(first, second, confidence=0.9, num_resamples=500, seed=trial)
        held += found.low <= 1 <= found.high
    # 180 expected, with a standard deviation of 4.2 and the slight optimism of percentiles.
    assert 164 <= held <= 195


def test_equal_methods_differ_by_nothing_and_the_seed_fixes_the_draws():
    scores = torch.rand(20)
    assert paired_bootstrap(scores, scores) == (0, 0, 0)
    assert paired_bootstrap(scores, scores.flip(0)) == paired_bootstrap(scores, scores.flip(0))
    assert paired_bootstrap(scores, scores.flip(0)) != paired_bootstrap(scores, scores.flip(0), seed=1)


def test_one_shape_has_no_spread():
    assert paired_bootstrap(np.array([3.0]), np.array([1.0])) == (2, 2, 2)


@pytest.mark.parametrize(
    ("arguments", "values", "message"),
    [
        (([1.0, 2.0], [1.0]), {}, r"`second` \(scores of \[1\] shapes\) must have those of `first`: \[2\]"),
        (([[1.0], []], [[1.0], []]), {}, "must have at least one shape in each group"),
        (([1.0, np.nan], [1.0, 2.0]), {}, "`first` must be finite scores"),
        (([1.0], [1.0]), {"confidence": 1.0}, r"`confidence` \(=1.0\) must be above 0 and below 1"),
        (([1.0], [1.0]), {"num_resamples": 0}, r"`num_resamples` \(=0\) must be at least 1"),
    ],
)
def test_broken_rules(arguments, values, message):
    with pytest.raises(ValueError, match=message):
        paired_bootstrap(*arguments, **values)
