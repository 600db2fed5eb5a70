"""Files of a run: its checkpoint and the JSON beside it."""

from __future__ import annotations

import json
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import torch

from pcsa.datasets.files import replacing
from pcsa.tasks.common.config import TrainConfig, from_plain, to_plain


def read_checkpoint(path: Path) -> dict[str, Any]:
    """All that a checkpoint holds, after a check that this package wrote it.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is no checkpoint of this package.
    """
    if not path.is_file():
        raise FileNotFoundError(f"`{path}` is no checkpoint: there is no such file")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(f"`{path}` cannot be read as a checkpoint ({type(error).__name__})") from None
    about = checkpoint.get("pcsa") if isinstance(checkpoint, dict) else None
    if not isinstance(about, dict):
        raise ValueError(f"`{path}` must be a checkpoint that `pcsa train` wrote, has no entry 'pcsa'")
    if "task" not in about:
        raise ValueError(
            f"`{path}` (kind {about.get('kind')!r}) was written before checkpoints named their task and cannot be "
            "read: train it again"
        )
    return checkpoint


def write_checkpoint(path: Path, checkpoint: dict[str, Any]) -> None:
    """Write a checkpoint that is complete or not there.

    Raises:
        OSError: If the disk is full, say; the message names ``path`` and says what is kept.
    """
    # A file of Python's: torch's own says nothing of why it cannot be written.
    with replacing(path) as temporary, temporary.open("wb") as file:
        torch.save(checkpoint, file)


def check_resumable(config: TrainConfig, path: Path, task: str) -> None:
    """Refuse to resume a run with another configuration than the one that determines its numbers."""
    about = read_checkpoint(path)["pcsa"]
    if about["task"] != task:
        raise ValueError(f"`{path}` must be a checkpoint of {task} to be resumed, is one of {about['task']}")
    before, now = about.get("config"), to_plain(config)
    for section in ("data", "model", "objective", "optimizer", "seed"):
        if not isinstance(before, dict) or section not in before:
            raise ValueError(f"`{path}` must say what it was trained with, to be resumed: it has no `{section}`")
        stored = _complete(getattr(config, section), before[section])
        if stored != now[section]:
            raise ValueError(
                f"`{section}` (={now[section]}) must be what `{path}` was trained with, to resume it: {stored}"
            )


def _complete(section: Any, stored: Any) -> Any:
    """A part of a stored configuration with the defaults of what it was written before there was."""
    try:
        return to_plain(from_plain(type(section), stored)) if is_dataclass(section) else stored
    except (TypeError, ValueError, AttributeError):
        return stored


def started_from(last: Path) -> Path | None:
    """The checkpoint that a run was begun from, as its own checkpoint says."""
    config = read_checkpoint(last)["pcsa"].get("config")
    begun = config.get("init_from") if isinstance(config, dict) else None
    return None if begun is None else Path(begun)


def write_json(path: Path, value: Any) -> None:
    """Write a file that is complete or not there, in a folder that is made if need be."""
    text = json.dumps(value, indent=1, allow_nan=False) + "\n"
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
