"""Whole small files of every kind that the commands read again after they, or somebody else, have written them."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from fuzz_seeds import POINTS, npz


def studies() -> list[bytes]:
    from pcsa.scripts.reproduce.study import FOLDER

    return [file.read_bytes() for file in sorted(FOLDER.glob("*.toml"))]


def metrics() -> list[bytes]:
    distance = {"pck": [0.0, 0.4, 0.7], "mean_error": 0.02}
    reliability = {"confidence": [0.2, None], "accuracy": [0.1, None], "counts": [3, 0]}
    content = {
        "task": "supervised",
        "category": "mug",
        "num_items": 5,
        "thresholds": [0.0, 0.01, 0.1],
        "overall": {
            "euclidean": distance,
            "calibration": {"threshold": 0.01, "pearson": None, "reliability": reliability},
        },
        "per_keypoint": {"mug": {"rim": {"num_shapes": 5, "euclidean": distance}}},
    }
    grid = {"task": "landmarks", "num_items": 12, "nme": 0.04, "failure_rate@0.1": 0.1, "calibration": {"pearson": 0.4}}
    return [json.dumps(content).encode(), json.dumps(grid, indent=1).encode()]


def settings() -> list[bytes]:
    objective = {"method": "sampling", "read_out": "soft", "plus": [["variance", 0.5]]}
    return [json.dumps({"task": "landmarks", "version": "0.1.0", "config": {"objective": objective}}).encode()]


def configurations() -> list[bytes]:
    objective = "  objective:\n    method: sampling\n    plus:\n    - [soft, 0.5]\n    norm: l2\n"
    rest = "  optimizer: {steps: 12, lr: 1e-3, milestones: []}\n  seed: 0\n  out: /runs/a\n  init_from: null\n"
    head = "# pcsa train landmarks\ntask: landmarks\nversion: 0.1.0\nconfig:\n"
    return [f"{head}{objective}{rest}".encode(), b"config: {trainer: {progress: yes, best: &a val_error}}\n"]


def logs() -> list[bytes]:
    return [b"epoch,loss,lr-Adam,step\n0,0.5,,9\n0,,0.001,9\n1,0.25,,19\n1,nan,,29\n"]


def rows() -> list[bytes]:
    results = Path(__file__).parents[2] / "results" / "detector" / "results.jsonl"
    lines = results.read_bytes().splitlines(keepends=True)
    return [b"".join(lines[:2])]


def shapes() -> list[bytes]:
    file = Path(__file__).parents[2] / "results" / "detector" / "shapes" / "bed.jsonl"
    line = json.loads(file.read_bytes().splitlines()[0])
    return [json.dumps({"run": line["run"], "keypoints": {}, "shapes": {}}).encode() + b"\n"]


MADE_WITH = {"version": "0.1.0", "device": "cpu"}


def _predicted() -> dict[str, Any]:
    items = [{"input": "/a.ply", "keypoints": [[0.5, 0.25, 1.0]], "confidence": [0.5]}]
    inputs = {"/a.ply": {"size": 3, "mtime_ns": 4, "pictures": None}}
    return {
        "names": ["nose"],
        "items": items,
        "failed": [{"input": "/b.ply", "reason": "cut off"}],
        "made_with": MADE_WITH,
        "inputs": inputs,
    }


def predictions() -> list[bytes]:
    return [json.dumps(_predicted()).encode()]


def predictions_npz() -> list[bytes]:
    import zlib

    document = np.frombuffer(zlib.compress(json.dumps(_predicted()).encode()), np.uint8)
    return [npz(document=document, names=np.array(["nose"]))]


def journals() -> list[bytes]:
    entry = {"input": "/a.ply", "size": 3, "mtime_ns": 4, "pictures": ["a.png"], "items": [{"keypoints": [[0, 1, 2]]}]}
    return [json.dumps({"made_with": MADE_WITH}).encode() + b"\n" + json.dumps(entry).encode() + b"\n"]


def records() -> list[bytes]:
    import base64

    import torch

    stream = io.BytesIO()
    torch.save({"error": torch.arange(3.0), "name": ["a"]}, stream)
    line = {"first": 0, "items": [None, None], "failed": [], "record": base64.b64encode(stream.getvalue()).decode()}
    head = {"made_with": {**MADE_WITH, "batch_size": 2}}
    return [json.dumps(head).encode() + b"\n" + json.dumps(line).encode() + b"\n"]


def boxes() -> list[bytes]:
    return [json.dumps({"7.png": [[1, 2, 10.5, 12]], "b.png": []}).encode()]


def labeled() -> list[bytes]:
    item = {
        "points": POINTS.tolist(),
        "keypoints": POINTS[:2].tolist(),
        "names": ["a", "b"],
        "colors": None,
        "model_id": "x",
    }
    return [json.dumps([list(item.values()), list(item.values())[:3]]).encode()]


def checkpoint_content() -> dict[str, Any]:
    import torch

    from pcsa.tasks import get_task
    from pcsa.tasks.common.config import to_plain
    from pcsa.tasks.common.maps import MapLabels
    from pcsa.tasks.landmarks import LandmarkModelConfig, LandmarksConfig, LandmarksData

    config = LandmarksConfig(data=LandmarksData(input_size=(16, 16)), model=LandmarkModelConfig(channels=(2, 2)))
    labels = MapLabels(names=("left_eye", "right_eye", "nose"))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = get_task("landmarks").build(config, labels)
    state = {f"network.{name}": value for name, value in model.state_dict().items()}
    about = {
        "task": "landmarks",
        "version": "0.1.0",
        "config": to_plain(config),
        "labels": to_plain(labels),
        "temperature": 1.0,
    }
    about["calibration"] = {"temperature": 1.5, "split": "val"}
    return {
        "epoch": 1,
        "global_step": 4,
        "pytorch-lightning_version": "2.6.0",
        "state_dict": state,
        "optimizer_states": [{"state": {}, "param_groups": []}],
        "lr_schedulers": [],
        "loops": {},
        "pcsa": about,
    }


def checkpoints() -> list[bytes]:
    import torch

    stream = io.BytesIO()
    torch.save(checkpoint_content(), stream)
    return [stream.getvalue()]


def detector_content(backbone: object, options: object) -> dict[str, Any]:
    """A checkpoint without weights of a detector on a network by name."""
    from pcsa.tasks import get_task
    from pcsa.tasks.common.config import to_plain

    content = checkpoint_content()
    content["pcsa"]["task"] = "supervised"
    content["pcsa"]["config"] = to_plain(get_task("supervised").presets["default"])
    content["pcsa"]["config"]["model"] |= {"backbone": backbone, "backbone_options": options}
    content["pcsa"]["labels"] = {"category": "chair", "names": ["a", "b"], "semantic_ids": [0, 1]}
    return {**content, "state_dict": {}}


def detectors() -> list[bytes]:
    import torch

    seeds = []
    for backbone, options in (
        ("own_networks_of_nobody:Net", {"k": 20, "widths": [64, 128], "act": "gelu"}),
        ("pcsa.models:PointNet2", {"out_channels": 8}),
    ):
        stream = io.BytesIO()
        torch.save(detector_content(backbone, options), stream)
        seeds.append(stream.getvalue())
    return seeds


def _shared() -> tuple[bytes, bytes]:
    import tempfile
    from pathlib import Path

    from pcsa.tasks.common.shared import DESCRIPTION, WEIGHTS, write_shared

    with tempfile.TemporaryDirectory() as folder:
        write_shared(Path(folder), checkpoint_content())
        return Path(folder, WEIGHTS).read_bytes(), Path(folder, DESCRIPTION).read_bytes()


def shared_weights() -> list[bytes]:
    return [_shared()[0]]


def descriptions() -> list[bytes]:
    return [_shared()[1]]


def weights() -> list[bytes]:
    import torch

    state = {"conv1.weight": torch.zeros(2, 3, 7, 7), "bn1.weight": torch.ones(2)}
    seeds = []
    for new in (True, False):
        stream = io.BytesIO()
        torch.save(state, stream, _use_new_zipfile_serialization=new)
        seeds.append(stream.getvalue())
    return seeds


def clicked_names() -> list[bytes]:
    return [json.dumps({"version": 1, "names": ["nose", "left ear"]}).encode()]


def clicks() -> list[bytes]:
    known = {"nose": [0.1, -2.5, 3e7], "left ear": None}
    sheets = [{"labels": known, "size": [40, 0], "split": "val"}, {"labels": {}, "size": [8, 12], "split": None}]
    return [json.dumps({"version": 1, **sheet}).encode() for sheet in sheets]
