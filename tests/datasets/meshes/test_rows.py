import numpy as np
import pytest

from pcsa.datasets.meshes.rows import number_rows, text_lines


def test_lines_know_their_numbers() -> None:
    lines = text_lines(b"a\r\n\r\n b # c\r# d\n\xe9\x0ce", first=10, comment="#")
    assert lines.texts == ["a", " b ", "\xe9\x0ce"]
    assert lines.numbers == [10, 12, 14]
    assert lines.part(1, 2) == ([" b "], [12])


def test_rows() -> None:
    assert number_rows(text_lines(b"1 2\n\n3.5\t-4e2"), 2).tolist() == [[1, 2], [3.5, -400]]
    assert number_rows(text_lines(b"1 2 x\n3 4"), 2, more=True).tolist() == [[1, 2], [3, 4]]
    assert number_rows(text_lines(b""), 2).shape == (0, 2)
    assert np.isnan(number_rows(text_lines(b"nan -nan(ind)\n1.#QNAN -1.#IND"), 2)).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"1 2\n\n3", "line 3: 1 values where 2 must stand"),
        (b"1 2\n3 4 5", "line 2: 3 values where 2 must stand"),
        (b"1 2\n3 4,5", "line 2: `4,5` must be a number"),
        (b"1 2 3\n1 2 3", "line 1: 3 values where 2 must stand"),
    ],
)
def test_the_line_that_is_odd(text: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        number_rows(text_lines(text), 2)
