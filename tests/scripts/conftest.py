"""A tiny run of every task, trained when it is first asked for: nothing is learned in a few steps."""

import base64
import contextlib
import io
import json
import re
import zlib

import numpy as np
import pytest
from PIL import Image

from pcsa.scripts.cli import main

CLOUDS = "--data.root ROOT --data.category mug --model.out-channels 16 --optimizer.steps 4"
# Task, preset, and settings of the data and the network.
SETTINGS = {
    "supervised": f"supervised {CLOUDS}",
    "unsupervised": f"unsupervised demo {CLOUDS} --model.num-keypoints 4",
    "pose2d": "pose2d --data.num-images 20 --data.input-size 32 24 --optimizer.steps 2",
    "pose3d": "pose3d --data.num-items 20 --data.input-size 16 16 16 --optimizer.steps 2",
    "pose3d-image": "pose3d image --data.num-items 20 --data.input-size 16 32 24 --optimizer.steps 2",
    "oct": "oct --data.num-scans 20 --data.input-size 64 16 --model.channels 4 8 --optimizer.steps 2",
    "landmarks": "landmarks --data.num-images 20 --data.input-size 32 32 --model.channels 8 8 --optimizer.steps 2",
}
FAST = "--optimizer.batch-size 4 --trainer.no-progress --trainer.accelerator cpu"


@pytest.fixture(scope="session", params=SETTINGS)
def name(request):
    """Every run by its name."""
    return request.param


@pytest.fixture(scope="session")
def root(tmp_path_factory):
    """Ten procedural mugs."""
    root = tmp_path_factory.mktemp("data")
    flags = "--categories mug --num-shapes 10 --num-points 256"
    assert main(["data", "generate", str(root), *flags.split()]) == 0
    return root


@pytest.fixture(scope="session")
def training(root):
    """What follows ``pcsa train`` for a run, but for its folder."""
    return lambda name: [a.replace("ROOT", str(root)) for a in f"{SETTINGS[name]} {FAST}".split()]


@pytest.fixture(scope="session")
def fast():
    """Options of a short training."""
    return FAST


@pytest.fixture(scope="session")
def trained(training, tmp_path_factory):
    """The checkpoint of a run."""
    done = {}

    def get(name):
        if name not in done:
            out = tmp_path_factory.mktemp(name)
            assert main(["train", *training(name), "--out", str(out)]) == 0
            done[name] = out / "last.ckpt"
        return done[name]

    return get


@pytest.fixture(scope="session")
def scored(trained):
    """The metrics of a run on its test items, and the table that is printed with them."""
    done = {}

    def get(name):
        if name not in done:
            checkpoint = trained(name)
            with contextlib.redirect_stdout(io.StringIO()) as table:
                assert main(["evaluate", str(checkpoint), "--split", "test", "--pictures", "3"]) == 0
            done[name] = json.loads((checkpoint.parent / "metrics-test.json").read_text()), table.getvalue()
        return done[name]

    return get


@pytest.fixture(scope="session")
def checkpoint(trained):
    return trained("supervised")


@pytest.fixture
def refused(capsys, monkeypatch):
    """Runs a command that must end with status 2, and returns what it says."""
    monkeypatch.setenv("COLUMNS", "500")

    def run(arguments):
        capsys.readouterr()
        framed = False
        try:
            status = main([str(a) for a in arguments])
        except SystemExit as end:
            # Options that do not fit come in a frame.
            status, framed = end.code, True
        message = capsys.readouterr().err
        assert status == 2
        if framed:
            return re.sub(r"[\s╭╮╰╯│─]+", " ", message)
        assert message.startswith(f"pcsa {arguments[0]}: ")
        assert message.count("\n") == 1
        return message

    return run


@pytest.fixture(scope="session")
def save_image():
    """Writes an image [C, H, W] from 0 to 1 as a picture of bytes."""

    def save(path, image):
        array = (image.numpy() * 255 + 0.5).astype(np.uint8)
        Image.fromarray(array.transpose(1, 2, 0) if len(array) == 3 else array[0]).save(path)

    return save


@pytest.fixture(scope="session")
def sources(save_image):
    """Writes the pictures of a split into a folder, and their boxes into a file."""

    def write(items, out):
        folder, boxes = out / "pictures", {}
        folder.mkdir()
        for i in range(len(items)):
            source = items.source(i)
            save_image(folder / f"{i}.png", source["image"])
            boxes[f"{i}.png"] = [source["box"].tolist()]
        (out / "boxes.json").write_text(json.dumps(boxes))
        return folder, out / "boxes.json"

    return write


@pytest.fixture(scope="session")
def predict():
    """Predicts inputs, with pictures, and returns what is written."""

    def run(checkpoint, inputs, out, *flags):
        arguments = [*inputs, "--out", out / "p.json", "--png", out / "png", *flags]
        assert main(["predict", str(checkpoint), *map(str, arguments)]) == 0
        return json.loads((out / "p.json").read_text())

    return run


@pytest.fixture(scope="session")
def drawn():
    """Checks that a file is a picture of something, and returns its width and height."""

    def check(path):
        with Image.open(path) as file:
            assert file.mode in ("RGB", "RGBA")
            assert np.asarray(file).std() > 5
            return file.size

    return check


@pytest.fixture(scope="session")
def read_page():
    """Reads what a page says of itself, and of each of its scenes."""

    def read(path):
        text = path.read_text()
        about = json.loads(text.split('type="application/json">')[1].split("</script>")[0])
        scenes = []
        for part in text.split('<script class="scene" type="text/plain">')[1:]:
            packed = zlib.decompress(base64.b64decode(part.split("</script>")[0]))
            size = int.from_bytes(packed[:4], "little")
            scenes.append(json.loads(packed[4 : 4 + size]))
        return about, scenes

    return read


@pytest.fixture
def hub(hub, monkeypatch):
    """The hub of the tests, as the one that the client knows, and somebody who is logged in."""
    constants = pytest.importorskip("huggingface_hub.constants")
    template = hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setenv("HF_TOKEN", "hf_of_nobody")
    return hub
