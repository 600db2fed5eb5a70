"""Skeletons of keypoints, and how far they are from a cloud (Skeleton Merger).

From `Skeleton Merger: an Unsupervised Aligned Keypoint Detector <https://arxiv.org/abs/2103.10814>`_. The skeleton of
K keypoints has one segment for each of their ``P = K (K - 1) / 2`` pairs, in the order of :func:`segment_pairs`. The
numbers here that the paper does not print are those of its authors' code, for clouds in [-1, 1].
"""

import itertools
import math
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pcsa._core.checks import Reduction, check_non_negative, check_positive, check_reduction, finite, raise_first
from pcsa._core.compiling import not_compiled
from pcsa._core.data import Cloud, unpacked
from pcsa._core.points import full_precision, resolve_batch, working_dtype
from pcsa._core.tiles import in_order, one_thread, tiles_of_lengths
from pcsa.neighbors import knn

# Floats in one tile of distances: on a CPU it stays in the cache, on a GPU few launches matter.
_TILE_CPU, _TILE_GPU = 1 << 17, 1 << 24


class Skeleton(NamedTuple):
    """The points of all segments, one after the other: by cloud, then by sample, then by segment.

    Attributes:
        points: Positions, in the units and frame of the keypoints.
        ptr: Where each segment begins, then M. It is on the CPU: its values are needed there.
    """

    points: Float[Tensor, "M D"]
    ptr: Int[Tensor, " BSP_plus_1"]


class CompositeChamfer(NamedTuple):
    """The two halves of the Composite Chamfer Distance; their sum is what the paper minimizes.

    Attributes:
        fidelity: How far the skeleton is from the cloud.
        coverage: How far the cloud is from the skeleton.
    """

    fidelity: Tensor
    coverage: Tensor


def num_segments(num_keypoints: int) -> int:
    """Number of pairs of keypoints, ``K (K - 1) / 2``."""
    return num_keypoints * (num_keypoints - 1) // 2


def segment_pairs(num_keypoints: int, device: torch.device | str | None = None) -> Int[Tensor, "2 P"]:
    """Both ends of every segment: (0, 1), (0, 2), …, (K - 2, K - 1)."""
    return torch.triu_indices(num_keypoints, num_keypoints, 1, device=device)


