"""What was measured: plain data that become JSON and tables."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

# The issues that asked for a target.
GROUND, FAST, SKELETON, HOUSE = "#2 detector", "#3 fast and small", "#4 Skeleton Merger", "#10 house"


@dataclass(frozen=True)
class Spread:
    """Median and quartiles; None where nothing was measured."""

    what: str
    unit: str
    median: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Row(Spread):
    """Time and peak memory of one contender."""

    memory_bytes: int | None = None
    note: str = ""


@dataclass(frozen=True)
class Check(Spread):
    """A figure that may have a target: at most that much."""

    target: float | None = None
    promise: str | None = None
    """The issue that asked for the target, by number and first words."""
    timed: bool = True
    """Whether it depends on what else the machine does."""

    @property
    def met(self) -> bool | None:
        """Whether the figure keeps to its target, where it has both."""
        return None if self.target is None or self.median is None else self.median <= self.target


@dataclass(frozen=True)
class Result:
    """One table of contenders and one of figures."""

    case: str
    title: str
    rows: list[Row] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)


@dataclass(frozen=True)
class Curve:
    """Time and memory of the operator and its literal reference over one size; None where it was left out."""

    over: str
    fixed: str
    values: list[int] | list[float]
    seconds: dict[str, list[float | None]]
    memory_bytes: dict[str, list[int | None]]


@dataclass(frozen=True)
class Report:
    """Everything that ``pcsa bench`` prints and writes."""

    machine: dict[str, str | int | float | None]
    settings: dict[str, int]
    results: list[Result] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)


def row(what: str, times: Sequence[float], memory: int | None = None, note: str = "", unit: str = "s") -> Row:
    """Summarize the times of a contender."""
    return Row(what, unit, *_spread(times), memory_bytes=memory, note=note)


def ratio(
    what: str, ours: Sequence[float], theirs: Sequence[float], target: float | None = None, promise: str | None = None
) -> Check:
    """Divide our times by theirs, turn by turn."""
    return Check(what, "×", *_spread([a / b for a, b in zip(ours, theirs, strict=True)]), target, promise)


def seconds(what: str, times: Sequence[float], target: float | None = None, promise: str | None = None) -> Check:
    """Summarize times that have a target of their own."""
    return Check(what, "s", *_spread(times), target, promise)


def deterministic(
    what: str, value: float, unit: str = "", target: float | None = None, promise: str | None = None
) -> Check:
    """Keep a figure that no other load of the machine changes: memory or a count."""
    return Check(what, unit, value, value, value, target, promise, timed=False)


def _spread(values: Sequence[float]) -> tuple[float | None, float | None, float | None]:
    if not values:
        return None, None, None
    low, median, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
    return median, low, high
