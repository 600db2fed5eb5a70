"""What is measured: functions that make inputs and return the run, for this process and for another."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

import pcsa
from pcsa.scripts.bench import references
from pcsa.scripts.bench.measure import Run


def _clouds(device: torch.device, clouds: Sequence[int], K: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Make logits, positions, bandwidths, ptr and the gradient's direction for S = 1, of ragged clouds."""
    generator = torch.Generator().manual_seed(0)
    N = sum(clouds)
    logits = (2 * torch.randn(N, K, generator=generator)).to(device).requires_grad_()
    pos = torch.nn.functional.normalize(torch.randn(N, 3, generator=generator), dim=1).to(device)
    bandwidth = (0.02 + 0.02 * torch.rand(N, generator=generator)).to(device)
    ptr = torch.tensor([0, *clouds]).cumsum(0).to(device)
    return logits, pos, bandwidth, ptr, torch.randn(len(clouds), K, 1, 3, generator=generator).to(device)


def build_sampler(
    device: torch.device, clouds: Sequence[int], K: int, S: int, compiled: bool = False, backward: bool = True
) -> Run:
    """Run `sampling_argmax` at temperature 1 with its gradient to the logits; dense for clouds of one size."""
    logits, pos, bandwidth, ptr, direction = _clouds(device, clouds, K)
    B, dense = len(clouds), len(set(clouds)) == 1
    if dense:
        logits = logits.detach().view(B, -1, K).requires_grad_()
        pos, bandwidth = pos.view(B, -1, 3), bandwidth.view(B, -1)

    def sample(logits: Tensor) -> Tensor:
        return pcsa.sampling_argmax(logits, pos, bandwidth, ptr=None if dense else ptr, num_samples=S, validate=False)

    return _differentiated(torch.compile(sample, fullgraph=True) if compiled else sample, logits, direction, backward)


def build_literal(
    device: torch.device, clouds: Sequence[int], K: int, S: int, compiled: bool = False, backward: bool = True
) -> Run:
    """Run its literal reference; clouds of several sizes are padded to the longest."""
    logits, pos, bandwidth, _, direction = _clouds(device, clouds, K)
    pad = torch.nn.utils.rnn.pad_sequence
    sizes = list(clouds)
    logits = pad(logits.detach().split(sizes), batch_first=True, padding_value=-math.inf).requires_grad_()
    pos = pad(pos.split(sizes), batch_first=True)
    bandwidth = pad(bandwidth.split(sizes), batch_first=True)

    def sample(logits: Tensor) -> Tensor:
        return references.literal_sampling_argmax(logits, pos, bandwidth, S, 1.0)

    return _differentiated(torch.compile(sample, fullgraph=True) if compiled else sample, logits, direction, backward)


def _differentiated(sample: Callable[[Tensor], Tensor], logits: Tensor, direction: Tensor, backward: bool) -> Run:
    def run() -> Tensor:
        samples = sample(logits)
        return torch.autograd.grad(samples, logits, direction.expand_as(samples))[0]

    def run_forward() -> Tensor:
        with torch.no_grad():
            return sample(logits)

    return run if backward else run_forward


def build_network(
    device: torch.device, B: int, N: int, kind: Literal["ours", "precomputed", "dense"], scales: str = "single"
) -> Run:
    """Run PointNet++ in training mode, forward and backward, on B clouds of N points of the unit sphere."""
    # Imported here: with it, each of the processes that measure memory would start a second later.
    from pcsa.models.pointnet2 import MULTI_SCALE, SINGLE_SCALE, PointNet2, build_geometry

    torch.manual_seed(0)
    pos = torch.nn.functional.normalize(torch.randn(B, N, 3), dim=-1).to(device)
    levels = SINGLE_SCALE if scales == "single" else MULTI_SCALE
    net: torch.nn.Module
    if kind == "dense":
        net = references.DensePointNet2(levels).to(device)
        forward: Callable[[], Tensor] = lambda: net(pos)  # noqa: E731
    else:
        net = PointNet2(levels=levels).to(device)
        rows, ptr = pos.view(-1, 3), torch.arange(0, B * N + 1, N)  # on the host, where its values are needed
        ptr_there = ptr.to(device)
        geometry = build_geometry(rows, ptr_there, levels) if kind == "precomputed" else None
        forward = lambda: net(None, rows, ptr=ptr_there, geometry=geometry)  # noqa: E731
    direction = torch.randn(128, device=device)

    def run() -> None:
        net.zero_grad(set_to_none=True)
        out = forward()
        out.backward(direction.expand_as(out))

    return run


def build_skeleton(
    device: torch.device, B: int, N: int, K: int, kind: Literal["ours", "literal"], scales: str = "merger"
) -> Run:
    """Train Skeleton Merger for a step on B clouds of N points: network, soft-argmax, loss, gradient and Adam."""
    # Imported here for the same reason.
    from pcsa.models.pointnet2 import PointNet2
    from pcsa.models.skeleton_merger import SkeletonMerger
    from pcsa.skeleton import composite_chamfer, skeleton_points
    from pcsa.tasks.unsupervised import LEVELS

    levels = LEVELS[scales]
    torch.manual_seed(0)
    pos = torch.nn.functional.normalize(torch.randn(B, N, 3), dim=-1).to(device)
    # Keypoints far apart, as after training: the longest segments, the most points.
    anchors = torch.nn.functional.normalize(torch.randn(K, 3), dim=-1)
    net: torch.nn.Module
    if kind == "literal":
        net = references.LiteralSkeletonMerger(levels, K).to(device)
        loss: Callable[[], Tensor] = lambda: net(pos, anchors_there)  # noqa: E731
    else:
        net = SkeletonMerger(PointNet2(levels=levels), K, anchors=anchors).to(device)
        rows, ptr = pos.view(-1, 3), torch.arange(0, B * N + 1, N, device=device)

        def loss() -> Tensor:
            out = net(None, rows, ptr=ptr)
            skeleton = skeleton_points(out["keypoints"], out["offsets"])
            distance = composite_chamfer(
                skeleton.points, skeleton.ptr, out["activation"], rows, ptr=ptr, validate=False
            )
            return distance.fidelity + distance.coverage + 0.01 * out["offsets"].square().sum()

    anchors_there = anchors.to(device)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)

    def run() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss().backward()
        optimizer.step()

    return run


BUILDERS: dict[str, Callable[..., Run]] = {
    "sampler": build_sampler,
    "literal": build_literal,
    "network": build_network,
    "skeleton": build_skeleton,
}


def literal_bytes(clouds: Sequence[int], K: int, S: int) -> int:
    """Estimate what the literal reference needs: about 14 floats per element of [B, S, K, N], N the longest."""
    return len(clouds) * max(clouds) * K * S * 4 * 14
