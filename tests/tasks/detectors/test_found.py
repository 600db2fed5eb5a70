import sys
import types

import numpy as np
import pytest
import torch

from pcsa.tasks.detectors.found import Found
from pcsa.viz.colors import keypoint_colors

POSITION = torch.tensor([[0.0, 0.0, 0.0], [1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], dtype=torch.double)


@pytest.fixture
def found():
    return Found(
        ("a", "b", "c"),
        POSITION,
        torch.tensor([0.5, 0.25, 0.125]),
        covariance=4 * torch.eye(3).expand(3, 3, 3),
        presence=torch.tensor([0.9, 0.1, 0.8]),
        index=torch.tensor([3, 1, 2]),
        ids=(5, 2, 9),
    )


def test_colors_are_those_of_pictures(found):
    np.testing.assert_array_equal(found.colors, keypoint_colors([5, 2, 9]))
    assert found.present.tolist() == [True, False, True]


def test_open3d_has_the_keypoints_that_are_there(found):
    pytest.importorskip("open3d")
    cloud = found.to_open3d()
    np.testing.assert_array_equal(np.asarray(cloud.points), POSITION[[0, 2]])
    np.testing.assert_allclose(np.asarray(cloud.colors), found.colors[[0, 2]])
    balls = found.to_open3d(radius=0.5)
    np.testing.assert_allclose(np.asarray(balls.vertices).min(0), [-0.5] * 3, atol=0.02)
    np.testing.assert_allclose(np.asarray(balls.vertices).max(0), [4.5, 5.5, 6.5], atol=0.02)


def test_trimesh_has_the_keypoints_that_are_there(found):
    cloud = found.to_trimesh()
    np.testing.assert_array_equal(cloud.vertices, POSITION[[0, 2]])
    np.testing.assert_allclose(cloud.colors[:, :3], 255 * found.colors[[0, 2]], atol=0.51)
    balls = found.to_trimesh(radius=0.5)
    np.testing.assert_allclose(balls.bounds, [[-0.5] * 3, [4.5, 5.5, 6.5]], atol=0.02)
    assert balls.body_count == 2


def test_pandas_has_a_row_for_each_keypoint(found, monkeypatch):
    # pcsa installs without it: what it is given is what it would show.
    made = types.SimpleNamespace(
        Index=lambda names, name: (name, list(names)), DataFrame=lambda columns, index: (columns, index)
    )
    monkeypatch.setitem(sys.modules, "pandas", made)
    columns, index = found.to_pandas()
    assert index == ("keypoint", ["a", "b", "c"])
    assert list(columns) == ["x", "y", "z", "confidence", "sigma", "presence", "index"]
    np.testing.assert_array_equal(columns["y"], [0, 2, 5])
    np.testing.assert_array_equal(columns["sigma"], [2, 2, 2])
    surfaces = Found(("top", "bottom"), torch.zeros(2, 7), torch.zeros(2, 7), 9 * torch.ones(2, 7, 1, 1))
    torch.testing.assert_close(surfaces.sigma, torch.full((2, 7), 3.0))
    values, _ = surfaces.to_pandas()
    assert values.shape == (2, 7)


@pytest.mark.parametrize(("name", "needs"), [("pandas", "pandas"), ("trimesh", r"'pcsa\[train\]'")])
def test_a_package_that_is_not_there_is_named(found, monkeypatch, name, needs):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=f"`to_{name}` needs {name}: pip install {needs}$"):
        getattr(found, f"to_{name}")()


def test_keypoints_of_images_are_not_in_space():
    flat = Found(("a",), torch.zeros(1, 2), torch.ones(1))
    assert flat.sigma is None
    assert flat.axes == 2
    with pytest.raises(ValueError, match="`to_trimesh` must be called for keypoints of three axes: these have 2"):
        flat.to_trimesh()
    assert Found(("a",), torch.zeros(1, 3), torch.ones(1, 3)).axes == 1
