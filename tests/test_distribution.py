"""Distributions of keypoints against torch's mixtures, SciPy's functions, and what else the package says of a map."""

import math

import pytest
import scipy.special
import torch
from torch.distributions import Categorical, Distribution, MixtureSameFamily, MultivariateNormal

import pcsa
from pcsa import KeypointDistribution, losses

SIZES, K, D = (5, 3), 2, 3
GENERATOR = torch.Generator().manual_seed(0)
LOGITS = torch.randn(8, K, generator=GENERATOR, dtype=torch.float64)
POS = torch.randn(8, D, generator=GENERATOR, dtype=torch.float64)
FACTOR = torch.randn(8, D, D, generator=GENERATOR, dtype=torch.float64).tril() / 4 + torch.eye(D).double() / 2
BANDWIDTHS = {
    "number": 0.3,
    "points": torch.rand(8, generator=GENERATOR, dtype=torch.float64) + 0.2,
    "axes": torch.rand(8, D, generator=GENERATOR, dtype=torch.float64) + 0.2,
    "matrices": FACTOR,
}
BATCH, PTR = torch.tensor([0] * 5 + [1] * 3), torch.tensor([0, 5, 8])
VALUE = torch.randn(2, K, D, generator=GENERATOR, dtype=torch.float64)
every = pytest.mark.parametrize("bandwidth", BANDWIDTHS.values(), ids=BANDWIDTHS)


def factors(bandwidth):
    if isinstance(bandwidth, float):
        return torch.eye(D).double().expand(8, D, D) * bandwidth
    if bandwidth.dim() == 3:
        return bandwidth
    return torch.diag_embed(bandwidth if bandwidth.dim() == 2 else bandwidth[:, None].expand(8, D))


def of_torch(bandwidth, b, k):
    """One keypoint of one cloud as torch's mixture."""
    own = slice(PTR[b], PTR[b + 1])
    bases = MultivariateNormal(POS[own], scale_tril=factors(bandwidth)[own])
    return MixtureSameFamily(Categorical(logits=LOGITS[own, k]), bases)


@every
def test_against_torch(bandwidth):
    d = KeypointDistribution(LOGITS, POS, bandwidth, BATCH)
    value = torch.stack([VALUE, VALUE + 1, VALUE - 1])
    log_prob = d.log_prob(value)
    assert log_prob.shape == (3, 2, K)
    for b in range(2):
        for k in range(K):
            wanted = of_torch(bandwidth, b, k)
            torch.testing.assert_close(d.mean[b, k], wanted.mean)
            torch.testing.assert_close(d.variance[b, k], wanted.variance)
            torch.testing.assert_close(log_prob[:, b, k], wanted.log_prob(value[:, b, k]))
            torch.testing.assert_close(d.entropy()[b, k], wanted.mixture_distribution.entropy())
    torch.testing.assert_close(d.stddev, d.variance.sqrt())
    assert torch.equal(d.covariance_matrix, d.covariance)


@every
def test_samples_have_its_moments(bandwidth):
    d = KeypointDistribution(LOGITS, POS, bandwidth, BATCH)
    S = 20_000
    estimators = ["reinmax", "straight_through"] + ["implicit"] * (bandwidth is not FACTOR)
    for samples in (
        d.sample(S, generator=torch.Generator().manual_seed(0)),
        *(d.rsample((S,), e, generator=torch.Generator().manual_seed(1)) for e in estimators),
    ):
        assert samples.shape == (S, 2, K, D)
        away = samples - d.mean
        # Five standard errors.
        assert (away.mean(0).abs() < 5 * (d.variance / S) ** 0.5).all()
        spread = torch.einsum("sbkd,sbke->bkde", away, away) / S
        assert (spread - d.covariance).abs().max() < 0.1 * d.variance.max()


def test_conventions_of_torch():
    d = KeypointDistribution(LOGITS, POS, 0.3, BATCH)
    assert isinstance(d, Distribution)
    assert d.has_rsample
    assert (d.batch_shape, d.event_shape) == ((2, K), (D,))
    shapes = {(): (), 4: (4,), (4,): (4,), (3, 4): (3, 4), torch.Size([2]): (2,), (0,): (0,)}
    for sample_shape, wanted in shapes.items():
        assert d.sample(sample_shape).shape == (*wanted, 2, K, D)
        assert d.rsample(sample_shape).shape == (*wanted, 2, K, D)
    assert not KeypointDistribution(LOGITS.clone().requires_grad_(), POS, 0.3).sample().requires_grad
    with pytest.raises(NotImplementedError):
        d.cdf(VALUE)


