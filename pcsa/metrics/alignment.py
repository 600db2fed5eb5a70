"""Dual alignment score (DAS) of keypoints that were found without labels."""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor

from pcsa.metrics.per_shape import PerShape, TensorOrArray, matched, squared_distances


class DualAlignment(NamedTuple):
    """Agreement of keypoints over a category, each 0 to 1, from :func:`dual_alignment`.

    Attributes:
        forward: Agreement of the semantic ids nearest to each prediction.
        backward: Agreement of the predictions nearest to each semantic id.
        mean: Mean of both: the dual alignment score.
    """

    forward: float
    backward: float
    mean: float


def dual_alignment(
    predicted: PerShape,
    annotated: PerShape,
    semantic_ids: PerShape | Sequence[Sequence[int]],
) -> DualAlignment:
    r"""Dual alignment score (DAS): do ordered keypoints mean the same thing on every shape of a category?

    The protocol of `"Skeleton Merger" <https://arxiv.org/abs/2103.10814>`_, whose figures are over the whole category.

    - Forward: each predicted keypoint takes the semantic id of the annotated keypoint nearest to it. Per keypoint, the
      share of all ordered pairs of shapes (a shape with itself included) on which the ids agree; mean over the K.
    - Backward: each annotated keypoint takes the index of the prediction nearest to it. Per semantic id, the share of
      ordered pairs on which the indices agree, over the shapes that have it; unweighted mean over the ids. An id that
      one shape alone has agrees with itself.

    If a label occurs :math:`n_c` times in n, the share of agreeing pairs is :math:`\sum_c (n_c / n)^2`, so that no pair
    is ever formed. The protocol first normalizes clouds by one scalar minimum and maximum. That is one scale and one
    shift for all axes of both point sets of a shape, under which what is nearest stays nearest: pass whatever units
    you have, as long as a shape's predictions and annotations share them.

    **The score alone misleads.** Of equally near points the first counts, so keypoints collapsed into one point are
    perfect backward; at one fixed place outside the shapes they can be perfect forward too. Show the same figure for
    :func:`pcsa.metrics.template_keypoints`, :func:`pcsa.metrics.random_keypoints` and
    :func:`pcsa.metrics.collapsed_keypoints` beside it, and :func:`pcsa.metrics.separation`.

    Args:
        predicted: Predicted keypoints of each shape, the same number and order in all.
        annotated: The keypoints that each shape has. Leave out shapes without any.
        semantic_ids: Their semantic ids, each once per shape.

    Returns:
        :class:`DualAlignment`.

    Shapes:
        - **predicted:** n times :math:`(K, D)`
        - **annotated:** n times :math:`(k_i, D)`
        - **semantic_ids:** n times :math:`(k_i)`

    Raises:
        ValueError: If there is no shape, the lists or shapes do not fit, the number of predictions varies, a
            position is not finite, or a semantic id is no integer or twice in a shape.

    Example:
        >>> ids = [[7, 9], [7, 9]]
        >>> annotated = [np.array([[0.0], [1.0]])] * 2
        >>> dual_alignment([np.array([[0.1], [0.8]]), np.array([[0.2], [0.7]])], annotated, ids)
        DualAlignment(forward=1.0, backward=1.0, mean=1.0)
        >>> dual_alignment([np.array([[0.1], [0.8]]), np.array([[0.7], [0.2]])], annotated, ids)  # order exchanged
        DualAlignment(forward=0.5, backward=0.5, mean=0.5)
    """
    forward, backward = _labels(predicted, annotated, semantic_ids)
    forward_score = float(np.mean([_agreement(labels) for labels in forward]))
    backward_score = float(np.mean([_agreement(list(labels.values())) for labels in backward.values()]))
    return DualAlignment(forward_score, backward_score, (forward_score + backward_score) / 2)


