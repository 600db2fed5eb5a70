import numpy as np
import pytest

from pcsa.datasets.point_cloud import count_copies, lossless_dtype

BED = np.random.default_rng(0).uniform(size=(500, 3)) * np.array([2.0, 1.2, 0.6])
UTM = np.array([500_000.0, 4_600_000.0, 80.0])
ECEF = np.array([4_075_000.0, 931_000.0, 4_801_000.0])


@pytest.mark.parametrize(
    ("points", "kept"),
    [
        (BED, np.float32),
        (BED * 1e-6, np.float32),
        (BED * 1e6, np.float32),
        (BED + np.array([5.0, 0.0, 0.0]), np.float32),
        (BED + UTM, np.float64),
        (BED + ECEF, np.float64),
        (BED * 1e6 + UTM, np.float32),  # as wide as a country
        (np.concatenate([BED + UTM, np.zeros((300, 3))]), np.float64),  # invalid pixels at (0, 0, 0)
        (np.array([[0.0, 0.0, 0.0], [0.1, 0.2, 0.3]]), np.float32),
        (UTM[None] + 0.3, np.float64),
        ((BED + UTM).astype(np.float32), np.float32),  # nothing is left to lose
        (BED * 1e300, np.float64),
        (np.full((3, 3), np.nan), np.float32),
        (np.concatenate([BED, [[np.nan, np.inf, 0.0]]]), np.float32),
        (np.empty((0, 3)), np.float32),
    ],
)
def test_float32_only_where_it_keeps_the_shape(points: np.ndarray, kept: type) -> None:
    assert lossless_dtype(points) == kept


def test_copies_are_counted() -> None:
    assert count_copies(BED) == 0
    assert count_copies(np.concatenate([BED, BED[:7], np.zeros((5, 3)), -np.zeros((2, 3))])) == 7 + 6
    assert count_copies(np.zeros((0, 3))) == 0
    # One place differs from another by a single bit.
    assert count_copies(np.array([[1.0, 0.0, 0.0], [np.nextafter(1.0, 2.0), 0.0, 0.0]])) == 0
