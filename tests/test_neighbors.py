import importlib
import math
import os
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from pcsa import neighbors
from pcsa.neighbors import (
    ball_query,
    farthest_points,
    interpolate,
    interpolation_weights,
    knn,
    knn_graph,
    weighted_gather,
)


def _available(name: str):
    try:
        importlib.import_module("scipy.spatial" if name == "scipy" else name)
    except ImportError as error:
        return pytest.param(name, marks=pytest.mark.skip(reason=f"{name} is not importable: {error}"))
    return pytest.param(name)


BACKENDS = [_available(name) for name in ("torch", "scipy", "torch_cluster", "pyg_lib")] + [None]
DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=[pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")],
    ),
]
RAGGED, SQUARE = (17, 1, 200, 5), (40, 40, 40)


def _clouds(sizes, dim=3, dtype=torch.float32, seed=0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    pos = torch.randn(sum(sizes), dim, generator=generator, dtype=dtype)
    return pos, torch.tensor([0, *sizes]).cumsum(0)


def _naive_farthest(pos, ptr, counts, starts=None):
    """Greedy choice, one point at a time, in float64."""
    pos, ptr, out = pos.double().tolist(), ptr.tolist(), []
    for b, count in enumerate(counts):
        rows = list(range(ptr[b], ptr[b + 1]))
        chosen = []
        for _ in range(min(count, len(rows))):
            if not chosen:
                best = rows[starts[b] if starts else 0]
            else:
                best, best_distance = None, -1.0
                for i in rows:
                    distance = min(math.dist(pos[i], pos[j]) for j in chosen)
                    if i not in chosen and distance > best_distance:
                        best, best_distance = i, distance
            chosen.append(best)
        out += chosen
    return out


def _naive_neighbors(pos, ptr, query, query_ptr, k, exclude_self=False, radius=math.inf):
    """Sort all points of the cloud for each query: a list of (rows, squared distances)."""
    pos, query, ptr, query_ptr = (
        pos.double().tolist(),
        query.double().tolist(),
        ptr.tolist(),
        query_ptr.tolist(),
    )
    out = []
    for b in range(len(ptr) - 1):
        for i in range(query_ptr[b], query_ptr[b + 1]):
            rows = [j for j in range(ptr[b], ptr[b + 1]) if not (exclude_self and j == i)]
            rows = sorted((math.dist(query[i], pos[j]), j) for j in rows)
            out.append([(j, d * d) for d, j in rows if d <= radius][:k])
    return out


def _assert_neighbors(found, expected, k):
    assert found.index.shape == found.sq_distance.shape == found.valid.shape == (len(expected), k)
    for index, sq_distance, valid, rows in zip(*(x.cpu().tolist() for x in found), expected, strict=True):
        assert valid == [True] * len(rows) + [False] * (k - len(rows))
        assert index[: len(rows)] == [j for j, _ in rows]
        assert sq_distance[: len(rows)] == pytest.approx([d for _, d in rows], rel=1e-5, abs=1e-12)
        assert set(index[len(rows) :]) <= {index[0]}
        assert set(sq_distance[len(rows) :]) <= {sq_distance[0]}


# --- farthest points ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dim", [1, 2, 3, 5])
@pytest.mark.parametrize("sizes", [RAGGED, SQUARE])
def test_farthest_points_naive(sizes, dim, backend, device):
    pos, ptr = _clouds(sizes, dim)
    index, ptr_out = farthest_points(pos.to(device), ptr.to(device), 12, backend=_on(backend, device))
    assert index.tolist() == _naive_farthest(pos, ptr, [12] * len(sizes))
    assert ptr_out.tolist() == [0, *np.cumsum([min(12, n) for n in sizes])]
    assert index.dtype == ptr_out.dtype == torch.int64
    assert index.device.type == ptr_out.device.type == device


def _on(backend, device):
    return None if device == "cuda" and backend == "scipy" else backend


@pytest.mark.parametrize("backend", BACKENDS)
def test_farthest_points_by_hand(backend):
    # From 0 the farthest is 9; then 4 (4 from 0, 5 from 9) beats 2 and 3; then 2 (2 from both) beats 3.
    pos = torch.tensor([[0.0], [2.0], [3.0], [4.0], [9.0]])
    assert farthest_points(pos, torch.tensor([0, 5]), 4, backend=backend)[0].tolist() == [0, 4, 3, 1]
    # Ties go to the lowest row: -1 and 1 are equally far from 0.
    pos = torch.tensor([[0.0], [1.0], [-1.0]])
    assert farthest_points(pos, torch.tensor([0, 3]), 2, backend=backend)[0].tolist() == [0, 1]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_farthest_points_does_not_depend_on_the_unit(backend, scale):
    pos, ptr = _clouds(RAGGED, dtype=torch.float64)
    expected = _naive_farthest(pos, ptr, [9] * 4)
    assert farthest_points(pos * scale, ptr, 9, backend=backend)[0].tolist() == expected


@pytest.mark.parametrize("backend", BACKENDS)
def test_farthest_points_counts(backend):
    pos, ptr = _clouds((100, 3, 10))
    # A share is rounded up: 0.07 × 100 is 7 (not 8, as in floats), 0.07 × 3 → 1, 0.07 × 10 → 1.
    assert farthest_points(pos, ptr, 0.07, backend=backend)[1].tolist() == [0, 7, 8, 9]
    assert farthest_points(pos, ptr, 1.0, backend=backend)[1].tolist() == [0, 100, 103, 113]
    index, ptr_out = farthest_points(pos, ptr, torch.tensor([2, 9, 4]), backend=backend)
    assert ptr_out.tolist() == [0, 2, 5, 9]
    assert index.tolist() == _naive_farthest(pos, ptr, [2, 9, 4])
    assert index[2:5].sort().values.tolist() == [100, 101, 102]


@pytest.mark.parametrize("backend", BACKENDS)
def test_farthest_points_where_padding_would_be_wasted(backend):
    sizes = (900, *[2] * 30)
    pos, ptr = _clouds(sizes)
    index, _ = farthest_points(pos, ptr, 40, backend=backend)
    assert index.tolist() == _naive_farthest(pos, ptr, [40] * len(sizes))


@pytest.mark.parametrize("backend", BACKENDS)
def test_farthest_points_duplicates_come_last_and_once(backend):
    # First cloud: the rows 0, 3, 1 differ; then the duplicates 2 and 4 in order. All equal in the second.
    pos = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 0.0], [5.0, 0.0], [1.0, 0.0], *[[7.0, 7.0]] * 3])
    index, ptr_out = farthest_points(pos, torch.tensor([0, 5, 8]), 5, backend=backend)
    assert index.tolist() == [0, 3, 1, 2, 4, 5, 6, 7]
    assert ptr_out.tolist() == [0, 5, 8]


