import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from pcsa.tasks.common.config import from_plain, to_plain
from pcsa.tasks.common.training_clouds import SHAPE, SPACING, TrainingClouds, statistics, training_clouds


def chair(seed, num_points=500):
    """A seat on the floor with a back on one side: sizes and points of its own."""
    rng = np.random.default_rng(seed)
    size = rng.uniform(0.8, 1.2, 3)
    seat = rng.uniform(-1, 1, (num_points // 2, 3)) * [0.5, 0.02, 0.6]
    back = rng.uniform(-1, 1, (num_points - len(seat), 3)) * [0.02, 0.8, 0.6] + [0.5, 0.8, 0]
    return torch.from_numpy(np.concatenate([seat, back]) * size)


@pytest.fixture(scope="module")
def known():
    varied = np.random.default_rng(0).uniform(0.9, 1.1, 1000)
    return training_clouds(40, lambda epoch, i: chair(i) * varied[i + 100 * (epoch or 0)], "unit_sphere")


def scores(known, change):
    return [known.novelty(change(chair(1000 + i))).score for i in range(10)]


def test_other_clouds_of_the_kind_are_like_the_training_clouds(known):
    assert known.num_points == 500
    found = [known.novelty(chair(1000 + i)) for i in range(40)]
    # The limit is that of nine in ten.
    assert sum(one.score <= 1 for one in found) >= 30
    assert all((one.reason == "") == (one.kept_presence == 1) == (one.score <= 1) for one in found)


@pytest.mark.parametrize(
    ("change", "least"),
    [
        (lambda pos: pos[:, [2, 1, 0]] * torch.tensor([1.0, 1.0, -1.0]), 9),  # turned by 90 degrees
        (lambda pos: pos * torch.tensor([-1.0, 1.0, -1.0]), 9),  # by 180
        (lambda pos: pos[:, [0, 2, 1]], 9),  # lying on its back
        (lambda pos: pos[pos[:, 2] > 0], 9),  # half of it
        (lambda pos: pos[pos[:, 1] < 0.3], 9),
        (lambda pos: torch.cat([pos, torch.tensor([[0.0, 5.0, 0.0]])]), 10),  # one point far off
        (lambda pos: pos[:60], 10),
        (lambda pos: pos[::8], 10),  # sparse
        (lambda pos: torch.rand(500, 3), 10),
        (lambda pos: pos[:1].expand(500, 3), 10),
    ],
    ids=["90", "180", "lying", "half", "lower", "outlier", "seat", "sparse", "noise", "one-place"],
)
def test_what_the_network_has_not_seen_is_unlike(known, change, least):
    found = [known.novelty(change(chair(1000 + i))) for i in range(10)]
    unlike = [one for one in found if one.score > 1]
    assert len(unlike) >= least
    assert all(0 < one.kept_presence < 1 for one in unlike)
    assert all("is" in one.reason or "proportions" in one.reason for one in unlike)


def test_the_farther_the_higher(known):
    def outlier(height):
        return scores(known, lambda pos: torch.cat([pos, torch.tensor([[0.0, height, 0.0]])]))

    near, far = outlier(3.0), outlier(10.0)
    assert all(a < b for a, b in zip(near, far, strict=True))
    kept = [known.novelty(torch.cat([chair(5), torch.tensor([[0.0, h, 0.0]])])).kept_presence for h in (3.0, 10.0)]
    assert kept[0] > kept[1]
    reason = known.novelty(torch.cat([chair(5), torch.tensor([[0.0, 5.0, 0.0]])])).reason
    assert reason.startswith("the distance of the loneliest point, in spacings, is ")
    assert ", in training " in reason


@pytest.mark.parametrize("frame", ["unit_sphere", "min_max"])
def test_place_size_and_order_do_not_matter(frame):
    pos = chair(3)
    order = torch.randperm(500, generator=torch.Generator().manual_seed(0))
    expected = statistics(pos, frame)
    assert expected.shape == (len(SHAPE) + len(SPACING),)
    # Along x = y = z the scalar range of min_max moves with the cloud.
    np.testing.assert_allclose(statistics((7 * pos + 30)[order], frame), expected, atol=2e-4)
    assert not np.allclose(statistics(pos[:, [2, 1, 0]], frame), expected, atol=0.05)


@pytest.mark.parametrize("pos", [torch.zeros(1, 3), torch.zeros(9, 3), torch.eye(3)[:2], torch.rand(1, 3).expand(4, 3)])
def test_few_and_repeated_points_have_numbers(known, pos):
    assert np.isfinite(statistics(pos, "unit_sphere")).all()
    assert known.novelty(pos).score > 1


def test_copies_of_points_are_no_neighbors():
    pos = chair(3)
    expected = statistics(pos, "unit_sphere")[len(SHAPE) :]
    found = statistics(torch.cat([pos, pos[:1], pos]), "unit_sphere")[len(SHAPE) :]
    # The first point counts three times in the center, and hardly moves it.
    np.testing.assert_allclose(found, expected, atol=1e-3)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_training_clouds_say_something(count):
    known = training_clouds(count, lambda epoch, i: chair(i) * (1.0 + 0.001 * (epoch or 0)), "unit_sphere")
    assert known.novelty(chair(0)).score <= 1
    assert known.novelty(torch.rand(500, 3)).score > 1


def test_many_training_clouds_are_measured_in_part():
    asked = []

    def cloud(epoch, i):
        asked.append((epoch, i))
        return chair(i % 7, 20 + i % 3)

    known = training_clouds(1000, cloud, "unit_sphere")
    assert len(asked) == len({i for _, i in asked}) == 64
    assert [epoch for epoch, _ in asked] == [None, 0] * 32
    assert {0, 999} < {i for _, i in asked}
    assert known.num_points == 21


def test_a_checkpoint_keeps_it(known):
    plain = json.loads(json.dumps(to_plain(known), allow_nan=False))
    again = from_plain(TrainingClouds, plain)
    assert again == known
    assert again.novelty(chair(7)) == known.novelty(chair(7))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("frame", "unit_cube"),
        ("num_points", 0),
        ("center", ()),
        ("low", (float("nan"),) * (len(SHAPE) + len(SPACING))),
        ("shape", ((1.0,),)),
        ("spacing", ()),
    ],
)
def test_what_is_no_such_memory_is_refused(known, name, value):
    with pytest.raises(ValueError, match=r"must (be|have)"):
        replace(known, **{name: value})
