"""Turns of a cloud and its keypoints, and those to the frames of its principal axes."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch_geometric.data import Data

from pcsa._core.principal import principal_frames
from pcsa.datasets.transforms import map_positions

_HALF = 0.5
# Points of a cloud that look for the nearest, and among which.
_FEW, _MANY = 128, 512
_LEAST = 1e-9


def turned(data: Data, turn: Float[Tensor, "3 3"]) -> Data:
    """Return a cloud with its keypoints and marks turned about the origin: ``pos @ turn.T``."""
    return map_positions(data, lambda x: x @ turn.to(x).mT)


def in_a_frame(data: Data, generator: torch.Generator, up: int | None = None) -> Data:
    """Turn a cloud that stands as all training clouds do into one of the frames of its principal axes.

    It is how :class:`pcsa.models.TurnedDetector` is trained, on clouds that stand alike: in every other draw the frame
    is the one nearest to how the cloud stands; in the others it is one of those that are at least 60 degrees off, and
    no keypoint is visible, since the cloud does not stand as it should. Half of these are any of them; in the
    other half those are likelier in which the cloud looks more like itself, by the mean distance of nearest points to
    the power of -4: a bed turned end for end. They are the hardest to tell, and mistaken most often if they are drawn
    no more than others.

    Args:
        data: ``pos [N, 3]``, and what :class:`pcsa.datasets.keypointnet.KeypointNet` has beside it.
        generator: The source of randomness, on the CPU.
        up: The axis that points up, 0, 1 or 2, of clouds that turn about it alone; None for any turn.

    """
    frames = frames_of(data.pos, up)
    # The trace of a rotation is 1 + 2 cos of its angle.
    trace = frames.diagonal(dim1=1, dim2=2).sum(1)
    others = (trace < 2 + 1e-6).nonzero()[:, 0]
    nearest = frames[int(trace.argmax())]
    right, hard, choice = torch.rand(3, generator=generator).tolist()
    if right < _HALF:
        return turned(data, nearest.mT)
    wrong = frames[others]
    if hard < _HALF:
        # Relative to the smallest, which may be 0, no power overflows.
        distance = _unlikeness(data.pos, nearest, wrong).double().clamp(min=_LEAST)
        share = ((distance.min() / distance) ** 4).cumsum(0)
        frame = wrong[int((share < choice * share[-1]).sum())]
    else:
        frame = wrong[int(choice * len(wrong))]
    out = turned(data, frame.mT)
    out.visible, out.keypoints = torch.zeros_like(data.visible), torch.zeros_like(data.keypoints)
    if "marked" in data:
        out.marked, out.marks = torch.zeros_like(data.marked), torch.zeros_like(data.marks)
    return out


def _unlikeness(
    pos: Float[Tensor, "N 3"], frame: Float[Tensor, "3 3"], others: Float[Tensor, "F 3 3"]
) -> Float[Tensor, " F"]:
    """Mean distance of some points of a cloud, as it looks in other frames, from the nearest as it looks in one."""
    few, many = (pos[:: max(1, len(pos) // count)] for count in (_FEW, _MANY))
    return torch.cdist(few @ others, (many @ frame).expand(len(others), -1, -1)).amin(2).mean(1)


def frames_of(pos: Float[Tensor, "N 3"], up: int | None = None) -> Float[Tensor, "F 3 3"]:
    """Return the frames of one cloud, 24 or with ``up`` 4: ``pos @ frame`` are its points in one of them."""
    batch = torch.zeros(len(pos), dtype=torch.long, device=pos.device)
    ptr = torch.tensor([0, len(pos)], device=pos.device)
    return principal_frames(pos, batch, ptr, up)[0]
