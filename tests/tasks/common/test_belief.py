import math

import numpy as np
import pytest
import torch
from torch_geometric.data import Data

import pcsa
from pcsa.datasets.keypointnet.mirror import MirrorPairs
from pcsa.datasets.transforms import Normalize
from pcsa.metrics.geodesic import geodesic_distances, geodesic_error
from pcsa.tasks.common.belief import (
    READ_OUTS,
    TEMPLATE,
    alone,
    ball_masses,
    confidence_scores,
    label_scores,
    read_maps,
    read_out_scores,
    score_read_outs,
    training_template,
)


def item(seed, N=60, K=4, missing=()):
    generator = torch.Generator().manual_seed(seed)
    pos = torch.rand(N, 3, generator=generator) * torch.tensor([1.0, 0.5, 2.0]) + seed
    index = torch.randperm(N, generator=generator)[:K]
    visible = torch.ones(K, dtype=torch.bool)
    visible[list(missing)] = False
    keypoints = torch.where(visible[:, None], pos[index], 0.0)
    return Data(
        pos=pos,
        keypoints=keypoints[None],
        visible=visible[None],
        keypoint_index=torch.where(visible, index, -1)[None],
    )


@pytest.fixture
def clouds():
    return [item(0), item(1, N=45, missing=[2]), item(2)]


@pytest.fixture
def logits(clouds):
    generator = torch.Generator().manual_seed(9)
    return [3 * torch.randn(len(cloud.pos), 4, generator=generator) for cloud in clouds]


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_all_read_outs_are_those_of_each_cloud_alone(clouds, logits, temperature):
    radius = 0.2
    asked = torch.stack([cloud.pos.mean(0).expand(4, 3) for cloud in clouds])
    template = torch.tensor([[0.0, 0.1, -0.2]]).expand(4, 3)
    compared = (*READ_OUTS, "mode")
    options = {"radius": radius, "temperature": temperature, "template": template, "compared": compared}
    found = read_maps(clouds, logits, "unit_sphere", ("median", asked), **options)
    assert list(found.position) == [*compared, TEMPLATE]
    assert list(found.mass) == list(compared)
    # What was located before is taken as it is.
    for b, cloud in enumerate(clouds):
        assert torch.equal(found.position["median"][b, cloud.visible[0]], asked[b, cloud.visible[0]])
    for b, (cloud, scores) in enumerate(zip(clouds, logits, strict=True)):
        bandwidth = pcsa.knn_bandwidth(cloud.pos)
        prob, visible = (scores / temperature).softmax(0), cloud.visible[0]

        def check(value, expected, visible=visible, b=b):
            torch.testing.assert_close(value[b, visible], expected[visible], atol=2e-3, rtol=0)
            assert not value[b, ~visible].any()

        for name in compared:
            if name != "median":
                reach = radius if "ball" in name else None
                own = pcsa.localize(scores, cloud.pos, bandwidth, read_out=name, radius=reach)
                check(found.position[name], own.position[0])
            away = torch.cdist(cloud.pos, found.position[name][b])
            check(found.mass[name], (prob * (away < radius)).sum(0))
        sure = found.confidence
        check(sure["mass"], found.mass["median"][b])
        check(sure["peak"], prob.amax(0))
        check(sure["entropy"], (prob * prob.log()).sum(0))
        check(sure["expected_error"], -(prob * torch.cdist(cloud.pos, asked[b])).sum(0))
        normal = Normalize("unit_sphere")(cloud)
        check(found.position[TEMPLATE], template * normal.scale + normal.offset)


def test_a_cloud_without_labels_is_not_read(logits):
    found = read_maps(
        [item(0, missing=range(4)), item(2)],
        [logits[0], logits[2]],
        "unit_sphere",
        ("ball", torch.ones(2, 4, 3)),
        radius=0.1,
        template=torch.ones(4, 3),
    )
    for part in found:
        for values in part.values():
            assert values.shape[:2] == (2, 4)
            assert not values[0].any()
    assert found.position["peak"][1].any()


def test_a_temperature_moves_no_position(clouds, logits):
    asked = ("local", torch.zeros(3, 4, 3))
    one, two = (read_maps(clouds, logits, "unit_sphere", asked, radius=0.1, temperature=t) for t in (1.0, 3.0))
    assert list(one.position) == [*READ_OUTS, "local"]
    for name in one.position:
        assert torch.equal(one.position[name], two.position[name])
    assert (two.confidence["peak"] < one.confidence["peak"]).sum() == 11
    assert TEMPLATE not in one.position


