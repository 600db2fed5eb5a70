"""Train a run once: from the start, from where it was cut off, or not at all."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from pcsa.datasets.faults import reading
from pcsa.tasks.common.checkpoint import check_resumable, write_json
from pcsa.tasks.common.config import TrainConfig
from pcsa.tasks.common.sources import with_beginning
from pcsa.tasks.common.task import Task


def train_once(task: Task[Any, Any], config: TrainConfig) -> tuple[Path, float]:
    """Train until the run in ``config.out`` is finished, and return its checkpoint and the seconds that took.

    A run that was cut off goes on, and the seconds are those of the rest. A finished one is left as it is.

    Raises:
        ValueError: If the folder has a run of another configuration.
    """
    timing, checkpoint = config.out / "seconds.json", config.out / "last.ckpt"
    if checkpoint.exists():
        # A finished run is checked too: its scores are not those of other options.
        check_resumable(config, checkpoint, task.name)
    if not (timing.exists() and checkpoint.exists()):
        start = time.perf_counter()
        task.train(with_beginning(replace(config, resume=checkpoint.exists())))
        write_json(timing, time.perf_counter() - start)
    with reading(timing, "seconds"):
        return checkpoint, float(json.loads(timing.read_text(encoding="utf-8")))
