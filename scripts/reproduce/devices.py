"""The device that a run is made on, and what a row says of it."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable
from pathlib import Path

from pcsa.datasets.faults import reading
from pcsa.tasks.common.checkpoint import write_json
from pcsa.tasks.common.config import TrainConfig

_FILE = "devices.json"
_OF_ACCELERATOR = {"cpu": "cpu", "gpu": "cuda", "cuda": "cuda"}


def device_option(config: TrainConfig) -> str:
    """What ``pcsa evaluate --device`` is to be where a network is trained with this accelerator."""
    return _OF_ACCELERATOR.get(config.trainer.accelerator, "auto")


def note_device(config: TrainConfig) -> None:
    """Write down that the run is trained here, beside where it was trained before it was cut off."""
    config.out.mkdir(parents=True, exist_ok=True)
    write_json(config.out / _FILE, list(dict.fromkeys([*_trained_on(config.out), _name(config)])))


def said_devices(networks: Iterable[TrainConfig]) -> str:
    """Where networks were trained and, if that is elsewhere, where they are scored: here."""
    configs = list(networks)
    # A network of an earlier version does not say where it was trained.
    trained = list(dict.fromkeys(name for config in configs for name in _trained_on(config.out) or [_name(config)]))
    here = _name(configs[0])
    scored = "" if {_kind(name) for name in trained} == {_kind(here)} else f"; scored on {_kind(here)}"
    return " and ".join(trained) + scored


def _kind(name: str) -> str:
    """A device without the number of threads."""
    return name.split(",")[0]


def _trained_on(folder: Path) -> list[str]:
    file = folder / _FILE
    if not file.exists():
        return []
    with reading(file, "names of devices"):
        return [str(name) for name in json.loads(file.read_text(encoding="utf-8"))]


def _name(config: TrainConfig) -> str:
    import torch

    if torch.cuda.is_available() and device_option(config) != "cpu":
        return torch.cuda.get_device_name()
    return f"{platform.machine()}, {torch.get_num_threads()} threads"
