"""Scores and floors of keypoints without labels, on procedural clouds. Detectors here know what a detector may not."""

import json
import math

import numpy as np
import pytest
import torch

from pcsa.datasets.keypointnet import KeypointNet
from pcsa.datasets.procedural import generate
from pcsa.datasets.transforms import Normalize
from pcsa.metrics import dual_alignment, random_keypoints, template_keypoints
from pcsa.metrics.geodesic import geodesic_error
from pcsa.tasks.common.floors import (
    category_details,
    evaluate_category,
    evaluate_keypoints,
    format_category,
    format_keypoints,
)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return generate(tmp_path_factory.mktemp("data"), "chair", 20, num_points=512, seed=1)


@pytest.fixture(scope="module")
def whole(root):
    return KeypointNet(root, "chair", "all")


def on_all(dataset):
    """Columns that every shape has."""
    return torch.cat([data.visible for data in dataset]).all(dim=0).nonzero()[:, 0]


def lists(dataset):
    annotated = [data.keypoints[0][data.visible[0]] for data in dataset]
    return annotated, [torch.tensor(dataset.semantic_ids)[data.visible[0]] for data in dataset]


def test_a_detector_that_finds_the_annotations(root, whole):
    columns = on_all(whole)
    assert len(columns) >= 4
    predicted = [data.keypoints[0][columns] for data in whole]
    train, val = KeypointNet(root, "chair", "train"), KeypointNet(root, "chair", "val")
    result = evaluate_category(predicted, whole, train, val, num_random=2)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    for block, dataset in ((result["category"], whole), (result["held_out"], val)):
        detector = block["rows"]["detector"]
        assert detector["dual_alignment"]["forward"] == 1
        # Every prediction is right, and those annotations are found that all shapes have, at any threshold from 0 on.
        num_annotated = sum(int(data.visible.sum()) for data in dataset)
        found = len(columns) * len(dataset) / num_annotated
        for key in ("miou_euclidean", "miou_euclidean_as_predicted", "miou_geodesic"):
            assert detector[key][0] == pytest.approx(found)
            assert len(detector[key]) == len(block["thresholds"]) == 11
        assert detector["inclusivity"] == 1
        assert detector["separation"]["least"] > 0.05
        assert block["not_above_template"] == block["not_above_template_in_box"] == []
        assert not block["collapsed"]
        assert block["num_clouds"] == len(dataset)
    assert (result["held_out"]["split"], result["held_out"]["template_split"]) == ("val", "train")
    table = format_category(result)
    assert table.count("The detector beats the template in every score.") == 2
    assert table.count("The detector beats the template in each cloud's box in every score.") == 2
    assert "COLLAPSED" not in table
    assert "whole category (the protocol of the literature" in table
    assert "val alone: 2 clouds" in table
    assert f"{100 * result['held_out']['rows']['template']['dual_alignment']['mean']:.1f}" in table


def test_the_template_does_not_beat_itself(root, whole):
    train = KeypointNet(root, "chair", "train")
    template = template_keypoints(lists(train)[0], 6, seed=5)
    result = evaluate_keypoints([template] * len(whole), whole, train, num_random=2, seed=5)
    assert result["rows"]["detector"] == result["rows"]["template"]
    assert result["not_above_template"] == ["dual_alignment", "miou_euclidean", "miou_geodesic"]
    table = format_keypoints(result)
    assert (
        "The detector does NOT beat the template, which never looks at a cloud, in: dual alignment, mIoU (Euclidean), "
        "mIoU (geodesic)." in table
    )
    # Without paths along the surface there is no such column, and nothing is said of it.
    result = evaluate_keypoints([template] * len(whole), whole, train, num_random=2, seed=5, geodesic=False)
    assert result["not_above_template"] == ["dual_alignment", "miou_euclidean"]
    assert "(geodesic)" not in format_keypoints(result)
    assert "miou_geodesic" not in result["rows"]["random"]


