"""Farthest points, nearest neighbors and interpolation for ragged batches of point clouds.

A batch is `pos [N, D]` with `ptr [B + 1]`: cloud b is the rows `ptr[b]` to `ptr[b + 1] - 1`. The sizes of the
clouds are needed on the host. Where `pos` is on a GPU, `ptr` may stay on the CPU: then nothing here waits for
the GPU when `validate=False`. All searches run without gradient and in float32 or float64; distances and
weights are then computed anew from the points found, so they are differentiable with respect to the
positions.

Backends (`backend=None` chooses; every one gives the same answer wherever the definition is unique):

- `"torch"`: any device, needs nothing else. Distances are computed in tiles, never as one N × M matrix.
- `"scipy"`: a k-d tree on the CPU; farthest points as `"torch"`.
- `"torch_cluster"`, `"pyg_lib"`: compiled, where installed. On CUDA they take at most 100 neighbors.
"""

import importlib
import itertools
import math
from functools import lru_cache
from typing import Literal, NamedTuple, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

Backend = Literal["torch", "scipy", "torch_cluster", "pyg_lib"]

_INSTALL = {
    "torch": "",
    "scipy": "`pip install scipy`",
    "torch_cluster": "`pip install pcsa[cluster]`",
    "pyg_lib": "pyg-lib >= 0.6, see https://github.com/pyg-team/pyg-lib",
}

# Floats in one tile of distances: on a CPU it stays in the cache (three times as fast as 2^24), on a GPU few
# launches matter.
_TILE_CPU, _TILE_GPU = 1 << 18, 1 << 24

# The k-d tree wins from about this many points on, and loses to brute force where there are more axes
# (measured on one thread).
_TREE_MIN_POINTS, _TREE_MAX_DIM = 128, 8


class Neighbors(NamedTuple):
    """The neighbors of M queries, nearest first.

    Attributes:
        index: rows of `pos`. Slots without a neighbor repeat the nearest one, so gathering by `index` is
            always safe and a maximum over the neighbors needs no mask.
        sq_distance: squared Euclidean distances to the rows in `index`, in squared units of `pos`.
        valid: which slots hold a neighbor.
    """

    index: Int[Tensor, "M k"]  # type: ignore[assignment]  # hides tuple.index, as torch.return_types do
    sq_distance: Float[Tensor, "M k"]
    valid: Bool[Tensor, "M k"]


def farthest_points(
    pos: Float[Tensor, "N D"],
    ptr: Int[Tensor, " B_plus_1"],
    num_samples: int | float | Int[Tensor, " B"],
    *,
    random_start: bool = False,
    generator: Generator | None = None,
    backend: Backend | None = None,
    validate: bool = True,
) -> tuple[Int[Tensor, " M"], Int[Tensor, " B_plus_1"]]:
    """Choose points that are far from each other, by farthest point sampling in each cloud.

    Each next point is the one farthest from those chosen before it, as in `PointNet++
    <https://arxiv.org/abs/1706.02413>`_. A point is chosen at most once: where only duplicates of chosen
    points are left, they follow in the order of their rows. Ties go to the lowest row.

    Args:
        pos: positions, float.
        ptr: boundaries of the clouds; an empty cloud gives no points.
        num_samples: an int is that many points of each cloud, or all of a cloud that has fewer. A float in
            (0, 1] is the share of each cloud, rounded up. An int tensor `[B]` is a number for each cloud (on
            the CPU, to avoid a sync).
        random_start: start at a random point of each cloud instead of its first. (default: `False`)
        generator: source of the random start. (default: PyTorch's own)
        backend: see the module. (default: on CUDA a compiled one where installed, else `"torch"`)
        validate: check that `pos` is finite (waits for the GPU). (default: `True`)

    Returns:
        Rows of `pos` in the order of their choice, cloud by cloud, and their `ptr` (on the device of the
        given one).

    Shapes:
        `pos [N, D]`, `ptr [B + 1]` → `[M]`, `[B + 1]`.

    Raises:
        ValueError: on any argument that breaks these rules.

    Example:
        >>> pos = torch.tensor([[0.0], [1.0], [2.0], [9.0]])
        >>> farthest_points(pos, torch.tensor([0, 4]), 3)
        (tensor([0, 3, 2]), tensor([0, 3]))
    """
    bounds = _check(pos, ptr, "pos", "ptr", validate)
    sizes = _sizes(bounds)
    counts = _counts(num_samples, sizes)
    out_bounds = [0]
    for count in counts:
        out_bounds.append(out_bounds[-1] + count)
    ptr_out = _tensor(out_bounds, ptr.device).to(ptr.dtype)
    if out_bounds[-1] == 0:
        return torch.empty(0, dtype=torch.long, device=pos.device), ptr_out

    starts = [0] * len(sizes)
    if random_start:
        device = generator.device if generator is not None else "cpu"
        draws = torch.rand(len(sizes), generator=generator, device=device, dtype=torch.float64)
        starts = [int(u * size) for u, size in zip(draws.tolist(), sizes, strict=True)]

    clouds = [cloud for cloud in zip(bounds, sizes, counts, starts, strict=False) if cloud[2] > 0]
    search = _for_search(pos)
    name = _choose(backend, pos, "farthest")
    if name in ("torch_cluster", "pyg_lib"):
        index = _farthest_compiled(search, clouds, name)
    else:
        index = _farthest_torch(search, clouds)
    return _each_once(index, len(pos), clouds), ptr_out


