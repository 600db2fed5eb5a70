"""Every objective against a naive loop, an outside oracle, and numbers checked by hand."""

import math

import numpy as np
import pytest
import scipy.spatial.distance
import scipy.stats
import torch
from hypothesis import given, settings, strategies as st
from torch.autograd import gradcheck

import pcsa.losses as losses

SIZES = (5, 1, 9)  # points per cloud: uneven, one of a single point
K, D, S = 3, 2, 4


class Case:
    """Random clouds in all accepted forms, float64."""

    def __init__(self, seed=0, sizes=SIZES, per_axis=False, dtype=torch.float64):
        g = torch.Generator().manual_seed(seed)
        n, b = sum(sizes), len(sizes)
        self.sizes = sizes
        self.logits = torch.randn(n, K, generator=g, dtype=dtype) * 2
        self.pos = torch.randn(n, D, generator=g, dtype=dtype)
        self.bandwidth = torch.rand(*((n, D) if per_axis else (n,)), generator=g, dtype=dtype) * 0.5 + 0.2
        self.target = torch.randn(b, K, D, generator=g, dtype=dtype)
        self.index = torch.stack([torch.randint(s, (K,), generator=g) for s in sizes])  # within each cloud
        self.samples = torch.randn(b, K, S, D, generator=g, dtype=dtype)
        self.batch = torch.repeat_interleave(torch.arange(b), torch.tensor(sizes))
        self.ptr = torch.tensor([0, *sizes]).cumsum(0)
        self.visible = torch.tensor([[True, False, True], [False, False, True], [True, True, False]])[:b]


def distance(a, b, norm):
    if norm == "l2":
        return (a - b).square().sum().sqrt()
    return (a - b).abs().sum() if norm == "l1" else (a - b).square().sum()


# One cloud, one keypoint, loops over points and axes: logit [N], y [N, D], s [N, D], t [D].


def naive_expectation(logit, y, s, t, norm="l2"):
    prob = logit.softmax(0)
    return distance(sum(prob[i] * y[i] for i in range(len(logit))), t, norm)


def naive_discrete(logit, y, s, t, norm="l2"):
    prob = logit.softmax(0)
    return sum(prob[i] * distance(y[i], t, norm) for i in range(len(logit)))


def naive_mixture_error(logit, y, s, t, norm="l1"):
    prob, total = logit.softmax(0), 0.0
    for i in range(len(logit)):
        for d in range(D):
            mu, sigma = y[i, d] - t[d], s[i, d]
            if norm == "squared":
                total = total + prob[i] * (mu**2 + sigma**2)
            else:  # ∫|x| N(x; μ, σ²) dx through the standard normal's density φ and distribution function Φ
                normal = torch.distributions.Normal(logit.new_zeros(()), logit.new_ones(()))
                density = normal.log_prob(mu / sigma).exp()
                total = total + prob[i] * (2 * sigma * density + mu * (2 * normal.cdf(mu / sigma) - 1))
    return total


def naive_variance(logit, y, s, t, target_variance=0.3):
    prob, total = logit.softmax(0), 0.0
    for d in range(D):
        mean = sum(prob[i] * y[i, d] for i in range(len(logit)))
        total = total + (sum(prob[i] * (y[i, d] - mean) ** 2 for i in range(len(logit))) - target_variance) ** 2
    return total


def naive_js(logit, y, s, t, sigma=0.7, center="mean", detach_center=False):
    prob = logit.softmax(0)
    c = t if center == "target" else sum(prob[i] * y[i] for i in range(len(logit)))
    c = c.detach() if detach_center else c
    weight = [(-(y[i] - c).square().sum() / (2 * sigma**2)).exp() for i in range(len(logit))]
    total = 0.0
    for i in range(len(logit)):
        q = weight[i] / sum(weight)
        m = (prob[i] + q) / 2
        total = total + (prob[i] * (prob[i] / m).log() + q * (q / m).log()) / 2
    return total


