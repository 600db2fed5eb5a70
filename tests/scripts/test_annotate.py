"""``pcsa annotate``: the page clicked through in a real browser, and what needs no hand."""

import functools
import itertools
import json
import signal
import time
import urllib.request

import numpy as np
import pytest

from pcsa.datasets.check import check_data
from pcsa.datasets.keypointnet import KeypointNet
from pcsa.datasets.labeling.book import Book
from pcsa.datasets.labeling.session import Proposal, Session
from pcsa.datasets.labeling.shape import read_shape
from pcsa.datasets.pcd import write_pcd
from pcsa.scripts.annotate_proposals import least_sure_first
from pcsa.scripts.cli import main

pytest.importorskip("viser", reason="viser is not installed (pcsa[viz])")

LONG = 300
"""Seconds after which something does not happen, even on a busy machine."""
# The middle of a cube's front is seen in the middle of the page, an upper corner above it.
NAMES = "face,left_top,right_top"
CUBE = np.array([[x, y, z] for x in (-1.0, 1) for y in (-1.0, 1) for z in (-1.0, 1)])
FACES = "0 1 3 2|4 6 7 5|0 4 5 1|2 3 7 6|0 2 6 4|1 5 7 3"


@pytest.fixture
def scans(tmp_path):
    """Three scans: a mesh of a cube, and the surfaces of a cube and of a longer box as clouds; and a broken one."""
    folder = tmp_path / "boxes"
    folder.mkdir()
    lines = [f"v {x} {y} {z}" for x, y, z in CUBE]
    lines += ["f " + " ".join(str(int(i) + 1) for i in face.split()) for face in FACES.split("|")]
    (folder / "a.obj").write_text("\n".join(lines))
    rng = np.random.default_rng(0)
    for name, size in (("b", [1, 1, 1.0]), ("c", [1, 1, 1.5])):
        points = rng.uniform(-1, 1, (3000, 3))
        axis = rng.integers(0, 3, 3000)
        points[np.arange(3000), axis] = np.sign(points[np.arange(3000), axis])
        write_pcd(folder / f"{name}.pcd", (points * size).astype(np.float32), None, binary=True)
    (folder / "d.ply").write_text("no mesh")
    return folder


@pytest.fixture
def command(process):
    return functools.partial(process, "-m", "pcsa.scripts.cli")


class Person:
    """Who sits before the browser."""

    def __init__(self, browser, url):
        from selenium.webdriver import ActionChains

        self.browser, self.actions = browser, ActionChains
        browser.get(f"{url}/?fixedDpr=1")
        self.sees("Click: ")

    @property
    def text(self):
        return self.browser.find_element("tag name", "body").text

    def sees(self, *texts):
        limit = time.monotonic() + LONG
        while time.monotonic() < limit:
            seen = self.text
            if all(text in seen for text in texts):
                return
            time.sleep(0.2)
        pytest.fail(f"{texts} are not seen: {self.text}")

    def clicks(self, x, y):
        """Click beside the middle of the scene, in shares of its height."""
        canvas = self.browser.find_element("tag name", "canvas")
        height = canvas.rect["height"]
        self.actions(self.browser).move_to_element_with_offset(canvas, x * height, y * height).click().perform()

    def presses(self, key):
        self.actions(self.browser).send_keys(key).perform()

    def pushes(self, label):
        for button in self.browser.find_elements("tag name", "button"):
            if label in button.text:
                button.click()
                return
        pytest.fail(f"no button {label!r}")

    def chooses(self, name):
        self.browser.find_element("css selector", f'.pcsa-keypoint[data-name="{name}"]').click()


def labels(folder, category="boxes"):
    book = Book(folder, category)
    return {scan: book[scan] for scan in sorted(book.sheets)}


