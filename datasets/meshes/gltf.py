"""glTF 2.0 files, `.gltf` and `.glb`."""

import base64
import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray

from pcsa._core.json_text import parse_json
from pcsa.datasets.colors import color_bytes
from pcsa.datasets.faults import reading
from pcsa.datasets.limits import MOST_TIMES, MOST_UNPACKED, leads_out, read_whole
from pcsa.datasets.meshes.triangles import Mesh, check_corners, no_faces

_COMPONENTS = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}
_POINTS, _TRIANGLES, _STRIP, _FAN = 0, 4, 5, 6
# What a file may require without its vertices being others: looks, lights, and what is read here.
_HARMLESS = re.compile(
    r"KHR_mesh_quantization|KHR_node_visibility|EXT_mesh_gpu_instancing|[A-Z]+_(materials|texture|lights|animation|xmp)\w*"
)
_MOST_VERTICES = 2**26

_Matrix = NDArray[np.float64]


def load_gltf(path: str | os.PathLike[str]) -> Mesh:
    """Read the triangles and points of the scene of a `.gltf` or `.glb` file, all nodes in the frame of the scene.

    The default scene is read, or else the first one, at rest: nodes with their transforms in float64, instances,
    skins and the default weights of morph targets. Colors are `COLOR_0`, as they are stored. Hidden nodes, lines,
    textures, materials and animations are skipped.

    The reader is our own: trimesh skips fans, instances of `EXT_mesh_gpu_instancing`, skins and morph targets.

    Args:
        path: The file. Buffers in files of their own lie beside it.

    Returns:
        The scene as one mesh, with no faces where it has points only. Vertices may be NaN.

    Raises:
        ValueError: If the file is cut off, an accessor goes beyond its buffer, a buffer is missing, or the geometry is
            compressed (Draco, meshopt); the message names the file.

    """
    with reading(path, "a glTF file"):
        raw = read_whole(path)
        content, binary = _chunks(raw) if raw.startswith(b"glTF") else (raw, None)
        content = parse_json(content.decode("utf-8-sig"))
        if not isinstance(content, dict) or "asset" not in content:
            raise ValueError("not a glTF file: it has no `asset`")
        version = str(content["asset"].get("version"))
        if not version.startswith("2."):
            raise ValueError(f"`asset.version` (={version}) must be 2.0")
        for extension in content.get("extensionsRequired", ()):
            if not _HARMLESS.fullmatch(extension):
                raise ValueError(
                    f"the extension `{extension}`, which the file requires, is not read: export without it"
                )
        return _Scene(content, binary, Path(path).parent, len(raw)).mesh()


def _chunks(raw: bytes) -> tuple[bytes, bytes | None]:
    """Return the JSON and the binary chunk of a `.glb` file."""
    if len(raw) < 20:
        raise ValueError("cut off within its header")
    _, version, declared = struct.unpack_from("<4sII", raw)
    if version != 2:
        raise ValueError(f"the version of the container (={version}) must be 2")
    if declared > len(raw):
        raise ValueError(f"the header declares {declared} bytes, the file holds {len(raw)} (cut off?)")
    found: dict[bytes, bytes] = {}
    at = 12
    while at + 8 <= declared:
        length, kind = struct.unpack_from("<I4s", raw, at)
        if at + 8 + length > declared:
            raise ValueError(f"a chunk declares {length} bytes, the file holds {declared - at - 8} (cut off?)")
        found.setdefault(kind, raw[at + 8 : at + 8 + length])
        at += 8 + length
    if b"JSON" not in found:
        raise ValueError("the file has no JSON chunk")
    return found[b"JSON"], found.get(b"BIN\0")


