"""Skeletons and the Composite Chamfer Distance against a literal loop over segments."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from pcsa import losses
from pcsa.skeleton import (
    composite_chamfer,
    keypoint_separation,
    mirror_error,
    num_segments,
    segment_pairs,
    segment_support,
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


def test_pairs_in_their_order():
    assert segment_pairs(4).t().tolist() == [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]]
    assert [num_segments(k) for k in (2, 3, 10, 20)] == [1, 3, 45, 190]


def test_number_of_points_follows_the_length():
    # Lengths 0, 0.1, 0.5, 1.55 and 3: 15 at least, one for each 0.01, 200 at most.
    lengths = (0.0, 0.101, 0.505, 1.551, 3.0)
    keypoints = torch.tensor([[[0.0, 0, 0], [length, 0, 0]] for length in lengths])
    skeleton = skeleton_points(keypoints)
    assert skeleton.ptr.diff().tolist() == [15, 15, 50, 155, 200]
    for length, part in zip(lengths, skeleton.points.split(skeleton.ptr.diff().tolist()), strict=True):
        torch.testing.assert_close(part[:, 0], torch.linspace(0, length, len(part)))
        assert part[:, 1:].eq(0).all()


def test_offsets_are_at_the_same_part_of_a_short_and_a_long_segment():
    offsets = torch.zeros(1, 11, 2)
    offsets[0, :, 1] = torch.arange(11.0)
    for length, n in ((0.3, 30), (2.0, 200)):
        points, ptr = skeleton_points(torch.tensor([[[0.0, 0.0], [length + 1e-4, 0.0]]]), offsets)
        assert ptr.tolist() == [0, n]
        # Row by the nearest tenth of the way.
        torch.testing.assert_close(points[:, 1], (points[:, 0] / length * 10 + 1e-3).round(), atol=0.51, rtol=0)
        assert points[0, 1] == 0
        assert points[-1, 1] == 10


def test_weights_by_hand():
    # Three segments on a line at distances 1, 2 and 3 of the one point: activations 0.5, 0.3 and 0.4 give it weights
    # 0.5, 0.3 and 0.2; alone, the first two leave 0.2 to be charged 20.
    points = torch.tensor([[3.0], [3.0], [1.0], [1.0], [2.0], [2.0]], dtype=torch.float64)
    cloud = torch.zeros(1, 1, dtype=torch.float64)
    activation = torch.tensor([[0.4, 0.5, 0.3]], dtype=torch.float64, requires_grad=True)
    fidelity, coverage = composite_chamfer(points, torch.tensor([0, 2, 4, 6]), activation, cloud, epsilon=1e-18)
    assert coverage.item() == pytest.approx(0.5 * 1 + 0.3 * 2 + 0.2 * 3)
    assert fidelity.item() == pytest.approx((0.4 * 3 + 0.5 * 1 + 0.3 * 2) / 3)
    # More of a near segment is less of the farthest that counts, which itself is full.
    assert torch.autograd.grad(coverage, activation)[0].tolist() == [[0.0, pytest.approx(-2.0), pytest.approx(-1.0)]]
    few = torch.tensor([[0.5, 0.3]], dtype=torch.float64, requires_grad=True)
    coverage = composite_chamfer(points[2:], torch.tensor([0, 2, 4]), few, cloud, epsilon=1e-18).coverage
    assert coverage.item() == pytest.approx(0.5 * 1 + 0.3 * 2 + 0.2 * 20)
    assert torch.autograd.grad(coverage, few)[0].tolist() == [[pytest.approx(-19.0), pytest.approx(-18.0)]]


def test_reductions_batch_and_order_of_points(close):
    inputs, ptr = case((60, 41), 4, 3)
    each = ours(*inputs, ptr, reduction="none")
    assert [list(t.shape) for t in each] == [[2, 3], [2, 3]]
    for a, e in zip(ours(*inputs, ptr), each, strict=True):
        close(a, e.mean())
    for a, e in zip(ours(*inputs, ptr, reduction="sum"), each, strict=True):
        close(a, e.sum())
    keypoints, offsets, activation, pos = inputs
    points, points_ptr = skeleton_points(keypoints, offsets)
    batch = torch.arange(2).repeat_interleave(ptr.diff())
    for a, e in zip(composite_chamfer(points, points_ptr, activation, pos, batch, reduction="none"), each, strict=True):
        close(a, e)
    order = torch.cat([torch.randperm(60), 60 + torch.randperm(41)])
    for a, e in zip(ours(keypoints, offsets, activation, pos[order], ptr, reduction="none"), each, strict=True):
        close(a, e)
    # Each cloud on its own.
    for b in range(2):
        own = (keypoints[b : b + 1], offsets, activation[b : b + 1], pos[ptr[b] : ptr[b + 1]])
        for a, e in zip(ours(*own, torch.tensor([0, len(own[3])]), reduction="none"), each, strict=True):
            close(a[0], e[b])


def test_degenerate_skeletons_and_clouds_have_finite_gradients():
    keypoints = torch.zeros(1, 3, 3, requires_grad=True)  # all in one place, and the cloud there too
    for pos in (torch.zeros(1, 3), torch.zeros(5, 3), torch.ones(2, 3)):
        for strength in (0.0, 0.2, 1.0):
            activation = torch.full((1, 3), strength, requires_grad=True)
            offsets = torch.zeros(3, 7, 3, requires_grad=True)
            terms = ours(keypoints, offsets, activation, pos, torch.tensor([0, len(pos)]))
            assert all(t.isfinite() for t in terms)
            for grad in torch.autograd.grad(sum(terms), (keypoints, activation, offsets), allow_unused=True):
                assert grad is None or grad.isfinite().all()


def test_no_distances_are_held_for_the_backward_pass():
    (keypoints, offsets, activation, pos), ptr = case((700, 500), 6, dtype=torch.float32)
    points, points_ptr = skeleton_points(keypoints, offsets)
    held = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: held.append(t.numel()) or t, lambda t: t):
        composite_chamfer(points, points_ptr, activation, pos, ptr=ptr)
    # A few numbers for each point of the skeleton, and for each of the at most 15 segments of a point of the cloud.
    assert 0 < max(held) <= 3 * max(len(points), 15 * len(pos))
    assert max(held) < len(points) * 500 / 10


def test_autocast_and_half_precision_compute_in_float32(close):
    (keypoints, offsets, activation, pos), ptr = case((60, 41), 4, dtype=torch.float32)
    expected = ours(keypoints, offsets, activation, pos, ptr)
    with torch.autocast("cpu", torch.bfloat16):
        for a, e in zip(ours(keypoints, offsets, activation, pos, ptr), expected, strict=True):
            assert a.dtype == torch.float32
            close(a, e)
    half = ours(keypoints.half(), offsets.half(), activation.half(), pos.half(), ptr)
    assert all(t.dtype == torch.float32 for t in half)


def test_separation_by_hand():
    keypoints = torch.tensor([[[0.0, 0, 0], [0.1, 0, 0], [5, 0, 0]]], requires_grad=True)
    # Nearest others at 0.1, 0.1 and 4.9.
    loss = losses.keypoint_separation(keypoints, 0.4)
    assert loss.item() == pytest.approx((0.75 + 0.75 + 0) / 3)
    (grad,) = torch.autograd.grad(loss, keypoints)
    # Descent moves the first two apart.
    assert grad[0, 0, 0] > 0 > grad[0, 1, 0]
    assert grad[0, 2].eq(0).all()
    same = torch.zeros(2, 3, 3, requires_grad=True)
    loss = losses.keypoint_separation(same, 0.4, reduction="none")
    assert loss.tolist() == [1.0, 1.0]
    assert torch.autograd.grad(loss.sum(), same)[0].isfinite().all()


def test_mirror_by_hand():
    # Across x = 1: a pair, one on the plane, and one whose image (3, 0, 0) is 1 away from the nearest.
    keypoints = torch.tensor([[[0.0, 0, 0], [2, 0, 0], [1, 7, 0], [-1, 0, 0]]])
    assert losses.mirror_error(keypoints, torch.tensor([1.0])).item() == pytest.approx(0.25, abs=1e-5)
    assert losses.mirror_error(keypoints.flip(2), torch.tensor([1.0]), 2).item() == pytest.approx(0.25, abs=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"points": torch.zeros(30, 2)}, r"`points` \[30, 2\] must have the 3 axes"),
        ({"points": torch.full((30, 3), math.nan)}, "`points` must be finite"),
        ({"pos": torch.full((5, 3), math.inf)}, "`pos` must be finite"),
        ({"pos": torch.zeros(0, 3)}, r"`pos` \[0, 3\]"),
        ({"activation": torch.full((1, 2), 1.5)}, "`activation` must be from 0 to 1"),
        ({"activation": torch.full((1, 2), math.nan)}, "`activation` must be from 0 to 1"),
        ({"activation": torch.ones(1, 3)}, r"`points_ptr` \[3\].*1 × 3 segments"),
        ({"points_ptr": torch.tensor([0, 0, 30])}, "`points_ptr` must rise"),
        ({"points_ptr": torch.tensor([0, 15, 29])}, r"`points_ptr` must rise.*\(=30\)"),
        ({"ptr": torch.tensor([0, 2, 5])}, r"`ptr` \(2 clouds\) must have the 1 clouds"),
        ({"ptr": torch.tensor([0, 4])}, r"`ptr` must begin with 0 and end with"),
        ({"epsilon": 0.0}, r"`epsilon` \(=0.0\)"),
        ({"uncovered": -1.0}, r"`uncovered` \(=-1.0\)"),
        ({"reduction": "max"}, r"`reduction` \(='max'\)"),
    ],
)
def test_bad_input_of_the_distance(change, message):
    arguments = {
        "points": torch.zeros(30, 3),
        "points_ptr": torch.tensor([0, 15, 30]),
        "activation": torch.ones(1, 2),
        "pos": torch.ones(5, 3),
        "ptr": torch.tensor([0, 5]),
    }
    composite_chamfer(**arguments)
    with pytest.raises(ValueError, match=message):
        composite_chamfer(**{**arguments, **change})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: skeleton_points(torch.zeros(1, 1, 3)), r"`keypoints` \[1, 1, 3\].*K at least 2"),
        (lambda: skeleton_points(torch.zeros(2, 3)), r"`keypoints` \[2, 3\]"),
        (lambda: skeleton_points(torch.zeros(1, 3, 3), spacing=0.0), r"`spacing` \(=0.0\)"),
        (lambda: skeleton_points(torch.zeros(1, 3, 3), min_points=1), r"`min_points` \(=1\)"),
        (lambda: skeleton_points(torch.zeros(1, 3, 3), max_points=3), r"`max_points` \(=3\)"),
        (lambda: skeleton_points(torch.zeros(1, 3, 3), torch.zeros(2, 9, 3)), r"`offsets` \[2, 9, 3\].*\[3, R, 3\]"),
        (lambda: skeleton_points(torch.zeros(1, 3, 3), torch.zeros(3, 0, 3)), r"`offsets`.*at least one row"),
        (lambda: keypoint_separation(torch.zeros(1, 1, 3), 0.1), r"`keypoints` \[1, 1, 3\]"),
        (lambda: keypoint_separation(torch.zeros(1, 2, 3), 0.0), r"`distance` \(=0.0\)"),
        (lambda: mirror_error(torch.zeros(2, 2, 3), torch.zeros(1)), r"`center` \[1\] must be \[B\]"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(("sizes", "K", "D"), [((60, 41), 4, 3), ((30, 1, 9), 5, 3), ((25,), 2, 2)])
def test_support_agrees_with_a_loop_over_places(sizes, K, D, close):
    (keypoints, _, _, pos), ptr = case(sizes, K, D=D)
    actual = segment_support(keypoints, pos, ptr=ptr, radius=0.4, num_points=7)
    for b in range(len(sizes)):
        cloud = pos[ptr[b] : ptr[b + 1]].detach()
        for p, (i, j) in enumerate(itertools.combinations(range(K), 2)):
            first, last = keypoints[b, i].detach(), keypoints[b, j].detach()
            places = [first + t / 6 * (last - first) for t in range(7)]
            on = [min((place - y).norm() for y in cloud) <= 0.4 for place in places]
            assert actual[b, p].item() == pytest.approx(sum(on) / 7)
        close(segment_support(keypoints[b : b + 1], cloud, radius=0.4, num_points=7)[0], actual[b])


def test_support_does_not_change_with_units_and_order():
    (keypoints, _, _, pos), _ = case((60,), 5)
    expected = segment_support(keypoints, pos, radius=0.3)
    assert 0 < expected.mean() < 1
    assert torch.equal(segment_support(8 * keypoints + 2, 8 * pos.flip(0) + 2, radius=2.4), expected)
    # All keypoints in one place of the cloud: every segment lies on it.
    assert (segment_support(pos[:1].expand(1, 3, 3), pos, radius=1e-3) == 1).all()


def test_support_refuses_what_does_not_fit():
    (keypoints, _, _, pos), _ = case((60,), 5)
    for options, message in (({"radius": 0.0}, "`radius`"), ({"radius": 1.0, "num_points": 1}, "`num_points`")):
        with pytest.raises(ValueError, match=message):
            segment_support(keypoints, pos, **options)
    with pytest.raises(ValueError, match=r"`keypoints` \[60, 3\]"):
        segment_support(pos, pos, radius=1.0)
    with pytest.raises(ValueError, match=r"`ptr` \(2 clouds\)"):
        segment_support(keypoints, pos, ptr=torch.tensor([0, 30, 60]), radius=1.0)
