"""The commands of the grid tasks as a user calls them, on tiny settings: nothing is learned in two steps."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pcsa.datasets.coco import NAMES
from pcsa.datasets.procedural import Faces, FigureImages3D, Figures2D, Figures3D, Retinas
from pcsa.scripts.cli import main

FAST = "--optimizer.steps 2 --optimizer.batch-size 4 --trainer.no-progress --trainer.accelerator cpu"
# Preset, and settings of the data and the network.
TASKS = {
    "pose2d": ("pose2d", "--data.num-images 20 --data.input-size 32 24"),
    "pose3d": ("pose3d", "--data.num-items 20 --data.input-size 16 16 16"),
    "pose3d-image": ("pose3d image", "--data.num-items 20 --data.input-size 16 32 24"),
    "oct": ("oct", "--data.num-scans 20 --data.input-size 64 16 --model.channels 4 8"),
    "landmarks": ("landmarks", "--data.num-images 20 --data.input-size 32 32 --model.channels 8 8"),
}


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """Trains a task once, when it is first asked for."""
    done = {}

    def get(name):
        if name not in done:
            out = tmp_path_factory.mktemp(name)
            task, flags = TASKS[name]
            assert main(["train", *task.split(), *f"{flags} {FAST} --out {out}".split()]) == 0
            done[name] = out / "last.ckpt"
        return done[name]

    return get


@pytest.fixture(scope="session")
def scored(trained):
    """The metrics of a task's test items, evaluated once."""
    done = {}

    def get(name):
        if name not in done:
            checkpoint = trained(name)
            assert main(["evaluate", str(checkpoint), "--pictures", "3"]) == 0
            done[name] = json.loads((checkpoint.parent / "metrics-test.json").read_text())
        return done[name]

    return get


def _save(path, image):
    """A picture [C, H, W] from 0 to 1, of bytes."""
    array = (image.numpy() * 255 + 0.5).astype(np.uint8)
    Image.fromarray(array.transpose(1, 2, 0) if len(array) == 3 else array[0]).save(path)


def _predict(checkpoint, inputs, out, *flags):
    """Items predicted, and the folder of their pictures."""
    arguments = [*map(str, inputs), "--out", str(out / "p.json"), "--png", str(out / "png"), *map(str, flags)]
    assert main(["predict", str(checkpoint), *arguments]) == 0
    return json.loads((out / "p.json").read_text())


def _picture(path):
    with Image.open(path) as file:
        assert file.mode in ("RGB", "RGBA")
        assert np.asarray(file).std() > 5
        return file.size


def _sources(items, out):
    """A folder with the pictures of a split, and their boxes."""
    boxes = {}
    folder = out / "pictures"
    folder.mkdir()
    for i in range(len(items)):
        source = items.source(i)
        _save(folder / f"{i}.png", source["image"])
        boxes[f"{i}.png"] = [source["box"].tolist()]
    (out / "boxes.json").write_text(json.dumps(boxes))
    return folder, out / "boxes.json"


# --- train, evaluate, predict


@pytest.mark.parametrize("name", TASKS)
def test_evaluate_prints_what_it_writes(trained, name, scored, capsys):
    scored(name)
    checkpoint = trained(name)
    capsys.readouterr()
    assert main(["evaluate", str(checkpoint), "--pictures", "3"]) == 0
    table = capsys.readouterr().out
    metrics = json.loads((checkpoint.parent / "metrics-test.json").read_text())
    assert metrics == scored(name)
    task = TASKS[name][0].split()[0]
    assert table.startswith(f"{task}, procedural, test: 4 items\n")
    assert ("flip test" in table) == metrics["flip_test"] == (name not in ("pose3d", "oct"))
    assert str(checkpoint.parent / "predictions-test.png") in table
    width, height = _picture(checkpoint.parent / "predictions-test.png")
    assert min(width, height) > 100

    def row(label):
        return next(line for line in table.splitlines() if line.startswith(label + " ")).removeprefix(label).split()

    shown = {
        "pose2d": {"pck_torso@0.1": ("pck_torso@0.1 (%)", 100, 1), "pck_torso@0.2": ("pck_torso@0.2 (%)", 100, 1)},
        "pose3d": {"mpjpe_mm": ("mpjpe_mm", 1, 1), "pa_mpjpe_mm": ("pa_mpjpe_mm", 1, 1)},
        "oct": {"mean_px": ("all", 1, 3), "mean_um": ("all, micrometers", 1, 2)},
        "landmarks": {"nme": ("nme (%)", 100, 2), "failure_rate@0.1": ("failure_rate@0.1 (%)", 100, 1)},
    }[task]
    for key, (label, factor, digits) in shown.items():
        assert row(label)[0] == f"{factor * metrics[key]:.{digits}f}"
    if name == "pose2d":
        assert row("AP") == [f"{100 * metrics['average_precision']['AP']:.1f}"]


