import re

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pcsa.models import SimplePose, load_imagenet_weights

SMALL = {"layers": (1, 1, 1, 1), "widths": (4, 6, 8, 10)}
# Options, shape of the input, shape of the logits, stride.
VARIANTS = {
    "image": ({"deconv": (8, 8, 8)}, (2, 3, 64, 96), (2, 5, 16, 24), 4),
    "image, small stem": ({"deconv": (8, 8), "stem": "small"}, (2, 3, 96, 72), (2, 5, 24, 18), 4),
    "image, no multiple of 16": ({"deconv": (8, 8, 8), "stem": "small"}, (2, 3, 96, 70), (2, 5, 48, 35), 2),
    "image, no multiple of 32": ({"deconv": (8, 8, 8)}, (2, 3, 100, 36), (2, 5, 25, 9), 4),
    "image, no deconvolution": ({"deconv": ()}, (2, 3, 64, 64), (2, 5, 2, 2), 32),
    "image, a cell per pixel": ({"deconv": (4, 4, 4, 4, 4)}, (2, 3, 33, 47), (2, 5, 33, 47), 1),
    "gray": ({"deconv": (8, 8, 8), "in_channels": 1}, (2, 1, 64, 64), (2, 5, 16, 16), 4),
    "depth": ({"deconv": (8, 8, 8), "depth": 7}, (2, 3, 64, 96), (2, 5, 7, 16, 24), 4),
    "volume": (
        {"deconv": (8, 8, 8), "spatial_dims": 3, "in_channels": 1, "stem": "small"},
        (2, 1, 32, 24, 40),
        (2, 5, 16, 12, 20),
        2,
    ),
}


def _net(variant: str = "image", **options) -> SimplePose:
    torch.manual_seed(0)
    return SimplePose(5, **SMALL | VARIANTS[variant][0] | options)


@pytest.mark.parametrize("variant", VARIANTS)
def test_shapes_and_gradients(variant, gradients_reach_all):
    _, given, shape, stride = VARIANTS[variant]
    net = _net(variant)
    image = torch.rand(given).requires_grad_()
    logits = net(image)["logits"]
    assert logits.shape == shape
    assert net.stride == stride
    assert all(n == m * stride for n, m in zip(given[2:], shape[2:][-len(given[2:]) :], strict=True))
    gradients_reach_all(net, image, logits)


# torchvision's counts, less the classifier's 512 * 1000 + 1000 or 2048 * 1000 + 1000.
@pytest.mark.parametrize(
    ("layers", "count"),
    [
        (18, 11_689_512 - 513_000),
        (34, 21_797_672 - 513_000),
        (50, 25_557_032 - 2_049_000),
        (101, 44_549_160 - 2_049_000),
        (152, 60_192_808 - 2_049_000),
    ],
)
def test_backbones_have_the_published_sizes(layers, count):
    with torch.device("meta"):
        net = SimplePose(17, layers=layers)
    assert sum(p.numel() for p in net.backbone.parameters()) == count
    if layers == 50:  # 34.0 M, in the table of the authors' repository
        assert round(sum(p.numel() for p in net.parameters()) / 1e6, 1) == 34.0


def test_initial_head():
    torch.manual_seed(0)
    net = SimplePose(17, layers=18)
    for module in net.deconvolutions:
        if isinstance(module, nn.ConvTranspose2d):
            assert module.bias is None
            assert module.weight.std().item() == pytest.approx(0.001, rel=0.01)
    assert net.score.conv.weight.std().item() == pytest.approx(0.001, rel=0.05)
    assert not net.score.conv.bias.any()


def test_volumetric_head_is_a_stack_per_keypoint(trained):
    net = trained(_net("depth"))
    with torch.no_grad():
        net.score.conv.weight.zero_()
        net.score.conv.bias.copy_(torch.arange(35.0))
        logits = net(torch.rand(1, 3, 64, 64))["logits"]
    assert torch.equal(logits[0, :, :, 3, 5], torch.arange(35.0).view(5, 7))


