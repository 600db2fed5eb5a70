import dataclasses
import logging
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from pcsa.viz import LAYERS, Scene, fit, gl, keypoint_colors, png, render, save_panels, save_png, save_pngs
from pcsa.viz.scene import balls, size_of, view_axes


@pytest.fixture(params=["open3d", "matplotlib"])
def backend(request):
    if request.param == "open3d":
        request.getfixturevalue("open3d")
    return request.param


def found(pixels, color):
    """Middle (x, y) of the pixels that have a color's hue, and how many they are."""
    wanted, image = color / np.linalg.norm(color), pixels.astype(float)
    length = np.linalg.norm(image, axis=2)
    like = (image @ wanted > 0.985 * length) & (length > 60)
    rows, columns = np.nonzero(like)
    return (columns.mean(), rows.mean()) if len(rows) else None, len(rows)


def test_keypoints_are_where_they_belong_and_the_right_way_up(box, backend):
    (pixels,) = render([box], layers=["cloud", "keypoints"], backend=backend)
    assert pixels.shape == (600, 800, 3)
    middle, half = fit([box], layers=["cloud", "keypoints"])
    flat = (box.keypoints - middle) @ view_axes().T / half
    for k, color in enumerate(keypoint_colors(2)):
        (x, y), _ = found(pixels, color)
        assert x == pytest.approx(400 + 300 * flat[k, 0], abs=3)
        assert y == pytest.approx(300 - 300 * flat[k, 1], abs=3)
    assert flat[0, 1] > 0 > flat[1, 1]
    # Nothing is cut off, and the picture is filled.
    rows, columns = np.nonzero((pixels < 250).any(2))
    assert rows.min() > 2
    assert columns.min() > 2
    assert rows.max() < 597
    assert columns.max() < 797
    assert max(np.ptp(rows) / 600, np.ptp(columns) / 800) > 0.9


def test_layers_are_switched(box, backend):
    counts = {}
    for layer in ("keypoints", "annotated", "errors", "covariance", "samples"):
        (pixels,) = render([box], layers=["cloud", layer], backend=backend)
        counts[layer] = found(pixels, keypoint_colors(1)[0])[1]
    (pixels,) = render([box], layers=["cloud"], backend=backend)
    assert found(pixels, keypoint_colors(1)[0])[1] == 0
    assert min(counts.values()) > 20
    (pixels,) = render([box], layers=["skeleton"], backend=backend)
    assert (pixels < 250).any()
    (pixels,) = render([box], layers=[], backend=backend)
    assert (pixels == 255).all()


def test_a_map_colors_the_cloud(box, backend):
    (pixels,) = render([box], layers=["cloud"], keypoint=0, backend=backend)
    dark = pixels[..., 0].astype(int) - pixels[..., 2] > 60
    middle, half = fit([box], layers=["cloud"])
    x, y = ((box.keypoints[0] - middle) @ view_axes().T / half)[:2]
    rows, columns = np.nonzero(dark)
    assert columns.mean() == pytest.approx(400 + 300 * x, abs=30)
    assert rows.mean() == pytest.approx(300 - 300 * y, abs=30)


def test_a_mesh_hides_what_is_behind_it(backend):
    square = np.array([[-1.0, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]])
    scene = Scene(square, vertices=square, faces=[[0, 1, 2], [0, 2, 3]])
    (pixels,) = render([scene], layers=["mesh"], turn=0, tilt=0, backend=backend)
    assert (pixels[250:350, 350:450] < 250).all()


def test_a_mesh_has_the_colors_of_its_vertices(backend):
    square = np.array([[-1.0, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]])
    scene = Scene(square, vertices=square, faces=[[0, 1, 2], [0, 2, 3]], vertex_color=np.tile([1.0, 0.5, 0], (4, 1)))
    (pixels,) = render([scene], layers=["mesh"], turn=0, tilt=0, backend=backend)
    red, green, blue = np.median(pixels[250:350, 350:450], axis=(0, 1))  # a seam has a color of its own
    assert red > 100
    assert green == pytest.approx(red / 2, abs=2)
    assert blue == 0


