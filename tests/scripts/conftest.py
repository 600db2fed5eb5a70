"""Procedural mugs, and a detector that was trained on them for a moment."""

import pytest

from pcsa.scripts.cli import main


@pytest.fixture(scope="session")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    assert (
        main(["data", "generate", str(root), "--categories", "mug", "--num-shapes", "10", "--num-points", "256"]) == 0
    )
    return root


@pytest.fixture(scope="session")
def checkpoint(root, tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    flags = (
        "--data.category mug --optimizer.steps 4 --optimizer.batch-size 4 --model.out-channels 16 --trainer.no-progress"
    )
    assert main(["train", "supervised", "--data.root", str(root), "--out", str(out), *flags.split()]) == 0
    return out / "last.ckpt"