def test_pose2d_scores_are_those_of_the_predictions(trained, scored, tmp_path):
    metrics = scored("pose2d")
    items = Figures2D("test", num_images=4, input_size=(32, 24))
    folder, boxes = _sources(items, tmp_path)
    predicted = _predict(trained("pose2d"), [folder], tmp_path, "--boxes", boxes)
    assert predicted["task"] == "pose2d"
    assert predicted["names"] == list(items.names) == metrics["names"]
    assert [Path(item["input"]).name for item in predicted["items"]] == ["0.png", "1.png", "2.png", "3.png"]
    found = np.array([item["position"] for item in predicted["items"]])
    sources = [items.source(i) for i in range(4)]
    true = np.stack([source["keypoints"].numpy() for source in sources])
    visible = np.stack([source["visible"].numpy() for source in sources])
    ends = [items.names.index(end) for end in ("left_shoulder", "right_hip")]
    torso = np.linalg.norm(true[:, ends[0]] - true[:, ends[1]], axis=-1)
    counted = visible & visible[:, ends].all(1, keepdims=True)
    away = np.linalg.norm(found - true, axis=-1) / np.where(torso > 0, torso, 1)[:, None]
    assert metrics["num_without_torso"] == (~visible[:, ends].all(1)).sum()
    for threshold in (0.1, 0.2):
        # As everywhere in the package: of each item's keypoints, then over the items that have any.
        shares = [(a[c] < threshold).mean() for a, c in zip(away, counted, strict=True) if c.any()]
        assert metrics[f"pck_torso@{threshold}"] == pytest.approx(np.mean(shares), abs=1e-6)
    for k, error in enumerate(metrics["error_per_keypoint"]):
        assert error == (None if not counted[:, k].any() else pytest.approx(away[counted[:, k], k].mean(), rel=1e-3))
    right = away[counted] < 0.2
    sure = np.array([item["confidence"] for item in predicted["items"]])[counted]
    calibration = metrics["calibration"]
    assert calibration["threshold"] == 0.2
    assert sum(calibration["counts"]) == counted.sum()
    if right.any():
        assert calibration["pearson"] == pytest.approx(np.corrcoef(sure, right)[0, 1], abs=1e-3)
    for i in range(4):
        _picture(tmp_path / "png" / f"{i}.png.png")


def test_landmark_scores_are_those_of_the_predictions(trained, scored, tmp_path):
    metrics = scored("landmarks")
    items = Faces("test", num_images=4, input_size=(32, 32))
    folder, boxes = _sources(items, tmp_path)
    predicted = _predict(trained("landmarks"), [folder], tmp_path, "--boxes", boxes)
    errors = []
    for i, item in enumerate(predicted["items"]):
        source = items.source(i)
        true, visible = source["keypoints"].numpy(), source["visible"].numpy()
        eyes = [items.names.index("left_eye"), items.names.index("right_eye")]
        if visible[eyes].all():
            reference = np.linalg.norm(true[eyes[0]] - true[eyes[1]])
            errors.append(np.linalg.norm(np.array(item["position"]) - true, axis=-1)[visible] / reference)
    assert errors
    assert metrics["num_without_eyes"] == 4 - len(errors)
    assert metrics["nme"] == pytest.approx(np.mean([e.mean() for e in errors]), rel=1e-3)
    assert metrics["failure_rate@0.1"] == pytest.approx(np.mean([e.mean() > 0.1 for e in errors]))


