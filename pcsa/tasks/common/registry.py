"""The tasks by their names. Needs nothing but the standard library, so that listing them is quick."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pcsa.tasks.common.task import Task

_REGISTERED: dict[str, Task[Any, Any]] = {}
# In the order in which a newcomer meets them; a file that is not listed comes after these.
_FIRST = ("supervised", "unsupervised", "pose2d", "pose3d", "oct", "landmarks")


def task_names() -> tuple[str, ...]:
    """Names of all tasks: the files of this folder, and what was registered."""
    files = {file.stem for file in Path(__file__).parent.parent.glob("[!_]*.py")}
    rest = sorted((files | set(_REGISTERED)) - set(_FIRST))
    return (*(name for name in _FIRST if name in files), *rest)


def get_task(name: str) -> Task[Any, Any]:
    """The task of this name.

    Raises:
        ValueError: If there is none.
    """
    if name not in task_names():
        raise ValueError(f"`task` (={name!r}) must be one of {', '.join(task_names())}")
    if name not in _REGISTERED:
        _REGISTERED[name] = importlib.import_module(f"pcsa.tasks.{name}").TASK
    return _REGISTERED[name]


def register(task: Task[Any, Any]) -> None:
    """Add a task that is defined outside of this package.

    Raises:
        ValueError: If its name is taken.
    """
    if task.name in task_names():
        raise ValueError(f"`task` (={task.name!r}) must have a name of its own: that one is taken")
    _REGISTERED[task.name] = task
