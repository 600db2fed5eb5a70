import copy
import doctest
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.linalg import orthogonal_procrustes
from scipy.spatial import procrustes
from scipy.spatial.transform import Rotation

import pcsa.metrics.keypoint_error
import pcsa.metrics.poses
from pcsa.metrics import (
    COCO_SIGMAS,
    Calibration,
    coco_average_precision,
    confidence_correlation,
    failure_rate,
    keypoint_error,
    mean_error,
    mpjpe,
    normalized_error,
    object_keypoint_similarity,
    pa_mpjpe,
    pck,
    procrustes_align,
    segment_length,
    surface_error,
)

NAN = math.nan


def bools(*rows):
    """`bools("1101", …)` as a [B, K] mask."""
    return torch.tensor([[c == "1" for c in row] for row in rows])


def poses(size, seed=0, dtype=torch.float64):
    return torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# --- object keypoint similarity ----------------------------------------------------------------------------


def test_similarity_by_hand():
    # (2 * 0.25)^2 = 1/4, twice the area is 200: exp(-25 / (1/4 * 200)) = exp(-1/2) at distance 5.
    predicted = torch.tensor([[[3.0, 4.0], [1.0, 1.0], [99.0, 99.0]]])
    target = torch.tensor([[[0.0, 0.0], [1.0, 1.0], [0.0, 0.0]]])
    area, sigmas = torch.tensor([100.0]), [0.25, 0.1, 0.1]
    similarity = object_keypoint_similarity(predicted, target, bools("110"), area, sigmas)
    assert similarity.item() == pytest.approx((math.exp(-0.5) + 1) / 2, rel=1e-12)
    # The third is 99 sqrt(2) away: exp(-99^2 * 2 / (0.04 * 200)), as good as 0.
    similarity = object_keypoint_similarity(predicted, target, bools("111"), area, sigmas)
    assert similarity.item() == pytest.approx((math.exp(-0.5) + 1) / 3, rel=1e-12)


def test_four_of_five_joints_at_their_places_give_0_8():
    target = poses((1, 5, 2))
    predicted = target.clone()
    predicted[0, 3] += 1e6
    assert object_keypoint_similarity(predicted, target, bools("11111"), target.new_ones(1), [0.1] * 5).item() == 0.8


def test_nobody_to_be_seen_has_no_similarity():
    similarity = object_keypoint_similarity(
        torch.zeros(2, 1, 2),
        torch.tensor([[[0.0, 0.0]], [[NAN, NAN]]]),
        bools("1", "0"),
        torch.tensor([1.0, NAN]),
        [1.0],
    )
    assert similarity[0] == 1
    assert similarity[1].isnan()


def test_similarity_is_differentiable_and_not_disturbed_by_what_is_missing():
    target = torch.tensor([[[0.0, 0.0], [0.0, 0.0], [NAN, NAN]]])
    predicted = torch.tensor([[[1.0, 0.0], [0.0, 0.0], [5.0, 5.0]]], requires_grad=True)
    object_keypoint_similarity(predicted, target, bools("110"), torch.ones(1), [0.5] * 3).sum().backward()
    # d/dx exp(-x^2 / 2) / 2 = -x exp(-x^2 / 2) / 2 at x = 1.
    assert predicted.grad[0].flatten().tolist() == pytest.approx([-math.exp(-0.5) / 2, 0, 0, 0, 0, 0])


def annotated(num_persons=5, seed=0):
    """One image for each person, and one without any, as a COCO file has them."""
    rng = np.random.default_rng(seed)
    persons = []
    for i in range(num_persons):
        x, y = rng.uniform(100, 300, (2, 17)).round()
        v = rng.integers(0, 3, 17)
        v[0] = 2
        keypoints = np.stack([x * (v > 0), y * (v > 0), v], 1).flatten().tolist()
        persons.append(
            {"id": i + 1, "image_id": i + 1, "category_id": 1, "iscrowd": 0, "keypoints": keypoints}
            | {"num_keypoints": int((v > 0).sum()), "bbox": [100.0, 100.0, 200.0, 200.0], "area": 20_000.0}
        )
    return {
        "images": [{"id": i + 1, "width": 640, "height": 480} for i in range(num_persons + 1)],
        "categories": [{"id": 1, "name": "person"}],
        "annotations": persons,
    }


