"""Repeatability: whether keypoints are found again on another version of the same shape."""

from typing import Literal

import numpy as np

from pcsa._core.checks import check_one_of, check_positive
from pcsa.metrics.per_shape import PerShape, matched, squared_distances


def repeatability(
    first: PerShape,
    second: PerShape,
    threshold: float,
    *,
    matching: Literal["index", "nearest"] = "index",
) -> float:
    r"""Share of keypoints found again at the same place in another version of the same shape.

    Predict on both versions (say, one turned, or drawn again from the same surface), map the predictions back into one
    frame and units, and pass both.

    The literature's detectors have no order: a keypoint of the first version counts if *any* keypoint of the second is
    nearer than the threshold, as in `"USIP" <https://arxiv.org/abs/1904.00229>`_ and `"SNAKE"
    <https://arxiv.org/abs/2206.01724>`_. That is ``matching="nearest"``. Keypoints with an order should keep it, and
    ``"index"`` compares each with its own namesake, which exchanged keypoints fail.

    Args:
        first: Keypoints of each shape.
        second: Keypoints of the other version, in the frame and units of ``first``.
        threshold: Strict limit, in those units.
        matching: ``"index"`` or ``"nearest"``, as above.

    Returns:
        Share per shape over the keypoints of ``first``, then averaged over shapes; 0 to 1.

    Shapes:
        - **first:** n times :math:`(K, D)`
        - **second:** n times :math:`(K, D)`; with ``"nearest"`` the number of keypoints may differ

    Raises:
        ValueError: If there is no shape, the lists or shapes do not fit, a position is not finite, ``threshold`` is not
            positive, or ``matching`` is unknown.

    Example:
        >>> first = [np.array([[0.0], [1.0]])]
        >>> repeatability(first, [np.array([[0.01], [3.0]])], 0.1)
        0.5
        >>> exchanged = [np.array([[1.0], [0.0]])]
        >>> repeatability(first, exchanged, 0.1), repeatability(first, exchanged, 0.1, matching="nearest")
        (0.0, 1.0)
    """
    check_positive("threshold", threshold)
    check_one_of("matching", matching, ("index", "nearest"))
    shares = []
    for i, (x, y) in enumerate(matched(first=first, second=second)):
        if matching == "nearest":
            distance = np.sqrt(squared_distances(x, y).min(axis=1))
        elif len(x) == len(y):
            distance = np.linalg.norm(x - y, axis=1)
        else:
            raise ValueError(
                f"`second` of shape {i} has {len(y)} keypoints, `first` {len(x)}: they must match by index"
            )
        shares.append(np.mean(distance < threshold))
    return float(np.mean(shares))
