"""From errors to lists of problems and back: what datasets and the checks of their folders share."""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pcsa.datasets.faults import Problem


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
        named = re.match(r"`([^`]*/[^`]*)`:? ", str(error))
        text = str(error)[named.end() :] if named else str(error)
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


def visible_files(folder: str | os.PathLike[str], suffixes: Sequence[str]) -> list[str]:
    """List the names of a folder's files of these suffixes, in any case, sorted; hidden ones are never taken."""
    names = (entry.name for entry in os.scandir(folder) if entry.is_file())
    return sorted(name for name in names if not name.startswith(".") and name.lower().endswith(tuple(suffixes)))
