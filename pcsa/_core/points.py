"""Every accepted form of input (one cloud, ragged, dense with a mask) in one canonical form, checked once."""

import functools
import math
import numbers
import warnings
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pcsa._core.checks import (
    Rule,
    check_count,
    check_floating,
    check_mask,
    check_positive,
    check_tensor,
    finite,
    raise_first,
    reads_values,
)
from pcsa._core.data import Cloud, unpacked
from pcsa._core.tiles import one_thread
from pcsa._core.triton import clouds, origins
from pcsa._core.triton.equal import equal_clouds

# Extents of a cloud between its middle and the origin from which on it is far away.
_FAR = 4.0
# Points of a cloud above which float32 sums, one number after the other, lose a digit that matters.
_MANY = 1 << 18
# Of a score less the largest: far below, a point has no probability at any temperature.
_LOWEST = -1e18
# The square must be a number, and so must sums of it.
_LARGEST_BANDWIDTH = {torch.float32: 1e18, torch.float64: 1e153}


class Points(NamedTuple):
    """Clouds laid end to end: cloud ``b`` owns rows ``ptr[b]:ptr[b + 1]``."""

    logits: Tensor  # [N, K]; -inf where a dense mask switches a row off, or the caller a point of a keypoint
    pos: Tensor  # [N, D] less the cloud's origin; 0 at rows that are switched off
    bandwidth: Tensor | None  # [N, 1], [N, D] or lower-triangular [N, D, D]; 1 at rows that are switched off
    batch: Tensor  # [N] int64, sorted
    ptr: Tensor  # [B + 1] int64
    batch_size: int
    dense_size: int | None  # points per cloud where all clouds have the same number by construction
    origin: Tensor | None = None  # [B, D]; None: 0

    def within(self, places: Tensor) -> Tensor:
        """From the frame of the caller to that of ``pos``: places ``[B, ..., D]``."""
        return places if self.origin is None else places - self._origin(places)

    def outside(self, places: Tensor) -> Tensor:
        """From the frame of ``pos`` to that of the caller: places ``[B, ..., D]``."""
        return places if self.origin is None else places + self._origin(places)

    def _origin(self, places: Tensor) -> Tensor:
        assert self.origin is not None
        return self.origin.view(self.origin.shape[0], *[1] * (places.dim() - 2), -1)


def canonical(
    logits: Tensor,
    pos: Tensor | Cloud,
    bandwidth: float | Tensor | None = None,
    batch: Tensor | None = None,
    *,
    ptr: Tensor | None = None,
    mask: Tensor | None = None,
    batch_size: int | None = None,
    validate: bool = True,
    near: bool = False,
) -> Points:
    """Check and flatten what a public function was given.

    With ``near``, for sums of products with positions, see :func:`far_origin`.

    Rules on shapes and types always hold. Rules on values (finite, sorted, positive, no empty cloud) are read
    back from the device in one piece, and only where ``validate`` is true and nothing is being compiled.
    """
    pos, batch, ptr = unpacked(pos, batch, ptr)
    check_floating("logits", logits)
    check_floating("pos", pos)
    # Divided among threads, a dozen operations of microseconds wait a dozen times for one that is not running.
    with nullcontext() if torch.compiler.is_compiling() else one_thread(logits.device):
        return _canonical(logits, pos, bandwidth, batch, ptr, mask, batch_size, validate, near)


