"""The processes of one training end together: none waits for another that is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import lightning as L
import torch

# Seconds in which the first process may end by itself once another is gone, and the others once it has an error. The
# others wait for it the longest: how the training ended is the first one's to say.
_GRACE, _GRACE_OF_OTHERS, _PATIENCE = 15.0, 5.0, 30.0
_PERIOD = 0.2


class LostProcessError(ConnectionError):
    """Another process of the training is gone."""


@contextmanager
def ending_together(trainer: L.Trainer, checkpoint: Path) -> Iterator[None]:
    """Train within; when a process dies, the others end with a message, within a minute and whatever they wait for.

    The process that was started by the user, of rank 0 on its machine, starts the others and sees how they end; they
    see whether it is still there. On a cluster whose launcher starts all of them, it is the launcher that ends them.

    Args:
        trainer: The trainer.
        checkpoint: The last checkpoint, for the message.

    Raises:
        LostProcessError: If the training broke off because of a process that is gone.
    """
    if trainer.world_size == 1:
        yield
        return
    others = _Others(trainer) if trainer.local_rank == 0 else _First(os.getppid())
    over = threading.Event()

    def watch() -> None:
        while not over.wait(_PERIOD):
            if others.lost():
                # Whoever waits for a device, or for a process that waits for the lost one, never hears of it.
                if not over.wait(_GRACE):
                    print(f"pcsa: {others.lost()}{_advice(checkpoint)}", file=sys.stderr, flush=True)
                    others.end(0.0)
                    os._exit(2)
                return

    threading.Thread(target=watch, name="process-watch", daemon=True).start()
    try:
        yield
    except BaseException as error:
        if not _is_of_connection(error):
            others.end(_GRACE_OF_OTHERS)
            raise
        # The exchange may break off before anybody can see why.
        gone = _until(others.lost, _PATIENCE)
        others.end(0.0)
        if not gone:
            raise
        raise LostProcessError(f"{gone}{_advice(checkpoint)}") from error
    finally:
        over.set()


def _is_of_connection(error: BaseException) -> bool:
    """Whether an exchange between processes failed; Gloo's failures have no type of their own."""
    return isinstance(error, torch.distributed.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))


def _advice(checkpoint: Path) -> str:
    kept = (
        f"`{checkpoint}` stays as it was, set `resume` to go on from it" if checkpoint.exists() else "nothing is kept"
    )
    return f": the training cannot go on without it; {kept}"


class _Watched:
    """Processes whose end matters to this one."""

    def lost(self) -> str:
        """What has become of the one that is gone; empty if none is."""
        raise NotImplementedError

    def end(self, grace: float) -> None:
        """See that they are gone, too, after so many seconds."""


class _Others(_Watched):
    """What the first process started."""

    def __init__(self, trainer: L.Trainer) -> None:
        self.trainer = trainer
        self.started: list[subprocess.Popen[bytes]] = []
        self.since = 0.0

    def _processes(self) -> list[subprocess.Popen[bytes]]:
        launcher = self.trainer.strategy.launcher
        found = getattr(launcher, "procs", [])
        if not all(isinstance(process, subprocess.Popen) for process in found):
            return []  # a strategy that forks or spawns, and waits for them
        if found is not self.started and len(found) == getattr(launcher, "num_processes", 0) - 1:
            self.since = self.since or time.monotonic()
            if time.monotonic() - self.since > 1:
                # Lightning has a thread, too, which kills this process without a word. It has seen this list only: an
                # empty one satisfies it.
                self.started = [*found]
                found.clear()
                launcher.procs = self.started  # type: ignore[union-attr]
                return self.started
        return list(found)

    def lost(self) -> str:
        for rank, process in enumerate(self._processes(), start=1):
            if process.poll():
                return f"process {rank} of {self.trainer.world_size} {_ended(process.returncode)}"
        return ""

    def end(self, grace: float) -> None:
        processes = self._processes()
        _until(lambda: all(process.poll() is not None for process in processes), grace)
        for process in processes:
            process.kill()


class _First(_Watched):
    """What started this process."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def lost(self) -> str:
        return "" if os.getppid() == self.pid else "process 0, which started this one, is gone"


def _ended(status: int) -> str:
    return f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"


def _until(found: Callable[[], object], seconds: float) -> str:
    """What is found within so many seconds, as a text."""
    last = time.monotonic() + seconds
    while not (value := found()) and time.monotonic() < last:
        time.sleep(_PERIOD)
    return str(value or "")
