"""Training and scoring on real images and scans, where ``PCSA_TEST_DATA`` names a folder that has them."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from pcsa.datasets.coco import NAMES
from pcsa.scripts.cli import main


@pytest.fixture
def real():
    """The folder of a data set."""

    def get(name):
        root = os.environ.get("PCSA_TEST_DATA")
        if root is None or not (Path(root) / name).is_dir():
            pytest.skip(f"PCSA_TEST_DATA does not name a folder with {name}/")
        return Path(root) / name

    return get


@pytest.fixture
def train_and_evaluate(fast, tmp_path):
    """Trains for two steps and returns the metrics."""

    def run(task, flags, *evaluation):
        command = f"train {task} {flags} --optimizer.steps 2 {fast} --out {tmp_path}"
        assert main(command.split()) == 0
        with next((tmp_path / "log").rglob("metrics.csv")).open() as file:
            losses = [row["loss"] for row in csv.DictReader(file) if row.get("loss")]
        assert all(np.isfinite(float(loss)) for loss in losses)
        out = ["--out", str(tmp_path / "m.json")]
        assert main(["evaluate", str(tmp_path / "last.ckpt"), *map(str, evaluation), *out]) == 0
        return json.loads((tmp_path / "m.json").read_text())

    return run


def test_coco(real, train_and_evaluate, tmp_path):
    root = real("coco")
    flags = f"""--data.root {root} --data.annotations test_coco.json --data.images . --data.val-annotations
        test_coco.json --data.val-images . --data.input-size 64 48"""
    metrics = train_and_evaluate("pose2d", flags)
    assert metrics["split"] == "val"
    assert metrics["num_items"] == 12
    assert metrics["left_out"] == {"no labeled joint": 2}
    boxes = root / "test_coco_det_AP_H_56.json"
    arguments = ["--split", "val", "--detections", str(boxes), "--out", str(tmp_path / "d.json")]
    assert main(["evaluate", str(tmp_path / "last.ckpt"), *arguments]) == 0
    found = json.loads((tmp_path / "d.json").read_text())
    known = sum(d["category_id"] == 1 for d in json.loads(boxes.read_text()))
    assert found["num_items"] == known - found["left_out"].get("box without area in the picture", 0)
    assert found["names"] == list(NAMES)
    assert 0 <= found["average_precision"]["AP"] <= 1
    assert "pck_torso@0.1" not in found


def test_human36m(real, train_and_evaluate):
    root = real("h36m")
    flags = f"--data.root {root} --data.input-size 16 64 64 --data.train-subjects S1 S5 --data.test-subjects S7 S8"
    metrics = train_and_evaluate("pose3d image", flags, "--split", "test", "--pictures", 1)
    assert metrics["data"] == "Human36M"
    assert metrics["num_items"] == 2
    assert 0 < metrics["pa_mpjpe_mm"] <= metrics["mpjpe_mm"] < 2000


def test_lsp(real, train_and_evaluate):
    root = real("lsp")
    flags = f"--data.root {root} --data.layout lsp --data.input-size 32 24"
    metrics = train_and_evaluate("pose2d", flags)
    assert metrics["data"] == "Lsp"
    # What the layout calls val is trained on.
    assert metrics["split"] == "test"
    assert metrics["num_items"] + sum(metrics["left_out"].values()) == 60
    assert {"pck_torso@0.2", "pck_head@0.5"} <= metrics.keys()
    assert "average_precision" not in metrics


def test_mtfl(real, train_and_evaluate, tmp_path):
    root = real("mtfl")
    flags = f"--data.root {root} --data.num-test 20 --data.input-size 32 32 --model.channels 8 8"
    metrics = train_and_evaluate("landmarks", flags)
    assert metrics["data"] == "Mtfl"
    assert metrics["split"] == "test"
    assert metrics["num_items"] == 20
    assert 0 < metrics["nme"] < 10
    assert not list(tmp_path.rglob("*.png"))


def test_oct(real, train_and_evaluate, tmp_path):
    root = real("oct")
    flags = f"--data.root {root} --data.input-size 496 32 --model.channels 4 8"
    metrics = train_and_evaluate("oct", flags, "--pictures", 1)
    assert metrics["data"] == "OctScans"
    assert metrics["split"] == "test"
    assert metrics["num_items"] == 1  # the last quarter of the one scan, whole
    assert metrics["surfaces"]["ILM"]["num_columns"] == 192
    assert metrics["mean_um"] > 0
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert checkpoint["pcsa"]["config"]["data"]["root"] == str(root.resolve())
