"""A whole training and its score, in the process that this module runs in: its seconds, its step, its peak memory."""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from pcsa.scripts import evaluate
from pcsa.tasks import get_task


def train_and_score(
    out: str,
    device: str,
    precision: str,
    steps: int,
    num_workers: int,
    cuda_graph: bool = False,
    root: str | None = None,
    category: str = "chair",
    num_shapes: int = 150,
) -> dict[str, Any]:
    """Train the default preset into the folder ``out``, and score it on the clouds of its split test, else val.

    Without ``root``, on so many procedural shapes. Reading (or drawing) them for the first time is not timed.

    Returns:
        ``seconds`` from the start to the last checkpoint, ``step`` (median of the later half of the steps, in seconds),
        ``peak_bytes`` of the allocator (None on a CPU), and ``pck``, the share of keypoints within 0.01, in percent,
        on the clouds of ``split``: val where a folder lacks those of test.
    """
    logging.disable(logging.WARNING)
    task = get_task("supervised")
    preset = task.presets["default"]
    data = replace(preset.data, root=None if root is None else Path(root), category=category, num_shapes=num_shapes)
    trainer = replace(
        preset.trainer,
        accelerator="gpu" if device == "cuda" else "cpu",
        precision=precision,
        num_workers=num_workers,
        progress=False,
        # The score comes after the training.
        validate_every=10**6,
        cuda_graph=cuda_graph,
    )
    optimizer = replace(preset.optimizer, steps=steps)
    config = replace(preset, data=data, trainer=trainer, optimizer=optimizer, out=Path(out))
    task.training(config)
    on_card = device == "cuda"
    if on_card:
        torch.cuda.reset_peak_memory_stats()
    ends: list[float] = []
    handle = register_optimizer_step_post_hook(lambda *_: ends.append(time.perf_counter()))
    start = time.perf_counter()
    try:
        checkpoint = task.train(config)
    finally:
        handle.remove()
    if on_card:
        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    peak = torch.cuda.max_memory_allocated() if on_card else None
    later = [b - a for a, b in itertools.pairwise(ends)][len(ends) // 2 :]
    # What the parent reads is the last line that is printed.
    with contextlib.redirect_stdout(sys.stderr):
        split = _score(checkpoint, device)
    metrics: dict[str, Any] = json.loads((checkpoint.parent / f"metrics-{split}.json").read_text())
    pck = 100 * metrics["overall"]["euclidean"]["pck"][metrics["thresholds"].index(0.01)]
    step = statistics.median(later) if later else None
    return {"seconds": seconds, "step": step, "peak_bytes": peak, "pck": pck, "split": split}


def _score(checkpoint: Path, device: str) -> str:
    """Write the metrics of the split test, or of val where the clouds of test are not there; say which."""
    flags = ["--device", device, "--no-progress", "--no-geodesic"]
    split = "test"
    try:
        status = evaluate.main([str(checkpoint), "--split", split, *flags])
    except FileNotFoundError:
        split = "val"
        status = evaluate.main([str(checkpoint), "--split", split, *flags])
    if status:
        raise RuntimeError(f"the score of {checkpoint} is not complete")
    return split


if __name__ == "__main__":
    print(json.dumps(train_and_score(**json.loads(sys.argv[1]))))
