"""Distances between the points of a cloud and positions of its keypoints, axis by axis."""

import functools
from collections.abc import Iterable, Iterator
from typing import get_args

import torch
from torch import Tensor

from pcsa._core.checks import check_one_of, check_positive
from pcsa._core.points import Points, bandwidth_of, cloud_mean, full_precision
from pcsa._core.triangular import axis_deviations
from pcsa.losses.arguments import Norm


def distance(offsets: Iterable[Tensor], norm: str, sigma: float | None = None) -> Tensor:
    """Length of a vector given axis by axis, ``sigma`` that of the bounded one; raise unless ``norm`` is known."""
    check_one_of("norm", norm, get_args(Norm))
    if norm == "bounded":
        width = bounded_width(sigma)
        # Divided before the square: that of a tiny width would be 0.
        return -torch.expm1(functools.reduce(torch.add, ((x / width).square() for x in offsets)) / -2)
    total = functools.reduce(torch.add, (x.abs() if norm == "l1" else x.square() for x in offsets))
    if norm != "l2":
        return total
    # The square root's infinite slope at 0 has to be out of the graph before it meets a zero gradient.
    zero = total == 0
    return total.masked_fill(zero, 1.0).sqrt().masked_fill(zero, 0.0)


def bounded_width(sigma: float | None) -> float:
    """Return the width of the bounded error; raise where there is none."""
    if sigma is None:
        raise ValueError("`sigma` (=None) must be given for `norm` (='bounded')")
    check_positive("sigma", sigma)
    return sigma


def offsets(points: Points, center: Tensor) -> Iterator[Tensor]:
    """``pos`` minus each cloud's center ``[B, K, D]`` in its frame, one ``[N, K]`` per axis at a time."""
    for y, c in zip(points.pos.unbind(1), center.unbind(2), strict=True):
        yield y.unsqueeze(1) - c.index_select(0, points.batch)


def offsets_and_bandwidths(points: Points, center: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """:func:`offsets`, each with the standard deviation along its axis ``[N, 1]``."""
    deviation = axis_deviations(bandwidth_of(points)).expand_as(points.pos)
    return zip(offsets(points, center), deviation.split(1, dim=1), strict=True)


def whitened(offsets: Iterable[Tensor], factor: Tensor, limit: float) -> Iterator[tuple[Tensor, Tensor]]:
    """Solve A z = offset, axis by axis: z_d ``[N, K]``, at most ``limit`` in size, with the scale it had ``[N, 1]``.

    Args:
        offsets: One ``[N, K]`` for each axis.
        factor: Standard deviations along the axes ``[N, D]``, or lower-triangular A ``[N, D, D]``.
        limit: By dividing by more: no infinity forward or backward.

    """
    scales = factor if factor.dim() == 2 else factor.diagonal(dim1=1, dim2=2)
    found: list[Tensor] = []
    for d, (offset, scale) in enumerate(zip(offsets, scales.split(1, dim=1), strict=True)):
        rest = offset
        for e, z in enumerate(found if factor.dim() == 3 else ()):
            rest = rest - factor[:, d, e, None] * z
        found.append(standardized(rest, scale, limit))
        yield found[-1], scale


def standardized(offset: Tensor, sigma: Tensor, limit: float) -> Tensor:
    """``offset / sigma``, at most ``limit`` in size, by dividing by more: no infinity forward or backward."""
    return offset / torch.maximum(sigma, offset.detach().abs() / limit)


def expectation(prob: Tensor, points: Points) -> Tensor:
    """Mean position of each map, ``[B, K, D]``, in the frame of ``points.pos``."""
    # A matrix product: the one operation here that autocast would round to 16 bits.
    with full_precision(prob):
        return cloud_mean(prob, points.pos, points)
