"""Samples of the mixture, and what each estimator makes of their gradient, against loops and closed forms."""

import math

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from pcsa import SamplingArgmax, knn_bandwidth, losses, sampling_argmax
from pcsa._core import choice, kernel
from pcsa._core.marginals import basis_noise
from pcsa._core.points import canonical

EXACT = ["straight_through", "reinmax", "implicit"]
SIZES = (4, 1, 3)
K, S = 2, 5


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def make(sizes=SIZES, dim=2, seed=0, dtype=torch.float64, axes=None, num_keypoints=K):
    g = seeded(seed)
    logits = torch.randn(sum(sizes), num_keypoints, generator=g, dtype=dtype)
    pos = torch.randn(sum(sizes), dim, generator=g, dtype=dtype)
    bandwidth = 0.4 + torch.rand(sum(sizes), axes or dim, generator=g, dtype=dtype)
    return logits, pos, bandwidth, torch.tensor([0, *sizes]).cumsum(0)


@pytest.fixture(params=["tiles as they are", "small tiles"])
def tiles(request, monkeypatch):
    if request.param == "small tiles":
        monkeypatch.setattr(kernel, "_TILE_CPU", 1 << 7)
        monkeypatch.setattr(kernel, "_MAX_BLOCK", 3)
        monkeypatch.setattr(kernel, "_MIN_BLOCK", 2)


# --- the samples -------------------------------------------------------------------------------------------


def test_points_are_chosen_by_their_probabilities():
    # Evenly spaced numbers: each point gets its share of them, but for one.
    logits, pos, _, ptr = make((5, 1, 7))
    logits[2] = -math.inf
    points = canonical(logits, pos, ptr=ptr, validate=False)
    prob = torch.cat([part.softmax(0) for part in logits.split([5, 1, 7])])
    uniform = ((torch.arange(1000.0, dtype=torch.float64) + 0.5) / 1000).expand(3, K, 1000)
    chosen = choice.choose(prob, points, uniform)
    for b in range(3):
        for k in range(K):
            counts = torch.bincount(chosen[b, k], minlength=13)
            inside = slice(int(ptr[b]), int(ptr[b + 1]))
            assert counts[inside].sum() == 1000
            assert ((counts[inside] / 1000 - prob[inside, k]).abs() <= 1e-3).all()


@pytest.mark.parametrize("number", [0.0, 1 - 2**-53])
def test_a_point_without_probability_is_never_chosen(number):
    prob = torch.tensor([0.0, 0.3, 0.7, 0.0, 0.0, 1.0, 0.0], dtype=torch.float64)[:, None]
    points = canonical(prob, prob, ptr=torch.tensor([0, 4, 7]))
    chosen = choice.choose(prob, points, torch.full((2, 1, 1), number, dtype=torch.float64)).flatten().tolist()
    assert chosen == [1 if number == 0 else 2, 5]


@pytest.mark.parametrize("estimator", EXACT)
@pytest.mark.parametrize("dim", [1, 3])
def test_samples_have_the_mean_and_covariance_of_the_mixture(estimator, dim, tiles):
    sizes, number = (4, 1), 20_000
    logits, pos, bandwidth, ptr = make(sizes, dim)
    samples = sampling_argmax(
        logits, pos, bandwidth, ptr=ptr, num_samples=number, estimator=estimator, temperature=0.3, generator=seeded(1)
    )
    for b, inside in enumerate((slice(0, 4), slice(4, 5))):
        prob = logits[inside].softmax(0)
        mean = prob.T @ pos[inside]
        away = pos[inside, None] - mean
        second = torch.einsum("nk,nkd,nke->kde", prob, away, away) + torch.diag_embed(prob.T @ bandwidth[inside] ** 2)
        found = samples[b] - mean[:, None]
        for moment, expected in ((found, 0.0), (found[..., None] * found[..., None, :], second[:, None])):
            error = moment.std(1) / number**0.5
            assert ((moment - expected).mean(1).abs() < 5 * error).all()


