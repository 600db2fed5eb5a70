import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from pcsa.neighbors import ball_query, farthest_points, interpolate, knn

RAGGED, SQUARE = (17, 1, 200, 5), (40, 40, 40)


def where(backend, device):
    return None if device == "cuda" and backend == "scipy" else backend


@pytest.mark.parametrize("dim", [1, 2, 3, 5])
@pytest.mark.parametrize("k", [1, 4, 30])
@pytest.mark.parametrize("sizes", [RAGGED, SQUARE])
def test_knn_naive(sizes, k, dim, backend, device, clouds, naive_neighbors, assert_neighbors):
    pos, ptr = clouds(sizes, dim)
    query, query_ptr = clouds((9,) * len(sizes), dim, seed=1)
    backend = where(backend, device)
    args = [x.to(device) for x in (pos, ptr, query, query_ptr)]
    found = knn(args[0], args[1], k, *args[2:], backend=backend)
    assert_neighbors(found, naive_neighbors(pos, ptr, query, query_ptr, k), k)
    found = knn(args[0], args[1], k, backend=backend)
    assert_neighbors(found, naive_neighbors(pos, ptr, pos, ptr, k), k)
    found = knn(args[0], args[1], k, exclude_self=True, backend=backend)
    expected = naive_neighbors(pos, ptr, pos, ptr, k, exclude_self=True)
    assert_neighbors(found, expected, k)
    assert (found.index[~found.valid.any(1)] == torch.tensor(len(pos[:17]), device=device)).all()  # the lone point


