"""What holds for every network on images and volumes."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from pcsa import grid
from pcsa.models import LandmarkNet, SimplePose, SurfaceUNet

POSE = {"layers": (1, 1, 1, 1), "widths": (4, 6, 8, 10), "deconv": (8, 8, 8)}
VOLUME = {"spatial_dims": 3, "in_channels": 1}
# A network, and the shape of a batch that it takes.
NETWORKS: dict[str, tuple[Callable[..., nn.Module], dict[str, Any], tuple[int, ...]]] = {
    "landmarks": (LandmarkNet, {"num_keypoints": 5, "channels": (4, 6, 8)}, (2, 3, 50, 38)),
    "landmarks, volume": (LandmarkNet, {"num_keypoints": 4, "channels": (4, 8), **VOLUME}, (2, 1, 12, 16, 20)),
    "surfaces": (SurfaceUNet, {"num_surfaces": 3, "channels": (4, 6, 8)}, (2, 1, 18, 11)),
    "pose": (SimplePose, {"num_keypoints": 5, **POSE}, (2, 3, 64, 96)),
    "pose, no multiple of 32": (SimplePose, {"num_keypoints": 5, **POSE}, (2, 3, 100, 36)),
    "pose, depth": (SimplePose, {"num_keypoints": 5, "depth": 7, **POSE}, (2, 3, 64, 96)),
    "pose, volume": (SimplePose, {"num_keypoints": 5, "stem": "small", **POSE, **VOLUME}, (2, 1, 32, 24, 40)),
}


def build(name: str, **more: Any) -> nn.Module:
    kind, options, _ = NETWORKS[name]
    torch.manual_seed(0)
    return kind(**{**options, **more})


def images(name: str, number: int = 2, **options: Any) -> torch.Tensor:
    return torch.rand(number, *NETWORKS[name][2][1:], **options)


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "pose, no multiple of 32"])
def test_an_item_does_not_depend_on_its_batch(name, trained, close):
    net = trained(build(name)).double()
    image = images(name, 3, dtype=torch.float64)
    with torch.no_grad():
        close(net(image)["logits"][1:2], net(image[1:2])["logits"])
        assert not torch.allclose(net(image[:1])["logits"], net(image[1:2])["logits"])


@pytest.mark.parametrize("name", ["landmarks", "surfaces", "pose", "pose, volume"])
def test_state_round_trip(name, trained):
    net, other = trained(build(name)), build(name).eval()
    image = images(name)
    assert not torch.equal(other(image)["logits"], net(image)["logits"])
    other.load_state_dict(net.state_dict(), strict=True)
    assert torch.equal(other(image)["logits"], net(image)["logits"])
    assert not [key for key in net.state_dict() if "normalize" in key]


@pytest.mark.parametrize(
    ("name", "backend"),
    [("landmarks", "aot_eager"), ("pose, no multiple of 32", "eager"), ("pose, volume", "eager")],
)
def test_compiles_in_one_piece(name, backend, trained):
    net, image = trained(build(name)), images(name)
    compiled = torch.compile(net, backend=backend, fullgraph=True)
    torch.testing.assert_close(compiled(image)["logits"], net(image)["logits"])


@pytest.mark.parametrize("name", ["landmarks", "surfaces", "pose", "pose, depth", "pose, volume"])
def test_bf16_autocast(name, trained):
    net, image = trained(build(name)), images(name)
    expected = net(image)["logits"]
    with torch.autocast("cpu", torch.bfloat16):
        logits = net(image)["logits"]
    assert logits.dtype == torch.float32
    assert not torch.equal(logits, logits.bfloat16().float())  # not half precision in disguise
    assert 0 < (logits - expected).norm() < 0.05 * expected.norm()
    logits.sum().backward()
    assert all(p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", NETWORKS)
def test_cuda(name, trained):
    net, image = trained(build(name)).double(), images(name, dtype=torch.float64)
    expected = net(image)["logits"]
    torch.testing.assert_close(net.cuda()(image.cuda())["logits"].cpu(), expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(
    ("name", "options", "size", "steps"),
    [
        ("landmarks", {"channels": (8, 16, 16)}, (3, 64, 64), 50),
        ("pose", {"widths": (8, 8, 16, 16), "deconv": (8, 8), "stem": "small"}, (3, 96, 72), 70),
        ("pose, depth", {"widths": (8, 8, 16, 16)}, (3, 64, 96), 70),
        ("pose, volume", {"widths": (8, 8, 16, 16)}, (1, 32, 24, 40), 70),
    ],
)
def test_learns_a_handful(name, options, size, steps, overfit):
    generator = torch.Generator().manual_seed(0)
    net = build(name, **options)
    image = torch.rand(4, *size, generator=generator)
    with torch.no_grad():
        cells = torch.tensor(net(image)["logits"].shape[:1:-1])  # x first
    target = torch.rand(4, 5, len(cells), generator=generator) * (cells - 1)
    share = overfit(net, lambda: (grid.soft_argmax(net(image)["logits"]) - target).norm(dim=-1).mean(), steps)
    assert share < 0.3


@pytest.mark.parametrize("name", ["landmarks", "surfaces", "pose"])
def test_bad_input_image(name):
    net, image = build(name), torch.zeros(1, 1 if name == "surfaces" else 3, 64, 64)
    channels = image.shape[1]
    for bad, rule in (
        (image.byte(), r"`image` \(torch.uint8\) must be floating point"),
        ([0.0], r"`image` \(list\) must be a tensor"),
        (image[0], rf"`image` \[{channels}, 64, 64\] must be \[B, {channels}, H, W\]"),
        (torch.zeros(1, 2, 64, 64), rf"`image` \[1, 2, 64, 64\] must be \[B, {channels}, H, W\]"),
        (image[:0], "no axis of size 0"),
        (image[:, :, :0], "no axis of size 0"),
    ):
        with pytest.raises(ValueError, match=rule):
            net(bad)


@pytest.mark.parametrize(("name", "stride"), [("landmarks", 2), ("pose", 4)])
def test_bad_input_size(name, stride):
    rule = rf"`image` \[1, 3, 64, 65\] must have H, W divisible by {stride}, pixels per heatmap cell"
    with pytest.raises(ValueError, match=rule):
        build(name)(torch.zeros(1, 3, 64, 65))


def test_normalization():
    image = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1) + torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    torch.testing.assert_close(build("pose").normalize(image), torch.ones(1, 3, 1, 1))
    gray = torch.tensor([0.0, 0.5, 0.75]).view(1, 1, 1, 3)
    assert build("surfaces").normalize(gray).flatten().tolist() == [-2, 0, 1]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("landmarks", {"num_keypoints": 0}, r"`num_keypoints` \(=0\) must be at least 1"),
        ("landmarks", {"in_channels": 0}, r"`in_channels` \(=0\) must be at least 1"),
        ("landmarks", {"channels": (8,)}, r"`channels` \(=\(8,\)\) must be a sequence of at least 2"),
        ("landmarks", {"channels": (8, True)}, r"`channels` \(=True\) must be a whole number"),
        ("landmarks", {"spatial_dims": 1}, r"`spatial_dims` \(=1\) must be one of 2, 3"),
        ("surfaces", {"num_surfaces": 0}, r"`num_surfaces` \(=0\) must be at least 1"),
        ("surfaces", {"in_channels": 0}, r"`in_channels` \(=0\) must be at least 1"),
        ("surfaces", {"channels": (8,)}, r"`channels` \(=\(8,\)\) must be a sequence of at least 2"),
        ("surfaces", {"channels": 8}, r"`channels` \(=8\) must be a sequence"),
        ("surfaces", {"channels": (8, 0)}, r"`channels` \(=0\) must be at least 1"),
        ("pose", {"num_keypoints": 0}, r"`num_keypoints` \(=0\) must be at least 1"),
        ("pose", {"in_channels": 0}, r"`in_channels` \(=0\) must be at least 1"),
        ("pose", {"spatial_dims": 1}, r"`spatial_dims` \(=1\) must be one of 2, 3"),
        ("pose", {"layers": 51}, r"`layers` \(=51\) must be one of 18, 34, 50, 101, 152, or four"),
        ("pose", {"layers": (1, 1, 1)}, r"`layers` \(=\(1, 1, 1\)\) must be one of"),
        ("pose", {"layers": (1, 0, 1, 1)}, r"`layers` \(=0\) must be at least 1"),
        ("pose", {"widths": (8, 8, 8)}, r"`widths` \(=\(8, 8, 8\)\) must be a sequence of at least 4"),
        ("pose", {"widths": (8, 8, 8, 8, 8)}, r"`widths` .* must be four"),
        ("pose", {"widths": (8, 8, 8, 2.5)}, r"`widths` \(=2.5\) must be a whole number"),
        ("pose", {"deconv": (8, 0)}, r"`deconv` \(=0\) must be at least 1"),
        ("pose", {"deconv": 256}, r"`deconv` \(=256\) must be a sequence"),
        ("pose", {"deconv": (8,) * 6}, r"`deconv` .* must have at most 5 entries with `stem` \(='imagenet'\)"),
        ("pose", {"deconv": (8,) * 5, "stem": "small"}, r"`deconv` .* must have at most 4 entries"),
        ("pose", {"stem": "tiny"}, r"`stem` \(='tiny'\) must be one of 'imagenet', 'small'"),
        ("pose", {"depth": 0}, r"`depth` \(=0\) must be at least 1"),
        ("pose", {"depth": 8, "spatial_dims": 3}, r"`depth` \(=8\) must be None with `spatial_dims` \(=3\)"),
    ],
)
def test_bad_input_of_the_constructor(name, options, message):
    with pytest.raises(ValueError, match=message):
        build(name, **options)