def knn(
    pos: Float[Tensor, "N D"],
    ptr: Int[Tensor, " B_plus_1"],
    k: int,
    query: Float[Tensor, "M D"] | None = None,
    query_ptr: Int[Tensor, " B_plus_1"] | None = None,
    *,
    exclude_self: bool = False,
    backend: Backend | None = None,
    validate: bool = True,
) -> Neighbors:
    """Find the k nearest points of each query in its own cloud, nearest first.

    Which of several equally distant points are taken, and their order, is left to the backend.

    Args:
        pos: positions, float.
        ptr: boundaries of the clouds.
        k: number of neighbors. In a cloud with fewer the rest of the slots are not `valid`.
        query: where to search around. (default: `pos` itself)
        query_ptr: boundaries of the clouds in `query`, given with it.
        exclude_self: do not count a point as its own neighbor; its duplicates remain neighbors. Needs
            `query=None`. (default: `False`)
        backend: see the module. (default: on a CPU `"scipy"` where installed and faster, else `"torch"`)
        validate: check that `pos` and `query` are finite (waits for the GPU). (default: `True`)

    Shapes:
        `pos [N, D]`, `query [M, D]` → three tensors `[M, k]`. Without `query`, M = N.

    Gradients reach `pos` and `query` through `sq_distance`.

    Raises:
        ValueError: on any argument that breaks these rules; on queries in an empty cloud.

    Example:
        >>> pos = torch.tensor([[0.0], [1.0], [3.0]])
        >>> knn(pos, torch.tensor([0, 3]), 2).index
        tensor([[0, 1],
                [1, 0],
                [2, 1]])
    """
    _check_count(k, "k")
    return _neighbors(pos, ptr, query, query_ptr, k, exclude_self, None, backend, validate)


def ball_query(
    pos: Float[Tensor, "N D"],
    ptr: Int[Tensor, " B_plus_1"],
    radius: float,
    max_neighbors: int,
    query: Float[Tensor, "M D"] | None = None,
    query_ptr: Int[Tensor, " B_plus_1"] | None = None,
    *,
    backend: Backend | None = None,
    validate: bool = True,
) -> Neighbors:
    """Find the nearest points of each query within a radius (inclusive), nearest first.

    A query that has no point within the radius gets a row of `valid` without any `True`; its `index` then
    repeats the nearest point outside.

    Args:
        pos: positions, float.
        ptr: boundaries of the clouds.
        radius: in the units of `pos`.
        max_neighbors: number of slots; if more points are within the radius, the nearest are kept.
        query: where to search around. (default: `pos` itself)
        query_ptr: boundaries of the clouds in `query`, given with it.
        backend: see the module. (default: as in :func:`knn`)
        validate: check that `pos` and `query` are finite (waits for the GPU). (default: `True`)

    Shapes:
        `pos [N, D]`, `query [M, D]` → three tensors `[M, max_neighbors]`. Without `query`, M = N.

    Gradients reach `pos` and `query` through `sq_distance`.

    Raises:
        ValueError: on any argument that breaks these rules; on queries in an empty cloud.

    Example:
        >>> pos, ptr = torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([0, 3])
        >>> ball_query(pos, ptr, 1.5, 3, torch.tensor([[1.0]]), torch.tensor([0, 1]))[::2]
        (tensor([[1, 0, 1]]), tensor([[ True,  True, False]]))
    """
    _check_count(max_neighbors, "max_neighbors")
    if not 0 < radius < math.inf:
        raise ValueError(f"`radius` (={radius}) must be positive and finite")
    return _neighbors(pos, ptr, query, query_ptr, max_neighbors, False, float(radius), backend, validate)


