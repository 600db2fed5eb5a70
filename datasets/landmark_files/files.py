"""Files of landmarks, by their suffix."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from pcsa.datasets.landmark_files.fcsv import read_fcsv, write_fcsv
from pcsa.datasets.landmark_files.landmarks import Landmarks
from pcsa.datasets.landmark_files.meshlab import read_meshlab, write_meshlab
from pcsa.datasets.landmark_files.mrk import read_mrk, write_mrk
from pcsa.datasets.landmark_files.picked import write_picked
from pcsa.datasets.landmark_files.table import read_table, write_table

_READERS: dict[str, Callable[[str | os.PathLike[str]], list[Landmarks]]] = {
    ".mrk.json": read_mrk,
    ".fcsv": read_fcsv,
    ".pp": read_meshlab,
    ".csv": read_table,
    ".tsv": read_table,
    ".txt": read_table,
}
_WRITERS: dict[str, Callable[[str | os.PathLike[str], Landmarks | Sequence[Landmarks]], None]] = {
    ".mrk.json": write_mrk,
    ".fcsv": write_fcsv,
    ".pp": write_meshlab,
    ".csv": write_table,
    ".tsv": write_table,
    ".txt": write_picked,
}
#: Suffixes of the files that :func:`read_landmarks` reads and :func:`write_landmarks` writes.
LANDMARK_FILES = tuple(_READERS)
#: Those of them that tell the landmarks of several scans apart.
SEVERAL = (".csv", ".tsv")


def landmark_suffix(path: str | os.PathLike[str]) -> str | None:
    """Return the suffix of a file of landmarks in lower case; None if it has none of theirs.

    Example:
        >>> landmark_suffix("scans/A.mrk.JSON"), landmark_suffix("a.json")
        ('.mrk.json', None)

    """
    name = Path(path).name.lower()
    return next((suffix for suffix in LANDMARK_FILES if name.endswith(suffix)), None)


def read_landmarks(path: str | os.PathLike[str]) -> list[Landmarks]:
    """Read the landmarks of a file: Slicer's, MeshLab's, CloudCompare's, or a table.

    Args:
        path: A file of one of the suffixes :data:`LANDMARK_FILES`.

    Returns:
        A :class:`Landmarks` for each list in the file, at least one.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the suffix is unknown or the file cannot be read; the message names the file, the line or point,
            the value and the rule.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_landmarks(f"{folder}/a.mrk.json", Landmarks(["nose"], [[1.0, 2.0, 3.0]], frame="RAS"))
        ...     (found,) = read_landmarks(f"{folder}/a.mrk.json")
        >>> found.names, found.points.tolist(), found.frame
        (('nose',), [[1.0, 2.0, 3.0]], 'RAS')

    """
    return _READERS[_suffix(path)](path)


def write_landmarks(path: str | os.PathLike[str], lists: Landmarks | Sequence[Landmarks]) -> None:
    """Write landmarks into a file of the format that its suffix names.

    Args:
        path: A file of one of the suffixes :data:`LANDMARK_FILES`, which is replaced as a whole. `.txt` is
            CloudCompare's list of picked points; the others are as they are read.
        lists: One list, or, for `.mrk.json`, `.csv` and `.tsv`, several.

    Raises:
        ValueError: If the suffix is unknown, the format has no place for what is given, or a text cannot be written,
            such as a scan's name in an older encoding than UTF-8.

    """
    write = _WRITERS[_suffix(path)]
    try:
        write(path, lists)
    except UnicodeEncodeError as error:
        line = error.object[: error.start].rpartition("\n")[2] + error.object[error.start :].partition("\n")[0]
        raise ValueError(
            f"`{os.fspath(path)}`: {line[:120]!r} has bytes that are no UTF-8, as names of older systems have: rename "
            "the scan or landmark, or write .json"
        ) from None


def _suffix(path: str | os.PathLike[str]) -> str:
    suffix = landmark_suffix(path)
    if suffix is None:
        raise ValueError(f"`{os.fspath(path)}`: the suffix must be one of {', '.join(LANDMARK_FILES)}")
    return suffix