@pytest.mark.parametrize("estimator", EXACT)
def test_dense_input_with_a_mask_and_one_cloud_alone_draw_from_the_same_mixture(estimator):
    logits, pos, bandwidth, _ = make((3, 3), dim=1, num_keypoints=1)
    options = {"num_samples": 20_000, "estimator": estimator, "temperature": 0.5}
    mask = torch.tensor([[True, False, True], [True, True, True]])
    dense = sampling_argmax(
        *(x.view(2, 3, -1) for x in (logits, pos, bandwidth)), mask=mask, generator=seeded(), **options
    )
    ragged = sampling_argmax(
        logits[[0, 2, 3, 4, 5]],
        pos[[0, 2, 3, 4, 5]],
        bandwidth[[0, 2, 3, 4, 5]],
        ptr=torch.tensor([0, 2, 5]),
        generator=seeded(1),
        **options,
    )
    alone = sampling_argmax(logits[3:], pos[3:], bandwidth[3:], generator=seeded(2), **options)
    for a, b in ((dense, ragged), (dense[1:], alone)):
        error = ((a.var(2) + b.var(2)) / 20_000).sqrt()
        assert ((a.mean(2) - b.mean(2)).abs() < 5 * error).all()


# --- the same gradient as a loop ---------------------------------------------------------------------------


def what_was_drawn(logits, pos, bandwidth, ptr, seed):
    """The noise of the bases, and the seed of the choice, as `sampling_argmax` takes them from a generator."""
    generator = seeded(seed)
    first, second = (torch.randint(2**63 - 1, (), generator=generator) for _ in range(2))
    like = logits.new_empty(len(ptr) - 1, logits.shape[1], S, pos.shape[1])
    return basis_noise(like, first, "gaussian"), second


def chosen_point(sample, pos, bandwidth, noise):
    """The point that a sample is of: where its noise leads to the sample."""
    gap = (pos + bandwidth * noise - sample).detach().abs().sum(1)
    assert gap.min() < 1e-12
    return int(gap.argmin())


def naive_straight_through(logits, pos, bandwidth, ptr, seed, temperature):
    """The relaxed weights are read off the relaxed sampler: as samples of one-hot positions."""
    noise, choice_seed = what_was_drawn(logits, pos, bandwidth, ptr, seed)
    width = pos.shape[1] + bandwidth.shape[1]
    assert int(ptr.diff().max()) <= width
    place = torch.arange(len(pos)) - ptr[:-1].repeat_interleave(ptr.diff())
    one_hot = torch.nn.functional.one_hot(place, width).to(logits.dtype)
    tau = torch.tensor(temperature, dtype=torch.float64)
    weight, *_ = kernel.draw(logits, one_hot, torch.zeros_like(pos[:, :1]), ptr, choice_seed, tau, S, False, 0)
    out = torch.empty_like(noise)
    for b, k, s in torch.cartesian_prod(torch.arange(len(ptr) - 1), torch.arange(K), torch.arange(S)).tolist():
        inside = slice(int(ptr[b]), int(ptr[b + 1]))
        relaxed = weight[b, k, s, : int(ptr[b + 1] - ptr[b])]
        hard = torch.nn.functional.one_hot(relaxed.argmax(), len(relaxed))
        through = hard + relaxed - relaxed.detach()
        moved = (pos + bandwidth * noise[b, k, s])[inside]
        out[b, k, s] = hard.to(moved) @ moved + (through - hard) @ moved.detach()
    return out


def naive_reinmax(samples, logits, pos, bandwidth, ptr, seed):
    """Algorithm 2 of the paper, sample by sample."""
    noise, _ = what_was_drawn(logits, pos, bandwidth, ptr, seed)
    out = torch.empty_like(noise)
    for b, k, s in torch.cartesian_prod(torch.arange(len(ptr) - 1), torch.arange(K), torch.arange(S)).tolist():
        inside = slice(int(ptr[b]), int(ptr[b + 1]))
        theta, moved = logits[inside, k], (pos + bandwidth * noise[b, k, s])[inside]
        point = chosen_point(samples[b, k, s], pos[inside], bandwidth[inside], noise[b, k, s])
        hard = torch.zeros_like(theta)
        hard[point] = 1.0
        first = theta.softmax(0)
        second = (hard + first) / 2
        second = ((second.log() - theta).detach() + theta).softmax(0)
        third = 2 * second - first / 2
        out[b, k, s] = hard @ moved + (third - third.detach()) @ moved.detach()
    return out


