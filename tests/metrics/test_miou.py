import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from pcsa.metrics import geodesic_distances, geodesic_keypoint_distances, keypoint_distances, keypoint_miou

INF, NAN = math.inf, math.nan


def column(*values: float) -> np.ndarray:
    """Points on a line, [k, 1]."""
    return np.array(values, dtype=float)[:, None]


def test_four_of_five_right():
    # Five predictions, four within 0.05 of the four... of five annotations: fn = 1, fp = 1: (5 - 1) / (5 + 1).
    annotated = [np.arange(5.0)[:, None]]
    predicted = [annotated[0] + 0.03]
    predicted[0][2] += 0.4
    assert keypoint_miou(keypoint_distances(predicted, annotated), [0.02, 0.05, 0.5]).tolist() == [0, 4 / 6, 1]
    # Without the wrong one only the miss counts: 4 of 5 are found.
    predicted = [np.delete(predicted[0], 2, axis=0)]
    assert keypoint_miou(keypoint_distances(predicted, annotated), [0.05]).item() == 0.8


def test_counts_are_pooled_over_shapes():
    # Shape 0 has one annotation, found. Shape 1 has three, one found, and two wrong predictions: (4 - 2) / (4 + 2);
    # the mean of shapes would be (1 + 1/5) / 2.
    distances = keypoint_distances([column(0), column(0, 50, 60)], [column(0), column(0, 10, 20)])
    assert keypoint_miou(distances, [0.1]).item() == pytest.approx(2 / 6)


def test_the_threshold_is_within_and_nothing_is_matched_one_to_one():
    distances = [torch.tensor([[0.1], [0.0], [0.1]])]
    assert keypoint_miou(distances, [0.0, 0.1]).tolist() == [1 / 3, 1]


def iou_by_loops(distances, threshold):
    npos = fn = fp = 0
    for d in distances:
        npos += d.shape[1]
        fn += sum(all(d[i, j] > threshold for i in range(d.shape[0])) for j in range(d.shape[1]))
        fp += sum(all(d[i, j] > threshold for j in range(d.shape[1])) for i in range(d.shape[0]))
    return (npos - fn) / (npos + fp)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(1, 5))
def test_iou_against_loops(draw, seed, n, K):
    predicted, annotated, _ = draw(seed, n, K)
    distances = keypoint_distances(predicted, annotated)
    assert distances[0][0, 0].item() == pytest.approx(math.dist(predicted[0][0], annotated[0][0]))
    thresholds = [0.0, 0.2, 0.5, 2.0]
    expected = [iou_by_loops(distances, t) for t in thresholds]
    result = keypoint_miou(distances, thresholds)
    assert result.tolist() == pytest.approx(expected)
    assert result.diff().min() >= 0
    assert result[-1] == 1


def test_predictions_move_to_the_nearest_point_of_the_cloud():
    cloud = column(0, 1, 2)
    assert keypoint_distances([column(1.4, 7)], [column(0)], [cloud])[0].tolist() == [[1], [2]]
    assert keypoint_distances([column(1.4, 7)], [column(0)])[0].tolist() == [[1.4], [7]]


def test_geodesic_distances_run_around_a_gap():
    # Two legs 0.5 apart, joined at the bottom: 2 + 0.5 + 2 from tip to tip.
    leg = torch.arange(20, -1, -1) * 0.1
    bottom = torch.arange(1, 5) * 0.1
    left = torch.stack((torch.zeros(21), leg), 1)
    right = torch.stack((torch.full((21,), 0.5), leg.flip(0)), 1)
    cloud = torch.cat((left, torch.stack((bottom, torch.zeros(4)), 1), right))
    tip = torch.tensor([[0.02, 2.1], [0.49, 1.99]])
    index = [[0, len(cloud) - 1]]
    (distance,) = geodesic_keypoint_distances([tip], [cloud], index, 2)
    np.testing.assert_allclose(distance, [[0, 4.5], [4.5, 0]], atol=1e-5)
    assert keypoint_miou([distance[:1]], [0.6]).item() == 0.5  # Euclidean, the tip would find both
    assert keypoint_miou(keypoint_distances([tip[:1]], [cloud[index[0]]], [cloud]), [0.6]).item() == 1
    # A limit changes nothing below it.
    (near,) = geodesic_keypoint_distances([tip], [cloud], index, 2, limit=1.0)
    assert near.tolist() == [[0, INF], [INF, 0]]


def test_geodesic_distances_are_those_of_every_shape():
    generator = torch.Generator().manual_seed(0)
    clouds = [torch.rand(n, 3, generator=generator) for n in (40, 25)]
    predicted = [torch.rand(k, 3, generator=generator) for k in (3, 4)]
    index = [torch.tensor([5, 0]), torch.tensor([24])]
    distances = geodesic_keypoint_distances(predicted, clouds, index, 4)
    for p, cloud, rows, distance in zip(predicted, clouds, index, distances, strict=True):
        nearest = torch.cdist(p, cloud).argmin(1)
        torch.testing.assert_close(distance, geodesic_distances(cloud.double(), nearest, 4)[:, rows])


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: keypoint_miou([], [0.1]), "`distances` has no shape"),
        (lambda: keypoint_miou([torch.zeros(0, 2)], [0.1]), "`distances` of shape 0"),
        (lambda: keypoint_miou([torch.zeros(1, 2), torch.tensor([[NAN]])], [0.1]), "`distances` of shape 1 must be at"),
        (lambda: keypoint_miou([torch.zeros(1, 1)], [0.2, 0.1]), r"`thresholds` \(=\[0.2, 0.1\]\) must be increasing"),
        (lambda: keypoint_distances([column(0)], [column(0)], []), r"`clouds`"),
        (lambda: geodesic_keypoint_distances([column(0)], [column(0)], []), r"`annotated_index` \(for 0 shapes\)"),
        (lambda: geodesic_keypoint_distances([column(0)], [column(0, 1)], [[2]]), "shape 0: .*must lie in 0 to 1"),
        (lambda: geodesic_keypoint_distances([column(0)], [column(0, 1)], [[]]), "at least one row"),
    ],
)
def test_bad_input(call, match):
    with pytest.raises(ValueError, match=match):
        call()