def alignment_per_shape(
    predicted: PerShape, annotated: PerShape, semantic_ids: PerShape | Sequence[Sequence[int]]
) -> npt.NDArray[np.float64]:
    r"""What each shape adds to the dual alignment score: the values of which it is the mean.

    The score is over pairs of shapes, so the values are its linear part (the score plus its influence function): a
    shape whose labels occur :math:`n_c` times in n has :math:`2 n_c / n - \sum_c (n_c / n)^2`. Resampling them, as
    :func:`pcsa.metrics.paired_bootstrap` does, gives the intervals that computing the score anew for every resample
    gives, up to terms of order 1/n. A single value says little: it may lie outside of 0 to 1.

    Args:
        predicted: As for :func:`dual_alignment`.
        annotated: As for :func:`dual_alignment`.
        semantic_ids: As for :func:`dual_alignment`.

    Returns:
        A value for each shape; their mean is that of :func:`dual_alignment`.

    Shapes:
        - **predicted:** n times :math:`(K, D)`
        - **annotated:** n times :math:`(k_i, D)`
        - **semantic_ids:** n times :math:`(k_i)`
        - **output:** :math:`(n)`

    Raises:
        ValueError: As :func:`dual_alignment`.

    Example:
        >>> annotated, ids = [np.array([[0.0], [1.0]])] * 3, [[7, 9]] * 3
        >>> same, exchanged = np.array([[0.1], [0.8]]), np.array([[0.8], [0.1]])
        >>> alignment_per_shape([same, same, exchanged], annotated, ids).round(2)
        array([0.78, 0.78, 0.11])
    """
    forward, backward = _labels(predicted, annotated, semantic_ids)
    n = len(forward[0])
    values = np.zeros(n)
    for labels in forward:
        values += _linear(labels) / len(forward)
    for by_shape in backward.values():
        score, shapes = _agreement(list(by_shape.values())), list(by_shape)
        part = np.full(n, score)
        # A shape without the id leaves its score as it is.
        part[shapes] += (_linear(list(by_shape.values())) - score) * n / len(shapes)
        values += part / len(backward)
    return values / 2


def _labels(
    predicted: PerShape, annotated: PerShape, semantic_ids: PerShape | Sequence[Sequence[int]]
) -> tuple[list[list[int]], dict[int, dict[int, int]]]:
    """For each prediction the nearest semantic id on every shape; for each id the nearest prediction, by shape."""
    shapes = matched(predicted=predicted, annotated=annotated)
    if len(semantic_ids) != len(shapes):
        raise ValueError(f"`semantic_ids` (for {len(semantic_ids)} shapes) must be for {len(shapes)}, as `predicted`")
    forward: list[list[int]] = [[] for _ in shapes[0][0]]
    backward: dict[int, dict[int, int]] = defaultdict(dict)
    for i, ((source, target), given) in enumerate(zip(shapes, semantic_ids, strict=True)):
        if len(source) != len(forward):
            raise ValueError(
                f"`predicted` of shape {i} (={len(source)} keypoints) must have K={len(forward)}, as that of shape 0"
            )
        ids = _ids(i, given, len(target))
        distance = squared_distances(source, target)
        # argmin takes the first of equals, which a tree does not promise.
        for labels, nearest in zip(forward, distance.argmin(axis=1), strict=True):
            labels.append(ids[nearest])
        for semantic_id, index in zip(ids, distance.argmin(axis=0).tolist(), strict=True):
            backward[semantic_id][i] = index
    return forward, backward


def _agreement(labels: list[int]) -> float:
    """Share of ordered pairs with equal labels."""
    _, counts = np.unique(labels, return_counts=True)
    return float((counts**2).sum() / counts.sum() ** 2)


def _linear(labels: list[int]) -> npt.NDArray[np.float64]:
    """The values of which :func:`_agreement` is the mean."""
    _, place, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return np.asarray(2 * counts[place] / len(labels) - _agreement(labels))


def _ids(i: int, given: TensorOrArray | Sequence[int], count: int) -> list[int]:
    array = np.asarray(given.detach().cpu() if isinstance(given, Tensor) else given)
    if array.shape != (count,) or array.dtype.kind not in "iu":
        raise ValueError(
            f"`semantic_ids` of shape {i} ({array.dtype} {list(array.shape)}) must be integer [{count}], one for each "
            "row of `annotated`"
        )
    ids: list[int] = array.tolist()
    if len(set(ids)) < len(ids):
        raise ValueError(f"`semantic_ids` of shape {i} (={ids}) must be different")
    return ids
