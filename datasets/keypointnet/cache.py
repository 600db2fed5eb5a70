"""Arrays that are made once and kept in a file."""

import hashlib
import logging
import os
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_log = logging.getLogger(__name__)

Table = dict[str, NDArray[Any]]
"""Arrays by name: what one file holds."""


def kept(
    name: str,
    root: Path,
    cache_dir: Path | None,
    current: Callable[[Mapping[str, NDArray[Any]]], bool],
    make: Callable[[], Table],
) -> Table:
    """Return the arrays of a file; make and write them where there is none, or none that is current.

    Args:
        name: Name of the file, without its suffix.
        root: The dataset's folder.
        cache_dir: Folder of the file. Default: ``<root>/processed``, or where that cannot be written a folder of the
            root's own in the user's cache.
        current: Whether what a file holds is up to date.
        make: Makes the arrays.

    """
    if cache_dir is not None:
        folders = [cache_dir]
    else:
        user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "pcsa")
        folders = [root / "processed", user / hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:16]]
    for folder in folders:
        table = _read(folder / f"{name}.npz", current)
        if table is not None:
            return table
    table = make()
    for folder in folders:
        # The superuser could write to a root that is marked read-only, and should not.
        if cache_dir is None and folder.parent == root and not root.stat().st_mode & 0o222:
            continue
        try:
            _write(folder / f"{name}.npz", table)
            break
        except OSError as error:
            level = logging.WARNING if folder == folders[-1] else logging.INFO
            _log.log(level, "`%s` cannot be written: %s", folder, error)
    return table


def _read(path: Path, current: Callable[[Mapping[str, NDArray[Any]]], bool]) -> Table | None:
    if not path.is_file():
        return None
    try:
        # Opened here, because NumPy leaves a damaged file open.
        with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
            return {key: file[key] for key in file.files} if current(file) else None
    except Exception as error:  # whatever is wrong with it, it can be built again
        _log.warning("`%s` is damaged and is built again: %s", path, error)
        return None


def _write(path: Path, table: Table) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # A name of its own and a rename: readers and other writers see the old file or a whole new one.
    temporary = path.with_name(f".{path.stem}-{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "xb") as file:
            np.savez(file, **table)  # type: ignore[arg-type]
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
