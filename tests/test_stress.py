"""The operator, read-outs and losses under stress: finite, and near a literal reference in float64.

Each reference is the equation as written, in float64, on the very numbers that the function is given; of samples, on
the very noise. Lengths are compared in units of the cloud's extent and the bandwidth.
"""

import dataclasses
import itertools
import math

import pytest
import torch
from hypothesis import given, settings, strategies as st

import pcsa
from pcsa import losses
from pcsa._core import kernel

stressed = settings(deadline=None, max_examples=60, derandomize=True, database=None)
SIGMA = 0.3


@dataclasses.dataclass
class Case:
    """What a function is given, and the same in float64."""

    sizes: tuple[int, ...]
    keypoints: int
    samples: int
    dim: int
    spread: float  # of the logits
    hidden: float  # share of the logits that are -inf
    temperature: float
    bandwidth: float
    offset: float
    equal: bool
    dtype: torch.dtype
    seed: int

    def __post_init__(self):
        g = torch.Generator().manual_seed(self.seed)
        B, N, K = len(self.sizes), sum(self.sizes), self.keypoints
        self.ptr = torch.tensor([0, *self.sizes]).cumsum(0)
        self.batch = torch.arange(B).repeat_interleave(torch.tensor(self.sizes))
        logits = self.spread * (2 * torch.rand(N, K, generator=g) - 1)
        hidden = torch.rand(N, K, generator=g) < self.hidden
        hidden[self.ptr[:-1]] = False
        self.logits = logits.masked_fill(hidden, -math.inf).to(self.dtype)
        pos = torch.rand(1 if self.equal else N, self.dim, generator=g).expand(N, -1)
        self.pos = (pos + self.offset).to(self.dtype)
        self.target = torch.rand(B, K, self.dim, generator=g) + self.offset
        self.direction = torch.randn(B, K, self.samples, self.dim, generator=g)
        # One step of float32 at the largest coordinate: no result can be nearer.
        self.step = 2.0**-23 * float(self.pos.double().abs().max())

    def leaves(self, exact):
        kind = torch.float64 if exact else self.dtype
        return [x.to(kind).requires_grad_() for x in (self.logits, self.pos)]

    def clouds(self):
        return [slice(a, b) for a, b in itertools.pairwise(self.ptr.tolist())]


def choices(*values):
    return st.sampled_from(values)


def logarithmic(low, high):
    return st.floats(math.log(low), math.log(high)).map(math.exp)


cases = st.builds(
    Case,
    sizes=choices((1,), (1, 1), (40,), (7, 1, 40), (2, 2, 2), (300, 3)),
    keypoints=choices(1, 1, 3, 3, 500),
    samples=choices(1, 4),
    dim=choices(1, 2, 3),
    spread=choices(0.0, 1.0, 30.0, 1e4),
    hidden=choices(0.0, 0.0, 0.5, 1.0),
    temperature=logarithmic(0.01, 50),
    bandwidth=logarithmic(1e-12, 1e3),
    offset=choices(0.0, 0.0, 100.0, 1e6),
    equal=choices(False, False, False, True),
    dtype=choices(torch.float32, torch.float32, torch.bfloat16),
    seed=st.integers(0, 2**32 - 1),
) | st.builds(
    Case,
    sizes=choices((1,), (40, 7)),
    keypoints=choices(1, 3),
    samples=choices(2),
    dim=choices(3),
    spread=choices(1.0, 1e4),
    hidden=choices(0.0, 0.5),
    temperature=logarithmic(0.01, 50),
    bandwidth=logarithmic(1e-12, 1e3),
    offset=choices(0.0, 100.0),
    equal=choices(False),
    dtype=choices(torch.float16),
    seed=st.integers(0, 2**32 - 1),
)


