"""Bars are for people who watch, and only where something takes long."""

import io
import sys

from pcsa._core import progress as module
from pcsa._core.progress import bars_shown, progress, progress_bar, progress_bars


class Terminal(io.StringIO):
    def isatty(self):
        return True


def terminal_of(monkeypatch):
    """Put a terminal in the place of standard error; within a test, as pytest changes it between fixture and test."""
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.setattr(module, "_SECONDS", 0)
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    return stream


def test_items_pass_and_the_bar_says_what_is_done_and_for_how_long(monkeypatch):
    terminal = terminal_of(monkeypatch)
    assert list(progress(range(3), "reading bed")) == [0, 1, 2]
    said = terminal.getvalue()
    assert "reading bed" in said
    assert "0/3 [00:00" in said
    # Nothing stays.
    assert said.endswith("\r")


def test_no_bar_within_two_seconds(monkeypatch):
    terminal = terminal_of(monkeypatch)
    monkeypatch.setattr(module, "_SECONDS", 2.0)
    assert list(progress(iter("ab"), "reading", total=2)) == ["a", "b"]
    assert "reading" not in terminal.getvalue()


def test_no_bar_where_nobody_watches(monkeypatch):
    terminal = terminal_of(monkeypatch)
    monkeypatch.setattr(terminal, "isatty", lambda: False)
    with progress_bar("reading", 2, done=1) as bar:
        bar.update()
    assert list(progress([1], "reading")) == [1]
    assert terminal.getvalue() == ""
    # Lightning's bars go to standard output.
    monkeypatch.setattr(sys, "stdout", Terminal())
    assert not bars_shown()
    assert bars_shown(in_stdout=True)


def test_no_progress_is_no_bar_at_all(monkeypatch):
    terminal = terminal_of(monkeypatch)
    with progress_bars(False), progress_bars(True):
        assert not bars_shown()
        assert list(progress([1], "reading")) == [1]
    assert terminal.getvalue() == ""
    assert bars_shown()
    # The first of several processes speaks for all.
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert not bars_shown()


def test_without_tqdm_the_items_pass(monkeypatch):
    terminal = terminal_of(monkeypatch)
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    assert list(progress([1, 2], "reading")) == [1, 2]
    assert terminal.getvalue() == ""
