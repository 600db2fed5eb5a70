"""Processes of this machine that stay: each makes one run after the other, and loads the libraries once."""

from __future__ import annotations

import gc
import os
import pickle
import queue
import select
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

_SERVE = "from pcsa.scripts.reproduce.servers import serve; serve()"
_PATIENCE = 60.0  # seconds for a training to finish its step and write its checkpoint


class Server:
    """A process that makes what it is told, one call after the other.

    It ends when it is closed, or when the process that started it ends in whatever way. A training that is cut off by
    that writes its checkpoint first.

    Args:
        environment: Variables of the environment, beside those of this process.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        # A session of its own: an interruption of the terminal is heard here, and told by closing.
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SERVE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **environment},
            start_new_session=True,
        )

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def submit(self, call: Callable[[], Any], log: Path) -> Answer:
        """Let it make a call that can be pickled, and write what that says to a file."""
        assert self._process.stdin is not None
        # In two layers: the thread that reads it imports nothing. That the process is gone is told by the answer.
        with suppress(BrokenPipeError):
            pickle.dump((pickle.dumps(call), str(log)), self._process.stdin)
            self._process.stdin.flush()
        return Answer(self._process, log)

    def stop(self) -> None:
        """Let it end, and what it makes end with a checkpoint."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()

    def wait(self) -> None:
        """Wait for its end after :meth:`stop`, though not for ever."""
        assert self._process.stdout is not None
        try:
            self._process.wait(_PATIENCE)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


class Answer:
    """What becomes of a call."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process, self.log = process, log

    def done(self) -> bool:
        """Whether the call, or its process, has ended."""
        assert self._process.stdout is not None
        return self._process.poll() is not None or bool(select.select([self._process.stdout], [], [], 0)[0])

    def result(self) -> Any:
        """What the call returned.

        Raises:
            RuntimeError: If it raised something; the text is that of the traceback. If its process has ended.
        """
        assert self._process.stdout is not None
        try:
            good, value = pickle.load(self._process.stdout)
        except (EOFError, pickle.UnpicklingError):
            status = self._process.wait()
            how = f"by {signal.Signals(-status).name}" if status < 0 else f"with status {status}"
            raise RuntimeError(f"its process ended {how}") from None
        if not good:
            raise RuntimeError(value)
        return value

    def cancel(self) -> None:
        """Nothing: closing the process ends the call."""


def serve() -> None:
    """Make the calls that come by standard input, until that ends, and answer by standard output."""
    answers = os.fdopen(os.dup(1), "wb")
    # A stream of its own: a process that is forked to load items closes `sys.stdin`, and would wait for its reader.
    calls = os.fdopen(os.dup(0), "rb")
    own = os.dup(2)
    os.dup2(2, 1)
    inbox: queue.SimpleQueue[tuple[bytes, str] | None] = queue.SimpleQueue()
    busy = threading.Event()
    threading.Thread(target=_listen, args=(calls, inbox, busy), daemon=True).start()
    while (job := inbox.get()) is not None:
        busy.set()
        answer = _made(*job)
        sys.stdout.flush()
        sys.stderr.flush()
        for stream in (1, 2):
            os.dup2(own, stream)
        busy.clear()
        pickle.dump(answer, answers)
        answers.flush()
        _tidy()


def _listen(calls: BinaryIO, inbox: queue.SimpleQueue[tuple[bytes, str] | None], busy: threading.Event) -> None:
    try:
        while True:
            inbox.put(pickle.load(calls))
    except (EOFError, pickle.UnpicklingError):
        inbox.put(None)
    if busy.is_set():
        os.kill(os.getpid(), signal.SIGTERM)


def _made(call: bytes, log: str) -> tuple[bool, Any]:
    """Whether a call went well, and what it returned or the traceback."""
    try:
        Path(log).parent.mkdir(parents=True, exist_ok=True)
        with open(log, "ab") as file:
            for stream in (1, 2):
                os.dup2(file.fileno(), stream)
        return True, pickle.loads(call)()
    except Exception:
        traceback.print_exc()
        return False, traceback.format_exc()


def _tidy() -> None:
    """Leave the accelerator's memory to the others."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
