"""``pcsa train``: train a preset of a task, with options over it."""

from __future__ import annotations

import shlex
from typing import Any

import tyro
from lightning.fabric.utilities.rank_zero import rank_zero_only

from pcsa.tasks import get_task, task_names
from pcsa.tasks.common.config import TrainConfig
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
    checkpoint = task.train(config)
    # With several devices, each process runs this.
    rank_zero_only(print)(f"trained: {checkpoint}\nnext:    pcsa evaluate {shlex.quote(str(checkpoint))}")
    return 0


def parse_training(argv: list[str], command: str, preset: str | None = None) -> tuple[Task[Any, Any], TrainConfig]:
    """Parse a task, one of its presets and options over it, in this order.

    Without a preset in ``argv`` it is ``preset``, else the first of the task.
    """
    task, rest = get_task(argv[0]), argv[1:]
    chosen = preset or next(iter(task.presets))
    if rest and not rest[0].startswith("-"):
        chosen, rest = rest[0], rest[1:]
    if chosen not in task.presets:
        raise ValueError(f"`preset` (={chosen!r}) must be one of {', '.join(task.presets)}")
    config = tyro.cli(
        task.config_type,
        default=task.presets[chosen],
        args=rest,
        prog=f"pcsa {command} {task.name} {chosen}",
        description=f"Train {task.title}. Presets: {', '.join(task.presets)}.",
    )
    return task, config