@pytest.mark.parametrize("form", ["ptr", "dense", "data", "one by one"])
def test_every_form_is_the_same_distribution(form):
    def said(d):
        return [d.mean, d.covariance, d.mode, d.entropy(), d.log_prob(VALUE[: len(d.mean)]), d.confidence(0.5)]

    wanted = said(KeypointDistribution(LOGITS, POS, 0.3, BATCH, temperature=0.7))
    if form == "ptr":
        found = said(KeypointDistribution(LOGITS, POS, 0.3, ptr=PTR, temperature=0.7))
    elif form == "data":
        cloud = type("Data", (), {"pos": POS, "batch": BATCH})()
        found = said(KeypointDistribution(LOGITS, cloud, 0.3, temperature=0.7))
    elif form == "dense":
        mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
        dense = [
            torch.full((2, 5, x.shape[1]), math.nan).double().masked_scatter(mask[..., None], x) for x in (LOGITS, POS)
        ]
        found = said(KeypointDistribution(*dense, 0.3, mask=mask, temperature=0.7))
    else:
        first = said(KeypointDistribution(LOGITS[:5], POS[:5], 0.3, temperature=0.7))
        d = KeypointDistribution(LOGITS[5:], POS[5:], 0.3, temperature=0.7)
        second = [d.mean, d.covariance, d.mode, d.entropy(), d.log_prob(VALUE[1:]), d.confidence(0.5)]
        found = [torch.cat(pair) for pair in zip(first, second, strict=True)]
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b)


def test_it_says_what_the_functions_say():
    d = KeypointDistribution(LOGITS, POS, 0.3, BATCH, temperature=0.7)
    how = {"batch": BATCH, "temperature": 0.7}
    torch.testing.assert_close(d.mean, pcsa.soft_argmax(LOGITS, POS, **how))
    for read_out in ("expectation", "peak", "local", "mode", "median", "ball", "ball_point"):
        for a, b in zip(
            d.read(read_out, 0.5), pcsa.localize(LOGITS, POS, 0.3, read_out=read_out, radius=0.5, **how), strict=True
        ):
            torch.testing.assert_close(a, b)
    assert torch.equal(d.mode, d.read("mode").position)
    torch.testing.assert_close(d.confidence(0.5, VALUE), pcsa.ball_mass(LOGITS, POS, VALUE, 0.5, **how))
    assert torch.equal(d.confidence(0.5), d.read("ball", 0.5).confidence)
    torch.testing.assert_close(-d.log_prob(VALUE), losses.mixture_nll(LOGITS, POS, 0.3, VALUE, reduction="none", **how))
    for norm, sigma in (("l2", None), ("l1", None), ("squared", None), ("bounded", 0.4)):
        found = d.expected_error(VALUE, norm, sigma=sigma)
        wanted = losses.mixture_expected_error(LOGITS, POS, 0.3, VALUE, norm=norm, sigma=sigma, reduction="none", **how)
        torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_mean_distance_in_closed_form(dim):
    # E|x| of x ~ N(mu, s² I) is s sqrt(2) Gamma((D + 1) / 2) / Gamma(D / 2) 1F1(-1/2; D / 2; -|mu|² / 2 s²).
    away = torch.tensor([0.0, 1e-9, 1e-3, 0.2, 0.3, 2.0, 10.0], dtype=torch.float64, requires_grad=True)
    target = torch.zeros(1, 1, dim, dtype=torch.float64)
    pos = torch.cat([away[:, None], torch.zeros(7, dim - 1, dtype=torch.float64)], 1)
    s = 0.5
    for i in range(7):
        d = KeypointDistribution(torch.zeros(1, 1).double(), pos[i : i + 1], s)
        half = dim / 2
        scale = s * math.sqrt(2) * scipy.special.gamma(half + 0.5) / scipy.special.gamma(half)
        wanted = scale * scipy.special.hyp1f1(-0.5, half, -(away[i].item() ** 2) / (2 * s**2))
        assert d.expected_error(target).item() == pytest.approx(wanted, rel=1e-10)
        slope = torch.autograd.grad(d.expected_error(target).sum(), away, retain_graph=True)[0][i].item()
        # The derivative of 1F1(a; b; z) is a / b 1F1(a + 1; b + 1; z).
        inner = -0.5 / half * scipy.special.hyp1f1(0.5, half + 1, -(away[i].item() ** 2) / (2 * s**2))
        assert slope == pytest.approx(scale * inner * -away[i].item() / s**2, rel=1e-7, abs=1e-9)


def test_mean_distance_of_tiny_bandwidths_and_of_bases_that_are_not_round():
    logits, far = torch.zeros(2, 1, requires_grad=True), torch.full((1, 1, 2), 3.0)
    for dim in (1, 2, 3):
        d = KeypointDistribution(logits, torch.zeros(2, dim), 1.2e-38)
        error = d.expected_error(torch.full((1, 1, dim), 3.0))
        assert error.item() == pytest.approx(3.0 * dim**0.5)
        assert torch.autograd.grad(error.sum(), logits)[0].isfinite().all()
    with pytest.raises(ValueError, match=r"`norm` \(='l2'\) must be another"):
        KeypointDistribution(logits, torch.zeros(2, 2), torch.ones(2, 2)).expected_error(far)


