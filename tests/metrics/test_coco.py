import copy
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from pcsa.metrics import COCO_SIGMAS, coco_average_precision, object_keypoint_similarity

NAN = math.nan


def test_similarity_by_hand(bools):
    # (2 * 0.25)^2 = 1/4, twice the area is 200: exp(-25 / (1/4 * 200)) = exp(-1/2) at distance 5.
    predicted = torch.tensor([[[3.0, 4.0], [1.0, 1.0], [99.0, 99.0]]])
    target = torch.tensor([[[0.0, 0.0], [1.0, 1.0], [0.0, 0.0]]])
    area, sigmas = torch.tensor([100.0]), [0.25, 0.1, 0.1]
    similarity = object_keypoint_similarity(predicted, target, bools("110"), area, sigmas)
    assert similarity.item() == pytest.approx((math.exp(-0.5) + 1) / 2, rel=1e-12)
    # The third is 99 sqrt(2) away: exp(-99^2 * 2 / (0.04 * 200)), as good as 0.
    similarity = object_keypoint_similarity(predicted, target, bools("111"), area, sigmas)
    assert similarity.item() == pytest.approx((math.exp(-0.5) + 1) / 3, rel=1e-12)


def test_four_of_five_joints_at_their_places_give_0_8(bools, poses):
    target = poses((1, 5, 2))
    predicted = target.clone()
    predicted[0, 3] += 1e6
    assert object_keypoint_similarity(predicted, target, bools("11111"), target.new_ones(1), [0.1] * 5).item() == 0.8


def test_nobody_to_be_seen_has_no_similarity(bools):
    similarity = object_keypoint_similarity(
        torch.zeros(2, 1, 2),
        torch.tensor([[[0.0, 0.0]], [[NAN, NAN]]]),
        bools("1", "0"),
        torch.tensor([1.0, NAN]),
        [1.0],
    )
    assert similarity[0] == 1
    assert similarity[1].isnan()


def test_similarity_is_differentiable_and_not_disturbed_by_what_is_missing(bools):
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


TWO = torch.zeros(1, 2, 2)
THREE = torch.zeros(1, 2, 3)
SEEN = torch.tensor([[True, True]])
ONE = torch.ones(1)


def test_bad_annotations_and_results(tmp_path):
    dataset, (result, *_) = annotated(), as_results(annotated())
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    with pytest.raises(FileNotFoundError, match=r"`.*none.json` is missing"):
        coco_average_precision(tmp_path / "none.json", [])
    person = {key: value for key, value in dataset["annotations"][0].items() if key != "area"}
    for annotations, results, match in (
        (broken, [], r"`.*broken.json`: must be JSON"),
        ({"images": []}, [], "`annotations`: must hold lists 'images', 'annotations' and 'categories'"),
        (dataset | {"annotations": [person]}, [], r"`annotations`: annotations\[0\] \(id 1\): `area` \(missing\) must"),
        (dataset, [{"image_id": 1}], r"`results`: results\[0\]: `category_id` \(missing\) .* \(and 2 more faults\)"),
        (dataset, [result, result | {"image_id": 99}], r"results\[1\]: `image_id` \(=99\) must be an id that"),
        (dataset, [result | {"category_id": 2}], r"results\[0\]: `category_id` \(=2\) must be an id that"),
        (dataset, [result | {"keypoints": [1.0] * 34}], r"results\[0\]: `keypoints` \(34 numbers\) must be 51"),
        (dataset, [result | {"keypoints": [NAN] * 51}], r"results\[0\]: `keypoints\[0\]` \(=nan\) must be 51 finite"),
        (dataset, [result | {"score": math.inf}], r"results\[0\]: `score` \(=inf\) must be a finite number"),
    ):
        with pytest.raises(ValueError, match=match):
            coco_average_precision(annotations, results)
    with pytest.raises(ValueError, match=r"annotations\[0\] .*`keypoints` \(51 numbers\) must be 6 .* of 2 joints"):
        coco_average_precision(dataset, [], sigmas=[0.1, 0.1])
    with pytest.raises(ValueError, match=r"`sigmas` \(=-0.1\) must be positive"):
        coco_average_precision(dataset, [], sigmas=[-0.1] * 17)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: object_keypoint_similarity(THREE, THREE, SEEN, ONE), r"`predicted` \[1, 2, 3\] must be \[B, K, 2\]"),
        (lambda: object_keypoint_similarity(TWO, TWO, SEEN, ONE), r"`sigmas` .* must be 2 numbers"),
        (lambda: object_keypoint_similarity(TWO, TWO, SEEN, ONE, [1, 0]), r"`sigmas` \(=0\) must be positive"),
        (lambda: object_keypoint_similarity(TWO, TWO, SEEN, -ONE, [1, 1]), "`area` must be at least 0 and finite"),
        (lambda: object_keypoint_similarity(TWO, TWO, SEEN, ONE / 0, [1, 1]), "`area` must be at least 0 and finite"),
        (lambda: object_keypoint_similarity(TWO, TWO, SEEN, ONE[0], [1, 1]), r"`area` \[\] must be \[1\]"),
        (lambda: object_keypoint_similarity(TWO, TWO / 0, SEEN, ONE, [1, 1]), "`target` must be finite where"),
        (lambda: object_keypoint_similarity(TWO, TWO, SEEN.long(), ONE, [1, 1]), r"`visible` \[1, 2\] \(torch.int64\)"),
    ],
)
def test_bad_input(call, match):
    with pytest.raises(ValueError, match=match):
        call()
