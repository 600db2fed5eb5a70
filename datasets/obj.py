"""Wavefront OBJ files."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pcsa.datasets.colors import color_bytes
from pcsa.datasets.faults import reading
from pcsa.datasets.triangles import Mesh, check_corners, triangulate

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
        :func:`~pcsa.datasets.triangles.triangulate` says. Vertices may be NaN.

    Raises:
        ValueError: If a line cannot be read, a face has a corner that is not a vertex, or the file has free-form
            surfaces or calls other files. The message names the file and the line.

    """
    with reading(path, "an OBJ file"):
        raw = Path(path).read_bytes()
        if raw.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in raw[:4096]:
            raise ValueError("not an OBJ file: it holds bytes of zero (UTF-16? save it as UTF-8)")
        return _parse(raw.removeprefix(b"\xef\xbb\xbf").decode("latin-1"))


def _parse(text: str) -> Mesh:
    vertices: list[list[float]] = []
    index: list[int] = []
    counts: list[int] = []
    places: list[int] = []
    for number, line in _lines(text):
        words = line.split()
        try:
            if words[0] == "v":
                vertex = list(map(float, words[1:]))
                if len(vertex) not in (3, 4, 6, 7):
                    raise ValueError
                vertices.append(vertex)
            elif words[0] in ("f", "fo"):
                corners = [int(word.partition("/")[0]) for word in words[1:]]
                if 0 in corners or not corners:
                    raise ValueError
                if min(corners) < -len(vertices):
                    raise ValueError(f"line {number}: vertex {min(corners)} of only {len(vertices)} before the line")
                index += [corner - 1 if corner > 0 else corner + len(vertices) for corner in corners]
                counts.append(len(corners))
                places.append(number)
        except ValueError as error:
            if str(error).startswith("line"):
                raise
            rule = "3, 4, 6 or 7 numbers after `v`" if words[0] == "v" else "whole numbers after `f`, none of them 0"
            raise ValueError(f"line {number}: `{line.strip()[:60]}` must have {rule}") from None
        if words[0] in _SURFACES:
            raise ValueError(f"line {number}: `{words[0]}` begins a free-form surface: only polygons can be read")
        if words[0] in _OTHER_FILES:
            raise ValueError(f"line {number}: `{words[0]}` calls another file, which is not read")
    points = np.array([vertex[:3] for vertex in vertices], np.float64).reshape(-1, 3)
    sizes = np.array(counts, np.int64)
    corners_from_0 = np.array(index, np.int64)
    check_corners(corners_from_0, sizes, len(points), places)
    colors = None
    if vertices and min(map(len, vertices)) >= 6:
        colors = color_bytes(np.array([vertex[3:6] for vertex in vertices]))
    return Mesh(points, triangulate(points, corners_from_0, sizes), colors)


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield the lines that hold something, each with its number; a backslash at the end goes on in the next one."""
    before, first = "", 0
    for number, line in enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), 1):
        # The path of a file of materials may end with a backslash as well.
        if line.endswith("\\") and line.lstrip()[:3] not in ("mtl", "use"):
            before, first = before + line[:-1] + " ", first or number
            continue
        whole = (before + line).partition("#")[0]
        if whole.strip():
            yield first or number, whole
        before, first = "", 0
    if before.strip():
        yield first, before