@every
def test_gradients(bandwidth):
    leaves = [
        LOGITS.clone(),
        POS.clone(),
        bandwidth if isinstance(bandwidth, torch.Tensor) else torch.tensor(bandwidth).double(),
    ]
    leaves = [x.clone().requires_grad_() for x in (*leaves, torch.tensor(0.8).double())]

    def all_of(logits, pos, bandwidth, temperature):
        bandwidth = bandwidth.tril() if bandwidth.dim() == 3 else bandwidth
        d = KeypointDistribution(logits, pos, bandwidth, BATCH, temperature=temperature)
        return d.mean, d.covariance, d.entropy(), d.log_prob(VALUE), d.expected_error(VALUE, "squared")

    assert torch.autograd.gradcheck(all_of, leaves)


def test_gradients_of_samples_are_those_of_the_expectation():
    # Of a squared error reinmax is exact in the mean.
    leaf = LOGITS.clone().requires_grad_()
    d = KeypointDistribution(leaf, POS, 0.3, BATCH)
    samples = d.rsample(4000, generator=torch.Generator().manual_seed(0))
    by_samples = torch.autograd.grad((samples - VALUE).square().sum(-1).mean(0).sum(), leaf, retain_graph=True)[0]
    exact = torch.autograd.grad(d.expected_error(VALUE, "squared").sum(), leaf)[0]
    torch.testing.assert_close(by_samples, exact, atol=0.15, rtol=0.1)


def test_gradients_do_not_depend_on_what_was_asked_first():
    leaf = LOGITS.clone().requires_grad_()
    d = KeypointDistribution(leaf, POS, 0.3, BATCH)
    with torch.no_grad():
        d.sample(3), d.mode, d.confidence(0.5, VALUE), d.mean
    assert torch.autograd.grad(d.mean.sum() + d.log_prob(VALUE).sum(), leaf)[0].abs().sum() > 0


def test_unknown_places_have_no_say():
    leaf = LOGITS.clone().requires_grad_()
    value, visible = VALUE.clone(), torch.tensor([[True, False], [True, True]])
    value[0, 1] = math.nan
    d = KeypointDistribution(leaf, POS, 0.3, BATCH)
    out = d.log_prob(value, visible=visible) + d.expected_error(value, visible=visible)
    assert out[0, 1] == 0
    slope = torch.autograd.grad(out.sum(), leaf)[0]
    assert slope.isfinite().all()
    assert (slope[:5, 1] == 0).all()
    with pytest.raises(ValueError, match="`target` must be finite"):
        d.log_prob(value)


def test_a_mask_per_keypoint_is_a_cloud_without_these_points():
    logits = LOGITS[:5].clone()
    logits[[1, 4], 0] = -math.inf
    leaf = logits.requires_grad_()
    d, kept = KeypointDistribution(leaf, POS[:5], 0.3), [0, 2, 3]
    alone = KeypointDistribution(LOGITS[kept, :1], POS[kept], 0.3)
    for name in ("mean", "covariance", "mode"):
        torch.testing.assert_close(getattr(d, name)[:, :1], getattr(alone, name))
    torch.testing.assert_close(d.log_prob(VALUE[:1])[:, :1], alone.log_prob(VALUE[:1, :1]))
    torch.testing.assert_close(d.entropy()[:, :1], alone.entropy())
    sum(x.sum() for x in (d.mean, d.covariance, d.entropy(), d.log_prob(VALUE[:1]), d.rsample(9))).backward()
    assert leaf.grad.isfinite().all()
    assert (leaf.grad[[1, 4], 0] == 0).all()


def test_bad_input():
    d = KeypointDistribution(LOGITS, POS, 0.3, BATCH)
    for call, message in (
        (lambda: KeypointDistribution(LOGITS, POS, None), r"`bandwidth` \(=None\)"),
        (lambda: KeypointDistribution(LOGITS, POS, -1.0), r"`bandwidth` \(=-1.0\) must be positive"),
        (lambda: KeypointDistribution(LOGITS, POS, 0.3, temperature=0), r"`temperature` \(=0.0\)"),
        (lambda: d.log_prob(VALUE[:1]), r"`target` \[1, 2, 3\] must be \[2, 2, 3\]"),
        (lambda: d.log_prob(VALUE.view(4, 3)), r"PyTorch Geometric joins .* or give `.view\(2, 2, 3\)`"),
        (lambda: d.sample(-1), r"`sample_shape` \(=-1\) must be at least 0"),
        (lambda: d.sample(1.5), r"`sample_shape` \(=1.5\) must be a whole number"),
        (lambda: d.rsample(1, "exact"), r"`estimator` \(='exact'\)"),
        (lambda: d.expected_error(VALUE, "l3"), r"`norm` \(='l3'\)"),
        (lambda: d.expected_error(VALUE, "bounded"), r"`sigma` \(=None\)"),
        (lambda: d.read("ball"), r"`radius` \(=None\)"),
        (lambda: d.read("best"), r"`read_out` \(='best'\)"),
        (lambda: d.confidence(0.0), r"`radius` \(=0.0\)"),
        (lambda: d.sample(generator=0), r"`generator` \(builtins.int\) must be a torch.Generator"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
