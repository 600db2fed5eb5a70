"""One run of a study: what it is, how it is made, and the row that it leaves."""

from __future__ import annotations

import functools
import json
import os
import platform
import shlex
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol, Self

import pcsa
from pcsa.datasets.faults import reading
from pcsa.scripts.reproduce.devices import device_option, note_device, said_devices
from pcsa.scripts.reproduce.digests import begun_digest, digest, row_key, shown_config
from pcsa.tasks import get_task
from pcsa.tasks.common.checkpoint import write_json
from pcsa.tasks.common.config import TrainConfig


class Work(Protocol):
    """What a process makes."""

    @property
    def key(self) -> str:
        """What tells it apart."""

    @property
    def out(self) -> Path:
        """Its folder."""

    @property
    def needs(self) -> Sequence[Work]:
        """What is made before, if it is not there yet."""

    def make(self) -> dict[str, Any] | None:
        """Make what is left to make, and return the row, if it is one of the results.

        Another process that makes the same is waited for.
        """


@dataclass(frozen=True)
class Planned(ABC):
    """What leaves a row in the results of a study."""

    method: str
    category: str
    fold: int | None
    seed: int
    split: Literal["val", "test"]
    read_outs: tuple[str, ...]
    """Ways to read its maps, each of which is scored."""

    @property
    @abstractmethod
    def key(self) -> str:
        """Digest of all that determines the numbers."""

    @property
    @abstractmethod
    def out(self) -> Path:
        """Its folder."""

    @property
    @abstractmethod
    def runs(self) -> Sequence[PlannedRun]:
        """The runs whose networks are scored together."""

    @property
    def needs(self) -> Sequence[PlannedRun]:
        return ()

    @property
    def part(self) -> str | None:
        """The category in which the networks are scored, where they know several."""
        return None

    @property
    def test_time(self) -> int:
        """Variations of each input of whose maps the mean is read."""
        return 1

    def __str__(self) -> str:
        fold = "" if self.fold is None else f", fold {self.fold}"
        return f"{self.category}, {self.method}{fold}, seed {self.seed}"

    @abstractmethod
    def moved(self, out: Path) -> Self:
        """The same, made in another folder."""

    @abstractmethod
    def about(self) -> dict[str, Any]:
        """What a row says beside the figures."""

    @abstractmethod
    def networks(self, row: dict[str, Any]) -> list[Path]:
        """The checkpoints to score, made if they are not there; the row may be told how long that took."""

    def make(self) -> dict[str, Any]:
        """Make and score the networks, as far as that is not done yet, and return the row.

        Another process that makes the same row is waited for.
        """
        # Imported here: the process that plans the runs needs none of it.
        from filelock import FileLock

        from pcsa.scripts.reproduce.scoring import add_scores, unscored
        from pcsa.tasks.common.backbone import foreign_backbone

        self.out.mkdir(parents=True, exist_ok=True)
        with FileLock(self.out / ".making.lock"):
            row = read_row(self)
            if row is None:
                row = {**self.about(), "figures": {}, "keypoints": {}, "shapes": {}}
            if unscored(self.read_outs, row):
                networks = self.networks(row)
                first = self.runs[0].config
                how: dict[str, Any] = {"split": self.split, "test_time": self.test_time, "out": self.out}
                how |= {"category": self.part, "trust": foreign_backbone(first) or False}
                add_scores(row, networks, self.read_outs, device=device_option(first), **how)
                row.setdefault("device", said_devices([run.config for run in self.runs]))
                write_json(self.out / "row.json", row)
            return row


