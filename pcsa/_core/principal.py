"""Frames that turn with their cloud: its principal axes, in every order and direction that is a rotation."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from pcsa._core.points import Points, cloud_sum

# The off-diagonal entries of a matrix 3x3 fall to rounding within four sweeps, quadratically from the second on.
_SWEEPS = 6


@torch.no_grad()
def principal_frames(pos: Tensor, batch: Tensor, ptr: Tensor, up: int | None = None) -> Tensor:
    """Rotations ``[B, F, 3, 3]`` to the frames of each cloud: ``pos @ frame`` are its points in one of them.

    The columns of a frame are the cloud's principal axes, in any order and in both directions: F = 24 are the choices
    that are rotations, for no rotation mirrors. With ``up``, the axis that points up, clouds turn about it alone, and
    F = 4.

    A cloud that is turned has the same clouds in its frames, to rounding, and so has one in which two variances
    exchange their order. Where they are nearly equal, little changes of the points may turn all frames by any angle in
    the plane of their axes.

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
    pairs = ((0, 1), (0, 2), (1, 2)) * _SWEEPS if up is None else (((up + 1) % 3, (up + 2) % 3),)
    axes = diagonalized(second, pairs)[0]
    choices = torch.tensor(axis_rotations(up), dtype=axes.dtype, device=axes.device)
    return (axes.unsqueeze(1) @ choices).to(pos.dtype)


def axis_rotations(up: int | None = None) -> list[list[list[int]]]:
    """The 24 rotations that bring axes to axes, the identity first; with ``up``, the 4 of them about that axis."""
    found = []
    for order in itertools.permutations(range(3)):
        inversions = sum(order[i] > order[j] for i, j in ((0, 1), (0, 2), (1, 2)))
        for signs in itertools.product((1, -1), repeat=3):
            proper = (-1) ** inversions * signs[0] * signs[1] * signs[2] == 1
            if proper and (up is None or (order[up] == up and signs[up] == 1)):
                found.append([[signs[row] if order[row] == column else 0 for column in range(3)] for row in range(3)])
    return found


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
