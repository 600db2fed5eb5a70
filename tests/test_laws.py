"""The laws of samples: of the relaxed ones against Eq. 11-12 with noise of its own, of the others against the mixture.

Two samples of one law differ by more than is allowed here once in a thousand seeds, and the seeds are fixed.
"""

import math

import pytest
import torch
from scipy import stats

from pcsa import sampling_argmax

NUMBER = 20_000


def seeded(seed):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def cloud():
    g = seeded(0)
    logits = 1.5 * torch.randn(9, 1, generator=g, dtype=torch.float64)
    pos = torch.randn(9, 2, generator=g, dtype=torch.float64)
    return logits, pos, 0.1 + 0.4 * torch.rand(9, 2, generator=g, dtype=torch.float64)


def literal(logits, pos, bandwidth, temperature, basis_noise, generator):
    """Eq. 11-12 as written, one noise vector per point: [S, D]."""
    gumbel = -torch.empty(NUMBER, len(logits), dtype=torch.float64).exponential_(generator=generator).log()
    weight = ((logits[:, 0].log_softmax(0) + gumbel) / temperature).softmax(1).unsqueeze(-1)
    moved = bandwidth * torch.randn(NUMBER, *pos.shape, dtype=torch.float64, generator=generator)
    if basis_noise == "relaxed":
        return (weight * (pos + moved)).sum(1)
    return (weight * pos + weight.sqrt() * moved).sum(1)


def directions():
    """Both axes, and two across them, along which the axes' dependence shows."""
    angle = torch.tensor([0.0, math.pi / 2, math.pi / 4, 2.4], dtype=torch.float64)
    return torch.stack([angle.cos(), angle.sin()])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("temperature", [0.05, 0.5, 2.0, 20.0])
@pytest.mark.parametrize("basis_noise", ["relaxed", "mixture"])
def test_relaxed_samples_have_the_law_of_the_literal_equation(cloud, basis_noise, temperature, dtype):
    ours = sampling_argmax(
        *(x.to(dtype) for x in cloud),
        num_samples=NUMBER,
        temperature=temperature,
        basis_noise=basis_noise,
        generator=seeded(1),
    )[0, 0].double()
    wanted = literal(*cloud, temperature, basis_noise, seeded(2))
    for one, other in zip((ours @ directions()).t(), (wanted @ directions()).t(), strict=True):
        assert stats.ks_2samp(one.numpy(), other.numpy()).pvalue > 1e-3


def test_the_two_noises_are_two_laws(cloud):
    # What the test above can tell.
    relaxed, mixture = (literal(*cloud, 1.0, noise, seeded(2))[:, 0].numpy() for noise in ("relaxed", "mixture"))
    assert stats.ks_2samp(relaxed, mixture).pvalue < 1e-6


@pytest.mark.parametrize("estimator", ["straight_through", "reinmax", "implicit"])
def test_other_estimators_draw_from_the_mixture(cloud, estimator):
    logits, pos, bandwidth = cloud
    samples = sampling_argmax(*cloud, num_samples=NUMBER, estimator=estimator, generator=seeded(3))[0, 0]
    prob = logits[:, 0].softmax(0)
    for direction in directions().t():
        mean, std = pos @ direction, (bandwidth * direction).norm(dim=1)

        def distribution(x, mean=mean, std=std):
            z = (torch.as_tensor(x).unsqueeze(-1) - mean) / std
            return (torch.special.ndtr(z) @ prob).numpy()

        assert stats.kstest((samples @ direction).numpy(), distribution).pvalue > 1e-3


@pytest.mark.parametrize("estimator", ["relaxed", "straight_through", "reinmax", "implicit"])
def test_samples_and_keypoints_are_independent_of_each_other(cloud, estimator):
    logits, pos, bandwidth = cloud
    samples = sampling_argmax(
        logits.expand(-1, 3), pos, bandwidth, num_samples=NUMBER, estimator=estimator, generator=seeded(4)
    )[0, :, :, 0]
    pairs = [(samples[0], samples[1]), (samples[1], samples[2]), (samples[0, :-1], samples[0, 1:])]
    pairs += [(a.square(), b.square()) for a, b in pairs]
    for a, b in pairs:
        # A correlation of independent numbers has the standard deviation 1 / √n.
        assert abs(float(torch.corrcoef(torch.stack([a, b]))[0, 1])) < 4 / NUMBER**0.5
