import itertools

import pytest
import torch
from hypothesis import given, settings, strategies as st

from pcsa._core import balls
from pcsa._core.balls import SEARCH_RADIUS, best_ball, heaviest_point, mass_within, search_ball
from pcsa._core.points import canonical, cloud_softmax


def make(N, D, K=2, *, seed=0, spread=2.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    pos = torch.rand(N, D, generator=generator, dtype=dtype)
    return spread * torch.randn(N, K, generator=generator, dtype=dtype), pos


def ready(logits, pos, **layout):
    points = canonical(logits, pos, **layout)
    return cloud_softmax(points.logits, points), points


def found(logits, pos, radius, **layout):
    """Centers and masses of one batch, and what may be missed."""
    prob, points = ready(logits, pos, **layout)
    radius = prob.new_full((points.batch_size,), radius)
    center, missed = search_ball(prob, radius, points)
    return center, mass_within(prob, center, radius, points), missed


def held(center, pos, prob, radius):
    """What balls about places [C, D] hold of each keypoint [C, K]."""
    return ((center[:, None] - pos).norm(dim=2) < radius).to(prob) @ prob


def circumcenter(points):
    """The place in the plane of some points that is equally far from all of them."""
    edges = points[1:] - points[0]
    if not len(edges):
        return points[0]
    weight = torch.linalg.lstsq(edges @ edges.T, edges.square().sum(1, keepdim=True) / 2, driver="gelsd").solution
    return points[0] + (weight.T @ edges)[0]


def windows(pos, radius):
    """Centers on a line: the ball of the largest mass can be pushed until its lower end is at a point."""
    return pos + radius * (1 - 1e-9)


def lattice(pos, radius):
    axis = torch.linspace(-0.1, 1.1, 161, dtype=pos.dtype)
    return torch.cartesian_prod(axis, axis)


def enclosing(pos, radius):
    """The smallest ball about some points is that about at most D + 1 of them, on its surface."""
    D = pos.shape[1]
    subsets = (s for size in range(1, D + 2) for s in itertools.combinations(range(len(pos)), size))
    return torch.stack([circumcenter(pos[list(s)]) for s in subsets])


@pytest.mark.parametrize(
    ("D", "N", "centers"), [(1, 40, windows), (2, 25, lattice), (2, 8, enclosing), (3, 8, enclosing)]
)
@settings(deadline=None, max_examples=10, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1), radius=st.floats(0.05, 0.5), spread=st.sampled_from([0.1, 1.0, 4.0]))
def test_no_other_ball_holds_more(D, N, centers, seed, radius, spread):
    logits, pos = make(N, D, seed=seed, spread=spread)
    prob = logits.softmax(0)
    center, mass, missed = found(logits, pos, radius)
    # What it says is there is there.
    for k in range(2):
        torch.testing.assert_close(mass[0, k], held(center[0, k : k + 1], pos, prob, radius)[0, k])
    smaller = held(centers(pos, SEARCH_RADIUS * radius), pos, prob, SEARCH_RADIUS * radius).amax(0)
    assert (mass[0] >= smaller - 1e-9 - missed[0]).all()
    assert (mass[0] >= held(pos, pos, prob, radius * 0.999).amax(0) - 1e-9).all()
    if radius < 0.2 and N < 40:
        assert (missed < 1e-9).all()


@pytest.mark.parametrize("D", [1, 2, 3, 4])
def test_the_bound_holds_where_the_search_drops_cells(D, monkeypatch):
    logits, pos = make(120, D, K=3, spread=0.5)
    # Three scores beside four axes look swapped where values are checked.
    prob = logits.softmax(0)
    _, best, _ = found(logits, pos, 0.3, validate=False)
    for name, few in (("_SEARCHED", 60), ("_ROOTS", 12), ("_NEAR", 20), ("_CELLS", 4)):
        monkeypatch.setattr(balls, name, few)
    _, mass, missed = found(logits, pos, 0.3, validate=False)
    assert (mass + missed >= held(pos, pos, prob, SEARCH_RADIUS * 0.3).amax(0)).all()
    # The searches differ: the bound is not tested on what neither misses.
    assert (missed > 0).all()  # on a line, only what was not searched
    assert (mass + missed >= best - 0.02).all()
    assert (mass < best).any() or D in (1, 4)


def test_hand_checkable_numbers():
    # A lone point of 0.4; two points 1.8 apart of 0.3 each, of which a ball of 1 about the middle holds both.
    logits = torch.tensor([[0.4], [0.3], [0.3]]).log()
    pos = torch.tensor([[50.0], [0.0], [1.8]])
    center, mass, missed = found(logits, pos, 1.0)
    assert center.item() == pytest.approx(0.9, rel=1e-5)
    assert mass.item() == pytest.approx(0.6)
    assert missed.item() == 0
    # 2 apart they are not less than 1 from anywhere.
    center, mass, _ = found(logits, pos * torch.tensor([[1.0], [1.0], [10 / 9]]), 1.0)
    assert (center.item(), mass.item()) == (50.0, pytest.approx(0.4))


def test_the_place_is_as_near_the_mean_as_holding_all_allows():
    pos = torch.tensor([[0.0, 0.0], [1.2, 0.0]], dtype=torch.float64)
    center, mass, _ = found(torch.tensor([[0.9], [0.1]], dtype=torch.float64).log(), pos, 1.0)
    # The mean is (0.12, 0): 1.08 from the second point, which has to be inside by 1.5 %.
    torch.testing.assert_close(center[0, 0], torch.tensor([1.2 - SEARCH_RADIUS, 0.0], dtype=torch.float64))
    assert mass.item() == pytest.approx(1)


