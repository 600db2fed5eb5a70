"""OFF files, in text."""

import os
import re

import numpy as np

from pcsa.datasets.colors import color_bytes
from pcsa.datasets.faults import reading
from pcsa.datasets.limits import read_whole
from pcsa.datasets.meshes.rows import Lines, number_rows, text_lines
from pcsa.datasets.meshes.triangles import Mesh, check_corners, triangulate


def load_off(path: str | os.PathLike[str]) -> Mesh:
    """Read the vertices, faces and vertex colors of an `.off` file.

    The first line is `OFF`, `COFF` (colors), `NOFF` (normals), `STOFF` (textures) or several of these letters, and
    may have the counts behind it, as in ModelNet's `OFF490 518 0`. Normals, textures and colors of faces are skipped.

    The reader is our own: trimesh reads no colors, takes fewer faces than the header declares, and takes the header
    `4OFF` for `OFF`.

    Args:
        path: The file.

    Returns:
        The mesh. Polygons are cut as :func:`~pcsa.datasets.meshes.triangles.triangulate` says. Vertices may be NaN.

    Raises:
        ValueError: If the file holds other numbers of vertices and faces than its header declares, is binary, has
            vertices that are not three-dimensional, or a face has a corner that is not a vertex. The message names
            the file and the line.

    """
    with reading(path, "an OFF file"):
        lines = text_lines(read_whole(path).removeprefix(b"\xef\xbb\xbf"), comment="#")
        header = re.match(r"\s*(ST)?(C)?(N)?(4)?(n)?(?:OFF|off)(.*)", lines.texts[0] if lines.texts else "", re.DOTALL)
        if header is None:
            raise ValueError("not an OFF file: line 1 must begin with `OFF`, `COFF`, `NOFF` or `STOFF`")
        if "BINARY" in header[6].upper():
            raise ValueError("binary OFF is not read: convert it to text")
        if header[4] or header[5]:
            raise ValueError(f"line {lines.numbers[0]}: `{header[0].strip()[:20]}` must have vertices of x, y and z")
        counts, at = lines.part(0, 1), 1
        counts.texts[0] = header[6]
        if not header[6].strip():
            counts, at = lines.part(1, 2), 2
        num_vertices, num_faces = _counts(counts)
        held = len(lines.texts) - at
        if held != num_vertices + num_faces:
            raise ValueError(
                f"the header declares {num_vertices} vertices and {num_faces} faces, {held} lines of them follow"
            )
        rows = lines.part(at, at + num_vertices)
        color_at = (6 if header[3] else 3) if header[2] else None
        vertices, colors = _vertices(rows, color_at)
        index, sizes, places = _faces(lines.part(at + num_vertices, len(lines.texts)))
        check_corners(index, sizes, num_vertices, places)
        return Mesh(vertices, triangulate(vertices, index, sizes), colors)


def _counts(line: Lines) -> tuple[int, int]:
    words = line.texts[0].split() if line.texts else []
    try:
        num_vertices, num_faces = map(int, words[:2])
        if min(num_vertices, num_faces) < 0 or len(words) > 3:
            raise ValueError
    except ValueError:
        place = f"line {line.numbers[0]}: `{' '.join(words)[:60]}`" if words else "the line after `OFF`"
        raise ValueError(f"{place} must be the numbers of vertices, faces and edges") from None
    return num_vertices, num_faces


def _vertices(
    rows: Lines, color_at: int | None
) -> tuple[np.ndarray[tuple[int, int], np.dtype[np.float64]], np.ndarray[tuple[int, ...], np.dtype[np.uint8]] | None]:
    table = number_rows(rows, 3 if color_at is None else color_at + 3, more=True)
    colors = None
    if color_at is not None:
        colors = color_bytes(table[:, color_at:])
    return table[:, :3], colors


def _faces(rows: Lines) -> tuple[np.ndarray, np.ndarray, list[int]]:
    index: list[int] = []
    sizes: list[int] = []
    for text, number in zip(*rows, strict=True):
        words = text.split()
        try:
            size = int(words[0])
            if size < 0:
                raise ValueError
            corners = list(map(int, words[1 : size + 1]))
        except ValueError:
            raise ValueError(f"line {number}: `{text.strip()[:60]}` must begin with whole numbers") from None
        if len(corners) != size:
            raise ValueError(f"line {number}: a face of {size} corners has {len(corners)}")
        index += corners
        sizes.append(size)
    return np.array(index, np.int64), np.array(sizes, np.int64), rows.numbers