def test_distances_of_read_outs_one_by_one(clouds):
    for cloud in clouds:
        visible = cloud.visible[0]
        generator = torch.Generator().manual_seed(0)
        position = cloud.pos.mean(0) + torch.randn(2, 4, 3, generator=generator) / 3
        paths = geodesic_distances(cloud.pos, cloud.keypoint_index[0][visible])
        found = score_read_outs(position, cloud, paths)
        assert score_read_outs(position, cloud, None).geodesic is None
        for r in range(2):
            geodesic = geodesic_error(position[r], cloud.pos, cloud.keypoint_index[0], visible)
            # The same bits.
            assert torch.equal(found.geodesic[r], geodesic)
            for k in range(4):
                if not visible[k]:
                    assert found.euclidean[r, k] == found.surface[r, k] == 0
                    continue
                away = (cloud.pos - position[r, k]).norm(dim=1)
                target = cloud.keypoints[0, k]
                assert found.euclidean[r, k].item() == pytest.approx((position[r, k] - target).norm().item())
                snapped = cloud.pos[away.argmin()]
                assert found.surface[r, k].item() == pytest.approx((snapped - target).norm().item(), abs=1e-6)


def test_annotated_points_that_stand_alone(clouds):
    for cloud in clouds:
        found = alone(cloud)
        for k in range(4):
            if cloud.visible[0, k]:
                away = (cloud.pos - cloud.keypoints[0, k]).norm(dim=1).sort().values
                assert found[k].item() == pytest.approx(away[1].item(), rel=1e-5)
            else:
                assert found[k] == math.inf
    # A copy is no other place.
    twice = item(0)
    twice.pos = torch.cat([twice.pos, twice.pos])
    assert torch.equal(alone(twice), alone(item(0)))
    # Where the annotated point is gone, the nearest point is another.
    lacking = item(0)
    k = int(lacking.visible[0].nonzero()[0])
    away = (lacking.pos - lacking.keypoints[0, k]).norm(dim=1)
    lacking.pos = lacking.pos[away > 0]
    assert alone(lacking)[k].item() == pytest.approx(away[away > 0].min().item(), rel=1e-5)
    single = Data(pos=torch.zeros(3, 3), keypoints=torch.zeros(1, 1, 3), visible=torch.tensor([[True]]))
    assert alone(single).tolist() == [math.inf]


def test_the_template_is_the_mean_of_the_labels(clouds):
    found = training_template(clouds, "unit_sphere")
    for k in range(4):
        own = []
        for cloud in clouds:
            if cloud.visible[0, k]:
                offset = cloud.pos.mean(0)
                own.append((cloud.keypoints[0, k] - offset) / (cloud.pos - offset).norm(dim=1).max())
        torch.testing.assert_close(found[k].float(), torch.stack(own).mean(0), atol=1e-5, rtol=1e-5)
    # What no cloud has lies at the origin.
    assert training_template([item(0, missing=[1])], "unit_sphere")[1].tolist() == [0, 0, 0]


def draw(n=50, K=6):
    rng = np.random.default_rng(0)
    mass = torch.from_numpy(rng.random((n, K)))
    right = torch.from_numpy(rng.random((n, K))) < mass
    visible = torch.from_numpy(rng.random((n, K)) < 0.8)
    return mass, torch.where(right, 0.004, 0.05).double(), visible


def test_scores_of_a_read_out():
    mass, distance, visible = draw()
    found = read_out_scores({"euclidean": distance}, {"mass": mass}, visible, [0.001, 0.01, 0.1], 0.01)
    right = (distance < 0.01) & visible
    per_shape = right.sum(1) / visible.sum(1)
    assert found["euclidean"]["pck"] == pytest.approx([0, per_shape.mean().item(), 1])
    assert found["mass"]["mean"] == pytest.approx(mass[visible].mean().item())
    assert found["mass"]["correct"] == pytest.approx(right[visible].double().mean().item())
    assert found["mass"]["pearson"] == pytest.approx(np.corrcoef(mass[visible], right[visible])[0, 1])
    assert found["mass"]["expected_calibration_error"] < 0.12
    assert "mass" not in read_out_scores({"euclidean": distance}, {}, visible, [0.01], 0.01)
    infinite = {"geodesic": torch.full_like(distance, math.inf)}
    assert read_out_scores(infinite, {}, visible, [0.01], 0.01)["geodesic"] == {"pck": [0.0], "mean_error": None}


