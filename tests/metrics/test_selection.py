import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from pcsa.metrics import area_under_risk_coverage, expected_calibration_error, risk_coverage, shape_interval

CASES = (st.integers(0, 10_000), st.integers(1, 40), st.sampled_from([0, 1, 2, 7]))


def draw(seed, M, digits):
    """Predictions, with more equal confidences the fewer digits there are."""
    rng = np.random.default_rng(seed)
    return np.round(rng.random(M), digits), rng.random(M) < 0.6


# --- calibration error


@settings(deadline=None, max_examples=30)
@given(*CASES, st.integers(1, 12))
def test_calibration_error_in_bins_of_equal_width_by_a_loop(seed, M, digits, num_bins):
    confidence, correct = draw(seed, M, digits)
    expected = 0.0
    for b in range(num_bins):
        own = [i for i in range(M) if min(int(confidence[i] * num_bins), num_bins - 1) == b]
        if own:
            expected += len(own) / M * abs(np.mean(correct[own]) - np.mean(confidence[own]))
    found = expected_calibration_error(*map(torch.from_numpy, (confidence, correct)), num_bins, "equal_width")
    assert found.item() == pytest.approx(expected, abs=1e-12)


@settings(deadline=None, max_examples=30)
@given(*CASES, st.integers(1, 12))
def test_calibration_error_in_bins_of_equal_count_by_a_loop(seed, M, digits, num_bins):
    confidence, correct = draw(seed, M, digits)
    bins = {}
    for i in range(M):
        bins.setdefault((confidence < confidence[i]).sum() * num_bins // M, []).append(i)
    expected = sum(len(own) / M * abs(correct[own].mean() - confidence[own].mean()) for own in bins.values())
    found = expected_calibration_error(*map(torch.from_numpy, (confidence, correct)), num_bins)
    assert found.item() == pytest.approx(expected, abs=1e-12)


def test_a_confidence_that_is_right_has_no_error():
    generator = torch.Generator().manual_seed(0)
    confidence = torch.rand(100_000, generator=generator, dtype=torch.float64)
    correct = torch.rand(100_000, generator=generator) < confidence
    assert expected_calibration_error(confidence, correct) < 0.01
    # One that is 0.3 too low everywhere has an error of 0.3.
    low = 0.7 * confidence
    correct = torch.rand(100_000, generator=generator) < low + 0.3
    assert expected_calibration_error(low, correct).item() == pytest.approx(0.3, abs=0.01)


# --- risk and coverage


@settings(deadline=None, max_examples=30)
@given(*CASES)
def test_risk_by_a_loop(seed, M, digits):
    confidence, correct = draw(seed, M, digits)
    order = np.argsort(-confidence, kind="stable")
    risk = []
    for kept in range(1, M + 1):
        last = confidence[order[kept - 1]]
        surer, equal = confidence > last, confidence == last
        # Of the equal ones, so many are kept, and any of them may be.
        wrong = (~correct[surer]).sum() + (kept - surer.sum()) * (~correct[equal]).mean()
        risk.append(wrong / kept)
    curve = risk_coverage(*map(torch.from_numpy, (confidence, correct)))
    np.testing.assert_allclose(curve.risk, risk, atol=1e-12)
    np.testing.assert_allclose(curve.coverage, np.arange(1, M + 1) / M)
    area = area_under_risk_coverage(*map(torch.from_numpy, (confidence, correct)))
    assert area.item() == pytest.approx(np.mean(risk))


def test_risk_among_equals_is_the_mean_over_all_orders():
    correct = [True, False, False, True]
    confidence = torch.tensor([0.5, 0.9, 0.5, 0.5])
    risks = []
    for order in itertools.permutations([0, 2, 3]):
        wrong = np.cumsum([not correct[1], *(not correct[i] for i in order)])
        risks.append(wrong / np.arange(1, 5))
    found = risk_coverage(confidence, torch.tensor(correct)).risk
    np.testing.assert_allclose(found, np.mean(risks, axis=0))


def test_the_best_order_the_worst_and_none():
    correct = torch.arange(1000) % 4 != 0
    best = area_under_risk_coverage(correct.double(), correct)
    # Only the order of a confidence counts.
    assert best == area_under_risk_coverage(10 * correct.double() - 99, correct)
    falling = -torch.arange(1000.0)
    found = area_under_risk_coverage(falling, torch.arange(1000) < 750)
    assert found.item() == pytest.approx(0.25 + 0.75 * math.log(0.75), abs=2e-3)
    assert area_under_risk_coverage(torch.ones(1000), correct).item() == pytest.approx(0.25)
    assert area_under_risk_coverage(-correct.double(), correct) > 0.5 > 0.25 > best


def test_an_order_of_the_predictions_changes_nothing():
    confidence, correct = map(torch.from_numpy, draw(0, 50, 1))
    order = torch.randperm(50, generator=torch.Generator().manual_seed(0))
    for score in (expected_calibration_error, area_under_risk_coverage):
        assert score(confidence, correct).item() == pytest.approx(score(confidence[order], correct[order]).item())


# --- intervals


def test_intervals_draw_shapes_and_not_keypoints():
    # Ten keypoints of a shape are right together: there are 40 shapes, not 400 predictions.
    right = torch.arange(40).repeat_interleave(10) < 20
    together, apart = torch.arange(40).repeat_interleave(10), torch.arange(400)
    low, high = shape_interval(lambda rows: right[rows].double().mean(), together, num_resamples=400)
    assert low < 0.5 < high
    assert high - low == pytest.approx(2 * 1.96 * math.sqrt(0.25 / 40), rel=0.2)
    narrow = shape_interval(lambda rows: right[rows].double().mean(), apart, num_resamples=400)
    assert narrow[1] - narrow[0] == pytest.approx(2 * 1.96 * math.sqrt(0.25 / 400), rel=0.2)
    # In any order, and by any names.
    order = torch.randperm(400, generator=torch.Generator().manual_seed(0))
    mixed = right[order]
    again = shape_interval(lambda rows: mixed[rows].double().mean(), 7 * together[order], num_resamples=400)
    assert again == pytest.approx((low, high))


def test_resamples_without_a_figure_are_left_out():
    value = torch.tensor([1.0, math.nan])
    # A resample that has the second shape has none.
    interval = shape_interval(lambda rows: value[rows].mean(), torch.tensor([0, 1]), num_resamples=50)
    assert interval == (1.0, 1.0)
    assert all(map(math.isnan, shape_interval(lambda rows: math.nan, torch.tensor([0]), num_resamples=3)))


# --- mistakes


@pytest.mark.parametrize("score", [expected_calibration_error, risk_coverage, area_under_risk_coverage])
def test_mistakes_are_refused(score):
    right = torch.tensor([True])
    with pytest.raises(ValueError, match=r"`confidence` \[0\] must be \[M\], M at least 1"):
        score(torch.zeros(0), right[:0])
    with pytest.raises(ValueError, match=r"`confidence`"):
        score(torch.tensor([math.nan]), right)
    with pytest.raises(ValueError, match=r"`correct`"):
        score(torch.tensor([0.5, 0.6]), right)
    with pytest.raises(ValueError, match=r"`correct`"):
        score(torch.tensor([0.5]), torch.tensor([1.0]))


def test_mistakes_of_an_interval_are_refused():
    shape = torch.tensor([0, 1])
    with pytest.raises(ValueError, match=r"`confidence` \(=1\)"):
        shape_interval(lambda rows: 0.0, shape, confidence=1)
    with pytest.raises(ValueError, match=r"`num_resamples` \(=0\)"):
        shape_interval(lambda rows: 0.0, shape, num_resamples=0)
    with pytest.raises(ValueError, match=r"`shape` \[0\] must be \[M\], M at least 1"):
        shape_interval(lambda rows: 0.0, shape[:0])
    with pytest.raises(ValueError, match="`shape`"):
        shape_interval(lambda rows: 0.0, shape.double())
