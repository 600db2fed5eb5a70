import re
import struct
from pathlib import Path

import numpy as np
import pytest

from pcsa.datasets.meshes import read_mesh
from pcsa.datasets.meshes.ply import load_ply

CORNERS = [(0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0), (2, 2, 2)]
XYZ = ["property float x", "property float y", "property float z"]
FACES = "property list uchar int vertex_indices"
LITTLE = "binary_little_endian"


def header(form: str, *lines: str, end: str = "\n") -> bytes:
    return end.join(["ply", f"format {form} 1.0", *lines, "end_header", ""]).encode()


def packed(order: str = "<", kind: str = "f") -> bytes:
    return b"".join(struct.pack(f"{order}3{kind}", *corner) for corner in CORNERS)


def written(tmp_path: Path, content: bytes) -> Path:
    file = tmp_path / "a.ply"
    file.write_bytes(content)
    return file


TRIANGLES_AND_QUADS = struct.pack("<B3iB4iB3i", 3, 0, 1, 4, 4, 0, 1, 2, 3, 3, 2, 3, 4)
CUT = [[0, 1, 4], [0, 1, 2], [0, 2, 3], [2, 3, 4]]


@pytest.mark.parametrize(
    ("content", "points", "faces"),
    {
        "polygons of different sizes": (
            header(LITTLE, "element vertex 5", *XYZ, "element face 3", FACES) + packed() + TRIANGLES_AND_QUADS,
            CORNERS,
            CUT,
        ),
        "the same in text": (
            header("ascii", "element vertex 5", *XYZ, "element face 3", FACES)
            + "".join("{} {} {}\n".format(*corner) for corner in CORNERS).encode()
            + b"3 0 1 4\n4 0 1 2 3\n3 2 3 4",
            CORNERS,
            CUT,
        ),
        "big endian, vertex_index": (
            header("binary_big_endian", "element vertex 5", *XYZ, "element face 2", FACES.replace("indices", "index"))
            + packed(">")
            + struct.pack(">B3iB3i", 3, 0, 1, 4, 3, 2, 3, 4),
            CORNERS,
            [[0, 1, 4], [2, 3, 4]],
        ),
        "text with more digits than the declared float": (
            header("ascii", "element vertex 1", *XYZ) + b"691000.123456 4600000.654321 12.25\n",
            [(691000.123456, 4600000.654321, 12.25)],
            [],
        ),
        "doubles": (
            header(LITTLE, "element vertex 1", *(line.replace("float", "double") for line in XYZ))
            + struct.pack("<3d", 691000.123456, 4600000.654321, 12.25),
            [(691000.123456, 4600000.654321, 12.25)],
            [],
        ),
        "lists on vertices": (
            header(LITTLE, "element vertex 2", "property list uchar float w", *XYZ)
            + struct.pack("<B2f3f", 2, 7, 7, 0, 0, 0)
            + struct.pack("<B1f3f", 1, 7, 1, 2, 3),
            [(0, 0, 0), (1, 2, 3)],
            [],
        ),
        "lists of texture on faces": (
            header(
                LITTLE,
                "element vertex 5",
                *XYZ,
                "element face 2",
                FACES,
                "property list uchar float texcoord",
                "property uchar flags",
            )
            + packed()
            + struct.pack("<B3iB6fB", 3, 0, 1, 4, 6, *range(6), 1)
            + struct.pack("<B4iB8fB", 4, 0, 1, 2, 3, 8, *range(8), 1),
            CORNERS,
            CUT[:3],
        ),
        "a grid of a range scan": (
            header(
                "ascii",
                "obj_info num_cols 3",
                "obj_info num_rows 1",
                "element vertex 2",
                *XYZ,
                "element range_grid 3",
                FACES,
            )
            + b"0 0 0\n1 2 3\n0\n1 0\n1 1\n",
            [(0, 0, 0), (1, 2, 3)],
            [],
        ),
        "a grid in binary": (
            header("binary_big_endian", "element vertex 5", *XYZ, "element range_grid 3", FACES)
            + packed(">")
            + struct.pack(">BBiBi", 0, 1, 0, 1, 4),
            CORNERS,
            [],
        ),
        "strips": (
            header(LITTLE, "element vertex 5", *XYZ, "element tristrips 1", "property list int int vertex_indices")
            + packed()
            + struct.pack("<9i", 8, 0, 1, 2, 4, -1, 2, 3, 4),
            CORNERS,
            [[0, 1, 2], [2, 1, 4], [2, 3, 4]],
        ),
        "other elements": (
            header(
                LITTLE,
                "element camera 1",
                "property float a",
                "element vertex 5",
                *XYZ,
                "element face 1",
                FACES,
                "element edge 2",
                "property int vertex1",
                "property int vertex2",
                "element material 0",
                "property int k",
            )
            + struct.pack("<f", 9)
            + packed()
            + struct.pack("<B3i", 3, 0, 1, 4)
            + bytes(16),
            CORNERS,
            [[0, 1, 4]],
        ),
        "capitals": (
            header(
                "ascii", "element vertex 1", *(line.upper().replace("PROPERTY FLOAT", "property float") for line in XYZ)
            )
            + b"1 2 3\n",
            [(1, 2, 3)],
            [],
        ),
        "a byte-order mark, a comment beyond ASCII, Windows line breaks, blank lines": (
            b"\xef\xbb\xbf"
            + header("ascii", "comment caf\xe9", "comment property float w", "element vertex 2", *XYZ, end="\r\n")
            + b"1 2 3\r\n\r\n4 5 6\r\n\r\n",
            [(1, 2, 3), (4, 5, 6)],
            [],
        ),
        "Windows line breaks before binary data that begin with one": (
            header(LITTLE, "element vertex 1", *(line.replace("float", "int") for line in XYZ), end="\r\n")
            + struct.pack("<3i", 10, 13, 2),
            [(10, 13, 2)],
            [],
        ),
        "Unix line breaks before binary data that begin with one": (
            header(LITTLE, "element vertex 1", *(line.replace("float", "int") for line in XYZ))
            + struct.pack("<3i", 10, 13, 2),
            [(10, 13, 2)],
            [],
        ),
        "old Macintosh line breaks": (
            header("ascii", "element vertex 2", *XYZ, end="\r") + b"1 2 3\r4 5 6\r",
            [(1, 2, 3), (4, 5, 6)],
            [],
        ),
        "other properties, as of splats and CloudCompare": (
            header(
                LITTLE,
                "element vertex 1",
                "property float scalar_Intensity",
                *XYZ,
                *(f"property float f_rest_{i}" for i in range(45)),
            )
            + struct.pack("<49f", 9, 1, 2, 3, *range(45)),
            [(1, 2, 3)],
            [],
        ),
        "no faces, padded": (
            header(LITTLE, "element vertex 5", *XYZ, "element face 0", FACES) + packed() + b"\0\0\n",
            CORNERS,
            [],
        ),
        "no element of faces, but their property": (
            header("ascii", "element vertex 2", *XYZ, FACES) + b"1 2 3\n4 5 6\n",
            [(1, 2, 3), (4, 5, 6)],
            [],
        ),
        "faces before vertices": (
            header("ascii", "element face 1", FACES, "element vertex 3", *XYZ) + b"3 0 1 2\n0 0 0\n1 0 0\n0 1 0\n",
            [(0, 0, 0), (1, 0, 0), (0, 1, 0)],
            [[0, 1, 2]],
        ),
        "uint corners and uint lengths": (
            header(LITTLE, "element vertex 5", *XYZ, "element face 1", "property list uint uint vertex_indices")
            + packed()
            + struct.pack("<4I", 3, 4, 3, 2),
            CORNERS,
            [[4, 3, 2]],
        ),
    }.values(),
)
def test_vertices_and_faces(tmp_path: Path, content: bytes, points: list[object], faces: list[object]) -> None:
    mesh = load_ply(written(tmp_path, content))
    assert mesh.vertices.dtype == np.float64
    assert mesh.vertices.tolist() == [list(point) for point in points]  # type: ignore[call-overload]
    assert mesh.faces.tolist() == faces