def test_everything_within_is_the_expectation():
    logits, pos = make(700, 3, K=4)
    center, mass, _ = found(logits, pos, 5.0)
    torch.testing.assert_close(center[0], logits.softmax(0).T @ pos)
    torch.testing.assert_close(mass, torch.ones_like(mass))


@pytest.mark.parametrize("radius", [1e-30, 1e-6, 1e6, 1e30])
def test_extreme_radii(radius):
    logits, pos = make(30, 3, dtype=torch.float32)
    center, mass, _ = found(logits, pos, radius)
    prob = logits.softmax(0)
    torch.testing.assert_close(mass[0], prob.amax(0) if radius < 1 else torch.ones(2))
    if radius < 1:
        assert torch.equal(center[0], pos[prob.argmax(0)])


@pytest.mark.parametrize("search", [best_ball, heaviest_point])
@pytest.mark.parametrize("D", [1, 2, 3])
def test_layouts_agree(search, D):
    sizes = [1, 600, 7]
    ptr = torch.tensor([0, *sizes]).cumsum(0)
    logits, pos = make(sum(sizes), D, K=3)
    radius = torch.tensor([0.1, 0.05, 0.3], dtype=torch.float64)
    ragged = search(*prepared(logits, pos, radius, ptr=ptr))
    dense = [torch.full((3, 600, n), torch.nan, dtype=torch.float64) for n in (3, D)]
    mask = torch.zeros(3, 600, dtype=torch.bool)
    for b in range(3):
        rows = slice(int(ptr[b]), int(ptr[b + 1]))
        alone = search(*prepared(logits[rows], pos[rows], radius[b : b + 1]))
        torch.testing.assert_close(alone[0], ragged[b])
        mask[b, 600 - sizes[b] :] = True
        for out, x in zip(dense, (logits, pos), strict=True):
            out[b, 600 - sizes[b] :] = x[rows]
    torch.testing.assert_close(search(*prepared(*dense, radius, mask=mask)), ragged)


def prepared(logits, pos, radius, **layout):
    prob, points = ready(logits, pos, **layout)
    return prob, radius, points


@pytest.mark.parametrize("search", [best_ball, heaviest_point])
@settings(deadline=None, max_examples=15, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1))
def test_symmetries(search, seed):
    logits, pos = make(40, 3, seed=seed)
    radius = torch.tensor([0.25], dtype=torch.float64)
    plain = search(*prepared(logits, pos, radius))
    order = torch.randperm(40, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(search(*prepared(logits[order], pos[order], radius)), plain)
    shift = torch.tensor([1e6, -3.0, 0.5], dtype=torch.float64)
    torch.testing.assert_close(search(*prepared(logits, pos + shift, radius)) - shift, plain, rtol=0, atol=1e-8)
    torch.testing.assert_close(search(*prepared(logits, 1e3 * pos, 1e3 * radius)) / 1e3, plain)
    # A rotation turns the cells that are searched, so that only what is held must be the same.
    turned, _ = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))
    prob, points = ready(logits, pos @ turned)
    rotated = mass_within(prob, search(prob, radius, points), radius, points)
    prob, points = ready(logits, pos)
    torch.testing.assert_close(rotated, mass_within(prob, plain, radius, points), rtol=0.02, atol=0)


def test_far_away_in_float32_a_point_is_a_point():
    # At 1e6, float32 knows steps of 1/16: no two places are nearer than the radius.
    pos = torch.tensor([[1e6, 0.0, 1.0], [1e6 + 0.0625, 0.0, 1.0], [1e6 + 5, 2.0, 1.0]])
    logits = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 3.0]])
    center, mass, _ = found(logits, pos, 0.01)
    assert torch.equal(center[0], pos[[1, 2]])
    torch.testing.assert_close(mass[0], logits.softmax(0).amax(0))


def test_small_tiles_give_the_same(monkeypatch):
    logits, pos = make(90, 3, K=5)
    calls = [(search, *prepared(logits, pos, torch.tensor([0.2], dtype=torch.float64))) for search in SEARCHES]
    whole = [search(*rest) for search, *rest in calls]
    monkeypatch.setattr(balls, "_TILE", 1)
    for (search, *rest), expected in zip(calls, whole, strict=True):
        torch.testing.assert_close(search(*rest), expected)


SEARCHES = (best_ball, heaviest_point)


@settings(deadline=None, max_examples=20, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1), radius=st.floats(0.01, 2))
def test_the_heaviest_point_against_a_loop(seed, radius):
    logits, pos = make(50, 2, seed=seed)
    place = heaviest_point(*prepared(logits, pos, torch.tensor([radius], dtype=torch.float64)))
    prob = logits.softmax(0)
    for k in range(2):
        masses = [float(prob[(pos - y).norm(dim=1) < radius, k].sum()) for y in pos]
        equal = [i for i, mass in enumerate(masses) if mass > max(masses) - 1e-9]
        # Of points that hold the same, the most probable.
        assert torch.equal(place[0, k], pos[max(equal, key=lambda i: float(prob[i, k]))])


@pytest.mark.slow
def test_compiles_in_one_graph():
    logits, pos = make(40, 3)
    prob, points = ready(logits.view(2, 20, 2), pos.view(2, 20, 3))
    radius = torch.tensor([0.2, 0.3], dtype=torch.float64)
    for search in SEARCHES:
        compiled = torch.compile(search, fullgraph=True, backend="eager")
        torch.testing.assert_close(compiled(prob, radius, points), search(prob, radius, points))
