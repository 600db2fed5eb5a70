"""``pcsa view``: leaf through clouds and their keypoints in a window, or on a page in a browser."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro
from torch_geometric.data import Data

from pcsa._core.checks import check_count, check_positive
from pcsa.datasets.files import find_files
from pcsa.datasets.points import CLOUDS, MESHES
from pcsa.localization import ReadOut
from pcsa.scripts.runs import open_cloud_run
from pcsa.tasks.common.categories import of_category
from pcsa.tasks.common.clouds import LAYERS, CloudTask, read_input
from pcsa.tasks.common.given_clouds import give, locate_given, note_of, points_to_sample
from pcsa.tasks.common.task import Checkpoint, Run
from pcsa.viz import Scene, show
from pcsa.viz.browser import ViewPage


@dataclass(frozen=True)
class ViewConfig:
    """Leaf through clouds and their keypoints in a window, or on a page in a browser."""

    checkpoint: Checkpoint
    data: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """A root in KeypointNet's layout, or files and folders as in `pcsa predict`."""
    recursive: bool = False
    """Also look into the sub-folders of folders."""
    columns: str | None = None
    """Names of the columns of .xyz, .txt, .npy and the like, for instance "x y z label"."""
    drop_invalid: bool = False
    """Leave out points that are not finite; without it, a cloud that has some is refused."""
    split: Literal["train", "val", "test"] = "val"
    """Split of a root."""
    category: str | None = None
    """Show the keypoints of this category only, for a detector of several."""
    read_out: ReadOut = "expectation"
    """Way to read a keypoint from its map, see pcsa.localize."""
    radius: float | None = None
    """Radius of the ball that a keypoint is read by, in units of the clouds, as in `pcsa evaluate`."""
    num_samples: int = 0
    """Samples to draw for every keypoint, at the temperature that the training ended with."""
    folder: Path = Path()
    """Folder for screenshots."""
    device: str = "auto"
    """Device: cpu, cuda or auto."""
    trust_backbone: bool = False
    """Import the network outside of pcsa that a checkpoint names, and run its code."""
    browser: bool = False
    """Serve a page for a browser in place of the window: no display is needed, and SSH can forward it."""
    host: str = "127.0.0.1"
    """Interface that serves the page. With 0.0.0.0, whoever reaches this machine sees it."""
    port: int = 8080
    """Port of the page; if it is taken, one of the next."""


def main(argv: list[str]) -> int:
    """Parse options, open the window, wait until it is closed."""
    config = tyro.cli(ViewConfig, args=argv, prog="pcsa view")
    check_count("num_samples", config.num_samples, 0)
    if config.radius is not None:
        check_positive("radius", config.radius)
    task, run = open_cloud_run(config.checkpoint, config.device, trust=config.trust_backbone)
    scenes, layers = open_scenes(config, task, run), (*LAYERS, "samples")
    if not config.browser:
        show(scenes, layers=layers, folder=config.folder)
        return 0
    with (
        suppress(KeyboardInterrupt),
        ViewPage(scenes, layers=layers, host=config.host, port=config.port) as page,
    ):
        print(f"{len(scenes)} shapes at {page.url} (to end: its last button, or Ctrl-C)", flush=True)
        page.run()
    return 0


def open_scenes(config: ViewConfig, task: CloudTask[Any, Any], run: Run[Any, Any]) -> Lazy:
    """Return the scene of every cloud, predicted when it is asked for."""
    if config.category is not None:
        run = of_category(run, config.category)
    objective = run.config.objective
    options: dict[str, Any] = {}
    if config.num_samples:
        options = {"temperature": objective.final_temperature, "tempering": objective.tempering}
        options["num_samples"] = config.num_samples

    def scene(pos: torch.Tensor, *, annotated: Data | None = None, sampled: bool = False, **known: Any) -> Scene:
        # Annotations are of all points.
        given = give(pos, run.clouds, sampled=sampled, resample=annotated is None)
        located = locate_given(run, [given], config.read_out, config.radius)
        # A shape must look the same whenever it is shown.
        known |= {"generator": torch.Generator().manual_seed(0), "annotated": annotated, "note": note_of(given)}
        return task.scene(run, given.pos, located, 0, config.read_out, **known, **options)

    if len(config.data) == 1 and (config.data[0] / "annotations").is_dir():
        dataset = task.annotated(run, config.split, config.data[0])

        def labeled(place: int) -> Scene:
            cloud = dataset[place]
            return scene(cloud.pos, title=cloud.model_id, annotated=cloud)

        return Lazy(len(dataset), labeled)
    found = find_files(config.data, (*CLOUDS, *MESHES), recursive=config.recursive)
    if str(found):
        print(found)
    files = found.files

    def read(place: int) -> Scene:
        how: dict[str, Any] = {"drop_invalid": config.drop_invalid, "num_points": points_to_sample(run.clouds)}
        cloud = read_input(files[place], config.columns, **how)
        return scene(torch.from_numpy(cloud.points), sampled=cloud.is_sampled, title=files[place].name)

    return Lazy(len(files), read)


class Lazy:
    """Makes scenes when they are asked for, and keeps the last few."""

    def __init__(self, length: int, make: Callable[[int], Scene]) -> None:
        self.length, self.make = length, lru_cache(8)(make)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, place: int) -> Scene:
        return self.make(range(self.length)[place])
