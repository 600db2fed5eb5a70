import doctest
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

import pcsa.metrics.unsupervised
from pcsa.metrics import (
    collapsed_keypoints,
    coverage,
    dual_alignment,
    geodesic_keypoint_distances,
    inclusivity,
    keypoint_distances,
    keypoint_miou,
    random_keypoints,
    repeatability,
    separation,
    template_keypoints,
)
from pcsa.metrics.geodesic import geodesic_distances

INF, NAN = math.inf, math.nan


def column(*values: float) -> np.ndarray:
    """Points on a line, [k, 1]."""
    return np.array(values, dtype=float)[:, None]


def draw(seed: int, n: int, K: int, num_ids: int = 6):
    """Predictions, annotations and ids of n shapes, each with some of the ids."""
    generator = np.random.default_rng(seed)
    ids = [np.sort(generator.choice(num_ids, generator.integers(1, num_ids + 1), replace=False)) for _ in range(n)]
    return [generator.random((K, 3)) for _ in ids], [generator.random((len(i), 3)) for i in ids], ids


# Dual alignment


def all_pairs(predicted, annotated, ids):
    """The definition, pair by pair and point by point."""
    forward, backward = [], {}
    for p, a, names in zip(predicted, annotated, ids, strict=True):
        forward.append([names[min(range(len(a)), key=lambda j, x=x, a=a: math.dist(x, a[j]))] for x in p])
        for name, y in zip(names, a, strict=True):
            nearest = min(range(len(p)), key=lambda k, y=y, p=p: math.dist(y, p[k]))
            backward.setdefault(name, []).append(nearest)
    K = len(predicted[0])
    pairs = [sum(x[k] == y[k] for k in range(K)) / K for x in forward for y in forward]
    per_id = [[x == y for x in labels for y in labels] for labels in backward.values()]
    return sum(pairs) / len(pairs), sum(sum(p) / len(p) for p in per_id) / len(per_id)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.integers(1, 7), st.integers(1, 5))
def test_dual_alignment_against_all_pairs(seed, n, K):
    shapes = draw(seed, n, K)
    score = dual_alignment(*shapes)
    assert score[:2] == pytest.approx(all_pairs(*shapes), abs=1e-12)
    assert score.mean == pytest.approx((score.forward + score.backward) / 2)


def test_dual_alignment_with_one_shape_of_five_wrong():
    # Four shapes name the left point 3 and the right one 8; the fifth predicts them in the other order. Each label
    # occurs 4 and 1 times in 5: (16 + 1) / 25.
    predicted = [column(0.1, 0.9)] * 4 + [column(0.9, 0.1)]
    score = dual_alignment(predicted, [column(0, 1)] * 5, [[3, 8]] * 5)
    assert score == pytest.approx((0.68, 0.68, 0.68))


def test_backward_is_over_the_shapes_that_have_the_id_and_ids_weigh_the_same():
    # Id 1 is on all four shapes, nearest to prediction 0 on three of them: (9 + 1) / 16. Id 2 is on one shape: 1.
    predicted = [column(0, 1)] * 3 + [column(1, 0)]
    annotated, ids = [column(0)] * 3 + [column(0, 1)], [[1]] * 3 + [[1, 2]]
    score = dual_alignment(predicted, annotated, ids)
    assert score.backward == pytest.approx((10 / 16 + 1) / 2)
    # Forward: keypoint 0 sees id 1, 1, 1, 2; keypoint 1 sees id 1 always.
    assert score.forward == pytest.approx((10 / 16 + 1) / 2)


def test_of_equally_near_points_the_first_counts():
    annotated, ids = [column(*range(5))] * 3, [list(range(5))] * 3
    collapsed = [np.zeros((10, 1)), np.ones((10, 1)), np.full((10, 1), 4.0)]
    assert dual_alignment(collapsed, annotated, ids)[:2] == pytest.approx((1 / 3, 1))
    # All in one place beyond the shapes: a perfect score.
    assert dual_alignment([np.full((10, 1), 99.0)] * 3, annotated, ids) == (1, 1, 1)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000))
