"""``pcsa compare``: compare the objectives of a task, each with several seeds."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from pcsa.scripts.evaluate import evaluate
from pcsa.scripts.once import train_once
from pcsa.scripts.runs import pick_device
from pcsa.scripts.train import parse_training
from pcsa.tasks import get_task
from pcsa.tasks.common.backbone import trust_in
from pcsa.tasks.common.config import TrainConfig
from pcsa.tasks.common.run import open_run
from pcsa.tasks.common.tables import markdown_table
from pcsa.tasks.common.task import Details, Task


@dataclass(frozen=True)
class CompareConfig:
    """Train and score the objectives of a task, soft-argmax and sampling-argmax among them, with several seeds each.

    After `--` follow the options of the training: a preset, and options over it.
    """

    task: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="TASK")]
    """Name of the task, as in `pcsa train`."""
    methods: tuple[str, ...] = ()
    """Names of the objectives, such as soft or "sampling, triangular"; default all that the task has, for supervised
    soft, sampling and cross_entropy."""
    seeds: int = 3
    """Number of seeds of every objective: 0, 1, …"""
    split: Literal["val", "test"] | None = None
    """Items to score; default test, or val where test has no labels."""
    thresholds: tuple[float, ...] | None = None
    """Thresholds of the PCK or mIoU, in the units of the clouds; default those of `pcsa evaluate`."""
    out: Path = Path("runs/compare")
    """Folder of the runs; finished runs are not repeated."""


def main(argv: list[str]) -> int:
    """Parse options, train, score, print the table."""
    cut = argv.index("--") if "--" in argv else len(argv)
    config = tyro.cli(CompareConfig, args=argv[:cut], prog="pcsa compare")
    preset = get_task(config.task).compared
    _check_training(get_task(config.task), argv[cut + 1 :])
    print(compare(config, *parse_training([config.task, *argv[cut + 1 :]], "compare", preset)))
    return 0


def _check_training(task: Task[Any, Any], argv: list[str]) -> None:
    """Refuse options of the training that each run of the comparison has its own value of."""
    of_methods = {f"--objective.{name}": "methods" for method in task.methods.values() for name in method}
    own = {"--out": "out", "--seed": "seeds", "--resume": "out", "--no_resume": "out", **of_methods}
    for argument in argv:
        name = argument.split("=")[0].replace("-", "_").replace("__", "--", 1)
        if name in own:
            raise ValueError(
                f"`{argument.split('=')[0]}` after -- must not be given: `pcsa compare` sets it for each run, see its "
                f"own `{own[name]}`"
            )


def compare(config: CompareConfig, task: Task[Any, Any], training: TrainConfig) -> str:
    """Train and score all runs that have no scores yet, and return the table."""
    if config.seeds < 1:
        raise ValueError(f"`seeds` (={config.seeds}) must be at least 1")
    if config.thresholds is not None and "thresholds" not in {f.name for f in fields(task.evaluate_options)}:
        raise ValueError(f"`thresholds` (={config.thresholds}) must not be given for {task.name}: its own are fixed")
    for name in config.methods:
        if name not in task.methods:
            raise ValueError(f"`methods` (={name!r}) must be out of {', '.join(map(repr, task.methods))}")
    names = config.methods or task.compared_methods or tuple(task.methods)
    # Before the first training: an objective may not fit the options of the others.
    planned = {name: replace(training, objective=replace(training.objective, **task.methods[name])) for name in names}
    asked = config.split or ("test" if "test" in task.splits(training) else None)
    split = task.scored_split(training, asked)
    found = {
        name: [_run(config, task, once, name, seed, split) for seed in range(config.seeds)]
        for name, once in planned.items()
    }
    # What no run has, such as PCKh without heads, makes no column.
    scored = next(iter(found.values()))[0][0]
    columns = [
        c for c in task.columns_of(scored) if any(c.value(m) is not None for runs in found.values() for m, _ in runs)
    ]
    rows = []
    for name, runs in found.items():
        seconds = [taken for _, taken in runs]
        cells = [_spread([column.value(metrics) for metrics, _ in runs]) for column in columns]
        rows.append([name, *cells, f"{min(seconds):.0f}-{max(seconds):.0f}"])
    table = markdown_table(["objective", *(column.title for column in columns), "seconds"], rows)
    details = _details({name: [task.details(metrics) for metrics, _ in runs] for name, runs in found.items()})
    return f"{table}\n\n{details}" if details else table


def _details(found: Mapping[str, Sequence[Details]]) -> str:
    """The table of what there is beside the columns: the rows of each objective, then what bounds all of them."""
    first = next(iter(found.values()))[0]
    heads = list(dict.fromkeys(head for row in (*first.rows.values(), *first.bounds.values()) for head in row))
    rows = [
        [name, title, *(_spread([run.rows.get(title, {}).get(head) for run in runs]) for head in heads)]
        for name, runs in found.items()
        for title in runs[0].rows
    ]
    # These are the same for all.
    for title, bound in first.bounds.items():
        values = [bound.get(head) for head in heads]
        rows.append(["any", title, *("–" if value is None else f"{value:.3g}" for value in values)])
    return markdown_table(["objective", "figures of", *heads], rows) if rows else ""


def _run(
    config: CompareConfig,
    task: Task[Any, Any],
    once: TrainConfig,
    name: str,
    seed: int,
    split: Literal["val", "test"],
) -> tuple[dict[str, Any], float]:
    """Train a run unless that is done, score it, and return its scores and the seconds that training took."""
    out = config.out / task.name / f"{name.replace(', ', '-').replace(' ', '-').lower()}-{seed}"
    checkpoint, seconds = train_once(task, replace(once, seed=seed, out=out))
    # The options name the network, or the checkpoint is not of this run.
    run = open_run(checkpoint, pick_device("auto"), trust=trust_in(once))
    # Objectives are compared on the same items, all of them.
    asked: dict[str, Any] = {} if config.thresholds is None else {"thresholds": config.thresholds}
    return evaluate(run, task.evaluate_options(checkpoint, split=split, strict=True, **asked)), seconds


def _spread(values: list[float | None]) -> str:
    """Write the mean and half of the range."""
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return "–"
    return f"{statistics.fmean(known):.3g} ± {(max(known) - min(known)) / 2:.2g}"
