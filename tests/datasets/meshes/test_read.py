import struct
from pathlib import Path

import numpy as np
import pytest
import trimesh

from pcsa.datasets.meshes import MESHES, load_mesh, read_mesh

FAR = (691000.25, 4600000.5, -120.75)


@pytest.mark.parametrize("suffix", MESHES)
def test_every_format_is_sampled(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"A{suffix.upper()}"
    exported = trimesh.creation.box((1.0, 2.0, 3.0)).export(file_type=suffix[1:])
    if isinstance(exported, dict):  # glTF and its buffers
        for name, content in exported.items():
            (file if name.endswith(".gltf") else tmp_path / name).write_bytes(content)
    else:
        file.write_bytes(exported if isinstance(exported, bytes) else exported.encode())
    cloud = read_mesh(file, 500, seed=1)
    assert cloud.points.shape == (500, 3)
    assert cloud.points.dtype == np.float64
    assert np.abs([0.5, 1.0, 1.5] - np.abs(cloud.points)).min(1).max() < 1e-6
    np.testing.assert_array_equal(cloud.points, read_mesh(file, 500, seed=1).points)
    assert not np.array_equal(cloud.points, read_mesh(file, 500, seed=2).points)


@pytest.mark.parametrize("suffix", [".obj", ".off", ".ply", ".stl"])
def test_a_box_far_from_the_origin(tmp_path: Path, suffix: str) -> None:
    box = trimesh.creation.box((1.0, 2.0, 3.0))
    corners = [" ".join(f"{value:.3f}" for value in corner) for corner in box.vertices + FAR]
    faces = box.faces.tolist()
    text = {
        ".obj": "".join(f"v {c}\n" for c in corners)
        + "".join("f {} {} {}\n".format(*(i + 1 for i in f)) for f in faces),
        ".off": "OFF\n8 12 0\n" + "\n".join(corners) + "".join("\n3 {} {} {}".format(*f) for f in faces),
        ".ply": "ply\nformat ascii 1.0\nelement vertex 8\nproperty float x\nproperty float y\nproperty float z\n"
        "element face 12\nproperty list uchar int vertex_indices\nend_header\n"
        + "\n".join(corners)
        + "".join("\n3 {} {} {}".format(*f) for f in faces),
        ".stl": "solid\n"
        + "".join(
            "facet normal 0 0 0\nouter loop\n" + "".join(f"vertex {corners[i]}\n" for i in f) + "endloop\nendfacet\n"
            for f in faces
        )
        + "endsolid\n",
    }[suffix]
    file = tmp_path / f"a{suffix}"
    file.write_text(text)
    points = read_mesh(file, 400).points - FAR
    assert np.abs([0.5, 1.0, 1.5] - np.abs(points)).min(1).max() < 2e-9


PLY = (
    b"ply\nformat binary_little_endian 1.0\nelement vertex 4\nproperty double x\nproperty double y\nproperty double z\n"
    b"element face %d\nproperty list uchar int vertex_indices\nend_header\n"
)


def test_a_vertex_that_is_not_finite_and_that_no_face_uses(tmp_path: Path) -> None:
    corners = struct.pack("<12d", 0, 0, 0, 1, 0, 0, 0, 1, 0, np.nan, 0, 0)
    (tmp_path / "a.ply").write_bytes(PLY % 1 + corners + struct.pack("<B3i", 3, 0, 1, 2))
    cloud = read_mesh(tmp_path / "a.ply", 50)
    assert len(cloud.points) == 50
    assert cloud.num_dropped == 0


def test_faces_that_are_not_finite(tmp_path: Path) -> None:
    file = tmp_path / "a.ply"
    corners = struct.pack("<12d", np.inf, 0, 0, 1, 0, 5, 0, 1, 5, 0, 0, 5)
    file.write_bytes(PLY % 2 + corners + struct.pack("<B3iB3i", 3, 0, 1, 2, 3, 1, 2, 3))
    with pytest.raises(ValueError, match=r"`: vertex 0 \(=inf 0 0\) must be finite: 1 of 4 vertices .*1 faces use"):
        read_mesh(file)
    cloud = read_mesh(file, 50, drop_invalid=True)
    assert (cloud.points[:, 2] == 5).all()
    assert cloud.num_dropped == 1
    # As it is, the file keeps all.
    assert len(load_mesh(file).faces) == 2
    file.write_bytes(PLY % 1 + corners + struct.pack("<B3i", 3, 0, 1, 2))
    with pytest.raises(ValueError, match="every face has a vertex that is not finite"):
        read_mesh(file, drop_invalid=True)


def test_points_that_are_not_finite(tmp_path: Path) -> None:
    file = tmp_path / "a.ply"
    file.write_bytes(PLY % 0 + struct.pack("<12d", 1, 2, 3, np.nan, 0, 0, 4, 5, 6, 0, np.inf, 0))
    with pytest.raises(ValueError, match=r"vertex 1 \(=nan 0 0\) must be finite: 2 of 4 vertices are not \("):
        read_mesh(file)
    cloud = read_mesh(file, drop_invalid=True)
    assert cloud.points.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert cloud.num_dropped == 2
    file.write_bytes(PLY % 0 + struct.pack("<12d", *[np.nan] * 12))
    with pytest.raises(ValueError, match="no vertex is finite"):
        read_mesh(file, drop_invalid=True)


def test_arguments_and_names(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a.txt`: the suffix must be one of .obj"):
        read_mesh(tmp_path / "a.txt")
    with pytest.raises(ValueError, match=r"`num_points` \(=0\)"):
        read_mesh(tmp_path / "a.ply", 0)
    for suffix in MESHES:
        with pytest.raises(FileNotFoundError):
            read_mesh(tmp_path / f"a{suffix}")


@pytest.mark.parametrize("suffix", MESHES)
def test_damaged_files_raise_value_errors_alone(tmp_path: Path, suffix: str) -> None:
    exported = trimesh.creation.box().export(file_type=suffix[1:])
    if isinstance(exported, dict):
        for name, part in exported.items():
            (tmp_path / name).write_bytes(part)
        exported = next(part for name, part in exported.items() if name.endswith(".gltf"))
    whole = exported if isinstance(exported, bytes) else exported.encode()
    file = tmp_path / f"a{suffix}"
    for seed in range(30):
        rng = np.random.default_rng(seed)
        content = bytearray(whole)
        for place in rng.integers(0, len(content), 3):
            content[place] = rng.integers(0, 256)
        if seed % 2:
            del content[int(rng.integers(0, len(content))) :]
        file.write_bytes(content)
        message = f"`{file}`: "
        try:
            assert np.isfinite(read_mesh(file, 20).points).all()
        except ValueError as error:
            message = str(error)
        assert message.startswith(f"`{file}`: ")


def test_a_published_skull_with_vertices_that_are_not_finite(real_data: Path) -> None:
    file = real_data / "landmarks" / "skull_originals" / "WSB.ply"
    if not file.exists():
        pytest.skip(f"`{file}` is not there")
    with pytest.raises(ValueError, match="2 of 69043 vertices are not, 14 faces use them"):
        read_mesh(file)
    cloud = read_mesh(file, 1000, drop_invalid=True)
    assert cloud.num_dropped == 2
    assert cloud.points.min() > -30
    assert cloud.points.max() < 30
