"""What ``pcsa bench`` is asked to measure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, get_args

import tyro

from pcsa._core.checks import check_count, check_non_negative

_Operator = Literal["limits", "operator", "compiled", "ragged", "scan"]
_Shared = Literal["busy"]
_Other = Literal["neighbors", "pointnet2", "skeleton", "data", "step", "launches", "start", "scaling"]
# Minutes and gigabytes: only where they are named.
_Named = Literal["large"]
Case = Literal[_Operator, _Shared, _Other, _Named]
CASES: tuple[Case, ...] = tuple(case for case in get_args(Case) if case not in get_args(_Named))
# The only ones that say anything without times.
DETERMINISTIC_CASES: tuple[Case, ...] = ("operator", "scan", "skeleton", "launches", "start")


@dataclass(frozen=True)
class BenchConfig:
    """Measure time and memory on this machine. Everything takes about ten minutes, `--quick` less than one.

    `pcsa bench estimators` measures something else, the sampler's gradients against the exact one, and has its own
    options. So does `pcsa bench kernels`, which compiles Triton's kernels and counts what they have to do.
    """

    cases: Annotated[tuple[Case, ...], tyro.conf.Positional] = ()
    """Cases to measure; default all but large, with `--quick` without compiled and scaling, too."""
    quick: bool = False
    """Repeat less and shorten the curves; the scan is a tenth as large."""
    deterministic: bool = False
    """Measure only what no other load of the machine changes: memory and counts, no times."""
    threads: int = 1
    """Threads of torch on the CPU."""
    repeats: int | None = None
    """Turns of each timing; default 9, with `--quick` 3."""
    device: str = "cpu"
    """Device to measure: cpu or cuda."""
    root: Path | None = None
    """Folder in KeypointNet's layout, for data and step; default the folder `keypointnet` in $PCSA_TEST_DATA, else
    procedural clouds."""
    num_workers: int = 1
    """Processes that load beside the training, in the case step."""
    memory_budget: float = 2.0
    """Gigabytes that a literal reference may need; a larger one is left out."""
    shrink: int = 1
    """Divide every number of points by this, to try the command out; targets do not apply then."""
    out: Path | None = None
    """Write everything here, as JSON."""
    plot: Path | None = None
    """Draw the curves of scaling here, as PNG."""
    markdown: Path | None = None
    """Replace the tables between the marks `pcsa bench: begin` and `end` in this file."""

    def __post_init__(self) -> None:
        for name in ("threads", "shrink", "num_workers", "repeats"):
            if getattr(self, name) is not None:
                check_count(name, getattr(self, name))
        check_non_negative("memory_budget", self.memory_budget)
        if self.device.partition(":")[0] not in ("cpu", "cuda"):
            raise ValueError(f"`device` (={self.device!r}) must be cpu or cuda")
        for case in self.cases:
            if self.deterministic and case not in DETERMINISTIC_CASES:
                raise ValueError(f"`deterministic` (=True) leaves nothing of the case {case}: it has times only")
        if self.plot is not None and "scaling" not in self.selected:
            raise ValueError(f"`plot` (={str(self.plot)!r}) shows the curves of the case scaling: add it to the cases")

    @property
    def selected(self) -> tuple[Case, ...]:
        """The cases to run, in their order."""
        default = DETERMINISTIC_CASES if self.deterministic else CASES
        chosen = self.cases or tuple(c for c in default if not (self.quick and c in ("compiled", "scaling")))
        return tuple(c for c in get_args(Case) if c in chosen)

    @property
    def turns(self) -> int:
        """How often each run is timed; 0 where only memory and counts are asked for."""
        if self.deterministic:
            return 0
        return self.repeats if self.repeats is not None else 3 if self.quick else 9

    @property
    def few_turns(self) -> int:
        """How often a run of seconds is timed."""
        return min(self.turns, max(1, self.turns // 3))

    def points(self, number: int) -> int:
        """Shrink a number of points."""
        return max(number // self.shrink, 8)
