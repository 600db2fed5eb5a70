"""Call the commands of the installed package one after the other: ``python -P commands.py TASK…``.

Works in the current folder, and prints one line of JSON for each command: its words, its exit status, and the last line
that it said on stderr. Ends with status 1 if a command ends in an exception.
"""

import contextlib
import io
import json
import sys
import traceback
import warnings

from pcsa.scripts.cli import main

CLOUDS = "--data.root data --data.category mug --model.out-channels 16"
SETTINGS = {
    "supervised": f"supervised {CLOUDS}",
    "unsupervised": f"unsupervised demo {CLOUDS} --model.num-keypoints 4",
    "pose2d": "pose2d --data.num-images 20 --data.input-size 32 24",
    "pose3d": "pose3d --data.num-items 20 --data.input-size 16 16 16",
    "oct": "oct --data.num-scans 20 --data.input-size 64 16 --model.channels 4 8",
    "landmarks": "landmarks --data.num-images 20 --data.input-size 32 32 --model.channels 8 8",
}
SHORT = "--optimizer.steps 3 --optimizer.batch-size 4 --trainer.no-progress --trainer.accelerator cpu"


def call(words: str) -> bool:
    """Call one command and print what came of it; returns whether it ended as commands do."""
    said = io.StringIO()
    status, crash = 0, ""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
        try:
            status = main(words.split())
        except SystemExit as end:
            status = int(end.code or 0)
        except BaseException as error:
            crash = f"{type(error).__name__}: {error}"
            traceback.print_exc()
    lines = said.getvalue().strip().splitlines()
    print(
        json.dumps({"words": words, "status": status, "crash": crash, "said": lines[-1] if lines else ""}), flush=True
    )
    if crash:
        print(said.getvalue(), file=sys.stderr)
    return not crash


def calls(tasks: list[str]) -> list[str]:
    """The commands that train, score, use and pass on the networks of some tasks."""
    words = ["data generate data --categories mug --num-shapes 10 --num-points 256"]
    for task in tasks:
        words += [
            f"train {SETTINGS[task]} {SHORT} --out runs/{task}",
            f"evaluate runs/{task}/last.ckpt --split test --no-progress",
        ]
    if "supervised" in tasks:
        words += [
            "predict runs/supervised/last.ckpt data/pcds/03797390 --out predictions.json",
            "share runs/supervised/last.ckpt --out shared",
            "export runs/supervised/last.ckpt --out detector.onnx",
        ]
    return words


if __name__ == "__main__":
    warnings.simplefilter("default")
    ended = [call(words) for words in calls(sys.argv[1:])]
    sys.exit(not all(ended))