def interpolation_weights(
    pos: Float[Tensor, "N D"],
    ptr: Int[Tensor, " B_plus_1"],
    query: Float[Tensor, "M D"],
    query_ptr: Int[Tensor, " B_plus_1"],
    k: int = 3,
    *,
    backend: Backend | None = None,
    validate: bool = True,
) -> tuple[Int[Tensor, "M k"], Float[Tensor, "M k"]]:
    """Find the points and the weights that :func:`interpolate` uses, to use them again.

    The weights are the inverse squared distances, divided by their sum. At distance zero they are one for the
    point there (shared equally between duplicates there), with finite gradients.

    Args: as in :func:`interpolate`.

    Returns:
        Rows of `pos`, nearest first, and their weights (zero in the slots that a small cloud cannot fill).

    Shapes:
        `pos [N, D]`, `query [M, D]` → `[M, k]`, `[M, k]`.

    Gradients reach `pos` and `query` through the weights.

    Example:
        >>> pos, ptr = torch.tensor([[0.0], [3.0]]), torch.tensor([0, 2])
        >>> interpolation_weights(pos, ptr, torch.tensor([[1.0]]), torch.tensor([0, 1]), k=2)
        (tensor([[0, 1]]), tensor([[0.8000, 0.2000]]))
    """
    index, sq_distance, valid = knn(pos, ptr, k, query, query_ptr, backend=backend, validate=validate)
    # Relative to the nearest: 1/d² itself overflows near zero, and its gradient subtracts huge numbers there.
    # The leading one is a constant for the same reason.
    sq_distance = sq_distance.clamp(min=torch.finfo(sq_distance.dtype).tiny)
    others = sq_distance[:, :1] / sq_distance[:, 1:]
    weight = torch.cat([torch.ones_like(sq_distance[:, :1]), others.masked_fill(~valid[:, 1:], 0)], dim=1)
    return index, weight / weight.sum(dim=1, keepdim=True)


def interpolate(
    features: Float[Tensor, "N C"],
    pos: Float[Tensor, "N D"],
    ptr: Int[Tensor, " B_plus_1"],
    query: Float[Tensor, "M D"],
    query_ptr: Int[Tensor, " B_plus_1"],
    k: int = 3,
    *,
    backend: Backend | None = None,
    validate: bool = True,
) -> Float[Tensor, "M C"]:
    """Interpolate features at the queries from the k nearest points, weighted by inverse squared distance.

    This is the feature propagation of `PointNet++ <https://arxiv.org/abs/1706.02413>`_ (Eq. 2, p = 2).

    Args:
        features: features of the points.
        pos: positions of the points, float.
        ptr: boundaries of the clouds.
        query: where to interpolate.
        query_ptr: boundaries of the clouds in `query`.
        k: number of points to interpolate from. (default: `3`)
        backend: see the module. (default: as in :func:`knn`)
        validate: check that `pos` and `query` are finite (waits for the GPU). (default: `True`)

    Shapes:
        `features [N, C]`, `pos [N, D]`, `query [M, D]` → `[M, C]`.

    Gradients reach `features`, `pos` and `query`.

    Raises:
        ValueError: on any argument that breaks these rules; on queries in an empty cloud.

    Example:
        >>> pos, ptr = torch.tensor([[0.0], [3.0]]), torch.tensor([0, 2])
        >>> query, query_ptr = torch.tensor([[1.0]]), torch.tensor([0, 1])
        >>> interpolate(torch.tensor([[10.0], [20.0]]), pos, ptr, query, query_ptr, k=2)
        tensor([[12.]])
    """
    if not features.is_floating_point():
        raise ValueError(f"`features` (dtype {features.dtype}) must be a floating point tensor")
    if features.dim() != 2 or features.shape[0] != pos.shape[0]:
        raise ValueError(
            f"`features` (shape {tuple(features.shape)}) must be [N, C] with N = {pos.shape[0]} as in `pos`"
        )
    index, weight = interpolation_weights(pos, ptr, query, query_ptr, k, backend=backend, validate=validate)
    return weighted_gather(features, index, weight)


