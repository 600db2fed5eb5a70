"""``pcsa view``: leaf through clouds and their keypoints in a window."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, overload

import torch
import tyro

from pcsa.datasets.files import files_of
from pcsa.datasets.points import CLOUDS, MESHES, read_points
from pcsa.localization import ReadOut
from pcsa.models.detector import KeypointDetector
from pcsa.models.skeleton_merger import SkeletonMerger
from pcsa.scripts.evaluate import COMPARED, labelled_scene, pick_device
from pcsa.scripts.predict import locate, open_model, unlabelled_scene
from pcsa.training import DataConfig, open_dataset
from pcsa.viz import Scene, show


@dataclass(frozen=True)
class ViewConfig:
    """Leaf through clouds and their keypoints in a window."""

    checkpoint: Annotated[Path, tyro.conf.Positional]
    """Written by `pcsa train`."""
    data: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """A root in KeypointNet's layout, or files and folders as in `pcsa predict`."""
    split: Literal["train", "val", "test"] = "val"
    """Of a root."""
    read_out: ReadOut = "expectation"
    """See pcsa.localize."""
    num_samples: int = 0
    """Samples to draw for every keypoint, at the temperature that the training ended with."""
    folder: Path = Path()
    """Where screenshots go."""
    device: str = "auto"
    """cpu, cuda, or auto."""


def main(argv: list[str]) -> int:
    """Parse options, open the window, wait until it is closed."""
    config = tyro.cli(ViewConfig, args=argv, prog="pcsa view")
    if config.num_samples < 0:
        raise ValueError(f"`num-samples` (={config.num_samples}) must be at least 0")
    model, about = open_model(config.checkpoint, pick_device(config.device))
    scenes = open_scenes(config, model, about)
    show(scenes, layers=(*COMPARED, "samples"), folder=config.folder)
    return 0


def open_scenes(config: ViewConfig, model: KeypointDetector | SkeletonMerger, about: dict[str, Any]) -> Sequence[Scene]:
    """The scene of every cloud, predicted when it is asked for."""
    device = next(model.parameters()).device
    objective = about["config"]["objective"]
    options: dict[str, Any] = {}
    if config.num_samples:
        constant = objective["temperature"] == "constant"
        options = {
            "num_samples": config.num_samples,
            "temperature": objective["temperature_start" if constant else "temperature_end"],
            "noise": objective["noise"],
        }
    if len(config.data) == 1 and (config.data[0] / "annotations").is_dir():
        data = DataConfig(root=config.data[0], category=about["category"])
        # Keypoints found without labels have no annotations to stand beside.
        ids = tuple(about["semantic_ids"]) if "semantic_ids" in about else None
        dataset = open_dataset(data, config.split, ids)

        def labelled(place: int) -> Scene:
            cloud = dataset[place]
            found, logits = locate(model, cloud.pos, config.read_out, device)
            if ids is None:
                return unlabelled_scene(
                    cloud.pos, logits, found, about, cloud.model_id, config.read_out, generator=_noise(), **options
                )
            return labelled_scene(cloud, logits, dataset, config.read_out, generator=_noise(), **options)

        return _Lazy(len(dataset), labelled)
    files = files_of(config.data, (*CLOUDS, *MESHES))

    def unlabelled(place: int) -> Scene:
        pos = read_points(files[place])
        found, logits = locate(model, pos, config.read_out, device)
        name = files[place].name
        return unlabelled_scene(pos, logits, found, about, name, config.read_out, generator=_noise(), **options)

    return _Lazy(len(files), unlabelled)


def _noise() -> torch.Generator:
    # A shape that is come back to looks as before.
    return torch.Generator().manual_seed(0)


class _Lazy(Sequence[Scene]):
    """Items that are made when they are asked for; the last few are kept."""

    def __init__(self, length: int, make: Callable[[int], Scene]) -> None:
        self.length, self.make = length, lru_cache(8)(make)

    def __len__(self) -> int:
        return self.length

    @overload
    def __getitem__(self, place: int) -> Scene: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Scene]: ...
    def __getitem__(self, place: int | slice) -> Scene | Sequence[Scene]:
        if isinstance(place, slice):
            return [self.make(i) for i in range(*place.indices(self.length))]
        return self.make(range(self.length)[place])
