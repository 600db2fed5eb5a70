from pathlib import Path

import numpy as np
import pytest

from pcsa.datasets.text import read_text

TWO = [[1.0, 2.0, 3.0], [-4.5, 5e-3, 6.0]]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.xyz", "1 2 3\n-4.5 0.005 6\n"),
        ("a.xyz", "1 2 3\n-4.5 0.005 6"),
        ("a.txt", "\n  1\t2   3 \r\n-4.5\t5e-3\t6\r\n\r\n"),
        ("a.txt", "1 2 3\r-4.5 0.005 6\r"),
        ("a.csv", "1,2,3\n-4.5, 5.0E-03, 6\n"),
        ("a.csv", "1;2;3;\n-4.5;0.005;6;\n"),
        ("a.csv", "x,y,z\n1,2,3\n-4.5,0.005,6\n"),
        ("a.csv", '"Z","X","Y","Classification"\n3,1,2,"wall"\n"6.0","-4.5",0.005,floor\n'),
        ("a.csv", "Point ID;X [m];Y [m];Z [m]\nP1;1;2;3\nP2;-4.5;0.005;6\n"),
        ("a.csv", ",x,y,z\n0,1,2,3\n1,-4.5,0.005,6\n"),
        ("a.csv", "Unnamed: 0,x,y,z\n0,1,2,3\n1,-4.5,0.005,6\n"),
        ("a.csv", "x,y,z,Scalar field 2\n1,2,3,4\n-4.5,0.005,6,5\n"),
        ("a.csv", "x,y,z,\n1,2,3,\n-4.5,0.005,6,\n"),
        ("a.csv", 'x,y,z,name\n1,2,3,"a, b"\n-4.5,0.005,6,c\n'),
        ("a.csv", "0,1,2\n1.0,2.0,3.0\n-4.5,0.005,6.0\n"),
        ("a.csv", '"Points_m_XYZ:0","Points_m_XYZ:1","Points_m_XYZ:2","intensity"\n1,2,3,7\n-4.5,0.005,6,8\n'),
        ("a.csv", "Points:0,Points:1,Points:2,Normals:0\n1,2,3,0\n-4.5,0.005,6,1\n"),
        ("a.txt", "# exported on a Monday\n// by hand\n1 2 3 # first\n% half\n-4.5 0.005 6\n"),
        ("a.txt", "//X Y Z Intensity\n2\n1 2 3 7\n-4.5 0.005 6 8\n"),
        ("a.txt", "# z y x\n3 2 1\n6 0.005 -4.5\n"),
        ("a.txt", "x y z\n1 2 3\n-4.5 5d-3 0.6D+01\n"),
        ("a.pts", "2\n1 2 3\n-4.5 0.005 6\n"),
        ("a.pts", "2\n1 2 3 -1234\n-4.5 0.005 6 99\n"),
        ("a.xyz", "2\n1 2 3\n-4.5 0.005 6\n"),
    ],
)
def test_text_of_many_programs(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        path.write_bytes(content.encode(encoding))
        cloud = read_text(path)
        assert cloud.points.dtype == np.float64
        assert cloud.points.tolist() == TWO
        assert cloud.colors is None


def test_columns_by_name(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("7,1,2,3,0,0,1\n8,-4.5,0.005,6,0,1,0\n")
    with pytest.raises(
        ValueError,
        match=r"a\.txt`: 7 columns without names, and only three .*columns='x y z nx ny nz a'",
    ):
        read_text(path)
    for columns in ("label x y z nx ny nz", ["Label", "X", "Y", "Z", "_", "_", "_"]):
        assert read_text(path, columns).points.tolist() == TWO
    cloud = read_text(path, "label x y z r g b")
    assert cloud.colors is not None
    assert cloud.colors.tolist() == [[0, 0, 255], [0, 255, 0]]
    with pytest.raises(ValueError, match=r"`columns` \(='x y z'\) names 3 columns, the file has 7"):
        read_text(path, "x y z")
    # Given names replace those in the file, and words that are no names.
    for title in ("id,easting,northing,height,nx,ny,nz", "my bed"):
        path.write_text(f"{title}\n7,1,2,3,0,0,1\n8,-4.5,0.005,6,0,1,0\n")
        with pytest.raises(ValueError, match=r"`columns`"):
            read_text(path)
        assert read_text(path, "label x y z nx ny nz").points.tolist() == TWO


def test_leica_colors_and_counts(tmp_path: Path) -> None:
    path = tmp_path / "a.pts"
    path.write_text("2\n1 2 3 -900 255 0 16\n-4.5 0.005 6 12 1 2 3\n")
    cloud = read_text(path)
    assert cloud.points.tolist() == TWO
    assert cloud.colors is not None
    assert cloud.colors.tolist() == [[255, 0, 16], [1, 2, 3]]
    path.write_text("3\n1 2 3 -900 255 0 16\n-4.5 0.005 6 12 1 2 3\n")
    with pytest.raises(ValueError, match=r"a\.pts`: declares 3 points and holds 2"):
        read_text(path)
    path.write_text("1 2 3 -900 255 0 16\n")
    with pytest.raises(ValueError, match="7 columns without names"):
        read_text(path)
    path.write_text("1\n1 2 3\n1\n-4.5 0.005 6\n")  # two scans in one file
    with pytest.raises(ValueError, match="line 3 has 1 values, must have 3"):
        read_text(path)


def test_far_from_the_origin(tmp_path: Path) -> None:
    points = np.random.default_rng(0).uniform(size=(100, 3)) + np.array([5e5, 4.6e6, 80.0])
    np.savetxt(tmp_path / "a.xyz", points, fmt="%.9f")
    np.testing.assert_allclose(read_text(tmp_path / "a.xyz").points, points, rtol=0, atol=1e-9)


def test_points_that_are_not_finite(tmp_path: Path) -> None:
    path = tmp_path / "a.xyz"
    path.write_text("1 2 3\nnan NaN -nan(ind)\n1 1.#QNAN 2\n-4.5 0.005 6\n1 inf 2\n")
    with pytest.raises(ValueError, match=r"3 points are not finite, of 5; the first is point 1 \(`drop_invalid`"):
        read_text(path)
    cloud = read_text(path, drop_invalid=True)
    assert cloud.points.tolist() == TWO
    assert cloud.num_dropped == 3


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        ("", "has no line of numbers"),
        ("# nothing\n", "has no line of numbers"),
        ("x y z\n", "has no line of numbers"),
        ("1 2\n3 4\n", "2 rows of 2 values"),
        ("1\n2\n3\n", "2 rows of 1 values"),
        ("1 2 3\n4 5\n", "line 2 has 2 values, must have 3"),
        ("1 2 3\n4 5 6 7\n", "line 2 has 4 values, must have 3"),
        ("1 2 3\n4 five 6\n", "line 2: `five` must be a number"),
        ("1 2 3\n4 5_0 6\n", "line 2: `5_0` must be a number"),
        ("1,2,3\n4,,6\n", "line 2 lacks a value"),
        ("1,5 2,5 3,5\n", "line 1: `1,5 2,5 3,5` has decimal commas"),
        ("1,5;2,5;3,5\n", "has decimal commas"),
        ("1 2 3\n1,5 2 3\n", "line 2: `1,5` must be a number; write decimals with a point"),
        ("C 0 0 0\nH 0 0 1\n", "4 columns without names"),
        ("label x y\n1 2 3\n", "the columns are called label, x, y: say by `columns`"),
        ("# label x y\n1 2 3\n", "the columns are called label, x, y: say by `columns`"),
        ("northing easting height\n1 2 3\n", "the columns are called northing, easting, height: say by `columns`"),
        ("a bed of mine\n1 2 3\n", "`a bed of mine` is neither numbers nor names of the 3 columns"),
        ("version: 1\nn_points: 68\n{\n1 2\n}\n", "2 columns|2 values|must be a number"),
        ("\n".join(["1 " * 20] * 3), "3 rows of 20 values: .* transpose it"),
        ("words\n" * 99, "no line of numbers among the first"),
    ],
)
def test_what_is_refused(tmp_path: Path, content: str, rule: str) -> None:
    path = tmp_path / "a.txt"
    path.write_text(content)
    with pytest.raises(ValueError, match=rf"^`{path}`: .*({rule})"):
        read_text(path)


