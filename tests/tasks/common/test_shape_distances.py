import json
import math

import torch

from pcsa.metrics import KeypointMetrics
from pcsa.tasks.common.shape_distances import shape_distances

VISIBLE = torch.tensor([[True, False], [True, True]])
DISTANCE = torch.tensor([[0.25, 7.0], [math.inf, 0.123456789]])


def test_distances_of_each_shape():
    found = shape_distances(["a", "b"], VISIBLE, {"peak": {"euclidean": DISTANCE}})
    assert found == {
        "a": {"num_keypoints": 1, "read_outs": {"peak": {"euclidean": [0.25, None]}}},
        "b": {"num_keypoints": 2, "read_outs": {"peak": {"euclidean": [None, 0.123457]}}},
    }
    json.dumps(found, allow_nan=False)


def test_shapes_without_their_names_are_left_out():
    assert shape_distances(["a", "b", "c"], VISIBLE, {"peak": {"euclidean": DISTANCE}}) == {}


def test_metrics_keep_the_distances_of_all_updates():
    metrics = KeypointMetrics()
    predicted = torch.rand(3, 2, 3)
    target = predicted + torch.tensor([0.5, 0.0, 0.0])
    visible = torch.tensor([[True, True], [False, True], [True, False]])
    metrics.update(predicted[:2], target[:2], visible[:2])
    metrics.update(predicted[2:], target[2:], visible[2:])
    found, distances = metrics.per_shape()
    assert found.equal(visible)
    assert list(distances) == ["euclidean"]
    torch.testing.assert_close(distances["euclidean"][visible], torch.full([4], 0.5))
