"""Objectives over all marks of a keypoint: naive loops, laws, and what is refused."""

import math

import pytest
import torch
from torch.autograd import gradcheck

from pcsa import losses
from pcsa.losses import over_marks

PTR = torch.tensor([0, 6, 11])
K, M = 3, 4


def drawn(seed=0, dtype=torch.float64, m=M):
    g = torch.Generator().manual_seed(seed)
    logits, pos = torch.randn(11, K, generator=g, dtype=dtype), torch.randn(11, 3, generator=g, dtype=dtype)
    sigma = 0.2 + torch.rand(11, generator=g, dtype=dtype)
    marks = torch.randn(2, K, m, 3, generator=g, dtype=dtype)
    marked = torch.rand(2, K, m, generator=g) < 0.7
    marked[:, :, 0] = True
    marked[1, 1] = False
    return logits, pos, sigma, torch.where(marked.unsqueeze(-1), marks, math.nan), marked


def terms(pos, sigma, **points):
    return {
        "nll": lambda logits, target, **o: losses.mixture_nll(logits, pos, sigma, target, **points, **o),
        "cross_entropy": lambda logits, target, **o: losses.nearest_point_cross_entropy(
            logits, pos, target, **points, **o
        ),
        "soft_label": lambda logits, target, **o: losses.soft_label_cross_entropy(
            logits, pos, 0.4, target, **points, **o
        ),
    }


def naive_nll(logit, y, s, m):
    prob = logit.softmax(0)
    density = sum(
        prob[i]
        * math.exp(-float((m - y[i]).square().sum()) / (2 * float(s[i]) ** 2))
        / (2 * math.pi * s[i] ** 2) ** 1.5
        for i in range(len(y))
    )
    return -density.log()


def naive_cross_entropy(logit, y, s, m):
    return -logit.log_softmax(0)[(y - m).norm(dim=1).argmin()]


def naive_soft_label(logit, y, s, m):
    label = (-(y - m).square().sum(1) / (2 * 0.4**2)).softmax(0)
    return -(label * logit.log_softmax(0)).sum()


NAIVE = {"nll": naive_nll, "cross_entropy": naive_cross_entropy, "soft_label": naive_soft_label}


@pytest.mark.parametrize("name", NAIVE)
def test_it_is_the_mean_over_the_marks_and_then_over_the_keypoints(name):
    logits, pos, sigma, marks, marked = drawn()
    visible = torch.tensor([[True, False, True], [True, True, True]])
    logits.requires_grad_()
    expected = {}
    for b in range(2):
        rows = slice(PTR[b], PTR[b + 1])
        for k in range(K):
            own = [
                NAIVE[name](logits[rows, k], pos[rows], sigma[rows], marks[b, k, m])
                for m in range(M)
                if marked[b, k, m]
            ]
            if own and visible[b, k]:
                expected[b, k] = sum(own) / len(own)
    # One has no mark, one is not visible.
    assert len(expected) == 4
    term = terms(pos, sigma, ptr=PTR)[name]
    each = over_marks(term, logits, marks, marked, visible=visible, reduction="none")
    wanted = torch.stack([expected.get((b, k), torch.zeros(()).double()) for b in range(2) for k in range(K)])
    torch.testing.assert_close(each, wanted.view(2, K))
    loss = over_marks(term, logits, marks, marked, visible=visible)
    torch.testing.assert_close(loss, sum(expected.values()) / 4)
    torch.testing.assert_close(over_marks(term, logits, marks, marked, visible=visible, reduction="sum"), 4 * loss)
    (got,) = torch.autograd.grad(loss, logits)
    (grad,) = torch.autograd.grad(sum(expected.values()) / 4, logits)
    torch.testing.assert_close(got, grad)


