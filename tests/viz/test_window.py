"""The window, on a virtual display, with real keys."""

import sys

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


@pytest.fixture
def window(display, open3d, process, tmp_path):
    return process("-c", CODE, variables=display.variables, cwd=tmp_path)


@pytest.mark.viz
@pytest.mark.slow
def test_keys(window, display, tmp_path):
    window.told("1 / 2: first")
    display.point("pcsa", 500, 400)
    display.press_until("h", lambda: window.tells("screenshot"))
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
        display.press(*keys.split())
        window.told(told)
    assert window.wait() == 0

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
@pytest.mark.slow
def test_a_display_that_dies_ends_the_window(window, display):
    window.told("1 / 2: first")
    display.server.terminate()
    assert window.wait() != 0
    assert "closed" not in window.text


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
    monkeypatch.setenv("DISPLAY", display.variables["DISPLAY"])
    monkeypatch.setitem(sys.modules, "open3d", None)
    with pytest.raises(ValueError, match=r"libegl1 libgl1 libusb-1.0-0"):
        show(Scene(np.zeros((3, 3))))
