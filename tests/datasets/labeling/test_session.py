import numpy as np
import pytest

from pcsa.datasets.labeling.book import Book
from pcsa.datasets.labeling.session import Proposal, Session
from pcsa.datasets.labeling.shape import Shape
from pcsa.datasets.meshes.triangles import no_faces

NAMES = ["left_ear", "right_ear", "nose"]


def head(seed):
    """A cloud that x = 0 mirrors, with ears and a nose."""
    rng = np.random.default_rng(seed)
    half = rng.normal(size=(500, 3))
    half *= np.array([0.7, 1.0, 0.5]) / np.linalg.norm(half, axis=1, keepdims=True)
    half[:, 0] = np.abs(half[:, 0])
    half[:, 2] += 0.3 * half[:, 1].clip(min=0) ** 2
    half[0], half[1] = [0.9, 0.2, 0.0], [0.0, 0.0, 0.8]
    return Shape(np.concatenate([half, half * [-1, 1, 1]]), no_faces())


LEFT, NOSE, RIGHT = 0, 1, 500


class Scans(dict):
    """Scans in memory that are read by name, and how often each was."""

    def __init__(self, *names):
        super().__init__({name: head(i) for i, name in enumerate(names)})
        self.broken = set()

    def read(self, name):
        if name in self.broken:
            raise ValueError(f"`{name}`: is broken")
        return self[name]


@pytest.fixture
def scans():
    return Scans("a", "b", "c")


@pytest.fixture
def begin(scans, tmp_path):
    return lambda **options: Session(Book(tmp_path, "head", NAMES), list(scans), scans.read, **options)


def on_disk(tmp_path):
    return {scan: sheet.labels for scan, sheet in Book(tmp_path, "head", NAMES).sheets.items()}


def test_every_click_is_on_the_disk_at_once(begin, scans, tmp_path):
    session = begin()
    assert (session.scan, session.name) == ("a", "left_ear")
    place = scans["a"].vertices[LEFT]
    assert session.click(place + [0, 0, 5], np.array([0, 0, -1.0]), radius=0.02)
    assert on_disk(tmp_path) == {"a": {"left_ear": tuple(place)}}
    assert session.name == "right_ear"
    session.skip()
    assert on_disk(tmp_path)["a"]["right_ear"] is None
    assert session.name == "nose"
    assert not session.is_done
    session.put(scans["a"].vertices[NOSE])
    assert session.is_done
    assert session.num_done == 1
    # All are set: a click moves the last one.
    session.put([1.0, 2.0, 3.0])
    assert on_disk(tmp_path)["a"]["nose"] == (1.0, 2.0, 3.0)


def test_a_click_past_the_scan_changes_nothing(begin, tmp_path):
    session = begin()
    assert not session.click(np.array([9.0, 9, 9]), np.array([0, 0, -1.0]))
    assert session.labels == {}
    assert on_disk(tmp_path) == {}


def test_a_session_goes_on_where_the_last_one_was_left(begin, scans):
    session = begin()
    for _ in NAMES:
        session.skip()
    assert session.scan == "a"
    assert session.leaf_to_open()
    session.skip()
    again = begin()
    assert (again.scan, again.name) == ("b", "right_ear")
    assert again.labels == {"left_ear": None}
    assert again.num_done == 1


def test_undo_goes_back_step_by_step_and_to_the_scan_of_the_step(begin, scans, tmp_path):
    session = begin()
    session.skip()
    session.put(scans["a"].vertices[RIGHT])
    session.leaf(1)
    session.skip()
    assert session.scan == "b"
    session.leaf(1)
    assert session.undo()
    assert (session.scan, session.labels, session.name) == ("b", {}, "left_ear")
    assert session.undo()
    assert (session.scan, session.labels, session.name) == ("a", {"left_ear": None}, "right_ear")
    assert session.undo()
    assert not session.undo()
    assert on_disk(tmp_path) == {"a": {}, "b": {}}


def test_clear_forgets_one(begin):
    session = begin()
    session.skip()
    session.step(-1)
    assert session.name == "left_ear"
    session.clear()
    assert (session.labels, session.name) == ({}, "left_ear")
    session.clear()
    session.undo()
    assert session.labels == {"left_ear": None}


def test_keypoints_are_chosen(begin):
    session = begin()
    session.choose(2)
    assert session.name == "nose"
    session.step(1)
    assert session.name == "left_ear"
    with pytest.raises(ValueError, match=r"`keypoint` \(=3\)"):
        session.choose(3)
    # After a keypoint in the middle comes the next one that is open, round the end.
    session.choose(1)
    session.skip()
    assert session.name == "nose"
    session.skip()
    assert session.name == "left_ear"


