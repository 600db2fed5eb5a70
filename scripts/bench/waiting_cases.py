"""Cases of what a user waits for: the start of a process, data, the start of a training, and its steps."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from pcsa.scripts.bench.config import BenchConfig
from pcsa.scripts.bench.measure import run_module, run_python, wait
from pcsa.scripts.bench.report import FAST, GROUND, HOUSE, Result, deterministic, duration, ratio, row, seconds
from pcsa.tasks import get_task

if TYPE_CHECKING:
    from pcsa.tasks.common.config import TrainConfig
    from pcsa.tasks.common.task import Task

# With the operator, which is imported where it is first used.
_IMPORT = """
import time, torch, numpy
start = time.process_time()
import pcsa
pcsa.sampling_argmax
print(time.process_time() - start)
"""
# The processor time of the whole process.
_HELP = "import time; from pcsa.scripts.cli import main; main(['--help']); print(time.process_time())"
# Installed packages other than torch, numpy and what annotates shapes, and torch's compiler, which costs seconds.
_BROUGHT = """
import importlib.metadata, sys, torch, numpy
known = set(sys.modules)
import pcsa
pcsa.sampling_argmax, pcsa.losses, pcsa.metrics, pcsa.grid, pcsa.neighbors, pcsa.skeleton
installed = set(importlib.metadata.packages_distributions()) - {"pcsa", "torch", "numpy", "jaxtyping", "wadler_lindig"}
print(*sorted((set(sys.modules) - known) & (installed | {"torch._dynamo", "torch._inductor"})))
"""


def bench_start(config: BenchConfig, device: torch.device) -> list[Result]:
    """Measure what a user waits for before anything is computed, in processes of their own."""
    brought = run_python("-c", _BROUGHT).split()
    starts, helps = (
        [float(run_python("-c", code).splitlines()[-1]) for _ in range(config.few_turns)] for code in (_IMPORT, _HELP)
    )
    name = "import pcsa, after torch and numpy"
    checks = [
        deterministic("heavy modules that import pcsa brings", len(brought), target=0, promise=HOUSE),
        seconds(name, starts, 0.3, GROUND),
        seconds("pcsa --help", helps, 0.5, HOUSE),
    ]
    rows = [row(name, starts, note=", ".join(brought))]
    return [Result("start", "Start: processor time of fresh processes", rows, checks)]


def bench_data(config: BenchConfig, device: torch.device) -> list[Result]:
    """Read every cloud of a root for the first time and from the cache, and start a training on it."""
    from pcsa.datasets.keypointnet import KeypointNet

    count, starts = 0, []
    # Processor time and wall time of each reading.
    readings: dict[str, list[tuple[float, float]]] = {"first reading": [], "from the cache": []}
    with _data(config) as (root, categories):
        for _ in range(config.few_turns):
            with tempfile.TemporaryDirectory() as folder:
                for times in readings.values():
                    processor, wall = time.process_time(), time.perf_counter()
                    datasets = [KeypointNet(root, category, "all", cache_dir=folder) for category in categories]
                    count = sum(1 for dataset in datasets for i in range(len(dataset)) if dataset[i])
                    times.append((time.process_time() - processor, time.perf_counter() - wall))
                names = {"root": str(root), "category": categories[0], "device": device.type, "out": f"{folder}/run"}
                starts.append(run_module("pcsa.scripts.bench.waiting_cases", {**names, "threads": config.threads}))
        shapes = max(200 // config.shrink, 4)
        with tempfile.TemporaryDirectory() as folder:
            start = time.process_time()
            _generate(Path(folder), shapes, config)
            generated = time.process_time() - start
    rows = [row(f"{shapes} procedural chairs, processor time", [generated])]
    checks = [seconds("processor time of 200 procedural chairs", [200 / shapes * generated], 30.0, GROUND)]
    for (name, times), target in zip(readings.items(), (2.0, 0.2), strict=True):
        processors, walls = zip(*times, strict=True)
        rows.append(row(f"{name}, processor time", processors, note=f"wall {duration(statistics.median(walls))}"))
        per_500 = [500 / count * t for t in processors]
        checks.append(seconds(f"processor time per 500 clouds, {name}", per_500, target, FAST))
    rows.append(
        row(f"training of one step on {categories[0]}, after imports", starts, note="start, step and checkpoint")
    )
    checks.append(seconds("start and first step", starts, 5.0, FAST))
    return [Result("data", f"Data: {count} clouds of {len(categories)} categories", rows, checks)]


def bench_step(config: BenchConfig, device: torch.device) -> list[Result]:
    """Time whole training steps in the trainer, and what they consist of."""
    steps = 3 * config.turns
    rows, whole = [], []
    with _data(config) as (root, (category, *_)):
        for name, precompute, workers in (
            ("searches in the step", False, 0),
            ("searches done before", True, 0),
            (f"searches done before, {config.num_workers} loading", True, config.num_workers),
        ):
            parts = _step_parts(root, category, precompute, workers, steps, device)
            whole.append([sum(step) for step in zip(*parts.values(), strict=True)])
            rows.append(row(name, whole[-1], note="whole step"))
            for part, times in parts.items():
                share = statistics.median(times) / statistics.median(whole[-1])
                rows.append(row(f"  {part}", times, note=f"{share:.0%}"))
    title = f"Training step on {category}: 8 clouds, {steps} steps"
    checks = [
        ratio("searches done before / in the step", whole[1], whole[0]),
        seconds("one step, searches in it", whole[0], promise=GROUND),
    ]
    return [Result("step", title, rows, checks)]


@contextlib.contextmanager
def _data(config: BenchConfig) -> Iterator[tuple[Path, list[str]]]:
    """Open a root in KeypointNet's layout and its categories, first the one to train on; nothing is logged meanwhile.

    The root is the one given, the tests', or a temporary one of procedural clouds.
    """
    logging.disable(logging.WARNING)
    try:
        with tempfile.TemporaryDirectory() as folder:
            root, real = config.root, os.environ.get("PCSA_TEST_DATA")
            if root is None:
                root = Path(real) / "keypointnet" if real else Path(folder)
                if not real:
                    _generate(root, 40, config)
            categories = sorted(path.stem for path in (root / "annotations").glob("*.json"))
            if not categories:
                raise FileNotFoundError(
                    f"`root` (={str(root)!r}) must be in KeypointNet's layout: it has no annotations/*.json"
                )
            yield root, sorted(categories, key=lambda name: name != "bed")
    finally:
        logging.disable(logging.NOTSET)


def _generate(root: Path, shapes: int, config: BenchConfig) -> None:
    from pcsa.datasets.procedural import generate

    generate(root, ["chair"], shapes, num_points=max(config.points(2048), 256))


def first_step(root: str, category: str, device: str, out: str, threads: int) -> float:
    """Time the first training of this process, of one step, in seconds; imports come before."""
    torch.set_num_threads(threads)
    logging.disable(logging.WARNING)
    task, config = _task(root=Path(root), category=category)
    trainer = replace(config.trainer, progress=False, accelerator=device, validate_every=10**6)
    config = replace(config, optimizer=replace(config.optimizer, steps=1), trainer=trainer, out=Path(out))
    start = time.perf_counter()
    task.train(config)
    return time.perf_counter() - start


def _step_parts(
    root: Path, category: str, precompute: bool, num_workers: int, steps: int, device: torch.device
) -> dict[str, list[float]]:
    """Time each part of each step, in seconds; data is the wait for it."""
    import lightning as L
    from lightning.pytorch.callbacks import LambdaCallback

    from pcsa.datasets.transforms import Augment

    # Neighbors that were searched before do not survive a scale per axis.
    augment = Augment(mirror=0.5, rotate=15.0, scale=0.1, shift=0.1)
    before = {"precompute": True, "augment": augment} if precompute else {}
    task, config = _task(root=root, category=category, **before)
    config = replace(config, trainer=replace(config.trainer, num_workers=num_workers, cuda_graph=False))
    training = task.training(config)
    marks = [time.perf_counter()]
    parts: dict[str, list[float]] = {}

    def mark(ends: str, *_: object) -> None:
        wait(device)
        marks.append(time.perf_counter())
        parts.setdefault(ends, []).append(marks[-1] - marks[-2])

    training.module.network.register_forward_hook(partial(mark, "forward"))
    timing = LambdaCallback(
        on_train_batch_start=partial(mark, "data"),
        on_before_backward=partial(mark, "objective"),
        on_after_backward=partial(mark, "backward"),
        on_train_batch_end=partial(mark, "optimizer"),
    )
    trainer = L.Trainer(
        accelerator=device.type,
        devices=1,
        max_steps=steps + 2,
        limit_val_batches=0,
        gradient_clip_val=config.optimizer.clip or None,
        callbacks=[timing],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(training.module, training.data)
    # The first steps warm up.
    return {name: times[2:] for name, times in parts.items()}


def _task(**data: Any) -> tuple[Task[Any, Any], TrainConfig]:
    """Take the task, and its preset of the documentation's results on these data."""
    task = get_task("supervised")
    preset = task.presets["sampling"]
    return task, replace(preset, data=replace(preset.data, **data))


if __name__ == "__main__":
    print(first_step(**json.loads(sys.argv[1])))
