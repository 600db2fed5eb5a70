"""What is harmed: the trainings of all tasks, evaluation, prediction, and what writes data and results."""

import hashlib
import json
import shutil
from functools import cache
from pathlib import Path

import programs
import torch
from harness import LostError, Scenario

FAST = (
    "--optimizer.steps 13 --trainer.validate-every 1 --trainer.save-seconds 0 --trainer.no-progress "
    "--trainer.accelerator cpu --out run"
)
CLOUDS = "--data.root ROOT --data.category chair --model.out-channels 16 --optimizer.batch-size 4"
# Three steps an epoch: the training ends in the middle of the fifth. There are two rows of steps in the log.
TASKS = {
    "landmarks": "landmarks --data.num-images 20 --data.input-size 32 32 --model.channels 8 8 "
    "--optimizer.batch-size 4 --trainer.best val_error",
    "workers": "landmarks --data.num-images 20 --data.input-size 32 32 --model.channels 8 8 "
    "--optimizer.batch-size 4 --trainer.num-workers 2",
    "supervised": f"supervised {CLOUDS}",
    "unsupervised": f"unsupervised demo {CLOUDS} --model.num-keypoints 4 --objective.num-loss-points 100",
    "pose2d": "pose2d --data.num-images 20 --data.input-size 32 24 --optimizer.batch-size 4",
    "pose3d": "pose3d --data.num-items 20 --data.input-size 16 16 16 --optimizer.batch-size 4",
    "oct": "oct --data.num-scans 20 --data.input-size 64 16 --model.channels 4 8 --optimizer.batch-size 4",
}


def trainings(root, more=""):
    """A training of every task; ``more`` are options of all, as for two processes."""
    return {name: training(name, options.replace("ROOT", str(root)), more) for name, options in TASKS.items()}


def training(name, options, more=""):
    """A training into ``run``."""
    words = ["pcsa", "train", *options.split(), *FAST.split(), *more.split()]

    def again(folder):
        return [*words, "--resume"] if (folder / "run" / "last.ckpt").exists() else words

    return Scenario(f"train {name}", lambda folder: None, words, again, trained, check_checkpoints)


def trained(folder):
    """The state of a training, to the last bit, and its log, row by row."""
    from pcsa.scripts.report import read_log

    run = folder / "run"
    found = {}
    for file in sorted(run.glob("[!.]*.ckpt")):
        state = torch.load(file, weights_only=True)
        parts = ("state_dict", "optimizer_states", "lr_schedulers", "global_step")
        found |= {f"{file.name} {part}": _digest(state[part]) for part in parts}
        found[f"{file.name} about"] = _about(state["pcsa"])
    for key, (steps, values) in read_log(run / "log").items():
        found[f"log {key}"] = dict(zip(steps.tolist(), values.tolist(), strict=True))
    found["config"] = _about(json.loads((run / "config.json").read_text())) if (run / "config.json").exists() else ""
    return found


def _about(about):
    """What a checkpoint says of itself, but for where it lies and whether it was resumed."""
    return json.dumps({**about, "config": {**about["config"], "resume": False, "out": ""}}, sort_keys=True)


def check_checkpoints(folder):
    """All checkpoints open, and hold numbers."""
    from pcsa.tasks import open_run

    for file in sorted((folder / "run").glob("[!.]*.ckpt")):
        try:
            weights = open_run(file).model.state_dict()
        except ValueError as error:
            raise LostError(f"a checkpoint does not open: {error}") from None
        if not all(bool(x.isfinite().all()) for x in weights.values() if x.is_floating_point()):
            raise LostError(f"{file.name} has weights that are not finite")


def calls(checkpoint, inputs, root):
    """What reads a checkpoint and writes something, and what writes data and results."""

    def with_checkpoint(folder):
        shutil.copytree(checkpoint.parent, folder / "run")

    def simple(name, words, result, prepare=lambda folder: None, check=lambda folder: None):
        return Scenario(name, prepare, words.split(), lambda folder: words.split(), result, check)

    cached = [
        "pcsa",
        "train",
        "supervised",
        "demo",
        "--data.category",
        "mug",
        "--optimizer.steps",
        "1",
        "--model.out-channels",
        "16",
        "--trainer.no-progress",
        "--trainer.accelerator",
        "cpu",
        "--optimizer.batch-size",
        "4",
        "--out",
        "run",
    ]
    return {
        "evaluate": simple(
            "evaluate",
            "pcsa evaluate run/last.ckpt --split test --batch-size 1 --no-progress --device cpu --out scores.json",
            lambda folder: _texts(folder, "scores.json"),
            with_checkpoint,
            check_checkpoints,
        ),
        "evaluate with workers": simple(
            "evaluate with workers",
            "pcsa evaluate run/last.ckpt --split test --batch-size 1 --no-progress --device cpu --out scores.json "
            "--num-workers 2",
            lambda folder: _texts(folder, "scores.json"),
            with_checkpoint,
            check_checkpoints,
        ),
        "calibrate": simple(
            "calibrate",
            "pcsa evaluate run/last.ckpt --split val --batch-size 1 --no-progress --device cpu --out scores.json",
            lambda folder: _calibrated(folder),
            with_checkpoint,
            check_checkpoints,
        ),
        "predict": simple(
            "predict",
            f"pcsa predict run/last.ckpt {inputs} --no-progress --device cpu --out found.json",
            lambda folder: _texts(folder, "found.json"),
            with_checkpoint,
        ),
        "report": simple(
            "report", "pcsa report run --out page", lambda folder: _texts(folder, "page/*"), with_checkpoint
        ),
        "generate": simple(
            "generate",
            "pcsa data generate data --categories mug --num-shapes 4 --num-points 256 --overwrite",
            lambda folder: _texts(folder / "data", "**/*"),
            lambda folder: shutil.copytree(root, folder / "data"),
            lambda folder: _check_chairs(folder / "data", root),
        ),
        "label": simple(
            "label",
            "label data 1 5",
            lambda folder: _texts(folder / "data", "**/*"),
            _labeled,
            lambda folder: _check_labeled(folder, root=None),
        ),
        "rows": simple("rows", "rows results 5", _rows, _with_row, _check_rows),
        # What the cache holds is made by the first training that wants it.
        "cache": Scenario(
            "cache",
            lambda folder: None,
            cached,
            lambda folder: [*cached, "--resume"] if (folder / "run" / "last.ckpt").exists() else cached,
            lambda folder: {name: value for name, value in trained(folder).items() if name.startswith("last.ckpt")},
            check_checkpoints,
        ),
    }