def naive_nll(logit, y, s, t):
    prob, density = logit.softmax(0), 0.0
    for i in range(len(logit)):
        density = density + prob[i] * torch.distributions.Normal(y[i], s[i]).log_prob(t).sum().exp()
    return -density.log()


def naive_cross_entropy(logit, y, s, t):
    nearest = min(range(len(logit)), key=lambda i: (distance(y[i], t, "squared").item(), i))
    return -logit.softmax(0)[nearest].log()


# name: (reference, how the tensors enter the public function, options)
ON_POINTS = {
    f"{name}-{'-'.join(map(str, options.values()))}": (naive, names, getattr(losses, name), options)
    for name, naive, names, choices in [
        ("expectation_error", naive_expectation, "lyt", [{"norm": n} for n in ("l2", "l1", "squared")]),
        ("discrete_expected_error", naive_discrete, "lyt", [{"norm": n} for n in ("l2", "l1", "squared")]),
        ("mixture_expected_error", naive_mixture_error, "lyst", [{"norm": n} for n in ("l1", "squared")]),
        ("variance_regularization", naive_variance, "ly", [{"target_variance": 0.3}]),
        (
            "js_regularization",
            naive_js,
            "lygt",
            [{"center": c, "detach_center": d} for c in ("mean", "target") for d in (False, True)],
        ),
        ("mixture_nll", naive_nll, "lyst", [{}]),
        ("nearest_point_cross_entropy", naive_cross_entropy, "lyt", [{}]),
    ]
    for options in choices
}
on_points = pytest.mark.parametrize("entry", ON_POINTS.values(), ids=ON_POINTS)


def arguments(names, logits, pos, bandwidth, target):
    return [{"l": logits, "y": pos, "s": bandwidth, "t": target, "g": 0.7}[n] for n in names]


def call(entry, case, form="batch", **more):
    """The public function on a Case in one of the accepted forms."""
    _, names, function, options = entry
    logits, pos, bandwidth = case.logits, case.pos, case.bandwidth
    if form == "dense":  # padding holds NaN: it must not be read
        size = max(case.sizes) + 2
        filled = torch.arange(size) < torch.tensor(case.sizes)[:, None]

        def pad(x):
            return torch.full((*filled.shape, *x.shape[1:]), math.nan, dtype=x.dtype).masked_scatter(
                filled.view(*filled.shape, *[1] * (x.dim() - 1)), x
            )

        logits, pos, bandwidth = pad(logits), pad(pos), pad(bandwidth)
        more["mask"] = filled
    elif form == "ptr":
        more["ptr"] = case.ptr
    else:
        more["batch"] = case.batch
    return function(*arguments(names, logits, pos, bandwidth, case.target), **options, **more)


def reference(entry, case):
    """[B, K] by the loop."""
    naive, _, _, options = entry
    spread = case.bandwidth if case.bandwidth.dim() == 2 else case.bandwidth[:, None].expand(-1, D)
    rows = []
    for b in range(len(case.sizes)):
        own = slice(case.ptr[b], case.ptr[b + 1])
        parts = [(case.logits[own, k], case.pos[own], spread[own], case.target[b, k]) for k in range(K)]
        rows.append(torch.stack([naive(*part, **options) for part in parts]))
    return torch.stack(rows)


@on_points
@pytest.mark.parametrize("form", ["batch", "ptr", "dense"])
@pytest.mark.parametrize("per_axis", [False, True], ids=["isotropic", "per_axis"])
def test_forward_and_backward_equal_the_loop(entry, form, per_axis):
    case = Case(per_axis=per_axis)
    leaves = [case.logits, case.pos, case.bandwidth, case.target]
    for leaf in leaves:
        leaf.requires_grad_()
    expected = reference(entry, case)
    actual = call(entry, case, form, reduction="none")
    torch.testing.assert_close(actual, expected)
    weight = torch.arange(1.0, 1 + expected.numel(), dtype=expected.dtype).view_as(expected)
    wanted = torch.autograd.grad((weight * expected).sum(), leaves, allow_unused=True)
    got = torch.autograd.grad((weight * actual).sum(), leaves, allow_unused=True)
    for g, w, leaf in zip(got, wanted, leaves, strict=True):
        zero = torch.zeros_like(leaf)
        torch.testing.assert_close(zero if g is None else g, zero if w is None else w, atol=1e-9, rtol=1e-7)


