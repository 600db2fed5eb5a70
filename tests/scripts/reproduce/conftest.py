"""Calls of ``pcsa reproduce``, and runs that only pretend to be made."""

from types import SimpleNamespace

import numpy as np
import pytest

from pcsa.datasets.custom import LabeledCloud, write_labeled
from pcsa.tasks import get_task


@pytest.fixture
def calls(root, tmp_path):
    """The arguments of calls that make all runs of a study in this process, by the file of the study."""

    def of(study, root=root):
        def arguments(*more, executor="debug"):
            folders = ["--results", tmp_path / "results", "--runs", tmp_path / "runs"]
            given = ["reproduce", study, "--root", root, "--executor", executor, *folders, *more]
            return [str(argument) for argument in given]

        return arguments

    return of


@pytest.fixture(scope="session")
def marked_root(tmp_path_factory):
    """Ten ellipsoids whose three ends five people marked."""
    rng = np.random.default_rng(0)
    clouds = []
    for i in range(10):
        direction = rng.normal(size=(128, 3))
        pos = direction / np.linalg.norm(direction, axis=1, keepdims=True) * [3 + 0.1 * i, 2, 1]
        ends = pos[[pos[:, 0].argmax(), pos[:, 0].argmin(), pos[:, 2].argmax()]]
        marks = [end + spread * rng.normal(size=(5, 3)) for end, spread in zip(ends, (0.05, 0.1, 0.3), strict=True)]
        places = np.array([own.mean(0) for own in marks])
        clouds.append(LabeledCloud(pos, places, ["nose", "tail", "top"], None, f"{i:02d}", marks))
    root = tmp_path_factory.mktemp("marked")
    write_labeled(root, "blob", clouds, snap=False, fractions=(1, 0, 0))
    return root


@pytest.fixture
def study(request, tmp_path):
    """The file of the study that a module writes out as ``STUDY``."""
    path = tmp_path / "tiny.toml"
    path.write_text(request.module.STUDY)
    return path


@pytest.fixture
def call(study, calls):
    """The arguments of a call that makes all runs of the study in this process."""
    return calls(study)


@pytest.fixture
def trains(monkeypatch):
    """The folders of the runs that are trained from now on; nothing is really trained or scored."""
    found = []

    def train_once(task, config):
        if config.data.num_keypoints == 99:
            raise ValueError("`data.num_keypoints` (=99) must be fewer")
        if not (config.out / "last.ckpt").exists():
            found.append(config.out)
        (config.out / "last.ckpt").touch()
        (config.out / "seconds.json").write_text("12.5")
        return config.out / "last.ckpt", 12.5

    def evaluate(run, options):
        # Another figure for each seed.
        place = 0.001 + 0.01 * int(options.checkpoint.parent.name.split("-s")[-1][0])
        assert all(path.exists() for path in (options.checkpoint, *options.ensemble))
        read_outs = {options.read_out: {"euclidean": [place, None, 0.5]}}
        shapes = {name: {"num_keypoints": 2, "read_outs": read_outs} for name in "ab"}
        return {"num_items": 2, "read_out": options.read_out, "per_shape": shapes, "thresholds": []}

    monkeypatch.setattr("pcsa.scripts.once.train_once", train_once)
    monkeypatch.setattr("pcsa.scripts.reproduce.scoring.evaluate", evaluate)
    monkeypatch.setattr(
        "pcsa.scripts.reproduce.scoring.open_run",
        lambda *_, **__: SimpleNamespace(task=get_task("supervised"), device="cpu"),
    )
    return found
