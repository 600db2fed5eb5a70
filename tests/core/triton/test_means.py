"""Masked means and binary cross-entropy by kernels, on CUDA or under the interpreter; both run these tests."""

import math

import pytest
import torch
from torch.nn import functional as F

from pcsa import losses
from pcsa._core.triton import means
from pcsa.losses.arguments import keypoints_of


@pytest.mark.parametrize(
    ("shape", "dtype"), [((3, 500), torch.float64), ((8, 20), torch.float32), ((1, 1), torch.float32)]
)
@pytest.mark.parametrize("masked", [True, False])
def test_mean_is_that_of_torch(shape, dtype, masked, device, close, monkeypatch):
    generator = torch.Generator().manual_seed(1)
    loss = torch.rand(shape, generator=generator, dtype=dtype).to(device).requires_grad_()
    visible = (torch.rand(shape, generator=generator) < 0.6).to(device) if masked else None
    found = []
    for ours in (True, False):
        with monkeypatch.context() as patch:
            if not ours:
                patch.setattr(means, "takes", lambda x: False)
            out = keypoints_of(shape, visible=visible).reduce(loss)
            found.append((out.detach(), torch.autograd.grad(3 * out, loss)[0]))
    for ours, theirs in zip(*found, strict=True):
        close(ours, theirs)


def test_what_is_not_kept_is_not_read(device):
    loss = torch.tensor([[1.0, math.nan], [math.inf, 3.0]], device=device, requires_grad=True)
    keep = torch.tensor([[True, False], [False, True]], device=device)
    out = means.mean(loss, keep)
    out.backward()
    assert out == 2
    assert loss.grad.tolist() == [[0.5, 0], [0, 0.5]]
    nothing = means.mean(loss, torch.zeros_like(keep))
    assert nothing == 0
    assert torch.autograd.grad(nothing, loss)[0].tolist() == [[0, 0], [0, 0]]
    # By columns, and a view with gaps.
    assert means.mean(loss.T, keep.T) == 2
    assert means.mean(loss[:, :1], keep[:, :1]) == 1


def test_gradients(device):
    x = torch.randn(3, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64).to(device).requires_grad_()
    keep = torch.arange(15, device=device).view(3, 5) % 3 > 0
    for function in (lambda x: means.mean(x, keep), lambda x: means.mean(x, None)):
        assert torch.autograd.gradcheck(function, [x])
        assert torch.autograd.gradgradcheck(function, [x])
    assert torch.autograd.gradcheck(lambda x: means.binary_cross_entropy(x, keep), [x])
    assert torch.autograd.gradgradcheck(lambda x: means.binary_cross_entropy(x, keep), [x])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_binary_cross_entropy_is_that_of_torch(dtype, device, close):
    score = torch.cat([torch.linspace(-120, 120, 1200, dtype=dtype), torch.tensor([0.0, 1e-9, -1e-9], dtype=dtype)])
    score = score.to(device).requires_grad_()
    label = torch.arange(len(score), device=device) % 2 == 0
    ours = losses.presence_loss(score.view(3, -1), label.view(3, -1))
    theirs = F.binary_cross_entropy_with_logits(score, label.to(dtype))
    close(ours, theirs)
    for one, other in zip(*(torch.autograd.grad(x, score) for x in (ours, theirs)), strict=True):
        close(len(score) * one, len(score) * other)
    # Sure and right: the loss is small and not zero.
    sure = torch.tensor([[30.0]], dtype=dtype, device=device, requires_grad=True)
    loss = losses.presence_loss(sure, sure > 0)
    (slope,) = torch.autograd.grad(loss, sure)
    assert loss.item() == pytest.approx(math.exp(-30), rel=1e-5)
    assert slope.item() == pytest.approx(-math.exp(-30), rel=1e-5)


def test_which_numbers_the_kernels_take(monkeypatch):
    monkeypatch.setattr(means, "builds", lambda *_: True)
    assert means.takes(torch.zeros(3, 2))
    for other in (torch.zeros(0), torch.zeros(2).bfloat16(), torch.zeros(2).to("meta"), torch.zeros(1).expand(70_000)):
        assert not means.takes(other)
