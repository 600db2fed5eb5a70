import math

import numpy as np
import pytest
import scipy.spatial.distance
import scipy.stats
import torch
from hypothesis import given, settings, strategies as st

import pcsa.losses as losses

K = 3


def test_variance_has_its_second_derivative(Case):
    # The shift by a detached mean inside must not show in any derivative.
    case = Case(3, sizes=(4,))

    def run(logits, pos):
        return losses.variance_regularization(logits, pos, target_variance=0.3, reduction="none")

    assert torch.autograd.gradgradcheck(run, (case.logits.requires_grad_(), case.pos.requires_grad_()))


@pytest.mark.parametrize("center", ["mean", "target"])
def test_js_agrees_with_scipy(center, Case):
    case = Case(8)
    actual = losses.js_regularization(
        case.logits, case.pos, 0.4, case.target, case.batch, center=center, reduction="none"
    )
    for b in range(len(case.sizes)):
        own = slice(case.ptr[b], case.ptr[b + 1])
        for k in range(K):
            prob, pos = case.logits[own, k].softmax(0).numpy(), case.pos[own].numpy()
            middle = prob @ pos if center == "mean" else case.target[b, k].numpy()
            gauss = np.exp(-((pos - middle) ** 2).sum(1) / (2 * 0.4**2))
            expected = scipy.spatial.distance.jensenshannon(prob, gauss) ** 2 if len(prob) > 1 else 0.0
            assert actual[b, k].item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10**6), scale=st.floats(0, 1e4), sigma=st.floats(1e-3, 1e3))
def test_js_lies_between_0_and_log_2_with_finite_gradients(Case, seed, scale, sigma):
    case = Case(seed, dtype=torch.float32)
    case.logits = (case.logits * scale).requires_grad_()
    loss = losses.js_regularization(case.logits, case.pos, sigma, batch=case.batch, reduction="none")
    assert (loss > -1e-6).all()
    assert (loss < math.log(2) + 1e-6).all()
    assert torch.autograd.grad(loss.sum(), case.logits)[0].isfinite().all()