def noise_of(case, seed):
    """What the kernel draws: normal numbers [B, K, S, D], and the Gumbel noise of the points [N, K, S], in float64."""
    K, S = case.keypoints, case.samples
    noise = kernel._Noise(torch.tensor(seed), torch.device("cpu"))
    normal = noise.normal((len(case.sizes), K, S, case.dim), torch.float32)
    still = torch.ones(sum(case.sizes), 1)
    blocks = kernel._cut(case.logits.float(), case.pos.float(), still, case.ptr, case.temperature, 0)
    M, _, P = blocks.logits.shape
    drawn = torch.empty(M, K, S, P)
    for s, m in kernel._tiles(blocks, S):
        part = drawn[m, :, s]
        part.copy_(noise.log2_exponential(tuple(part.shape), part.dtype)())
    N = len(case.logits)
    rows = torch.arange(N).view(M, P) if blocks.rows is None else blocks.rows
    gumbel = torch.empty(N + 1, K, S, dtype=torch.float64)
    gumbel[rows] = -math.log(2) * drawn.double().permute(0, 3, 1, 2)
    return normal.double(), gumbel[:N]


def literal_samples(case, logits, pos, normal, gumbel, basis_noise):
    """Eq. 11-12 as written, on given noise."""
    out = []
    for b, own in enumerate(case.clouds()):
        weight = ((logits[own, :, None] + gumbel[own]) / case.temperature).softmax(0)
        mean = torch.einsum("nks,nd->ksd", weight, pos[own])
        power = weight.square() if basis_noise == "relaxed" else weight
        out.append(mean + normal[b] * case.bandwidth * power.sum(0).sqrt().unsqueeze(-1))
    return torch.stack(out)


def check(found, expected, allowed):
    """All numbers are finite, and no farther apart than allowed."""
    assert found.isfinite().all()
    away = float((found.double() - expected.double()).detach().abs().max())
    assert away <= allowed, f"{away:.3g} is above {allowed:.3g}"


def check_samples(case, basis_noise):
    logits, pos = case.leaves(exact=False)
    how = {"num_samples": case.samples, "temperature": case.temperature, "basis_noise": basis_noise}
    found = pcsa.sampling_argmax(
        *(logits, pos, case.bandwidth), ptr=case.ptr, **how, generator=torch.Generator().manual_seed(1), validate=False
    )
    seed = int(torch.randint(2**63 - 1, (), generator=torch.Generator().manual_seed(1)))
    exact = case.leaves(exact=True)
    expected = literal_samples(case, *exact, *noise_of(case, seed), basis_noise)
    # The noise is divided by the temperature, and its last digit with it.
    close = 2e-6 * max(1.0, 1 / case.temperature)
    length = 1 + case.bandwidth
    check(found, expected, close * length + case.step)
    found_grad = torch.autograd.grad((found * case.direction).sum(), [logits, pos])
    expected_grad = torch.autograd.grad((expected * case.direction).sum(), exact)
    # Each sample pulls with at most this.
    pull = case.samples * float(case.direction.abs().max()) * case.dim
    half = {torch.float32: 0.0, torch.float16: 2.0**-10, torch.bfloat16: 2.0**-7}[case.dtype]
    allowed = (close * length * pull / case.temperature, close * pull * case.keypoints)
    for mine, theirs, most in zip(found_grad, expected_grad, allowed, strict=True):
        check(mine, theirs, most + half * float(theirs.abs().max()))


@stressed
@given(case=cases, basis_noise=choices("relaxed", "mixture"))
def test_samples(case, basis_noise):
    check_samples(case, basis_noise)


@pytest.mark.slow
@pytest.mark.parametrize("offset", [0.0, 1e6])
@pytest.mark.parametrize("basis_noise", ["relaxed", "mixture"])
def test_samples_of_a_million_points(offset, basis_noise):
    numbers = {"keypoints": 2, "samples": 2, "dim": 3, "spread": 10.0, "hidden": 0.1, "temperature": 0.5}
    more = {"bandwidth": 0.01, "offset": offset, "equal": False, "dtype": torch.float32, "seed": 0}
    check_samples(Case(sizes=(10**6,), **numbers, **more), basis_noise)


