import itertools
from pathlib import Path

import numpy as np
import pytest

from pcsa.datasets.landmark_files import Landmarks, read_landmarks, read_table, write_table


def read(path: Path, text: str) -> list[Landmarks]:
    path.write_text(text)
    return read_table(path)


def test_names_and_numbers(tmp_path: Path) -> None:
    (found,) = read(tmp_path / "a.csv", "landmark,X,Y,Z,extra\nnose,1,2.5,-3,q\near,,,,\neye,NA,NA,NA,\n")
    assert found.names == ("nose", "ear", "eye")
    assert found.points[0].tolist() == [1, 2.5, -3]
    assert found.there.tolist() == [True, False, False]
    assert (found.frame, found.units, found.scan, found.rater) == (None, None, None, None)


def test_tables_of_slicer(tmp_path: Path) -> None:
    text = (
        "label,l,p,s,defined,selected,visible,locked,description\nF-1,-19.9,13.9,29.4,1,1,0,0,x\nF-2,0,0,0,0,1,1,0,\n"
    )
    (found,) = read(tmp_path / "a.csv", text)
    assert found.frame == "LPS"
    assert found.there.tolist() == [True, False]
    assert np.asarray(found.visible).tolist() == [False, True]
    assert read(tmp_path / "a.csv", text.replace("l,p,s", "r,a,s"))[0].frame == "RAS"


@pytest.mark.parametrize(
    ("text", "units"),
    [
        ("name,x [mm],y [mm],z [mm]\na,1.5,2,3\n", "mm"),
        ("name;x;y;z;unit\na;1,5;2;3;m\n", "m"),
        ("\tname\tx\ty\tz\nq\ta\t1.5\t2\t3\n", None),
        ("# name,x,y,z\na,1.5,2,3\n", None),
    ],
)
def test_ways_to_write_it(tmp_path: Path, text: str, units: str | None) -> None:
    (found,) = read(tmp_path / "a.csv", text)
    assert (found.names, found.points.tolist(), found.units) == (("a",), [[1.5, 2, 3]], units)


def test_scans_raters_and_repeats(tmp_path: Path) -> None:
    keys = itertools.product("AB", "pq", "12", "xy")
    rows = [f"{','.join(key)},{i},0,0" for i, key in enumerate(keys)]
    found = read(tmp_path / "a.csv", "specimen,observer,trial,name,x,y,z\n" + "\n".join(rows))
    assert [(one.scan, one.rater) for one in found] == [(s, f"{r} {t}") for s in "AB" for r in "pq" for t in "12"]
    assert found[3].points[:, 0].tolist() == [6, 7]


def test_an_empty_first_column_is_a_column(tmp_path: Path) -> None:
    found = read(tmp_path / "a.tsv", "scan\tname\tx\ty\tz\n\t1\t2\t3\t4\n")
    assert (found[0].names, found[0].points.tolist()) == (("1",), [[2, 3, 4]])


def test_without_names_of_columns(tmp_path: Path) -> None:
    assert read(tmp_path / "a.csv", "nose,1,2,3\n")[0].names == ("nose",)


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_what_is_written_comes_back(tmp_path: Path, suffix: str) -> None:
    one = Landmarks(
        ['a, "b"\t', "gone"],
        [[1 / 3, 2, 3], [np.nan] * 3],
        frame="LPS",
        units="mm",
        descriptions=["x, y", ""],
        scan="A",
    )
    two = Landmarks(["c"], [[1, 2, 3]], defined=[False], visible=[False], scan="B", rater="p")
    write_table(tmp_path / f"a{suffix}", [one, two])
    first, second = read_landmarks(tmp_path / f"a{suffix}")
    assert first.names == ('a, "b"', "gone")
    np.testing.assert_array_equal(first.points, one.points)
    assert (first.frame, first.units, first.descriptions, first.scan, first.rater) == (
        "LPS",
        "mm",
        ("x, y", ""),
        "A",
        None,
    )
    assert (second.scan, second.rater, second.frame, second.there.tolist()) == ("B", "p", None, [False])
    assert not np.asarray(second.visible).any()
    with pytest.raises(ValueError, match="must differ by `scan` or `rater`"):
        write_table(tmp_path / "b.csv", [one, one])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,x,y,z\na,1,2,q\n", r"line 2: `z` \(='q'\) must be a finite number"),
        ("name,x,y,z\na,1,,3\n", r"line 2: x, y, z \(=\['1', '', '3'\]\) must be all there, or all missing"),
        ("name,x,y,z\na,1,2,3,4\n", "line 2: 5 columns, the line of names has 4"),
        ("name,x,y,z\na,1,2,3\na,4,5,6\n", r"line 3: the name \(='a'\) must be another than that of line 2"),
        ("name,x,y,x,z\na,1,2,3,4\n", "line 1: the columns .* must name x once"),
        ("name,x,y\na,1,2\n", "line 1: the columns .* must name x, y and z"),
        ("name,x,y,z,frame\na,1,2,3,LPS\nb,1,2,3,RAS\n", r"`frame` \(=\['LPS', 'RAS'\]\) must be one"),
        ("name,x,y,z,units\na,1,2,3,ell\n", r"line 2: `units`: `units` \(='ell'\) must be one of"),
        ("name,x [mm],y [m],z [m]\na,1,2,3\n", "line 1: the units"),
        ("name,x,y,z,defined\na,1,2,3,perhaps\n", r"line 2: `defined` \(='perhaps'\)"),
        ("name,x,y,z\na\n", "line 2: 1 columns"),
        ("name,x,y,z\n", "has no line of landmarks"),
        ('name,x,y,z\n"a,1,2,3\n', "line 2"),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.csv"
    with pytest.raises(ValueError, match=f"^`{path}`: .*{message}"):
        read(path, text)
