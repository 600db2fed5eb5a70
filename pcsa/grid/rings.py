"""Axes that close to a ring: means are directions, and what leaves at one end comes in at the other."""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from pcsa.grid.maps import cells

_AXES = "xyz"


def rings_of(periodic: Iterable[str], shape: tuple[int, ...]) -> list[bool]:
    """Check the names of the axes that close to a ring, and say of every axis whether it does, x first."""
    names = list(periodic)
    for name in names:
        if name not in tuple(_AXES[: len(shape)]):
            raise ValueError(f"`periodic` (={name!r}) must name axes out of {', '.join(_AXES[: len(shape)])}")
    return [axis in names for axis in _AXES[: len(shape)]]


def axis_means(marginals: list[Tensor], around: list[bool]) -> Tensor:
    """Mean of every axis's marginal ``[..., n]`` in index units, ``[..., D]``, x first."""
    out = []
    for m, ring in zip(marginals, around, strict=True):
        shape = m.shape[-1:]
        # Not a matrix product, whose backward pass would be in half precision inside an autocast region.
        columns = embedded(shape, [ring], m.dtype, m.device).unbind(-1)
        out.append(unembedded(torch.stack([(m * column).sum(-1) for column in columns], -1), shape, [ring]))
    return torch.cat(out, -1)


def embedded(shape: Sequence[int], around: list[bool], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Cells in coordinates whose expectation means something: an index, or cosine and sine on a ring."""
    columns: list[Tensor] = []
    for index, n, ring in zip(cells(shape, dtype=dtype, device=device).unbind(-1), shape[::-1], around, strict=True):
        if ring:
            angle = index * (2 * math.pi / n)
            columns += [angle.cos(), angle.sin()]
        else:
            columns.append(index)
    return torch.stack(columns, -1)


def unembedded(mean: Tensor, shape: Sequence[int], around: list[bool]) -> Tensor:
    """Index units from expectations of the columns of :func:`embedded`."""
    columns, out = iter(mean.unbind(-1)), []
    for n, ring in zip(shape[::-1], around, strict=True):
        if not ring:
            out.append(next(columns))
            continue
        cos, sin = next(columns), next(columns)
        # Rounding alone would give a flat map some direction, and a gradient of 1 / rounding.
        known = cos.square() + sin.square() > (8 * torch.finfo(mean.dtype).eps) ** 2
        angle = torch.atan2(torch.where(known, sin, 0.0), torch.where(known, cos, 1.0))
        out.append(_from_minus_half(angle * (n / (2 * math.pi)), n))
    return torch.stack(out, -1)


def onto_ring(index: Tensor, shape: Sequence[int], around: list[bool]) -> Tensor:
    """Bring what left a ring at one end back at the other."""
    if not any(around):
        return index
    axes = zip(index.unbind(-1), shape[::-1], around, strict=True)
    return torch.stack([_from_minus_half(x, n) if ring else x for x, n, ring in axes], -1)


def _from_minus_half(index: Tensor, n: int) -> Tensor:
    return torch.remainder(index + 0.5, n) - 0.5


def wrapped(difference: Tensor, n: int) -> Tensor:
    """The shorter way round."""
    return torch.remainder(difference + n / 2, n) - n / 2
