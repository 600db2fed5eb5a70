import pytest
import torch
from hypothesis import given, settings, strategies as st

from pcsa import knn_bandwidth


def naive(pos, sizes, k, scale):
    """A loop over the points: distances to the first point of each other place, as numbers that carry gradients."""
    out = []
    for cloud in pos.split(sizes):
        floor = max(1e-6 * (cloud.amax(0) - cloud.amin(0)).norm().item(), torch.finfo(pos.dtype).tiny)
        places = {}
        for place, point in zip(cloud.tolist(), cloud, strict=True):
            places.setdefault(tuple(place), point)
        for own in map(tuple, cloud.tolist()):
            distance = [(point - places[own]).norm() for place, point in places.items() if place != own]
            nearest = torch.stack(distance).sort().values[:k] if distance else cloud.new_zeros(1)
            width = scale * nearest.mean()
            out.append(width if width.item() > floor else torch.tensor(floor, dtype=pos.dtype))
    return torch.stack(out)


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


@settings(deadline=None, max_examples=40, derandomize=True)
@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=4),
    k=st.integers(1, 5),
    dim=st.integers(1, 9),
    levels=st.integers(1, 5),
)
def test_repeated_places_against_a_loop(seed, sizes, k, dim, levels):
    # Few levels of each axis: most points are copies.
    generator = torch.Generator().manual_seed(seed)
    level = torch.randn(levels, dim, generator=generator, dtype=torch.float64)
    pos = level.gather(0, torch.randint(levels, (sum(sizes), dim), generator=generator)).requires_grad_()
    weight = torch.randn(len(pos), generator=generator, dtype=torch.float64)
    expected = naive(pos, sizes, k, 1.5)
    found = knn_bandwidth(pos, ptr=torch.tensor([0, *sizes]).cumsum(0), k=k, scale=1.5)
    torch.testing.assert_close(found, expected)
    wanted = torch.autograd.grad((weight * expected).sum() + 0 * pos.sum(), pos)
    torch.testing.assert_close(torch.autograd.grad((weight * found).sum(), pos), wanted)


@settings(deadline=None, max_examples=40, derandomize=True)
@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=st.lists(st.integers(1, 200), min_size=1, max_size=3),
    num_copies=st.integers(1, 300),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_copies_change_no_bandwidth(seed, sizes, num_copies, dtype):
    """Small clouds are searched by PyTorch, large ones by a tree."""
    generator = torch.Generator().manual_seed(seed)
    pos = torch.randn(sum(sizes), 3, generator=generator, dtype=dtype)
    batch = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    expected = knn_bandwidth(pos, batch)
    row = torch.cat([torch.arange(len(pos)), torch.randint(len(pos), (num_copies,), generator=generator)])
    row = row[torch.randperm(len(row), generator=generator)]
    row = row[batch[row].argsort(stable=True)]
    torch.testing.assert_close(knn_bandwidth(pos[row], batch[row]), expected[row], rtol=1e-6, atol=0)
    # In as many slots of a dense batch as the largest cloud needs.
    size = batch[row].bincount()
    mask = torch.arange(int(size.max())) < size[:, None]
    dense = pos.new_zeros(*mask.shape, 3).masked_scatter(mask[..., None], pos[row])
    torch.testing.assert_close(knn_bandwidth(dense, mask=mask)[mask], expected[row], rtol=1e-6, atol=0)


def test_pixels_without_depth_have_the_bandwidth_of_one_point():
    # A flat patch seen from the origin; 12 pixels are missing, which cameras write as zeros of either sign.
    patch = torch.cartesian_prod(torch.arange(5.0), torch.arange(5.0), torch.tensor([50.0]))
    pos = torch.cat([patch, torch.zeros(6, 3), -torch.zeros(6, 3)])
    width = knn_bandwidth(pos)
    # A corner: 1, 1 and the root of 2. From the origin the nearest are (0, 0, 50), (0, 1, 50), (1, 0, 50).
    assert width[0].item() == pytest.approx((2 + 2**0.5) / 3)
    assert width[25:].tolist() == pytest.approx([(50 + 2 * 2501**0.5) / 3] * 12)


def test_a_place_is_of_one_cloud():
    pos = torch.tensor([[0.0], [1.0], [0.0], [0.0], [5.0]])
    assert knn_bandwidth(pos, ptr=torch.tensor([0, 2, 5])).tolist() == [1, 1, 5, 5, 5]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_lone_places_get_the_floor(dtype):
    tiny = torch.finfo(dtype).tiny
    # Four places in a line, of which two are 1e-7 apart in an extent of 5; all points in one place; one point.
    pos = torch.tensor([[0.0, 0.0], [1e-7, 0.0], [3.0, 4.0], [7.0, 7.0], [7.0, 7.0], [9.0, 9.0]], dtype=dtype)
    pos.requires_grad_()
    width = knn_bandwidth(pos, ptr=torch.tensor([0, 3, 5, 6]), k=1)
    torch.testing.assert_close(width[:3], torch.tensor([5e-6, 5e-6, 5.0], dtype=dtype))
    assert width[3:].tolist() == [tiny] * 3
    width.sum().backward()
    # d width[2] / d pos[2] is the unit vector (3, 4) / 5; those at the floor have no slope.
    torch.testing.assert_close(pos.grad[2], torch.tensor([0.6, 0.8], dtype=dtype))
    assert pos.grad.isfinite().all()
    assert pos.grad[3:].eq(0).all()
    assert knn_bandwidth(torch.zeros(1, 3)).tolist() == [torch.finfo(torch.float32).tiny]


def test_one_read_of_the_device_finds_the_copies(monkeypatch):
    """The sizes of the clouds are read in any case; whether there are copies comes with them."""
    reads = []
    for name in ("tolist", "item", "nonzero", "__bool__", "__int__", "__float__"):
        plain = getattr(torch.Tensor, name)
        # What is on the CPU in any case, such as the sizes once they are read, costs nothing.
        monkeypatch.setattr(torch.Tensor, name, lambda x, plain=plain: (reads.append(x.numel()), plain(x))[1])
    knn_bandwidth(torch.randn(20, 3), ptr=torch.tensor([0, 8, 20]), validate=False)
    # First the sizes with the flag, then the sizes again, from the CPU.
    assert reads == [4, 3]


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
