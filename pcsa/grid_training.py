"""Training on images, volumes and scans: poses in two and three dimensions, retinal surfaces, facial landmarks.

The four tasks share everything but their data and their network: a map per keypoint on a grid, positions in pixels of
the network's input, and the objectives of :mod:`pcsa.losses` on the grid's cells. A retinal surface is one keypoint per
column of the scan, on the column's own one-dimensional grid.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.utils.data import Dataset

import pcsa
from pcsa import grid
from pcsa.datasets.coco import CocoKeypoints, official
from pcsa.datasets.crops import CropAugment, flip_back
from pcsa.datasets.human36m import Human36M
from pcsa.datasets.lsp import Lsp
from pcsa.datasets.mtfl import Mtfl
from pcsa.datasets.oct import Mshc, OctScans
from pcsa.datasets.procedural import Faces, FigureImages3D, Figures2D, Figures3D, Retinas
from pcsa.datasets.scans import ScanAugment
from pcsa.datasets.transforms import item_generator
from pcsa.localization import ReadOut
from pcsa.metrics import MeanKeypointError
from pcsa.models.landmark_net import LandmarkNet
from pcsa.models.simple_pose import SimplePose, load_imagenet_weights
from pcsa.models.surface_unet import SurfaceUNet, order_surfaces
from pcsa.training import (
    LocalizationConfig,
    OptimizerConfig,
    StepData,
    StepTraining,
    TrainerConfig,
    Training,
    check_localization,
    check_settings,
    fit,
    from_plain,
    load_about,
    localization_loss,
    restore,
    task_of,
)

log = logging.getLogger(__name__)

Split = Literal["train", "val", "test"]


@dataclass(frozen=True)
class Pose2dData:
    """People in images, each in the crop around a box, and how the crops are varied while training."""

    root: Path | None = None
    """Folder of COCO or LSP; without it, procedural figures."""
    layout: Literal["coco", "lsp"] = "coco"
    """Of `root`. COCO's is the official one, unless the files are named here."""
    annotations: str | None = None
    """COCO: annotation file to train on, relative to `root`."""
    images: str | None = None
    """COCO: folder of its images, relative to `root`."""
    val_annotations: str | None = None
    """COCO: annotation file to validate and to be scored on, relative to `root`."""
    val_images: str | None = None
    """COCO: folder of its images, relative to `root`."""
    input_size: tuple[int, int] = (96, 72)
    """Height and width that the network takes."""
    num_images: int = 2000
    """Procedural images to train on; a tenth as many to validate on, a fifth to test on."""
    augment: CropAugment = field(default_factory=lambda: CropAugment(flip=0.5, scale=0.3, rotation=40.0))


@dataclass(frozen=True)
class Pose3dData:
    """People in volumes or in images, with joints in three dimensions."""

    root: Path | None = None
    """Folder of Human3.6M frames; without it, procedural figures."""
    procedural: Literal["volume", "image"] = "volume"
    """The figures as volumes, or as images whose joints have a depth too."""
    train_subjects: tuple[str, ...] = ("S1", "S5", "S6", "S7", "S8")
    """Human3.6M's, to train on."""
    test_subjects: tuple[str, ...] = ("S9", "S11")
    """Human3.6M's, to validate and to be scored on."""
    input_size: tuple[int, int, int] = (32, 32, 32)
    """Depth, height and width. For images, the depth is that of the range in which joints are looked for."""
    num_items: int = 1000
    """Procedural volumes or images to train on; a tenth as many to validate on, a fifth to test on."""
    augment: CropAugment = field(default_factory=lambda: CropAugment(flip=0.5, scale=0.2, rotation=20.0))
    """Of images; volumes are flipped half of the time."""