def test_surface_scores_are_those_of_the_predictions(trained, scored, tmp_path):
    metrics = scored("oct")
    items = Retinas("test", num_scans=4, input_size=(64, 16))
    for i in range(4):  # whole scans, as they are scored
        np.save(tmp_path / f"{i}.npy", items.source(i)["image"][0].numpy())
    predicted = _predict(trained("oct"), [tmp_path], tmp_path)
    away = []
    for i, item in enumerate(predicted["items"]):
        rows = np.array(item["rows"])
        assert rows.shape == np.array(item["confidence"]).shape == (9, 192)
        assert (np.diff(rows, axis=0) >= 0).all()
        away.append(np.abs(rows - items.source(i)["boundaries"].numpy()))
    away = np.stack(away)
    assert metrics["mean_px"] == pytest.approx(away.mean(), rel=1e-3)
    assert metrics["std_px"] == pytest.approx(away.std(), rel=1e-2)
    assert metrics["mean_um"] == pytest.approx(1000 * items.spacing[0] * away.mean(), rel=1e-3)
    for k, surface in enumerate(items.names):
        assert metrics["surfaces"][surface]["mean_px"] == pytest.approx(away[:, k].mean(), rel=1e-3)
        assert metrics["surfaces"][surface]["num_columns"] == 4 * 192
    _picture(tmp_path / "png" / "0.npy.png")
    # The scan as a picture of bytes.
    _save(tmp_path / "scan.png", items.source(0)["image"])
    again = _predict(trained("oct"), [tmp_path / "scan.png"], tmp_path)
    np.testing.assert_allclose(again["items"][0]["rows"], predicted["items"][0]["rows"], atol=1e-3)


def test_volume_scores_are_those_of_the_predictions(trained, scored, tmp_path):
    metrics = scored("pose3d")
    items = Figures3D("test", num_volumes=4, input_size=(16, 16, 16))
    for i in range(4):
        save = np.save if i % 2 else np.savez_compressed
        save(tmp_path / f"{i}.{'npy' if i % 2 else 'npz'}", items[i]["image"][0].numpy())
    predicted = _predict(trained("pose3d"), [tmp_path], tmp_path)
    away = []
    for i, item in enumerate(predicted["items"]):
        found, true = np.array(item["position"]), items[i]["keypoints"].numpy()
        away.append(items[i]["voxel_size"].item() * np.linalg.norm((found - found[0]) - (true - true[0]), axis=-1))
    away = np.stack(away)
    assert metrics["mpjpe_mm"] == pytest.approx(away.mean(), rel=1e-3)
    assert metrics["pa_mpjpe_mm"] < metrics["mpjpe_mm"]
    assert metrics["pck@150mm"] == pytest.approx((away[:, 1:] < 150).mean(), abs=1e-6)  # the root is always right
    _picture(tmp_path / "png" / "1.npy.png")


def test_poses_of_images_have_a_depth(trained, scored, tmp_path):
    metrics = scored("pose3d-image")
    items = FigureImages3D("test", num_images=4, input_size=(16, 32, 24))
    folder, boxes = _sources(items, tmp_path)
    predicted = _predict(trained("pose3d-image"), [folder], tmp_path, "--boxes", boxes)
    away = []
    for i, item in enumerate(predicted["items"]):
        source = items.source(i)
        plane = np.array(item["position"])
        assert plane.shape == (17, 2)
        assert item["depth_mm"][0] == 0
        assert np.abs(item["depth_mm"]).max() < items.depth_range
        scale = source["mm_per_pixel"].item()
        found = np.concatenate([scale * (plane - plane[0]), np.array(item["depth_mm"])[:, None]], 1)
        true = source["joints"].numpy()
        away.append(np.linalg.norm(found - (true - true[0]), axis=-1))
    assert metrics["mpjpe_mm"] == pytest.approx(np.mean(away), rel=1e-3)
    _picture(tmp_path / "png" / "0.png.png")


def test_flip_test_can_be_left_out(trained, scored, tmp_path):
    out = tmp_path / "m.json"
    assert main(["evaluate", str(trained("landmarks")), "--no-flip-test", "--out", str(out)]) == 0
    plain = json.loads(out.read_text())
    assert plain["flip_test"] is False
    assert plain["nme"] != scored("landmarks")["nme"]
    assert not list(tmp_path.glob("*.png"))
    folder, boxes = _sources(Faces("test", num_images=4, input_size=(32, 32)), tmp_path)
    one = _predict(trained("landmarks"), [folder], tmp_path, "--boxes", boxes)["items"]
    two = _predict(trained("landmarks"), [folder], tmp_path, "--boxes", boxes, "--no-flip-test")["items"]
    assert one[0]["position"] != two[0]["position"]


