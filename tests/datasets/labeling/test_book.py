import json

import numpy as np
import pytest

from pcsa.datasets.labeling import book as module
from pcsa.datasets.labeling.book import Book, read_names, read_sheet

NAMES = ["nose", "tail"]


@pytest.fixture
def book(tmp_path):
    return Book(tmp_path, "fish", NAMES)


def test_what_is_saved_is_there_again(book, tmp_path):
    assert not book.folder.exists()
    book.save("a.ply", {"tail": (1.0, 2.5, 1 / 3)}, (10, 4))
    book.save("in/b.ply", {"tail": None, "nose": (0.0, 0.0, 0.0)}, (5, 0))
    again = Book(tmp_path, "fish")
    assert again.names == NAMES
    assert again.sheets == book.sheets
    assert again["a.ply"] == {"tail": (1.0, 2.5, 1 / 3)}
    assert again["other"] == {}
    assert again.done == ["in/b.ply"]
    assert again.sheets["a.ply"].size == (10, 4)


def test_what_cannot_be_written_changes_nothing(book, monkeypatch):
    book.save("a.ply", {"nose": None}, (3, 0))
    before = (book.folder / "a.ply.json").read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.json, "dumps", full)
    with pytest.raises(OSError, match="No space left"):
        book.save("a.ply", {"nose": None, "tail": None}, (3, 0))
    assert book["a.ply"] == {"nose": None}
    assert (book.folder / "a.ply.json").read_bytes() == before
    assert sorted(p.name for p in book.folder.iterdir()) == ["a.ply.json", "names.json"]


def test_splits_stay_and_are_eight_in_ten(book):
    for i in range(100):
        book.save(f"{i:03d}.ply", dict.fromkeys(NAMES), (1, 0))
        if i == 2:
            assert [book.sheets[f"{n:03d}.ply"].split for n in range(3)] == ["train", "val", "test"]
    splits = [sheet.split for sheet in book.sheets.values()]
    assert [splits.count(name) for name in ("train", "val", "test")] == [80, 10, 10]
    before = book.sheets["001.ply"].split
    # It is labeled anew: a cloud to score on must not become one to train on.
    book.save("001.ply", {}, (1, 0))
    book.save("001.ply", dict.fromkeys(NAMES), (1, 0))
    assert book.sheets["001.ply"].split == before == "val"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "must name the keypoints"),
        (["a", "b", "a"], r"\(=a,b,a\) must be different: a occurs more than once"),
        (["a", ""], "has ''"),
        (["a\n"], "must be printable"),
    ],
)
def test_names_that_are_refused(tmp_path, names, message):
    with pytest.raises(ValueError, match=message):
        Book(tmp_path, "fish", names)


@pytest.mark.parametrize("names", [["nose"], ["tail", "nose"], ["nose", "tail", "fin"]])
def test_other_names_than_those_of_the_labels_are_refused(book, tmp_path, names):
    book.save("a.ply", {}, (1, 0))
    with pytest.raises(ValueError, match=r"must be those of the labels in .*fish`: nose,tail; another `category`"):
        Book(tmp_path, "fish", names)
    assert Book(tmp_path, "other", names).names == names


def test_a_category_that_leads_elsewhere_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"`category` \(='../x'\)"):
        Book(tmp_path, "../x", NAMES)


def test_a_scan_that_leads_elsewhere_is_refused(book):
    with pytest.raises(ValueError, match="must lie in the folder"):
        book.save("../a.ply", {}, (1, 0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "must be labels of version 1"),
        ({"labels": []}, "`labels` must be positions of nose, tail"),
        ({"labels": {"fin": None}}, "`labels` must be positions of nose, tail"),
        ({"labels": {"nose": [1, 2]}}, "position of 'nose'"),
        ({"labels": {"nose": [1, 2, float("nan")]}}, "three finite numbers"),
        ({"labels": {"nose": [1, 2, 10**400]}}, "cannot be read as labels of a scan|three finite numbers"),
        ({"labels": {"nose": [1, 2, True]}}, "three finite numbers"),
        ({"size": [1, -2]}, "two counts"),
        ({"split": "dev"}, "must be one of train, val, test"),
        ({"split": {}}, "must be one of|cannot be read"),
    ],
)
def test_damaged_labels_are_refused(book, tmp_path, change, message):
    book.save("a.ply", {"nose": (1.0, 2.0, 3.0)}, (1, 0))
    path = book.folder / "a.ply.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ValueError, match=f"a.ply.json`: .*({message})"):
        Book(tmp_path, "fish")
    path.write_text("{")
    with pytest.raises(ValueError, match="cannot be read as labels of a scan"):
        read_sheet(path, NAMES)


@pytest.mark.parametrize("content", ["", "[]", '{"version": 1}', '{"version": 1, "names": [1]}'])
def test_damaged_names_are_refused(tmp_path, content):
    (tmp_path / "names.json").write_text(content)
    with pytest.raises(ValueError, match=r"names\.json`"):
        read_names(tmp_path / "names.json")


def test_numbers_are_kept_to_the_last_bit(book, tmp_path):
    position = tuple(np.random.default_rng(0).normal(size=3) * 1e7)
    book.save("a.ply", {"nose": position}, (1, 0))
    assert Book(tmp_path, "fish")["a.ply"]["nose"] == position