def as_results(dataset):
    """The annotations as a detector that is always right would find them."""
    return [
        {"image_id": a["image_id"], "category_id": 1, "score": 0.9, "keypoints": list(a["keypoints"])}
        for a in dataset["annotations"]
        if a["num_keypoints"]
    ]


def test_similarity_is_that_of_pycocotools():
    cocoeval = pytest.importorskip("pycocotools.cocoeval")
    dataset, rng = annotated(20), np.random.default_rng(1)
    truth = np.array([a["keypoints"] for a in dataset["annotations"]]).reshape(-1, 17, 3)
    found = truth[..., :2] + rng.normal(0, 20, (20, 17, 2))
    areas = rng.uniform(1_000, 50_000, 20)
    areas[0] = 0.0
    found[0, :9] = truth[0, :9, :2]
    ours = object_keypoint_similarity(
        torch.from_numpy(found),
        torch.from_numpy(truth[..., :2]),
        torch.from_numpy(truth[..., 2] > 0),
        torch.from_numpy(areas),
    )
    evaluation = cocoeval.COCOeval(iouType="keypoints")
    theirs = []
    for i, annotation in enumerate(dataset["annotations"]):
        evaluation._gts = {(1, 1): [annotation | {"area": areas[i]}]}
        joints = np.concatenate([found[i], np.ones((17, 1))], 1).flatten()
        evaluation._dts = {(1, 1): [{"score": 1.0, "keypoints": joints}]}
        theirs.append(evaluation.computeOks(1, 1)[0, 0])
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)
    assert 0.05 < ours.mean() < 0.95
    np.testing.assert_array_equal(COCO_SIGMAS, evaluation.params.kpt_oks_sigmas.round(6))


# --- average precision -------------------------------------------------------------------------------------


def test_persons_at_their_places_have_an_average_precision_of_1(capsys):
    dataset = annotated()
    untouched = copy.deepcopy(dataset)
    results = as_results(dataset)
    scores = coco_average_precision(dataset, results)
    # All are large: there is none of medium size to be found.
    assert scores == dict.fromkeys(("AP", "AP50", "AP75", "APL", "AR", "AR50", "AR75", "ARL"), 1.0) | {
        "APM": None,
        "ARM": None,
    }
    assert list(scores) == ["AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL"]
    assert capsys.readouterr().out == ""
    assert dataset == untouched
    assert results == as_results(dataset)


def test_four_of_five_persons_give_a_recall_of_0_8():
    dataset = annotated()
    results = as_results(dataset)
    results[2] = results[2] | {"score": 0.1, "keypoints": (np.array(results[2]["keypoints"]) + 1000).tolist()}
    scores = coco_average_precision(dataset, results)
    assert scores["AR"] == scores["AR50"] == pytest.approx(0.8)
    # Precision is 1 up to a recall of 0.8, that is at 81 of the 101 recalls 0, 0.01, …, 1.
    assert scores["AP"] == pytest.approx(81 / 101)
    # With the highest score it comes first: k of the k + 1 first are right, at recall k / 5, and precisions are
    # those of the best that follows, 4 / 5.
    results[2]["score"] = 1.0
    assert coco_average_precision(dataset, results)["AP"] == pytest.approx(0.8 * 81 / 101)


def test_one_image_without_a_result_counts():
    dataset = annotated()
    assert coco_average_precision(dataset, as_results(dataset)[:-1])["AR"] == pytest.approx(0.8)


