"""Objectives on maps against sums written out by hand, and where the cells of maps lie."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from pcsa import grid
from pcsa.datasets.procedural import Faces
from pcsa.tasks import get_task
from pcsa.tasks.common.map_task import MapTask
from pcsa.tasks.common.maps import MapObjectiveConfig, as_points, map_loss, strides
from pcsa.tasks.landmarks import LandmarksConfig, LandmarksData
from pcsa.tasks.oct import OctConfig, OctData


@pytest.fixture
def maps():
    """Two items, three keypoints, four rows and five columns; targets in index units, the last of item 1 hidden."""
    generator = torch.Generator().manual_seed(0)
    maps = 2 * torch.randn(2, 3, 4, 5, generator=generator, dtype=torch.float64)
    target = torch.rand(2, 3, 2, generator=generator, dtype=torch.float64) * torch.tensor([4.0, 3.0])
    visible = torch.tensor([[True, True, True], [True, True, False]])
    return maps, target, visible


UNIT = 2 / 5  # the longest axis has five cells, and is two long


def _norm(offset, norm):
    away = np.abs(offset)
    return {"l1": away.sum(-1), "l2": np.sqrt((away**2).sum(-1)), "squared": (away**2).sum(-1)}[norm]


def _maps_by_hand(maps, target, visible):
    """Of every visible keypoint: probabilities, cells' positions and target, all of them in units of the loss."""
    where = UNIT * np.array([(x, y) for y in range(4) for x in range(5)], dtype=float)
    for b, k in visible.nonzero().tolist():
        scores = maps[b, k].detach().numpy().reshape(-1)
        prob = np.exp(scores - scores.max())
        yield prob / prob.sum(), where, UNIT * target[b, k].numpy()


def _by_hand(method, norm, maps, target, visible):
    losses = []
    for prob, where, true in _maps_by_hand(maps, target, visible):
        if method == "soft":
            value = _norm(prob @ where - true, norm)
        elif method == "discrete":
            value = prob @ _norm(where - true, norm)
        elif method == "mixture" and norm == "squared":
            # The spread of a Gaussian of one cell's width, on two axes, comes on top of every cell's distance.
            value = prob @ (_norm(where - true, norm) + 2 * UNIT**2)
        elif method == "mixture":
            # By quadrature, axis by axis.
            z = np.linspace(-8, 8, 20001)
            density = np.exp(-z * z / 2) / math.sqrt(2 * math.pi) * (z[1] - z[0])
            value = sum(
                p * (np.abs(y - t + UNIT * z) @ density)
                for p, cell in zip(prob, where, strict=True)
                for y, t in zip(cell, true, strict=True)
            )
        elif method == "nll":
            squared = ((where - true) ** 2).sum(-1)
            value = -math.log(prob @ (np.exp(-squared / (2 * UNIT**2)) / (2 * math.pi * UNIT**2)))
        else:
            value = -math.log(prob[((where - true) ** 2).sum(-1).argmin()])
        losses.append(value)
    return np.mean(losses)


def _loss(config, maps, target, visible, temperature=0.5, seed=3):
    return map_loss(config, maps, target, visible, temperature, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("method", "norm"),
    [
        *((m, n) for m in ("soft", "discrete") for n in ("l1", "l2", "squared")),
        *(("mixture", n) for n in ("l1", "squared")),
        *(("nll", "l2"), ("cross_entropy", "l2")),
    ],
)
def test_objective_by_hand(maps, method, norm):
    maps, target, visible = maps
    maps.requires_grad_()
    loss, parts = _loss(MapObjectiveConfig(method=method, norm=norm), maps, target, visible)
    assert loss.item() == pytest.approx(_by_hand(method, norm, maps, target, visible), rel=1e-6)
    assert parts.keys() == {"localization"}
    assert parts["localization"].item() == loss.item()
    loss.backward()
    assert maps.grad.isfinite().all()
    assert maps.grad[0].abs().amax((1, 2)).min() > 0
    assert not maps.grad[1, 2].any()


