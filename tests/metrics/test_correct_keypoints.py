import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

import pcsa
from pcsa.metrics import KeypointMetrics, keypoint_error, mean_error, pck

NAN = math.nan


def test_four_of_five_right_gives_0_8(bools):
    target = torch.rand(1, 5, 3)
    predicted = target + torch.tensor([0.003, 0, 0])
    predicted[0, 2] += 1
    distance = keypoint_error(predicted, target, bools("11111"))
    assert pck(distance, bools("11111"), [0.002, 0.01, 0.1, 10.0]).tolist() == pytest.approx([0, 0.8, 0.8, 1])


def test_shapes_weigh_the_same_however_many_keypoints_they_have(bools):
    # Shape 0 has four keypoints, one right; shape 1 has one, right; shape 2 has none and is left out.
    # Per shape: (1/4 + 1) / 2 = 0.625. Pooled it would be 2/5, with the third shape (1/4 + 1) / 3.
    distance = torch.tensor([[0.0, 1, 1, 1], [0, 1, 1, 1], [0, 0, 0, 0]])
    visible = bools("1111", "1000", "0000")
    assert pck(distance, visible, [0.5]).tolist() == [0.625]
    # Likewise ((0 + 1 + 1 + 1) / 4 + 0) / 2.
    assert mean_error(distance, visible).item() == 0.375


def test_a_distance_at_the_threshold_is_not_correct(bools):
    for dtype in (torch.float32, torch.float64):
        distance = torch.tensor([[0.0, 0.01, 0.07, 0.1]], dtype=dtype)
        just_below = torch.nextafter(distance, torch.tensor(-1.0, dtype=dtype))
        expected = torch.tensor([0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1]) / 4  # 0.07 counts from 0.08 on, 0.1 never
        expected[1:] += 1 / 4  # 0 counts from 0.01 on
        expected[2:] += 1 / 4  # 0.01 counts from 0.02 on
        assert pck(distance, bools("1111")).tolist() == pytest.approx(expected.tolist())
        assert pck(just_below[:, 1:2], bools("1"), [0.01]).item() == 1
        metric = KeypointMetrics([0.01])
        metric.update(
            distance[:, 1:2, None], torch.zeros(1, 1, 1, dtype=dtype), bools("1"), confidence=distance[:, 1:2]
        )
        out = metric.compute()["overall"]
        assert out["euclidean"]["pck"] == [0]
        assert sum(a or 0 for a in out["calibration"]["reliability"]["accuracy"]) == 0


def test_default_thresholds_are_the_benchmarks(bools):
    assert list(pcsa.metrics.THRESHOLDS) == [0, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 0.09, 0.1]
    assert pck(torch.zeros(1, 1), bools("1")).tolist() == [0] + [1] * 10


def test_infinite_distances_are_valid_and_wrong(bools):
    distance = torch.tensor([[0.0, math.inf]])
    assert pck(distance, bools("11"), [1e30]).item() == 0.5
    assert mean_error(distance, bools("11")).item() == math.inf
    # One that is not visible does not count.
    assert mean_error(distance, bools("10")).item() == 0


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 5), st.integers(1, 4))
def test_pck_and_mean_error_against_loops(seed, B, K, D):
    generator = torch.Generator().manual_seed(seed)
    predicted, target = torch.rand(2, B, K, D, generator=generator, dtype=torch.float64)
    visible = torch.rand(B, K, generator=generator) < 0.6
    visible[0, 0] = True
    distance = keypoint_error(predicted, target, visible)
    thresholds = [0.1, 0.3, 0.5]
    fractions, errors = [], []
    for b in range(B):
        present = [k for k in range(K) if visible[b, k]]
        if not present:
            continue
        d = [math.dist(predicted[b, k].tolist(), target[b, k].tolist()) for k in present]
        fractions.append([sum(x < t for x in d) / len(d) for t in thresholds])
        errors.append(sum(d) / len(d))
    np.testing.assert_allclose(pck(distance, visible, thresholds), np.mean(fractions, axis=0), rtol=1e-12)
    np.testing.assert_allclose(mean_error(distance, visible), np.mean(errors), rtol=1e-12)


P, T, V = torch.zeros(2, 3, 3), torch.ones(2, 3, 3), torch.ones(2, 3, dtype=torch.bool)
D = torch.ones(2, 3)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: pck(D, V[:1]), "`distance` \\[2, 3\\]"),
        (lambda: pck(D[0], V[0]), "`distance`"),
        (lambda: pck(D.long(), V), "`distance`"),
        (lambda: pck(D * NAN, V), "`distance`.*NaN"),
        (lambda: pck(-D, V), "`distance`.*at least 0"),
        (lambda: pck(D, ~V), "no visible keypoint"),
        (lambda: pck(D, V, []), "`thresholds` \\(=\\[\\]\\)"),
        (lambda: pck(D, V, [0.1, 0.0]), "`thresholds` \\(=\\[0.1, 0.0\\]\\)"),
        (lambda: pck(D, V, [0.1, 0.1]), "`thresholds`"),
        (lambda: pck(D, V, [-0.1, 0.1]), "`thresholds`"),
        (lambda: pck(D, V, [NAN]), "`thresholds`"),
    ],
)
def test_bad_input(call, match):
    with pytest.raises(ValueError, match=match):
        call()
