import re
from pathlib import Path

import numpy as np
import pytest
import trimesh

from pcsa.datasets.meshes import read_mesh
from pcsa.datasets.meshes.obj import load_obj


def box(at: float) -> tuple[list[str], list[tuple[int, ...]]]:
    corners = [f"v {x + at} {y} {z}" for z in (0, 1) for y in (0, 1) for x in (0, 1)]
    quads = [(1, 3, 4, 2), (5, 6, 8, 7), (1, 2, 6, 5), (3, 7, 8, 4), (1, 5, 7, 3), (2, 4, 8, 6)]
    return corners, quads


def written(tmp_path: Path, text: str | bytes) -> Path:
    file = tmp_path / "a.obj"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def test_negative_corners_count_back_from_their_line(tmp_path: Path) -> None:
    lines = []
    for at in (0.0, 10.0):
        corners, quads = box(at)
        lines += [*corners, *("f " + " ".join(f"{i - 9}//" for i in quad) for quad in quads)]
    file = written(tmp_path, "\n".join(lines))
    mesh = load_obj(file)
    assert mesh.faces[:12].max() == 7
    assert mesh.faces[12:].min() == 8
    points = read_mesh(file, 1000).points
    assert 430 < (points[:, 0] > 5).sum() < 570
    assert np.isin(points - [10, 0, 0] * (points[:, :1] > 5), (0.0, 1.0)).any(1).all()


@pytest.mark.parametrize(
    "text",
    {
        "plain": "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nf 1 2 3 4",
        "all kinds of corners": "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nvt 0 0\nvn 0 0 1\nf 1/1 2/1/1 3//1 4",
        "groups, materials, smoothing": "mtllib none.mtl\no a\ng b c\nusemtl d\ns off\n"
        "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nf 1 2 3 4",
        "weights": "v 0 0 0 1.0\nv 1 0 0 2.0\nv 1 1 0 1\nv 0 1 0 1\nf 1 2 3 4",
        "comments and blanks": "# caf\xe9\n\n  v 0 0 0 # first\n\tv\t1 0 0\nv 1 1 0 \nv 0 1 0\nf 1 2 3 4 # end",
        "lines that go on": "v 0 \\\n0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nf 1 2 \\\n 3 4\n",
        "Windows": "\ufeffmtllib C:\\a\\\r\nv 0 0 0\r\nv 1 0 0\r\nv 1 1 0\r\nv 0 1 0\r\nf 1 2 3 4\r\n",
        "faces before vertices": "f 1 2 3 4\nv 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\n",
        "lines, points and curves": "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nl 1 2\np 1\nvp 0 1\ncurv2 1 2\nf 1 2 3 4",
    }.values(),
)
def test_one_square(tmp_path: Path, text: str) -> None:
    mesh = load_obj(written(tmp_path, text))
    assert mesh.vertices.tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]
    assert mesh.faces.tolist() == [[0, 1, 2], [0, 2, 3]]
    assert mesh.colors is None


@pytest.mark.parametrize(
    ("tail", "color"), [("0 0.5 1", [0, 128, 255]), ("10 20 255", [10, 20, 255]), ("0 0.5 1 1", [0, 128, 255])]
)
def test_colors(tmp_path: Path, tail: str, color: list[int]) -> None:
    file = written(tmp_path, "".join(f"v {corner} {tail}\n" for corner in ("0 0 0", "1 0 0", "0 1 0")) + "f 1 2 3")
    cloud = read_mesh(file, 7)
    assert cloud.colors is not None
    assert cloud.colors.tolist() == [color] * 7


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "latin-1"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    text = "o caf\xe9\r\nv 0 0 0\r\nv 1 0 0\r\nv 0 1 0\r\nf 1 2 3\r\n"
    mesh = load_obj(written(tmp_path, text.encode(encoding)))
    assert mesh.vertices.tolist() == [[0, 0, 0], [1, 0, 0], [0, 1, 0]]
    assert mesh.faces.tolist() == [[0, 1, 2]]


def test_ten_digits_are_kept(tmp_path: Path) -> None:
    cloud = read_mesh(written(tmp_path, "v 691000.1234 4600000.5678 12.5\nv 691001 4600001 13"))
    assert cloud.points.tolist() == [[691000.1234, 4600000.5678, 12.5], [691001, 4600001, 13]]


def test_as_trimesh_reads_it(tmp_path: Path) -> None:
    sphere = trimesh.creation.icosphere(2)
    sphere.export(tmp_path / "a.obj", digits=17)
    mesh = load_obj(tmp_path / "a.obj")
    np.testing.assert_allclose(mesh.vertices, sphere.vertices, atol=1e-15)
    np.testing.assert_array_equal(mesh.faces, sphere.faces)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("v 0 0 0\nv 1 0 0\nf 1 2 3", "line 3: face 0: vertex 2 must be one of the 2 vertices, from 0"),
        ("v 0 0 0\nf -1 -2 -3\nv 0 0 0", "line 2: corner `-2` must be a vertex"),
        ("v 0 0 0\nf 0 1 1", "line 2: corner `0` must be a vertex"),
        ("v 0 0 0\nf a b c", "line 2: corner `a` must be a vertex"),
        ("v 0 0 0\nf 1.0 1 1", "line 2: corner `1.0` must be a vertex"),
        ("v 0 0 0\nf 1 1 1\nf 1 1\nf 1 99999999999999999999 1", "line 4: corner `99999999999999999999` must be"),
        ("v 0 0 0\nf 1 1 1\nf 1 1//\nf 1 //1 1", "line 4: corner `//1` must be"),
        ("v 0 0 0\nv 0 0", "line 2: `v` must have 3, 4, 6 or 7 numbers, has 2"),
        ("v 0 0 0\nv 0,5 0 0", "line 2: `0,5` must be a number"),
        ("v 0 0 0\n\nsurf 0 1 0 1 1 1", "line 3: `surf` begins a free-form surface"),
        ("call other.obj", "line 1: `call` calls another file"),
        ("v nan 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3", "vertex 0 (=nan 0 0) must be finite"),
        ("v 1e999 0 0\nv 1 0 0", "vertex 0 (=inf 0 0) must be finite"),
        ("# nothing\n", "holds no vertices"),
        ("v 0 0 0\nv 1 0 0\nv 2 0 0\nf 1 2 3\n", "no area"),
        ("v 0 0 0\nf 1 1 1\n", "no area"),
        ("v 0 0 0\nv\0 \0", "bytes of zero"),
        ("\xff\xfev\0 ", "cannot be read as an OBJ file (UnicodeDecodeError"),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, message: str) -> None:
    file = written(tmp_path, text.encode("latin-1"))
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        read_mesh(file)
    assert str(error.value).startswith(f"`{file}`: ")
