import numpy as np
import pytest
import scipy.spatial.distance
import scipy.stats
import torch

import pcsa.losses as losses

K, D = 3, 2


@pytest.mark.parametrize("norm", ["l1", "squared", "bounded"])
@pytest.mark.parametrize("per_axis", [False, True])
def test_closed_form_is_the_mean_over_the_mixture(norm, per_axis, Case):
    case = Case(5, sizes=(6,), per_axis=per_axis)
    g = torch.Generator().manual_seed(0)
    draws = 40_000
    exact = losses.mixture_expected_error(
        case.logits, case.pos, case.bandwidth, case.target, norm=norm, sigma=0.8, reduction="none"
    )
    spread = case.bandwidth if per_axis else case.bandwidth[:, None].expand(-1, D)
    for k in range(K):
        component = torch.multinomial(case.logits[:, k].softmax(0), draws, replacement=True, generator=g)
        noise = torch.randn(draws, D, generator=g, dtype=torch.float64)
        offset = case.pos[component] + spread[component] * noise - case.target[0, k]
        error = offset.abs().sum(1) if norm == "l1" else offset.square().sum(1)
        error = 1 - (-error / (2 * 0.8**2)).exp() if norm == "bounded" else error
        assert abs(error.mean() - exact[0, k]) < 4 * error.std() / draws**0.5


@pytest.mark.parametrize("per_axis", [False, True])
def test_nll_agrees_with_scipy(per_axis, Case, call, on_points):
    case = Case(6, per_axis=per_axis)
    actual = call(on_points["mixture_nll-"], case, reduction="none")
    for b in range(len(case.sizes)):
        own = slice(case.ptr[b], case.ptr[b + 1])
        for k in range(K):
            prob = case.logits[own, k].softmax(0).numpy()
            density = [
                scipy.stats.multivariate_normal.pdf(case.target[b, k].numpy(), y, np.diag(np.broadcast_to(s, D) ** 2))
                for y, s in zip(case.pos[own].numpy(), case.bandwidth[own].numpy(), strict=True)
            ]
            assert actual[b, k].item() == pytest.approx(-np.log(prob @ density), rel=1e-10)


def test_nll_of_one_point_is_that_of_a_normal_distribution():
    loss = losses.mixture_nll(torch.zeros(1, 1), torch.tensor([[2.0]]), 0.5, torch.tensor([[[3.5]]]))
    assert loss.item() == pytest.approx(-scipy.stats.norm.logpdf(3.5, 2.0, 0.5), rel=1e-6)


def test_nll_becomes_cross_entropy_as_the_bandwidth_vanishes(Case, call, on_points):
    case = Case(7, sizes=(8, 6))
    case.logits.requires_grad_()
    wanted = torch.autograd.grad(call(on_points["nearest_point_cross_entropy-"], case), case.logits)[0]
    gaps = []
    for sigma in (1.0, 0.3, 0.1, 1e-3):
        nll = losses.mixture_nll(case.logits, case.pos, sigma, case.target, case.batch)
        gaps.append((torch.autograd.grad(nll, case.logits)[0] - wanted).abs().max().item())
    assert gaps[0] > gaps[1] > gaps[2] > gaps[3]
    assert gaps[0] > 0.01
    assert gaps[3] < 1e-12
