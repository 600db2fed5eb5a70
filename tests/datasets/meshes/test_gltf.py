import base64
import json
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pcsa.datasets.meshes import read_mesh
from pcsa.datasets.meshes.gltf import load_gltf

SQUARE = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], np.float32)
TURN = [0, 0, 0.5**0.5, 0.5**0.5]  # a quarter around z
FLOAT, BYTE, SHORT, USHORT = 5126, 5121, 5122, 5123


class Document:
    """Builds a file with one square: accessor 0 holds its corners, accessor 1 what joins them."""

    def __init__(self, mode: int = 4, index: tuple[int, ...] = (0, 1, 2, 0, 2, 3)) -> None:
        self.data = b""
        self.json: dict[str, Any] = {"asset": {"version": "2.0"}, "accessors": [], "bufferViews": []}
        self.primitive: dict[str, Any] = {"attributes": {"POSITION": self.add(SQUARE)}, "mode": mode}
        self.primitive["indices"] = self.add(np.array(index, np.uint16)[:, None])
        self.node: dict[str, Any] = {"mesh": 0}
        self.json.update(meshes=[{"primitives": [self.primitive]}], nodes=[self.node], scenes=[{"nodes": [0]}], scene=0)

    def view(self, data: bytes, **entry: Any) -> int:
        self.json["bufferViews"].append({"buffer": 0, "byteOffset": len(self.data), "byteLength": len(data), **entry})
        self.data += data + bytes(-len(data) % 4)
        return len(self.json["bufferViews"]) - 1

    def add(self, values: np.ndarray, **entry: Any) -> int:
        component = {"f4": FLOAT, "u1": BYTE, "i2": SHORT, "u2": USHORT}[values.dtype.str[1:]]
        kind = {1: "SCALAR", 3: "VEC3", 4: "VEC4", 16: "MAT4"}[values.shape[1]]
        view = self.view(values.tobytes())
        self.json["accessors"].append(
            {"bufferView": view, "componentType": component, "type": kind, "count": len(values), **entry}
        )
        return len(self.json["accessors"]) - 1

    def glb(self, file: Path) -> Path:
        self.json.setdefault("buffers", [{"byteLength": len(self.data)}])
        text = json.dumps(self.json).encode()
        text += b" " * (-len(text) % 4)
        body = (
            struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(self.data), b"BIN\0") + self.data
        )
        file.write_bytes(struct.pack("<4sII", b"glTF", 2, 12 + len(body)) + body)
        return file

    def gltf(self, file: Path, uri: str) -> Path:
        self.json["buffers"] = [{"byteLength": len(self.data), "uri": uri}]
        file.write_text(json.dumps(self.json))
        return file


CUT = [[0, 1, 2], [0, 2, 3]]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "a.glb"


@pytest.mark.parametrize(
    ("mode", "index", "faces"),
    [(4, (0, 1, 2, 0, 2, 3), CUT), (5, (0, 1, 3, 2), [[0, 1, 3], [3, 1, 2]]), (6, (0, 1, 2, 3), CUT), (0, (0, 1), [])],
)
def test_triangles_strips_fans_and_points(file: Path, mode: int, index: tuple[int, ...], faces: list[object]) -> None:
    mesh = load_gltf(Document(mode, index).glb(file))
    assert mesh.vertices.tolist() == SQUARE.tolist()
    assert mesh.faces.tolist() == faces
    assert len(read_mesh(file, 9).points) == (9 if faces else 4)


def test_triangles_without_an_index(file: Path) -> None:
    document = Document()
    del document.primitive["indices"]
    document.primitive["attributes"]["POSITION"] = document.add(SQUARE[[0, 1, 2, 0, 2, 3]])
    assert load_gltf(document.glb(file)).faces.tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize("where", ["a chunk", "a uri", "a file"])
def test_places_of_a_buffer(tmp_path: Path, where: str) -> None:
    document = Document()
    if where == "a chunk":
        file = document.glb(tmp_path / "a.glb")
    elif where == "a uri":
        data = base64.b64encode(document.data).decode()
        file = document.gltf(tmp_path / "a.gltf", f"data:application/octet-stream;base64,{data}")
    else:
        (tmp_path / "a b.bin").write_bytes(document.data)
        file = document.gltf(tmp_path / "a.gltf", "a%20b.bin")
    mesh = load_gltf(file)
    assert mesh.vertices.tolist() == SQUARE.tolist()
    assert mesh.faces.tolist() == CUT


def test_transforms_of_parents_in_float64(file: Path) -> None:
    document = Document()
    document.json["nodes"] = [
        {"children": [1], "translation": [691000.123456, 4600000.654321, 12.25]},
        {"children": [2], "rotation": TURN},
        {"mesh": 0, "matrix": [2, 0, 0, 0, 0, 3, 0, 0, 0, 0, 4, 0, 10, 0, 0, 1]},
        {"mesh": 0},  # not in the scene
    ]
    mesh = load_gltf(document.glb(file))
    expected = np.add([[0, 10, 0], [0, 12, 0], [-3, 12, 0], [-3, 10, 0]], [691000.123456, 4600000.654321, 12.25])
    np.testing.assert_allclose(mesh.vertices, expected, rtol=0, atol=2e-9)


