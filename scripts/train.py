"""``pcsa train``: keypoints of clouds with and without labels, and the four grid tasks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import tyro
from lightning.fabric.utilities.rank_zero import rank_zero_only

from pcsa.datasets.crops import CropAugment
from pcsa.grid_training import (
    GridConfig,
    GridObjectiveConfig,
    GridOptimizerConfig,
    LandmarkModelConfig,
    LandmarksConfig,
    OctConfig,
    OctData,
    Pose2dConfig,
    Pose2dData,
    Pose3dConfig,
    Pose3dData,
    PoseModelConfig,
    SurfaceModelConfig,
    train_grid,
)
from pcsa.training import DataConfig, ObjectiveConfig, OptimizerConfig, SupervisedConfig, train_supervised
from pcsa.unsupervised import (
    ReconstructionConfig,
    ShapesConfig,
    SkeletonConfig,
    UnsupervisedConfig,
    UnsupervisedOptimizerConfig,
    train_unsupervised,
)

PRESETS = {
    # Sampling-argmax with the settings of the README's table.
    "sampling": SupervisedConfig(),
    # Its baseline: the same but for the objective.
    "soft": SupervisedConfig(objective=ObjectiveConfig(method="soft")),
    # What `make demo` runs: about two minutes on two cores.
    "demo": SupervisedConfig(data=DataConfig(num_shapes=200), optimizer=OptimizerConfig(steps=250)),
}

UNSUPERVISED_PRESETS = {
    # What trained best on the real clouds.
    "default": UnsupervisedConfig(),
    # The same without samples.
    "soft": UnsupervisedConfig(objective=ReconstructionConfig(read_out="soft")),
    # The networks and settings of Skeleton Merger's code, with the samples of the sampling-argmax paper; its schedule
    # of the temperature is only known for images.
    "paper": UnsupervisedConfig(
        model=SkeletonConfig(scales="released", competition=True, anchors="none", box_features=False),
        objective=ReconstructionConfig(
            num_samples=30,
            temperature_start=2.0,
            temperature_end=0.5,
            noise="released",
            bandwidth=0.01,
            num_loss_points=None,
        ),
        optimizer=UnsupervisedOptimizerConfig(kind="adadelta", lr=1.0, schedule="constant", epochs=80, clip=0.0),
    ),
    # A few minutes on two cores.
    "demo": UnsupervisedConfig(data=ShapesConfig(num_shapes=200), optimizer=UnsupervisedOptimizerConfig(steps=200)),
}

# The schedule of the paper's code for COCO. Its temperature falls by epochs, from 2 to 0.5 within the first 25.
_PUBLISHED_OBJECTIVE = GridObjectiveConfig(
    norm="l1", num_samples=30, temperature="linear", temperature_start=2.0, temperature_end=0.5, temperature_epochs=25
)
_PUBLISHED_OPTIMIZER = GridOptimizerConfig(
    batch_size=32, lr=1e-3, schedule="milestones", milestones=(90, 120), epochs=140, clip=0.0
)

# Procedural data, on two cores: what `quick` learns within one minute and a half, and `small` within five.
_QUICK: dict[str, GridConfig] = {
    "pose2d": Pose2dConfig(
        data=Pose2dData(augment=CropAugment(scale=0.2, rotation=15.0)), optimizer=GridOptimizerConfig(steps=400)
    ),
    "pose3d": Pose3dConfig(
        model=PoseModelConfig(network="unet"), optimizer=GridOptimizerConfig(steps=400, batch_size=8)
    ),
    "oct": OctConfig(
        objective=GridObjectiveConfig(num_samples=5), optimizer=GridOptimizerConfig(steps=450, batch_size=4)
    ),
    "landmarks": LandmarksConfig(optimizer=GridOptimizerConfig(steps=450)),
}
_SMALL = {
    task: replace(quick, optimizer=replace(quick.optimizer, steps=3 * quick.optimizer.steps))
    for task, quick in _QUICK.items()
}

GRID_PRESETS: dict[str, dict[str, GridConfig]] = {
    "pose2d": {
        "small": _SMALL["pose2d"],
        "quick": _QUICK["pose2d"],
        "published": Pose2dConfig(
            data=Pose2dData(input_size=(256, 192)),
            model=PoseModelConfig(layers="50"),
            objective=_PUBLISHED_OBJECTIVE,
            optimizer=_PUBLISHED_OPTIMIZER,
        ),
    },
    "pose3d": {
        "small": _SMALL["pose3d"],
        "quick": _QUICK["pose3d"],
        "image": Pose3dConfig(
            data=Pose3dData(procedural="image", input_size=(64, 96, 72)), optimizer=GridOptimizerConfig(steps=1200)
        ),
        # Human3.6M by the same schedule: the paper names no other.
        "published": Pose3dConfig(
            data=Pose3dData(input_size=(256, 256, 256)),
            model=PoseModelConfig(layers="50"),
            objective=_PUBLISHED_OBJECTIVE,
            optimizer=_PUBLISHED_OPTIMIZER,
        ),
    },
    "oct": {
        "small": _SMALL["oct"],
        "quick": _QUICK["oct"],
        "large": OctConfig(
            data=OctData(input_size=(496, 128)),
            model=SurfaceModelConfig(channels=(32, 64, 128, 256, 512)),
            optimizer=GridOptimizerConfig(steps=20_000, batch_size=8, lr=1e-3),
        ),
    },
    "landmarks": {
        "small": _SMALL["landmarks"],
        "quick": _QUICK["landmarks"],
        "large": LandmarksConfig(
            model=LandmarkModelConfig(channels=(64, 128, 256, 256)),
            optimizer=GridOptimizerConfig(steps=20_000, batch_size=64, lr=1e-3),
        ),
    },
}


def main(argv: list[str]) -> int:
    """Parse options over a preset and train."""
    what = argv[0] if argv else ""
    if what == "supervised":
        checkpoint = train_supervised(_parse("a keypoint detector on labelled clouds", PRESETS, argv))
    elif what == "unsupervised":
        checkpoint = train_unsupervised(_parse("a keypoint detector on unlabelled clouds", UNSUPERVISED_PRESETS, argv))
    elif what in GRID_PRESETS:
        checkpoint = train_grid(parse_grid(what, argv[1:]))
    else:
        tasks = ", ".join(map(repr, ("supervised", "unsupervised", *GRID_PRESETS)))
        raise ValueError(f"`train` (={what!r}) must be followed by one of {tasks}")
    # With several devices, each process runs this.
    rank_zero_only(print)(f"trained: {checkpoint}\nnext:    pcsa evaluate {checkpoint}")
    return 0


_GRID_DESCRIPTIONS = {
    "pose2d": "a network of people's joints in images (COCO, LSP, procedural figures)",
    "pose3d": "a network of people's joints in volumes and images (Human3.6M, procedural figures)",
    "oct": "a network of retinal surfaces in B-scans (your own, MSHC, procedural retinas)",
    "landmarks": "a network of landmarks of faces (MTFL, procedural faces)",
}


def parse_grid(task: str, args: list[str]) -> GridConfig:
    """A preset of a grid task, with options over it."""
    config: GridConfig = _parse(_GRID_DESCRIPTIONS[task], GRID_PRESETS[task], [task, *args])
    return config


def _parse(what: str, presets: dict[str, Any], argv: list[str]) -> Any:
    """The preset that ``argv`` names, else the first, with its options over it."""
    preset, rest = next(iter(presets)), argv[1:]
    if rest and not rest[0].startswith("-"):
        preset, rest = rest[0], rest[1:]
    if preset not in presets:
        raise ValueError(f"`preset` (={preset!r}) must be one of {', '.join(presets)}")
    return tyro.cli(
        type(presets[preset]),
        default=presets[preset],
        args=rest,
        prog=f"pcsa train {argv[0]} {preset}",
        description=f"Train {what}. Presets: {', '.join(presets)}.",
    )