def skeleton_points(
    keypoints: Float[Tensor, "B K *S D"],
    offsets: Float[Tensor, "P R D"] | None = None,
    *,
    spacing: float = 0.01,
    min_points: int = 15,
    max_points: int = 200,
) -> Skeleton:
    r"""Points along the segment between every two keypoints, moved by learned offsets.

    A segment of length l has :math:`n = \lfloor l / \mathrm{spacing} \rfloor` points, at least ``min_points`` and at
    most ``max_points``, evenly from one keypoint to the other, each of them moved by an offset that all clouds share
    (`"Skeleton Merger" <https://arxiv.org/abs/2103.10814>`_, Section 3.3). Here the number depends on the segment
    alone, so that a cloud does not depend on its batch, and point j of n takes row round(j (R - 1) / (n - 1)) of the
    offsets, the same part of the segment whatever its length; the authors' code takes n from the mean length over
    the batch, and row j.

    Differentiable in ``keypoints`` and ``offsets``; the number of points is not. Waits once for the device, whatever
    the number of segments. Computed in float32 at least.

    Args:
        keypoints: ``[B, K, D]``, or S samples of each ``[B, K, S, D]`` as :func:`pcsa.sampling_argmax` draws them.
            Only finite ones give a meaningful skeleton. K is at least 2.
        offsets: Offsets in the units of ``keypoints``, one row for each of R places along a segment; default none.
        spacing: Distance between two points, in the units of ``keypoints``. Default 0.01.
        min_points: Minimum points per segment, at least 2. Default 15.
        max_points: Maximum points per segment, at least ``min_points``. Default 200.

    Returns:
        The points ``[M, D]`` and ``ptr [B * S * P + 1]``, S = 1 for keypoints ``[B, K, D]``.

    Raises:
        ValueError: Naming the argument, its value and the rule.

    Example:
        >>> ends = torch.tensor([[[0.0, 0.0], [1.0, 0.0]]])
        >>> skeleton_points(ends, spacing=0.25, min_points=2).points
        tensor([[0.0000, 0.0000],
                [0.3333, 0.0000],
                [0.6667, 0.0000],
                [1.0000, 0.0000]])
    """
    if keypoints.dim() not in (3, 4) or keypoints.shape[1] < 2 or not keypoints.is_floating_point():
        raise ValueError(
            f"`keypoints` {list(keypoints.shape)} ({keypoints.dtype}) must be floating point [B, K, D] or "
            "[B, K, S, D] with K at least 2"
        )
    check_positive("spacing", spacing)
    if not 2 <= min_points <= max_points:
        raise ValueError(f"`min_points` (={min_points}) must be from 2 to `max_points` (={max_points})")
    K, D = keypoints.shape[1], keypoints.shape[-1]
    P = num_segments(K)
    if offsets is not None and (offsets.dim() != 3 or offsets.shape[0] != P or offsets.shape[2] != D):
        raise ValueError(f"`offsets` {list(offsets.shape)} must be [P, R, D] = [{P}, R, {D}] for {K} keypoints")
    if offsets is not None and offsets.shape[1] == 0:
        raise ValueError(f"`offsets` {list(offsets.shape)} must have at least one row")
    with full_precision(keypoints):
        keypoints = keypoints.to(working_dtype(keypoints))
        if keypoints.dim() == 3:
            keypoints = keypoints.unsqueeze(2)
        pairs = segment_pairs(K, keypoints.device)
        by_sample = keypoints.transpose(1, 2)  # [B, S, K, D]
        first, last = (by_sample.index_select(2, end).flatten(0, 2) for end in pairs)
        with torch.no_grad():
            length = (last - first).norm(dim=1).nan_to_num(0.0)
            count = (length / spacing).clamp(min_points, max_points).long()
            ptr = torch.cat([count.new_zeros(1), count.cumsum(0)])
            host = ptr.cpu()
            total = int(host[-1])
            owner = torch.arange(len(count), device=ptr.device).repeat_interleave(count, output_size=total)
            place = torch.arange(total, device=ptr.device) - ptr.index_select(0, owner)
            steps = (count - 1).index_select(0, owner)
            fraction = (place.to(keypoints.dtype) / steps).unsqueeze(1)
        start = first.index_select(0, owner)
        points = torch.lerp(start, last.index_select(0, owner), fraction)
        if offsets is not None:
            R = offsets.shape[1]
            # Rounded half up, in whole numbers.
            row = (2 * place * (R - 1) + steps) // (2 * steps) + owner % P * R
            points = points + offsets.to(points.dtype).flatten(0, 1).index_select(0, row)
    return Skeleton(points, host)


