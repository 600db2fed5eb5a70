import pytest
import torch
from torch import Tensor, nn

import pcsa
from pcsa.losses import composite_chamfer
from pcsa.models import Level, PointNet2, SkeletonMerger
from pcsa.models.skeleton_merger import box_coordinates
from pcsa.skeleton import skeleton_points

LEVELS = (Level(16, (0.5,), (8,), ((32, 32),)), Level(4, (1.0,), (8,), ((32, 64),)))


def _clouds(sizes=(40, 17, 33), seed=0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(sum(sizes), 3, generator=generator) * 2 - 1, torch.tensor([0, *sizes]).cumsum(0)


def _batch(ptr: Tensor) -> Tensor:
    return torch.arange(len(ptr) - 1).repeat_interleave(ptr.diff())


def _merger(num_keypoints=5, norm="group", **options) -> SkeletonMerger:
    torch.manual_seed(0)
    return SkeletonMerger(PointNet2(0, LEVELS, 32, norm=norm), num_keypoints, **options)


def _loss(out: dict[str, Tensor], pos: Tensor, ptr: Tensor) -> Tensor:
    skeleton = skeleton_points(out["keypoints"], out["offsets"])
    return sum(composite_chamfer(skeleton.points, skeleton.ptr, out["activation"], pos, ptr=ptr))


def test_shapes():
    pos, ptr = _clouds()
    out = _merger()(None, pos, _batch(ptr))
    assert {name: list(value.shape) for name, value in out.items()} == {
        "logits": [90, 5],
        "keypoints": [3, 5, 3],
        "activation": [3, 10],
        "offsets": [10, 200, 3],
    }
    assert torch.equal(out["keypoints"], pcsa.soft_argmax(out["logits"], pos, ptr=ptr))
    assert ((out["activation"] > 0) & (out["activation"] < 1)).all()


@pytest.mark.parametrize("norm", ["group", "batch"])
def test_a_cloud_alone_is_as_in_its_batch(norm, close):
    pos, ptr = _clouds()
    merger = _merger(norm=norm)
    merger(None, pos, ptr=ptr)  # batch norm has seen something
    merger.eval()
    together = merger(None, pos, ptr=ptr)
    losses = composite_losses(together, pos, ptr)
    for b in range(3):
        own = pos[ptr[b] : ptr[b + 1]]
        alone = merger(None, own)
        close(alone["keypoints"][0], together["keypoints"][b])
        close(alone["activation"][0], together["activation"][b])
        one = torch.tensor([0, len(own)])
        close(composite_losses(alone, own, one)[0], losses[b])


def composite_losses(out: dict[str, Tensor], pos: Tensor, ptr: Tensor) -> Tensor:
    skeleton = skeleton_points(out["keypoints"], out["offsets"])
    terms = composite_chamfer(skeleton.points, skeleton.ptr, out["activation"], pos, ptr=ptr, reduction="none")
    return torch.stack(terms, -1)


def test_order_of_points_changes_nothing(close):
    pos, ptr = _clouds((40,))
    # Farthest points begin at the first: it stays.
    order = torch.cat([torch.zeros(1, dtype=torch.long), 1 + torch.randperm(39, generator=torch.Generator())])
    merger = _merger().eval()
    a, b = merger(None, pos), merger(None, pos[order])
    close(b["keypoints"], a["keypoints"])
    close(b["logits"], a["logits"][order])
    close(_loss(b, pos[order], ptr), _loss(a, pos, ptr))


def test_every_parameter_gets_a_gradient_from_the_loss():
    pos, ptr = _clouds((60, 45))
    merger = _merger(competition=True)
    _loss(merger(None, pos, ptr=ptr), pos, ptr).backward()
    for name, parameter in merger.named_parameters():
        # The last bias of the scores shifts all points alike.
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all()
        if name not in ("score.2.bias", "compare.bias"):
            assert parameter.grad.abs().max() > 0, name


def test_samples_each_rebuild_the_cloud(close):
    pos, ptr = _clouds((40, 30))
    merger = _merger()

    def draw(logits, pos, ptr):
        generator = torch.Generator().manual_seed(3)
        return pcsa.sampling_argmax(logits, pos, 0.02, ptr=ptr, num_samples=4, generator=generator)

    out = merger(None, pos, ptr=ptr, read_out=draw)
    assert out["keypoints"].shape == (2, 5, 4, 3)
    each = [_loss({**out, "keypoints": out["keypoints"][:, :, s]}, pos, ptr) for s in range(4)]
    assert torch.stack(each).std() > 0
    close(_loss(out, pos, ptr), torch.stack(each).mean())


def test_anchors_put_keypoints_near_them():
    corners = torch.tensor([[-1.0, -1, -1], [1, -1, -1], [1, 1, 1], [-1, 1, 1], [0, 0, 0]])
    pos = torch.rand(4000, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1
    plain = _merger().eval()(None, pos)["keypoints"][0]
    anchored = _merger(anchors=corners, anchor_width=0.1).eval()(None, pos)["keypoints"][0]
    assert plain.norm(dim=1).max() < 0.5  # nearly flat maps: all of them in the middle
    # At a corner of the cube, half a Gaussian per axis: off by width · sqrt(2 / π) each, 0.14 in all.
    assert (anchored - corners).norm(dim=1).max() < 0.25
    # Anchors are places in the bounding box, of each cloud its own.
    stretch = torch.tensor([0.5, 0.2, 1.0])
    merger = _merger(anchors=corners, anchor_width=0.1).eval()
    two = merger(None, torch.cat([pos, pos * stretch + 0.1]), ptr=torch.tensor([0, 4000, 8000]))["keypoints"]
    assert (two[1] - (corners * stretch + 0.1)).norm(dim=1).max() < 0.25


def test_box_coordinates_by_hand():
    pos = torch.tensor([[0.0, 5, 1], [2, 5, 3], [1, 5, 2], [7, 7, 7]])
    box = box_coordinates(pos, torch.tensor([0, 0, 0, 1]), 2)
    assert box.tolist() == [[-1, 0, -1], [1, 0, 1], [0, 0, 0], [0, 0, 0]]
    # As features they come after the caller's.
    torch.manual_seed(0)
    points, ptr = _clouds()
    merger = SkeletonMerger(PointNet2(4, LEVELS, 32, norm="group"), 3, box_features=True)
    out = merger(torch.ones(90, 1), points, ptr=ptr)
    x = torch.cat([torch.ones(90, 1), box_coordinates(points, _batch(ptr), 3)], 1)
    assert torch.equal(out["logits"], merger.score(merger.backbone(x, points, ptr=ptr)))


def test_any_backbone():
    class PointMLP(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mlp = nn.Linear(3, 16)

        def forward(self, x, pos, batch):
            return self.mlp(pos)

    pos, ptr = _clouds()
    out = SkeletonMerger(PointMLP(), 3, in_channels=16)(None, pos, ptr=ptr)
    assert out["activation"].shape == (3, 3)
    with pytest.raises(ValueError, match="`in_channels` must be given"):
        SkeletonMerger(PointMLP(), 3)
    with pytest.raises(ValueError, match=r"`backbone` returned \[90, 16\]"):
        SkeletonMerger(PointMLP(), 3, in_channels=8)(None, pos, ptr=ptr)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_keypoints": 1}, r"`num_keypoints` \(=1\) must be at least 2"),
        ({"num_offsets": 0}, r"`num_offsets` \(=0\)"),
        ({"anchor_width": 0.0}, r"`anchor_width` \(=0.0\)"),
        ({"anchors": torch.zeros(4, 3)}, r"`anchors` \[4, 3\] must be \[K, 3\] = \[5, 3\]"),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(ValueError, match=message):
        _merger(**options)
