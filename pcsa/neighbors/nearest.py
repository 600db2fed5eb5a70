"""The nearest points of each query: a number of them, or those within a radius."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pcsa._core.checks import check_count, check_positive
from pcsa._core.data import Cloud, unpacked
from pcsa.neighbors.backends.choice import choose
from pcsa.neighbors.backends.contract import Backend
from pcsa.neighbors.ragged import Clouds, Ragged, for_search, read_ragged


class Neighbors(NamedTuple):
    """The neighbors of M queries, nearest first.

    Attributes:
        index: Rows of ``pos``. Slots without a neighbor repeat the nearest one, so gathering by ``index`` is
            always safe and a maximum over the neighbors needs no mask.
        sq_distance: Squared Euclidean distances to the rows in ``index``, in squared units of ``pos``.
        valid: Which slots hold a neighbor.
    """

    index: Int[Tensor, "M k"]  # type: ignore[assignment]  # hides tuple.index, as torch.return_types do
    sq_distance: Float[Tensor, "M k"]
    valid: Bool[Tensor, "M k"]


def knn(
    pos: Float[Tensor, "N D"] | Cloud,
    ptr: Int[Tensor, " B_plus_1"] | None = None,
    k: int | None = None,
    query: Float[Tensor, "M D"] | Cloud | None = None,
    query_ptr: Int[Tensor, " B_plus_1"] | None = None,
    *,
    batch: Int[Tensor, " N"] | None = None,
    query_batch: Int[Tensor, " M"] | None = None,
    exclude_self: bool = False,
    backend: Backend | None = None,
    validate: bool = True,
) -> Neighbors:
    """Find the k nearest points of each query in its own cloud, nearest first.

    Which of several equally distant points are taken, and their order, is left to the backend.

    Differentiable in ``pos`` and ``query`` through ``sq_distance``.

    Args:
        pos: Positions ``[N, D]``, or what has them, see :mod:`pcsa.neighbors`.
        ptr: Where each cloud begins, then N.
        k: Number of neighbors. In a cloud with fewer the rest of the slots are not ``valid``.
        query: Positions ``[M, D]`` to search around; default ``pos`` itself.
        query_ptr: Where each cloud of ``query`` begins, then M.
        batch: Cloud of each point, sorted; instead of ``ptr``.
        query_batch: Cloud of each query, sorted; instead of ``query_ptr``.
        exclude_self: Do not count a point as its own neighbor; its duplicates remain neighbors. Needs
            ``query=None``. Default false.
        backend: See :mod:`pcsa.neighbors`. Default: on a CPU ``"scipy"`` where installed and faster, on CUDA
            ``"triton"`` where installed, else ``"torch"``.
        validate: Check that ``pos`` and ``query`` are finite too; costs one synchronization on an accelerator.

    Returns:
        Three tensors ``[M, k]``; without ``query``, M = N.

    Raises:
        ValueError: Naming the argument, its value and the rule; on queries in an empty cloud too.

    Example:
        >>> pos = torch.tensor([[0.0], [1.0], [3.0]])
        >>> knn(pos, torch.tensor([0, 3]), 2).index
        tensor([[0, 1],
                [1, 0],
                [2, 1]])
    """
    k = known_count("k", k)
    points, queries = read_both(
        Clouds(pos, ptr, batch), Clouds(query, query_ptr, query_batch, "query_"), validate, exclude_self
    )
    return neighbors_of(points, queries, k, exclude_self, None, backend)


def ball_query(
    pos: Float[Tensor, "N D"] | Cloud,
    ptr: Int[Tensor, " B_plus_1"] | None = None,
    radius: float | None = None,
    max_neighbors: int | None = None,
    query: Float[Tensor, "M D"] | Cloud | None = None,
    query_ptr: Int[Tensor, " B_plus_1"] | None = None,
    *,
    batch: Int[Tensor, " N"] | None = None,
    query_batch: Int[Tensor, " M"] | None = None,
    backend: Backend | None = None,
    validate: bool = True,
) -> Neighbors:
    """Find the nearest points of each query within a radius (inclusive), nearest first.

    A query that has no point within the radius has a row of ``valid`` without any ``True``; its ``index`` then
    repeats the nearest point outside.

    The search is that of :func:`knn`, with its ``query``, ``query_ptr``, ``backend``, ``validate``, gradients and
    errors.

    Args:
        pos: Positions ``[N, D]``.
        ptr: Where each cloud begins, then N.
        radius: Radius in the units of ``pos``.
        max_neighbors: Number of slots; if more points are within the radius, the nearest are kept.
        query: See :func:`knn`.
        query_ptr: See :func:`knn`.
        batch: See :func:`knn`.
        query_batch: See :func:`knn`.
        backend: See :func:`knn`.
        validate: See :func:`knn`.

    Returns:
        Three tensors ``[M, max_neighbors]``; without ``query``, M = N.

    Example:
        >>> pos, ptr = torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([0, 3])
        >>> ball_query(pos, ptr, 1.5, 3, torch.tensor([[1.0]]), torch.tensor([0, 1]))[::2]
        (tensor([[1, 0, 1]]), tensor([[ True,  True, False]]))
    """
    max_neighbors = known_count("max_neighbors", max_neighbors)
    if radius is None:
        raise ValueError("`radius` (=None) must be a number")
    check_positive("radius", radius)
    points, queries = read_both(Clouds(pos, ptr, batch), Clouds(query, query_ptr, query_batch, "query_"), validate)
    return neighbors_of(points, queries, max_neighbors, False, float(radius), backend)


def known_count(name: str, value: int | None) -> int:
    """Return a number of neighbors, which has no default; raise unless it is one."""
    if value is None:
        raise ValueError(f"`{name}` (=None) must be a whole number of at least 1")
    check_count(name, value)
    return value


def read_both(
    given: Clouds, given_queries: Clouds, validate: bool, exclude_self: bool = False
) -> tuple[Ragged, Ragged]:
    """Check the points and the queries, which are the points themselves where none are given."""
    if given_queries.pos is None:
        for name, value in (("query_ptr", given_queries.ptr), ("query_batch", given_queries.batch)):
            if value is not None:
                raise ValueError(f"`{name}` must be given with `query`: there is no `query`")
        points = queries = read_ragged(given, validate)
    else:
        if exclude_self:
            raise ValueError("`exclude_self` (=True) must be False with `query`: its rows are no points of `pos`")
        points, queries = (read_ragged(clouds, validate) for clouds in (given, given_queries))
        alone = all(x is None for x in unpacked(given_queries.pos, given_queries.batch, given_queries.ptr)[1:])
        if alone and len(points.sizes) != 1:
            raise ValueError(f"`query_ptr` (=None) must be given with `query` for {len(points.sizes)} clouds")
        pos, query = points.pos, queries.pos
        if query.shape[1] != pos.shape[1] or query.dtype != pos.dtype or query.device != pos.device:
            raise ValueError(
                f"`query` ({query.shape[1]} axes, {query.dtype}, {query.device}) must be like `pos` "
                f"({pos.shape[1]} axes, {pos.dtype}, {pos.device})"
            )
        # With `batch` the last clouds may have no point.
        most = max(len(points.sizes), len(queries.sizes))
        points, queries = (
            ragged._replace(bounds=ragged.bounds + [ragged.bounds[-1]] * (most - len(ragged.sizes)))
            if clouds.batch is not None
            else ragged
            for ragged, clouds in ((points, given), (queries, given_queries))
        )
        if len(queries.sizes) != len(points.sizes):
            raise ValueError(
                f"`query_ptr` ({len(queries.sizes)} clouds) must have as many as `ptr` ({len(points.sizes)})"
            )
    for b, (size, m) in enumerate(zip(points.sizes, queries.sizes, strict=True)):
        if size == 0 and m > 0:
            raise ValueError(f"`ptr` has no points in cloud {b}, which has queries")
    return points, queries


def neighbors_of(
    points: Ragged, queries: Ragged, k: int, exclude_self: bool, radius: float | None, backend: Backend | None
) -> Neighbors:
    """Find neighbors; where no gradient is asked for, all at once if the backend can."""
    found = None if exclude_self else complete(points, queries, k, radius, False, backend)
    if found is not None:
        return Neighbors(*found)
    pos, query = points.pos, queries.pos
    index = search(points, queries, k, exclude_self, radius, backend)
    valid = index >= 0
    nearest = index[:, :1]
    if exclude_self:  # a point that is alone in its cloud has no other neighbor to repeat than itself
        own = torch.arange(len(pos), device=pos.device)[:, None]
        nearest = torch.where(valid[:, :1], nearest, own)
    index = torch.where(valid, index, nearest)
    sq_distance = _sq_distance(pos, query, index)
    if radius is not None:
        # Roots are compared, for sqrt(r · r) is r after rounding too: a lattice neighbor at the radius is in.
        valid = valid & (sq_distance.detach().sqrt() <= radius)
        index = torch.where(valid, index, nearest)
        sq_distance = torch.where(valid, sq_distance, sq_distance[:, :1])
    return Neighbors(index, sq_distance, valid)


def _sq_distance(pos: Tensor, query: Tensor, index: Tensor) -> Tensor:
    """Squared distances from each query to ``pos[index]``, differentiable; at zero the gradient is zero."""
    if pos.dtype not in (torch.float32, torch.float64):
        pos, query = pos.float(), query.float()
    total = torch.zeros(index.shape, dtype=pos.dtype, device=pos.device)
    flat = index.flatten()
    # Axis by axis takes a third of the time of [M, k, D].
    for x, y in zip(pos.unbind(1), query.unbind(1), strict=True):
        difference = x.index_select(0, flat).view(index.shape) - y[:, None]
        total = torch.addcmul(total, difference, difference)
    return total


def complete(
    points: Ragged, queries: Ragged, k: int, radius: float | None, weights: bool, backend: Backend | None
) -> tuple[Tensor, Tensor, Tensor] | None:
    """What :meth:`pcsa.neighbors.backends.contract.Searcher.complete` finds; None where a gradient is asked for."""
    pos, query = points.pos, queries.pos
    if len(query) == 0 or (torch.is_grad_enabled() and (pos.requires_grad or query.requires_grad)):
        return None
    searcher = choose(backend, "nearest", pos, max(points.sizes))
    points, queries = (Ragged(for_search(batch.pos), batch.bounds) for batch in (points, queries))
    return searcher.complete(points, queries, k, radius, weights)


@torch.no_grad()
def search(
    points: Ragged, queries: Ragged, k: int, exclude_self: bool, radius: float | None, backend: Backend | None
) -> Tensor:
    """Rows of the k nearest points ``[M, k]``, nearest first, -1 where there is none.

    With a ``radius`` points beyond it may be missing, but never the nearest.
    """
    device, num_queries = points.pos.device, len(queries.pos)
    searcher = choose(backend, "nearest", points.pos, max(points.sizes, default=0))
    if num_queries == 0:
        return torch.empty(0, k, dtype=torch.long, device=device)
    points, queries = (Ragged(for_search(batch.pos), batch.bounds) for batch in (points, queries))
    wanted = k + exclude_self
    index = searcher.padded_nearest(points, queries, wanted, radius)
    if exclude_self:
        # From its own row on the next slots move up; among more than k duplicates it may be missing.
        own = index[:, :k] == torch.arange(num_queries, device=device)[:, None]
        index = index.gather(1, torch.arange(k, device=device) + own.cumsum(1))
    return index
