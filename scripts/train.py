"""``pcsa train supervised`` and ``pcsa train unsupervised``."""

from __future__ import annotations

from typing import Any

import tyro
from lightning.fabric.utilities.rank_zero import rank_zero_only

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


def main(argv: list[str]) -> int:
    """Parse options over a preset and train."""
    what = argv[0] if argv else ""
    if what == "supervised":
        checkpoint = train_supervised(_parse(SupervisedConfig, "labelled", PRESETS, argv))
    elif what == "unsupervised":
        checkpoint = train_unsupervised(_parse(UnsupervisedConfig, "unlabelled", UNSUPERVISED_PRESETS, argv))
    else:
        raise ValueError(f"`train` (={what!r}) must be followed by 'supervised' or 'unsupervised'")
    # With several devices, each process runs this.
    rank_zero_only(print)(f"trained: {checkpoint}\nnext:    pcsa evaluate {checkpoint}")
    return 0


def _parse(config_type: type, clouds: str, presets: dict[str, Any], argv: list[str]) -> Any:
    """The preset that ``argv`` names, else the first, with its options over it."""
    preset, rest = next(iter(presets)), argv[1:]
    if rest and not rest[0].startswith("-"):
        preset, rest = rest[0], rest[1:]
    if preset not in presets:
        raise ValueError(f"`preset` (={preset!r}) must be one of {', '.join(presets)}")
    return tyro.cli(
        config_type,
        default=presets[preset],
        args=rest,
        prog=f"pcsa train {argv[0]} {preset}",
        description=f"Train a keypoint detector on {clouds} clouds. Presets: {', '.join(presets)}.",
    )
