"""The references compute what the package computes."""

import math

import pytest
import torch
from torch import nn

import pcsa
from pcsa.losses import composite_chamfer
from pcsa.models import SkeletonMerger
from pcsa.models.pointnet2 import Level, PointNet2
from pcsa.scripts.bench import references
from pcsa.skeleton import skeleton_points


def test_literal_sampler_has_the_moments_of_the_operator():
    torch.manual_seed(0)
    logits, pos = torch.randn(1, 6, 2), torch.randn(1, 6, 3)
    bandwidth = torch.rand(1, 6)
    S = 20_000
    for temperature in (0.3, 1.0):
        ours = pcsa.sampling_argmax(logits, pos, bandwidth, num_samples=S, temperature=temperature)
        literal = references.literal_sampling_argmax(logits, pos, bandwidth, S, temperature)
        assert literal.shape == ours.shape == (1, 2, S, 3)
        a, b = ours.flatten(0, 1), literal.flatten(0, 1)
        error = ((a.var(1) + b.var(1)) / S).sqrt()
        assert ((a.mean(1) - b.mean(1)).abs() < 5 * error).all()
        # The standard error of a variance is at most sqrt(kurtosis / S) of it: 5 of them, kurtosis at most 5.
        torch.testing.assert_close(a.var(1), b.var(1), rtol=5 * math.sqrt(2 * 5 / S), atol=0)


def test_literal_sampler_on_one_hot_and_padded_points():
    logits = torch.tensor([[[0.0], [1000.0], [-math.inf]]], requires_grad=True)
    pos = torch.tensor([[[5.0, 0.0, 0.0], [1.0, 2.0, 3.0], [math.pi, 0.0, 0.0]]])
    samples = references.literal_sampling_argmax(logits, pos, torch.zeros(1, 3), 4, 1.0)
    torch.testing.assert_close(samples, pos[:, 1].expand(1, 1, 4, 3))
    (gradient,) = torch.autograd.grad(samples.sum(), logits)
    assert gradient.isfinite().all()


def test_searches_by_hand():
    line = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [2, 0, 0], [9, 0, 0]]])
    assert references.farthest_points_loop(line, 3).tolist() == [[0, 3, 2]]
    # Around 2: rows 1 and 2 (and 0 at distance 2) in the order of their index; around 9: itself, repeated.
    found = references.ball_query_by_sort(2.0, 2, line, line[:, 2:])
    assert found.tolist() == [[[0, 1], [3, 3]]]
    distance, index = references.nearest_by_sort(line, line[:, 3:], 2)
    assert index.tolist() == [[[3, 2]]]
    assert distance.tolist() == [[[0.0, 49.0]]]


def copy_weights(net: PointNet2, dense: references.DensePointNet2) -> None:
    """Layer by layer; the dense code has one layer where ours has one for each part of the input."""

    def put(source: list[nn.Module], target: nn.Sequential, first: torch.Tensor, bias: torch.Tensor | None) -> None:
        linear = [m for s in source for m in s.modules() if isinstance(m, nn.Linear)]
        norms = [m for s in source for m in s.modules() if isinstance(m, nn.BatchNorm1d)]
        convolutions = [m for m in target if isinstance(m, (nn.Conv1d, nn.Conv2d))]
        weights = [(first, bias)] + [(m.weight, m.bias) for m in linear]
        with torch.no_grad():
            for (weight, b), convolution in zip(weights, convolutions, strict=True):
                convolution.weight.copy_(weight.view_as(convolution.weight))
                if b is not None:
                    convolution.bias.copy_(b)
        batch_norms = [m for m in target if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d))]
        for norm, other in zip(norms, batch_norms, strict=True):
            other.load_state_dict(norm.state_dict())

    for scales, mlps in zip(net.abstractions, dense.abstractions, strict=True):
        for scale, mlp in zip(scales, mlps, strict=True):
            first = torch.cat([scale.of_features.weight, scale.of_offset.weight], 1)
            put([scale.norm, scale.rest], mlp, first, scale.of_offset.bias)
    layers = [m for m in net.context if isinstance(m, nn.Linear)]
    put([net.context[1:]], dense.context, layers[0].weight, layers[0].bias)
    for ours, mlp in zip(net.propagations, dense.propagations, strict=True):
        put(
            [ours.norm, ours.rest], mlp, torch.cat([ours.of_coarse.weight, ours.of_fine.weight], 1), ours.of_coarse.bias
        )


