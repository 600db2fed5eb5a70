from pathlib import Path

import numpy as np
import pytest

from pcsa.datasets.landmark_files import Landmarks, read_fcsv, write_fcsv

COLUMNS = "# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID\n"


def head(version: str = "4.11", frame: str = "LPS") -> str:
    return f"# Markups fiducial file version = {version}\n# CoordinateSystem = {frame}\n{COLUMNS}"


@pytest.mark.parametrize(
    ("version", "frame", "expected"),
    [("4.6", "0", "RAS"), ("4.10", "1", "LPS"), ("4.11", "LPS", "LPS"), ("4.13", "RAS", "RAS")],
)
def test_versions(tmp_path: Path, version: str, frame: str, expected: str) -> None:
    path = tmp_path / "a.fcsv"
    path.write_text(
        head(version, frame)
        + "vtkMRMLMarkupsFiducialNode_0,-32.9,65.25,1e-3,0,0,0,1,1,1,0,nose,the tip,vtkMRMLScalarVolumeNode1\n\n"
        + '1,1,2,3,0,0,0,1,0,1,1,"ear, ""left""",,\n'
    )
    (found,) = read_fcsv(path)
    assert found.names == ("nose", 'ear, "left"')
    assert found.points.tolist() == [[-32.9, 65.25, 1e-3], [1, 2, 3]]
    assert (found.frame, found.units) == (expected, None)
    assert np.asarray(found.visible).tolist() == [True, False]
    assert found.descriptions == ("the tip", "")


def test_points_that_are_not_set(tmp_path: Path) -> None:
    path = tmp_path / "a.fcsv"
    rows = [f"{i},1,2,3,0,0,0,1,1,1,0,F-{i},,,{state},0" for i, state in enumerate((2, 0, 1))]
    path.write_text(head() + "\n".join(rows))
    assert read_fcsv(path)[0].there.tolist() == [True, False, False]


def test_old_and_unknown_frames(tmp_path: Path) -> None:
    path = tmp_path / "a.fcsv"
    path.write_text("# Fiducial List file a.fcsv\n# columns = label,x,y,z,sel,vis\nF1,1,2,3,1,1\n")
    (old,) = read_fcsv(path)
    assert (old.names, old.frame) == (("F1",), "RAS")
    path.write_text(head().replace("# CoordinateSystem = LPS\n", "") + "1,1,2,3,0,0,0,1,1,1,0,a,,\n")
    assert read_fcsv(path)[0].frame is None


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    one = Landmarks(
        ["a, b", "#", "gone"], [[1 / 3, 2, 3], [4, 5, 6], [np.nan] * 3], visible=[True, False, True], frame="RAS"
    )
    write_fcsv(tmp_path / "a.fcsv", one)
    (found,) = read_fcsv(tmp_path / "a.fcsv")
    assert found.names == ("a, b", "#")
    assert found.points.tolist() == [[1 / 3, 2, 3], [4, 5, 6]]
    assert np.asarray(found.visible).tolist() == [True, False]
    assert found.frame == "RAS"
    with pytest.raises(ValueError, match=r"`lists` \(2\) must be one list"):
        write_fcsv(tmp_path / "a.fcsv", [one, one])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (head() + "1,1,2\n", r"line 4: 3 columns, must be at least 12"),
        (head() + "1,1,2,x,0,0,0,1,1,1,0,a,,\n", r"line 4: `z` \(='x'\) must be a finite number"),
        (head() + "1,1,2,nan,0,0,0,1,1,1,0,a,,\n", r"line 4: `z` \(='nan'\)"),
        (head() + "1,1,,3,0,0,0,1,1,1,0,a,,\n", r"line 4: `y` \(=''\)"),
        (head() + "1,1,2,3,0,0,0,1,x,1,0,a,,\n", r"line 4: `vis` \(='x'\) must be 1 or 0"),
        (head() + 2 * "1,1,2,3,0,0,0,1,1,1,0,a,,\n", r"line 5: the name \(='a'\) must be another than that of line 4"),
        (head(frame="2"), "line 2: `CoordinateSystem`: the frame .='2'. must be LPS or RAS: IJK"),
        (head(frame="LPI"), "line 2: `CoordinateSystem`: the frame .='LPI'. must be LPS or RAS"),
        (head().replace("label", "tag"), "must name label"),
        ("1,2,3\n", "must name its version"),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.fcsv"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"^`{path}`: .*{message}"):
        read_fcsv(path)
