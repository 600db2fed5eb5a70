"""What the victims do: the commands, and calls of the library that write."""

import contextlib
import io
import logging
import os
import tempfile
import warnings
from pathlib import Path

import pcsa.scripts

COMMAND = str(Path(next(iter(pcsa.scripts.__path__))) / "cli.py")


def warm():
    """Import what all victims need."""
    warnings.simplefilter("ignore")
    import matplotlib
    import torch

    torch.set_num_threads(1)
    matplotlib.use("agg")
    import pcsa.scripts.evaluate
    import pcsa.scripts.predict
    import pcsa.scripts.report
    import pcsa.scripts.reproduce.results
    import pcsa.scripts.train  # noqa: F401
    from pcsa.tasks import get_task, task_names

    for name in task_names():
        get_task(name)
    # A training brings the rest.
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        os.chdir(folder)
        tiny = "landmarks --data.num-images 20 --data.input-size 32 32 --model.channels 8 8 --optimizer.steps 1"
        flags = "--optimizer.batch-size 4 --trainer.no-progress --trainer.accelerator cpu --out run"
        for words in (
            f"train {tiny} {flags}",
            "evaluate run/last.ckpt --split test --no-progress --device cpu",
            "report run --split test",
        ):
            if command(*words.split()):
                raise RuntimeError(words)
        os.chdir(before)
    logging.getLogger().handlers.clear()


def run(words):
    """Run a program by its name and arguments, and return its exit status."""
    program, *arguments = words
    return PROGRAMS[program](*arguments)


def command(*arguments):
    """Any command of ``pcsa``."""
    from pcsa.scripts.cli import main

    return main(arguments)


def fish(seed, count):
    """Labeled clouds of small fish."""
    import numpy as np

    rng = np.random.default_rng(seed)
    clouds = [rng.random((60, 3)) for _ in range(count)]
    return [(points, points[[0, 7]], ["nose", "tail"]) for points in clouds]


def label(root, seed, count):
    """Replace a category of labeled clouds."""
    from pcsa.datasets.custom import write_labeled

    return _tried(lambda: write_labeled(root, "fish", fish(int(seed), int(count)), seed=int(seed), overwrite=True))


def rows(folder, count):
    """Add rows to the results of a study, those that it lacks."""
    from pcsa.scripts.reproduce.results import Results

    def add():
        results = Results(Path(folder))
        known = {row["run"] for row in results.rows.values()}
        for number in range(int(count)):
            row = result_row(number)
            if row["run"] not in known:
                results.add(row)

    return _tried(add)


def result_row(number):
    """A row as a study writes it."""
    from pcsa.scripts.reproduce.digests import shown_config
    from pcsa.tasks.supervised import SupervisedConfig

    return {
        "method": ("soft", "sampling")[number % 2],
        "category": ("bed", "chair")[number % 2],
        "fold": None,
        "seed": number,
        "task": "supervised",
        "split": "val",
        "run": f"run-{number}",
        "digest": f"{number:08x}",
        "config": shown_config(SupervisedConfig(seed=number)),
        "versions": {"pcsa": "1"},
        "figures": {"peak": {"PCK": 0.1 * number}},
        "keypoints": {"a": number},
        "shapes": {"peak": {"PCK": [0.1 * number]}},
    }


def whole(text):
    """Replace a file, and add to another, as the package does."""
    from pcsa._core.writing import append, replacing

    def write():
        with replacing(Path("whole.json")) as temporary:
            temporary.write_text(text)
        with open("rows", "ab", buffering=0) as file:
            append(file, b"")
            if not Path("rows").read_text().endswith(f"{text}\n"):
                append(file, f"{text}\n".encode())

    return _tried(write)


def careless(text):
    """The same as anybody would."""

    def write():
        Path("whole.json").write_text(text)
        with open("rows", "a") as file:
            file.write(f"{text}\n")

    return _tried(write)


def _tried(act):
    """Run something that is no command as a command runs: a mistake ends in one line."""
    import sys

    from pcsa.datasets.faults import said

    try:
        act()
    except (ValueError, OSError) as error:
        print(f"pcsa label: {said(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("pcsa label: interrupted", file=sys.stderr)
        return 130
    return 0


PROGRAMS = {"pcsa": command, "label": label, "rows": rows, "whole": whole, "careless": careless}
