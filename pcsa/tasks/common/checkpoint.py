"""Files of a run: its checkpoint and the JSON beside it."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pcsa.datasets.faults import reading
from pcsa.datasets.files import replacing
from pcsa.tasks.common.checksum import is_signed, sign
from pcsa.tasks.common.config import TrainConfig, from_plain, to_plain
from pcsa.tasks.common.outline import check_outline

log = logging.getLogger(__name__)

# Files without a checksum of which the log has said so.
_UNSIGNED: set[Path] = set()


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """All that a checkpoint holds, after a check that this package wrote it and that it is as it was written.

    Nothing in a file is run, and no memory taken for more than it holds; see :mod:`pcsa.tasks.common.outline`. The log
    says once of a file that it was written before there were checksums.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is no checkpoint of this package, is damaged, or has weights that are not finite.
    """
    path = Path(path)
    with reading(path, "a checkpoint"):
        if not path.is_file():
            raise FileNotFoundError(f"`{path}` is no checkpoint: there is no such file")
        with path.open("rb") as file:
            if file.read(2) != b"PK":
                raise ValueError(f"`{path}` cannot be read as a checkpoint (torch.save did not write it)")
        try:
            signed = is_signed(path)
            check_outline(path)
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        except ValueError:
            raise
        except Exception as error:
            raise ValueError(f"`{path}` cannot be read as a checkpoint ({type(error).__name__})") from None
        check_content(path, checkpoint)
    if not signed and path.resolve() not in _UNSIGNED:
        _UNSIGNED.add(path.resolve())
        log.warning("`%s` was written before checkpoints had a checksum: damage to it cannot be seen", path)
    return checkpoint


def check_content(path: Path, checkpoint: Any) -> None:
    """Raise unless a checkpoint has the parts that every one of this package has, as far as it has them."""
    about = checkpoint.get("pcsa") if isinstance(checkpoint, dict) else None
    if not isinstance(about, dict):
        raise ValueError(f"`{path}` must be a checkpoint that `pcsa train` wrote, has no entry 'pcsa'")
    if "task" not in about:
        raise ValueError(
            f"`{path}` (kind {about.get('kind')!r}) was written before checkpoints named their task and cannot be "
            "read: train it again"
        )
    for name, kind, value in (
        ("task", str, about["task"]),
        ("config", dict, about.get("config", {})),
        ("labels", dict, about.get("labels", {})),
        ("global_step", int, checkpoint.get("global_step", 0)),
    ):
        if not isinstance(value, kind):
            raise ValueError(f"`{name}` must be a {kind.__name__}, is a {type(value).__name__}")
    state = checkpoint.get("state_dict", {})
    tensors = isinstance(state, dict) and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items())
    if not tensors:
        raise ValueError("`state_dict` must be tensors by their names")
    floats = {name: value for name, value in state.items() if value.is_floating_point()}
    broken = [name for name, value in floats.items() if not bool(value.isfinite().all())]
    if broken:
        raise ValueError(
            f"{len(broken)} of its {len(floats)} tensors of weights are not finite, `{broken[0]}` among them: its "
            "training has diverged"
        )


def write_checkpoint(path: str | os.PathLike[str], checkpoint: dict[str, Any]) -> None:
    """Write a checkpoint that is complete or not there.

    Raises:
        OSError: If the disk is full, say; the message names ``path`` and says what is kept.
    """
    # A file of Python's: torch's own says nothing of why it cannot be written.
    with replacing(Path(path)) as temporary:
        with temporary.open("wb") as file:
            torch.save(checkpoint, file)
        sign(temporary)


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
    except (TypeError, ValueError, AttributeError, KeyError):
        return stored


def started_from(last: Path) -> Path | None:
    """The checkpoint that a run was begun from, as its own checkpoint says."""
    config = read_checkpoint(last)["pcsa"].get("config")
    begun = config.get("init_from") if isinstance(config, dict) else None
    return Path(begun) if isinstance(begun, str) else None


def write_json(path: Path, value: Any) -> None:
    """Write a file that is complete or not there, in a folder that is made if need be."""
    text = json.dumps(value, indent=1, allow_nan=False) + "\n"
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
