"""``pcsa bench estimators``: gradients of samples against the exact gradient of Eq. 4, on maps and in a training."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
import tyro
from torch import Tensor
from torch_geometric.data import Batch

import pcsa
from pcsa import losses
from pcsa._core.checks import check_count
from pcsa.datasets.procedural import generate
from pcsa.datasets.procedural.shapes.shape import make_shape, sample_shape
from pcsa.scripts.bench.measure import log
from pcsa.scripts.bench.report import split_page, write_between_marks
from pcsa.tasks import get_task
from pcsa.tasks.common.clouds import open_annotated
from pcsa.tasks.common.config import OptimizerConfig, SamplerConfig
from pcsa.tasks.common.detector import DetectorConfig
from pcsa.tasks.common.objective import draw_samples
from pcsa.tasks.common.tables import markdown_table
from pcsa.tasks.supervised import SupervisedConfig, SupervisedData, normalized

# Width of the bounded error, in units of the normalized cloud.
_SIGMA = 0.1
# Parts of the estimates that the standard errors are of, each left out once.
_PARTS = 20
# Numbers [N, S] drawn at once.
_CHUNK = 1 << 22
_COLUMNS = ("bias", "bias, Eq. 3", "spread", "cosine")
Norm = Literal["l2", "bounded"]


@dataclass(frozen=True)
class EstimatorsConfig:
    """Measure bias and spread of the sampler's gradients to the logits against the exact gradient of Eq. 4."""

    num_samples: int = 10
    """Samples of one estimate."""
    repeats: int = 200
    """Estimates of every map; of the batch of the training, a fifth as many."""
    num_points: int = 512
    """Points of every cloud."""
    steps: int = 200
    """Steps of the training; 0 for none."""
    seed: int = 0
    """Fixes clouds, maps, training and noise."""
    markdown: Path | None = None
    """Replace the tables between the marks `pcsa bench: begin` and `end` in this file."""

    def __post_init__(self) -> None:
        for name, least in (("num_samples", 2), ("repeats", 5 * _PARTS), ("num_points", 256), ("steps", 0)):
            check_count(name, getattr(self, name), least)


class Maps(NamedTuple):
    """Scores ``[N, K]`` of clouds and what they are about."""

    logits: Tensor
    pos: Tensor
    ptr: Tensor
    target: Tensor
    visible: Tensor

    def loss(self, samples: Tensor, norm: Norm, reduction: losses.Reduction = "mean") -> Tensor:
        """The error of samples."""
        options = losses.Masking(visible=self.visible, reduction=reduction, validate=False)
        return losses.sample_error(samples, self.target, norm=norm, sigma=_SIGMA, **options)


# Gradient of the loss of some maps to their logits: maps, norm, number of samples, source of noise.
Estimate = Callable[[Maps, Norm, int, torch.Generator], Tensor]


def sampled(config: SamplerConfig, temperature: float) -> Estimate:
    """The gradient that a training takes."""

    def estimate(maps: Maps, norm: Norm, num_samples: int, generator: torch.Generator) -> Tensor:
        logits = maps.logits.detach().requires_grad_()
        bandwidth = pcsa.knn_bandwidth(maps.pos, ptr=maps.ptr)
        once = SamplerConfig(num_samples, tempering=config.tempering, estimator=config.estimator)
        samples = draw_samples(once, logits, maps.pos, bandwidth, maps.ptr, temperature, generator)
        return torch.autograd.grad(maps.loss(samples, norm), logits)[0]

    return estimate


def score_function(maps: Maps, norm: Norm, num_samples: int, generator: torch.Generator) -> Tensor:
    """The gradient of the log-probability of the chosen points, times their error less that of the other samples.

    Exact in the mean for any loss, differentiable or not: what estimators that use the gradient must be better than.
    """
    logits = maps.logits.detach().requires_grad_()
    bandwidth = pcsa.knn_bandwidth(maps.pos, ptr=maps.ptr)
    with torch.no_grad():
        samples = pcsa.sampling_argmax(
            logits,
            maps.pos,
            bandwidth,
            ptr=maps.ptr,
            num_samples=num_samples,
            estimator="reinmax",
            generator=generator,
            validate=False,
        )
        B, K = maps.visible.shape
        options = losses.Masking(visible=maps.visible.repeat(1, num_samples), reduction="none", validate=False)
        each = losses.position_error(
            samples.transpose(1, 2).reshape(B, num_samples * K, 3),
            maps.target.repeat(1, num_samples, 1),
            norm=norm,
            sigma=_SIGMA,
            **options,
        ).view(B, num_samples, K)
        reward = (each - each.mean(1, keepdim=True)) / (num_samples - 1)
    # Of the sample rather than of the chosen point, which would be as exact and of more variance.
    total = logits.new_zeros(())
    for s in range(num_samples):
        nll = losses.mixture_nll(
            logits, maps.pos, bandwidth, samples[:, :, s], ptr=maps.ptr, reduction="none", validate=False
        )
        total = total - (reward[:, s] * nll).sum()
    (grad,) = torch.autograd.grad(total, logits)
    return grad / maps.visible.sum().clamp(min=1)


