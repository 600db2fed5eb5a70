import struct
import sys
from collections.abc import Callable
from pathlib import Path

import lzf
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
        assert cloud.points.dtype == np.float64
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
    np.testing.assert_array_equal(cloud.points.astype(np.float32), points)
    if colors is None:
        assert cloud.colors is None
    else:
        np.testing.assert_array_equal(cloud.colors, colors)


@pytest.mark.parametrize("binary", [False, True])
def test_truncated_files_are_refused(tmp_path: Path, binary: bool) -> None:
    path = tmp_path / "cloud.pcd"
    write_pcd(path, POINTS, binary=binary)
    whole = path.read_bytes()
    # The last number of the text is "-0.125": from its first digit on, nothing tells that there was more.
    for length in range(len(whole) - (0 if binary else len("0.125\n"))):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"cloud\.pcd"):
            read_pcd(path)


def test_more_lines_than_declared_are_not_called_truncated(tmp_path: Path) -> None:
    path = tmp_path / "cloud.pcd"
    path.write_text("FIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nPOINTS 1\nDATA ascii\n1 2 3\n4 5 6\n")
    with pytest.raises(ValueError, match=r"2 lines of values where the header says 1 points$"):
        read_pcd(path)


def test_text_without_a_final_line_break(tmp_path: Path) -> None:
    path = tmp_path / "cloud.pcd"
    points = np.random.default_rng(0).normal(size=(50, 3))
    head = "FIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nPOINTS 50\nDATA ascii\n"
    for form in ("%.6f", "%.8e", "%.9g"):
        whole = head + "\n".join(" ".join(form % value for value in row) for row in points)
        path.write_text(whole)
        np.testing.assert_allclose(read_pcd(path).points, points, atol=1e-6)
        # All lines but the last have the same number of decimals: the file is cut off.
        for missing in range(1, 6 if form != "%.9g" else 0):
            path.write_text(whole[:-missing])
            with pytest.raises(ValueError, match="the last line ends within a number"):
                read_pcd(path)


ROWS = "0 0 0 1\n2 2 2 1\n"


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        ("DATA ascii", "DATA zip", "`DATA zip` must be one of ascii, binary, binary_compressed"),
        ("DATA ascii", "DATA", "`DATA ` must be one of"),
        ("DATA ascii", "POINTS 2\nDATA ascii", "line 11: the header has `POINTS` twice"),
        ("POINTS 2", "POINTS 3", "WIDTH"),
        ("WIDTH 2\nHEIGHT 1\n", "WIDTH 3\nHEIGHT 1\n", "WIDTH"),
        ("WIDTH 2\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS 2", "WIDTH 1\nHEIGHT 1\nPOINTS 1", "2 lines"),
        ("WIDTH 2\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS 2", "POINTS 1000000000000", "2 lines"),
        ("WIDTH 2\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS 2", "VIEWPOINT 0", "POINTS"),
        ("POINTS 2", "POINTS two", "POINTS"),
        ("SIZE 4 4 4 4", "SIZE 4 4 4", "length"),
        ("SIZE 4 4 4 4", "SIZE 3 4 4 4", "3 bytes"),
        ("COUNT 1 1 1 1", "COUNT 1 1 1 -1", "must not be negative"),
        ("COUNT 1 1 1 1", "COUNT 1 1 3 1", "x, y and z"),
        ("FIELDS x y z rgb", "FIELDS x y z X", "x, y and z"),
        ("FIELDS x y z rgb", "FIELDS x y w rgb", "x, y and z"),
        ("FIELDS x y z rgb\n", "", "FIELDS"),
        ("VERSION .7", "ply\nformat", "not a PCD file"),
        ("0 0 0 1\n", "0 0 1\n", "line 12 has 3 values, must have 4"),
        ("2 2 2 1\n", "2 2 2 1\n3 3 3 1\n", "3 lines of values where the header says 2"),
        ("0 0 0 1\n", "0 zero 0 1\n", "line 12: `zero` must be a number"),
        ("0 0 0 1\n", "0 0,5 0 1\n", "line 12: `0,5` must be a number; write decimals with a point"),
        ("0 0 0 1\n", "0 nan 0 1\n", r"1 points are not finite, of 2; the first is point 0 \(`drop_invalid`"),
        ("2 2 2 1\n", "2 inf 2 1\n", "not finite, of 2; the first is point 1"),
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
    for content in (np.random.default_rng(0).bytes(5000), b"\xff\xfe1", b"", b"ply\nformat ascii 1.0\n"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"^`.*noise\.pcd`: "):
            read_pcd(path)
    with pytest.raises(FileNotFoundError):
        read_pcd(tmp_path / "absent.pcd")