def test_cells_beyond_the_image_are_cut_off(trained):
    # 36 pixels: 18, 9, 5, 3, 2 cells on the way down, 16 after three deconvolutions, 9 of which are of the image.
    net = trained(_net("image, no multiple of 32")).double()
    image = torch.rand(1, 3, 64, 36, dtype=torch.float64)
    whole = net.score(net.deconvolutions(net.backbone(net.normalize(image))))
    assert whole.shape[2:] == (16, 16)
    torch.testing.assert_close(net(image)["logits"], whole[..., :9])


# --- ImageNet's weights ----------------------------------------------------------------------------------------


def _state(blocks: tuple[int, ...], bottleneck: bool, dtype=torch.float64) -> dict[str, Tensor]:
    """Random weights under torchvision's names."""
    generator = torch.Generator().manual_seed(0)
    state: dict[str, Tensor] = {}

    def conv(name: str, inside: int, out: int, kernel: int) -> None:
        weight = torch.randn(out, inside, kernel, kernel, generator=generator, dtype=dtype)
        state[f"{name}.weight"] = weight / (inside * kernel**2 / 2) ** 0.5

    def norm(name: str, channels: int) -> None:
        for part, low, high in (
            ("weight", 0.5, 1.0),
            ("bias", -0.2, 0.2),
            ("running_mean", -0.1, 0.1),
            # Small enough for the 1e-5 that is added to it to be seen.
            ("running_var", 0.01, 1.5),
        ):
            state[f"{name}.{part}"] = low + (high - low) * torch.rand(channels, generator=generator, dtype=dtype)
        state[f"{name}.num_batches_tracked"] = torch.tensor(7)

    conv("conv1", 3, 64, 7)
    norm("bn1", 64)
    inside = 64
    for stage, count in enumerate(blocks):
        planes = 64 * 2**stage
        out = planes * 4 if bottleneck else planes
        for i in range(count):
            name = f"layer{stage + 1}.{i}"
            kernels = (1, 3, 1) if bottleneck else (3, 3)
            widths = (inside, planes, planes, out) if bottleneck else (inside, planes, out)
            for j, kernel in enumerate(kernels):
                conv(f"{name}.conv{j + 1}", widths[j], widths[j + 1], kernel)
                norm(f"{name}.bn{j + 1}", widths[j + 1])
            if i == 0 and (stage or bottleneck):
                conv(f"{name}.downsample.0", inside, out, 1)
                norm(f"{name}.downsample.1", out)
            inside = out
    state["fc.weight"] = torch.zeros(1000, inside, dtype=dtype)
    state["fc.bias"] = torch.zeros(1000, dtype=dtype)
    return state


