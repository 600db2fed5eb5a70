"""Scores of keypoints found without labels, and the floors that such a score has to beat.

Public in :mod:`pcsa.metrics`. Everything takes lists with one array per shape, NumPy or torch on any device, computes
on the CPU in float64 and is not differentiable.
"""

import math
import warnings
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from pcsa.metrics.geodesic import geodesic_distances

THRESHOLDS: tuple[float, ...] = tuple(i / 100 for i in range(11))
"""Thresholds of KeypointNet's benchmark: 0, 0.01, …, 0.1."""

Array = Tensor | npt.NDArray[Any]


class DualAlignment(NamedTuple):
    """Agreement of keypoints over a category, each 0 to 1, from :func:`dual_alignment`."""

    forward: float
    """Agreement of the semantic ids nearest to each prediction."""
    backward: float
    """Agreement of the predictions nearest to each semantic id."""
    mean: float
    """Mean of both: the dual alignment score."""


class Separation(NamedTuple):
    """Distances between the keypoints of a shape in diagonals of its bounding box, from :func:`separation`."""

    least: float
    """Least distance between two keypoints of a shape, mean over shapes."""
    mean: float
    """Mean distance between two keypoints of a shape, mean over shapes."""
    worst: float
    """Least distance between two keypoints of any shape."""