def _texts(folder, pattern):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.glob(pattern))
        if path.is_file() and not path.name.startswith(".")
    }


def _calibrated(folder):
    about = torch.load(folder / "run" / "last.ckpt", weights_only=True)["pcsa"]
    return {"calibration": about.get("calibration"), "scores": (folder / "scores.json").exists()}


def _labeled(folder):
    """A root with a category that is to be replaced, and one that is not."""
    from pcsa.datasets.custom import write_labeled

    write_labeled(folder / "data", "bird", programs.fish(7, 4))
    write_labeled(folder / "data", "fish", programs.fish(0, 6))


def _check_labeled(folder, root):
    """The category is the former or the new one, and the other is as it was."""
    copy = folder.parent / f"{folder.name}-copy"
    shutil.copytree(folder / "data", copy)
    try:
        for category, expected in (("bird", [(7, 4)]), ("fish", [(0, 6), (1, 5)])):
            if _clouds(copy, category) not in [_expected(*one) for one in expected]:
                raise LostError(f"{category} is neither what it was nor what it should become")
    finally:
        shutil.rmtree(copy)


def _clouds(root, category):
    """What all clouds of a category hold, or what is wrong."""
    from pcsa.datasets.keypointnet import KeypointNet

    found = set()
    for split in ("train", "val", "test"):
        try:
            clouds = KeypointNet(root, category, split, strict=True, cache_dir=root / ".cache")
            found |= {_digest([data.pos, data.keypoints]) for data in clouds}
        except (ValueError, OSError) as error:
            return str(error)
    return found


@cache
def _expected(seed, count):
    import tempfile

    from pcsa.datasets.custom import write_labeled

    with tempfile.TemporaryDirectory() as folder:
        write_labeled(folder, "fish", programs.fish(seed, count), seed=0)
        return _clouds(Path(folder), "fish")


def _check_chairs(root, before):
    """Another category is as it was, its lines in the splits too."""
    for path in sorted(before.rglob("*")):
        if path.is_file() and path.parent.name != "splits":
            here = root / path.relative_to(before)
            if not here.exists() or here.read_bytes() != path.read_bytes():
                raise LostError(f"another category has lost {here.name}")
    for path in (before / "splits").glob("*.txt"):
        lines = set((root / "splits" / path.name).read_text().splitlines())
        if not set(path.read_text().splitlines()) <= lines:
            raise LostError(f"another category has lost lines of {path.name}")


def _with_row(folder):
    from pcsa.scripts.reproduce.results import Results

    Results(folder / "results").add(programs.result_row(0))


def _rows(folder):
    from pcsa.scripts.reproduce.results import Results

    return {"rows": Results(folder / "results").rows, **_texts(folder / "results", "**/*")}


def _check_rows(folder):
    """The rows that are there are whole, and the first has been there all the time."""
    from pcsa.scripts.reproduce.results import Results

    rows = list(Results(folder / "results").rows.values())
    if [row for row in rows if row["seed"] == 0] != [programs.result_row(0)]:
        raise LostError("the row that was there is another")
    if any(row != programs.result_row(row["seed"]) for row in rows):
        raise LostError("a row is not whole")


def _digest(value):
    """A hash of numbers, tensors and what holds them."""
    digest = hashlib.sha256()

    def add(part):
        if isinstance(part, torch.Tensor):
            digest.update(repr((part.dtype, tuple(part.shape))).encode() + part.contiguous().numpy().tobytes())
        elif isinstance(part, dict):
            for key, inner in part.items():
                digest.update(repr(key).encode())
                add(inner)
        elif isinstance(part, list | tuple):
            for inner in part:
                add(inner)
        else:
            digest.update(json.dumps(part, default=repr).encode())

    add(value)
    return digest.hexdigest()[:16]