def weighted_gather(
    features: Float[Tensor, "N C"], index: Int[Tensor, "M k"], weight: Float[Tensor, "M k"]
) -> Float[Tensor, "M C"]:
    """Sum `features[index]` over the k slots with the weights of :func:`interpolation_weights`.

    Shapes:
        `features [N, C]`, `index [M, k]`, `weight [M, k]` → `[M, C]`.

    Gradients reach `features` and `weight`.
    """
    # The fused sum never holds [M, k, C]: on a CPU that is 7 to 30 times as fast forward and
    # 2 to 10 times with the backward.
    return torch.nn.functional.embedding_bag(index, features, per_sample_weights=weight.to(features.dtype), mode="sum")


def knn_graph(
    pos: Float[Tensor, "N D"],
    ptr: Int[Tensor, " B_plus_1"],
    k: int,
    *,
    loop: bool = False,
    backend: Backend | None = None,
    validate: bool = True,
) -> Int[Tensor, "2 E"]:
    """Connect each point with its k nearest neighbors, for message passing in PyTorch Geometric.

    Args:
        pos: positions or features, float.
        ptr: boundaries of the clouds.
        k: edges that arrive at each point; all the others of its cloud where there are fewer.
        loop: count a point as its own neighbor. (default: `False`)
        backend: see the module. (default: as in :func:`knn`)
        validate: check that `pos` is finite (waits for the GPU). (default: `True`)

    Returns:
        `edge_index`: the neighbor in row 0, the point itself in row 1 (flow `"source_to_target"`), sorted by
        row 1.

    Shapes:
        `pos [N, D]` → `[2, E]`.

    Example:
        >>> knn_graph(torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([0, 3]), 1)
        tensor([[1, 0, 1],
                [0, 1, 2]])
    """
    _check_count(k, "k")
    bounds = _check(pos, ptr, "pos", "ptr", validate)
    index = _search(pos, bounds, pos, bounds, k, not loop, None, backend)
    target = torch.arange(len(pos), device=pos.device).repeat_interleave(k)
    edges = torch.stack([index.flatten(), target])
    smallest = min((size for size in _sizes(bounds) if size), default=0)
    return edges if smallest - (not loop) >= k else edges[:, edges[0] >= 0]


# --- checks ------------------------------------------------------------------------------------------------


def _sizes(bounds: list[int]) -> list[int]:
    return [end - start for start, end in itertools.pairwise(bounds)]


def _check(pos: Tensor, ptr: Tensor, name: str, ptr_name: str, validate: bool) -> list[int]:
    """Check one ragged batch and return its boundaries on the host."""
    if pos.dim() != 2 or pos.shape[1] < 1:
        raise ValueError(f"`{name}` (shape {tuple(pos.shape)}) must be [N, D] with D of at least 1")
    if not pos.is_floating_point():
        raise ValueError(f"`{name}` (dtype {pos.dtype}) must be a floating point tensor")
    if ptr.dim() != 1 or len(ptr) < 1 or ptr.dtype not in (torch.int64, torch.int32):
        raise ValueError(f"`{ptr_name}` (shape {tuple(ptr.shape)}, dtype {ptr.dtype}) must be [B + 1] of int64")
    bounds = ptr.tolist()
    if bounds[0] != 0 or bounds[-1] != len(pos) or sorted(bounds) != bounds:
        shown = f"{bounds[:5]}…" if len(bounds) > 5 else bounds
        raise ValueError(f"`{ptr_name}` (={shown}) must rise from 0 to {len(pos)}, the rows of `{name}`")
    if validate and not torch.compiler.is_compiling() and not bool(torch.isfinite(pos).all()):
        raise ValueError(f"`{name}` must be finite, but has NaN or infinite values")
    return bounds


def _tensor(values: list[int], device: torch.device) -> Tensor:
    # A tensor made on the GPU right away would wait for it.
    return torch.tensor(values).to(device, non_blocking=True)