def test_no_result_gives_0_and_nobody_to_find_none():
    scores = coco_average_precision(annotated(), [])
    assert scores == dict.fromkeys(("AP", "AP50", "AP75", "APL", "AR", "AR50", "AR75", "ARL"), 0.0) | {
        "APM": None,
        "ARM": None,
    }
    nobody = annotated() | {"annotations": []}
    assert set(coco_average_precision(nobody, []).values()) == {None}
    assert set(coco_average_precision(nobody, as_results(annotated())).values()) == {None}


def test_sigmas_of_other_joints():
    dataset = annotated()
    for person in dataset["annotations"]:
        person.update(keypoints=[110.0, 110.0, 2, 200.0, 200.0, 2], num_keypoints=2)
    results = as_results(dataset)
    for result in results:
        result["keypoints"][0] += 50
    # One joint is right, the other 50 away: with area 20,000 it counts exp(-2500 / ((2 s)^2 40,000)), for s = 0.125
    # exp(-1), for s = 0.01 nothing. OKS is 0.68 or 0.5, thresholds passed 4 (0.5, …, 0.65) or 1 of 10.
    assert coco_average_precision(dataset, results, sigmas=[0.125, 0.1])["AR"] == pytest.approx(0.4)
    assert coco_average_precision(dataset, results, sigmas=[0.01, 0.1])["AR"] == pytest.approx(0.1)


@pytest.fixture(scope="module")
def real():
    folder = os.environ.get("PCSA_TEST_DATA")
    if not folder:
        pytest.skip("PCSA_TEST_DATA is not set")
    return Path(folder, "coco", "test_coco.json")


def test_the_miniature_of_coco(real):
    dataset = json.loads(real.read_text())
    results = as_results(dataset)
    assert len(results) == 12
    assert coco_average_precision(real, results) == dict.fromkeys(coco_average_precision(dataset, results), 1.0)
    # Of 12 persons 3 of the large ones are placed where nobody is, after all others: recall 9 / 12.
    areas = sorted((a["area"], i) for i, a in enumerate(a for a in dataset["annotations"] if a["num_keypoints"]))
    for _, i in areas[-3:]:
        results[i]["keypoints"] = [x + 2000 for x in results[i]["keypoints"]]
        results[i]["score"] = 0.1
    scores = coco_average_precision(str(real), results)
    num_large = sum(area > 96**2 for area, _ in areas)
    assert scores["AR"] == pytest.approx(0.75)
    assert scores["AP"] == pytest.approx(76 / 101)
    assert scores["ARM"] == 1
    assert scores["ARL"] == pytest.approx((num_large - 3) / num_large)


# --- errors by a length of the instance's own --------------------------------------------------------------


def test_lengths_and_errors_by_hand():
    keypoints = torch.tensor([[[0.0, 0.0], [6.0, 8.0], [1.0, 1.0]]]).repeat(4, 1, 1)
    keypoints[2, 1] = NAN
    keypoints[3, 1] = 0.0  # both ends at one place
    visible = bools("111", "101", "101", "111")
    keypoints[1, 1] = math.inf
    length, known = segment_length(keypoints, visible, (0, 1))
    assert length.tolist() == [10, 0, 0, 0]
    assert known.tolist() == [True, False, False, True]

    predicted = keypoints.nan_to_num(0, 0, 0)
    predicted[:, 2] += torch.tensor([0.0, 5.0])
    error = normalized_error(predicted, keypoints, visible, length, known)
    # Only the first has a length to measure by.
    assert error.counted.tolist() == bools("111", "000", "000", "000").tolist()
    assert error.distance.tolist() == [[0, 0, 0.5], [0, 0, 0], [0, 0, 0], [0, 0, 0]]
    assert mean_error(*error).item() == pytest.approx(0.5 / 3)
    assert pck(*error, [0.2, 0.5, 0.6]).tolist() == pytest.approx([2 / 3, 2 / 3, 1])


