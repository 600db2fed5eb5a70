"""PLY files: text, and binary of either byte order."""

import os
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pcsa.datasets.colors import color_bytes
from pcsa.datasets.faults import reading
from pcsa.datasets.limits import read_whole
from pcsa.datasets.meshes.rows import Lines, number_rows, text_lines
from pcsa.datasets.meshes.triangles import Mesh, check_corners, no_faces, triangulate

#: Names of the types, as numpy and struct call them.
_TYPES = {
    **dict.fromkeys(("char", "int8"), "i1"),
    **dict.fromkeys(("uchar", "uint8"), "u1"),
    **dict.fromkeys(("short", "int16"), "i2"),
    **dict.fromkeys(("ushort", "uint16"), "u2"),
    **dict.fromkeys(("int", "int32"), "i4"),
    **dict.fromkeys(("uint", "uint32"), "u4"),
    **dict.fromkeys(("long", "int64"), "i8"),
    **dict.fromkeys(("ulong", "uint64"), "u8"),
    **dict.fromkeys(("float", "float32"), "f4"),
    **dict.fromkeys(("double", "float64"), "f8"),
}
_CODES = {"i1": "b", "u1": "B", "i2": "h", "u2": "H", "i4": "i", "u4": "I", "i8": "q", "u8": "Q"}
_FORMATS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
_COLORS = (
    ("red", "green", "blue"),
    ("r", "g", "b"),
    ("diffuse_red", "diffuse_green", "diffuse_blue"),
)
_CORNERS = ("vertex_indices", "vertex_index")
_WANTED = {"x", "y", "z", *_CORNERS, *(name for names in _COLORS for name in names)}


class _Property(NamedTuple):
    name: str
    kind: str
    count_kind: str | None  # of a list


@dataclass(frozen=True)
class _Element:
    name: str
    count: int
    properties: list[_Property]

    @property
    def lists(self) -> list[int]:
        return [i for i, column in enumerate(self.properties) if column.count_kind]

    def check_rows(self, held: int) -> None:
        if held < self.count:
            raise ValueError(
                f"the header declares `element {self.name} {self.count}`, the file holds {held} of them (cut off?)"
            )


class _Lists(NamedTuple):
    counts: NDArray[np.int64]
    values: NDArray[Any]


_Column = NDArray[Any] | _Lists
_Columns = dict[str, _Column]


def load_ply(path: str | os.PathLike[str]) -> Mesh:
    """Read the vertices, faces and colors of a `.ply` file.

    The file has an element `vertex` with `x`, `y` and `z`, in capitals or not, and may have `face` (or `tristrips`)
    with a list `vertex_indices` or `vertex_index`. Colors are `red green blue`, `r g b` or `diffuse_red …`. All else
    is skipped: other elements such as Stanford's `range_grid`, and other properties.

    The reader is our own, because each of three libraries tried is wrong on some valid file. plyfile and trimesh
    round the text of a property `float` to float32, up to 0.25 m at UTM coordinates. plyfile reads no comments beyond
    ASCII, blank lines or byte-order marks. trimesh reads no binary polygons of different sizes, and misses no lines
    that are missing. Open3D fills missing vertices with whatever its memory held.

    Args:
        path: The file.

    Returns:
        The mesh, with no faces where the file is a cloud. Vertices may be NaN.

    Raises:
        ValueError: If the header is malformed or declares another number of rows than the file has, or a face has a
            corner that is not a vertex. The message names the file.

    """
    with reading(path, "a PLY file"):
        raw = read_whole(path).removeprefix(b"\xef\xbb\xbf")
        order, elements, start, number = _parse_header(raw)
        if order:
            return _to_mesh(elements, _read_binary(raw, start, elements, order), [])
        return _to_mesh(elements, *_read_text(text_lines(raw[start:], number + 1), elements))