@dataclass(frozen=True)
class OctData:
    """Retinal B-scans with the surfaces between layers."""

    root: Path | None = None
    """Folder of scans; without it, procedural retinas."""
    layout: Literal["scans", "mshc"] = "scans"
    """Of `root`: arrays with boundaries, or the Johns Hopkins volumes of healthy controls and multiple sclerosis."""
    train_columns: tuple[int, int] | None = None
    """Columns of every scan to train on, first and one after the last; default see pcsa.datasets.oct.OctScans."""
    test_columns: tuple[int, int] | None = None
    """Columns of every scan to validate and to be scored on."""
    input_size: tuple[int, int] = (128, 64)
    """Height and width of the windows trained on; scoring takes whole scans."""
    num_scans: int = 200
    """Procedural scans to train on; a tenth as many to validate on, a fifth to test on."""
    augment: ScanAugment = field(default_factory=ScanAugment)


@dataclass(frozen=True)
class LandmarksData:
    """Faces with five landmarks."""

    root: Path | None = None
    """Folder of MTFL; without it, procedural faces."""
    num_test: int = 100
    """Last images of the training list that are kept for scoring, where the folder has no testing list."""
    input_size: tuple[int, int] = (64, 64)
    """Height and width that the network takes."""
    num_images: int = 2000
    """Procedural images to train on; a tenth as many to validate on, a fifth to test on."""
    augment: CropAugment = field(default_factory=lambda: CropAugment(flip=0.5, scale=0.2, rotation=20.0, shift=0.05))


@dataclass(frozen=True)
class PoseModelConfig:
    """SimplePose, with the integral volumetric head where an image's joints have a depth; or a small U-Net."""

    network: Literal["simple_pose", "unet"] = "simple_pose"
    """The U-Net has a cell per two pixels, in images or volumes."""
    channels: tuple[int, ...] = (16, 32, 64)
    """Of the U-Net's levels."""
    layers: Literal["small", "18", "34", "50", "101", "152"] = "small"
    """SimplePose: ResNet's depth; small has one block per stage and a quarter of the widths."""
    deconv: tuple[int, ...] | None = None
    """Channels of the deconvolutions, each of which doubles the map's resolution. Default: 64, 64 for small and images
    (a cell per 4 pixels), 32, 32, 32 for small and volumes (per 2), else 256, 256, 256 (per 4)."""
    weights: Path | None = None
    """ImageNet weights of that ResNet, a file in torchvision's format."""


@dataclass(frozen=True)
class SurfaceModelConfig:
    """A U-Net at full resolution."""

    channels: tuple[int, ...] = (8, 16, 32, 64)
    """Of its levels."""


@dataclass(frozen=True)
class LandmarkModelConfig:
    """An encoder and decoder at half the resolution."""

    channels: tuple[int, ...] = (16, 32, 64)
    """Of its levels."""


@dataclass(frozen=True)
class GridObjectiveConfig(LocalizationConfig):
    """What is minimized. Lengths are in units of half the map's longest axis."""

    basis: Literal["triangular", "uniform", "gaussian"] = "triangular"
    """Shape of a cell's density, see pcsa.grid.sampling_argmax."""
    form: Literal["paper", "released"] = "paper"
    """Sample as the paper says, or as all of the authors' code does, see pcsa.grid.sampling_argmax."""
    temperature: Literal["constant", "linear", "exponential", "cosine"] = "constant"
    """How the temperature falls from start to end over the training."""
    temperature_start: float = 1.0
    regularization_sigma: float = 1.0
    """Standard deviation that the regularization wants, in cells."""
    temperature_epochs: float | None = None
    """Epochs within which the temperature falls; default the whole training."""


@dataclass(frozen=True)
class GridOptimizerConfig(OptimizerConfig):
    """Adam."""

    steps: int = 500
    """Optimizer steps."""
    batch_size: int = 16
    """Items in a step, over all devices together."""
    lr: float = 1e-2
    """Largest learning rate."""
    schedule: Literal["one_cycle", "milestones"] = "one_cycle"
    """Up within the first fifth of the steps and down to zero, or to a tenth at every milestone."""
    milestones: tuple[int, ...] = ()
    """Epochs."""
    epochs: int | None = None
    """Rounds over the training items, in place of `steps`."""