@pytest.mark.parametrize("form", ["ascii", LITTLE, "binary_big_endian"])
@pytest.mark.parametrize("sizes", [(3,), (4,), (3, 4), (3, 4, 5, 9)])
def test_as_plyfile_reads_it(tmp_path: Path, form: str, sizes: tuple[int, ...]) -> None:
    plyfile = pytest.importorskip("plyfile")
    rng = np.random.default_rng(0)
    vertices = np.empty(
        50, [("x", "f4"), ("nx", "f8"), ("y", "f4"), ("z", "f4"), ("red", "u1"), ("green", "u1"), ("blue", "u1")]
    )
    for name in vertices.dtype.names or ():
        vertices[name] = rng.integers(0, 255, 50)
    faces = np.empty(40, [("quality", "f4"), ("vertex_indices", "O"), ("tag", "i2")])
    faces["quality"], faces["tag"] = 0.5, 3
    for i in range(40):
        faces["vertex_indices"][i] = rng.permutation(50)[: sizes[i % len(sizes)]].astype("i4")
    elements = [plyfile.PlyElement.describe(vertices, "vertex"), plyfile.PlyElement.describe(faces, "face")]
    order = {"ascii": "=", LITTLE: "<", "binary_big_endian": ">"}[form]
    plyfile.PlyData(elements, text=form == "ascii", byte_order=order).write(tmp_path / "a.ply")

    mesh = load_ply(tmp_path / "a.ply")
    np.testing.assert_array_equal(mesh.vertices, np.stack([vertices[axis] for axis in "xyz"], 1))
    assert mesh.colors is not None
    np.testing.assert_array_equal(mesh.colors, np.stack([vertices[name] for name in ("red", "green", "blue")], 1))
    # Whatever the cut, the corners of a polygon are those of its triangles.
    assert len(mesh.faces) == sum(len(face) - 2 for face in faces["vertex_indices"])
    at = 0
    for face in faces["vertex_indices"]:
        assert set(mesh.faces[at : at + len(face) - 2].ravel()) == set(face)
        at += len(face) - 2


