"""Beginning a training with the weights of another: other keypoints, another category, procedural shapes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pcsa.tasks.common.config import from_plain
from pcsa.tasks.common.shared import read_model

log = logging.getLogger(__name__)

# Of the numbers outside of the head; with less, what was learned has little to stand on.
_LEAST_SHARE = 0.5


class Taken(NamedTuple):
    """What of a network another one begins with, by the names of its tensors."""

    whole: list[str]
    rows: dict[str, int]
    """Number of keypoints whose rows are taken."""
    new: list[str]
    """What is left as it was made."""


def initialize(
    network: nn.Module, path: Path, labels: Any, *, task: str, named: bool, larger: Callable[[], nn.Module]
) -> Taken:
    """Put the weights of a checkpoint into a new network of the same task, and log which.

    A tensor of the same name and shape is taken, batch normalization's statistics among them. The head, which is what
    depends on the number of keypoints, is taken whole for the same keypoints of the same category. For others it stays
    new, but for the rows of keypoints that both have, if the category is the same.

    Args:
        network: The new network.
        path: The checkpoint, or a shared model.
        labels: What the new network will find.
        task: Name of the task.
        named: Whether a name stands for the same keypoint in every training.
        larger: Makes a network that differs from the new one in one more keypoint.

    Raises:
        FileNotFoundError: If there is no such checkpoint.
        ValueError: If it is of another task, or its network has little in common with the new one.
    """
    checkpoint = read_model(path)
    about = checkpoint["pcsa"]
    if about["task"] != task:
        raise ValueError(f"`init_from` (={str(path)!r}) must be a checkpoint of {task}, is one of {about['task']}")
    try:
        known = identities(from_plain(type(labels), about["labels"]))
        prefix = "network."
        source = {k.removeprefix(prefix): v for k, v in checkpoint["state_dict"].items() if k.startswith(prefix)}
    except Exception as error:
        raise ValueError(
            f"`init_from` (={str(path)!r}) must be a checkpoint that this version can read: {type(error).__name__}"
        ) from None
    state = network.state_dict()
    shapes = {name: value.shape for name, value in _shapes(larger).items()}
    head = {name for name, value in state.items() if name in shapes and shapes[name] != value.shape}
    _check_fit(path, {k: v for k, v in state.items() if k not in head}, source)
    taken = transfer(state, source, head, identities(labels), known, by_name=named)
    rows = max(taken.rows.values(), default=0)
    log.info(
        "begun from `%s`, step %s: %d of %d tensors taken%s; new: %s",
        path,
        checkpoint.get("global_step", "unknown"),
        len(taken.whole),
        len(state),
        f", and {rows} of {len(labels.names)} keypoints of {', '.join(taken.rows)}" if rows else "",
        ", ".join(taken.new) or "nothing",
    )
    return taken


def _shapes(build: Callable[[], nn.Module]) -> Mapping[str, Tensor]:
    """The tensors of a network, of which shapes are wanted alone."""
    try:
        with torch.device("meta"):
            return build().state_dict()
    except (NotImplementedError, RuntimeError, ValueError):  # a network of one's own may look at its numbers
        with torch.random.fork_rng([]):
            return build().state_dict()


def identities(labels: Any) -> list[Hashable]:
    """What tells the keypoints of trainings apart: category, and id or name."""
    names = getattr(labels, "semantic_ids", labels.names)
    return [(getattr(labels, "category", None), name) for name in names]


def transfer(
    state: Mapping[str, Tensor],
    source: Mapping[str, Tensor],
    head: set[str],
    ids: Sequence[Hashable],
    known: Sequence[Hashable],
    *,
    by_name: bool,
) -> Taken:
    """Copy into the tensors of ``state`` what of ``source`` fits.

    Args:
        state: Tensors of the new network, by name.
        source: Those of the other network.
        head: Names of those that depend on the keypoints; a keypoint owns equally many of their rows.
        ids: What the new network finds.
        known: What the other network finds.
        by_name: Whether rows may be taken for some of the keypoints: those in both.
    """
    places = {name: place for place, name in enumerate(known)}
    pairs = [(i, places[name]) for i, name in enumerate(ids) if name in places] if by_name else []
    taken = Taken([], {}, [])
    for name, value in state.items():
        other = source.get(name)
        same = other is not None and other.shape == value.shape
        if other is not None and same and (name not in head or list(ids) == list(known)):
            value.copy_(other)
            taken.whole.append(name)
            continue
        if other is not None and name in head and pairs and _rows_fit(value, other, len(ids), len(known)):
            here, there = (list(side) for side in zip(*pairs, strict=True))
            rows = other.unflatten(0, (len(known), -1))[there]
            value.unflatten(0, (len(ids), -1))[here] = rows.to(value)
            taken.rows[name] = len(pairs)
            continue
        taken.new.append(name)
    return taken


def _rows_fit(value: Tensor, other: Tensor, count: int, known: int) -> bool:
    """Whether two tensors have the same number of rows for each keypoint, and rows of the same shape."""
    if not value.dim() or value.dim() != other.dim() or value.shape[1:] != other.shape[1:]:
        return False
    return value.shape[0] % count == other.shape[0] % known == 0 and (
        value.shape[0] // count == other.shape[0] // known > 0
    )


def _check_fit(path: Path, state: Mapping[str, Tensor], source: Mapping[str, Tensor]) -> None:
    wrong = [name for name, value in state.items() if name not in source or source[name].shape != value.shape]
    lost, total = (sum(state[name].numel() for name in names) for names in (wrong, state))
    if total and 1 - lost / total < _LEAST_SHARE:
        name = wrong[0]
        there = list(source[name].shape) if name in source else "nothing of that name"
        raise ValueError(
            f"`init_from` (={str(path)!r}) must have a network like that of `model`: {100 * (1 - lost / total):.0f} % "
            f"of its weights fit; `{name}` is {list(state[name].shape)} here, and there {there}"
        )
