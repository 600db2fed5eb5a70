"""Networks and variations whose maps are averaged, against plain loops."""

import itertools
import math

import pytest
import torch
from torch import nn
from torch_geometric.data import Data

from pcsa.datasets.transforms import Augment, Normalize
from pcsa.tasks.common.mean_maps import MeanOfGridNetworks, MeanOfNetworks, MeanOfVariations, log_mean, mean_presence


class Linear(nn.Module):
    """Scores each point by its place, and a cloud by its first point."""

    def __init__(self, seed, keypoints=3):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(3, keypoints, generator=generator))
        self.seen = []

    def forward(self, x, pos, *, ptr):
        assert x is None
        self.seen.append(pos)
        return {
            "logits": pos @ self.weight,
            "presence": pos[ptr[:-1]] @ self.weight,
            "activation": (pos[ptr[:-1]] @ self.weight).sigmoid(),
            "offsets": self.weight,
        }


@pytest.fixture
def clouds():
    pos = torch.randn(18, 3, generator=torch.Generator().manual_seed(7))
    return pos, torch.tensor([0, 6, 7, 18])  # one of a single point


def test_the_mean_is_that_of_probabilities(clouds):
    pos, ptr = clouds
    networks = [Linear(seed) for seed in range(3)]
    mean = MeanOfNetworks(networks)(None, pos, ptr=ptr)
    assert set(mean) == {"logits", "presence", "activation"}
    for b in range(3):
        rows = slice(int(ptr[b]), int(ptr[b + 1]))
        for k in range(3):
            maps = [network(None, pos, ptr=ptr)["logits"][rows, k].softmax(0) for network in networks]
            torch.testing.assert_close(mean["logits"][rows, k].exp(), sum(maps) / 3)
            presence = [network(None, pos, ptr=ptr)["presence"][b, k].sigmoid() for network in networks]
            torch.testing.assert_close(mean["presence"][b, k].sigmoid(), sum(presence) / 3)
    batch = torch.tensor([0] * 6 + [1] + [2] * 11)
    torch.testing.assert_close(MeanOfNetworks(networks)(None, pos, batch)["logits"], mean["logits"])


def test_of_equal_ones_it_is_their_map(clouds):
    pos, ptr = clouds
    one = Linear(0)
    mean = MeanOfNetworks([one, one])(None, pos, ptr=ptr)
    alone = one(None, pos, ptr=ptr)
    torch.testing.assert_close(mean["presence"], alone["presence"])
    torch.testing.assert_close(mean["logits"][:6].exp(), alone["logits"][:6].softmax(0))


def test_certain_presence_and_impossible_points_stay_numbers():
    assert mean_presence([torch.tensor([200.0, -200.0]), torch.tensor([200.0, -200.0])]).tolist() == [200.0, -200.0]
    assert log_mean([torch.tensor([-math.inf, 0.0]), torch.tensor([-math.inf, -math.inf])]).tolist() == [
        -math.inf,
        pytest.approx(-math.log(2)),
    ]


def test_one_variation_is_the_cloud_itself(clouds):
    pos, ptr = clouds
    network = Linear(0)
    found = MeanOfVariations(network, 1, Augment(rotate=10))(None, pos, ptr=ptr)
    assert network.seen[0] is pos
    torch.testing.assert_close(found["logits"][7:].exp(), network(None, pos, ptr=ptr)["logits"][7:].softmax(0))


def test_variations_keep_the_identity_of_points(clouds):
    pos, ptr = clouds

    class Marked(Linear):
        # Points are told apart by their height above the lowest: turning and shifting leave their order.
        def forward(self, x, pos, *, ptr):
            self.seen.append(pos)
            high = torch.stack([pos[i, 1] for i in range(len(pos))])
            parts = [high[a:b].argsort().argsort().float() for a, b in itertools.pairwise(ptr)]
            return {"logits": torch.cat(parts)[:, None].expand(-1, 2)}

    network = Marked(0)
    augment = Augment(mirror=0.5, rotate=30, scale=0.1, axis_scale=0.1, shift=0.2, jitter=0.5, drop=0.5, resample=9)
    found = MeanOfVariations(network, 5, augment)(None, pos, ptr=ptr)["logits"]
    # Every variation has the same order, so the mean of the maps is the map.
    torch.testing.assert_close(found, MeanOfVariations(network, 1, augment)(None, pos, ptr=ptr)["logits"])
    assert len({tuple(seen[0].tolist()) for seen in network.seen}) > 3
    # Another point is the first, from which farthest points are sampled.
    assert any(seen[0, 1] != seen[:6, 1].sort().values[pos[:6, 1].argsort().argsort()[0]] for seen in network.seen)


