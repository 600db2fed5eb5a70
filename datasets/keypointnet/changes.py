"""Replacing a category of a root: its clouds, splits and annotations change as one, whatever cuts it off.

All that is new is written into a folder of its own first. Then that folder gets the name ``.pending-<category>``: from
here on the change is made, and what is left is to move files, which the next call that writes or reads the root ends.
"""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pcsa._core.writing import explained, replacing, scratch_folder
from pcsa.datasets.faults import reading
from pcsa.datasets.lines import text_lines
from pcsa.datasets.splits import SPLITS

_PENDING = ".pending-"
_PLAN = "change.json"
_CLOUDS = "clouds"
_FOLDERS = ("annotations", "splits")


def replace_category(
    root: Path,
    category: str,
    class_id: str,
    write_clouds: Callable[[Path], None],
    records: Sequence[Mapping[str, Any]],
    splits: Mapping[str, Sequence[str]],
    stale: Sequence[str],
) -> None:
    """Put a category in place of what the root has of it, as a whole or not at all.

    Args:
        root: The root, made if need be; hold it by :func:`writing_alone`.
        category: Its name.
        class_id: Its class id.
        write_clouds: Writes a file ``<model_id>.pcd`` for each cloud into a folder.
        records: Its annotations.
        splits: Model ids of each split.
        stale: Model ids whose clouds go.

    Raises:
        OSError: If the disk is full, say; the root is as it was, or the next call ends the change.
    """
    ids = [record["model_id"] for record in records]
    # What an id of an earlier file names may lie anywhere.
    gone = sorted({name for name in stale if is_plain(name)} - set(ids))
    plan = {
        "category": category,
        "class_id": class_id,
        "records": list(records),
        "splits": {name: list(models) for name, models in splits.items()},
        "stale": gone,
    }
    with explained(root, f"; its {category} is as it was"), scratch_folder(root, "new") as scratch:
        change = scratch / "change"
        (change / _CLOUDS).mkdir(parents=True)
        write_clouds(change / _CLOUDS)
        for file in (change / _CLOUDS).iterdir():
            with file.open("rb+") as written:
                os.fsync(written.fileno())
        with replacing(change / _PLAN) as temporary:
            temporary.write_text(json.dumps(plan), encoding="utf-8")
        change.rename(root / f"{_PENDING}{category}")
    finish_changes(root)


def finish_changes(root: Path) -> None:
    """End the changes of a root that were cut off.

    Raises:
        OSError: If the root cannot be written; it says that the next call ends them.
        ValueError: If a change is damaged.
    """
    for pending in pending_changes(root):
        with explained(root, f"; its change of {pending.name.removeprefix(_PENDING)} is ended by the next call"):
            _finish(root, pending)


def settle(root: Path) -> None:
    """End the changes of a root that were cut off, if there are any, before it is read.

    Raises:
        ValueError: If that would change something outside of the root, to which a link in it leads.
    """
    for pending in pending_changes(root):
        for path in (pending, pending / _CLOUDS, root / "pcds", *root.glob("pcds/*"), *map(root.joinpath, _FOLDERS)):
            if path.exists() and not path.resolve().is_relative_to(root.resolve()):
                raise ValueError(f"`{path}`: leads out of the root, whose change `{pending.name}` only its writer ends")
    if pending_changes(root):
        with writing_alone(root):
            finish_changes(root)


def pending_changes(root: Path) -> list[Path]:
    """List the folders of changes that are not at their end."""
    return sorted(root.glob(f"{_PENDING}*/"))


def _finish(root: Path, pending: Path) -> None:
    plan = pending / _PLAN
    if plan.exists():
        with reading(plan, "a change of a category"):
            change = json.loads(plan.read_text(encoding="utf-8"))
            category, class_id = change["category"], change["class_id"]
            records, splits = list(change["records"]), {str(name): list(v) for name, v in change["splits"].items()}
            stale = [name for name in change["stale"] if is_plain(name)]
            named = f"{_PENDING}{category}" == pending.name and re.fullmatch(r"\w+", class_id)
            if not named or not splits.keys() <= set(SPLITS):
                raise ValueError("must be a change of the category in its folder's name")
        annotations = root / "annotations" / f"{category}.json"
        folder = root / "pcds" / class_id
        # A category without annotations is absent: none is there that its clouds do not fit.
        annotations.unlink(missing_ok=True)
        folder.mkdir(parents=True, exist_ok=True)
        for cloud in (pending / _CLOUDS).iterdir():
            cloud.replace(folder / cloud.name)
        for split, models in splits.items():
            replace_in_split(root / "splits" / f"{split}.txt", class_id, models)
        for name in stale:
            (folder / f"{name}.pcd").unlink(missing_ok=True)
        with replacing(annotations) as temporary:
            temporary.write_text(json.dumps(records))
        plan.unlink()
    shutil.rmtree(pending)


def replace_in_split(path: Path, class_id: str, models: Sequence[str]) -> None:
    """Name the models of a class in a split file; the lines of other classes stay."""
    lines = [line for _, line in text_lines(path)] if path.exists() else []
    lines = [line for line in lines if not line.startswith(f"{class_id}-")]
    lines += [f"{class_id}-{model_id}" for model_id in models]
    with replacing(path) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")


@contextmanager
def writing_alone(root: Path) -> Iterator[None]:
    """Hold a root against other processes that write categories; they wait for each other."""
    from filelock import FileLock, SoftFileLock

    root.mkdir(parents=True, exist_ok=True)
    file = root / ".lock"
    lock = FileLock(file)
    with lock:
        try:
            yield
        finally:
            if not isinstance(lock, SoftFileLock):
                # While it is held: whoever opens the file from now on opens another.
                with suppress(OSError):
                    file.unlink()


def is_plain(name: str) -> bool:
    """Whether a model or class id is the name of a file, and not a way to another folder."""
    return isinstance(name, str) and "\0" not in name and Path(f"{name}.pcd").parts == (f"{name}.pcd",)