def _canonical(
    logits: Tensor,
    pos: Tensor,
    bandwidth: float | Tensor | None,
    batch: Tensor | None,
    ptr: Tensor | None,
    mask: Tensor | None,
    batch_size: int | None,
    validate: bool,
    near: bool,
) -> Points:
    dtype = working_dtype(logits, pos)
    device = logits.device
    if pos.device != device:
        raise ValueError(f"`pos` (on {pos.device}) must be on the device of `logits` ({device})")
    if logits.dim() == 3:
        if batch is not None or ptr is not None:
            raise ValueError("`batch` and `ptr` are for ragged `logits` [N, K]; dense `logits` [B, N, K] take `mask`")
        if pos.dim() != 3 or pos.shape[:2] != logits.shape[:2]:
            raise ValueError(
                f"`pos` {list(pos.shape)} must be [B, N, D] with the B and N of dense `logits` {list(logits.shape)}"
            )
        dense_size: int | None = logits.shape[1]
        num_clouds = logits.shape[0]
        if mask is not None:
            check_mask("mask", mask, logits.shape[:2])
        if batch_size is not None and batch_size != num_clouds:
            raise ValueError(f"`batch_size` (={batch_size}) must be the {num_clouds} clouds of dense `logits`")
    elif logits.dim() == 2:
        if mask is not None:
            raise ValueError(f"`mask` is for dense `logits` [B, N, K]; ragged `logits` {list(logits.shape)} have none")
        if pos.dim() != 2 or pos.shape[0] != logits.shape[0]:
            raise ValueError(f"`pos` {list(pos.shape)} must be [N, D] with the N of `logits` {list(logits.shape)}")
        dense_size = None
    else:
        raise ValueError(f"`logits` {list(logits.shape)} must be ragged [N, K] or dense [B, N, K]")
    for name, size in (("points", logits.shape[-2]), ("keypoints (columns)", logits.shape[-1])):
        if size == 0:
            raise ValueError(f"`logits` {list(logits.shape)} must have at least one of its {name}")
    if pos.shape[-1] == 0:
        raise ValueError(f"`pos` {list(pos.shape)} must have at least one coordinate")

    rules: list[Rule] = []
    check = reads_values(validate)
    if check:
        _check_order(logits, pos, bandwidth)
    if dense_size is not None:
        if num_clouds == 0:
            raise ValueError(f"`logits` {list(logits.shape)} must have at least one cloud")
        batch, ptr = equal_clouds(num_clouds, dense_size, logits)
    else:
        batch, ptr, num_clouds, rules = resolve_batch(
            logits.shape[0], device, batch=batch, ptr=ptr, batch_size=batch_size, check=check
        )
        if isinstance(num_clouds, int) and num_clouds == 1:  # not where it is exported for any number
            dense_size = logits.shape[0]

    spread = None if bandwidth is None else _bandwidth_rows(bandwidth, pos, dtype)
    logits = logits.to(dtype).reshape(-1, logits.shape[-1])
    pos = pos.to(dtype).reshape(-1, pos.shape[-1])
    off = None
    if mask is not None:
        off = ~mask.reshape(-1, 1)
        logits, pos = logits.masked_fill(off, 0.0), pos.masked_fill(off, 0.0)
        if spread is not None:
            spread = spread.masked_fill(off, 1.0) if spread.dim() == 2 else _identity_where(off, spread)
        rules.append((mask.any(1).all(), "`mask` must keep at least one point of every cloud: found an empty cloud"))
    if check:
        rules += [(logits.isfinite().all(), partial(_bad_scores, logits, off, batch, num_clouds)), finite("pos", pos)]
        if isinstance(bandwidth, Tensor) and spread is not None:
            if spread.dim() == 3:
                good = (
                    (spread.diagonal(dim1=1, dim2=2) > 0).all() & spread.isfinite().all() & (spread.triu(1) == 0).all()
                )
                rule = "`bandwidth` of matrices must be finite and lower-triangular with a positive diagonal everywhere"
                rules.append((good, rule))
            else:
                good = (spread > 0) & spread.isfinite()
                rules.append((good.all(), "`bandwidth` must be positive and finite everywhere"))
            most = _LARGEST_BANDWIDTH[dtype]
            rules.append(((spread <= most).all(), f"`bandwidth` must be at most {most:g} everywhere, for its square"))
        raise_first(rules)
    origin = None
    if near and off is None and origins.takes(pos):
        origin, moved = origins.moved(pos, ptr, _FAR)
        by_hand = pos.requires_grad and torch.is_grad_enabled()
        pos = pos - origin.index_select(0, batch) if by_hand else moved
    elif near:
        origin = far_origin(pos, batch, num_clouds, dense_size, off)
        pos = pos - origin.index_select(0, batch)
        pos = pos if off is None else pos.masked_fill(off, 0.0)
    if off is not None:
        logits = logits.masked_fill(off, -math.inf)
    return Points(logits, pos, spread, batch, ptr, num_clouds, dense_size, origin)


