"""The mixture's objectives with a covariance for each point, against loops over densities."""

import math

import numpy as np
import pytest
import scipy.stats
import torch

from pcsa import losses

K, D = 3, 2
OPTIONS = {
    "nll": {},
    "l1": {"norm": "l1"},
    "squared": {"norm": "squared"},
    "bounded": {"norm": "bounded", "sigma": 0.6},
}


def loss(name, *inputs, **options):
    function = losses.mixture_nll if name == "nll" else losses.mixture_expected_error
    return function(*inputs, **OPTIONS[name], **options)


def factors(n, dim=D, seed=0):
    drawn = 0.4 * torch.randn(n, dim, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return drawn.tril(-1) + torch.diag_embed(drawn.diagonal(dim1=1, dim2=2).abs() + 0.1)


def naive(name, prob, pos, covariance, target):
    """Of one keypoint, by the densities of SciPy."""
    total = 0.0
    for p, y, c in zip(prob, pos, covariance, strict=True):
        if name == "nll":
            total += p * scipy.stats.multivariate_normal.pdf(target, y, c)
        elif name == "squared":
            total += p * (((y - target) ** 2).sum() + np.trace(c))
        elif name == "l1":
            for d in range(len(y)):
                total += p * scipy.stats.foldnorm.mean(abs(y[d] - target[d]) / c[d, d] ** 0.5, scale=c[d, d] ** 0.5)
        else:  # 1 - k N(x; t, s² I), and the integral of N(x; y, C) N(x; t, s² I) is N(t; y, C + s² I)
            s = 0.6
            density = scipy.stats.multivariate_normal.pdf(target, y, c + s**2 * np.eye(len(y)))
            total += p * (1 - (2 * math.pi * s**2) ** (len(y) / 2) * density)
    return -math.log(total) if name == "nll" else total


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("dim", [1, 3])
def test_against_scipy(name, dim):
    g = torch.Generator().manual_seed(1)
    sizes, factor = [4, 1, 6], factors(11, dim)
    logits, pos = torch.randn(11, K, generator=g, dtype=torch.float64), torch.randn(11, dim, generator=g).double()
    target, ptr = torch.randn(3, K, dim, generator=g).double(), torch.tensor([0, *sizes]).cumsum(0)
    logits[1, 0] = -math.inf
    found = loss(name, logits, pos, factor, target, ptr=ptr, reduction="none", validate=False)
    covariance = (factor @ factor.mT).numpy()
    for b in range(3):
        own = slice(ptr[b], ptr[b + 1])
        for k in range(K):
            prob = logits[own, k].softmax(0).numpy()
            wanted = naive(name, prob, pos[own].numpy(), covariance[own], target[b, k].numpy())
            assert found[b, k].item() == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("name", OPTIONS)
def test_gradients(name, Case):
    case, factor = Case(3), factors(15)
    inputs = [x.requires_grad_() for x in (case.logits, case.pos, factor, case.target)]
    options = {"ptr": case.ptr, "visible": case.visible}
    assert torch.autograd.gradcheck(lambda a, b, c, d: loss(name, a, b, c.tril(), d, **options), inputs)


@pytest.mark.parametrize("name", OPTIONS)
def test_matrices_along_the_axes_are_bandwidths_along_the_axes(name, Case):
    case = Case(2, per_axis=True)
    one, other = (
        loss(name, case.logits, case.pos, bandwidth, case.target, ptr=case.ptr, reduction="none")
        for bandwidth in (torch.diag_embed(case.bandwidth), case.bandwidth)
    )
    torch.testing.assert_close(one, other)


@pytest.mark.parametrize("name", ["nll", "squared", "bounded"])
def test_with_all_turned_together_nothing_changes(name, Case):
    case, factor = Case(4), factors(15)
    turn = torch.linalg.qr(torch.randn(D, D, generator=torch.Generator().manual_seed(0), dtype=torch.float64)).Q
    turned = torch.linalg.cholesky(turn @ factor @ factor.mT @ turn.T)
    one = loss(name, case.logits, case.pos, factor, case.target, ptr=case.ptr)
    other = loss(name, case.logits, case.pos @ turn.T, turned, case.target @ turn.T, ptr=case.ptr)
    torch.testing.assert_close(one, other)


@pytest.mark.parametrize("name", OPTIONS)
def test_dense_is_ragged(name, Case):
    case, factor = Case(1, sizes=(5, 3)), factors(8)
    ragged = loss(name, case.logits, case.pos, factor, case.target, ptr=case.ptr, reduction="none")
    mask = torch.tensor([[True] * 5, [True, False, True, True, False]])
    dense = []
    for x in (case.logits, case.pos, factor):
        filled = x.new_full((2, 5, *x.shape[1:]), math.nan)
        filled[mask] = x
        dense.append(filled)
    found = loss(name, *dense, case.target, mask=mask, reduction="none")
    torch.testing.assert_close(found, ragged)


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("size", [1.2e-38, 1e-15, 1e10])
def test_tiny_and_huge_matrices_are_no_nan(name, size):
    logits = torch.tensor([[0.0], [-math.inf]], requires_grad=True)
    pos = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 2.0]], requires_grad=True)
    lower = torch.eye(3) + torch.ones(3, 3).tril(-1) / 2
    for target in (torch.tensor([[[1.0, 0.0, 0.0]]]), torch.tensor([[[-1.0, 3.0, 2.0]]])):
        factor = (size * lower).repeat(2, 1, 1).requires_grad_()
        found = loss(name, logits, pos, factor, target, validate=False)
        assert found.isfinite()
        for grad in torch.autograd.grad(found, [logits, pos], retain_graph=True):
            assert grad.isfinite().all()