def composite_chamfer(
    points: Float[Tensor, "M D"],
    points_ptr: Int[Tensor, " BSP_plus_1"],
    activation: Float[Tensor, "B P"],
    pos: Float[Tensor, "N D"] | Cloud,
    batch: Int[Tensor, " N"] | None = None,
    *,
    ptr: Int[Tensor, " B_plus_1"] | None = None,
    uncovered: float = 20.0,
    epsilon: float = 1e-4,
    reduction: Reduction = "mean",
    validate: bool = True,
) -> CompositeChamfer:
    r"""Distance between clouds and skeletons whose segments count by their activation.

    The Composite Chamfer Distance of `"Skeleton Merger" <https://arxiv.org/abs/2103.10814>`_, Section 3.4, of the
    distance :math:`d(x, y) = \sqrt{\epsilon + \|x - y\|^2}`. With segments :math:`X_p` of activation :math:`a_p` and
    a cloud Y:

    .. math::
        \text{fidelity} &= \frac1P \sum_p a_p \frac{1}{|X_p|} \sum_{x \in X_p} \min_{y \in Y} d(x, y) \\
        \text{coverage} &= \frac{1}{|Y|} \sum_{y \in Y} \Big( \sum_p w_p(y) \min_{x \in X_p} d(x, y)
            + u \big(1 - \sum_p w_p(y)\big) \Big)

    For each y the segments, nearest first, take a weight :math:`w_p` up to their activation until the weights add up
    to one; what is then missing is charged u.

    Nearest pairs are found without gradient, in tiles, and only their distances are differentiated: memory follows
    the points and the segments that carry weight, not points × points. Differentiable in ``points``, ``activation``
    (through the weights too: :math:`\partial / \partial a_p` is the distance of p minus that of the segment which
    reaches one, or minus u) and ``pos``. Computed in float32 at least.

    Args:
        points: Points of all segments, as :func:`skeleton_points` gives them.
        points_ptr: Their ``ptr``, for B clouds, S samples and P segments: B and P are those of ``activation``. On the
            CPU it costs no wait for the device.
        activation: Activation of each segment, from 0 to 1; all samples of a cloud share it.
        pos: The clouds, in the units and frame of ``points``.
        batch: Cloud of each point, sorted; without ``batch`` and ``ptr`` there is one cloud.
        ptr: Where each cloud begins, then N; instead of ``batch``.
        uncovered: Charge u for weight that no segment takes, in the units of ``pos``. Default 20.
        epsilon: Number under the root, in squared units of ``pos``; positive. Default 1e-4.
        reduction: ``"mean"`` over clouds and samples, ``"sum"``, or ``"none"`` for ``[B, S]``.
        validate: Check values (finite, activations from 0 to 1) too; costs one synchronization on an accelerator.

    Returns:
        Fidelity and coverage.

    Raises:
        ValueError: Naming the argument, its value and the rule.

    Example:
        >>> keypoints = torch.tensor([[[0.0, 0.0], [1.0, 0.0]]])
        >>> points, points_ptr = skeleton_points(keypoints, min_points=2, max_points=2)
        >>> cloud = torch.tensor([[0.0, 3.0], [1.0, 4.0]])  # half of it at 3.5, half is charged 20
        >>> composite_chamfer(points, points_ptr, torch.tensor([[0.5]]), cloud, epsilon=1e-9)
        CompositeChamfer(fidelity=tensor(1.5406), coverage=tensor(11.7500))
    """
    check_reduction(reduction)
    check_positive("epsilon", epsilon)
    check_non_negative("uncovered", uncovered)
    pos, batch, ptr = unpacked(pos, batch, ptr)
    for name, tensor in (("points", points), ("pos", pos), ("activation", activation)):
        if tensor.dim() != 2 or not tensor.numel() or not tensor.is_floating_point():
            raise ValueError(
                f"`{name}` {list(tensor.shape)} ({tensor.dtype}) must be a floating point matrix, not empty"
            )
    if points.shape[1] != pos.shape[1]:
        raise ValueError(f"`points` {list(points.shape)} must have the {pos.shape[1]} axes of `pos`")
    B, P = activation.shape
    S, remainder = divmod(points_ptr.numel() - 1, B * P)
    if points_ptr.dim() != 1 or S < 1 or remainder:
        raise ValueError(
            f"`points_ptr` {list(points_ptr.shape)} must have an entry more than a multiple of the "
            f"{B} × {P} segments of `activation`"
        )
    _, cloud_ptr, _, rules = resolve_batch(
        pos.shape[0], pos.device, batch=batch, ptr=ptr, batch_size=B if batch is not None else None, check=validate
    )
    if cloud_ptr.numel() != B + 1:
        raise ValueError(f"`ptr` ({cloud_ptr.numel() - 1} clouds) must have the {B} clouds of `activation`")
    bounds: list[int] = points_ptr.tolist()
    if bounds[0] != 0 or bounds[-1] != len(points) or any(a >= b for a, b in itertools.pairwise(bounds)):
        raise ValueError(f"`points_ptr` must rise from 0 to the number of points (={len(points)})")
    if validate:
        inside = ((activation >= 0) & (activation <= 1)).all()
        rules += [finite("points", points), finite("pos", pos), (inside, "`activation` must be from 0 to 1 everywhere")]
        raise_first(rules)

    with full_precision(points):
        dtype = working_dtype(points, pos)
        points, pos, activation = points.to(dtype), pos.to(dtype), activation.to(dtype)
        found = _nearest_pairs(points, bounds, activation, pos, cloud_ptr.tolist(), uncovered, epsilon)

        count = points_ptr.to(points.device).diff()
        owner = torch.arange(len(count), device=points.device).repeat_interleave(count, output_size=len(points))
        away = _distance(points, pos.index_select(0, found.cloud_row), epsilon)
        away = away.new_zeros(len(count)).index_add(0, owner, away) / count
        fidelity = (away.view(B, S, P) * activation.unsqueeze(1)).mean(2)

        pairs = _distance(points.index_select(0, found.point_row), pos.index_select(0, found.pair_row), epsilon)
        coverage = pairs.new_zeros(B * S).index_add(0, found.pair_sample, pairs * found.weight).view(B, S)
        # Zero in value: it carries the slope that the weights have in the activations.
        slope = (activation - activation.detach()).unsqueeze(1) * found.slope
        coverage = (coverage + slope.sum(2)) / cloud_ptr.diff().unsqueeze(1) + found.missing * uncovered
    return CompositeChamfer(_reduced(fidelity, reduction), _reduced(coverage, reduction))