def dual_alignment(
    predicted: Sequence[Array] | Array,
    annotated: Sequence[Array],
    semantic_ids: Sequence[Array] | Sequence[Sequence[int]],
) -> DualAlignment:
    r"""Dual alignment score (DAS): do ordered keypoints mean the same thing on every shape of a category?

    The protocol of `"Skeleton Merger" <https://arxiv.org/abs/2103.10814>`_, whose figures are over the whole category.

    - Forward: each predicted keypoint takes the semantic id of the annotated keypoint nearest to it. Per keypoint, the
      share of all ordered pairs of shapes (a shape with itself included) on which the ids agree; mean over the K.
    - Backward: each annotated keypoint takes the index of the prediction nearest to it. Per semantic id, the share of
      ordered pairs on which the indices agree, over the shapes that have it; unweighted mean over the ids. An id that
      one shape alone has agrees with itself.

    If a label occurs :math:`n_c` times in n, the share of agreeing pairs is :math:`\sum_c (n_c / n)^2`, so that no pair
    is ever formed. There, clouds are normalized by one scalar minimum and maximum first. That is one scale and one
    shift for all axes of both point sets of a shape, under which what is nearest stays nearest: pass whatever units
    you have, as long as a shape's predictions and annotations share them.

    **The score alone misleads.** Of equally near points the first counts, so keypoints collapsed into one point are
    perfect backward; at one fixed place outside the shapes they can be perfect forward too. Show the same figure
    for :func:`template_keypoints`, :func:`random_keypoints` and :func:`collapsed_keypoints` beside it, and
    :func:`separation`.

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
    sources = _ordered_points("predicted", predicted)
    targets = _points("annotated", annotated, len(sources), sources[0].shape[1])
    if len(semantic_ids) != len(sources):
        raise ValueError(f"`semantic_ids` (for {len(semantic_ids)} shapes) must be for {len(sources)}, as `predicted`")
    forward: list[list[int]] = [[] for _ in sources[0]]
    backward: dict[int, list[int]] = defaultdict(list)
    for i, (source, target, given) in enumerate(zip(sources, targets, semantic_ids, strict=True)):
        ids = _ids(i, given, len(target))
        distance = _squared_distances(source, target)
        # argmin takes the first of equals, which a tree does not promise.
        for labels, nearest in zip(forward, distance.argmin(axis=1), strict=True):
            labels.append(ids[nearest])
        for semantic_id, index in zip(ids, distance.argmin(axis=0).tolist(), strict=True):
            backward[semantic_id].append(index)
    forward_score, backward_score = (
        float(np.mean([_agreement(labels) for labels in side])) for side in (forward, backward.values())
    )
    return DualAlignment(forward_score, backward_score, (forward_score + backward_score) / 2)


def keypoint_distances(
    predicted: Sequence[Array] | Array, annotated: Sequence[Array], clouds: Sequence[Array] | None = None
) -> list[Float[Tensor, "_K _k"]]:
    r"""Euclidean distance of every predicted to every annotated keypoint, for :func:`keypoint_miou`.

    Args:
        predicted: Predicted keypoints of each shape, in the dataset's own units; their number may vary.
        annotated: The keypoints that each shape has, same units.
        clouds: The shapes' points, same units. If given, predictions are first moved to the nearest point, as Skeleton
            Merger's evaluation does; without, they are taken as they are.

    Returns:
        Distances of each shape, float64, in the units of the positions.

    Shapes:
        - **predicted:** n times :math:`(K, D)`
        - **annotated:** n times :math:`(k_i, D)`
        - **clouds:** n times :math:`(N_i, D)`
        - **output:** n times :math:`(K, k_i)`

    Raises:
        ValueError: If there is no shape, the lists or shapes do not fit, or a position is not finite.
    """
    sources = _points("predicted", predicted)
    targets = _points("annotated", annotated, len(sources), sources[0].shape[1])
    if clouds is not None:
        points = _points("clouds", clouds, len(sources), sources[0].shape[1])
        sources = [cloud[_nearest(cloud, source)[1]] for cloud, source in zip(points, sources, strict=True)]
    return [torch.from_numpy(np.sqrt(_squared_distances(a, b))) for a, b in zip(sources, targets, strict=True)]


def geodesic_keypoint_distances(
    predicted: Sequence[Array] | Array,
    clouds: Sequence[Array],
    annotated_index: Sequence[Array] | Sequence[Sequence[int]],
    k_neighbors: int = 20,
    *,
    limit: float = math.inf,
) -> list[Float[Tensor, "_K _k"]]:
    r"""Geodesic distance of every predicted to every annotated keypoint, for :func:`keypoint_miou`.

    A prediction is moved to the nearest point of its cloud, then distances run along the graph of
    :func:`pcsa.metrics.geodesic.geodesic_distances`, that of KeypointNet's benchmark.

    Args:
        predicted: Predicted keypoints of each shape, in the dataset's own units; their number may vary.
        clouds: The shapes' points, same units.
        annotated_index: The annotated keypoints as rows of the cloud.
        k_neighbors: Neighbors per point in the graph.
        limit: Distances above this come out infinite, and sooner; the largest threshold is enough for
            :func:`keypoint_miou`.

    Returns:
        Distances of each shape, float64, in the units of the positions; infinite where no path leads.

    Shapes:
        - **predicted:** n times :math:`(K, D)`
        - **clouds:** n times :math:`(N_i, D)`
        - **annotated_index:** n times :math:`(k_i)`
        - **output:** n times :math:`(K, k_i)`

    Raises:
        ValueError: If there is no shape, the lists or shapes do not fit, a position is not finite, or an index is out
            of range.
    """
    sources = _points("predicted", predicted)
    points = _points("clouds", clouds, len(sources), sources[0].shape[1])
    if len(annotated_index) != len(sources):
        raise ValueError(f"`annotated_index` (for {len(annotated_index)} shapes) must be for {len(sources)}")
    distances = []
    for i, (source, cloud, index) in enumerate(zip(sources, points, annotated_index, strict=True)):
        rows = torch.as_tensor(index).detach().cpu()
        if rows.ndim != 1 or len(rows) == 0:
            raise ValueError(f"`annotated_index` of shape {i} ({list(rows.shape)}) must be a list of at least one row")
        try:
            path = geodesic_distances(torch.from_numpy(cloud), rows, k_neighbors, limit=limit)
        except ValueError as error:
            raise ValueError(f"`annotated_index` or `clouds` of shape {i}: {error}") from None
        distances.append(torch.from_numpy(path.numpy()[:, _nearest(cloud, source)[1]].T))
    return distances


def keypoint_miou(
    distances: Sequence[Float[Tensor, "_K _k"]], thresholds: Sequence[float] = THRESHOLDS
) -> Float[Tensor, " T"]:
    r"""IoU of predicted with annotated keypoints over thresholds, without regard to order or identity.

    The protocol of the saliency benchmark of `"KeypointNet" <https://arxiv.org/abs/2002.12687>`_,
    (npos − fn) / (npos + fp): over all shapes together, npos counts annotated keypoints, fn those with no prediction
    within the threshold, and fp predictions with no annotated keypoint within it. Within includes the threshold itself
    (:func:`pcsa.metrics.pck` excludes it, as does the benchmark that it follows). Nothing is matched one to one: two
    predictions beside one annotation are both right, and one prediction finds every annotation around it. Called mIoU
    for its mean over categories; this is the figure of one.

    The benchmark measures geodesic distances (:func:`geodesic_keypoint_distances`), Skeleton Merger Euclidean ones of
    predictions moved to the cloud (:func:`keypoint_distances` with ``clouds``), both in the dataset's own units.

    Args:
        distances: Distances of each shape; infinity is never within.
        thresholds: Increasing, in the units of the distances.

    Returns:
        IoU per threshold, float64.

    Shapes:
        - **distances:** n times :math:`(K, k_i)`
        - **output:** :math:`(T)`

    Raises:
        ValueError: If there is no shape, distances are no matrix, empty, negative or NaN, or ``thresholds`` is empty,
            negative or not increasing.

    Example:
        >>> keypoint_miou([torch.tensor([[0.0, 0.5], [0.3, 0.3]])], [0.0, 0.3])  # (2 - 1) / (2 + 1), 2 / 2
        tensor([0.3333, 1.0000], dtype=torch.float64)
    """
    check_thresholds(thresholds)
    if len(distances) == 0:
        raise ValueError("`distances` has no shape: there is nothing to compute a score from")
    to_annotated, to_predicted = [], []
    for i, distance in enumerate(distances):
        if distance.ndim != 2 or distance.numel() == 0 or not distance.is_floating_point():
            raise ValueError(
                f"`distances` of shape {i} ({distance.dtype} {list(distance.shape)}) must be [K, k], floating point "
                "and not empty"
            )
        if not (distance >= 0).all():
            raise ValueError(f"`distances` of shape {i} must be at least 0 and not NaN")
        to_annotated.append(distance.detach().cpu().amin(dim=1))
        to_predicted.append(distance.detach().cpu().amin(dim=0))
    of_predicted, of_annotated = torch.cat(to_annotated).sort().values, torch.cat(to_predicted).sort().values
    # In the dtype of the distances: a float32 distance of 0.1 is within 0.1.
    limit = torch.tensor(list(thresholds), dtype=of_predicted.dtype)
    num_right, num_found = (torch.searchsorted(x, limit, right=True) for x in (of_predicted, of_annotated))
    return num_found.double() / (len(of_annotated) + len(of_predicted) - num_right)


def repeatability(
    first: Sequence[Array] | Array,
    second: Sequence[Array] | Array,
    threshold: float,
    *,
    matching: Literal["index", "nearest"] = "index",
) -> float:
    r"""Share of keypoints found again at the same place in another version of the same shape.

    Predict on both versions (say, one turned, or drawn again from the same surface), map the predictions back into one
    frame and units, and pass both.

    The literature's detectors have no order: a keypoint of the first version counts if *any* of the second is nearer
    than the threshold, as in `"USIP" <https://arxiv.org/abs/1904.00229>`_ and `"SNAKE"
    <https://arxiv.org/abs/2206.01724>`_. That is ``matching="nearest"``. Keypoints with an order should keep it, and
    ``"index"`` compares each with its own namesake, which exchanged keypoints fail.

    Args:
        first: Keypoints of each shape.
        second: Keypoints of the other version, in the frame and units of ``first``.
        threshold: Strict limit, in those units.
        matching: See above.

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
    _check_positive("threshold", threshold)
    if matching not in ("index", "nearest"):
        raise ValueError(f"`matching` (={matching!r}) must be 'index' or 'nearest'")
    a = _points("first", first)
    b = _points("second", second, len(a), a[0].shape[1])
    shares = []
    for i, (x, y) in enumerate(zip(a, b, strict=True)):
        if matching == "nearest":
            distance = np.sqrt(_squared_distances(x, y).min(axis=1))
        elif len(x) == len(y):
            distance = np.linalg.norm(x - y, axis=1)
        else:
            raise ValueError(
                f"`second` of shape {i} has {len(y)} keypoints, `first` {len(x)}: they must match by index"
            )
        shares.append(np.mean(distance < threshold))
    return float(np.mean(shares))


