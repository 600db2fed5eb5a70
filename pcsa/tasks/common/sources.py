"""What a trained network may be named by, and the run that it is."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from pcsa.tasks.common.backbone import Trust
from pcsa.tasks.common.hub import fetch, hub_name, is_hub_id
from pcsa.tasks.common.run import open_run
from pcsa.tasks.common.shared import shared_weights
from pcsa.tasks.common.task import ConfigT, Run

# What a training leaves in its folder, the first that is there.
_KEPT = ("last.ckpt", "best.ckpt")


def open_source(
    source: str | os.PathLike[str],
    device: str | torch.device = "cpu",
    *,
    revision: str | None = None,
    trust: Trust = False,
) -> Run[Any, Any]:
    """The run behind what a user names.

    Args:
        source: See :func:`checkpoint_of`.
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
    """The file that a source names; the only place that knows what a source may be.

    Args:
        source: A checkpoint or the weights of a shared model; the folder of a run, for its last checkpoint or else its
            best, or of a shared model; or ``owner/name`` or ``owner/name@revision`` on the Hugging Face hub, for what
            is nothing here.
        revision: Branch, tag or commit on the hub; default the newest of its main branch.

    Raises:
        FileNotFoundError: If there is none.
        ConnectionError: If the hub cannot be reached or does not deliver.
        ValueError: If ``revision`` is given for what is not on the hub.
    """
    name = os.fspath(source)
    if is_hub_id(name):
        folder = fetch(name, revision)
        return shared_weights(folder) or folder
    if revision is not None:
        raise ValueError(f"`revision` (={revision!r}) must not be given for a file or folder: `{name}`")
    path = Path(source)
    if not path.exists():
        raise FileNotFoundError(
            f"`{name}` is no checkpoint: there is no such file, nor a folder of a run or of a shared model, and it is "
            "no owner/name of the Hugging Face hub"
        )
    if (weights := shared_weights(path)) is not None or not path.is_dir():
        return weights or path
    for kept in _KEPT:
        if (path / kept).is_file():
            return path / kept
    others = sorted(file.name for file in path.glob("*.ckpt"))
    has = f"; it has {', '.join(others)}, to be named" if others else ""
    raise FileNotFoundError(f"`{path}` must be a checkpoint or the folder of a run: it has no {_KEPT[0]}{has}")


def with_beginning(config: ConfigT) -> ConfigT:
    """A configuration whose training begins with a file, whatever ``init_from`` names it by."""
    if config.init_from is None or config.resume:
        return config
    return replace(config, init_from=checkpoint_of(config.init_from))


def name_of(path: Path) -> str:
    """What a file of results calls a checkpoint: by its path, or as what the hub calls it."""
    return hub_name(path) or str(path)


def folder_beside(path: Path) -> Path:
    """Where files about a checkpoint go by default: its own folder, or this one where it is the hub's."""
    return path.parent if hub_name(path) is None else Path()
