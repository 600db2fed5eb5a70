"""Objectives on maps, where maps put things, and short trainings of the four grid tasks."""

import csv
import dataclasses
import json
import math
import subprocess
import sys
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from pcsa import grid
from pcsa.datasets.crops import CropAugment
from pcsa.datasets.procedural import Faces
from pcsa.datasets.transforms import item_generator
from pcsa.grid_training import (
    CONFIGS,
    GridObjectiveConfig,
    GridOptimizerConfig,
    GridTraining,
    LandmarkModelConfig,
    LandmarksConfig,
    LandmarksData,
    OctConfig,
    OctData,
    Pose2dConfig,
    Pose2dData,
    Pose3dConfig,
    Pose3dData,
    PoseModelConfig,
    SurfaceModelConfig,
    as_points,
    build_network,
    coco_files,
    columns_of,
    depth_of,
    load_grid_network,
    locate,
    map_objective,
    open_items,
    strides,
    train_grid,
    trained_on,
)
from pcsa.models.simple_pose import SimplePose
from pcsa.models.surface_unet import SurfaceUNet
from pcsa.training import EpochSampler, TrainerConfig, from_plain, to_plain

STILL = CropAugment(flip=0.0, scale=0.0, rotation=0.0)


def _config(kind, data, model=None, **options):
    """Twelve items, batches of four: three steps an epoch."""
    values = {
        "objective": GridObjectiveConfig(num_samples=2),
        "optimizer": GridOptimizerConfig(steps=4, batch_size=4),
        "trainer": TrainerConfig(accelerator="cpu", progress=False, validate_every=1),
        **({} if model is None else {"model": model}),
        **options,
    }
    return kind(data=data, **values)


