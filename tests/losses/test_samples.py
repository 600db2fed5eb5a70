import pytest
import torch
from torch.autograd import gradcheck

import pcsa.losses as losses

K, S = 3, 4


@pytest.mark.parametrize("norm", ["l2", "l1", "squared", "bounded"])
def test_sample_and_position_error_equal_the_loop(norm, Case, distance):
    case = Case(4)
    case.samples.requires_grad_()
    rows = range(len(case.sizes))
    expected = torch.stack(
        [
            torch.stack(
                [sum(distance(x, case.target[b, k], norm, 0.9) for x in case.samples[b, k]) / S for k in range(K)]
            )
            for b in rows
        ]
    )
    actual = losses.sample_error(case.samples, case.target, norm=norm, sigma=0.9, reduction="none")
    torch.testing.assert_close(actual, expected)
    wanted = torch.autograd.grad(expected.sum(), case.samples)
    torch.testing.assert_close(torch.autograd.grad(actual.sum(), case.samples), wanted)
    assert gradcheck(lambda x: losses.sample_error(x, case.target, norm=norm, sigma=0.9), case.samples)

    position = case.samples[:, :, 0]
    single = losses.position_error(position, case.target, norm=norm, sigma=0.9, reduction="none")
    torch.testing.assert_close(
        single, losses.sample_error(position[:, :, None], case.target, norm=norm, sigma=0.9, reduction="none")
    )


def naive_energy(samples, target, norm):
    total, S = 0.0, len(samples)
    order = 1 if norm == "l1" else 2
    for s in range(S):
        total = total + (samples[s] - target).norm(p=order) / S
        for r in range(S):
            if r != s:
                total = total - (samples[s] - samples[r]).norm(p=order) / (2 * S * (S - 1))
    return total


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_energy_score_against_a_loop(norm):
    generator = torch.Generator().manual_seed(0)
    samples = torch.randn(2, 3, 5, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    target = torch.randn(2, 3, 2, generator=generator, dtype=torch.float64)
    found = losses.energy_score(samples, target, norm=norm, reduction="none")
    for b in range(2):
        for k in range(3):
            torch.testing.assert_close(found[b, k], naive_energy(samples[b, k], target[b, k], norm))
    assert torch.autograd.gradcheck(lambda x: losses.energy_score(x, target, norm=norm, reduction="none"), samples)
    visible = torch.tensor([[True, False, True], [True, True, True]])
    target[0, 1] = torch.nan
    torch.testing.assert_close(losses.energy_score(samples, target, norm=norm, visible=visible), found[visible].mean())


def test_energy_score_is_best_for_the_true_spread():
    # Targets are normal with deviation 1; forecasts with 0.5, 1 and 2. On one axis E = E|X - y| - E|X - X'| / 2.
    generator = torch.Generator().manual_seed(0)
    target = torch.randn(20_000, 1, 1, generator=generator)
    noise = torch.randn(20_000, 1, 8, 1, generator=generator)
    score = [losses.energy_score(width * noise, target).item() for width in (0.5, 1.0, 2.0)]
    # sqrt(2 / pi) sqrt(1 + w²) - w / sqrt(pi)
    wanted = [(2 * (1 + w**2) / torch.pi) ** 0.5 - w / torch.pi**0.5 for w in (0.5, 1.0, 2.0)]
    assert score == pytest.approx(wanted, abs=0.02)
    assert score[1] < min(score[0], score[2])
    # The error alone is best where there is no spread.
    assert losses.sample_error(0.5 * noise, target) < losses.sample_error(noise, target)


def test_energy_score_of_equal_samples_has_a_finite_gradient():
    samples = torch.zeros(1, 1, 3, 2, requires_grad=True)
    losses.energy_score(samples, torch.zeros(1, 1, 2)).backward()
    assert torch.equal(samples.grad, torch.zeros_like(samples))


def test_bad_input_energy_score():
    one = torch.zeros(1, 2, 1, 3)
    with pytest.raises(ValueError, match=r"`samples` \[1, 2, 1, 3\] must be \[B, K, S, D\] with at least 2 samples"):
        losses.energy_score(one, one[:, :, 0])
    with pytest.raises(ValueError, match=r"`norm` \(='squared'\) must be one of 'l2', 'l1'"):
        losses.energy_score(one.expand(-1, -1, 2, -1), one[:, :, 0], norm="squared")
