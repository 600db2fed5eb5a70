"""The kernels of the searches, on CUDA or under the interpreter; both run the tests of this file."""

import math

import pytest
import torch

from pcsa._core.triton import launch as core
from pcsa._core.triton.launch import interpreted
from pcsa.neighbors import ball_query, farthest_points, interpolate, interpolation_weights, knn, knn_graph
from pcsa.neighbors.backends import triton as triton_backend
from pcsa.neighbors.backends.choice import choose

# More than a tile of points, one point, and less than k.
SIZES = (70, 1, 9, 4)


def slow(*values):
    """Leave these values to the slow tests."""
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.skipif(interpreted(), reason="this is the process that it starts")
def test_kernels_under_the_interpreter(interpret):
    assert interpret("tests/neighbors/test_triton.py", "-m", "not cuda and not slow") > 12


@pytest.mark.slow
@pytest.mark.skipif(interpreted(), reason="this is the process that it starts")
def test_more_under_the_interpreter(interpret):
    assert interpret("tests/neighbors/test_triton.py", "-m", "not cuda and slow") > 8
    # What every backend is tested with, but for as many neighbors as take the interpreter minutes.
    assert interpret("tests/neighbors", "-m", "not cuda", "-k", "triton and not test_triton and not -30-") > 50


@pytest.fixture(autouse=True)
def no_fallback(monkeypatch):
    """A kernel that cannot be built must fail the test that asks for it."""
    monkeypatch.setattr(core, "FAILED", failed := {})
    yield
    assert not failed


def assert_same(search, *args, **options):
    """Both backends find the same, and say it in the same way."""
    found, expected = (search(*args, **options, backend=name) for name in ("triton", "torch"))
    for ours, theirs in zip(found, expected, strict=True):
        # The interpreter rounds twice where PyTorch and a GPU multiply and add at once.
        torch.testing.assert_close(ours, theirs, rtol=1e-6 if ours.is_floating_point() else 0, atol=0)
    return found


@pytest.fixture
def tiles(monkeypatch):
    """Farthest points in tiles of 128 points of global memory, as in clouds too large for registers."""
    monkeypatch.setattr(triton_backend, "_WORDS", 0)
    monkeypatch.setattr(triton_backend, "_TILE", 128)


@pytest.mark.usefixtures("kernels_run")
@pytest.mark.parametrize("where", ["registers", "tiles"])
@pytest.mark.parametrize(
    ("dtype", "dim"), [(torch.float32, 3), slow(torch.float32, 1), slow(torch.float64, 3), slow(torch.float64, 8)]
)
def test_farthest_points_are_those_of_torch(where, dtype, dim, device, clouds, request):
    if where == "tiles":
        request.getfixturevalue("tiles")
    pos, ptr = clouds((300, 1, 9, 0, 130), dim, dtype)
    pos = pos.to(device)
    assert_same(farthest_points, pos, ptr, 10)
    # Far from the origin, and a view with gaps.
    far = torch.cat([pos, pos + 1e4], 1)[:, dim:]
    assert not far.is_contiguous()
    assert_same(farthest_points, far, ptr, torch.tensor([3, 1, 20, 1, 7]))
    starts = [torch.Generator().manual_seed(3) for _ in range(2)]
    found = [
        farthest_points(pos, ptr, 0.05, random_start=True, generator=generator, backend=name)[0]
        for generator, name in zip(starts, ("triton", "torch"), strict=True)
    ]
    assert torch.equal(*found)


@pytest.mark.usefixtures("kernels_run")
@pytest.mark.parametrize("where", ["registers", "tiles"])
def test_farthest_points_of_duplicates_and_ties(where, device, clouds, naive_farthest, request):
    if where == "tiles":
        request.getfixturevalue("tiles")
    # On a coarse lattice most points have duplicates, and most distances are equal: all points are wanted, each once.
    pos, ptr = clouds((40, 7), 2)
    pos = pos.round()
    index, _ = farthest_points(pos.to(device), ptr, 1.0, backend="triton")
    assert index.tolist() == naive_farthest(pos, ptr, [40, 40])
    assert index.sort().values.tolist() == list(range(47))


