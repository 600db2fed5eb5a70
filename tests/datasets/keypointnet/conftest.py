import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pcsa.datasets.keypointnet import CLASS_IDS
from pcsa.datasets.pcd import write_pcd

BED = CLASS_IDS["bed"]


def _points_of(model_id: str) -> np.ndarray:
    seed = sum(map(ord, model_id))
    return np.random.default_rng(seed).random((seed % 7 + 10, 3)).astype(np.float32)


def _record(model_id: str, keypoints: dict[int, int], rotation: list, reflection: list) -> dict[str, Any]:
    points = _points_of(model_id)
    return {
        "class_id": BED,
        "model_id": model_id,
        "keypoints": [
            {"xyz": points[i].tolist(), "rgb": [1, 2, 3], "semantic_id": k, "pcd_info": {"point_index": i}}
            for k, i in keypoints.items()
        ],
        "symmetries": {
            "reflection": [{"kp_indexes": pair} for pair in reflection],
            "rotation": [{"kp_indexes": g, "is_circle": c, "circle": {}} for g, c in rotation],
        },
    }


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Beds with semantic ids 2, 5, 9; `dd` is annotated and has no cloud, `ee` is named and nowhere."""
    root = tmp_path / "root"
    for folder in ("annotations", f"pcds/{BED}", "splits"):
        (root / folder).mkdir(parents=True)
    records = [
        # The list is in another order than the ids: its places 0, 1, 2 are the columns 2, 0, 1.
        _record("aa", {9: 4, 2: 1, 5: 0}, [([0, 1], False), ([2], True)], [[0, 1], [2, 0]]),
        _record("bb", {5: 3}, [], []),
        _record("cc", {2: 0, 9: 9}, [([0, 1], True)], [[1, 0]]),
        _record("dd", {2: 0}, [], []),
    ]
    (root / "annotations" / "bed.json").write_text(json.dumps(records))
    for model_id in ("aa", "bb", "cc"):
        points = _points_of(model_id)
        colors = None if model_id == "bb" else np.tile(np.arange(len(points))[:, None], 3)
        write_pcd(root / "pcds" / BED / f"{model_id}.pcd", points, colors)
    (root / "splits" / "train.txt").write_text(f"{BED}-aa\n0000-xx\n{BED}-bb\n{BED}-ee\n")
    (root / "splits" / "val.txt").write_text(f"{BED}-cc")
    (root / "splits" / "test.txt").write_text(f"{BED}-dd\n")
    return root


def _edit(root: Path, change: Callable[[list[dict[str, Any]]], Any]) -> None:
    path = root / "annotations" / "bed.json"
    records = json.loads(path.read_text())
    change(records)
    path.write_text(json.dumps(records))


@pytest.fixture
def points_of() -> Callable[[str], np.ndarray]:
    """The points of a cloud of `root`, by its model id."""
    return _points_of


@pytest.fixture
def edit() -> Callable[[Path, Callable[[list[dict[str, Any]]], Any]], None]:
    """Change the annotations of the beds in a root."""
    return _edit