@pytest.mark.viz
@pytest.mark.slow
def test_three_scans_are_labeled_by_clicks_and_trained_on(scans, browser, command, tmp_path, fast):
    before = {path.name: path.read_bytes() for path in scans.iterdir()}
    run = command("annotate", scans, "--names", NAMES, "--port", "0", "--mirror")
    person = Person(browser, run.url)
    person.sees("Click: face", "a.obj", "0 labeled", "d.ply is skipped")
    # Past the scan, nothing is set.
    person.clicks(0.0, -0.48)
    person.sees("missed the scan")
    assert not (scans / "labels" / "boxes" / "names.json").exists()

    # A mesh: one click, the nearest corner is meant; then what the scan does not have, taken back, and done again.
    person.clicks(0.0, 0.0)
    person.sees("Click: left_top")
    assert list(labels(scans)["a.obj"]) == ["face"]
    assert min(np.linalg.norm(CUBE - labels(scans)["a.obj"]["face"], axis=1)) < 1e-6
    person.presses("x")
    person.sees("Click: right_top", "not there")
    person.presses("u")
    person.sees("Click: left_top")
    # The row of a keypoint chooses it; its digit does, too.
    person.chooses("right_top")
    person.sees("Click: right_top")
    person.presses("2")
    person.sees("Click: left_top")
    person.clicks(-0.3, -0.1)
    person.sees("Click: right_top", "mirrored")
    person.presses("y")
    person.sees("All set", "1 labeled")
    left, right = (np.array(labels(scans)["a.obj"][name]) for name in ("left_top", "right_top"))
    np.testing.assert_allclose(left, [1, 1, 1])
    assert sorted(np.abs(left - right).round(6)) == [0, 0, 2]

    # Clouds: what is clicked at is set.
    for number, scan in enumerate(("b.pcd", "c.pcd"), 1):
        person.presses("o")
        person.sees(scan, "Click: face")
        person.clicks(0.0, 0.0)
        person.sees("Click: left_top")
        person.pushes("Not there")
        person.sees("Click: right_top")
        person.clicks(0.05, -0.1)
        person.sees("labeled.", "Finish") if number == 2 else person.sees("All set", "2 labeled")
        found = labels(scans)[scan]
        points = read_shape(scans / scan).vertices
        assert found["left_top"] is None
        for name in ("face", "right_top"):
            assert (points == found[name]).all(1).any()
        # The right one is above and seen from the front: nearer to the eye than the middle is.
        assert found["right_top"][1] > found["face"][1]
        assert np.array(found["face"]) @ [0.54, 0.34, -0.77] > 0.8

    person.pushes("Finish")
    assert run.wait() == 3  # one scan is broken
    assert "3 of 4 scans are labeled" in run.text
    assert "failed: 1 of 4 scans" in run.text
    assert "websocket" not in run.text.lower()
    assert {path.name: path.read_bytes() for path in scans.iterdir() if path.is_file()} == before
    assert not [path for path in scans.rglob(".*") if path.name.endswith(".lock")]

    assert check_data(scans) == []
    assert [len(KeypointNet(scans, "boxes", split)) for split in ("train", "val", "test")] == [1, 1, 1]
    assert f"pcsa train supervised --data.root {scans} --data.category boxes" in run.text
    trained = ["train", "supervised", "--data.root", scans, "--data.category", "boxes", "--out", tmp_path / "run"]
    trained += ["--model.out-channels", "16", "--optimizer.steps", "2", *fast.split()]
    assert main([str(a) for a in trained]) == 0
    assert (
        main(["predict", str(tmp_path / "run/last.ckpt"), str(scans / "a.obj"), "--out", str(tmp_path / "p.json")]) == 0
    )


@pytest.mark.viz
@pytest.mark.slow
def test_two_windows_show_one_state_and_a_killed_server_loses_nothing(scans, browser, command):
    (scans / "d.ply").unlink()
    run = command("annotate", scans, "--names", NAMES, "--port", "0")
    person = Person(browser, run.url)
    first = browser.current_window_handle
    browser.switch_to.new_window("tab")
    second = browser.current_window_handle
    other = Person(browser, run.url)
    other.sees("Click: face")
    other.presses("x")
    other.sees("Click: left_top")
    browser.switch_to.window(first)
    person.sees("Click: left_top")
    person.presses("x")
    person.sees("Click: right_top")
    browser.switch_to.window(second)
    browser.close()
    browser.switch_to.window(first)
    # A second process is refused, and says who is at work.
    rival = command("annotate", scans, "--names", NAMES, "--port", "0")
    assert rival.wait() == 2
    assert f"is being written by process {run.process.pid}" in rival.text
    run.process.kill()
    run.wait()
    assert labels(scans) == {"a.obj": {"face": None, "left_top": None}}
    again = command("annotate", scans, "--port", "0")
    person = Person(browser, again.url)
    person.sees("Click: right_top", "a.obj", "not there")
    again.process.send_signal(signal.SIGTERM)
    assert again.wait() == 0
    assert "0 of 3 scans are labeled" in again.text