def naive_implicit(samples, logits, pos, bandwidth, ptr, seed):
    """Keep the conditional distribution functions of each sample's axes, by their Jacobian from autograd."""
    noise, _ = what_was_drawn(logits, pos, bandwidth, ptr, seed)
    spread = bandwidth.expand_as(pos)
    out = torch.empty_like(noise)
    normal = torch.distributions.Normal(logits.new_zeros(()), logits.new_ones(()))
    for b, k, s in torch.cartesian_prod(torch.arange(len(ptr) - 1), torch.arange(K), torch.arange(S)).tolist():
        inside = slice(int(ptr[b]), int(ptr[b + 1]))
        y, sigma = pos[inside].detach(), spread[inside].detach()

        def functions(z, theta, y=y, sigma=sigma):
            found = []
            for d in range(z.shape[0]):
                weight = theta.softmax(0)
                for e in range(d):
                    weight = weight * (normal.log_prob((z[e] - y[:, e]) / sigma[:, e]).exp() / sigma[:, e])
                found.append((weight * normal.cdf((z[d] - y[:, d]) / sigma[:, d])).sum() / weight.sum())
            return torch.stack(found)

        z, theta = samples[b, k, s].detach(), logits[inside, k]
        still = theta.detach()
        jacobian = torch.autograd.functional.jacobian(lambda z, f=functions, t=still: f(z, t), z)
        moved = -torch.linalg.solve(jacobian, functions(z, theta))
        point = chosen_point(samples[b, k, s], pos[inside], bandwidth[inside], noise[b, k, s])
        out[b, k, s] = pos[inside][point] + bandwidth[inside][point] * noise[b, k, s] + moved - moved.detach()
    return out


@pytest.mark.parametrize("estimator", EXACT)
@pytest.mark.parametrize(("dim", "axes"), [(1, 1), (2, 2), (3, 3), (3, 1), (4, 1)])
def test_samples_and_gradients_equal_the_loop(estimator, dim, axes, tiles):
    # A straight-through loop reads its weights off as many columns as there are.
    sizes = (2, 1, 2) if dim + axes < 4 else SIZES
    *leaves, ptr = make(sizes, dim, seed=3, axes=axes)
    leaves = [x.requires_grad_() for x in leaves]
    bandwidth = leaves[2] if axes > 1 or dim == 1 else leaves[2][:, 0]
    samples = sampling_argmax(
        *leaves[:2], bandwidth, ptr=ptr, num_samples=S, temperature=0.6, estimator=estimator, generator=seeded(7)
    )
    if estimator == "straight_through":
        expected = naive_straight_through(*leaves, ptr, 7, 0.6)
    elif estimator == "reinmax":
        expected = naive_reinmax(samples, *leaves, ptr, 7)
    else:
        expected = naive_implicit(samples, *leaves, ptr, 7)
    torch.testing.assert_close(samples, expected)
    weight = torch.randn(samples.shape, generator=seeded(1), dtype=samples.dtype)
    wanted = torch.autograd.grad((weight * expected).sum(), leaves)
    for actual, reference in zip(torch.autograd.grad((weight * samples).sum(), leaves), wanted, strict=True):
        torch.testing.assert_close(actual, reference, rtol=1e-6, atol=1e-9)


# --- the same gradient in the mean as the closed form ------------------------------------------------------


