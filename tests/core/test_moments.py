"""Samples of bases with covariances: the streamed sums against their weights, written out."""

import math

import pytest
import torch

from pcsa import sampling_argmax
from pcsa._core import kernel
from pcsa._core.moments import moments

SIZES = [5, 1, 9]
PTR = torch.tensor([0, *SIZES]).cumsum(0)


def case(dim=3, num_keypoints=2, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    N = sum(SIZES)
    logits = torch.randn(N, num_keypoints, generator=generator, dtype=torch.float64).mul(2)
    pos = torch.randn(N, dim, generator=generator, dtype=torch.float64)
    drawn = 0.1 * torch.randn(N, dim, dim, generator=generator, dtype=torch.float64)
    factor = drawn.tril(-1) + torch.diag_embed(drawn.diagonal(dim1=1, dim2=2).abs() + 0.02)
    return logits.to(dtype), pos.to(dtype), factor.to(dtype)


def generator(seed=1):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("tile", [1 << 18, 16])
@pytest.mark.parametrize("temperature", [0.2, 1.0])
def test_sums_are_those_of_the_weights(monkeypatch, tile, temperature):
    monkeypatch.setattr(kernel, "_TILE_CPU", tile)
    logits, pos, _ = case()
    logits[2, 0] = -math.inf
    second = torch.randn(len(pos), 6, dtype=torch.float64)
    S = 7
    rest = (PTR, torch.tensor(3), torch.tensor(temperature, dtype=torch.float64), S, 0)
    place, spread, _ = moments(logits, pos, second, *rest)
    # Every row's own unit vector as its position: the sums are the weights.
    weight, _, _ = moments(logits, torch.eye(len(pos), dtype=torch.float64), second[:, :1], *rest)
    assert weight.shape == (3, 2, S, len(pos))
    torch.testing.assert_close(weight.sum(-1), torch.ones(3, 2, S, dtype=torch.float64))
    assert (weight[0, 0, :, 2] == 0).all()
    for b in range(3):
        outside = torch.ones(len(pos), dtype=torch.bool)
        outside[PTR[b] : PTR[b + 1]] = False
        assert (weight[b, ..., outside] == 0).all()
    torch.testing.assert_close(place, weight @ pos)
    torch.testing.assert_close(spread, weight.square() @ second)


@pytest.mark.parametrize("basis_noise", ["relaxed", "mixture"])
@pytest.mark.parametrize("tile", [1 << 18, 16])
def test_gradients(monkeypatch, basis_noise, tile):
    monkeypatch.setattr(kernel, "_TILE_CPU", tile)

    def samples(logits, pos, factor):
        options = {"num_samples": 3, "temperature": 0.7, "basis_noise": basis_noise, "generator": generator()}
        return sampling_argmax(logits, pos, factor.tril(), ptr=PTR, **options)

    assert torch.autograd.gradcheck(samples, [x.requires_grad_() for x in case(dim=2)])


def test_dense_is_ragged():
    logits, pos, factor = (x[:12] for x in case())
    options = {"num_samples": 5, "temperature": 0.5}
    ragged = sampling_argmax(logits, pos, factor, ptr=torch.tensor([0, 6, 12]), generator=generator(), **options)
    dense = [x.reshape(2, 6, *x.shape[1:]) for x in (logits, pos, factor)]
    assert torch.equal(sampling_argmax(*dense, generator=generator(), **options), ragged)
    mask = torch.ones(2, 6, dtype=torch.bool)
    mask[1, 3:] = False
    dense[2] = dense[2].masked_fill(~mask[..., None, None], math.nan)
    drawn = sampling_argmax(*dense, mask=mask, generator=generator(), **options)
    assert drawn.isfinite().all()


def covariance_of(samples):
    away = samples - samples.mean(-2, keepdim=True)
    return away.mT @ away / away.shape[-2]


@pytest.mark.parametrize("estimator", ["relaxed", "straight_through", "reinmax"])
def test_samples_of_one_point_have_its_covariance(estimator):
    _, _, factor = case()
    drawn = sampling_argmax(
        torch.zeros(1, 1), torch.zeros(1, 3), factor[:1].float(), num_samples=20_000, estimator=estimator,
        generator=generator(),
    )  # fmt: skip
    wanted = (factor[0] @ factor[0].T).float()
    torch.testing.assert_close(covariance_of(drawn)[0, 0], wanted, rtol=0.1, atol=0.03 * wanted.max().item())


@pytest.mark.parametrize("basis_noise", ["relaxed", "mixture"])
def test_matrices_along_the_axes_are_bandwidths_along_the_axes(basis_noise):
    # All points in one place, so that the spread is the noise's alone.
    logits, _, factor = case(dtype=torch.float32)
    sigma = factor.diagonal(dim1=1, dim2=2).contiguous()
    options = {"ptr": PTR, "num_samples": 20_000, "basis_noise": basis_noise}
    pos = torch.zeros(len(logits), 3)
    one = sampling_argmax(logits, pos, torch.diag_embed(sigma), generator=generator(1), **options)
    other = sampling_argmax(logits, pos, sigma, generator=generator(2), **options)
    variance = covariance_of(other).diagonal(dim1=-2, dim2=-1)
    torch.testing.assert_close(covariance_of(one).diagonal(dim1=-2, dim2=-1), variance, rtol=0.1, atol=1e-5)


def test_reinmax_with_matrices_along_the_axes_is_reinmax():
    logits, pos, factor = case()
    sigma = factor.diagonal(dim1=1, dim2=2).contiguous()

    def drawn(bandwidth):
        inputs = [x.clone().requires_grad_() for x in (logits, pos)]
        samples = sampling_argmax(
            *inputs, bandwidth, ptr=PTR, num_samples=4, estimator="reinmax", generator=generator()
        )
        samples.square().sum().backward()
        return [samples.detach(), *(x.grad for x in inputs)]

    for one, other in zip(drawn(torch.diag_embed(sigma)), drawn(sigma), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("estimator", ["relaxed", "straight_through", "reinmax"])
@pytest.mark.parametrize("size", [1e-38, 1e-20, 1e-6])
def test_tiny_matrices_and_certain_maps_are_no_nan(estimator, size):
    logits = torch.tensor([[0.0], [-math.inf], [-math.inf], [0.0]], requires_grad=True)
    pos = torch.ones(4, 3).requires_grad_()
    factor = (size * torch.eye(3)).repeat(4, 1, 1).requires_grad_()
    ptr = torch.tensor([0, 3, 4])
    drawn = sampling_argmax(logits, pos, factor, ptr=ptr, num_samples=4, estimator=estimator, validate=False)
    torch.testing.assert_close(drawn, torch.ones(2, 1, 4, 3), atol=1e-4, rtol=0)
    drawn.sum().backward()
    assert all(x.grad.isfinite().all() for x in (logits, pos, factor))


def test_the_callers_generator_is_left_alone_by_the_backward_pass():
    logits, pos, factor = case()
    torch.manual_seed(0)
    samples = sampling_argmax(logits.requires_grad_(), pos, factor, ptr=PTR, num_samples=4)
    state = torch.get_rng_state()
    samples.sum().backward()
    assert torch.equal(torch.get_rng_state(), state)


def test_in_a_graph_without_breaks():
    logits, pos, factor = case(dtype=torch.float32)

    @torch.compile(fullgraph=True, backend="aot_eager")
    def loss(logits):
        return sampling_argmax(logits, pos, factor, ptr=PTR, num_samples=4, validate=False).square().sum()

    logits.requires_grad_()
    loss(logits).backward()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.mT + f.tril(-1).mT, "lower-triangular"),
        (lambda f: -f, "positive diagonal"),
        (lambda f: f * math.nan, "finite"),
        (lambda f: f[:, :2], "`bandwidth` \\[15, 2, 3\\] must be a number, \\[15\\], \\[15, 3\\] or \\[15, 3, 3\\]"),
    ],
)
def test_what_is_no_factor_is_refused(change, message):
    logits, pos, factor = case()
    with pytest.raises(ValueError, match=message):
        sampling_argmax(logits, pos, change(factor), ptr=PTR)


def test_the_implicit_estimator_is_along_the_axes():
    logits, pos, factor = case()
    with pytest.raises(ValueError, match="`estimator` 'implicit'"):
        sampling_argmax(logits, pos, factor, ptr=PTR, estimator="implicit")
