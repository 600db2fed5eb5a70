from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from pcsa.datasets.pcd import read_pcd, write_pcd

HEADER = (
    "# .PCD v.7 - Point Cloud Data file format\nVERSION .7\nFIELDS x y z rgb\nSIZE 4 4 4 4\n"
    "TYPE F F F {kind}\n"
    "COUNT 1 1 1 1\nWIDTH 2\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS 2\nDATA {data}\n"
)
POINTS = np.array([[0.5, -1.25, 2.0], [3.0, 0.0, -0.125]], dtype=np.float32)
# 0x102030 = 16, 32, 48; 0xfe0001 = 254, 0, 1
PACKED = [0x102030, 0xFE0001]
COLORS = [[16, 32, 48], [254, 0, 1]]


def ascii_file(tmp_path: Path, rows: str, kind: str = "U") -> Path:
    path = tmp_path / "cloud.pcd"
    path.write_text(HEADER.format(kind=kind, data="ascii") + rows)
    return path


def test_ascii_packed_as_integer(tmp_path: Path) -> None:
    for kind in "UI":
        path = ascii_file(tmp_path, f"0.5 -1.25 2 {PACKED[0]}\n3 0 -0.125 {PACKED[1]}\n", kind)
        cloud = read_pcd(path)
        assert cloud.points.dtype == np.float32
        assert cloud.colors is not None
        assert cloud.colors.dtype == np.uint8
        np.testing.assert_array_equal(cloud.points, POINTS)
        np.testing.assert_array_equal(cloud.colors, COLORS)


def test_colors_with_alpha_in_the_sign_bit(tmp_path: Path) -> None:
    # Opaque alpha is the top byte: a negative int32, and the same color.
    opaque = [value - 2**24 for value in PACKED]  # 0xff...... as int32 is value - 2**24
    path = ascii_file(tmp_path, f"0 0 0 {opaque[0]}\n0 0 0 {opaque[1]}\n", "I")
    np.testing.assert_array_equal(read_pcd(path).colors, COLORS)


def test_ascii_packed_as_float_bits(tmp_path: Path) -> None:
    bits = np.array(PACKED, np.uint32).view(np.float32)
    path = ascii_file(tmp_path, f"0.5 -1.25 2 {bits[0]:.9g}\n3 0 -0.125 {bits[1]:.9g}\n", "F")
    np.testing.assert_array_equal(read_pcd(path).colors, COLORS)
    path = ascii_file(tmp_path, "0.5 -1.25 2 nan\n3 0 -0.125 nan\n", "F")
    assert read_pcd(path).colors is None


def test_binary_other_fields_any_order(tmp_path: Path) -> None:
    dtype = np.dtype([("rgb", "<f4"), ("z", "<f8"), ("_", "<u1", 3), ("y", "<f4"), ("x", "<f4"), ("_2", "<u1")])
    table = np.zeros(2, dtype)
    for column, axis in enumerate("xyz"):
        table[axis] = POINTS[:, column]
    # Alpha 255 makes the float a nan: the bits must survive all the same.
    table["rgb"] = (np.array(PACKED, np.uint32) | np.uint32(0xFF000000)).view(np.float32)
    header = (
        "VERSION .7\nFIELDS rgb z _ y x _\nSIZE 4 8 1 4 4 1\nTYPE F F U F F U\nCOUNT 1 1 3 1 1 1\n"
        "WIDTH 1\nHEIGHT 2\nPOINTS 2\nDATA binary\n"
    )
    path = tmp_path / "cloud.pcd"
    path.write_bytes(header.encode() + table.tobytes())
    cloud = read_pcd(path)
    np.testing.assert_array_equal(cloud.points, POINTS)
    np.testing.assert_array_equal(cloud.colors, COLORS)

    text = header.replace("binary", "ascii") + "0 2 7 7 7 -1.25 0.5 9\n0 -0.125 7 7 7 0 3 9\n"
    path.write_text(text)
    np.testing.assert_array_equal(read_pcd(path).points, POINTS)


