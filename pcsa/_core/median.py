"""The geometric median of the points of each cloud, by Weiszfeld's iteration as Vardi and Zhang complete it."""

import torch
from torch import Tensor

from pcsa._core.balls import squared_distance
from pcsa._core.points import Points, cloud_max, cloud_mean, cloud_sum, first_maximum

_ROUNDS = 3
_STEPS = 16


def geometric_median(prob: Tensor, points: Points) -> Tensor:
    """Places [B, K, D] of the smallest mean distance to the points, weighted by ``prob`` [N, K].

    `Vardi and Zhang <https://doi.org/10.1073/pnas.97.4.1423>`_, 2000, Eq. 2.6; an iterate may be a point. Where the
    median is a point the iteration only creeps toward it, so that each round ends on the nearest point where that is
    better.
    """
    first = points.pos.index_select(0, points.ptr[:-1].clamp_max(points.pos.shape[0] - 1))
    # About a point of the cloud: sums of positions far from the origin have no digits left.
    near = points._replace(pos=points.pos - first.index_select(0, points.batch))
    extent = cloud_max(near.pos.abs().amax(1, keepdim=True), near)
    # As close as rounding, a point is where the iterate is.
    same = (8 * torch.finfo(prob.dtype).eps * extent).index_select(0, points.batch)

    def error(y: Tensor) -> Tensor:
        return cloud_sum(prob * squared_distance(y, near).sqrt(), near)

    y, peak = cloud_mean(prob, near.pos, near), near.pos[first_maximum(prob, near)]
    lowest, at_peak = error(y), error(peak)
    y, lowest = torch.where((at_peak <= lowest).unsqueeze(2), peak, y), torch.minimum(lowest, at_peak)
    for _ in range(_ROUNDS):
        for _ in range(_STEPS):
            distance = squared_distance(y, near).sqrt()
            here = distance <= same
            weight = torch.where(here, 0.0, prob / torch.where(here, 1.0, distance))
            total = cloud_sum(weight, near)
            # 0 / 0 where all probability is here.
            others = cloud_mean(weight, near.pos, near) / total.clamp_min(torch.finfo(prob.dtype).tiny).unsqueeze(2)
            pull = total.unsqueeze(2) * (others - y)
            hold = cloud_sum(prob * here, near) / pull.norm(dim=2).clamp_min(torch.finfo(prob.dtype).tiny)
            y = torch.lerp(others, y, torch.where(total > 0, hold.clamp(0, 1), 1.0).unsqueeze(2))
        nearest = near.pos[first_maximum(-squared_distance(y, near), near)]
        snaps = error(nearest) <= error(y)
        y = torch.where(snaps.unsqueeze(2), nearest, y)
    return y + first[:, None]
