"""What a trained network may be named by, and the run that it is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from pcsa.tasks.common.run import open_run
from pcsa.tasks.common.task import Run

# What a training leaves in its folder, the first that is there.
_KEPT = ("last.ckpt", "best.ckpt")


def open_source(source: str | os.PathLike[str], device: str | torch.device = "cpu") -> Run[Any, Any]:
    """The run behind what a user names: the only place that knows what that may be.

    Args:
        source: A checkpoint, or the folder of a run.
        device: Where the network is put.

    Raises:
        FileNotFoundError: If there is nothing of that name, or no checkpoint in the folder.
        ValueError: If the file is no checkpoint, or does not fit this version of the package.
    """
    return open_run(checkpoint_of(source), device)


def checkpoint_of(source: str | os.PathLike[str]) -> Path:
    """The checkpoint that a path names: a file, or in the folder of a run its last one, or else its best.

    Raises:
        FileNotFoundError: If there is none.
    """
    path = Path(source)
    if not path.is_dir():
        return path
    for name in _KEPT:
        if (path / name).is_file():
            return path / name
    others = sorted(file.name for file in path.glob("*.ckpt"))
    has = f"; it has {', '.join(others)}, to be named" if others else ""
    raise FileNotFoundError(f"`{path}` must be a checkpoint or the folder of a run: it has no {_KEPT[0]}{has}")