def test_leafing_passes_what_cannot_be_read(begin, scans):
    scans.broken = {"b"}
    session = begin()
    session.leaf(1)
    assert session.scan == "c"
    assert session.failed == {"b": "`b`: is broken"}
    session.leaf(-1)
    assert session.scan == "a"
    scans.broken = set()
    session.leaf(1)
    assert session.scan == "b"
    assert session.failed == {}
    assert session.go("c")


def test_scans_that_cannot_be_read_are_found_ahead(begin, scans):
    scans.broken = {"c"}
    session = begin()
    assert [session.look_ahead() for _ in range(3)] == [False, True, False]
    assert not session.has_unseen
    for _ in range(2):
        for _ in NAMES:
            session.skip()
        session.leaf_to_open()
    assert session.num_done == 2
    assert not session.leaf_to_open()


def test_without_a_scan_that_can_be_read_there_is_no_session(begin, scans):
    scans.broken = set(scans)
    with pytest.raises(ValueError, match="no scan can be read; the first: `a`: is broken"):
        begin()


def test_a_full_disk_shows_what_is_on_it(begin, monkeypatch):
    session = begin()
    session.skip()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(session.book, "save", full)
    for change in (session.skip, session.undo, lambda: session.put([0, 0, 0])):
        with pytest.raises(OSError, match="No space"):
            change()
    assert (session.labels, session.name) == ({"left_ear": None}, "right_ear")
    monkeypatch.undo()
    assert session.undo()
    assert session.labels == {}


def test_another_scan_of_the_same_name_is_noticed(begin, scans):
    session = begin()
    session.skip()
    assert not session.has_changed
    scans["a"] = Shape(scans["a"].vertices[1:], no_faces())
    assert begin().has_changed


def test_the_other_side_is_proposed(begin, scans):
    session = begin(mirror=True)
    vertices = scans["a"].vertices
    session.put(vertices[LEFT])
    proposal = session.proposed["right_ear"]
    np.testing.assert_array_equal(proposal.position, vertices[RIGHT])
    assert proposal.source == "mirrored"
    assert "nose" not in session.proposed
    assert session.take()
    assert session.labels["right_ear"] == tuple(vertices[RIGHT])
    assert session.proposed == {}
    # The nose has no other side.
    assert not session.take()
    assert session.name == "nose"


def test_from_the_right_side_the_left_one_is_proposed(begin, scans):
    session = begin(mirror=True)
    session.step(1)
    session.put(scans["a"].vertices[RIGHT])
    np.testing.assert_array_equal(session.proposed["left_ear"].position, scans["a"].vertices[LEFT])


def test_what_is_not_there_is_mirrored_nowhere(begin):
    session = begin(mirror=True)
    session.skip()
    assert session.proposed == {}


def test_a_mirrored_place_far_off_the_scan_is_none(begin, scans):
    half = scans["a"].vertices[:500]
    scans["a"] = Shape(half, no_faces())
    session = begin(mirror=True)
    session.put(half[LEFT])
    for proposal in session.proposed.values():
        assert (half == proposal.position).all(1).any()


def test_predictions_are_proposed_until_somebody_agrees(begin, scans, tmp_path):
    at = scans["a"].vertices[NOSE]
    predicted = {"a": {"nose": Proposal(at, "predicted", 0.9), "left_ear": Proposal(None, "predicted", 0.8)}}
    session = begin(predicted=predicted)
    assert session.labels == {}
    assert on_disk(tmp_path) == {}
    assert session.take_all() == 2
    assert session.labels == {"nose": tuple(at), "left_ear": None}
    assert session.name == "right_ear"
    assert session.take_all() == 0
    session.undo()
    assert session.labels == {}
    # What a person has set stays.
    session.put([0.5, 0.5, 0.5])
    assert session.take_all() == 1
    assert session.labels["left_ear"] == (0.5, 0.5, 0.5)


def test_of_a_mesh_any_place_of_a_face_may_be_meant(tmp_path):
    square = Shape(np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0.0]]), np.array([[0, 1, 2], [0, 2, 3]]))
    session = Session(Book(tmp_path, "square", NAMES), ["s"], lambda name: square, free=True)
    eye = np.array([0.9, 0.3, 4.0])
    session.click(eye, np.array([0, 0, -1.0]))
    np.testing.assert_allclose(session.labels["left_ear"], [0.9, 0.3, 0])
    session.free = False
    session.click(eye, np.array([0, 0, -1.0]))
    assert session.labels["right_ear"] == (1, 0, 0)