def test_candidates_for_a_confidence():
    mass, distance, visible = draw()
    found = confidence_scores({"mass": mass, "entropy": 5 * mass - 9}, distance, visible, 0.01)
    # Entropy is no probability, and its order is that of the mass.
    assert found["mass"]["pearson"] == pytest.approx(found["entropy"]["pearson"])
    assert found["mass"]["risk_coverage"] == found["entropy"]["risk_coverage"]
    low, high = found["mass"]["expected_calibration_error_interval"]
    assert low < high < 0.25
    assert "expected_calibration_error" not in found["entropy"]
    curve = found["mass"]["risk_coverage"]
    assert curve["coverage"] == pytest.approx(np.arange(1, 11) / 10, abs=0.01)
    assert curve["risk"][0] < curve["risk"][-1] == pytest.approx((distance[visible] > 0.01).double().mean().item())
    constant = confidence_scores({"peak": torch.ones_like(mass)}, distance, visible, 0.01)
    assert constant["peak"]["pearson"] is None


def test_what_labels_allow():
    pairs = MirrorPairs(np.array([0.005, 0.012, 0.03, 0.001]), np.array([True, True, True, False]))
    apart = torch.tensor([[0.005, 0.02], [0.05, math.inf]])
    visible = torch.tensor([[True, True], [True, False]])
    found = label_scores(pairs, apart, visible, [0.001, 0.01, 0.03])
    assert found["num_pairs"] == 3
    assert found["agreement"] == pytest.approx([0, 1 / 3, 2 / 3])
    assert found["ceiling"] == pytest.approx([0, 2 / 3, 1])
    assert found["alone"] == pytest.approx([1, 2 / 3, 1 / 3])
    none = label_scores(MirrorPairs(np.empty(0), np.empty(0, bool)), apart, visible, [0.01])
    assert (none["num_pairs"], none["agreement"], none["ceiling"]) == (0, None, None)


@pytest.mark.parametrize("temperature", [1.0, 0.4])
def test_masses_of_known_places_are_those_of_the_read_outs(clouds, logits, temperature):
    asked = torch.stack([cloud.pos.mean(0).expand(4, 3) for cloud in clouds])
    how = {"radius": 0.2, "temperature": temperature}
    maps = read_maps(clouds, logits, "unit_sphere", ("local", asked), **how)
    for b, cloud in enumerate(clouds):
        places = {name: maps.position[name][b] for name in maps.mass}
        found = ball_masses(cloud, logits[b][:, cloud.visible[0]], places, "unit_sphere", **how)
        assert found.keys() == maps.mass.keys()
        for name, mass in found.items():
            torch.testing.assert_close(mass, maps.mass[name][b])
    bare = item(0, missing=range(4))
    assert ball_masses(bare, logits[0][:, :0], {"peak": asked[0]}, "unit_sphere", **how)["peak"].tolist() == [0] * 4


def test_masses_at_other_temperatures_have_scores_of_their_own():
    mass, distance, visible = draw()
    found = read_out_scores({"euclidean": distance}, {"mass": mass, "as_trained": mass / 2}, visible, [0.01], 0.01)[
        "mass"
    ]
    alone = read_out_scores({"euclidean": distance}, {"mass": mass / 2}, visible, [0.01], 0.01)["mass"]
    assert found.pop("as_trained") == alone
    assert found == read_out_scores({"euclidean": distance}, {"mass": mass}, visible, [0.01], 0.01)["mass"]
    for name in ("pearson", "expected_calibration_error"):
        low, high = found[f"{name}_interval"]
        assert low < found[name] < high < low + 0.3
    # Half of what is true is half a mean away.
    assert alone["expected_calibration_error"] == pytest.approx(found["correct"] / 2, abs=0.05)
    constant = read_out_scores({"euclidean": distance}, {"mass": torch.ones_like(mass)}, visible, [0.01], 0.01)["mass"]
    assert (constant["pearson"], constant["pearson_interval"]) == (None, [None, None])