def _check_order(logits: Tensor, pos: Tensor, bandwidth: float | Tensor | None) -> None:
    """Warn where scores and positions look as if they were given in each other's place.

    Scores of two or three columns beside positions of more than three are more likely positions and scores, unless a
    network made them, or the bandwidth is that of such positions. They may be right, as in the evaluation of such a
    network: they are not refused.
    """
    K, D = logits.shape[-1], pos.shape[-1]
    of_pos = isinstance(bandwidth, Tensor) and bandwidth.shape[: pos.dim()] == pos.shape
    if 1 < K <= 3 < D and not logits.requires_grad and not of_pos:
        warnings.warn(
            f"`logits` {list(logits.shape)} must have a column for each keypoint and `pos` {list(pos.shape)} one for "
            "each axis: they look swapped. They are taken as they are; with `validate=False` nothing is said of it",
            stacklevel=5,
        )


def _bad_scores(logits: Tensor, off: Tensor | None, batch: Tensor, num_clouds: int) -> str | None:
    """What is wrong with scores that are not all finite: nothing, if they only leave points of a keypoint out."""
    logits = logits.detach() if off is None else logits.detach().masked_fill(off, -math.inf)
    index = batch.unsqueeze(1).expand_as(logits)
    # NaN is the maximum where there is one.
    top = logits.new_full((num_clouds, logits.shape[1]), -math.inf).scatter_reduce(0, index, logits, "amax")
    if not bool((top < math.inf).all()):
        return "`logits` must be finite, or -inf where a point is not for a keypoint: NaN or infinite values found"
    if bool((top == -math.inf).any()):
        return "`logits` must be finite at a point of each cloud for every keypoint: a map of -inf alone found"
    return None


def resolve_batch(
    num_points: int,
    device: torch.device,
    *,
    batch: Tensor | None,
    ptr: Tensor | None,
    batch_size: int | None,
    check: bool,
) -> tuple[Tensor, Tensor, int, list[Rule]]:
    """Return ``batch`` [N], ``ptr`` [B + 1] and B from whatever was given, and the value rules still to be read."""
    rules: list[Rule] = []
    batch_given = batch is not None
    if batch is not None and ptr is not None:
        raise ValueError("`batch` and `ptr` say the same thing: give one of them")
    if batch_size is not None:
        check_count("batch_size", batch_size)
    for name, index in (("batch", batch), ("ptr", ptr)):
        if index is None:
            continue
        check_tensor(name, index)
        if index.dim() != 1 or index.dtype not in (torch.int64, torch.int32):
            raise ValueError(f"`{name}` {list(index.shape)} ({index.dtype}) must be a vector of int64")
        if index.device != device:
            raise ValueError(f"`{name}` (on {index.device}) must be on the device of the points ({device})")
    if batch is not None:
        if batch.numel() != num_points:
            raise ValueError(f"`batch` (length {batch.numel()}) must have an entry for each of the {num_points} points")
        batch = batch.long()
        if batch_size is None:
            batch_size = int(batch[-1]) + 1 if num_points else 1
            if batch_size < 1:
                raise ValueError(f"`batch` (ends in {batch_size - 1}) must hold cloud numbers from 0 on")
        ptr = torch.searchsorted(batch, torch.arange(batch_size + 1, device=device))
        if check:
            rules.append(((batch[1:] >= batch[:-1]).all(), "`batch` must be sorted: clouds are contiguous"))
            inside = ((batch >= 0) & (batch < batch_size)).all()
            rules.append((inside, f"`batch` must hold cloud numbers from 0 to `batch_size` - 1 (={batch_size - 1})"))
    elif ptr is not None:
        if ptr.numel() < 2:
            raise ValueError(f"`ptr` (length {ptr.numel()}) must have an entry more than there are clouds")
        if batch_size is not None and batch_size != ptr.numel() - 1:
            raise ValueError(f"`batch_size` (={batch_size}) must be the {ptr.numel() - 1} clouds of `ptr`")
        ptr, batch_size = ptr.long(), ptr.numel() - 1
        if check:
            ends = (ptr[0] == 0) & (ptr[-1] == num_points)
            rules.append((ends, f"`ptr` must begin with 0 and end with the number of points (={num_points})"))
            rules.append(((ptr[1:] >= ptr[:-1]).all(), "`ptr` must not decrease"))
        batch = owners(ptr, num_points)
    else:
        batch_size = batch_size or 1
        if batch_size != 1:
            raise ValueError(f"`batch_size` (={batch_size}) needs `batch` or `ptr` to say which point is whose")
        batch = torch.zeros(num_points, dtype=torch.int64, device=device)
        ptr = torch.tensor([0, num_points], device=device)
    if check:
        given = "batch" if batch_given else "ptr"
        rules.append(((ptr[1:] > ptr[:-1]).all(), f"`{given}` must give every cloud a point: found an empty cloud"))
    return batch, ptr, batch_size, rules