def _parse_header(raw: bytes) -> tuple[str, list[_Element], int, int]:
    """Return the byte order (empty for text), the elements, the place of the data and the number of header lines."""
    # Binary data may begin with a byte that looks like half a line break, so all lines end as the first one does.
    first = re.match(rb"ply[ \t]*(\r\n|\n|\r)", raw)
    if first is None:
        raise ValueError("not a PLY file: line 1 must be `ply`")
    order: str | None = None
    elements: list[_Element] = []
    start, number = first.end(), 1
    while True:
        end = raw.find(first[1], start)
        # A text without elements after its header may end with it.
        end = len(raw) if end < 0 and raw[start:].strip() == b"end_header" else end
        if end < 0:
            raise ValueError("cut off within its header: no line `end_header`")
        words = raw[start:end].decode("latin-1").split()
        start, number = end + len(first[1]), number + 1
        if not words or words[0] in ("comment", "obj_info"):
            continue
        if words[0] == "end_header":
            break
        try:
            if words[0] == "format":
                order = _FORMATS[words[1]]
            elif words[0] == "element":
                elements.append(_Element(words[1].lower(), int(words[2]), []))
                if elements[-1].count < 0:
                    raise ValueError
            elif words[0] == "property" and words[1] == "list":
                if _TYPES[words[2]] not in _CODES:
                    raise ValueError
                elements[-1].properties.append(_Property(words[4].lower(), _TYPES[words[3]], _TYPES[words[2]]))
            elif words[0] == "property":
                elements[-1].properties.append(_Property(words[2].lower(), _TYPES[words[1]], None))
            else:
                raise ValueError
        except (ValueError, LookupError):
            raise ValueError(f"line {number}: `{' '.join(words)[:80]}` is no line of a PLY header") from None
    if order is None:
        raise ValueError("the header has no line `format`")
    return order, elements, start, number


def _to_mesh(elements: list[_Element], tables: dict[str, _Columns], face_lines: list[int]) -> Mesh:
    if "vertex" not in tables:
        raise ValueError(
            f"no element `vertex`: the file has {', '.join(element.name for element in elements) or 'none'}"
        )
    vertex = tables["vertex"]
    names = [column.name for element in elements if element.name == "vertex" for column in element.properties]
    axes = [vertex[axis] for axis in "xyz" if axis in vertex]
    if len(axes) < 3 or any(isinstance(axis, _Lists) for axis in axes) or any(names.count(axis) > 1 for axis in "xyz"):
        raise ValueError(f"`element vertex` must have x, y and z once each: it has {', '.join(names)}")
    vertices = np.stack([np.asarray(axis, np.float64) for axis in axes], axis=1)
    colors = None
    for rgb in _COLORS:
        if colors is None and all(name in vertex and not isinstance(vertex[name], _Lists) for name in rgb):
            colors = color_bytes(np.stack([vertex[name] for name in rgb], axis=1))

    faces = no_faces()
    for name in ("face", "tristrips"):
        corners = next((tables[name][key] for key in _CORNERS if key in tables.get(name, {})), None)
        if not isinstance(corners, _Lists):
            if any(element.name == name and element.count for element in elements):
                raise ValueError(f"`element {name}` must have a list `vertex_indices`")
            continue
        index = corners.values.astype(np.int64)
        if (index != corners.values).any():
            raise ValueError(f"`element {name}`: `vertex_indices` must be whole numbers")
        if name == "tristrips":
            index, counts = _strips(index, corners.counts)
        else:
            counts = corners.counts
        check_corners(index, counts, len(vertices), face_lines if name == "face" else [])
        faces = np.concatenate([faces, triangulate(vertices, index, counts)])
    return Mesh(vertices, faces, colors)


