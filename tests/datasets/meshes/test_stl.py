import re
import struct
from pathlib import Path

import pytest

from pcsa.datasets.meshes import read_mesh
from pcsa.datasets.meshes.stl import load_stl

CORNERS = [[0, 0, 0], [1, 0, 0], [0, 1, 0]]
FACET = "facet normal 0 0 1\n outer loop\n  vertex 0 0 0\n  vertex 1 0 0\n  vertex 0 1 0\n endloop\nendfacet\n"


def binary(declared: int, held: int, head: bytes = b"made by a test") -> bytes:
    triangle = struct.pack("<12fH", 0, 0, 1, *(value for corner in CORNERS for value in corner), 0)
    return head.ljust(80, b" ") + struct.pack("<I", declared) + triangle * held


@pytest.mark.parametrize(
    ("content", "count"),
    {
        "binary": (binary(2, 2), 2),
        "binary that begins like text": (binary(2, 2, b"solid facet"), 2),
        "binary, padded": (binary(2, 2) + bytes(30), 2),
        "text": (f"solid a b\n{FACET * 2}endsolid a b\n".encode(), 2),
        "two solids, capitals, Windows": (
            f"SOLID vertex\n{FACET}endsolid\nsolid\n{FACET}ENDSOLID".upper().replace("\n", "\r\n").encode(),
            2,
        ),
        "no name, a name beyond ASCII": (f"solid\n{FACET}endsolid caf\xe9\n".encode("latin-1"), 1),
        "a byte-order mark": (f"\ufeffsolid\n{FACET}endsolid\n".encode(), 1),
    }.values(),
)
def test_triangles(tmp_path: Path, content: bytes, count: int) -> None:
    (tmp_path / "a.stl").write_bytes(content)
    mesh = load_stl(tmp_path / "a.stl")
    assert mesh.vertices[mesh.faces].tolist() == [CORNERS] * count


def test_text_keeps_its_digits(tmp_path: Path) -> None:
    text = f"solid\n{FACET}endsolid".replace("vertex 0", "vertex 691000.123456")
    (tmp_path / "a.stl").write_text(text)
    assert load_stl(tmp_path / "a.stl").vertices[0].tolist() == [691000.123456, 0, 0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an STL file, or cut off"),
        (b"solid", "not an STL file, or cut off"),
        (binary(2, 1), "declares 2 triangles, the file holds 1 "),
        (binary(2, 2)[:-10], "declares 2 triangles, the file holds 1.8 "),
        (binary(1, 2), "declares 1 triangles, the file holds 2"),
        (binary(2**32 - 1, 2), "declares 4294967295 triangles"),
        (binary(0, 0), "holds no vertices"),
        (f"solid\n{FACET}".encode(), "cut off: no `endsolid`"),
        (f"solid\n{FACET}{FACET[:-9]}".encode(), "cut off: no `endfacet`"),
        (f"solid\n{FACET}solid\n{FACET}endsolid".encode(), "line 9: `solid` must stand after `endsolid`"),
        (f"solid\n{FACET[:-9]}{FACET}endsolid".encode(), "line 8: `facet normal 0 0 1` must stand after"),
        (
            f"solid\n{FACET}endsolid".replace("vertex 1 0 0", "vertex 1 0").encode(),
            "line 5: `vertex 1 0` must have three",
        ),
        (f"solid\n{FACET}endsolid".replace("vertex 1 0 0", "").encode(), "a facet of 2 vertices"),
        (f"solid\n{FACET}endsolid".replace("1", "x").encode(), "`vertex x 0 0` must have three"),
        (f"solid\n{FACET}what\nendsolid".encode(), "line 9: `what` is no line of an STL file"),
        (b"solid\nendsolid\n", "holds no vertices"),
    ],
)
def test_what_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "a.stl"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        read_mesh(file)
    assert str(error.value).startswith(f"`{file}`: ")