@torch.no_grad()
def far_origin(pos: Tensor, batch: Tensor, num_clouds: int, dense_size: int | None, off: Tensor | None) -> Tensor:
    """What to subtract from the positions of each cloud ``[B, D]``: 0, unless it lies far from the origin.

    A sum of products with positions is off by their rounding, which far away may be more than the cloud's extent; less
    the middle of the cloud's bounding box, they are as exact as they were given. That changes the last digit of any
    cloud's sums, so that a cloud is moved only along the axes on which it lies more than ``_FAR`` times its extent
    away: there the difference is exact, and points in different places stay apart. Nothing waits for the device.
    """
    # One reduction for both ends: launches cost more than numbers.
    ends = torch.cat([-pos, pos], 1)
    if off is not None:
        ends = ends.masked_fill(off, -math.inf)
    if dense_size is not None:
        ends = ends.view(num_clouds, dense_size, -1).amax(1)
    else:
        index = batch.unsqueeze(1).expand_as(ends)
        ends = ends.new_full((num_clouds, ends.shape[1]), -math.inf).scatter_reduce(0, index, ends, "amax")
    low, high = ends.chunk(2, 1)  # the lower end with its sign turned
    # Halved before the sum, which may be too large.
    middle = torch.sub(high / 2, low, alpha=0.5)
    return torch.where(middle.abs() > _FAR * (high + low), middle, 0.0)


def owners(ptr: Tensor, num_points: int) -> Tensor:
    """Cloud of each point ``[N]``."""
    if clouds.owns(ptr, num_points):
        return clouds.owners(ptr, num_points)
    return torch.searchsorted(ptr, torch.arange(num_points, device=ptr.device), right=True) - 1


def bandwidth_of(points: Points) -> Tensor:
    """Return the bandwidths, for a function that cannot do without."""
    if points.bandwidth is None:
        raise ValueError("`bandwidth` (=None) must be a number or a tensor")
    return points.bandwidth


def full_precision(x: Tensor) -> AbstractContextManager[Any]:
    """Context without autocast on the device of ``x``: positions do not survive half precision."""
    if x.is_cuda and not torch.compiler.is_compiling() and not torch.is_autocast_enabled("cuda"):
        return nullcontext()  # to switch off what is off takes as long as a launch
    return torch.autocast(x.device.type, enabled=False)


