import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from pcsa.metrics import geodesic_distances, geodesic_error


def reference(pos: torch.Tensor, k: int) -> np.ndarray:
    """All pairs, by Floyd-Warshall over neighbors found by a full sort."""
    p = pos.double().numpy()
    N = len(p)
    euclidean = np.linalg.norm(p[:, None] - p[None], axis=-1)
    path = np.full((N, N), np.inf)
    np.fill_diagonal(path, 0)
    for i in range(N):
        others = [j for j in range(N) if j != i]
        others.sort(key=lambda j: euclidean[i, j])
        for j in others[:k]:
            path[i, j] = path[j, i] = euclidean[i, j]
    for via in range(N):
        path = np.minimum(path, path[:, via, None] + path[None, via])
    return path


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.integers(1, 30), st.integers(1, 6), st.sampled_from([1, 2, 3]))
def test_agrees_with_floyd_warshall(seed, N, k, D):
    pos = torch.randn(N, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    source = torch.arange(0, N, 3)
    rows = geodesic_distances(pos, source, k)
    np.testing.assert_allclose(rows.numpy(), reference(pos, k)[source.numpy()], rtol=1e-12, atol=1e-12)


def test_a_u_is_far_across_and_near_through_the_air():
    # Two legs of 20 steps of 0.1, 0.5 apart, joined by a bottom of 5: from tip to tip the way is 2·2 + 0.5.
    leg = torch.arange(20, 0, -1) * 0.1
    bottom = torch.arange(6) * 0.1
    left = torch.stack((torch.zeros(20), leg), 1)
    right = torch.stack((torch.full((20,), 0.5), leg.flip(0)), 1)
    pos = torch.cat((left, torch.stack((bottom, torch.zeros(6)), 1), right))
    row = geodesic_distances(pos, torch.tensor([0]), k_neighbors=2)[0]
    assert row[-1].item() == pytest.approx(4.5, abs=1e-5)
    assert torch.dist(pos[0], pos[-1]).item() == pytest.approx(0.5)
    # With neighbors enough to see across, the graph jumps.
    assert geodesic_distances(pos, torch.tensor([0]), k_neighbors=20)[0, -1].item() == pytest.approx(0.5)


def test_an_edge_holds_both_ways():
    # On a line 0, 1, 3 with one neighbor each: 0-1 are each other's, 3 names 1 but 1 does not name 3.
    pos = torch.tensor([[0.0], [1.0], [3.0]])
    assert geodesic_distances(pos, torch.tensor([0, 2]), 1).tolist() == [[0, 1, 3], [3, 2, 0]]


def test_copies_are_one_point():
    # Rows 1 and 2 coincide: with one neighbor each, 0 to 3 leads through both.
    pos = torch.tensor([[0.0], [1.0], [1.0], [2.5]])
    assert geodesic_distances(pos, torch.tensor([0]), 1)[0].tolist() == [0, 1, 1, 2.5]
    assert geodesic_distances(pos, torch.tensor([1]), 1)[0, 2].item() == 0
    # -0.0 is 0.0, and 40 copies do not take the places of the neighbors of a line in steps of 0.125.
    line = torch.cat((0.125 * torch.arange(1, 11.0)[:, None], torch.zeros(10, 2)), 1)
    pos = torch.cat((torch.zeros(20, 3), line, -torch.zeros(20, 3)))
    rows = geodesic_distances(pos, torch.arange(50), 5)
    torch.testing.assert_close(rows, (pos[:, None, 0] - pos[:, 0]).abs())


@settings(deadline=None, max_examples=20, derandomize=True)
@given(st.integers(0, 10_000), st.integers(1, 30), st.integers(1, 60), st.integers(1, 6))
def test_copies_change_no_distance(seed, N, num_copies, k):
    generator = torch.Generator().manual_seed(seed)
    pos = torch.randn(N, 3, generator=generator, dtype=torch.float64)
    row = torch.cat([torch.arange(N), torch.randint(N, (num_copies,), generator=generator)])
    row = row[torch.randperm(len(row), generator=generator)]
    expected = geodesic_distances(pos, torch.arange(N), k)[row][:, row]
    torch.testing.assert_close(geodesic_distances(pos[row], torch.arange(len(row)), k), expected)


def test_all_equal_points_and_one_point():
    assert geodesic_distances(torch.ones(5, 3), torch.tensor([2]), 20).tolist() == [[0] * 5]
    assert geodesic_distances(torch.ones(1, 3), torch.tensor([0, 0])).tolist() == [[0], [0]]
    assert geodesic_distances(torch.rand(4, 3), torch.tensor([], dtype=torch.long)).shape == (0, 4)


def test_disconnected_parts_are_infinitely_far():
    pos = torch.cat((torch.rand(30, 3), torch.rand(30, 3) + 10))
    rows = geodesic_distances(pos, torch.tensor([0, 59]))
    assert rows[0].isfinite().tolist() == [True] * 30 + [False] * 30
    assert rows[1].isfinite().tolist() == [False] * 30 + [True] * 30


def test_limit_leaves_the_near_ones_alone():
    pos = torch.rand(300, 3, generator=torch.Generator().manual_seed(0))
    source = torch.arange(10)
    full, near = geodesic_distances(pos, source), geodesic_distances(pos, source, limit=0.3)
    assert (full > 0.3).any()
    assert (full <= 0.3).sum() > 10
    assert torch.equal(torch.where(full <= 0.3, full, math.inf), near)


def test_dtype_follows_pos():
    pos = torch.rand(9, 3, requires_grad=True)
    assert geodesic_distances(pos, torch.tensor([1])).dtype == torch.float32
    assert geodesic_distances(pos.double(), torch.tensor([1])).dtype == torch.float64


def test_error_snaps_to_the_nearest_point_unless_told():
    pos = torch.tensor([[0.0, 0], [1, 0], [2, 0], [3, 0]])
    # Keypoint 0: (1.9, 0.7) snaps to row 2, two steps from row 0. Keypoint 1 is missing. Keypoint 2: exact.
    predicted = torch.tensor([[1.9, 0.7], [math.nan, 0], [3, 0]])
    target, visible = torch.tensor([0, -1, 3]), torch.tensor([True, False, True])
    assert geodesic_error(predicted, pos, target, visible, k_neighbors=1).tolist() == [2, 0, 0]
    told = torch.tensor([1, -1, 3])
    assert geodesic_error(predicted, pos, target, visible, predicted_index=told).tolist() == [1, 0, 0]
    assert geodesic_error(predicted, pos, target, torch.zeros(3, dtype=torch.bool)).tolist() == [0, 0, 0]


POS = torch.rand(6, 3)
INDEX = torch.tensor([0, 1])


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: geodesic_distances(POS[0], INDEX), "`pos`"),
        (lambda: geodesic_distances(POS[:0], INDEX), "`pos`"),
        (lambda: geodesic_distances(POS.long(), INDEX), "`pos`"),
        (lambda: geodesic_distances(POS.index_fill(0, INDEX, math.nan), INDEX), "`pos`"),
        (lambda: geodesic_distances(POS, torch.tensor([6])), "`source_index`.*6.*0 to 5"),
        (lambda: geodesic_distances(POS, torch.tensor([-1])), "`source_index`"),
        (lambda: geodesic_distances(POS, torch.tensor([0.0])), "`source_index`"),
        (lambda: geodesic_distances(POS, torch.tensor(0)), "`source_index`"),
        (lambda: geodesic_distances(POS, INDEX, 0), "`k_neighbors` \\(=0\\)"),
        (lambda: geodesic_distances(POS, INDEX, limit=-1), "`limit` \\(=-1\\)"),
        (lambda: geodesic_distances(POS, INDEX, limit=math.nan), "`limit`"),
        (lambda: geodesic_error(POS[:2, :2], POS, INDEX, INDEX >= 0), "`predicted`"),
        (lambda: geodesic_error(POS[:2] / 0, POS, INDEX, INDEX >= 0), "`predicted` must be finite"),
        (lambda: geodesic_error(POS[:2], POS, INDEX[:1], INDEX >= 0), "`target_index`"),
        (lambda: geodesic_error(POS[:2], POS, INDEX, INDEX), "`visible`"),
        (
            lambda: geodesic_error(POS[:2], POS, INDEX, INDEX >= 0, predicted_index=INDEX[:1]),
            "`predicted_index`",
        ),
        (
            lambda: geodesic_error(POS[:2], POS, INDEX, INDEX >= 0, predicted_index=INDEX + 5),
            "`predicted_index`",
        ),
    ],
)
def test_bad_input(call, name):
    with pytest.raises(ValueError, match=name):
        call()


def test_real_beds():
    root = os.environ.get("PCSA_TEST_DATA")
    if not root:
        pytest.skip("PCSA_TEST_DATA is not set")
    folder = Path(root) / "keypointnet"
    shapes = json.loads((folder / "annotations" / "bed.json").read_text())[:5]
    for shape in shapes:
        file = folder / "pcds" / shape["class_id"] / f"{shape['model_id']}.pcd"
        rows = file.read_text().split("DATA ascii\n")[1].splitlines()
        pos = torch.tensor([[float(x) for x in row.split()[:3]] for row in rows], dtype=torch.float64)
        index = torch.tensor([k["pcd_info"]["point_index"] for k in shape["keypoints"]])
        geodesic = geodesic_distances(pos, index)
        euclidean = torch.cdist(pos[index], pos, compute_mode="donot_use_mm_for_euclid_dist")
        assert (geodesic >= euclidean - 1e-12).all()
        assert geodesic.isfinite().double().mean() > 0.95
        # One of the 20 nearest is one edge away: there both distances agree.
        near = euclidean.argsort(dim=1)[:, :21]
        torch.testing.assert_close(geodesic.gather(1, near), euclidean.gather(1, near))