def test_read_outs_and_thresholds(trained, scored, tmp_path, capsys):
    flags = ["--read-out", "peak", "--correct-threshold", "3", "--split", "val", "--batch-size", "1"]
    assert main(["evaluate", str(trained("oct")), *flags, "--out", str(tmp_path / "new" / "m.json")]) == 0
    metrics = json.loads((tmp_path / "new" / "m.json").read_text())
    assert (metrics["read_out"], metrics["split"], metrics["num_items"]) == ("peak", "val", 2)
    assert metrics["calibration"]["threshold"] == 3
    assert "error < 3 pixels" in capsys.readouterr().out


def test_batches_change_nothing(trained, scored, tmp_path):
    out = tmp_path / "m.json"
    assert main(["evaluate", str(trained("pose2d")), "--batch-size", "3", "--out", str(out)]) == 0
    again, before = json.loads(out.read_text()), scored("pose2d")
    assert again["error_per_keypoint"] == pytest.approx(before["error_per_keypoint"], rel=1e-4)


def test_the_whole_image_is_the_box_unless_boxes_say_otherwise(trained, tmp_path):
    source = Faces("test", num_images=4).source(0)
    file = tmp_path / "face.png"
    _save(file, source["image"])
    height, width = source["image"].shape[1:]
    (whole,) = _predict(trained("landmarks"), [file], tmp_path)["items"]
    assert whole["box"] == [0, 0, width, height]
    boxes = {"face.png": [[2, 3, 20, 30], [0, 0, width, height]], "another.png": [[0, 0, 1, 1]]}
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    two = _predict(trained("landmarks"), [file], tmp_path, "--boxes", tmp_path / "boxes.json")["items"]
    assert [item["box"] for item in two] == boxes["face.png"]
    # A network that knows nothing looks at the middle of its box.
    for item in (*two, whole):
        x, y, w, h = item["box"]
        middle = np.array([x + (w - 1) / 2, y + (h - 1) / 2])
        assert np.abs(np.array(item["position"]) - middle).max() < 0.4 * max(w, h)
    assert sorted(p.name for p in (tmp_path / "png").iterdir()) == ["face.png-2.png", "face.png.png"]


# --- mistakes


@pytest.fixture(scope="session")
def bad(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad")
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (40, 50, 3), dtype=np.uint8)).save(folder / "good.png")
    (folder / "broken.png").write_bytes(b"no picture")
    (folder / "broken.npy").write_bytes(b"no array")
    (folder / "broken.npz").write_bytes(b"PK\x03\x04 no archive")
    (folder / "cloud.pcd").write_text("VERSION .7\n")
    np.save(folder / "bright.npy", 2 * rng.random((16, 16, 16)))
    np.save(folder / "dark.npy", rng.random((16, 16, 16)) - 1)
    np.save(folder / "nan.npy", np.full((16, 16, 16), np.nan))
    np.save(folder / "flat.npy", rng.random((16, 16)))
    np.save(folder / "volume.npy", rng.random((16, 16, 16)))
    np.save(folder / "odd.npy", rng.random((15, 16, 16)))
    np.save(folder / "text.npy", np.array([[["a"]]]))
    np.save(folder / "objects.npy", np.array([{}], dtype=object))
    np.savez(folder / "two.npz", a=rng.random((16, 16, 16)), b=np.zeros(3))
    for name, boxes in (
        ("away", {"good.png": [[50, 10, 10, 10]]}),
        ("flat", {"good.png": [[5, 5, 0, 10]]}),
        ("nan", {"good.png": [[5, 5, float("nan"), 10]]}),
        ("bare", {"good.png": [5, 5, 10, 10]}),
        ("list", [[5, 5, 10, 10]]),
        ("others", {"other.png": [[5, 5, 10, 10]]}),
    ):
        (folder / f"{name}.json").write_text(json.dumps(boxes))
    (folder / "cut.json").write_text('{"good.png": [[')
    (folder / "empty").mkdir()
    return folder


