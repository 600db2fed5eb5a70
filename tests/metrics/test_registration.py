import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from pcsa.metrics import register_cloud


def shape(seed=0, count=400):
    """A cloud without any symmetry: three unequal arms about a corner."""
    rng = np.random.default_rng(seed)
    arms = np.array([[4.0, 0.6, 0.4], [0.5, 2.4, 0.3], [0.4, 0.2, 1.3]])
    return rng.random((count, 3)) * arms[rng.integers(0, 3, count)]


def turned(points, seed=1, scale=1.0, shift=(5.0, -3.0, 9.0)):
    turn = Rotation.random(random_state=seed).as_matrix()
    return scale * points @ turn.T + np.array(shift)


@pytest.mark.parametrize("seed", range(6))
def test_a_moved_copy_is_found_exactly(seed):
    source = shape(seed)
    target = turned(source, seed + 10)
    order = np.random.default_rng(seed).permutation(len(source))
    found = register_cloud(source, target[order])
    torch.testing.assert_close(found.move(torch.from_numpy(source)), torch.from_numpy(target), rtol=0, atol=1e-9)
    assert found.residual < 1e-9
    assert not found.mirrored
    assert torch.linalg.det(found.linear) == pytest.approx(1)


def test_sizes_stay_unless_they_may_change():
    source = shape()
    target = turned(source, scale=1.3)
    scaled = register_cloud(source, target, scaled=True)
    torch.testing.assert_close(scaled.move(torch.from_numpy(source)), torch.from_numpy(target), rtol=0, atol=1e-9)
    rigid = register_cloud(source, target)
    assert torch.linalg.det(rigid.linear) == pytest.approx(1)
    assert rigid.residual > 0.1


def test_a_mirror_image_is_found_only_if_it_may_be():
    source = shape()
    target = turned(source * [1, -1, 1])
    mirrored = register_cloud(source, target, mirrored=True)
    assert mirrored.mirrored
    assert torch.linalg.det(mirrored.linear) == pytest.approx(-1)
    torch.testing.assert_close(mirrored.move(torch.from_numpy(source)), torch.from_numpy(target), rtol=0, atol=1e-9)
    plain = register_cloud(source, target)
    assert not plain.mirrored
    assert plain.residual > 0.05
    # Whoever fits as it is stays as it is.
    assert not register_cloud(source, turned(source), mirrored=True).mirrored


def test_the_residual_is_that_of_the_motion_that_is_returned():
    source, target = shape(0, 300), turned(shape(3, 300))
    found = register_cloud(source, target)
    moved = found.move(torch.from_numpy(source)).numpy()
    there, back = cKDTree(target).query(moved)[0], cKDTree(moved).query(target)[0]
    assert found.residual == pytest.approx(np.sqrt(((there**2).mean() + (back**2).mean()) / 2))


def test_no_motion_close_by_is_better():
    """A reference: a general minimizer from where the registration ended, over rotation and shift."""
    from scipy.optimize import minimize

    source, target = shape(0, 200), turned(shape(5, 200))
    found = register_cloud(source, target)
    tree = cKDTree(target)

    def residual(x):
        moved = (
            source @ (Rotation.from_rotvec(x[:3]).as_matrix() @ found.linear.numpy()).T + found.offset.numpy() + x[3:]
        )
        there, back = tree.query(moved)[0], cKDTree(moved).query(target)[0]
        return np.sqrt(((there**2).mean() + (back**2).mean()) / 2)

    better = minimize(residual, np.zeros(6), method="Nelder-Mead", options={"maxiter": 600, "initial_simplex": None})
    assert residual(np.zeros(6)) == pytest.approx(found.residual)
    assert better.fun > 0.97 * found.residual


@pytest.mark.parametrize("far", [1e-4, 1.0, 1e6])
def test_units_and_places_do_not_matter(far):
    source, target = shape(0), turned(shape(3))
    found = register_cloud(source, target)
    again = register_cloud(source * far + 3 * far, target * far - 2 * far)
    assert again.residual == pytest.approx(far * found.residual, rel=1e-6)
    moved = again.move(torch.from_numpy(source * far + 3 * far)) / far + 2
    torch.testing.assert_close(moved, found.move(torch.from_numpy(source)), rtol=0, atol=1e-6)


def test_bad_input_of_a_registration_is_refused():
    good = shape()
    with pytest.raises(ValueError, match=r"`target` \[400, 2\] must be \[N, 3\]"):
        register_cloud(good, good[:, :2])
    with pytest.raises(ValueError, match="`source` must have points in different places: all 7 are equal"):
        register_cloud(np.full((7, 3), 0.1), good)
    with pytest.raises(ValueError, match="`source` of shape 0 must be finite"):
        register_cloud(np.where(good > 3.9, np.nan, good), good)