def pcd_bytes(fields: str, table: np.ndarray, data: str, *, padding: bool = False, compress: Callable | None = None):
    """Return a file of a structured array, in which fields called `_0`, `_1`, … are padding."""
    kinds = [table.dtype[place] for place in range(len(table.dtype))]
    names = " ".join("_" if name.startswith("_") else name for name in fields.split())
    head = (
        f"# .PCD v0.7 - Point Cloud Data file format\nVERSION 0.7\nFIELDS {names}\n"
        f"SIZE {' '.join(str(kind.base.itemsize) for kind in kinds)}\n"
        f"TYPE {' '.join(kind.base.kind.upper() for kind in kinds)}\n"
        f"COUNT {' '.join(str(int(np.prod(kind.shape))) for kind in kinds)}\n"
        f"WIDTH {len(table)}\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS {len(table)}\nDATA {data}\n"
    ).encode()
    if data == "binary":
        return head + table.tobytes()
    turn = b"".join(
        np.ascontiguousarray(table[name]).tobytes() for name in fields.split() if padding or not name.startswith("_")
    )
    packed = lzf.compress(turn, 2 * len(turn) + 64) if compress is None else compress(turn)
    return head + struct.pack("<II", len(packed), len(turn)) + packed


def literal_runs(data: bytes) -> bytes:
    """Compress nothing: LZF of runs of up to 32 bytes as they are."""
    return b"".join(bytes([len(data[i : i + 32]) - 1]) + data[i : i + 32] for i in range(0, len(data), 32))


KINDS = ["<f4", "<f8", "<i2", "<i4", "<i8", "<u1", "<u2"]


@pytest.mark.parametrize("data", ["binary", "binary_compressed"])
@pytest.mark.parametrize("kind", KINDS)
def test_binary_of_every_layout(tmp_path: Path, data: str, kind: str) -> None:
    # A normal and a descriptor of 33 values between the coordinates, padding, a label: as PCL and lidars have them.
    rng = np.random.default_rng(0)
    dtype = [("fpfh", "<f4", (33,)), ("x", kind), ("_0", "u1", (7,)), ("rgb", "<f4"), ("y", kind), ("label", "<u4")]
    table = np.zeros(500, np.dtype([*dtype, ("z", kind), ("_1", "u1", (12,))]))
    for axis in "xyz":
        table[axis] = rng.integers(0, 200, 500) if kind[1] in "iu" else rng.normal(size=500)
    table["fpfh"] = rng.normal(size=(500, 33))
    colors = rng.integers(0, 256, (500, 3))
    table["rgb"] = (colors @ [65536, 256, 1]).astype(np.uint32).view(np.float32)
    fields = " ".join(table.dtype.names)
    path = tmp_path / "cloud.pcd"
    forms = [{}] if data == "binary" else [{}, {"padding": True}, {"compress": literal_runs}]
    for form in forms:
        whole = pcd_bytes(fields, table, data, **form)
        # PCL makes files longer than what is in them, up to a page of memory.
        for content in (whole, whole + bytes(3977), whole + b"\n"):
            path.write_bytes(content)
            cloud = read_pcd(path)
            np.testing.assert_array_equal(cloud.points, np.stack([table[a].astype(float) for a in "xyz"], axis=1))
            np.testing.assert_array_equal(cloud.colors, colors)
        for content in (whole[:-1], whole[:-300], whole + b"more"):
            path.write_bytes(content)
            with pytest.raises(ValueError, match=r"cloud\.pcd`: .*(truncated\?|is no padding)"):
                read_pcd(path)


def test_references_of_the_compression() -> None:
    # "abc", then 9 bytes back from 3: a copy that overlaps itself; by hand.
    assert lzf.decompress(bytes([2]) + b"abc" + bytes([7 << 5, 0, 2]), 12) == b"abcabcabcabc"


def test_without_what_decompresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lzf", None)
    table = np.zeros(3, [(axis, "<f4") for axis in "xyz"])
    (tmp_path / "cloud.pcd").write_bytes(pcd_bytes("x y z", table, "binary_compressed", compress=literal_runs))
    with pytest.raises(ValueError, match=r"cloud\.pcd`: compressed data need the module `lzf`"):
        read_pcd(tmp_path / "cloud.pcd")