def _check_count(value: int, name: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"`{name}` (={value}) must be an int of at least 1")


def _counts(num_samples: int | float | Tensor, sizes: list[int]) -> list[int]:
    if isinstance(num_samples, Tensor):
        if num_samples.shape != (len(sizes),) or num_samples.dtype not in (torch.int64, torch.int32):
            raise ValueError(
                f"`num_samples` (shape {tuple(num_samples.shape)}, dtype {num_samples.dtype}) must be an int "
                f"tensor with one number for each of the {len(sizes)} clouds"
            )
        wanted = num_samples.tolist()
        if min(wanted, default=1) < 1:
            raise ValueError(f"`num_samples` (={wanted}) must be at least 1 for each cloud")
    elif isinstance(num_samples, float):
        if not 0 < num_samples <= 1:
            raise ValueError(f"`num_samples` (={num_samples}) must be in (0, 1] where it is a share")
        # Less a little, for 0.07 × 100 is 7.000000000000001 and means 7.
        wanted = [math.ceil(num_samples * size * (1 - 1e-12)) for size in sizes]
    else:
        _check_count(num_samples, "num_samples")
        wanted = [num_samples] * len(sizes)
    return [min(count, size) for count, size in zip(wanted, sizes, strict=True)]


# --- backends ----------------------------------------------------------------------------------------------


@lru_cache
def _importable(name: str) -> bool:
    try:
        module = importlib.import_module("scipy.spatial" if name == "scipy" else name)
    # A library built for another torch fails in any of these ways.
    except (ImportError, OSError, RuntimeError):
        return False
    return name != "pyg_lib" or hasattr(module.ops, "fps")


def _choose(backend: str | None, pos: Tensor, task: Literal["farthest", "nearest"], largest: int = 0) -> str:
    if backend is not None:
        if backend not in _INSTALL:
            raise ValueError(f"`backend` (={backend!r}) must be one of {', '.join(map(repr, _INSTALL))} or None")
        if not _importable(backend):
            raise ValueError(f"`backend` (={backend!r}) cannot be imported; install it: {_INSTALL[backend]}")
        if backend == "scipy" and pos.device.type != "cpu":
            raise ValueError(f"`backend` (='scipy') needs `pos` on the CPU, not on {pos.device}")
        return backend
    if task == "farthest" and pos.is_cuda:
        # One launch in place of about ten for every point chosen.
        if _importable("pyg_lib"):
            return "pyg_lib"
        if _importable("torch_cluster") and torch.ops.torch_cluster.cuda_version() != -1:
            return "torch_cluster"
    tree_wins = largest >= _TREE_MIN_POINTS and pos.shape[1] <= _TREE_MAX_DIM
    if task == "nearest" and pos.device.type == "cpu" and tree_wins and _importable("scipy"):
        return "scipy"
    return "torch"


def _for_search(pos: Tensor) -> Tensor:
    pos = pos.detach()
    return pos if pos.dtype in (torch.float32, torch.float64) else pos.float()


def _unit_scale(*tensors: Tensor) -> list[Tensor]:
    """Scale by a power of two, which is exact, into [-1, 1].

    The CUDA kernels of torch-cluster and pyg-lib start from a "largest distance" of 5e4 to 1e10, so they are
    wrong on coordinates in, say, millimeters.
    """
    extent = torch.stack([tensor.abs().amax() for tensor in tensors if tensor.numel()]).amax()
    exponent = torch.frexp(extent).exponent
    return [torch.ldexp(tensor, -exponent).contiguous() for tensor in tensors]


# A cloud, for farthest points: its first row, its size, how many points of it, and the local row to start at.
_Cloud = tuple[int, int, int, int]


