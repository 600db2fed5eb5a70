"""``pcsa train supervised``."""

from __future__ import annotations

import tyro
from lightning.fabric.utilities.rank_zero import rank_zero_only

from pcsa.training import DataConfig, ObjectiveConfig, OptimizerConfig, SupervisedConfig, train_supervised

PRESETS = {
    # Sampling-argmax with the settings of the README's table.
    "sampling": SupervisedConfig(),
    # Its baseline: the same but for the objective.
    "soft": SupervisedConfig(objective=ObjectiveConfig(method="soft")),
    # What `make demo` runs: about two minutes on two cores.
    "demo": SupervisedConfig(data=DataConfig(num_shapes=200), optimizer=OptimizerConfig(steps=250)),
}


def main(argv: list[str]) -> int:
    """Parse options over a preset and train."""
    if not argv or argv[0] != "supervised":
        raise ValueError(f"`train` (={argv[0] if argv else ''!r}) must be followed by 'supervised'")
    preset, rest = "sampling", argv[1:]
    if rest and not rest[0].startswith("-"):
        preset, rest = rest[0], rest[1:]
    if preset not in PRESETS:
        raise ValueError(f"`preset` (={preset!r}) must be one of {', '.join(PRESETS)}")
    config = tyro.cli(
        SupervisedConfig,
        default=PRESETS[preset],
        args=rest,
        prog=f"pcsa train supervised {preset}",
        description=f"Train a keypoint detector on labelled clouds. Presets: {', '.join(PRESETS)}.",
    )
    checkpoint = train_supervised(config)
    # With several devices, each process runs this.
    rank_zero_only(print)(f"trained: {checkpoint}\nnext:    pcsa evaluate {checkpoint}")
    return 0
