import math

import pytest
import torch

from pcsa.metrics import keypoint_error, mean_error, normalized_error, pck, segment_length

NAN = math.nan


def test_lengths_and_errors_by_hand(bools):
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


def test_errors_do_not_depend_on_the_size_of_the_image(bools, poses):
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


def test_gradients_pass_unknown_lengths(bools):
    target = torch.tensor([[[0.0, 0.0], [2.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]])
    predicted = (target + torch.tensor([1.0, 0.0])).requires_grad_()
    visible = bools("11", "11")
    error = normalized_error(predicted, target, visible, torch.tensor([2.0, 0.0]), torch.tensor([True, True]))
    error.distance.sum().backward()
    assert predicted.grad.tolist() == [[[0.5, 0], [0.5, 0]], [[0, 0], [0, 0]]]


TWO = torch.zeros(1, 2, 2)
THREE = torch.zeros(1, 2, 3)
SEEN = torch.tensor([[True, True]])
ONE = torch.ones(1)
YES = torch.tensor([True])


D = torch.ones(2, 3)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: segment_length(TWO[0], SEEN, (0, 1)), r"`keypoints` \[2, 2\] must be \[B, K, D\]"),
        (lambda: segment_length(TWO, SEEN[:, :1], (0, 1)), r"`visible` \[1, 1\] \(torch.bool\)"),
        (lambda: segment_length(TWO, SEEN, (0, 2)), r"`ends` \(=\(0, 2\)\) must be two different places in 2"),
        (lambda: segment_length(TWO, SEEN, (1, 1)), r"`ends` \(=\(1, 1\)\) must be two different"),
        (lambda: segment_length(TWO, SEEN, (-1, 1)), r"`ends` \(=\(-1, 1\)\) must be two different"),
        (lambda: segment_length(TWO / 0, SEEN, (0, 1)), "`keypoints` must be finite where `visible`"),
        (lambda: normalized_error(TWO, TWO, SEEN, -ONE, YES), "`reference` must be at least 0 and finite"),
        (lambda: normalized_error(TWO, TWO, SEEN, torch.ones(2), YES), r"`reference` \[2\] must be \[1\]"),
        (lambda: normalized_error(TWO, TWO, SEEN, ONE.long(), YES), r"`reference` \(torch.int64\) must be floating"),
        (lambda: normalized_error(TWO, TWO, SEEN, ONE, ONE), r"`known` \[1\] \(torch.float32\) must be bool \[1\]"),
        (lambda: normalized_error(TWO, THREE, SEEN, ONE, YES), r"`predicted` \[1, 2, 2\] and `target` \[1, 2, 3\]"),
    ],
)
def test_bad_input(call, match):
    with pytest.raises(ValueError, match=match):
        call()
