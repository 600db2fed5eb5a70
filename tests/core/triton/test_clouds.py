"""Maximum and sum over clouds by kernels, on CUDA or under the interpreter; both run these tests."""

import math

import pytest
import torch

from pcsa._core import points as core
from pcsa._core.points import Points
from pcsa._core.triton import clouds
from pcsa._core.triton.launch import interpreted

# More than a step of rows, one point, and no point.
SIZES = (150, 1, 9, 64)


@pytest.mark.skipif(interpreted(), reason="this is the process that it starts")
@pytest.mark.parametrize(
    ("tests", "least"),
    [("empty_clouds or not_kept or by_hand or half", 4), pytest.param("test", 30, marks=pytest.mark.slow)],
)
def test_kernels_under_the_interpreter(tests, least, interpret):
    files = [f"tests/core/triton/test_{name}.py" for name in ("clouds", "means", "nearest", "gathers")]
    assert interpret(*files, "-m", "not cuda", "-k", tests) >= least


def ptr_of(sizes, device):
    return torch.tensor([0, *sizes]).cumsum(0).to(device)


def rows(sizes, channels, dtype, device):
    # Whole numbers: many are equal.
    generator = torch.Generator().manual_seed(1)
    return torch.randint(-4, 5, (sum(sizes), channels), generator=generator).to(dtype).to(device)


def both(x, ptr, function, monkeypatch):
    """What kernels and plain torch find."""
    batch = torch.searchsorted(ptr, torch.arange(len(x), device=x.device), right=True) - 1
    points = Points(x, x, None, batch, ptr, ptr.numel() - 1, None)
    assert clouds.takes(x)
    ours = function(x, points)
    with monkeypatch.context() as patch:
        patch.setattr(clouds, "takes", lambda x: False)
        return ours, function(x, points)


@pytest.mark.parametrize(("channels", "dtype"), [(5, torch.float64), (33, torch.float32), (3, torch.bfloat16)])
def test_maximum_is_that_of_torch(channels, dtype, device, monkeypatch):
    x, ptr = rows(SIZES, channels, dtype, device), ptr_of(SIZES, device)
    x[3:150, 1] = -math.inf
    pull = torch.randn(len(SIZES), channels, generator=torch.Generator().manual_seed(2)).to(dtype).to(device)

    def run(x, points):
        leaf = x.clone().requires_grad_()
        largest = core.cloud_max(leaf, points)
        return largest.detach(), torch.autograd.grad(largest, leaf, pull)[0]

    for ours, theirs in zip(*both(x, ptr, run, monkeypatch), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_first_maximum_is_that_of_torch(dtype, device, monkeypatch):
    x, ptr = rows(SIZES, 35, dtype, device), ptr_of(SIZES, device)
    x[151:160, 2] = -math.inf
    ours, theirs = both(x, ptr, core.first_maximum, monkeypatch)
    assert torch.equal(ours, theirs)


def test_empty_clouds_and_what_is_not_a_number(device):
    x = torch.tensor([[1.0, math.nan], [2.0, 3.0], [0.0, 5.0]], device=device)
    ptr = torch.tensor([0, 2, 2, 3, 3], device=device)
    largest = clouds.maximum(x, ptr).tolist()
    assert largest[1] == largest[3] == [-math.inf, -math.inf]
    assert largest[0][0] == 2
    assert math.isnan(largest[0][1])
    assert largest[2] == [0, 5]
    row = clouds.first_maximum(x, ptr)
    assert row[::2, 0].tolist() == [1, 2]
    assert bool(((row >= 0) & (row < 3)).all())  # may be used as rows


def test_gradients(device):
    ptr = ptr_of((3, 1, 2), device)
    generator = torch.Generator().manual_seed(3)
    x, y = (torch.randn(n, 4, generator=generator, dtype=torch.float64).to(device).requires_grad_() for n in (6, 3))
    assert torch.autograd.gradcheck(lambda x: clouds.maximum(x, ptr), [x])
    assert torch.autograd.gradcheck(lambda x, y: clouds.plus(x, y, ptr), [x, y])
    assert torch.autograd.gradgradcheck(lambda x: clouds.maximum(x, ptr), [x])
    assert torch.autograd.gradgradcheck(lambda x, y: clouds.plus(x, y, ptr), [x, y])
    # A gradient that is one number for all.
    for function in (lambda x: clouds.maximum(x, ptr).sum(), lambda x: clouds.plus(x, y, ptr).sum()):
        assert torch.autograd.grad(function(x), x)[0].sum() in (12, 24)


def test_plus_is_that_of_torch(device):
    x, y, ptr = rows(SIZES, 40, torch.float32, device), rows((4,), 40, torch.bfloat16, device), ptr_of(SIZES, device)
    owner = clouds.owners(ptr, len(x))
    assert torch.equal(owner.cpu(), torch.arange(4).repeat_interleave(torch.tensor(SIZES)))
    out = clouds.plus(x, y.requires_grad_(), ptr)
    assert torch.equal(out, x + y[owner])
    assert out.dtype == torch.float32
    out.backward(x)
    torch.testing.assert_close(y.grad, torch.zeros_like(x[:4]).index_add(0, owner, x).to(y.dtype))


def test_owners_write_nowhere_else(device):
    # Nobody has checked these yet.
    for bounds in ([0, 900], [0, 2, 1, 3], [5, 7], [-3, 1, 9]):
        assert clouds.owners(torch.tensor(bounds, device=device), 300).shape == (300,)
    assert clouds.owners(torch.tensor([0, 0, 2, 2, 3], device=device), 3).tolist() == [1, 1, 3]


def test_the_same_bits_every_time(device):
    x, ptr = torch.randn(300, 7, device=device, requires_grad=True), ptr_of((100, 200), device)
    y = torch.randn(2, 7, device=device, requires_grad=True)
    grads = [torch.autograd.grad(clouds.plus(x, y, ptr).square().sum(), y)[0] for _ in range(2)]
    assert torch.equal(*grads)


def test_which_rows_the_kernels_take(monkeypatch):
    monkeypatch.setattr(clouds, "builds", lambda *_: True)
    x = torch.zeros(5, 2)
    assert clouds.takes(x)
    for other in (x[0], x[:0], x.long(), x.to("meta"), x.expand(1 << 10, 5, 2), x[:1].expand((1 << 17) + 1, 2)):
        assert not clouds.takes(other)
    assert clouds.owns(torch.tensor([0, 5]), 5)
    assert not clouds.owns(torch.tensor([0, 5], device="meta"), 5)
    assert not clouds.owns(torch.tensor([0, 0]), 0)