def test_the_page_is_served_on_loopback_and_the_next_port_is_taken(scans, command):
    (scans / "d.ply").unlink()
    one = command("annotate", scans, "--names", NAMES, "--port", "0", "--out", scans / "one")
    assert one.url.startswith("http://127.0.0.1:")
    with urllib.request.urlopen(one.url, timeout=LONG) as page:
        assert b"<html" in page.read()
    two = command("annotate", scans, "--names", NAMES, "--port", one.url.rpartition(":")[2], "--out", scans / "two")
    assert two.url != one.url
    for run in (one, two):
        run.process.send_signal(signal.SIGTERM)
        assert run.wait() == 0
        assert run.text.count("\n") <= 4
        assert "Traceback" not in run.text


@pytest.mark.viz
@pytest.mark.slow
def test_points_are_picked_in_windows(scans, command, display, open3d):
    (scans / "a.obj").unlink()  # a mesh has few vertices, which are to be hit
    options = ["--names", NAMES, "--window", "--out", scans / "out"]
    run = command("annotate", scans, *options, variables=display.variables, answers="left_top\nquit\n")
    run.told("pick face")
    limit = time.monotonic() + LONG
    # What is clicked before the window has the keyboard is lost.
    for x, y in itertools.cycle(itertools.product(range(500, 530, 10), range(370, 400, 10))):
        assert time.monotonic() < limit, run.text
        display.point("pcsa 1", x, y)
        display.xdotool("keydown", "shift", "sleep", 0.2, "click", 1, "sleep", 0.2, "keyup", "shift", "sleep", 0.3)
        if "pick left_top" in run.text:
            break
    position = labels(scans / "out")["b.pcd"]["face"]
    assert (read_shape(scans / "b.pcd").vertices == position).all(1).any()
    display.press("q")
    # The answer: it has no upper left corner; the upper right one stays open, and the next scan comes.
    run.told("not picked: left_top, right_top")
    run.told("2 / 3: c.pcd")
    assert labels(scans / "out")["b.pcd"] == {"face": position, "left_top": None}
    display.point("pcsa 2", 500, 370)
    display.press_until("q", lambda: "0 of 3 scans are labeled" in run.text)
    assert run.wait() == 0


def test_a_window_without_a_display_is_refused(scans, refused, monkeypatch):
    for variable in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(variable, raising=False)
    message = refused(["annotate", str(scans), "--names", "a", "--window"])
    assert "a window takes a display" in message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("", "`names` must name the keypoints"),
        ("--names a,b,a", "must be different: a occurs more than once"),
        ("--names a,b --mirror", "must have a left and a right one, for `mirror`"),
        ("--names a --category ../x", "`category` (='../x')"),
        ("--names a --num-points 0", "`num_points` (=0)"),
        ("--names a --host nowhere.invalid", "`host` (='nowhere.invalid') must be"),
        ("--names a --host 203.0.113.1", "`host` (='203.0.113.1') must be one of this machine"),
        ("--names a --port 70000", "`port` (=70000) must be from 0 to 65535"),
        ("--names a --checkpoint none.ckpt", "none.ckpt"),
    ],
)
def test_mistakes_end_in_one_message_and_status_2(scans, refused, options, message):
    assert message in refused(["annotate", str(scans), *options.split()])
    assert not (scans / "labels" / "boxes" / "names.json").exists()