@dataclass(frozen=True)
class GridConfig:
    """What the four trainings have in common; each has its own data and model."""

    data: Any = None
    model: Any = None
    objective: GridObjectiveConfig = field(default_factory=GridObjectiveConfig)
    optimizer: GridOptimizerConfig = field(default_factory=GridOptimizerConfig)
    trainer: TrainerConfig = field(default_factory=lambda: TrainerConfig(validate_every=1))
    seed: int = 0
    """Fixes initialization, shuffling, augmentation and noise."""
    out: Path = Path("runs/grid")
    """Folder of the checkpoint, configuration, metrics and log."""
    resume: bool = False
    """Continue the run in `out` from its last checkpoint."""

    def __post_init__(self) -> None:
        o, j, data = self.optimizer, self.objective, self.data
        names = ("num_images", "num_items", "num_scans", "num_test")
        sizes = {f"data.{name.replace('_', '-')}": (getattr(data, name), 1) for name in names if hasattr(data, name)}
        check_settings(
            self,
            counts={"optimizer.epochs": (o.epochs, 1), **sizes},
            positive={"objective.temperature-epochs": j.temperature_epochs},
            from_zero={},
        )
        check_localization(j)
        if any(n < 1 for n in data.input_size):
            raise ValueError(f"`data.input-size` (={data.input_size}) must be positive along every axis")
        if depth_of(data) is not None and self.model.network == "unet":
            raise ValueError(
                "`model.network` (='unet') must be 'simple_pose' for images whose joints have a depth, as in "
                "the presets 'image' and 'published'"
            )
        if j.form == "released" and j.basis_noise != "relaxed":
            raise ValueError("`objective.basis-noise` (='mixture') must be 'relaxed' with `objective.form` 'released'")
        rising = list(o.milestones) == sorted(set(o.milestones)) and all(epoch >= 1 for epoch in o.milestones)
        if (o.schedule == "milestones") != bool(o.milestones) or not rising:
            raise ValueError(
                f"`optimizer.milestones` (={o.milestones}) must be rising epochs with `optimizer.schedule` "
                f"'milestones', and none with 'one_cycle'; `optimizer.schedule` is {o.schedule!r}"
            )


def check_weights(model: PoseModelConfig) -> None:
    """ImageNet weights are for ResNets as they are trained on ImageNet."""
    if model.weights is not None and (model.network != "simple_pose" or model.layers == "small"):
        raise ValueError(
            f"`model.weights` (={str(model.weights)!r}) must come with `model.network` 'simple_pose' and "
            f"`model.layers` 18 to 152; they are {model.network!r} and {model.layers!r}"
        )


@dataclass(frozen=True)
class Pose2dConfig(GridConfig):
    """Everything that determines a training of poses in images."""

    data: Pose2dData = field(default_factory=Pose2dData)
    model: PoseModelConfig = field(default_factory=PoseModelConfig)
    out: Path = Path("runs/pose2d")

    def __post_init__(self) -> None:
        super().__post_init__()
        data = self.data
        if data.layout == "lsp" and data.root is None:
            raise ValueError("`data.layout` (='lsp') must come with `data.root`")
        for name in ("annotations", "images", "val_annotations", "val_images"):
            value = getattr(data, name)
            if value is not None and (data.root is None or data.layout != "coco"):
                option = name.replace("_", "-")
                raise ValueError(f"`data.{option}` (={value!r}) must come with a `data.root` in COCO's layout")
        check_weights(self.model)


@dataclass(frozen=True)
class Pose3dConfig(GridConfig):
    """Everything that determines a training of poses in three dimensions."""

    data: Pose3dData = field(default_factory=Pose3dData)
    model: PoseModelConfig = field(default_factory=PoseModelConfig)
    out: Path = Path("runs/pose3d")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_weights(self.model)


