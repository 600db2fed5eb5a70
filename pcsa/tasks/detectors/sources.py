"""What a trained network may be named by, and the run that it is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from pcsa.tasks.common.backbone import Trust
from pcsa.tasks.common.pretrained import fetch, is_hub_id
from pcsa.tasks.common.run import open_run
from pcsa.tasks.common.shared import shared_weights
from pcsa.tasks.common.task import Run

# What a training leaves in its folder, the first that is there.
_KEPT = ("last.ckpt", "best.ckpt")


def open_source(
    source: str | os.PathLike[str],
    device: str | torch.device = "cpu",
    *,
    revision: str | None = None,
    trust: Trust = False,
) -> Run[Any, Any]:
    """The run behind what a user names: the only place that knows what that may be.

    Args:
        source: A checkpoint, the folder of a run or of a shared model, or ``owner/name`` on the Hugging Face hub.
        device: Where the network is put.
        revision: Branch, tag or commit on the hub; default the newest of its main branch.
        trust: Whether a network outside of pcsa that it names may be imported, see :func:`pcsa.tasks.open_run`.

    Raises:
        FileNotFoundError: If there is nothing of that name, or no checkpoint in the folder.
        ConnectionError: If the hub cannot be reached or does not deliver.
        ValueError: If the file is no checkpoint, or does not fit this version of the package.
    """
    return open_run(checkpoint_of(source, revision), device, trust=trust)


def checkpoint_of(source: str | os.PathLike[str], revision: str | None = None) -> Path:
    """What a source names: a file, the last checkpoint of a run's folder or else its best, a shared model's folder.

    Raises:
        FileNotFoundError: If there is none.
        ConnectionError: If the hub cannot be reached or does not deliver.
        ValueError: If ``revision`` is given for what is not on the hub.
    """
    if is_hub_id(os.fspath(source)):
        return fetch(os.fspath(source), revision)
    if revision is not None:
        raise ValueError(f"`revision` (={revision!r}) must not be given for a file or folder: `{os.fspath(source)}`")
    path = Path(source)
    if not path.is_dir() or shared_weights(path) is not None:
        return path
    for name in _KEPT:
        if (path / name).is_file():
            return path / name
    others = sorted(file.name for file in path.glob("*.ckpt"))
    has = f"; it has {', '.join(others)}, to be named" if others else ""
    raise FileNotFoundError(f"`{path}` must be a checkpoint or the folder of a run: it has no {_KEPT[0]}{has}")
