"""Skeletons and the Composite Chamfer Distance against a literal loop over segments."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from pcsa.skeleton import (
    composite_chamfer,
    num_segments,
    skeleton_points,
)


def literal_segments(keypoints: Tensor, offsets: Tensor | None, spacing=0.01, low=15, high=200) -> list[Tensor]:
    """The segments of one set of keypoints [K, D], one at a time, point by point."""
    segments = []
    for p, (i, j) in enumerate(itertools.combinations(range(len(keypoints)), 2)):
        a, b = keypoints[i], keypoints[j]
        n = min(high, max(low, int((b - a).detach().norm() / spacing)))
        points = [(1 - k / (n - 1)) * a + k / (n - 1) * b for k in range(n)]
        if offsets is not None:
            R = offsets.shape[1]
            points = [x + offsets[p, math.floor(k * (R - 1) / (n - 1) + 0.5)] for k, x in enumerate(points)]
        segments.append(torch.stack(points))
    return segments


def literal_chamfer(segments: list[Tensor], activation: Tensor, cloud: Tensor, uncovered=20.0) -> tuple[Tensor, Tensor]:
    """Both terms of one cloud: dense distances, and for each point of the cloud the weights in turn."""
    fidelity, to_segment = cloud.new_zeros(()), []
    for p, x in enumerate(segments):
        d = (1e-4 + (x[:, None] - cloud[None]).square().sum(-1)).sqrt()
        fidelity = fidelity + activation[p] * d.min(1).values.mean() / len(segments)
        to_segment.append(d.min(0).values)
    distance, order = torch.stack(to_segment).sort(0)
    left, coverage = torch.ones_like(cloud[:, 0]), cloud.new_zeros(())
    for d, p in zip(distance, order, strict=True):
        w = torch.minimum(left, activation[p])
        coverage = coverage + (w * d).mean()
        left = left - w
    return fidelity, coverage + uncovered * left.mean()


def case(sizes=(60, 41), K=4, S=None, D=3, dtype=torch.float64, seed=0, strength=0.6):
    g = torch.Generator().manual_seed(seed)
    draw = lambda *shape: 2 * torch.rand(*shape, generator=g, dtype=dtype) - 1  # noqa: E731
    B, P = len(sizes), num_segments(K)
    keypoints = draw(B, K, D) if S is None else draw(B, K, S, D)
    offsets = 0.03 * draw(P, 50, D)
    activation = strength * (draw(B, P) + 1) / 2
    pos = draw(sum(sizes), D)
    ptr = torch.tensor([0, *sizes]).cumsum(0)
    return [t.requires_grad_() for t in (keypoints, offsets, activation, pos)], ptr


def ours(keypoints, offsets, activation, pos, ptr, **options):
    points, points_ptr = skeleton_points(keypoints, offsets)
    return composite_chamfer(points, points_ptr, activation, pos, ptr=ptr, **options)


def literal(keypoints, offsets, activation, pos, ptr):
    """[B, S] fidelity and coverage."""
    if keypoints.dim() == 3:
        keypoints = keypoints.unsqueeze(2)
    B, _, S, _ = keypoints.shape
    terms = [
        literal_chamfer(literal_segments(keypoints[b, :, s], offsets), activation[b], pos[ptr[b] : ptr[b + 1]])
        for b in range(B)
        for s in range(S)
    ]
    return tuple(torch.stack(t).view(B, S) for t in zip(*terms, strict=True))


# Strong activations fill up after the first segments, weak ones never do.
@pytest.mark.parametrize("strength", [1.0, 0.6, 0.05])
@pytest.mark.parametrize(
    ("sizes", "K", "S", "D"),
    [((60, 60), 4, None, 3), ((60, 41, 1), 5, None, 3), ((33,), 4, 3, 3), ((20, 31), 2, 2, 2), ((30, 9), 7, 1, 3)],
    ids=["square", "ragged", "samples", "two axes, one segment", "seven keypoints"],
)
def test_agrees_with_the_literal_loop(sizes, K, S, D, strength, close):
    inputs, ptr = case(sizes, K, S, D, strength=strength)
    actual, expected = ours(*inputs, ptr, reduction="none"), literal(*inputs, ptr)
    g = torch.Generator().manual_seed(1)
    direction = torch.rand(2, *expected[0].shape, generator=g, dtype=torch.float64)
    for a, e in zip(actual, expected, strict=True):
        close(a, e)
    for a, e in zip(
        torch.autograd.grad((torch.stack(actual) * direction).sum(), inputs),
        torch.autograd.grad((torch.stack(expected) * direction).sum(), inputs),
        strict=True,
    ):
        close(a, e)


@pytest.mark.parametrize("tile", [1, 64, 1000])
def test_tiles_of_any_size_give_the_same(tile, monkeypatch, close):
    inputs, ptr = case((60, 41), 4, 2)
    expected = ours(*inputs, ptr)
    expected_grad = torch.autograd.grad(sum(expected), inputs)
    monkeypatch.setattr("pcsa.skeleton._TILE_CPU", tile * 200)
    actual = ours(*inputs, ptr)
    for a, e in zip((*actual, *torch.autograd.grad(sum(actual), inputs)), (*expected, *expected_grad), strict=True):
        close(a, e)


def test_float32_and_far_from_the_origin():
    (keypoints, offsets, activation, pos), ptr = case((200, 100), 5, dtype=torch.float32)
    expected = ours(*(t.double() for t in (keypoints, offsets, activation, pos)), ptr)
    for shift in (0.0, 100.0):
        for a, e in zip(ours(keypoints + shift, offsets, activation, pos + shift, ptr), expected, strict=True):
            torch.testing.assert_close(a.double(), e, rtol=1e-3 if shift else 1e-5, atol=0)
