"""``pcsa evaluate`` as a user calls it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch_geometric.data import Data

import pcsa.metrics
from pcsa.datasets.keypointnet import KeypointNet
from pcsa.datasets.procedural import Faces, FigureImages3D, Figures2D, Figures3D, Retinas
from pcsa.datasets.transforms import Normalize, denormalize
from pcsa.metrics import dual_alignment
from pcsa.scripts.cli import main
from pcsa.tasks import open_run
from pcsa.tasks.common.claim import claimed

# Rows of the table of a run: score, name of the row, factor and format.
MAPS = {
    "pose2d": {"pck_torso@0.1": ("PCK@0.1", 100, ".4g"), "pck_torso@0.2": ("PCK@0.2", 100, ".4g")},
    "pose3d": {
        "mpjpe_mm": ("MPJPE (mm)", 1, ".4g"),
        "pa_mpjpe_mm": ("PA-MPJPE (mm)", 1, ".4g"),
        "pck@150mm": ("PCK@150mm", 100, ".4g"),
    },
    "oct": {"mean_px": ("all", 1, ".3f"), "mean_um": ("all, micrometers", 1, ".2f")},
    "landmarks": {"nme": ("NME (%)", 100, ".4g"), "failure_rate@0.1": ("failures (%)", 100, ".4g")},
}


# --- what is printed and written


def test_what_is_printed_is_what_is_written(trained, scored, name, capsys, drawn):
    before, said = scored(name)
    checkpoint = trained(name)
    capsys.readouterr()
    options = ["--split", "test", "--pictures", "3", "--no-progress", "--num-workers", "1"]
    assert main(["evaluate", str(checkpoint), *options]) == 0
    table = capsys.readouterr().out
    metrics = json.loads((checkpoint.parent / "metrics-test.json").read_text())
    # Who loads the items changes nothing.
    assert metrics == before
    assert table == said
    task = name.removesuffix("-image")
    assert (metrics["task"], metrics["split"], metrics["read_out"]) == (task, "test", "expectation")
    assert Path(metrics["checkpoint"]) == checkpoint
    assert Path(metrics["file"]) == checkpoint.parent / "metrics-test.json"
    assert f"written: {metrics['file']}, {checkpoint.parent / 'predictions-test.png'}" in table
    width, height = drawn(checkpoint.parent / "predictions-test.png")
    assert min(width, height) > 100
    if task == "supervised":
        assert metrics["num_items"] == 2
        assert table.startswith("mug, test: 2 clouds, ")
    elif task == "unsupervised":
        assert metrics["num_items"] == 2
        assert "mug, whole category" in table
        assert "mug, test alone: 2 clouds, 4 keypoints" in table
    else:
        assert table.startswith(f"{task}, procedural, test: 4 items\n")
        assert ("flip test" in table) == metrics["flip_test"] == (name not in ("pose3d", "oct"))
        cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if "|" in line]
        rows = {row[0]: row[1] for row in cells}
        for key, (label, factor, form) in MAPS[task].items():
            assert rows[label] == f"{factor * metrics[key]:{form}}"
        if task == "pose2d":
            assert rows["AP"] == f"{100 * metrics['average_precision']['AP']:.4g}"


def test_the_default_is_what_was_not_trained_on(trained, name, tmp_path):
    out = tmp_path / "m.json"
    assert main(["evaluate", str(trained(name)), "--out", str(out)]) == 0
    metrics = json.loads(out.read_text())
    assert metrics["split"] == "val"
    assert metrics["num_items"] == (1 if "supervised" in name else 2)
    assert not list(tmp_path.glob("*.png"))


# --- scores


def test_supervised_scores_are_those_of_the_predictions(root, trained, scored, tmp_path, predict):
    metrics, table = scored("supervised")
    dataset = KeypointNet(root, "mug", "test")
    files = [root / "pcds" / dataset.class_id / f"{m}.pcd" for m in dataset.model_ids]
    predicted = predict(trained("supervised"), files, tmp_path)
    # KeypointNet's protocol, from the predictions alone: per shape over the keypoints present, then over shapes.
    right, error, another = [], [], []
    for item, cloud in zip(dataset, predicted["items"], strict=True):
        to_each = torch.cdist(torch.tensor(cloud["position"])[item.visible[0]], item.keypoints[0][item.visible[0]])
        another += (to_each.amin(1) < to_each.diagonal() - 1e-6).tolist()
        away = (torch.tensor(cloud["position"]) - item.keypoints[0]).norm(dim=1)[item.visible[0]]
        right.append((away < 0.1).float().mean().item())
        error.append(away.mean().item())
    overall = metrics["overall"]["euclidean"]
    assert overall["pck"][10] == pytest.approx(np.mean(right), abs=1e-6)
    assert overall["mean_error"] == pytest.approx(np.mean(error), rel=1e-4)
    assert f"{100 * np.mean(right):.1f}" in table
    confusion = metrics["confusion"]
    assert confusion["nearer_to_another"] == pytest.approx(np.mean(another))
    assert 0 < confusion["num_paired"] < len(another)
    assert f"of the {confusion['num_paired']} that have one" in table


def test_unsupervised_scores_are_those_of_the_predictions(root, trained, scored):
    metrics, _ = scored("unsupervised")
    merger = open_run(trained("unsupervised")).model
    # The skeletons of the two test clouds, in the order of the split.
    found, annotated, ids = [], [], []
    for item in KeypointNet(root, "mug", "test"):
        cloud = Normalize("min_max")(Data(pos=item.pos))
        position = denormalize(merger(None, cloud.pos)["keypoints"], cloud.offset, cloud.scale)[0]
        found.append(position.detach())
        annotated.append(item.keypoints[0][item.visible[0]])
        ids.append(item.visible[0].nonzero().flatten().tolist())
    expected = dual_alignment(found, annotated, ids)
    scores = metrics["held_out"]["rows"]["detector"]["dual_alignment"]
    assert scores == pytest.approx(expected._asdict(), abs=1e-9)


def test_pose2d_scores_are_those_of_the_predictions(trained, scored, tmp_path, sources, predict, drawn):
    metrics, _ = scored("pose2d")
    items = Figures2D("test", num_images=4, input_size=(32, 24))
    folder, boxes = sources(items, tmp_path)
    predicted = predict(trained("pose2d"), [folder], tmp_path, "--boxes", boxes)
    assert predicted["task"] == "pose2d"
    assert predicted["names"] == list(items.names) == metrics["names"]
    assert [Path(item["input"]).name for item in predicted["items"]] == ["0.png", "1.png", "2.png", "3.png"]
    found = np.array([item["position"] for item in predicted["items"]])
    true_sources = [items.source(i) for i in range(4)]
    true = np.stack([source["keypoints"].numpy() for source in true_sources])
    visible = np.stack([source["visible"].numpy() for source in true_sources])
    ends = [items.names.index(end) for end in ("left_shoulder", "right_hip")]
    torso = np.linalg.norm(true[:, ends[0]] - true[:, ends[1]], axis=-1)
    counted = visible & visible[:, ends].all(1, keepdims=True)
    away = np.linalg.norm(found - true, axis=-1) / np.where(torso > 0, torso, 1)[:, None]
    assert metrics["num_without_torso"] == (~visible[:, ends].all(1)).sum()
    for threshold in (0.1, 0.2):
        # As everywhere in the package: per item over its keypoints, then over the items that have any.
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
        drawn(tmp_path / "png" / f"{i}.png.png")


def test_landmark_scores_are_those_of_the_predictions(trained, scored, tmp_path, sources, predict):
    metrics, _ = scored("landmarks")
    items = Faces("test", num_images=4, input_size=(32, 32))
    folder, boxes = sources(items, tmp_path)
    predicted = predict(trained("landmarks"), [folder], tmp_path, "--boxes", boxes)
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


def test_surface_scores_are_those_of_the_predictions(trained, scored, tmp_path, save_image, predict, drawn):
    metrics, _ = scored("oct")
    items = Retinas("test", num_scans=4, input_size=(64, 16))
    for i in range(4):  # whole scans, as they are scored
        np.save(tmp_path / f"{i}.npy", items.source(i)["image"][0].numpy())
    predicted = predict(trained("oct"), [tmp_path], tmp_path)
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
    drawn(tmp_path / "png" / "0.npy.png")
    # The scan as a picture of bytes.
    save_image(tmp_path / "scan.png", items.source(0)["image"])
    again = predict(trained("oct"), [tmp_path / "scan.png"], tmp_path)
    # What an earlier call found stays, and comes first.
    assert again["items"][:4] == predicted["items"]
    np.testing.assert_allclose(again["items"][4]["rows"], predicted["items"][0]["rows"], atol=1e-3)


def test_volume_scores_are_those_of_the_predictions(trained, scored, tmp_path, predict, drawn):
    metrics, _ = scored("pose3d")
    items = Figures3D("test", num_volumes=4, input_size=(16, 16, 16))
    for i in range(4):
        save = np.save if i % 2 else np.savez_compressed
        save(tmp_path / f"{i}.{'npy' if i % 2 else 'npz'}", items[i]["image"][0].numpy())
    predicted = predict(trained("pose3d"), [tmp_path], tmp_path)
    away = []
    for i, item in enumerate(predicted["items"]):
        found, true = np.array(item["position"]), items[i]["keypoints"].numpy()
        away.append(items[i]["voxel_size"].item() * np.linalg.norm((found - found[0]) - (true - true[0]), axis=-1))
    away = np.stack(away)
    assert metrics["mpjpe_mm"] == pytest.approx(away.mean(), rel=1e-3)
    assert metrics["pa_mpjpe_mm"] < metrics["mpjpe_mm"]
    assert metrics["pck@150mm"] == pytest.approx((away[:, 1:] < 150).mean(), abs=1e-6)  # the root is always right
    drawn(tmp_path / "png" / "1.npy.png")


def test_poses_of_images_have_a_depth(trained, scored, tmp_path, sources, predict, drawn):
    metrics, _ = scored("pose3d-image")
    items = FigureImages3D("test", num_images=4, input_size=(16, 32, 24))
    folder, boxes = sources(items, tmp_path)
    predicted = predict(trained("pose3d-image"), [folder], tmp_path, "--boxes", boxes)
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
    drawn(tmp_path / "png" / "0.png.png")


# --- options


def test_the_folder_of_the_metrics_is_made(checkpoint, tmp_path):
    out = tmp_path / "new" / "metrics.json"
    assert main(["evaluate", str(checkpoint), "--split", "test", "--no-geodesic", "--out", str(out)]) == 0
    assert "geodesic" not in json.loads(out.read_text())["overall"]


def test_thresholds_in_other_units(checkpoint, tmp_path, capsys):
    flags = ["--split", "test", "--no-geodesic", "--thresholds", "0.2", "3", "--correct-threshold", "0.2"]
    assert main(["evaluate", str(checkpoint), *flags, "--out", str(tmp_path / "m.json")]) == 0
    table = capsys.readouterr().out
    assert "PCK@0.2 " in table
    assert "PCK@3 " in table
    assert "error < 0.2" in table


def test_thresholds_within_which_everything_is_right_are_refused(trained, checkpoint, refused):
    assert "`thresholds` (=0.3, 3) must be below 0.2" in refused(["evaluate", checkpoint, "--thresholds", "0.3", "3"])
    for flags, rule in (
        ((checkpoint, "--correct-threshold", "2"), "`correct_threshold` (=2) must be below 0.2"),
        ((trained("oct"), "--correct-threshold", "500"), "`correct_threshold` (=500) must be below 32"),
        ((trained("landmarks"), "--correct-threshold", "5"), "`correct_threshold` (=5) must be below 1"),
        ((trained("unsupervised"), "--thresholds", "1", "2"), "`thresholds` (=1, 2) must be below 0.2"),
    ):
        assert rule in refused(["evaluate", *flags])


def test_flip_test_can_be_left_out(trained, scored, tmp_path, sources, predict):
    out = tmp_path / "m.json"
    flags = ["--split", "test", "--no-flip-test", "--out", str(out)]
    assert main(["evaluate", str(trained("landmarks")), *flags]) == 0
    plain = json.loads(out.read_text())
    assert plain["flip_test"] is False
    assert plain["nme"] != scored("landmarks")[0]["nme"]
    folder, boxes = sources(Faces("test", num_images=4, input_size=(32, 32)), tmp_path)
    one = predict(trained("landmarks"), [folder], tmp_path, "--boxes", boxes)["items"]
    two = predict(trained("landmarks"), [folder], tmp_path, "--boxes", boxes, "--no-flip-test", "--overwrite")["items"]
    assert one[0]["position"] != two[0]["position"]


def test_read_outs_and_thresholds(trained, tmp_path, capsys):
    flags = ["--read-out", "peak", "--correct-threshold", "3", "--split", "val", "--batch-size", "1"]
    assert main(["evaluate", str(trained("oct")), *flags, "--out", str(tmp_path / "new" / "m.json")]) == 0
    metrics = json.loads((tmp_path / "new" / "m.json").read_text())
    assert (metrics["read_out"], metrics["split"], metrics["num_items"]) == ("peak", "val", 2)
    assert metrics["calibration"]["threshold"] == 3
    assert "error < 3 pixels" in capsys.readouterr().out


def test_batches_change_nothing(trained, scored, tmp_path):
    out = tmp_path / "m.json"
    assert main(["evaluate", str(trained("pose2d")), "--split", "test", "--batch-size", "3", "--out", str(out)]) == 0
    again, before = json.loads(out.read_text()), scored("pose2d")[0]
    assert again["error_per_keypoint"] == pytest.approx(before["error_per_keypoint"], rel=1e-4)


@pytest.mark.parametrize("name", ["supervised", "unsupervised"])
def test_clouds_have_a_page(trained, name, tmp_path, read_page):
    pytest.importorskip("plotly")
    out = tmp_path / "metrics.json"
    options = ["--split", "val", "--pictures", "1", "--page", "1", "--no-geodesic", "--out", str(out)]
    assert main(["evaluate", str(trained(name)), *options]) == 0
    about, scenes = read_page(tmp_path / "predictions-val.html")
    assert about["title"] == "mug, val"
    assert len(scenes) == 1
    assert (tmp_path / "predictions-val.png").stat().st_size > 10_000
    metrics = json.loads(out.read_text())
    if name == "supervised":
        # For one cloud, the errors on the page are those that the metrics average.
        errors = [k["error"] for k in scenes[0]["keypoints"] if k["error"] is not None]
        assert np.mean(errors) == pytest.approx(metrics["overall"]["euclidean"]["mean_error"], rel=0.01)
    else:
        assert len(scenes[0]["keypoints"]) == 4


# --- data of other roots


def test_a_surface_without_labels_has_no_score(trained, tmp_path, capsys):
    boundaries = np.tile(10.0 * np.arange(1, 10)[:, None], (1, 192))
    boundaries[1] = np.nan
    np.savez(tmp_path / "scan.npz", image=np.random.default_rng(0).random((128, 192)), boundaries=boundaries)
    out = tmp_path / "m.json"
    assert main(["evaluate", str(trained("oct")), "--root", str(tmp_path), "--out", str(out)]) == 0
    metrics = json.loads(out.read_text())
    # A folder of scans holds nothing out to validate on.
    assert metrics["split"] == "test"
    assert list(metrics["surfaces"].items())[1] == ("RNFL-GCL", {"mean_px": None, "std_px": None, "num_columns": 0})
    row = next(line for line in capsys.readouterr().out.splitlines() if line.removeprefix("| ").startswith("RNFL-GCL"))
    assert row.count("–") == 2


def test_data_of_other_surfaces_are_refused(trained, tmp_path, refused):
    boundaries = np.tile(10.0 * np.arange(1, 4)[:, None], (1, 192))
    np.savez(tmp_path / "scan.npz", image=np.random.default_rng(0).random((128, 192)), boundaries=boundaries)
    message = refused(["evaluate", trained("oct"), "--root", tmp_path])
    assert "must have what the network was trained to find, ILM, " in message


@pytest.fixture(scope="session")
def coco(tmp_path_factory, save_image):
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
            save_image(root / f"{split}2017" / f"{i:06d}.png", items.source(i)["image"])
    for i in range(len(items)):
        for score in (0.9, 0.4):
            box = (items.source(i)["box"].numpy() + rng.normal(0, 2, 4)).tolist()
            found.append({"image_id": i, "category_id": 1, "bbox": box, "score": score})
    found.append({"image_id": 2, "category_id": 1, "bbox": [200.0, 10.0, 30.0, 30.0], "score": 0.5})
    found.append({"image_id": 2, "category_id": 3, "bbox": [10.0, 10.0, 30.0, 30.0], "score": 0.5})
    (root / "detections.json").write_text(json.dumps(found))
    return root


def test_coco_from_training_to_average_precision(coco, tmp_path, capsys, monkeypatch, refused, fast):
    monkeypatch.chdir(coco.parent)  # a root is relative as often as not
    run = tmp_path / "run"
    flags = f"--data.root {coco.name} --data.input-size 32 24 --optimizer.steps 2 {fast} --out {run}"
    assert main(["train", "pose2d", *flags.split()]) == 0
    checkpoint = run / "last.ckpt"
    monkeypatch.chdir(tmp_path)
    assert "`split` (='test') must be 'val'" in refused(["evaluate", checkpoint, "--split", "test"])
    assert main(["evaluate", str(checkpoint), "--pictures", "2"]) == 0  # val alone has labels
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
    assert "PCK" not in table


# --- items that cannot be read


@pytest.mark.parametrize("workers", ["0", "1"])
def test_an_item_that_cannot_be_read_is_listed_and_the_rest_is_scored(
    trained, coco, tmp_path, capsys, workers, monkeypatch
):
    scored_on, average_precision = [], pcsa.metrics.coco_average_precision

    def watched(annotations, results):
        scored_on.append(annotations)
        return average_precision(annotations, results)

    monkeypatch.setattr(pcsa.metrics, "coco_average_precision", watched)
    root = shutil.copytree(coco, tmp_path / "coco")
    picture = sorted((root / "val2017").iterdir())[5]
    picture.write_bytes(picture.read_bytes()[:300])
    flags = ["evaluate", str(trained("pose2d")), "--root", str(root), "--batch-size", "3", "--num-workers", workers]
    assert main([*flags, "--out", str(tmp_path / "m.json"), "--pictures", "8"]) == 3
    said = capsys.readouterr()
    metrics = json.loads((tmp_path / "m.json").read_text())
    (fault,) = metrics["failed"]
    assert fault["item"] == 5
    assert fault["reason"].startswith(f"`{picture}`")
    assert metrics["num_items"] == 7
    assert "1 more items could not be read: these are the scores of the rest" in said.out
    assert said.err == f"failed: 1 items\n  item 5: {fault['reason']}\n"
    assert (tmp_path / "predictions-val.png").exists()
    # The rest is scored as it is among the whole.
    assert main(["evaluate", str(trained("pose2d")), "--root", str(coco), "--out", str(tmp_path / "whole.json")]) == 0
    whole = json.loads((tmp_path / "whole.json").read_text())
    assert (whole["num_items"], whole["failed"]) == (8, [])
    assert sum(whole["calibration"]["counts"]) > sum(metrics["calibration"]["counts"]) > 0
    assert metrics["average_precision"]["AP"] == pytest.approx(whole["average_precision"]["AP"], abs=0.2)
    # Those who are in the picture that is lost are not missed by the network.
    assert [len(annotations["images"]) for annotations in scored_on] == [7, 8]
    capsys.readouterr()
    # Or not at all.
    assert main([*flags, "--out", str(tmp_path / "strict.json"), "--strict"]) == 2
    assert capsys.readouterr().err == f"pcsa evaluate: item 5: {fault['reason']}\n"
    assert not (tmp_path / "strict.json").exists()


def test_scores_of_a_category_take_all_of_it(trained, tmp_path, monkeypatch, refused):
    plain = KeypointNet.__getitem__
    monkeypatch.setattr(
        KeypointNet, "__getitem__", lambda self, i: 1 // 0 if self.split == "all" and i == 2 else plain(self, i)
    )
    message = refused(["evaluate", trained("unsupervised"), "--out", tmp_path / "m.json"])
    assert "item 2: ZeroDivisionError" in message


def test_two_evaluations_do_not_write_one_file(trained, tmp_path, refused):
    with claimed(tmp_path / "m.json"):
        message = refused(["evaluate", trained("oct"), "--out", tmp_path / "m.json"])
    assert "m.json` is being written by process " in message


# --- mistakes


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("none.ckpt", "`none.ckpt` is no checkpoint: there is no such file"),
        ("EMPTY/none.ckpt --no-flip-test", "is no checkpoint: there is no such file"),
        ("EMPTY", "must be a checkpoint or the folder of a run: it has no last.ckpt"),
        ("--split val LANDMARKS", "`checkpoint` (='LANDMARKS') must come first"),
        ("LANDMARKS --device nonsense", "`device` (='nonsense')"),
        ("LANDMARKS --device tpu", "`device` (='tpu')"),
        ("LANDMARKS --batch-size 0", "`batch_size` (=0) must be at least 1"),
        ("LANDMARKS --num-workers -1", "`num_workers` (=-1) must be at least 0"),
        ("LANDMARKS --pictures -1", "`pictures` (=-1) must be at least 0"),
        ("SUPERVISED --page -1", "`page` (=-1) must be at least 0"),
        ("LANDMARKS --correct-threshold 0", "`correct_threshold` (=0.0) must be positive"),
        ("LANDMARKS --root EMPTY/none", "none"),
        ("SUPERVISED --root EMPTY", "annotations"),
        ("UNSUPERVISED --root EMPTY", "annotations"),
        ("POSE2D --annotations a.json", "`annotations` (='a.json') must come with a `root` in COCO's layout"),
        ("POSE2D --images a", "`images` (='a') must come with a `root` in COCO's layout"),
        ("POSE2D --detections a.json", "`detections` (='a.json') must come with a `root` in COCO's layout"),
        # Each task has options of its own.
        ("LANDMARKS --annotations a.json", "Unrecognized options: --annotations"),
        ("LANDMARKS --images a", "Unrecognized options: --images"),
        ("LANDMARKS --detections a.json", "Unrecognized options: --detections"),
        ("LANDMARKS --no-geodesic", "--no-geodesic"),
        ("SUPERVISED --no-flip-test", "--no-flip-test"),
    ],
)
def test_mistakes_end_in_one_message_and_status_2(trained, tmp_path, refused, command, message):
    for name in ("unsupervised", "supervised", "landmarks", "pose2d"):
        if name.upper() in command.split():
            path = str(trained(name))
            command, message = command.replace(name.upper(), path), message.replace(name.upper(), path)
    assert message in refused(["evaluate", *command.replace("EMPTY", str(tmp_path)).split()])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["pose2d", "pose3d", "oct", "landmarks"])
def test_a_page_of_a_task_without_pages_is_refused_at_once(trained, name, tmp_path, refused, monkeypatch):
    checkpoint = trained(name)
    monkeypatch.setattr(type(open_run(checkpoint).task), "evaluation", None)
    message = refused(["evaluate", checkpoint, "--page", "1", "--out", tmp_path / "m.json"])
    assert f"`page` (=1) must not be given for {name}: only clouds have pages" in message
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_of_an_older_version_is_named(tmp_path, refused):
    file = tmp_path / "old.ckpt"
    torch.save({"pcsa": {"kind": "pcsa keypoint detector", "config": {}}, "state_dict": {}}, file)
    message = refused(["evaluate", file])
    assert f"`{file}` (kind 'pcsa keypoint detector') was written before checkpoints named their task" in message
    assert "train it again" in message


def test_a_checkpoint_that_does_not_fit_is_named(trained, tmp_path, refused):
    checkpoint = torch.load(trained("landmarks"), weights_only=True)
    checkpoint["pcsa"]["config"]["data"]["unheard_of"] = 1
    torch.save(checkpoint, tmp_path / "other.ckpt")
    message = refused(["evaluate", tmp_path / "other.ckpt"])
    assert "must fit pcsa" in message
    assert "unheard_of" in message