@pytest.mark.parametrize("backend", BACKENDS)
def test_farthest_points_empty_clouds(backend):
    pos, _ = _clouds((6,))
    index, ptr_out = farthest_points(pos, torch.tensor([0, 0, 4, 4, 6, 6]), 3, backend=backend)
    assert index.tolist() == _naive_farthest(pos, torch.tensor([0, 4, 6]), [3, 3])
    assert ptr_out.tolist() == [0, 0, 3, 3, 5, 5]
    index, ptr_out = farthest_points(pos[:0], torch.tensor([0, 0]), 3, backend=backend)
    assert (index.tolist(), ptr_out.tolist()) == ([], [0, 0])


@pytest.mark.parametrize("backend", BACKENDS)
def test_farthest_points_random_start(backend):
    pos, ptr = _clouds(RAGGED)
    runs = []
    for seed in (1, 1, 2):
        generator = torch.Generator().manual_seed(seed)
        runs.append(farthest_points(pos, ptr, 4, random_start=True, generator=generator, backend=backend))
    assert torch.equal(runs[0][0], runs[1][0])
    assert not torch.equal(runs[0][0], runs[2][0])
    index, ptr_out = runs[0]
    starts = (index[ptr_out[:-1]] - ptr[:-1]).tolist()
    assert any(starts)
    assert index.tolist() == _naive_farthest(pos, ptr, [4] * 4, starts)