@dataclass(frozen=True)
class OctConfig(GridConfig):
    """Everything that determines a training of retinal surfaces."""

    data: OctData = field(default_factory=OctData)
    model: SurfaceModelConfig = field(default_factory=SurfaceModelConfig)
    out: Path = Path("runs/oct")

    def __post_init__(self) -> None:
        super().__post_init__()
        data = self.data
        if data.layout == "mshc" and data.root is None:
            raise ValueError("`data.layout` (='mshc') must come with `data.root`")
        train, test = data.train_columns, data.test_columns
        if (train is None) != (test is None) or (train is not None and (data.root is None or data.layout != "scans")):
            raise ValueError(
                f"`data.train-columns` (={train}) and `data.test-columns` (={test}) must be given both or neither, "
                "with a `data.root` of scans as arrays"
            )
        if train is not None and test is not None and max(train[0], test[0]) < min(train[1], test[1]):
            raise ValueError(
                f"`data.test-columns` (={test}) must have no column of `data.train-columns` (={train}): columns "
                "trained on give no score"
            )
        if self.objective.form == "released":
            raise ValueError("`objective.form` (='released') must be 'paper' for surfaces: it has none for one axis")


@dataclass(frozen=True)
class LandmarksConfig(GridConfig):
    """Everything that determines a training of facial landmarks."""

    data: LandmarksData = field(default_factory=LandmarksData)
    model: LandmarkModelConfig = field(default_factory=LandmarkModelConfig)
    out: Path = Path("runs/landmarks")


CONFIGS: dict[str, type[GridConfig]] = {
    "pose2d": Pose2dConfig,
    "pose3d": Pose3dConfig,
    "oct": OctConfig,
    "landmarks": LandmarksConfig,
}


def open_items(data: Any, split: Split, *, detections: Path | None = None) -> Any:
    """The items of one split: what ``data`` names, or procedural ones.

    Args:
        data: One of the four data configurations.
        split: Procedural items of different splits have nothing in common.
        detections: COCO's person boxes, to take in place of the annotated ones.
    """
    items = _open(data, split, detections)
    if not len(items):
        left_out = ", ".join(f"{count} {reason}" for reason, count in items.skipped.items())
        where = data.root if detections is None else detections
        raise ValueError(f"`{where}` must have something to use in split {split!r}; left out: {left_out or 'nothing'}")
    return items


def trained_on(data: Any, split: Split) -> bool:
    """Whether a split is one that the training uses too: ``"val"`` of layouts that hold none out."""
    if data.root is None or split != "val":
        return False
    if isinstance(data, OctData):
        return data.test_columns is None
    return isinstance(data, LandmarksData) or (isinstance(data, Pose2dData) and data.layout == "lsp")


def _open(data: Any, split: Split, detections: Path | None) -> Any:
    if detections is not None and not (
        isinstance(data, Pose2dData) and data.root is not None and data.layout == "coco"
    ):
        raise ValueError(f"`detections` (={str(detections)!r}) must come with a `root` in COCO's layout")
    size, root = data.input_size, data.root
    if isinstance(data, OctData):
        if root is None:
            return Retinas(split, num_scans=_share(data.num_scans, split), input_size=size, augment=data.augment)
        if data.layout == "mshc":
            return Mshc(root, split, input_size=size, augment=data.augment)
        columns = data.train_columns if split == "train" else data.test_columns
        return OctScans(root, split, input_size=size, columns=columns, augment=data.augment)
    if isinstance(data, LandmarksData):
        if root is None:
            return Faces(split, num_images=_share(data.num_images, split), input_size=size, augment=data.augment)
        return Mtfl(root, split, num_test=data.num_test, input_size=size, augment=data.augment)
    if isinstance(data, Pose3dData):
        if root is not None:
            subjects = data.train_subjects if split == "train" else data.test_subjects
            return Human36M(root, split, subjects=subjects, input_size=size, augment=data.augment)
        number = _share(data.num_items, split)
        if data.procedural == "volume":
            return Figures3D(split, num_volumes=number, input_size=size)
        return FigureImages3D(split, num_images=number, input_size=size, augment=data.augment)
    if root is None:
        return Figures2D(split, num_images=_share(data.num_images, split), input_size=size, augment=data.augment)
    if data.layout == "lsp":
        return Lsp(root, split, input_size=size, augment=data.augment)
    annotations, images = coco_files(data, split)
    return CocoKeypoints(annotations, images, input_size=size, detections=detections, augment=data.augment)


