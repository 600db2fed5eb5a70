"""What the tests of the networks on images and volumes share."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn


def _trained(net: nn.Module) -> nn.Module:
    for module in net.modules():
        if isinstance(module, (nn.BatchNorm2d, nn.BatchNorm3d)):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 1.5)
        if isinstance(module, (nn.ConvTranspose2d, nn.ConvTranspose3d)):
            nn.init.kaiming_normal_(module.weight)
    nn.init.normal_(net.score.conv.weight)
    return net.eval()


@pytest.fixture
def trained() -> Callable[[nn.Module], nn.Module]:
    """Put a network in eval mode, with no parameter or statistic that is 0 or 1 by default."""
    return _trained


def _gradients_reach_all(net: nn.Module, image: Tensor, logits: Tensor) -> None:
    logits.square().sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name
    assert (image.grad.flatten(1).abs().sum(1) > 0).all()


@pytest.fixture
def gradients_reach_all() -> Callable[[nn.Module, Tensor, Tensor], None]:
    """Assert that every parameter and every image of the batch gets a gradient."""
    return _gradients_reach_all


def _overfit(net: nn.Module, error: Callable[[], Tensor], steps: int) -> float:
    optimizer = torch.optim.Adam(net.parameters(), 0.02)
    errors = []
    for _ in range(steps):
        loss = error()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        errors.append(loss.item())
    return errors[-1] / errors[0]


@pytest.fixture
def overfit() -> Callable[[nn.Module, Callable[[], Tensor], int], float]:
    """Train on one batch; the last error is returned as a share of the first."""
    return _overfit
