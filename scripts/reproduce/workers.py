"""Bounded processes for many runs: on this machine and its accelerators, or on a cluster, by submitit."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pcsa.scripts.reproduce.runs import Job, Work
from pcsa.scripts.reproduce.servers import Server

Executor = Literal["local", "slurm", "submitit", "debug"]
# submitit wants a limit; a run that takes a month is none of ours.
_MONTH = 31 * 24 * 60


@dataclass(frozen=True)
class Workers:
    """How many runs are made at once, and where.

    Attributes:
        executor: Processes on this machine that stay; jobs of a Slurm cluster, or on this machine, by submitit; or this
            very process, one run after the other.
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

    def make(self, planned: Sequence[Work]) -> Iterator[Outcome]:
        """Make runs, each after those that it needs, and return each as soon as it has ended."""
        queue = Queue(planned)
        if self.executor == "debug":
            while queue.waiting:
                yield from queue.lost()
                if (run := queue.next()) is not None:
                    yield queue.ended(_outcome(run, run.make, None))
            return
        running: dict[int, tuple[Work, Any]] = {}
        servers: dict[int, Server] = {}
        places = list(range(self.count))
        try:
            outcomes: list[Outcome] = []
            while queue.waiting or running or outcomes:
                outcomes += queue.lost()
                while places and (run := queue.next()) is not None:
                    place = places.pop(0)
                    running[place] = run, self._start(run, place, servers)
                # Now that every process has something to do.
                yield from outcomes
                outcomes = []
                for place in [place for place, (_, job) in running.items() if job.done()]:
                    run, job = running.pop(place)
                    places.append(place)
                    outcomes.append(queue.ended(_outcome(run, job.result, job.log)))
                if not outcomes:
                    time.sleep(0.05 if servers else 0.2)
        finally:
            # What is cut off goes on from its checkpoint in the next call.
            for _, job in running.values():
                job.cancel()
            for server in servers.values():
                server.stop()
            for server in servers.values():
                server.wait()

    def check(self, out: Path) -> None:
        """Raise a ValueError if there is no such executor here, or a parameter does not fit."""
        if self.executor == "local" and self.parameters:
            raise ValueError(
                f"`executor` (={self.executor!r}) cannot be used with these `parameters`: they are those of submitit"
            )
        if self.executor in ("slurm", "submitit"):
            self._executor(out)

    def _start(self, run: Work, place: int, servers: dict[int, Server]) -> Any:
        """Let a run be made, in the process of this place if there are such."""
        if self.executor != "local":
            return _Submitted(self._submit(run, place))
        server = servers.get(place)
        if server is None or not server.alive:
            if server is not None:
                server.stop()
                server.wait()
            # Read when a process starts: too late for it to be set there.
            environment = {"OMP_NUM_THREADS": str(self.threads)}
            if (gpu := self._gpu(place)) is not None:
                environment["CUDA_VISIBLE_DEVICES"] = gpu
            server = servers[place] = Server(environment)
        return server.submit(Job(run, self.threads), run.out / "job" / f"{os.getpid()}_log.txt")

    def _gpu(self, place: int) -> str | None:
        return self.gpus[place % len(self.gpus)] if self.gpus else None

    def _executor(self, out: Path) -> Any:
        """What submits a run in this folder."""
        import submitit

        here = self.executor == "submitit"
        parameters: dict[str, Any] = {"timeout_min": _MONTH} if here else {}
        try:
            executor = submitit.AutoExecutor(out / "job", cluster="local" if here else self.executor)
            executor.update_parameters(name="pcsa", **{**parameters, **(self.parameters or {})})
        # Raised by submitit where there is no cluster, and for parameters that it does not know.
        except (RuntimeError, NameError, AssertionError) as error:
            text = " ".join(str(error).split())
            raise ValueError(
                f"`executor` (={self.executor!r}) cannot be used with these `parameters`: {text}"
            ) from None
        return executor

    def _submit(self, run: Work, place: int) -> Any:
        import submitit

        executor = self._executor(run.out)
        # Read when a process starts: too late for it to be set there.
        with submitit.helpers.clean_env(), _environment(OMP_NUM_THREADS=str(self.threads)), _interruptible():
            return executor.submit(Job(run, self.threads, self._gpu(place)))


class _Submitted:
    """A job of submitit."""

    def __init__(self, job: Any) -> None:
        self.log = Path(job.paths.stderr)
        self.done, self.result, self.cancel = job.done, job.result, job.cancel


class Outcome(NamedTuple):
    """What became of a run."""

    run: Work
    row: dict[str, Any] | None
    """None if it failed, or has none."""
    reason: str = ""
    """Why it failed, if it did."""
    log: Path | None = None
    """What the process has said."""


class Queue:
    """Runs that wait for their turn, and for what they need."""

    def __init__(self, planned: Sequence[Work]) -> None:
        self.waiting = list(planned)
        self._open = {run.key for run in planned}
        self._failed: dict[str, Work] = {}

    def next(self) -> Work | None:
        """Take the first run of which all that it needs has ended."""
        for i, run in enumerate(self.waiting):
            if not any(other.key in self._open for other in run.needs):
                return self.waiting.pop(i)
        return None

    def ended(self, outcome: Outcome) -> Outcome:
        """Hear what became of a run."""
        self._open.discard(outcome.run.key)
        if outcome.reason:
            self._failed[outcome.run.key] = outcome.run
        return outcome

    def lost(self) -> Iterator[Outcome]:
        """Give up the runs that need one that failed."""
        for run in list(self.waiting):
            for other in run.needs:
                if other.key in self._failed:
                    self.waiting.remove(run)
                    yield self.ended(Outcome(run, None, f"it needs what failed: {self._failed[other.key]}"))
                    break


def _outcome(run: Work, result: Any, log: Path | None) -> Outcome:
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


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let processes that are started within hear of an interruption, by which submitit ends them.

    What a shell starts in the background, with `nohup` say, ignores it, and so do all that come of it.
    """
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.SIG_IGN or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