@pytest.mark.parametrize(
    ("task", "arguments", "parts"),
    [
        ("landmarks", ["broken.png"], ["broken.png", "cannot be decoded as a picture"]),
        ("landmarks", ["none.png"], ["none.png", "does not exist"]),
        ("landmarks", ["empty"], ["empty", "without any file of .png"]),
        ("landmarks", ["cloud.pcd"], ["cloud.pcd", "must be a file of .png"]),
        ("landmarks", ["volume.npy"], ["volume.npy", "must be a file of .png"]),
        ("landmarks", ["good.png", "--boxes", "away.json"], ["good.png", "must touch the picture of 50 x 40 pixels"]),
        ("landmarks", ["good.png", "--boxes", "flat.json"], ["good.png", "width and a height above 0"]),
        ("landmarks", ["good.png", "--boxes", "nan.json"], ["good.png", "all finite"]),
        ("landmarks", ["good.png", "--boxes", "bare.json"], ["`boxes`", "must map file names to lists"]),
        ("landmarks", ["good.png", "--boxes", "list.json"], ["`boxes`", "must map file names to lists"]),
        ("landmarks", ["good.png", "--boxes", "cut.json"], ["`boxes`", "must be JSON"]),
        ("landmarks", ["good.png", "--boxes", "others.json"], ["`boxes`", "must have a box for one of the inputs"]),
        ("landmarks", ["good.png", "--boxes", "none.json"], ["none.json"]),
        ("landmarks", ["good.png", "--device", "nonsense"], ["`device` (='nonsense')"]),
        ("pose3d", ["bright.npy"], ["bright.npy", "must be numbers from 0 to 1 of 3 axes"]),
        ("pose3d", ["dark.npy"], ["dark.npy", "has values from -"]),
        ("pose3d", ["nan.npy"], ["nan.npy", "must be numbers from 0 to 1 of 3 axes"]),
        ("pose3d", ["flat.npy"], ["flat.npy", "[16, 16], must be numbers from 0 to 1 of 3 axes"]),
        ("pose3d", ["text.npy"], ["text.npy", "must be numbers"]),
        ("pose3d", ["objects.npy"], ["objects.npy", "cannot be read"]),
        ("pose3d", ["odd.npy"], ["odd.npy", "divisible by 2"]),
        ("pose3d", ["two.npz"], ["two.npz", "must hold one array, has ['a', 'b']"]),
        ("pose3d", ["broken.npy"], ["broken.npy", "cannot be read"]),
        ("pose3d", ["broken.npz"], ["broken.npz", "cannot be read"]),
        ("pose3d", ["good.png"], ["good.png", "must be a file of .npy, .npz"]),
        ("pose3d", ["volume.npy", "--boxes", "away.json"], ["`boxes`", "must not be given for pose3d"]),
        ("oct", ["volume.npy"], ["volume.npy", "[16, 16, 16], must be numbers from 0 to 1 of 2 axes"]),
        ("oct", ["broken.npy"], ["broken.npy", "cannot be read"]),
        pytest.param(
            *("oct", ["broken.npz"], ["broken.npz", "cannot be read"]),
            marks=pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),  # numpy leaves it open
        ),
        ("oct", ["two.npz"], ["two.npz", "must hold bscan or image"]),
        ("oct", ["broken.png"], ["broken.png", "cannot be decoded"]),
        ("oct", ["good.png", "--boxes", "away.json"], ["`boxes`", "must not be given for oct"]),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else value,
)
def test_predict_refuses_in_one_line(trained, bad, tmp_path, capsys, task, arguments, parts):
    checkpoint = trained(task)
    capsys.readouterr()
    named = [str(bad / a) if (bad / a).exists() or "none" in a else a for a in arguments]
    assert main(["predict", str(checkpoint), *named, "--out", str(tmp_path / "p.json"), "--png", str(tmp_path)]) == 2
    message = capsys.readouterr().err
    assert message.startswith("pcsa predict: ")
    assert message.count("\n") == 1
    assert all(part in message for part in parts), message
    assert not list(tmp_path.iterdir())


