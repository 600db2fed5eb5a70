"""A supervised training as it is timed: the one file here that knows how a training is configured and run."""

from __future__ import annotations

import json
import logging
import sys
import time
from pathlib import Path

import lightning as L
import torch

from pcsa.datasets.transforms import Augment
from pcsa.scripts.bench.measure import Clock
from pcsa.training import (
    DataConfig,
    Detection,
    DetectionData,
    OptimizerConfig,
    SupervisedConfig,
    TrainerConfig,
    train_supervised,
)

PARTS = ("data", "forward", "objective", "backward", "optimizer")


def first_step(root: str, category: str, device: str, out: str, threads: int) -> float:
    """Time the first training of this process, of one step, in seconds; imports come before."""
    torch.set_num_threads(threads)
    logging.disable(logging.WARNING)
    config = SupervisedConfig(
        data=DataConfig(root=Path(root), category=category),
        optimizer=OptimizerConfig(steps=1),
        trainer=TrainerConfig(progress=False, accelerator=_accelerator(torch.device(device)), validate_every=10**6),
        out=Path(out),
    )
    start = time.perf_counter()
    train_supervised(config)
    return time.perf_counter() - start


def step_parts(
    root: Path, category: str, precompute: bool, num_workers: int, steps: int, device: torch.device
) -> dict[str, list[float]]:
    """Time each part of each step, in seconds; data is the wait for it."""
    # Neighbors that were searched before do not survive a scale per axis.
    kept = Augment(mirror=0.5, rotate=15.0, scale=0.1, shift=0.1)
    augment = kept if precompute else Augment(mirror=0.5, scale=0.1, axis_scale=0.15, shift=0.1)
    config = SupervisedConfig(
        data=DataConfig(root=root, category=category, augment=augment, precompute=precompute),
        trainer=TrainerConfig(num_workers=num_workers),
    )
    clock = Clock(device)
    data = DetectionData(config)
    L.seed_everything(0, verbose=False)
    module = Detection(config, data.train_set)
    module.detector.register_forward_hook(lambda *_: clock.mark("forward"))

    class Timing(L.Callback):
        def on_train_batch_start(self, *_: object) -> None:
            clock.mark("data")

        def on_before_backward(self, *_: object) -> None:
            clock.mark("objective")

        def on_after_backward(self, *_: object) -> None:
            clock.mark("backward")

        def on_train_batch_end(self, *_: object) -> None:
            clock.mark("optimizer")

    trainer = L.Trainer(
        accelerator=_accelerator(device),
        devices=1,
        max_steps=steps + 2,
        max_epochs=-1,
        limit_val_batches=0,
        gradient_clip_val=config.optimizer.clip or None,
        callbacks=[Timing()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(module, data)
    # The first steps warm up.
    return {name: clock.seconds[name][2:] for name in PARTS}


def _accelerator(device: torch.device) -> str:
    return "gpu" if device.type == "cuda" else "cpu"


if __name__ == "__main__":
    print(first_step(**json.loads(sys.argv[1])))
