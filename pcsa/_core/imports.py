"""Functions and classes by name, ``package.module:name``, which other people's code goes by."""

import importlib
import importlib.util
import os
import re
import sys
from functools import cache
from typing import Any

_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)
# Longer than any name that somebody typed.
_LONGEST = 200


def check_import_path(name: str, path: object) -> None:
    """Raise unless ``path`` is a text like ``package.module:name``. Nothing is imported."""
    if not isinstance(path, str) or len(path) > _LONGEST or _PATH.fullmatch(path) is None:
        said = repr(path)
        said = said if len(said) <= _LONGEST else f"{said[:_LONGEST]}…"
        raise ValueError(f"`{name}` (={said}) must be a name like package.module:Class, of at most {_LONGEST} letters")


def module_of(path: str) -> str:
    """The module that a path names."""
    return path.partition(":")[0]


@cache
def import_by_name(name: str, path: str) -> Any:
    """Import a module and return what a path names in it.

    A module that is not installed is looked for in the current folder, too, which then is the last entry of
    ``sys.path``: it hides nothing that is installed.

    Args:
        name: Name of the argument, for errors.
        path: The path, such as ``package.module:name``.

    Raises:
        ValueError: If it is no such path, there is no such module or it has no such name, or the module fails.
    """
    check_import_path(name, path)
    module, _, attribute = path.partition(":")
    first = module.partition(".")[0]
    if first not in sys.modules and importlib.util.find_spec(first) is None and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        found = importlib.import_module(module)
    # Whatever the code of the module does.
    except Exception as error:
        said = " ".join(str(error).split())
        where = ""
        if isinstance(error, ModuleNotFoundError) and error.name == first:
            where = f"; it is looked for on `sys.path`, and in {os.getcwd()}"
        raise ValueError(
            f"`{name}` (={path!r}) must name a module that can be imported: {type(error).__name__}, {said}{where}"
        ) from error
    if not hasattr(found, attribute):
        raise ValueError(f"`{name}` (={path!r}) must name something in its module: `{module}` has no `{attribute}`")
    return getattr(found, attribute)