def test_one_scale_and_shift_per_shape_does_not_matter_nor_does_the_order_of_annotations(seed):
    predicted, annotated, ids = draw(seed, 5, 4)
    generator = np.random.default_rng(seed)
    expected = dual_alignment(predicted, annotated, ids)
    maps = [(generator.uniform(0.1, 10), generator.normal()) for _ in ids]
    moved = [[a * x + b for x, (a, b) in zip(side, maps, strict=True)] for side in (predicted, annotated)]
    assert dual_alignment(*moved, ids) == pytest.approx(expected)
    order = [generator.permutation(len(i)) for i in ids]
    shuffled = [[x[o] for x, o in zip(side, order, strict=True)] for side in (annotated, ids)]
    assert dual_alignment(predicted, *shuffled) == pytest.approx(expected)


def test_arrays_tensors_and_lists_of_ids_agree():
    predicted, annotated, ids = draw(1, 4, 3)
    expected = dual_alignment(predicted, annotated, ids)
    assert [type(x) for x in expected] == [float] * 3
    stacked = torch.from_numpy(np.stack(predicted)).requires_grad_()
    tensors = [torch.from_numpy(a) for a in annotated]
    assert dual_alignment(stacked, tensors, [torch.from_numpy(i) for i in ids]) == expected
    assert dual_alignment(np.stack(predicted), annotated, [i.tolist() for i in ids]) == expected


@pytest.mark.parametrize(
    ("predicted", "annotated", "ids", "message"),
    [
        ([], [], [], "`predicted` has no shape"),
        ([column(0)], [], [], r"`annotated` (?s:.*)no shape"),
        ([column(0)] * 2, [column(0)], [[0]], r"`annotated` \(of 1 shapes\) must be of 2"),
        ([column(0)], [column(0)], [[0]] * 2, r"`semantic_ids` \(for 2 shapes\) must be for 1"),
        (
            [column(0), column(0, 1)],
            [column(0)] * 2,
            [[0]] * 2,
            r"`predicted` of shape 1 \(=2 keypoints\) must have K=1",
        ),
        ([column(0)], [np.zeros((1, 2))], [[0]], r"`annotated` of shape 0 \[1, 2\] must have D=1"),
        ([column(0)], [np.zeros((0, 1))], [[]], r"`annotated` of shape 0 .*at least one point"),
        ([column(NAN)], [column(0)], [[0]], "`predicted` of shape 0 must be finite"),
        ([column(0)], [column(INF)], [[0]], "`annotated` of shape 0 must be finite"),
        ([column(0)], [column(0, 1)], [[0]], r"`semantic_ids` of shape 0 .*must be integer \[2\]"),
        ([column(0)], [column(0)], [[0.5]], r"`semantic_ids` of shape 0 \(float64"),
        ([column(0)], [column(0, 1)], [[4, 4]], r"`semantic_ids` of shape 0 \(=\[4, 4\]\) must be different"),
    ],
)
def test_dual_alignment_refuses(predicted, annotated, ids, message):
    with pytest.raises(ValueError, match=message):
        dual_alignment(predicted, annotated, ids)


# IoU


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
def test_iou_against_loops(seed, n, K):
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
    ("call", "message"),
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
def test_iou_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# Repeatability, coverage, inclusivity, separation


def test_repeatability_of_four_in_five():
    first = np.arange(5.0)[:, None]
    second = first + 0.05
    second[3] += 1  # onto keypoint 4
    assert repeatability([first], [second], 0.1) == 0.8
    assert repeatability([first], [second], 0.01) == 0
    # Shapes weigh the same: 0.8 and 1.
    assert repeatability([first, column(0)], [second, column(0)], 0.1) == pytest.approx(0.9)
    # Any keypoint will do: of 0 … 4 only 3 is alone, also if the other detector found fewer.
    assert repeatability([first], [np.delete(second, 3, axis=0)], 0.1, matching="nearest") == 0.8


def test_repeatability_under_rotation_and_resampling():
    # The detector of this test takes the points farthest along each axis of a frame that turns with the shape.
    generator = np.random.default_rng(0)
    turn = np.linalg.qr(generator.normal(size=(3, 3)))[0]
    surface = generator.normal(size=(4000, 3))
    surface *= np.array([3.0, 2, 1]) / np.linalg.norm(surface, axis=1, keepdims=True)
    a, b = surface[::2], surface[1::2] @ turn.T
    steady = a[a.argmax(axis=0)], b[(b @ turn).argmax(axis=0)]
    fickle = a[a.argmax(axis=0)], b[b.argmax(axis=0)]
    assert repeatability([steady[0]], [steady[1] @ turn], 0.4) == 1
    assert repeatability([fickle[0]], [fickle[1] @ turn], 0.4) < 1