def test_errors_do_not_depend_on_the_size_of_the_image():
    target, predicted = poses((3, 4, 2)), poses((3, 4, 2), 1)
    visible = bools("1111", "1110", "0110")
    error = normalized_error(predicted, target, visible, *segment_length(target, visible, (1, 2)))
    larger = normalized_error(7 * predicted, 7 * target, visible, *segment_length(7 * target, visible, (1, 2)))
    torch.testing.assert_close(larger.distance, error.distance)
    naive = torch.stack(
        [keypoint_error(predicted, target, visible)[i] / (t[1] - t[2]).norm() for i, t in enumerate(target)]
    )
    torch.testing.assert_close(error.distance, naive)
    assert torch.equal(error.counted, visible)


def test_gradients_pass_unknown_lengths():
    target = torch.tensor([[[0.0, 0.0], [2.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]])
    predicted = (target + torch.tensor([1.0, 0.0])).requires_grad_()
    visible = bools("11", "11")
    error = normalized_error(predicted, target, visible, torch.tensor([2.0, 0.0]), torch.tensor([True, True]))
    error.distance.sum().backward()
    assert predicted.grad.tolist() == [[[0.5, 0], [0.5, 0]], [[0, 0], [0, 0]]]


def test_failures_by_hand():
    # Means 0.05, 0.1 (not above it), 0.2, and one that does not count: 1 of 3.
    distance = torch.tensor([[0.0, 0.1], [0.1, 9.0], [0.1, 0.3], [9.0, 9.0]], dtype=torch.float64)
    counted = bools("11", "10", "11", "00")
    assert failure_rate(distance, counted).item() == pytest.approx(1 / 3)
    assert failure_rate(distance, counted, 0.01).item() == 1
    assert failure_rate(distance, counted, 0.5).item() == 0
    # 4 of 5 right.
    distance = torch.full((5, 68), 0.03)
    distance[2] = 0.5
    assert failure_rate(distance, distance > 0).item() == pytest.approx(0.2)


# --- poses in space ----------------------------------------------------------------------------------------


def test_position_errors_by_hand():
    target = torch.zeros(2, 2, 3)
    predicted = torch.tensor([[[0.0, 0.0, 3.0], [0.0, 4.0, 3.0]], [[1.0, 0.0, 0.0], [9.0, 9.0, 9.0]]])
    target[1, 1] = NAN
    error = mpjpe(predicted, target, bools("11", "10"))
    assert error.distance.tolist() == [[3, 5], [1, 0]]
    assert mean_error(*error).item() == 2.5
    # By the first joint: errors 0 and 4; the second pose has only its root.
    error = mpjpe(predicted, target, bools("11", "10"), root=0)
    assert error.distance.tolist() == [[0, 4], [0, 0]]
    assert mean_error(*error).item() == 1
    # By the second joint, which the second pose lacks.
    error = mpjpe(predicted, target, bools("11", "10"), root=1)
    assert error.distance.tolist() == [[4, 0], [0, 0]]
    assert error.counted.tolist() == bools("11", "00").tolist()


def test_a_pose_at_another_place_has_no_error_about_its_root():
    target = poses((3, 5, 3))
    visible = bools("11111", "10111", "11100")
    error = mpjpe(target + poses((3, 1, 3), 1), target, visible, root=2)
    assert error.distance.max() < 1e-12
    assert torch.equal(error.counted, visible)


def turned_by(size, seed=0):
    return torch.from_numpy(Rotation.random(size, random_state=np.random.default_rng(seed)).as_matrix())


def naive_alignment(predicted, target, visible):
    """One pose after the other, by SciPy's rotation between vectors (never a reflection)."""
    out = []
    for p, t, v in zip(predicted.numpy(), target.numpy(), visible.numpy(), strict=True):
        center, wanted = p[v].mean(0), t[v].mean(0)
        a, b = p[v] - center, t[v] - wanted
        rotation, _ = Rotation.align_vectors(b, a)
        scale = (rotation.apply(a) * b).sum() / (a * a).sum()
        out.append(scale * rotation.apply(p - center) + wanted)
    return torch.from_numpy(np.stack(out))


def test_alignment_is_that_of_scipys_rotations(close):
    target = poses((40, 6, 3))
    # Some near to a turned target, the others with nothing in common with it, so that half of the best orthogonal
    # maps are reflections.
    predicted = torch.cat([target[:20] @ turned_by(20).mT * 3 + 5 + 0.1 * poses((20, 6, 3), 2), poses((20, 6, 3), 3)])
    visible = torch.rand(40, 6, generator=torch.Generator().manual_seed(4)) < 0.7
    visible[:, :3] = True
    aligned = procrustes_align(predicted, target, visible)
    close(aligned, naive_alignment(predicted, target, visible))
    mirrors = [
        np.linalg.det(orthogonal_procrustes(*(x.numpy() - x.numpy().mean(0) for x in pair))[0])
        for pair in zip(predicted[20:], target[20:], strict=True)
    ]
    assert 4 < np.sum(np.array(mirrors) < 0) < 16


@pytest.mark.parametrize("dim", [2, 3])
def test_alignment_is_that_of_scipys_procrustes(dim, close):
    target = poses((30, 5, dim))
    predicted = target + 0.3 * poses((30, 5, dim), 1)
    error = pa_mpjpe(predicted, target, torch.ones(30, 5, dtype=torch.bool)).distance
    for p, t, ours in zip(predicted.numpy(), target.numpy(), error, strict=True):
        a = p - p.mean(0)
        b = t - t.mean(0)
        if np.linalg.det(orthogonal_procrustes(a, b)[0]) > 0:  # SciPy would mirror
            wanted, found, disparity = procrustes(t, p)
            # SciPy's target has the norm 1.
            np.testing.assert_allclose(np.linalg.norm(wanted - found, axis=1) * np.linalg.norm(b), ours, atol=1e-12)
            assert ours.square().sum() / (b**2).sum() == pytest.approx(disparity)


def test_similarity_transforms_of_the_prediction_change_nothing_and_reflections_do(close):
    target, predicted = poses((8, 7, 3)), poses((8, 7, 3), 1)
    visible = torch.rand(8, 7, generator=torch.Generator().manual_seed(0)) < 0.8
    visible[:, :4] = True
    error = pa_mpjpe(predicted, target, visible).distance
    scale = torch.linspace(0.01, 50, 8, dtype=torch.float64)[:, None, None]
    moved = scale * predicted @ turned_by(8).mT + 10 * poses((8, 1, 3), 2)
    close(pa_mpjpe(moved, target, visible).distance, error)
    mirrored = target * torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64)
    assert pa_mpjpe(target, target, visible).distance.max() < 1e-12
    assert pa_mpjpe(mirrored, target, visible).distance.square().sum(1).min() > 1e-3
    # Never worse than unaligned, in the squares that it minimizes.
    assert (error.square().sum(1) <= mpjpe(predicted, target, visible).distance.square().sum(1)).all()