def _loses_digits(x: Tensor, points: Points) -> bool:
    """Whether sums over clouds of this size, which a CPU takes one by one, are better in float64 than in float32."""
    size = x.shape[0]
    if isinstance(size, torch.SymInt):  # exported for clouds of any size
        return False
    return x.device.type == "cpu" and x.dtype == torch.float32 and size > _MANY * points.batch_size


def cloud_sum(x: Tensor, points: Points) -> Tensor:
    """Sum over the points of each cloud, ``[N, ...]`` to ``[B, ...]``."""
    if _loses_digits(x, points):
        return cloud_sum(x.double(), points).to(x.dtype)
    if points.dense_size is not None:
        return x.view(points.batch_size, points.dense_size, *x.shape[1:]).sum(1)
    index = points.batch.view(-1, *[1] * (x.dim() - 1)).expand_as(x)
    return x.new_zeros(points.batch_size, *x.shape[1:]).scatter_add(0, index, x)


def cloud_max(x: Tensor, points: Points) -> Tensor:
    """Maximum over the points of each cloud, ``[N, ...]`` to ``[B, ...]``; -inf for a cloud without points."""
    if clouds.takes(x):
        return clouds.maximum(x, points.ptr)
    if points.dense_size is not None:
        return x.view(points.batch_size, points.dense_size, *x.shape[1:]).amax(1)
    index = points.batch.view(-1, *[1] * (x.dim() - 1)).expand_as(x)
    return x.new_full((points.batch_size, *x.shape[1:]), -math.inf).scatter_reduce(0, index, x, "amax")


def tempered(points: Points, temperature: float | Tensor) -> Tensor:
    """Logits minus their cloud's maximum, over the temperature: a small one cannot overflow large logits."""
    largest = cloud_max(points.logits.detach(), points)
    lower = points.logits - largest.index_select(0, points.batch)
    if isinstance(temperature, Tensor) and temperature.requires_grad:
        return over_learned(lower, temperature)
    return lower / temperature


def over_learned(lower: Tensor, temperature: Tensor) -> Tensor:
    """Logits of which the largest is 0 over a temperature that needs a gradient."""
    # The slope of -inf over the temperature is infinite, and times 0 it is NaN; so it is where the quotient overflows.
    off = lower == -math.inf
    return (lower.clamp_min(_LOWEST) / temperature).masked_fill(off, -math.inf)


def times_temperature(points: Points, temperature: float | Tensor) -> Tensor:
    """Logits times the temperature, where -inf stays what it is."""
    off = points.logits == -math.inf
    return (points.logits.masked_fill(off, 0.0) * temperature).masked_fill(off, -math.inf)


def cloud_log_softmax(logits: Tensor, points: Points) -> Tensor:
    """Logarithm of the softmax over the points of each cloud, ``[N, K]``; -inf at rows switched off."""
    if _loses_digits(logits, points):
        return cloud_log_softmax(logits.double(), points).to(logits.dtype)
    if points.dense_size is not None:
        dense = logits.view(points.batch_size, points.dense_size, *logits.shape[1:])
        return dense.log_softmax(1).view_as(logits)
    shifted = logits - cloud_max(logits.detach(), points).index_select(0, points.batch)
    return shifted - cloud_sum(shifted.exp(), points).log().index_select(0, points.batch)


def cloud_logsumexp(x: Tensor, points: Points) -> Tensor:
    """Logarithm of the sum of the exponentials over the points of each cloud, ``[N, K]`` to ``[B, K]``."""
    top = cloud_max(x.detach(), points)
    return cloud_sum((x - top.index_select(0, points.batch)).exp(), points).log() + top


def cloud_softmax(logits: Tensor, points: Points) -> Tensor:
    """Softmax over the points of each cloud, ``[N, K]``; 0 at rows switched off."""
    if _loses_digits(logits, points):
        return cloud_softmax(logits.double(), points).to(logits.dtype)
    if points.dense_size is not None:
        dense = logits.view(points.batch_size, points.dense_size, *logits.shape[1:])
        return dense.softmax(1).view_as(logits)
    weight = (logits - cloud_max(logits.detach(), points).index_select(0, points.batch)).exp()
    return weight / cloud_sum(weight, points).index_select(0, points.batch)