@stressed
@given(case=cases, estimator=choices("straight_through", "reinmax", "implicit"))
def test_samples_of_other_estimators_are_points_moved_by_their_bases(case, estimator):
    logits, pos = case.leaves(exact=False)
    samples = pcsa.sampling_argmax(
        *(logits, pos, case.bandwidth),
        ptr=case.ptr,
        num_samples=case.samples,
        temperature=case.temperature,
        estimator=estimator,
        generator=torch.Generator().manual_seed(1),
        validate=False,
    )
    assert samples.isfinite().all()
    for b, own in enumerate(case.clouds()):
        away = torch.cdist(samples[b].detach().double().flatten(0, 1), pos[own].detach().double()).amin(1)
        # Of 2000 times 3 normal numbers none is above 6.
        assert float(away.max()) <= 6 * math.sqrt(case.dim) * case.bandwidth + 2 * case.step
    grads = torch.autograd.grad((samples * case.direction).sum(), [logits, pos])
    assert all(grad.isfinite().all() for grad in grads)


@stressed
@given(case=cases)
def test_read_outs(case):
    logits, pos = case.leaves(exact=False)
    found = pcsa.soft_argmax(logits, pos, ptr=case.ptr, temperature=case.temperature, validate=False)
    exact = case.leaves(exact=True)
    expected = []
    for own in case.clouds():
        expected.append((exact[0][own] / case.temperature).softmax(0).t() @ exact[1][own])
    expected = torch.stack(expected)
    close = 1e-6 * max(1.0, 1 / case.temperature)
    check(found, expected, close + case.step)
    direction = case.direction[:, :, 0]
    grads = torch.autograd.grad((found * direction).sum(), [logits, pos])
    wanted = torch.autograd.grad((expected * direction).sum(), exact)
    half = {torch.float32: 0.0, torch.float16: 2.0**-10, torch.bfloat16: 2.0**-7}[case.dtype]
    for mine, theirs, scale in zip(grads, wanted, (1 / case.temperature, case.keypoints), strict=True):
        check(mine, theirs, close * scale * case.dim * float(direction.abs().max()) + half * float(theirs.abs().max()))

    with torch.no_grad():
        few = {"temperature": case.temperature, "ptr": case.ptr, "validate": False}
        for read_out in ("expectation", "peak", "local", "mode", "median", "ball", "ball_point"):
            if case.keypoints == 500 and read_out in ("mode", "median", "ball"):
                continue  # the same for each of them
            read = pcsa.localize(logits, pos, case.bandwidth, read_out=read_out, radius=SIGMA, **few)
            assert all(part.isfinite().all() for part in read)
            for b, own in enumerate(case.clouds()):
                prob = (exact[0][own] / case.temperature).softmax(0)
                low, high = exact[1][own].amin(0), exact[1][own].amax(0)
                at = read.position[b].double()
                assert (at >= low - 1e-5 - case.step).all()
                assert (at <= high + 1e-5 + case.step).all()
                check(read.peak[b], prob.amax(0), close)
                check(read.entropy[b], torch.special.entr(prob).sum(0), 10 * close)
                away = exact[1][own, None] - prob.t() @ exact[1][own]
                covariance = torch.einsum("nk,nkd,nke->kde", prob, away, away)
                covariance += case.bandwidth**2 * torch.eye(case.dim, dtype=torch.float64)
                check(read.covariance[b], covariance, 2 * close * (1 + case.bandwidth**2))


