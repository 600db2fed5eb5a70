import pytest
import torch
from hypothesis import given, settings, strategies as st

from pcsa import knn_bandwidth


def naive(pos, sizes, k, scale):
    out = []
    for cloud in pos.split(sizes):
        floor = max(1e-6 * (cloud.amax(0) - cloud.amin(0)).norm().item(), torch.finfo(pos.dtype).tiny)
        for i in range(len(cloud)):
            others = torch.cat([cloud[:i], cloud[i + 1 :]])
            nearest = (others - cloud[i]).norm(dim=1).sort().values[:k]
            out.append(max(scale * nearest.mean().item() if len(nearest) else 0.0, floor))
    return torch.tensor(out, dtype=pos.dtype)


@pytest.mark.parametrize("dim", [1, 2, 3])
@pytest.mark.parametrize("spacing", [1.0, 0.25, 3.0])
def test_spacing_of_a_regular_grid_corners_included(dim, spacing):
    # A corner has D neighbors at the spacing, every other point at least as many: the mean of D is the spacing.
    axis = spacing * torch.arange(4.0, dtype=torch.float64)
    grid = torch.cartesian_prod(*[axis] * dim).view(-1, dim)
    width = knn_bandwidth(grid)
    assert torch.equal(width, torch.full((4**dim,), spacing, dtype=torch.float64))
    # With more neighbors than axes a corner reaches to the diagonal (in 1-D, to the point after the next).
    wider = knn_bandwidth(grid, k=dim + 1)
    assert wider[0] > spacing


def test_hand_checkable_numbers():
    pos = torch.tensor([[0.0], [2.0], [3.0], [7.0]])
    assert knn_bandwidth(pos).tolist() == [2.0, 1.0, 1.0, 4.0]
    assert knn_bandwidth(pos, k=2).tolist() == [2.5, 1.5, 2.0, 4.5]
    assert knn_bandwidth(pos, k=2, scale=0.5).tolist() == [1.25, 0.75, 1.0, 2.25]
    # More neighbors than there are: those there are, 2, 3 and 7 away from the first.
    assert knn_bandwidth(pos, k=9)[0].item() == 4.0


@settings(deadline=None, max_examples=20, derandomize=True)
@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=st.lists(st.integers(1, 7), min_size=1, max_size=4),
    k=st.integers(1, 5),
    dim=st.integers(1, 5),
)
def test_against_a_loop(seed, sizes, k, dim):
    pos = torch.randn(sum(sizes), dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    batch = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    ptr = torch.tensor([0, *sizes]).cumsum(0)
    expected = naive(pos, sizes, k, 1.5)
    for clouds in ({"batch": batch}, {"ptr": ptr}, {"batch": batch, "batch_size": len(sizes)}):
        torch.testing.assert_close(knn_bandwidth(pos, k=k, scale=1.5, **clouds), expected)
    torch.testing.assert_close(knn_bandwidth(pos, ptr=ptr), naive(pos, sizes, dim, 1.0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_duplicates_and_lone_points_get_the_floor(dtype):
    tiny = torch.finfo(dtype).tiny
    pos = torch.tensor([[0.0, 0.0]] * 3 + [[3.0, 4.0]] + [[7.0, 7.0]] * 3 + [[9.0, 9.0]], dtype=dtype)
    pos.requires_grad_()
    width = knn_bandwidth(pos, ptr=torch.tensor([0, 4, 7, 8]))
    # First cloud: extent 5, so a floor of 5e-6 at the three that coincide; the fourth is 5 away from all.
    # Second: all equal; third: one point. Nothing but the smallest normal number is left.
    torch.testing.assert_close(width[:4], torch.tensor([5e-6, 5e-6, 5e-6, 5.0], dtype=dtype))
    assert width[4:].tolist() == [tiny] * 4
    width.sum().backward()
    # d width[3] / d pos[3] is the unit vector (3, 4) / 5; those at the floor have no slope.
    torch.testing.assert_close(pos.grad[3], torch.tensor([0.6, 0.8], dtype=dtype))
    assert pos.grad.isfinite().all()
    assert pos.grad[4:].eq(0).all()
    assert knn_bandwidth(torch.zeros(1, 3)).tolist() == [torch.finfo(torch.float32).tiny]


def test_gradient_against_finite_differences():
    pos = torch.randn(9, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    ptr = torch.tensor([0, 2, 9])
    assert torch.autograd.gradcheck(lambda x: knn_bandwidth(x, ptr=ptr, scale=0.7), pos)


def test_half_precision_and_autocast_are_computed_in_single():
    pos = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(knn_bandwidth(pos.half()), knn_bandwidth(pos.half().float()))
    plain = knn_bandwidth(pos)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(knn_bandwidth(pos), plain)


def test_values_are_not_checked_without_validate():
    pos = torch.tensor([[0.0], [1.0], [torch.nan], [3.0]])
    assert len(knn_bandwidth(pos[:2], ptr=torch.tensor([0, 2, 2]), validate=False)) == 2
    # Few points in many axes: searched without a tree, which would look at the values itself.
    assert len(knn_bandwidth(pos.expand(4, 3), validate=False)) == 4


def test_dense_is_ragged_cloud_by_cloud():
    pos = torch.randn(2, 7, 3, dtype=torch.float64)
    expected = torch.stack([knn_bandwidth(cloud) for cloud in pos])
    torch.testing.assert_close(knn_bandwidth(pos), expected)


def test_masked_points_are_nobodys_neighbors():
    pos = torch.tensor([[[0.0], [100.0], [2.0], [3.0]], [[0.0], [1.0], [5.0], [0.5]]], requires_grad=True)
    mask = torch.tensor([[True, False, True, True], [True, True, False, False]])
    sigma = knn_bandwidth(pos, mask=mask)
    # Nearest of 0, 2, 3: 2, 1, 1; of 0, 1: 1, 1; 1 where nothing is.
    assert sigma.tolist() == [[2, 1, 1, 1], [1, 1, 1, 1]]
    sigma.sum().backward()
    assert (pos.grad[~mask] == 0).all()


def test_bad_input_of_dense_positions():
    pos = torch.randn(2, 4, 3)
    with pytest.raises(ValueError, match="`batch`, `ptr`"):
        knn_bandwidth(pos, torch.zeros(2, dtype=torch.long))
    with pytest.raises(ValueError, match="`mask`"):
        knn_bandwidth(pos, mask=torch.ones(2, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match="`mask`"):
        knn_bandwidth(pos[0], mask=torch.ones(1, 4, dtype=torch.bool))
    with pytest.raises(ValueError, match="every cloud"):
        knn_bandwidth(pos, mask=torch.tensor([[True] * 4, [False] * 4]))