@pytest.mark.parametrize("dim", [1, 2, 3])
@pytest.mark.parametrize(
    ("estimator", "norm"),
    [("reinmax", "squared"), ("implicit", "squared"), ("implicit", "l1"), ("implicit", "bounded")],
)
def test_the_mean_gradient_is_that_of_the_closed_form(estimator, norm, dim):
    # Copies of one cloud: each gives a gradient of its own. Eq. 3 is their mean.
    copies, n = 4000, 5
    logits, pos, bandwidth, _ = make((n,), dim, seed=dim)
    leaves = [x.requires_grad_() for x in (logits, pos, bandwidth)]
    target = torch.tensor([[[0.3, -0.2, 0.1], [-0.5, 0.4, 0.0]]], dtype=torch.float64)[..., :dim]
    exact = losses.mixture_expected_error(*leaves, target, norm=norm, sigma=0.8, reduction="sum")
    wanted = torch.autograd.grad(exact, leaves)
    many = [x.detach().expand(copies, -1, -1).clone().requires_grad_() for x in leaves]
    samples = sampling_argmax(*many, num_samples=2, estimator=estimator, generator=seeded(4), validate=False)
    loss = losses.sample_error(samples, target.expand(copies, -1, -1), norm=norm, sigma=0.8, reduction="sum")
    for found, expected in zip(torch.autograd.grad(loss, many), wanted, strict=True):
        error = found.std(0) / copies**0.5
        assert ((found.mean(0) - expected).abs() < 5 * error + 1e-9).all()
        # The bars are short enough to tell.
        assert error.norm() < 0.2 * expected.norm()


def test_points_with_bandwidth_almost_0_have_the_gradient_of_the_discrete_map():
    # Eq. 4: of degree 2, where ReinMax is exact however narrow the bases are.
    logits, pos, _, _ = make((6,), seed=9)
    logits.requires_grad_()
    target = torch.zeros(1, K, 2, dtype=torch.float64)
    exact = losses.discrete_expected_error(logits, pos, target, norm="squared", reduction="sum")
    (wanted,) = torch.autograd.grad(exact, logits)
    many = logits.detach().expand(4000, -1, -1).clone().requires_grad_()
    samples = sampling_argmax(many, pos.expand(4000, -1, -1), 1e-9, estimator="reinmax", generator=seeded())
    loss = losses.sample_error(samples, target.expand(4000, -1, -1), norm="squared", reduction="sum")
    (found,) = torch.autograd.grad(loss, many)
    assert ((found.mean(0) - wanted).abs() < 5 * found.std(0) / 4000**0.5 + 1e-9).all()


def test_the_gradient_of_a_one_point_cloud_is_that_of_its_place_alone():
    for estimator in EXACT:
        leaves = [x.requires_grad_() for x in make((1,))[:3]]
        samples = sampling_argmax(*leaves, num_samples=3, estimator=estimator)
        logits, pos, _ = torch.autograd.grad(samples.sum(), leaves)
        assert torch.equal(logits, torch.zeros_like(logits))
        torch.testing.assert_close(pos, torch.full_like(pos, 3.0 * K))


# --- precision, extremes, compilation ----------------------------------------------------------------------


@settings(deadline=None, max_examples=12, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1), scale=st.floats(0.1, 5), estimator=st.sampled_from(EXACT))
def test_equivariance(seed, scale, estimator):
    logits, pos, bandwidth, ptr = make(seed=seed)
    options = {"ptr": ptr, "num_samples": 3, "estimator": estimator}

    def draw(pos, bandwidth, shift=0.0):
        leaf = (logits + shift).requires_grad_()
        samples = sampling_argmax(leaf, pos, bandwidth, generator=seeded(seed), **options)
        return samples, torch.autograd.grad(samples.sum(), leaf)[0]

    samples, gradient = draw(pos, bandwidth)
    moved, same = draw(scale * pos + 3, scale * bandwidth)
    torch.testing.assert_close(moved, scale * samples + 3)
    torch.testing.assert_close(same, scale * gradient, rtol=1e-5, atol=1e-8)
    shifted, same = draw(pos, bandwidth, shift=2.0)
    torch.testing.assert_close(shifted, samples)
    torch.testing.assert_close(same, gradient, rtol=1e-5, atol=1e-8)
    # A common offset of the scores changes nothing: what is given to one point is taken from the others.
    torch.testing.assert_close(gradient[:4].sum(0), torch.zeros(K, dtype=torch.float64), atol=1e-8, rtol=0)