@settings(deadline=None, max_examples=30)
@given(
    rows=st.lists(st.tuples(*[st.floats(width=32, allow_nan=False, allow_infinity=False)] * 3), max_size=5),
    binary=st.booleans(),
    colored=st.booleans(),
)
def test_round_trip_is_exact(tmp_path_factory: pytest.TempPathFactory, rows: list, binary: bool, colored: bool) -> None:
    path = tmp_path_factory.mktemp("round") / "cloud.pcd"
    points = np.array(rows, np.float32).reshape(-1, 3)
    colors = np.random.default_rng(0).integers(0, 256, points.shape) if colored else None
    write_pcd(path, points, colors, binary=binary)
    cloud = read_pcd(path)
    np.testing.assert_array_equal(cloud.points, points)
    if colors is None:
        assert cloud.colors is None
    else:
        np.testing.assert_array_equal(cloud.colors, colors)


@pytest.mark.parametrize("binary", [False, True])
def test_truncated_files_are_refused(tmp_path: Path, binary: bool) -> None:
    path = tmp_path / "cloud.pcd"
    write_pcd(path, POINTS, np.array(COLORS), binary=binary)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"cloud\.pcd"):
            read_pcd(path)


ROWS = "0 0 0 1\n2 2 2 1\n"


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        ("DATA ascii", "DATA binary_compressed", "binary_compressed"),
        ("POINTS 2", "POINTS 3", "WIDTH"),
        ("WIDTH 2\nHEIGHT 1\n", "WIDTH 3\nHEIGHT 1\n", "WIDTH"),
        ("WIDTH 2\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS 2", "WIDTH 1\nHEIGHT 1\nPOINTS 1", "2 lines"),
        ("WIDTH 2\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS 2", "POINTS 1000000000000", "2 lines"),
        ("WIDTH 2\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS 2", "VERSION 1", "POINTS"),
        ("POINTS 2", "POINTS two", "POINTS"),
        ("SIZE 4 4 4 4", "SIZE 4 4 4", "length"),
        ("SIZE 4 4 4 4", "SIZE 3 4 4 4", "3 bytes"),
        ("COUNT 1 1 1 1", "COUNT 1 1 1 0", "positive"),
        ("FIELDS x y z rgb", "FIELDS x y w rgb", "x, y and z"),
        ("FIELDS x y z rgb\n", "", "FIELDS"),
        ("VERSION .7", "ply\nformat", "not a PCD file"),
        ("0 0 0 1\n", "0 0 1\n", "line 1 of the data has 3 values where the header says 4"),
        ("0 0 0 1\n", "0 zero 0 1\n", "zero"),
        ("0 0 0 1\n", "0 nan 0 1\n", "not finite, the first is point 0"),
        ("2 2 2 1\n", "2 inf 2 1\n", "not finite, the first is point 1"),
        ("2 2 2 1\n", "2 1e300 2 1\n", "not finite"),
        ("2 2 2 1\n", "2 2 2 1e20\n", "32-bit"),
        ("0 0 0 1\n2 2 2 1\n", "", "0 lines"),
    ],
)
def test_headers_that_lie_and_bad_values(tmp_path: Path, old: str, new: str, rule: str) -> None:
    path = ascii_file(tmp_path, ROWS)
    read_pcd(path)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(ValueError, match=rule) as error:
        read_pcd(path)
    assert "cloud.pcd" in str(error.value)


def test_not_a_pcd_file(tmp_path: Path) -> None:
    path = tmp_path / "noise.pcd"
    path.write_bytes(np.random.default_rng(0).bytes(5000))
    with pytest.raises(ValueError, match=r"noise\.pcd"):
        read_pcd(path)
    with pytest.raises(FileNotFoundError):
        read_pcd(tmp_path / "absent.pcd")


@pytest.mark.parametrize(
    ("points", "colors", "rule"),
    [
        (np.zeros((2, 2)), None, "points"),
        (np.full((1, 3), np.nan), None, "finite"),
        (np.zeros((2, 3)), np.zeros((1, 3), int), "colors"),
        (np.zeros((1, 3)), np.full((1, 3), 256), "255"),
        (np.zeros((1, 3)), np.zeros((1, 3)), "integers"),
    ],
)
def test_write_refuses(tmp_path: Path, points: np.ndarray, colors: np.ndarray | None, rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        write_pcd(tmp_path / "cloud.pcd", points, colors)
    assert not (tmp_path / "cloud.pcd").exists()
