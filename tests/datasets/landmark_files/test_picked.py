from pathlib import Path

import numpy as np
import pytest

from pcsa.datasets.landmark_files import Landmarks, read_picked, write_picked


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("1,2,3\n4,5,6\n", ("1", "2")),  # XYZ
        ("0,1,2,3\n1,4,5,6\n", ("1", "2")),  # IXYZ, from 0
        ("1,1.0,2,3\n2,4,5,6\n", ("1", "2")),  # and from 1
        ("Point #0,1,2,3\nPoint #1,4,5,6\n", ("Point #0", "Point #1")),  # LXYZ
        ("ear, left,1,2,3\nnose,4,5,6\n", ("ear,left", "nose")),  # CloudCompare has no quotes
        ("1 2 3 nose\n4 5 6 left ear\n", ("nose", "left,ear")),
        ("// a comment\n1;2;3\n\n4;5;6\n", ("1", "2")),
        ("1\t2\t3\n4\t5\t6\n", ("1", "2")),
    ],
)
def test_layouts(tmp_path: Path, text: str, names: tuple[str, ...]) -> None:
    path = tmp_path / "a.txt"
    path.write_text(text)
    (found,) = read_picked(path)
    assert found.names == names
    assert found.points.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert (found.frame, found.units, found.there.all()) == (None, None, True)


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    write_picked(tmp_path / "a.txt", Landmarks(["nose", "gone", "ear"], [[1 / 3, 2, 3], [np.nan] * 3, [4, 5, 6]]))
    (found,) = read_picked(tmp_path / "a.txt")
    assert found.names == ("nose", "ear")
    assert found.points.tolist() == [[1 / 3, 2, 3], [4, 5, 6]]
    with pytest.raises(ValueError, match="must have no comma"):
        write_picked(tmp_path / "a.txt", Landmarks(["a,b"], [[1, 2, 3]]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,2\n", "line 1: 2 columns"),
        ("1,2,3\n4,5\n", "line 2: 2 columns, the first line has 3"),
        ("1,2,3\n4,x,6\n", r"line 2: `y` \(='x'\) must be a finite number"),
        # A column of indices of points, before or behind.
        ("17,1,2,3\n5,4,5,6\n", "line 1 .='17,1,2,3'.: four numbers, and it is not certain which are x, y and z"),
        ("1,2,3,4,5\n1,2,3,4,5\n", "line 1: 5 columns of numbers"),
        ("a,1,2,3\n5,b,6,7\n", r"line 2 \(='5,b,6,7'\) must be x, y and z"),
        ("", "has no line of numbers"),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"^`{path}`: .*{message}"):
        read_picked(path)
