"""The commands as a user calls them, on small procedural clouds."""

import json

import numpy as np
import pytest
import torch
from torch_geometric.data import Data

from pcsa.datasets.keypointnet import KeypointNet
from pcsa.datasets.transforms import Normalize, denormalize
from pcsa.metrics import dual_alignment
from pcsa.scripts.cli import MODULES, main
from pcsa.unsupervised import load_skeleton_merger


def test_evaluate_agrees_with_predict(root, checkpoint, tmp_path, capsys):
    assert main(["evaluate", str(checkpoint), "--split", "test", "--pictures", "2"]) == 0
    table = capsys.readouterr().out
    metrics = json.loads((checkpoint.parent / "metrics-test.json").read_text())
    assert metrics["num_clouds"] == 2
    assert (checkpoint.parent / "predictions-test.png").stat().st_size > 10_000

    dataset = KeypointNet(root, "mug", "test")
    files = [str(root / "pcds" / dataset.class_id / f"{m}.pcd") for m in dataset.model_ids]
    out = tmp_path / "p.json"
    assert main(["predict", str(checkpoint), *files, "--out", str(out)]) == 0
    predicted = json.loads(out.read_text())
    # KeypointNet's protocol, from the predictions alone: per shape over the keypoints present, then over shapes.
    right, error = [], []
    for i, cloud in enumerate(predicted["clouds"]):
        item = dataset[i]
        away = (torch.tensor(cloud["position"]) - item.keypoints[0]).norm(dim=1)[item.visible[0]]
        right.append((away < 0.1).float().mean().item())
        error.append(away.mean().item())
    overall = metrics["overall"]["euclidean"]
    assert overall["pck"][10] == pytest.approx(np.mean(right), abs=1e-6)
    assert overall["mean_error"] == pytest.approx(np.mean(error), rel=1e-4)
    assert f"{100 * np.mean(right):.1f}" in table


def test_evaluate_writes_into_a_folder_that_it_makes(checkpoint, tmp_path):
    out = tmp_path / "new" / "metrics.json"
    assert main(["evaluate", str(checkpoint), "--split", "test", "--no-geodesic", "--out", str(out)]) == 0
    assert "geodesic" not in json.loads(out.read_text())["overall"]


def test_thresholds_in_other_units(checkpoint, capsys):
    flags = ["--split", "test", "--no-geodesic", "--thresholds", "0.3", "3", "--correct-threshold", "0.3"]
    assert main(["evaluate", str(checkpoint), *flags]) == 0
    table = capsys.readouterr().out
    assert "PCK@0.3 " in table
    assert "PCK@3 " in table
    assert "error < 0.3" in table


def test_predict_is_in_the_units_of_the_input(checkpoint, root, tmp_path):
    dataset = KeypointNet(root, "mug", "val")
    pos = dataset[0].pos
    np.save(tmp_path / "a.npy", pos.numpy())
    np.savez(tmp_path / "b.npz", pos=(10 * pos + 3).numpy())
    np.save(tmp_path / "c.npy", pos.double().numpy() + 1e7)  # as in a survey; float32 would have steps of 1 here
    out = tmp_path / "out.npz"
    assert main(["predict", str(checkpoint), str(tmp_path), "--out", str(out)]) == 0
    found = np.load(out)
    assert [f.rsplit("/", 1)[1] for f in found["input"]] == ["a.npy", "b.npz", "c.npy"]
    np.testing.assert_allclose(found["position"][1], 10 * found["position"][0] + 3, atol=1e-3)
    np.testing.assert_allclose(found["position"][2] - 1e7, found["position"][0], atol=1e-4)
    np.testing.assert_allclose(found["covariance"][1], 100 * found["covariance"][0], rtol=1e-3, atol=1e-6)
    assert ((found["presence"] >= 0) & (found["presence"] <= 1)).all()
    assert (found["index"] < len(pos)).all()
    np.testing.assert_allclose(found["point"][0], pos.numpy()[found["index"][0]], atol=1e-6)
    # A covariance has no negative direction.
    assert (np.linalg.eigvalsh(found["covariance"]) > 0).all()