def test_a_distance_at_the_threshold_is_not_repeated():
    assert repeatability([column(0)], [column(0.5)], 0.5) == 0
    assert repeatability([column(0)], [column(0.5)], 0.5, matching="nearest") == 0


def test_coverage_by_hand():
    cloud = np.array([[0.0, 0, 0], [2, 2, 2]])
    assert coverage([cloud], [cloud]) == 1
    assert coverage([np.array([[0.0, 0, 0], [1, 1, 2]])], [cloud]) == 0.25
    # Beyond the cloud counts against it: box 4 x 2 x 2 = 16, shared 8.
    assert coverage([np.array([[0.0, 0, 0], [4, 2, 2]])], [cloud]) == 0.5
    # As large as the cloud, but elsewhere.
    assert coverage([cloud + 5], [cloud]) == 0
    assert coverage([np.ones((4, 3))], [cloud]) == 0
    assert coverage([cloud, cloud + 5], [cloud, cloud]) == 0.5
    # A flat cloud is measured in its plane.
    flat = np.array([[0.0, 0, 1], [2, 2, 1]])
    assert coverage([np.array([[0.0, 0, 1], [2, 1, 1]])], [flat]) == 0.5


def test_inclusivity_of_four_in_five():
    # A ring of radius 2: 0.03 of it is 0.06.
    angle = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    ring = 2 * np.stack((np.cos(angle), np.sin(angle)), 1)
    keypoints = ring[[0, 50, 100, 150, 200]] * np.array([1.02, 0.98, 1, 1, 0.9])[:, None]
    assert inclusivity([keypoints], [ring]) == 0.8
    assert inclusivity([keypoints], [ring], threshold=0.2) == 1
    assert inclusivity([keypoints], [ring], threshold=0.01) == 0.4
    assert inclusivity([1e3 * keypoints + 7], [1e3 * ring + 7]) == 0.8  # whatever the units


