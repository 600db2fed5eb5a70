"""STL files, binary and in text."""

import os
import struct

import numpy as np
from numpy.typing import NDArray

from pcsa.datasets.faults import reading
from pcsa.datasets.limits import read_whole
from pcsa.datasets.meshes.rows import text_lines
from pcsa.datasets.meshes.triangles import Mesh, triangulate

_TRIANGLE = np.dtype([("normal", "<f4", (3,)), ("vertices", "<f4", (3, 3)), ("attribute", "<u2")])
_HEADER = 84


def load_stl(path: str | os.PathLike[str]) -> Mesh:
    """Read the triangles of an `.stl` file; each has vertices of its own. Colors are skipped.

    The reader is our own: trimesh takes a binary file for text if its size does not fit, and a text that is cut off
    for one without triangles.

    Args:
        path: The file.

    Returns:
        The mesh, all solids of the file in one. Vertices may be NaN.

    Raises:
        ValueError: If a binary file holds another number of triangles than it declares, or a text is cut off or
            holds anything else. The message names the file.

    """
    with reading(path, "an STL file"):
        raw = read_whole(path)
        declared = struct.unpack_from("<I", raw, 80)[0] if len(raw) >= _HEADER else None
        # A binary file may begin with `solid` too: the size of the file decides.
        if declared is not None and len(raw) == _HEADER + declared * _TRIANGLE.itemsize:
            return _binary(raw, declared)
        text = raw.removeprefix(b"\xef\xbb\xbf").lstrip()
        if text[:5].lower() == b"solid" and b"\0" not in raw and (b"facet" in text.lower() or b"endsolid" in text):
            return _text(raw.removeprefix(b"\xef\xbb\xbf"))
        if declared is None:
            raise ValueError(f"not an STL file, or cut off: {len(raw)} bytes that do not begin with `solid`")
        if raw[_HEADER + declared * _TRIANGLE.itemsize :].strip(b"\0\r\n \t") or len(raw) < _HEADER + declared * 50:
            held = (len(raw) - _HEADER) / _TRIANGLE.itemsize
            cut = " (cut off?)" * (held < declared)
            raise ValueError(f"the header declares {declared} triangles, the file holds {held:.6g}{cut}")
        return _binary(raw, declared)


def _binary(raw: bytes, count: int) -> Mesh:
    table = np.frombuffer(raw, _TRIANGLE, count, _HEADER)
    return Mesh(table["vertices"].reshape(-1, 3).astype(np.float64), np.arange(3 * count).reshape(-1, 3))


def _text(raw: bytes) -> Mesh:
    vertices_of_one = _one_solid(raw)
    if vertices_of_one is not None:
        return Mesh(vertices_of_one, np.arange(len(vertices_of_one)).reshape(-1, 3))
    lines = text_lines(raw)
    vertices: list[list[float]] = []
    counts: list[int] = []
    size = 0
    inside = ""  # the solid or facet that has not ended yet
    begins = {"solid": "", "facet": "solid", "vertex": "facet", "endfacet": "facet", "endsolid": "solid"}
    after = {"solid": "endsolid", "facet": "solid` or `endfacet", "endsolid": "endfacet"}
    for text, number in zip(*lines, strict=True):
        words = text.split()
        key = words[0].lower()
        if key not in (*begins, "outer", "endloop", "color"):
            raise ValueError(f"line {number}: `{text.strip()[:60]}` is no line of an STL file")
        if begins.get(key, inside) != inside:
            raise ValueError(f"line {number}: `{text.strip()[:60]}` must stand after `{after.get(key, 'facet')}`")
        if key == "vertex":
            try:
                x, y, z = map(float, words[1:])
            except ValueError:
                raise ValueError(f"line {number}: `{text.strip()[:60]}` must have three numbers") from None
            vertices.append([x, y, z])
            size += 1
        elif key == "endfacet":
            if size < 3:
                raise ValueError(f"line {number}: a facet of {size} vertices must have 3")
            counts.append(size)
            inside = "solid"
        elif key in ("solid", "facet"):
            inside, size = key, 0
        elif key == "endsolid":
            inside = ""
    if inside:
        raise ValueError(f"cut off: no `end{inside}` after line {lines.numbers[-1]}")
    points = np.array(vertices, np.float64).reshape(-1, 3)
    return Mesh(points, triangulate(points, np.arange(len(points)), np.array(counts, np.int64)))


def _one_solid(raw: bytes) -> NDArray[np.float64] | None:
    """Read a text of one solid of triangles, as most are, in a tenth of the time; None if it is anything else."""
    name, _, body = raw.strip().partition(b"\n")
    body, _, end = body.rpartition(b"endsolid")
    words = body.split()
    if b"\n" in end or len(words) % 21 or not name.lower().startswith(b"solid"):
        return None
    pattern = b"facet normal _ _ _ outer loop vertex _ _ _ vertex _ _ _ vertex _ _ _ endloop endfacet".split()
    if any(key != b"_" and set(words[i::21]) - {key} for i, key in enumerate(pattern)):
        return None
    try:
        columns = [np.array(list(map(float, words[i::21]))) for first in (8, 12, 16) for i in range(first, first + 3)]
    except ValueError:
        return None
    return np.stack(columns, axis=1).reshape(-1, 3)