def test_a_picture_does_not_depend_on_those_before_it(box, open3d):
    flat = Scene(box.pos * [1, 0.1, 1])
    alone = [next(render([scene])) for scene in (box, flat)]
    for pixels, expected in zip(render([box, flat, flat, box]), [*alone, alone[1], alone[0]], strict=True):
        np.testing.assert_array_equal(pixels, expected)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e5])
def test_place_and_size_do_not_matter(box, open3d, scale):
    near = Scene(box.pos, keypoints=box.keypoints)
    far = Scene(box.pos * scale + 1e3 * scale, keypoints=box.keypoints * scale + 1e3 * scale)
    first, second = render([near, far])
    assert np.abs(first.astype(int) - second).mean() < 0.5


@pytest.mark.parametrize(
    "scene",
    [
        Scene([[1.0, 2.0, 3.0]]),
        Scene([[1.0, 2.0, 3.0]], keypoints=[[1.0, 2.0, 3.0]], annotated=[[1.0, 2.5, 3.0]]),
        Scene([[0.0] * 3, [1.0] * 3], keypoints=np.zeros((0, 3))),
        Scene(np.zeros((50, 3))),
        Scene(np.random.default_rng(0).normal(size=(10, 3)), keypoints=[[0.0] * 3], covariance=np.zeros((1, 3, 3))),
    ],
    ids=["one point", "one point and a keypoint", "no keypoints", "all points equal", "no variance"],
)
def test_little_to_draw(scene, backend, tmp_path):
    save_png(tmp_path / "little.png", scene, backend=backend)
    assert (np.asarray(Image.open(tmp_path / "little.png")) < 250).any()


def test_two_million_points_are_thinned_with_a_note(tmp_path, backend, caplog):
    pos = np.random.default_rng(0).normal(size=(2_000_000, 3)).astype(np.float32)
    with caplog.at_level(logging.INFO):
        save_png(tmp_path / "many.png", Scene(pos, title="many"), backend=backend)
    assert "many: 20,000 of 2,000,000 points drawn" in caplog.text
    with Image.open(tmp_path / "many.png") as picture:
        assert picture.height > 600 + 30  # title and note


def test_files_have_title_and_legend(box, tmp_path):
    save_png(tmp_path / "new" / "with.png", box, backend="matplotlib")
    save_png(tmp_path / "without.png", dataclasses.replace(box, title=""), legend=False, backend="matplotlib")
    with Image.open(tmp_path / "new" / "with.png") as picture, Image.open(tmp_path / "without.png") as bare:
        assert bare.size == (800, 600)
        assert picture.width > 900
        legend = np.asarray(picture)[:, 800:]
        # The marks of both keypoints, in their colors, one above the other.
        places = [found(legend, color)[0] for color in keypoint_colors(2)]
        assert places[0][1] < places[1][1]
        # Text and marks end within the picture.
        assert (legend[:, -3:] == 255).all()


def test_a_long_legend_takes_more_columns(tmp_path):
    K = 60
    rng = np.random.default_rng(0)
    names = [f"a keypoint with the name {k}" for k in range(K)]
    scene = Scene(rng.random((99, 3)), keypoints=rng.random((K, 3)), names=names)
    save_png(tmp_path / "long.png", scene, backend="matplotlib", size=(400, 300))
    with Image.open(tmp_path / "long.png") as picture:
        pixels = np.asarray(picture)
    assert (pixels[:4] == 255).all()
    assert (pixels[-4:] == 255).all()
    assert pixels.shape[1] > 400 + 4 * 150


def test_panels(box, tmp_path):
    save_panels(tmp_path / "panels.png", [box] * 5, columns=3, size=(200, 150), backend="matplotlib")
    with Image.open(tmp_path / "panels.png") as picture:
        assert picture.width > 600
        assert picture.height == 2 * (150 + 24)
    with pytest.raises(ValueError, match="`scenes`"):
        save_panels(tmp_path / "none.png", [])
    with pytest.raises(ValueError, match="`columns`"):
        save_panels(tmp_path / "none.png", [box], columns=0)


def test_many_files_take_one_window(box, tmp_path, open3d, monkeypatch):
    opened = []
    original = gl.open_window
    monkeypatch.setattr(gl, "open_window", lambda *a, **k: opened.append(1) or original(*a, **k))
    save_pngs(((tmp_path / f"{i}.png", box) for i in range(4)), size=(160, 120))
    assert len(list(tmp_path.glob("*.png"))) == 4
    assert len(opened) == 1