@on_points
def test_a_batch_is_its_clouds_one_by_one(entry):
    case = Case(1)
    whole = call(entry, case, reduction="none")
    for b in range(len(case.sizes)):
        own = slice(case.ptr[b], case.ptr[b + 1])
        _, names, function, options = entry
        alone = arguments(names, case.logits[own], case.pos[own], case.bandwidth[own], case.target[b : b + 1])
        torch.testing.assert_close(function(*alone, **options, reduction="none"), whole[b : b + 1])


@on_points
@pytest.mark.parametrize("form", ["batch", "dense"])
def test_gradcheck(entry, form):
    case = Case(2, sizes=(3, 2), per_axis=True)

    def run(logits, pos, bandwidth, target):
        case.logits, case.pos, case.bandwidth, case.target = logits, pos, bandwidth, target
        return call(entry, case, form, reduction="none", validate=False)

    leaves = [x.requires_grad_() for x in (case.logits, case.pos, case.bandwidth, case.target)]
    _, _, _, options = entry
    if options.get("detach_center"):  # not the function's own derivative then, by intent
        leaves[1].requires_grad_(False)
        leaves[3].requires_grad_(False)
        if options["center"] == "mean":
            return
    assert gradcheck(run, leaves, atol=1e-6)


def test_variance_has_its_second_derivative():
    # The shift by a detached mean inside must not show in any derivative.
    case = Case(3, sizes=(4,))

    def run(logits, pos):
        return losses.variance_regularization(logits, pos, target_variance=0.3, reduction="none")

    assert torch.autograd.gradgradcheck(run, (case.logits.requires_grad_(), case.pos.requires_grad_()))


@pytest.mark.parametrize("norm", ["l2", "l1", "squared"])
def test_sample_and_position_error_equal_the_loop(norm):
    case = Case(4)
    case.samples.requires_grad_()
    rows = range(len(case.sizes))
    expected = torch.stack(
        [
            torch.stack([sum(distance(x, case.target[b, k], norm) for x in case.samples[b, k]) / S for k in range(K)])
            for b in rows
        ]
    )
    actual = losses.sample_error(case.samples, case.target, norm=norm, reduction="none")
    torch.testing.assert_close(actual, expected)
    wanted = torch.autograd.grad(expected.sum(), case.samples)
    torch.testing.assert_close(torch.autograd.grad(actual.sum(), case.samples), wanted)
    assert gradcheck(lambda x: losses.sample_error(x, case.target, norm=norm), case.samples)

    position = case.samples[:, :, 0]
    single = losses.position_error(position, case.target, norm=norm, reduction="none")
    torch.testing.assert_close(
        single, losses.sample_error(position[:, :, None], case.target, norm=norm, reduction="none")
    )


