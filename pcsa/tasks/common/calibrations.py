"""Temperatures of the confidences, which a checkpoint keeps for its own network and for every way of averaging it."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from pcsa.tasks.common.checkpoint import write_checkpoint
from pcsa.tasks.common.claim import claimed
from pcsa.tasks.common.shared import read_model, shared_weights, write_about

# So long another process may take to store what it has fitted, in seconds.
_WAIT = 60.0

log = logging.getLogger(__name__)


class Calibration(NamedTuple):
    """What makes the confidences of a trained network as large as they are right; see ``--fit-temperature``."""

    temperature: float = 1.0
    """Divides the logits where confidences are computed."""
    split: str | None = None
    """The split or fold that it was fitted on, if it was."""


@dataclass(frozen=True)
class Way:
    """How the maps of a network come about, where they are means: a temperature that suits one way suits no other."""

    networks: tuple[str, ...]
    """What :func:`weights_digest` says of each, sorted: the order of a mean does not matter."""
    test_time: int = 1
    """Variations of each cloud."""

    def __str__(self) -> str:
        """Name it in a message."""
        count = len(self.networks)
        network = "one network" if count == 1 else f"the mean of {count} networks"
        return network if self.test_time == 1 else f"{network} over {self.test_time} variations of each cloud"


Calibrations = Mapping[Way | None, Calibration]
"""What a checkpoint knows, by the way of averaging; None for its own network alone."""


def weights_digest(state: Mapping[str, Tensor]) -> str:
    """What two networks have in common only if their weights are equal, wherever they lie.

    Args:
        state: What ``state_dict`` returns. Numbers count as float32, in which a network is put together again.
    """
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        value = value.detach().cpu()
        if value.is_floating_point():
            value = value.float()
        digest.update(f"{name} {list(value.shape)}\n".encode())
        digest.update(value.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def read_calibrations(about: Mapping[str, Any]) -> Calibrations:
    """The temperatures in what a checkpoint says of itself."""
    known: dict[Way | None, Calibration] = {}
    if "calibration" in about:
        known[None] = Calibration(**about["calibration"])
    for entry in about.get("calibrations", ()):
        way = Way(tuple(entry["networks"]), int(entry["test_time"]))
        known[way] = Calibration(float(entry["temperature"]), entry["split"])
    return known


def fitted_for(way: Way | None, known: Iterable[Calibrations]) -> Calibration:
    """What was fitted for a way of averaging, out of what its checkpoints know; the first that knows it counts.

    The log says so if none does, though some have a temperature for another way.
    """
    known = list(known)
    for calibrations in known:
        if way in calibrations:
            return calibrations[way]
    others = dict.fromkeys(_named(other) for calibrations in known for other in calibrations)
    if others:
        log.warning(
            "no temperature of the confidences is fitted for %s, only for %s: they are as trained, unless `pcsa "
            "evaluate --fit-temperature` fits one",
            _named(way),
            ", ".join(others),
        )
    return Calibration()


def store_calibration(path: Path, calibration: Calibration, way: Way | None, digest: str) -> None:
    """Write a temperature into a checkpoint, in place of one for the same way; nothing else changes.

    The file is whole at every moment. Tensors of an accelerator become the CPU's, where every reader puts them first.

    Args:
        path: The checkpoint.
        calibration: What was fitted.
        way: What it was fitted for; None for the network of the checkpoint alone.
        digest: What :func:`weights_digest` says of the network that was opened from this file.

    Raises:
        ValueError: If the file has another network by now, as that of a training that goes on.
    """
    with claimed(path, wait=_WAIT):
        checkpoint = read_model(path)
        if weights_digest(network_state(checkpoint)) != digest:
            raise ValueError(
                f"`{path}` has other weights than when it was opened: the temperature {calibration.temperature:.3g} "
                "that was fitted to the former ones is not stored; evaluate again when the training has ended"
            )
        about = checkpoint["pcsa"]
        if way is None:
            about["calibration"] = calibration._asdict()
        else:
            others = [entry for entry in about.get("calibrations", ()) if not _is_of(entry, way)]
            own = {"networks": list(way.networks), "test_time": way.test_time, **calibration._asdict()}
            about["calibrations"] = [*others, own]
        if shared_weights(path) is None:
            write_checkpoint(path, checkpoint)
        else:
            write_about(path, checkpoint)


def network_state(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """The weights of the network in a checkpoint."""
    prefix = "network."
    return {k.removeprefix(prefix): v for k, v in checkpoint["state_dict"].items() if k.startswith(prefix)}


def _is_of(entry: Mapping[str, Any], way: Way) -> bool:
    return (tuple(entry["networks"]), entry["test_time"]) == (way.networks, way.test_time)


def _named(way: Way | None) -> str:
    return "one network" if way is None else str(way)