def test_what_is_not_visible_does_not_take_part():
    target, predicted = poses((2, 6, 3)), poses((2, 6, 3), 1)
    visible = bools("111110", "110110")
    spoiled, wanted = predicted.clone(), target.clone()
    spoiled[~visible], wanted[~visible] = 1e9, NAN
    error = pa_mpjpe(spoiled, wanted, visible)
    torch.testing.assert_close(error.distance, pa_mpjpe(predicted, target, visible).distance)
    alone = pa_mpjpe(predicted[1:, visible[1]], target[1:, visible[1]], bools("1111")).distance
    torch.testing.assert_close(error.distance[1:, visible[1]], alone)


@pytest.mark.parametrize("far", [0.0, 1e4])
def test_poses_that_leave_the_transform_open_are_finite(far):
    line = torch.linspace(0, 1, 5)[:, None] * torch.tensor([1.0, 2.0, -1.0]) + far
    point = torch.full((5, 3), 0.1) + far
    full = poses((5, 3), dtype=torch.float32)
    predicted = torch.stack([line, point, full, full, full, full])
    target = torch.stack([full, full, line, point, full, full])
    visible = bools("11111", "11111", "11111", "11111", "11000", "10000")
    aligned = procrustes_align(predicted, target, visible)
    assert aligned.isfinite().all()
    # All in one place come to lie at the mean.
    torch.testing.assert_close(aligned[1], full.mean(0).expand(5, 3))
    torch.testing.assert_close(aligned[3], point, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(aligned[5, 0], full[0])
    error = pa_mpjpe(predicted, target, visible)
    assert error.counted.tolist() == bools("11111", "11111", "11111", "11111", "00000", "00000").tolist()
    assert procrustes_align(full[None], full[None], bools("00000")).isfinite().all()


def test_alignment_of_millimeters_in_single_precision():
    # Five meters from the camera, as Human3.6M's poses are.
    target = 300 * poses((4, 17, 3), dtype=torch.float32) + torch.tensor([0.0, 0.0, 5000.0])
    predicted = (target.double() @ turned_by(4).mT * 1.1 + 4000).float()
    error = pa_mpjpe(predicted, target, torch.ones(4, 17, dtype=torch.bool)).distance
    assert error.dtype == torch.float32
    assert error.max() < 0.01


# --- surfaces ----------------------------------------------------------------------------------------------


def test_surfaces_by_hand():
    # Surface 0: distances 1 and 3 in the first scan, 2 in the second: mean 2, variance (1 + 1 + 0) / 3.
    # Surface 1: 4 alone. Surface 2: nowhere labeled.
    target = torch.zeros(2, 3, 2)
    predicted = torch.tensor([[[1.0, -3.0], [9.0, 4.0], [9.0, 9.0]], [[9.0, 2.0], [9.0, 9.0], [9.0, 9.0]]])
    visible = torch.stack([bools("11", "01", "00"), bools("01", "00", "00")])
    target[~visible] = NAN
    error = surface_error(predicted, target, visible)
    assert error.mean.tolist() == pytest.approx([2, 4, NAN], nan_ok=True)
    assert error.std.tolist() == pytest.approx([math.sqrt(2 / 3), 0, NAN], nan_ok=True)
    assert error.num_columns.tolist() == [3, 1, 0]
    # 1, 3, 2, 4: mean 5/2, variance (9 + 1 + 1 + 9) / 4 / 4 = 5/4.
    assert error.overall_mean.item() == 2.5
    assert error.overall_std.item() == pytest.approx(math.sqrt(5 / 4))
    # A row is 3.9 micrometers high.
    scaled = surface_error(predicted, target, visible, spacing=3.9)
    assert scaled.overall_mean.item() == pytest.approx(3.9 * 2.5)
    assert scaled.std[0].item() == pytest.approx(3.9 * math.sqrt(2 / 3))


def test_surfaces_are_those_of_numpy():
    rng = np.random.default_rng(0)
    target, predicted = rng.normal(200, 30, (2, 3, 4, 50))
    visible = rng.random((3, 4, 50)) < 0.8
    error = surface_error(*map(torch.from_numpy, (predicted, target, visible)))
    away = np.abs(predicted - target)
    np.testing.assert_allclose(error.mean, [away[:, k][visible[:, k]].mean() for k in range(4)])
    np.testing.assert_allclose(error.std, [away[:, k][visible[:, k]].std() for k in range(4)])
    np.testing.assert_allclose(error.overall_mean, away[visible].mean())
    np.testing.assert_allclose(error.overall_std, away[visible].std())


def test_no_labeled_column_gives_nan():
    error = surface_error(torch.zeros(1, 2, 3), torch.zeros(1, 2, 3), torch.zeros(1, 2, 3, dtype=torch.bool))
    assert error.mean.isnan().all()
    assert error.overall_mean.isnan()
    assert error.overall_std.isnan()
    assert error.num_columns.tolist() == [0, 0]


# --- calibration -------------------------------------------------------------------------------------------


def test_calibration_serves_surfaces_as_it_does_keypoints():
    # A column of a surface is a prediction: [B, K, W] as [B, K * W].
    rng = np.random.default_rng(0)
    confidence, distance = (torch.from_numpy(rng.random((2, 3, 40))) for _ in range(2))
    distance = distance * (1 - confidence)
    visible = torch.from_numpy(rng.random((2, 3, 40)) < 0.7)
    metric = Calibration(threshold=0.2, num_bins=5)
    metric.update(*(x.flatten(1) for x in (confidence, distance, visible)))
    pearson = np.corrcoef(confidence[visible], distance[visible] < 0.2)[0, 1]
    assert pearson > 0.3
    result = metric.compute()
    assert result["pearson"].item() == pytest.approx(pearson, abs=1e-6)
    assert result["counts"].sum() == visible.sum()
    assert confidence_correlation(confidence[visible], distance[visible] < 0.2).item() == pytest.approx(pearson)


# --- bad input ---------------------------------------------------------------------------------------------

TWO = torch.zeros(1, 2, 2)
THREE = torch.zeros(1, 2, 3)
SEEN = bools("11")
ONE = torch.ones(1)
YES = torch.tensor([True])


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: object_keypoint_similarity(THREE, THREE, SEEN, ONE), r"`predicted` \[1, 2, 3\] must be \[B, K, 2\]"),
        (lambda: object_keypoint_similarity(TWO, TWO, SEEN, ONE), r"`sigmas` .* must be 2 numbers"),
        (lambda: object_keypoint_similarity(TWO, TWO, SEEN, ONE, [1, 0]), r"`sigmas` \(=\[1, 0\]\) must be above 0"),
        (lambda: object_keypoint_similarity(TWO, TWO, SEEN, -ONE, [1, 1]), "`area` must be at least 0 and finite"),
        (lambda: object_keypoint_similarity(TWO, TWO, SEEN, ONE / 0, [1, 1]), "`area` must be at least 0 and finite"),
        (lambda: object_keypoint_similarity(TWO, TWO, SEEN, ONE[0], [1, 1]), r"`area` \[\] must be \[1\]"),
        (lambda: object_keypoint_similarity(TWO, TWO / 0, SEEN, ONE, [1, 1]), "`target` must be finite where"),
        (lambda: object_keypoint_similarity(TWO, TWO, SEEN.long(), ONE, [1, 1]), r"`visible` \(torch.int64 \[1, 2\]\)"),
        (lambda: segment_length(TWO[0], SEEN, (0, 1)), r"`keypoints` \[2, 2\] must be \[B, K, D\]"),
        (lambda: segment_length(TWO, SEEN[:, :1], (0, 1)), r"`visible` \(torch.bool \[1, 1\]\)"),
        (lambda: segment_length(TWO, SEEN, (0, 2)), r"`ends` \(=\(0, 2\)\) must be two different places in 2"),
        (lambda: segment_length(TWO, SEEN, (1, 1)), r"`ends` \(=\(1, 1\)\) must be two different"),
        (lambda: segment_length(TWO, SEEN, (-1, 1)), r"`ends` \(=\(-1, 1\)\) must be two different"),
        (lambda: segment_length(TWO / 0, SEEN, (0, 1)), "`keypoints` must be finite where `visible`"),
        (lambda: normalized_error(TWO, TWO, SEEN, -ONE, YES), "`reference` must be at least 0 and finite"),
        (lambda: normalized_error(TWO, TWO, SEEN, torch.ones(2), YES), r"`reference` \[2\] must be \[1\]"),
        (lambda: normalized_error(TWO, TWO, SEEN, ONE.long(), YES), r"`reference` \(torch.int64\) must be floating"),
        (lambda: normalized_error(TWO, TWO, SEEN, ONE, ONE), r"`known` \(torch.float32 \[1\]\) must be bool \[1\]"),
        (lambda: normalized_error(TWO, THREE, SEEN, ONE, YES), r"`predicted` \[1, 2, 2\] and `target` \[1, 2, 3\]"),
        (lambda: failure_rate(ONE, YES), r"`distance` \[1\] must be \[B, K\]"),
        (lambda: failure_rate(TWO[0], SEEN), r"`counted` \(torch.bool \[1, 2\]\) must be bool \[2, 2\]"),
        (lambda: failure_rate(TWO[0], bools("11", "11"), 0.0), r"`threshold` \(=0.0\) must be above 0"),
        (lambda: failure_rate(TWO[0] - 1, bools("11", "11")), "`distance` must be at least 0"),
        (lambda: failure_rate(TWO[0], bools("00", "00")), "nothing is `counted`"),
        (lambda: mpjpe(THREE, THREE, SEEN, root=2), r"`root` \(=2\) must be a place in 2 joints"),
        (lambda: mpjpe(THREE, THREE, SEEN, root=-1), r"`root` \(=-1\) must be a place in 2 joints"),
        (lambda: mpjpe(THREE[0], THREE[0], SEEN), r"`predicted` \[2, 3\] and `target` \[2, 3\] must both be"),
        (lambda: procrustes_align(THREE / 0, THREE, SEEN), "`predicted` must be finite where `visible`"),
        (lambda: pa_mpjpe(THREE, THREE, SEEN[0]), r"`visible` \(torch.bool \[2\]\) must be bool \[1, 2\]"),
        (lambda: surface_error(TWO, THREE, SEEN), r"`predicted` \[1, 2, 2\] and `target` .* must both be \[B, K, W\]"),
        (lambda: surface_error(TWO, TWO, SEEN), r"`visible` \(torch.bool \[1, 2\]\) must be bool \[1, 2, 2\]"),
        (lambda: surface_error(TWO, TWO, TWO == 0, 0.0), r"`spacing` \(=0.0\) must be a number above 0"),
        (lambda: surface_error(TWO / 0, TWO, TWO == 0), "`predicted` must be finite where `visible`"),
    ],
)
def test_bad_input(call, match):
    with pytest.raises(ValueError, match=match):
        call()


