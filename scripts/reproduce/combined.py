"""Means of several networks' maps, over variations of each input: rows of a study that train nothing of their own."""

from __future__ import annotations

import functools
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from pcsa.scripts.reproduce.digests import combined_digest
from pcsa.scripts.reproduce.runs import Planned, PlannedRun, about
from pcsa.tasks.common.read_outs import floor_options, own_radii


@dataclass(frozen=True)
class Combination:
    """What a study says of such a mean."""

    of: str
    """Name of the method whose networks are taken."""
    networks: int = 1
    """Number of networks; those of seeds 0, 1, … make the first mean, the next ones the second."""
    test_time: int = 1
    """Variations of each input, see ``pcsa evaluate --test-time``."""

    def __post_init__(self) -> None:
        for name in ("networks", "test_time"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"`{name}` (={value!r}) must be a whole number of at least 1")
        if self.networks == self.test_time == 1:
            raise ValueError(f"`networks` or `test_time` must be above 1: else it is {self.of!r} itself")

    @property
    def words(self) -> str:
        """What it is, for the page of a study."""
        networks = "a network" if self.networks == 1 else f"{self.networks} networks"
        variations = f", over {self.test_time} variations of each cloud" * (self.test_time > 1)
        return f"the mean of the maps of {networks} of {self.of}{variations}"

    def seeds(self, number: int) -> range:
        """Seeds of the networks of a mean."""
        return range(number * self.networks, (number + 1) * self.networks)


@dataclass(frozen=True)
class CombinedRun(Planned):
    """The mean of the networks of runs that differ in their seeds; ``seed`` is its number."""

    members: tuple[PlannedRun, ...]
    variations: int
    folder: Path

    @functools.cached_property
    def key(self) -> str:
        """See :func:`pcsa.scripts.reproduce.digests.combined_digest`."""
        return combined_digest([run.key for run in self.members], self.variations)

    @property
    def out(self) -> Path:
        return self.folder

    @property
    def runs(self) -> Sequence[PlannedRun]:
        return self.members

    @property
    def needs(self) -> Sequence[PlannedRun]:
        return self.members

    @property
    def test_time(self) -> int:
        return self.variations

    def moved(self, out: Path) -> Self:
        return replace(self, folder=out)

    def about(self) -> dict[str, Any]:
        combined = {"seeds": [run.seed for run in self.members], "test_time": self.variations}
        return about(self, self.command(), {"combined": combined})

    def command(self) -> str:
        """The commands that make the networks, in folders of their own, and score them."""
        folders = [Path("runs") / run.out.name for run in self.members]
        trainings = [
            command for run, folder in zip(self.members, folders, strict=True) for command in run.trainings(folder)
        ]
        first, *rest = (str(folder / "last.ckpt") for folder in folders)
        scoring = ["pcsa", "evaluate", first, *(["--ensemble", *rest] if rest else [])]
        scoring += ["--test-time", str(self.variations)] if self.variations > 1 else []
        if radii := own_radii(self.read_outs):
            scoring += ["--ball-radii", *(f"{radius:g}" for radius in radii)]
        scoring += [f"--{name.replace('_', '-')}" for name in floor_options(self.read_outs)]
        return " && ".join(map(shlex.join, [*trainings, [*scoring, "--split", self.split]]))

    def networks(self, row: dict[str, Any]) -> list[Path]:
        return [Network(run).trained() for run in self.members]


@dataclass(frozen=True)
class Network:
    """The checkpoint of a run whose row is finished, or is not asked for."""

    run: PlannedRun

    @property
    def key(self) -> str:
        return self.run.key

    @property
    def out(self) -> Path:
        return self.run.out

    @property
    def needs(self) -> Sequence[PlannedRun]:
        return self.run.needs

    def __str__(self) -> str:
        return str(self.run)

    def make(self) -> None:
        """Train what is left to train; another process that makes the same run is waited for."""
        self.trained()

    def trained(self) -> Path:
        """The checkpoint, trained if it is not there."""
        from filelock import FileLock

        self.out.mkdir(parents=True, exist_ok=True)
        with FileLock(self.out / ".making.lock"):
            return self.run.train()[0]


def in_order(missing: Sequence[Planned]) -> list[Planned | Network]:
    """Runs to be made, each behind the networks that it needs and that neither are there nor will be made by others."""
    known = {run.key for run in missing}
    found: list[Planned | Network] = []

    def add_needs(run: Planned) -> None:
        for other in run.needs:
            if other.key not in known and not other.is_trained:
                known.add(other.key)
                add_needs(other)
                found.append(Network(other))

    for run in missing:
        add_needs(run)
        found.append(run)
    return found


def all_needs(run: Planned) -> set[str]:
    """The digests of the networks that a run needs, and of those that they need."""
    return {key for other in run.needs for key in (other.key, *all_needs(other))}