def test_hand_checked_numbers():
    # Points 0 and 4 on a line, logits log 3 and 0: π = (3/4, 1/4); target 1.
    logits = torch.tensor([[math.log(3.0)], [0.0]], dtype=torch.float64)
    pos = torch.tensor([[0.0], [4.0]], dtype=torch.float64)
    target = torch.tensor([[[1.0]]], dtype=torch.float64)

    def close(actual, expected):
        assert actual.item() == pytest.approx(expected, rel=1e-12, abs=1e-12)

    close(losses.expectation_error(logits, pos, target), 0.0)  # mean 3/4·0 + 1/4·4 = 1: the error of Eq. 2 is blind
    close(losses.discrete_expected_error(logits, pos, target), 1.5)  # 3/4·1 + 1/4·3
    close(losses.discrete_expected_error(logits, pos, target, norm="squared"), 3.0)  # 3/4·1 + 1/4·9
    # σ = 2: 3 + 4 by the variance of the bases
    close(losses.mixture_expected_error(logits, pos, 2.0, target, norm="squared"), 7.0)
    # l1: E|N(-1, 1)| = 2φ(1) + (2Φ(1) - 1) = 1.1666307…, E|N(3, 1)| = 2φ(3) + 3(2Φ(3) - 1) = 3.0007636…
    phi = scipy.stats.norm
    wide = 0.75 * (2 * phi.pdf(1) + 2 * phi.cdf(1) - 1) + 0.25 * (2 * phi.pdf(3) + 3 * (2 * phi.cdf(3) - 1))
    close(losses.mixture_expected_error(logits, pos, 1.0, target), wide)
    assert wide == pytest.approx(0.75 * 1.1666307 + 0.25 * 3.0007643, abs=1e-6)
    # Var = 3/4·1 + 1/4·9 = 3
    close(losses.variance_regularization(logits, pos, target_variance=1.0), 4.0)
    close(losses.nearest_point_cross_entropy(logits, pos, target), math.log(4 / 3))
    close(losses.nearest_point_cross_entropy(logits, pos, index=torch.tensor([[1]])), math.log(4))
    # Gaussian around 2 is flat on {0, 4}: q = (1/2, 1/2), m = (5/8, 3/8)
    m = (math.log(0.75 / 0.625) * 0.75 + math.log(0.25 / 0.375) * 0.25 + 0.5 * (math.log(0.8) + math.log(4 / 3))) / 2
    close(losses.js_regularization(logits, pos, 1.0, target + 1, center="target"), m)
    # a presence score of log 3 is a probability of 3/4
    close(losses.presence_loss(logits[:1], torch.tensor([[True]])), math.log(4 / 3))
    close(losses.presence_loss(logits[:1], torch.tensor([[False]])), math.log(4))


@pytest.mark.parametrize("norm", ["l1", "squared"])
@pytest.mark.parametrize("per_axis", [False, True])
def test_closed_form_is_the_mean_over_the_mixture(norm, per_axis):
    case = Case(5, sizes=(6,), per_axis=per_axis)
    g = torch.Generator().manual_seed(0)
    draws = 40_000
    exact = losses.mixture_expected_error(
        case.logits, case.pos, case.bandwidth, case.target, norm=norm, reduction="none"
    )
    spread = case.bandwidth if per_axis else case.bandwidth[:, None].expand(-1, D)
    for k in range(K):
        component = torch.multinomial(case.logits[:, k].softmax(0), draws, replacement=True, generator=g)
        noise = torch.randn(draws, D, generator=g, dtype=torch.float64)
        offset = case.pos[component] + spread[component] * noise - case.target[0, k]
        error = offset.abs().sum(1) if norm == "l1" else offset.square().sum(1)
        assert abs(error.mean() - exact[0, k]) < 4 * error.std() / draws**0.5


@pytest.mark.parametrize("per_axis", [False, True])
def test_nll_agrees_with_scipy(per_axis):
    case = Case(6, per_axis=per_axis)
    actual = call(ON_POINTS["mixture_nll-"], case, reduction="none")
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


def test_nll_becomes_cross_entropy_as_the_bandwidth_vanishes():
    case = Case(7, sizes=(8, 6))
    case.logits.requires_grad_()
    wanted = torch.autograd.grad(call(ON_POINTS["nearest_point_cross_entropy-"], case), case.logits)[0]
    gaps = []
    for sigma in (1.0, 0.3, 0.1, 1e-3):
        nll = losses.mixture_nll(case.logits, case.pos, sigma, case.target, case.batch)
        gaps.append((torch.autograd.grad(nll, case.logits)[0] - wanted).abs().max().item())
    assert gaps[0] > gaps[1] > gaps[2] > gaps[3]
    assert gaps[0] > 0.01
    assert gaps[3] < 1e-12


