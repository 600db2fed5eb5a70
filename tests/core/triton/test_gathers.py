"""The first layer of balls by kernels, on CUDA or under the interpreter; both run these tests."""

import copy

import pytest
import torch

from pcsa._core.triton import clouds, gathers, norms
from pcsa.models.pointnet2 import Level, PointNet2, _Scale, build_geometry

LEVELS = (Level(20, (0.5, 0.9), (4, 6), ((6, 33), (5,))), Level(6, (1.5,), (5,), ((8,),)))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_scale_is_that_of_torch(dtype, device, close, monkeypatch):
    generator = torch.Generator().manual_seed(1)
    pos = torch.rand(70, 3, generator=generator, dtype=dtype).to(device)
    ptr = torch.tensor([0, 40, 41, 70])
    (level,) = build_geometry(pos, ptr, LEVELS[:1])
    assert not level.inside.all()
    torch.manual_seed(0)
    # As much wider than a step of columns, and fewer neighbors than were found.
    scale = _Scale(7, (37, 5), 0.5, 4, "batch").to(device, dtype)
    x = torch.randn(70, 7, generator=generator, dtype=dtype).to(device)
    found = []
    for ours in (True, False):
        with monkeypatch.context() as patch:
            if not ours:
                patch.setattr(gathers, "takes", lambda *_: False)
            leaf, own = x.clone().requires_grad_(), copy.deepcopy(scale)
            out = own(leaf, pos, pos[level.index], level.neighbors, level.inside[..., 0])
            grads = torch.autograd.grad(out.square().sum(), [leaf, *own.parameters()])
            found.append([out.detach(), *grads])
    for ours, theirs in zip(*found, strict=True):
        close(ours, theirs, scale=1 if dtype == torch.float64 else 1000)


def test_a_network_is_that_of_torch(device, close, monkeypatch):
    generator = torch.Generator().manual_seed(2)
    pos, ptr = torch.rand(90, 3, generator=generator, dtype=torch.float64).to(device), torch.tensor([0, 60, 61, 90])
    geometry = build_geometry(pos, ptr, LEVELS)
    torch.manual_seed(0)
    network = PointNet2(levels=LEVELS, out_channels=9).to(device).double()
    found = []
    for ours in (True, False):
        with monkeypatch.context() as patch:
            if not ours:
                for module in (clouds, gathers, norms):
                    patch.setattr(module, "takes", lambda *_: False)
            own = copy.deepcopy(network)
            out = own(None, pos, ptr=ptr.to(device), geometry=geometry)
            found.append([out.detach(), *torch.autograd.grad(out.square().sum(), list(own.parameters()))])
    for ours, theirs in zip(*found, strict=True):
        close(ours, theirs, scale=100)


def test_half_precision_features_and_full_precision_positions(device):
    pos = (torch.rand(12, 3, generator=torch.Generator().manual_seed(3)) + 1000).to(device)
    table = torch.ones(12, 2, dtype=torch.bfloat16, device=device, requires_grad=True)
    weight = torch.eye(3, device=device)[:2].contiguous().requires_grad_()
    near, inside = torch.arange(12, device=device).view(4, 3), torch.ones(4, 3, dtype=torch.bool, device=device)
    h = gathers.gathered(table, pos, pos[::3], weight, near, inside, 3, 0.5)
    wanted = 1 + 2 * (pos.view(4, 3, 3) - pos.view(4, 3, 3)[:, :1]).flatten(0, 1)[:, :2]
    torch.testing.assert_close(h, wanted, rtol=1e-6, atol=1e-6)
    h.sum().backward()
    assert table.grad.dtype == torch.bfloat16
    assert weight.grad.dtype == torch.float32


def test_gradients(device):
    generator = torch.Generator().manual_seed(4)
    make = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64).to(device)  # noqa: E731
    table, weight, pos = make(5, 4).requires_grad_(), make(4, 3).requires_grad_(), make(5, 3)
    near = torch.tensor([[0, 1, 1], [3, 4, 0]], device=device)
    inside = torch.tensor([[True, True, False], [True, False, False]], device=device)
    given = (near, inside, 2, 0.3)
    assert torch.autograd.gradcheck(lambda t, w: gathers.gathered(t, pos, pos[:2], w, *given), [table, weight])
    assert torch.autograd.gradgradcheck(lambda t, w: gathers.gathered(t, pos, pos[:2], w, *given), [table, weight])
    # Of positions alone, as in a network without features to train below.
    out = gathers.gathered(table.detach(), pos, pos[:2], weight, *given)
    assert torch.autograd.grad(out.sum(), weight)[0].shape == weight.shape


def test_which_balls_the_kernels_take(monkeypatch):
    monkeypatch.setattr(gathers, "builds", lambda *_: True)
    table, pos, near = torch.zeros(5, 2), torch.zeros(5, 3), torch.zeros(2, 3, dtype=torch.long)
    assert gathers.takes(table, pos, near)
    for other in ((table, pos.clone().requires_grad_(), near), (table.to("meta"), pos, near), (table, pos, near[:0])):
        assert not gathers.takes(*other)
