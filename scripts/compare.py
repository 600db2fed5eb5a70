"""``pcsa compare``: the objectives against each other on one grid task, each with several seeds."""

from __future__ import annotations

import dataclasses
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from pcsa.grid_training import GridConfig, train_grid
from pcsa.scripts.evaluate_grid import EvaluateGridConfig, evaluate_grid, split_of
from pcsa.scripts.train import GRID_PRESETS, parse_grid
from pcsa.training import check_resumable, write_json

# Name to what it changes in the objective of the preset.
METHODS: dict[str, dict[str, Any]] = {
    "soft": {"method": "soft", "regularization": "none"},
    "soft, variance": {"method": "soft", "regularization": "variance"},
    "soft, Jensen-Shannon": {"method": "soft", "regularization": "js"},
    "sampling, uniform": {"method": "sampling", "regularization": "none", "basis": "uniform"},
    "sampling, triangular": {"method": "sampling", "regularization": "none", "basis": "triangular"},
    "sampling, Gaussian": {"method": "sampling", "regularization": "none", "basis": "gaussian"},
}

# Of each task: what its table shows, and how.
COLUMNS: dict[str, list[tuple[str, str, float]]] = {
    "pose2d": [
        ("AP", "average_precision.AP", 100),
        ("PCK@0.1", "pck_torso@0.1", 100),
        ("PCK@0.2", "pck_torso@0.2", 100),
    ],
    "pose3d": [("MPJPE (mm)", "mpjpe_mm", 1), ("PA-MPJPE (mm)", "pa_mpjpe_mm", 1)],
    "oct": [("MAD (px)", "mean_px", 1), ("std (px)", "std_px", 1)],
    "landmarks": [("NME (%)", "nme", 100), ("failures (%)", "failure_rate@0.1", 100)],
}
_EVERYWHERE = [("Pearson r", "calibration.pearson", 1.0)]


@dataclass(frozen=True)
class CompareConfig:
    """Train and score soft-argmax, its regularized variants and sampling-argmax with each basis."""

    seeds: int = 3
    """Seeds 0, 1, … of every method."""
    methods: tuple[str, ...] = tuple(METHODS)
    """Out of "soft", "soft, variance", "soft, Jensen-Shannon", "sampling, uniform", "sampling, triangular" and
    "sampling, Gaussian"."""
    split: Literal["val", "test"] | None = None
    """Scored on; default test, of COCO val."""
    out: Path = Path("runs/compare")
    """Folder of the runs; those that are done are not done again."""


def main(argv: list[str]) -> int:
    """Parse options, train, score, print the table."""
    task = argv[0] if argv else ""
    if task not in GRID_PRESETS:
        raise ValueError(f"`compare` (={task!r}) must be followed by one of {', '.join(GRID_PRESETS)}")
    # What follows `--` is the training's: a preset, by default the shortest one, and options over it.
    cut = argv.index("--") if "--" in argv else len(argv)
    config = tyro.cli(CompareConfig, args=argv[1:cut], prog=f"pcsa compare {task}")
    rest = argv[cut + 1 :]
    named = bool(rest) and not rest[0].startswith("-")
    training = parse_grid(task, rest if named else ["quick", *rest])
    print(compare(config, task, training))
    return 0


def compare(config: CompareConfig, task: str, training: GridConfig) -> str:
    """The table, after all runs that it needs."""
    if config.seeds < 1:
        raise ValueError(f"`seeds` (={config.seeds}) must be at least 1")
    for name in config.methods:
        if name not in METHODS:
            raise ValueError(f"`methods` (={name!r}) must be out of {', '.join(map(repr, METHODS))}")
    split_of(training.data, config.split)
    columns = [name for name, _, _ in (*COLUMNS[task], *_EVERYWHERE)]
    lines = ["| objective | " + " | ".join(columns) + " | seconds |"]
    lines.append("|---" * (len(columns) + 2) + "|")
    for name in config.methods:
        results = [_run(config, task, training, name, seed) for seed in range(config.seeds)]
        values = [table_values(result) for result in results]
        cells = [_spread([row[column] for row in values]) for column in columns]
        seconds = [result["seconds"] for result in results]
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {min(seconds):.0f}-{max(seconds):.0f} |")
    return "\n".join(lines)


def _run(config: CompareConfig, task: str, training: GridConfig, name: str, seed: int) -> dict[str, Any]:
    """The scores of one run, trained if it has none yet, and the seconds that training took."""
    out = config.out / task / f"{name.replace(', ', '-').replace(' ', '-').lower()}-{seed}"
    objective = dataclasses.replace(training.objective, **METHODS[name])
    once = dataclasses.replace(training, objective=objective, seed=seed, out=out)
    timing = out / "seconds.json"
    checkpoint = out / "last.ckpt"
    if checkpoint.exists():
        # Also a run that is done: its scores are not those of other options.
        check_resumable(once, checkpoint, f"pcsa {task}")
    if not timing.exists():
        start = time.perf_counter()
        # A run that was cut off goes on; the time is then that of the rest.
        checkpoint = train_grid(dataclasses.replace(once, resume=checkpoint.exists()))
        write_json(timing, time.perf_counter() - start)
    result = evaluate_grid(EvaluateGridConfig(checkpoint, split=config.split))
    return {**result, "seconds": float(timing.read_text())}


def table_values(result: dict[str, Any]) -> dict[str, float | None]:
    """What a table shows of the scores of a run, by the names of its columns."""
    found = {}
    for name, key, factor in (*COLUMNS[result["task"]], *_EVERYWHERE):
        value = _at(result, key)
        found[name] = None if value is None else factor * value
    return found


def _at(result: dict[str, Any], key: str) -> float | None:
    value: Any = result
    for part in [key] if "@" in key else key.split("."):  # thresholds have points too
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _spread(values: list[float | None]) -> str:
    """Mean, and half of the range."""
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return "undefined"
    return f"{statistics.fmean(known):.3g} ± {(max(known) - min(known)) / 2:.2g}"