@torch.no_grad()
def segment_support(
    keypoints: Float[Tensor, "B K D"],
    pos: Float[Tensor, "N D"] | Cloud,
    batch: Int[Tensor, " N"] | None = None,
    *,
    ptr: Int[Tensor, " B_plus_1"] | None = None,
    radius: float,
    num_points: int = 32,
) -> Float[Tensor, "B P"]:
    """Share of every segment that lies on its own cloud.

    The activations of a trained :class:`pcsa.models.SkeletonMerger` hardly differ between shapes; which segments a
    shape has is seen here. Not part of any paper. Not differentiable. Computed in float32 at least.

    Args:
        keypoints: ``[B, K, D]``; K is at least 2.
        pos: The clouds, in the units and frame of ``keypoints``.
        batch: Cloud of each point, sorted; without ``batch`` and ``ptr`` there is one cloud.
        ptr: Where each cloud begins, then N; instead of ``batch``.
        radius: A place on a segment lies on the cloud if a point is at most this far, in the units of ``pos``.
        num_points: Places evenly along every segment, its ends included. Default 32.

    Returns:
        Shares from 0 to 1, in the order of :func:`segment_pairs`.

    Example:
        >>> keypoints = torch.tensor([[[0.0, 0.0], [4.0, 0.0]]])
        >>> cloud = torch.tensor([[0.0, 0.0], [1.0, 0.0], [4.0, 0.0]])
        >>> segment_support(keypoints, cloud, radius=0.5, num_points=5)  # places 0, 1, 2, 3 and 4
        tensor([[0.6000]])
    """
    check_positive("radius", radius)
    if num_points < 2:
        raise ValueError(f"`num_points` (={num_points}) must be at least 2")
    if keypoints.dim() != 3 or keypoints.shape[1] < 2 or not keypoints.is_floating_point():
        raise ValueError(f"`keypoints` {list(keypoints.shape)} must be floating point [B, K, D] with K at least 2")
    pos, batch, ptr = unpacked(pos, batch, ptr)
    if pos.dim() != 2 or pos.shape[1] != keypoints.shape[2]:
        raise ValueError(f"`pos` {list(pos.shape)} must be [N, {keypoints.shape[2]}], as `keypoints`")
    B, K, D = keypoints.shape
    size = B if batch is not None else None
    _, ptr, _, rules = resolve_batch(len(pos), pos.device, batch=batch, ptr=ptr, batch_size=size, check=True)
    raise_first(rules)
    if ptr.numel() != B + 1:
        raise ValueError(f"`ptr` ({ptr.numel() - 1} clouds) must have the {B} clouds of `keypoints`")
    with full_precision(pos):
        dtype = working_dtype(keypoints, pos)
        pairs = segment_pairs(K, keypoints.device)
        first, last = (keypoints.to(dtype).index_select(1, end).unsqueeze(2) for end in pairs)
        fraction = torch.linspace(0, 1, num_points, dtype=dtype, device=pos.device).unsqueeze(1)
        places = torch.lerp(first, last, fraction).reshape(-1, D)
        each = num_segments(K) * num_points
        nearest = knn(pos.to(dtype), ptr, 1, places, each * torch.arange(B + 1, device=ptr.device))
        return (nearest.sq_distance.sqrt() <= radius).to(dtype).view(B, -1, num_points).mean(2)


def keypoint_separation(keypoints: Float[Tensor, "B K D"], distance: float, *, reduction: Reduction = "mean") -> Tensor:
    r"""Penalty on keypoints that are closer than a distance to their nearest other one.

    :math:`\frac1K \sum_k \max(0, 1 - \min_{j \ne k} \|y_k - y_j\| / \mathrm{distance})`: from 0 (all apart) to 1 (all
    in one place). Not part of any paper's objective. Differentiable in ``keypoints``, but for those in exactly one
    place, where its gradient is zero.

    Args:
        keypoints: Positions in any unit; K is at least 2.
        distance: Distance to keep, in that unit; positive.
        reduction: ``"mean"`` over clouds, ``"sum"``, or ``"none"`` for ``[B]``.
    """
    if keypoints.dim() != 3 or keypoints.shape[1] < 2:
        raise ValueError(f"`keypoints` {list(keypoints.shape)} must be [B, K, D] with K at least 2")
    check_positive("distance", distance)
    K = keypoints.shape[1]
    squared = (keypoints.unsqueeze(2) - keypoints.unsqueeze(1)).square().sum(-1)
    own = torch.eye(K, dtype=torch.bool, device=keypoints.device)
    nearest = squared.masked_fill(own, math.inf).amin(2)
    # The root's infinite slope at 0 has to be out of the graph.
    zero = nearest == 0
    near = nearest.masked_fill(zero, 1.0).sqrt().masked_fill(zero, 0.0)
    return _reduced((1 - near / distance).clamp(min=0).mean(1), reduction)


