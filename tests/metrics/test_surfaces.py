import math

import numpy as np
import pytest
import torch

from pcsa.metrics import surface_error

NAN = math.nan


def test_surfaces_by_hand(bools):
    # Surface 0: distances 1 and 3 in the first scan, 2 in the second: mean 2, variance (1 + 1 + 0) / 3.
    # Surface 1: 4 alone. Surface 2: nowhere labeled.
    target = torch.zeros(2, 3, 2)
    predicted = torch.tensor([[[1.0, -3.0], [9.0, 4.0], [9.0, 9.0]], [[9.0, 2.0], [9.0, 9.0], [9.0, 9.0]]])
    visible = torch.stack([bools("11", "01", "00"), bools("01", "00", "00")])
    target[~visible] = NAN
    error = surface_error(predicted, target, visible)
    assert error.mean.tolist() == pytest.approx([2, 4, NAN], nan_ok=True)
    assert error.std.tolist() == pytest.approx([math.sqrt(2 / 3), 0, NAN], nan_ok=True)
    assert error.num_columns.tolist() == [3, 1, 0]
    # 1, 3, 2, 4: mean 5/2, variance (9 + 1 + 1 + 9) / 4 / 4 = 5/4.
    assert error.overall_mean.item() == 2.5
    assert error.overall_std.item() == pytest.approx(math.sqrt(5 / 4))
    # A row is 3.9 micrometers high.
    scaled = surface_error(predicted, target, visible, spacing=3.9)
    assert scaled.overall_mean.item() == pytest.approx(3.9 * 2.5)
    assert scaled.std[0].item() == pytest.approx(3.9 * math.sqrt(2 / 3))


def test_surfaces_are_those_of_numpy():
    rng = np.random.default_rng(0)
    target, predicted = rng.normal(200, 30, (2, 3, 4, 50))
    visible = rng.random((3, 4, 50)) < 0.8
    error = surface_error(*map(torch.from_numpy, (predicted, target, visible)))
    away = np.abs(predicted - target)
    np.testing.assert_allclose(error.mean, [away[:, k][visible[:, k]].mean() for k in range(4)])
    np.testing.assert_allclose(error.std, [away[:, k][visible[:, k]].std() for k in range(4)])
    np.testing.assert_allclose(error.overall_mean, away[visible].mean())
    np.testing.assert_allclose(error.overall_std, away[visible].std())


def test_no_labeled_column_gives_nan():
    error = surface_error(torch.zeros(1, 2, 3), torch.zeros(1, 2, 3), torch.zeros(1, 2, 3, dtype=torch.bool))
    assert error.mean.isnan().all()
    assert error.overall_mean.isnan()
    assert error.overall_std.isnan()
    assert error.num_columns.tolist() == [0, 0]


TWO = torch.zeros(1, 2, 2)
THREE = torch.zeros(1, 2, 3)


SEEN = torch.tensor([[True, True]])


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: surface_error(TWO, THREE, SEEN), r"`predicted` \[1, 2, 2\] and `target` .* must both be \[B, K, W\]"),
        (lambda: surface_error(TWO, TWO, SEEN), r"`visible` \[1, 2\] \(torch.bool\) must be bool \[1, 2, 2\]"),
        (lambda: surface_error(TWO, TWO, TWO == 0, 0.0), r"`spacing` \(=0.0\) must be positive"),
        (lambda: surface_error(TWO / 0, TWO, TWO == 0), "`predicted` must be finite where `visible`"),
    ],
)
def test_bad_input(call, match):
    with pytest.raises(ValueError, match=match):
        call()
