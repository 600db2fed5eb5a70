import math

import numpy as np
import pytest

from pcsa.metrics import coverage, inclusivity, separation

INF, NAN = math.inf, math.nan


def column(*values: float) -> np.ndarray:
    """Points on a line, [k, 1]."""
    return np.array(values, dtype=float)[:, None]


def test_coverage_by_hand():
    cloud = np.array([[0.0, 0, 0], [2, 2, 2]])
    assert coverage([cloud], [cloud]) == 1
    assert coverage([np.array([[0.0, 0, 0], [1, 1, 2]])], [cloud]) == 0.25
    # Beyond the cloud counts against it: box 4 x 2 x 2 = 16, shared 8.
    assert coverage([np.array([[0.0, 0, 0], [4, 2, 2]])], [cloud]) == 0.5
    # As large as the cloud, but elsewhere.
    assert coverage([cloud + 5], [cloud]) == 0
    assert coverage([np.ones((4, 3))], [cloud]) == 0
    assert coverage([cloud, cloud + 5], [cloud, cloud]) == 0.5
    # A flat cloud is measured in its plane.
    flat = np.array([[0.0, 0, 1], [2, 2, 1]])
    assert coverage([np.array([[0.0, 0, 1], [2, 1, 1]])], [flat]) == 0.5


def test_inclusivity_of_four_in_five():
    # A ring of radius 2: 0.03 of it is 0.06.
    angle = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    ring = 2 * np.stack((np.cos(angle), np.sin(angle)), 1)
    keypoints = ring[[0, 50, 100, 150, 200]] * np.array([1.02, 0.98, 1, 1, 0.9])[:, None]
    assert inclusivity([keypoints], [ring]) == 0.8
    assert inclusivity([keypoints], [ring], threshold=0.2) == 1
    assert inclusivity([keypoints], [ring], threshold=0.01) == 0.4
    assert inclusivity([1e3 * keypoints + 7], [1e3 * ring + 7]) == 0.8  # whatever the units


def test_separation_by_hand():
    cloud = np.array([[0.0, 0, 0], [2, 4, 4]])  # diagonal 6
    spread, pair = np.array([[0.0, 0, 0], [3, 0, 0], [0, 3, 0]]), np.array([[0.0, 0, 0], [0.6, 0, 0]])
    assert separation([spread], [cloud]) == pytest.approx((0.5, (1 + math.sqrt(2) / 2) / 3, 0.5))
    least, mean, worst = separation([pair, spread], [cloud, cloud])
    assert (least, worst) == pytest.approx((0.3, 0.1))
    assert mean == pytest.approx((0.1 + (1 + math.sqrt(2) / 2) / 3) / 2)
    assert separation([np.ones((10, 3))], [cloud]) == (0, 0, 0)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: coverage([column(0)], [np.zeros((2, 3))]), r"`clouds` of shape 0 \[2, 3\] must have D=1"),
        (lambda: inclusivity([column(0)], [column(0)], NAN), r"`threshold` \(=nan\)"),
        (
            lambda: separation([column(0)], [column(0, 1)]),
            r"`predicted` of shape 0 \(=1 keypoints\) must have at least",
        ),
        (lambda: separation([column(0, 1)], [column(3, 3)]), "`clouds` of shape 0 has no extent"),
    ],
)
def test_bad_input(call, match):
    with pytest.raises(ValueError, match=match):
        call()
