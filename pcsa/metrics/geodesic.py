"""Geodesic distances on a point cloud: shortest paths on its nearest-neighbor graph."""

import math

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pcsa._core.checks import check_count, check_finite, check_index, check_mask, check_rows
from pcsa._core.places import first_in_place
from pcsa.metrics.per_shape import nearest


def geodesic_distances(
    pos: Float[Tensor, "N D"],
    source_index: Int[Tensor, " S"],
    k_neighbors: int = 20,
    *,
    limit: float = math.inf,
) -> Float[Tensor, "S N"]:
    r"""Shortest-path distances from some points of a cloud to all of its points.

    The graph has an edge between two points if either is among the other's ``k_neighbors`` nearest (a point is not its
    own neighbor); its length is the Euclidean distance of the two. This is the graph of the benchmark of `"KeypointNet"
    <https://arxiv.org/abs/2002.12687>`_: scikit-learn's ``kneighbors_graph(pos, 20, mode="distance",
    include_self=False)``, read as undirected. Only the rows asked for are computed.

    Points in exactly the same place are one point of the graph, at distance zero of each other: else some copies (the
    padding of a cloud, pixels without depth) would be all the neighbors that each of them has. The benchmark's code
    counts every copy as a neighbor; clouds without copies, as KeypointNet's are, give its distances. A part of the
    cloud that no path reaches is infinitely far; the benchmark's own code, which relies on an old scikit-learn, gives 0
    there and so counts such a prediction as right.

    Args:
        pos: Points, in any unit.
        source_index: Rows of ``pos`` to start from.
        k_neighbors: Neighbors per place; a cloud of fewer places uses those there are.
        limit: Distances above this, in the units of ``pos``, are not searched for and come out infinite. A
            limit at the largest PCK threshold gives the same PCK sooner.

    Returns:
        Distances in the units of ``pos``, with its dtype and on its device; computed on the CPU in float64.
        Not differentiable.

    Shapes:
        - **pos:** :math:`(N, D)`
        - **source_index:** :math:`(S)`
        - **output:** :math:`(S, N)`

    Raises:
        ValueError: If a shape or dtype does not fit, ``pos`` is empty or not finite, an index is out of
            range, ``k_neighbors`` is below 1 or ``limit`` is negative or NaN.

    Example:
        >>> pos = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 0.9], [0.5, 0.9]])
        >>> geodesic_distances(pos, torch.tensor([0]), k_neighbors=1)
        tensor([[0.0000, 1.0000, 1.9000, 2.4000]])
    """
    if pos.ndim != 2 or pos.size(0) == 0 or not pos.is_floating_point():
        raise ValueError(f"`pos` ({pos.dtype} {list(pos.shape)}) must be [N, D], floating point and not empty")
    check_index("source_index", source_index, (source_index.numel(),))
    check_rows("source_index", source_index, pos.size(0), "pos")
    check_count("k_neighbors", k_neighbors)
    check_finite("pos", pos)
    if not limit >= 0:
        raise ValueError(f"`limit` (={limit}) must be at least 0")
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import dijkstra
    from scipy.spatial import cKDTree

    everything = pos.detach().to("cpu", torch.float64)
    first = first_in_place(everything, torch.zeros(len(everything), dtype=torch.long))
    is_first = first == torch.arange(len(first))
    place = (is_first.cumsum(0) - 1)[first]
    points, source = everything[is_first].numpy(), place[source_index.cpu()].numpy()
    N = len(points)
    k = min(k_neighbors, N - 1)
    if k == 0 or len(source) == 0:  # one place, or no question
        return pos.new_zeros(len(source), len(pos))

    distance, neighbor = map(np.asarray, cKDTree(points).query(points, k=k + 1))
    other = neighbor != np.arange(N)[:, None]
    # Among more than k places whose distances are 0 after rounding a point may miss itself: drop any one.
    other[other.all(axis=1), -1] = False
    # Built from its three arrays the matrix keeps edges of length zero; `maximum(graph, graph.T)` would drop them.
    graph = csr_matrix((distance[other], neighbor[other], np.arange(N + 1) * k), shape=(N, N))
    path = torch.from_numpy(dijkstra(graph, directed=False, indices=source, limit=limit))
    return path.index_select(1, place).to(pos)


def geodesic_error(
    predicted: Float[Tensor, "K D"],
    pos: Float[Tensor, "N D"],
    target_index: Int[Tensor, " K"],
    visible: Bool[Tensor, " K"],
    *,
    predicted_index: Int[Tensor, " K"] | None = None,
    k_neighbors: int = 20,
    limit: float = math.inf,
) -> Float[Tensor, " K"]:
    r"""Geodesic distance between the predicted and the annotated keypoints of one cloud.

    A predicted position is first moved to the nearest point of the cloud. KeypointNet's benchmark evaluates the index
    of the network's most probable point instead: pass that as ``predicted_index`` to compute its figure.

    Args:
        predicted: Predicted positions, in the units of ``pos``.
        pos: Points of the cloud, in the dataset's own units.
        target_index: Annotated points, as rows of ``pos``; ignored where not visible.
        visible: Which keypoints this cloud has.
        predicted_index: Predicted points, as rows of ``pos``; ``predicted`` is then not looked at.
        k_neighbors: As in :func:`geodesic_distances`.
        limit: As in :func:`geodesic_distances`.

    Returns:
        Distances in the units of ``pos``; 0 where not visible, infinite where no path leads from one to the
        other. Not differentiable.

    Shapes:
        - **predicted:** :math:`(K, D)`
        - **pos:** :math:`(N, D)`
        - **target_index**, **visible**, **predicted_index:** :math:`(K)`
        - **output:** :math:`(K)`

    Raises:
        ValueError: As :func:`geodesic_distances`; also if the shapes do not match or a prediction is not
            finite where it is visible.
    """
    if predicted.ndim != 2 or pos.ndim != 2 or predicted.size(1) != pos.size(1):
        raise ValueError(f"`predicted` {list(predicted.shape)} and `pos` {list(pos.shape)} must be [K, D] and [N, D]")
    K = predicted.size(0)
    check_mask("visible", visible, (K,))
    check_index("target_index", target_index, (K,))
    if predicted_index is None:
        position, cloud = (x.detach().to("cpu", torch.float64) for x in (predicted[visible], pos))
        if not bool(position.isfinite().all()):
            raise ValueError("`predicted` must be finite where `visible`")
        end = torch.from_numpy(nearest(cloud.numpy(), position.numpy())[1]).to(pos.device)
    else:
        check_index("predicted_index", predicted_index, (K,))
        end = predicted_index[visible]
        check_rows("predicted_index", end, pos.size(0), "pos")
    rows = geodesic_distances(pos, target_index[visible], k_neighbors, limit=limit)
    error = pos.new_zeros(K)
    error[visible] = rows.gather(1, end[:, None].long())[:, 0]
    return error
