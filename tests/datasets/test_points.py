from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

from pcsa.datasets.pcd import write_pcd
from pcsa.datasets.points import read_points


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
    trimesh.PointCloud(points).export(tmp_path / "cloud.ply")
    write_pcd(tmp_path / "cloud.pcd", points, binary=True)
    np.save(tmp_path / "cloud.npy", points)
    np.savez(tmp_path / "cloud.npz", anything=points)
    for suffix in ("ply", "pcd", "npy", "npz"):
        np.testing.assert_allclose(read_points(tmp_path / f"cloud.{suffix}"), points, rtol=1e-6)


def test_which_array_of_an_archive_is_the_cloud(tmp_path: Path) -> None:
    points, others = np.eye(3), np.ones((5, 4))
    np.savez(tmp_path / "a.npz", others=others, xyz=points)
    assert torch.equal(read_points(tmp_path / "a.npz"), torch.eye(3, dtype=torch.float64))
    np.savez(tmp_path / "a.npz", others=others, points=points, xyz=2 * points)
    assert torch.equal(read_points(tmp_path / "a.npz"), torch.eye(3, dtype=torch.float64))
    np.savez(tmp_path / "a.npz", others=others, more=points)
    with pytest.raises(
        ValueError, match=r"a\.npz` cannot be read: arrays \['others', 'more'\], none of them named pos"
    ):
        read_points(tmp_path / "a.npz")
    np.save(tmp_path / "a.npy", others)
    assert torch.equal(read_points(tmp_path / "a.npy"), torch.ones(5, 3, dtype=torch.float64))


@pytest.mark.parametrize(
    ("name", "content", "rule"),
    [
        ("nan.npy", np.array([[0.0, np.nan, 0.0]]), "has 1 points that are not finite"),
        ("empty.npy", np.zeros((0, 3)), r"holds float64 \[0, 3\], must be numbers \[N, 3\]"),
        ("flat.npy", np.zeros((5, 2)), "must be numbers"),
        ("text.npy", np.array([["a", "b", "c"]]), "must be numbers"),
        ("broken.npy", b"not an array", "cannot be read"),
        ("broken.npz", b"PK not an archive", "cannot be read"),
        ("broken.pcd", b"VERSION .7\nFIELDS x y z\n", "no `DATA` line"),
        ("broken.obj", b"v 0 0\nf 1 2 3\n", "cannot be read"),
        ("flat.obj", b"v 0 0 0\nv 1 0 0\nv 2 0 0\nf 1 2 3\n", "no area"),
    ],
)
def test_broken_files_are_named(tmp_path: Path, name: str, content: bytes | np.ndarray, rule: str) -> None:
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    else:
        np.save(tmp_path / name, content)
    with pytest.raises(ValueError, match=rf"^`{tmp_path}/{name}` .*{rule}|^`{tmp_path}/{name}`: .*{rule}"):
        read_points(tmp_path / name)
