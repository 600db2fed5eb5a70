from pathlib import Path

from pcsa.datasets.landmark_import.pairing import pair, stem_of


def test_names_that_belong_together() -> None:
    found = pair(
        ["skull_1", "skull_10", "Femur L", "x"], ["skull_1", "skull_10_rater1", "skull_10.rater2", "femur l (2)"]
    )
    assert found.of_scan == {
        "skull_1": [("skull_1", "")],
        "skull_10": [("skull_10_rater1", "rater1"), ("skull_10.rater2", "rater2")],
        "Femur L": [("femur l (2)", "2")],
    }
    assert found.without_landmarks == ["x"]
    assert (found.without_scan, found.ambiguous) == ([], {})


def test_a_number_is_not_the_beginning_of_another() -> None:
    found = pair(["skull_1"], ["skull_10", "skull_1b", "skull"])
    assert found.of_scan == {}
    assert found.without_scan == ["skull_10", "skull_1b", "skull"]


def test_names_that_differ_by_case_alone_are_ambiguous() -> None:
    found = pair(["A", "a", "b"], ["A", "A_1", "B"])
    assert found.of_scan == {"A": [("A", ""), ("A_1", "1")], "b": [("B", "")]}
    found = pair(["Ab", "aB"], ["ab", "AB-2"])
    assert found.ambiguous == {"ab": ["Ab", "aB"], "AB-2": ["Ab", "aB"]}
    assert found.without_landmarks == []


def test_names_of_files() -> None:
    names = ["A_J.mrk.json", "A_J.ply", "z.1.fcsv", "no"]
    assert [stem_of(Path(name)) for name in names] == ["A_J", "A_J", "z.1", "no"]