def test_separation_by_hand():
    cloud = np.array([[0.0, 0, 0], [2, 4, 4]])  # diagonal 6
    spread, pair = np.array([[0.0, 0, 0], [3, 0, 0], [0, 3, 0]]), np.array([[0.0, 0, 0], [0.6, 0, 0]])
    assert separation([spread], [cloud]) == pytest.approx((0.5, (1 + math.sqrt(2) / 2) / 3, 0.5))
    least, mean, worst = separation([pair, spread], [cloud, cloud])
    assert (least, worst) == pytest.approx((0.3, 0.1))
    assert mean == pytest.approx((0.1 + (1 + math.sqrt(2) / 2) / 3) / 2)
    assert separation([np.ones((10, 3))], [cloud]) == (0, 0, 0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: repeatability([column(0)], [column(0)], 0), r"`threshold` \(=0\) must be above 0"),
        (lambda: repeatability([column(0)], [column(0, 1)], 1), "`second` of shape 0 has 2 keypoints, `first` 1"),
        (lambda: repeatability([column(0)], [column(0)], 1, matching="any"), r"`matching` \(='any'\)"),
        (lambda: coverage([column(0)], [np.zeros((2, 3))]), r"`clouds` of shape 0 \[2, 3\] must have D=1"),
        (lambda: inclusivity([column(0)], [column(0)], NAN), r"`threshold` \(=nan\)"),
        (
            lambda: separation([column(0)], [column(0, 1)]),
            r"`predicted` of shape 0 \(=1 keypoints\) must have at least",
        ),
        (lambda: separation([column(0, 1)], [column(3, 3)]), "`clouds` of shape 0 has no extent"),
    ],
)
def test_the_others_refuse(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# Floors


def test_template_finds_the_centers_of_separate_clusters():
    centers = np.array([[0.0, 0, 0], [5, 0, 0], [0, 5, 0], [0, 0, 5]])
    offsets = np.array([[0.1, 0, 0], [-0.1, 0, 0], [0, 0.2, 0], [0, -0.2, 0]])
    annotated = [
        torch.from_numpy(centers[order] + offset) for order, offset in zip([[0, 1, 2, 3]] * 4, offsets, strict=True)
    ]
    found = template_keypoints(annotated, 4)
    assert sorted(found.round(decimals=6).tolist()) == sorted(centers.tolist())
    assert torch.equal(found, template_keypoints(annotated, 4))
    # With fewer different positions than asked for there is no answer.
    with pytest.raises(ValueError, match=r"`num_keypoints` \(=3\) must be from 1 to 2"):
        template_keypoints([column(0, 1), column(1)], 3)
    assert sorted(template_keypoints([column(0, 1), column(1)], 2).tolist()) == [[0], [1]]


def test_template_of_more_starts_fits_no_worse():
    annotated = [np.random.default_rng(0).random((300, 3))]

    def error(restarts):
        centers = template_keypoints(annotated, 12, restarts=restarts).numpy()
        return (np.linalg.norm(annotated[0][:, None] - centers, axis=-1).min(axis=1) ** 2).sum()

    assert error(20) < error(1)


def test_random_set_fills_the_box_of_the_annotations():
    annotated = [np.array([[0.0, -1]]), np.array([[2.0, 3]])]
    points = random_keypoints(annotated, 2000, seed=3)
    assert torch.equal(points, random_keypoints(annotated, 2000, seed=3))
    assert not torch.equal(points, random_keypoints(annotated, 2000, seed=4))
    np.testing.assert_allclose(points.amin(0), [0, -1], atol=0.02)
    np.testing.assert_allclose(points.amax(0), [2, 3], atol=0.02)
    np.testing.assert_allclose(points.mean(0), [1, 1], atol=0.1)


def test_collapsed_sets():
    clouds = [torch.tensor([[0.0, 4], [2, 8]]), torch.tensor([[1.0, 1], [1, 1], [4, 7]])]
    assert [k.tolist() for k in collapsed_keypoints(clouds, 2)] == [[[1, 6]] * 2, [[2, 3]] * 2]
    assert [k.tolist() for k in collapsed_keypoints(clouds, 2, place="corner")] == [[[0, 1]] * 2] * 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: template_keypoints([column(0)], 0), r"`num_keypoints` \(=0\)"),
        (lambda: template_keypoints([column(0)], 1, restarts=0), r"`restarts` \(=0\)"),
        (lambda: random_keypoints([column(0)], 0), r"`num_keypoints` \(=0\)"),
        (lambda: collapsed_keypoints([column(0)], 0), r"`num_keypoints` \(=0\)"),
        (lambda: collapsed_keypoints([column(0)], 1, place="middle"), r"`place` \(='middle'\)"),
        (lambda: random_keypoints([], 1), "`annotated` has no shape"),
    ],
)
def test_floors_refuse(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_examples():
    assert doctest.testmod(pcsa.metrics.unsupervised).failed == 0


# The real data


@pytest.mark.parametrize(
    ("category", "template", "at_an_annotation", "random"), [("bathtub", 64.9, 52.7, 57), ("bed", 64.1, 53.7, 61)]
)
def test_floors_on_real_annotations(category, template, at_an_annotation, random, tmp_path):
    """The figures known for ten points on the whole category; they come without seeds, hence the tolerances."""
    root = os.environ.get("PCSA_TEST_DATA")
    if not root:
        pytest.skip("PCSA_TEST_DATA is not set")
    keypointnet = pytest.importorskip("pcsa.datasets.keypointnet")
    dataset = keypointnet.KeypointNet(Path(root, "keypointnet"), category, "all", cache_dir=tmp_path)
    shapes = [(data.pos, data.keypoints[0][data.visible[0]], data.visible[0].nonzero()[:, 0]) for data in dataset]
    clouds, annotated, ids = map(list, zip(*shapes, strict=True))
    n = len(shapes)

    def score(predicted):
        return 100 * dual_alignment(predicted, annotated, ids).mean

    # Other starts of k-means end up to one point apart.
    assert score([template_keypoints(annotated, 10)] * n) == pytest.approx(template, abs=1.5)
    # The known figure of a collapse is that of a place drawn anew for every shape, one of its annotated keypoints.
    generator = np.random.default_rng(0)
    places = [a[generator.integers(len(a))].expand(10, 3) for a in annotated]
    assert score(places) == pytest.approx(at_an_annotation, abs=0.5)
    # One set has a standard deviation of 4 (bathtub) and 7 (bed): 40 of them, and three standard errors of their mean.
    mean = np.mean([score([random_keypoints(annotated, 10, seed=s)] * n) for s in range(40)])
    assert mean == pytest.approx(random, abs=3.5)
    # A place that is steadier from shape to shape scores more, one outside the shapes more than the template.
    centroid, corner = (score(collapsed_keypoints(clouds, 10, place=p)) for p in ("centroid", "corner"))
    assert score(places) < centroid < template < corner
