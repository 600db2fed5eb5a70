"""Cross-entropy with the nearest point by kernels, on CUDA or under the interpreter; both run these tests."""

import math

import pytest
import torch

from pcsa import losses
from pcsa._core.triton import nearest

# More than a step of points, one point.
SIZES = (300, 1, 40)


@pytest.fixture
def compared(monkeypatch):
    """The loss and its gradient by kernels and by plain torch, with the same arguments."""

    def run(logits, *args, scale=1.0, **options):
        found = []
        for ours in (True, False):
            with monkeypatch.context() as patch:
                if not ours:
                    patch.setattr(nearest, "takes", lambda *_: False)
                leaf = logits.detach().clone().requires_grad_()
                loss = losses.nearest_point_cross_entropy(leaf, *args, reduction="none", **options)
                pull = torch.arange(1.0, loss.numel() + 1, dtype=loss.dtype, device=loss.device).view_as(loss)
                found.append((loss.detach(), torch.autograd.grad(loss, leaf, pull)[0]))
        return zip(*found, strict=True)

    return run


def inputs(sizes, K, D, dtype, device, lattice=False):
    generator = torch.Generator().manual_seed(5)
    N = sum(sizes)
    logits = 3 * torch.randn(N, K, generator=generator, dtype=dtype)
    pos = torch.randn(N, D, generator=generator, dtype=dtype)
    target = torch.randn(len(sizes), K, D, generator=generator, dtype=dtype)
    if lattice:  # points in one place, and equally near ones
        pos, target = pos.round(), (2 * target).round() / 2
    return logits.to(device), pos.to(device), target.to(device), torch.tensor([0, *sizes]).cumsum(0).to(device)


@pytest.mark.parametrize(
    ("K", "D", "dtype", "lattice"),
    [
        (35, 3, torch.float32, False),
        (3, 3, torch.float64, True),
        (2, 1, torch.float32, True),
        (1, 8, torch.float64, False),
    ],
)
def test_same_as_torch(K, D, dtype, lattice, device, close, compared):
    logits, pos, target, ptr = inputs(SIZES, K, D, dtype, device, lattice)
    assert nearest.takes(logits, pos)
    for ours, theirs in compared(logits, pos, target, ptr=ptr):
        close(ours, theirs, scale=100)


def test_far_from_the_origin_and_sure_of_something_else(device, close, compared):
    logits, pos, target, ptr = inputs(SIZES, 2, 3, torch.float32, device)
    logits[10] += 200
    for ours, theirs in compared(logits, pos + 1e4, target + 1e4, ptr=ptr):
        close(ours, theirs, scale=100)


def test_dense_with_points_switched_off(device, close, compared):
    generator = torch.Generator().manual_seed(6)
    logits = torch.randn(2, 30, 4, generator=generator, dtype=torch.float64).to(device)
    pos, target = (torch.randn(2, n, 3, generator=generator, dtype=torch.float64).to(device) for n in (30, 4))
    mask = torch.arange(60, device=device).view(2, 30) % 4 > 0
    # Targets at points that are switched off, and in the place that those have instead.
    target[:, 0], target[:, 1] = pos[:, 0], 0
    for ours, theirs in compared(logits, pos, target, mask=mask):
        close(ours, theirs)
        assert bool(ours.isfinite().all())


def test_what_is_not_visible_does_no_harm(device, close):
    logits, pos, target, ptr = inputs(SIZES, 2, 3, torch.float32, device)
    visible = torch.tensor([[True, False], [True, True], [False, False]], device=device)
    zeros = torch.where(visible[..., None], target, 0.0)
    grads = []
    for value in (math.nan, math.inf, 0.0):
        leaf = logits.clone().requires_grad_()
        broken = torch.where(visible[..., None], target, value)
        loss = losses.nearest_point_cross_entropy(leaf, pos, broken, ptr=ptr, visible=visible, validate=False)
        grads.append(torch.autograd.grad(loss, leaf)[0])
        close(loss, losses.nearest_point_cross_entropy(logits, pos, zeros, ptr=ptr, visible=visible))
    assert torch.equal(grads[0], grads[2])
    assert torch.equal(grads[1], grads[2])
    with pytest.raises(ValueError, match="`target`"):
        losses.nearest_point_cross_entropy(logits, pos, broken * math.nan, ptr=ptr, visible=visible)


def test_by_hand(device):
    # Three points, two of them in one place, the second as -0.0: -log(2/4) of equal scores, and -log(1/4).
    pos = torch.tensor([[0.0], [-0.0], [2.0], [5.0]], device=device)
    target = torch.tensor([[[0.9], [4.0]]], device=device)
    loss = losses.nearest_point_cross_entropy(torch.zeros(4, 2, device=device), pos, target, reduction="none")
    assert loss.exp().tolist() == [[pytest.approx(2), pytest.approx(4)]]


def test_gradient(device):
    logits, pos, target, ptr = inputs((4, 1, 3), 2, 2, torch.float64, device, lattice=True)
    loss = lambda x: losses.nearest_point_cross_entropy(x, pos, target, ptr=ptr, reduction="none")  # noqa: E731
    assert torch.autograd.gradcheck(loss, [logits.requires_grad_()])
    assert torch.autograd.gradgradcheck(loss, [logits])


def test_which_maps_the_kernels_take(monkeypatch):
    monkeypatch.setattr(nearest, "builds", lambda *_: True)
    logits, pos = torch.zeros(5, 2), torch.zeros(5, 3)
    assert nearest.takes(logits, pos)
    for other in ((logits[:0], pos[:0]), (logits, pos.double()), (logits.to("meta"), pos), (logits, torch.zeros(5, 9))):
        assert not nearest.takes(*other)