def literal_losses(case, logits, pos):
    """Every loss [B, K] as written, in logarithms: a probability of e^-10000 is 0 in float64, too."""
    found = {}
    for b, own in enumerate(case.clouds()):
        log_prob = logits[own].log_softmax(0)
        prob, y, t, s = log_prob.exp(), pos[own], case.target[b].double(), case.bandwidth
        offset = y[:, None] - t
        squared = offset.square().sum(-1)
        inside = log_prob > -math.inf
        mean = prob.t() @ y
        normal = torch.distributions.Normal(0.0, 1.0)
        z = offset / s
        folded = 2 * s * normal.log_prob(z).exp() + offset * torch.erf(z / math.sqrt(2))
        density = -z.square().sum(-1) / 2 - case.dim * (math.log(s) + math.log(2 * math.pi) / 2)
        variance = torch.stack([prob[:, k] @ (y - mean[k]).square() for k in range(len(t))])
        around = y[:, None] - mean
        gauss = (-around.square().sum(-1) / (2 * SIGMA**2)).masked_fill(~inside, -math.inf).log_softmax(0)
        middle = torch.logaddexp(log_prob, gauss) - math.log(2)
        js = sum(torch.where(inside, p.exp() * (p - middle), 0.0).sum(0) for p in (log_prob, gauss)) / 2
        label = (-squared / (2 * SIGMA**2)).masked_fill(~inside, -math.inf).softmax(0)
        nearest = squared.masked_fill(~inside, math.inf).argmin(0)
        # Points in one place are one to a score.
        same = (y[:, None] == y[nearest]).all(-1)
        rows = {
            "expectation": (mean - t).norm(dim=-1),
            "bounded": 1 - (-(mean - t).square().sum(-1) / (2 * SIGMA**2)).exp(),
            "discrete": (prob * squared.sqrt()).sum(0),
            "mixture": (prob * folded.sum(-1)).sum(0),
            "squared": (prob * (squared + case.dim * s**2)).sum(0),
            "nll": -(log_prob + density).logsumexp(0),
            "cross_entropy": -log_prob.masked_fill(~same, -math.inf).logsumexp(0),
            "soft_label": torch.where(inside, -label * log_prob, 0.0).sum(0),
            "variance": (variance - 0.01).square().sum(-1),
            "js": js,
        }
        for name, row in rows.items():
            found.setdefault(name, []).append(row)
    return {name: torch.stack(rows) for name, rows in found.items()}


OURS = {
    "expectation": lambda x, y, s, t, **o: losses.expectation_error(x, y, t, **o),
    "bounded": lambda x, y, s, t, **o: losses.expectation_error(x, y, t, norm="bounded", sigma=SIGMA, **o),
    "discrete": lambda x, y, s, t, **o: losses.discrete_expected_error(x, y, t, **o),
    "mixture": lambda x, y, s, t, **o: losses.mixture_expected_error(x, y, s, t, norm="l1", **o),
    "squared": lambda x, y, s, t, **o: losses.mixture_expected_error(x, y, s, t, norm="squared", **o),
    "nll": lambda x, y, s, t, **o: losses.mixture_nll(x, y, s, t, **o),
    "cross_entropy": lambda x, y, s, t, **o: losses.nearest_point_cross_entropy(x, y, t, **o),
    "soft_label": lambda x, y, s, t, **o: losses.soft_label_cross_entropy(x, y, SIGMA, t, **o),
    "variance": lambda x, y, s, t, **o: losses.variance_regularization(x, y, target_variance=0.01, **o),
    "js": lambda x, y, s, t, **o: losses.js_regularization(x, y, SIGMA, **o),
}


def check_losses(case):
    exact = case.leaves(exact=True)
    everything = literal_losses(case, *exact)
    for name in OURS:
        logits, pos = case.leaves(exact=False)
        how = {"ptr": case.ptr, "reduction": "none", "validate": False}
        found = OURS[name](logits, pos, case.bandwidth, case.target, **how)
        expected = everything[name]
        grads = torch.autograd.grad(found.sum(), [logits, pos], allow_unused=True)
        assert grads[0].isfinite().all(), name
        # That of the likelihood to the positions may be beyond 65504, where float16 ends.
        assert grads[1] is None or case.dtype == torch.float16 or grads[1].isfinite().all(), name
        assert found.isfinite().all(), name
        # Relative to the largest term, which is what is rounded.
        scale = 1 + float(expected.detach().abs().max())
        away = float((found.double() - expected).detach().abs().max())
        assert away <= 1e-5 * scale, f"{name}: {away:.3g} of {scale:.3g}"


