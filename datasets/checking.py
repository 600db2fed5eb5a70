"""From errors to lists of problems and back: what datasets and the checks of their folders share."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pcsa.datasets.faults import Problem


@contextmanager
def noting(problems: list[Problem], path: str | os.PathLike[str]) -> Iterator[None]:
    """Add an error about a file to the list of its problems, in place of raising it.

    Example:
        >>> problems = []
        >>> with noting(problems, "a.png"):
        ...     raise ValueError("`a.png`: must hold one picture: it has 3")
        >>> print(*problems)
        a.png: must hold one picture: it has 3

    """
    try:
        yield
    except (OSError, ValueError) as error:
        name = os.fspath(path)
        problems.append(Problem(name, str(error).removeprefix(f"`{name}`").removeprefix(":").strip()))


def refuse(problems: Sequence[Problem]) -> None:
    """Raise the first of the problems, and say how many others there are.

    Raises:
        FileNotFoundError: If the first is that a file is missing.
        ValueError: If it is another one.

    """
    if problems:
        more = f" (and {len(problems) - 1} more problems of this folder)" if len(problems) > 1 else ""
        kind = FileNotFoundError if problems[0].message == "is missing" else ValueError
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
