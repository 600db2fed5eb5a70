import json
import math

import torch

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
