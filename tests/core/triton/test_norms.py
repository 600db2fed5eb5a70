"""Batch normalization, ReLU and maximum as fused kernels, on CUDA or under the interpreter; both run these tests."""

import copy

import pytest
import torch
from torch import nn

from pcsa._core.triton import launch, norms
from pcsa._core.triton.launch import interpreted
from pcsa.models.layers import PointMLP, mlp


@pytest.mark.skipif(interpreted(), reason="this is the process that it starts")
def test_kernels_under_the_interpreter(interpret):
    assert interpret("tests/core/triton/test_norms.py", "-m", "not cuda") > 7


def plain(x, norm, size):
    h = norm(x).relu()
    return h if size == 1 else h.view(-1, size, h.shape[1]).max(1).values


@pytest.mark.parametrize(
    ("rows", "channels", "size", "dtype", "offset"),
    [
        (41, 5, 1, torch.float64, 0.0),
        (24, 3, 4, torch.float64, 0.0),
        # Several ranges and blocks of columns, the last of each in part, and more groups than a tile.
        (3 * 300, 33, 3, torch.float64, 0.0),
        (700, 4, 1, torch.float32, 1e4),
        (2, 1, 1, torch.float32, 0.0),
        (5, 2, 5, torch.float32, 0.0),
    ],
)
def test_same_as_torch(device, close, rows, channels, size, dtype, offset):
    generator = torch.Generator().manual_seed(rows)
    values = torch.randn(rows, channels, generator=generator, dtype=dtype) * 2 + offset
    pull = torch.randn(rows // size, channels, generator=generator, dtype=dtype).to(device)
    norm = nn.BatchNorm1d(channels, dtype=dtype, device=device)
    with torch.no_grad():
        norm.weight.copy_(torch.randn(channels, generator=generator, dtype=dtype))
        norm.bias.copy_(torch.randn(channels, generator=generator, dtype=dtype))
    found = []
    for function in (plain, norms.normalized_maximum):
        own, x = copy.deepcopy(norm), values.to(device).requires_grad_()
        for _ in range(2):
            out = function(x, own, size)
            grads = torch.autograd.grad(out, [x, own.weight, own.bias], pull)
        assert own.num_batches_tracked == 2
        found.append([out, *grads, own.running_mean, own.running_var])
    scale = 30 if dtype == torch.float64 else 1 + offset
    for ours, expected in zip(found[1], found[0], strict=True):
        close(ours, expected, scale=scale)


def test_gradients(device):
    generator = torch.Generator().manual_seed(0)
    for size in (1, 3):
        norm = nn.BatchNorm1d(2, dtype=torch.float64, device=device)
        x = torch.randn(9, 2, generator=generator, dtype=torch.float64).to(device).requires_grad_()
        weight, bias = (torch.rand(2, dtype=torch.float64, device=device).requires_grad_() for _ in range(2))

        def run(x, weight, bias, norm=norm, size=size):
            held = nn.BatchNorm1d(2, dtype=torch.float64, device=device)
            del held.weight, held.bias
            held.weight, held.bias = weight, bias
            return norms.normalized_maximum(x, held, size)

        assert torch.autograd.gradcheck(run, (x, weight, bias))


def test_what_is_not_a_number_stays_so(device):
    norm = nn.BatchNorm1d(2, device=device)
    x = torch.zeros(6, 2, device=device)
    x[0, 0] = torch.nan
    out = norms.normalized_maximum(x, norm)
    assert out[:, 0].isnan().all()
    assert (out[:, 1] == 0).all()  # equal rows: the mean of all, and no negative variance


def test_layers_take_the_kernels(device, close):
    torch.manual_seed(0)
    layers = mlp([3, 4, 2], "batch").to(device)
    assert isinstance(layers, PointMLP)
    x = torch.randn(12, 3, device=device)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(norms, "takes", lambda *_: False)
        expected = copy.deepcopy(layers)(x, 4)
    copy.deepcopy(layers)(x, 4)  # builds the kernels, by runs of their own
    calls = []
    with pytest.MonkeyPatch.context() as patch:
        run = norms.normalized_maximum
        patch.setattr(norms, "normalized_maximum", lambda *args: calls.append(args[2]) or run(*args))
        close(layers(x, 4), expected)
    assert calls == [1, 4]


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available() or interpreted(), reason="no CUDA device")
def test_same_bits_every_time():
    norm, x = nn.BatchNorm1d(64, device="cuda"), torch.randn(65_536, 64, device="cuda", requires_grad=True)
    found = []
    for _ in range(3):
        out = norms.normalized_maximum(x, norm, 16)
        found.append([out, *torch.autograd.grad(out.sum(), [x, norm.weight])])
    assert all(torch.equal(a, b) for again in found[1:] for a, b in zip(again, found[0], strict=True))


def test_what_is_left_to_torch(monkeypatch):
    monkeypatch.setattr(launch, "usable", lambda device: True)
    monkeypatch.setattr(launch, "interpreted", lambda: True)
    x, norm = torch.rand(4, 3), nn.BatchNorm1d(3)
    assert norms.takes(x, norm, 2)
    assert not norms.takes(x, nn.BatchNorm1d(3).eval(), 2)
    assert not norms.takes(x, nn.BatchNorm1d(3, momentum=None), 2)
    assert not norms.takes(x, nn.BatchNorm1d(3, affine=False), 2)
    assert not norms.takes(x, nn.SyncBatchNorm(3), 2)
    assert not norms.takes(x, nn.GroupNorm(1, 3), 2)
    assert not norms.takes(x[:1], norm)
    assert not norms.takes(x, norm, 65)
    assert not norms.takes(x[None], norm)
    assert not norms.takes(x.to("meta"), norm)
    monkeypatch.setattr(launch, "usable", lambda device: False)
    assert not norms.takes(x, norm, 2)
