"""The way of docs/wild.md from a Skeleton Merger on aligned clouds to a detector of turned ones."""

import json

import torch

from pcsa.datasets.keypointnet import KeypointNet
from pcsa.scripts.cli import main
from pcsa.tasks import open_run


def test_a_merger_teaches_a_detector_of_turned_clouds(trained, root, tmp_path, fast):
    teacher, marks, labeled = trained("unsupervised"), tmp_path / "marks.csv", tmp_path / "labeled"
    aligned = KeypointNet(root, "mug", "all")
    scans = root / "pcds" / aligned.class_id
    assert main(["predict", str(teacher), str(scans), "--out", str(marks), "--no-progress"]) == 0
    held_out = KeypointNet(root, "mug", "test").model_ids
    flags = f"--category mug --test {' '.join(held_out)} --val {aligned.model_ids[0]}"
    assert main(["data", "import", str(scans), str(marks), "--out", str(labeled), *flags.split()]) == 0
    test = KeypointNet(labeled, "mug", "test")
    assert sorted(test.model_ids) == sorted(held_out)
    # Labels are what the teacher finds, where it finds it: within the shape, not at its points.
    run = open_run(teacher)
    found = run.task.locate(run, [test[0].pos], "expectation").position[0]
    order = [list(run.labels.names).index(name) for name in test.names]
    torch.testing.assert_close(test[0].keypoints[0], found[order], rtol=1e-3, atol=1e-4)
    out = tmp_path / "student"
    training = f"--data.root {labeled} --data.category mug --model.rotation any --model.out-channels 16"
    training += f" --optimizer.steps 2 {fast} --out {out}"
    assert main(["train", "supervised", *training.split()]) == 0
    asked = "--split test --rotate any --no-geodesic --no-progress"
    assert main(["evaluate", str(out / "last.ckpt"), *asked.split()]) == 0
    metrics = json.loads((out / "metrics-test-rotated-any.json").read_text())
    assert metrics["num_items"] == len(held_out)
