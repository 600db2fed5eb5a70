"""Files that people name: those that exist, those in a folder, names for what is made of them, and writing it whole."""

import os
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pcsa._core.writing import replacing as replacing
from pcsa.datasets.limits import check_regular


def existing(path: str | os.PathLike[str]) -> Path:
    """Return a path that exists.

    Raises:
        FileNotFoundError: If it does not; the message names the path.
        ValueError: If it is a pipe, a socket or a device.

    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"`{path}` is missing")
    check_regular(path)
    return path


@dataclass
class Found:
    """What :func:`find_files` found."""

    files: list[Path] = field(default_factory=list)
    """Full paths, each once."""
    base: Path = field(default_factory=Path.cwd)
    """The folder that all of them lie under: the one that is named, or the nearest that holds all that is named."""
    skipped: Counter[str] = field(default_factory=Counter)
    """Number of files in folders that have another ending, by that ending."""
    closed: int = 0
    """Number of sub-folders that were not looked into."""

    def __str__(self) -> str:
        """Say what was left out, or nothing if nothing was."""
        said = []
        if self.skipped:
            count = sum(self.skipped.values())
            endings = ", ".join(f"{n} {ending}" for ending, n in self.skipped.most_common())
            said.append(f"skipped {count} file{'s' * (count > 1)}: {endings}")
        if self.closed:
            said.append(f"not looked into {self.closed} sub-folder{'s' * (self.closed > 1)}: see --recursive")
        return "; ".join(said)


def find_files(
    inputs: Sequence[Path], suffixes: Sequence[str], *, recursive: bool = False, apart: Collection[Path] = ()
) -> Found:
    """Find the files of known suffixes that are named, and those in the folders that are named.

    What is hidden (its name begins with a dot, as in ``._scan.ply``) is never taken from a folder, nor is what lies in
    a folder that is, or in a ``__MACOSX``. Links are followed, and no folder is entered twice.

    Args:
        inputs: Files and folders, at least one; a file that is named twice is taken once.
        suffixes: The known suffixes in lower case, with their dots.
        recursive: Also look into the folders in a folder.
        apart: Files and folders that are not inputs although they lie among them, such as those that are written.

    Returns:
        The files in the order of ``inputs``, those of a folder sorted by path.

    Raises:
        FileNotFoundError: If a path does not exist, or a folder has no file of these suffixes.
        ValueError: If a file has another suffix, or ``inputs`` is empty.

    """
    if not inputs:
        raise ValueError("`inputs` must name at least one file or folder")
    endings, skip = tuple(suffixes), {os.path.realpath(path) for path in apart}
    found = Found()
    files: dict[tuple[str, str], Path] = {}
    for path in inputs:
        if path.is_dir():
            closed = found.closed
            inside = _inside(path.absolute(), endings, recursive, skip, found)
            if not inside:
                deeper = " outside of its sub-folders: see --recursive" * (found.closed > closed)
                raise FileNotFoundError(f"`{path}` is a folder without any file of {', '.join(suffixes)}{deeper}")
        elif not path.exists():
            raise FileNotFoundError(f"`{path}` does not exist")
        elif not path.name.lower().endswith(endings):
            raise ValueError(f"`{path}` must be a file of {', '.join(suffixes)}")
        else:
            inside = [path.absolute()]
        for file in inside:
            # A link to a file is a file of its own, one way or another to its folder is not.
            files.setdefault((os.path.realpath(file.parent), file.name), file)
    found.files = list(files.values())
    folders = [path.absolute() if path.is_dir() else path.absolute().parent for path in inputs]
    found.base = Path(os.path.commonpath(folders))
    return found


def _inside(folder: Path, endings: tuple[str, ...], recursive: bool, skip: set[str], found: Found) -> list[Path]:
    """List the files in a folder, and count in ``found`` what is left out."""
    files: list[Path] = []
    folders, seen = [folder], set(skip)
    links: list[Path] = []
    while folders or links:
        # Links last: what they lead to keeps the path that it has without them.
        here = folders.pop() if folders else links.pop(0)
        real = os.path.realpath(here)
        if real in seen:
            continue
        seen.add(real)
        for entry in sorted(os.scandir(here), key=lambda entry: entry.name):
            path = here / entry.name
            if entry.name.startswith(".") or entry.name == "__MACOSX" or os.path.realpath(path) in skip:
                continue
            if entry.is_dir():
                if not recursive:
                    found.closed += 1
                else:
                    (links if entry.is_symlink() else folders).append(path)
            # A link that leads nowhere is an input that cannot be read.
            elif entry.name.lower().endswith(endings) and (entry.is_file() or entry.is_symlink()):
                files.append(path)
            else:
                found.skipped[path.suffix.lower() or "without an ending"] += 1
    return sorted(files)


def picture_name(file: Path, base: Path, taken: Collection[str] = (), suffix: str = ".png") -> str:
    """Name the picture of a file by where the file lies: the same in every call, another for every file.

    Args:
        file: The file, a full path.
        base: A folder that it lies under; the name begins below it.
        taken: Names of pictures of other files; then the name begins as many folders above as it takes.
        suffix: Ending of the picture.

    Example:
        >>> picture_name(Path("/scans/a/chair.obj"), Path("/scans"))
        'a/chair.obj.png'

    """
    first = len(file.relative_to(base).parts)
    for count in range(first, len(file.parts)):
        name = f"{'/'.join(file.parts[-count:])}{suffix}"
        if name not in taken:
            return name
    raise ValueError(f"`{file}` must have a picture of its own")


def visible_files(folder: str | os.PathLike[str], suffixes: Sequence[str]) -> list[str]:
    """List the names of a folder's files of these suffixes, in any case, sorted; hidden ones are never taken."""
    names = (entry.name for entry in os.scandir(folder) if entry.is_file())
    return sorted(name for name in names if not name.startswith(".") and name.lower().endswith(tuple(suffixes)))