@pytest.mark.parametrize("norm", [True, False])
def test_dense_pointnet2_is_the_same_network(norm):
    torch.manual_seed(0)
    # As many neighbors as points: a ball never holds more, so the first k and the nearest k are the same.
    levels = (
        Level(24, (0.3, 0.6), (60, 60), ((8, 16), (8, 12))),
        Level(8, (0.9,), (24,), ((16, 20),)),
    )
    net = PointNet2(levels=levels, out_channels=10, norm="batch" if norm else "none").double()
    dense = references.DensePointNet2(levels, 10, norm).double()
    pos = torch.randn(3, 60, 3, dtype=torch.float64)
    pos = pos / pos.norm(dim=-1, keepdim=True)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    copy_weights(net, dense)
    net.eval(), dense.eval()
    ptr = torch.arange(0, 181, 60)
    a, b = net(None, pos.view(-1, 3), ptr=ptr), dense(pos)
    assert a.std() > 0.01
    # The usual interpolation adds 1e-8 to squared distances of down to 1e-3, hence not closer.
    torch.testing.assert_close(b.reshape(-1, 10), a, rtol=1e-4, atol=1e-4)
    # Gradients too. Not under batch norm: free slots repeat different neighbors, which its statistics count.
    if not norm:
        ours, usual = pos.clone().requires_grad_(), pos.clone().requires_grad_()
        net(None, ours.view(-1, 3), ptr=ptr).square().sum().backward()
        dense(usual).square().sum().backward()
        assert net.context[0].weight.grad.abs().max() > 0
        torch.testing.assert_close(
            dense.context[0].weight.grad.squeeze(-1), net.context[0].weight.grad, rtol=1e-3, atol=1e-3
        )


def test_literal_skeleton_merger_is_the_same_loss():
    torch.manual_seed(0)
    levels = (Level(24, (0.3, 0.6), (60, 60), ((8, 16), (8, 12))), Level(8, (0.9,), (24,), ((16, 20),)))
    pos = torch.rand(60, 3, dtype=torch.float64) * 2 - 1
    anchors = torch.rand(4, 3, dtype=torch.float64) * 2 - 1
    merger = SkeletonMerger(PointNet2(levels=levels, out_channels=10, norm="none"), 4, anchors=anchors).double()
    merger.anchors = anchors  # kept in float32
    literal = references.LiteralSkeletonMerger(levels, 4, 10, norm=False).double()
    copy_weights(merger.backbone, literal.backbone)
    literal.score.load_state_dict(merger.score.state_dict())
    literal.strength.load_state_dict(merger.strength.state_dict())
    with torch.no_grad():
        for offsets, own in zip(literal.offsets, merger.offsets, strict=True):
            offsets.copy_(own)
    out = merger(None, pos)
    skeleton = skeleton_points(out["keypoints"], out["offsets"])
    ours = sum(composite_chamfer(skeleton.points, skeleton.ptr, out["activation"], pos))
    ours = ours + 0.01 * out["offsets"].square().sum()
    usual = literal(pos[None], anchors)
    # As near as the two networks are, which interpolate a little differently.
    torch.testing.assert_close(usual, ours, rtol=1e-4, atol=1e-4)
    ours.backward(), usual.backward()
    for a, b in (
        (merger.score, literal.score),
        (merger.strength, literal.strength),
        (merger.backbone.context, literal.backbone.context),
    ):
        for ours_weight, usual_weight in zip(a.parameters(), b.parameters(), strict=True):
            assert ours_weight.grad.abs().max() > 0 or ours_weight.dim() == 1
            torch.testing.assert_close(usual_weight.grad.view_as(ours_weight), ours_weight.grad, rtol=2e-3, atol=2e-3)
    torch.testing.assert_close(
        torch.stack([o.grad for o in literal.offsets]), merger.offsets.grad, rtol=2e-3, atol=1e-5
    )
