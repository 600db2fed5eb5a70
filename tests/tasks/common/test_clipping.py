"""Gradients are clipped to the bits that torch clips them to."""

import copy

import pytest
import torch
from torch import nn

from pcsa.tasks.common.clipping import clip_together

card = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


@pytest.mark.parametrize("most", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=card)])
def test_as_torch_does(device, most):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(5, 7), nn.Linear(7, 3), nn.Linear(3, 2)).to(device)
    network[2].bias.requires_grad_(False)
    network(torch.randn(4, 5, device=device)).square().sum().backward()
    other = copy.deepcopy(network)
    for mine, theirs in zip(network.parameters(), other.parameters(), strict=True):
        theirs.grad = None if mine.grad is None else mine.grad.clone()
    before = network[0].weight.grad.clone()
    assert clip_together(network.parameters(), most)
    torch.nn.utils.clip_grad_norm_(other.parameters(), most)
    for mine, theirs in zip(network.parameters(), other.parameters(), strict=True):
        assert (mine.grad is None) == (theirs.grad is None)
        assert mine.grad is None or torch.equal(mine.grad, theirs.grad)
    assert torch.equal(before, network[0].weight.grad) == (most == 1e3)


def test_gradients_of_several_types_are_left_to_torch():
    one, other = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2, dtype=torch.float64))
    assert not clip_together([one, other], 1.0)
    one.grad, other.grad = torch.full((2,), 9.0), torch.full((2,), 9.0, dtype=torch.float64)
    assert not clip_together([one, other], 1.0)
    assert one.grad.tolist() == [9.0, 9.0]
