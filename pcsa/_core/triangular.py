"""Lower-triangular factors of covariances: D is small, so all is written out axis by axis, without a linear solver.

A bandwidth ``[N, D, D]`` holds a factor A of each point's covariance A A'. Symmetric and triangular matrices are also
kept as columns, ``[..., D (D + 1) / 2]``: the entries of the lower triangle, row after row.
"""

import functools
import math

import torch
from torch import Tensor


def lower_entries(dim: int) -> list[tuple[int, int]]:
    """Rows and columns of the entries of a lower triangle, in their order."""
    return [(d, e) for d in range(dim) for e in range(d + 1)]


def num_axes(columns: int) -> int:
    """D of so many columns."""
    return (math.isqrt(8 * columns + 1) - 1) // 2


def lower_columns(factor: Tensor) -> Tensor:
    """Columns of matrices ``[N, D, D]``: of their lower triangles."""
    return torch.stack([factor[:, d, e] for d, e in lower_entries(factor.shape[-1])], 1)


def lower_matrix(columns: Tensor) -> Tensor:
    """Triangular matrices ``[..., D, D]`` of their columns."""
    D, zero = num_axes(columns.shape[-1]), torch.zeros_like(columns[..., 0])
    parts = dict(zip(lower_entries(D), columns.unbind(-1), strict=True))
    rows = [torch.stack([parts.get((d, e), zero) for e in range(D)], -1) for d in range(D)]
    return torch.stack(rows, -2)


def covariance_columns(factor: Tensor, plus: float = 0.0) -> Tensor:
    """Columns of the covariances A A', with ``plus`` on their diagonals, of factors A ``[N, D, D]``."""
    columns = []
    for d, e in lower_entries(factor.shape[-1]):
        entry = (factor[:, d, : e + 1] * factor[:, e, : e + 1]).sum(1)
        columns.append(entry + plus if d == e and plus else entry)
    return torch.stack(columns, 1)


def axis_deviations(bandwidth: Tensor) -> Tensor:
    """Standard deviation along each axis ``[N, D]`` of factors ``[N, D, D]``; other bandwidths as they are."""
    if bandwidth.dim() == 2:
        return bandwidth
    # By hypot: squares of tiny bandwidths are 0. The diagonal comes first, for hypot has no slope at (0, 0).
    rows = [
        functools.reduce(torch.hypot, [bandwidth[:, d, d], *(bandwidth[:, d, e] for e in range(d))])
        for d in range(bandwidth.shape[-1])
    ]
    return torch.stack(rows, 1)


def lower_times(columns: Tensor, vector: Tensor) -> Tensor:
    """A v of triangular matrices, as columns, and vectors ``[..., D]``."""
    out = [torch.zeros_like(vector[..., 0]) for _ in range(vector.shape[-1])]
    for column, (d, e) in enumerate(lower_entries(vector.shape[-1])):
        out[d] = out[d] + columns[..., column] * vector[..., e]
    return torch.stack(out, -1)


def cholesky(columns: Tensor) -> Tensor:
    """Lower-triangular factors, as columns, of covariances, as columns.

    Nothing is NaN: what a rank that is not full, or rounding, leaves without variance has none, and no gradient.
    """
    found: dict[tuple[int, int], Tensor] = {}
    parts = dict(zip(lower_entries(num_axes(columns.shape[-1])), columns.unbind(-1), strict=True))
    least = 4 * torch.finfo(columns.dtype).eps
    for (d, e), entry in parts.items():
        rest = entry
        for c in range(e):
            rest = rest - found[d, c] * found[e, c]
        if d == e:
            # A slope of the root at 0 would be infinite.
            there = rest > least * entry
            found[d, d] = torch.where(there, torch.where(there, rest, 1.0).sqrt(), 0.0)
        else:
            there = found[e, e] > 0
            found[d, e] = torch.where(there, rest / torch.where(there, found[e, e], 1.0), 0.0)
    return torch.stack(list(found.values()), -1)
