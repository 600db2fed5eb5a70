import pytest

from pcsa.tasks.common.tables import markdown_table, number


def test_cells_are_aligned():
    assert markdown_table(["", "PCK"], [["soft", "40.6"], ["sampling-argmax", "–"]]).splitlines() == [
        "|                 | PCK  |",
        "| --------------- | ---- |",
        "| soft            | 40.6 |",
        "| sampling-argmax | –    |",
    ]


def test_a_column_has_three_dashes_at_least_also_without_rows():
    assert markdown_table(["a", "bc"], []).splitlines() == ["| a   | bc  |", "| --- | --- |"]


@pytest.mark.parametrize("rows", [[["1"]], [["1", "2"], ["1", "2", "3"]]])
def test_rows_are_as_long_as_the_heads(rows):
    with pytest.raises(ValueError, match=r"zip\(\)"):
        markdown_table(["a", "b"], rows)


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [(1.25, 1, "1.2"), (3, 2, "3.00"), (-0.5, 0, "-0"), (None, 3, "–"), (float("nan"), 3, "–")],
)
def test_numbers(value, digits, text):
    assert number(value, digits) == text