def coco_files(data: Pose2dData, split: Split) -> tuple[Path, Path]:
    """Annotation file and image folder of a split."""
    assert data.root is not None
    annotations, images = official(data.root, "train" if split == "train" else "val")
    named = (data.annotations, data.images) if split == "train" else (data.val_annotations, data.val_images)
    return (
        annotations if named[0] is None else data.root / named[0],
        images if named[1] is None else data.root / named[1],
    )


def _share(number: int, split: Split) -> int:
    return {"train": number, "val": max(1, number // 10), "test": max(1, number // 5)}[split]


def build_network(config: GridConfig, num_keypoints: int, *, pretrained: bool = False) -> torch.nn.Module:
    """The network that ``config`` describes; with its ImageNet weights if ``pretrained``."""
    model, data = config.model, config.data
    if isinstance(model, SurfaceModelConfig):
        return SurfaceUNet(num_keypoints, channels=model.channels)
    if isinstance(model, LandmarkModelConfig):
        return LandmarkNet(num_keypoints, channels=model.channels)
    volume = isinstance(data, Pose3dData) and data.root is None and data.procedural == "volume"
    options: dict[str, Any] = {}
    if model.network == "unet":
        if volume:
            options = {"spatial_dims": 3, "in_channels": 1}
        return LandmarkNet(num_keypoints, channels=model.channels, **options)
    if volume:
        options = {"spatial_dims": 3, "in_channels": 1}
    elif isinstance(data, Pose3dData):
        options = {"depth": max(1, data.input_size[0] // 4)}
    if model.layers == "small":
        options |= {"layers": (1, 1, 1, 1), "widths": (16, 32, 64, 128), "stem": "small"}
        options |= {"deconv": ((32, 32, 32) if volume else (64, 64)) if model.deconv is None else model.deconv}
    else:
        options |= {"layers": int(model.layers), "deconv": (256, 256, 256) if model.deconv is None else model.deconv}
    network = SimplePose(num_keypoints, **options)
    if pretrained and model.weights is not None:
        load_imagenet_weights(network, model.weights)
    return network


def as_points(maps: Tensor, unit: float = 1.0) -> tuple[Tensor, Tensor]:
    """Maps ``[B, K, *spatial]`` as logits ``[B, N, K]`` of a point set, and its positions, ``unit`` times the index."""
    pos = grid.cells(maps.shape[2:], dtype=torch.promote_types(maps.dtype, torch.float32), device=maps.device)
    # Multiplied before it is as large as the batch.
    return grid.flatten(maps), (unit * pos).expand(len(maps), -1, -1)


def columns_of(values: Tensor) -> Tensor:
    """The columns of scans as items of their own: ``[B, K, W]`` to ``[B * W, K]``, with H rows to ``[B * W, K, H]``."""
    return values.movedim(-1, 1).flatten(0, 1)


def strides(input_size: Sequence[int], maps: Tensor) -> list[float]:
    """Input pixels per cell along every axis of a position, x first."""
    return [n / cells for n, cells in zip(input_size[::-1], maps.shape[:1:-1], strict=True)]


def map_objective(
    config: GridObjectiveConfig,
    maps: Tensor,
    target: Tensor,
    visible: Tensor,
    temperature: float,
    generator: torch.Generator,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of maps ``[B, K, *spatial]`` for targets ``[B, K, D]`` in index units, and its parts for the log."""
    unit = 2 / max(maps.shape[2:])
    samples = None
    if config.method == "sampling":
        # In float32: what half precision rounds off here would be divided by the temperature.
        tempered = config.noise == "released" and config.form == "paper"
        samples = unit * grid.sampling_argmax(
            maps.float() * temperature if tempered else maps,
            config.basis,
            num_samples=config.num_samples,
            temperature=temperature,
            basis_noise=config.basis_noise,
            form=config.form,
            generator=generator,
            validate=False,
        )
    logits, pos = as_points(maps, unit)
    sigma = unit * config.regularization_sigma
    return localization_loss(config, samples, logits, pos, unit, sigma, unit * target, visible)


class Located(NamedTuple):
    """What :func:`locate` finds, in pixels of the network's input."""

    position: Tensor
    """``[B, K, D]``, x first; of surfaces, rows ``[B, K, W]``."""
    peak: Tensor
    """Largest probability of a cell, ``[B, K]``; of surfaces, of a cell of the column ``[B, K, W]``."""
    maps: Tensor
    """Scores ``[B, K, *spatial]``."""


@torch.no_grad()
def locate(
    network: torch.nn.Module,
    image: Tensor,
    *,
    depth: int | None = None,
    read_out: ReadOut = "expectation",
    flip_pairs: Sequence[tuple[int, int]] | None = None,
) -> Located:
    """Keypoints or surfaces of a batch of inputs.

    Surfaces come in order: one that would lie above the one before it is put on it (see
    :func:`pcsa.models.order_surfaces`).

    Args:
        network: One of :mod:`pcsa.models` that gives maps.
        image: ``[B, C, *input_size]``.
        depth: Pixels of depth that the maps of an image's three-dimensional joints stand for.
        read_out: See :func:`pcsa.localize`.
        flip_pairs: Left and right keypoints. With them, the map is the mean of those of the input and of its mirror
            image (the flip test).
    """
    maps = network(image)["logits"].float()
    if flip_pairs is not None:
        mirrored = flip_back(network(image.flip(-1))["logits"].float(), flip_pairs)
        both = torch.stack([maps, mirrored]).flatten(3).log_softmax(-1)
        maps = (both.logsumexp(0) - math.log(2)).view_as(maps)
    if isinstance(network, SurfaceUNet):
        found = pcsa.localize(*as_points(columns_of(maps)), 1.0, read_out=read_out, validate=False)
        rows, peak = (x.unflatten(0, (len(image), -1)).movedim(1, -1) for x in (found.position[..., 0], found.peak))
        return Located(order_surfaces(rows, 1), peak, maps)
    found = pcsa.localize(*as_points(maps), 1.0, read_out=read_out, validate=False)
    size = [*([] if depth is None else [depth]), *image.shape[2:]]
    position = grid.from_index(found.position, maps.shape[2:], frame="pixels", spacing=strides(size, maps))
    return Located(position, found.peak, maps)


class _Items(Dataset[dict[str, Any]]):
    """As they are, or varied where an item is asked for with its epoch."""

    def __init__(self, dataset: Any, seed: int) -> None:
        self.dataset, self.seed = dataset, seed

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Any]:
        if isinstance(key, int):
            return dict(self.dataset[key])
        epoch, index = key
        return dict(self.dataset.augmented(index, item_generator(self.seed, epoch, index)))


class GridTraining(StepTraining):
    """Trains a network of maps."""

    def __init__(self, config: GridConfig, task: str, items: Any, steps: int, steps_per_epoch: int) -> None:
        within = config.objective.temperature_epochs
        super().__init__(
            config,
            f"pcsa {task}",
            steps,
            temperature_steps=None if within is None else max(1, round(within * steps_per_epoch)),
            names=list(items.names),
            pairs=[list(pair) for pair in getattr(items, "pairs", ())],
            bones=[list(bone) for bone in getattr(items, "bones", ())],
        )
        self.steps_per_epoch = steps_per_epoch
        # A resumed run has its weights from its checkpoint; the file may be gone.
        self.network = build_network(config, items.num_keypoints, pretrained=not config.resume)
        self.error = MeanKeypointError()

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """One optimizer step."""
        temperature, generator = self.begin_step()
        maps = self.network(batch["image"])["logits"]
        visible = batch["visible"]
        if "boundaries" in batch:
            maps, visible = columns_of(maps), columns_of(visible)
            target = columns_of(batch["boundaries"]).unsqueeze(-1)
        else:
            spacing = strides(self.config.data.input_size, maps)
            target = grid.to_index(batch["keypoints"], maps.shape[2:], frame="pixels", spacing=spacing)
        loss, parts = map_objective(self.config.objective, maps, target, visible, temperature, generator)
        self.log_step(loss, {f"loss_{name}": value for name, value in parts.items()}, len(batch["image"]))
        return loss

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Mean distance of the expectation, in pixels of the network's input."""
        visible = batch["visible"]
        found = locate(self.network, batch["image"], depth=depth_of(self.config.data))
        if "boundaries" in batch:
            distance, visible = columns_of((found.position - batch["boundaries"]).abs()), columns_of(visible)
        else:
            distance = (found.position - batch["keypoints"]).norm(dim=-1)
        self.error.update(torch.where(visible, distance, 0.0), visible)

    def on_validation_epoch_end(self) -> None:
        """Log what the metric collected."""
        self.log("val_error", self.error.compute(), prog_bar=True, sync_dist=True)
        self.error.reset()

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Adam, with a schedule per step."""
        o = self.config.optimizer
        optimizer = torch.optim.Adam(self.parameters(), lr=o.lr, weight_decay=o.weight_decay)
        schedule: torch.optim.lr_scheduler.LRScheduler
        if o.schedule == "one_cycle":
            # One step more than there are: the scheduler may be asked once after the last. At least ten: a fifth of
            # fewer is no step to rise in, on which OneCycleLR divides by zero.
            total = max(self.steps + 1, 10)
            schedule = torch.optim.lr_scheduler.OneCycleLR(
                optimizer, o.lr, total_steps=total, pct_start=0.2, cycle_momentum=False
            )
        else:
            steps = [epoch * self.steps_per_epoch for epoch in o.milestones]
            schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, steps, gamma=0.1)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def depth_of(data: Any) -> int | None:
    """Pixels of depth that the maps of images stand for, where their joints have one."""
    images = isinstance(data, Pose3dData) and (data.root is not None or data.procedural == "image")
    return data.input_size[0] if images else None


def train_grid(config: GridConfig) -> Path:
    """Train the network of one of the four tasks and return its checkpoint, ``<out>/last.ckpt``.

    The resolved configuration lies beside it from the start (``config.json``), the log in ``log/``. With ``resume``
    the run continues from its last checkpoint to the numbers it would have reached uninterrupted.
    """
    task = next(name for name, kind in CONFIGS.items() if isinstance(config, kind))

    def build() -> Training:
        train, val = open_items(config.data, "train"), open_items(config.data, "val")
        data = StepData(config, _Items(train, config.seed), _Items(val, config.seed))
        o = config.optimizer
        steps = o.steps if o.epochs is None else o.epochs * data.steps_per_epoch
        L.seed_everything(config.seed, verbose=False)
        module = GridTraining(config, task, train, steps, data.steps_per_epoch)
        for split, items in (("train", train), ("val", val)):
            for reason, count in items.skipped.items():
                log.info("%s: %d left out: %s", split, count, reason)
        return Training(module, data, module.about, -(-steps // data.steps_per_epoch))

    return fit(config, f"pcsa {task}", build)


def load_grid_network(
    path: Path, device: str | torch.device = "cpu"
) -> tuple[torch.nn.Module, GridConfig, dict[str, Any]]:
    """A trained network in eval mode, the configuration of its training, and what its checkpoint says of itself.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is no checkpoint of one of the four tasks.
    """
    task = task_of(load_about(path)["kind"])
    if task is None:
        raise ValueError(f"`{path}` must be a checkpoint of {', '.join(CONFIGS)}")

    def config_of(about: dict[str, Any]) -> GridConfig:
        made: GridConfig = from_plain(CONFIGS[task], about["config"])
        return made

    network, about = restore(
        path, f"pcsa {task}", "network.", lambda about: build_network(config_of(about), len(about["names"]))
    )
    return network.to(device).eval(), config_of(about), about
