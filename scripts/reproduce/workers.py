"""Bounded processes for many runs: on this machine, on its accelerators, or on a cluster, by submitit."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pcsa.scripts.reproduce.runs import Job, PlannedRun, make

Executor = Literal["local", "slurm", "debug"]
# submitit wants a limit; a run that takes a month is none of ours.
_MONTH = 31 * 24 * 60


@dataclass(frozen=True)
class Workers:
    """How many runs are made at once, and where.

    Attributes:
        executor: Processes on this machine, jobs of a Slurm cluster, or this very process, one run after the other.
        count: Runs at once.
        threads: Threads of each.
        gpus: Accelerators of this machine, as CUDA_VISIBLE_DEVICES names them; the runs are spread over them.
        parameters: Parameters of submitit, such as ``slurm_partition``.
    """

    executor: Executor
    count: int
    threads: int
    gpus: Sequence[str] = ()
    parameters: Mapping[str, Any] | None = None

    def make(self, planned: Sequence[PlannedRun]) -> Iterator[Outcome]:
        """Make runs, and return each as soon as it has ended."""
        if self.executor == "debug":
            for run in planned:
                yield _outcome(run, partial(make, run), None)
            return
        waiting = list(reversed(planned))
        running: dict[int, tuple[PlannedRun, Any]] = {}
        places = list(range(self.count))
        try:
            while waiting or running:
                while waiting and places:
                    place, run = places.pop(0), waiting.pop()
                    running[place] = run, self._submit(run, place)
                ended = [place for place, (_, job) in running.items() if job.done()]
                for place in ended:
                    run, job = running.pop(place)
                    places.append(place)
                    yield _outcome(run, job.result, Path(job.paths.stderr))
                if not ended:
                    time.sleep(0.2)
        finally:
            # What is cut off goes on from its checkpoint in the next call.
            for _, job in running.values():
                job.cancel()

    def check(self, out: Path) -> None:
        """Raise a ValueError if there is no such executor here, or a parameter does not fit."""
        if self.executor != "debug":
            self._executor(out)

    def _executor(self, out: Path) -> Any:
        """What submits a run in this folder."""
        import submitit

        parameters: dict[str, Any] = {"timeout_min": _MONTH} if self.executor == "local" else {}
        try:
            executor = submitit.AutoExecutor(out / "job", cluster=self.executor)
            executor.update_parameters(name="pcsa", **{**parameters, **(self.parameters or {})})
        # Raised by submitit where there is no cluster, and for parameters that it does not know.
        except (RuntimeError, NameError, AssertionError) as error:
            text = " ".join(str(error).split())
            raise ValueError(
                f"`executor` (={self.executor!r}) cannot be used with these `parameters`: {text}"
            ) from None
        return executor

    def _submit(self, run: PlannedRun, place: int) -> Any:
        import submitit

        executor = self._executor(run.config.out)
        gpu = self.gpus[place % len(self.gpus)] if self.gpus else None
        # Read when a process starts: too late for it to be set there.
        with submitit.helpers.clean_env(), _environment(OMP_NUM_THREADS=str(self.threads)):
            return executor.submit(Job(run, self.threads, gpu))


class Outcome(NamedTuple):
    """What became of a run."""

    run: PlannedRun
    row: dict[str, Any] | None
    """None if it failed."""
    reason: str = ""
    log: Path | None = None
    """What the process has said."""


def _outcome(run: PlannedRun, result: Any, log: Path | None) -> Outcome:
    try:
        return Outcome(run, result(), "", log)
    except Exception as error:
        return Outcome(run, None, _reason(str(error) or type(error).__name__), log)


def _reason(text: str) -> str:
    """The line of a traceback that says what went wrong; it stands at its end, before what submitit adds."""
    trace = text.split("\n----------------------\n")
    lines = [line for line in (trace[1] if len(trace) > 2 else text).splitlines() if line.strip()]
    return lines[-1].strip() if lines else text


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    """Set variables of the environment for the processes that are started within."""
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def visible_gpus() -> list[str]:
    """The accelerators of this machine, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    named = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return named[:count] if named else [str(i) for i in range(count)]
