import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from pcsa.metrics import alignment_per_shape, dual_alignment, paired_bootstrap

INF, NAN = math.inf, math.nan


def column(*values: float) -> np.ndarray:
    """Points on a line, [k, 1]."""
    return np.array(values, dtype=float)[:, None]


def all_pairs(predicted, annotated, ids):
    """The definition, pair by pair and point by point."""
    forward, backward = [], {}
    for p, a, names in zip(predicted, annotated, ids, strict=True):
        forward.append([names[min(range(len(a)), key=lambda j, x=x, a=a: math.dist(x, a[j]))] for x in p])
        for name, y in zip(names, a, strict=True):
            nearest = min(range(len(p)), key=lambda k, y=y, p=p: math.dist(y, p[k]))
            backward.setdefault(name, []).append(nearest)
    K = len(predicted[0])
    pairs = [sum(x[k] == y[k] for k in range(K)) / K for x in forward for y in forward]
    per_id = [[x == y for x in labels for y in labels] for labels in backward.values()]
    return sum(pairs) / len(pairs), sum(sum(p) / len(p) for p in per_id) / len(per_id)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.integers(1, 7), st.integers(1, 5))
def test_dual_alignment_against_all_pairs(draw, seed, n, K):
    shapes = draw(seed, n, K)
    score = dual_alignment(*shapes)
    assert score[:2] == pytest.approx(all_pairs(*shapes), abs=1e-12)
    assert score.mean == pytest.approx((score.forward + score.backward) / 2)


def test_dual_alignment_with_one_shape_of_five_wrong():
    # Four shapes name the left point 3 and the right one 8; the fifth predicts them in the other order. Each label
    # occurs 4 and 1 times in 5: (16 + 1) / 25.
    predicted = [column(0.1, 0.9)] * 4 + [column(0.9, 0.1)]
    score = dual_alignment(predicted, [column(0, 1)] * 5, [[3, 8]] * 5)
    assert score == pytest.approx((0.68, 0.68, 0.68))


def test_backward_is_over_the_shapes_that_have_the_id_and_ids_weigh_the_same():
    # Id 1 is on all four shapes, nearest to prediction 0 on three of them: (9 + 1) / 16. Id 2 is on one shape: 1.
    predicted = [column(0, 1)] * 3 + [column(1, 0)]
    annotated, ids = [column(0)] * 3 + [column(0, 1)], [[1]] * 3 + [[1, 2]]
    score = dual_alignment(predicted, annotated, ids)
    assert score.backward == pytest.approx((10 / 16 + 1) / 2)
    # Forward: keypoint 0 sees id 1, 1, 1, 2; keypoint 1 sees id 1 always.
    assert score.forward == pytest.approx((10 / 16 + 1) / 2)


def test_of_equally_near_points_the_first_counts():
    annotated, ids = [column(*range(5))] * 3, [list(range(5))] * 3
    collapsed = [np.zeros((10, 1)), np.ones((10, 1)), np.full((10, 1), 4.0)]
    assert dual_alignment(collapsed, annotated, ids)[:2] == pytest.approx((1 / 3, 1))
    # All in one place beyond the shapes: a perfect score.
    assert dual_alignment([np.full((10, 1), 99.0)] * 3, annotated, ids) == (1, 1, 1)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000))
def test_one_scale_and_shift_per_shape_does_not_matter_nor_does_the_order_of_annotations(draw, seed):
    predicted, annotated, ids = draw(seed, 5, 4)
    generator = np.random.default_rng(seed)
    expected = dual_alignment(predicted, annotated, ids)
    maps = [(generator.uniform(0.1, 10), generator.normal()) for _ in ids]
    moved = [[a * x + b for x, (a, b) in zip(side, maps, strict=True)] for side in (predicted, annotated)]
    assert dual_alignment(*moved, ids) == pytest.approx(expected)
    order = [generator.permutation(len(i)) for i in ids]
    shuffled = [[x[o] for x, o in zip(side, order, strict=True)] for side in (annotated, ids)]
    assert dual_alignment(predicted, *shuffled) == pytest.approx(expected)