def test_skeleton_merger_from_training_to_predictions(root, tmp_path, capsys):
    run = tmp_path / "run"
    flags = f"""unsupervised demo --data.root {root} --data.category mug --optimizer.steps 4 --optimizer.batch-size 4
        --model.out-channels 16 --model.num-keypoints 4 --trainer.no-progress --out {run}"""
    assert main(["train", *flags.split()]) == 0
    checkpoint = run / "last.ckpt"
    assert str(checkpoint) in capsys.readouterr().out
    pos = KeypointNet(root, "mug", "val")[0].pos
    clouds = tmp_path / "clouds"
    clouds.mkdir()
    np.save(clouds / "a.npy", pos.numpy())
    np.save(clouds / "b.npy", (10 * pos.double() + 3).numpy())
    out = tmp_path / "p.json"
    assert main(["predict", str(checkpoint), str(clouds), "--out", str(out)]) == 0
    predicted = json.loads(out.read_text())
    assert predicted["category"] == "mug"
    assert predicted["names"] == ["0", "1", "2", "3"]
    assert predicted["segments"] == [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]]
    a, b = predicted["clouds"]
    assert set(a) == {
        *("input", "num_points", "position", "covariance", "confidence", "entropy", "activation", "index", "point")
    }
    np.testing.assert_allclose(b["position"], 10 * np.asarray(a["position"]) + 3, atol=1e-4)
    np.testing.assert_allclose(b["activation"], a["activation"], rtol=1e-4)
    assert len(a["activation"]) == 6
    # As the model puts them in its own frame.
    merger, _ = load_skeleton_merger(checkpoint)
    cloud = Normalize("min_max")(Data(pos=pos))
    expected = denormalize(merger(None, cloud.pos)["keypoints"], cloud.offset, cloud.scale)[0]
    np.testing.assert_allclose(a["position"], expected.detach().numpy(), atol=1e-5)
    # The same as arrays.
    assert main(["predict", str(checkpoint), str(clouds), "--out", str(tmp_path / "p.npz")]) == 0
    arrays = np.load(tmp_path / "p.npz")
    np.testing.assert_allclose(arrays["position"][0], a["position"], rtol=1e-6)
    assert arrays["activation"].shape == (2, 6)
    assert arrays["segments"].shape == (6, 2)

    assert main(["evaluate", str(checkpoint), "--split", "test", "--pictures", "2"]) == 0
    table = capsys.readouterr().out
    assert "mug, whole category" in table
    assert "mug, test alone: 2 clouds, 4 keypoints" in table
    metrics = json.loads((run / "metrics-test.json").read_text())
    assert (run / "predictions-test.png").stat().st_size > 10_000
    # Of the same predictions: the skeletons of the two test clouds, in the order of the split.
    dataset = KeypointNet(root, "mug", "test")
    found, annotated, ids = [], [], []
    for item in dataset:
        cloud = Normalize("min_max")(Data(pos=item.pos))
        position = denormalize(merger(None, cloud.pos)["keypoints"], cloud.offset, cloud.scale)[0]
        found.append(position.detach())
        annotated.append(item.keypoints[0][item.visible[0]])
        ids.append(item.visible[0].nonzero().flatten().tolist())
    expected = dual_alignment(found, annotated, ids)
    scored = metrics["held_out"]["rows"]["detector"]["dual_alignment"]
    assert scored == pytest.approx(expected._asdict(), abs=1e-9)


@pytest.mark.parametrize(
    ("name", "content", "rule"),
    [
        ("nan.npy", np.array([[0.0, np.nan, 0.0]]), "not finite"),
        ("empty.npy", np.zeros((0, 3)), "must be numbers"),
        ("flat.npy", np.zeros((5, 2)), "must be numbers"),
        ("text.npy", np.array([["a", "b", "c"]]), "must be numbers"),
        ("broken.npy", b"not an array", "cannot be read"),
        ("broken.pcd", b"VERSION .7\nFIELDS x y z\n", "no `DATA` line"),
        ("broken.obj", b"v 0 0\nf 1 2 3\n", "cannot be read"),
    ],
)
def test_predict_names_the_file_that_is_broken(checkpoint, tmp_path, capsys, name, content, rule):
    file = tmp_path / name
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        np.save(file, content)
    assert main(["predict", str(checkpoint), str(file), "--out", str(tmp_path / "out.json")]) == 2
    message = capsys.readouterr().err
    assert name in message
    assert rule in message
    assert not (tmp_path / "out.json").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predict", "CHECKPOINT", "EMPTY"], "without any file"),
        (["predict", "CHECKPOINT", "EMPTY/none.npy"], "does not exist"),
        (["predict", "EMPTY", "EMPTY"], "without any file"),
        (["predict", "CHECKPOINT", "CHECKPOINT"], "must be a file of"),
        (["predict", "EMPTY/none.ckpt", "CHECKPOINT"], "no such file"),
        (["evaluate", "EMPTY/none.ckpt"], "no such file"),
        (["evaluate", "CHECKPOINT", "--root", "EMPTY"], "annotations"),
        (["evaluate", "CHECKPOINT", "--device", "nonsense"], "`device` (='nonsense')"),
        (["train", "unsupervised-of-old"], "`train`"),
        (["train", "supervised", "unknown"], "`preset` (='unknown')"),
        (["train", "unsupervised", "unknown"], "`preset` (='unknown')"),
        (["train", "unsupervised", "--data.root", "EMPTY", "--data.category", "spoon"], "spoon"),
        (["train", "supervised", "--data.root", "EMPTY", "--data.category", "spoon"], "spoon"),
        (["data", "invent"], "`data` (='invent')"),
        (["data", "generate", "EMPTY", "--categories", "spoon"], "spoon"),
        (["data", "gallery", "EMPTY/pictures", "--categories", "spoon"], "spoon"),
        (["data", "gallery", "EMPTY/pictures", "--categories", "mug", "--seed", "-1"], "`seed` (=-1)"),
        (["bench", "--device", "tpu"], "`device` (='tpu')"),
        (["bench", "scan", "--out", "EMPTY/none/bench.json"], "`out`"),
        (["nonsense"], "unknown command"),
    ],
)
def test_mistakes_end_in_one_message_and_status_2(checkpoint, tmp_path, capsys, arguments, message):
    named = {"CHECKPOINT": str(checkpoint), "EMPTY": str(tmp_path)}
    arguments = [a.replace("CHECKPOINT", named["CHECKPOINT"]).replace("EMPTY", named["EMPTY"]) for a in arguments]
    assert main(arguments) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_data_check_counts_what_is_broken(root, tmp_path, capsys):
    assert main(["data", "check", str(root)]) == 0
    assert main(["data", "check", str(tmp_path)]) == 1
    assert "problems in" in capsys.readouterr().out


def test_bench_measures_and_writes(tmp_path, capsys):
    out = tmp_path / "bench.json"
    assert main(["bench", "limits", "--quick", "--shrink", "64", "--repeats", "1", "--out", str(out)]) == 0
    report = json.loads(out.read_text())
    assert [result["case"] for result in report["results"]] == ["limits"]
    assert "exponential_" in capsys.readouterr().out


def test_help(capsys):
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"\n  {command} " in text for command in ("train supervised", *list(MODULES)[1:]))