@pytest.mark.parametrize("center", ["mean", "target"])
def test_js_agrees_with_scipy(center):
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
def test_js_lies_between_0_and_log_2_with_finite_gradients(seed, scale, sigma):
    case = Case(seed, dtype=torch.float32)
    case.logits = (case.logits * scale).requires_grad_()
    loss = losses.js_regularization(case.logits, case.pos, sigma, batch=case.batch, reduction="none")
    assert (loss > -1e-6).all()
    assert (loss < math.log(2) + 1e-6).all()
    assert torch.autograd.grad(loss.sum(), case.logits)[0].isfinite().all()


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10**6), shift=st.floats(-5, 5), permute=st.randoms(use_true_random=False))
def test_translation_and_order_of_the_points_do_not_matter(seed, shift, permute):
    case, moved = Case(seed, sizes=(7,)), Case(seed, sizes=(7,))
    order = list(range(7))
    permute.shuffle(order)
    moved.logits, moved.bandwidth = case.logits[order], case.bandwidth[order]
    moved.pos, moved.target = case.pos[order] + shift, case.target + shift
    for entry in ON_POINTS.values():
        torch.testing.assert_close(call(entry, moved), call(entry, case), rtol=1e-6, atol=1e-9)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10**6))
def test_the_expectation_of_the_error_is_never_below_the_error_of_the_expectation(seed):
    # Jensen's inequality (norms are convex), once for the map and once more for the bases around its points.
    case = Case(seed)
    for norm in ("l2", "l1", "squared"):
        of_mean = losses.expectation_error(case.logits, case.pos, case.target, case.batch, norm=norm, reduction="none")
        mean_of = losses.discrete_expected_error(
            case.logits, case.pos, case.target, case.batch, norm=norm, reduction="none"
        )
        assert (of_mean <= mean_of + 1e-9).all()
        if norm != "l2":
            mixture = losses.mixture_expected_error(
                case.logits, case.pos, case.bandwidth, case.target, case.batch, norm=norm, reduction="none"
            )
            assert (mean_of <= mixture + 1e-9).all()


def visible_calls():
    """Every function that takes ``visible``, as ``f(case, **options)`` with its differentiable inputs."""
    yield "sample_error", lambda c, **o: losses.sample_error(c.samples, c.target, **o), ["samples"]
    yield (
        "position_error",
        lambda c, **o: losses.position_error(c.samples[:, :, 0], c.target, **o),
        ["samples"],
    )
    yield (
        "cross_entropy_by_index",
        lambda c, **o: losses.nearest_point_cross_entropy(
            c.logits, c.pos, batch=c.batch, index=c.index + c.ptr[:-1, None], **o
        ),
        ["logits"],
    )
    for name, entry in ON_POINTS.items():
        yield name, lambda c, entry=entry, **o: call(entry, c, **o), ["logits", "pos", "bandwidth"]


on_visible = pytest.mark.parametrize(
    ("function", "inputs"), [pytest.param(f, i, id=name) for name, f, i in visible_calls()]
)


@on_visible
def test_reductions_and_visible(function, inputs):
    case = Case(9)
    every = function(case, reduction="none")
    assert every.shape == (len(SIZES), K)
    torch.testing.assert_close(function(case), every.mean())
    torch.testing.assert_close(function(case, reduction="sum"), every.sum())
    seen = case.visible
    torch.testing.assert_close(function(case, visible=seen, reduction="none"), every * seen)
    torch.testing.assert_close(function(case, visible=seen, reduction="sum"), every[seen].sum())
    torch.testing.assert_close(function(case, visible=seen), every[seen].mean())


@on_visible
@pytest.mark.parametrize("nothing_visible", [False, True])
def test_what_is_not_visible_is_never_read(function, inputs, nothing_visible):
    clean, dirty = Case(10), Case(10)
    seen = torch.zeros_like(clean.visible) if nothing_visible else clean.visible
    dirty.target = dirty.target.masked_fill(~seen[..., None], math.nan).requires_grad_()
    dirty.index = dirty.index.masked_fill(~seen, -(10**6))
    gradients = []
    for case in (clean, dirty):
        leaves = [getattr(case, name).requires_grad_() for name in inputs]
        loss = function(case, visible=seen)
        torch.testing.assert_close(loss, function(clean, visible=seen))
        gradients.append(
            torch.autograd.grad(loss, [*leaves, *([dirty.target] if case is dirty else [])], allow_unused=True)
        )
    for before, after in zip(*gradients, strict=False):
        if before is None:
            assert after is None
            continue
        assert torch.equal(before, after)
        assert before.isfinite().all()
        if nothing_visible:
            assert (before == 0).all()
    if gradients[1][-1] is not None:
        assert (gradients[1][-1][~seen] == 0).all()
    if nothing_visible:
        assert loss.item() == 0


