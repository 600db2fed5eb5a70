"""What the tests of all searches share: the backends, clouds, and the searches as loops."""

import importlib
import math

import pytest
import torch

from pcsa._core.triton.launch import interpreted, obstacle
from pcsa.neighbors.backends import triton as triton_backend


def available(name):
    try:
        importlib.import_module("scipy.spatial" if name == "scipy" else name)
    except ImportError as error:
        return pytest.param(name, marks=pytest.mark.skip(reason=f"{name} is not importable: {error}"))
    return pytest.param(name)


BACKENDS = [available(name) for name in ("torch", "triton", "scipy", "torch_cluster", "pyg_lib")]


@pytest.fixture(params=[*BACKENDS, None])
def backend(request):
    if request.param == "triton":
        device = request.getfixturevalue("device") if "device" in request.fixturenames else "cpu"
        stop_where_no_kernel_runs(device)
    return request.param


@pytest.fixture(scope="session")
def backends():
    """Names of all backends that can be imported and search on the CPU."""
    names = [param.values[0] for param in BACKENDS if not param.marks]
    return [name for name in names if name != "triton" or interpreted()]


def stop_where_no_kernel_runs(device):
    reason = obstacle(torch.device(device))
    if reason:
        pytest.skip(f"Triton: {reason}")


@pytest.fixture
def kernels_run(device):
    """Skip the test where the device has no kernels."""
    stop_where_no_kernel_runs(device)


@pytest.fixture(autouse=interpreted())
def wide_tiles(monkeypatch):
    """More queries a program: the interpreter takes as long for many as for few."""
    launch = triton_backend.nearest_launch

    def wide(*args):
        chosen = launch(*args)
        return chosen._replace(constants={**chosen.constants, "QUERIES": 64})

    monkeypatch.setattr(triton_backend, "nearest_launch", wide)
    return launch


@pytest.fixture(
    params=[
        "cpu",
        pytest.param(
            "cuda",
            marks=[pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")],
        ),
    ]
)
def device(request):
    return request.param


@pytest.fixture(scope="session")
def clouds():
    def make(sizes, dim=3, dtype=torch.float32, seed=0):
        generator = torch.Generator().manual_seed(seed)
        pos = torch.randn(sum(sizes), dim, generator=generator, dtype=dtype)
        return pos, torch.tensor([0, *sizes]).cumsum(0)

    return make


@pytest.fixture(scope="session")
def naive_farthest():
    def search(pos, ptr, counts, starts=None):
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

    return search


@pytest.fixture(scope="session")
def naive_neighbors():
    def search(pos, ptr, query, query_ptr, k, exclude_self=False, radius=math.inf):
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

    return search


@pytest.fixture(scope="session")
def assert_neighbors():
    def check(found, expected, k):
        assert found.index.shape == found.sq_distance.shape == found.valid.shape == (len(expected), k)
        for index, sq_distance, valid, rows in zip(*(x.cpu().tolist() for x in found), expected, strict=True):
            assert valid == [True] * len(rows) + [False] * (k - len(rows))
            assert index[: len(rows)] == [j for j, _ in rows]
            assert sq_distance[: len(rows)] == pytest.approx([d for _, d in rows], rel=1e-5, abs=1e-12)
            assert set(index[len(rows) :]) <= {index[0]}
            assert set(sq_distance[len(rows) :]) <= {sq_distance[0]}

    return check
