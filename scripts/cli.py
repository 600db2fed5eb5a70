"""The command line: ``pcsa COMMAND …``. Each command is a module with a function ``main``."""

from __future__ import annotations

import importlib
import logging
import os
import select
import signal
import sys
import warnings
from collections.abc import Sequence

from pcsa.tasks import task_names
from pcsa.tasks.common.endings import DivergedError, Stopped, again

USAGE = """\
pcsa: point-cloud sampling-argmax

usage: pcsa COMMAND [options]      (pcsa COMMAND --help lists a command's options)

  train TASK [PRESET]        train a network; the tasks: {tasks}
  evaluate CHECKPOINT…       score a network on what it was not trained on, or several as one
  predict CHECKPOINT INPUT…  find keypoints in your own clouds, meshes, images, volumes or scans
  compare TASK [options] [-- training options]
                             compare soft-argmax and sampling-argmax on a task, with several seeds
  reproduce STUDY [options] [-- training options]
                             make the paper's tables, or those of a study of your own: run after run, on many machines
  annotate FOLDER            label your own scans by clicks on a page in a browser, or correct what is predicted
  view CHECKPOINT DATA…      leaf through clouds and their keypoints in a window
  animate CHECKPOINT…        show how samples move as the temperature falls and training proceeds
  report RUN…                write one page that compares runs
  share RUN                  put a model into a folder that others can open, or on the Hugging Face hub
  export CHECKPOINT          write the network with its read-out as ONNX, or as a program of torch.export
  data generate|gallery|download|check|cache
                             make procedural clouds, draw them, fetch KeypointNet, check a folder, clear the cache
  bench [CASE…]              measure time and memory on this machine, against the usual code
  doctor                     say what this machine has, what is used of it, and why
  completion SHELL           print what completes commands and options in bash, zsh or fish

exit status: 0; 1 if `data check` or `doctor` found faults; 2 after a mistake, or if a training diverged; 3 if some
inputs failed, and the rest is done; 128 and the number of the signal that ended it
"""

MODULES = {
    "train": "train",
    "compare": "compare",
    "reproduce": "reproduce.command",
    "evaluate": "evaluate",
    "predict": "predict",
    "view": "view",
    "annotate": "annotate",
    "animate": "animate",
    "report": "report",
    "share": "share",
    "export": "export",
    "data": "data",
    "bench": "bench.command",
    "doctor": "doctor",
    "completion": "completion",
}

_HELP = ("", "-h", "--help")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command, and return its exit status.

    A user's mistake ends in one line on stderr and status 2, an interruption in status 130. With status 3, a command
    did its work but for some inputs, which it lists.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    command, rest = (args[0], args[1:]) if args else ("", [])
    if command not in (*MODULES, *_HELP):
        print(f"pcsa: unknown command {command!r}\n\n{_usage()}", end="", file=sys.stderr)
        return 2
    try:
        return _run(command, rest)
    except BrokenPipeError as error:
        if _nobody_reads():  # as behind `pcsa … | head`
            return 128 + signal.SIGPIPE
        print(f"pcsa {command}: {_message(error)}", file=sys.stderr)
        return 2
    except Stopped as stop:
        if _speaks():
            print(f"pcsa {command}: {stop}; go on by\n{again(rest)}", file=sys.stderr)
        return int(stop.code or 0)
    except DivergedError as error:
        if _speaks():
            print(f"pcsa {command}: {error}", file=sys.stderr)
        return 2
    except (ValueError, OSError, MemoryError) as error:
        print(f"pcsa {command}: {_message(error)}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "pcsa":
            raise
        said = str(error).splitlines()[0]
        print(f"pcsa {command}: {said}; pip install 'pcsa[train]' brings what the commands need", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\npcsa {command}: interrupted", file=sys.stderr)
        return 130


def _nobody_reads() -> bool:
    """Whether who read standard output has left; if so, what is still to be written goes nowhere."""
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)
        left = any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
    except (AttributeError, OSError):  # there is no such thing on this system, or the output is no file
        return False
    if left:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
    return left


def _speaks() -> bool:
    """Whether this process says what ended all processes of a training."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def _run(command: str, rest: list[str]) -> int:
    if command in _HELP:
        print(_usage(), end="", flush=True)
        return 0 if command else 2
    # Imported here: each command needs other libraries, and help should come at once.
    module = importlib.import_module(f"pcsa.scripts.{MODULES[command]}")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for noisy in ("lightning.pytorch", "lightning.fabric", "httpx", "huggingface_hub"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    for message in (
        "Checkpoint directory .* exists",  # The configuration lies there.
        "The number of training batches",  # A small set is no mistake.
        "The '.*_dataloader' does not have many workers",  # A dataset in memory needs none.
        ".*LeafSpec",  # Lightning causes it with torch 2.13.
    ):
        warnings.filterwarnings("ignore", message=message)
    try:
        status = int(module.main(rest))
    except SystemExit:  # of help
        sys.stdout.flush()
        raise
    # Here a reader who has left is known of, and not first when Python ends.
    sys.stdout.flush()
    return status


def _message(error: Exception) -> str:
    # Imported here: help should come at once.
    from pcsa.datasets.faults import said

    if isinstance(error, MemoryError):
        return f"not enough memory{': ' * bool(str(error))}{error}"
    text = said(error)
    # A process that loads items sends its traceback as the message; the line at its end is ours.
    if text.startswith("Caught ") and "worker process" in text:
        return text.strip().splitlines()[-1].removeprefix(f"{type(error).__name__}: ")
    return text


def _usage() -> str:
    return USAGE.format(tasks=", ".join(task_names()))


if __name__ == "__main__":
    sys.exit(main())