@stressed
@given(case=cases)
def test_losses(case):
    check_losses(case)


@pytest.mark.slow
@pytest.mark.parametrize("offset", [0.0, 1e6])
@pytest.mark.parametrize("sizes", [(10**6,), (10**6, 3)], ids=["dense", "ragged"])
def test_losses_of_a_million_points(sizes, offset):
    numbers = {"keypoints": 1, "samples": 1, "dim": 3, "spread": 10.0, "hidden": 0.1, "temperature": 1.0}
    more = {"bandwidth": 0.01, "offset": offset, "equal": False, "dtype": torch.float32, "seed": 0}
    check_losses(Case(sizes=sizes, **numbers, **more))


@stressed
@given(case=cases)
def test_bandwidths(case):
    with torch.no_grad():
        pos = case.pos
        found = pcsa.knn_bandwidth(pos, ptr=case.ptr)
        assert found.isfinite().all()
        assert (found > 0).all()
        for own in case.clouds():
            places = pos[own].double().unique(dim=0)
            extent = float((places.amax(0) - places.amin(0)).norm())
            floor = max(1e-6 * extent, torch.finfo(torch.float32).tiny)
            away = torch.cdist(pos[own].double(), places, compute_mode="donot_use_mm_for_euclid_dist")
            k = min(case.dim, len(places) - 1)
            nearest = away.sort(1).values[:, 1 : k + 1]
            expected = nearest.mean(1) if k else torch.zeros(len(nearest), dtype=torch.float64)
            check(found[own], expected.clamp_min(floor), 1e-6 * (extent + floor))


@pytest.mark.parametrize("estimator", ["relaxed", "straight_through", "reinmax", "implicit"])
def test_the_largest_bandwidth(estimator):
    logits = torch.tensor([[1.0], [0.0], [2.0]], requires_grad=True)
    pos = torch.eye(3, requires_grad=True)
    for largest in (1e18, torch.full((3,), 1e18, requires_grad=True)):
        samples = pcsa.sampling_argmax(logits, pos, largest, num_samples=50, estimator=estimator)
        leaves = [logits, pos] + [largest] * isinstance(largest, torch.Tensor)
        grads = torch.autograd.grad(samples.sum(), leaves)
        assert all(x.isfinite().all() for x in (samples, *grads))
    for more in (2e18, torch.full((3,), 2e18)):
        with pytest.raises(ValueError, match=r"`bandwidth` .*must be at most 1e\+18"):
            pcsa.sampling_argmax(logits, pos, more, estimator=estimator)


def test_a_map_without_any_probability_spoils_only_its_own_cloud():
    logits, pos = torch.randn(5, 2), torch.rand(5, 3).requires_grad_()
    logits[:2, 0] = -math.inf
    logits.requires_grad_()
    how = {"ptr": torch.tensor([0, 2, 5]), "validate": False}
    for found in (pcsa.soft_argmax(logits, pos, **how), pcsa.sampling_argmax(logits, pos, 0.1, **how)):
        assert found[0, 0].isnan().all()
        right = torch.cat([found[0, 1:].flatten(), found[1].flatten()])
        assert right.isfinite().all()
        grads = torch.autograd.grad(found[1].sum(), [logits, pos])
        assert all(grad[2:].isfinite().all() for grad in grads)
    with pytest.raises(ValueError, match="`logits` must be finite"):
        pcsa.soft_argmax(logits, pos, ptr=how["ptr"])
