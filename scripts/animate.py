"""``pcsa animate``: how samples tighten as the temperature falls and training proceeds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import tyro

import pcsa
from pcsa.datasets.transforms import Normalize
from pcsa.scripts.evaluate import pick_device
from pcsa.scripts.predict import locate
from pcsa.training import CHECKPOINT_KIND, DataConfig, load_about, load_detector, load_step, open_dataset
from pcsa.viz import Scene, Stage, sampling_frames, save_animation


@dataclass(frozen=True)
class AnimateConfig:
    """Show how samples tighten as the temperature falls and, with several checkpoints, training proceeds."""

    checkpoints: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Of one run, in any order: each at the temperature of its step. One alone: at falling temperatures."""
    out: Path = Path("sampling.gif")
    """A .gif, or an .html with a slider."""
    root: Path | None = None
    """Another root of the same category; default that of the training."""
    split: Literal["train", "val", "test"] = "val"
    shape: int = 0
    """Place of the cloud in its split."""
    num_samples: int = 60
    """Of every keypoint."""
    frames: int = 24
    """Temperatures, with one checkpoint."""
    temperature_start: float | None = None
    """With one checkpoint; default that of the training, or 2 where it was constant."""
    temperature_end: float | None = None
    """With one checkpoint; default that of the training."""
    seconds: float | None = None
    """Each picture is seen in a GIF; default 0.15, with several checkpoints 0.8."""
    device: str = "auto"
    """cpu, cuda, or auto."""


def main(argv: list[str]) -> int:
    """Parse options, draw, say where."""
    config = tyro.cli(AnimateConfig, args=argv, prog="pcsa animate")
    seconds = config.seconds or (0.15 if len(config.checkpoints) == 1 else 0.8)
    save_animation(config.out, frames(config), seconds=seconds)
    print(f"written: {config.out}")
    return 0


def frames(config: AnimateConfig) -> list[Scene]:
    """The scenes of the animation."""
    if not config.checkpoints:
        raise ValueError("`checkpoints` must name at least one file")
    if config.out.suffix not in (".gif", ".html"):
        raise ValueError(f"`out` (={config.out}) must end in .gif or .html")
    for name, number in (("num-samples", config.num_samples), ("frames", config.frames)):
        if number < 1:
            raise ValueError(f"`{name}` (={number}) must be at least 1")
    device = pick_device(config.device)
    about = load_about(config.checkpoints[-1], CHECKPOINT_KIND)
    data, objective = about["config"]["data"], about["config"]["objective"]
    root = config.root or (Path(data["root"]) if data["root"] else None)
    dataset = open_dataset(
        DataConfig(root=root, category=about["category"], num_shapes=data["num_shapes"]),
        config.split,
        tuple(about["semantic_ids"]),
    )
    if not 0 <= config.shape < len(dataset):
        raise ValueError(f"`shape` (={config.shape}) must be from 0 to {len(dataset) - 1}, as {dataset} has")
    cloud = dataset[config.shape]

    stages = []
    for checkpoint in sorted(config.checkpoints, key=load_step):
        detector, other = load_detector(checkpoint, device)
        if other["semantic_ids"] != about["semantic_ids"] or other["category"] != about["category"]:
            raise ValueError(f"`checkpoints`: `{checkpoint}` must have the category and keypoints of the others")
        _, logits = locate(detector, cloud.pos, "expectation", device)
        if len(config.checkpoints) == 1:
            stages += [Stage(f"temperature {t:.2f}", logits, t) for t in _temperatures(config, objective)]
        else:
            step = load_step(checkpoint)
            t = _temperature_at(other["config"], step)
            stages.append(Stage(f"step {step}, temperature {t:.2f}", logits, t))
    bandwidth = pcsa.knn_bandwidth(cloud.pos, scale=objective["bandwidth_scale"])
    if objective["bandwidth"] is not None:
        # It is in units of the normalized cloud.
        scale = Normalize("unit_sphere")(cloud.clone()).scale.item()
        bandwidth = torch.full_like(bandwidth, objective["bandwidth"] * scale)
    return sampling_frames(
        cloud.pos,
        stages,
        num_samples=config.num_samples,
        noise=objective["noise"],
        bandwidth=bandwidth,
        names=[str(n) for n in dataset.names],
        ids=dataset.semantic_ids,
        annotated=cloud.keypoints[0],
        visible=cloud.visible[0],
        present=cloud.visible[0],
        note=f"{dataset.category} {cloud.model_id}",
    )


def _temperatures(config: AnimateConfig, objective: dict[str, Any]) -> list[float]:
    constant = objective["temperature"] == "constant"
    end = objective["temperature_start" if constant else "temperature_end"]
    first = config.temperature_start or (2.0 if constant else objective["temperature_start"])
    last = config.temperature_end or end
    for name, value in (("temperature-start", first), ("temperature-end", last)):
        if not 0 < value < float("inf"):
            raise ValueError(f"`{name}` (={value}) must be positive and finite")
    return [float(t) for t in np.geomspace(first, last, config.frames)]


def _temperature_at(config: dict[str, Any], step: int) -> float:
    o = config["objective"]
    schedule = pcsa.TemperatureSchedule(
        o["temperature"],
        start=o["temperature_start"],
        end=o["temperature_start"] if o["temperature"] == "constant" else o["temperature_end"],
        num_steps=config["optimizer"]["steps"],
    )
    return schedule.at(step)