@pytest.mark.parametrize("way", ["rotate", "tilt"])
@pytest.mark.parametrize("most", [60, 180])
def test_variations_are_turned_by_half_as_much_as_those_of_the_training_or_in_any_way(way, most):
    pos, ptr = torch.eye(3), torch.tensor([0, 3])
    network = Linear(0)
    MeanOfVariations(network, 64, Augment(**{way: most}))(None, pos, ptr=ptr)
    # Each is a rotation whose rows are moved on by 0, 1 or 2, which turns by 120 degrees: below 60 it is its own.
    traces = torch.stack([torch.stack([seen.roll(i, 0).trace() for i in range(3)]) for seen in network.seen[1:]])
    angle = torch.rad2deg(((traces - 1) / 2).clamp(-1, 1).arccos()).amin(1)
    assert len(angle) == 63
    if most == 60:
        assert 25 < angle.max() < 30
    else:
        assert angle.max() > 45


def test_variations_are_a_function_of_the_seed_and_not_of_the_batch(clouds):
    pos, ptr = clouds
    augment = Augment(rotate=30, axis_scale=0.2)

    def found(seed, pos, ptr):
        return MeanOfVariations(Linear(0), 4, augment, mirrors={0: (1, 0, 2)}, seed=seed)(None, pos, ptr=ptr)

    whole = found(0, pos, ptr)
    assert torch.equal(whole["logits"], found(0, pos, ptr)["logits"])
    assert not torch.equal(whole["logits"], found(1, pos, ptr)["logits"])
    for b in range(3):
        rows = slice(int(ptr[b]), int(ptr[b + 1]))
        alone = found(0, pos[rows], torch.tensor([0, rows.stop - rows.start]))
        torch.testing.assert_close(alone["logits"], whole["logits"][rows])
        torch.testing.assert_close(alone["activation"][0], whole["activation"][b])


def test_a_mirrored_variation_exchanges_keypoints():
    # Keypoint 0 is the lowest x, keypoint 1 the highest: mirrored, each is the other.
    class Sides(nn.Module):
        def forward(self, x, pos, *, ptr):
            sides = torch.stack([-pos[:, 0], pos[:, 0]], 1)
            return {"logits": 9 * sides, "presence": torch.stack([sides[0], sides[0]])[: len(ptr) - 1]}

    pos = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [3.0, 0.0, 0.0], [5.0, 0.0, 0.0], [4.0, 0.0, 0.0]])
    ptr = torch.tensor([0, 5])
    alone = Sides()(None, pos, ptr=ptr)
    found = MeanOfVariations(Sides(), 2, Augment(), mirrors={0: (1, 0)})(None, pos, ptr=ptr)
    torch.testing.assert_close(found["logits"].exp(), alone["logits"].softmax(0))
    # One that is not known in mirror images is not looked for there.
    one = MeanOfVariations(Sides(), 2, Augment(), mirrors={0: (-1, 0)})(None, pos, ptr=ptr)
    torch.testing.assert_close(one["logits"].exp(), alone["logits"].softmax(0))
    wrong = MeanOfVariations(Sides(), 2, Augment(), mirrors={0: (0, 1)})(None, pos, ptr=ptr)
    assert (wrong["logits"].exp() - alone["logits"].softmax(0)).abs().max() > 0.4


def test_varied_clouds_are_normalized_again(clouds):
    pos, ptr = clouds
    pos = torch.cat([Normalize("min_max")(Data(pos=part)).pos for part in pos.split(ptr.diff().tolist())])
    network = Linear(0)
    MeanOfVariations(network, 3, Augment(scale=0.5, shift=0.5), normalize=Normalize("min_max"))(None, pos, ptr=ptr)
    for seen in network.seen[1:]:
        assert not torch.equal(seen, pos)
        for part in (seen[:6], seen[7:]):
            assert (part.min().item(), part.max().item()) == (pytest.approx(-1), pytest.approx(1))


def test_features_cannot_be_varied(clouds):
    pos, ptr = clouds
    with pytest.raises(ValueError, match="`x` must be None"):
        MeanOfVariations(Linear(0), 2, Augment())(pos, pos, ptr=ptr)


class Maps(nn.Module):
    def __init__(self, seed, size=(4, 5)):
        super().__init__()
        self.maps = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(seed))

    def forward(self, image):
        return {"logits": self.maps}


@pytest.mark.parametrize("columns", [False, True])
def test_maps_on_grids_are_averaged_as_probabilities(columns):
    networks = [Maps(0), Maps(1)]
    mean = MeanOfGridNetworks(networks, columns=columns)(None)["logits"]
    for b in range(2):
        for k in range(3):
            maps = [network.maps[b, k] for network in networks]
            if columns:
                expected = sum(m.softmax(0) for m in maps) / 2
            else:
                expected = sum(m.flatten().softmax(0) for m in maps).view(4, 5) / 2
            torch.testing.assert_close(mean[b, k].exp(), expected)
    with pytest.raises(ValueError, match=r"must have maps of one size, has "):
        MeanOfGridNetworks([Maps(0), Maps(1, (5, 4))])(None)