@pytest.mark.usefixtures("kernels_run")
@pytest.mark.parametrize(
    ("dtype", "dim", "k"),
    [
        (torch.float32, 3, 5),
        slow(torch.float32, 1, 1),
        slow(torch.float32, 8, 9),
        slow(torch.float64, 3, 1),
        slow(torch.float64, 2, 5),
    ],
)
def test_nearest_points_are_those_of_torch(dtype, dim, k, device, clouds):
    pos, ptr = clouds(SIZES, dim, dtype)
    query, query_ptr = clouds((5, 2, 3, 2), dim, dtype, seed=1)
    pos, query = pos.to(device), query.to(device)
    assert_same(knn, pos, ptr, k, query, query_ptr)
    assert_same(knn, pos + 1e4, ptr, k, query + 1e4, query_ptr)
    # Views with gaps.
    wide, wide_query = (x.repeat(1, 2)[:, dim:] for x in (pos, query))
    assert_same(ball_query, wide, ptr, 1.0, k, wide_query, query_ptr)


@pytest.mark.usefixtures("kernels_run")
def test_nearest_points_of_themselves(device, clouds):
    pos, ptr = clouds(SIZES)
    pos = pos.to(device)
    assert_same(knn, pos, ptr, 5, exclude_self=True)
    ours, theirs = (knn_graph(pos, ptr, 5, backend=name) for name in ("triton", "torch"))
    assert torch.equal(ours, theirs)


@pytest.mark.usefixtures("kernels_run")
def test_equally_near_points_come_by_row(device, clouds, naive_neighbors):
    # On a coarse lattice many distances are equal, some to zero.
    pos, ptr = clouds(SIZES, 2)
    pos = (2 * pos).round()
    expected = naive_neighbors(pos, ptr, pos, ptr, 4)
    for shift in (0.0, 1e6):
        found = knn((pos + shift).to(device), ptr, 4, backend="triton")
        for index, valid, rows in zip(found.index.tolist(), found.valid.tolist(), expected, strict=True):
            assert [j for j, real in zip(index, valid, strict=True) if real] == [j for j, _ in rows]


@pytest.mark.usefixtures("kernels_run")
def test_clouds_without_queries_or_points(device):
    pos, ptr = torch.arange(7.0, device=device)[:, None], torch.tensor([0, 0, 4, 4, 7])
    query, query_ptr = torch.tensor([[3.1], [5.9]], device=device), torch.tensor([0, 0, 1, 1, 2])
    assert knn(pos, ptr, 2, query, query_ptr, backend="triton").index.tolist() == [[3, 2], [6, 5]]


@pytest.mark.usefixtures("kernels_run")
def test_interpolation(device, clouds, close):
    pos, ptr = clouds(SIZES)
    query, query_ptr = clouds((5, 2, 3, 2), seed=1)
    # Two points at one query, and a query near a point.
    pos[3] = pos[50] = query[0]
    query[1] = pos[7] + 1e-20
    args = [x.to(device) for x in (pos, ptr, query, query_ptr)]
    ours, theirs = (interpolation_weights(*args, backend=name) for name in ("triton", "torch"))
    # Which of two equally near points comes first is left to the backend.
    assert torch.equal(ours[0][1:], theirs[0][1:])
    assert ours[0][0, :2].tolist() == [3, 50]
    close(ours[1], theirs[1])
    assert ours[1][0].tolist() == pytest.approx([0.5, 0.5, 0.0], abs=1e-30)
    features = torch.randn(len(pos), 4, device=device)
    ours, theirs = (interpolate(features, *args, backend=name) for name in ("triton", "torch"))
    close(ours, theirs)


@pytest.mark.usefixtures("kernels_run")
def test_gradients_go_through_what_the_kernels_find(device, clouds, close):
    pos, ptr = clouds((20, 3))
    runs = []
    for name in ("triton", "torch"):
        x = pos.to(device).requires_grad_()
        knn(x, ptr, 4, backend=name).sq_distance.square().sum().backward()
        weight = interpolation_weights(x, ptr, x.detach() + 0.1, ptr, backend=name)[1]
        weight.square().sum().backward()
        runs.append(x.grad)
    close(*runs)
    assert runs[0].any()


@pytest.mark.usefixtures("kernels_run")
@pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered:RuntimeWarning")
@pytest.mark.parametrize("dtype", [torch.float32, slow(torch.float64)])
def test_numbers_out_of_range_give_rows(dtype, device, clouds):
    # Squares that overflow are equally far; NaN, which nobody has asked about, must not lead out of the cloud.
    pos, ptr = clouds(SIZES, dtype=dtype)
    huge = pos * (1e30 if dtype == torch.float32 else 1e200)
    nan = torch.where(torch.arange(len(pos))[:, None] % 3 == 0, math.nan, pos)
    for x in (huge.to(device), nan.to(device)):
        found = knn(x, ptr, 4, backend="triton", validate=False)
        assert found.valid[:70].all()
        index, _ = farthest_points(x, ptr, 8, backend="triton", validate=False)
        for rows in (found.index[:70], index[:8]):
            assert bool(((rows >= 0) & (rows < 70)).all())
        assert all(len(set(row)) == 4 for row in found.index[:70].tolist())


