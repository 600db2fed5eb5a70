"""Samples as configurations want them."""

import torch

from pcsa import losses, sampling_argmax
from pcsa.tasks.common.config import LocalizationConfig, SamplerConfig
from pcsa.tasks.common.objective import draw_samples, localization_loss


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
