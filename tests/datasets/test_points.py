from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import trimesh

from pcsa.datasets.pcd import write_pcd
from pcsa.datasets.points import check_cloud, read_cloud, read_points


def test_every_format_is_read(tmp_path: Path) -> None:
    box = trimesh.creation.box((1.0, 2.0, 3.0))
    for suffix in ("obj", "off", "stl", "ply"):
        file = tmp_path / f"mesh.{suffix}"
        box.export(file)
        points = read_points(file, 500, seed=1)
        assert points.shape == (500, 3)
        # Every sampled point lies on a face of the box.
        gap = (torch.tensor([0.5, 1.0, 1.5]) - points.abs()).abs().amin(1)
        assert gap.max() < 1e-5
        assert torch.equal(points, read_points(file, 500, seed=1))
    points = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    np.savetxt(tmp_path / "cloud.xyz", points)
    np.savetxt(tmp_path / "cloud.csv", points, delimiter=",", header="x,y,z", comments="")
    trimesh.PointCloud(points).export(tmp_path / "cloud.ply")
    write_pcd(tmp_path / "cloud.pcd", points, binary=True)
    np.save(tmp_path / "cloud.npy", points)
    np.savez(tmp_path / "cloud.npz", anything=points)
    for suffix in ("ply", "pcd", "npy", "npz", "xyz", "csv"):
        np.testing.assert_allclose(read_points(tmp_path / f"cloud.{suffix}"), points, rtol=1e-6)


def test_suffixes_in_upper_case(tmp_path: Path) -> None:
    points = np.random.default_rng(0).normal(size=(20, 3))
    write_pcd(tmp_path / "A.PCD", points)
    np.savetxt(tmp_path / "A.XYZ", points)
    np.testing.assert_allclose(read_points(tmp_path / "A.PCD"), points, rtol=1e-6)
    np.testing.assert_array_equal(read_points(tmp_path / "A.XYZ"), points)
    with pytest.raises(ValueError, match=r"a\.doc`: must be a file of \.pcd, \.npy"):
        read_points(tmp_path / "a.doc")


def test_columns_are_for_files_without_names(tmp_path: Path) -> None:
    points = np.random.default_rng(0).normal(size=(20, 3))
    np.savetxt(tmp_path / "a.txt", points)
    assert torch.equal(read_points(tmp_path / "a.txt", columns="y x z"), torch.from_numpy(points[:, [1, 0, 2]]))
    write_pcd(tmp_path / "a.pcd", points)
    with pytest.raises(ValueError, match=r"a\.pcd`: `columns` \(='y x z'\) must be None for \.pcd"):
        read_points(tmp_path / "a.pcd", columns="y x z")
    with pytest.raises(ValueError, match=r"^`columns` \(='y x'\) must name x, y and z once each"):
        read_points(tmp_path / "a.txt", columns="y x")


@pytest.mark.parametrize("suffix", ["pcd", "npy", "xyz", "h5"])
def test_faults_of_a_cloud_are_listed(tmp_path: Path, suffix: str) -> None:
    rows = [[1.0, 2.0, 3.0], [0.0, 0.0, 0.0], [np.nan, 0.0, 0.0], [0.0, 0.0, 0.0], [1.0, 2.0, 3.0], [0.0, -0.0, 0.0]]
    path = tmp_path / f"scan.{suffix}"
    text = "\n".join(" ".join(map(str, row)) for row in rows)
    if suffix == "pcd":
        path.write_text(f"FIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nPOINTS 6\nDATA ascii\n{text}\n")
    elif suffix == "npy":
        np.save(path, np.array(rows))
    elif suffix == "xyz":
        path.write_text(text)
    else:
        with h5py.File(path, "w") as file:
            file["points"] = np.array(rows)
    with pytest.raises(ValueError, match="1 points are not finite, of 6"):
        read_cloud(path)
    cloud = read_cloud(path, drop_invalid=True)
    assert (len(cloud.points), cloud.num_dropped) == (5, 1)
    assert check_cloud(path) == [
        (str(path), "1 points are not finite, of 6 (`drop_invalid` leaves them out)"),
        (str(path), "3 of 5 points repeat another one exactly, 3 lie at (0, 0, 0)"),
    ]


def test_faults_of_what_is_no_cloud(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("1 2 3 4\n")
    (tmp_path / "b.xyz").write_text("1 2 3\n4 5 6\n")
    (tmp_path / "c.xyz").write_text("nan nan nan\n")
    (tmp_path / "d.pcd").write_bytes(b"\x00\xff")
    assert [problem.message[:20] for problem in check_cloud(tmp_path / "a.txt")] == ["4 columns without na"]
    assert check_cloud(tmp_path / "a.txt", "label x y z") == []
    assert check_cloud(tmp_path / "b.xyz") == []
    assert check_cloud(tmp_path / "c.xyz") == [(str(tmp_path / "c.xyz"), "has no points, none of its points is finite")]
    assert len(check_cloud(tmp_path / "d.pcd")) == 1
    assert len(check_cloud(tmp_path / "absent.pcd")) == 1


@pytest.mark.parametrize(
    ("name", "content", "rule"),
    [
        ("nan.npy", np.array([[0.0, np.nan, 0.0]]), "1 points are not finite, of 1"),
        ("empty.npy", np.zeros((0, 3)), "must be numbers"),
        ("flat.npy", np.zeros((5, 2)), "must be numbers"),
        ("text.npy", np.array([["a", "b", "c"]]), "must be numbers"),
        ("broken.npy", b"not an array", "cannot be read"),
        ("broken.npz", b"PK not an archive", "cannot be read"),
        ("broken.pcd", b"VERSION .7\nFIELDS x y z\n", "no `DATA` line"),
        ("empty.pcd", b"FIELDS x y z\nPOINTS 0\nDATA ascii\n", "has no points"),
        ("broken.h5", b"not HDF5", "cannot be read"),
        ("broken.csv", b"\x00\x01\x02", "neither numbers|no line of numbers|must be"),
        ("broken.obj", b"v 0 0\nf 1 2 3\n", "line 1: `v` must have 3, 4, 6 or 7 numbers, has 2"),
        ("flat.obj", b"v 0 0 0\nv 1 0 0\nv 2 0 0\nf 1 2 3\n", "no area"),
    ],
)
def test_broken_files_are_named(tmp_path: Path, name: str, content: bytes | np.ndarray, rule: str) -> None:
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    else:
        np.save(tmp_path / name, content)
    with pytest.raises(ValueError, match=rf"^`{tmp_path}/{name}`: .*({rule})"):
        read_points(tmp_path / name)


def test_vertices_that_are_not_finite(tmp_path: Path) -> None:
    path = tmp_path / "mesh.off"
    path.write_text("OFF\n5 3 0\n0 0 0\n1 0 0\n0 1 0\nnan 0 0\n0 0 nan\n3 0 1 2\n3 0 1 3\n3 0 1 4\n")
    # The points of a mesh are samples: out of how many vertices is not said by their number.
    assert check_cloud(path) == [(str(path), "2 points are not finite (`drop_invalid` leaves them out)")]