def first_maximum(score: Tensor, points: Points) -> Tensor:
    """Row of the largest score of each cloud and keypoint, [B, K]: the first of equals, any row for an empty cloud."""
    if clouds.takes(score):
        return clouds.first_maximum(score, points.ptr)
    last = score.shape[0] - 1
    rows = torch.arange(score.shape[0], device=score.device)[:, None].expand_as(score)
    largest = cloud_max(score, points).index_select(0, points.batch)
    # The first of the largest: the maximum of the negated rows.
    first = torch.where(score == largest, -rows, -last)
    index = points.batch[:, None].expand_as(first)
    out = first.new_full((points.batch_size, score.shape[1]), -last)
    return -out.scatter_reduce(0, index, first, "amax")


def cloud_mean(weight: Tensor, value: Tensor, points: Points) -> Tensor:
    """Weighted sum of per-point values, ``[N, K]`` and ``[N, D]`` to ``[B, K, D]``."""
    if _loses_digits(weight, points):
        return cloud_mean(weight.double(), value.double(), points).to(weight.dtype)
    if points.dense_size is not None:
        shape = (points.batch_size, points.dense_size, -1)
        return weight.view(shape).transpose(1, 2) @ value.view(shape)
    # One axis at a time: D is small, and [N, K, D] would be the largest tensor of all.
    return torch.stack([cloud_sum(weight * value[:, d : d + 1], points) for d in range(value.shape[1])], -1)


def working_dtype(*tensors: Tensor) -> torch.dtype:
    """Type to compute in: the widest of the tensors', but at least float32."""
    return functools.reduce(torch.promote_types, (x.dtype for x in tensors), torch.float32)


def _bandwidth_rows(bandwidth: float | Tensor, pos: Tensor, dtype: torch.dtype) -> Tensor:
    if not isinstance(bandwidth, Tensor):
        if not isinstance(bandwidth, numbers.Real):
            raise ValueError(f"`bandwidth` ({type(bandwidth).__name__}) must be a number or a tensor")
        check_positive("bandwidth", bandwidth)
        if float(bandwidth) > _LARGEST_BANDWIDTH[dtype]:  # NumPy's would have to hold the bound
            raise ValueError(
                f"`bandwidth` (={bandwidth}) must be at most {_LARGEST_BANDWIDTH[dtype]:g}, for its square"
            )
        return pos.new_full((math.prod(pos.shape[:-1]), 1), bandwidth, dtype=dtype)
    check_floating("bandwidth", bandwidth)
    if bandwidth.device != pos.device:
        raise ValueError(f"`bandwidth` (on {bandwidth.device}) must be on the device of `pos` ({pos.device})")
    if bandwidth.dim() == 0:
        return bandwidth.to(dtype).expand(math.prod(pos.shape[:-1]), 1)
    if bandwidth.shape == pos.shape[:-1]:
        return bandwidth.to(dtype).reshape(-1, 1)
    if bandwidth.shape == pos.shape:
        return bandwidth.to(dtype).reshape(-1, pos.shape[-1])
    if bandwidth.shape == (*pos.shape, pos.shape[-1]):
        return bandwidth.to(dtype).reshape(-1, *bandwidth.shape[-2:])
    raise ValueError(
        f"`bandwidth` {list(bandwidth.shape)} must be a number, {list(pos.shape[:-1])}, {list(pos.shape)} or "
        f"{[*pos.shape, pos.shape[-1]]} as `pos` {list(pos.shape)} has it"
    )


def _identity_where(off: Tensor, factor: Tensor) -> Tensor:
    one = torch.eye(factor.shape[-1], dtype=factor.dtype, device=factor.device)
    return torch.where(off.unsqueeze(-1), one, factor)
