"""Frames that turn with their cloud: its principal axes, in every choice of directions that is a rotation."""

from __future__ import annotations

import torch
from torch import Tensor

from pcsa._core.points import Points, cloud_sum

# The off-diagonal entries of a matrix 3x3 fall to rounding within four sweeps, quadratically from the second on.
_SWEEPS = 6


@torch.no_grad()
def principal_frames(pos: Tensor, batch: Tensor, ptr: Tensor, up: int | None = None) -> Tensor:
    """Rotations ``[B, F, 3, 3]`` to the frames of each cloud: ``pos @ frame`` are its points in one of them.

    The columns of a frame are the cloud's principal axes, that of the largest variance first. An axis has two
    directions: F = 4 are the choices that are rotations, for no rotation mirrors. With ``up``, the axis that points up,
    clouds turn about it alone: of the others, the first has the larger variance, and F = 2.

    A cloud that is turned has the same four clouds in its frames, to rounding. Where two variances are nearly equal,
    little changes of the points may turn the frames by any angle in the plane of their axes.

    Args:
        pos: ``[N, 3]``, finite.
        batch: Cloud of each point, sorted.
        ptr: Where each cloud begins, then N.
        up: 0, 1 or 2; None where clouds lie in any way.
    """
    p = pos.detach().double()
    clouds = Points(p, p, None, batch, ptr, ptr.numel() - 1, None)
    count = ptr.diff().unsqueeze(1)
    away = p - (cloud_sum(p, clouds) / count).index_select(0, batch)
    products = (away.unsqueeze(2) * away.unsqueeze(1)).flatten(1)
    second = (cloud_sum(products, clouds) / count).view(-1, 3, 3)
    # The rotations below are the same for all sizes, but squares of small ones are 0.
    largest = second.diagonal(dim1=1, dim2=2).amax(1)[:, None, None]
    second = second / torch.where(largest > 0, largest, 1.0)
    if up is None:
        axes, variance = diagonalized(second, ((0, 1), (0, 2), (1, 2)) * _SWEEPS)
        order = variance.argsort(dim=1, descending=True, stable=True)
        axes = axes.gather(2, order.unsqueeze(1).expand(-1, 3, -1))
        # The order may be that of a mirror image.
        axes = torch.cat([axes[:, :, :2], torch.linalg.cross(axes[:, :, 0], axes[:, :, 1]).unsqueeze(2)], 2)
        signs = [(1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1)]
    else:
        a, b = (up + 1) % 3, (up + 2) % 3
        axes, variance = diagonalized(second, ((a, b),))
        exchanged = axes.clone()
        exchanged[:, :, a], exchanged[:, :, b] = axes[:, :, b], -axes[:, :, a]
        axes = torch.where((variance[:, b] > variance[:, a])[:, None, None], exchanged, axes)
        signs = [(1, 1, 1), tuple(1 if axis == up else -1 for axis in range(3))]
    return (axes.unsqueeze(1) * axes.new_tensor(signs).unsqueeze(1)).to(pos.dtype)


def diagonalized(matrix: Tensor, pairs: tuple[tuple[int, int], ...]) -> tuple[Tensor, Tensor]:
    """Rotations ``[B, D, D]`` by Jacobi that bring the entries of ``pairs`` to 0 one after the other, and what remains.

    Unlike ``torch.linalg.eigh`` it waits for no device, and can be exported.

    Args:
        matrix: Symmetric, ``[B, D, D]``.
        pairs: Rows and columns, for all of them several times.

    Returns:
        Rotations whose columns are axes, and the diagonals ``[B, D]``.
    """
    size = matrix.shape[-1]
    axes = torch.eye(size, dtype=matrix.dtype, device=matrix.device).expand_as(matrix)
    for p, q in pairs:
        off = matrix[:, p, q]
        apart = (matrix[:, q, q] - matrix[:, p, p]) / 2
        # The smaller of the two angles, without a division by 0.
        tangent = off * torch.where(apart < 0, -1.0, 1.0) / (apart.abs() + (apart.square() + off.square()).sqrt())
        tangent = torch.where(off == 0, 0.0, tangent)
        cos = (1 + tangent.square()).rsqrt()
        sin = tangent * cos
        turn = torch.eye(size, dtype=matrix.dtype, device=matrix.device).repeat(len(matrix), 1, 1)
        turn[:, p, p], turn[:, p, q], turn[:, q, p], turn[:, q, q] = cos, sin, -sin, cos
        matrix, axes = turn.mT @ matrix @ turn, axes @ turn
    return axes, matrix.diagonal(dim1=1, dim2=2)