def test_the_template_in_the_box_is_fitted_and_put_there(root, whole):
    train, val = KeypointNet(root, "chair", "train"), KeypointNet(root, "chair", "val")

    def box(data):
        low, high = data.pos.double().amin(0), data.pos.double().amax(0)
        return low, high - low

    places = []
    for data in train:
        low, size = box(data)
        places.append((data.keypoints[0][data.visible[0]].double() - low) / size * 2 - 1)
    template = template_keypoints(places, 6, seed=5)
    keypoints = []
    for data in val:
        low, size = box(data)
        keypoints.append(low + (template + 1) / 2 * size)
    result = evaluate_keypoints(keypoints, val, train, num_random=2, seed=5)
    rows = result["rows"]
    for name in ("dual_alignment", "separation"):
        assert rows["template_in_box"][name] == pytest.approx(rows["detector"][name])
    for name in ("miou_euclidean", "miou_geodesic", "coverage", "inclusivity"):
        assert rows["template_in_box"][name] == pytest.approx(rows["detector"][name], abs=1e-6)
    assert rows["template_in_box"] != rows["template"]
    details = category_details({"held_out": result})
    assert list(details.rows) == ["detector"]
    plain, boxed = (details.bounds[name] for name in ("template (k-means)", "template in each cloud's box"))
    assert boxed["DAS"] == 100 * rows["template_in_box"]["dual_alignment"]["mean"]
    assert plain["mIoU@0.1"] == 100 * rows["template"]["miou_euclidean"][-1]
    # A detector that is the template itself is not above it.
    result["not_above_template_in_box"] = ["dual_alignment"]
    said = "does NOT beat the template in each cloud's box, which sees that box alone, in: dual alignment."
    assert said in format_keypoints(result)


def test_two_shapes_have_fewer_places_than_keypoints(root):
    few = KeypointNet(root, "chair", "val")
    assert len(few) == 2
    result = evaluate_keypoints([data.pos[:50] for data in few], few, few, num_random=1)
    for name in ("template", "template_in_box"):
        assert math.isfinite(result["rows"][name]["dual_alignment"]["mean"])
        # Some of the fifty are the same.
        assert result["rows"][name]["separation"]["least"] == 0


def test_collapsed_keypoints_are_called_so(whole):
    corner = torch.stack([data.pos.amin(0) for data in whole]).amin(0)
    result = evaluate_keypoints([corner.expand(5, 3)] * len(whole), whole, whole, num_random=1)
    assert result["collapsed"]
    assert result["rows"]["detector"] == result["rows"]["collapsed_corner"]
    assert result["rows"]["detector"]["dual_alignment"]["backward"] == 1
    table = format_keypoints(result)
    assert "COLLAPSED" in table
    assert "Keypoints all in one place have no lower DAS" in table


def test_rows_against_the_metrics_themselves(whole):
    generator = torch.Generator().manual_seed(0)
    predicted = [data.pos[torch.randint(len(data.pos), (4,), generator=generator)] + 0.03 for data in whole]
    result = evaluate_keypoints(predicted, whole, whole, num_random=3, seed=7)
    annotated, ids = lists(whole)
    n = len(whole)
    detector, random = result["rows"]["detector"], result["rows"]["random"]
    assert tuple(detector["dual_alignment"].values()) == dual_alignment(predicted, annotated, ids)
    sets = [random_keypoints(annotated, 4, seed=7 + i) for i in range(3)]
    scores = [dual_alignment([points] * n, annotated, ids) for points in sets]
    np.testing.assert_allclose(list(random["dual_alignment"].values()), np.mean(scores, axis=0))
    # IoU at 0.1, shape by shape: from each prediction and from each annotation to whatever is nearest.
    wrong, missed = {"euclidean": 0, "geodesic": 0}, {"euclidean": 0, "geodesic": 0}
    for data, points, targets in zip(whole, predicted, annotated, strict=True):
        K, k = len(points), len(targets)
        snapped = data.pos[torch.cdist(points, data.pos).argmin(1)]
        distance = {"euclidean": torch.cdist(snapped, targets)}
        pairs = points.repeat_interleave(k, 0), data.keypoint_index[0][data.visible[0]].repeat(K)
        path = geodesic_error(pairs[0], data.pos, pairs[1], torch.ones(K * k, dtype=torch.bool))
        distance["geodesic"] = path.view(K, k)
        for key, d in distance.items():
            wrong[key] += int((d.amin(1) > 0.1).sum())
            missed[key] += int((d.amin(0) > 0.1).sum())
    total = sum(map(len, annotated))
    for key in wrong:
        assert detector[f"miou_{key}"][-1] == pytest.approx((total - missed[key]) / (total + wrong[key]))
        assert 0 < detector[f"miou_{key}"][-1] < 1


