"""Samples as configurations want them."""

import pytest
import torch

from pcsa import knn_bandwidth, losses, sampling_argmax, surface_bandwidth
from pcsa.tasks.common.config import BandwidthConfig, LocalizationConfig, SamplerConfig
from pcsa.tasks.common.objective import draw_samples, localization_loss, point_bandwidth
from pcsa.tasks.supervised import ObjectiveConfig, SupervisedConfig


def test_only_relaxed_samples_are_of_tempered_maps():
    generator = torch.Generator().manual_seed(0)
    logits, pos = torch.randn(6, 2, generator=generator), torch.randn(6, 3, generator=generator)
    ptr = torch.tensor([0, 2, 6])

    def expected(logits, **options):
        seeded = torch.Generator().manual_seed(1)
        return sampling_argmax(logits, pos, 0.1, ptr=ptr, num_samples=4, temperature=0.5, generator=seeded, **options)

    for estimator, scores in (("relaxed", 0.5 * logits), ("straight_through", logits), ("reinmax", logits)):
        config = SamplerConfig(num_samples=4, estimator=estimator, tempering="noise")
        drawn = draw_samples(config, logits, pos, 0.1, ptr, 0.5, torch.Generator().manual_seed(1))
        assert torch.equal(drawn, expected(scores, estimator=estimator))


def test_every_term_and_its_weight():
    generator = torch.Generator().manual_seed(0)
    logits, pos = torch.randn(6, 2, generator=generator), torch.randn(6, 3, generator=generator)
    target, visible = torch.randn(2, 2, 3, generator=generator), torch.tensor([[True, False], [True, True]])
    samples, ptr = torch.randn(2, 2, 5, 3, generator=generator), torch.tensor([0, 2, 6])
    points = {"ptr": ptr, "visible": visible}
    away = torch.rand(6, 2, generator=generator) + 1
    config = LocalizationConfig(
        method="nll",
        plus=(("sampling", 0.5), ("mixture", 2.0), ("soft_label", 0.1), ("cross_entropy", 3.0)),
        norm="bounded",
        norm_sigma=0.7,
        label_sigma=0.4,
    )
    loss, parts = localization_loss(config, samples, logits, pos, 0.2, 2.0, target, visible, ptr=ptr, detour=away)
    batch = torch.tensor([0, 0, 1, 1, 1, 1])
    along = away * (pos[:, None] - target[batch]).norm(dim=-1)
    expected = {
        "nll": losses.mixture_nll(logits, pos, 0.2, target, **points),
        "sampling": losses.sample_error(samples, target, norm="bounded", sigma=1.4, visible=visible),
        "mixture": losses.mixture_expected_error(logits, pos, 0.2, target, norm="bounded", sigma=1.4, **points),
        "soft_label": losses.soft_label_cross_entropy(logits, pos, 0.8, target_distance=along, **points),
        "cross_entropy": losses.nearest_point_cross_entropy(logits, pos, target, **points),
    }
    assert parts.keys() == {*expected, "localization"}
    for name, value in expected.items():
        torch.testing.assert_close(parts[name], value)
    total = sum(weight * expected[name] for name, weight in config.terms)
    torch.testing.assert_close(loss, total)
    torch.testing.assert_close(parts["localization"], total)


def test_bases_along_the_surface():
    pos, ptr = torch.randn(30, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 12, 30])
    sigma = knn_bandwidth(pos, ptr=ptr, scale=2.0)
    assert torch.equal(point_bandwidth(BandwidthConfig(bandwidth_scale=2.0), pos, ptr), sigma)
    assert point_bandwidth(BandwidthConfig(bandwidth=0.3), pos, ptr, known=sigma) == 0.3
    flat = BandwidthConfig(bandwidth_scale=2.0, bandwidth_normal=0.2)
    wanted = surface_bandwidth(pos, ptr=ptr, bandwidth=sigma, normal=0.2)
    assert torch.equal(point_bandwidth(flat, pos, ptr), wanted)
    assert torch.equal(point_bandwidth(flat, pos, ptr, known=sigma), wanted)
    constant = point_bandwidth(BandwidthConfig(bandwidth=0.3, bandwidth_normal=0.2), pos, ptr)
    assert torch.equal(constant, surface_bandwidth(pos, ptr=ptr, bandwidth=0.3, normal=0.2))


@pytest.mark.parametrize("method", ["sampling", "mixture", "nll"])
def test_a_map_learns_with_bases_along_the_surface(method):
    generator = torch.Generator().manual_seed(0)
    pos, ptr = torch.randn(30, 3, generator=generator), torch.tensor([0, 12, 30])
    logits = torch.zeros(30, 2, requires_grad=True)
    target = pos[[3, 7, 15, 20]].view(2, 2, 3)
    config = ObjectiveConfig(method=method, bandwidth_normal=0.2, norm="bounded", norm_sigma=0.5)
    bandwidth = point_bandwidth(config, pos, ptr)
    samples = draw_samples(config, logits, pos, bandwidth, ptr, 0.5, generator)
    visible = torch.ones(2, 2, dtype=torch.bool)
    loss, _ = localization_loss(config, samples, logits, pos, bandwidth, 1.0, target, visible, ptr=ptr)
    loss.backward()
    # The logits of the annotated points rise.
    assert all(logits.grad[row, i % 2] < 0 for i, row in enumerate([3, 7, 15, 20]))


def test_options_of_the_bases_are_held_to_each_other():
    for value in (0.0, 1.5):
        with pytest.raises(ValueError, match=r"`objective\.bandwidth_normal`"):
            SupervisedConfig(objective=ObjectiveConfig(bandwidth_normal=value))
    with pytest.raises(ValueError, match=r"`objective\.estimator` 'implicit'"):
        SupervisedConfig(objective=ObjectiveConfig(bandwidth_normal=0.5, estimator="implicit"))
