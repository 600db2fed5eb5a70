import copy

import pytest
import torch
from torch import nn

from pcsa.models import ball_norm


def naive(x, norm, size):
    return norm(x).relu().view(-1, size, x.shape[1]).max(1).values


@pytest.mark.parametrize(
    ("rows", "channels", "size", "dtype", "offset"),
    [
        (8, 3, 4, torch.float64, 0.0),
        (300, 33, 3, torch.float64, 0.0),
        (640, 16, 16, torch.float32, 0.0),
        (640, 4, 2, torch.float32, 1e3),
        (5, 2, 5, torch.float32, 0.0),
    ],
)
def test_same_as_torch(rows, channels, size, dtype, offset):
    generator = torch.Generator().manual_seed(rows)
    values = torch.randn(rows, channels, generator=generator, dtype=dtype) * 2 + offset
    values[1] = values[0]  # of equal rows the first counts
    pull = torch.randn(rows // size, channels, generator=generator, dtype=dtype)
    norm = nn.BatchNorm1d(channels, dtype=dtype)
    with torch.no_grad():
        norm.weight.copy_(torch.randn(channels, generator=generator, dtype=dtype))
        norm.bias.copy_(torch.randn(channels, generator=generator, dtype=dtype))
    found = []
    for function in (naive, ball_norm.normalized_maximum):
        own, x = copy.deepcopy(norm), values.clone().requires_grad_()
        assert ball_norm.takes(x, own, size)
        for _ in range(2):
            out = function(x, own, size)
        grads = torch.autograd.grad(out, [x, own.weight, own.bias], pull)
        assert own.num_batches_tracked == 2
        found.append(([out, own.running_mean, own.running_var], grads))
    for ours, expected in zip(found[1][0], found[0][0], strict=True):
        assert torch.equal(ours, expected)
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5 * (1 + 0.1 * offset)
    for ours, expected in zip(found[1][1], found[0][1], strict=True):
        torch.testing.assert_close(ours, expected, rtol=tolerance, atol=tolerance * float(expected.abs().max()))


def test_gradients_and_theirs():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(9, 2, generator=generator, dtype=torch.float64).requires_grad_()
    weight, bias = (torch.rand(2, generator=generator, dtype=torch.float64).requires_grad_() for _ in range(2))

    def run(x, weight, bias):
        held = nn.BatchNorm1d(2, dtype=torch.float64)
        del held.weight, held.bias
        held.weight, held.bias = weight, bias
        return ball_norm.normalized_maximum(x, held, 3)

    assert torch.autograd.gradcheck(run, (x, weight, bias))
    assert torch.autograd.gradgradcheck(run, (x, weight, bias))


def test_what_is_not_a_number_stays_so():
    x = torch.zeros(6, 2, requires_grad=True)
    with torch.no_grad():
        x[0, 0] = torch.nan
    out = ball_norm.normalized_maximum(x, nn.BatchNorm1d(2), 3)
    assert out[:, 0].isnan().all()
    assert (out[:, 1] == 0).all()


@pytest.mark.parametrize(
    ("norm", "rows", "size"),
    [
        (nn.BatchNorm1d(2), 6, 1),
        (nn.BatchNorm1d(2), 1, 1),
        (nn.BatchNorm1d(2).eval(), 6, 3),
        (nn.BatchNorm1d(2, affine=False), 6, 3),
        (nn.BatchNorm1d(2, track_running_stats=False), 6, 3),
        (nn.BatchNorm1d(2, momentum=None), 6, 3),
        (nn.SyncBatchNorm(2), 6, 3),
        (nn.GroupNorm(1, 2), 6, 3),
    ],
)
def test_what_is_left_to_torch(norm, rows, size):
    assert not ball_norm.takes(torch.zeros(rows, 2), norm, size)
    with torch.no_grad():
        assert not ball_norm.takes(torch.zeros(6, 2), nn.BatchNorm1d(2), 3)
