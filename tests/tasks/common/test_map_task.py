"""Where networks of maps put keypoints, and what they are trained, validated and scored on."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from pcsa import grid
from pcsa.tasks import get_task, open_run
from pcsa.tasks.common.map_task import labels_of
from pcsa.tasks.common.maps import strides
from pcsa.tasks.landmarks import LandmarksConfig, LandmarksData
from pcsa.tasks.oct import OctConfig, OctData
from pcsa.tasks.pose2d import Pose2dConfig, Pose2dData
from pcsa.tasks.pose3d import Pose3dConfig, Pose3dData

IMAGES = get_task("pose2d")
NAMES = ("pose2d", "pose3d", "pose3d-image", "pose3d-unet", "oct", "landmarks")


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
    network = _Peaks((3, 6), (1, 2), (0, 0))
    found = IMAGES.locate(Pose2dConfig(), network, torch.zeros(2, 3, 12, 12), read_out=read_out)
    torch.testing.assert_close(found.position, torch.tensor([[4.5, 5.5], [0.5, 1.5]]).expand(2, -1, -1))
    torch.testing.assert_close(found.peak, torch.ones(2, 2))
    assert found.maps.shape == (2, 2, 3, 6)


def test_voxels_of_a_volume():
    found = get_task("pose3d").locate(Pose3dConfig(), _Peaks((4, 8, 2), (3, 7, 0)), torch.zeros(1, 1, 16, 16, 16))
    # z: cells of 4, the last is 12 to 15; y: of 2, the last is 14 and 15; x: of 8, the first is 0 to 7.
    torch.testing.assert_close(found.position, torch.tensor([[[3.5, 14.5, 13.5]]]))


def test_depth_of_an_image():
    task = get_task("pose3d")
    image = Pose3dConfig(data=Pose3dData(procedural="image", input_size=(64, 32, 24)))
    found = task.locate(image, _Peaks((4, 8, 8), (1, 0, 7)), torch.zeros(1, 3, 16, 16))
    # 16 pixels of depth a cell: the second is 16 to 31.
    torch.testing.assert_close(found.position, torch.tensor([[[14.5, 0.5, 23.5]]]))
    assert task.depth(image) == 64
    assert task.depth(Pose3dConfig(data=Pose3dData(root=Path("h36m"), input_size=(64, 32, 24)))) == 64
    assert task.depth(Pose3dConfig(data=Pose3dData(input_size=(16, 16, 16)))) is None
    assert IMAGES.depth(Pose2dConfig()) is None


def test_where_a_network_puts_what_the_training_asks_of_it():
    # The way there, in training_step, and the way back, in locate, through maps of any stride.
    keypoints = torch.tensor([[[3.0, 20.0], [17.25, 0.5]]])
    shape = (8, 4)
    spacing = strides((32, 24), torch.zeros(1, 1, *shape))
    index = grid.to_index(keypoints, shape, frame="pixels", spacing=spacing)
    torch.testing.assert_close(grid.from_index(index, shape, frame="pixels", spacing=spacing), keypoints)
    assert index[0, 0].tolist() == pytest.approx([(3 + 0.5) / 6 - 0.5, (20 + 0.5) / 4 - 0.5])
    config = Pose2dConfig(data=Pose2dData(input_size=(32, 24)))
    batch = {"keypoints": keypoints, "visible": torch.tensor([[True, False]])}
    maps, target, visible = IMAGES.targets(config, batch, torch.zeros(1, 2, *shape))
    torch.testing.assert_close(target, index)
    assert visible is batch["visible"]
    assert maps.shape == (1, 2, *shape)


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
    plain = IMAGES.locate(Pose2dConfig(), _Mirrored(True), image)
    tested = IMAGES.locate(Pose2dConfig(), _Mirrored(True), image, flip_pairs=[(0, 1)])
    torch.testing.assert_close(tested.position, plain.position, rtol=0, atol=1e-4)
    torch.testing.assert_close(tested.peak, plain.peak)
    # Without the pair it does: the sides are exchanged.
    exchanged = IMAGES.locate(Pose2dConfig(), _Mirrored(True), image, flip_pairs=[])
    assert (exchanged.position - plain.position).abs().max() > 0.1


def test_flip_test_is_the_mean_of_two_maps():
    image = torch.rand(1, 3, 6, 8, generator=torch.Generator().manual_seed(0))
    network = _Mirrored(False)
    found = IMAGES.locate(Pose2dConfig(), network, image, flip_pairs=[(0, 1)])
    one = network(image)["logits"][0].flatten(1).softmax(1).view(3, 6, 8).numpy()
    other = network(torch.from_numpy(image.numpy()[..., ::-1].copy()))["logits"][0].flatten(1).softmax(1).view(3, 6, 8)
    other = other.numpy()[[1, 0, 2], :, ::-1]
    mean = (one + other) / 2
    np.testing.assert_allclose(found.maps[0].exp().numpy(), mean, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(found.position[0, :, 0], (mean * np.arange(8)).sum((1, 2)), rtol=1e-4)
    np.testing.assert_allclose(found.position[0, :, 1], (mean * np.arange(6)[:, None]).sum((1, 2)), rtol=1e-4)
    np.testing.assert_allclose(found.peak[0], mean.max((1, 2)), rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_labels_are_those_of_the_items(trained, name):
    task, config, path = trained(name)
    items, labels = task.open(config, "train"), open_run(path).labels
    assert labels == labels_of(items)
    assert labels.names == tuple(items.names)
    for field in ("pairs", "bones"):
        assert getattr(labels, field) == tuple(tuple(pair) for pair in getattr(items, field, ()))


@pytest.mark.parametrize("name", NAMES)
def test_validation_error_is_in_pixels_of_the_input(trained, name):
    task, config, path = trained(name)
    network, items = open_run(path).model, task.items(config, "val")
    away = []
    for i in range(len(items)):
        item = items[i]
        found = task.locate(config, network, item["image"][None]).position[0]
        if name == "oct":
            away += (found - item["boundaries"]).abs()[item["visible"]].tolist()
        else:
            away += (found - item["keypoints"]).norm(dim=-1)[item["visible"]].tolist()
    with (config.out / "log" / "version_0" / "metrics.csv").open() as file:
        errors = [float(row["val_error"]) for row in csv.DictReader(file) if row["val_error"]]
    assert errors[-1] == pytest.approx(np.mean(away), rel=1e-3)
    assert all(0 < error < max(config.data.input_size) for error in errors)


@pytest.mark.parametrize(
    ("task", "config"),
    [
        ("pose2d", Pose2dConfig(data=Pose2dData(root=Path("none")))),
        ("pose2d", Pose2dConfig(data=Pose2dData(root=Path("none"), layout="lsp"))),
        ("pose3d", Pose3dConfig(data=Pose3dData(root=Path("none")))),
        ("oct", OctConfig(data=OctData(root=Path("none")))),
        ("oct", OctConfig(data=OctData(root=Path("none"), layout="mshc"))),
        ("landmarks", LandmarksConfig(data=LandmarksData(root=Path("none")))),
    ],
    ids=lambda value: value if isinstance(value, str) else getattr(value.data, "layout", ""),
)
def test_items_that_are_not_there_are_named(tmp_path, monkeypatch, task, config):
    monkeypatch.chdir(tmp_path)
    for split in ("train", "val"):
        with pytest.raises(FileNotFoundError, match="none"):
            get_task(task).items(config, split)


def test_a_split_with_nothing_in_it_is_refused(tmp_path):
    for name in ("a", "b", "c"):
        np.savez(tmp_path / f"{name}.npz", image=np.zeros((20, 20)), boundaries=np.full((2, 20), np.nan))
    config = OctConfig(data=OctData(root=tmp_path, input_size=(16, 16)), out=tmp_path / "out")
    for start in (lambda: get_task("oct").items(config, "train"), lambda: get_task("oct").train(config)):
        with pytest.raises(ValueError, match=r"must have something to use in split 'train'; left out: \d+ "):
            start()
    assert not config.out.exists()


@pytest.mark.parametrize(
    ("task", "config", "trained_on", "splits"),
    [
        ("oct", OctConfig(data=OctData(root=Path("a"))), True, ("test",)),
        ("pose2d", Pose2dConfig(data=Pose2dData(root=Path("a"), layout="lsp")), True, ("test",)),
        ("landmarks", LandmarksConfig(data=LandmarksData(root=Path("a"))), True, ("test",)),
        ("pose2d", Pose2dConfig(data=Pose2dData(root=Path("a"))), False, ("val",)),
        ("pose3d", Pose3dConfig(data=Pose3dData(root=Path("a"))), False, ("val", "test")),
        (
            "oct",
            OctConfig(data=OctData(root=Path("a"), train_columns=(0, 9), test_columns=(9, 12))),
            False,
            ("val", "test"),
        ),
        ("oct", OctConfig(), False, ("val", "test")),
        ("pose2d", Pose2dConfig(), False, ("val", "test")),
        ("pose3d", Pose3dConfig(), False, ("val", "test")),
        ("landmarks", LandmarksConfig(), False, ("val", "test")),
    ],
)
def test_which_items_are_trained_on_and_which_are_scored(task, config, trained_on, splits):
    of = get_task(task)
    assert of.trained_on_val(config) is trained_on
    assert of.splits(config) == splits
    assert of.scored_split(config, None) == splits[0]
    assert of.scored_split(config, "val") == "val"  # for watching, where it is trained on
    if "test" in splits:
        assert of.scored_split(config, "test") == "test"
    else:
        with pytest.raises(ValueError, match=r"`split` \(='test'\) must be 'val' here"):
            of.scored_split(config, "test")
