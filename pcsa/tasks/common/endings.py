"""How a training ends before its time, for whoever started it."""

from __future__ import annotations

import os
import shlex
import signal
import threading
from collections.abc import Sequence
from pathlib import Path


class Stopped(SystemExit):
    """A training that a signal ended, with a checkpoint of the step that it was in.

    Its ``code`` is 128 and the number of the signal, which is what shells and schedulers expect.
    """

    def __init__(self, number: int, checkpoint: Path, step: int) -> None:
        super().__init__(128 + number)
        self.checkpoint, self.step = checkpoint, step
        self.signal = signal.Signals(number).name

    def __str__(self) -> str:
        return f"stopped by {self.signal} after step {self.step}, `{self.checkpoint}` is written"


class DivergedError(ArithmeticError):
    """A training whose loss or weights are no numbers any more."""


def again(arguments: Sequence[str]) -> str:
    """The command that goes on with what ``pcsa train`` was given."""
    words = [*arguments] if "--resume" in arguments else [*arguments, "--resume"]
    return shlex.join(["pcsa", "train", *words])


def await_the_end(worker: int) -> None:
    """Have a process that loads items outlive the first signal, which a shell or scheduler may send to all of them.

    The step that a training ends with may still need it. A second one, or one of the training itself, which waits for
    it then, ends it; without its training it ends by itself.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Not on macOS.
    if hasattr(signal, "sigwaitinfo"):
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        threading.Thread(target=_end_when_told, args=(os.getppid(),), daemon=True).start()
    else:
        signal.signal(signal.SIGTERM, lambda *_: signal.signal(signal.SIGTERM, signal.SIG_DFL))


def _end_when_told(training: int) -> None:
    if signal.sigwaitinfo([signal.SIGTERM]).si_pid != training:
        signal.sigwaitinfo([signal.SIGTERM])
    os._exit(128 + signal.SIGTERM)
