"""Wavefront OBJ files."""

import os
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pcsa.datasets.colors import color_bytes
from pcsa.datasets.faults import reading
from pcsa.datasets.limits import read_whole
from pcsa.datasets.meshes.triangles import Mesh, check_corners, triangulate

_SURFACES = ("surf", "bzp", "bsp", "cdp", "res")
_OTHER_FILES = ("call", "csh")


def load_obj(path: str | os.PathLike[str]) -> Mesh:
    """Read the vertices, faces and vertex colors of an `.obj` file.

    Lines `v` have `x y z`, then a weight (which only free-form curves have, and which is skipped), or `r g b`. Lines
    `f` count the vertices from 1, or back from the last vertex *before the line*. Objects, groups, materials,
    textures, normals, lines and points are skipped, and so is a file of materials that is missing.

    The reader is our own: trimesh counts negative vertices back from the end of the file, and both it and Open3D
    guess what a line with a corner too many, or a vertex that is missing, may mean.

    Args:
        path: The file.

    Returns:
        The mesh, with no faces where the file is a cloud. Polygons are cut as
        :func:`~pcsa.datasets.meshes.triangles.triangulate` says. Vertices may be NaN.

    Raises:
        ValueError: If a line cannot be read, a face has a corner that is not a vertex, or the file has free-form
            surfaces or calls other files. The message names the file and the line.

    """
    with reading(path, "an OBJ file"):
        raw = read_whole(path)
        if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
            return _parse(raw.decode("utf-16"))
        if b"\0" in raw:
            raise ValueError("not an OBJ file: it holds bytes of zero")
        return _parse(raw.removeprefix(b"\xef\xbb\xbf").decode("latin-1"))


def _parse(text: str) -> Mesh:
    vertex_words: list[str] = []
    widths: list[int] = []
    vertex_lines: list[int] = []
    corner_words: list[str] = []
    counts: list[int] = []
    before: list[int] = []  # vertices before each face
    face_lines: list[int] = []
    for number, line in enumerate(_lines(text), 1):
        words = line.split()
        if not words:
            continue
        key = words[0]
        if key == "v":
            vertex_words += words[1:]
            widths.append(len(words) - 1)
            vertex_lines.append(number)
        elif key in ("f", "fo"):
            corner_words += words[1:]
            counts.append(len(words) - 1)
            before.append(len(widths))
            face_lines.append(number)
        elif key in _SURFACES:
            raise ValueError(f"line {number}: `{key}` begins a free-form surface: only polygons can be read")
        elif key in _OTHER_FILES:
            raise ValueError(f"line {number}: `{key}` calls another file, which is not read")
    vertices, colors = _vertices(vertex_words, widths, vertex_lines)
    sizes = np.array(counts, np.int64)
    index = _corners(corner_words, sizes, np.array(before, np.int64), face_lines)
    check_corners(index, sizes, len(vertices), face_lines)
    return Mesh(vertices, triangulate(vertices, index, sizes), colors)


def _lines(text: str) -> list[str]:
    """Return the lines without comments; one that ends with a backslash goes on in the next, which holds them all."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    if "#" in text:
        lines = [line.partition("#")[0] for line in lines]
    if "\\\n" in text or "\\\r" in text:
        for i, line in enumerate(lines[:-1]):
            line = lines[i]
            # The path of a file of materials may end with a backslash as well.
            if line.endswith("\\") and line.lstrip()[:3] not in ("mtl", "use"):
                lines[i], lines[i + 1] = "", f"{line[:-1]} {lines[i + 1]}"
    return lines


def _vertices(
    words: list[str], widths: list[int], lines: list[int]
) -> tuple[NDArray[np.float64], NDArray[np.uint8] | None]:
    for width, number in zip(widths, lines, strict=True):
        if width not in (3, 4, 6, 7):
            raise ValueError(f"line {number}: `v` must have 3, 4, 6 or 7 numbers, has {width}")
    starts = np.cumsum([0, *widths])[:-1]
    try:
        values = np.array(list(map(float, words)))
    except ValueError:
        place, word = _first_odd(words, float)
        line = lines[int(np.searchsorted(starts, place, side="right")) - 1]
        raise ValueError(f"line {line}: `{word[:40]}` must be a number") from None
    colors = None
    if widths and min(widths) >= 6:
        colors = color_bytes(values[starts[:, None] + [3, 4, 5]])
    return values[starts[:, None] + np.arange(3)] if widths else np.empty((0, 3)), colors


def _corners(
    words: list[str], counts: NDArray[np.int64], before: NDArray[np.int64], lines: list[int]
) -> NDArray[np.int64]:
    """Return the vertices of the corners, from 0."""
    try:
        index = np.array(list(map(_corner, words)), np.int64)
    except (ValueError, OverflowError):
        place, word = _first_odd(words, _corner)
    else:
        before = np.repeat(before, counts)
        wrong = (index == 0) | (index < -before)
        if not wrong.any():
            return np.where(index > 0, index - 1, index + before)
        place = int(wrong.argmax())
        word = words[place]
    line = lines[int(np.searchsorted(np.cumsum(counts), place, side="right"))]
    raise ValueError(
        f"line {line}: corner `{word[:40]}` must be a vertex: counted from 1, or back from -1 for the last one before "
        "the line"
    )


def _corner(word: str) -> int:
    return int(word.partition("/")[0])


def _first_odd(words: list[str], parse: Callable[[str], object]) -> tuple[int, str]:
    for place, word in enumerate(words):
        try:
            value = parse(word)
        except ValueError:
            return place, word
        if isinstance(value, int) and abs(value) >= 2**63:
            return place, word
    raise ValueError("the numbers cannot be read")
