import numpy as np
import pytest

from pcsa.datasets.values import unit_values


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([0, 51, 255], np.uint8), [0, 0.2, 1]),
        (np.array([0, 1, 3], np.uint8), [0, 1 / 255, 3 / 255]),
        (np.array([0, 13107, 65535], np.uint16), [0, 0.2, 1]),
        (np.array([0, 16384], np.uint16), [0, 16384 / 65535]),
        (np.array([0, 2**32 - 1], np.uint32), [0, 1]),
        (np.array([0, 0], np.uint16), [0, 0]),
        (np.array([False, True]), [0, 1]),
        (np.array([0, 0.25, 1], np.float16), [0, 0.25, 1]),
        (np.array([0, 0.25, 1], np.float64), [0, 0.25, 1]),
        (np.array([0, 0.25, 1], ">f4"), [0, 0.25, 1]),
    ],
)
def test_what_the_type_says(values: np.ndarray, expected: list[float]) -> None:
    unit = unit_values(values)
    assert unit.dtype == np.float32
    np.testing.assert_allclose(unit, expected, rtol=1e-6)


def test_what_the_range_and_the_bits_say() -> None:
    deep = np.array([0, 1023, 4095])
    for dtype in (np.uint16, np.int32, np.float32, np.int64):
        np.testing.assert_allclose(unit_values(deep.astype(dtype), (0, 4095)), [0, 1023 / 4095, 1], rtol=1e-6)
    np.testing.assert_allclose(unit_values(deep.astype(np.uint16), bits=12), [0, 1023 / 4095, 1], rtol=1e-6)
    np.testing.assert_allclose(unit_values(np.array([-1000.0, 1000.0]), (-1000, 3000)), [0, 0.5])
    np.testing.assert_allclose(unit_values(np.array([0, 255], np.uint8), (0, 510)), [0, 0.5])


@pytest.mark.parametrize(
    ("values", "value_range", "message"),
    [
        (np.array([0.0, 255.0]), None, r"values \(float64, from 0 to 255\) must be from 0 to 1, or `value_range`"),
        (np.array([-0.5, 1.0]), None, r"from -0.5 to 1\) must be from 0 to 1"),
        (np.array([0.0, 1.001]), None, "must be from 0 to 1"),
        (np.array([0.0, np.nan]), None, r"must be finite: 1 are NaN or infinite, the first at \[1\]"),
        (np.array([0.0, np.inf]), (0, 1), "must be finite"),
        # 10, 12 and 14 bits in 16 have no declared range.
        (np.array([0, 1023], np.uint16), None, r"less than a quarter of 16 bits.*\(0, 1023\) for 10 bits"),
        (np.array([0, 4095], np.uint16), None, r"\(0, 4095\) for 12 bits or \(0, 65535\) for 16"),
        (np.array([0, 16383], np.uint16), None, r"\(0, 16383\) for 14 bits"),
        (np.array([0, 4095], np.uint32), None, "less than a quarter of 32 bits"),
        (np.array([0, 100], np.int16), None, r"values \(int16, from 0 to 100\) must come with `value_range`"),
        (np.array([0, 1], np.int64), None, "must come with `value_range`"),
        (np.array([0, 5000], np.uint16), (0, 4095), r"from 0 to 5000\) must be from 0 to 4095, the `value_range`"),
        (np.array([0, 1], np.uint8), (1, 1), r"`value_range` \(=\(1, 1\)\) must be finite, and rise"),
        (np.array([0, 1], np.uint8), (0, np.nan), "`value_range`.*must be finite, and rise"),
        (np.array([0, 1], np.uint8), (0,), r"`value_range` \(=\(0,\)\) must be two numbers"),
        (np.array(["a"]), None, "must be numbers"),
        (np.array([1j]), None, "must be numbers"),
        (np.zeros((0, 3)), None, "at least one"),
    ],
)
def test_what_is_not_known_is_refused(values: np.ndarray, value_range: tuple[float, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        unit_values(values, value_range)
