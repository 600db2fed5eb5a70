"""The cache: what is made once from the user's data, or for lack of any, and kept in a folder of its own.

Nothing here writes into a folder of data. What is kept is named by the contents that it is made of: data that changes
gets a new entry, the same data at two places share one. Runs at the same time share the folder: an entry appears whole,
and of several that want it one makes it while the others wait.
"""

import contextlib
import hashlib
import json
import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pcsa._core.progress import progress
from pcsa.datasets.files import replacing

_log = logging.getLogger(__name__)

Table = dict[str, NDArray[Any]]
"""Arrays by name: what one file holds."""

ARRAYS, SHAPES = "arrays", "procedural"
_LEGACY = re.compile(r"[0-9a-f]{16}")  # folders of versions that named them by the root's path
# Clocks of file systems tick in steps of up to two seconds: a younger file may change and look the same.
_SETTLED = 3.0


def cache_folder() -> Path:
    """Return the folder of the cache; it need not exist.

    ``$PCSA_CACHE_DIR``, or ``$XDG_CACHE_HOME/pcsa``, or the platform's folder for caches (``~/.cache/pcsa`` on Linux).
    """
    if os.environ.get("PCSA_CACHE_DIR"):
        return Path(os.environ["PCSA_CACHE_DIR"]).expanduser()
    if os.environ.get("XDG_CACHE_HOME"):
        return Path(os.environ["XDG_CACHE_HOME"], "pcsa")
    import platformdirs

    return Path(platformdirs.user_cache_dir("pcsa", appauthor=False))


class CacheEntry(NamedTuple):
    """A file or folder of the cache."""

    path: Path
    size: int
    """Bytes."""


def cache_entries() -> list[CacheEntry]:
    """List what the cache holds, the largest first. Other people's files in the same folder do not count."""
    shown = [path for path in _own_files() if not path.name.startswith(".") and path.suffix != ".key"]
    entries = [CacheEntry(path, _size(path)) for path in shown]
    return sorted(entries, key=lambda entry: (-entry.size, entry.path))


def clear_cache() -> int:
    """Delete what the cache holds and nothing else; return the bytes that it took.

    A run that reads an entry meanwhile may fail; one that starts later makes what it needs again.
    """
    freed = 0
    for path in _own_files():
        freed += _size(path)
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    for folder in (cache_folder() / ARRAYS, cache_folder() / SHAPES):
        with contextlib.suppress(OSError):  # not empty: something else lies in it
            folder.rmdir()
    return freed


def _own_files() -> list[Path]:
    folder = cache_folder()
    old = [path for path in folder.glob("*") if _LEGACY.fullmatch(path.name) and path.is_dir()]
    return sorted([*(folder / ARRAYS).glob("*"), *(folder / SHAPES).glob("*"), *old])


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else (path,)
    return sum(file.lstat().st_size for file in files if file.is_file())


def kept(folder: Path | None, name: str, make: Callable[[], Table]) -> Table:
    """Return the arrays of a file; make and write them where there is none, or a damaged one.

    Args:
        folder: Folder of the file. Default: one in the cache. Where it cannot be written, nothing is kept and a warning
            says so.
        name: Name of the file, without its suffix. It must change with whatever the arrays are made of.
        make: Makes the arrays.

    """
    path = array_folder(folder) / f"{name}.npz"
    table = _read(path)
    if table is None:
        with locked(path):
            table = _read(path)  # another process may have made it meanwhile
            if table is None:
                table = make()
                try:
                    with replacing(path) as temporary:
                        np.savez(temporary, **table)  # type: ignore[arg-type]
                except OSError as error:
                    _log.warning("`%s` cannot be written, and nothing is kept: %s", path.parent, error)
    return table


def array_folder(folder: Path | None) -> Path:
    """Return the folder of kept arrays: ``folder``, or the cache's own."""
    return cache_folder() / ARRAYS if folder is None else folder


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold what will be ``path`` alone among all processes, as far as the file system can do that."""
    import filelock

    with contextlib.ExitStack() as held:
        # Read-only, or a file system without locks: the work may be done twice.
        with contextlib.suppress(OSError, NotImplementedError):
            path.parent.mkdir(parents=True, exist_ok=True)
            held.enter_context(filelock.FileLock(path.with_name(f".{path.name}.lock")))
        yield


def contents_key(version: int, files: Mapping[str, str | os.PathLike[str]], folder: Path | None) -> str:
    """Hash the names and contents of files.

    The hash of files that are still what they were is remembered: 500 clouds are looked at, not read.

    Args:
        version: Changes with the code that makes something of the files.
        files: The files by their names.
        folder: As for :func:`kept`.

    """
    stamp = _stamp(files)
    memory = array_folder(folder) / f"{_digest([version, stamp])}.key"
    with contextlib.suppress(OSError):
        remembered = memory.read_text(encoding="ascii", errors="replace")
        if re.fullmatch("[0-9a-f]{32}", remembered):
            return remembered
    begin = time.time()
    digests = {}
    for name, path in progress(files.items(), "looking for changes"):
        with open(path, "rb", buffering=0) as file:
            digests[name] = hashlib.sha256(file.read()).hexdigest()
    key = _digest([version, sorted(digests.items())])
    youngest = max((max(times) for *_, times in stamp), default=0) / 1e9
    if youngest < begin - _SETTLED and stamp == _stamp(files):
        with contextlib.suppress(OSError), replacing(memory) as temporary:
            temporary.write_text(key, encoding="ascii")
    return key


def _stamp(files: Mapping[str, str | os.PathLike[str]]) -> list[Any]:
    """Return what changes whenever a file does: its time of change (ctime) cannot be set back as mtime can."""
    stats = [(name, os.stat(path)) for name, path in sorted(files.items())]
    return [(name, s.st_dev, s.st_ino, s.st_size, (s.st_mtime_ns, s.st_ctime_ns)) for name, s in stats]


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:32]


def _read(path: Path) -> Table | None:
    if not path.is_file():
        return None
    try:
        # Opened here, because NumPy leaves a damaged file open.
        with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}
    except Exception as error:  # whatever is wrong with it, it can be built again
        _log.warning("`%s` is damaged and is built again: %s", path, error)
        return None
