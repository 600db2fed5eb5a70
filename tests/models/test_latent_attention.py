import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from pcsa.models import LatentAttention
from pcsa.models.latent_attention import tiles

SIZES = (40, 1, 17, 300, 2)


def _clouds(sizes=SIZES, channels=12, dtype=torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Features, the cloud of each point, and where clouds begin."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(sum(sizes), channels, generator=generator, dtype=torch.float64).to(dtype)
    ptr = torch.tensor([0, *sizes]).cumsum(0)
    return x, torch.arange(len(sizes)).repeat_interleave(ptr.diff()), ptr


def _block(dtype=torch.float64, **options) -> LatentAttention:
    torch.manual_seed(0)
    block = LatentAttention(12, **{"num_tokens": 5, "num_heads": 2, "attention_channels": 6, **options}).to(dtype)
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.5)
    return block.eval()


def _attention(layer: nn.Module, query: Tensor, token: Tensor) -> Tensor:
    """Multi-head attention of rows to rows, head by head."""
    q, (k, v) = layer.query(query), layer.key_value(token).chunk(2, 1)
    width = q.shape[1] // layer.num_heads
    heads = []
    for h in range(layer.num_heads):
        part = slice(h * width, (h + 1) * width)
        weight = (q[:, part] @ k[:, part].T / math.sqrt(width)).softmax(1)
        heads.append(weight @ v[:, part])
    return layer.out(torch.cat(heads, 1))


def _naive(block: LatentAttention, x: Tensor) -> Tensor:
    """One cloud: tokens gather the points and look at each other, points look at the tokens."""
    normed = block.norm(x)
    mean = torch.stack([score.softmax(0) @ normed for score in block.gather(normed).T])
    tokens = block.tokens + block.value(mean)
    normed_tokens = block.token_norm(tokens)
    tokens = tokens + _attention(block.among, normed_tokens, normed_tokens)
    x = x + _attention(block.attend, normed, block.key_norm(tokens))
    return x + block.mlp(x)


def test_same_as_one_cloud_after_the_other():
    x, batch, ptr = _clouds()
    block = _block()
    inputs = [x.requires_grad_(), *block.parameters()]
    out = block(x, batch, ptr)
    expected = torch.cat([_naive(block, x[start:end]) for start, end in itertools.pairwise(ptr.tolist())])
    torch.testing.assert_close(out, expected, rtol=1e-9, atol=1e-9)
    cotangent = torch.randn_like(out)
    got, wanted = (torch.autograd.grad((y * cotangent).sum(), inputs) for y in (out, expected))
    for a, b in zip(got, wanted, strict=True):
        assert a.abs().sum() > 0
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8)


def test_gradcheck():
    x, batch, ptr = _clouds((5, 2))
    block = _block()
    assert torch.autograd.gradcheck(lambda x: block(x, batch, ptr), (x.requires_grad_(),))


def test_permutation():
    x, batch, ptr = _clouds()
    block = _block()
    out = block(x, batch, ptr)
    order = torch.cat([start + torch.randperm(end - start) for start, end in itertools.pairwise(ptr.tolist())])
    torch.testing.assert_close(block(x[order], batch, ptr), out[order], rtol=1e-9, atol=1e-9)
    assert not torch.allclose(out, out[order])


@pytest.mark.parametrize(
    "sizes", [(1,), (1, 1), (128,), (129, 1, 256), (1000, 1, 1, 1), (2,) * 50, (255, 257, 256)], ids=str
)
def test_tiles_hold_every_point_of_one_cloud_each(sizes):
    ptr = torch.tensor([0, *sizes]).cumsum(0)
    batch = torch.arange(len(sizes)).repeat_interleave(ptr.diff())
    slot, owner, size = tiles(batch, ptr)
    assert slot.unique().numel() == sum(sizes)
    assert int(slot.min()) >= 0
    assert int(slot.max()) < owner.numel() * size
    assert torch.equal(owner[slot // size], batch)
    # Nothing is padded to the longest cloud.
    assert owner.numel() * size <= 1.5 * sum(sizes) + len(sizes)


def test_large_scores_overflow_nothing():
    x, batch, ptr = _clouds(dtype=torch.float32)
    block = _block(torch.float32)
    nn.init.normal_(block.gather.weight, std=1e4)
    x.requires_grad_()
    out = block(x, batch, ptr)
    out.sum().backward()
    assert out.isfinite().all()
    assert x.grad.isfinite().all()


def test_bf16():
    x, batch, ptr = _clouds(dtype=torch.float32)
    block = _block(torch.float32)
    expected = block(x, batch, ptr)
    with torch.autocast("cpu", torch.bfloat16):
        out = block(x, batch, ptr)
    out.sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in block.parameters())
    assert (out.float() - expected).norm() < 0.02 * expected.norm()
    whole = block.bfloat16()(x.bfloat16(), batch, ptr)
    assert whole.dtype == torch.bfloat16
    assert whole.isfinite().all()


@torch.no_grad()
def test_compiles_in_one_piece_for_any_sizes():
    block = _block()
    compiled = torch.compile(block, backend="aot_eager", fullgraph=True, dynamic=True)
    for sizes in (SIZES, (30, 20), (7, 8, 9)):
        x, batch, ptr = _clouds(sizes)
        torch.testing.assert_close(compiled(x, batch, ptr), block(x, batch, ptr))


def test_nothing_is_read_from_the_device():
    # On a device without values, reading one raises.
    block = _block().to("meta")
    x, batch, ptr = (value.to("meta") for value in _clouds())
    assert block(x, batch, ptr).shape == x.shape


def test_drop_path():
    x, batch, ptr = _clouds()
    block = _block(drop_path=0.6)
    torch.manual_seed(0)
    out = block.train()(x, batch, ptr)
    unchanged = [b for b in range(len(SIZES)) if torch.equal(out[batch == b], x[batch == b])]
    assert 0 < len(unchanged) < len(SIZES)


def test_errors():
    for options, match in (
        ({"channels": 0}, r"`channels` \(=0\) must be at least 1"),
        ({"channels": 8, "num_tokens": 0}, r"`num_tokens` \(=0\) must be at least 1"),
        ({"channels": 8, "num_heads": 0}, r"`num_heads` \(=0\) must be at least 1"),
        ({"channels": 8, "attention_channels": 6}, r"`attention_channels` \(=6\) must be a multiple of `num_heads`"),
        ({"channels": 8, "hidden_channels": 0}, r"`hidden_channels` \(=0\) must be at least 1"),
    ):
        with pytest.raises(ValueError, match=match):
            LatentAttention(**options)
