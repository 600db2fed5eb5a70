import pytest
import torch

from pcsa.metrics import confused_keypoints
from pcsa.tasks.common.confusions import confusion_lines, confusion_scores

NAMES = ["left eye", "right eye", "left ear", "right ear", "nose"]
FACE = torch.tensor([[-1.0, 1, 0], [1, 1, 0], [-3, 0, 0], [3, 0, 0], [0, 0, 0]])
PAIRS = torch.tensor([[0, 1], [2, 3]])


def test_a_face_that_is_mirrored_and_one_with_an_eye_on_the_nose():
    whole = FACE[[1, 0, 3, 2, 4]]
    slip = FACE.clone()
    slip[0] = FACE[4]
    target = FACE.expand(3, 5, 3)
    visible = torch.ones(3, 5, dtype=torch.bool)
    visible[2, 3:] = False
    found = confused_keypoints(torch.stack([whole, slip, FACE]), target, visible, PAIRS.expand(3, 2, 2))
    scores = confusion_scores(found, NAMES)
    assert scores["nearer_to_another"] == pytest.approx(5 / 13)
    # The ear without its partner has none; whether the eye on the nose is nearer to the other eye is a tie: it is not.
    assert (scores["num_paired"], scores["exchanged"]) == (10, pytest.approx(0.4))
    assert (scores["num_shapes_paired"], scores["mostly_exchanged"]) == (3, pytest.approx(1 / 3))
    eye, nose = scores["per_keypoint"]["left eye"], scores["per_keypoint"]["nose"]
    assert eye == {
        "nearer_to_another": pytest.approx(2 / 3),
        "most_often": "right eye",
        "exchanged": pytest.approx(1 / 3),
    }
    assert nose == {"nearer_to_another": 0.0, "most_often": None, "exchanged": None}
    assert confusion_lines({"confusion": scores}) == [
        "nearer to another keypoint's place than to their own: 38.5 % of the keypoints; to their mirror partner's: "
        "40.0 % of the 10 that have one, in 33.3 % of 3 shapes most of them"
    ]


def test_without_pairs_the_line_says_nothing_of_them():
    found = confused_keypoints(FACE[None], FACE[None], torch.ones(1, 5, dtype=torch.bool))
    (line,) = confusion_lines({"confusion": confusion_scores(found, NAMES)})
    assert line.endswith("own: 0.0 % of the keypoints")


def test_scores_of_before_have_no_line():
    assert confusion_lines({"overall": {}}) == []
