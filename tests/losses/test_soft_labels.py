import math

import pytest
import scipy.stats
import torch
from hypothesis import given, settings, strategies as st

import pcsa.losses as losses
from pcsa.metrics import geodesic_distances

K, D = 3, 2


def test_the_gradient_is_the_map_less_the_label(Case):
    case = Case(20, sizes=(7,))
    case.logits.requires_grad_()
    loss = losses.soft_label_cross_entropy(case.logits, case.pos, 0.4, case.target, reduction="sum")
    away = torch.cdist(case.pos, case.target[0])
    label = (-away.square() / (2 * 0.4**2)).softmax(0)
    torch.testing.assert_close(torch.autograd.grad(loss, case.logits)[0], case.logits.softmax(0).detach() - label)


def test_the_divergence_agrees_with_scipy_and_is_0_where_the_map_is_the_label(Case):
    case = Case(21, sizes=(6,))
    label = (-torch.cdist(case.pos, case.target[0]).square() / (2 * 0.6**2)).softmax(0)
    found = losses.soft_label_cross_entropy(
        case.logits, case.pos, 0.6, case.target, subtract_entropy=True, reduction="none"
    )
    for k in range(K):
        expected = scipy.stats.entropy(label[:, k].numpy(), case.logits[:, k].softmax(0).numpy())
        assert found[0, k].item() == pytest.approx(expected, rel=1e-10)
    right = losses.soft_label_cross_entropy(label.log(), case.pos, 0.6, case.target, subtract_entropy=True)
    assert right.item() == pytest.approx(0, abs=1e-12)


def test_it_becomes_cross_entropy_as_sigma_vanishes(Case, call, on_points):
    case = Case(22, sizes=(8, 6))
    case.logits.requires_grad_()
    wanted = torch.autograd.grad(call(on_points["nearest_point_cross_entropy-"], case), case.logits)[0]
    gaps = []
    for sigma in (1.0, 0.3, 0.1, 1e-3, 1e-30):
        loss = losses.soft_label_cross_entropy(case.logits, case.pos, sigma, case.target, case.batch)
        gaps.append((torch.autograd.grad(loss, case.logits)[0] - wanted).abs().max().item())
    assert gaps[0] > gaps[1] > gaps[2] > gaps[3]
    assert gaps[0] > 0.01
    assert gaps[3] < 1e-12


def test_distances_along_a_surface_leave_out_what_is_near_through_the_air():
    # Two parallel rows of points, 0.5 apart, that meet at their far ends: a U. The target is the first point.
    x = torch.arange(20) * 0.1
    row = torch.stack([x, torch.zeros(20)], 1)
    bend = torch.stack([torch.full((4,), 1.9), torch.arange(1, 5) * 0.1], 1)
    pos = torch.cat([row, bend, torch.stack([x.flip(0), torch.full((20,), 0.5)], 1)])
    along = geodesic_distances(pos, torch.tensor([0]), k_neighbors=2).T
    logits = torch.zeros(44, 1, requires_grad=True)
    labels = {}
    for name, right in {
        "straight": {"target": pos[:1, None]},
        "along": {"target_distance": along},
    }.items():
        loss = losses.soft_label_cross_entropy(logits, pos, 0.3, **right)
        labels[name] = (1 / 44 - torch.autograd.grad(loss, logits)[0])[:, 0]
        assert labels[name].sum().item() == pytest.approx(1, abs=1e-5)
    assert labels["straight"][-1] > 0.03
    assert labels["along"][-1].abs() < 1e-6


@pytest.mark.parametrize("distance", [math.inf, 1e30])
def test_points_that_no_path_reaches_are_not_labeled(distance):
    logits = torch.zeros(3, 2, requires_grad=True)
    away = torch.tensor([[0.0, distance], [1.0, distance], [distance, distance]])
    loss = losses.soft_label_cross_entropy(logits, torch.zeros(3, 1), 1.0, target_distance=away, reduction="none")
    # Where no point is reached at all, every one is as good as any other.
    assert loss.isfinite().all()
    gradient = torch.autograd.grad(loss.sum(), logits)[0]
    weight = math.exp(-0.5)
    expected = [[1 / 3 - 1 / (1 + weight), 0], [1 / 3 - weight / (1 + weight), 0], [1 / 3, 0]]
    torch.testing.assert_close(gradient, torch.tensor(expected))


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10**6), scale=st.floats(0, 1e4), sigma=st.floats(1e-30, 1e30))
def test_loss_and_gradient_are_finite_and_the_divergence_is_not_negative(Case, seed, scale, sigma):
    case = Case(seed, dtype=torch.float32)
    case.logits = (case.logits * scale).requires_grad_()
    loss = losses.soft_label_cross_entropy(
        case.logits, case.pos, sigma, case.target, case.batch, subtract_entropy=True, reduction="none"
    )
    assert (loss > -1e-4).all()
    assert loss.isfinite().all()
    assert torch.autograd.grad(loss.sum(), case.logits)[0].isfinite().all()


def test_distances_in_dense_input_are_those_of_the_same_clouds_laid_end_to_end(Case):
    case = Case(23, sizes=(4, 4))
    away = torch.linalg.vector_norm(case.pos[:, None] - case.target[case.batch], dim=-1)
    by_target = losses.soft_label_cross_entropy(case.logits, case.pos, 0.5, case.target, case.batch)
    ragged = losses.soft_label_cross_entropy(case.logits, case.pos, 0.5, batch=case.batch, target_distance=away)
    dense = losses.soft_label_cross_entropy(
        case.logits.view(2, 4, K), case.pos.view(2, 4, D), 0.5, target_distance=away.view(2, 4, K)
    )
    torch.testing.assert_close(ragged, by_target)
    torch.testing.assert_close(dense, by_target)
