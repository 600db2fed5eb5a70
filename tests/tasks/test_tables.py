"""Tables are Markdown, and their columns stand below each other."""

import pytest

from pcsa.tasks.common.tables import markdown_table


def test_cells_are_aligned():
    assert markdown_table(["method", ""], [["soft", "40.6"], ["sampling", "–"]]).splitlines() == [
        "| method   |      |",
        "| -------- | ---- |",
        "| soft     | 40.6 |",
        "| sampling | –    |",
    ]
    # Some readers of Markdown want three dashes, and a table may have no rows.
    assert markdown_table(["K"], []).splitlines() == ["| K   |", "| --- |"]


def test_rows_have_as_many_cells_as_there_are_heads():
    with pytest.raises(ValueError, match="argument"):
        markdown_table(["a", "b"], [["1"]])