@pytest.mark.parametrize(
    ("properties", "row", "color"),
    [
        (["uchar red", "uchar green", "uchar blue", "uchar alpha"], "10 20 30 255", [10, 20, 30]),
        (["uchar diffuse_red", "uchar diffuse_green", "uchar diffuse_blue"], "10 20 30", [10, 20, 30]),
        (["uchar red", "uchar green", "uchar blue"], "1 0 1", [1, 0, 1]),
        (["float red", "float green", "float blue"], "1 0 1", [255, 0, 255]),
        (["uchar r", "uchar g", "uchar b"], "10 20 30", [10, 20, 30]),
        (["float red", "float green", "float blue"], "0 0.5 1", [0, 128, 255]),
        (["float Red", "float Green", "float Blue"], "10 20 255", [10, 20, 255]),
        (["uchar blue", "uchar green", "uchar red"], "10 20 30", [30, 20, 10]),
    ],
)
def test_colors(tmp_path: Path, properties: list[str], row: str, color: list[int]) -> None:
    lines = [*XYZ, *(f"property {line}" for line in properties)]
    file = written(tmp_path, header("ascii", "element vertex 1", *lines) + f"1 2 3 {row}\n".encode())
    points, colors = read_mesh(file)
    assert points is not None
    assert points.tolist() == [[1, 2, 3]]
    assert colors is not None
    assert colors.tolist() == [color]