TASKS = {
    "pose2d": _config(Pose2dConfig, Pose2dData(input_size=(32, 24), num_images=12)),
    "pose3d": _config(Pose3dConfig, Pose3dData(input_size=(16, 16, 16), num_items=12)),
    "pose3d-image": _config(Pose3dConfig, Pose3dData(procedural="image", input_size=(16, 32, 24), num_items=12)),
    "pose3d-unet": _config(
        *(Pose3dConfig, Pose3dData(input_size=(16, 16, 16), num_items=12)),
        PoseModelConfig(network="unet", channels=(4, 8)),
    ),
    "oct": _config(OctConfig, OctData(input_size=(64, 16), num_scans=12), SurfaceModelConfig(channels=(4, 8))),
    "landmarks": _config(
        LandmarksConfig, LandmarksData(input_size=(32, 32), num_images=12), LandmarkModelConfig(channels=(8, 8))
    ),
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Trains a task once, when it is first asked for."""
    done = {}

    def get(name):
        if name not in done:
            config = dataclasses.replace(TASKS[name], out=tmp_path_factory.mktemp(name))
            done[name] = (config, train_grid(config))
        return done[name]

    return get


def _weights(path):
    return torch.load(path, weights_only=True)["state_dict"]


def _equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


# --- the objective


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
    return map_objective(config, maps, target, visible, temperature, torch.Generator().manual_seed(seed))


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
    loss, parts = _loss(GridObjectiveConfig(method=method, norm=norm), maps, target, visible)
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
    config = GridObjectiveConfig(basis=basis, norm=norm, num_samples=7, noise="paper")
    loss, _ = _loss(config, maps, target, visible)
    generator = torch.Generator().manual_seed(3)
    samples = grid.sampling_argmax(maps, basis, num_samples=7, temperature=0.5, generator=generator)
    away = _norm(UNIT * (samples - target[:, :, None]).numpy(), norm).mean(-1)
    assert loss.item() == pytest.approx(away[visible.numpy()].mean(), rel=1e-9)
    # softmax((t l + g) / t) = softmax(l + g / t): only the noise is tempered.
    single = (maps.float(), target.float(), visible)
    tempered, _ = _loss(dataclasses.replace(config, noise="released"), *single)
    same, _ = _loss(config, maps.float() * 0.5, *single[1:])
    assert tempered.item() == pytest.approx(same.item(), rel=1e-6)
    assert tempered.item() != pytest.approx(_loss(config, *single)[0].item(), rel=1e-3)


def test_released_form_is_the_authors_and_never_tempered_twice(maps):
    maps, target, visible = maps
    for noise in ("paper", "released"):
        config = GridObjectiveConfig(basis="triangular", form="released", norm="l1", num_samples=4, noise=noise)
        loss, _ = _loss(config, maps, target, visible)
        generator = torch.Generator().manual_seed(3)
        samples = grid.sampling_argmax(maps, num_samples=4, temperature=0.5, form="released", generator=generator)
        away = UNIT * (samples - target[:, :, None]).abs().sum(-1).mean(-1)
        assert loss.item() == pytest.approx(away[visible].mean().item(), rel=1e-9)


def test_basis_noise_is_handed_on(maps):
    maps, target, visible = maps
    config = GridObjectiveConfig(basis="uniform", basis_noise="mixture", noise="paper", num_samples=3)
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
    config = GridObjectiveConfig(
        method="soft", regularization=regularization, regularization_weight=0.25, regularization_sigma=1.5
    )
    loss, parts = _loss(config, maps, target, visible)
    assert parts[regularization].item() == pytest.approx(np.mean(expected), rel=1e-6)
    assert parts["localization"].item() == pytest.approx(_by_hand("soft", "l2", maps, target, visible), rel=1e-6)
    assert loss.item() == pytest.approx(parts["localization"].item() + 0.25 * np.mean(expected), rel=1e-6)


def test_lengths_are_in_halves_of_the_longest_axis():
    # On a column of eight cells a target two cells from the one peak is 2 * 2 / 8 away; so on eight by eight.
    for shape in ((8,), (8, 8), (8, 4), (2, 8, 3)):
        maps = torch.full((1, 1, *shape), -1000.0)
        maps.view(-1)[0] = 0.0
        target = torch.zeros(1, 1, len(shape))
        target[..., -1 if shape[0] == 8 else 1] = 2.0  # along the longest axis, x first
        for config in (GridObjectiveConfig(method="soft", norm="l1"), GridObjectiveConfig(method="discrete")):
            loss, _ = _loss(config, maps, target, torch.ones(1, 1, dtype=torch.bool))
            assert loss.item() == pytest.approx(0.5)


EVERY_OBJECTIVE = [
    *(GridObjectiveConfig(method=m, norm="l1", num_samples=3) for m in ("soft", "discrete", "mixture", "nll")),
    GridObjectiveConfig(method="cross_entropy"),
    *(GridObjectiveConfig(basis=b, num_samples=3) for b in ("triangular", "uniform", "gaussian")),
    GridObjectiveConfig(basis="gaussian", form="released", num_samples=3),
    *(GridObjectiveConfig(method="soft", regularization=r) for r in ("variance", "js")),
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


# --- where maps put things


def test_columns_are_items_of_their_own():
    values = torch.arange(24).view(2, 3, 4)  # two scans, three surfaces, four columns
    columns = columns_of(values)
    assert columns.shape == (8, 3)
    assert columns[0].tolist() == [0, 4, 8]
    assert columns[5].tolist() == [13, 17, 21]  # column 1 of scan 1
    maps = torch.arange(2 * 3 * 5 * 4).view(2, 3, 5, 4)
    columns = columns_of(maps)
    assert columns.shape == (8, 3, 5)
    assert torch.equal(columns[6], maps[1, :, :, 2])


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


class _Peaks(torch.nn.Module):
    """One-hot maps, whatever the input."""

    def __init__(self, shape, *peaks):
        super().__init__()
        self.maps = torch.full((1, len(peaks), *shape), -1000.0)
        for k, peak in enumerate(peaks):
            self.maps[(0, k, *peak)] = 0.0

    def forward(self, image):
        return {"logits": self.maps.expand(len(image), *self.maps.shape[1:])}


@pytest.mark.parametrize("read_out", ["expectation", "peak"])
def test_pixels_of_an_image(read_out):
    # Cell (y=1, x=2) with 4 by 2 pixels a cell: rows 4 to 7, columns 4 and 5; pixel centers are whole numbers.
    found = locate(_Peaks((3, 6), (1, 2), (0, 0)), torch.zeros(2, 3, 12, 12), read_out=read_out)
    torch.testing.assert_close(found.position, torch.tensor([[4.5, 5.5], [0.5, 1.5]]).expand(2, -1, -1))
    torch.testing.assert_close(found.peak, torch.ones(2, 2))
    assert found.maps.shape == (2, 2, 3, 6)


def test_voxels_of_a_volume():
    found = locate(_Peaks((4, 8, 2), (3, 7, 0)), torch.zeros(1, 1, 16, 16, 16))
    # z: cells of 4, the last is 12 to 15; y: of 2, the last is 14 and 15; x: of 8, the first is 0 to 7.
    torch.testing.assert_close(found.position, torch.tensor([[[3.5, 14.5, 13.5]]]))


def test_depth_of_an_image():
    found = locate(_Peaks((4, 8, 8), (1, 0, 7)), torch.zeros(1, 3, 16, 16), depth=64)
    # 16 pixels of depth a cell: the second is 16 to 31.
    torch.testing.assert_close(found.position, torch.tensor([[[14.5, 0.5, 23.5]]]))
    assert depth_of(Pose3dData(procedural="image", input_size=(64, 32, 24))) == 64
    assert depth_of(Pose3dData(root=Path("h36m"), input_size=(64, 32, 24))) == 64
    assert depth_of(Pose3dData(input_size=(16, 16, 16))) is None
    assert depth_of(Pose2dData()) is None


def test_where_a_network_puts_what_the_training_asks_of_it():
    # The way there, in training_step, and the way back, in locate, through maps of any stride.
    keypoints = torch.tensor([[[3.0, 20.0], [17.25, 0.5]]])
    shape = (8, 4)
    spacing = strides((32, 24), torch.zeros(1, 1, *shape))
    index = grid.to_index(keypoints, shape, frame="pixels", spacing=spacing)
    torch.testing.assert_close(grid.from_index(index, shape, frame="pixels", spacing=spacing), keypoints)
    assert index[0, 0].tolist() == pytest.approx([(3 + 0.5) / 6 - 0.5, (20 + 0.5) / 4 - 0.5])


class _Surfaces(SurfaceUNet):
    """Surfaces of given rows."""

    def __init__(self, rows, height):
        super().__init__(len(rows), channels=(4, 8))
        self.maps = torch.full((1, len(rows), height, rows.shape[1]), -1000.0)
        self.maps.scatter_(2, rows[None, :, None], 0.0)

    def forward(self, image):
        return {"logits": self.maps.expand(len(image), -1, -1, -1)}


def test_surfaces_come_in_order():
    rows = torch.tensor([[1, 2, 5], [3, 1, 4], [6, 6, 2]])  # columns 1 and 2 are not in order
    found = locate(_Surfaces(rows, 8), torch.zeros(2, 1, 8, 3))
    assert found.position.shape == found.peak.shape == (2, 3, 3)
    torch.testing.assert_close(found.position[1], torch.tensor([[1.0, 2, 5], [3, 2, 5], [6, 6, 5]]))
    torch.testing.assert_close(found.peak, torch.ones(2, 3, 3))


class _Mirrored(torch.nn.Module):
    """Three keypoints, the first two a pair: mirroring the input mirrors the maps, if the filters are symmetric."""

    def __init__(self, symmetric):
        super().__init__()
        filters = torch.randn(3, 3, 3, 3, generator=torch.Generator().manual_seed(1))
        if symmetric:
            filters[1] = filters[0].flip(-1)
            filters[2] = filters[2] + filters[2].flip(-1)
        self.filters = filters

    def forward(self, image):
        return {"logits": torch.nn.functional.conv2d(image, self.filters, padding=1)}


def test_flip_test_changes_nothing_of_a_network_that_is_symmetric():
    image = torch.rand(2, 3, 6, 8, generator=torch.Generator().manual_seed(0))
    plain = locate(_Mirrored(True), image)
    tested = locate(_Mirrored(True), image, flip_pairs=[(0, 1)])
    torch.testing.assert_close(tested.position, plain.position, rtol=0, atol=1e-4)
    torch.testing.assert_close(tested.peak, plain.peak)
    # Without the pair it does: the sides are exchanged.
    assert (locate(_Mirrored(True), image, flip_pairs=[]).position - plain.position).abs().max() > 0.1


def test_flip_test_is_the_mean_of_two_maps():
    image = torch.rand(1, 3, 6, 8, generator=torch.Generator().manual_seed(0))
    network = _Mirrored(False)
    found = locate(network, image, flip_pairs=[(0, 1)])
    one = network(image)["logits"][0].flatten(1).softmax(1).view(3, 6, 8).numpy()
    other = network(torch.from_numpy(image.numpy()[..., ::-1].copy()))["logits"][0].flatten(1).softmax(1).view(3, 6, 8)
    other = other.numpy()[[1, 0, 2], :, ::-1]
    mean = (one + other) / 2
    np.testing.assert_allclose(found.maps[0].exp().numpy(), mean, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(found.position[0, :, 0], (mean * np.arange(8)).sum((1, 2)), rtol=1e-4)
    np.testing.assert_allclose(found.position[0, :, 1], (mean * np.arange(6)[:, None]).sum((1, 2)), rtol=1e-4)
    np.testing.assert_allclose(found.peak[0], mean.max((1, 2)), rtol=1e-4)


# --- trainings


@pytest.mark.parametrize("name", TASKS)
def test_every_task_trains_and_loads(trained, name):
    config, path = trained(name)
    stored = torch.load(path, weights_only=True)
    assert stored["global_step"] == 4
    assert stored["pcsa"] == json.loads((config.out / "config.json").read_text())
    network, loaded, about = load_grid_network(path)
    assert loaded == config
    assert type(loaded) is type(config)
    assert about["kind"] == f"pcsa {name.split('-')[0]}"
    assert not network.training
    items = open_items(config.data, "train")
    assert about["names"] == list(items.names)
    assert about["pairs"] == [list(pair) for pair in getattr(items, "pairs", ())]
    state = {f"network.{key}": value for key, value in network.state_dict().items()}
    assert _equal(state, {key: value for key, value in stored["state_dict"].items() if key.startswith("network.")})
    # They are what was trained, not what the network started with.
    L.seed_everything(config.seed, verbose=False)
    fresh = build_network(config, items.num_keypoints)
    assert not _equal(dict(fresh.state_dict()), network.state_dict())
    with (config.out / "log" / "version_0" / "metrics.csv").open() as file:
        errors = [float(row["val_error"]) for row in csv.DictReader(file) if row["val_error"]]
    assert len(errors) == 2
    assert all(0 < error < max(config.data.input_size) for error in errors)


@pytest.mark.parametrize("name", TASKS)
def test_validation_error_is_in_pixels_of_the_input(trained, name):
    config, path = trained(name)
    network, _, _ = load_grid_network(path)
    items = open_items(config.data, "val")
    away = []
    for i in range(len(items)):
        item = items[i]
        found = locate(network, item["image"][None], depth=depth_of(config.data)).position[0]
        if name == "oct":
            away += (found - item["boundaries"]).abs()[item["visible"]].tolist()
        else:
            away += (found - item["keypoints"]).norm(dim=-1)[item["visible"]].tolist()
    with (config.out / "log" / "version_0" / "metrics.csv").open() as file:
        last = [float(row["val_error"]) for row in csv.DictReader(file) if row["val_error"]][-1]
    assert last == pytest.approx(np.mean(away), rel=1e-3)


@pytest.mark.parametrize("kind", CONFIGS)
def test_configurations_survive_json(kind, tmp_path):
    config = CONFIGS[kind](out=tmp_path)
    if kind == "pose2d":
        # Relative to the root, wherever one stands.
        named = {"root": tmp_path, "annotations": "a.json", "images": ".", "val_annotations": "../b.json"}
        config = dataclasses.replace(config, data=dataclasses.replace(config.data, **named))
    assert from_plain(CONFIGS[kind], json.loads(json.dumps(to_plain(config)))) == config


def test_same_seed_same_weights_other_seed_others(trained, tmp_path):
    config, path = trained("landmarks")
    again = train_grid(dataclasses.replace(config, out=tmp_path / "again"))
    assert _equal(_weights(path), _weights(again))
    other = train_grid(dataclasses.replace(config, out=tmp_path / "other", seed=1))
    assert not _equal(_weights(path), _weights(other))


def test_worker_processes_change_nothing(trained, tmp_path):
    config, path = trained("landmarks")
    trainer = dataclasses.replace(config.trainer, num_workers=1, validate_every=10)
    again = train_grid(dataclasses.replace(config, trainer=trainer, out=tmp_path))
    weights = _weights(again)
    assert _equal({key: _weights(path)[key] for key in weights}, weights)


@pytest.mark.parametrize("schedule", [{}, {"schedule": "milestones", "milestones": (1, 2)}], ids=["default", "steps"])
def test_killed_run_resumes_to_the_same_weights(trained, tmp_path, monkeypatch, schedule):
    config, _ = trained("landmarks")
    optimizer = dataclasses.replace(config.optimizer, steps=8, **schedule)
    config = dataclasses.replace(config, optimizer=optimizer)
    whole = train_grid(dataclasses.replace(config, out=tmp_path / "whole"))
    step = GridTraining.training_step

    def dies(self, batch, batch_idx):
        if self.global_step == 5:  # in the middle of the second epoch
            raise RuntimeError("power cut")
        return step(self, batch, batch_idx)

    monkeypatch.setattr(GridTraining, "training_step", dies)
    killed = dataclasses.replace(config, out=tmp_path / "killed")
    with pytest.raises(RuntimeError, match="power cut"):
        train_grid(killed)
    assert torch.load(tmp_path / "killed" / "last.ckpt", weights_only=True)["global_step"] == 3
    monkeypatch.undo()
    resumed = train_grid(dataclasses.replace(killed, resume=True))
    assert torch.load(resumed, weights_only=True)["global_step"] == 8
    assert _equal(_weights(whole), _weights(resumed))


def test_resuming_with_another_objective_raises(trained):
    config, _ = trained("landmarks")
    other = dataclasses.replace(config, objective=GridObjectiveConfig(method="soft"), resume=True)
    with pytest.raises(ValueError, match="`objective`"):
        train_grid(other)


def test_a_run_is_never_overwritten(trained):
    config, path = trained("landmarks")
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match=r"last\.ckpt"):
        train_grid(config)
    assert path.read_bytes() == before


def test_epochs_milestones_and_the_temperature(tmp_path):
    # Three steps an epoch: two epochs; a tenth of the rate after the first; the temperature falls within the first.
    config = dataclasses.replace(
        TASKS["landmarks"],
        optimizer=GridOptimizerConfig(epochs=2, batch_size=4, lr=0.01, schedule="milestones", milestones=(1,)),
        objective=GridObjectiveConfig(
            num_samples=1, temperature="linear", temperature_start=2.0, temperature_end=0.5, temperature_epochs=1
        ),
        out=tmp_path,
    )
    seen = []

    class Watched(GridTraining):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            seen.append((self.optimizers().param_groups[0]["lr"], self.temperature.value))
            return loss

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pcsa.grid_training.GridTraining", Watched)
        path = train_grid(config)
    assert torch.load(path, weights_only=True)["global_step"] == 6
    assert [rate for rate, _ in seen] == pytest.approx([0.01] * 3 + [0.001] * 3)
    temperatures = [temperature for _, temperature in seen]
    assert temperatures[0] == 2.0
    assert temperatures[3:] == [0.5] * 3
    assert temperatures[0] > temperatures[1] > temperatures[2] >= 0.5


@pytest.mark.parametrize("name", ["pose3d-image", "oct"])
def test_bfloat16_trains_to_finite_weights(name, tmp_path):
    config = TASKS[name]
    trainer = dataclasses.replace(config.trainer, precision="bf16-mixed")
    optimizer = dataclasses.replace(config.optimizer, steps=2)
    weights = _weights(train_grid(dataclasses.replace(config, trainer=trainer, optimizer=optimizer, out=tmp_path)))
    assert all(value.isfinite().all() for value in weights.values())
    assert {value.dtype for value in weights.values()} == {torch.float32, torch.int64}


@pytest.mark.slow
def test_two_processes_step_along_the_mean_of_their_gradients(tmp_path):
    flags = f"""train landmarks small --data.num-images 12 --data.input-size 32 32 --model.channels 8 8
        --objective.method soft --optimizer.steps 1 --optimizer.batch-size 4 --optimizer.clip 0 --out {tmp_path}
        --trainer.accelerator cpu --trainer.no-progress --trainer.devices 2 --trainer.strategy ddp""".split()
    done = subprocess.run(
        [sys.executable, "-m", "pcsa.scripts.cli", *flags], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.count("trained:") == 1
    network, config, _ = load_grid_network(tmp_path / "last.ckpt")
    # By hand. Normalization is over each process's own items, so that one process with all of them steps elsewhere.
    items = open_items(config.data, "train")
    L.seed_everything(config.seed, verbose=False)
    module = GridTraining(config, "landmarks", items, 1, 3)
    module.log_step = lambda *_: None
    module.begin_step = lambda: (1.0, torch.Generator())
    before = {name: value.detach().clone() for name, value in module.network.named_parameters()}
    for rank in (0, 1):
        keys = list(EpochSampler(12, config.seed, lambda: 0, rank, 2, 4))[:2]
        batch = default_collate([items.augmented(index, item_generator(config.seed, 0, index)) for _, index in keys])
        (module.training_step(batch, 0) / 2).backward()
    right = total = 0
    after = dict(network.named_parameters())
    for name, parameter in module.network.named_parameters():
        # Adam's first step is as long everywhere, against the sign of the gradient; rounding may turn a tiny one.
        sure = parameter.grad.abs() > 1e-3 * parameter.grad.abs().max()
        right += int(((after[name] - before[name])[sure] * parameter.grad[sure] < 0).sum())
        total += int(sure.sum())
    assert total > 1000
    assert right / total > 0.995


@pytest.mark.slow
@pytest.mark.parametrize("method", ["soft", "sampling"])
def test_four_faces_are_learned_by_heart(tmp_path, method):
    config = LandmarksConfig(
        data=LandmarksData(input_size=(32, 32), num_images=4, augment=STILL),
        model=LandmarkModelConfig(channels=(8, 16)),
        objective=GridObjectiveConfig(
            **{"method": method, "norm": "l2", "noise": "paper", "num_samples": 10},
            **{"temperature": "linear", "temperature_start": 2.0, "temperature_end": 0.5},
        ),
        optimizer=GridOptimizerConfig(steps=300, batch_size=4, lr=1e-2),
        trainer=TrainerConfig(accelerator="cpu", progress=False, validate_every=1000, save_every=1000),
        out=tmp_path,
    )
    items = open_items(config.data, "train")
    batch = default_collate([items[i] for i in range(4)])

    def error(network):
        away = (locate(network, batch["image"]).position - batch["keypoints"]).norm(dim=-1)
        return away[batch["visible"]].mean().item()

    L.seed_everything(0, verbose=False)
    untrained = error(build_network(config, items.num_keypoints).eval())
    network, _, _ = load_grid_network(train_grid(config))
    assert untrained > 4
    assert error(network) < 0.25 * untrained


# --- networks


def test_networks_that_configurations_describe():
    def shape(config, image):
        network = build_network(config, 5).eval()
        with torch.no_grad():
            return tuple(network(image)["logits"].shape)

    # 64 pixels of depth in 16 cells, 4 pixels a cell on the other axes.
    assert shape(
        Pose3dConfig(data=Pose3dData(procedural="image", input_size=(64, 32, 24))), torch.rand(1, 3, 32, 24)
    ) == (1, 5, 16, 8, 6)
    assert shape(Pose3dConfig(data=Pose3dData(input_size=(16, 16, 16))), torch.rand(1, 1, 16, 16, 16)) == (
        *(1, 5),
        *(8, 8, 8),
    )
    published = Pose2dConfig(data=Pose2dData(input_size=(64, 32)), model=PoseModelConfig(layers="18"))
    assert shape(published, torch.rand(1, 3, 64, 32)) == (1, 5, 16, 8)
    one = Pose2dConfig(data=Pose2dData(input_size=(64, 32)), model=PoseModelConfig(deconv=(8,)))
    assert shape(one, torch.rand(1, 3, 64, 32)) == (1, 5, 8, 4)


def test_weights_are_read_where_a_training_begins_and_not_where_its_checkpoint_is_read(tmp_path):
    base = SimplePose(17, layers=18, deconv=(8, 8, 8))
    config = dataclasses.replace(
        TASKS["pose2d"],
        model=PoseModelConfig(layers="18", deconv=(8, 8, 8), weights=tmp_path / "resnet18.pth"),
        optimizer=GridOptimizerConfig(steps=1, batch_size=2),
        out=tmp_path / "out",
    )
    with pytest.raises(FileNotFoundError, match=r"resnet18\.pth"):
        train_grid(config)
    torch.save(base.state_dict(), config.model.weights)
    with pytest.raises(ValueError, match=r"resnet18\.pth"):
        train_grid(config)
    assert not config.out.exists()


# --- mistakes


@pytest.mark.parametrize(
    ("task", "section", "values", "message"),
    [
        ("pose2d", "data", {"num_images": 0}, r"`data.num-images` \(=0\) must be at least 1"),
        ("pose3d", "data", {"num_items": 0}, r"`data.num-items` \(=0\) must be at least 1"),
        ("oct", "data", {"num_scans": -1}, r"`data.num-scans` \(=-1\) must be at least 1"),
        ("landmarks", "data", {"num_images": 0}, r"`data.num-images` \(=0\) must be at least 1"),
        ("landmarks", "data", {"num_test": 0}, r"`data.num-test` \(=0\) must be at least 1"),
        ("pose2d", "data", {"input_size": (96, 0)}, r"`data.input-size` \(=\(96, 0\)\) must be positive"),
        ("pose3d", "data", {"input_size": (-4, 8, 8)}, r"`data.input-size` \(=\(-4, 8, 8\)\) must be positive"),
        ("oct", "optimizer", {"epochs": 0}, r"`optimizer.epochs` \(=0\) must be at least 1"),
        ("oct", "optimizer", {"steps": 0}, r"`optimizer.steps` \(=0\) must be at least 1"),
        ("oct", "optimizer", {"batch_size": 0}, r"`optimizer.batch-size` \(=0\)"),
        ("oct", "optimizer", {"lr": math.inf}, r"`optimizer.lr` \(=inf\) must be positive and finite"),
        ("oct", "optimizer", {"milestones": (1,)}, r"`optimizer.milestones` \(=\(1,\)\) must be .* none with '"),
        ("oct", "optimizer", {"schedule": "milestones"}, r"`optimizer.milestones` \(=\(\)\) must be rising epochs"),
        (
            *("oct", "optimizer", {"schedule": "milestones", "milestones": (3, 2)}),
            r"`optimizer.milestones` \(=\(3, 2\)\) must be rising epochs",
        ),
        ("oct", "data", {"layout": "mshc"}, r"`data.layout` \(='mshc'\) must come with `data.root`"),
        ("oct", "data", {"root": Path("a"), "train_columns": (0, 9)}, "must be given both or neither"),
        ("oct", "data", {"train_columns": (0, 9), "test_columns": (9, 12)}, "with a `data.root` of scans as arrays"),
        (
            *("oct", "data", {"root": Path("a"), "train_columns": (0, 9), "test_columns": (8, 12)}),
            r"`data.test-columns` \(=\(8, 12\)\) must have no column of `data.train-columns`",
        ),
        ("oct", "objective", {"form": "released"}, r"`objective.form` \(='released'\) must be 'paper' for surfaces"),
        ("pose2d", "objective", {"form": "released", "basis_noise": "mixture"}, "`objective.basis-noise`"),
        ("pose2d", "data", {"layout": "lsp"}, r"`data.layout` \(='lsp'\) must come with `data.root`"),
        ("pose2d", "data", {"annotations": "x.json"}, r"`data.annotations` \(='x.json'\) must come with a `data.root`"),
        ("pose2d", "model", {"weights": Path("r.pth")}, r"`model.weights` \(='r.pth'\) must come with"),
        (
            *("oct", "optimizer", {"schedule": "milestones", "milestones": (-1, 2)}),
            r"`optimizer.milestones` \(=\(-1, 2\)\) must be rising epochs",
        ),
        (
            *("oct", "optimizer", {"schedule": "milestones", "milestones": (2, 2)}),
            r"`optimizer.milestones` \(=\(2, 2\)\) must be rising epochs",
        ),
        ("oct", "objective", {"temperature_epochs": 0.0}, r"`objective.temperature-epochs` \(=0.0\) must be positive"),
        ("oct", "objective", {"temperature_start": -1.0}, r"`objective.temperature-start` \(=-1.0\)"),
        ("oct", "objective", {"num_samples": 0}, r"`objective.num-samples` \(=0\)"),
        ("oct", "objective", {"regularization_sigma": 0.0}, r"`objective.regularization-sigma` \(=0.0\)"),
        ("oct", "objective", {"regularization_weight": -1.0}, r"`objective.regularization-weight` \(=-1.0\)"),
        ("oct", "objective", {"method": "mixture", "norm": "l2"}, r"`objective.norm` \(='l2'\) has no closed form"),
        ("pose3d-image", "model", {"network": "unet"}, r"`model.network` \(='unet'\) must be 'simple_pose' for images"),
        ("oct", "trainer", {"devices": 3}, r"`optimizer.batch-size` \(=4\) must be a multiple"),
    ],
)
def test_rules_of_a_configuration(task, section, values, message):
    config = TASKS[task]
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(config, **{section: dataclasses.replace(getattr(config, section), **values)})


def test_items_that_cannot_be_opened(tmp_path):
    boxes = tmp_path / "boxes.json"
    for data in (Pose2dData(), LandmarksData(root=tmp_path), Pose2dData(root=tmp_path, layout="lsp")):
        with pytest.raises(ValueError, match=r"`detections` \(='.*boxes\.json'\) must come with a `root` in COCO"):
            open_items(data, "val", detections=boxes)
    for data in (
        Pose2dData(root=tmp_path / "none"),
        Pose2dData(root=tmp_path / "none", layout="lsp"),
        Pose3dData(root=tmp_path / "none"),
        OctData(root=tmp_path / "none"),
        OctData(root=tmp_path / "none", layout="mshc"),
        LandmarksData(root=tmp_path / "none"),
    ):
        with pytest.raises(FileNotFoundError, match="none"):
            open_items(data, "train")


def test_splits_have_their_share():
    data = LandmarksData(num_images=25)
    assert [len(open_items(data, split)) for split in ("train", "val", "test")] == [25, 2, 5]
    assert len(open_items(OctData(num_scans=3), "val")) == 1
    assert isinstance(open_items(data, "val"), Faces)


@pytest.mark.parametrize("root", [Path("coco"), Path("/data/coco")], ids=["relative", "absolute"])
def test_coco_files_are_the_official_ones_unless_named(root):
    data = Pose2dData(root=root)
    assert coco_files(data, "train") == (root / "annotations/person_keypoints_train2017.json", root / "train2017")
    assert coco_files(data, "val") == (root / "annotations/person_keypoints_val2017.json", root / "val2017")
    named = Pose2dData(root=root, annotations="a.json", images="i", val_annotations="b.json")
    assert coco_files(named, "train") == (root / "a.json", root / "i")
    assert coco_files(named, "val") == (root / "b.json", root / "val2017")


def test_checkpoints_of_other_kinds(trained, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.ckpt"):
        load_grid_network(tmp_path / "none.ckpt")
    torch.save({"pcsa": {"kind": "pcsa keypoint detector"}}, tmp_path / "cloud.ckpt")
    with pytest.raises(ValueError, match=r"cloud\.ckpt. must be a checkpoint of pose2d, pose3d, oct, landmarks"):
        load_grid_network(tmp_path / "cloud.ckpt")
    (tmp_path / "text.ckpt").write_text("no checkpoint")
    with pytest.raises(ValueError, match=r"text\.ckpt.*cannot be read"):
        load_grid_network(tmp_path / "text.ckpt")
    _, path = trained("landmarks")
    stored = torch.load(path, weights_only=True)
    about = stored["pcsa"]
    for changed in (
        {"pcsa": about, "state_dict": {}},
        {"pcsa": about},
        {"pcsa": {"kind": about["kind"], "config": about["config"]}, "state_dict": stored["state_dict"]},
        {"pcsa": about | {"config": about["config"] | {"unknown": 1}}, "state_dict": stored["state_dict"]},
        {"pcsa": about | {"names": about["names"][:-1]}, "state_dict": stored["state_dict"]},
    ):
        torch.save(changed, tmp_path / "odd.ckpt")
        with pytest.raises(ValueError, match=r"^[^\n]*odd\.ckpt. must fit pcsa [^\n]*$"):
            load_grid_network(tmp_path / "odd.ckpt")


def test_a_trainer_that_cannot_be_set_up_leaves_no_folder(tmp_path):
    config = TASKS["landmarks"]
    trainer = dataclasses.replace(config.trainer, precision="12")
    with pytest.raises(ValueError, match="'12'"):
        train_grid(dataclasses.replace(config, trainer=trainer, out=tmp_path / "new"))
    assert not (tmp_path / "new").exists()


def test_a_split_with_nothing_in_it_is_refused(tmp_path):
    for name in ("a", "b", "c"):
        np.savez(tmp_path / f"{name}.npz", image=np.zeros((20, 20)), boundaries=np.full((2, 20), np.nan))
    with pytest.raises(ValueError, match=r"must have something to use in split 'train'; left out: \d+ "):
        open_items(OctData(root=tmp_path, input_size=(16, 16)), "train")


def test_which_validations_are_trained_on(tmp_path):
    assert trained_on(OctData(root=tmp_path), "val")
    assert trained_on(Pose2dData(root=tmp_path, layout="lsp"), "val")
    assert trained_on(LandmarksData(root=tmp_path), "val")
    for data in (OctData(), OctData(root=tmp_path, train_columns=(0, 9), test_columns=(9, 12)), Pose2dData()):
        assert not trained_on(data, "val")
    assert not trained_on(OctData(root=tmp_path), "test")