def test_without_open3d_matplotlib_draws_and_says_what_is_missing(box, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "open3d", None)
    png._warn_once.cache_clear()
    pixels = list(render([box, box], layers=["cloud", "keypoints"]))
    (expected,) = render([box], layers=["cloud", "keypoints"], backend="matplotlib")
    np.testing.assert_array_equal(pixels[0], expected)
    list(render([box]))
    assert len(caplog.records) == 1
    for name in ("libegl1", "libgl1", "libusb-1.0-0", "pcsa[viz]"):
        assert name in caplog.text
    with pytest.raises(ValueError, match=r"`backend` \(='open3d'\).*libegl1"):
        render([box], backend="open3d")


@pytest.mark.viz
@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="EGL is for Linux")
def test_without_a_way_to_draw_matplotlib_draws(open3d, tmp_path):
    # As on a machine whose EGL has no driver.
    code = "from pcsa.viz import *; save_png('a.png', Scene([[0., 0, 0], [1, 1, 1]]))"
    environment = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**environment, "__EGL_VENDOR_LIBRARY_FILENAMES": os.devnull},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "libegl1" in done.stderr
    assert (tmp_path / "a.png").stat().st_size > 1000


@pytest.mark.viz
@pytest.mark.slow
def test_with_a_display_too(box, open3d, display, tmp_path):
    code = "from pcsa.viz import *; save_png('a.png', Scene([[0., 0, 0], [1, 1, 1]]), backend='open3d')"
    environment = {**os.environ, **display.variables}
    subprocess.run([sys.executable, "-c", code], env=environment, cwd=tmp_path, check=True)
    with Image.open(tmp_path / "a.png") as picture:
        assert (np.asarray(picture) < 250).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": (0, 5)}, r"`size` \(=\(0, 5\)\)"),
        ({"layers": ["clouds"]}, r"`layers` has \['clouds'\]"),
        ({"backend": "paper"}, r"`backend` \(='paper'\)"),
        ({"keypoint": 7}, r"`keypoint` \(=7\) must be a place in the 2"),
    ],
)
def test_bad_options(box, options, message):
    with pytest.raises(ValueError, match=message):
        list(render([box], **{"backend": "matplotlib", **options}))


def test_a_map_needs_probabilities():
    with pytest.raises(ValueError, match="needs a scene with `prob`"):
        list(render([Scene(np.zeros((3, 3)), keypoints=np.zeros((1, 3)))], keypoint=0, backend="matplotlib"))


def test_two_hundred_names_leave_a_picture_of_twice_its_width(tmp_path):
    rng = np.random.default_rng(0)
    pos = rng.random((99, 3))
    for names in ([f"a keypoint with the name {k}" for k in range(200)], ["x" * 80] * 200, ()):
        scene = Scene(pos, keypoints=rng.random((200, 3)), names=names)
        save_png(tmp_path / "long.png", scene, backend="matplotlib")
        with Image.open(tmp_path / "long.png") as picture:
            width, height = picture.size
            legend = np.asarray(picture)[:, 800:]
        assert 900 < width <= 1600
        assert height == 600
        # It begins beside the cloud, and ends within the picture.
        assert (legend[:, :5] == 255).all()
        assert (legend[:, -2:] == 255).all()