EXTREMES = {
    "large logits": (torch.tensor([[1e4, -1e4], [-1e4, 1e4], [0.0, 0.0]]), torch.eye(3)),
    "enormous logits": (torch.tensor([[0.0, -1e30], [-1e30, 0.0], [1e30, -1e30]]), torch.eye(3)),
    "switched off": (torch.tensor([[-math.inf, 0.0], [1.0, -math.inf], [0.0, 0.0]]), torch.eye(3)),
    "duplicates": (torch.tensor([[1.0, 0.0], [1.0, 2.0], [0.0, 0.0]]), torch.tensor([[0.0], [0.0], [1.0]])),
    "all equal": (torch.tensor([[1.0, 0.0], [1.0, 2.0], [0.0, 0.0]]), torch.full((3, 3), 0.3)),
    "one point": (torch.tensor([[1.0, -2.0]]), torch.tensor([[0.1, 0.2, 0.3]])),
    "far away": (torch.tensor([[1.0, 0.0], [1.0, 2.0]]), torch.tensor([[1e6, 0.0], [1e6, 1.0]])),
    "smallest of all": (torch.zeros(1, 1), torch.zeros(1, 1)),
    "five axes": (torch.zeros(4, 1), torch.eye(4, 5)),
}


@pytest.mark.parametrize("estimator", EXACT)
@pytest.mark.parametrize("case", EXTREMES.values(), ids=EXTREMES.keys())
def test_extremes_are_finite(case, estimator, tiles):
    logits, pos = (x.clone().requires_grad_() for x in case)
    for bandwidth in (knn_bandwidth(pos), 0.1, 1e-30, torch.full_like(pos, 0.1).requires_grad_()):
        samples = sampling_argmax(logits, pos, bandwidth, num_samples=20, estimator=estimator, validate=False)
        (1e3 * samples).sum().backward()
        assert samples.shape == (1, logits.shape[1], 20, pos.shape[1])
        assert samples.isfinite().all()
        assert logits.grad.isfinite().all()
        assert pos.grad.isfinite().all()
        if isinstance(bandwidth, torch.Tensor) and bandwidth.is_leaf:
            assert bandwidth.grad.isfinite().all()


def test_the_path_keeps_its_digits_in_single_precision():
    logits, pos, bandwidth, ptr = make((60, 40), dim=3, axes=1)
    samples = sampling_argmax(logits, pos, 0.3 * bandwidth[:, 0], ptr=ptr, num_samples=50, generator=seeded())
    chosen = torch.randint(60, (2, K, 50), generator=seeded())
    chosen[1] = 60 + chosen[1] % 40
    samples = pos[chosen] + 0.3 * bandwidth[chosen] * torch.randn(samples.shape, generator=seeded()).double()
    grads = []
    for dtype in (torch.float32, torch.float64):
        inputs = [x.to(dtype) for x in (torch.ones_like(samples), logits, pos, 0.3 * bandwidth, samples)]
        grads.append(choice.path_backward(*inputs, chosen, ptr, 0).double())
    # Chosen without regard to the logits: samples lie where there is little probability, too.
    assert (grads[0] - grads[1]).norm() < 1e-3 * grads[1].norm()


@pytest.mark.parametrize("estimator", EXACT)
def test_half_precision_and_autocast_compute_in_single(estimator):
    logits, pos, bandwidth, ptr = make(dtype=torch.float32)
    results = []
    for region in (False, True):
        leaves = [x.clone().requires_grad_() for x in (logits, pos, bandwidth)]
        with torch.autocast("cpu", torch.bfloat16, enabled=region):
            samples = sampling_argmax(*leaves, ptr=ptr, num_samples=3, estimator=estimator, generator=seeded())
            samples.square().sum().backward()
        results.append((samples.detach(), *(x.grad for x in leaves)))
    assert all(torch.equal(a, b) and b.dtype == torch.float32 for a, b in zip(*results, strict=True))
    low = sampling_argmax(logits.bfloat16(), pos, bandwidth, ptr=ptr, estimator=estimator, generator=seeded())
    assert low.dtype == torch.float32
    assert torch.equal(
        low,
        sampling_argmax(logits.bfloat16().float(), pos, bandwidth, ptr=ptr, estimator=estimator, generator=seeded()),
    )


