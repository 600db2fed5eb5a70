"""A model in a folder of its own, to be given away: weights that hold no code, and what they are of as JSON.

``model.safetensors`` has the network's weights; ``config.json`` the rest of what evaluation and prediction need: task,
labels, resolved configuration, temperatures. Optimizer, logs and the places of the training's files stay at home.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from pcsa.datasets.faults import reading
from pcsa.datasets.files import replacing
from pcsa.datasets.limits import read_whole
from pcsa.tasks.common.checkpoint import check_content, read_checkpoint

WEIGHTS, DESCRIPTION = "model.safetensors", "config.json"
_PREFIX = "network."
_LARGEST_DESCRIPTION = 1 << 24  # bytes


def shared_weights(path: Path) -> Path | None:
    """The file of weights that a path names: itself, or the one in the folder that it is; None for anything else."""
    if path.suffix == ".safetensors":
        return path
    file = path / WEIGHTS
    return file if file.exists() else None


def read_model(path: Path) -> dict[str, Any]:
    """What a checkpoint holds, or a shared model in the form of a checkpoint.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is neither, or damaged, or has weights that are not finite.
    """
    weights = shared_weights(path)
    return read_checkpoint(path) if weights is None else read_shared(weights)


def portable(config: Any, plain: Any) -> Any:
    """A configuration as JSON types, with the names of files and folders in place of their paths.

    Args:
        config: The configuration.
        plain: The same as JSON types.
    """
    if dataclasses.is_dataclass(config):
        named = {field.name: getattr(config, field.name, None) for field in dataclasses.fields(config)}
        return {name: portable(named.get(name), value) for name, value in plain.items()}
    return config.name if isinstance(config, Path) else plain


def write_shared(folder: Path, checkpoint: Mapping[str, Any]) -> None:
    """Write what :func:`pcsa.tasks.common.checkpoint.read_checkpoint` returned, without what only a training needs.

    Raises:
        OSError: If the disk is full, say; the message names the file and says what is kept.
    """
    from safetensors.torch import save

    state = checkpoint["state_dict"]
    # Contiguous and apart: the format knows no views and no tensors that share their numbers.
    weights = {
        name.removeprefix(_PREFIX): value.detach().cpu().contiguous().clone()
        for name, value in state.items()
        if name.startswith(_PREFIX)
    }
    raw = save(weights, metadata={"format": "pt"})
    with replacing(folder / WEIGHTS) as temporary:
        temporary.write_bytes(raw)
    _write_description(folder, {"pcsa": checkpoint["pcsa"], "global_step": checkpoint.get("global_step", 0)}, raw)


def write_about(path: Path, checkpoint: Mapping[str, Any]) -> None:
    """Write what a shared model says of itself anew, beside weights that stay as they are."""
    about = {"pcsa": checkpoint["pcsa"], "global_step": checkpoint["global_step"]}
    _write_description(path.parent, about, read_whole(path))


def read_shared(path: Path) -> dict[str, Any]:
    """What a shared model holds, in the form of a checkpoint.

    Nothing in the files is run: they are JSON and numbers.

    Args:
        path: Its ``model.safetensors``; ``config.json`` lies beside it.

    Raises:
        FileNotFoundError: If one of the files is missing.
        ValueError: If one is damaged, or too large, or is not of this package; if weights are not finite.
    """
    description = _read_description(path.parent / DESCRIPTION)
    checksum = description.pop("checksum", None)
    with reading(path, "weights (safetensors)"):
        if not path.is_file():
            raise FileNotFoundError(f"`{path}` is missing: weights in other formats, which may hold code, are not read")
        from safetensors.torch import load

        raw = read_whole(path)
        if checksum != _checksum(description, raw):
            raise ValueError(
                f"is damaged, or not of the `{DESCRIPTION}` beside it, or that was changed by hand: its checksum is "
                "another"
            )
        # Its reader checks that every tensor lies within the file, once, before it makes one.
        state: dict[str, Tensor] = {f"{_PREFIX}{name}": value for name, value in load(raw).items()}
        found = {**description, "state_dict": state}
        check_content(path, found)
    return found


def _read_description(path: Path) -> dict[str, Any]:
    with reading(path, "the description of a shared model"):
        if not path.is_file():
            raise FileNotFoundError(f"`{path}` is missing: a shared model has it beside its {WEIGHTS}")
        if (size := path.stat().st_size) > _LARGEST_DESCRIPTION:
            raise ValueError(f"{size} bytes, must be at most {_LARGEST_DESCRIPTION}")
        found = json.loads(path.read_bytes().decode("utf-8"), parse_constant=_refuse)
        if not isinstance(found, dict) or not isinstance(found.get("pcsa"), dict):
            raise ValueError("must be what `pcsa share` wrote, has no entry 'pcsa'")
        # Only what a checkpoint has, too.
        return {name: found[name] for name in ("pcsa", "global_step", "checksum") if name in found}


def _refuse(constant: str) -> float:
    raise ValueError(f"must have finite numbers, has {constant}")


def _write_description(folder: Path, description: dict[str, Any], raw: bytes) -> None:
    whole = {**description, "checksum": _checksum(description, raw)}
    text = json.dumps(whole, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    with replacing(folder / DESCRIPTION) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _checksum(description: Mapping[str, Any], raw: bytes) -> str:
    """SHA-256 of both files: of what the JSON says, however it is spaced, and of the weights' bytes."""
    digest = hashlib.sha256(json.dumps(description, sort_keys=True).encode())
    digest.update(b"\n")
    digest.update(raw)
    return digest.hexdigest()