def mirror_error(
    keypoints: Float[Tensor, "B K D"],
    center: Float[Tensor, " B"],
    axis: int = 0,
    *,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""How far a set of keypoints is from its own mirror image.

    :math:`\frac1K \sum_k \min_j \|m(y_k) - y_j\|`, m the mirror across the plane ``axis = center``; a keypoint on the
    plane may be its own partner. Not part of any paper's objective. Differentiable in ``keypoints`` and ``center``.

    Args:
        keypoints: Positions in any unit.
        center: Place of each cloud's plane along the axis, in that unit.
        axis: Normal of the plane; KeypointNet's and ShapeNet's left and right are axis 0.
        reduction: ``"mean"`` over clouds, ``"sum"``, or ``"none"`` for ``[B]``.
    """
    if keypoints.dim() != 3 or center.shape != keypoints.shape[:1]:
        raise ValueError(f"`center` {list(center.shape)} must be [B] for `keypoints` {list(keypoints.shape)} [B, K, D]")
    parts = list(keypoints.unbind(2))
    parts[axis] = 2 * center.unsqueeze(1) - parts[axis]
    image = torch.stack(parts, 2)
    squared = (image.unsqueeze(2) - keypoints.unsqueeze(1)).square().sum(-1).amin(2)
    return _reduced((squared + 1e-12).sqrt().mean(1), reduction)


def _reduced(loss: Tensor, reduction: str) -> Tensor:
    check_reduction(reduction)
    return loss if reduction == "none" else loss.sum() if reduction == "sum" else loss.mean()


def _distance(x: Tensor, y: Tensor, epsilon: float) -> Tensor:
    return ((x - y).square().sum(1) + epsilon).sqrt()


class _Pairs(NamedTuple):
    """What is nearest to what, and by how much it counts; nothing here carries a gradient."""

    cloud_row: Tensor  # [M] row of `pos` nearest to each point of a segment
    point_row: Tensor  # [Q] row of `points` nearest to a point of a cloud, on a segment that carries weight for it
    pair_row: Tensor  # [Q] that row of `pos`
    pair_sample: Tensor  # [Q] its number among the B * S samples
    weight: Tensor  # [Q] the weight
    slope: Tensor  # [B, S, P] derivative of the summed coverage in each activation
    missing: Tensor  # [B, S] mean weight that no segment took


@not_compiled  # sizes depend on the values
@torch.no_grad()
def _nearest_pairs(
    points: Tensor,
    bounds: Sequence[int],
    activation: Tensor,
    pos: Tensor,
    cloud_bounds: Sequence[int],
    uncovered: float,
    epsilon: float,
) -> _Pairs:
    B, P = activation.shape
    S = (len(bounds) - 1) // (B * P)
    cloud_row = torch.empty(len(points), dtype=torch.long, device=points.device)
    slopes, missing, pairs = [], [], []
    for b, (low, high) in enumerate(itertools.pairwise(cloud_bounds)):
        own = bounds[b * S * P : (b + 1) * S * P + 1]
        # Around the cloud's middle and axis by axis: no digits are lost, and blocks are contiguous.
        middle = pos[low:high].mean(0)
        cloud = (pos[low:high] - middle).t().contiguous()
        segments = (points[own[0] : own[-1]] - middle).t().contiguous()
        first = [start - own[0] for start in own]
        nearest, squared, place = _search(segments, first, cloud)
        cloud_row[own[0] : own[-1]] = nearest + low

        order, weight, slope, lacking = _take(
            (squared + epsilon).sqrt_().view(S, P, -1).transpose(1, 2).contiguous(), activation[b], uncovered
        )
        slopes.append(slope)
        missing.append(lacking)
        sample, row, rank = (weight > 0).nonzero(as_tuple=True)
        segment = sample * P + order[sample, row, rank]
        begin = torch.tensor(own, device=pos.device).index_select(0, segment)
        pairs.append((begin + place[segment, row].long(), row + low, sample + b * S, weight[sample, row, rank]))
    point_row, pair_row, samples, weights = (torch.cat(column) for column in zip(*pairs, strict=True))
    return _Pairs(cloud_row, point_row, pair_row, samples, weights, torch.stack(slopes), torch.stack(missing))


def _take(distance: Tensor, activation: Tensor, uncovered: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The weights of the segments of one cloud, from their distances ``[S, n, P]``.

    Returns:
        Segments by distance ``[S, n, P]``, their weights in that order, the derivative of the summed coverage in the
        activations ``[S, P]``, and the mean weight that is missing ``[S]``.
    """
    S, _, P = distance.shape
    distance, order = distance.sort(dim=-1, stable=True)
    total = activation[order].cumsum(-1)
    filled = total.clamp(max=1.0)
    weight = filled.diff(dim=-1, prepend=filled.new_zeros(*filled.shape[:2], 1))
    # One more of a nearer segment is one less of the segment that reaches one, or of what is charged.
    full = total >= 1.0
    # The distance of the first that is full, for distances rise; `uncovered` where none is.
    reached = distance.masked_fill(~full, math.inf).amin(-1, keepdim=True)
    reached = torch.where(full[..., -1:], reached, uncovered)
    slope = torch.where(full, 0.0, distance - reached)
    slopes = slope.new_zeros(S, P).scatter_add(1, order.flatten(1), slope.flatten(1))
    return order, weight, slopes, 1 - filled[..., -1].mean(1)


def _search(segments: Tensor, first: Sequence[int], cloud: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Nearest point of a cloud ``[D, n]`` for each point of the segments ``[D, m]``, and the reverse by segment.

    Returns:
        Rows ``[m]``; for each segment and point of the cloud, ``[segments, n]``, the squared distance and the place
        along the segment (whole numbers in floating point) of what is nearest.
    """
    D, n = cloud.shape
    limit = _TILE_GPU if cloud.is_cuda else _TILE_CPU
    nearest = torch.empty(segments.shape[1], dtype=torch.long, device=cloud.device)
    squared = cloud.new_empty(len(first) - 1, n)
    places = torch.empty_like(squared)
    # Any difference between two distances, times this, is more than a place.
    huge = torch.finfo(cloud.dtype).max / 1024
    columns = min(n, max(1, limit // max(b - a for a, b in itertools.pairwise(first))))

    def search(chosen: Tensor, place: Tensor, width: int) -> None:
        rows = (torch.tensor(first)[chosen, None] + place).flatten().to(cloud.device)
        chosen, place = chosen.to(cloud.device), place.to(cloud.device, cloud.dtype).unsqueeze(2)
        x = segments.index_select(1, rows)
        buffers = cloud.new_empty(2, len(rows) * columns)
        for start in range(0, n, columns):
            here = slice(start, start + columns)
            y = cloud[:, here]
            shape = (len(rows), y.shape[1])
            distance, difference = (buffer[: math.prod(shape)].view(shape) for buffer in buffers)
            torch.sub(x[0].unsqueeze(1), y[0], out=distance).square_()
            for axis in range(1, D):
                torch.sub(x[axis].unsqueeze(1), y[axis], out=difference)
                distance.addcmul_(difference, difference)
            # On a CPU PyTorch's own takes ten times NumPy's time.
            best = distance.argmin(1) if distance.is_cuda else torch.from_numpy(distance.numpy().argmin(1))
            value = distance.gather(1, best.unsqueeze(1)).squeeze(1)
            if start == 0:
                least, index = value, best
            else:
                index = torch.where(value < least, best + start, index)
                least = torch.minimum(least, value)
            block = distance.view(len(chosen), width, -1)
            smallest = block.amin(1)
            squared[chosen, here] = smallest
            # The first place at which the difference is zero, by minima that use the vector units: PyTorch's and
            # NumPy's argmin along this axis take many times as long.
            places[chosen, here] = block.sub_(smallest.unsqueeze(1)).mul_(huge).add_(place).amin(1)
        nearest[rows] = index

    with one_thread(cloud.device) as threads:
        for _ in in_order((partial(search, *tile) for tile in tiles_of_lengths(first, limit // columns)), threads):
            pass
    return nearest, squared, places
