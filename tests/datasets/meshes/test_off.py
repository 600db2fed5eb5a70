import re
from pathlib import Path

import pytest

from pcsa.datasets.meshes import read_mesh
from pcsa.datasets.meshes.off import load_off

SQUARE = "0 0 0\n1 0 0\n1 1 0\n0 1 0\n"
COLORED = "0 0 0 10 20 30 255\n1 0 0 10 20 30 255\n1 1 0 10 20 30 255\n0 1 0 10 20 30 255\n"


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "a.off"
    file.write_bytes(text.encode("latin-1"))
    return file


@pytest.mark.parametrize(
    "text",
    {
        "plain": f"OFF\n4 1 0\n{SQUARE}4 0 1 2 3\n",
        "no number of edges, no last line break": f"OFF\n4 1\n{SQUARE}4 0 1 2 3",
        "a small name": f"off\n4 1 0\n{SQUARE}4 0 1 2 3\n",
        "counts behind the name": f"OFF 4 1 0\n{SQUARE}4 0 1 2 3\n",
        "counts glued to the name": f"OFF4 1 0\n{SQUARE}4 0 1 2 3\n",
        "comments, blanks, Windows": f"# caf\xe9\n\nOFF # x\n\n4 1 0 # counts\n{SQUARE}\n4  0 1 2 3\n".replace(
            "\n", "\r\n"
        ),
        "colors of faces": f"OFF\n4 1 0\n{SQUARE}4 0 1 2 3 255 0 0\n",
        "a color map of faces": f"OFF\n4 1 0\n{SQUARE}4 0 1 2 3 7\n",
        "an edge as a face": f"OFF\n4 2 0\n{SQUARE}2 0 1\n4 0 1 2 3\n",
        "normals": "NOFF\n4 1 0\n" + SQUARE.replace("\n", " 0 0 1\n") + "4 0 1 2 3\n",
        "textures": "STOFF\n4 1 0\n" + SQUARE.replace("\n", " 0.5 1\n") + "4 0 1 2 3\n",
    }.values(),
)
def test_one_square(tmp_path: Path, text: str) -> None:
    mesh = load_off(written(tmp_path, text))
    assert mesh.vertices.tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]
    assert mesh.faces.tolist() == [[0, 1, 2], [0, 2, 3]]
    assert mesh.colors is None


def test_triangles_and_a_cloud(tmp_path: Path) -> None:
    assert load_off(written(tmp_path, f"OFF\n4 2 0\n{SQUARE}3 0 1 2\n3 0 2 3")).faces.tolist() == [[0, 1, 2], [0, 2, 3]]
    assert len(read_mesh(written(tmp_path, f"OFF\n4 0 0\n{SQUARE}")).points) == 4


@pytest.mark.parametrize(
    "text",
    [
        f"COFF\n4 1 0\n{COLORED}4 0 1 2 3\n",
        f"COFF\n4 1 0\n{COLORED.replace(' 255', '')}4 0 1 2 3\n",
        f"CNOFF\n4 1 0\n{COLORED.replace('0 10 20', '0 0 0 1 10 20')}4 0 1 2 3\n",
        f"COFF\n4 1 0\n{COLORED.replace('10 20 30 255', '0.0392 0.0784 0.1176 1')}4 0 1 2 3\n",
    ],
)
def test_colors_of_vertices(tmp_path: Path, text: str) -> None:
    cloud = read_mesh(written(tmp_path, text), 5)
    assert cloud.colors is not None
    assert cloud.colors.tolist() == [[10, 20, 30]] * 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1 must begin with `OFF`"),
        ("8 6 12\n", "line 1 must begin with `OFF`"),
        ("OFF\n", "the line after `OFF` must be the numbers of vertices, faces and edges"),
        ("OFF\na b c\n", "line 2: `a b c` must be the numbers"),
        ("OFF\n-1 0 0\n", "line 2: `-1 0 0` must be the numbers"),
        ("OFF BINARY\n\0\0", "binary OFF is not read"),
        (f"4OFF\n4 1 0\n{SQUARE}4 0 1 2 3\n", "line 1: `4OFF` must have vertices of x, y and z"),
        (f"OFF\n5 1 0\n{SQUARE}4 0 1 2 3\n", "declares 5 vertices and 1 faces, 5 lines of them follow"),
        (f"OFF\n4 2 0\n{SQUARE}4 0 1 2 3\n", "declares 4 vertices and 2 faces, 5 lines of them follow"),
        (f"OFF\n4 1 0\n{SQUARE}3 0 1 2\n3 0 2 3\n", "declares 4 vertices and 1 faces, 6 lines of them follow"),
        (f"OFF\n99999999999999 1 0\n{SQUARE}4 0 1 2 3\n", "declares 99999999999999 vertices"),
        (f"OFF\n4 1 0\n{SQUARE}4 0 1 2\n", "line 7: a face of 4 corners has 3"),
        (f"OFF\n4 1 0\n{SQUARE}4 0 1 2 4\n", "line 7: face 0: vertex 4 must be one of the 4 vertices"),
        (f"OFF\n4 1 0\n{SQUARE}3 0 1 -1\n", "line 7: face 0: vertex -1 must be one of the 4"),
        (f"OFF\n4 1 0\n{SQUARE}-3 0 1 1\n", "line 7: `-3 0 1 1` must begin with"),
        (f"OFF\n4 1 0\n{SQUARE}x\n", "line 7: `x` must begin with"),
        ("OFF\n1 0 0\n0 0\n", "line 3: 2 values where 3 must stand"),
        ("OFF\n1 0 0\n0 0 x\n", "line 3: `x` must be a number"),
        ("OFF\n0 0 0\n", "holds no vertices"),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, message: str) -> None:
    file = written(tmp_path, text)
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        read_mesh(file)
    assert str(error.value).startswith(f"`{file}`: ")