@pytest.mark.parametrize("estimator", EXACT)
def test_compiles_in_one_graph(estimator):
    torch._dynamo.reset()
    logits, pos, bandwidth, ptr = make((2, 4), dtype=torch.float32)

    def loss(logits, pos, bandwidth, ptr):
        options = {"ptr": ptr, "num_samples": 3, "temperature": 0.5, "estimator": estimator}
        return sampling_argmax(logits, pos, bandwidth, **options).square().sum()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    results = []
    for function in (loss, compiled):
        torch.manual_seed(0)
        leaves = [x.clone().requires_grad_() for x in (logits, pos, bandwidth)]
        value = function(*leaves, ptr)
        value.backward()
        results.append((value.detach(), *(x.grad for x in leaves)))
    torch.testing.assert_close(*results)


def test_the_operators_keep_their_promises_to_the_compiler():
    logits, pos, bandwidth, ptr = make()
    tau = torch.tensor(0.5, dtype=torch.float64)
    chosen = torch.tensor([0, 4, 5]).view(3, 1, 1).expand(3, K, S).contiguous()
    for operator, arguments in (
        (choice.choose_perturbed, (logits, ptr, torch.tensor(3), tau, S, 3, 0)),
        (
            torch.ops.pcsa.path.default,
            (logits.requires_grad_(), pos, bandwidth, torch.randn(3, K, S, 2).double(), chosen, ptr, 0),
        ),
    ):
        torch.library.opcheck(operator, arguments, test_utils=("test_schema", "test_faketensor"))


class Largest(TorchDispatchMode):
    """Elements of the largest tensor that any operation returned."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor):
            self.elements = max(self.elements, out.numel())
        return out


def test_the_memory_of_the_path_does_not_grow_with_the_number_of_samples(monkeypatch):
    monkeypatch.setattr(kernel, "_TILE_CPU", 1 << 14)
    logits, pos, bandwidth, ptr = make((500, 701), dtype=torch.float32)
    number = 128
    chosen = torch.stack([torch.randint(500, (K, number)), 500 + torch.randint(701, (K, number))])
    with Largest() as seen:
        choice._path_backward(torch.ones(2, K, number, 2), logits, pos, bandwidth, pos[chosen], chosen, ptr, 0)
    # A loop over all pairs has [N, K, S]; here are blocks' 9 sums for a few samples at a time.
    assert logits.numel() <= seen.elements < logits.numel() * number / 15


def test_the_path_is_differentiable_once():
    logits, pos, bandwidth, _ = make((4,))
    logits.requires_grad_()
    samples = sampling_argmax(logits, pos, bandwidth, estimator="implicit")
    (slope,) = torch.autograd.grad(samples.square().sum(), logits, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiated once only"):
        slope.sum().backward()


# --- options -----------------------------------------------------------------------------------------------


def test_the_temperature_is_that_of_the_straight_through_gradient_alone():
    logits, pos, bandwidth, ptr = make()
    for estimator in EXACT:
        drawn = []
        for temperature in (0.3, 3.0):
            leaf = logits.clone().requires_grad_()
            samples = sampling_argmax(
                leaf, pos, bandwidth, ptr=ptr, temperature=temperature, estimator=estimator, generator=seeded()
            )
            drawn.append((samples, *torch.autograd.grad(samples.sum(), leaf)))
        assert torch.equal(drawn[0][0], drawn[1][0])
        assert torch.equal(drawn[0][1], drawn[1][1]) == (estimator != "straight_through")


def test_the_module_and_bad_input():
    logits, pos, bandwidth, ptr = make()
    module = SamplingArgmax(num_samples=3, estimator="reinmax")
    expected = sampling_argmax(logits, pos, bandwidth, ptr=ptr, num_samples=3, estimator="reinmax", generator=seeded())
    assert torch.equal(module(logits, pos, bandwidth, ptr=ptr, generator=seeded()), expected)
    assert "estimator='reinmax'" in repr(module)
    known = "'relaxed', 'straight_through', 'reinmax', 'implicit'"
    with pytest.raises(ValueError, match=rf"`estimator` \(='exact'\) must be one of {known}"):
        sampling_argmax(logits, pos, bandwidth, ptr=ptr, estimator="exact")
    with pytest.raises(ValueError, match=r"`estimator` \(='exact'\)"):
        SamplingArgmax(estimator="exact")