def _features(state: dict[str, Tensor], blocks: tuple[int, ...], bottleneck: bool, x: Tensor) -> Tensor:
    """Torchvision's forward pass without its end; a bottleneck's stride is that of its 3x3 convolution (v1.5)."""

    def norm(name: str, x: Tensor) -> Tensor:
        mean, variance = state[f"{name}.running_mean"], state[f"{name}.running_var"]
        return F.batch_norm(x, mean, variance, state[f"{name}.weight"], state[f"{name}.bias"], False, 0.1, 1e-5)

    def conv(name: str, x: Tensor, stride: int = 1) -> Tensor:
        weight = state[f"{name}.weight"]
        return F.conv2d(x, weight, None, stride, weight.shape[-1] // 2)

    x = F.max_pool2d(F.relu(norm("bn1", conv("conv1", x, 2))), 3, 2, 1)
    for stage, count in enumerate(blocks):
        for i in range(count):
            name = f"layer{stage + 1}.{i}"
            stride = 2 if stage and i == 0 else 1
            if bottleneck:
                h = F.relu(norm(f"{name}.bn1", conv(f"{name}.conv1", x)))
                h = F.relu(norm(f"{name}.bn2", conv(f"{name}.conv2", h, stride)))
                h = norm(f"{name}.bn3", conv(f"{name}.conv3", h))
            else:
                h = F.relu(norm(f"{name}.bn1", conv(f"{name}.conv1", x, stride)))
                h = norm(f"{name}.bn2", conv(f"{name}.conv2", h))
            if f"{name}.downsample.0.weight" in state:
                x = norm(f"{name}.downsample.1", conv(f"{name}.downsample.0", x, stride))
            x = F.relu(h + x)
    return x


@pytest.mark.parametrize(
    ("layers", "blocks", "bottleneck"), [(18, (2, 2, 2, 2), False), (50, (3, 4, 6, 3), True)], ids=["18", "50"]
)
def test_is_torchvisions_resnet(layers, blocks, bottleneck, tmp_path):
    state = _state(blocks, bottleneck)
    torch.save(state, tmp_path / "resnet.pth")
    net = SimplePose(3, layers=layers, deconv=(8,)).double().eval()
    assert load_imagenet_weights(net, tmp_path / "resnet.pth") == ["fc.weight", "fc.bias"]
    image = torch.rand(2, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).view(2, 3, 1, 1)
    expected = _features(state, blocks, bottleneck, (image - mean) / std)
    with torch.no_grad():
        features = net.backbone(net.normalize(image))
    assert features.shape == (2, 2048 if bottleneck else 512, 2, 2)
    assert expected.std() > 0.1
    torch.testing.assert_close(features, expected, rtol=1e-9, atol=1e-9)


def test_loads_files_of_old_releases(tmp_path):
    # Not zipped, batches not counted.
    state = {k: v for k, v in _state((2, 2, 2, 2), False, torch.float32).items() if "num_batches" not in k}
    torch.save(state, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    net = SimplePose(3, layers=(2, 2, 2, 2), deconv=(8,))
    head = net.score.conv.weight.clone()
    load_imagenet_weights(net, str(tmp_path / "old.pth"))
    for name, value in state.items():
        if not name.startswith("fc."):
            assert torch.equal(net.backbone.state_dict()[name], value), name
    assert torch.equal(net.score.conv.weight, head)


def test_refuses_another_resnet(tmp_path):
    path = tmp_path / "resnet.pth"
    torch.save(_state((2, 2, 2, 2), False, torch.float32), path)
    net = SimplePose(3, layers=34, deconv=(8,))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(
        ValueError, match=r"(?s)`path` \(='.*resnet.pth'\) must hold .*Missing.*\"layer1.2.conv1.weight\", "
    ):
        load_imagenet_weights(net, path)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    with pytest.raises(ValueError, match=r"Missing key.* \"layer1.0.conv3.weight\", .* …$") as caught:
        load_imagenet_weights(SimplePose(3, deconv=(8,)), path)
    assert re.search(r"size mismatch for layer1.0.conv1.weight: .*\[64, 64, 3, 3\]", str(caught.value.__cause__))
    with pytest.raises(ValueError, match=r"(?s)Unexpected key.* \"layer1.1.conv1.weight\", "):
        load_imagenet_weights(SimplePose(3, layers=(1, 1, 1, 1), deconv=(8,)), path)


def test_refuses_other_models(tmp_path):
    for options in ({"stem": "small"}, {"in_channels": 1}, {"spatial_dims": 3}):
        with pytest.raises(
            ValueError, match=r"`model` \(spatial_dims=.*must have spatial_dims=2, in_channels=3, stem="
        ):
            load_imagenet_weights(SimplePose(3, **SMALL, deconv=(8,), **options), tmp_path)
    with pytest.raises(ValueError, match=r"`model` \(Linear\) must be a SimplePose"):
        load_imagenet_weights(nn.Linear(1, 1), tmp_path)


def test_refuses_what_is_no_state_dict(tmp_path):
    net = _net()
    with pytest.raises(FileNotFoundError, match=r"`path` \(='.*none.pth'\) must be a file"):
        load_imagenet_weights(net, tmp_path / "none.pth")
    path = tmp_path / "x.pth"
    for content in (b"", b"not a checkpoint", b"\x80\x02garbage"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"`path` \(='.*x.pth'\) must be a state dict saved by torch.save"):
            load_imagenet_weights(net, path)
    torch.save(nn.Linear(1, 1), path)  # code, which must not run
    with pytest.raises(ValueError, match=r"must be a state dict saved by torch\.save"):
        load_imagenet_weights(net, path)
    for content in ([torch.zeros(1)], {}, {"state_dict": {}}):
        torch.save(content, path)
        with pytest.raises(ValueError, match=r"`path` \(='.*x.pth'\) must be a state dict, name to tensor"):
            load_imagenet_weights(net, path)