def test_mean_is_over_the_keypoints_of_the_whole_batch():
    # Cloud 0 has three keypoints at distance 1, cloud 1 one at 5: (3·1 + 5)/4 = 2, not (1 + 5)/2 = 3.
    position = torch.tensor([[[1.0], [1.0], [1.0]], [[5.0], [9.0], [9.0]]])
    visible = torch.tensor([[True, True, True], [True, False, False]])
    assert losses.position_error(position, torch.zeros(2, 3, 1), visible=visible).item() == 2


@pytest.mark.parametrize("norm", ["l2", "l1", "squared"])
def test_gradient_at_distance_zero_is_zero(norm):
    position = torch.zeros(1, 1, 3, requires_grad=True)
    losses.position_error(position, torch.zeros(1, 1, 3), norm=norm).backward()
    assert torch.equal(position.grad, torch.zeros(1, 1, 3))
    pos = torch.tensor([[0.0, 0.0], [1.0, 0.0]], requires_grad=True)  # one point lies on the target
    logits = torch.zeros(2, 1, requires_grad=True)
    losses.discrete_expected_error(logits, pos, torch.zeros(1, 1, 2), norm=norm).backward()
    assert torch.equal(pos.grad[0], torch.zeros(2))
    assert logits.grad.isfinite().all()


@on_points
def test_coinciding_points_and_one_point_give_finite_values_and_gradients(entry):
    # Bandwidth at the floor of such clouds, in float32, with a target far away in its units.
    case = Case(11, sizes=(4, 1), dtype=torch.float32)
    case.pos = torch.ones_like(case.pos)
    case.bandwidth = torch.full_like(case.bandwidth, torch.finfo(torch.float32).tiny)
    leaves = [case.logits.requires_grad_(), case.pos.requires_grad_(), case.bandwidth.requires_grad_()]
    loss = call(entry, case)
    assert loss.isfinite()
    for gradient in torch.autograd.grad(loss, leaves, allow_unused=True):
        assert gradient is None or gradient.isfinite().all()


def test_nearest_point_breaks_ties_by_the_first_row():
    pos = torch.tensor([[5.0], [1.0], [-1.0], [1.0], [0.5], [-1.0], [1.0]])
    batch = torch.tensor([0, 0, 0, 0, 1, 1, 1])
    logits = torch.arange(7.0).unsqueeze(1).requires_grad_()
    loss = losses.nearest_point_cross_entropy(logits, pos, torch.tensor([[[0.0]], [[0.0]]]), batch, reduction="sum")
    gradient = torch.autograd.grad(loss, logits)[0].squeeze(1)
    assert (gradient < 0).nonzero().flatten().tolist() == [1, 4]  # rows 1, 2, 3 are at distance 1: the first


def test_index_counts_rows_of_pos_and_in_dense_input_rows_of_its_cloud():
    case = Case(12, sizes=(4, 4))
    rows = case.index + torch.tensor([[0], [4]])
    ragged = losses.nearest_point_cross_entropy(case.logits, case.pos, batch=case.batch, index=rows)
    dense = losses.nearest_point_cross_entropy(case.logits.view(2, 4, K), case.pos.view(2, 4, D), index=case.index)
    torch.testing.assert_close(ragged, dense)
    expected = torch.nn.functional.cross_entropy(case.logits.view(2, 4, K), case.index)
    torch.testing.assert_close(ragged, expected)
    missing = torch.ones(2, 4, dtype=torch.bool)
    missing[0, case.index[0, 0]] = False
    with pytest.raises(ValueError, match=r"`index`.*existing"):
        losses.nearest_point_cross_entropy(
            case.logits.view(2, 4, K), case.pos.view(2, 4, D), index=case.index, mask=missing
        )


