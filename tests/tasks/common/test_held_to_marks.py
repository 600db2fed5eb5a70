"""Predictions against marks: one cloud by hand, and marks drawn from what is predicted."""

import json
import math

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from torch_geometric.data import Data

import pcsa
from pcsa.datasets.transforms import Normalize
from pcsa.tasks.common.belief_tables import format_marks
from pcsa.tasks.common.held_to_marks import FACTORS, ROWS, Held, deal, fit, hold, mark_scores, read, written

NAMES = ("a", "b", "c")


def cloud(n=60, K=3, M=4, seed=0):
    g = torch.Generator().manual_seed(seed)
    pos = 30 * torch.rand(n, 3, generator=g) + 100
    marked = torch.rand(1, K, M, generator=g) < 0.8
    marked[0, 0, 0] = True
    marked[0, 1] = False
    marks = torch.where(marked.unsqueeze(-1), pos[:K][None].unsqueeze(2) + torch.randn(1, K, M, 3, generator=g), 0.0)
    visible = torch.ones(1, K, dtype=torch.bool)
    return Data(pos=pos, marks=marks, marked=marked, visible=visible), 3 * torch.randn(n, K, generator=g)


def drawn(n=60, K=3, M=30, seed=0, shrunken=1.0):
    """Marks from normal distributions, and covariances that are so many times too small."""
    g = torch.Generator().manual_seed(seed)
    root = torch.randn(n, K, 3, 3, generator=g).double() + 2 * torch.eye(3)
    root = root * torch.tensor([1.0, 2.0, 4.0])[:K, None, None]
    away = (root.unsqueeze(2) @ torch.randn(n, K, M, 3, 1, generator=g).double()).squeeze(-1)
    marked = torch.rand(n, K, M, generator=g) < 0.9
    away = torch.where(marked.unsqueeze(-1), away, 0.0)
    covariance = root @ root.mT
    away2 = away.unsqueeze(-1)
    squared = (away2.mT @ torch.linalg.inv(covariance).unsqueeze(2) @ away2)[..., 0, 0]
    sums = []
    for factor in FACTORS:
        # Of a mixture of one basis, the density of the normal distribution.
        f = factor / shrunken
        log = -squared / f / 2 - torch.logdet(f * covariance).unsqueeze(2) / 2 - 1.5 * math.log(2 * math.pi)
        each = torch.where(marked, log, 0.0).sum(2) / marked.sum(2).clamp(min=1)
        sums.append(each.sum(1))
    return Held(away, marked, covariance / shrunken, torch.stack(sums, 1))


def alone(n):
    return [f"={i}" for i in range(n)]


def scored(held, parts=None, groups=None):
    groups = groups or alone(len(held.marked))
    return mark_scores(held, NAMES, groups, parts or deal(groups))


def test_a_cloud_by_hand():
    data, logits = cloud()
    position = torch.stack([data.pos[5], data.pos[6] + 1, data.pos[7]])
    held = hold(data, logits, position, "unit_sphere")
    prob = logits.double().softmax(0)
    scale = float(Normalize("unit_sphere")(Data(pos=data.pos)).scale)
    sigma = pcsa.knn_bandwidth(data.pos).double()
    y = data.pos.double()
    total = dict.fromkeys(FACTORS, 0.0)
    for k in range(3):
        # The second moment of the mixture about the place that is reported.
        away = y - position[k].double()
        second = (prob[:, k, None, None] * (away.unsqueeze(-1) * away.unsqueeze(-2))).sum(0)
        second = second + (prob[:, k] * sigma.square()).sum() * torch.eye(3)
        torch.testing.assert_close(held.covariance[0, k], second, rtol=1e-3, atol=1e-3 * scale)
        mean = prob[:, k] @ y
        there = data.marked[0, k]
        for m in there.nonzero()[:, 0]:
            mark = data.marks[0, k, m].double()
            torch.testing.assert_close(held.away[0, k, m], mark - position[k].double())
            for factor in FACTORS:
                # Every basis moves away from the mean, and widens, by the root of the factor.
                density = sum(
                    p
                    * multivariate_normal.pdf(
                        (mark - mean).numpy(), math.sqrt(factor) * (c - mean).numpy(), factor * s**2
                    )
                    for p, c, s in zip(prob[:, k].tolist(), y, sigma.tolist(), strict=True)
                )
                total[factor] += math.log(density) / int(there.sum())
    np.testing.assert_allclose(held.mixture[0], [total[f] for f in FACTORS], rtol=2e-3)
    # Of the expectation the covariance is that of `localize`.
    found = pcsa.localize(logits, data.pos, pcsa.knn_bandwidth(data.pos))
    own = hold(data, logits, found.position[0], "unit_sphere")
    torch.testing.assert_close(own.covariance.float(), found.covariance, rtol=1e-3, atol=1e-3)


