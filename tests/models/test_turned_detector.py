"""A detector of turned clouds: what it finds turns with the cloud."""

import pytest
import torch

import pcsa
from pcsa._core.principal import principal_frames
from pcsa.datasets.rotations import random_turn
from pcsa.models import KeypointDetector, Level, PointNet2, TurnedDetector

LEVELS = (Level(32, (0.4,), (8,), ((8, 16),)), Level(8, (0.8,), (8,), ((16, 16),)))


class Plain(torch.nn.Module):
    """Features of places: the frame shows in them."""

    out_channels = 8

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, 8)

    def forward(self, x, pos, batch):
        return self.layer(pos).sin()


def detector(up=None, backbone=None, **options):
    torch.manual_seed(0)
    backbone = backbone or PointNet2(levels=LEVELS, out_channels=16, norm="group")
    return TurnedDetector(backbone, 5, up=up, **options).double().eval()


def clouds(*counts):
    sizes = torch.tensor([0.9, 0.6, 0.3], dtype=torch.double)
    pos = sizes * torch.randn(sum(counts), 3, generator=torch.Generator().manual_seed(1), dtype=torch.double)
    return pos, torch.tensor([0, *counts]).cumsum(0)


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("up", [None, 0, 1, 2])
def test_scores_are_those_of_the_points_however_a_cloud_lies(up, own):
    pos, ptr = clouds(60, 90)
    network = detector(up, Plain() if own else None)
    plain = network(None, pos, ptr=ptr)
    for seed in range(3):
        turn = random_turn(torch.Generator().manual_seed(seed), up)
        found = network(None, pos @ turn.mT, ptr=ptr)
        for name in ("logits", "presence"):
            torch.testing.assert_close(found[name], plain[name], rtol=1e-4, atol=1e-5)
        place = pcsa.soft_argmax(found["logits"].double(), pos @ turn.mT, ptr=ptr)
        torch.testing.assert_close(
            place, pcsa.soft_argmax(plain["logits"].double(), pos, ptr=ptr) @ turn.mT, rtol=1e-4, atol=1e-5
        )
    # It is no empty promise: about another axis a cloud is another one.
    if up is not None:
        other = network(None, pos.roll(1, 1), ptr=ptr)["logits"]
        assert (other - plain["logits"]).abs().max() > 1e-3


def test_the_frame_counts_in_which_most_is_seen():
    pos, ptr = clouds(60, 40)
    network = detector()
    batch = torch.arange(2).repeat_interleave(ptr.diff())
    found = network(None, pos, ptr=ptr)
    for i, frames in enumerate(principal_frames(pos, batch, ptr)):
        cloud = pos[ptr[i] : ptr[i + 1]]
        alone = torch.tensor([0, len(cloud)])
        parts = [KeypointDetector.forward(network, None, cloud @ frame, ptr=alone) for frame in frames]
        best = max(parts, key=lambda part: part["presence"].mean())
        torch.testing.assert_close(found["logits"][ptr[i] : ptr[i + 1]], best["logits"])
        torch.testing.assert_close(found["presence"][i], best["presence"][0])


def test_in_training_mode_it_is_the_detector_itself():
    pos, ptr = clouds(60, 40)
    network = detector().train()
    torch.manual_seed(0)
    plain = KeypointDetector(PointNet2(levels=LEVELS, out_channels=16, norm="group"), 5).double().train()
    assert network.state_dict().keys() == plain.state_dict().keys()
    torch.testing.assert_close(network(None, pos, ptr=ptr), plain(None, pos, ptr=ptr), rtol=0, atol=0)


def test_ragged_clouds_are_as_alone_and_one_point_will_do():
    pos, ptr = clouds(60, 1, 40)
    network = detector()
    together = network(None, pos, ptr=ptr)
    batch = torch.arange(3).repeat_interleave(ptr.diff())
    torch.testing.assert_close(network(None, pos, batch)["logits"], together["logits"])
    for i, part in enumerate(pos.split(ptr.diff().tolist())):
        alone = network(None, part, ptr=torch.tensor([0, len(part)]))
        torch.testing.assert_close(alone["logits"], together["logits"][ptr[i] : ptr[i + 1]], rtol=1e-5, atol=1e-6)
        assert alone["presence"].isfinite().all()


def test_an_axis_must_be_one():
    with pytest.raises(ValueError, match=r"`up` \(=3\)"):
        TurnedDetector(Plain(), 2, up=3)