def test_damaged_compression_is_refused(tmp_path: Path) -> None:
    table = np.zeros(300, [(axis, "<f4") for axis in "xyz"])
    table["x"] = np.arange(300) // 7
    path = tmp_path / "cloud.pcd"
    whole = pcd_bytes("x y z", table, "binary_compressed")
    start = whole.index(b"compressed\n") + len(b"compressed\n")
    refused = []
    rng = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[int(rng.integers(start, len(whole)))] = int(rng.integers(256))
        path.write_bytes(damaged)
        try:
            read_pcd(path, drop_invalid=True)
        except ValueError as error:
            refused.append(str(error))
    assert len(refused) > 100
    assert all(text.startswith(f"`{path}`: ") and "ValueError" not in text for text in refused)
    for sizes in (b"\xff" * 8, bytes(8), struct.pack("<II", len(whole) - start - 8, 5)):
        path.write_bytes(whole[:start] + sizes + whole[start + 8 :])
        with pytest.raises(ValueError, match=r"cloud\.pcd"):
            read_pcd(path)


def test_far_from_the_origin_nothing_is_lost(tmp_path: Path) -> None:
    bed = np.random.default_rng(0).uniform(size=(200, 3)) * [2.0, 1.2, 0.6] + [500_000.0, 4_600_000.0, 80.0]
    path = tmp_path / "bed.pcd"
    for binary in (False, True):
        write_pcd(path, bed, binary=binary)
        assert b"SIZE 8 8 8\n" in path.read_bytes()
        np.testing.assert_array_equal(read_pcd(path).points, bed)
    table = np.array([tuple(row) for row in bed], [(axis, "<f8") for axis in "xyz"])
    path.write_bytes(pcd_bytes("x y z", table, "binary_compressed"))
    np.testing.assert_array_equal(read_pcd(path).points, bed)
    # A header may say that its text is of four bytes and write all digits.
    rows = "".join(f"{x:.4f} {y:.4f} {z:.4f}\n" for x, y, z in bed)
    path.write_text(f"FIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nPOINTS 200\nDATA ascii\n{rows}")
    np.testing.assert_allclose(read_pcd(path).points, bed, rtol=0, atol=5.1e-5)


def test_near_the_origin_files_stay_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "cloud.pcd"
    write_pcd(path, [[0.1, 0.2, 0.3], [1.0, -2.5, 3.0]], [[1, 2, 3], [255, 255, 255]])
    assert path.read_text() == (
        "VERSION .7\nFIELDS x y z rgb\nSIZE 4 4 4 4\nTYPE F F F U\nCOUNT 1 1 1 1\nWIDTH 2\nHEIGHT 1\n"
        "VIEWPOINT 0 0 0 1 0 0 0\nPOINTS 2\nDATA ascii\n"
        "0.100000001 0.200000003 0.300000012 66051\n1 -2.5 3 16777215\n"
    )


@pytest.mark.parametrize(
    "content",
    [
        "# .PCD v.5 - Point Cloud Data file format\nVERSION .5\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nWIDTH 2\n"
        "HEIGHT 1\nPOINTS 2\nDATA ascii\n1 2 3\n4 5 6\n",
        "COLUMNS x y z\nPOINTS 2\nDATA ascii\n1 2 3\n4 5 6\n",
        "\ufeffFIELDS X Y Z\nSIZE 4 4 4\nTYPE F F F\nWIDTH 0\nHEIGHT 0\nPOINTS 2\nDATA ascii\n1 2 3\n4 5 6",
        "fields x y z\r\nsize 4 4 4\r\ntype f f f\r\ncount 1 1 1\r\nwidth 2\r\nheight 1\r\npoints 2\r\ndata ASCII\r\n"
        "1\t2\t3\r\n4\t5 6\r\n",
        "FIELDS x y z  # no colors\n\nSIZE 4 4 4\nTYPE F F F\nWIDTH 1\nHEIGHT 2\nDATA ascii\n"
        "# the points\n1 2 3 # the first\n\n  4 5 6  \n",
        "FIELDS x y z _ intensity\nSIZE 4 4 4 1 4\nTYPE F F F U F\nCOUNT 1 1 1 0 1\nWIDTH 2\nPOINTS 2\nDATA ascii\n"
        "1 2 3 9\n4 5 6 nan\n",
        "FIELDS label x y z\nSIZE 4 4 4 4\nTYPE U F F F\nPOINTS 2\nDATA ascii\nchair 1 2 3\ntable 4D0 5 6\n",
        "FIELDS x y z normal\nSIZE 8 8 8 4\nTYPE F F F F\nCOUNT 1 1 1 3\nPOINTS 2\nDATA ascii\n"
        "1 2 3 0 0 1\n4 5 6 -nan nan(ind) -1.#IND\n",
    ],
)
def test_valid_headers_and_text_of_all_ages(tmp_path: Path, content: str) -> None:
    path = tmp_path / "cloud.pcd"
    for encoding in ("utf-8", "utf-16"):
        path.write_bytes(content.removeprefix("\ufeff" * (encoding == "utf-16")).encode(encoding))
        np.testing.assert_array_equal(read_pcd(path).points, [[1, 2, 3], [4, 5, 6]])


