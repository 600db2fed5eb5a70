"""Your own clouds from labels to predictions: write them, train, score, and find the keypoints of a new scan.

The clouds are ellipsoids of random proportions with three labeled points; everything lies in a temporary folder.

    python examples/own_clouds.py
"""

import tempfile
from pathlib import Path

import numpy as np

from pcsa.datasets.custom import write_labeled
from pcsa.scripts.cli import main as pcsa

NAMES = ["top", "left", "right"]


def scan(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Points [300, 3] on an ellipsoid, in millimeters, and the keypoints [3, 3] named above."""
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(300, 3))
    points *= rng.uniform(60, 100, size=3) / np.linalg.norm(points, axis=1, keepdims=True)
    return points, points[[points[:, 1].argmax(), points[:, 0].argmax(), points[:, 0].argmin()]]


def main() -> None:
    """Label, train, evaluate, predict."""
    with tempfile.TemporaryDirectory() as folder:
        root, run, found = Path(folder, "clouds"), Path(folder, "run"), Path(folder, "keypoints.npz")
        labeled = [(*scan(seed), NAMES) for seed in range(40)]
        write_labeled(root, "ellipsoid", labeled, names=NAMES, mirror_pairs=[("left", "right")])

        train = f"train supervised --data.root {root} --data.category ellipsoid --out {run}"
        settings = "--optimizer.steps 30 --trainer.no-progress --trainer.validate-every 100"
        evaluate = f"evaluate {run}/last.ckpt --thresholds 0 5 10 20 --correct-threshold 10 --split test"
        points, truth = scan(seed=1000)
        np.save(Path(folder, "new_scan.npy"), points)
        predict = f"predict {run}/last.ckpt {folder}/new_scan.npy --out {found}"
        for command in (f"{train} {settings}", evaluate, predict):
            if pcsa(command.split()) != 0:
                raise SystemExit(f"failed: pcsa {command}")

        for name, position, at in zip(NAMES, np.load(found)["position"][0], truth, strict=True):
            print(f"{name:5}: {position.round()} mm, {np.linalg.norm(position - at):.0f} mm from the label")


if __name__ == "__main__":
    main()
