import itertools

import pytest
import torch
from torch import Tensor, nn

from pcsa.models import LocalBlock
from pcsa.neighbors import knn

SIZES = (40, 1, 17, 3)


def _clouds(sizes=SIZES, k=6, dtype=torch.float64) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Positions, neighbors, the cloud of each point, and where clouds begin."""
    generator = torch.Generator().manual_seed(0)
    pos = torch.rand(sum(sizes), 3, generator=generator, dtype=torch.float64).to(dtype)
    ptr = torch.tensor([0, *sizes]).cumsum(0)
    return pos, knn(pos, ptr, k).index, torch.arange(len(sizes)).repeat_interleave(ptr.diff()), ptr


def _block(norm="group", dtype=torch.float64, **options) -> LocalBlock:
    torch.manual_seed(0)
    block = LocalBlock(12, 8, radius=0.3, norm=norm, **options).to(dtype)
    for module in block.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.GroupNorm)):
            nn.init.uniform_(module.weight, -1.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
        if isinstance(module, nn.BatchNorm1d):
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 1.5)
    return block.eval()


def _naive(block: LocalBlock, x: Tensor, pos: Tensor, neighbors: Tensor) -> Tensor:
    """Point by point, with the features and the offset of each neighbor."""
    out = []
    for i, row in enumerate(neighbors.tolist()):
        linear = [
            block.of_features.weight @ x[j] + block.of_offset.weight @ (pos[j] - pos[i]) / block.radius for j in row
        ]
        h = torch.stack(linear).max(0).values
        h = h if block.of_offset.bias is None else h + block.of_offset.bias
        h = block.norm(h[None]).clamp(min=0)
        out.append((x[i] + block.out_norm(block.out(h))[0]).clamp(min=0))
    return torch.stack(out)


@pytest.mark.parametrize("norm", ["batch", "group", "none"])
def test_same_as_a_loop(norm):
    pos, neighbors, batch, _ = _clouds()
    x = torch.randn(len(pos), 12, dtype=pos.dtype)
    block = _block(norm)
    inputs = [x.requires_grad_(), pos.requires_grad_(), *block.parameters()]
    out, expected = block(x, pos, neighbors, batch, len(SIZES)), _naive(block, x, pos, neighbors)
    torch.testing.assert_close(out, expected, rtol=1e-9, atol=1e-9)
    cotangent = torch.randn_like(out)
    got, wanted = (torch.autograd.grad((y * cotangent).sum(), inputs) for y in (out, expected))
    for a, b in zip(got, wanted, strict=True):
        assert a.abs().sum() > 0
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_gradcheck():
    pos, neighbors, batch, _ = _clouds((7, 2), 3)
    x = torch.randn(9, 12, dtype=pos.dtype)
    block = _block()
    assert torch.autograd.gradcheck(
        lambda x, pos: block(x, pos, neighbors, batch, 2), (x.requires_grad_(), pos.requires_grad_())
    )


def test_batch_is_each_cloud_alone_translated_and_permuted():
    pos, neighbors, batch, ptr = _clouds()
    x = torch.randn(len(pos), 12, dtype=pos.dtype)
    block = _block("batch")
    together = block(x, pos, neighbors, batch, len(SIZES))
    for start, end in itertools.pairwise(ptr.tolist()):
        order = torch.randperm(end - start)
        own, moved = x[start:end][order], pos[start:end][order] + torch.tensor([3.0, -1.0, 2.0])
        alone = block(own, moved, knn(moved, torch.tensor([0, end - start]), 6).index, batch[:1].expand(len(own)), 1)
        torch.testing.assert_close(together[start:end][order], alone, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("norm", ["batch", "group", "none"])
def test_bf16(norm):
    pos, neighbors, batch, _ = _clouds(dtype=torch.float32)
    pos = pos + 100  # the offsets of neighbors would not survive in bf16: its step at 100 is 0.5
    x = torch.randn(len(pos), 12)
    block = _block(norm, torch.float32)
    expected = block(x, pos, neighbors, batch, len(SIZES))
    with torch.autocast("cpu", torch.bfloat16):
        out = block(x, pos, neighbors, batch, len(SIZES))
    assert (out.float() - expected).norm() < 0.02 * expected.norm()
    whole = block.bfloat16()(x.bfloat16(), pos.bfloat16(), neighbors, batch, len(SIZES))
    assert whole.dtype == torch.bfloat16
    assert whole.isfinite().all()


def test_drop_path_leaves_the_point_as_it_is():
    pos, neighbors, batch, _ = _clouds()
    x = torch.randn(len(pos), 12, dtype=pos.dtype)
    block = _block(drop_path=0.5)
    expected = block(x, pos, neighbors, batch, len(SIZES))
    torch.manual_seed(0)
    out = block.train()(x, pos, neighbors, batch, len(SIZES))
    dropped = [b for b in range(4) if torch.equal(out[batch == b], x[batch == b].relu())]
    assert 0 < len(dropped) < 4
    assert not torch.allclose(out, expected)


def test_errors():
    for options, match in (
        ({"channels": 0}, r"`channels` \(=0\) must be at least 1"),
        ({"channels": 4, "hidden_channels": 0}, r"`hidden_channels` \(=0\) must be at least 1"),
        ({"channels": 4, "radius": 0.0}, r"`radius` \(=0.0\) must be positive"),
    ):
        with pytest.raises(ValueError, match=match):
            LocalBlock(**options)