def coverage(predicted: Sequence[Array] | Array, clouds: Sequence[Array]) -> float:
    r"""How much of the shape the keypoints span: IoU of their bounding box with that of the cloud.

    Named by `"Unsupervised Learning of Category-Specific Symmetric 3D Keypoints from Point Sets"
    <https://arxiv.org/abs/2003.07619>`_ and by `"SC3K" <https://arxiv.org/abs/2308.05410>`_. The latter's released code
    compares the boxes' diagonals only, 1 − \|d − d'\| / d, wherever the boxes lie: its figures are higher and not
    comparable. Boxes are along the axes, so a figure holds for one orientation of the shapes.

    Args:
        predicted: Keypoints of each shape.
        clouds: The shapes' points, in the same frame and units. An axis along which a cloud is flat is left out.

    Returns:
        Mean over shapes, 0 to 1.

    Shapes:
        - **predicted:** n times :math:`(K, D)`
        - **clouds:** n times :math:`(N_i, D)`

    Raises:
        ValueError: If there is no shape, the lists or shapes do not fit, or a position is not finite.

    Example:
        >>> cloud = np.array([[0.0, 0.0], [2.0, 2.0]])
        >>> coverage([np.array([[0.0, 0.0], [1.0, 2.0]])], [cloud])
        0.5
    """
    sources = _points("predicted", predicted)
    points = _points("clouds", clouds, len(sources), sources[0].shape[1])
    shares = []
    for source, cloud in zip(sources, points, strict=True):
        extent = np.ptp(cloud, axis=0)
        axes = extent > 0
        low = np.maximum(source.min(axis=0), cloud.min(axis=0))
        high = np.minimum(source.max(axis=0), cloud.max(axis=0))
        common = np.prod((high - low).clip(min=0)[axes])
        shares.append(common / (np.prod(np.ptp(source, axis=0)[axes]) + np.prod(extent[axes]) - common))
    return float(np.mean(shares))