@pytest.mark.parametrize("name", NAIVE)
@pytest.mark.parametrize("dense", [False, True])
def test_one_mark_is_the_objective_bit_for_bit(name, dense):
    logits, pos, sigma, marks, marked = drawn(dtype=torch.float32, m=1)
    points = {"ptr": PTR}
    visible = marked[:, :, 0]
    if dense:
        logits, pos, sigma, points = logits[:10].view(2, 5, K), pos[:10].view(2, 5, 3), sigma[:10].view(2, 5), {}
    logits.requires_grad_()
    term = terms(pos, sigma, **points)[name]
    several = over_marks(term, logits, marks, marked)
    one = term(logits, marks[:, :, 0], visible=visible)
    assert torch.equal(several, one)
    assert torch.equal(*(torch.autograd.grad(loss, logits)[0] for loss in (several, one)))


@pytest.mark.parametrize("name", NAIVE)
def test_padding_changes_nothing(name):
    logits, pos, sigma, marks, marked = drawn()
    term = terms(pos, sigma, ptr=PTR)[name]
    loss = over_marks(term, logits, marks, marked)
    wider = torch.cat([marks, torch.full((2, K, 3, 3), math.nan, dtype=marks.dtype)], 2)
    padded = torch.cat([marked, torch.zeros(2, K, 3, dtype=torch.bool)], 2)
    torch.testing.assert_close(over_marks(term, logits, wider, padded), loss, rtol=1e-12, atol=0)
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(over_marks(term, logits, marks[:, :, order], marked[:, :, order]), loss)


def test_the_best_map_has_the_shares_of_the_marks():
    pos = torch.tensor([[0.0, 0, 0], [1, 0, 0], [2, 0, 0]]).double()
    marks = pos[[0, 1, 1, 1]][None, None]
    marked = torch.ones(1, 1, 4, dtype=torch.bool)
    logits = torch.tensor([[0.25], [0.75], [1e-9]]).double().log().requires_grad_()
    loss = over_marks(terms(pos, 0.1)["cross_entropy"], logits, marks, marked)
    (grad,) = torch.autograd.grad(loss, logits)
    assert grad.abs().max() < 1e-8
    # That of the mean of the marks is one point alone.
    (grad,) = torch.autograd.grad(terms(pos, 0.1)["cross_entropy"](logits, marks.mean(2)), logits)
    assert grad[0] > 0.2


@pytest.mark.parametrize("name", NAIVE)
def test_gradcheck(name):
    logits, pos, sigma, marks, marked = drawn(1)
    marks = marks.nan_to_num(0.0).requires_grad_(name == "nll")
    logits.requires_grad_()
    if name == "nll":
        pos.requires_grad_()
        sigma.requires_grad_()

    def run(logits, pos, sigma, marks):
        return over_marks(terms(pos, sigma, ptr=PTR)[name], logits, marks, marked, reduction="none", validate=False)

    assert gradcheck(run, (logits, pos, sigma, marks), atol=1e-6)


def test_bad_input_is_refused():
    logits, pos, sigma, marks, marked = drawn()
    term = terms(pos, sigma, ptr=PTR)["nll"]
    with pytest.raises(ValueError, match=r"`marks` \[2, 3, 3\] must be \[B, K, M, D\]"):
        over_marks(term, logits, marks[:, :, 0], marked)
    with pytest.raises(ValueError, match="`marked`"):
        over_marks(term, logits, marks, marked[:, :, :2])
    with pytest.raises(ValueError, match=r"`marks` \[2, 3, 4, 3\] must have the K \(=2\) keypoints of `logits`"):
        over_marks(term, logits[:, :2], marks, marked)
    with pytest.raises(ValueError, match="`visible`"):
        over_marks(term, logits, marks, marked, visible=marked[:, :, 0].float())
    with pytest.raises(ValueError, match="`reduction`"):
        over_marks(term, logits, marks, marked, reduction="median")
    with pytest.raises(ValueError, match="finite"):
        over_marks(term, logits, marks, torch.ones_like(marked))