def _farthest_torch(pos: Tensor, clouds: list[_Cloud]) -> Tensor:
    sizes, counts = [cloud[1] for cloud in clouds], [cloud[2] for cloud in clouds]
    # All clouds at once take as many steps as one cloud does: one by one only where most would be padding.
    if len(clouds) * max(sizes) * max(counts) > 4 * sum(n * m for n, m in zip(sizes, counts, strict=True)):
        return torch.cat([_farthest_torch(pos, [cloud]) for cloud in clouds])

    B, n, m = len(clouds), max(sizes), max(counts)
    first = _tensor([cloud[0] for cloud in clouds], pos.device)[:, None]
    local = torch.arange(n, device=pos.device)
    nearest = pos.new_full((B, n), math.inf)
    if min(sizes) < n:
        nearest.masked_fill_(local >= _tensor(sizes, pos.device)[:, None], -math.inf)
    rows = (first + local).clamp(max=len(pos) - 1)
    # One contiguous block per axis, updated in place: about half the time of the usual [B, n, D].
    axes = pos[rows].permute(2, 0, 1).contiguous().unbind(0)
    distance, difference = torch.empty_like(nearest), torch.empty_like(nearest)
    # On a CPU PyTorch's argmax of 8 × 2,048 floats takes ten times NumPy's time: half of the whole loop.
    host = nearest.numpy() if nearest.device.type == "cpu" else None

    chosen = torch.empty(m, B, dtype=torch.long, device=pos.device)
    chosen[0] = _tensor([cloud[3] for cloud in clouds], pos.device)
    for step in range(1, m):
        last = chosen[step - 1, :, None]
        torch.sub(axes[0], axes[0].gather(1, last), out=distance).square_()
        for axis in axes[1:]:
            torch.sub(axis, axis.gather(1, last), out=difference)
            distance.addcmul_(difference, difference)
        torch.minimum(nearest, distance, out=nearest)
        chosen[step] = nearest.argmax(1) if host is None else torch.from_numpy(host.argmax(1))
    index = (first + chosen.t()).contiguous()
    return torch.cat([row[:count] for row, count in zip(index, counts, strict=True)])


def _farthest_compiled(pos: Tensor, clouds: list[_Cloud], name: str) -> Tensor:
    # Both start at the first row of a cloud or at a random one that no generator controls: so the start is
    # brought to the front.
    firsts, sizes, counts, starts = (torch.tensor(column) for column in zip(*clouds, strict=True))
    ptr = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
    cloud = torch.repeat_interleave(torch.arange(len(clouds)), sizes)
    local, start = torch.arange(int(ptr[-1])) - ptr[cloud], starts[cloud]
    source = firsts[cloud] + torch.where(local == 0, start, torch.where(local <= start, local - 1, local))
    source = source.to(pos.device)
    (points,) = _unit_scale(pos[source])
    # Both take ceil(float32(size) × ratio) points.
    ratios = (counts - 0.5) / sizes
    if name == "torch_cluster":
        torch_cluster = importlib.import_module(name)
        index = torch_cluster.fps(
            points, ratio=ratios.float().to(pos.device), random_start=False, ptr=ptr.to(pos.device)
        )
    else:
        fps = importlib.import_module(name).ops.fps
        if len(set(zip(sizes.tolist(), counts.tolist(), strict=True))) == 1:
            index = fps(points, ptr.to(pos.device), float(ratios[0]), False)
        else:  # it knows no ratio of each cloud's own
            index = torch.cat(
                [
                    begin + fps(part, torch.tensor([0, len(part)], device=pos.device), ratio, False)
                    for begin, part, ratio in zip(
                        ptr.tolist(), points.split(sizes.tolist()), ratios.tolist(), strict=False
                    )
                ]
            )
    return source[index]


def _each_once(index: Tensor, num_points: int, clouds: list[_Cloud]) -> Tensor:
    """Replace the repetitions that come when only duplicates are left by the lowest rows not chosen."""
    # On a GPU the sorts below are cheap, and asking whether they are needed would cost a sync.
    if not index.is_cuda and int(torch.bincount(index).max()) == 1:
        return index
    M = len(index)
    first_place = torch.arange(M, M + num_points, device=index.device)
    first_place.scatter_reduce_(0, index, torch.arange(M, device=index.device), "amin")
    return torch.cat([first + first_place[first : first + size].argsort()[:count] for first, size, count, _ in clouds])


