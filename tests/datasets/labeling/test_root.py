import numpy as np
import pytest

from pcsa.datasets.check import check_data
from pcsa.datasets.keypointnet import KeypointNet
from pcsa.datasets.labeling.book import Book
from pcsa.datasets.labeling.root import RootWriter, model_ids
from pcsa.datasets.labeling.shape import Shape
from pcsa.datasets.meshes.triangles import no_faces

NAMES = ["left_fin", "right_fin", "tail"]


@pytest.fixture
def scans():
    rng = np.random.default_rng(0)
    return {f"{name}.npy": Shape(rng.random((400, 3)) * 30, no_faces()) for name in "abcde"}


@pytest.fixture
def book(tmp_path, scans):
    book = Book(tmp_path, "fish", NAMES)
    for name, shape in list(scans.items())[:4]:
        a, b = shape.vertices[3], shape.vertices[5]
        book.save(name, {"left_fin": tuple(a), "right_fin": tuple(b), "tail": None}, shape.size)
    book.save("e.npy", {"tail": None}, scans["e.npy"].size)
    return book


def writer(book, scans, **options):
    return RootWriter(book, scans.__getitem__, model_ids(scans), **{"num_points": 100, **options})


def test_what_is_done_is_a_root_without_fault(book, scans, tmp_path):
    done = writer(book, scans)
    assert done.is_due
    written = done.write()
    assert written.scans == ["a.npy", "b.npy", "c.npy", "d.npy"]
    assert written.failed == {}
    assert written.moved < 1e-6
    assert not done.is_due
    assert check_data(tmp_path) == []
    for split, count in (("train", 2), ("val", 1), ("test", 1)):
        dataset = KeypointNet(tmp_path, "fish", split)
        assert len(dataset) == count
        assert dataset.names == ("left_fin", "right_fin")  # no scan has a tail
        for item in dataset:
            shape = scans[f"{item.model_id}.npy"]
            assert len(item.pos) == 100
            np.testing.assert_allclose(item.keypoints[0], shape.vertices[[3, 5]], rtol=1e-6)
            assert item.visible.tolist() == [[True, True]]
            assert item.reflection.tolist() == [[[0, 1]]]


def test_the_root_follows_the_labels(book, scans, tmp_path):
    done = writer(book, scans)
    done.write()
    test_before = KeypointNet(tmp_path, "fish", "test").model_ids
    shape = scans["e.npy"]
    book.save("e.npy", {"left_fin": tuple(shape.vertices[0]), "right_fin": None, "tail": None}, shape.size)
    assert done.is_due
    reads = []
    done._read = lambda name: reads.append(name) or scans[name]
    assert len(done.write().scans) == 5
    assert reads == ["e.npy"]  # the others are known
    assert KeypointNet(tmp_path, "fish", "test").model_ids == test_before
    # What is forgotten again is no longer trained on.
    book.save("a.npy", {}, scans["a.npy"].size)
    assert len(done.write().scans) == 4
    assert check_data(tmp_path) == []
    assert "a" not in KeypointNet(tmp_path, "fish", "all").model_ids


def test_scans_are_read_one_by_one_and_once(book, scans):
    done, reads = writer(book, scans), []

    def read(name):
        reads.append(name)
        if name == "c.npy":
            raise ValueError("`c.npy`: is broken")
        return scans[name]

    done._read = read
    assert [done.prepare() for _ in range(5)] == [True, True, True, False, False]
    assert reads == ["a.npy", "b.npy", "c.npy", "d.npy"]
    assert done.write().failed == {"c.npy": "`c.npy`: is broken"}
    assert reads[4:] == ["c.npy"]
    # Nothing is due: the same answer, and no work.
    assert done.write().scans == ["a.npy", "b.npy", "d.npy"]
    assert len(reads) == 5


def test_a_mesh_is_trained_on_as_predict_samples_it(tmp_path):
    corners = np.array([[x, y, z] for x in (0, 1.0) for y in (0, 1.0) for z in (0, 1.0)])
    faces = np.array([[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1], [2, 3, 7], [2, 7, 6]])
    shape = Shape(corners, faces)
    book = Book(tmp_path, "box", ["corner"])
    book.save("a.obj", {"corner": (0.0, 0.0, 0.0)}, shape.size)
    written = writer(book, {"a.obj": shape}, num_points=500).write()
    # To the nearest sample: no other cloud has a point at a corner.
    assert 0 < written.moved < 0.1
    assert check_data(tmp_path) == []


def test_a_scan_that_cannot_be_read_or_is_another_is_left_out(book, scans, tmp_path):
    scans["a.npy"] = Shape(scans["a.npy"].vertices[1:], no_faces())
    known = dict(scans)

    def read(name):
        if name == "b.npy":
            raise ValueError("`b.npy`: is broken")
        return known[name]

    names = model_ids(scans)
    del names["c.npy"]
    written = RootWriter(book, read, names, num_points=50).write()
    assert written.scans == ["d.npy"]
    assert written.failed["a.npy"].startswith("`a.npy`: is not the scan that was labeled: it has 399 vertices")
    assert written.failed["b.npy"] == "`b.npy`: is broken"
    assert "not among the scans" in written.failed["c.npy"]


def test_nothing_is_written_before_a_keypoint_is_placed(tmp_path, scans):
    book = Book(tmp_path, "fish", NAMES)
    done = writer(book, scans)
    assert not done.is_due or done.write().scans == []
    book.save("a.npy", dict.fromkeys(NAMES), scans["a.npy"].size)
    assert done.write().scans == []
    assert not (tmp_path / "annotations").exists()


def test_names_of_clouds_are_different_and_fit_for_files():
    names = model_ids(["x/a.ply", "x__a.obj", "-.ply", "a b (2).ply", "ä.ply", "c.ply", "c.stl"])
    assert len(set(names.values())) == len(names)
    assert names["ä.ply"] == "ä"
    assert names["c.stl"] == "c.stl"