def test_a_mesh_of_two_nodes_and_nodes_of_no_scene(file: Path) -> None:
    document = Document()
    document.json["nodes"] = [{"mesh": 0}, {"mesh": 0, "translation": [5, 0, 0], "scale": [2, 2, 2]}]
    del document.json["scenes"], document.json["scene"]
    mesh = load_gltf(document.glb(file))
    assert mesh.vertices.tolist() == [*SQUARE.tolist(), *(SQUARE * 2 + [5, 0, 0]).tolist()]
    assert mesh.faces.tolist() == [*CUT, [4, 5, 6], [4, 6, 7]]


def test_hidden_nodes(file: Path) -> None:
    document = Document()
    hidden = {"KHR_node_visibility": {"visible": False}}
    document.json["nodes"] = [{"mesh": 0}, {"children": [2], "extensions": hidden}, {"mesh": 0}]
    document.json["scenes"] = [{"nodes": [0, 1]}]
    document.json["extensionsRequired"] = ["KHR_node_visibility"]
    assert len(load_gltf(document.glb(file)).vertices) == 4


def test_instances_on_the_gpu(file: Path) -> None:
    document = Document()
    attributes = {
        "TRANSLATION": document.add(np.array([[1, 2, 3], [4, 5, 6]], np.float32)),
        "SCALE": document.add(np.array([[1, 1, 1], [2, 2, 2]], np.float32)),
    }
    document.node["extensions"] = {"EXT_mesh_gpu_instancing": {"attributes": attributes}}
    document.json["extensionsRequired"] = ["EXT_mesh_gpu_instancing"]
    vertices = load_gltf(document.glb(file)).vertices
    assert vertices.tolist() == [*np.add(SQUARE, [1, 2, 3]).tolist(), *np.add(SQUARE * 2, [4, 5, 6]).tolist()]


def test_a_skin_and_morph_targets(file: Path) -> None:
    document = Document()
    joints = np.array([[1, 0, 0, 0]] * 2 + [[0, 1, 0, 0]] * 2, np.uint8)
    weights = np.array([[1, 0, 0, 0]] * 2 + [[0.5, 0.5, 0, 0]] * 2, np.float32)
    document.primitive["attributes"].update(JOINTS_0=document.add(joints), WEIGHTS_0=document.add(weights))
    document.primitive["targets"] = [{"POSITION": document.add(np.full((4, 3), 2, np.float32))}]
    document.json["meshes"][0]["weights"] = [0.5]
    document.json["nodes"] = [
        {"mesh": 0, "skin": 0, "translation": [100, 0, 0]},  # which a skin does not follow
        {"translation": [0, 0, 4]},
        {"translation": [0, 0, 8]},
    ]
    document.json["scenes"] = [{"nodes": [0, 1, 2]}]
    inverse = np.tile(np.eye(4, dtype=np.float32).ravel(), (2, 1))
    inverse[1, 14] = -2
    document.json["skins"] = [{"joints": [1, 2], "inverseBindMatrices": document.add(inverse)}]
    vertices = load_gltf(document.glb(file)).vertices
    assert vertices.tolist() == (SQUARE + np.array([[1, 1, 7]] * 2 + [[1, 1, 6]] * 2)).tolist()


def test_strides_sparse_and_normalized_values(file: Path) -> None:
    document = Document()
    rows = np.zeros((4, 8), np.int16)
    rows[:, 1:4] = SQUARE * 32767
    view = document.view(rows.tobytes(), byteStride=16)
    positions = {"bufferView": view, "byteOffset": 2, "componentType": SHORT, "type": "VEC3", "count": 4}
    sparse = {
        "count": 1,
        "indices": {"bufferView": document.view(np.array([2], np.uint8).tobytes()), "componentType": BYTE},
        "values": {"bufferView": document.view(np.array([0, 0, 32767], np.int16).tobytes())},
    }
    document.json["accessors"][0] = {**positions, "normalized": True, "sparse": sparse}
    document.json["extensionsRequired"] = ["KHR_mesh_quantization"]
    assert load_gltf(document.glb(file)).vertices.tolist() == [[0, 0, 0], [1, 0, 0], [0, 0, 1], [0, 1, 0]]
    # Without a view a sparse accessor begins with zeros.
    del document.json["accessors"][0]["bufferView"]
    document.json.pop("buffers")
    assert load_gltf(document.glb(file)).vertices.tolist() == [[0, 0, 0], [0, 0, 0], [0, 0, 1], [0, 0, 0]]


@pytest.mark.parametrize(
    ("values", "normalized"),
    [
        (np.array([[0, 128, 255, 255]] * 4, np.uint8), True),
        (np.array([[0, 32896, 65535, 65535]] * 4, np.uint16), True),
        (np.array([[0, 128 / 255, 1]] * 4, np.float32), False),
    ],
)
def test_colors(file: Path, values: np.ndarray, normalized: bool) -> None:
    document = Document()
    document.primitive["attributes"]["COLOR_0"] = document.add(values, normalized=normalized)
    colors = read_mesh(document.glb(file), 5).colors
    assert colors is not None
    assert colors.tolist() == [[0, 128, 255]] * 5


