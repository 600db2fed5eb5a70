import math

import pytest
import torch
from scipy import stats

from pcsa import grid
from pcsa.grid.released import released_index
from pcsa.grid.samples import draw_axes


def test_released_weights_are_drawn_from_the_map_to_the_power_of_the_temperature(seeded):
    # pi = (3/4, 1/4) and tau = 2: the first cell wins in 9 of 10 samples, where Eq. 11 has it win in 3 of 4.
    logits = torch.tensor([[[[math.log(3.0), 0.0]]]], dtype=torch.float64)
    S = 40_000
    ours = {"num_samples": S, "temperature": 2.0}
    drawn = draw_axes(logits * 2.0, S, 2.0, seeded())[0]
    assert (drawn[..., 0] > 0.5).double().mean().item() == pytest.approx(0.9, abs=0.01)
    paper = draw_axes(logits, S, 2.0, seeded())[0]
    assert (paper[..., 0] > 0.5).double().mean().item() == pytest.approx(0.75, abs=0.015)
    # The uniform basis shows it from outside: whoever wins, the sample lies nearer to it, up to the jitter.
    released = grid.sampling_argmax(logits, "uniform", form="released", generator=seeded(1), **ours)[0, 0, :, 0]
    u = torch.rand(S, 2, dtype=torch.float64, generator=seeded(2))
    weight = (logits.flatten() - (-u.log()).log() / 2).softmax(1)
    jitter = torch.rand(S, 2, dtype=torch.float64, generator=seeded(3)) - 0.5
    literal = (weight * (torch.arange(2) + jitter)).sum(1)
    assert stats.ks_2samp(released.numpy(), literal.numpy()).pvalue > 1e-3


@pytest.mark.parametrize("num_axes", [2, 3])
def test_released_values_by_hand(num_axes):
    marginal = torch.tensor([0.25, 0.5, 0.25], dtype=torch.float64)
    noise = torch.tensor([0.5, -0.25, 0.0], dtype=torch.float64)
    # Jittered positions 0.5, 0.75, 2.
    uniform = released_index(marginal, noise, "uniform", num_axes)
    assert uniform.item() == pytest.approx(0.25 * 0.5 + 0.5 * 0.75 + 0.25 * 2)
    # Marginals read there: (1/4 + 1/2) / 2 = 3/8; 1/4 + 3/4 * 1/4 = 7/16; 1/4. Together 17/16.
    # 3/8 * 1/2 + 7/16 * 3/4 + 1/4 * 2 = 12/64 + 21/64 + 32/64 = 65/64, over 17/16: 65/68.
    triangular = released_index(marginal, noise, "triangular", num_axes)
    assert triangular.item() == pytest.approx(65 / 68)
    gaussian = released_index(marginal, noise, "gaussian", num_axes)
    if num_axes == 3:
        assert gaussian.item() == pytest.approx(uniform.item())
    else:
        # Factors e^(-1/2), e^(-1/8), 1.
        a, b, c = 0.25 * math.exp(-0.5), 0.5 * math.exp(-0.125), 0.25
        assert gaussian.item() == pytest.approx((0.5 * a + 0.75 * b + 2 * c) / (a + b + c))


def test_released_interpolation_ends_at_zero():
    # Beyond the ends there is nothing: at -1/2 half of the first cell, at 2 1/2 half of the last one.
    marginal = torch.tensor([0.5, 0.25, 0.25], dtype=torch.float64)
    noise = torch.tensor([-0.5, 0.0, 0.5], dtype=torch.float64)
    # Read: 1/4, 1/4, 1/8, together 5/8; -1/2 * 1/4 + 1 * 1/4 + 5/2 * 1/8 = 7/16.
    assert released_index(marginal, noise, "triangular", 2).item() == pytest.approx((7 / 16) / (5 / 8))
    # All the way out: positions -1, 1, 3 read 0, 1/4, 0.
    noise = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)
    assert released_index(marginal, noise, "triangular", 2).item() == pytest.approx(1.0)


def test_released_gradient_by_hand():
    # Positions 0.5, 0.75, 2 and their sum 1 under (1/4, 1/2, 1/4): below, below, not below.
    marginal = torch.tensor([0.25, 0.5, 0.25], dtype=torch.float64, requires_grad=True)
    noise = torch.tensor([0.5, -0.25, 0.0], dtype=torch.float64)
    for num_axes, wanted in ((2, [-2.0, -2.0, 2.0]), (3, [0.5, 0.75, 2.0])):
        (grad,) = torch.autograd.grad(released_index(marginal, noise, "uniform", num_axes), marginal)
        assert grad.tolist() == pytest.approx(wanted)


def test_gradcheck_released(seeded, maps, basis):
    # On three axes the gradient is the true one.
    def draw(logits):
        return grid.sampling_argmax(logits, basis, num_samples=2, form="released", generator=seeded(), frame="released")

    assert torch.autograd.gradcheck(draw, maps((2, 3, 3), 1, 1).requires_grad_())
