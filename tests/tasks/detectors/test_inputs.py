import numpy as np
import pytest
import torch
import trimesh
from torch_geometric.data import Batch, Data

from pcsa.tasks.detectors.inputs import Sampling, as_cloud, as_list

POINTS = np.random.default_rng(0).normal(size=(20, 3))


def cloud_of(given, **how):
    return as_cloud(given, Sampling(**how)).pos


def open3d_cloud():
    o3d = pytest.importorskip("open3d")
    return o3d.geometry.PointCloud(o3d.utility.Vector3dVector(POINTS))


def open3d_tensors():
    o3d = pytest.importorskip("open3d")
    return o3d.t.geometry.PointCloud(o3d.core.Tensor(POINTS))


@pytest.mark.parametrize(
    "make",
    [
        lambda: POINTS,
        lambda: np.asfortranarray(POINTS),
        lambda: torch.from_numpy(POINTS),
        lambda: torch.from_numpy(POINTS).requires_grad_(),
        lambda: Data(pos=torch.from_numpy(POINTS)),
        lambda: trimesh.PointCloud(POINTS),
        lambda: trimesh.Trimesh(POINTS, process=False),
        open3d_cloud,
        open3d_tensors,
    ],
    ids=["array", "columns", "tensor", "graph", "data", "trimesh", "no-faces", "open3d", "open3d-tensors"],
)
def test_points_of_every_kind_are_the_points(make):
    pos = cloud_of(make())
    assert pos.dtype == torch.float64
    np.testing.assert_array_equal(pos, POINTS)


def test_numbers_of_other_precisions_become_floats():
    whole = np.arange(12).reshape(4, 3)
    assert cloud_of(whole).dtype == torch.float64
    np.testing.assert_array_equal(cloud_of(whole), whole)
    assert cloud_of(POINTS.astype(np.float32)).dtype == torch.float32
    half = torch.from_numpy(POINTS).bfloat16()
    assert cloud_of(half).dtype == torch.float32
    np.testing.assert_array_equal(cloud_of(half), half.float())


def open3d_mesh(box):
    o3d = pytest.importorskip("open3d")
    return o3d.geometry.TriangleMesh(o3d.utility.Vector3dVector(box.vertices), o3d.utility.Vector3iVector(box.faces))


@pytest.mark.parametrize(
    "make",
    [
        lambda box: box,
        trimesh.Scene,
        open3d_mesh,
        lambda box: Data(
            pos=torch.tensor(np.array(box.vertices)), face=torch.tensor(np.array(box.faces)).t().contiguous()
        ),
    ],
    ids=["trimesh", "scene", "open3d", "data"],
)
def test_meshes_of_every_kind_are_sampled_alike(make, tmp_path):
    box = trimesh.creation.box((1.0, 2.0, 3.0))
    cloud = as_cloud(make(box), Sampling(300, seed=1))
    assert cloud.is_sampled
    assert cloud.pos.shape == (300, 3)
    box.export(tmp_path / "box.ply")
    from_file = as_cloud(tmp_path / "box.ply", Sampling(300, seed=1))
    assert from_file.is_sampled
    np.testing.assert_allclose(cloud.pos, from_file.pos, atol=1e-6)
    assert as_cloud(make(box), Sampling()).pos.shape == (2048, 3)


def test_files_are_read_as_predict_reads_them(tmp_path):
    np.savetxt(tmp_path / "a.xyz", np.c_[np.arange(20), POINTS])
    cloud = as_cloud(str(tmp_path / "a.xyz"), Sampling(columns="label x y z"))
    np.testing.assert_allclose(cloud.pos, POINTS)
    assert cloud.name == str(tmp_path / "a.xyz")
    np.save(tmp_path / "a.npy", POINTS)
    np.testing.assert_array_equal(cloud_of(tmp_path / "a.npy"), POINTS)


def test_points_that_are_not_finite_are_refused_or_left_out():
    broken = POINTS.copy()
    broken[3, 1] = np.nan
    with pytest.raises(ValueError, match=r"the cloud must be finite: 1 of its 20 points are not, the first is point 3"):
        cloud_of(broken)
    np.testing.assert_array_equal(cloud_of(broken, drop_invalid=True), np.delete(POINTS, 3, axis=0))
    with pytest.raises(ValueError, match="at least one point that is finite"):
        cloud_of(np.full((2, 3), np.inf), drop_invalid=True)
    box = trimesh.creation.box()
    vertices = np.array(box.vertices)
    vertices[0] = np.nan
    with pytest.raises(ValueError, match="must be finite"):
        cloud_of(Data(pos=torch.tensor(vertices), face=torch.tensor(np.array(box.faces)).t()))


@pytest.mark.parametrize(
    "given",
    [np.zeros((4, 2)), np.zeros(3), np.zeros((2, 2, 3, 3)), np.array([["a", "b", "c"]]), np.zeros((0, 3)), None, 3, {}],
    ids=["plane", "row", "axes", "words", "empty", "none", "number", "dict"],
)
def test_anything_else_is_refused_by_its_name(given):
    with pytest.raises(ValueError, match=r"^`clouds\[1\]`.* must "):
        as_cloud(given, Sampling(), "`clouds[1]`")


def test_a_mesh_without_area_is_refused():
    flat = Data(pos=torch.zeros(3, 3), face=torch.tensor([[0], [1], [2]]))
    with pytest.raises(ValueError, match="the cloud: the mesh has no area"):
        cloud_of(flat)


def test_several_are_told_from_one():
    one = POINTS
    assert as_list(one) == ([one], False)
    assert as_list([one, one]) == ([one, one], True)
    assert as_list((one,)) == ([one], True)
    assert as_list([]) == ([], True)
    stacked, several = as_list(torch.zeros(2, 5, 3))
    assert several
    assert [x.shape for x in stacked] == [(5, 3), (5, 3)]
    batch, several = as_list(Batch.from_data_list([Data(pos=torch.zeros(4, 3)), Data(pos=torch.ones(2, 3))]))
    assert several
    assert [len(x.pos) for x in batch] == [4, 2]
    assert as_list(Data(pos=torch.zeros(4, 3)))[1] is False
    assert as_list("a.ply") == (["a.ply"], False)
