"""The commands that draw clouds: ``pcsa view`` and ``pcsa animate``."""

import json
import time
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from pcsa.datasets.keypointnet import KeypointNet
from pcsa.scripts.animate import AnimateConfig, frames
from pcsa.scripts.cli import main
from pcsa.scripts.runs import open_cloud_run
from pcsa.scripts.view import ViewConfig, open_scenes


def test_animate(checkpoint, tmp_path):
    out = tmp_path / "a.gif"
    assert main(["animate", str(checkpoint), "--out", str(out), "--frames", "3", "--num-samples", "5"]) == 0
    with Image.open(out) as gif:
        assert gif.n_frames == 3


def test_animate_in_the_order_of_training(training, checkpoint, tmp_path):
    early = tmp_path / "early"
    flags = " ".join(training("supervised")).replace("--optimizer.steps 4", "--optimizer.steps 2")
    assert main(["train", *flags.split(), "--out", str(early)]) == 0
    scenes = frames(AnimateConfig((checkpoint, early / "last.ckpt"), num_samples=3))
    assert [s.title.split(",")[0] for s in scenes] == ["step 2", "step 4"]
    assert scenes[0].samples.shape[1] == 3


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("animate SUPERVISED --shape 99", "`shape` (=99)"),
        ("animate SUPERVISED --out EMPTY/a.mp4", "must end in .gif or .html"),
        ("animate SUPERVISED --frames 0", "`frames` (=0)"),
        ("animate SUPERVISED --num-samples 0", "`num_samples` (=0)"),
        ("animate SUPERVISED --temperature-end -1 --out EMPTY/a.gif", "`temperature_end` (=-1.0)"),
        ("animate SUPERVISED UNSUPERVISED --out EMPTY/a.gif", "must have the task, category and keypoints of"),
        ("animate LANDMARKS --out EMPTY/a.gif", "must be a checkpoint of a task on clouds, is one of landmarks"),
        ("view LANDMARKS EMPTY", "must be a checkpoint of a task on clouds, is one of landmarks"),
        ("view SUPERVISED EMPTY/none", "does not exist"),
        ("view SUPERVISED ROOT --num-samples -1", "`num_samples` (=-1)"),
        ("view SUPERVISED ROOT", "a window takes a display"),
    ],
)
def test_mistakes_end_in_one_message_and_status_2(root, trained, tmp_path, refused, monkeypatch, command, message):
    for variable in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(variable, raising=False)
    named = {"EMPTY": str(tmp_path), "ROOT": str(root)}
    arguments = [
        str(trained(a.lower())) if a.lower() in ("supervised", "unsupervised", "landmarks") else a
        for a in command.split()
    ]
    for name, value in named.items():
        arguments = [a.replace(name, value) for a in arguments]
    assert message in refused(arguments)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.viz
def test_view(root, checkpoint, tmp_path, display, open3d, process):
    options = [checkpoint, root, "--split", "test", "--num-samples", 3, "--folder", tmp_path]
    viewer = process("-m", "pcsa.scripts.cli", "view", *options, variables=display.variables)
    names = KeypointNet(root, "mug", "test").model_ids
    viewer.told(f"1 / 2: {names[0]}")
    display.point("pcsa", 400, 300)
    display.press_until("n", lambda: viewer.tells(f"2 / 2: {names[1]}"))
    display.press("s")
    viewer.told("written")
    display.press("q")
    assert viewer.wait() == 0
    assert (np.asarray(Image.open(tmp_path / "pcsa-1.png").convert("RGB")) < 250).any()


@pytest.mark.parametrize("name", ["supervised", "unsupervised"])
def test_shapes_stand_as_the_training_clouds_do(root, trained, name):
    task, run = open_cloud_run(trained(name), "cpu")
    for up, shown in (("z", "z"), ("y", "y"), ("none", "y")):
        tilted = replace(run, labels=replace(run.labels, up=up))
        assert open_scenes(ViewConfig(run.path, (root,)), task, tilted)[0].up == shown


@pytest.mark.parametrize("name", ["supervised", "unsupervised"])
def test_view_predicts_what_predict_does(root, trained, name, tmp_path):
    checkpoint = trained(name)
    cloud = KeypointNet(root, "mug", "val")[0]
    np.save(tmp_path / "mug.npy", cloud.pos.numpy())
    assert main(["predict", str(checkpoint), str(tmp_path / "mug.npy"), "--out", str(tmp_path / "p.json")]) == 0
    found = json.loads((tmp_path / "p.json").read_text())["items"][0]
    task, run = open_cloud_run(checkpoint, "cpu")
    labeled = open_scenes(ViewConfig(checkpoint, (root,)), task, run)
    files = open_scenes(ViewConfig(checkpoint, (tmp_path / "mug.npy",), num_samples=4), task, run)
    assert len(labeled) == len(KeypointNet(root, "mug", "val"))
    for scene in (labeled[0], files[0]):
        np.testing.assert_allclose(scene.keypoints, found["position"], atol=1e-5)
    if name == "supervised":
        np.testing.assert_array_equal(labeled[0].visible, cloud.visible[0])
    assert files[0].samples.shape[1] == 4
    assert files[-1] is files[0]


@pytest.mark.slow
@pytest.mark.viz
def test_view_in_a_browser(root, checkpoint, browser, process):
    pytest.importorskip("viser", reason="viser is not installed (pcsa[viz])")
    options = [checkpoint, root, "--split", "test", "--browser", "--port", 0, "--num-samples", 3]
    viewer = process("-m", "pcsa.scripts.cli", "view", *options)

    def sees(*texts):
        limit = time.monotonic() + 300
        while time.monotonic() < limit:
            text = browser.find_element("tag name", "body").text
            if all(wanted in text for wanted in texts):
                return
            time.sleep(0.2)
        pytest.fail(f"{texts} are not seen: {text}")

    browser.get(f"{viewer.url}/?fixedDpr=1")
    assert "2 shapes at http://127.0.0.1:" in viewer.text
    dataset = KeypointNet(root, "mug", "test")
    sees(f"{dataset.model_ids[0]} · 1 of 2", "off by", *dataset.names)
    page = browser.find_element("tag name", "body")
    for key, told in (("n", f"{dataset.model_ids[1]} · 2 of 2"), ("n", "1 of 2")):
        page.send_keys(key)
        sees(told)
    page.send_keys("m")
    limit = time.monotonic() + 300
    while f"1. {dataset.names[0]}" not in [
        box.get_attribute("value") for box in browser.find_elements("tag name", "input")
    ]:
        assert time.monotonic() < limit
        time.sleep(0.2)
    boxes = browser.find_elements("css selector", "input[type=checkbox]")
    shown = sum(box.is_selected() for box in boxes)
    page.send_keys("2")
    while sum(box.is_selected() for box in browser.find_elements("css selector", "input[type=checkbox]")) == shown:
        assert time.monotonic() < limit
        time.sleep(0.2)
    next(b for b in browser.find_elements("tag name", "button") if b.text == "Finish").click()
    assert viewer.wait() == 0
