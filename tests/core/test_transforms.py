"""What torch.func and forward mode do: right derivatives, or a refusal in a sentence."""

import pytest
import torch
from torch.autograd import forward_ad
from torch.func import grad, jacrev, jvp, vjp, vmap

import pcsa
from pcsa import grid, losses, sampling_argmax, soft_argmax

# torch's, when it differentiates in forward mode for the first time.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")

N, K = 6, 2
GENERATOR = torch.Generator().manual_seed(0)
LOGITS, POS, TANGENT = (torch.randn(N, n, generator=GENERATOR, dtype=torch.float64) for n in (K, 3, K))
TARGET = torch.zeros(1, K, 3, dtype=torch.float64)
FACTORS = torch.eye(3, dtype=torch.float64).expand(N, 3, 3)
TAU = torch.tensor(0.7, dtype=torch.float64)


def seeded():
    return torch.Generator().manual_seed(1)


def drawn(logits, bandwidth=0.3, **options):
    return sampling_argmax(logits, POS, bandwidth, generator=seeded(), num_samples=3, **options).square().sum()


def on_grid(logits, basis):
    return grid.sampling_argmax(logits.T.view(1, K, 2, 3), basis, generator=seeded(), num_samples=3).square().sum()


SAMPLERS = {
    "relaxed": drawn,
    "mixture noise": lambda x: drawn(x, basis_noise="mixture"),
    "matrices": lambda x: drawn(x, FACTORS),
    "released": lambda x: drawn(x, form="released", temperature=0.5),
    "straight_through": lambda x: drawn(x, estimator="straight_through"),
    "implicit": lambda x: drawn(x, estimator="implicit"),
    "triangular": lambda x: on_grid(x, "triangular"),
    "gaussian": lambda x: on_grid(x, "gaussian"),
}
PLAIN = {
    "soft_argmax": lambda x: soft_argmax(x, POS).square().sum(),
    "reinmax": lambda x: drawn(x, estimator="reinmax"),
    "covariance": lambda x: pcsa.localize(x, POS, 0.3).covariance.sum(),
    "mixture_nll": lambda x: losses.mixture_nll(x, POS, 0.3, TARGET),
    "mixture_expected_error": lambda x: losses.mixture_expected_error(x, POS, 0.3, TARGET),
    "discrete_expected_error": lambda x: losses.discrete_expected_error(x, POS, TARGET),
    "expectation_error": lambda x: losses.expectation_error(x, POS, TARGET),
    "cross_entropy": lambda x: losses.nearest_point_cross_entropy(x, POS, TARGET),
    "soft labels": lambda x: losses.soft_label_cross_entropy(x, POS, 0.5, TARGET),
    "js": lambda x: losses.js_regularization(x, POS, 0.5),
    "variance": lambda x: losses.variance_regularization(x, POS, target_variance=0.1),
    "presence": lambda x: losses.presence_loss(x, x > 0),
    "distribution": lambda x: pcsa.KeypointDistribution(x, POS, 0.3).log_prob(TARGET).sum(),
    "grid": lambda x: grid.soft_argmax(x.T.view(1, K, 2, 3)).sum(),
}
every = pytest.mark.parametrize("function", [*SAMPLERS.values(), *PLAIN.values()], ids=[*SAMPLERS, *PLAIN])
samplers = pytest.mark.parametrize("function", SAMPLERS.values(), ids=SAMPLERS)


def gradient(function):
    leaf = LOGITS.clone().requires_grad_()
    return torch.autograd.grad(function(leaf), leaf)[0]


@every
def test_grad_and_vmap(function):
    wanted = gradient(function)
    assert wanted.abs().sum() > 0
    torch.testing.assert_close(grad(function)(LOGITS), wanted)
    torch.testing.assert_close(vjp(function, LOGITS)[1](torch.ones((), dtype=torch.float64))[0], wanted)
    two = torch.stack([LOGITS, LOGITS + TANGENT])
    one_by_one = torch.stack([function(x) for x in two])
    torch.testing.assert_close(vmap(function, randomness="same")(two), one_by_one)
    torch.testing.assert_close(vmap(grad(function), randomness="same")(two)[0], wanted)
    torch.testing.assert_close(jacrev(lambda x: torch.stack([function(x), 2 * function(x)]))(LOGITS)[1], 2 * wanted)


@pytest.mark.parametrize("function", PLAIN.values(), ids=PLAIN)
def test_forward_mode_of_what_draws_no_relaxed_samples(function):
    wanted = (gradient(function) * TANGENT).sum()
    torch.testing.assert_close(jvp(function, (LOGITS,), (TANGENT,))[1], wanted)


@samplers
def test_forward_mode_of_samplers_is_refused_and_not_zero(function):
    with pytest.raises(
        RuntimeError, match=r"sampling_argmax.* has no derivative in forward mode .*: take torch.func.grad"
    ):
        jvp(function, (LOGITS,), (TANGENT,))
    with forward_ad.dual_level(), pytest.raises(RuntimeError, match="has no derivative in forward mode"):
        function(forward_ad.make_dual(LOGITS, TANGENT))


@samplers
def test_twice_is_refused(function):
    with pytest.raises(RuntimeError, match="sampling_argmax can be differentiated once only"):
        grad(lambda x: grad(function)(x).square().sum())(LOGITS)


def test_what_is_mapped_draws_anew_for_each_entry():
    draw = vmap(lambda x: sampling_argmax(x, POS, 0.3), randomness="different")
    out = draw(LOGITS.expand(3, -1, -1))
    assert len(out.unique(dim=0)) == 3


def test_values_are_checked_but_where_vmap_hides_them():
    bad = LOGITS.clone()
    bad[0, 0] = torch.nan
    with pytest.raises(ValueError, match="`logits` must be finite"):
        grad(PLAIN["soft_argmax"])(bad)
    assert vmap(PLAIN["soft_argmax"])(bad[None]).isnan().all()


def test_gradient_of_a_learned_temperature():
    function = lambda tau: drawn(LOGITS, temperature=tau)  # noqa: E731
    tau = TAU.clone().requires_grad_()
    torch.testing.assert_close(grad(function)(TAU), torch.autograd.grad(function(tau), tau)[0])


def test_searches_for_neighbors():
    wanted = torch.autograd.grad(pcsa.knn_bandwidth(leaf := POS.clone().requires_grad_()).sum(), leaf)[0]
    torch.testing.assert_close(grad(lambda x: pcsa.knn_bandwidth(x).sum())(POS), wanted)
    many = torch.rand(2000, 3, generator=GENERATOR)  # where a k-d tree would search
    assert grad(lambda x: pcsa.neighbors.knn(x, k=4).sq_distance.sum())(many).isfinite().all()
    for search in (pcsa.knn_bandwidth, lambda pos: pcsa.neighbors.knn_graph(pos, k=2)):
        with pytest.raises(RuntimeError, match="vmap cannot map searches for neighbors: give the clouds as one batch"):
            vmap(search)(POS[None])