def test_colors_of_16_bits(tmp_path: Path) -> None:
    lines = [*XYZ, *(f"property ushort {name}" for name in ("red", "green", "blue"))]
    content = header(LITTLE, "element vertex 1", *lines) + struct.pack("<3f3H", 1, 2, 3, 0, 32768, 65535)
    colors = load_ply(written(tmp_path, content)).colors
    assert colors is not None
    assert colors.tolist() == [[0, 128, 255]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "line 1 must be `ply`"),
        (b"plx\nformat ascii 1.0\nend_header\n", "line 1 must be `ply`"),
        (b"ply\nformat ascii 1.0\nelement vertex 1\n", "cut off within its header"),
        (b"ply\nelement vertex 0\nproperty float x\nend_header\n", "no line `format`"),
        (b"ply\nformat ascii 1.0\nelement vertex -1\nend_header\n", "line 3: `element vertex -1`"),
        (b"ply\nformat ascii 1.0\nelement vertex\nend_header\n", "line 3: `element vertex`"),
        (header("ascii", "element vertex 1", "property half x"), "line 4: `property half x`"),
        (header("ascii", "property float x"), "line 3: `property float x`"),
        (header("ascii", "element vertex 1", "property list float int x"), "line 4: `property list float"),
        (
            header("ascii", "element chunk 1", "property float min_x") + b"1\n",
            "no element `vertex`: the file has chunk",
        ),
        (header("ascii", "element vertex 1", *XYZ[:2]) + b"1 2\n", "must have x, y and z once each: it has x, y"),
        (header("ascii", "element vertex 1", XYZ[0], *XYZ) + b"1 1 2 3\n", "once each"),
        (header("ascii", "element vertex 5", *XYZ) + b"0 0 0\n1 0 0\n2 0 0\n", "vertex 5`, the file holds 3"),
        (header(LITTLE, "element vertex 5", *XYZ) + packed()[:-1], "vertex 5`, the file holds 4"),
        (
            header(LITTLE, "element vertex 5", *XYZ, "element face 3", FACES) + packed() + TRIANGLES_AND_QUADS[:-1],
            "face 3`, the file holds 2",
        ),
        (
            header("ascii", "element vertex 3", *XYZ, "element face 2", FACES) + b"0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n",
            "face 2`, the file holds 1",
        ),
        (header(LITTLE, "element vertex 4000000000", *XYZ) + packed(), "the file holds 5"),
        (header(LITTLE, "element vertex 99999999999999999999", *XYZ) + packed(), "the file holds 5"),
        (header("ascii", "element vertex 99999999999999999999", *XYZ) + b"0 0 0\n", "the file holds 1"),
        (
            header(LITTLE, "element vertex 2", *XYZ, "property list uint double w")
            + struct.pack("<3fI3fI", 0, 0, 0, 2**32 - 1, 0, 0, 0, 1),
            "vertex 2`, the file holds 0",
        ),
        (
            header(LITTLE, "element vertex 1", *XYZ, "property list char int w") + struct.pack("<3fb", 0, 0, 0, -1),
            "row 0: a list of -1 values",
        ),
        (
            header("ascii", "element vertex 1", *XYZ) + b"1 2 3\n4 5 6\n",
            "line 9: beyond what the header declares (lines too many: 1)",
        ),
        (header(LITTLE, "element vertex 1", *XYZ) + packed(), "48 bytes more than the header declares"),
        (header("ascii", "element vertex 2", *XYZ) + b"1 2 3\n1 2\n", "line 9: 2 values where 3 must stand"),
        (header("ascii", "element vertex 2", *XYZ) + b"1 2 3\n1 2 3 4\n", "line 9: 4 values where 3 must stand"),
        (header("ascii", "element vertex 1", *XYZ) + b"1 2,5 3\n", "line 8: `2,5` must be a number"),
        (
            header("ascii", "element vertex 1", *XYZ, "element face 1", FACES) + b"1 2 3\n3 0 0\n",
            "line 11: `vertex_indices` has 2 values where 3 must stand",
        ),
        (
            header("ascii", "element vertex 1", *XYZ, "element face 1", FACES) + b"1 2 3\n3 0 0 0 0\n",
            "line 11: 5 values where 4 must stand",
        ),
        (
            header("ascii", "element vertex 1", *XYZ, "element face 1", FACES) + b"1 2 3\n3 0 1 0\n",
            "line 11: face 0: vertex 1 must be one of the 1 vertices",
        ),
        (
            header(LITTLE, "element vertex 5", *XYZ, "element face 1", FACES)
            + packed()
            + struct.pack("<B3i", 3, 0, 1, -2),
            "face 0: vertex -2 must be one of the 5",
        ),
        (
            header("ascii", "element vertex 1", *XYZ, "element face 1", "property int v1") + b"1 2 3\n0\n",
            "must have a list `vertex_indices`",
        ),
        (header("ascii", "element vertex 0", *XYZ), "holds no vertices"),
    ],
)
def test_what_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    file = written(tmp_path, content)
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        read_mesh(file)
    assert str(error.value).startswith(f"`{file}`: ")


def test_what_microsoft_prints_for_nan(tmp_path: Path) -> None:
    file = written(tmp_path, header("ascii", "element vertex 2", *XYZ) + b"1 2 3\n-nan(ind) 1.#QNAN -1.#IND00\n")
    assert np.isnan(load_ply(file).vertices[1]).all()
    with pytest.raises(ValueError, match=r"vertex 1 .*must be finite"):
        read_mesh(file)
    cloud = read_mesh(file, drop_invalid=True)
    assert cloud.points.tolist() == [[1, 2, 3]]
    assert cloud.num_dropped == 1
