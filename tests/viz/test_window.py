"""The window, on a virtual display, with real keys."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from pcsa.viz import Scene, show

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the virtual display is for X11")

CODE = """
import logging
import numpy as np
from pcsa.viz import Scene, show
logging.basicConfig(level=logging.INFO, format="%(message)s")
rng = np.random.default_rng(0)
pos = rng.uniform(-0.5, 0.5, (2000, 3)) * [1, 1, 0.1]
keypoints = np.array([[0.3, 0.4, 0.0], [-0.3, -0.4, 0.0]])
prob = np.exp(-np.linalg.norm(pos[:, None] - keypoints, axis=2) / 0.1)
first = Scene(pos, title="first", keypoints=keypoints, names=["up", "down"], prob=prob)
show([first, Scene(pos * [1, 0.2, 1], title="second")], folder="shots")
print("closed")
"""


def start(display, cwd, code=CODE):
    environment = {**os.environ, "DISPLAY": display, "PYTHONUNBUFFERED": "1"}
    environment.pop("WAYLAND_DISPLAY", None)
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env=environment,
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def until_told(process, text):
    """Read on until a line has the text."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if text in line:
            return
    pytest.fail(f"ended without {text!r}:\n{''.join(lines)}")


def press(display, *arguments):
    subprocess.run(["xdotool", *arguments], env={**os.environ, "DISPLAY": display}, check=True)


@pytest.fixture
def stop():
    """Processes that must not outlive a test that fails."""
    started = []
    yield started.append
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.viz
def test_keys(display, open3d, tmp_path, stop):
    name, _ = display
    process = start(name, tmp_path)
    stop(process)
    until_told(process, "1 / 2: first")
    press(name, "search", "--sync", "--onlyvisible", "--name", "pcsa", "mousemove", "--window", "%1", "500", "400")
    time.sleep(1)  # until the window has the keyboard
    for keys, told in (
        ("s", "pcsa-1.png"),
        ("m", "probability of up"),
        ("s", "pcsa-2.png"),
        ("b", "1 / 2: first"),
        ("3 s", "pcsa-3.png"),
        ("n", "2 / 2: second"),
        ("s", "pcsa-4.png"),
        ("Right", "1 / 2: first"),
        ("Left", "2 / 2: second"),
        ("h", "screenshot"),
        ("q", "closed"),
    ):
        for key in keys.split():
            press(name, "key", key)
        until_told(process, told)
    assert process.wait(60) == 0

    shots = [
        np.asarray(Image.open(tmp_path / "shots" / f"pcsa-{i}.png").convert("RGB")).astype(int) for i in range(1, 5)
    ]
    red = [(s[..., 0] - s[..., 1] > 90) & (s[..., 0] - s[..., 2] > 90) for s in shots]
    height = shots[0].shape[0]
    # The first keypoint, red, is up.
    assert red[0].sum() > 100
    assert red[0].nonzero()[0].mean() < 0.45 * height
    # Its map is a region about it; without the keypoints, nothing is red.
    assert red[1].sum() > 100
    assert red[2].sum() == red[3].sum() == 0
    # Both shapes are seen whole, the second is flat.
    flat, high = ((s < 250).any(2).nonzero() for s in (shots[3], shots[2]))
    assert np.ptp(flat[0]) < 0.6 * np.ptp(high[0])
    assert high[0].min() > 0
    assert high[0].max() < height - 1


@pytest.mark.viz
def test_a_display_that_dies_ends_the_window(display, open3d, tmp_path, stop):
    name, server = display
    process = start(name, tmp_path)
    stop(process)
    until_told(process, "1 / 2: first")
    server.terminate()
    assert process.wait(120) != 0
    assert "closed" not in process.stdout.read()


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({}, "DISPLAY is not set"),
        ({"DISPLAY": ":987"}, r"DISPLAY \(=:987\) does not answer|libX11.so.6 is missing"),
        (
            {"WAYLAND_DISPLAY": "nowhere"},
            r"WAYLAND_DISPLAY \(=nowhere\) does not answer|libwayland-client.so.0 is missing",
        ),
    ],
)
def test_without_a_display_there_is_an_error(monkeypatch, environment, message):
    for variable in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    with pytest.raises(ValueError, match=message):
        show(Scene(np.zeros((3, 3))))


def test_no_scene():
    with pytest.raises(ValueError, match="`scenes`"):
        show([])


@pytest.mark.viz
def test_without_open3d_a_window_says_what_is_missing(display, monkeypatch):
    monkeypatch.setenv("DISPLAY", display[0])
    monkeypatch.setitem(sys.modules, "open3d", None)
    with pytest.raises(ValueError, match=r"libegl1 libgl1 libusb-1.0-0"):
        show(Scene(np.zeros((3, 3))))