def test_a_field_of_no_value_in_binary(tmp_path: Path) -> None:
    path = tmp_path / "cloud.pcd"
    head = "FIELDS x y z _ ring\nSIZE 4 4 4 1 2\nTYPE F F F U U\nCOUNT 1 1 1 0 1\nPOINTS 2\nDATA binary\n"
    table = np.array([(1, 2, 3, 7), (4, 5, 6, 8)], [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("ring", "<u2")])
    path.write_bytes(head.encode() + table.tobytes())
    np.testing.assert_array_equal(read_pcd(path).points, [[1, 2, 3], [4, 5, 6]])


@pytest.mark.parametrize(
    ("kinds", "rows", "colors"),
    [
        ("U 1", ["16 32 48", "254 0 1"], COLORS),
        ("U 4", ["0 1 1", "1 0 0"], [[0, 1, 1], [1, 0, 0]]),
        ("U 2", ["4096 8192 12288", "65024 0 256"], COLORS),  # 16 bits, as LAS has them
        ("F 4", ["16 32 48", "254 0 1"], COLORS),
        ("F 4", ["0 0.5 1", "1 0 0.2"], [[0, 128, 255], [255, 0, 51]]),
        ("F 4", ["0.1 300.5 1", "1 0 0"], None),
        ("I 2", ["-1 0 0", "1 0 0"], None),
    ],
)
def test_separate_color_fields(tmp_path: Path, kinds: str, rows: list[str], colors: list | None) -> None:
    kind, size = kinds.split()
    path = tmp_path / "cloud.pcd"
    head = f"FIELDS x y z R G B\nSIZE 4 4 4 {size} {size} {size}\nTYPE F F F {kind} {kind} {kind}\nPOINTS 2\nDATA "
    path.write_text(f"{head}ascii\n1 2 3 {rows[0]}\n4 5 6 {rows[1]}\n")
    cloud = read_pcd(path)
    assert cloud.points.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert (None if cloud.colors is None else cloud.colors.tolist()) == colors
    dtype = [(axis, "<f4") for axis in "xyz"] + [(color, f"<{kind.lower()}{size}") for color in "rgb"]
    values = [(1, 2, 3, *map(float, rows[0].split())), (4, 5, 6, *map(float, rows[1].split()))]
    path.write_bytes(f"{head}binary\n".encode() + np.array(values, dtype).tobytes())
    cloud = read_pcd(path)
    assert (None if cloud.colors is None else cloud.colors.tolist()) == colors


def test_organized_clouds_with_pixels_that_saw_nothing(tmp_path: Path) -> None:
    table = np.zeros(6, [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("rgb", "<u4")])
    table["x"], table["rgb"] = np.arange(6), np.arange(6)
    for axis in "xyz":
        table[axis][[1, 4]] = np.nan
    path = tmp_path / "scan.pcd"
    for data in ("binary", "binary_compressed"):
        content = pcd_bytes("x y z rgb", table, data).replace(b"WIDTH 6\nHEIGHT 1", b"WIDTH 3\nHEIGHT 2")
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"2 points are not finite, of 6; the first is point 1 \(`drop_invalid`"):
            read_pcd(path)
        cloud = read_pcd(path, drop_invalid=True)
        assert cloud.num_dropped == 2
        assert cloud.points[:, 0].tolist() == [0, 2, 3, 5]
        assert cloud.colors is not None
        assert cloud.colors[:, 2].tolist() == [0, 2, 3, 5]


def test_clouds_without_points_and_without_coordinates(tmp_path: Path) -> None:
    path = tmp_path / "cloud.pcd"
    for data in ("ascii", "binary", "binary_compressed"):
        for end in (b"", bytes(8)):
            path.write_bytes(f"FIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nPOINTS 0\nDATA {data}\n".encode() + end)
            assert read_pcd(path).points.shape == (0, 3)
    table = np.zeros(2, [("fpfh", "<f4", (33,))])
    path.write_bytes(pcd_bytes("fpfh", table, "binary"))
    with pytest.raises(ValueError, match="the fields are fpfh: x, y and z must be among them once each"):
        read_pcd(path)


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