def test_what_does_not_move_vertices_may_be_required(file: Path) -> None:
    document = Document()
    document.json["extensionsRequired"] = ["KHR_materials_unlit", "KHR_texture_transform", "KHR_lights_punctual"]
    assert len(load_gltf(document.glb(file)).vertices) == 4


def _node(**entry: Any) -> Any:
    return lambda document: document.node.update(entry)


def _accessor(index: int, **entry: Any) -> Any:
    return lambda document: document.json["accessors"][index].update(entry)


def _json(**entry: Any) -> Any:
    return lambda document: document.json.update(entry)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_json(asset={"version": "1.0"}), "`asset.version` (=1.0) must be 2.0"),
        (_json(extensionsRequired=["KHR_draco_mesh_compression"]), "`KHR_draco_mesh_compression`, which the file"),
        (_json(extensionsRequired=["EXT_meshopt_compression"]), "`EXT_meshopt_compression`, which the file requires"),
        (_accessor(0, count=5), "`accessors` 0: it needs 60 bytes of `bufferViews` 0, which holds 48"),
        (_accessor(0, count=10**15), "`count` (=1000000000000000) must be from 0"),
        (_accessor(0, count=-1), "`count` (=-1) must be from 0"),
        (_accessor(0, count="4"), "`count` (=4) must be"),
        (_accessor(0, byteOffset=4), "it needs 52 bytes"),
        (_accessor(0, bufferView=9), "`bufferViews` 9 must be one of the 2"),
        (_accessor(0, componentType=1), "unknown type VEC3 of 1"),
        (_accessor(0, type="SCALAR"), "1 values per row, must be 3"),
        (_accessor(1, count=5), "5 corners of triangles, must be a multiple of 3"),
        (_accessor(1, byteOffset=8, count=6), "it needs 20 bytes of `bufferViews` 1, which holds 12"),
        (_node(mesh=1), "`meshes` 1 must be one of the 1"),
        (_node(children=[0]), "must be a node below one that has no parent"),
        (_node(rotation=[0, 0, 0, 0]), "`nodes` 0: `rotation` must be"),
        (_node(matrix=[1, 2]), "`nodes` 0: its `matrix` has 2 numbers, must have 16"),
        (_json(scene=3), "`scenes` 3 must be one of the 1"),
        (_json(buffers=[{"byteLength": 999}]), "`buffers` 0: it declares 999 bytes, there are 60"),
        (_json(buffers=[{"byteLength": 60, "uri": "a.bin"}]), "`buffers` 0: its file `a.bin` is missing"),
        (_json(buffers=[{"byteLength": 60, "uri": "https://x.org/a.bin"}]), "must be a file beside this one"),
        (
            _json(buffers=[{"byteLength": 60, "extensions": {"EXT_meshopt_compression": {"fallback": True}}}]),
            "`EXT_meshopt_compression` is not read",
        ),
        (_json(buffers=[]), "`buffers` 0 must be one of the 0"),
        (_json(meshes=[], nodes=[], scenes=[], scene=0), "holds no vertices"),
        (_json(nodes=7), "cannot be read as a glTF file"),
    ],
)
def test_what_is_refused(file: Path, change: Any, message: str) -> None:
    document = Document()
    change(document)
    document.glb(file)
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        read_mesh(file)
    assert str(error.value).startswith(f"`{file}`: ")


def test_a_corner_that_is_no_vertex(file: Path) -> None:
    with pytest.raises(ValueError, match="mesh 0, primitive 0: face 1: vertex 9 must be one of the 4"):
        load_gltf(Document(index=(0, 1, 2, 0, 2, 9)).glb(file))


def test_compression_with_no_other_data(file: Path) -> None:
    document = Document()
    document.primitive["extensions"] = {"KHR_draco_mesh_compression": {"bufferView": 0, "attributes": {"POSITION": 0}}}
    assert len(load_gltf(document.glb(file)).vertices) == 4  # what is compressed is there as well
    del document.json["accessors"][0]["bufferView"]
    with pytest.raises(ValueError, match="`KHR_draco_mesh_compression` is not read"):
        load_gltf(document.glb(file))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read as a glTF file (JSONDecodeError"),
        (b"[]", "it has no `asset`"),
        (b"{", "JSONDecodeError"),
        (b"glTF\2\0\0\0", "cut off within its header"),
        (b"glTF\1\0\0\0" + bytes(20), "version of the container (=1)"),
    ],
)
def test_what_is_no_gltf(file: Path, content: bytes, message: str) -> None:
    file.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        load_gltf(file)
    assert str(error.value).startswith(f"`{file}`: ")


def test_cut_off(file: Path) -> None:
    raw = Document().glb(file).read_bytes()
    file.write_bytes(raw[:-8])
    with pytest.raises(ValueError, match=f"declares {len(raw)} bytes, the file holds {len(raw) - 8}"):
        load_gltf(file)
