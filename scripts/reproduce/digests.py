"""What determines the numbers of a run, and the digests by which runs and their rows are told apart."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from pcsa.tasks import get_task
from pcsa.tasks.common.config import TrainConfig, from_plain, to_plain

# What stands for the folder of the data where it is written down: that is another one on every machine.
ROOT = "KEYPOINTNET"
# The split in the digest of a training that others begin with: it is scored on none.
BEFORE_SPLIT: Literal["val"] = "val"
# What changes where, how fast and with which log a run is made, and no number of it.
_WITHOUT_EFFECT = ("out", "resume")
_TRAINER_WITHOUT_EFFECT = (
    "accelerator", "devices", "num_nodes", "strategy", "num_workers", "logger", "validate_every", "save_every",
    "save_seconds", "progress",
)  # fmt: skip


def shown_config(config: TrainConfig) -> dict[str, Any]:
    """What determines the numbers of a run, as JSON types, without the folders of this machine."""
    shown = {name: value for name, value in to_plain(config).items() if name not in _WITHOUT_EFFECT}
    shown["trainer"] = {k: value for k, value in shown["trainer"].items() if k not in _TRAINER_WITHOUT_EFFECT}
    # The same kernels in one launch.
    shown["trainer"]["cuda_graph"] = False
    for name, value in vars(config).items():
        if name in shown and isinstance(value, Path):
            shown[name] = f"{value.parent.name}/{value.name}"
    shown["data"] = {**shown["data"], "root": None if config.data.root is None else ROOT}
    return shown


def digest(task: str, split: str, shown: Mapping[str, Any], version: str) -> str:
    """What two runs have in common only if they give the same numbers.

    Fields that a later version adds count with their defaults, so that a row stays what it is.
    """
    return _digest(task, split, json.dumps(shown, sort_keys=True), version)


# All rows are read again whenever one is added.
@functools.cache
def _digest(task: str, split: str, shown: str, version: str) -> str:
    filled: Any = json.loads(shown)
    kind = get_task(task).config_type
    # A row of a configuration that there is no more equals no run of today.
    with suppress(Exception):
        filled = shown_config(from_plain(kind, filled))
    return _sha([task, split, filled, version])


def combined_digest(members: Sequence[str], test_time: int) -> str:
    """The same of a mean of networks, by the digests of their runs, over so many variations of each input."""
    return _sha(["combined", list(members), test_time])


def begun_digest(own: str, before: str) -> str:
    """The same of a run that begins with the network of another, by the digests of both."""
    return _sha(["begun", own, before])


def part_digest(network: str, category: str) -> str:
    """The same of what a network of several categories scores in one of them."""
    return _sha(["part", network, category])


def row_key(row: Mapping[str, Any]) -> str:
    """The digest of the run that left a row, with what fields have been added since."""

    def of(config: Mapping[str, Any], split: str) -> str:
        return digest(row["task"], split, config, row["versions"]["pcsa"])

    def key(seed: int) -> str:
        own = of({**row["config"], "seed": seed}, row["split"])
        if (before := row.get("begun_from")) is None:
            return own
        return begun_digest(own, of({**before["config"], "seed": seed}, BEFORE_SPLIT))

    combined = row.get("combined")
    if combined is not None:
        return combined_digest([key(seed) for seed in combined["seeds"]], combined["test_time"])
    own = key(row["config"]["seed"])
    return part_digest(own, row["part"]) if "part" in row else own


def _sha(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]
