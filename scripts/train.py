"""``pcsa train``: train a preset of a task, with options over it."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import tyro
from lightning.fabric.utilities.rank_zero import rank_zero_only

from pcsa.tasks import get_task, task_names
from pcsa.tasks.common.config import TrainConfig
from pcsa.tasks.common.config_file import read_configuration
from pcsa.tasks.common.sources import with_beginning
from pcsa.tasks.common.task import Task


def main(argv: list[str]) -> int:
    """Parse options over a preset and train."""
    if not argv or argv[0] in ("-h", "--help"):
        print("usage: pcsa train TASK [PRESET] [options]      (pcsa train TASK --help lists a task's options)\n")
        for name in task_names():
            task = get_task(name)
            print(f"  {name:14}{task.title}\n{'':16}presets: {', '.join(task.presets)}")
        return 0 if argv else 2
    task, config = parse_training(argv, "train")
    checkpoint = task.train(with_beginning(config))
    # With several devices, each process runs this.
    rank_zero_only(print)(f"trained: {checkpoint}\nnext:    pcsa evaluate {shlex.quote(str(checkpoint))}")
    return 0


def parse_training(argv: list[str], command: str, preset: str | None = None) -> tuple[Task[Any, Any], TrainConfig]:
    """Parse a task, one of its presets and options over it, in this order.

    Without a preset in ``argv`` it is ``preset``, else the first of the task. What the file of ``--config`` has takes
    the place of what the preset has.
    """
    task, rest = get_task(argv[0]), argv[1:]
    chosen = preset or next(iter(task.presets))
    if rest and not rest[0].startswith("-"):
        chosen, rest = rest[0], rest[1:]
    if chosen not in task.presets:
        raise ValueError(f"`preset` (={chosen!r}) must be one of {', '.join(task.presets)}")
    file, rest = _taken(rest)
    default = task.presets[chosen]
    config = tyro.cli(
        task.config_type,
        default=default if file is None else read_configuration(file, task.name, default),
        args=rest,
        prog=f"pcsa {command} {task.name} {chosen}",
        description=f"Train {task.title}. Presets: {', '.join(task.presets)}. --config FILE, before or after other "
        "options, begins with those in a .yaml or .json file, such as the config.yaml of a run.",
    )
    return task, config


def _taken(argv: list[str]) -> tuple[Path | None, list[str]]:
    """Take ``--config FILE`` out of options: the file is read before the others are parsed."""
    rest, files = [], []
    arguments = iter(argv)
    for argument in arguments:
        name, given, value = argument.partition("=")
        if name != "--config":
            rest.append(argument)
        elif given or (value := next(arguments, "")):
            files.append(Path(value))
    if "--config" in argv[-1:] or len(files) > 1:
        raise ValueError(f"`config` (={[*map(str, files)]}) must name one file")
    return (files[0] if files else None), rest
