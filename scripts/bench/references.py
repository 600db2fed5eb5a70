"""What ``pcsa bench`` compares with: the same computations, written out the way one usually finds them.

Where a choice does not change the algorithm, the faster of the usual forms is taken.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from pcsa.models.pointnet2 import Level


def literal_sampling_argmax(
    logits: Tensor, pos: Tensor, bandwidth: Tensor, num_samples: int, temperature: float
) -> Tensor:
    """Eq. 11-12 as they stand: noise for every point of every sample, the gradient left to autograd.

    Shapes: logits ``[B, N, K]`` (-inf in padding), pos ``[B, N, D]``, bandwidth ``[B, N]`` → ``[B, K, S, D]``.
    """
    B, N, K = logits.shape
    gumbel = -torch.empty(B, num_samples, K, N, device=logits.device, dtype=logits.dtype).exponential_().log()
    weight = ((logits.log_softmax(1).transpose(1, 2).unsqueeze(1) + gumbel) / temperature).softmax(-1)
    noise = torch.randn(B, num_samples, K, N, pos.shape[-1], device=logits.device, dtype=logits.dtype)
    moved = pos[:, None, None] + bandwidth[:, None, None, :, None] * noise
    return torch.einsum("bskn,bsknd->bksd", weight, moved)


def square_distance(a: Tensor, b: Tensor) -> Tensor:
    """``[B, M, 3]``, ``[B, N, 3]`` → ``[B, M, N]`` by |a|² − 2ab + |b|²."""
    distance = -2 * a @ b.transpose(1, 2)
    distance += a.square().sum(-1, keepdim=True)
    distance += b.square().sum(-1).unsqueeze(1)
    return distance.clamp_min_(0)


def farthest_points_loop(pos: Tensor, num_samples: int) -> Tensor:
    """``[B, N, 3]`` → rows ``[B, num_samples]``, one step of Python for each, from the first point on."""
    B, N, _ = pos.shape
    chosen = torch.zeros(B, num_samples, dtype=torch.long, device=pos.device)
    nearest = torch.full((B, N), torch.inf, device=pos.device, dtype=pos.dtype)
    clouds = torch.arange(B, device=pos.device)
    farthest = chosen[:, 0]
    for step in range(num_samples):
        chosen[:, step] = farthest
        nearest = torch.minimum(nearest, (pos - pos[clouds, farthest].unsqueeze(1)).square().sum(-1))
        farthest = nearest.argmax(-1)
    return chosen


def ball_query_by_sort(radius: float, num_neighbors: int, pos: Tensor, centers: Tensor) -> Tensor:
    """The first points by index within the radius ``[B, M, k]``; the first one again where there are fewer."""
    B, N, _ = pos.shape
    index = torch.arange(N, device=pos.device).repeat(B, centers.shape[1], 1)
    index[square_distance(centers, pos) > radius**2] = N
    index = index.sort(-1).values[..., :num_neighbors]
    return torch.where(index == N, index[..., :1], index)


def nearest_by_sort(pos: Tensor, query: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Squared distances and rows ``[B, M, k]`` of the nearest points, by sorting all of them."""
    distance, index = square_distance(query, pos).sort(-1)
    return distance[..., :k], index[..., :k]


def gather(x: Tensor, index: Tensor) -> Tensor:
    """``[B, N, C]``, ``[B, …]`` → ``[B, …, C]``."""
    clouds = torch.arange(x.shape[0], device=x.device).view(-1, *[1] * (index.dim() - 1))
    return x[clouds, index]


class DensePointNet2(nn.Module):
    """PointNet++ on clouds of one size: the widths, levels and layers of :class:`pcsa.models.PointNet2`.

    Grouped tensors ``[B, C, M, k]`` through 1×1 convolutions, in which features stand before offsets.
    """

    def __init__(self, levels: Sequence[Level], out_channels: int = 128, norm: bool = True) -> None:
        super().__init__()
        self.levels = tuple(levels)
        widths = [3]
        self.abstractions = nn.ModuleList()
        for level in self.levels:
            scales = [_convolutions([widths[-1] + 3, *c], norm, 2) for c in level.channels]
            self.abstractions.append(nn.ModuleList(scales))
            widths.append(sum(c[-1] for c in level.channels))
        self.context = _convolutions([widths[-1]] * 3, norm, 1)
        self.propagations = nn.ModuleList()
        coarse = widths[-1]
        for below, fine in reversed(list(enumerate(widths[:-1]))):
            width = max(fine, out_channels) if below else out_channels
            self.propagations.append(_convolutions([coarse + fine, width, width], norm, 1))
            coarse = width

    def forward(self, pos: Tensor) -> Tensor:
        """``[B, N, 3]`` → features ``[B, N, out_channels]``."""
        places, features = [pos], [pos]
        for level, scales in zip(self.levels, self.abstractions, strict=True):
            pos, x = places[-1], features[-1]
            count = pos.shape[1] if level.num_samples is None else min(level.num_samples, pos.shape[1])
            centers = gather(pos, farthest_points_loop(pos, count))
            outputs = []
            for radius, k, mlp in zip(level.radii, level.num_neighbors, scales, strict=True):  # type: ignore[call-overload]
                index = ball_query_by_sort(radius, k, pos, centers)
                offset = (gather(pos, index) - centers.unsqueeze(2)) / radius
                grouped = torch.cat([gather(x, index), offset], -1).permute(0, 3, 1, 2)
                outputs.append(mlp(grouped).max(-1).values)
            places.append(centers)
            features.append(torch.cat(outputs, 1).transpose(1, 2))
        top = features[-1]
        top = top + self.context(top.amax(1).unsqueeze(-1)).transpose(1, 2)
        for level_below, mlp in zip(reversed(range(len(self.levels))), self.propagations, strict=True):
            distance, index = nearest_by_sort(places[level_below + 1], places[level_below], 3)
            weight = nn.functional.normalize(1 / (distance + 1e-8), p=1, dim=-1)
            coarse = (gather(top, index) * weight.unsqueeze(-1)).sum(2)
            top = mlp(torch.cat([coarse, features[level_below]], -1).transpose(1, 2)).transpose(1, 2)
        return top


