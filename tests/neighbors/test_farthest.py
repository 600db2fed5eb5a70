import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from pcsa.neighbors import farthest_points

RAGGED, SQUARE = (17, 1, 200, 5), (40, 40, 40)


def where(backend, device):
    return None if device == "cuda" and backend == "scipy" else backend


@pytest.mark.parametrize("dim", [1, 2, 3, 5])
@pytest.mark.parametrize("sizes", [RAGGED, SQUARE])
def test_farthest_points_naive(sizes, dim, backend, device, clouds, naive_farthest):
    pos, ptr = clouds(sizes, dim)
    index, ptr_out = farthest_points(pos.to(device), ptr.to(device), 12, backend=where(backend, device))
    assert index.tolist() == naive_farthest(pos, ptr, [12] * len(sizes))
    assert ptr_out.tolist() == [0, *np.cumsum([min(12, n) for n in sizes])]
    assert index.dtype == ptr_out.dtype == torch.int64
    assert index.device.type == ptr_out.device.type == device


def test_farthest_points_by_hand(backend):
    # From 0 the farthest is 9; then 4 (4 from 0, 5 from 9) beats 2 and 3; then 2 (2 from both) beats 3.
    pos = torch.tensor([[0.0], [2.0], [3.0], [4.0], [9.0]])
    assert farthest_points(pos, torch.tensor([0, 5]), 4, backend=backend)[0].tolist() == [0, 4, 3, 1]
    # Ties go to the lowest row: -1 and 1 are equally far from 0.
    pos = torch.tensor([[0.0], [1.0], [-1.0]])
    assert farthest_points(pos, torch.tensor([0, 3]), 2, backend=backend)[0].tolist() == [0, 1]


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_farthest_points_does_not_depend_on_the_unit(backend, scale, clouds, naive_farthest):
    pos, ptr = clouds(RAGGED, dtype=torch.float64)
    expected = naive_farthest(pos, ptr, [9] * 4)
    assert farthest_points(pos * scale, ptr, 9, backend=backend)[0].tolist() == expected


def test_farthest_points_counts(backend, clouds, naive_farthest):
    pos, ptr = clouds((100, 3, 10))
    # A share is rounded up: 0.07 × 100 is 7 (not 8, as in floats), 0.07 × 3 → 1, 0.07 × 10 → 1.
    assert farthest_points(pos, ptr, 0.07, backend=backend)[1].tolist() == [0, 7, 8, 9]
    assert farthest_points(pos, ptr, 1.0, backend=backend)[1].tolist() == [0, 100, 103, 113]
    index, ptr_out = farthest_points(pos, ptr, torch.tensor([2, 9, 4]), backend=backend)
    assert ptr_out.tolist() == [0, 2, 5, 9]
    assert index.tolist() == naive_farthest(pos, ptr, [2, 9, 4])
    assert index[2:5].sort().values.tolist() == [100, 101, 102]


def test_farthest_points_where_padding_would_be_wasted(backend, clouds, naive_farthest):
    sizes = (900, *[2] * 30)
    pos, ptr = clouds(sizes)
    index, _ = farthest_points(pos, ptr, 40, backend=backend)
    assert index.tolist() == naive_farthest(pos, ptr, [40] * len(sizes))


def test_farthest_points_duplicates_come_last_and_once(backend):
    # First cloud: the rows 0, 3, 1 differ; then the duplicates 2 and 4 in order. All equal in the second.
    pos = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 0.0], [5.0, 0.0], [1.0, 0.0], *[[7.0, 7.0]] * 3])
    index, ptr_out = farthest_points(pos, torch.tensor([0, 5, 8]), 5, backend=backend)
    assert index.tolist() == [0, 3, 1, 2, 4, 5, 6, 7]
    assert ptr_out.tolist() == [0, 5, 8]


def test_farthest_points_empty_clouds(backend, clouds, naive_farthest):
    pos, _ = clouds((6,))
    index, ptr_out = farthest_points(pos, torch.tensor([0, 0, 4, 4, 6, 6]), 3, backend=backend)
    assert index.tolist() == naive_farthest(pos, torch.tensor([0, 4, 6]), [3, 3])
    assert ptr_out.tolist() == [0, 0, 3, 3, 5, 5]
    index, ptr_out = farthest_points(pos[:0], torch.tensor([0, 0]), 3, backend=backend)
    assert (index.tolist(), ptr_out.tolist()) == ([], [0, 0])


def test_farthest_points_random_start(backend, clouds, naive_farthest):
    pos, ptr = clouds(RAGGED)
    runs = []
    for seed in (1, 1, 2):
        generator = torch.Generator().manual_seed(seed)
        runs.append(farthest_points(pos, ptr, 4, random_start=True, generator=generator, backend=backend))
    assert torch.equal(runs[0][0], runs[1][0])
    assert not torch.equal(runs[0][0], runs[2][0])
    index, ptr_out = runs[0]
    starts = (index[ptr_out[:-1]] - ptr[:-1]).tolist()
    assert any(starts)
    assert index.tolist() == naive_farthest(pos, ptr, [4] * 4, starts)


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=4), st.integers(1, 9), st.integers(0, 99))
def test_farthest_points_properties(clouds, naive_farthest, sizes, count, seed):
    # Coarse integer positions: many duplicates and ties.
    pos, ptr = clouds(sizes, 2, seed=seed)
    pos = (pos * 1.5).round()
    index, ptr_out = farthest_points(pos, ptr, count)
    assert index.tolist() == naive_farthest(pos, ptr, [count] * len(sizes))
    assert len(set(index.tolist())) == len(index) == ptr_out[-1]
    more, more_ptr = farthest_points(pos, ptr, count + 3)
    for b in range(len(sizes)):  # fewer points are the first of more points
        assert torch.equal(index[ptr_out[b] : ptr_out[b + 1]], more[more_ptr[b] :][: ptr_out[b + 1] - ptr_out[b]])


@pytest.mark.parametrize(("share", "same"), [(np.float32(0.5), 0.5), (np.int64(3), 3), (np.float64(0.07), 0.07)])
def test_farthest_points_takes_numpy_s_numbers(share, same, clouds):
    pos, ptr = clouds((100, 7))
    for found, expected in zip(farthest_points(pos, ptr, share), farthest_points(pos, ptr, same), strict=True):
        assert torch.equal(found, expected)