@pytest.mark.parametrize("norm", ["l1", "l2", "squared"])
@pytest.mark.parametrize("basis", ["triangular", "uniform", "gaussian"])
def test_samples_objective_by_hand(maps, basis, norm):
    maps, target, visible = maps
    config = MapObjectiveConfig(basis=basis, norm=norm, num_samples=7, tempering="logits")
    loss, _ = _loss(config, maps, target, visible)
    generator = torch.Generator().manual_seed(3)
    samples = grid.sampling_argmax(maps, basis, num_samples=7, temperature=0.5, generator=generator)
    away = _norm(UNIT * (samples - target[:, :, None]).numpy(), norm).mean(-1)
    assert loss.item() == pytest.approx(away[visible.numpy()].mean(), rel=1e-9)
    # softmax((t l + g) / t) = softmax(l + g / t): only the noise is tempered.
    single = (maps.float(), target.float(), visible)
    tempered, _ = _loss(replace(config, tempering="noise"), *single)
    same, _ = _loss(config, maps.float() * 0.5, *single[1:])
    assert tempered.item() == pytest.approx(same.item(), rel=1e-6)
    assert tempered.item() != pytest.approx(_loss(config, *single)[0].item(), rel=1e-3)


def test_released_form_is_the_authors_and_never_tempered_twice(maps):
    maps, target, visible = maps
    for tempering in ("logits", "noise"):
        config = MapObjectiveConfig(basis="triangular", form="released", norm="l1", num_samples=4, tempering=tempering)
        loss, _ = _loss(config, maps, target, visible)
        generator = torch.Generator().manual_seed(3)
        samples = grid.sampling_argmax(maps, num_samples=4, temperature=0.5, form="released", generator=generator)
        away = UNIT * (samples - target[:, :, None]).abs().sum(-1).mean(-1)
        assert loss.item() == pytest.approx(away[visible].mean().item(), rel=1e-9)


def test_basis_noise_is_handed_on(maps):
    maps, target, visible = maps
    config = MapObjectiveConfig(basis="uniform", basis_noise="mixture", tempering="logits", num_samples=3)
    loss, _ = _loss(config, maps, target, visible)
    generator = torch.Generator().manual_seed(3)
    samples = grid.sampling_argmax(
        maps, "uniform", num_samples=3, temperature=0.5, basis_noise="mixture", generator=generator
    )
    away = UNIT * (samples - target[:, :, None]).norm(dim=-1).mean(-1)
    assert loss.item() == pytest.approx(away[visible].mean().item(), rel=1e-9)


@pytest.mark.parametrize("regularization", ["variance", "js"])
def test_regularizations_by_hand(maps, regularization):
    maps, target, visible = maps
    sigma = 1.5 * UNIT  # 1.5 cells
    expected = []
    for prob, where, _ in _maps_by_hand(maps, target, visible):
        mean = prob @ where
        if regularization == "variance":
            expected.append(((prob @ (where - mean) ** 2 - sigma**2) ** 2).sum())
        else:
            other = np.exp(-((where - mean) ** 2).sum(-1) / (2 * sigma**2))
            other /= other.sum()
            middle = (prob + other) / 2
            expected.append((prob @ np.log(prob / middle) + other @ np.log(other / middle)) / 2)
    config = MapObjectiveConfig(
        method="soft", regularization=regularization, regularization_weight=0.25, regularization_sigma=1.5
    )
    loss, parts = _loss(config, maps, target, visible)
    assert parts[regularization].item() == pytest.approx(np.mean(expected), rel=1e-6)
    assert parts["localization"].item() == pytest.approx(_by_hand("soft", "l2", maps, target, visible), rel=1e-6)
    assert loss.item() == pytest.approx(parts["localization"].item() + 0.25 * np.mean(expected), rel=1e-6)


def test_soft_labels_and_bounded_errors_by_hand(maps):
    # Their standard deviations are in cells.
    maps, target, visible = maps
    labels, errors = [], []
    for prob, where, true in _maps_by_hand(maps, target, visible):
        label = np.exp(-((where - true) ** 2).sum(-1) / (2 * (1.5 * UNIT) ** 2))
        labels.append(-(label / label.sum()) @ np.log(prob))
        errors.append(prob @ (1 - np.exp(-((where - true) ** 2).sum(-1) / (2 * (0.7 * UNIT) ** 2))))
    config = MapObjectiveConfig(
        method="soft_label", plus=(("discrete", 0.3),), norm="bounded", norm_sigma=0.7, label_sigma=1.5
    )
    loss, parts = _loss(config, maps, target, visible)
    assert parts["soft_label"].item() == pytest.approx(np.mean(labels), rel=1e-6)
    assert parts["discrete"].item() == pytest.approx(np.mean(errors), rel=1e-6)
    assert loss.item() == pytest.approx(np.mean(labels) + 0.3 * np.mean(errors), rel=1e-6)
    assert parts["localization"] == loss


