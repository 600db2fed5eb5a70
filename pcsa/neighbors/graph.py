"""Graphs of nearest neighbors."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pcsa._core.data import Cloud
from pcsa.neighbors.backends.contract import Backend
from pcsa.neighbors.nearest import known_count, search
from pcsa.neighbors.ragged import Clouds, read_ragged


def knn_graph(
    pos: Float[Tensor, "N D"] | Cloud,
    ptr: Int[Tensor, " B_plus_1"] | None = None,
    k: int | None = None,
    *,
    batch: Int[Tensor, " N"] | None = None,
    loop: bool = False,
    backend: Backend | None = None,
    validate: bool = True,
) -> Int[Tensor, "2 E"]:
    """Connect each point with its k nearest neighbors, for message passing in PyTorch Geometric.

    Args:
        pos: Positions or features ``[N, D]``, or what has positions, see :mod:`pcsa.neighbors`.
        ptr: Where each cloud begins, then N.
        k: Edges that arrive at each point; all the others of its cloud where there are fewer.
        batch: Cloud of each point, sorted; instead of ``ptr``.
        loop: Count a point as its own neighbor. Default false.
        backend: See :func:`pcsa.neighbors.knn`.
        validate: Check that ``pos`` is finite too; costs one synchronization on an accelerator.

    Returns:
        ``edge_index [2, E]``: the neighbor in row 0, the point itself in row 1 (flow ``"source_to_target"``), sorted
        by row 1.

    Example:
        >>> knn_graph(torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([0, 3]), 1)
        tensor([[1, 0, 1],
                [0, 1, 2]])
    """
    k = known_count("k", k)
    points = read_ragged(Clouds(pos, ptr, batch), validate)
    index = search(points, points, k, not loop, None, backend)
    target = torch.arange(len(points.pos), device=points.pos.device).repeat_interleave(k)
    edges = torch.stack([index.flatten(), target])
    smallest = min((size for size in points.sizes if size), default=0)
    return edges if smallest - (not loop) >= k else edges[:, edges[0] >= 0]