@dataclass(frozen=True)
class PlannedRun(Planned):
    """A run of a study: a network, trained and scored."""

    task: str
    arguments: tuple[str, ...]
    """What follows ``pcsa train``."""
    config: TrainConfig
    """Its ``out`` is the folder of the run."""
    before: PlannedRun | None = None
    """The training whose network it begins with, where the study makes that; ``config`` does not name it."""

    @functools.cached_property
    def key(self) -> str:
        """See :func:`pcsa.scripts.reproduce.digests.digest`."""
        own = digest(self.task, self.split, shown_config(self.config), pcsa.__version__)
        return own if self.before is None else begun_digest(own, self.before.key)

    @property
    def needs(self) -> Sequence[PlannedRun]:
        return () if self.before is None or self.is_trained else (self.before,)

    @property
    def out(self) -> Path:
        return self.config.out

    @property
    def runs(self) -> Sequence[PlannedRun]:
        return (self,)

    @property
    def is_trained(self) -> bool:
        """Whether its checkpoint is there and finished."""
        return (self.out / "last.ckpt").exists() and (self.out / "seconds.json").exists()

    def moved(self, out: Path) -> Self:
        return replace(self, config=replace(self.config, out=out))

    def trainings(self, out: Path | None = None) -> list[list[str]]:
        """The commands that make the network, in a folder if one is given."""
        own = ["pcsa", "train", *self.arguments, *(["--out", str(out)] if out else [])]
        if self.before is None:
            return [own]
        folder = Path("runs") / self.before.out.name
        return [*self.before.trainings(folder), [*own, "--init-from", str(folder / "last.ckpt")]]

    def about(self) -> dict[str, Any]:
        return about(self, " && ".join(map(shlex.join, self.trainings())), {})

    def networks(self, row: dict[str, Any]) -> list[Path]:
        checkpoint = self.out / "last.ckpt"
        # It was trained by an earlier version, perhaps, whose configuration lacked fields of today.
        if not (row["figures"] and checkpoint.exists()):
            checkpoint, row["seconds"] = self.train()
        return [checkpoint]

    def train(self) -> tuple[Path, float]:
        """Train what is left to train; the caller holds the lock of the folder. Return checkpoint and seconds."""
        from pcsa.scripts.once import train_once

        if not self.is_trained:
            note_device(self.config)
        begun = self.config if self.before is None else replace(self.config, init_from=self.before.out / "last.ckpt")
        return train_once(get_task(self.task), begun)


def read_row(planned: Planned) -> dict[str, Any] | None:
    """The row that a run has left in its folder, if it is this run's."""
    file = planned.out / "row.json"
    if not file.exists():
        return None
    with reading(file, "the row of a run"):
        row: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        same = row_key(row) == planned.key
    return row if same else None


def about(planned: Planned, command: str, more: dict[str, Any]) -> dict[str, Any]:
    """What a row says beside the figures, ``more`` after the configuration of the first network."""
    import torch

    first = planned.runs[0]
    return {
        "method": planned.method,
        "category": planned.category,
        "fold": planned.fold,
        "seed": planned.seed,
        "task": first.task,
        "split": planned.split,
        "digest": planned.key,
        "run": planned.out.name,
        "command": command,
        "config": shown_config(first.config),
        **({} if first.before is None else {"begun_from": _named(first.before)}),
        **more,
        "versions": {
            "pcsa": pcsa.__version__,
            "commit": _commit(),
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    }


def _named(before: PlannedRun) -> dict[str, Any]:
    return {"name": before.method, "config": shown_config(before.config)}


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


@dataclass(frozen=True)
class Job:
    """Makes a run in a process of its own; what submitit calls, and sends to another machine when it is cut off."""

    run: Work
    threads: int
    gpu: str | None = None
    """The accelerator to use, as CUDA_VISIBLE_DEVICES names it; None for what the process finds."""

    def __call__(self) -> dict[str, Any] | None:
        """Train what is left to train, score what is left to score, and return the row."""
        if self.gpu is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = self.gpu
        import torch

        torch.set_num_threads(self.threads)
        return self.run.make()

    def checkpoint(self) -> Any:
        """Go on elsewhere: the run's own checkpoint says how far it is."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)
