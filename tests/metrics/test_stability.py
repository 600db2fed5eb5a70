import numpy as np
import pytest

from pcsa.metrics import repeatability


def column(*values: float) -> np.ndarray:
    """Points on a line, [k, 1]."""
    return np.array(values, dtype=float)[:, None]


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


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: repeatability([column(0)], [column(0)], 0), r"`threshold` \(=0\) must be positive"),
        (lambda: repeatability([column(0)], [column(0, 1)], 1), "`second` of shape 0 has 2 keypoints, `first` 1"),
        (lambda: repeatability([column(0)], [column(0)], 1, matching="any"), r"`matching` \(='any'\)"),
    ],
)
def test_bad_input(call, match):
    with pytest.raises(ValueError, match=match):
        call()
