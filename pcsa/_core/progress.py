"""Bars that show how far something is that takes more than two seconds, and how long it will go on."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

_T = TypeVar("_T")

_SECONDS = 2.0
_wanted: ContextVar[bool] = ContextVar("progress bars", default=True)


def bars_shown(*, in_stdout: bool = False) -> bool:
    """Whether bars are shown: where somebody watches, a terminal or a notebook, and nobody switched them off.

    Args:
        in_stdout: Whether they go to standard output, as those of Lightning; else to standard error.
    """
    stream = sys.stdout if in_stdout else sys.stderr
    watched = getattr(stream, "isatty", lambda: False)() or "ipykernel" in sys.modules
    # Of several processes of one training, the first shows them.
    return bool(_wanted.get() and watched and os.environ.get("LOCAL_RANK", "0") == "0")


@contextmanager
def progress_bars(shown: bool) -> Iterator[None]:
    """Switch all bars off within, or leave them on: what ``--progress`` and ``--no-progress`` mean."""
    token = _wanted.set(_wanted.get() and shown)
    try:
        yield
    finally:
        _wanted.reset(token)


def progress(items: Iterable[_T], what: str, total: int | None = None) -> Iterator[_T]:
    """Iterate over items beneath a bar with the time that has gone and is left.

    Args:
        items: What is iterated over.
        what: What is done, before the bar, such as "reading bed".
        total: Number of the items, where they have no length of their own.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    with progress_bar(what, total) as bar:
        for item in items:
            yield item
            bar.update()


def progress_bar(what: str, total: int | None = None, done: int = 0) -> Any:
    """A context with a method ``update(n=1)``, for what is no plain iteration.

    Args:
        what: What is done, before the bar.
        total: Number of the steps, if it is known.
        done: Steps that were done before.
    """
    if not bars_shown():
        return _NoBar()
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return _NoBar()
    return tqdm(desc=what, total=total, initial=done, leave=False, delay=_SECONDS, dynamic_ncols=True)


class _NoBar:
    """Takes the place of a bar where none is shown."""

    def __enter__(self) -> _NoBar:
        return self

    def __exit__(self, *error: object) -> None: ...

    def update(self, n: int = 1) -> None: ...
