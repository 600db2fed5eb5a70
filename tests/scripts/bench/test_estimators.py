"""What is said of gradients: bias, spread and cosine of planted ones, and the exact gradients they are held against."""

import math

import pytest
import torch

from pcsa import knn_bandwidth
from pcsa.scripts import cli
from pcsa.scripts.bench import estimators
from pcsa.scripts.bench.estimators import EstimatorsConfig, Maps, exact, exact_of_mixture, measure, quality
from pcsa.scripts.bench.report import BEGIN, END
from pcsa.tasks.common.config import SamplerConfig


@pytest.fixture
def maps():
    """Two clouds of different sizes, one keypoint hidden."""
    g = torch.Generator().manual_seed(0)
    return Maps(
        torch.randn(50, 2, generator=g),
        torch.randn(50, 3, generator=g),
        torch.tensor([0, 20, 50]),
        torch.randn(2, 2, 3, generator=g),
        torch.tensor([[True, False], [True, True]]),
    )


def test_planted_bias_and_spread_are_found():
    # Estimates around (3, 4, 0), of length 5, whose mean is off by 0.5 and whose deviation is 2 on each of three axes.
    g = torch.Generator().manual_seed(0)
    truth, other = torch.tensor([3.0, 4.0, 0.0]), torch.tensor([3.0, 4.0, 0.5])
    found = quality(other + 2 * torch.randn(20_000, 3, generator=g), truth, other)
    for (value, error), expected in ((found.bias, 0.1), (found.spread, 2 * math.sqrt(3) / 5)):
        assert abs(value - expected) < 4 * error
        assert 0 < error < 0.1 * expected
    value, error = found.bias_of_choice
    assert value < 3 * error < 0.1
    still = quality(other.expand(100, 3), truth, other)
    assert still.bias == pytest.approx((0.1, 0))
    assert still.spread == (0, 0)
    assert still.cosine[0] == pytest.approx(5 / math.sqrt(25.25))


@pytest.mark.parametrize("norm", ["l2", "bounded"])
def test_the_mixture_s_exact_gradient_is_that_of_mean_distances(maps, norm, monkeypatch):
    monkeypatch.setattr(estimators, "_SIGMA", 1.0)  # wide enough for the target to be in reach of the noise
    noise = torch.randn(20_000, 1, 3, generator=torch.Generator().manual_seed(1))
    sigma, logits = knn_bandwidth(maps.pos, ptr=maps.ptr), maps.logits.clone().requires_grad_()
    loss = torch.zeros(())
    for b, inside in enumerate((slice(0, 20), slice(20, 50))):
        moved = maps.pos[inside] + sigma[inside, None] * noise
        for k in range(2):
            away = (moved - maps.target[b, k]).norm(dim=-1)
            cost = away if norm == "l2" else 1 - (-away.square() / (2 * estimators._SIGMA**2)).exp()
            loss = loss + maps.visible[b, k] * logits[inside, k].softmax(0) @ cost.mean(0) / 3
    (expected,) = torch.autograd.grad(loss, logits)
    found = exact_of_mixture(maps, norm)
    assert (found - expected).norm() < 0.03 * expected.norm()
    assert torch.equal(found[:20, 1], torch.zeros(20))
    assert (exact(maps, norm) - found).norm() > 0.02 * found.norm()


def test_copies_are_measured_as_the_maps_themselves(maps, monkeypatch):
    # As many at once as fit: the exact gradient, of whatever number of copies, is without error.
    for chunk in (1, 1 << 22):
        monkeypatch.setattr(estimators, "_CHUNK", chunk)
        found = measure(maps, lambda maps, norm, *_: exact(maps, norm), "l2", 100, 10, 0)
        assert found.bias[0] < 1e-4
        assert found.spread[0] < 1e-4
        assert found.cosine[0] == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("name", "estimate"),
    [
        ("score function", estimators.score_function),
        ("implicit", estimators.sampled(SamplerConfig(estimator="implicit"), 1.0)),
    ],
)
def test_exact_estimates_have_no_bias_but_that_of_the_bases(maps, name, estimate):
    found = measure(maps, estimate, "l2", 400, 10, 0)
    value, error = found.bias_of_choice
    assert value < 3 * error
    assert error < 0.5 * found.spread[0]


def test_the_command_writes_its_tables(maps, tmp_path, monkeypatch, capsys):
    page = tmp_path / "page.md"
    page.write_text(f"# Before\n{BEGIN}\nold\n{END}\nafter\n")
    monkeypatch.setattr(estimators, "given_maps", lambda config: iter([("short", maps)]))
    monkeypatch.setattr(estimators, "trained_maps", lambda config, root: iter([(0, 0.7, maps), (8, 0.3, maps)]))
    assert cli.main(["bench", "estimators", "--repeats", "100", "--steps", "8", "--markdown", str(page)]) == 0
    text = page.read_text()
    assert text.startswith(f"# Before\n{BEGIN}\n\n### A map that is short\n")
    assert text.endswith(f"{END}\nafter\n")
    for name in estimators.estimators():
        assert text.count(f"| {name} ") == 1 + (name in ("ReinMax", "implicit", "score function")) * 2
    assert capsys.readouterr().out.partition("\nwritten: ")[0].strip() in text


@pytest.mark.slow
def test_maps_along_a_training_are_of_held_out_chairs(tmp_path):
    config = EstimatorsConfig(num_points=256, steps=4)
    found = list(estimators.trained_maps(config, tmp_path))
    assert [step for step, *_ in found] == [0, 1, 2, 4]
    assert [temperature for _, temperature, _ in found] == pytest.approx([0.7, 0.6, 0.5, 0.3])
    assert all(maps.ptr.tolist() == [0, 256, 512, 768, 1024] for *_, maps in found)
    assert not torch.equal(found[0][2].logits, found[-1][2].logits)


def test_maps_that_are_given_differ_in_how_peaked_they_are():
    names = [name for name, _ in estimators.given_maps(EstimatorsConfig(num_points=256))]
    counts = [int(name.split("as many as ")[1].split()[0]) for name in names]
    assert counts[0] > 2 * counts[1] > 4 * counts[2]


@pytest.mark.parametrize("option", ["num_samples", "repeats", "num_points", "steps"])
def test_bad_numbers(option):
    with pytest.raises(ValueError, match=rf"`{option}` \(=-1\)"):
        EstimatorsConfig(**{option: -1})
