"""One file per training: its configuration and presets, data, network, scores, pictures and inputs.

:class:`Task` says what a task is made of. ``pcsa train``, ``evaluate``, ``predict``, ``compare`` and ``report`` know
nothing else of it: a new kind of task is one more file here, or a call of :func:`register`. What tasks share is in
:mod:`pcsa.tasks.common`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from pcsa.tasks.common.registry import get_task as get_task, register as register, task_names as task_names

if TYPE_CHECKING:
    from pcsa.tasks.common.pretrained import Pretrained as Pretrained, open_pretrained as open_pretrained
    from pcsa.tasks.common.run import open_run as open_run
    from pcsa.tasks.common.task import Run as Run, Task as Task

_FROM = {
    "Pretrained": "pretrained",
    "open_pretrained": "pretrained",
    "open_run": "run",
    "Run": "task",
    "Task": "task",
}


def __getattr__(name: str) -> Any:
    # Imported when they are asked for: the list of the tasks is read without torch.
    if name not in _FROM:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"pcsa.tasks.common.{_FROM[name]}"), name)