def test_predictions_are_json(trained, bad, tmp_path, capsys):
    arguments = [str(bad / "good.png"), "--out", str(tmp_path / "p.npz")]
    assert main(["predict", str(trained("landmarks")), *arguments]) == 2
    assert "must end in .json" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("evaluate CHECKPOINT --batch-size 0", "`batch-size` (=0) must be at least 1"),
        ("evaluate CHECKPOINT --pictures -1", "`pictures` (=-1) must be at least 0"),
        ("evaluate CHECKPOINT --correct-threshold 0", "`correct-threshold` (=0.0) must be positive"),
        ("evaluate CHECKPOINT --device tpu", "`device` (='tpu')"),
        ("evaluate CHECKPOINT --root EMPTY/none", "none"),
        ("evaluate CHECKPOINT --annotations a.json", "`annotations` (='a.json') is for pose2d in COCO's layout only"),
        ("evaluate CHECKPOINT --images a", "`images` (='a') is for pose2d in COCO's layout only"),
        ("evaluate CHECKPOINT --detections a.json", "`detections` (='a.json') must come with a `root` in COCO's"),
        ("evaluate POSE2D --annotations a.json", "`annotations` (='a.json') is for pose2d in COCO's layout only"),
        ("evaluate POSE2D --detections a.json", "`detections` (='a.json') must come with a `root` in COCO's"),
        ("view CHECKPOINT EMPTY", "must be a 'pcsa keypoint detector' checkpoint, is 'pcsa landmarks'"),
        ("animate CHECKPOINT --out EMPTY/a.gif", "must be a 'pcsa keypoint detector' checkpoint, is 'pcsa landmarks'"),
        ("train pose2d unknown", "`preset` (='unknown') must be one of small, "),
        ("train landmarks --data.root EMPTY --out EMPTY/run", "training.txt"),
        ("train pose2d --data.root EMPTY --out EMPTY/run", "train2017` is missing"),
        ("evaluate none.ckpt --flip-test", "`none.ckpt` is no checkpoint: there is no such file"),
        ("compare", "`compare` (='') must be followed by one of pose2d, pose3d, oct, landmarks"),
        ("compare supervised", "`compare` (='supervised') must be followed by"),
        ("compare oct --seeds 0 --out EMPTY/run", "`seeds` (=0) must be at least 1"),
        ("compare oct --methods hard --out EMPTY/run", "`methods` (='hard') must be out of 'soft'"),
        (
            "compare pose2d --split test --out EMPTY/run -- --data.root EMPTY",
            "`split` (='test') must be 'val' for COCO",
        ),
        ("compare oct --out EMPTY/run -- unknown", "`preset` (='unknown') must be one of"),
    ],
)
def test_mistakes_end_in_one_message_and_status_2(trained, tmp_path, capsys, command, message):
    if "POSE2D" in command:
        command = command.replace("POSE2D", str(trained("pose2d")))
    arguments = command.replace("CHECKPOINT", str(trained("landmarks"))).replace("EMPTY", str(tmp_path)).split()
    capsys.readouterr()
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_options_that_do_not_go_together(tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        main(["train", "oct", "--objective.method", "mixture", "--out", str(tmp_path / "run")])
    assert end.value.code == 2
    assert "`objective.norm` (='l2') has no closed form" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["train pose2d", "train oct large", "compare pose2d", "evaluate CHECKPOINT"])