def test_farthest_points_backends_draw_the_same_start():
    pos, ptr = _clouds(RAGGED)
    runs = []
    for param in BACKENDS:
        backend = param.values[0] if param is not None else None
        if param is None or not param.marks:
            torch.manual_seed(5)
            runs.append(farthest_points(pos, ptr, 4, random_start=True, backend=backend)[0].tolist())
    assert len(runs) >= 2
    assert all(run == runs[0] for run in runs)


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=4), st.integers(1, 9), st.integers(0, 99))
def test_farthest_points_properties(sizes, count, seed):
    # Coarse integer positions: many duplicates and ties.
    pos, ptr = _clouds(sizes, 2, seed=seed)
    pos = (pos * 1.5).round()
    index, ptr_out = farthest_points(pos, ptr, count)
    assert index.tolist() == _naive_farthest(pos, ptr, [count] * len(sizes))
    assert len(set(index.tolist())) == len(index) == ptr_out[-1]
    more, more_ptr = farthest_points(pos, ptr, count + 3)
    for b in range(len(sizes)):  # fewer points are the first of more points
        assert torch.equal(index[ptr_out[b] : ptr_out[b + 1]], more[more_ptr[b] :][: ptr_out[b + 1] - ptr_out[b]])


# --- nearest neighbors and balls ---------------------------------------------------------------------------


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dim", [1, 2, 3, 5])
@pytest.mark.parametrize("k", [1, 4, 30])
@pytest.mark.parametrize("sizes", [RAGGED, SQUARE])
def test_knn_naive(sizes, k, dim, backend, device):
    pos, ptr = _clouds(sizes, dim)
    query, query_ptr = _clouds((9,) * len(sizes), dim, seed=1)
    backend = _on(backend, device)
    args = [x.to(device) for x in (pos, ptr, query, query_ptr)]
    found = knn(args[0], args[1], k, *args[2:], backend=backend)
    _assert_neighbors(found, _naive_neighbors(pos, ptr, query, query_ptr, k), k)
    found = knn(args[0], args[1], k, backend=backend)
    _assert_neighbors(found, _naive_neighbors(pos, ptr, pos, ptr, k), k)
    found = knn(args[0], args[1], k, exclude_self=True, backend=backend)
    expected = _naive_neighbors(pos, ptr, pos, ptr, k, exclude_self=True)
    _assert_neighbors(found, expected, k)
    assert (found.index[~found.valid.any(1)] == torch.tensor(len(pos[:17]), device=device)).all()  # the lone point


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("radius", [0.05, 0.6, 1.5, 100.0])
@pytest.mark.parametrize("sizes", [RAGGED, SQUARE])
def test_ball_query_naive(sizes, radius, backend, device):
    pos, ptr = _clouds(sizes)
    query, query_ptr = _clouds((9,) * len(sizes), seed=1)
    backend = _on(backend, device)
    args = [x.to(device) for x in (pos, ptr, query, query_ptr)]
    found = ball_query(args[0], args[1], radius, 8, *args[2:], backend=backend)
    _assert_neighbors(found, _naive_neighbors(pos, ptr, query, query_ptr, 8, radius=radius), 8)
    # Without a point in the ball, all slots are the nearest point outside.
    nearest = knn(args[0], args[1], 1, *args[2:], backend=backend).index
    alone = ~found.valid.any(1)
    assert bool(alone.any()) == (radius < 100)
    assert (found.index[alone] == nearest[alone]).all()
    found = ball_query(args[0], args[1], radius, 8, backend=backend)
    _assert_neighbors(found, _naive_neighbors(pos, ptr, pos, ptr, 8, radius=radius), 8)


@pytest.mark.parametrize("backend", BACKENDS)
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


@pytest.mark.parametrize("backend", BACKENDS)
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


