import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from pcsa.metrics import confidence_correlation, reliability_curve

NAN = math.nan


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.integers(3, 40), st.sampled_from([1.0, 1e-3, 1e-6]))
def test_pearson_against_numpy(seed, M, scale):
    generator = torch.Generator().manual_seed(seed)
    confidence = torch.rand(M, generator=generator, dtype=torch.float64) * scale
    correct = torch.rand(M, generator=generator) < 0.5
    correct[:2] = torch.tensor([True, False])
    expected = np.corrcoef(confidence.numpy(), correct.numpy().astype(float))[0, 1]
    assert confidence_correlation(confidence, correct).item() == pytest.approx(expected, abs=1e-9)


def test_pearson_of_constants_is_undefined():
    assert confidence_correlation(torch.tensor([0.1, 0.1]), torch.tensor([True, False])).isnan()
    assert confidence_correlation(torch.tensor([0.1, 0.2]), torch.tensor([True, True])).isnan()
    assert confidence_correlation(torch.tensor([0.1]), torch.tensor([True])).isnan()


def test_reliability_bins_by_hand():
    confidence = torch.tensor([0.05, 1.0, 0.1, 0.5, 0.2, 0.6], dtype=torch.float64)
    correct = torch.tensor([False, True, True, False, False, True])
    # Width 1/4: 0.05, 0.1 and 0.2 | none | 0.5 and 0.6 | 1.0, which belongs to the last bin.
    curve = reliability_curve(confidence, correct, 4, "equal_width")
    assert curve.counts.tolist() == [3, 0, 2, 1]
    np.testing.assert_allclose(curve.confidence, [0.35 / 3, NAN, 0.55, 1])
    np.testing.assert_allclose(curve.accuracy, [1 / 3, NAN, 1 / 2, 1])
    # Two each: 0.05 and 0.1 | 0.2 and 0.5 | 0.6 and 1.0.
    curve = reliability_curve(confidence, correct, 3)
    assert curve.counts.tolist() == [2, 2, 2]
    np.testing.assert_allclose(curve.confidence, [0.075, 0.35, 0.8])
    np.testing.assert_allclose(curve.accuracy, [0.5, 0, 1])


def test_equal_confidences_share_a_bin_in_any_order():
    confidence = torch.tensor([0.5, 0.5, 0.5, 0.9])
    correct = torch.tensor([True, False, False, True])
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2]):
        curve = reliability_curve(confidence[order], correct[order], 2)
        assert curve.counts.tolist() == [3, 1]
        np.testing.assert_allclose(curve.accuracy, [1 / 3, 1])


def test_calibration_serves_surfaces_as_it_does_keypoints():
    rng = np.random.default_rng(0)
    confidence, distance = (torch.from_numpy(rng.random((2, 3, 40))) for _ in range(2))
    distance = distance * (1 - confidence)
    visible = torch.from_numpy(rng.random((2, 3, 40)) < 0.7)
    pearson = np.corrcoef(confidence[visible], distance[visible] < 0.2)[0, 1]
    assert pearson > 0.3
    assert reliability_curve(confidence[visible], distance[visible] < 0.2, 5).counts.sum() == visible.sum()
    assert confidence_correlation(confidence[visible], distance[visible] < 0.2).item() == pytest.approx(pearson)


P, T, V = torch.zeros(2, 3, 3), torch.ones(2, 3, 3), torch.ones(2, 3, dtype=torch.bool)
D = torch.ones(2, 3)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: confidence_correlation(D[0, :0], V[0, :0]), "`confidence`"),
        (lambda: confidence_correlation(D[0] * NAN, V[0]), "`confidence`"),
        (lambda: confidence_correlation(D[0], D[0]), "`correct`"),
        (lambda: reliability_curve(D[0] * 2, V[0]), "`confidence` must lie in 0 to 1"),
        (lambda: reliability_curve(D[0], V[0], 0), "`num_bins` \\(=0\\)"),
        (lambda: reliability_curve(D[0], V[0], 5, "quantile"), "`binning` \\(='quantile'\\)"),
    ],
)
def test_bad_input(call, match):
    with pytest.raises(ValueError, match=match):
        call()