def test_help(trained, capsys, command):
    arguments = command.replace("CHECKPOINT", str(trained("landmarks"))).split()
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        main([*arguments, "--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    expected = {
        "train": ["--objective.method", "--data.input-size", "Presets: small"],
        "compare": ["--seeds", "--methods", "sampling, triangular"],
        "evaluate": ["--flip-test", "--detections", "poses, surfaces or landmarks"],
    }[arguments[0]]
    assert all(part in text for part in expected)


def test_a_surface_without_labels_has_no_score(trained, tmp_path, capsys):
    boundaries = np.tile(10.0 * np.arange(1, 10)[:, None], (1, 192))
    boundaries[1] = np.nan
    np.savez(tmp_path / "scan.npz", image=np.random.default_rng(0).random((128, 192)), boundaries=boundaries)
    out = tmp_path / "m.json"
    assert main(["evaluate", str(trained("oct")), "--root", str(tmp_path), "--out", str(out)]) == 0
    second = list(json.loads(out.read_text())["surfaces"].items())[1]
    assert second == ("RNFL-GCL", {"mean_px": None, "std_px": None, "num_columns": 0})
    assert "undefined" in next(line for line in capsys.readouterr().out.splitlines() if line.startswith("RNFL-GCL"))


def test_data_of_other_surfaces_are_refused(trained, tmp_path, capsys):
    boundaries = np.tile(10.0 * np.arange(1, 4)[:, None], (1, 192))
    np.savez(tmp_path / "scan.npz", image=np.random.default_rng(0).random((128, 192)), boundaries=boundaries)
    assert main(["evaluate", str(trained("oct")), "--root", str(tmp_path)]) == 2
    assert "must have what the network was trained to find, ILM, " in capsys.readouterr().err


# --- compare and report


def test_compare_trains_each_run_once(tmp_path, capsys, monkeypatch):
    arguments = ["oct", "--seeds", "1", "--methods", "soft", "sampling, triangular", "--out", str(tmp_path)]
    training = f"-- {TASKS['oct'][1]} {FAST}".split()
    assert main(["compare", *arguments, *training]) == 0
    table = capsys.readouterr().out
    head, rule, *rows = table.splitlines()
    assert head == "| objective | MAD (px) | std (px) | Pearson r | seconds |"
    assert rule.count("|") == head.count("|")
    assert [row.split("|")[1].strip() for row in rows] == ["soft", "sampling, triangular"]
    for row, folder in zip(rows, ("soft-0", "sampling-triangular-0"), strict=True):
        metrics = json.loads((tmp_path / "oct" / folder / "metrics-test.json").read_text())
        assert float(row.split("|")[2].split("±")[0]) == pytest.approx(metrics["mean_px"], rel=1e-2)
    for name, method in (("soft-0", "soft"), ("sampling-triangular-0", "sampling")):
        about = json.loads((tmp_path / "oct" / name / "config.json").read_text())
        assert about["config"]["objective"]["method"] == method

    def trains(*_):
        raise RuntimeError("trains again")

    monkeypatch.setattr("pcsa.scripts.compare.train_grid", trains)
    assert main(["compare", *arguments, *training]) == 0
    assert capsys.readouterr().out == table
    # Other options are another comparison.
    assert main(["compare", *arguments, *training, "--optimizer.lr", "0.5"]) == 2
    assert "`optimizer`" in capsys.readouterr().err


def test_report_shows_the_scores(trained, scored, tmp_path):
    metrics = scored("landmarks")
    scored("oct")
    runs = [str(trained(name).parent) for name in ("landmarks", "oct")]
    assert main(["report", *runs, "--split", "test", "--out", str(tmp_path)]) == 0
    page = (tmp_path / "report.html").read_text()
    for text in ("NME (%)", "MAD (px)", "landmarks", f"<td>{100 * metrics['nme']:.3g}</td>"):
        assert text in page


# --- COCO's layout


@pytest.fixture(scope="session")
def coco(tmp_path_factory):
    """Eight pictures in the official layout; a crowd, a person without labels and a box outside of the picture too."""
    root = tmp_path_factory.mktemp("coco")
    items = Figures2D("train", num_images=8)
    truth = items.coco_annotations()
    for i, annotation in enumerate(truth["annotations"]):
        annotation["bbox"] = items.source(i)["box"].tolist()
    base = {"category_id": 1, "iscrowd": 0, "area": 400.0, "bbox": [10.0, 10.0, 20.0, 20.0]}
    nothing = {"keypoints": [0] * 51, "num_keypoints": 0}
    truth["annotations"] += [
        {**base, **nothing, "id": 101, "image_id": 0},
        {**base, **nothing, "id": 102, "image_id": 1, "iscrowd": 1, "segmentation": {"size": [160, 160], "counts": []}},
    ]
    (root / "annotations").mkdir()
    rng = np.random.default_rng(0)
    found = []
    for split in ("train", "val"):
        (root / f"{split}2017").mkdir()
        (root / "annotations" / f"person_keypoints_{split}2017.json").write_text(json.dumps(truth))
        for i in range(len(items)):
            _save(root / f"{split}2017" / f"{i:06d}.png", items.source(i)["image"])
    for i in range(len(items)):
        for score in (0.9, 0.4):
            box = (items.source(i)["box"].numpy() + rng.normal(0, 2, 4)).tolist()
            found.append({"image_id": i, "category_id": 1, "bbox": box, "score": score})
    found.append({"image_id": 2, "category_id": 1, "bbox": [200.0, 10.0, 30.0, 30.0], "score": 0.5})
    found.append({"image_id": 2, "category_id": 3, "bbox": [10.0, 10.0, 30.0, 30.0], "score": 0.5})
    (root / "detections.json").write_text(json.dumps(found))
    return root


def test_coco_from_training_to_average_precision(coco, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(coco.parent)  # a root is relative as often as not
    run = tmp_path / "run"
    flags = f"--data.root {coco.name} --data.input-size 32 24 {FAST} --out {run}"
    assert main(["train", "pose2d", *flags.split()]) == 0
    checkpoint = run / "last.ckpt"
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    assert main(["evaluate", str(checkpoint), "--split", "test"]) == 2
    assert "`split` (='test') must be 'val' for COCO" in capsys.readouterr().err
    assert main(["evaluate", str(checkpoint), "--pictures", "2"]) == 0  # of val, for which alone there are labels
    metrics = json.loads((run / "metrics-val.json").read_text())
    assert metrics["data"] == "CocoKeypoints"
    assert metrics["num_items"] == 8
    assert metrics["left_out"] == {"crowd": 1, "no labeled joint": 1}
    assert {"pck_torso@0.1", "num_without_torso", "average_precision", "calibration"} <= metrics.keys()
    table = capsys.readouterr().out
    assert "pose2d, CocoKeypoints, val: 8 items; 1 left out: " in table
    assert "crowd" in table
    assert "no labeled joint" in table
    detections = ["--detections", str(coco / "detections.json"), "--out", str(tmp_path / "d.json")]
    assert main(["evaluate", str(checkpoint), "--split", "val", *detections]) == 0
    metrics = json.loads((tmp_path / "d.json").read_text())
    assert metrics["num_items"] == 16
    assert metrics["left_out"] == {"box without area in the picture": 1, "of another category": 1}
    assert metrics["flip_test"] is True
    assert set(metrics["average_precision"]) >= {"AP", "AP50", "AP75", "APM", "AR"}
    assert all(value is None or 0 <= value <= 1 for value in metrics["average_precision"].values())
    # Detections have no labels to be compared with one by one.
    assert "pck_torso@0.1" not in metrics
    assert "calibration" not in metrics
    table = capsys.readouterr().out
    assert "AP50 " in table
    assert "pck" not in table


# --- real data


def _real(name):
    root = os.environ.get("PCSA_TEST_DATA")
    if root is None or not (Path(root) / name).is_dir():
        pytest.skip(f"PCSA_TEST_DATA does not name a folder with {name}/")
    return Path(root) / name


def _train_and_evaluate(task, flags, out, *evaluation):
    assert main(["train", *task.split(), *f"{flags} {FAST} --out {out}".split()]) == 0
    with next((out / "log").rglob("metrics.csv")).open() as file:
        losses = [row["loss"] for row in csv.DictReader(file) if row.get("loss")]
    assert all(np.isfinite(float(loss)) for loss in losses)
    assert main(["evaluate", str(out / "last.ckpt"), *map(str, evaluation), "--out", str(out / "m.json")]) == 0
    return json.loads((out / "m.json").read_text())


def test_real_coco(tmp_path):
    root = _real("coco")
    flags = f"""--data.root {root} --data.annotations test_coco.json --data.images . --data.val-annotations
        test_coco.json --data.val-images . --data.input-size 64 48"""
    metrics = _train_and_evaluate("pose2d", flags, tmp_path, "--split", "val")
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


def test_real_human36m(tmp_path):
    root = _real("h36m")
    flags = f"--data.root {root} --data.input-size 16 64 64 --data.train-subjects S1 S5 --data.test-subjects S7 S8"
    metrics = _train_and_evaluate("pose3d image", flags, tmp_path, "--pictures", 1)
    assert metrics["data"] == "Human36M"
    assert metrics["num_items"] == 2
    assert 0 < metrics["pa_mpjpe_mm"] <= metrics["mpjpe_mm"] < 2000


def test_real_lsp(tmp_path):
    root = _real("lsp")
    flags = f"--data.root {root} --data.layout lsp --data.input-size 32 24"
    metrics = _train_and_evaluate("pose2d", flags, tmp_path)
    assert metrics["data"] == "Lsp"
    assert metrics["num_items"] + sum(metrics["left_out"].values()) == 60
    assert {"pck_torso@0.2", "pck_head@0.5"} <= metrics.keys()
    assert "average_precision" not in metrics


def test_real_mtfl(tmp_path):
    root = _real("mtfl")
    flags = f"--data.root {root} --data.num-test 20 --data.input-size 32 32 --model.channels 8 8"
    metrics = _train_and_evaluate("landmarks", flags, tmp_path)
    assert metrics["data"] == "Mtfl"
    assert metrics["num_items"] == 20
    assert 0 < metrics["nme"] < 10
    assert not list(tmp_path.rglob("*.png"))


def test_real_oct(tmp_path):
    root = _real("oct")
    flags = f"--data.root {root} --data.input-size 496 32 --model.channels 4 8"
    metrics = _train_and_evaluate("oct", flags, tmp_path, "--pictures", 1)
    assert metrics["data"] == "OctScans"
    assert metrics["num_items"] == 1  # the last quarter of the one scan, whole
    assert metrics["surfaces"]["ILM"]["num_columns"] == 192
    assert metrics["mean_um"] > 0
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["pcsa"]["config"]["data"]["root"] == str(
        root.resolve()
    )
