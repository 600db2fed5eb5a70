"""Files that people name: those that exist, those in a folder, and names for what is made of them."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path


def existing(path: str | os.PathLike[str]) -> Path:
    """Return a path that exists.

    Raises:
        FileNotFoundError: If it does not; the message names the path.

    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"`{path}` is missing")
    return path


def files_of(inputs: Sequence[Path], suffixes: Sequence[str]) -> list[Path]:
    """List the files of known suffixes that are named, and those in the folders that are named.

    Args:
        inputs: Files and folders, at least one.
        suffixes: The known suffixes in lower case, with their dots.

    Returns:
        The files in the order of ``inputs``, those of a folder sorted by name.

    Raises:
        FileNotFoundError: If a path does not exist, or a folder has no file of these suffixes.
        ValueError: If a file has another suffix, or ``inputs`` is empty.

    """
    files: list[Path] = []
    for path in inputs:
        if path.is_dir():
            inside = sorted(f for f in path.iterdir() if f.suffix.lower() in suffixes)
            if not inside:
                raise FileNotFoundError(f"`{path}` is a folder without any file of {', '.join(suffixes)}")
            files += inside
        elif not path.exists():
            raise FileNotFoundError(f"`{path}` does not exist")
        elif path.suffix.lower() not in suffixes:
            raise ValueError(f"`{path}` must be a file of {', '.join(suffixes)}")
        else:
            files.append(path)
    if not files:
        raise ValueError("`inputs` must name at least one file or folder")
    return files


def picture_names(files: Sequence[Path]) -> list[str]:
    """Name a picture for each file; files of one name, in two folders, get pictures of different names.

    Example:
        >>> picture_names([Path("a/chair.obj"), Path("b/chair.obj")])
        ['chair.obj.png', 'chair.obj-2.png']

    """
    seen: Counter[str] = Counter()
    names = []
    for file in files:
        seen[file.name] += 1
        names.append(f"{file.name}.png" if seen[file.name] == 1 else f"{file.name}-{seen[file.name]}.png")
    return names