def test_units_are_those_of_the_cloud():
    data, logits = cloud()
    position = data.pos[5:8]
    held = hold(data, logits, position, "unit_sphere")
    data.pos, data.marks = data.pos / 10, data.marks / 10
    small = hold(data, logits, position / 10, "unit_sphere")
    torch.testing.assert_close(small.covariance, held.covariance / 100, rtol=1e-3, atol=1e-6)
    # Two keypoints with marks, on three axes.
    np.testing.assert_allclose(small.mixture, held.mixture + 6 * math.log(10), atol=1e-2)


def test_what_is_not_visible_is_not_held():
    data, logits = cloud()
    data.visible[0, 0] = False
    held = hold(data, logits, data.pos[:3], "unit_sphere")
    assert not held.marked[0, 0].any()
    assert (held.away[0, 0] == 0).all()


def test_marks_from_what_is_predicted_are_within_the_ellipsoids():
    scores = scored(drawn())
    # 4,900 marks: four standard errors of a share are 0.03.
    assert scores["rows"]["predicted"]["coverage"] == pytest.approx([0.5, 0.8, 0.95], abs=0.03)
    assert scores["rows"]["calibrated"]["factor"] == pytest.approx([1, 1], abs=0.07)
    assert scores["rows"]["predicted"]["gain"] > 0.5
    assert scores["spread_correlation"]["pearson"] > 0.9
    # A mixture of one basis is the normal distribution.
    row = scores["rows"]["mixture"]
    assert row["log_likelihood"] == pytest.approx(scores["rows"]["predicted"]["log_likelihood"])
    low, high = row["gain_interval"]
    assert low < row["gain"] < high
    for name, one in scores["per_keypoint"].items():
        assert one["coverage"]["predicted"] == pytest.approx([0.5, 0.8, 0.95], abs=0.06), name
        assert one["human_spread"] == pytest.approx(one["predicted_spread"], rel=0.1)


def test_one_factor_makes_up_for_covariances_that_are_too_small():
    exact, small = scored(drawn()), scored(drawn(shrunken=4.0))
    assert small["rows"]["predicted"]["coverage"][1] < 0.45
    assert small["rows"]["calibrated"]["factor"] == pytest.approx([4, 4], rel=0.07)
    assert small["rows"]["mixture_calibrated"]["factor"] == [4, 4]
    for name in ("calibrated", "constant", "constant_per_keypoint"):
        assert small["rows"][name]["coverage"] == pytest.approx(exact["rows"][name]["coverage"])
        assert small["rows"][name]["log_likelihood"] == pytest.approx(exact["rows"][name]["log_likelihood"])
    # A factor on all of them changes no correlation.
    assert small["spread_correlation"]["pearson"] == pytest.approx(exact["spread_correlation"]["pearson"])


def test_nothing_is_fitted_on_the_shapes_that_it_is_used_on():
    held = drawn(n=7)
    parts = deal(["x", "y", "x", "z", "w", "y", "z"], parts=3)
    assert parts == [0, 1, 0, 2, 0, 1, 2]
    fitted = fit(held, parts)
    for p in range(3):
        own = torch.tensor(parts) == p
        others = Held(*(x[~own] for x in held))
        away = torch.where(others.marked.unsqueeze(-1), others.away, 0.0)
        count = int(others.marked.sum())
        constant = torch.einsum("nkmd,nkme->de", away, away) / count
        squared = away.unsqueeze(-1).mT @ torch.linalg.inv(others.covariance).unsqueeze(2) @ away.unsqueeze(-1)
        for i in own.nonzero()[:, 0]:
            torch.testing.assert_close(fitted.constant[i], constant)
            torch.testing.assert_close(fitted.factor[i], squared.sum() / count / 3)
            assert fitted.mixture[i] == others.mixture.sum(0).argmax()
    held.away[0] *= 100
    changed = fit(held, parts)
    for i, part in enumerate(parts):
        assert (changed.factor[i] == fitted.factor[i]) == (part == parts[0])


