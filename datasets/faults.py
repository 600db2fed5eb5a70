"""What can be wrong with a file: one form of message, and the one place where other libraries' exceptions end."""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from pcsa.datasets.limits import check_regular


class Problem(NamedTuple):
    """One thing that is missing or broken: where, and what."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


@contextmanager
def reading(path: str | os.PathLike[str], what: str) -> Iterator[None]:
    """Turn whatever goes wrong while a file is read into a ValueError that names the file.

    A ValueError keeps its text and gets the file's name before it, unless it begins with that already: raise
    ``ValueError("line 3: x (=nan) must be finite")`` within. What a library raises becomes "`file`: cannot be read as
    …", whatever it is: too little memory, and a panic of a library in Rust, which is no Exception, too. A file that is
    missing, or may not be read, stays the OSError that it is. A pipe, a socket or a device is refused unread.

    Args:
        path: The file.
        what: What the file should be, with its article: "a PCD file".

    Example:
        >>> with reading("a.json", "a list of boxes"):
        ...     {}["boxes"]
        Traceback (most recent call last):
        ...
        ValueError: `a.json`: cannot be read as a list of boxes (KeyError: 'boxes')

    """
    prefix = f"`{os.fspath(path)}`"
    check_regular(path)
    try:
        yield
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        if isinstance(error, OSError) and error.errno is not None and error.filename is not None:
            raise
        text = " ".join(str(error).split())
        if text.startswith(prefix):
            raise
        if type(error) is not ValueError:
            text = f"cannot be read as {what} ({type(error).__name__}{': ' * bool(text)}{text})"
        raise ValueError(f"{prefix}: {text}") from error


def said(error: Exception) -> str:
    """Say what an error says, one of the operating system in the form of all messages: "`file`: no such file".

    Example:
        >>> said(FileNotFoundError(2, "No such file or directory", "a.ply"))
        '`a.ply`: No such file or directory'

    """
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"`{os.fspath(error.filename)}`: {error.strerror}"
    return str(error)


@contextmanager
def noting(problems: list[Problem], path: str | os.PathLike[str]) -> Iterator[None]:
    """Add an error about a file to the list of its problems, in place of raising it.

    Args:
        problems: The list.
        path: The file that an error is about, unless the error names another one.

    Example:
        >>> problems = []
        >>> with noting(problems, "images"):
        ...     raise ValueError("`images/a.png`: must hold one picture: it has 3")
        >>> print(*problems)
        images/a.png: must hold one picture: it has 3

    """
    try:
        yield
    except (OSError, ValueError) as error:
        # An error that is about another file begins with that one's path.
        text = said(error)
        named = re.match(r"`([^`]*/[^`]*)`:? ", text)
        text = text[named.end() :] if named else text
        problems.append(Problem(named[1] if named else os.fspath(path), text))


def refuse(problems: Sequence[Problem]) -> None:
    """Raise the first of the problems, and say how many others there are.

    Raises:
        FileNotFoundError: If the first is that a file is missing.
        ValueError: If it is another one.

    """
    if problems:
        more = f" (and {len(problems) - 1} more problems of this folder)" if len(problems) > 1 else ""
        kind = FileNotFoundError if problems[0].message.endswith("is missing") else ValueError
        raise kind(f"`{problems[0].path}`: {problems[0].message}{more}")


def some(rows: Sequence[object], most: int = 3) -> str:
    """Name the first of many rows, and count the others.

    Example:
        >>> some(range(4, 10))
        '4, 5, 6 and 3 more'

    """
    more = f" and {len(rows) - most} more" if len(rows) > most else ""
    return ", ".join(str(row) for row in rows[:most]) + more