def _strips(index: NDArray[np.int64], counts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cut strips into triangles; -1 begins the next strip."""
    ends = np.cumsum(counts)
    index = np.insert(index, ends, -1)
    place = np.arange(len(index))
    begin = np.maximum.accumulate(np.where(index == -1, place + 1, 0))
    triples = np.stack([index[:-2], index[1:-1], index[2:]], axis=1)
    odd = (place - begin)[:-2] % 2 == 1
    triples[odd] = triples[odd][:, [1, 0, 2]]
    triples = triples[(triples != -1).all(axis=1)]
    return triples.ravel(), np.full(len(triples), 3)


def _read_text(lines: Lines, elements: list[_Element]) -> tuple[dict[str, _Columns], list[int]]:
    """Return the columns of the elements, and the lines of the faces."""
    tables: dict[str, _Columns] = {}
    face_lines: list[int] = []
    at = 0
    for element in elements:
        if not element.properties:
            continue
        rows = lines.part(at, at + element.count)
        element.check_rows(len(rows.texts))
        at += element.count
        if element.name == "face":
            face_lines = rows.numbers
        if element.name == "vertex" and element.properties[-1].name in _CORNERS:
            element = _without_corners(element, rows)
        columns = _text_lists(rows, element) if element.lists else list(number_rows(rows, len(element.properties)).T)
        for i, column in enumerate(element.properties):
            # The range of colors depends on their type.
            values = columns[i]
            if column.kind in _CODES and not isinstance(values, _Lists) and (values % 1 == 0).all():
                columns[i] = values.astype(np.int64)
        tables.setdefault(element.name, _named(element, columns))
    if at < len(lines.texts):
        raise ValueError(
            f"line {lines.numbers[at]}: beyond what the header declares (lines too many: {len(lines.texts) - at})"
        )
    return tables, face_lines


def _without_corners(element: _Element, rows: Lines) -> _Element:
    """Leave out a property of faces that old Blender declares for vertices where there are no faces."""
    declared = any(len(text.split()) >= len(element.properties) for text in rows.texts)
    return element if declared else replace(element, properties=element.properties[:-1])


def _named(element: _Element, columns: Sequence[_Column]) -> _Columns:
    # Of two properties of one name the first counts.
    pairs = zip(element.properties, columns, strict=True)
    return {column.name: values for column, values in reversed(list(pairs))}


def _text_lists(rows: Lines, element: _Element) -> list[_Column]:
    counts: list[list[int]] = [[] for _ in element.properties]
    values: list[list[float]] = [[] for _ in element.properties]
    for text, number in zip(*rows, strict=True):
        words, at = text.split(), 0
        for i, column in enumerate(element.properties):
            try:
                size = int(words[at]) if column.count_kind else 1
                at += column.count_kind is not None
                part = list(map(float, words[at : at + size]))
            except (ValueError, IndexError):
                raise ValueError(f"line {number}: `{column.name}` must be numbers (`{text.strip()[:60]}`)") from None
            if len(part) != size:
                raise ValueError(f"line {number}: `{column.name}` has {len(part)} values where {size} must stand")
            counts[i].append(size)
            values[i] += part
            at += size
        if at < len(words):
            raise ValueError(f"line {number}: {len(words)} values where {at} must stand (`{text.strip()[:60]}`)")
    return [
        _Lists(np.array(counts[i], np.int64), np.array(values[i])) if i in element.lists else np.array(values[i])
        for i in range(len(element.properties))
    ]


def _read_binary(raw: bytes, start: int, elements: list[_Element], order: str) -> dict[str, _Columns]:
    tables: dict[str, _Columns] = {}
    for element in elements:
        if not element.properties:
            continue
        least = _row_type(element, order, [0] * len(element.lists)).itemsize
        if element.count * least > len(raw) - start:  # before any memory is taken for so many rows
            element.check_rows((len(raw) - start) // least)
        offsets = start + least * np.arange(element.count + 1)
        lengths = np.zeros((element.count, 0), np.int64)
        if element.lists:
            lengths, offsets = _list_lengths(raw, start, element, order)
        tables.setdefault(element.name, _named(element, _binary_columns(raw, element, order, lengths, offsets)))
        start = int(offsets[-1])
    # Some programs end a file with a line break, or fill its last block.
    if raw[start:].strip(b"\0\r\n \t"):
        raise ValueError(f"{len(raw) - start} bytes more than the header declares")
    return tables


def _row_type(element: _Element, order: str, lengths: list[int]) -> np.dtype[Any]:
    """Return the type of a row whose lists have these lengths."""
    fields: list[Any] = []
    sizes = iter(lengths)
    for i, column in enumerate(element.properties):
        if column.count_kind:
            fields += [(f"length {i}", order + column.count_kind), (f"{i}", order + column.kind, (next(sizes),))]
        else:
            fields.append((f"{i}", order + column.kind))
    return np.dtype(fields)


def _list_lengths(raw: bytes, start: int, element: _Element, order: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the lengths of the lists of every row, and where the rows begin and the last one ends."""
    steps: list[tuple[int, struct.Struct, int]] = []  # per list: bytes before it, its length, bytes of a value
    skip = 0
    for column in element.properties:
        size = np.dtype(column.kind).itemsize
        if column.count_kind:
            steps.append((skip, struct.Struct(order + _CODES[column.count_kind]), size))
            skip = 0
        else:
            skip += size

    lengths, offsets, at = [], [start], start
    for row in range(element.count):
        for before, length, size in steps:
            at += before
            if at + length.size > len(raw):
                element.check_rows(row)
            (count,) = length.unpack_from(raw, at)
            if count < 0:
                raise ValueError(f"`element {element.name}`, row {row}: a list of {count} values")
            lengths.append(count)
            at += length.size + count * size
        at += skip
        if at > len(raw):
            element.check_rows(row)
        offsets.append(at)
        if row == 0 and element.count > 1:
            # Most often all rows are like the first, which numpy tells at once.
            width = at - start
            if start + width * element.count <= len(raw):
                table = np.frombuffer(raw, _row_type(element, order, lengths), element.count, start)
                if all((table[f"length {i}"] == n).all() for i, n in zip(element.lists, lengths, strict=True)):
                    return np.tile(lengths, (element.count, 1)), start + width * np.arange(element.count + 1)
    return np.array(lengths, np.int64).reshape(element.count, len(steps)), np.array(offsets)


def _binary_columns(
    raw: bytes, element: _Element, order: str, lengths: NDArray[np.int64], offsets: NDArray[np.int64]
) -> list[_Column]:
    """Read the rows of one element, those with lists of the same lengths together."""
    columns: list[_Column] = []
    wanted: list[int] = []
    for i, entry in enumerate(element.properties):
        counts = lengths[:, element.lists.index(i)] if i in element.lists else np.ones(element.count, np.int64)
        values = np.empty(int(counts.sum()) if entry.name in _WANTED else 0, order + entry.kind)
        columns.append(_Lists(counts, values) if i in element.lists else values)
        if entry.name in _WANTED:
            wanted.append(i)
    begins = {i: np.cumsum(lists.counts) - lists.counts for i in wanted if isinstance(lists := columns[i], _Lists)}

    content = np.frombuffer(raw, np.uint8)
    for rows in _like_rows(lengths):
        dtype = _row_type(element, order, lengths[rows[0]].tolist())
        if len(rows) == element.count:
            table = np.frombuffer(raw, dtype, element.count, int(offsets[0]))
        else:
            table = content[offsets[rows, None] + np.arange(dtype.itemsize)].reshape(-1).view(dtype)
        for i in wanted:
            column, part = columns[i], table[f"{i}"]
            if isinstance(column, _Lists):
                column.values[begins[i][rows, None] + np.arange(part.shape[1])] = part
            else:
                column[rows] = part
    return columns


def _like_rows(lengths: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Return the rows that have the same lengths, group by group."""
    if not len(lengths):
        return []
    if (lengths == lengths[0]).all():
        return [np.arange(len(lengths))]
    _, which, sizes = np.unique(lengths, axis=0, return_inverse=True, return_counts=True)
    return np.split(np.argsort(which.reshape(-1), kind="stable"), np.cumsum(sizes)[:-1])