def inclusivity(predicted: Sequence[Array] | Array, clouds: Sequence[Array], threshold: float = 0.03) -> float:
    r"""Share of keypoints that lie on the shape: nearer than a threshold to some point of the cloud.

    From `"Unsupervised Learning of Category-Specific Symmetric 3D Keypoints from Point Sets"
    <https://arxiv.org/abs/2003.07619>`_ and `"SC3K" <https://arxiv.org/abs/2308.05410>`_, whose threshold of 0.03 is in
    clouds normalized to the unit sphere about their mean. So the threshold here is a share of the cloud's radius, the
    largest distance of a point from the mean: the figure does not depend on the units. It does on the density of the
    cloud, so compare clouds of as many points.

    Args:
        predicted: Keypoints of each shape.
        clouds: The shapes' points, in the same frame and units.
        threshold: Strict limit, as a share of the cloud's radius.

    Returns:
        Share per shape, then averaged over shapes; 0 to 1.

    Shapes:
        - **predicted:** n times :math:`(K, D)`
        - **clouds:** n times :math:`(N_i, D)`

    Raises:
        ValueError: If there is no shape, the lists or shapes do not fit, a position is not finite, or ``threshold`` is
            not positive.
    """
    _check_positive("threshold", threshold)
    sources = _points("predicted", predicted)
    points = _points("clouds", clouds, len(sources), sources[0].shape[1])
    shares = []
    for source, cloud in zip(sources, points, strict=True):
        radius = np.linalg.norm(cloud - cloud.mean(axis=0), axis=1).max()
        shares.append(np.mean(_nearest(cloud, source)[0] < threshold * radius))
    return float(np.mean(shares))


