from pathlib import Path

import numpy as np
import pytest

from pcsa.datasets.landmark_files import Landmarks, read_meshlab, write_meshlab


def written(path: Path, points: str) -> Path:
    path.write_text(
        "<!DOCTYPE PickedPoints>\n<PickedPoints>\n <DocumentData>\n"
        '  <DateTime date="2020-01-01" time="12:00:00"/>\n  <User name="x"/>\n  <DataFileName name="a.ply"/>\n'
        f" </DocumentData>\n{points}\n</PickedPoints>\n"
    )
    return path


def test_what_meshlab_writes(tmp_path: Path) -> None:
    points = '<point x="1" y="2.5" z="-3e-2" active="1" name="nose"/><point x="0" y="0" z="0" name="ear" active="0"/>'
    (found,) = read_meshlab(written(tmp_path / "a.pp", points + '<point name="eye" z="1" y="2" x="3"/>'))
    assert found.names == ("nose", "ear", "eye")
    assert found.there.tolist() == [True, False, True]
    assert found.points[[0, 2]].tolist() == [[1, 2.5, -0.03], [3, 2, 1]]
    assert (found.frame, found.units) == (None, None)


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    one = Landmarks(['<a> & "b"', "'c'", "gone"], [[1 / 3, 2, 3], [4, 5, 6], [np.nan] * 3])
    write_meshlab(tmp_path / "a.pp", one)
    (found,) = read_meshlab(tmp_path / "a.pp")
    assert found.names == one.names
    assert found.there.tolist() == [True, True, False]
    assert found.points[:2].tolist() == one.points[:2].tolist()


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ('<point x="1" y="2" name="a"/>', r"point 1: `z` \(=''\) must be a finite number"),
        ('<point x="inf" y="2" z="3" name="a"/>', r"point 1: `x` \(='inf'\)"),
        ('<point x="1" y="2" z="3" active="maybe"/>', r"point 1: `active` \(='maybe'\)"),
        (2 * '<point x="1" y="2" z="3" name="a"/>', r"point 2: the name \(='a'\) must be another than that of point 1"),
        ("<point", "not an XML file"),
    ],
)
def test_what_is_refused(tmp_path: Path, points: str, message: str) -> None:
    path = written(tmp_path / "a.pp", points)
    with pytest.raises(ValueError, match=f"^`{path}`: .*{message}"):
        read_meshlab(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<Points/>", "its root .='Points'. must be PickedPoints"),
        ('<!DOCTYPE x [<!ENTITY a "aa">]><PickedPoints/>', "must not define entities"),
        ("", "not an XML file"),
    ],
)
def test_what_is_no_file_of_picked_points(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.pp"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"^`{path}`: .*{message}"):
        read_meshlab(path)