def exact(maps: Maps, norm: Norm) -> Tensor:
    """The gradient of Eq. 4."""
    logits = maps.logits.detach().requires_grad_()
    options = losses.Options(ptr=maps.ptr, visible=maps.visible, validate=False)
    loss = losses.discrete_expected_error(logits, maps.pos, maps.target, norm=norm, sigma=_SIGMA, **options)
    return torch.autograd.grad(loss, logits)[0]


def exact_of_mixture(maps: Maps, norm: Norm) -> Tensor:
    """The gradient of Eq. 3: the distances are means over the points' bases."""
    logits = maps.logits.detach().requires_grad_()
    sigma = pcsa.knn_bandwidth(maps.pos, ptr=maps.ptr)
    if norm == "bounded":
        options = losses.Options(ptr=maps.ptr, visible=maps.visible, validate=False)
        loss = losses.mixture_expected_error(logits, maps.pos, sigma, maps.target, norm=norm, sigma=_SIGMA, **options)
        return torch.autograd.grad(loss, logits)[0]
    # In three dimensions the mean length of a normal vector has a closed form.
    out = torch.zeros_like(logits)
    for b, (first, end) in enumerate(zip(maps.ptr[:-1].tolist(), maps.ptr[1:].tolist(), strict=True)):
        inside = slice(first, end)
        z = (maps.pos[inside, None] - maps.target[b]).norm(dim=-1) / sigma[inside, None]
        z = z.clamp(min=1e-3)
        mean = math.sqrt(2 / math.pi) * (-z.square() / 2).exp() + (z + 1 / z) * torch.erf(z * math.sqrt(0.5))
        cost = mean * sigma[inside, None]
        prob = maps.logits[inside].softmax(0)
        out[inside] = prob * (cost - (prob * cost).sum(0)) * maps.visible[b]
    return out / maps.visible.sum()


class Quality(NamedTuple):
    """What is said of estimates, each value with its standard error."""

    bias: tuple[float, float]
    """Length of the mean's error, over that of the exact gradient."""
    bias_of_choice: tuple[float, float]
    """The same, but of the error against the exact gradient of Eq. 3: without what the width of the bases does."""
    spread: tuple[float, float]
    """Standard deviation of an estimate, over the length of the exact gradient."""
    cosine: tuple[float, float]
    """Cosine of an estimate with the exact gradient, on average."""


def quality(estimates: Tensor, truth: Tensor, of_mixture: Tensor) -> Quality:
    """Compare estimates ``[R, n]`` with the gradients ``[n]`` of Eq. 4 and of Eq. 3."""
    estimates, truth, of_mixture = estimates.double(), truth.double(), of_mixture.double()
    length, other = truth.norm(), of_mixture.norm()

    def of(part: Tensor) -> tuple[float, float, float]:
        variance, mean = part.var(0).sum(), part.mean(0)
        # The mean's own noise is not bias.
        squared = [((mean - x).square().sum() - variance / len(part)).item() for x in (truth, of_mixture)]
        return squared[0] / length.item() ** 2, squared[1] / other.item() ** 2, (variance.sqrt() / length).item()

    parts = torch.arange(len(estimates)) % _PARTS
    left_out = np.array([of(estimates[parts != i]) for i in range(_PARTS)])
    errors = np.sqrt((_PARTS - 1) / _PARTS * ((left_out - left_out.mean(0)) ** 2).sum(0))
    *squared, spread = of(estimates)
    cosine = (estimates @ truth) / (estimates.norm(dim=1) * length).clamp(min=1e-300)
    return Quality(
        _root(squared[0], errors[0]),
        _root(squared[1], errors[1]),
        (spread, errors[2]),
        (cosine.mean().item(), cosine.std().item() / len(cosine) ** 0.5),
    )


def _root(squared: float, error: float) -> tuple[float, float]:
    """Square root with its standard error; where the square is no more than its own, that is all that is known."""
    root = math.sqrt(max(squared, 0.0))
    return root, error / (2 * root) if squared > error else math.sqrt(error)


