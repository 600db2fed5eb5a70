"""Matrices of rotations: random ones, and those about an axis."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from pcsa._core.checks import check_count, check_shape


def random_turn(generator: torch.Generator, up: int | None = None) -> Float[Tensor, "3 3"]:
    """Draw a rotation, all of them alike; with ``up``, the axis that points up, one about that axis.

    Args:
        generator: The source of randomness, on the CPU.
        up: 0, 1 or 2; None for any rotation.

    Returns:
        A matrix R, float64: ``pos @ R.T`` turns positions.

    Example:
        >>> turn = random_turn(torch.Generator().manual_seed(0), up=1)
        >>> turn[1]
        tensor([0., 1., 0.], dtype=torch.float64)

    """
    if up is None:
        # A normal direction in four dimensions: a quaternion of unit length, uniform over rotations.
        quaternion = torch.randn(4, generator=generator, dtype=torch.double)
        w, x, y, z = (quaternion / quaternion.norm()).tolist()
        rows = [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
        return torch.tensor(rows, dtype=torch.double)
    check_count("up", up, least=0, most=2)
    angle = 2 * math.pi * torch.rand((), generator=generator, dtype=torch.double).item()
    return turn_about(torch.eye(3, dtype=torch.double)[up], angle)


def turn_about(axis: Float[Tensor, "3"], angle: float) -> Float[Tensor, "3 3"]:
    """Return the rotation about an axis by an angle in radians, float64: ``pos @ R.T`` turns positions.

    Args:
        axis: Direction of the axis, not zero. Seen against it, positions turn counterclockwise.
        angle: In radians.

    Example:
        >>> turn = turn_about(torch.tensor([0.0, 0.0, 1.0]), math.pi / 2)
        >>> torch.allclose(turn @ turn.new_tensor([1.0, 0.0, 0.0]), turn.new_tensor([0.0, 1.0, 0.0]))
        True

    """
    check_shape("axis", axis, (3,))
    x, y, z = (axis.double() / axis.double().norm()).tolist()
    cross = torch.tensor([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]], dtype=torch.double)
    return torch.eye(3, dtype=torch.double) + math.sin(angle) * cross + (1 - math.cos(angle)) * (cross @ cross)