def test_a_keypoint_with_few_marks_has_the_constant_of_all():
    held = drawn(n=6)
    held.marked[:, 1, 1:] = False
    held.marked[:, 1, 0] = torch.tensor([True, True, False, False, False, False])
    held = held._replace(away=torch.where(held.marked.unsqueeze(-1), held.away, 0.0))
    fitted = fit(held, [0, 1, 2, 0, 1, 2])
    assert torch.equal(fitted.per_keypoint[:, 1], fitted.constant)
    assert not torch.equal(fitted.per_keypoint[:, 0], fitted.constant)


@pytest.mark.parametrize("why", ["one part", "one mark", "the others have none"])
def test_too_few_to_fit_on(why):
    held = drawn(n=2)
    parts = [0, 0] if why == "one part" else [0, 1]
    if why == "one mark":
        held.marked[:] = False
        held.marked[:, 0, 0] = True
    if why == "the others have none":
        held.marked[1], held.mixture[1] = False, 0.0
    held = held._replace(away=torch.where(held.marked.unsqueeze(-1), held.away, 0.0))
    scores = scored(held, parts)
    assert scores["rows"].keys() == {"predicted", "mixture"}
    assert "gain" not in scores["rows"]["predicted"]
    table = format_marks(scores)
    assert "too few to fit a factor on" in table
    json.dumps(scores, allow_nan=False)


def test_nothing_marked_says_nothing():
    held = drawn(n=2)
    held.marked[:] = False
    assert scored(held) is None


def test_shapes_and_keypoints_without_marks_change_nothing():
    held = drawn(n=8)
    more = Held(*(torch.cat([x, torch.zeros_like(x[:2])]) for x in held))
    more.covariance[8:] = torch.eye(3).double()
    a, b = scored(held), scored(more, parts=[*deal(alone(8)), 0, 1])
    for name in ROWS:
        for figure in ("coverage", "log_likelihood"):
            if figure in a["rows"][name]:
                assert b["rows"][name][figure] == pytest.approx(a["rows"][name][figure], rel=1e-12)
    # A column of marks that nobody made.
    padded = Held(
        torch.cat([held.away, torch.full_like(held.away[:, :, :2], 7.0)], 2),
        torch.cat([held.marked, torch.zeros_like(held.marked[:, :, :2])], 2),
        *held[2:],
    )
    c = scored(padded)
    for figure, value in a["rows"]["calibrated"].items():
        assert np.allclose(c["rows"]["calibrated"][figure], value, rtol=1e-12, atol=0), figure
    assert c["mark_distance"] == pytest.approx(a["mark_distance"], rel=1e-12)


def test_intervals_draw_groups():
    held = drawn(n=12)
    wide = scored(Held(*(torch.cat([x, x]) for x in held)), groups=alone(12) * 2)
    narrow = scored(Held(*(torch.cat([x, x]) for x in held)))

    def width(scores):
        low, high = scores["rows"]["predicted"]["coverage_interval"][1]
        return high - low

    assert width(wide) > 1.15 * width(narrow)


def test_what_is_written_can_be_read():
    held = drawn(n=5, M=6)
    names, groups = list("vwxyz"), ["=0", "g", "g", "=3", "=4"]
    text = json.dumps(written(held, names, groups), allow_nan=False)
    shapes = json.loads(text)
    assert [shape["group"] for shape in shapes.values()] == groups
    again = read(list(shapes.values()))
    parts = deal(groups)
    first, second = (mark_scores(h, NAMES, groups, parts, intervals=False) for h in (held, again))
    for name in ROWS:
        for figure in first["rows"][name]:
            assert second["rows"][name][figure] == pytest.approx(first["rows"][name][figure], rel=1e-4)
    assert second["mark_distance"] == pytest.approx(first["mark_distance"], rel=1e-5)


def test_distance_of_marks():
    away = torch.tensor([[[[0.0, 0, 3], [0, 0, -3], [0, 0, 9]], [[0, 4, 3], [9, 9, 9], [9, 9, 9]]]]).double()
    marked = torch.tensor([[[True, True, False], [True, False, False]]])
    held = Held(away, marked, torch.eye(3).double().expand(1, 2, 3, 3), torch.zeros(1, len(FACTORS)).double())
    scores = mark_scores(held, NAMES[:2], ["g"], [0])
    assert scores["mark_distance"] == pytest.approx(11 / 3)
    assert (scores["num_marks"], scores["num_keypoints"], scores["num_shapes"]) == (3, 2, 1)