def measure(maps: Maps, estimate: Estimate, norm: Norm, repeats: int, num_samples: int, seed: int) -> Quality:
    """Take estimates of maps, as many copies of them at once as fit, and compare them with the exact gradient."""
    generator = torch.Generator().manual_seed(seed)
    many = max(1, min(repeats, _CHUNK // (maps.logits.numel() * num_samples)))
    N, found = len(maps.pos), []
    for begin in range(0, repeats, many):
        copies = min(many, repeats - begin)
        starts = (torch.arange(copies)[:, None] * N + maps.ptr[:-1]).flatten()
        copied = Maps(
            maps.logits.repeat(copies, 1),
            maps.pos.repeat(copies, 1),
            torch.cat([starts, torch.tensor([copies * N])]),
            maps.target.repeat(copies, 1, 1),
            maps.visible.repeat(copies, 1),
        )
        # The loss is a mean over all copies.
        found.append(copies * estimate(copied, norm, num_samples, generator).view(copies, -1))
    return quality(torch.cat(found), exact(maps, norm).flatten(), exact_of_mixture(maps, norm).flatten())


def given_maps(config: EstimatorsConfig) -> Iterator[tuple[str, Maps]]:
    """Maps of one keypoint on one chair: Gaussians of several widths, a little off, and one of two peaks."""
    rng, generator = np.random.default_rng(config.seed), torch.Generator().manual_seed(config.seed)
    cloud = sample_shape(make_shape("chair", rng), config.num_points, rng)
    pos = torch.from_numpy(np.asarray(cloud.points)).float()
    pos = pos - pos.mean(0)
    pos = pos / pos.norm(dim=1).max()
    target = pos[(pos @ torch.tensor([1.0, 1.0, 1.0])).argmax()]
    away = (pos - target).norm(dim=1)
    near = pos[(away - 0.15).abs().argmin()]
    other = pos[(pos - target * torch.tensor([-1.0, 1.0, 1.0])).norm(dim=1).argmin()]
    rough = torch.randn(config.num_points, generator=generator) / 2

    def bell(center: Tensor, width: float) -> Tensor:
        return -(pos - center).square().sum(1) / (2 * width**2)

    ptr, visible = torch.tensor([0, config.num_points]), torch.ones(1, 1, dtype=torch.bool)
    for name, logits in {
        "flat": bell(near, 1.0),
        "wide": bell(near, 0.3),
        "peaked": bell(near, 0.1),
        "two peaks": torch.logaddexp(bell(near, 0.07) + math.log(0.6), bell(other, 0.07) + math.log(0.4)),
    }.items():
        scores = (logits + rough).unsqueeze(1)
        prob = scores.softmax(0)
        entropy = -(prob * scores.log_softmax(0)).sum()
        yield (
            f"{name}: as many as {entropy.exp():.0f} equal points",
            Maps(scores, pos, ptr, target.view(1, 1, 3), visible),
        )


def estimators() -> dict[str, Estimate]:
    """What is measured on given maps."""
    relaxed = SamplerConfig(tempering="logits")
    through = SamplerConfig(estimator="straight_through")
    return {
        **{f"relaxed, τ = {tau:g}": sampled(relaxed, tau) for tau in (1.0, 0.5, 0.2)},
        **{f"relaxed, noise over τ = {tau:g}": sampled(SamplerConfig(tempering="noise"), tau) for tau in (0.7, 0.3)},
        **{f"straight-through, τ = {tau:g}": sampled(through, tau) for tau in (1.0, 0.5, 0.2)},
        "ReinMax": sampled(SamplerConfig(estimator="reinmax"), 1.0),
        "implicit": sampled(SamplerConfig(estimator="implicit"), 1.0),
        "score function": score_function,
    }


def trained_maps(config: EstimatorsConfig, root: Path) -> Iterator[tuple[int, float, Maps]]:
    """Step, temperature and the maps of four held-out chairs, a few times along a training on chairs."""
    generate(root, "chair", 100, num_points=config.num_points, seed=config.seed)
    training_config = SupervisedConfig(
        data=SupervisedData(root=root, category="chair"),
        model=DetectorConfig(out_channels=64),
        optimizer=OptimizerConfig(steps=config.steps),
        seed=config.seed,
        out=root / "run",
    )
    training = get_task("supervised").training(training_config)
    module, data = training.module, training.data
    clouds = open_annotated(training_config.data, "test")
    held_out = Batch.from_data_list([normalized(clouds[i]) for i in range(4)])
    network, (start, end) = module.network, (0.7, 0.3)
    optimizer = torch.optim.Adam(network.parameters(), lr=training_config.optimizer.lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.steps)
    generator = torch.Generator().manual_seed(config.seed)
    watched = {0, config.steps // 8, config.steps // 4, config.steps // 2, config.steps}
    for step in range(config.steps + 1):
        temperature = start + (end - start) * step / config.steps
        if step in watched:
            network.eval()
            with torch.no_grad():
                logits = network(None, held_out.pos, ptr=held_out.ptr)["logits"]
            network.train()
            yield step, temperature, Maps(logits, held_out.pos, held_out.ptr, held_out.keypoints, held_out.visible)
        chosen = torch.randint(len(data.train_items), (8,), generator=generator).tolist()
        batch = Batch.from_data_list([data.train_items.varied(i, generator) for i in chosen])
        optimizer.zero_grad()
        module.loss(batch, temperature, generator)[0].backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()


def main(argv: list[str]) -> int:
    """Parse options, measure, print the tables."""
    config = tyro.cli(EstimatorsConfig, args=argv, prog="pcsa bench estimators")
    if config.markdown is not None:
        split_page(config.markdown)
    text = "\n\n".join(tables(config))
    print(text)
    if config.markdown is not None:
        write_between_marks(text, config.markdown)
        print(f"written: {config.markdown}")
    return 0


def tables(config: EstimatorsConfig) -> Iterator[str]:
    """Measure one part after the other, each as Markdown."""
    norms: tuple[Norm, ...] = ("l2", "bounded")
    heads = ["gradient", *(f"{norm}: {what}" for norm in norms for what in _COLUMNS)]
    for name, maps in given_maps(config):
        rows = [["Eq. 3, exact", *(cell for norm in norms for cell in _of_mixture(maps, norm))]]
        for title, estimate in estimators().items():
            found = [measure(maps, estimate, n, config.repeats, config.num_samples, config.seed) for n in norms]
            rows.append([title, *(cell for one in found for cell in _cells(one))])
        log(f"{name}: measured")
        yield f"### A map that is {name}\n\n{markdown_table(heads, rows)}"
    if config.steps:
        rows = []
        with tempfile.TemporaryDirectory() as folder:
            for step, temperature, maps in trained_maps(config, Path(folder)):
                rows += list(_rows_of_step(config, step, temperature, maps))
                log(f"step {step}: measured")
        heads = ["step", "τ", "error of the expectation", "gradient", *_COLUMNS]
        yield f"### Along a training, l2\n\n{markdown_table(heads, rows)}"


def _rows_of_step(config: EstimatorsConfig, step: int, temperature: float, maps: Maps) -> Iterator[list[str]]:
    position = pcsa.soft_argmax(maps.logits, maps.pos, ptr=maps.ptr)
    error = losses.position_error(position, maps.target, visible=maps.visible)
    known: Sequence[str] = (str(step), f"{temperature:.2f}", f"{error:.3f}")
    yield [*known, "Eq. 3, exact", *_of_mixture(maps, "l2")]
    for title, estimate in {
        "relaxed, noise over τ": sampled(SamplerConfig(tempering="noise"), temperature),
        "relaxed": sampled(SamplerConfig(tempering="logits"), temperature),
        "straight-through": sampled(SamplerConfig(estimator="straight_through"), temperature),
        "ReinMax": sampled(SamplerConfig(estimator="reinmax"), 1.0),
        "implicit": sampled(SamplerConfig(estimator="implicit"), 1.0),
        "score function": score_function,
    }.items():
        found = measure(maps, estimate, "l2", config.repeats // 5, config.num_samples, config.seed)
        yield [*known, title, *_cells(found)]


def _of_mixture(maps: Maps, norm: Norm) -> list[str]:
    truth, found = exact(maps, norm).flatten().double(), exact_of_mixture(maps, norm).flatten().double()
    cosine = torch.nn.functional.cosine_similarity(truth, found, 0)
    return [f"{(found - truth).norm() / truth.norm():.3f}", "0", "0", f"{cosine:.3f}"]


def _cells(found: Quality) -> list[str]:
    return [_with_error(*value) for value in found]


def _with_error(value: float, error: float) -> str:
    """Write a value with as many digits as its error has one of, and at least two behind the point."""
    digits = min(4, max(2, -math.floor(math.log10(error)))) if 0 < error < 1 else 2
    return f"{value:.{digits}f} ± {error:.{digits}f}"
