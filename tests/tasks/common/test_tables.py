import pytest

from pcsa.metrics import THRESHOLDS
from pcsa.tasks import get_task
from pcsa.tasks.common.tables import markdown_table, number, shown_thresholds


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


def test_all_thresholds_that_were_asked_for_are_shown():
    assert shown_thresholds((0, 1, 2, 5, 10)) == [0, 1, 2, 3, 4]
    assert shown_thresholds((0.01, 0.02, 0.05, 0.1, 0.5)) == [0, 1, 2, 3, 4]
    assert shown_thresholds((0.1,)) == [0]
    # Of the usual ones the table has those that papers have.
    assert [THRESHOLDS[i] for i in shown_thresholds(THRESHOLDS)] == [0.01, 0.02, 0.05, 0.1]
    # The first and the last of many, and some between.
    many = shown_thresholds(range(100))
    assert (len(many), many[0], many[-1]) == (8, 0, 99)


@pytest.mark.parametrize("thresholds", [[0.0, 1.0, 2.0, 5.0, 10.0], list(THRESHOLDS)])
def test_columns_of_reports_and_comparisons_follow_the_thresholds(thresholds):
    pck = [i / 10 for i in range(len(thresholds))]
    metrics = {"thresholds": thresholds, "overall": {"euclidean": {"pck": pck, "mean_error": 0.5}}}
    found = {title: value(metrics) for title, value in get_task("supervised").columns_of(metrics)}
    wanted = thresholds if 2.0 in thresholds else [0.01, 0.05, 0.1]
    for threshold in wanted:
        assert found[f"PCK@{threshold:g}"] == pytest.approx(100 * pck[thresholds.index(threshold)])
    assert sum(title.startswith("PCK") for title in found) == len(wanted)
    assert found["mean error"] == 0.5

    rows = {"detector": {"miou_euclidean": pck, "dual_alignment": {"mean": 0.5}}}
    metrics = {part: {"thresholds": thresholds, "rows": rows} for part in ("category", "held_out")}
    found = {title: value(metrics) for title, value in get_task("unsupervised").columns_of(metrics)}
    assert found[f"mIoU@{thresholds[-1]:g}"] == pytest.approx(100 * pck[-1])
    # A task without thresholds has its own columns.
    assert get_task("landmarks").columns_of({}) == get_task("landmarks").columns
