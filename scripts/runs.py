"""What the commands that open a run share: its options, its device and its pages."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import tyro

from pcsa.tasks.common.clouds import CloudTask
from pcsa.tasks.common.devices import pick_device as pick_device
from pcsa.tasks.common.run import open_run
from pcsa.tasks.common.sources import checkpoint_of, name_of, open_source
from pcsa.tasks.common.task import EvaluateOptions, PredictOptions, Run, Task

Options = TypeVar("Options", EvaluateOptions, PredictOptions)

SHOWN = 20
"""Faults that are printed; the file has all of them."""


def parse_options(
    argv: list[str], command: str, of_all: type[Options], of_task: Callable[[Task[Any, Any]], type[Options]]
) -> tuple[Options, Run[Any, Any]]:
    """Parse the options of a command, and open the run whose checkpoint comes first among them.

    Each task has options of its own, which the checkpoint names. Help without a checkpoint shows those of all tasks.
    """
    prog = f"pcsa {command}"
    if not argv or argv[0].startswith("-"):
        description = f"{prog} CHECKPOINT --help shows the options of the checkpoint's task too."
        options = tyro.cli(of_all, args=argv, prog=prog, description=description)
        raise ValueError(f"`checkpoint` (={str(options.checkpoint)!r}) must come first, before all options")
    argv = [str(checkpoint_of(argv[0])), *argv[1:]]
    run = open_run(argv[0], trust=trusting(argv))
    options = tyro.cli(of_task(run.task), args=_ensemble_last(argv, inputs=of_all is PredictOptions), prog=prog)
    options = replace(options, ensemble=tuple(map(checkpoint_of, options.ensemble)))
    run.model.to(pick_device(options.device))
    return options, run


def trusting(argv: Sequence[str]) -> bool:
    """Whether arguments have ``--trust-backbone``, before there is a task whose options could be parsed."""
    said = [word.replace("_", "-") for word in argv]
    flags = [word for word in said if word in ("--trust-backbone", "--no-trust-backbone")]
    return bool(flags) and flags[-1] == "--trust-backbone"


def _ensemble_last(argv: Sequence[str], *, inputs: bool) -> list[str]:
    """Arguments with the checkpoints that follow the first one as those of ``--ensemble``: inputs may follow, too."""
    end = 1
    while end < len(argv) and (argv[end].endswith(".ckpt") if inputs else not argv[end].startswith("-")):
        end += 1
    more = list(argv[1:end])
    return [argv[0], *argv[end:], *(["--ensemble", *more] if more else [])]


def averaged_with(options: EvaluateOptions | PredictOptions) -> dict[str, Any]:
    """What the maps of a checkpoint are averaged with, for the file of the results; nothing without."""
    more: dict[str, Any] = {}
    if options.ensemble:
        more["ensemble"] = [name_of(path) for path in options.ensemble]
    if options.test_time > 1:
        more["test_time"] = options.test_time
    return more


def check_pages(task: Task[Any, Any], name: str, value: object) -> None:
    """Refuse a page where a task has none, before anything is computed."""
    if isinstance(value, Path) and value.is_dir():
        raise ValueError(f"`{name}` (={value}) must be a file, is a folder")
    if value and not task.has_pages:
        raise ValueError(f"`{name}` (={value}) must not be given for {task.name}: only clouds have pages")


def print_failed(reasons: Sequence[str], of: str, file: Path) -> int:
    """List what failed on standard error, and return the exit status: 3 if anything did."""
    if not reasons:
        return 0
    print(f"failed: {len(reasons)} {of}", file=sys.stderr)
    for reason in reasons[:SHOWN]:
        print(f"  {reason}", file=sys.stderr)
    if len(reasons) > SHOWN:
        print(f"  and {len(reasons) - SHOWN} more, in `failed` of {file}", file=sys.stderr)
    return 3


def open_cloud_run(path: Path, device: str, *, trust: bool = False) -> tuple[CloudTask[Any, Any], Run[Any, Any]]:
    """Open a run of a task on clouds."""
    run = open_source(path, pick_device(device), trust=trust)
    if not isinstance(run.task, CloudTask):
        raise ValueError(f"`{path}` must be a checkpoint of a task on clouds, is one of {run.task.name}")
    return run.task, run