def test_lengths_are_in_halves_of_the_longest_axis():
    # On a column of eight cells a target two cells from the one peak is 2 * 2 / 8 away; so on eight by eight.
    for shape in ((8,), (8, 8), (8, 4), (2, 8, 3)):
        maps = torch.full((1, 1, *shape), -1000.0)
        maps.view(-1)[0] = 0.0
        target = torch.zeros(1, 1, len(shape))
        target[..., -1 if shape[0] == 8 else 1] = 2.0  # along the longest axis, x first
        for config in (MapObjectiveConfig(method="soft", norm="l1"), MapObjectiveConfig(method="discrete")):
            loss, _ = _loss(config, maps, target, torch.ones(1, 1, dtype=torch.bool))
            assert loss.item() == pytest.approx(0.5)


EVERY_OBJECTIVE = [
    *(MapObjectiveConfig(method=m, norm="l1", num_samples=3) for m in ("soft", "discrete", "mixture", "nll")),
    MapObjectiveConfig(method="cross_entropy"),
    MapObjectiveConfig(method="soft_label", plus=(("sampling", 0.5), ("mixture", 2.0)), norm="bounded", num_samples=3),
    *(MapObjectiveConfig(basis=b, num_samples=3) for b in ("triangular", "uniform", "gaussian")),
    MapObjectiveConfig(basis="gaussian", form="released", num_samples=3),
    MapObjectiveConfig(basis="gaussian", estimator="implicit", num_samples=3),
    *(MapObjectiveConfig(method="soft", regularization=r) for r in ("variance", "js")),
]


def _name(config):
    return f"{config.method}-{config.basis}-{config.form}-{config.regularization}"


@pytest.mark.parametrize("config", EVERY_OBJECTIVE, ids=_name)
def test_what_an_invisible_keypoint_is_labeled_changes_nothing(maps, config):
    maps, target, visible = maps
    maps = maps.float().requires_grad_()
    target = target.float()
    results = []
    for garbage in (0.0, 1e30, math.nan, -math.inf):
        labeled = torch.where(visible[..., None], target, garbage)
        loss, _ = _loss(config, maps, labeled, visible)
        (gradient,) = torch.autograd.grad(loss, maps)
        assert loss.isfinite()
        assert gradient.isfinite().all()
        assert not gradient[1, 2].any()
        assert gradient[1, 1].any()
        results.append((loss, gradient))
    assert all(torch.equal(a, b) for result in results[1:] for a, b in zip(result, results[0], strict=True))


@pytest.mark.parametrize("config", EVERY_OBJECTIVE, ids=_name)
def test_nothing_visible_is_no_loss_and_no_gradient(maps, config):
    maps, target, visible = maps
    maps.requires_grad_()
    loss, parts = _loss(config, maps, target * math.nan, torch.zeros_like(visible))
    assert loss.item() == 0
    assert all(value.item() == 0 for value in parts.values())
    (gradient,) = torch.autograd.grad(loss, maps)
    assert torch.equal(gradient, torch.zeros_like(maps))


def test_strides_are_x_first():
    assert strides((96, 72), torch.zeros(1, 2, 24, 36)) == [2, 4]
    assert strides((32, 16, 8), torch.zeros(1, 2, 8, 8, 8)) == [1, 2, 4]
    with pytest.raises(ValueError, match="longer"):
        strides((96, 72), torch.zeros(1, 2, 8, 8, 8))


def test_maps_as_points():
    maps = torch.randn(2, 3, 4, 5, dtype=torch.float16)
    logits, pos = as_points(maps)
    assert logits.shape == (2, 20, 3)
    assert pos.shape == (2, 20, 2)
    assert pos.dtype == torch.float32  # 2049 is no half precision number
    x, y = 3, 2
    assert torch.equal(logits[1, 5 * y + x], maps[1, :, y, x])
    assert pos[1, 5 * y + x].tolist() == [x, y]


def test_splits_have_their_share():
    faces, scans = get_task("landmarks"), get_task("oct")
    config = LandmarksConfig(data=LandmarksData(num_images=25))
    assert [len(faces.items(config, split)) for split in ("train", "val", "test")] == [25, 2, 5]
    assert len(scans.items(OctConfig(data=OctData(num_scans=3)), "val")) == 1
    assert [MapTask.share(25, split) for split in ("train", "val", "test")] == [25, 2, 5]
    assert isinstance(faces.items(config, "val"), Faces)
