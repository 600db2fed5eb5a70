import pytest
import torch
from torch import nn

from pcsa.models import LandmarkNet


def _net(channels=(4, 6, 8), **options) -> LandmarkNet:
    torch.manual_seed(0)
    return LandmarkNet(5, channels=channels, **options)


@pytest.mark.parametrize("channels", [(4, 6), (4, 6, 8), (3, 4, 5, 6)])
@pytest.mark.parametrize(("in_channels", "size"), [(3, (64, 64)), (1, (50, 38))])
def test_shapes_and_gradients(channels, in_channels, size, gradients_reach_all):
    net = _net(channels, in_channels=in_channels)
    image = torch.rand(2, in_channels, *size).requires_grad_()
    logits = net(image)["logits"]
    assert logits.shape == (2, 5, size[0] // 2, size[1] // 2)
    assert net.stride == 2
    gradients_reach_all(net, image, logits)


@pytest.mark.parametrize(("levels", "reach"), [(3, 50), (4, 100)])
def test_sees_as_far_as_it_says(levels, reach):
    net = _net((2,) * levels, in_channels=1).double().eval()
    for parameter in net.parameters():
        nn.init.uniform_(parameter, 0.1, 0.3)  # nothing cancels, no rectifier is off
    image = torch.rand(1, 1, 512, 16, dtype=torch.float64).requires_grad_()
    net(image)["logits"][0, 0, 128, 4].backward()
    rows = image.grad[0, 0].any(1).nonzero()
    assert 256 - rows.min() == pytest.approx(reach, rel=0.2)
    assert rows.max() - 256 == pytest.approx(reach, rel=0.2)


def test_volumes():
    net = LandmarkNet(4, spatial_dims=3, in_channels=1, channels=(4, 8)).eval()
    image = torch.rand(2, 1, 12, 16, 20)
    logits = net(image)["logits"]
    assert logits.shape == (2, 4, 6, 8, 10)
    torch.testing.assert_close(net(image[:1])["logits"], logits[:1])
    with pytest.raises(ValueError, match=r"`image` \[2, 1, 16, 20\] must be \[B, 1, D, H, W\]"):
        net(image[:, :, 0])
