"""IoU of predicted with annotated keypoints (mIoU), without regard to their order."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pcsa._core.checks import Numbers, check_thresholds
from pcsa._core.progress import progress
from pcsa.metrics.correct_keypoints import THRESHOLDS
from pcsa.metrics.geodesic import geodesic_distances
from pcsa.metrics.per_shape import PerShape, matched, nearest, squared_distances


def keypoint_distances(
    predicted: PerShape, annotated: PerShape, clouds: PerShape | None = None
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
    if clouds is not None:
        snapped = matched(predicted=predicted, clouds=clouds)
        predicted = [cloud[nearest(cloud, source)[1]] for source, cloud in snapped]
    pairs = matched(predicted=predicted, annotated=annotated)
    return [torch.from_numpy(np.sqrt(squared_distances(a, b))) for a, b in pairs]


def geodesic_keypoint_distances(
    predicted: PerShape,
    clouds: PerShape,
    annotated_index: PerShape | Sequence[Sequence[int]],
    k_neighbors: int = 20,
    *,
    limit: float = math.inf,
) -> list[Float[Tensor, "_K _k"]]:
    r"""Geodesic distance of every predicted to every annotated keypoint, for :func:`keypoint_miou`.

    A prediction is moved to the nearest point of its cloud, then distances run along the graph of
    :func:`pcsa.metrics.geodesic.geodesic_distances`, the graph of KeypointNet's benchmark.

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
    shapes = matched(predicted=predicted, clouds=clouds)
    if len(annotated_index) != len(shapes):
        raise ValueError(f"`annotated_index` (for {len(annotated_index)} shapes) must be for {len(shapes)}")
    distances = []
    shown = progress(zip(shapes, annotated_index, strict=True), "measuring along surfaces", len(shapes))
    for i, ((source, cloud), index) in enumerate(shown):
        rows = torch.as_tensor(index).detach().cpu()
        if rows.ndim != 1 or len(rows) == 0:
            raise ValueError(f"`annotated_index` of shape {i} ({list(rows.shape)}) must be a list of at least one row")
        try:
            path = geodesic_distances(torch.from_numpy(cloud), rows, k_neighbors, limit=limit)
        except ValueError as error:
            raise ValueError(f"`annotated_index` or `clouds` of shape {i}: {error}") from None
        distances.append(torch.from_numpy(path.numpy()[:, nearest(cloud, source)[1]].T))
    return distances


def keypoint_miou(distances: Sequence[Float[Tensor, "_K _k"]], thresholds: Numbers = THRESHOLDS) -> Float[Tensor, " T"]:
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
        distances: Distances of each shape; an infinite distance is never within.
        thresholds: Increasing, in the units of the distances.

    Returns:
        IoU per threshold, float64.

    Shapes:
        - **distances:** n times :math:`(K, k_i)`
        - **output:** :math:`(T)`

    Raises:
        ValueError: If there is no shape, an entry of ``distances`` is not a matrix, empty, negative or NaN, or
            ``thresholds`` is empty, negative or not increasing.

    Example:
        >>> keypoint_miou([torch.tensor([[0.0, 0.5], [0.3, 0.3]])], [0.0, 0.3])  # (2 - 1) / (2 + 1), 2 / 2
        tensor([0.3333, 1.0000], dtype=torch.float64)
    """
    thresholds = check_thresholds("thresholds", thresholds)
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
    limit = torch.tensor(thresholds, dtype=of_predicted.dtype)
    num_right, num_found = (torch.searchsorted(x, limit, right=True) for x in (of_predicted, of_annotated))
    return num_found.double() / (len(of_annotated) + len(of_predicted) - num_right)