def test_what_has_no_room_in_a_legend_is_counted(monkeypatch):
    from pcsa.viz import legend

    written = []
    original = legend.write
    monkeypatch.setattr(legend, "write", lambda *args: written.append(args[2]) or original(*args))
    entries = [legend.Entry("ball", f"a keypoint with the name {k}") for k in range(200)]
    sheet = legend.beside(Image.new("RGB", (400, 300), "white"), entries)
    assert sheet.width <= 400 + legend.MAX_WIDTH
    *names, last = written
    assert names == [f"a keypoint with the name {k}" for k in range(len(names))]
    assert last == f"… and {200 - len(names)} more"
    # All are there where they fit.
    written.clear()
    legend.beside(Image.new("RGB", (400, 300), "white"), [legend.Entry("ball", str(k)) for k in range(60)])
    assert written == [str(k) for k in range(60)]
    # A flat picture becomes as high as its legend.
    assert legend.beside(Image.new("RGB", (400, 20), "white"), entries[:8]).height > 100


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("nose", "nose"),
        ("x" * 80 + "17", "xxx…x17"),
        ("$x_1$ <b>&amp;", "$x_1$ <b>&amp;"),
        ("tab\there\nand  there", "tab here and there"),
        ("bad \udcff byte", "bad \ufffd byte"),
        ("\u202eright", "right"),
        ("שמאל", "שמאל"),
        ("\U000f0000", "⟨F0000⟩"),
    ],
)
def test_names_are_shortened_and_made_plain(text, shown):
    from pcsa.viz.legend import font_of, plain, shortened

    short = shortened(text, 60 if len(text) > 20 else 400, 12)
    if len(text) > 20:
        assert font_of(12).getlength(short) <= 60
        head, tail = short.split("…")
        assert head == "x" * len(head)
        assert tail.endswith("17")
        assert 0 <= len(head) - len(tail) <= 1
    else:
        assert (short, plain(text)) == (shown, shown)
    # However long it is.
    assert font_of(12).getlength(shortened(text * 100_000, 60, 12)) <= 60


def _drawn_share(pixels):
    rows, columns = np.nonzero((pixels < 250).any(2))
    return np.ptp(rows) / pixels.shape[0], np.ptp(columns) / pixels.shape[1]


@pytest.mark.parametrize("offset", [0.0, 4.6e6])
def test_a_point_does_not_fill_the_picture(backend, offset):
    # What is seen along the view is a point, too.
    along = np.outer(np.linspace(0, 1, 50), view_axes()[2])
    for scene in (
        Scene(np.array([[1.0, 2.0, 3.0]]) + offset),
        Scene(np.zeros((50, 3)) + offset, keypoints=np.zeros((2, 3)) + offset),
        Scene(along + offset),
    ):
        (pixels,) = render([scene], backend=backend)
        high, wide = _drawn_share(pixels)
        assert 0.01 < high < 0.1
        assert 0.01 < wide < 0.1


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_marks_are_as_large_as_the_cloud_asks(box, backend, scale):
    whole = ["cloud", "keypoints", "annotated", "errors"]
    (expected,) = render([box], layers=whole, backend=backend)
    moved = {name: getattr(box, name) * scale + 4e6 * scale for name in ("pos", "keypoints", "annotated")}
    (pixels,) = render(
        [dataclasses.replace(box, samples=None, covariance=None, **moved)], layers=whole, backend=backend
    )
    # Single precision would have steps of half the cloud.
    assert np.abs(pixels.astype(int) - expected).mean() < 1


def test_a_wild_prediction_is_drawn_nearer_and_told(box, backend, tmp_path):
    far = box.keypoints.copy()
    far[1] = [1e4, 0, 0]
    scene = dataclasses.replace(
        box, keypoints=far, samples=None, segments=None, activation=None, covariance=box.covariance * 1e9
    )
    (pixels,) = render([scene], layers=["cloud", "keypoints", "errors"], backend=backend)
    gray = (np.ptp(pixels.astype(int), axis=2) < 12) & (pixels[..., 0] < 235)
    assert max(np.ptp(np.nonzero(gray)[0]) / 600, np.ptp(np.nonzero(gray)[1]) / 800) > 0.2
    assert found(pixels, keypoint_colors(2)[1])[1] > 20
    assert scene.error[1] == pytest.approx(1e4, rel=1e-3)  # what is told of it is true
    save_panels(tmp_path / "panels.png", [box, scene, box], 2, size=(200, 150), backend=backend)
    with Image.open(tmp_path / "panels.png") as picture:
        assert picture.height > 2 * (150 + 24)  # the note has room


def test_many_keypoints_have_small_marks():
    rng = np.random.default_rng(0)
    few, many = (Scene(rng.random((300, 3)), keypoints=rng.random((K, 3))) for K in (10, 200))
    radius = [balls(scene, LAYERS).radius[0] / size_of(scene) for scene in (few, many)]
    assert radius[1] == pytest.approx(radius[0] * (40 / 200) ** 0.5)
