"""The commands that draw."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from pcsa.datasets.keypointnet import KeypointNet
from pcsa.scripts.cli import main
from pcsa.training import load_detector
from pcsa.viz import plots


@pytest.fixture
def cloud(root):
    return KeypointNet(root, "mug", "val")[0]


def test_predict_writes_pictures_and_a_page(checkpoint, cloud, tmp_path, capsys):
    pytest.importorskip("plotly")
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        np.save(tmp_path / folder / "mug.npy", cloud.pos.numpy())
    np.save(tmp_path / "a" / "one.npy", np.zeros((1, 3)))
    out, png, page = tmp_path / "p.json", tmp_path / "new" / "png", tmp_path / "new" / "p.html"
    inputs = [str(tmp_path / "a"), str(tmp_path / "b")]
    assert main(["predict", str(checkpoint), *inputs, "--out", str(out), "--png", str(png), "--html", str(page)]) == 0
    assert sorted(f.name for f in png.iterdir()) == ["mug.npy-2.png", "mug.npy.png", "one.npy.png"]
    first, second = (np.asarray(Image.open(png / name)) for name in ("mug.npy.png", "mug.npy-2.png"))
    np.testing.assert_array_equal(first, second)
    assert (first < 250).any(2).sum() > 5000
    assert str(page) in capsys.readouterr().out
    data = json.loads(page.read_text().split('type="application/json">')[1].split("</script>")[0])
    assert [s["title"] for s in data["scenes"]] == ["mug.npy", "one.npy", "mug.npy"]
    # The page has the numbers of the file, for the keypoints that are thought to be there.
    predicted = json.loads(out.read_text())
    for scene, found in zip(data["scenes"], predicted["clouds"], strict=True):
        assert [k["name"] for k in scene["keypoints"]] == predicted["names"]
        assert [k["confidence"] for k in scene["keypoints"]] == pytest.approx(found["confidence"], rel=0.01)
        assert [k["predicted"] is not None for k in scene["keypoints"]] == [p > 0.5 for p in found["presence"]]


def test_evaluate_writes_a_page(root, checkpoint, tmp_path):
    pytest.importorskip("plotly")
    out = tmp_path / "metrics.json"
    options = ["--split", "val", "--pictures", "1", "--page", "1", "--no-geodesic", "--out", str(out)]
    assert main(["evaluate", str(checkpoint), *options]) == 0
    data = json.loads(
        (tmp_path / "predictions-val.html").read_text().split('type="application/json">')[1].split("</script>")[0]
    )
    # Of one cloud, the errors on the page are those that the metrics average.
    errors = [k["error"] for k in data["scenes"][0]["keypoints"] if k["error"] is not None]
    assert len(data["scenes"]) == 1
    assert np.mean(errors) == pytest.approx(json.loads(out.read_text())["overall"]["euclidean"]["mean_error"], rel=0.01)
    assert (tmp_path / "predictions-val.png").stat().st_size > 10_000


def test_animate(checkpoint, tmp_path):
    out = tmp_path / "a.gif"
    assert main(["animate", str(checkpoint), "--out", str(out), "--frames", "3", "--num-samples", "5"]) == 0
    with Image.open(out) as gif:
        assert gif.n_frames == 3


def test_animate_in_the_order_of_training(root, checkpoint, tmp_path):
    flags = (
        "--data.category mug --optimizer.steps 2 --optimizer.batch-size 4 --model.out-channels 16 --trainer.no-progress"
    )
    early = tmp_path / "early"
    assert main(["train", "supervised", "--data.root", str(root), "--out", str(early), *flags.split()]) == 0
    from pcsa.scripts.animate import AnimateConfig, frames

    scenes = frames(AnimateConfig((checkpoint, early / "last.ckpt"), num_samples=3))
    assert [s.title.split(",")[0] for s in scenes] == ["step 2", "step 4"]
    assert scenes[0].samples.shape[1] == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["animate", "CHECKPOINT", "--shape", "99"], "`shape` (=99)"),
        (["animate", "CHECKPOINT", "--out", "EMPTY/a.mp4"], "must end in .gif or .html"),
        (["animate", "CHECKPOINT", "--frames", "0"], "`frames` (=0)"),
        (["animate", "CHECKPOINT", "--temperature-end", "-1", "--out", "EMPTY/a.gif"], "`temperature-end` (=-1.0)"),
        (["view", "CHECKPOINT", "EMPTY/none"], "does not exist"),
        (["view", "CHECKPOINT", "ROOT", "--num-samples", "-1"], "`num-samples` (=-1)"),
        (["view", "CHECKPOINT", "ROOT"], "a window takes a display"),
        (["evaluate", "CHECKPOINT", "--page", "-1"], "`page` (=-1)"),
        (["report", "EMPTY", "--out", "EMPTY/r"], "has neither metrics-val.json"),
        (["report", "EMPTY/none", "--out", "EMPTY/r"], "neither a run's folder nor a metrics file"),
        (["report", "CHECKPOINT", "--out", "EMPTY/r"], "cannot be read as JSON"),
        (["report", "ROOT", "ROOT", "--out", "EMPTY/r"], "must be different"),
    ],
)
def test_mistakes(root, checkpoint, tmp_path, capsys, monkeypatch, arguments, message):
    for variable in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(variable, raising=False)
    named = {"CHECKPOINT": str(checkpoint), "EMPTY": str(tmp_path), "ROOT": str(root)}
    for name, value in named.items():
        arguments = [a.replace(name, value) for a in arguments]
    assert main(arguments) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.viz
def test_view(root, checkpoint, tmp_path, display, open3d):
    environment = {**os.environ, "DISPLAY": display[0], "PYTHONUNBUFFERED": "1"}
    environment.pop("WAYLAND_DISPLAY", None)
    command = [sys.executable, "-m", "pcsa.scripts.cli", "view", str(checkpoint), str(root), "--split", "test"]
    viewer = subprocess.Popen(
        [*command, "--num-samples", "3", "--folder", str(tmp_path)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        names = KeypointNet(root, "mug", "test").model_ids
        for told, key in ((f"1 / 2: {names[0]}", "n"), (f"2 / 2: {names[1]}", "s"), ("written", "q")):
            lines = []
            for line in viewer.stdout:
                lines.append(line)
                if told in line:
                    break
            else:
                pytest.fail("".join(lines))
            if key == "n":
                # The pointer in the window, and a second until it has the keyboard.
                move = "search --sync --onlyvisible --name pcsa mousemove --window %1 400 300 sleep 1"
                subprocess.run(["xdotool", *move.split(" ")], env=environment, check=True)
            subprocess.run(["xdotool", "key", key], env=environment, check=True)
        assert viewer.wait(60) == 0
    finally:
        viewer.kill()
        viewer.wait()
        viewer.stdout.close()
    assert (np.asarray(Image.open(tmp_path / "pcsa-1.png").convert("RGB")) < 250).any()


def test_view_predicts_what_predict_does(root, checkpoint, cloud, tmp_path):
    from pcsa.scripts.view import ViewConfig, open_scenes

    np.save(tmp_path / "mug.npy", cloud.pos.numpy())
    assert main(["predict", str(checkpoint), str(tmp_path / "mug.npy"), "--out", str(tmp_path / "p.json")]) == 0
    found = json.loads((tmp_path / "p.json").read_text())["clouds"][0]
    detector, about = load_detector(checkpoint)
    labelled = open_scenes(ViewConfig(checkpoint, (root,)), detector, about)
    files = open_scenes(ViewConfig(checkpoint, (tmp_path / "mug.npy",), num_samples=4), detector, about)
    assert len(labelled) == len(KeypointNet(root, "mug", "val"))
    for scene in (labelled[0], files[0]):
        np.testing.assert_allclose(scene.keypoints, found["position"], atol=1e-5)
    np.testing.assert_array_equal(labelled[0].visible, cloud.visible[0])
    assert files[0].samples.shape[1] == 4
    assert files[-1] is files[0]


@pytest.fixture
def runs(tmp_path):
    """Two runs whose curves are known, the second resumed once and with a name to be careful with."""
    thresholds = [0.0, 0.01, 0.05, 0.1]
    folders = []
    for i, name in enumerate(("sampling", "<b>soft $x$")):
        folder = tmp_path / "runs" / str(i) / name
        folders.append(folder)
        distance = {"pck": [0.0, 0.4 + 0.1 * i, 0.7, 1.0], "mean_error": 0.02}
        metrics = {
            "category": "mug",
            "num_clouds": 5,
            "thresholds": thresholds,
            "overall": {
                "euclidean": distance,
                "geodesic": {**distance, "mean_error": None},
                "presence_average_precision": None,
                "calibration": {
                    "threshold": 0.01,
                    "pearson": None,
                    "reliability": {"confidence": [0.2, 0.6, None], "accuracy": [0.1, 0.5, None], "counts": [3, 3, 0]},
                },
            },
            "per_keypoint": {"mug": {"rim": {"num_shapes": 5, "euclidean": distance}}},
        }
        for part in range(i + 1):
            log = folder / "log" / f"version_{part}"
            log.mkdir(parents=True)
            rows = "".join(f"{s // 10},{1 / (s + 1)},,{s}\n" for s in range(30 * part, 30 * part + 35))
            (log / "metrics.csv").write_text(f"epoch,loss,val_pck@0.01,step\n{rows}0,,0.5,34\n")
        (folder / "metrics-val.json").write_text(json.dumps(metrics))
    return folders


def test_report(runs, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["report", *map(str, runs), "--out", str(out)]) == 0
    assert str(out / "report.html") in capsys.readouterr().out
    pictures = ["keypoints-mug.png", "pck.png", "reliability.png", "training.png"]
    assert sorted(f.name for f in out.glob("*.png")) == pictures
    page = (out / "report.html").read_text()
    assert page.count("data:image/png;base64,") == len(pictures)
    assert "&lt;b&gt;soft $x$" in page
    assert "<b>soft" not in page
    assert "<td>40.0</td>" in page
    assert "<td>50.0</td>" in page
    assert "http" not in page  # nothing from a network


def test_curves_hold_the_numbers_of_the_files(runs):
    from pcsa.scripts.report import read_log

    metrics = {f.name: json.loads((f / "metrics-val.json").read_text()) for f in runs}
    figure = plots.plot_pck(metrics)
    euclidean, _geodesic = figure.axes
    assert [a.get_title() for a in figure.axes] == ["Euclidean", "geodesic"]
    np.testing.assert_allclose(euclidean.lines[1].get_ydata(), [0, 50, 70, 100])
    assert [t.get_text() for t in figure.legends[0].get_texts()] == [f.name for f in runs]
    assert not any(t.get_parse_math() for t in figure.legends[0].get_texts())
    bins = plots.plot_reliability(metrics).axes[0].lines[1]
    np.testing.assert_array_equal(bins.get_xdata(), [0.2, 0.6, np.nan])
    bars = plots.plot_keypoints(metrics, "mug").axes[0].patches
    assert [b.get_height() for b in bars] == [0.02, 0.02]
    # A resumed run's parts are one curve, and the later part counts where both have a step.
    log = read_log(runs[1] / "log")
    np.testing.assert_array_equal(log["loss"][0], np.arange(65))
    np.testing.assert_allclose(log["loss"][1], 1 / np.arange(1, 66))
    np.testing.assert_array_equal(log["val_pck@0.01"][1], [0.5])
    assert plots.plot_miou(metrics) is None


def test_miou_is_drawn_with_its_floors():
    rows = {"detector": {"miou_geodesic": [0.0, 0.5]}, "template": {"miou_geodesic": [0.1, 0.2], "miou_other": [1.0]}}
    metrics = {
        "a": {"held_out": {"thresholds": [0.0, 0.1], "rows": rows}},
        "b": {"category": "bed", "thresholds": [0.0, 0.1], "overall": {}},
    }
    curves = [(title, row) for m in metrics.values() for title, row, *_ in plots.miou_curves(m)]
    assert curves == [("geodesic, held out", "detector"), ("geodesic, held out", "template")]
    figure = plots.plot_miou(metrics)
    np.testing.assert_allclose(figure.axes[0].lines[0].get_ydata(), [0, 50])
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["a", "a: template"]


def test_a_broken_log_is_named(runs, tmp_path, capsys):
    file = runs[0] / "log" / "version_0" / "metrics.csv"
    file.write_text("epoch,loss,step\n0,many,1\n")
    assert main(["report", str(runs[0]), "--out", str(tmp_path / "out")]) == 2
    assert str(file) in capsys.readouterr().err