def test_shapes_without_annotation_are_left_out(root, whole):
    seen = torch.cat([data.visible for data in whole])
    counts = seen.sum(0)
    rare = int(torch.where(counts < len(whole), counts, -1).argmax())
    assert 0 < counts[rare] < len(whole)
    dataset = KeypointNet(root, "chair", "all", keypoint_ids=[whole.semantic_ids[rare]])
    # Two different predictions on shapes without the keypoint must not matter.
    nothing = torch.tensor([[9.0, 9, 9], [8, 8, 8]])
    predicted = [
        torch.stack((data.keypoints[0, 0], data.pos[0])) if data.visible[0, 0] else nothing for data in dataset
    ]
    result = evaluate_keypoints(predicted, dataset, dataset, num_random=1)
    assert result["num_clouds"] == counts[rare]
    assert result["num_clouds_without_annotation"] == len(whole) - counts[rare]
    assert result["rows"]["detector"]["dual_alignment"]["mean"] == 1
    assert f"{len(whole) - counts[rare]} without annotation left out" in format_keypoints(result)


def test_what_cannot_be_scored_is_refused(root, whole):
    predicted = [data.pos[:3] for data in whole]
    val = KeypointNet(root, "chair", "val")
    with pytest.raises(ValueError, match=r"`predicted` \(for 19 clouds\) must be for the 20 of KeypointNet\(chair"):
        evaluate_keypoints(predicted[1:], whole, whole)
    for broken in ([*predicted[:-1], whole[0].pos[:2]], [points[0] for points in predicted]):
        with pytest.raises(ValueError, match=r"`predicted` of cloud (19|0) \[.*\] must be \[K, 3\]"):
            evaluate_keypoints(broken, whole, whole)
    with pytest.raises(ValueError, match=r"`predicted` of cloud 0 .*K at least 2"):
        evaluate_keypoints([points[:1] for points in predicted], whole, whole)
    with pytest.raises(ValueError, match="`predicted` of shape 3 must be finite"):
        evaluate_keypoints([points * (math.nan if i == 3 else 1) for i, points in enumerate(predicted)], whole, whole)
    with pytest.raises(ValueError, match=r"`num_random` \(=0\)"):
        evaluate_keypoints(predicted, whole, whole, num_random=0)
    with pytest.raises(ValueError, match="`dataset` must have no transform"):
        evaluate_keypoints(predicted, KeypointNet(root, "chair", "all", transform=Normalize()), whole)
    with pytest.raises(ValueError, match=r"`dataset` \(=list\) must be a KeypointNet: .* no annotations"):
        evaluate_keypoints(predicted, list(whole), whole)
    train = KeypointNet(root, "chair", "train")
    with pytest.raises(ValueError, match="`held_out` has 14 clouds that `category` has not"):
        evaluate_category(predicted[: len(val)], val, train, train)
    bare = KeypointNet(root, "chair", "val")
    bare._index = torch.full_like(bare._index, -1)
    with pytest.raises(ValueError, match="has no annotated keypoint: there is nothing to score against"):
        evaluate_keypoints(predicted[: len(bare)], bare, whole)