@pytest.mark.parametrize("radius", [0.05, 0.6, 1.5, 100.0])
@pytest.mark.parametrize("sizes", [RAGGED, SQUARE])
def test_ball_query_naive(sizes, radius, backend, device, clouds, naive_neighbors, assert_neighbors):
    pos, ptr = clouds(sizes)
    query, query_ptr = clouds((9,) * len(sizes), seed=1)
    backend = where(backend, device)
    args = [x.to(device) for x in (pos, ptr, query, query_ptr)]
    found = ball_query(args[0], args[1], radius, 8, *args[2:], backend=backend)
    assert_neighbors(found, naive_neighbors(pos, ptr, query, query_ptr, 8, radius=radius), 8)
    # Without a point in the ball, all slots are the nearest point outside.
    nearest = knn(args[0], args[1], 1, *args[2:], backend=backend).index
    alone = ~found.valid.any(1)
    assert bool(alone.any()) == (radius < 100)
    assert (found.index[alone] == nearest[alone]).all()
    found = ball_query(args[0], args[1], radius, 8, backend=backend)
    assert_neighbors(found, naive_neighbors(pos, ptr, pos, ptr, 8, radius=radius), 8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("radius", [0.1, 0.3, 1 / 3, 7.7])
def test_ball_query_radius_is_inclusive(radius, dtype, backend):
    # A lattice along one axis: the first neighbors are at the radius exactly, the second at twice of it.
    pos = torch.tensor([[0.0], [radius], [-radius], [2 * radius]], dtype=dtype)
    query = torch.zeros(1, 1, dtype=dtype)
    found = ball_query(pos, torch.tensor([0, 4]), radius, 4, query, torch.tensor([0, 1]), backend=backend)
    assert found.valid.tolist() == [[True, True, True, False]]
    assert set(found.index[0, :3].tolist()) == {0, 1, 2}
    assert found.index[0, 0] == found.index[0, 3] == 0


def test_knn_keeps_duplicates(backend):
    # More duplicates than slots, so that a row may not find itself among the k + 1 nearest.
    pos = torch.cat([torch.ones(12, 3), torch.zeros(1, 3)])
    ptr = torch.tensor([0, 13])
    found = knn(pos, ptr, 4, exclude_self=True, backend=backend)
    assert found.valid.all()
    assert (found.sq_distance[:12] == 0).all()
    assert (found.sq_distance[12] == 3).all()
    for row, index in enumerate(found.index.tolist()):
        assert row not in index
        assert len(set(index)) == 4


def test_knn_clouds_without_queries(backend):
    pos, ptr = torch.arange(7.0)[:, None], torch.tensor([0, 0, 4, 4, 7])
    query, query_ptr = torch.tensor([[3.1], [5.9]]), torch.tensor([0, 0, 1, 1, 2])
    assert knn(pos, ptr, 2, query, query_ptr, backend=backend).index.tolist() == [[3, 2], [6, 5]]
    none = knn(pos, ptr, 2, query[:0], torch.zeros(5, dtype=torch.long), backend=backend)
    assert none.index.shape == none.sq_distance.shape == (0, 2)


def test_knn_far_from_the_origin(backend):
    # 1e-3 apart at 100, where float32 steps by 7.6e-6, but |a|² − 2ab + |b|² by about 2e-3: useless.
    pos = torch.tensor([[100.0, 100.0, 100.0]]).repeat(20, 1)
    pos[:, 0] += 1e-3 * torch.arange(20)
    found = knn(pos, torch.tensor([0, 20]), 2, pos[:1] + 0.0103, torch.tensor([0, 1]), backend=backend)
    assert found.index.tolist() == [[10, 11]]


def test_knn_scipy_oracle(backend, clouds):
    cKDTree = pytest.importorskip("scipy.spatial").cKDTree

    pos, ptr = clouds((700, 300))
    query, query_ptr = clouds((50, 60), seed=1)
    found = knn(pos, ptr, 16, query, query_ptr, backend=backend)
    for b, (p, q) in enumerate(((slice(0, 700), slice(0, 50)), (slice(700, 1000), slice(50, 110)))):
        distance, index = cKDTree(pos[p].numpy()).query(query[q].numpy(), k=16)
        assert (found.index[q].numpy() - ptr[b].item() == index).all()
        np.testing.assert_allclose(found.sq_distance[q].numpy(), distance**2, rtol=1e-5)


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 40), st.integers(1, 6), st.integers(0, 99))
def test_knn_permutation(clouds, n, k, seed):
    pos, ptr = clouds((n, 30), seed=seed)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    order = torch.cat([order, torch.arange(n, n + 30)])
    plain, permuted = knn(pos, ptr, k), knn(pos[order], ptr, k)
    assert torch.equal(order[permuted.index], plain.index[order])
    assert torch.equal(permuted.sq_distance, plain.sq_distance[order])
    assert torch.equal(permuted.valid, plain.valid[order])


def test_half_precision_positions(clouds):
    pos, ptr = clouds(RAGGED)
    half = pos.bfloat16()
    found, expected = knn(half, ptr, 3), knn(half.float(), ptr, 3)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert torch.equal(farthest_points(half, ptr, 9)[0], farthest_points(half.float(), ptr, 9)[0])
    features = torch.randn(len(pos), 4).bfloat16()
    assert interpolate(features, half, ptr, half, ptr).dtype == torch.bfloat16


def test_sq_distance_gradcheck(clouds):
    pos, ptr = clouds((6, 2), dtype=torch.float64)
    query, query_ptr = clouds((3, 2), dtype=torch.float64, seed=1)
    pos.requires_grad_()
    query.requires_grad_()
    assert torch.autograd.gradcheck(lambda p, q: knn(p, ptr, 3, q, query_ptr).sq_distance, (pos, query))
    assert torch.autograd.gradcheck(lambda p, q: ball_query(p, ptr, 1.0, 3, q, query_ptr)[1], (pos, query))
    assert torch.autograd.gradcheck(lambda p: knn(p, ptr, 3, exclude_self=True).sq_distance, (pos,))


def test_sq_distance_zero_gradient_at_zero():
    pos = torch.zeros(4, 3, requires_grad=True)
    knn(pos, torch.tensor([0, 4]), 3).sq_distance.sum().backward()
    assert (pos.grad == 0).all()
