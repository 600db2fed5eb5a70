"""Detectors of all categories of a study in one network: rows of a study by category, of one training."""

from __future__ import annotations

import functools
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from pcsa.scripts.reproduce.combined import Network
from pcsa.scripts.reproduce.digests import part_digest
from pcsa.scripts.reproduce.runs import Planned, PlannedRun, about


@dataclass(frozen=True)
class Joint:
    """What a study says of such a detector."""

    of: str
    """Name of the method that it is trained as."""
    options: str = ""
    """Options of ``pcsa train`` over those of the method: a step has clouds of all categories."""

    def __post_init__(self) -> None:
        if not isinstance(self.options, str):
            raise ValueError(f"`options` (={self.options!r}) must be a string")

    @property
    def words(self) -> str:
        """What it is, for the page of a study."""
        changed = f" with {self.options}" if self.options else ""
        return f"one network for all categories, trained as {self.of}{changed}"


@dataclass(frozen=True)
class JointRun(Planned):
    """The scores of a network of several categories in one of them."""

    network: PlannedRun
    folder: Path

    @functools.cached_property
    def key(self) -> str:
        """See :func:`pcsa.scripts.reproduce.digests.part_digest`."""
        return part_digest(self.network.key, self.category)

    @property
    def out(self) -> Path:
        return self.folder

    @property
    def runs(self) -> Sequence[PlannedRun]:
        return (self.network,)

    @property
    def needs(self) -> Sequence[PlannedRun]:
        return (self.network,)

    @property
    def part(self) -> str:
        return self.category

    def moved(self, out: Path) -> Self:
        return replace(self, folder=out)

    def about(self) -> dict[str, Any]:
        folder = Path("runs") / self.network.out.name
        scoring = ["pcsa", "evaluate", str(folder / "last.ckpt"), "--split", self.split, "--category", self.category]
        command = " && ".join(map(shlex.join, [*self.network.trainings(folder), scoring]))
        return about(self, command, {"part": self.category})

    def networks(self, row: dict[str, Any]) -> list[Path]:
        return [Network(self.network).trained()]