class _Scene:
    """The scene of one file."""

    def __init__(self, content: dict[str, Any], binary: bytes | None, folder: Path, size: int) -> None:
        self.content, self.binary, self.folder = content, binary, folder
        self.buffers: dict[int, bytes] = {}
        # Instances of instances make a large scene of a small file.
        self.most = max(MOST_UNPACKED // 4, MOST_TIMES * size)
        self.worlds: dict[int, _Matrix] = {}

    def mesh(self) -> Mesh:
        """Put the primitives of all nodes together."""
        vertices, faces, colors, offset = [np.empty((0, 3))], [no_faces()], [np.empty((0, 3), np.uint8)], 0
        colored = False
        for mesh, node in self._meshes():
            for place, primitive in enumerate(self._item("meshes", mesh).get("primitives", ())):
                name = f"mesh {mesh}, primitive {place}"
                if primitive.get("mode", _TRIANGLES) not in (_POINTS, _TRIANGLES, _STRIP, _FAN):
                    continue
                local = self._positions(primitive, self._item("meshes", mesh), node, name)
                corners = self._corners(primitive, len(local), name)
                color = self._colors(primitive, len(local))
                colored |= color is not None
                color = np.full((len(local), 3), 255, np.uint8) if color is None else color
                for points in self._placed(local, primitive, node, name):
                    vertices.append(points)
                    faces.append(corners + offset)
                    colors.append(color)
                    offset += len(points)
                    if offset > _MOST_VERTICES or offset * 24 > self.most:
                        raise ValueError(
                            f"the scene of {offset} vertices or more is too large, for such a file at least"
                        )
        return Mesh(np.concatenate(vertices), np.concatenate(faces), np.concatenate(colors) if colored else None)

    def _item(self, kind: str, index: Any) -> dict[str, Any]:
        items = self.content.get(kind, [])
        if not isinstance(index, int) or not 0 <= index < len(items):
            raise ValueError(f"`{kind}` {index} must be one of the {len(items)} of the file")
        return items[index]

    def _meshes(self) -> Iterator[tuple[int, int | None]]:
        """Yield the meshes of the scene, each with its node; set the transforms of all nodes."""
        nodes = self.content.get("nodes", [])
        children = {child for node in nodes for child in node.get("children", ())}
        roots = [i for i in range(len(nodes)) if i not in children]
        stack = [(root, np.eye(4)) for root in roots]
        while stack:
            node, parent = stack.pop()
            if node in self.worlds:
                raise ValueError(f"`nodes` {node} must have one parent")
            world = parent @ _local_transform(self._item("nodes", node), node)
            self.worlds[node] = world
            stack += [(child, world) for child in nodes[node].get("children", ())]
        if not nodes:
            yield from ((mesh, None) for mesh in range(len(self.content.get("meshes", []))))
            return
        scenes = self.content.get("scenes")
        shown = self._item("scenes", self.content.get("scene", 0)).get("nodes", []) if scenes else roots
        waiting = list(reversed(shown))
        while waiting:
            node = waiting.pop()
            if node not in self.worlds:
                raise ValueError(f"`nodes` {node} must be a node below one that has no parent")
            if nodes[node].get("extensions", {}).get("KHR_node_visibility", {}).get("visible") is False:
                continue
            waiting += reversed(nodes[node].get("children", []))
            if "mesh" in nodes[node]:
                yield nodes[node]["mesh"], node

    def _positions(
        self, primitive: dict[str, Any], mesh: dict[str, Any], node: int | None, name: str
    ) -> NDArray[np.float64]:
        attributes = primitive.get("attributes", {})
        if "POSITION" not in attributes:
            raise ValueError(f"{name}: no attribute `POSITION`")
        compressed = "KHR_draco_mesh_compression" in primitive.get("extensions", {})
        if compressed and "bufferView" not in self._item("accessors", attributes["POSITION"]):
            raise ValueError(f"{name}: `KHR_draco_mesh_compression` is not read: export without it")
        points = self._accessor(attributes["POSITION"], 3).astype(np.float64)
        targets = primitive.get("targets", ())
        weights = (
            mesh.get("weights", ())
            if node is None
            else self._item("nodes", node).get("weights", mesh.get("weights", ()))
        )
        for target, weight in zip(targets, weights, strict=False):
            if weight and "POSITION" in target:
                points = points + weight * self._accessor(target["POSITION"], 3)
        return points

    def _corners(self, primitive: dict[str, Any], num_vertices: int, name: str) -> NDArray[np.int64]:
        mode = primitive.get("mode", _TRIANGLES)
        if mode == _POINTS:
            return no_faces()
        index = np.arange(num_vertices)
        if "indices" in primitive:
            index = self._accessor(primitive["indices"], 1)[:, 0].astype(np.int64)
        try:
            check_corners(index, np.full(-(-len(index) // 3), 3), num_vertices, [])
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
        if mode == _TRIANGLES:
            if len(index) % 3:
                raise ValueError(f"{name}: {len(index)} corners of triangles, must be a multiple of 3")
            return index.reshape(-1, 3)
        if len(index) < 3:
            return no_faces()
        if mode == _FAN:
            return np.stack([np.full(len(index) - 2, index[0]), index[1:-1], index[2:]], axis=1)
        triples = np.stack([index[:-2], index[1:-1], index[2:]], axis=1)
        triples[1::2] = triples[1::2][:, [1, 0, 2]]
        return triples

    def _colors(self, primitive: dict[str, Any], num_vertices: int) -> NDArray[np.uint8] | None:
        attributes = primitive.get("attributes", {})
        if "COLOR_0" not in attributes:
            return None
        values = self._accessor(attributes["COLOR_0"])
        if values.shape[1] not in (3, 4) or len(values) != num_vertices or values.dtype.kind != "f":
            return None
        return color_bytes(np.clip(values[:, :3], 0, 1))

    def _placed(
        self, points: NDArray[np.float64], primitive: dict[str, Any], node: int | None, name: str
    ) -> Iterator[NDArray[np.float64]]:
        """Yield the points in the frame of the scene, once for every instance."""
        if node is None:
            yield points
            return
        entry = self._item("nodes", node)
        if "skin" in entry and "JOINTS_0" in primitive["attributes"]:
            # The transform of a node with a skin does not count.
            yield self._skinned(points, primitive["attributes"], self._item("skins", entry["skin"]), name)
            return
        instancing = entry.get("extensions", {}).get("EXT_mesh_gpu_instancing")
        if instancing is None:
            yield _moved(points, self.worlds[node])
            return
        attributes = {
            key: self._accessor(instancing.get("attributes", {})[key.upper()]).astype(np.float64)
            for key in ("translation", "rotation", "scale")
            if key.upper() in instancing.get("attributes", {})
        }
        if len({len(values) for values in attributes.values()}) != 1:
            raise ValueError(f"`nodes` {node}: the attributes of its instances must have one length")
        for i in range(len(next(iter(attributes.values())))):
            local = _local_transform({key: values[i] for key, values in attributes.items()}, node)
            yield _moved(points, self.worlds[node] @ local)

    def _skinned(
        self, points: NDArray[np.float64], attributes: dict[str, Any], skin: dict[str, Any], name: str
    ) -> NDArray[np.float64]:
        joints = skin.get("joints", [])
        inverse = np.tile(np.eye(4), (len(joints), 1, 1))
        if "inverseBindMatrices" in skin:
            stored = self._accessor(skin["inverseBindMatrices"], 16).astype(np.float64)
            inverse = stored.reshape(-1, 4, 4).transpose(0, 2, 1)
        if len(inverse) < len(joints) or any(joint not in self.worlds for joint in joints):
            raise ValueError(f"{name}: every joint of the skin must be a node with an inverse bind matrix")
        transforms = np.stack([self.worlds[joint] @ inverse[i] for i, joint in enumerate(joints)])
        sums, total, place = np.zeros_like(points), np.zeros((len(points), 1)), 0
        while f"JOINTS_{place}" in attributes and f"WEIGHTS_{place}" in attributes:
            index = self._accessor(attributes[f"JOINTS_{place}"], 4).astype(np.int64)
            weights = self._accessor(attributes[f"WEIGHTS_{place}"], 4).astype(np.float64)
            if len(index) != len(points) or len(weights) != len(points) or index.max(initial=0) >= len(joints):
                raise ValueError(
                    f"{name}: `JOINTS_{place}` and `WEIGHTS_{place}` must have a row per vertex, of joints"
                )
            for corner in range(4):
                chosen = transforms[index[:, corner]]
                moved = np.einsum("nij,nj->ni", chosen[:, :3, :3], points) + chosen[:, :3, 3]
                sums += weights[:, corner, None] * moved
                total += weights[:, corner, None]
            place += 1
        if not (total > 0).all():
            raise ValueError(f"{name}: the weights of a vertex must sum to 1")
        return sums / total

    def _accessor(self, index: Any, width: int | None = None) -> NDArray[Any]:
        """Read an accessor, `[count, width]`; normalized integers become float."""
        entry = self._item("accessors", index)
        name = f"`accessors` {index}"
        if entry.get("type") not in _WIDTHS or entry.get("componentType") not in _COMPONENTS:
            raise ValueError(f"{name}: unknown type {entry.get('type')} of {entry.get('componentType')}")
        columns, count = _WIDTHS[entry["type"]], entry.get("count")
        if width not in (None, columns):
            raise ValueError(f"{name}: {columns} values per row, must be {width}")
        if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count <= _MOST_VERTICES:
            raise ValueError(f"{name}: `count` (={count}) must be from 0 to {_MOST_VERTICES}")
        dtype = np.dtype(_COMPONENTS[entry["componentType"]])
        sparse = entry.get("sparse")
        if "bufferView" in entry:
            values = self._view(entry["bufferView"], entry.get("byteOffset", 0), dtype, count, columns, name)
        elif sparse is None:
            raise ValueError(f"{name}: neither `bufferView` nor `sparse`: it has no data")
        else:
            if count * columns * dtype.itemsize > self.most:
                raise ValueError(f"{name}: {count} rows of zeros, for which the file is too small")
            values = np.zeros((count, columns), dtype)
        if sparse is not None:
            values = values.copy()
            places, replaced = sparse["indices"], sparse["values"]
            kind, many = np.dtype(_COMPONENTS[places["componentType"]]), sparse["count"]
            rows = self._view(places["bufferView"], places.get("byteOffset", 0), kind, many, 1, name)[:, 0]
            if rows.size and not 0 <= int(rows.min()) <= int(rows.max()) < count:
                raise ValueError(f"{name}: sparse rows up to {int(rows.max())}, must be below {count}")
            values[rows] = self._view(replaced["bufferView"], replaced.get("byteOffset", 0), dtype, many, columns, name)
        if entry.get("normalized") and dtype.kind != "f":
            return np.maximum(values.astype(np.float64) / np.iinfo(dtype).max, -1)
        return values

    def _view(self, index: Any, offset: int, dtype: np.dtype[Any], count: int, columns: int, name: str) -> NDArray[Any]:
        view = self._item("bufferViews", index)
        for extension, entry in self._item("buffers", view.get("buffer")).get("extensions", {}).items():
            if entry.get("fallback"):
                raise ValueError(f"{name}: `{extension}` is not read: export without it")
        buffer = self._buffer(view.get("buffer"))
        start, length = view.get("byteOffset", 0), view.get("byteLength", 0)
        size = columns * dtype.itemsize
        stride = view.get("byteStride", size)
        needed = offset + stride * (count - 1) + size if count else 0
        if min(start, offset, length, count) < 0 or stride < size:
            raise ValueError(f"{name}: offsets and lengths must be at least 0, `byteStride` at least {size}")
        if start + length > len(buffer) or needed > length:
            held = min(length, len(buffer) - start)
            raise ValueError(f"{name}: it needs {needed} bytes of `bufferViews` {index}, which holds {held}")
        return (
            np.ndarray((count, columns), dtype, buffer, start + offset, (stride, dtype.itemsize))
            if count
            else (np.empty((0, columns), dtype))
        )

    def _buffer(self, index: Any) -> bytes:
        entry = self._item("buffers", index)
        if index not in self.buffers:
            uri, name = entry.get("uri"), f"`buffers` {index}"
            if uri is None:
                if index != 0 or self.binary is None:
                    raise ValueError(f"{name}: no `uri`, and the file has no binary chunk")
                data = self.binary
            elif uri.startswith("data:"):
                data = base64.b64decode(uri.partition(",")[2])
            elif "://" in uri:
                raise ValueError(f"{name}: `{uri[:80]}` must be a file beside this one")
            elif leads_out(unquote(uri)):
                raise ValueError(f"{name}: `{uri[:80]}` must be a file beside this one, or below it")
            else:
                file = self.folder / unquote(uri)
                if not file.is_file():
                    raise ValueError(f"{name}: its file `{unquote(uri)}` is missing")
                data = read_whole(file)
                self.most += MOST_TIMES * len(data)
            if len(data) < entry.get("byteLength", 0):
                raise ValueError(f"{name}: it declares {entry['byteLength']} bytes, there are {len(data)} (cut off?)")
            self.buffers[index] = data
        return self.buffers[index]


def _moved(points: NDArray[np.float64], transform: _Matrix) -> NDArray[np.float64]:
    return points @ transform[:3, :3].T + transform[:3, 3]


def _local_transform(node: dict[str, Any], index: int) -> _Matrix:
    """Return the transform of a node, or of an instance, to its parent."""
    matrix = np.eye(4)
    if "matrix" in node:
        if len(node["matrix"]) != 16:
            raise ValueError(f"`nodes` {index}: its `matrix` has {len(node['matrix'])} numbers, must have 16")
        matrix = np.array(node["matrix"], np.float64).reshape(4, 4).T
    else:
        x, y, z, w = np.array(node.get("rotation", (0, 0, 0, 1)), np.float64)
        length = x * x + y * y + z * z + w * w
        if not length > 0:
            raise ValueError(f"`nodes` {index}: `rotation` must be a quaternion of length 1")
        turned = np.array(
            [
                [length - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
                [2 * (x * y + z * w), length - 2 * (x * x + z * z), 2 * (y * z - x * w)],
                [2 * (x * z - y * w), 2 * (y * z + x * w), length - 2 * (x * x + y * y)],
            ]
        )
        matrix[:3, :3] = turned / length * np.array(node.get("scale", (1, 1, 1)), np.float64)
        matrix[:3, 3] = node.get("translation", (0, 0, 0))
    if not np.isfinite(matrix).all():
        raise ValueError(f"`nodes` {index}: its transform must be finite")
    return matrix