def _neighbors(
    pos: Tensor,
    ptr: Tensor,
    query: Tensor | None,
    query_ptr: Tensor | None,
    k: int,
    exclude_self: bool,
    radius: float | None,
    backend: str | None,
    validate: bool,
) -> Neighbors:
    bounds = _check(pos, ptr, "pos", "ptr", validate)
    if query is None:
        if query_ptr is not None:
            raise ValueError("`query_ptr` is given without `query`")
        query, query_bounds = pos, bounds
    else:
        if exclude_self:
            raise ValueError("`exclude_self` (=True) needs `query` to be None: only then has a query a row of its own")
        if query_ptr is None:
            raise ValueError("`query_ptr` must be given with `query`")
        query_bounds = _check(query, query_ptr, "query", "query_ptr", validate)
        if query.shape[1] != pos.shape[1] or query.dtype != pos.dtype or query.device != pos.device:
            raise ValueError(
                f"`query` ({query.shape[1]} axes, {query.dtype}, {query.device}) must be like `pos` "
                f"({pos.shape[1]} axes, {pos.dtype}, {pos.device})"
            )
        if len(query_bounds) != len(bounds):
            raise ValueError(
                f"`query_ptr` ({len(query_bounds) - 1} clouds) must have as many as `ptr` ({len(bounds) - 1})"
            )
    index = _search(pos, bounds, query, query_bounds, k, exclude_self, radius, backend)
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
    """Squared distances from each query to `pos[index]`, differentiable; at zero the gradient is zero."""
    if pos.dtype not in (torch.float32, torch.float64):
        pos, query = pos.float(), query.float()
    total = torch.zeros(index.shape, dtype=pos.dtype, device=pos.device)
    flat = index.flatten()
    # Axis by axis takes a third of the time of [M, k, D].
    for x, y in zip(pos.unbind(1), query.unbind(1), strict=True):
        difference = x.index_select(0, flat).view(index.shape) - y[:, None]
        total = torch.addcmul(total, difference, difference)
    return total


@torch.no_grad()
def _search(
    pos: Tensor,
    bounds: list[int],
    query: Tensor,
    query_bounds: list[int],
    k: int,
    exclude_self: bool,
    radius: float | None,
    backend: str | None,
) -> Tensor:
    """Rows of the k nearest points `[M, k]`, nearest first, -1 where there is none.

    With a `radius` points farther than it may be missing, but never the nearest.
    """
    sizes, query_sizes = _sizes(bounds), _sizes(query_bounds)
    for b, (size, m) in enumerate(zip(sizes, query_sizes, strict=True)):
        if size == 0 and m > 0:
            raise ValueError(f"`ptr` has no points in cloud {b}, which has queries")
    name = _choose(backend, pos, "nearest", max(sizes, default=0))
    if len(query) == 0:
        return torch.empty(0, k, dtype=torch.long, device=pos.device)
    pos, query = _for_search(pos), _for_search(query)
    wanted = k + exclude_self
    if all(size >= wanted for size, m in zip(sizes, query_sizes, strict=True) if m):
        index = _nearest(pos, bounds, query, query_bounds, wanted, radius, name)
    else:
        index = torch.full((len(query), wanted), -1, device=pos.device)
        for size, m, start, query_start in zip(sizes, query_sizes, bounds, query_bounds, strict=False):
            if m:
                few = min(wanted, size)
                p, q = pos[start : start + size], query[query_start : query_start + m]
                found = _nearest(p, [0, size], q, [0, m], few, radius, name)
                index[query_start : query_start + m, :few] = torch.where(found >= 0, found + start, -1)
    if exclude_self:
        # From its own row on the next slots move up; among more than k duplicates it may be missing.
        own = index[:, :k] == torch.arange(len(query), device=pos.device)[:, None]
        index = index.gather(1, torch.arange(k, device=pos.device) + own.cumsum(1))
    return index


def _nearest(
    pos: Tensor,
    bounds: list[int],
    query: Tensor,
    query_bounds: list[int],
    k: int,
    radius: float | None,
    name: str,
) -> Tensor:
    """As `_search`, where no cloud that has queries has fewer than k points."""
    if name == "torch":
        return _nearest_torch(pos, bounds, query, query_bounds, k)
    if name == "scipy":
        return _nearest_scipy(pos, bounds, query, query_bounds, k, radius)
    return _nearest_compiled(pos, bounds, query, query_bounds, k, name)


