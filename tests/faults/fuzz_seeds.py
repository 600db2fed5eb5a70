"""Whole small files of every kind that a reader opens, made by code: what the fuzzing begins with."""

import io
import json
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

POINTS = np.random.default_rng(0).random((40, 3)).round(3)
COLORS = np.random.default_rng(1).integers(0, 256, (40, 3))


def written(write: Any, name: str = "seed") -> bytes:
    """Return what a function writes into a file."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder, name))
        return Path(folder, name).read_bytes()


def pcd() -> list[bytes]:
    from pcsa.datasets.pcd import write_pcd

    seeds = [
        written(lambda f, b=b, c=c: write_pcd(f, POINTS, c, binary=b)) for b in (False, True) for c in (None, COLORS)
    ]
    import lzf

    # Half of the points repeat, so that there is something to compress.
    columns = (
        np.tile(POINTS[:20], (2, 1)).astype("<f4").T.tobytes() + np.tile(COLORS[:20, 0], 2).astype("<u4").tobytes()
    )
    packed = lzf.compress(columns) or b""
    head = b"VERSION .7\nFIELDS x y z rgb\nSIZE 4 4 4 4\nTYPE F F F U\nCOUNT 1 1 1 1\nWIDTH 40\nHEIGHT 1\nPOINTS 40\n"
    seeds.append(head + b"DATA binary_compressed\n" + struct.pack("<II", len(packed), 640) + packed)
    return seeds


def ply() -> list[bytes]:
    head = "ply\nformat {} 1.0\ncomment a\nelement vertex 4\nproperty float x\nproperty float y\nproperty float z\n"
    head += "property uchar red\nproperty uchar green\nproperty uchar blue\n"
    head += "element face 2\nproperty list uchar int vertex_indices\nend_header\n"
    corners = [(0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0.5)]
    text = head.format("ascii") + "".join(f"{x} {y} {z} 1 2 3\n" for x, y, z in corners) + "3 0 1 2\n4 0 1 2 3\n"
    seeds = [text.encode()]
    for name, order in (("binary_little_endian", "<"), ("binary_big_endian", ">")):
        body = b"".join(struct.pack(f"{order}3f3B", *corner, 1, 2, 3) for corner in corners)
        faces = struct.pack(f"{order}B3i", 3, 0, 1, 2) + struct.pack(f"{order}B4i", 4, 0, 1, 2, 3)
        seeds.append(head.format(name).encode() + body + faces)
    return seeds


def obj() -> list[bytes]:
    vertices = "v 0 0 0 1 0 0\nv 1 0 0 0 1 0\nv 1 1 0 0 0 1\nv .4 .5 0 0 0 1\nv 0 1 0 0 0 1\n"
    return [f"# a\nmtllib a.mtl\n{vertices}vn 0 0 1\nusemtl b\nf 1//1 2//1 3//1\nf 1 2 3 4 5\nf -1 -2 -3\n".encode()]


def off() -> list[bytes]:
    return [
        b"OFF\n5 2 0\n0 0 0\n1 0 0\n1 1 0\n.4 .5 0\n0 1 0\n3 0 1 2\n5 0 1 2 3 4 1 1 1\n",
        b"COFF 3 1 0\n0 1 .5 1 2 3 4\n1 1 .5 1 2 3 4\n0 3 .5 1 2 3 4\n3 0 1 2\n",
    ]


def stl() -> list[bytes]:
    facet = "facet normal 0 0 1\nouter loop\nvertex 0 0 0\nvertex 1 0 0\nvertex 0 1 0\nendloop\nendfacet\n"
    triangles = np.zeros(3, np.dtype([("n", "<f4", 3), ("v", "<f4", (3, 3)), ("a", "<u2")]))
    triangles["v"] = np.arange(27).reshape(3, 3, 3) % 7
    return [
        f"solid a\n{facet * 3}endsolid a\n".encode(),
        b"head".ljust(80) + struct.pack("<I", 3) + triangles.tobytes(),
    ]


def gltf() -> list[bytes]:
    data = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], "<f4").tobytes() + np.array([0, 1, 2, 0], "<u2").tobytes()
    content: dict[str, Any] = {
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "translation": [1, 2, 3], "children": [1]}, {"mesh": 0, "scale": [1, 2, 1]}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "indices": 1}], "weights": [0.5]}],
        "accessors": [
            {"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3"},
            {"bufferView": 1, "componentType": 5123, "count": 3, "type": "SCALAR"},
            {
                "componentType": 5126,
                "count": 3,
                "type": "VEC3",
                "sparse": {
                    "count": 1,
                    "indices": {"bufferView": 1, "componentType": 5123},
                    "values": {"bufferView": 0},
                },
            },
        ],
        "bufferViews": [{"buffer": 0, "byteLength": 36}, {"buffer": 0, "byteOffset": 36, "byteLength": 8}],
        "buffers": [{"byteLength": len(data)}],
    }
    text = json.dumps(content).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(data), b"BIN\0") + data
    glb = struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks
    import base64

    content["buffers"][0]["uri"] = "data:application/octet-stream;base64," + base64.b64encode(data).decode()
    return [glb, json.dumps(content).encode()]


def _las(name: str) -> bytes:
    import laspy

    def write(file: Path) -> None:
        las = laspy.create(point_format=2, file_version="1.2")
        las.header.scales, las.header.offsets = [0.001] * 3, [10.0] * 3
        las.x, las.y, las.z = (10 + POINTS).T
        las.red, las.green, las.blue = (COLORS * 256).T
        las.write(str(file))

    return written(write, name)


def las() -> list[bytes]:
    return [_las("a.las")]


def laz() -> list[bytes]:
    return [_las("a.laz")]


def text() -> list[bytes]:
    rows = "".join("{} {} {}\n".format(*row) for row in POINTS.tolist())
    table = "".join("{},{},{},{},{},{}\n".format(*p, *c) for p, c in zip(POINTS.tolist(), COLORS.tolist(), strict=True))
    return [
        rows.encode(),
        f"40\n{rows}".encode(),
        f"x,y,z,r,g,b\n{table}".encode(),
        f"//X Y Z\n{rows}".encode("utf-16"),
    ]


def npz(**arrays: Any) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def npy(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def clouds_npy() -> list[bytes]:
    table = np.zeros(5, [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("rgb", "<u4")])
    return [npy(POINTS), npy(POINTS.astype(np.float16).T.copy().T), npy(table)]


def clouds_npz() -> list[bytes]:
    packed = io.BytesIO()
    np.savez_compressed(packed, points=POINTS, colors=COLORS)
    return [npz(pos=POINTS, colors=COLORS), npz(x=POINTS[:, 0], y=POINTS[:, 1], z=POINTS[:, 2]), packed.getvalue()]


def _hdf5(**datasets: Any) -> bytes:
    import h5py

    def write(file: Path) -> None:
        with h5py.File(file, "w") as out:
            for name, value in datasets.items():
                packed = {"compression": "gzip"} if np.ndim(value) > 2 else {}
                out.create_dataset(name, data=value, **packed)

    return written(write)


def clouds_hdf5() -> list[bytes]:
    return [_hdf5(points=POINTS, rgb=COLORS), _hdf5(**{"a/data": POINTS.astype(np.float32)})]


def batches_hdf5() -> list[bytes]:
    data = POINTS.astype(np.float32).reshape(4, 10, 3)
    return [_hdf5(data=data, label=np.arange(4)[:, None]), _hdf5(data=data.astype(np.float64), label=np.zeros(4))]


def joints(number: int = 3) -> np.ndarray:
    array = np.zeros((number, 14, 3), dtype=np.float32)
    array[:, :, 0], array[:, :, 1] = 5 + 2 * np.arange(14), 20 + np.arange(number)[:, None]
    array[:, :, 2] = 1
    return array


def mat() -> list[bytes]:
    from scipy.io import savemat

    cells = np.empty((1, 2), object)
    cells[0, 0], cells[0, 1] = np.arange(6.0).reshape(3, 2), np.zeros((0, 2))
    value = joints().transpose(2, 1, 0)
    seeds = []
    for changes in ({}, {"do_compression": True}):
        for content in (
            {"joints": value},
            {"joints": cells, "more": {"a": 1}},
            {"joints": value.astype(np.uint8), "b": "text"},
        ):
            stream = io.BytesIO()
            savemat(stream, content, **changes)
            seeds.append(stream.getvalue())
    stream = io.BytesIO()
    savemat(stream, {"joints": value[0]}, format="4")
    return [*seeds, stream.getvalue()]


def mat73() -> list[bytes]:
    import h5py

    def write(file: Path) -> None:
        with h5py.File(file, "w", userblock_size=512) as out:
            out.create_dataset("joints", data=joints())
            inside = out.create_dataset("#refs#/a", data=POINTS)
            out.create_dataset("cells", data=np.array([[inside.ref]], dtype=h5py.ref_dtype), dtype=h5py.ref_dtype)
        with open(file, "r+b") as stream:
            stream.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")

    return [written(write)]


def annotations() -> list[bytes]:
    keypoints = [
        {"xyz": POINTS[i].tolist(), "pcd_info": {"point_index": i}, "semantic_id": k, "name": f"part {k}"}
        for k, i in enumerate((3, 7, 11))
    ]
    symmetries = {"rotation": [{"kp_indexes": [0, 1], "is_circle": True}], "reflection": [{"kp_indexes": [0, 1]}]}
    records = [
        {"class_id": "02818832", "model_id": name, "keypoints": keypoints, "symmetries": symmetries} for name in "abc"
    ]
    return [json.dumps(records).encode(), json.dumps(records, indent=1).encode("utf-16")]


def splits() -> list[bytes]:
    lines = "02818832-a\n02818832-b\r\n03001627-z\n"
    return [lines.encode(), lines.encode("utf-16"), lines.encode("utf-8-sig")]


def lists_of_files() -> list[bytes]:
    return [b"data/train0.h5\ndata\\train1.h5\n"]


def _coco() -> dict[str, Any]:
    from pcsa.datasets.coco import NAMES

    flat = [value for k in range(17) for value in (3 + k, 2 + k, 1 + k % 2)]
    person = {
        "image_id": 7,
        "category_id": 1,
        "iscrowd": 0,
        "area": 150.0,
        "num_keypoints": 17,
        "bbox": [2.0, 1.0, 20.0, 20.0],
    }
    return {
        "images": [{"id": 7, "file_name": "7.png", "width": 32, "height": 24}],
        "annotations": [{**person, "id": i, "keypoints": flat} for i in (1, 2)],
        "categories": [{"id": 1, "name": "person", "keypoints": list(NAMES), "skeleton": []}],
    }


def coco() -> list[bytes]:
    return [json.dumps(_coco()).encode()]


def detections() -> list[bytes]:
    box = {"category_id": 1, "image_id": 7, "bbox": [5.0, 1.0, 10.0, 9.0], "score": 0.5}
    return [json.dumps([box, box | {"score": 1}]).encode()]


def lsp() -> list[bytes]:
    return [npz(joints=joints())]


def mtfl() -> list[bytes]:
    values = " ".join(str(v) for v in (8, 16, 12, 9, 15, 5, 5, 9, 13, 13))
    return [
        "".join(f" 7.png {values} 1 2 2 3\n" for _ in range(4)).encode(),
        f"a b\\7.png {values}\n".encode("latin-1") * 4,
    ]


def scans() -> list[bytes]:
    rows = 4 + 6.0 * np.arange(3)[:, None] + np.arange(32) / 50 + np.zeros((3, 32))
    image = np.random.default_rng(0).random((24, 32)).astype(np.float32)
    own = {"boundaries": rows, "scale_z_mm": 0.004, "scale_x_mm": [[0.014]]}
    return [npz(image=image, **own), npz(bscan=image, boundaries_manual=rows + 1)]


def volumes() -> list[bytes]:
    scan, size = 256, (8, 16)
    head = struct.pack(
        "<12s 3I 3d 2I 2d I d 4s Q i I",
        b"HSF-OCT-103\0",
        16,
        2,
        8,
        0.01,
        0.1,
        0.004,
        4,
        4,
        0,
        0,
        0,
        0,
        b"OD\0\0",
        0,
        0,
        scan,
    )
    body = b"".join((b"HSF-BS-103\0").ljust(scan, b"\0") + np.full(size, 0.5, "<f4").tobytes() for _ in range(2))
    return [head.ljust(2048, b"\0") + bytes(16) + body]


def delineations() -> list[bytes]:
    from scipy.io import savemat

    cells = np.empty((2, 11), object)
    for i in range(2):
        for k in range(11):
            cells[i, k] = np.array([[1.0, 2 + 0.4 * k], [16.0, 2 + 0.5 * k]]) if k < 9 else np.zeros((0, 2))
    dense = np.ones((16, 2, 9)) + 0.5 * np.arange(9)
    seeds = []
    for content in ({"control_pts": cells}, {"bd_pts": dense}):
        stream = io.BytesIO()
        savemat(stream, content)
        seeds.append(stream.getvalue())
    return seeds


def pictures() -> list[bytes]:
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 4), dtype=np.uint8)
    seeds = []
    for form, mode in (
        ("PNG", "RGB"),
        ("PNG", "RGBA"),
        ("PNG", "P"),
        ("PNG", "I;16"),
        ("JPEG", "RGB"),
        ("BMP", "RGB"),
        ("WEBP", "RGB"),
        ("TIFF", "RGB"),
        ("TIFF", "L"),
        ("GIF", "P"),
        ("PPM", "L"),
    ):
        deep = mode == "I;16"
        picture = Image.fromarray(pixels[:, :, 0].astype(np.uint16) * 257 if deep else pixels)
        picture = picture if deep else picture.convert(mode)
        stream = io.BytesIO()
        exif = Image.Exif()
        exif[0x0112] = 6
        picture.save(stream, form, **({"exif": exif} if form == "JPEG" else {}))
        seeds.append(stream.getvalue())
    import tifffile

    for array in (pixels[:, :, 0].astype(np.float32) / 255, pixels[:, :, :3].astype(np.uint16) * 200):
        stream = io.BytesIO()
        tifffile.imwrite(stream, array)
        seeds.append(stream.getvalue())
    return seeds


def grids() -> list[bytes]:
    values = np.random.default_rng(0).random((6, 5, 4)).astype(np.float32)
    return [npy(values), npy((values * 255).astype(np.uint8)), npy(values[0]), npy(values > 0.5)]


def grids_npz() -> list[bytes]:
    return [npz(volume=np.random.default_rng(0).random((6, 5, 4)))]


def lsp_mat() -> list[bytes]:
    from scipy.io import savemat

    seeds = []
    for value in (joints().transpose(2, 1, 0), joints().transpose(1, 2, 0).astype(np.uint8)):
        for packed in (False, True):
            stream = io.BytesIO()
            savemat(stream, {"joints": value}, do_compression=packed)
            seeds.append(stream.getvalue())
    return seeds


def _frames() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    positions = np.ones((1, 17, 4))
    positions[:, :, :2] = rng.uniform(-0.02, 0.02, (1, 17, 2))
    positions[:, :, 2] = 3.8
    positions[:, [2, 5], 2] = 4.2
    positions[:, 0, :2] = (positions[:, 1, :2] + positions[:, 4, :2]) / 2
    part = np.ones((1, 17, 3))
    part[:, :, :2] = 1000 * positions[:, :, :2] / positions[:, :, 2:3] + [16, 12]
    name = "S1/S1_Walk.54138969/S1_Walk.54138969_000001.png"
    return {
        "imgname": np.array([name]),
        "center": np.array([[16.0, 12.0]]),
        "scale": np.full(1, 0.08),
        "part": part,
        "S": positions,
    }


def frames() -> list[bytes]:
    return [npz(**_frames())]


def cameras() -> list[bytes]:
    camera = {"f": [[1000.0], [1000.0]], "c": [[16.0], [12.0]], "k": [[0.0], [0.0], [0.0]], "p": [[0.0], [0.0]]}
    return [json.dumps({"('S1', '54138969')": camera}).encode()]


def markups() -> list[bytes]:
    points = [
        {"id": "1", "label": "nose", "description": "d", "position": [1.5, -2, 3e-3], "positionStatus": "defined"},
        {"id": "2", "label": "ear", "position": [0, 0, 0], "positionStatus": "undefined", "visibility": False},
        {"label": "eye", "position": None},
    ]
    one = {"type": "Fiducial", "coordinateSystem": "RAS", "coordinateUnits": "mm", "controlPoints": points}
    other = {"type": "Curve", "name": "b", "coordinateUnits": ["cm", "UCUM", "c"], "controlPoints": points[:1]}
    return [json.dumps({"markups": [one]}).encode(), json.dumps({"markups": [one, other]}).encode()]


def fiducials() -> list[bytes]:
    columns = "# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID\n"
    rows = '1,1.5,-2,3e-3,0,0,0,1,1,1,0,nose,d,\n2,4,5,6,0,0,0,1,0,1,0,"a, b",,\n3,0,0,0,0,0,0,1,1,1,0,c,,,0,0\n'
    new = f"# Markups fiducial file version = 4.11\n# CoordinateSystem = LPS\n{columns}{rows}"
    old = "# Fiducial List file a\n# columns = label,x,y,z,sel,vis\nF1,1,2,3,1,1\nF2,4,5,6,1,1\n"
    return [new.encode(), new.replace("LPS", "0").encode(), old.encode()]


def picked_points() -> list[bytes]:
    points = (
        '<point x="1.5" y="-2" z="3e-3" active="1" name="nose"/>\n<point x="0" y="0" z="0" active="0" name="&lt;b"/>'
    )
    return [f"<!DOCTYPE PickedPoints>\n<PickedPoints>\n{points}\n</PickedPoints>\n".encode()]


def landmark_tables() -> list[bytes]:
    table = "scan,rater,name,x [mm],y [mm],z [mm],defined\nA,p,nose,1.5,-2,3e-3,1\nA,q,nose,4,5,6,0\nB,p,ear,,,,\n"
    slicer = "label,l,p,s,defined,selected,visible,locked,description\nF-1,1,2,3,1,1,0,0,d\n"
    lists = ("1,2,3\n4,5,6\n", "0,1,2,3\n1,4,5,6\n", "Point #0,1,2,3\nPoint #1,4,5,6\n", "name;x;y;z\na;1,5;2;3\n")
    return [text.encode() for text in (table, slicer, *lists)]


def pack_zip(members: dict[str, bytes], *, packed: bool = False) -> bytes:
    """Return a zip file whose checksums are right, whatever is in it."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as file:
        for name, content in members.items():
            file.writestr(zipfile.ZipInfo(name), content)
    return stream.getvalue()
