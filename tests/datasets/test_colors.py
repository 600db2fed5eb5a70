import numpy as np
import pytest

from pcsa.datasets.colors import color_bytes


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([0, 1, 255], np.uint8), [0, 1, 255]),
        (np.array([0, 1, 255], np.uint16), [0, 1, 255]),
        (np.array([0, 256, 65535], np.uint16), [0, 1, 255]),
        (np.array([0, 70, 65535], np.int64), [0, 0, 255]),
        (np.array([0, 1, 0]), [0, 1, 0]),
        (np.array([0, 0.5, 1]), [0, 128, 255]),
        (np.array([0, 1, 254.6]), [0, 1, 255]),
    ],
)
def test_one_rule_for_all_formats(values: np.ndarray, expected: list[int]) -> None:
    colors = color_bytes(values)
    assert colors is not None
    assert colors.dtype == np.uint8
    assert colors.tolist() == expected


@pytest.mark.parametrize("values", [[], [-1, 0], [65536], [0.5, np.nan], [256.0]])
def test_values_of_no_range_are_no_colors(values: list[float]) -> None:
    assert color_bytes(np.array(values)) is None