def test_presence_loss():
    score = torch.tensor([[0.5, -1.0], [3.0, 0.0]], requires_grad=True)
    label = torch.tensor([[True, False], [False, True]])
    prob = 1 / (1 + np.exp(-score.detach().numpy()))
    expected = -np.log(np.where(label.numpy(), prob, 1 - prob))
    np.testing.assert_allclose(losses.presence_loss(score, label, reduction="none").detach(), expected, rtol=1e-5)
    assert losses.presence_loss(score, label).item() == pytest.approx(expected.mean(), rel=1e-5)
    assert losses.presence_loss(score, label, reduction="sum").item() == pytest.approx(expected.sum(), rel=1e-5)
    gradient = torch.autograd.grad(losses.presence_loss(score, label, reduction="sum"), score)[0]
    np.testing.assert_allclose(gradient, prob - label.numpy(), rtol=1e-5)
    assert losses.presence_loss(torch.zeros(0, 2), torch.zeros(0, 2, dtype=torch.bool)).item() == 0


@on_points
@pytest.mark.parametrize("form", ["batch", "dense"])
def test_autocast_computes_in_float32(entry, form):
    case = Case(13, sizes=(6, 6), dtype=torch.float32)
    expected = call(entry, case, form)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = call(entry, case, form)
    assert actual.dtype == torch.float32
    assert torch.equal(actual, expected)
    # logits that come out of a half precision layer are cast up first
    case.logits = case.logits.bfloat16()
    low = call(entry, case, form)
    case.logits = case.logits.float()
    assert torch.equal(low, call(entry, case, form))


def test_half_precision_predictions_are_cast_up():
    case = Case(14)
    low = case.samples.bfloat16()
    for actual, expected in [
        (losses.sample_error(low, case.target), losses.sample_error(low.float(), case.target)),
        (
            losses.position_error(low[:, :, 0], case.target),
            losses.position_error(low[:, :, 0].float(), case.target),
        ),
        (
            losses.presence_loss(low[:, :, 0, 0], case.visible),
            losses.presence_loss(low[:, :, 0, 0].float(), case.visible),
        ),
    ]:
        assert actual.dtype == torch.float32
        assert torch.equal(actual, expected)


@pytest.mark.parametrize("name", ["mixture_nll-", "js_regularization-mean-False", "nearest_point_cross_entropy-"])
def test_compiles_in_one_graph(name):
    entry, case = ON_POINTS[name], Case(15)
    case.logits.requires_grad_()

    def run(logits):
        _, names, function, options = entry
        given = arguments(names, logits, case.pos, case.bandwidth, case.target)
        return function(*given, batch=case.batch, batch_size=3, visible=case.visible, **options)

    compiled = torch.compile(run, backend="eager", fullgraph=True)(case.logits)
    torch.testing.assert_close(compiled, call(entry, case, visible=case.visible))
    wanted = torch.autograd.grad(call(entry, case, visible=case.visible), case.logits)
    torch.testing.assert_close(torch.autograd.grad(compiled, case.logits), wanted)