def test_bad_annotations_and_results(tmp_path):
    dataset, (result, *_) = annotated(), as_results(annotated())
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    with pytest.raises(FileNotFoundError, match=r"`annotations` \(='.*none.json'\) must be a file"):
        coco_average_precision(tmp_path / "none.json", [])
    person = {key: value for key, value in dataset["annotations"][0].items() if key != "area"}
    for annotations, results, match in (
        (broken, [], r"`annotations` \(='.*broken.json'\) must be JSON"),
        ({"images": []}, [], "`annotations` must hold 'images', 'annotations' and 'categories'"),
        (dataset | {"annotations": [person]}, [], r"`annotations` lacks \['area'\] for the person at place 0"),
        (dataset, [{"image_id": 1}], r"`results\[0\]` lacks \['category_id', 'keypoints', 'score'\]"),
        (dataset, [result, result | {"image_id": 99}], r"`results\[1\]` has image_id 99, which `annotations` do not"),
        (dataset, [result | {"category_id": 2}], r"`results\[0\]` has category_id 2"),
        (dataset, [result | {"keypoints": [1.0] * 34}], r"`results\[0\]` has 34 numbers as keypoints, must be 3"),
        (dataset, [result | {"keypoints": [NAN] * 51}], r"`results\[0\]` must have finite keypoints and score"),
        (dataset, [result | {"score": math.inf}], r"`results\[0\]` must have finite keypoints and score"),
    ):
        with pytest.raises(ValueError, match=match):
            coco_average_precision(annotations, results)
    with pytest.raises(
        ValueError, match=r"`annotations` has 51 numbers .* 3 for each of 2 joints, as many as `sigmas`"
    ):
        coco_average_precision(dataset, [], sigmas=[0.1, 0.1])
    with pytest.raises(ValueError, match=r"`sigmas` .* must be above 0"):
        coco_average_precision(dataset, [], sigmas=[-0.1] * 17)


def test_examples():
    for module in (pcsa.metrics.poses, pcsa.metrics.keypoint_error):
        done = doctest.testmod(module, extraglobs={"torch": torch})
        assert done.failed == 0
        assert done.attempted
