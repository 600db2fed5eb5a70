"""``pcsa animate``: show how samples move as the temperature falls and training proceeds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro

from pcsa._core.checks import check_count, check_positive
from pcsa.scripts.runs import open_cloud_run
from pcsa.tasks.common.clouds import up_of
from pcsa.tasks.common.config import SamplerConfig
from pcsa.tasks.common.located_clouds import cloud_bandwidth
from pcsa.tasks.common.objective import bases_of
from pcsa.viz import Scene, Stage, sampling_frames, save_animation


@dataclass(frozen=True)
class AnimateConfig:
    """Show how samples move as the temperature falls and, with several checkpoints, training proceeds."""

    checkpoints: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """One checkpoint at falling temperatures, or several of one run, each at the temperature of its step; a run, a
    shared model or owner/name on the Hugging Face hub will do, too."""
    out: Path = Path("sampling.gif")
    """File of the animation: a .gif, or an .html with a slider."""
    root: Path | None = None
    """Another root of the same category; default that of the training."""
    split: Literal["train", "val", "test"] = "val"
    """Split of the cloud."""
    shape: int = 0
    """Index of the cloud in its split."""
    num_samples: int = 60
    """Samples of every keypoint."""
    frames: int = 24
    """Number of temperatures, with one checkpoint."""
    temperature_start: float | None = None
    """First temperature, with one checkpoint; default as in the training, or 2 if constant there."""
    temperature_end: float | None = None
    """Last temperature, with one checkpoint; default as in the training."""
    seconds: float | None = None
    """Seconds per picture of a GIF; default 0.15, or 0.8 with several checkpoints."""
    device: str = "auto"
    """Device: cpu, cuda or auto."""
    trust_backbone: bool = False
    """Import the network outside of pcsa that a checkpoint names, and run its code."""


def main(argv: list[str]) -> int:
    """Parse options, draw the animation, say where."""
    config = tyro.cli(AnimateConfig, args=argv, prog="pcsa animate")
    seconds = config.seconds or (0.15 if len(config.checkpoints) == 1 else 0.8)
    save_animation(config.out, frames(config), seconds=seconds)
    print(f"written: {config.out}")
    return 0


def frames(config: AnimateConfig) -> list[Scene]:
    """Make the scenes of the animation."""
    if not config.checkpoints:
        raise ValueError("`checkpoints` must name at least one file")
    if config.out.suffix not in (".gif", ".html"):
        raise ValueError(f"`out` (={config.out}) must end in .gif or .html")
    check_count("num_samples", config.num_samples)
    check_count("frames", config.frames)
    opened = [open_cloud_run(path, config.device, trust=config.trust_backbone) for path in config.checkpoints]
    task, first = opened[0]
    runs = sorted((run for _, run in opened), key=lambda run: run.step)
    for run in runs:
        if run.task is not task or run.labels != first.labels:
            raise ValueError(
                f"`checkpoints`: `{run.path}` must have the task, category and keypoints of `{first.path}`"
            )
    dataset = task.annotated(first, config.split, config.root)
    if not 0 <= config.shape < len(dataset):
        raise ValueError(f"`shape` (={config.shape}) must be from 0 to {len(dataset) - 1}, as {dataset} has")
    cloud = dataset[config.shape]

    stages, objective = [], runs[-1].config.objective
    for run in runs:
        located = task.locate(run, [cloud.pos], "expectation")
        logits, t = located.logits[0], run.temperature
        if len(runs) == 1:
            stages += [Stage(f"temperature {t:.2f}", logits, t) for t in _temperatures(config, objective)]
        else:
            stages.append(Stage(f"step {run.step}, temperature {t:.2f}", logits, t))
    return sampling_frames(
        cloud.pos,
        stages,
        num_samples=config.num_samples,
        tempering=objective.tempering,
        bandwidth=cloud_bandwidth(bases_of(runs[-1].config), cloud.pos, task.frame),
        note=f"{dataset.category} {cloud.model_id}",
        up=up_of(runs[-1].labels),
        **task.about(runs[-1], located, 0, cloud),
    )


def _temperatures(config: AnimateConfig, objective: SamplerConfig) -> list[float]:
    constant = objective.temperature == "constant"
    first = config.temperature_start or (2.0 if constant else objective.temperature_start)
    last = config.temperature_end or objective.final_temperature
    check_positive("temperature_start", first)
    check_positive("temperature_end", last)
    return [float(t) for t in np.geomspace(first, last, config.frames)]