def bad_calls():
    c = Case(16)
    lyt, lyst = (c.logits, c.pos, c.target, c.batch), (c.logits, c.pos, c.bandwidth, c.target, c.batch)
    nan_target = c.target.clone()
    nan_target[0, 0, 0] = math.nan
    rows = c.index + c.ptr[:-1, None]
    return [
        ("`norm`.*'l3'", lambda: losses.sample_error(c.samples, c.target, norm="l3")),
        ("`norm`.*'l3'", lambda: losses.position_error(c.samples[:, :, 0], c.target, norm="l3")),
        ("`norm`.*'l3'", lambda: losses.expectation_error(*lyt, norm="l3")),
        ("`norm`.*'l3'", lambda: losses.discrete_expected_error(*lyt, norm="l3")),
        ("`norm`.*'l2'.*'l1', 'squared'", lambda: losses.mixture_expected_error(*lyst, norm="l2")),
        ("`reduction`.*'avg'", lambda: losses.sample_error(c.samples, c.target, reduction="avg")),
        ("`reduction`.*'avg'", lambda: losses.mixture_nll(*lyst, reduction="avg")),
        ("`reduction`.*'avg'", lambda: losses.presence_loss(c.logits[:3], c.visible, reduction="avg")),
        ("`samples`.*at least one", lambda: losses.sample_error(c.samples[:, :, :0], c.target)),
        ("`samples`.*floating", lambda: losses.sample_error(c.samples.long(), c.target)),
        ("`position`.*B, K, D", lambda: losses.position_error(c.samples, c.target)),
        ("`target` .*3, 2, 2", lambda: losses.position_error(c.samples[:, :2, 0], c.target)),
        ("`target` .*3, 3, 2", lambda: losses.mixture_nll(c.logits, c.pos, 0.1, c.target[:2], c.batch)),
        ("`target`.*finite", lambda: losses.sample_error(c.samples, nan_target)),
        ("`target`.*finite", lambda: losses.position_error(c.samples[:, :, 0], nan_target)),
        ("`target`.*finite", lambda: losses.mixture_nll(c.logits, c.pos, 0.1, nan_target, c.batch)),
        (
            "`target`.*`center`",
            lambda: losses.js_regularization(c.logits, c.pos, 0.1, batch=c.batch, center="target"),
        ),
        ("`center`.*'middle'", lambda: losses.js_regularization(c.logits, c.pos, 0.1, center="middle")),
        ("`sigma` \\(=0.0\\)", lambda: losses.js_regularization(c.logits, c.pos, 0.0)),
        (
            "`target_variance` \\(=-1",
            lambda: losses.variance_regularization(c.logits, c.pos, target_variance=-1.0),
        ),
        ("`bandwidth`.*positive", lambda: losses.mixture_nll(c.logits, c.pos, 0.0, c.target, c.batch)),
        ("`logits`.*finite", lambda: losses.expectation_error(c.logits / 0, *lyt[1:])),
        ("`visible`.*bool", lambda: losses.expectation_error(*lyt, visible=c.visible.long())),
        (
            "`visible` .*3, 3",
            lambda: losses.variance_regularization(*lyt[:2], c.batch, target_variance=1, visible=c.visible[0]),
        ),
        ("`presence_logits`.*B, K", lambda: losses.presence_loss(c.samples, c.visible)),
        ("`target` and `index`", lambda: losses.nearest_point_cross_entropy(*lyt, index=rows)),
        ("`target` and `index`", lambda: losses.nearest_point_cross_entropy(c.logits, c.pos)),
        (
            "`index`.*int64",
            lambda: losses.nearest_point_cross_entropy(c.logits, c.pos, batch=c.batch, index=rows.double()),
        ),
        (
            "`index`.*own cloud",
            lambda: losses.nearest_point_cross_entropy(c.logits, c.pos, batch=c.batch, index=rows + 9),
        ),
    ]


@pytest.mark.parametrize("number", range(len(bad_calls())))
def test_a_broken_rule_is_named(number):
    message, function = bad_calls()[number]
    with pytest.raises(ValueError, match=message):
        function()


def test_an_empty_cloud_passes_unvalidated_where_nothing_of_it_is_visible():
    case = Case(18, sizes=(4, 3))
    seen = torch.tensor([[True] * K, [True] * K, [False] * K])
    case.target = torch.cat([case.target, case.target[:1]])
    for name, entry in ON_POINTS.items():
        logits = case.logits.requires_grad_()
        with pytest.raises(ValueError, match="empty cloud"):
            call(entry, case, batch_size=3)
        loss = call(entry, case, batch_size=3, visible=seen, validate=False)
        without = Case(18, sizes=(4, 3))
        torch.testing.assert_close(loss, call(entry, without), msg=name)
        assert torch.autograd.grad(loss, logits)[0].isfinite().all(), name


def test_validate_false_reads_no_values():
    case = Case(17)
    case.target[0, 0, 0] = math.nan
    assert call(ON_POINTS["mixture_nll-"], case, validate=False).isnan()
