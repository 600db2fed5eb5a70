"""One run of a study: what determines it, how it is made, and the row that it leaves."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import platform
import shlex
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import pcsa
from pcsa.datasets.faults import reading
from pcsa.localization import ReadOut
from pcsa.tasks import get_task
from pcsa.tasks.common.checkpoint import write_json
from pcsa.tasks.common.config import TrainConfig, from_plain, to_plain

# What stands for the folder of the data where it is written down: that is another one on every machine.
ROOT = "KEYPOINTNET"
# What changes where, how fast and with which log a run is made, and no number of it.
_WITHOUT_EFFECT = ("out", "resume")
_TRAINER_WITHOUT_EFFECT = (
    "accelerator", "devices", "num_nodes", "strategy", "num_workers", "logger", "validate_every", "save_every",
    "progress",
)  # fmt: skip


@dataclass(frozen=True)
class PlannedRun:
    """A run of a study."""

    method: str
    category: str
    fold: int | None
    seed: int
    split: Literal["val", "test"]
    read_outs: tuple[str, ...]
    """Ways to read its maps, each of which is scored."""
    task: str
    arguments: tuple[str, ...]
    """What follows ``pcsa train``."""
    config: TrainConfig
    """Its ``out`` is the folder of the run."""

    @functools.cached_property
    def key(self) -> str:
        """Digest of all that determines the numbers, see :func:`digest`."""
        return digest(self.task, self.split, shown_config(self.config), pcsa.__version__)

    def __str__(self) -> str:
        fold = "" if self.fold is None else f", fold {self.fold}"
        return f"{self.category}, {self.method}{fold}, seed {self.seed}"


def shown_config(config: TrainConfig) -> dict[str, Any]:
    """What determines the numbers of a run, as JSON types, without the folders of this machine."""
    shown = {name: value for name, value in to_plain(config).items() if name not in _WITHOUT_EFFECT}
    shown["trainer"] = {k: value for k, value in shown["trainer"].items() if k not in _TRAINER_WITHOUT_EFFECT}
    for name, value in vars(config).items():
        if name in shown and isinstance(value, Path):
            shown[name] = f"{value.parent.name}/{value.name}"
    shown["data"] = {**shown["data"], "root": None if config.data.root is None else ROOT}
    return shown


def digest(task: str, split: str, shown: Mapping[str, Any], version: str) -> str:
    """What two runs have in common only if they give the same numbers.

    Fields that a later version adds count with their defaults, so that a row stays what it is.
    """
    kind = get_task(task).config_type
    try:
        filled: Any = shown_config(from_plain(kind, shown))
    except Exception:  # a row of a configuration that there is no more: it equals no run of today
        filled = shown
    text = json.dumps([task, split, filled, version], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Job:
    """Makes a run in a process of its own; what submitit calls, and sends to another machine when it is cut off."""

    run: PlannedRun
    threads: int
    gpu: str | None = None
    """The accelerator to use, as CUDA_VISIBLE_DEVICES names it; None for what the process finds."""

    def __call__(self) -> dict[str, Any]:
        """Train what is left to train, score what is left to score, and return the row."""
        if self.gpu is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = self.gpu
        import torch

        torch.set_num_threads(self.threads)
        return make(self.run)

    def checkpoint(self) -> Any:
        """Go on elsewhere: the run's own checkpoint says how far it is."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def make(planned: PlannedRun) -> dict[str, Any]:
    """Train and score a run, as far as that is not done yet, and return its row.

    Another process that makes the same run is waited for.
    """
    # Imported here: the process that plans the runs needs none of it.
    from filelock import FileLock

    from pcsa.scripts.evaluate import evaluate
    from pcsa.scripts.once import train_once
    from pcsa.scripts.reproduce.figures import run_figures, scored_shapes, shape_figures
    from pcsa.scripts.runs import pick_device
    from pcsa.tasks.common.run import open_run

    out = planned.config.out
    out.mkdir(parents=True, exist_ok=True)
    with FileLock(out / ".making.lock"):
        row = read_row(planned)
        if row is None:
            row = {**_about(planned), "figures": {}, "keypoints": {}, "shapes": {}}
        lacking = [read_out for read_out in planned.read_outs if read_out not in row["figures"]]
        if not lacking:
            return row
        if row["figures"]:
            # It was trained by an earlier version, perhaps, whose configuration lacked fields of today.
            checkpoint = out / "last.ckpt"
        else:
            checkpoint, row["seconds"] = train_once(get_task(planned.task), planned.config)
        run = open_run(checkpoint, pick_device("auto"))

        def wanted(read_out: str) -> bool:
            # What is no read-out, such as a floor, is kept: there is no other way to ask for it.
            return read_out in planned.read_outs or read_out not in get_args(ReadOut)

        for read_out in lacking:
            if read_out in row["figures"]:  # scored together with another
                continue
            options = run.task.evaluate_options(
                checkpoint,
                split=planned.split,
                read_out=read_out,  # type: ignore[arg-type]
                out=out / f"metrics-{planned.split}-{read_out}.json",
                strict=True,
                # What a call that was cut off has found for another read-out, say, is of no use.
                overwrite=True,
                progress=False,
            )
            metrics = evaluate(run, options)
            row["num_items"] = metrics.get("num_items")
            row["keypoints"] = scored_shapes(metrics)
            # What was asked for before stays: it has more figures than what comes with another.
            found: dict[str, Mapping[str, Any]] = {
                "figures": run_figures(run.task, metrics),
                "shapes": shape_figures(metrics),
            }
            for name, values in found.items():
                row[name] |= {r: value for r, value in values.items() if r not in row[name] and wanted(r)}
        write_json(out / "row.json", row)
        return row


def read_row(planned: PlannedRun) -> dict[str, Any] | None:
    """The row that a run has left in its folder, if it is this run's."""
    file = planned.config.out / "row.json"
    if not file.exists():
        return None
    with reading(file, "the row of a run"):
        row: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        same = row_key(row) == planned.key
    return row if same else None


def row_key(row: Mapping[str, Any]) -> str:
    """The digest of the run that left a row, with what fields have been added since."""
    return digest(row["task"], row["split"], row["config"], row["versions"]["pcsa"])


def _about(planned: PlannedRun) -> dict[str, Any]:
    import torch

    cuda = torch.cuda.is_available()
    return {
        "method": planned.method,
        "category": planned.category,
        "fold": planned.fold,
        "seed": planned.seed,
        "task": planned.task,
        "split": planned.split,
        "digest": planned.key,
        "run": planned.config.out.name,
        "command": shlex.join(["pcsa", "train", *planned.arguments]),
        "config": shown_config(planned.config),
        "versions": {
            "pcsa": pcsa.__version__,
            "commit": _commit(),
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        "device": torch.cuda.get_device_name() if cuda else f"{platform.machine()}, {torch.get_num_threads()} threads",
    }


def _commit() -> str | None:
    """The commit of the package's checkout, with a plus where files differ from it; None elsewhere."""
    folder = Path(__file__).resolve().parent
    try:
        found, changed = (
            subprocess.run(["git", *command], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()
            for command in (["rev-parse", "--short=10", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return found + "+" * bool(changed)


def in_folder(planned: PlannedRun, out: Path) -> PlannedRun:
    """The run, made in another folder."""
    return replace(planned, config=replace(planned.config, out=out))