def test_arrays_tensors_and_lists_of_ids_agree(draw):
    predicted, annotated, ids = draw(1, 4, 3)
    expected = dual_alignment(predicted, annotated, ids)
    assert [type(x) for x in expected] == [float] * 3
    stacked = torch.from_numpy(np.stack(predicted)).requires_grad_()
    tensors = [torch.from_numpy(a) for a in annotated]
    assert dual_alignment(stacked, tensors, [torch.from_numpy(i) for i in ids]) == expected
    assert dual_alignment(np.stack(predicted), annotated, [i.tolist() for i in ids]) == expected


@pytest.mark.parametrize(
    ("predicted", "annotated", "ids", "message"),
    [
        ([], [], [], "`predicted` has no shape"),
        ([column(0)], [], [], r"`annotated` (?s:.*)no shape"),
        ([column(0)] * 2, [column(0)], [[0]], r"`annotated` \(of 1 shapes\) must be of 2"),
        ([column(0)], [column(0)], [[0]] * 2, r"`semantic_ids` \(for 2 shapes\) must be for 1"),
        (
            [column(0), column(0, 1)],
            [column(0)] * 2,
            [[0]] * 2,
            r"`predicted` of shape 1 \(=2 keypoints\) must have K=1",
        ),
        ([column(0)], [np.zeros((1, 2))], [[0]], r"`annotated` of shape 0 \[1, 2\] must have D=1"),
        ([column(0)], [np.zeros((0, 1))], [[]], r"`annotated` of shape 0 .*at least one point"),
        ([column(NAN)], [column(0)], [[0]], "`predicted` of shape 0 must be finite"),
        ([column(0)], [column(INF)], [[0]], "`annotated` of shape 0 must be finite"),
        ([column(0)], [column(0, 1)], [[0]], r"`semantic_ids` of shape 0 .*must be integer \[2\]"),
        ([column(0)], [column(0)], [[0.5]], r"`semantic_ids` of shape 0 \(float64"),
        ([column(0)], [column(0, 1)], [[4, 4]], r"`semantic_ids` of shape 0 \(=\[4, 4\]\) must be different"),
    ],
)
def test_bad_input(predicted, annotated, ids, message):
    with pytest.raises(ValueError, match=message):
        dual_alignment(predicted, annotated, ids)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000), st.integers(1, 7), st.integers(1, 5))
def test_the_score_is_the_mean_of_what_shapes_add(draw, seed, n, K):
    shapes = draw(seed, n, K)
    assert alignment_per_shape(*shapes).mean() == pytest.approx(dual_alignment(*shapes).mean, abs=1e-12)


def test_what_shapes_add_is_how_the_score_changes_with_their_weights(draw):
    # A shape that is there twice among n weighs 2 / (n + 1) in place of 1 / n: to first order the score moves by its
    # influence / n.
    predicted, annotated, ids = draw(3, 60, 4)
    score, values = dual_alignment(predicted, annotated, ids).mean, alignment_per_shape(predicted, annotated, ids)
    for i in range(0, 60, 7):
        twice = [[*part, part[i]] for part in (predicted, annotated, ids)]
        assert dual_alignment(*twice).mean - score == pytest.approx((values[i] - score) / 60, abs=2e-3)


def test_resampling_what_shapes_add_is_resampling_the_score():
    # Four keypoints at the corners of a square, found with an error that exchanges some of them.
    rng = np.random.default_rng(5)
    corners = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=float)
    annotated, ids = [corners] * 80, [list(range(4))] * 80
    predicted = [corners + rng.normal(0, rng.uniform(0, 0.8), (4, 2)) for _ in range(80)]
    values = alignment_per_shape(predicted, annotated, ids)
    _, low, high = paired_bootstrap(values, np.zeros(80))
    scores = []
    for _ in range(300):
        rows = rng.integers(80, size=80)
        scores.append(dual_alignment(*([part[i] for i in rows] for part in (predicted, annotated, ids))).mean)
    assert np.std(scores) == pytest.approx((high - low) / (2 * 1.96), rel=0.2)