@pytest.mark.usefixtures("kernels_run")
def test_as_many_queries_a_program_as_on_a_device(device, clouds, monkeypatch, request):
    if interpreted():
        monkeypatch.setattr(triton_backend, "nearest_launch", request.getfixturevalue("wide_tiles"))
    pos, ptr = clouds((9, 1, 30))
    assert_same(knn, pos.to(device), ptr, 3)


@pytest.mark.usefixtures("kernels_run")
def test_what_is_too_large_for_a_program_is_searched_by_torch(device, clouds, monkeypatch):
    monkeypatch.setattr(triton_backend, "nearest_launch", None)
    for dim, dtype in ((33, torch.float32), (17, torch.float64)):
        pos, ptr = clouds((3, 40), dim, dtype)
        assert_same(knn, pos.to(device), ptr, 2)
    pos, ptr = clouds((3, 1100))
    assert_same(knn, pos.to(device), ptr, 1025, pos[:2].to(device), torch.tensor([0, 1, 2]))


def test_kernels_are_not_chosen_on_a_cpu(monkeypatch, clouds):
    monkeypatch.setattr(core, "attempt", None)
    monkeypatch.setattr(triton_backend, "attempt", None)
    pos, ptr = clouds((300,))
    assert knn(pos, ptr, 3).valid.all()
    farthest_points(pos, ptr, 3)
    if not interpreted():
        with pytest.raises(ValueError, match=r"`backend` \(='triton'\) (does not search on cpu|cannot be imported)"):
            knn(pos, ptr, 3, backend="triton")


def test_kernels_are_chosen_on_cuda(monkeypatch):
    pos = torch.empty(5, 3, device="meta")
    monkeypatch.setattr(torch.Tensor, "is_cuda", True)
    searcher = triton_backend.Triton()
    for usable in (True, False):
        monkeypatch.setattr(triton_backend, "usable", lambda device, answer=usable: answer)
        assert searcher.wins("farthest", pos, 5) == searcher.wins("nearest", pos, 5) == usable
    monkeypatch.setattr(triton_backend, "usable", lambda device: True)
    # One program cannot go through so many points as quickly as the whole device.
    assert not searcher.wins("farthest", pos, 10**6)
    assert searcher.wins("nearest", pos, 10**6)


def test_a_kernel_that_cannot_be_built_falls_back(monkeypatch, clouds, caplog):
    monkeypatch.setattr(triton_backend, "obstacle", lambda device: None)
    monkeypatch.setattr(triton_backend.Triton, "importable", lambda self: True)
    monkeypatch.setattr(core, "interpreted", lambda: False)
    monkeypatch.setattr(core, "FAILED", {})
    for name in ("farthest_launch", "nearest_launch"):

        def fail(*args):
            raise RuntimeError("no compiler")

        monkeypatch.setattr(triton_backend, name, fail)
    pos, ptr = clouds((20, 3))
    for _ in range(2):
        assert_same(knn, pos, ptr, 5)
        assert_same(farthest_points, pos.double(), ptr, 5)
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
        "No Triton kernel for nearest points (torch.float32, 3 axes, up to 8 of them, weights=False)",
        "No Triton kernel for farthest points (torch.float64, 3 axes, up to 32 points)",
    ]


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_searches_on_cuda_wait_for_nothing(clouds):
    pos, ptr = clouds((3000, 1, 500))
    there = pos.to("cuda")

    def search():
        index, index_ptr = farthest_points(there, ptr, 0.25, validate=False)
        centers = there.index_select(0, index)
        ball_query(there, ptr, 0.5, 32, centers, index_ptr, validate=False)
        interpolation_weights(centers, index_ptr, there, ptr, validate=False)
        return index

    found = search()  # the first compiles
    torch.cuda.set_sync_debug_mode("error")
    try:
        search()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert choose(None, "farthest", there, 3000).name == choose(None, "nearest", there, 3000).name == "triton"
    # A CPU chooses the same points.
    assert torch.equal(found.cpu(), farthest_points(pos, ptr, 0.25)[0])
