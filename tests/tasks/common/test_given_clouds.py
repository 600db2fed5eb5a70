import numpy as np
import pytest
import torch

from pcsa.datasets.thinning import evenly_spaced
from pcsa.tasks.common.given_clouds import UNKNOWN_POINTS, give, lowered, note_of, points_to_sample
from pcsa.tasks.common.training_clouds import training_clouds


@pytest.fixture(scope="module")
def known():
    """What is remembered of balls of 300 points."""
    return training_clouds(20, lambda epoch, i: ball(300, 10 * i + (epoch or 0)), "unit_sphere")


def ball(num_points, seed):
    pos = torch.randn(num_points, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.double)
    return pos / pos.norm(dim=1, keepdim=True)


def test_a_dense_cloud_is_drawn_from(known):
    pos = ball(20_000, 3)
    given = give(pos, known)
    assert given.pos.shape == (300, 3)
    assert given.whole is pos
    assert torch.equal(given.pos, pos[given.rows])
    assert len(given.rows.unique()) == 300
    assert (given.rows.diff() > 0).all()
    assert given.novelty.score < 1.5
    # They are evenly spaced, farther from each other than as many random ones are.
    others = [pos[torch.randperm(20_000, generator=torch.Generator().manual_seed(s))[:300]] for s in range(10)]
    assert torch.pdist(given.pos).min() > 3 * max(torch.pdist(other).min() for other in others)
    # The same whenever it is asked for, and another with another seed.
    assert torch.equal(give(pos, known).rows, given.rows)
    assert not torch.equal(give(pos, known, seed=1).rows, given.rows)
    assert note_of(given) == "300 of 20000 points"
    # Evenly from all of them: no end of the file is preferred.
    assert abs(float(given.rows.double().mean()) / 20_000 - 0.5) < 0.06


def test_a_cloud_of_about_as_many_points_stays_as_it_is(known):
    for count in (100, 300, 450):
        pos = ball(count, 5)
        given = give(pos, known)
        assert given.rows is None
        assert given.pos is pos
    assert give(ball(451, 5), known).rows is not None
    assert give(ball(451, 5), known, resample=False).rows is None
    assert give(ball(30, 5), known).novelty.score > 1
    assert note_of(give(ball(30, 5), known)).startswith("unlike the training clouds: the spacing of the points is ")


def test_points_that_were_sampled_on_a_mesh_are_not_those_of_the_input(known):
    assert points_to_sample(known) == 600
    assert points_to_sample(known, resample=False) == 300
    assert points_to_sample(None) == UNKNOWN_POINTS
    pos = ball(600, 3)
    given = give(pos, known, sampled=True)
    assert given.rows is None
    assert given.whole is given.pos
    assert torch.equal(given.pos, give(pos, known).pos)
    assert note_of(given) == ""


def test_random_and_evenly_spaced_training_clouds_are_both_known_again(known):
    def even(epoch, i):
        pos = ball(5000, 10 * i + (epoch or 0))
        return pos[evenly_spaced(pos, 300, torch.Generator().manual_seed(i))]

    for of in (known, training_clouds(20, even, "unit_sphere")):
        for i in range(5):
            given = give(ball(20_000, 100 + i), of)
            assert given.novelty.score < 1.5
            assert torch.pdist(given.pos).min() > 0.05
            # An even network is given evenly spaced points; so is one that was trained on random ones.
            assert of.has_lone_points(given.pos) is False
    # One of the two alone would not do.
    assert known.novelty(even(None, 100)).score > 1


def test_strays_are_not_sought_out(known):
    pos = ball(20_000, 3)
    pos[::100] *= 1.5
    given = give(pos, known)
    strays = int((given.pos.norm(dim=1) > 1.2).sum())
    # Three in 300 are their share; evenly spaced points would have nearly all that were chosen from.
    assert strays <= 8
    assert given.novelty.score > 1
    assert "point" in given.novelty.reason
    even = pos[evenly_spaced(pos, 300, torch.Generator().manual_seed(0))]
    assert known.has_lone_points(even)
    assert int((even.norm(dim=1) > 1.2).sum()) > strays
    assert not known.has_lone_points(ball(300, 1))


def test_nothing_is_done_where_nothing_is_known():
    pos = ball(20_000, 3)
    given = give(pos, None)
    assert given.pos is pos
    assert (given.rows, given.novelty) == (None, None)
    assert given.whole is pos
    assert note_of(given) == ""


def test_presence_is_a_share_of_what_it_was():
    logit = torch.tensor([[-3.0, 0.0, 5.0, 40.0], [-3.0, 0.0, 5.0, -200.0]])
    share = torch.tensor([0.25, 1.0])
    found = lowered(logit, share)
    np.testing.assert_allclose(found[0].sigmoid(), 0.25 * logit[0].sigmoid(), rtol=1e-5)
    # What is not lowered is the same to the last bit.
    assert torch.equal(found[1], logit[1])
    assert not lowered(torch.tensor([[-200.0]]), torch.tensor([0.5])).isnan().any()
