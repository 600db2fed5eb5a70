"""Pages that viser serves, without a browser."""

import socket
import sys
import threading
import time
import urllib.request

import numpy as np
import pytest

from pcsa.viz import Scene, page as module
from pcsa.viz.browser import ViewPage
from pcsa.viz.page import Page, front_of, swatch

pytest.importorskip("viser", reason="viser is not installed (pcsa[viz])")


def test_a_page_is_served_here_alone_and_leaves_no_thread(box):
    before = set(threading.enumerate())
    with Page("boxes", port=0) as page:
        assert page.url.startswith("http://127.0.0.1:")
        page.draw(box)
        with urllib.request.urlopen(page.url, timeout=60) as answer:
            assert b"<html" in answer.read()
    limit = time.monotonic() + 60
    while set(threading.enumerate()) - before:
        assert time.monotonic() < limit
        time.sleep(0.05)


def test_a_port_that_is_taken_is_passed_over():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert module._free_port("127.0.0.1", port) != port


def test_what_is_asked_for_is_done_in_order_and_errors_are_told(capsys):
    with Page("x", port=0) as page:
        done, told = [], []

        def fail():
            raise ValueError("it is wrong")

        for action in (lambda: done.append(1), fail, lambda: done.append(2), page.end, lambda: done.append(3)):
            page.do(action)
        page.run(notice=told.append)
    assert done == [1, 2]
    assert told == ["it is wrong"]
    assert capsys.readouterr().out == ""


def test_many_points_are_drawn_thinned(monkeypatch):
    monkeypatch.setattr(module, "MAX_POINTS", 100)
    monkeypatch.setattr(module, "MAX_FACES", 2)
    cloud = np.random.default_rng(0).random((500, 3)) + [1e6, 0, 0]
    with Page("x", port=0) as page:
        assert "100 of 500 points drawn" in page.draw(Scene(cloud))
        np.testing.assert_allclose(page.place(cloud).mean(0), 0, atol=0.1)
        faces = np.arange(9).reshape(3, 3)
        assert "a mesh of 3 faces is drawn as points" in page.draw(Scene(cloud, vertices=cloud, faces=faces))
        assert page.draw(Scene(cloud, vertices=cloud, faces=faces[:2]), cloud=False) == ""


def test_a_viewer_leafs_switches_and_shows_maps(box):
    with ViewPage([box, Scene(box.pos, title="<b>second</b>")], port=0) as page:
        page.leaf(-1)
        assert "&lt;b&gt;second&lt;/b&gt;" in page._title.content
        page.leaf(1)
        assert "off by 0.1" in page._title.content
        page.turn_map(-1)
        assert page._map.value == "2. lower"
        page._choose_map("1. upper")
        assert page.keypoint == 0
        page._switch("cloud")
        assert "cloud" not in page.layers
        assert not page._boxes["cloud"].value
        # The second shape has no map.
        page.leaf(1)
        assert page.keypoint == -1
    with pytest.raises(ValueError, match="`scenes`"):
        ViewPage([])


@pytest.mark.parametrize("up", ["x", "y", "z"])
def test_the_front_is_seen_a_little_from_above(up):
    eye = front_of(up)
    assert 0.2 < eye["xyz".index(up)] / np.linalg.norm(eye) < 0.5


def test_a_swatch_has_the_color():
    assert "#ff8000" in swatch(np.array([1, 0.5, 0]))
    assert "transparent" in swatch(np.array([1, 0.5, 0]), ring=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"up": "w"}, "`up`"),
        ({"port": -1}, r"`port` \(=-1\)"),
        ({"host": "no host"}, r"`host` \(='no host'\)"),
    ],
)
def test_mistakes(options, message):
    with pytest.raises(ValueError, match=message):
        Page("x", **{"port": 0, **options})


def test_without_viser_a_page_says_what_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "viser", None)
    with pytest.raises(ValueError, match=r"pip install 'pcsa\[viz\]'"):
        Page("x", port=0)