@pytest.mark.parametrize("backend", BACKENDS)
def test_knn_clouds_without_queries(backend):
    pos, ptr = torch.arange(7.0)[:, None], torch.tensor([0, 0, 4, 4, 7])
    query, query_ptr = torch.tensor([[3.1], [5.9]]), torch.tensor([0, 0, 1, 1, 2])
    assert knn(pos, ptr, 2, query, query_ptr, backend=backend).index.tolist() == [[3, 2], [6, 5]]
    none = knn(pos, ptr, 2, query[:0], torch.zeros(5, dtype=torch.long), backend=backend)
    assert none.index.shape == none.sq_distance.shape == (0, 2)


@pytest.mark.parametrize("backend", BACKENDS)
def test_knn_far_from_the_origin(backend):
    # 1e-3 apart at 100, where float32 steps by 7.6e-6, but |a|² − 2ab + |b|² by about 2e-3: useless.
    pos = torch.tensor([[100.0, 100.0, 100.0]]).repeat(20, 1)
    pos[:, 0] += 1e-3 * torch.arange(20)
    found = knn(pos, torch.tensor([0, 20]), 2, pos[:1] + 0.0103, torch.tensor([0, 1]), backend=backend)
    assert found.index.tolist() == [[10, 11]]


def test_knn_tiles_agree(monkeypatch):
    for sizes in (SQUARE, RAGGED):
        pos, ptr = _clouds(sizes)
        whole = knn(pos, ptr, 3, backend="torch")
        for tile in (1, 50, 333, 4000):
            monkeypatch.setattr(neighbors, "_TILE_CPU", tile)
            assert torch.equal(knn(pos, ptr, 3, backend="torch").index, whole.index)
        monkeypatch.undo()


@pytest.mark.parametrize("backend", BACKENDS)
def test_knn_scipy_oracle(backend):
    from scipy.spatial import cKDTree

    pos, ptr = _clouds((700, 300))
    query, query_ptr = _clouds((50, 60), seed=1)
    found = knn(pos, ptr, 16, query, query_ptr, backend=backend)
    for b, (p, q) in enumerate(((slice(0, 700), slice(0, 50)), (slice(700, 1000), slice(50, 110)))):
        distance, index = cKDTree(pos[p].numpy()).query(query[q].numpy(), k=16)
        assert (found.index[q].numpy() - ptr[b].item() == index).all()
        np.testing.assert_allclose(found.sq_distance[q].numpy(), distance**2, rtol=1e-5)


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 40), st.integers(1, 6), st.integers(0, 99))
def test_knn_permutation(n, k, seed):
    pos, ptr = _clouds((n, 30), seed=seed)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    order = torch.cat([order, torch.arange(n, n + 30)])
    plain, permuted = knn(pos, ptr, k), knn(pos[order], ptr, k)
    assert torch.equal(order[permuted.index], plain.index[order])
    assert torch.equal(permuted.sq_distance, plain.sq_distance[order])
    assert torch.equal(permuted.valid, plain.valid[order])


def test_half_precision_positions():
    pos, ptr = _clouds(RAGGED)
    half = pos.bfloat16()
    found, expected = knn(half, ptr, 3), knn(half.float(), ptr, 3)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert torch.equal(farthest_points(half, ptr, 9)[0], farthest_points(half.float(), ptr, 9)[0])
    features = torch.randn(len(pos), 4).bfloat16()
    assert interpolate(features, half, ptr, half, ptr).dtype == torch.bfloat16


# --- gradients ---------------------------------------------------------------------------------------------


def test_sq_distance_gradcheck():
    pos, ptr = _clouds((6, 2), dtype=torch.float64)
    query, query_ptr = _clouds((3, 2), dtype=torch.float64, seed=1)
    pos.requires_grad_()
    query.requires_grad_()
    assert torch.autograd.gradcheck(lambda p, q: knn(p, ptr, 3, q, query_ptr).sq_distance, (pos, query))
    assert torch.autograd.gradcheck(lambda p, q: ball_query(p, ptr, 1.0, 3, q, query_ptr)[1], (pos, query))
    assert torch.autograd.gradcheck(lambda p: knn(p, ptr, 3, exclude_self=True).sq_distance, (pos,))