def test_noise_is_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for length in (1, 10, 1000, 5000):
        (tmp_path / "a.xyz").write_bytes(rng.bytes(length))
        with pytest.raises(ValueError, match=r"a\.xyz`: "):
            read_text(tmp_path / "a.xyz")


def test_numbers_of_columns_are_no_point(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(",0,1,2\n0,1,2,3\n1,-4.5,0.005,6\n")
    with pytest.raises(ValueError, match="4 columns without names"):
        read_text(path)
    assert read_text(path, "i x y z").points.tolist() == TWO
    # Whole numbers may be points all the same.
    path.write_text("0,1,2\n3,4,5\n")
    assert read_text(path).points.tolist() == [[0, 1, 2], [3, 4, 5]]
    path.write_text("0 1 2\n3.5 4.5 5.5\n")
    assert read_text(path).points.tolist() == [[0, 1, 2], [3.5, 4.5, 5.5]]


@pytest.mark.parametrize("rows", [",,\n1,2,3\n,,\n-4.5,0.005,6\n", "NA,NA,NA\n1,2,3\n,,\n-4.5,0.005,6"])
@pytest.mark.parametrize("indexed", [False, True])
def test_points_that_are_missing(tmp_path: Path, rows: str, indexed: bool) -> None:
    path = tmp_path / "a.csv"
    if indexed:
        rows = "\n".join(f"{i},{row}" for i, row in enumerate(rows.splitlines()))
    path.write_text(f"{',' * indexed}x,y,z\n{rows}")
    with pytest.raises(ValueError, match=r"2 points are not finite, of 4; the first is point 0 \(`drop_invalid`"):
        read_text(path)
    cloud = read_text(path, drop_invalid=True)
    assert cloud.points.tolist() == TWO
    assert cloud.num_dropped == 2


@pytest.mark.parametrize("end", ["   ", "# end", "\n\n  "])
def test_last_lines_without_numbers(tmp_path: Path, end: str) -> None:
    path = tmp_path / "a.txt"
    path.write_text("1.000 2.000 3.000\n" * 50 + end)
    assert read_text(path).points.shape == (50, 3)
