"""Folders of HDF5 files: which there are, and to which split each belongs."""

import logging
import os
import re
from pathlib import Path
from typing import NamedTuple

from pcsa.datasets.faults import Problem, some
from pcsa.datasets.lines import text_lines
from pcsa.datasets.splits import SPLITS

_log = logging.getLogger(__name__)

SUFFIXES = (".h5", ".hdf5")
_WORDS: dict[str, str] = {split: split for split in SPLITS}
_WORDS |= {"training": "train", "valid": "val", "validation": "val", "testing": "test"}


def is_hdf5(root: str | os.PathLike[str]) -> bool:
    """Whether ``root`` is an HDF5 file, by its name, or a folder that has some, in itself or in a split's folder."""
    return bool(_hdf5_in(Path(root)))


def hdf5_files(root: str | os.PathLike[str], split: str) -> list[Path]:
    """List the files of a split, see :class:`pcsa.datasets.shapenet.ShapeNetPoints`.

    Raises:
        FileNotFoundError: If the split has no file, or the split of a file is not known.
        ValueError: If the name of a file, its folder and the lists do not agree, or a list cannot be read.

    """
    root = Path(root)
    found = hdf5_splits(root)
    if not found.split_of:
        raise FileNotFoundError(f"`{root}` must be a file or folder of {', '.join(SUFFIXES)} files: none found")
    if split == "all":
        return list(found.split_of)
    for problem in found.contradictions:
        raise ValueError(f"`{root}`: {problem}")
    unknown = [path.name for path, name in found.split_of.items() if name is None]
    if unknown:
        raise FileNotFoundError(
            f"`{root}`: split {split!r} is not known, for these files say no split: {', '.join(unknown)}. Name them "
            f"train…, val… or test…, list them in train_files.txt and so on, or ask for split 'all'"
        )
    files = [path for path, name in found.split_of.items() if name == split]
    if not files:
        names = [path.name for path in found.split_of]
        raise FileNotFoundError(f"`{root}` has no file of split {split!r}, only {some(names)}")
    for problem in found.absent:
        _log.warning("`%s`: %s", root, problem)
    return files


class Hdf5Splits(NamedTuple):
    """The files below a root, and to which splits they belong."""

    split_of: dict[Path, str | None]
    """None where nothing says which."""
    contradictions: list[Problem]
    """Files that belong to several splits, and lists that cannot be read."""
    absent: list[Problem]
    """What the lists name and the root lacks."""


def hdf5_splits(root: Path) -> Hdf5Splits:
    """Return the files of a root with their splits: those of the lists, the folders and the names together."""
    found = Hdf5Splits({}, [], [])
    files = _hdf5_in(root)
    listed: dict[str, set[str]] = {}
    for path in sorted((root if root.is_dir() else root.parent).glob("*.txt")) if files else ():
        try:
            split, names = _read_list(path)
        except ValueError as error:
            found.contradictions.append(Problem(path.name, str(error).removeprefix(f"`{path}`: ")))
            continue
        listed.setdefault(split, set()).update(names)
        absent = sorted(names - {file.name for file in files})
        if absent and root.is_dir():
            found.absent.append(Problem(path.name, f"{len(absent)} listed files are not there: {some(absent)}"))
    for path in files:
        said = {split for split, names in listed.items() if path.name in names} | splits_in(path.stem)
        if root not in (path, path.parent):
            said |= splits_in(path.parent.name)
        if len(said) > 1:
            where = path.name if path == root else str(path.relative_to(root))
            message = f"its name, its folder and the lists say several splits: {', '.join(sorted(said))}"
            found.contradictions.append(Problem(where, message))
        found.split_of[path] = said.pop() if len(said) == 1 else None
    return found


def splits_in(name: str) -> set[str]:
    """Return the splits whose names are whole words of a name.

    Example:
        >>> sorted(splits_in("ply_data_train0")), sorted(splits_in("latest_7")), sorted(splits_in("train_test"))
        (['train'], [], ['test', 'train'])

    """
    return {_WORDS[word] for word in re.findall("[a-z]+", name.lower()) if word in _WORDS}


def _hdf5_in(root: Path) -> list[Path]:
    if root.is_file():
        return [root] if root.suffix.lower() in SUFFIXES else []
    if not root.is_dir():
        return []
    folders = [root, *(path for path in sorted(root.iterdir()) if path.is_dir() and path.name.lower() in _WORDS)]
    files = [path for folder in folders for path in folder.iterdir() if path.suffix.lower() in SUFFIXES]
    return sorted(path for path in files if not path.name.startswith(".") and path.is_file())


def _read_list(path: Path) -> tuple[str, set[str]]:
    """Return the split of a list such as ``train_files.txt`` and the files that it names; none for other texts."""
    splits = splits_in(path.stem)
    if len(splits) != 1 or path.name.startswith("."):
        return "", set()
    names = {line.replace("\\", "/").rsplit("/", 1)[-1] for _, line in text_lines(path)}
    # Lists of other things, of shapes for instance, are none of ours.
    return (splits.pop(), names) if all(name.lower().endswith(SUFFIXES) for name in names) else ("", set())