def separation(predicted: Sequence[Array] | Array, clouds: Sequence[Array]) -> Separation:
    r"""Check for collapse: how far apart the keypoints of a shape are, relative to the shape.

    Args:
        predicted: Keypoints of each shape, at least two.
        clouds: The shapes' points, in the same frame and units.

    Returns:
        :class:`Separation`, in diagonals of the cloud's bounding box.

    Shapes:
        - **predicted:** n times :math:`(K, D)`
        - **clouds:** n times :math:`(N_i, D)`

    Raises:
        ValueError: If there is no shape, the lists or shapes do not fit, a position is not finite, a shape has one
            keypoint only, or all points of a cloud are equal.

    Example:
        >>> cloud = np.array([[0.0, 0.0], [0.0, 4.0]])
        >>> separation([np.array([[0.0, 0.0], [0.0, 1.0], [0.0, 3.0]])], [cloud])  # distances 1, 2, 3 of 4
        Separation(least=0.25, mean=0.5, worst=0.25)
    """
    sources = _points("predicted", predicted)
    points = _points("clouds", clouds, len(sources), sources[0].shape[1])
    least, mean = [], []
    for i, (source, cloud) in enumerate(zip(sources, points, strict=True)):
        diagonal = np.linalg.norm(np.ptp(cloud, axis=0))
        if len(source) < 2:
            raise ValueError(f"`predicted` of shape {i} (={len(source)} keypoints) must have at least two")
        if diagonal == 0:
            raise ValueError(f"`clouds` of shape {i} has no extent: all of its {len(cloud)} points are equal")
        distance = np.sqrt(_squared_distances(source, source)[np.triu_indices(len(source), 1)]) / diagonal
        least.append(distance.min())
        mean.append(distance.mean())
    return Separation(float(np.mean(least)), float(np.mean(mean)), float(np.min(least)))


def template_keypoints(
    annotated: Sequence[Array], num_keypoints: int, *, seed: int = 0, restarts: int = 20
) -> Float[Tensor, "K D"]:
    r"""Floor: one set of keypoints for every shape, the k-means centers of the annotations.

    It never looks at a cloud, so a detector that does should score more. K-means runs from several random starts, and
    the one with the smallest sum of squares counts.

    Args:
        annotated: Annotated keypoints of each shape, in one frame: those of the training shapes where the score is of
            others.
        num_keypoints: Number of keypoints K.
        seed: Seed of the starts.
        restarts: Number of starts.

    Returns:
        Positions, float64, in the frame and units of ``annotated``.

    Shapes:
        - **annotated:** n times :math:`(k_i, D)`
        - **output:** :math:`(K, D)`

    Raises:
        ValueError: If there is no shape, shapes do not fit, a position is not finite, ``num_keypoints`` is below 1 or
            above the number of different annotated positions, or ``restarts`` is below 1.
    """
    from scipy.cluster.vq import kmeans2

    points = np.concatenate(_points("annotated", annotated))
    distinct = np.unique(points, axis=0)
    if not 1 <= num_keypoints <= len(distinct):
        raise ValueError(
            f"`num_keypoints` (={num_keypoints}) must be from 1 to {len(distinct)}, the number of different positions "
            "in `annotated`"
        )
    if restarts < 1:
        raise ValueError(f"`restarts` (={restarts}) must be at least 1")
    generator = np.random.default_rng(seed)
    best, lowest = distinct[:num_keypoints], math.inf
    for _ in range(restarts):
        start = distinct[generator.choice(len(distinct), num_keypoints, replace=False)]
        with warnings.catch_warnings():  # a center that lost its points stays where it is
            warnings.simplefilter("ignore")
            centers, label = kmeans2(points, start, iter=50, minit="matrix")
        error = float(((points - centers[label]) ** 2).sum())
        if error < lowest:
            best, lowest = centers, error
    return torch.from_numpy(best)


def random_keypoints(annotated: Sequence[Array], num_keypoints: int, *, seed: int = 0) -> Float[Tensor, "K D"]:
    r"""Floor: one random set of keypoints for every shape, uniform in the bounding box of all annotations.

    One set's score depends much on the draw (a standard deviation of 4 to 7 points of dual alignment on KeypointNet's
    bathtubs and beds): average over some.

    Args:
        annotated: Annotated keypoints of each shape, in one frame.
        num_keypoints: Number of keypoints K.
        seed: Seed of the draw.

    Returns:
        Positions, float64, in the frame and units of ``annotated``.

    Shapes:
        - **annotated:** n times :math:`(k_i, D)`
        - **output:** :math:`(K, D)`

    Raises:
        ValueError: If there is no shape, shapes do not fit, a position is not finite, or ``num_keypoints`` is below 1.
    """
    points = np.concatenate(_points("annotated", annotated))
    _check_num_keypoints(num_keypoints)
    low, high = points.min(axis=0), points.max(axis=0)
    return torch.from_numpy(np.random.default_rng(seed).uniform(low, high, (num_keypoints, points.shape[1])))