def test_a_folder_without_scans_is_refused(tmp_path, refused):
    assert "without any file of" in refused(["annotate", str(tmp_path), "--names", "a"])
    assert "is missing" in refused(["annotate", str(tmp_path / "none"), "--names", "a"])
    (tmp_path / "a.xyz").write_text("0 0 0\n")
    assert "must be a folder of scans" in refused(["annotate", str(tmp_path / "a.xyz"), "--names", "a"])


def test_other_names_and_annotations_of_others_are_refused(scans, refused):
    Book(scans, "boxes", ["a", "b"]).save("a.obj", {"a": None}, (8, 12))
    message = refused(["annotate", str(scans), "--names", "a,c"])
    assert "must be those of the labels in" in message
    assert "boxes`: a,b;" in message
    (scans / "annotations").mkdir()
    (scans / "annotations" / "mug.json").write_text("[]")
    message = refused(["annotate", str(scans), "--names", "a,c", "--category", "mug"])
    assert "has annotations that are not from labels" in message


def test_a_broken_scan_alone_is_named(tmp_path, refused):
    (tmp_path / "d.ply").write_text("no mesh")
    assert "no scan can be read; the first: " in refused(["annotate", str(tmp_path), "--names", "a"])


def test_the_least_sure_scans_come_first():
    def proposals(*confidences):
        return {str(k): Proposal(None, "predicted", c) for k, c in enumerate(confidences)}

    found = {"a": proposals(0.9, 0.8), "b": proposals(0.2, 0.9), "c": proposals(0.6, 0.6), "d": {}}
    assert least_sure_first(["x", "a", "b", "c", "d"], found) == ["b", "c", "a", "x", "d"]


def test_a_detector_proposes_what_it_predicts(root, trained, tmp_path, capsys):
    from pcsa.scripts.annotate_proposals import propose

    checkpoint = trained("supervised")
    clouds = KeypointNet(root, "mug", "all")
    scans = tmp_path / "mugs"
    scans.mkdir()
    for cloud in list(clouds)[:2]:
        np.save(scans / f"{cloud.model_id}.npy", cloud.pos.numpy())
    files = sorted(path.name for path in scans.iterdir())
    (scans / "z.npy").write_text("no array")
    book = Book(tmp_path, "mug", [*clouds.names[:2], "another"])

    def read(scan):
        return read_shape(scans / scan)

    found, failed = propose(book, [*files, "z.npy"], read, checkpoint, 2048, "cpu")
    assert "knows nothing of another" in capsys.readouterr().out
    assert list(failed) == ["z.npy"]
    assert (
        main(["predict", str(checkpoint), *(str(scans / name) for name in files), "--out", str(tmp_path / "p.json")])
        == 0
    )
    predicted = json.loads((tmp_path / "p.json").read_text())
    for item, scan in zip(predicted["items"], files, strict=True):
        for name in book.names[:2]:
            column, proposal = predicted["names"].index(name), found[scan][name]
            assert (proposal.position is None) == (item["presence"][column] < 0.5)
            assert 0 <= proposal.confidence <= 1
            if proposal.position is not None:
                points = read(scan).vertices
                assert (points == proposal.position).all(1).any()
    session = Session(book, least_sure_first(files, found), read, predicted=found)
    assert session.take_all() == 2
    assert session.name == "another"
    with pytest.raises(ValueError, match=r"`checkpoint` .* must know one of tail"):
        propose(Book(tmp_path, "cat", ["tail"]), files, read, checkpoint, 2048, "cpu")


@pytest.mark.parametrize("flags", [[], ["--trust-backbone"]])
def test_the_network_of_a_detector_is_trusted_where_one_says_so(scans, monkeypatch, capsys, flags):
    from pcsa.scripts import annotate_proposals

    def opened(checkpoint, device, trust):
        raise ValueError(f"opened with {trust}")

    monkeypatch.setattr(annotate_proposals, "open_cloud_run", opened)
    assert main(["annotate", str(scans), "--names", NAMES, "--checkpoint", "x.ckpt", *flags]) == 2
    assert f"opened with {bool(flags)}" in capsys.readouterr().err
