"""Cases of a supervised training: reading its data, starting it, and its steps."""

from __future__ import annotations

import contextlib
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from pcsa.scripts.bench.config import BenchConfig
from pcsa.scripts.bench.measure import run_module
from pcsa.scripts.bench.report import duration
from pcsa.scripts.bench.results import FAST, GROUND, Result, ratio, row, seconds


def bench_data(config: BenchConfig, device: torch.device) -> list[Result]:
    """Read every cloud of a root for the first time and from the cache, and start a training on it."""
    from pcsa.datasets.keypointnet import KeypointNet
    from pcsa.datasets.procedural import generate

    with _root(config) as root, _quiet():
        categories = _categories(root)
        category = _category(categories)
        count = 0
        # Processor time and wall time of each reading.
        first: list[tuple[float, float]] = []
        cached: list[tuple[float, float]] = []
        starts = []
        for _ in range(config.few_turns):
            with tempfile.TemporaryDirectory() as cache:
                for times in (first, cached):
                    processor, wall = time.process_time(), time.perf_counter()
                    datasets = [KeypointNet(root, category, "all", cache_dir=cache) for category in categories]
                    count = sum(1 for dataset in datasets for i in range(len(dataset)) if dataset[i])
                    times.append((time.process_time() - processor, time.perf_counter() - wall))
        for _ in range(config.few_turns):
            with tempfile.TemporaryDirectory() as out:
                arguments = {"root": str(root), "category": category, "device": str(device), "out": out}
                module = "pcsa.scripts.bench.supervised"
                starts.append(run_module(module, {**arguments, "threads": config.threads}))
        shapes = max(200 // config.shrink, 4)
        with tempfile.TemporaryDirectory() as folder:
            start = time.process_time()
            generate(Path(folder), ["chair"], shapes, num_points=max(config.points(2048), 256))
            generated = [time.process_time() - start]
    rows = [row(f"{shapes} procedural chairs, processor time", generated)]
    per_200 = [200 / shapes * t for t in generated]
    checks = [seconds("processor time of 200 procedural chairs", per_200, 30.0, GROUND)]
    for name, times, target in (("first reading", first, 2.0), ("from the cache", cached, 0.2)):
        processor_times = [processor for processor, _ in times]
        wall_time = duration(statistics.median(wall for _, wall in times))
        rows.append(row(f"{name}, processor time", processor_times, note=f"wall {wall_time}"))
        per_500 = [500 / count * t for t in processor_times]
        checks.append(seconds(f"processor time per 500 clouds, {name}", per_500, target, FAST))
    rows.append(row(f"training of one step on {category}, after imports", starts, note="start, step and checkpoint"))
    checks.append(seconds("start and first step", starts, 5.0, FAST))
    return [Result("data", f"Data: {count} clouds of {len(categories)} categories", rows, checks)]


def bench_step(config: BenchConfig, device: torch.device) -> list[Result]:
    """Time whole training steps in the trainer, and what they consist of."""
    # Imported here: it needs the libraries of training.
    from pcsa.scripts.bench.supervised import step_parts

    steps = 3 * config.turns
    rows, whole = [], []
    with _root(config) as root, _quiet():
        category = _category(_categories(root))
        for name, precompute, workers in (
            ("searches in the step", False, 0),
            ("searches done before", True, 0),
            (f"searches done before, {config.num_workers} loading", True, config.num_workers),
        ):
            parts = step_parts(root, category, precompute, workers, steps, device)
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
def _root(config: BenchConfig) -> Iterator[Path]:
    """Open a folder in KeypointNet's layout: the one given, the tests', or a temporary one of procedural clouds."""
    if config.root is not None:
        yield config.root
    elif os.environ.get("PCSA_TEST_DATA"):
        yield Path(os.environ["PCSA_TEST_DATA"]) / "keypointnet"
    else:
        from pcsa.datasets.procedural import generate

        with tempfile.TemporaryDirectory() as folder:
            generate(Path(folder), ["chair"], 40, num_points=max(config.points(2048), 256))
            yield Path(folder)


def _categories(root: Path) -> list[str]:
    categories = sorted(path.stem for path in (root / "annotations").glob("*.json"))
    if not categories:
        raise FileNotFoundError(
            f"`root` (={str(root)!r}) must be in KeypointNet's layout: it has no annotations/*.json"
        )
    return categories


def _category(categories: list[str]) -> str:
    """Choose the one to train on."""
    return "bed" if "bed" in categories else categories[0]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep back the log lines of each reading and each training."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
