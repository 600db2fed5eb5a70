"""A supervised training as it is timed: the one file here that knows how a training is configured and run."""

from __future__ import annotations

import json
import logging
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import LambdaCallback

from pcsa.datasets.transforms import Augment
from pcsa.scripts.bench.measure import wait
from pcsa.tasks import get_task
from pcsa.tasks.common.config import TrainConfig

PARTS = ("data", "forward", "objective", "backward", "optimizer")


def first_step(root: str, category: str, device: str, out: str, threads: int) -> float:
    """Time the first training of this process, of one step, in seconds; imports come before."""
    torch.set_num_threads(threads)
    logging.disable(logging.WARNING)
    config = _config(root=Path(root), category=category)
    accelerator = _accelerator(torch.device(device))
    trainer = replace(config.trainer, progress=False, accelerator=accelerator, validate_every=10**6)
    config = replace(config, optimizer=replace(config.optimizer, steps=1), trainer=trainer, out=Path(out))
    start = time.perf_counter()
    get_task("supervised").train(config)
    return time.perf_counter() - start


def step_parts(
    root: Path, category: str, precompute: bool, num_workers: int, steps: int, device: torch.device
) -> dict[str, list[float]]:
    """Time each part of each step, in seconds; data is the wait for it."""
    # Neighbors that were searched before do not survive a scale per axis.
    augment = Augment(mirror=0.5, rotate=15.0, scale=0.1, shift=0.1)
    before = {"precompute": True, "augment": augment} if precompute else {}
    config = _config(root=root, category=category, **before)
    config = replace(config, trainer=replace(config.trainer, num_workers=num_workers))
    training = get_task("supervised").training(config)
    marks = [time.perf_counter()]
    seconds: dict[str, list[float]] = {name: [] for name in PARTS}

    def mark(ends: str, *_: object) -> None:
        wait(device)
        marks.append(time.perf_counter())
        seconds[ends].append(marks[-1] - marks[-2])

    training.module.network.register_forward_hook(partial(mark, "forward"))
    timing = LambdaCallback(
        on_train_batch_start=partial(mark, "data"),
        on_before_backward=partial(mark, "objective"),
        on_after_backward=partial(mark, "backward"),
        on_train_batch_end=partial(mark, "optimizer"),
    )
    trainer = L.Trainer(
        accelerator=_accelerator(device),
        devices=1,
        max_steps=steps + 2,
        max_epochs=-1,
        limit_val_batches=0,
        gradient_clip_val=config.optimizer.clip or None,
        callbacks=[timing],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(training.module, training.data)
    # The first steps warm up.
    return {name: times[2:] for name, times in seconds.items()}


def _config(**data: Any) -> TrainConfig:
    """Take the preset of the documentation's results, on these data."""
    preset = get_task("supervised").presets["sampling"]
    return replace(preset, data=replace(preset.data, **data))


def _accelerator(device: torch.device) -> str:
    return "gpu" if device.type == "cuda" else "cpu"


if __name__ == "__main__":
    print(first_step(**json.loads(sys.argv[1])))
