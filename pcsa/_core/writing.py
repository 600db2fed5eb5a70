"""Writing files: each as a whole or not at all, and nothing is left behind by a process that was killed."""

from __future__ import annotations

import errno
import os
import re
import shutil
import socket
import time
import uuid
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from io import FileIO
from pathlib import Path
from typing import Any

fcntl: Any
try:
    import fcntl
except ImportError:  # no locks of this kind: what is left behind is told by its age
    fcntl = None

_TEMPORARY = re.compile(r"\..*-([0-9a-f]{32})(\.[^.]*)?", re.DOTALL)
# What former versions left behind.
_FORMER = re.compile(r"\.(embedded|procedural|new)-[a-z0-9_]{8}")
_OLD = 24 * 3600.0
# Where nothing can be written, as against what is wrong with one file.
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS}


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path to write to, and put what was written there in place of ``path``: as a whole, or not at all.

    The folder is made if need be. Two processes that write the same file do not see each other's parts. What a killed
    process has left of its own is removed by the next one that writes into the folder.

    Raises:
        OSError: If the disk is full, say; the message names ``path`` and says what is there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_once(path.parent.absolute())
    with _room_for(path), _temporary(path.parent, path.stem, path.suffix, _new_file) as temporary:
        yield temporary
        with temporary.open("rb+") as file:
            # Else a power cut may leave the new name with nothing in it.
            os.fsync(file.fileno())
        temporary.replace(path)


@contextmanager
def scratch_folder(parent: Path, name: str) -> Iterator[Path]:
    """Give an empty folder in ``parent`` that is gone at the end, or, where the process is killed, at the next start.

    It may be moved elsewhere before its end. The parent is made if need be.
    """
    parent.mkdir(parents=True, exist_ok=True)
    _remove_once(parent.absolute())
    with _temporary(parent, name, "", _new_folder) as folder:
        yield folder


def append(file: FileIO, content: bytes) -> None:
    """Add bytes to the end of a file that is not buffered: all of them, or none.

    Raises:
        OSError: If the disk is full, say; the message names the file.
    """
    with explained(Path(str(file.name)), "; what it has is kept"):
        size = file.seek(0, os.SEEK_END)
        try:
            left = memoryview(content)
            while left:
                left = left[file.write(left) or 0 :]
        except OSError:
            with suppress(OSError):
                file.truncate(size)
            raise


def remove_abandoned(folder: Path) -> None:
    """Remove from a folder the temporary files and folders of processes that are dead."""
    with suppress(OSError), os.scandir(folder) as entries:
        found = [Path(entry.path) for entry in entries if entry.name.startswith(".")]
        for path in found:
            with suppress(OSError):
                _remove_if_abandoned(path)


@contextmanager
def explained(path: Path, kept: str = "") -> Iterator[None]:
    """Have an OSError that names no file name ``path``, and say what is kept.

    Libraries hide such errors behind others, which this looks through.
    """
    try:
        yield
    except Exception as error:
        cause = _cause(error)
        if cause is None or (cause.filename is not None and not _is_temporary(cause.filename, path)):
            raise
        # What is written inside of what is written has been explained already.
        text = str(cause.strerror).partition(";")[0]
        raise OSError(cause.errno, f"{text}{kept}", os.fspath(path)) from error


@contextmanager
def _room_for(path: Path) -> Iterator[None]:
    kept = "; what it held before is kept" if path.exists() else "; nothing is left of it"
    with explained(path, kept):
        yield


def _cause(error: BaseException | None) -> OSError | None:
    """The error of the operating system that an error is, or comes of."""
    first = error
    while error is not None:
        if isinstance(error, OSError) and error.errno is not None and (error is first or error.errno in _NO_ROOM):
            return error
        error = error.__cause__ or error.__context__
    return None


def _is_temporary(name: object, path: Path) -> bool:
    """Whether an error names what is written in place of ``path``."""
    if not isinstance(name, str | bytes):
        return False
    parts = Path(os.fsdecode(name)).absolute().parts
    above = path.parent.absolute().parts
    here = parts[len(above) : len(above) + 1]
    return parts[: len(above)] == above and (here == (path.name,) or bool(here and _TEMPORARY.fullmatch(here[0])))


@contextmanager
def _temporary(parent: Path, name: str, suffix: str, make: Callable[[Path], int | None]) -> Iterator[Path]:
    """Make a file or folder of this process's own, hold it while it lives, and leave nothing of it."""
    while True:
        temporary = parent / f".{name[:40]}-{_machine()}{uuid.uuid4().hex[8:]}{suffix}"
        file = None
        try:
            file = make(temporary)
            if file is not None:
                with suppress(OSError):  # a file system without locks
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not temporary.exists():
                continue  # taken for abandoned before it was held
            yield temporary
            return
        finally:
            with suppress(OSError):
                _remove(temporary)
            if file is not None:
                os.close(file)


def _new_file(path: Path) -> int | None:
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    if fcntl is not None:
        return file
    os.close(file)
    return None


def _new_folder(path: Path) -> int | None:
    path.mkdir()
    return None if fcntl is None else os.open(path, os.O_RDONLY)


@cache
def _remove_once(folder: Path) -> None:
    remove_abandoned(folder)


def _remove_if_abandoned(path: Path) -> None:
    named = _TEMPORARY.fullmatch(path.name)
    if path.is_symlink() or not (named or _FORMER.fullmatch(path.name)):
        return
    held = _is_held(path)
    # Locks may be those of one machine, and former versions held none: then it must be old.
    free = held is False and named is not None and named[1].startswith(_machine())
    if free or (not held and time.time() - path.stat().st_mtime > _OLD):
        _remove(path)


def _is_held(path: Path) -> bool | None:
    """Whether a living process holds a file or folder; None if nobody knows."""
    if fcntl is None:
        return None
    file = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return None
    finally:
        os.close(file)
    return False


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _machine() -> str:
    return f"{zlib.crc32(socket.gethostname().encode()):08x}"
