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
