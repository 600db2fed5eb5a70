import math

import pytest
import torch

from pcsa.metrics import failure_rate, keypoint_error, mean_error, pck

NAN = math.nan


def test_what_is_not_visible_reaches_neither_value_nor_gradient(bools):
    predicted = torch.tensor([[[3.0, 4], [1, 1], [5, 6]]], requires_grad=True)
    target = torch.tensor([[[0.0, 0], [NAN, math.inf], [5, 6]]])
    error = keypoint_error(predicted, target, bools("101"))
    assert error.tolist() == [[5, 0, 0]]
    mean_error(error, bools("101")).backward()
    # (5 + 0) / 2: the gradient is (3, 4) / 5 / 2; none where missing, none where both coincide.
    torch.testing.assert_close(predicted.grad, torch.tensor([[[0.3, 0.4], [0, 0], [0, 0]]]))
    distance = torch.tensor([[0.0, NAN]])
    assert pck(distance, bools("10"), [0.1]).item() == 1
    assert mean_error(distance, bools("10")).item() == 0


def test_half_precision_is_compared_in_single(bools):
    predicted = torch.tensor([[[1.0]]], dtype=torch.bfloat16)
    error = keypoint_error(predicted, torch.tensor([[[0.996]]]), bools("1"))
    assert error.dtype == torch.float32
    assert error.item() == pytest.approx(0.004, abs=1e-6)


def test_failures_by_hand(bools):
    # Means 0.05, 0.1 (not above it), 0.2, and one that does not count: 1 of 3.
    distance = torch.tensor([[0.0, 0.1], [0.1, 9.0], [0.1, 0.3], [9.0, 9.0]], dtype=torch.float64)
    counted = bools("11", "10", "11", "00")
    assert failure_rate(distance, counted).item() == pytest.approx(1 / 3)
    assert failure_rate(distance, counted, 0.01).item() == 1
    assert failure_rate(distance, counted, 0.5).item() == 0
    # 4 of 5 right.
    distance = torch.full((5, 68), 0.03)
    distance[2] = 0.5
    assert failure_rate(distance, distance > 0).item() == pytest.approx(0.2)


P, T, V = torch.zeros(2, 3, 3), torch.ones(2, 3, 3), torch.ones(2, 3, dtype=torch.bool)
D = torch.ones(2, 3)
BAD = P.index_fill(1, torch.tensor([1]), NAN)


def test_values_are_not_looked_at_without_validate():
    assert keypoint_error(BAD, T, V, validate=False)[:, 1].isnan().all()
    assert pck(D, ~V, validate=False).isnan().all()


P, T, V = torch.zeros(2, 3, 3), torch.ones(2, 3, 3), torch.ones(2, 3, dtype=torch.bool)
TWO = torch.zeros(1, 2, 2)
SEEN = torch.tensor([[True, True]])
ONE = torch.ones(1)
YES = torch.tensor([True])


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: keypoint_error(P[:1], T, V), "`predicted` \\[1, 3, 3\\] and `target` \\[2, 3, 3\\]"),
        (lambda: keypoint_error(P[0], T[0], V[0]), "`predicted`"),
        (lambda: keypoint_error(P.long(), T.long(), V), "`predicted`.*floating"),
        (lambda: keypoint_error(P, T.long(), V), "`target`.*floating"),
        (lambda: keypoint_error(P, T, V[:, :2]), "`visible`"),
        (lambda: keypoint_error(P, T, V.float()), "`visible` .*torch.float32"),
        (lambda: keypoint_error(BAD, T, V), "`predicted` must be finite"),
        (lambda: keypoint_error(P, T / 0, V), "`target` must be finite"),
        (lambda: mean_error(D, ~V), "no visible keypoint"),
        (lambda: failure_rate(ONE, YES), r"`distance` \[1\] must be \[B, K\]"),
        (lambda: failure_rate(TWO[0], SEEN), r"`distance` \[2, 2\] must have the shape of `counted` \[1, 2\]"),
        (lambda: failure_rate(TWO[0], TWO[0] == 0, 0.0), r"`threshold` \(=0.0\) must be positive"),
        (lambda: failure_rate(TWO[0] - 1, TWO[0] == 0), "`distance` must be at least 0"),
        (lambda: failure_rate(TWO[0], TWO[0] != 0), "no counted keypoint"),
    ],
)
def test_bad_input(call, match):
    with pytest.raises(ValueError, match=match):
        call()
