import pytest
import torch
from torch import nn

from pcsa import grid
from pcsa.models import LandmarkNet


def _net(channels=(4, 6, 8), **options) -> LandmarkNet:
    torch.manual_seed(0)
    return LandmarkNet(5, channels=channels, **options)


def _trained(net: LandmarkNet) -> LandmarkNet:
    """In eval mode, no statistic of which is 0 or 1 by default."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    nn.init.normal_(net.score.conv.weight)
    return net.eval()


@pytest.mark.parametrize("channels", [(4, 6), (4, 6, 8), (3, 4, 5, 6)])
@pytest.mark.parametrize(("in_channels", "size"), [(3, (64, 64)), (1, (50, 38))])
def test_shapes_and_gradients(channels, in_channels, size):
    net = _net(channels, in_channels=in_channels)
    image = torch.rand(2, in_channels, *size).requires_grad_()
    logits = net(image)["logits"]
    assert logits.shape == (2, 5, size[0] // 2, size[1] // 2)
    assert net.stride == 2
    logits.square().sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name
    assert (image.grad.flatten(1).abs().sum(1) > 0).all()


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


def test_learns_a_handful():
    generator = torch.Generator().manual_seed(0)
    net = _net((8, 16, 16))
    image = torch.rand(4, 3, 64, 64, generator=generator)
    target = torch.rand(4, 5, 2, generator=generator) * 63
    optimizer = torch.optim.Adam(net.parameters(), 0.02)
    errors = []
    for _ in range(50):
        where = grid.soft_argmax(net(image)["logits"], frame="pixels", spacing=float(net.stride))
        error = (where - target).norm(dim=-1).mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        errors.append(error.item())
    assert errors[-1] < 0.3 * errors[0]


def test_an_item_does_not_depend_on_its_batch(close):
    net = _trained(_net()).double()
    image = torch.rand(3, 3, 50, 38, dtype=torch.float64)
    with torch.no_grad():
        close(net(image)["logits"][1:2], net(image[1:2])["logits"])
        assert not torch.allclose(net(image[:1])["logits"], net(image[1:2])["logits"])


def test_state_round_trip():
    net, other = _trained(_net()), _net().eval()
    image = torch.rand(1, 3, 32, 32)
    assert not torch.equal(other(image)["logits"], net(image)["logits"])
    other.load_state_dict(net.state_dict(), strict=True)
    assert torch.equal(other(image)["logits"], net(image)["logits"])


def test_compiles_in_one_piece():
    net, image = _trained(_net()), torch.rand(2, 3, 50, 38)
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(image)["logits"], net(image)["logits"])


def test_bf16_autocast():
    net, image = _trained(_net()), torch.rand(2, 3, 50, 38)
    expected = net(image)["logits"]
    with torch.autocast("cpu", torch.bfloat16):
        logits = net(image)["logits"]
    assert logits.dtype == torch.float32
    assert not torch.equal(logits, logits.bfloat16().float())  # not half precision in disguise
    assert 0 < (logits - expected).norm() < 0.05 * expected.norm()


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda():
    net, image = _trained(_net()).double(), torch.rand(2, 3, 50, 38, dtype=torch.float64)
    expected = net(image)["logits"]
    torch.testing.assert_close(net.cuda()(image.cuda())["logits"].cpu(), expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_keypoints": 0}, r"`num_keypoints` \(=0\) must be at least 1"),
        ({"in_channels": 0}, r"`in_channels` \(=0\) must be at least 1"),
        ({"channels": (8,)}, r"`channels` \(=\(8,\)\) must be a sequence of at least 2"),
        ({"channels": (8, True)}, r"`channels` \(=True\) must be a whole number"),
    ],
)
def test_bad_input_of_the_constructor(options, message):
    with pytest.raises(ValueError, match=message):
        LandmarkNet(**{"num_keypoints": 5, **options})


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.zeros(1, 3, 64, 64, dtype=torch.uint8), r"`image` \(torch.uint8\) must be a floating point"),
        (torch.zeros(1, 1, 64, 64), r"`image` \[1, 1, 64, 64\] must be \[B, 3, H, W\]"),
        (torch.zeros(1, 3, 64, 63), r"`image` \[1, 3, 64, 63\] must have H, W divisible by 2, pixels per heatmap cell"),
    ],
)
def test_bad_input_image(image, message):
    with pytest.raises(ValueError, match=message):
        _net()(image)


def test_volumes():
    net = LandmarkNet(4, spatial_dims=3, in_channels=1, channels=(4, 8)).eval()
    image = torch.rand(2, 1, 12, 16, 20)
    logits = net(image)["logits"]
    assert logits.shape == (2, 4, 6, 8, 10)
    torch.testing.assert_close(net(image[:1])["logits"], logits[:1])
    with pytest.raises(ValueError, match=r"`image` \[2, 1, 16, 20\] must be \[B, 1, D, H, W\]"):
        net(image[:, :, 0])
    with pytest.raises(ValueError, match=r"`spatial_dims` \(=1\) must be 2 or 3"):
        LandmarkNet(4, spatial_dims=1)