def collapsed_keypoints(
    clouds: Sequence[Array], num_keypoints: int, *, place: Literal["centroid", "corner"] = "centroid"
) -> list[Float[Tensor, "_K _D"]]:
    r"""Floor: all keypoints of a shape in one point.

    Args:
        clouds: The shapes' points, in one frame.
        num_keypoints: Number of keypoints K.
        place: ``"centroid"``, the mean of each cloud's own points, is where a flat probability map puts its
            expectation. ``"corner"`` is one place for all shapes, the lowest corner of the box around all clouds: seen
            from outside, the nearest annotation often is the same on every shape.

    Returns:
        Positions of each shape, float64, in the frame and units of ``clouds``.

    Shapes:
        - **clouds:** n times :math:`(N_i, D)`
        - **output:** n times :math:`(K, D)`

    Raises:
        ValueError: If there is no shape, shapes do not fit, a position is not finite, ``num_keypoints`` is below 1, or
            ``place`` is unknown.
    """
    points = _points("clouds", clouds)
    _check_num_keypoints(num_keypoints)
    if place == "centroid":
        centers = [cloud.mean(axis=0) for cloud in points]
    elif place == "corner":
        centers = [np.min([cloud.min(axis=0) for cloud in points], axis=0)] * len(points)
    else:
        raise ValueError(f"`place` (={place!r}) must be 'centroid' or 'corner'")
    return [torch.from_numpy(np.repeat(center[None], num_keypoints, axis=0)) for center in centers]


def check_thresholds(thresholds: Sequence[float]) -> None:
    """Raise a ValueError unless thresholds are increasing, at least 0, finite and not empty."""
    values = list(thresholds)
    increasing = all(a < b for a, b in pairwise(values))
    if not values or not increasing or not all(math.isfinite(t) and t >= 0 for t in values):
        raise ValueError(f"`thresholds` (={values}) must be increasing, at least 0, finite and not empty")


def _agreement(labels: list[int]) -> float:
    """Share of ordered pairs with equal labels."""
    _, counts = np.unique(labels, return_counts=True)
    return float((counts**2).sum() / counts.sum() ** 2)


def _squared_distances(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return ((a[:, None] - b[None]) ** 2).sum(axis=-1)


def _nearest(
    cloud: npt.NDArray[np.float64], query: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Distance to the nearest point of the cloud and its row."""
    from scipy.spatial import cKDTree

    distance, index = cKDTree(cloud).query(query)
    return np.asarray(distance), np.asarray(index, dtype=np.int64)


def _points(
    name: str, arrays: Sequence[Array] | Array, count: int | None = None, dimensions: int | None = None
) -> list[npt.NDArray[np.float64]]:
    listed = list(arrays)
    if len(listed) == 0:
        raise ValueError(f"`{name}` has no shape: there is nothing to compute a score from")
    if count is not None and len(listed) != count:
        raise ValueError(f"`{name}` (of {len(listed)} shapes) must be of {count}, as the other arguments")
    result = []
    for i, value in enumerate(listed):
        array = np.asarray(value.detach().cpu().double() if isinstance(value, Tensor) else value)
        if array.ndim != 2 or 0 in array.shape or array.dtype.kind not in "fiu":
            raise ValueError(
                f"`{name}` of shape {i} ({array.dtype} {list(array.shape)}) must be numbers [k, D], at least one point"
            )
        dimensions = array.shape[1] if dimensions is None else dimensions
        if array.shape[1] != dimensions:
            raise ValueError(f"`{name}` of shape {i} {list(array.shape)} must have D={dimensions}, as the other arrays")
        if not np.isfinite(array).all():
            raise ValueError(f"`{name}` of shape {i} must be finite")
        result.append(array.astype(np.float64))
    return result


def _ordered_points(name: str, arrays: Sequence[Array] | Array) -> list[npt.NDArray[np.float64]]:
    points = _points(name, arrays)
    for i, value in enumerate(points):
        if len(value) != len(points[0]):
            raise ValueError(
                f"`{name}` of shape {i} (={len(value)} keypoints) must have K={len(points[0])}, as that of shape 0"
            )
    return points


def _ids(i: int, given: Array | Sequence[int], count: int) -> list[int]:
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


def _check_positive(name: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise ValueError(f"`{name}` (={value}) must be above 0 and finite")


def _check_num_keypoints(num_keypoints: int) -> None:
    if num_keypoints < 1:
        raise ValueError(f"`num_keypoints` (={num_keypoints}) must be at least 1")
