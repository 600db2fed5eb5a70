import math
import os
import sys
import types
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from pcsa.neighbors import Backend, ball_query, farthest_points, knn
from pcsa.neighbors.backends import torch as torch_backend
from pcsa.neighbors.backends.choice import BACKENDS
from pcsa.neighbors.backends.contract import Searcher

RAGGED, SQUARE = (17, 1, 200, 5), (40, 40, 40)


def test_every_backend_has_its_file():
    assert set(BACKENDS) == set(get_args(Backend))
    assert all(searcher.name == name for name, searcher in BACKENDS.items())


def test_farthest_points_backends_draw_the_same_start(clouds, backends):
    pos, ptr = clouds(RAGGED)
    runs = []
    for backend in (*backends, None):
        torch.manual_seed(5)
        runs.append(farthest_points(pos, ptr, 4, random_start=True, backend=backend)[0].tolist())
    assert len(runs) >= 2
    assert all(run == runs[0] for run in runs)


def test_knn_tiles_agree(monkeypatch, clouds):
    for sizes in (SQUARE, RAGGED):
        pos, ptr = clouds(sizes)
        whole = knn(pos, ptr, 3, backend="torch")
        for tile in (1, 50, 333, 4000):
            monkeypatch.setattr(torch_backend, "TILE_CPU", tile)
            assert torch.equal(knn(pos, ptr, 3, backend="torch").index, whole.index)
        monkeypatch.undo()


def test_real_clouds_backends_agree(backends):
    root = os.environ.get("PCSA_TEST_DATA")
    if not root:
        pytest.skip("PCSA_TEST_DATA is not set")
    files = sorted(Path(root, "keypointnet", "pcds", "02818832").glob("*.pcd"))[:3]
    clouds = [np.loadtxt(f, skiprows=11, usecols=(0, 1, 2), dtype=np.float32)[:1500] for f in files]
    pos, ptr = torch.from_numpy(np.concatenate(clouds)), torch.tensor([0, 1500, 3000, 4500])
    sample, sample_ptr = farthest_points(pos, ptr, 300)
    runs = []
    for name in backends:
        assert torch.equal(farthest_points(pos, ptr, 300, backend=name)[0], sample)
        runs.append(ball_query(pos, ptr, 0.1, 32, pos[sample], sample_ptr, backend=name))
    for run in runs[1:]:
        assert torch.equal(run.valid, runs[0].valid)
        torch.testing.assert_close(run.sq_distance, runs[0].sq_distance)
        assert (run.index == runs[0].index).float().mean() > 0.99  # equal distances may change places


def test_pyg_lib_documented_interface(monkeypatch, clouds):
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
    monkeypatch.setattr(Searcher, "importable", lambda searcher: searcher.name in ("torch", "pyg_lib"))
    for sizes in (RAGGED, SQUARE):
        pos, ptr = clouds(sizes)
        pos = pos * 1000
        query, query_ptr = clouds((9,) * len(sizes), seed=1)
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


def test_backend_not_installed(monkeypatch, clouds):
    monkeypatch.setattr(Searcher, "importable", lambda searcher: searcher.name == "torch")
    with pytest.raises(ValueError, match=r"`backend` \(='torch_cluster'\) cannot be imported.*pcsa\[cluster\]"):
        knn(*clouds((5, 3)), 2, backend="torch_cluster")
    large, ptr = clouds((500,))
    assert knn(large, ptr, 2).valid.all()  # the default works without any of them