def test_sq_distance_zero_gradient_at_zero():
    pos = torch.zeros(4, 3, requires_grad=True)
    knn(pos, torch.tensor([0, 4]), 3).sq_distance.sum().backward()
    assert (pos.grad == 0).all()


@pytest.mark.parametrize("k", [1, 3])
def test_interpolate_gradcheck(k):
    pos, ptr = _clouds((6, 2), dtype=torch.float64)
    query, query_ptr = _clouds((3, 2), dtype=torch.float64, seed=1)
    features, _ = _clouds((8,), 4, dtype=torch.float64, seed=2)
    inputs = [x.requires_grad_() for x in (features, pos, query)]
    assert torch.autograd.gradcheck(lambda f, p, q: interpolate(f, p, ptr, q, query_ptr, k), inputs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("gap", [0.0, 1e-30, 1e-8, 1e-3])
def test_interpolate_at_and_near_a_point(gap, dtype):
    # w ∝ (1/gap², 1/1, 1/4): at the point the feature of the point, whatever the others are.
    pos = torch.tensor([[0.0], [1.0], [-2.0]], dtype=dtype, requires_grad=True)
    query = torch.tensor([[gap]], dtype=dtype, requires_grad=True)
    features = torch.tensor([[3.0], [5.0], [7.0]], dtype=dtype, requires_grad=True)
    out = interpolate(features, pos, torch.tensor([0, 3]), query, torch.tensor([0, 1]))
    out.sum().backward()
    # With x the query: f = (3 + x²(5/(1−x)² + 7/(2+x)²)) / (1 + x²(1/(1−x)² + 1/(2+x)²))
    #   = 3 + x²(2 + 1) + O(x³), so f' = 6x + O(x²).
    assert out.item() == pytest.approx(3 + 3 * gap**2, rel=1e-6)
    assert query.grad.item() == pytest.approx(6 * gap, rel=0.02, abs=1e-12)
    assert pos.grad.isfinite().all()
    assert features.grad.flatten().tolist() == pytest.approx([1, gap**2, gap**2 / 4], rel=0.01, abs=1e-12)


def test_interpolate_at_duplicates_is_finite():
    pos = torch.tensor([[0.0], [0.0], [0.0], [9.0]], requires_grad=True)
    features = torch.tensor([[1.0], [2.0], [6.0], [100.0]])
    out = interpolate(features, pos, torch.tensor([0, 4]), pos, torch.tensor([0, 4]))
    out.sum().backward()
    assert out[:3].flatten().tolist() == pytest.approx([3.0] * 3)  # the mean of 1, 2, 6
    assert pos.grad.isfinite().all()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("sizes", [RAGGED, SQUARE])
def test_interpolate_naive(sizes, backend):
    pos, ptr = _clouds(sizes, dtype=torch.float64)
    query, query_ptr = _clouds((9,) * len(sizes), dtype=torch.float64, seed=1)
    features, _ = _clouds((len(pos),), 5, dtype=torch.float64, seed=2)
    out = interpolate(features, pos, ptr, query, query_ptr, backend=backend)
    for i, rows in enumerate(_naive_neighbors(pos, ptr, query, query_ptr, 3)):
        weight = torch.tensor([1 / d for _, d in rows], dtype=torch.float64)
        expected = (weight[:, None] * features[[j for j, _ in rows]]).sum(0) / weight.sum()
        torch.testing.assert_close(out[i], expected)
    index, weight = interpolation_weights(pos, ptr, query, query_ptr, backend=backend)
    assert (weight >= 0).all()
    torch.testing.assert_close(weight.sum(1), torch.ones_like(weight[:, 0]))
    assert torch.equal(weighted_gather(features, index, weight), out)


# --- graphs ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("loop", [False, True])
@pytest.mark.parametrize("sizes", [RAGGED, SQUARE])
def test_knn_graph_naive(sizes, loop, backend):
    pos, ptr = _clouds(sizes)
    edges = knn_graph(pos, ptr, 4, loop=loop, backend=backend)
    expected = _naive_neighbors(pos, ptr, pos, ptr, 4, exclude_self=not loop)
    assert edges.t().tolist() == [[j, i] for i, rows in enumerate(expected) for j, _ in rows]


def test_knn_graph_feeds_edge_conv():
    geometric = pytest.importorskip("torch_geometric.nn")
    pos, ptr = _clouds(RAGGED)
    network = torch.nn.Linear(6, 8)
    out = geometric.EdgeConv(network, aggr="max")(pos, knn_graph(pos, ptr, 4))
    for i in (0, 100):  # max_j h(x_i, x_j − x_i) over the four neighbors j of i
        index = knn(pos, ptr, 4, exclude_self=True).index[i]
        messages = network(torch.cat([pos[i].expand(4, 3), pos[index] - pos[i]], dim=1))
        torch.testing.assert_close(out[i], messages.amax(0))
    assert (out[17] == 0).all()  # alone in its cloud: no edge


def test_real_clouds_backends_agree():
    root = os.environ.get("PCSA_TEST_DATA")
    if not root:
        pytest.skip("PCSA_TEST_DATA is not set")
    files = sorted(Path(root, "keypointnet", "pcds", "02818832").glob("*.pcd"))[:3]
    clouds = [np.loadtxt(f, skiprows=11, usecols=(0, 1, 2), dtype=np.float32)[:1500] for f in files]
    pos, ptr = torch.from_numpy(np.concatenate(clouds)), torch.tensor([0, 1500, 3000, 4500])
    sample, sample_ptr = farthest_points(pos, ptr, 300)
    runs = []
    for param in BACKENDS:
        if param is None or param.marks:
            continue
        (name,) = param.values
        assert torch.equal(farthest_points(pos, ptr, 300, backend=name)[0], sample)
        runs.append(ball_query(pos, ptr, 0.1, 32, pos[sample], sample_ptr, backend=name))
    for run in runs[1:]:
        assert torch.equal(run.valid, runs[0].valid)
        torch.testing.assert_close(run.sq_distance, runs[0].sq_distance)
        assert (run.index == runs[0].index).float().mean() > 0.99  # equal distances may change places


def test_pyg_lib_documented_interface(monkeypatch):
    """A stand-in with the interface that pyg-lib documents: no more than that our side of it is right."""

    def fps(src, ptr, ratio=0.5, random_start=True):
        assert not random_start
        counts = [math.ceil(np.float32(n) * ratio) for n in ptr.diff().tolist()]
        assert (ptr.diff() > 0).all()  # the real one writes out of bounds on an empty cloud
        assert src.abs().max() <= 1  # the real one caps squared distances at 5e4 on CUDA
        return farthest_points(src, ptr, torch.tensor(counts), backend="torch")[0]

    def nearest(x, y, k=1, ptr_x=None, ptr_y=None, cosine=False, num_workers=1):
        found = knn(x, ptr_x, k, y, ptr_y, backend="torch")
        target = torch.arange(len(y))[:, None].expand(-1, k)
        return torch.stack([target[found.valid], found.index[found.valid]])

    stand_in = types.SimpleNamespace(ops=types.SimpleNamespace(fps=fps, knn=nearest))
    monkeypatch.setitem(sys.modules, "pyg_lib", stand_in)
    monkeypatch.setattr(neighbors, "_importable", lambda name: name in ("torch", "pyg_lib"))
    for sizes in (RAGGED, SQUARE):
        pos, ptr = _clouds(sizes)
        pos = pos * 1000
        query, query_ptr = _clouds((9,) * len(sizes), seed=1)
        for count in (1, 7, 500, 0.3):
            starts = torch.Generator().manual_seed(3)
            expected = farthest_points(pos, ptr, count, random_start=True, generator=starts, backend="torch")
            found = farthest_points(
                pos, ptr, count, random_start=True, generator=starts.manual_seed(3), backend="pyg_lib"
            )
            assert torch.equal(found[0], expected[0])
        for k in (1, 8, 30):
            expected = knn(pos, ptr, k, query * 1000, query_ptr, backend="torch")
            found = knn(pos, ptr, k, query * 1000, query_ptr, backend="pyg_lib")
            assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


# --- bad input ---------------------------------------------------------------------------------------------

POS, PTR = _clouds((5, 3))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: knn(POS[:, 0], PTR, 2), r"`pos` \(shape \(8,\)\) must be \[N, D\]"),
        (lambda: knn(POS.long(), PTR, 2), r"`pos` \(dtype torch.int64\) must be a floating"),
        (lambda: knn(POS, PTR.float(), 2), r"`ptr` .*torch.float32.* must be \[B \+ 1\]"),
        (lambda: knn(POS, PTR[:-1], 2), r"`ptr` \(=\[0, 5\]\) must rise from 0 to 8"),
        (lambda: knn(POS, torch.tensor([0, 9, 8]), 2), r"`ptr` \(=\[0, 9, 8\]\) must rise"),
        (lambda: knn(POS, torch.tensor([0, 8, 8]), 2, POS, PTR), "`ptr` has no points in cloud 1"),
        (lambda: knn(POS, PTR, 0), r"`k` \(=0\) must be an int of at least 1"),
        (lambda: knn(POS, PTR, 2.0), r"`k` \(=2.0\) must be an int"),
        (lambda: knn(POS / 0, PTR, 2), "`pos` must be finite"),
        (lambda: knn(POS, PTR, 2, POS * math.nan, PTR), "`query` must be finite"),
        (lambda: knn(POS, PTR, 2, POS), "`query_ptr` must be given"),
        (lambda: knn(POS, PTR, 2, query_ptr=PTR), "`query_ptr` is given without `query`"),
        (lambda: knn(POS, PTR, 2, POS, PTR, exclude_self=True), r"`exclude_self` \(=True\)"),
        (lambda: knn(POS, PTR, 2, POS[:, :2], PTR), "`query` .2 axes"),
        (lambda: knn(POS, PTR, 2, POS.double(), PTR), "`query` .*float64"),
        (lambda: knn(POS, PTR, 2, POS, torch.tensor([0, 8])), r"`query_ptr` \(1 clouds\)"),
        (lambda: knn(POS, PTR, 2, POS, PTR[:-1]), r"`query_ptr` \(=\[0, 5\]\) must rise"),
        (lambda: knn(POS, PTR, 2, backend="faiss"), r"`backend` \(='faiss'\) must be one of 'torch'"),
        (lambda: ball_query(POS, PTR, 0.0, 2), r"`radius` \(=0.0\) must be positive"),
        (lambda: ball_query(POS, PTR, math.nan, 2), r"`radius` \(=nan\)"),
        (lambda: ball_query(POS, PTR, 1.0, 0), r"`max_neighbors` \(=0\)"),
        (lambda: knn_graph(POS, PTR, -1), r"`k` \(=-1\)"),
        (
            lambda: interpolate(POS[1:], POS, PTR, POS, PTR),
            r"`features` \(shape \(7, 3\)\) must be \[N, C\]",
        ),
        (lambda: interpolate(POS.long(), POS, PTR, POS, PTR), r"`features` \(dtype torch.int64\)"),
        (lambda: farthest_points(POS, PTR, 0), r"`num_samples` \(=0\) must be an int of at least 1"),
        (lambda: farthest_points(POS, PTR, 1.5), r"`num_samples` \(=1.5\) must be in \(0, 1\]"),
        (lambda: farthest_points(POS, PTR, torch.tensor([1, 0])), r"`num_samples` \(=\[1, 0\]\)"),
        (lambda: farthest_points(POS, PTR, torch.tensor([1])), r"`num_samples` \(shape \(1,\)"),
        (lambda: farthest_points(POS * math.inf, PTR, 2), "`pos` must be finite"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_backend_not_installed(monkeypatch):
    monkeypatch.setattr(neighbors, "_importable", lambda name: name == "torch")
    with pytest.raises(ValueError, match=r"`backend` \(='torch_cluster'\) cannot be imported.*pcsa\[cluster\]"):
        knn(POS, PTR, 2, backend="torch_cluster")
    large, ptr = _clouds((500,))
    assert knn(large, ptr, 2).valid.all()  # the default works without any of them
