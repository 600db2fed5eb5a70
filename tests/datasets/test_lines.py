from pathlib import Path

import pytest

from pcsa.datasets.lines import text_lines


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_lines_of_every_system(tmp_path: Path, end: str, encoding: str) -> None:
    text = end.join(["José 1.png", "", "  b c.png\t", "\u00a0d", ""])
    (tmp_path / "a.txt").write_bytes(text.encode(encoding))
    assert text_lines(tmp_path / "a.txt") == [(1, "José 1.png"), (3, "b c.png"), (4, "d")]


def test_no_lines(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf\r\n")
    assert text_lines(tmp_path / "a.txt") == []
    with pytest.raises(FileNotFoundError):
        text_lines(tmp_path / "none.txt")
