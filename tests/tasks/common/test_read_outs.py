import pytest
import torch
from torch import nn

import pcsa
from pcsa.tasks.common.clouds import locate
from pcsa.tasks.common.fitting import Scale
from pcsa.tasks.common.read_outs import ball_named, check_map_radius, cloud_radius, own_radii, parse_read_out

UNIT, MILLIMETERS = Scale(1.0, 0.012), Scale(480.0, 5.0)


class Scores(nn.Module):
    """Scores that are the distances from a corner."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(-8.0))

    def forward(self, x, pos, ptr):
        return {"logits": self.scale * torch.cdist(pos, torch.tensor([[0.5, 0.5, 0.5], [-0.5, 0.0, 0.0]]))}


@pytest.mark.parametrize(
    ("read_out", "radius", "scale", "expected"),
    [
        ("expectation", None, MILLIMETERS, None),
        ("expectation", 5.0, MILLIMETERS, 5.0),
        ("local", None, UNIT, None),
        ("ball", None, UNIT, 0.01),
        ("ball_point", None, UNIT, 0.01),
        ("ball", 0.02, UNIT, 0.02),
    ],
)
def test_the_radius_of_clouds(read_out, radius, scale, expected):
    assert cloud_radius(read_out, radius, scale) == expected


def test_a_radius_that_has_no_meaning():
    with pytest.raises(
        ValueError, match=r"`radius` \(=None\) must be given with `read_out` 'ball': the default of 0.01"
    ):
        cloud_radius("ball", None, MILLIMETERS)
    with pytest.raises(ValueError, match=r"`radius` \(=0.3\) must be below 0.25, from which on any"):
        cloud_radius("ball", 0.3, UNIT)
    with pytest.raises(ValueError, match="in pixels of the network's input"):
        check_map_radius("ball_point", None)
    check_map_radius("ball_point", 3.0)
    check_map_radius("median", None)


@pytest.mark.parametrize("read_out", ["ball", "ball_point", "median", "expectation"])
@pytest.mark.parametrize("frame", ["unit_sphere", "min_max"])
def test_clouds_are_read_by_a_radius_in_their_own_units(read_out, frame):
    generator = torch.Generator().manual_seed(0)
    clouds = [torch.rand(n, 3, generator=generator) * scale for n, scale in ((200, 1.0), (150, 3.0))]
    found = locate(Scores(), clouds, frame, read_out, 0.2)
    for pos, logits, position, confidence in zip(clouds, found.logits, found.position, found.confidence, strict=True):
        held = pcsa.ball_mass(logits, pos, position[None], 0.2)
        torch.testing.assert_close(confidence[None], held)
        alone = pcsa.localize(logits, pos, 0.1, read_out=read_out, radius=0.2)
        torch.testing.assert_close(alone.confidence, held)
        torch.testing.assert_close(alone.position[0], position, rtol=0, atol=2e-3)
    # In another unit, the same.
    far = [1000 * pos.double() + 1e6 for pos in clouds]
    again = locate(Scores(), far, frame, read_out, 200.0)
    torch.testing.assert_close((again.position - 1e6) / 1000, found.position.double(), rtol=0, atol=2e-3)
    torch.testing.assert_close(again.confidence, found.confidence, rtol=0, atol=1e-3)
    assert again.radius == 200.0


def test_without_a_radius_the_confidence_is_the_peak():
    found = locate(Scores(), [torch.rand(50, 3, generator=torch.Generator().manual_seed(0))], "unit_sphere", "median")
    assert torch.equal(found.confidence, found.peak)
    assert found.radius is None


def test_a_ball_may_have_a_radius_of_its_own():
    assert ball_named(0.02) == "ball, 0.02"
    assert parse_read_out("ball, 0.02", 0.01) == ("ball", 0.02)
    assert parse_read_out("ball", 0.01) == ("ball", 0.01)
    assert parse_read_out("ball_point", 0.01) == ("ball_point", 0.01)
    assert parse_read_out("median", 0.01) == ("median", None)
    assert own_radii(["ball", "ball, 0.02", "peak", "ball, 0.5"]) == (0.02, 0.5)


@pytest.mark.parametrize("name", ["middle", "ball, big", "peak, 0.02", "ball, 0.020", "ball,0.02", "ball, "])
def test_there_is_no_such_read_out(name):
    with pytest.raises(ValueError, match=r"must be out of 'expectation', .*, or ball with a radius") as caught:
        parse_read_out(name)
    assert f"`read_outs` (={name!r})" in str(caught.value)