def _nearest_torch(pos: Tensor, bounds: list[int], query: Tensor, query_bounds: list[int], k: int) -> Tensor:
    sizes, query_sizes = _sizes(bounds), _sizes(query_bounds)
    if len(set(sizes)) > 1 or len(set(query_sizes)) > 1:
        out = torch.empty(len(query), k, dtype=torch.long, device=pos.device)
        for n, m, start, query_start in zip(sizes, query_sizes, bounds, query_bounds, strict=False):
            if m:
                p, q = pos[start : start + n], query[query_start : query_start + m]
                out[query_start : query_start + m] = _nearest_torch(p, [0, n], q, [0, m], k) + start
        return out

    B, n, m, D = len(sizes), sizes[0], query_sizes[0], pos.shape[1]
    points = pos.view(B, n, D).permute(2, 0, 1).contiguous()
    queries = query.view(B, m, D).permute(2, 0, 1).contiguous()
    tile = _TILE_GPU if pos.is_cuda else _TILE_CPU
    clouds = max(1, min(B, tile // n))
    rows = max(1, min(m, tile // (clouds * n)))
    out = torch.empty(B, m, k, dtype=torch.long, device=pos.device)
    buffers = torch.empty(2, clouds * rows * n, dtype=pos.dtype, device=pos.device)
    for b in range(0, B, clouds):
        for row in range(0, m, rows):
            p, q = points[:, b : b + clouds, None, :], queries[:, b : b + clouds, row : row + rows, None]
            shape = (p.shape[1], q.shape[2], n)
            # Sums of squared differences in any dimension: |a|² − 2ab + |b|² is a matrix product, but cancels
            # the digits that tell near points apart, and in float64, where it would not, is as slow as this.
            distance, difference = (buffer[: math.prod(shape)].view(shape) for buffer in buffers)
            torch.sub(q[0], p[0], out=distance).square_()
            for axis in range(1, D):
                torch.sub(q[axis], p[axis], out=difference)
                distance.addcmul_(difference, difference)
            out[b : b + clouds, row : row + rows] = distance.topk(k, dim=2, largest=False).indices
    firsts = _tensor(bounds[:-1], pos.device)[:, None, None]
    return (out + firsts).view(-1, k)


def _nearest_scipy(
    pos: Tensor, bounds: list[int], query: Tensor, query_bounds: list[int], k: int, radius: float | None
) -> Tensor:
    from scipy.spatial import cKDTree

    # The tree's bound excludes and is float64: a little farther, so that the caller's rule alone decides.
    bound = math.inf if radius is None else radius * (1 + 1e-5)
    out = torch.empty(len(query), k, dtype=torch.long)
    for b, m in enumerate(_sizes(query_bounds)):
        if m == 0:
            continue
        points = pos[bounds[b] : bounds[b + 1]].numpy()
        queries = query[query_bounds[b] : query_bounds[b + 1]].numpy()
        tree = cKDTree(points, balanced_tree=False)
        found = torch.from_numpy(tree.query(queries, k=k, distance_upper_bound=bound)[1]).view(m, k)
        missing = found == len(points)
        found = torch.where(missing, -1, found + bounds[b])
        if radius is not None and bool(missing[:, 0].any()):
            alone = missing[:, 0]
            found[alone, 0] = torch.from_numpy(tree.query(queries[alone.numpy()])[1]) + bounds[b]
        out[query_bounds[b] : query_bounds[b + 1]] = found
    return out


def _nearest_compiled(
    pos: Tensor, bounds: list[int], query: Tensor, query_bounds: list[int], k: int, name: str
) -> Tensor:
    if pos.is_cuda and k > 100:
        raise ValueError(f"`backend` (={name!r}) finds at most 100 neighbors on CUDA, not {k}; use 'torch'")
    pos, query = _unit_scale(pos, query)
    ptr, query_ptr = (_tensor(b, pos.device) for b in (bounds, query_bounds))
    library = importlib.import_module(name)
    if name == "torch_cluster":
        clouds = torch.arange(len(bounds) - 1, device=pos.device)
        batch, query_batch = (
            clouds.repeat_interleave(p.diff(), output_size=len(x)) for p, x in ((ptr, pos), (query_ptr, query))
        )
        pairs = library.knn(pos, query, k, batch, query_batch, batch_size=len(clouds))
    else:
        pairs = library.ops.knn(pos, query, k, ptr, query_ptr)
    return cast(Tensor, pairs[1]).view(len(query), k)
