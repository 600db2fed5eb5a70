"""Turns of a cloud and its keypoints: random ones, and those to the frames of its principal axes."""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch_geometric.data import Data

from pcsa._core.checks import check_count, check_shape
from pcsa._core.principal import principal_frames
from pcsa.datasets.transforms import map_positions


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


def turned(data: Data, turn: Float[Tensor, "3 3"]) -> Data:
    """Return a cloud with its keypoints and marks turned about the origin: ``pos @ turn.T``."""
    return map_positions(data, lambda x: x @ turn.to(x).mT)


def in_a_frame(data: Data, generator: torch.Generator, up: int | None = None) -> Data:
    """Turn a cloud that stands as all training clouds do into one of the frames of its principal axes.

    It is how :class:`pcsa.models.TurnedDetector` is trained, on clouds that stand alike: in every other draw the frame
    is the one nearest to how the cloud stands; in the others it is any of those that are at least 60 degrees off, and
    no keypoint is visible, since the cloud does not stand as it should.

    Args:
        data: ``pos [N, 3]``, and what :class:`pcsa.datasets.keypointnet.KeypointNet` has beside it.
        generator: The source of randomness, on the CPU.
        up: The axis that points up, 0, 1 or 2, of clouds that turn about it alone; None for any turn.

    """
    frames = frames_of(data.pos, up)
    # The trace of a rotation is 1 + 2 cos of its angle.
    trace = frames.diagonal(dim1=1, dim2=2).sum(1)
    others = (trace < 2 + 1e-6).nonzero()[:, 0]
    right, choice = torch.rand(2, generator=generator).tolist()
    if right < 0.5:
        return turned(data, frames[int(trace.argmax())].mT)
    out = turned(data, frames[int(others[int(choice * len(others))])].mT)
    out.visible, out.keypoints = torch.zeros_like(data.visible), torch.zeros_like(data.keypoints)
    if "marked" in data:
        out.marked, out.marks = torch.zeros_like(data.marked), torch.zeros_like(data.marks)
    return out


def frames_of(pos: Float[Tensor, "N 3"], up: int | None = None) -> Float[Tensor, "F 3 3"]:
    """Return the frames of one cloud, 24 or with ``up`` 4: ``pos @ frame`` are its points in one of them."""
    batch = torch.zeros(len(pos), dtype=torch.long, device=pos.device)
    ptr = torch.tensor([0, len(pos)], device=pos.device)
    return principal_frames(pos, batch, ptr, up)[0]
