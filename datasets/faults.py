"""What can be wrong with a file: one form of message, and the one place where other libraries' exceptions end."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple


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
    …". A file that is missing, or may not be read, stays the OSError that it is.

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
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None and error.filename is not None:
            raise
        text = " ".join(str(error).split())
        if text.startswith(prefix):
            raise
        if type(error) is not ValueError:
            text = f"cannot be read as {what} ({type(error).__name__}{': ' * bool(text)}{text})"
        raise ValueError(f"{prefix}: {text}") from error