def _convolutions(channels: Sequence[int], norm: bool, dim: int) -> nn.Sequential:
    convolution, batch_norm = (nn.Conv1d, nn.BatchNorm1d) if dim == 1 else (nn.Conv2d, nn.BatchNorm2d)
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(channels):
        layers += [convolution(a, b, 1, bias=not norm), batch_norm(b) if norm else nn.Identity(), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class LiteralSkeletonMerger(nn.Module):
    """Skeleton Merger on clouds of one size with a Python loop over the segments, each with its own offsets.

    The heads are those of :class:`pcsa.models.SkeletonMerger`, the network is :class:`DensePointNet2`.
    """

    def __init__(self, levels: Sequence[Level], num_keypoints: int, out_channels: int = 128, norm: bool = True) -> None:
        super().__init__()
        C, P = out_channels, num_keypoints * (num_keypoints - 1) // 2
        self.backbone = DensePointNet2(levels, C, norm)
        self.score = nn.Sequential(nn.Linear(C, C), nn.ReLU(), nn.Linear(C, num_keypoints))
        self.strength = nn.Sequential(nn.Linear(C, C), nn.ReLU(), nn.Linear(C, C), nn.ReLU(), nn.Linear(C, P))
        self.offsets = nn.ParameterList(nn.Parameter(0.002 * torch.randn(200, 3)) for _ in range(P))

    def forward(self, pos: Tensor, anchors: Tensor, anchor_width: float = 0.3) -> Tensor:
        """``[B, N, 3]`` → the loss: fidelity, coverage and 0.01 of the squared offsets."""
        features = self.backbone(pos)
        low, high = pos.amin(1, keepdim=True), pos.amax(1, keepdim=True)
        box = (2 * pos - low - high) / (high - low)
        logits = self.score(features) - (box.unsqueeze(2) - anchors).square().sum(-1) / (2 * anchor_width**2)
        keypoints = logits.softmax(1).transpose(1, 2) @ pos
        activation = self.strength(features.amax(1)).sigmoid()
        ends = itertools.combinations(keypoints.unbind(1), 2)
        segments = [literal_segment(a, b, offsets) for (a, b), offsets in zip(ends, self.offsets, strict=True)]
        penalty = torch.stack([offsets.square().sum() for offsets in self.offsets]).sum()
        return literal_composite_chamfer(segments, activation, pos) + 0.01 * penalty


def literal_segment(first: Tensor, last: Tensor, offsets: Tensor) -> Tensor:
    """Points ``[B, n, 3]`` between two ``[B, 3]``; n by the mean length over the batch, read from the device."""
    n = min(200, max(15, int((last - first).norm(dim=-1).mean() / 0.01)))
    place = torch.arange(n, device=first.device)
    part = (place.to(first.dtype) / (n - 1)).unsqueeze(1)
    rows = (2 * place * (len(offsets) - 1) + n - 1) // (2 * (n - 1))
    return torch.lerp(first.unsqueeze(1), last.unsqueeze(1), part) + offsets[rows]


def literal_composite_chamfer(segments: Sequence[Tensor], activation: Tensor, pos: Tensor) -> Tensor:
    """The sum of fidelity and coverage, from all distances ``[B, N, n]`` of every segment, kept for the gradient."""
    loss, to_segment = pos.new_zeros(()), []
    for p, points in enumerate(segments):
        distance = (1e-4 + (pos.unsqueeze(2) - points.unsqueeze(1)).square().sum(-1)).sqrt()
        loss = loss + (distance.min(1).values.mean(-1) * activation[:, p]).mean() / len(segments)
        to_segment.append(distance.min(2).values)
    nearest, order = torch.stack(to_segment).sort(0)
    left = torch.ones_like(nearest[0])
    for away, which in zip(nearest, order, strict=True):
        weight = torch.minimum(left, activation.gather(1, which))
        loss = loss + (away * weight).mean()
        left = left - weight
    return loss + 20 * left.mean()
