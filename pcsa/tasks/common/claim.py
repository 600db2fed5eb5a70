"""A claim on what is written: two processes never write one folder or one file at the same time."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def claimed(path: Path, *, wait: float = 0.0) -> Iterator[None]:
    """Hold a folder, or a file that will be written, against every other process that claims it.

    The claim is a lock of the operating system on ``<folder>/.lock`` or ``.<file>.lock``: it ends with its process,
    however that ends, and holds across machines where the file system has such locks (NFS does).

    Args:
        path: The folder, which exists, or the file. The folder of a file is made if need be.
        wait: Seconds to wait for another process that holds it.

    Raises:
        FileExistsError: If another process holds it; the message names the process and its machine.
        OSError: If nothing can be written there.
    """
    # Imported here: the command line should come at once.
    from filelock import FileLock, SoftFileLock, Timeout

    file = path / ".lock" if path.is_dir() else path.with_name(f".{path.name}.lock")
    lock = FileLock(file)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=wait)
    except Timeout:
        # filelock takes a file that it may not open for one that another process holds.
        if not os.access(file if file.exists() else file.parent, os.W_OK):
            raise PermissionError(f"`{path}` cannot be written (no permission): choose another `out`") from None
        raise FileExistsError(
            f"`{path}` is being written by {_holder(file) or 'another process'}: wait until that has ended, or choose "
            "another `out`"
        ) from None
    except OSError as error:
        raise type(error)(f"`{path}` cannot be written ({error.strerror or error}): choose another `out`") from None
    # Where there are no such locks, filelock takes the existence of the file for one, and its content is its own.
    ours = not isinstance(lock, SoftFileLock)
    try:
        if ours:
            # For messages: on a full disk it holds all the same.
            with suppress(OSError):
                file.write_text(f"process {os.getpid()} on {socket.gethostname()}", encoding="utf-8")
        yield
    finally:
        if ours:
            # While it is held: whoever opens the file from now on opens another.
            with suppress(OSError):
                file.unlink()
        lock.release()


def _holder(file: Path) -> str:
    try:
        return " ".join(file.read_text(encoding="utf-8", errors="replace").split())
    except OSError:
        return ""
