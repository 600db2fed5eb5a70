"""Opening what a training left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

import pcsa
from pcsa.tasks.common.checkpoint import read_checkpoint
from pcsa.tasks.common.config import TrainConfig, from_plain
from pcsa.tasks.common.registry import get_task
from pcsa.tasks.common.task import Calibration, Run


def open_run(path: Path | str, device: str | torch.device = "cpu", *, task: str | None = None) -> Run[Any, Any]:
    """Task, configuration, labels and network of a checkpoint, from one read of the file.

    Args:
        path: The file.
        device: Where the network is put.
        task: The only task that will do; default any.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is no checkpoint, of another task, or does not fit this version of the package.
    """
    path = Path(path)
    checkpoint = read_checkpoint(path)
    about = checkpoint["pcsa"]
    if task is not None and about["task"] != task:
        raise ValueError(f"`{path}` must be a checkpoint of {task}, is one of {about['task']}")
    try:
        of = get_task(about["task"])
        config: TrainConfig = from_plain(of.config_type, about["config"])
        labels = from_plain(of.labels_type, about["labels"])
        model = of.build(config, labels)
        prefix = "network."
        state = {k.removeprefix(prefix): v for k, v in checkpoint["state_dict"].items() if k.startswith(prefix)}
        model.load_state_dict(state)
        step, temperature = int(checkpoint["global_step"]), float(about["temperature"])
        calibration = Calibration(**about.get("calibration", {}))
    # What a checkpoint lacks, what another version adds, a task that is not registered, or weights of another size.
    except Exception as error:
        first = " ".join(str(error).split())[:200]
        raise ValueError(
            f"`{path}` must fit pcsa {pcsa.__version__} and the model that it describes: "
            f"{type(error).__name__}, {first}"
        ) from None
    return Run(path, of, config, labels, model.to(device).eval(), step, temperature, calibration)
