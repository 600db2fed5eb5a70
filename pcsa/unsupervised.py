"""Training Skeleton Merger: keypoints of aligned shapes without labels."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.utils.data import Dataset
from torch_geometric.data import Batch, Data

import pcsa
from pcsa.datasets.clouds import UnlabeledClouds
from pcsa.datasets.keypointnet import KeypointNet
from pcsa.datasets.procedural import embedded_root
from pcsa.datasets.shapenet import ShapeNetPoints, is_hdf5
from pcsa.datasets.transforms import Augment, Normalize, item_generator
from pcsa.models.pointnet2 import MULTI_SCALE, SINGLE_SCALE, Level, PointNet2
from pcsa.models.skeleton_merger import SkeletonMerger, box_coordinates
from pcsa.neighbors import farthest_points
from pcsa.skeleton import composite_chamfer, keypoint_separation, mirror_error, skeleton_points
from pcsa.training import (
    BandwidthConfig,
    OptimizerConfig,
    SamplerConfig,
    StepData,
    StepTraining,
    TrainerConfig,
    Training,
    check_settings,
    draw_samples,
    fit,
    restore,
)

SKELETON_KIND = "pcsa skeleton merger"

# The network of the paper's code: multi-scale grouping in balls of 0.05 to 0.8, for clouds in [-1, 1].
RELEASED_SCALE = (
    Level(1024, (0.05, 0.1), (16, 32), ((16, 16, 32), (32, 32, 64))),
    Level(256, (0.1, 0.2), (16, 32), ((64, 64, 128), (64, 96, 128))),
    Level(64, (0.2, 0.4), (16, 32), ((128, 196, 256), (128, 196, 256))),
    Level(16, (0.4, 0.8), (16, 32), ((256, 256, 512), (256, 384, 512))),
)
LEVELS: dict[str, tuple[Level, ...]] = {"single": SINGLE_SCALE, "multi": MULTI_SCALE, "released": RELEASED_SCALE}


@dataclass(frozen=True)
class ShapesConfig:
    """Which clouds, and how they are varied while training.

    Every cloud is brought to [-1, 1] by one scalar minimum and maximum over all axes.
    """

    root: Path | None = None
    """Folder in KeypointNet's release layout (annotations are not needed), or HDF5 file or folder of such files with
    `data` and `label`; without it the procedural twin is generated and cached."""
    category: str = "chair"
    """A category of KeypointNet or of your own root; for HDF5 a label (a whole number), or all."""
    num_shapes: int = 400
    """Clouds of the procedural twin, all splits together; unused with `root`."""
    split: Literal["train", "all"] = "train"
    """Clouds to train on. There are no labels to learn, so `all` is fair where the same clouds are to be labelled."""
    augment: Augment = field(default_factory=Augment)
    """Lengths are in units of the normalized cloud; it is normalized again afterwards."""


@dataclass(frozen=True)
class SkeletonConfig:
    """The network."""

    num_keypoints: int = 10
    """K; the skeleton has K (K - 1) / 2 segments."""
    scales: Literal["single", "multi", "released"] = "single"
    """PointNet++ with single- or multi-scale grouping, or the four levels of the paper's code."""
    out_channels: int = 128
    """Width of the per-point features."""
    norm: Literal["batch", "group"] = "batch"
    """Normalization layers."""
    competition: bool = False
    """Compare the keypoints at each point (a log-softmax over them), as the paper's code does."""
    box_features: bool = True
    """Tell the network where in the bounding box of its cloud each point is."""
    anchors: Literal["none", "corners", "farthest", "kmeans"] = "corners"
    """Where keypoints begin: spread over the middle of the cloud's points (none), or each at a place of its own in the
    bounding box: its corners (the rest of K far from them), or places chosen on the training clouds with their boxes
    laid over each other, far from each other on the parts that most of them have, or centers of clusters."""
    anchor_width: float = 0.1
    """How far from its anchor a keypoint begins to look, as a standard deviation, where the box is 2 wide."""


@dataclass(frozen=True)
class ReconstructionConfig(SamplerConfig, BandwidthConfig):
    """What is minimized. Lengths are in units of the normalized cloud ([-1, 1])."""

    num_samples: int = 1
    """Samples S of every keypoint."""
    read_out: Literal["sampling", "soft"] = "sampling"
    """Every sample of the keypoints rebuilds the cloud and the error is averaged (Eq. 14), or their expectation does
    (soft-argmax)."""
    spacing: float = 0.01
    """Between two points of a segment."""
    min_points: int = 15
    """Of a segment."""
    max_points: int = 200
    """Of a segment."""
    num_loss_points: int | None = 512
    """Points of each cloud that the reconstruction is compared with, drawn anew in every step; None for all."""
    uncovered: float = 20.0
    """Charge for what no segment covers."""
    offset_weight: float = 0.01
    """Weight of the sum of squared offsets."""
    separation_weight: float = 0.0
    """Weight of the penalty on keypoints near each other, see pcsa.losses.keypoint_separation."""
    separation_distance: float = 0.3
    """From where on keypoints count as apart."""
    mirror_weight: float = 0.0
    """Weight of the distance of the keypoints from their mirror image across x = the middle of the cloud, see
    pcsa.losses.mirror_error."""


@dataclass(frozen=True)
class UnsupervisedOptimizerConfig(OptimizerConfig):
    """Adam, or Adadelta as in the paper's code."""

    steps: int = 300
    """Optimizer steps."""
    kind: Literal["adam", "adadelta"] = "adam"
    """Adadelta with epsilon 0.01."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """Of the learning rate."""
    epochs: int | None = None
    """Rounds over the training clouds, in place of `steps`."""


@dataclass(frozen=True)
class UnsupervisedConfig:
    """Everything that determines an unsupervised training."""

    data: ShapesConfig = field(default_factory=ShapesConfig)
    model: SkeletonConfig = field(default_factory=SkeletonConfig)
    objective: ReconstructionConfig = field(default_factory=ReconstructionConfig)
    optimizer: UnsupervisedOptimizerConfig = field(default_factory=UnsupervisedOptimizerConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    seed: int = 0
    """Fixes initialization, shuffling, augmentation and noise."""
    out: Path = Path("runs/unsupervised")
    """Folder of the checkpoint, configuration and log."""
    resume: bool = False
    """Continue the run in `out` from its last checkpoint."""

    def __post_init__(self) -> None:
        j, m = self.objective, self.model
        check_settings(
            self,
            counts={
                "model.num-keypoints": (m.num_keypoints, 2),
                "model.out-channels": (m.out_channels, 1),
                "optimizer.epochs": (self.optimizer.epochs, 1),
                "objective.min-points": (j.min_points, 2),
                "objective.max-points": (j.max_points, j.min_points),
                "objective.num-loss-points": (j.num_loss_points, 1),
            },
            positive={
                "objective.bandwidth": j.bandwidth,
                "objective.bandwidth-scale": j.bandwidth_scale,
                "objective.spacing": j.spacing,
                "objective.separation-distance": j.separation_distance,
                "model.anchor-width": m.anchor_width,
            },
            from_zero={
                "objective.uncovered": j.uncovered,
                "objective.offset-weight": j.offset_weight,
                "objective.separation-weight": j.separation_weight,
                "objective.mirror-weight": j.mirror_weight,
            },
        )


def open_clouds(config: ShapesConfig, split: str) -> Dataset[Data]:
    """The clouds of one split, in the dataset's own units; what labels they have come along unused.

    Raises:
        FileNotFoundError: If the root, or any cloud of the split, is missing.
        ValueError: If a cloud cannot be read; names the file.
    """
    root = config.root
    if root is None:
        return KeypointNet(embedded_root(config.category, config.num_shapes), config.category, split)
    if is_hdf5(root):
        if config.category == "all":
            return ShapeNetPoints(root, None, split)
        if not config.category.isdecimal():
            raise ValueError(
                f"`data.category` (={config.category!r}) must be a label (a whole number) or all, for HDF5"
            )
        return ShapeNetPoints(root, int(config.category), split)
    if (root / "annotations" / f"{config.category}.json").exists():
        return KeypointNet(root, config.category, split)
    return UnlabeledClouds(root, config.category, split)


def build_merger(config: SkeletonConfig, anchors: Tensor | None = None) -> SkeletonMerger:
    """The network that ``config`` describes; ``anchors [K, 3]`` if it asks for any, see :func:`find_anchors`."""
    if (anchors is None) != (config.anchors == "none"):
        raise ValueError(f"`anchors` must be given if and only if the configuration (={config.anchors!r}) wants some")
    backbone = PointNet2(
        3 * config.box_features, LEVELS[config.scales], out_channels=config.out_channels, norm=config.norm
    )
    return SkeletonMerger(
        backbone,
        config.num_keypoints,
        competition=config.competition,
        box_features=config.box_features,
        anchors=anchors,
        anchor_width=config.anchor_width,
    )


@torch.no_grad()
def find_anchors(clouds: list[Tensor], num_keypoints: int, kind: Literal["corners", "farthest", "kmeans"]) -> Tensor:
    """Places for the keypoints to begin at, ``[K, 3]``, from aligned clouds ``[N, 3]`` laid over each other.

    ``"farthest"``: on the cells of a grid (16 along the extent) that at least half of the clouds have a point in,
    farthest points, beginning with the one farthest from the middle. ``"corners"``: the eight of the bounding box, and
    more of such cells far from them. ``"kmeans"``: centers of clusters of all points, beginning at the farthest points.
    No randomness. Not differentiable.
    """
    everything = torch.cat(clouds).float()
    low = everything.amin(0)
    cell_size = ((everything.amax(0) - low).amax() / 16).clamp(min=torch.finfo(torch.float32).tiny)
    place = ((everything - low) / cell_size).long().clamp(max=15)
    cell = (place[:, 0] * 16 + place[:, 1]) * 16 + place[:, 2]
    cloud = torch.arange(len(clouds)).repeat_interleave(torch.tensor([len(c) for c in clouds]))
    share = torch.bincount((cloud * 16**3 + cell).unique() % 16**3, minlength=16**3) / len(clouds)
    points = torch.bincount(cell, minlength=16**3)
    middle = torch.zeros(16**3, 3).index_add(0, cell, everything) / points.clamp(min=1).unsqueeze(1)
    # Half of the clouds, or fewer where that leaves too few cells.
    least = min(0.5, share.sort(descending=True).values[min(num_keypoints, 16**3) - 1].item())
    common = middle[(share >= least) & (points > 0)]
    if kind == "corners":
        corners = torch.cartesian_prod(*torch.stack([low, everything.amax(0)], 1))
        # Farthest points that begin at the eight: each next one is far from all before it.
        while len(corners) < num_keypoints:
            corners = torch.cat([corners, common[torch.cdist(common, corners).amin(1).argmax()].unsqueeze(0)])
        return corners[:num_keypoints]
    first = (common - everything.mean(0)).norm(dim=1).argmax()
    common = torch.cat([common[first : first + 1], common])
    rows, _ = farthest_points(common, torch.tensor([0, len(common)]), num_keypoints)
    anchors = common[rows]
    if len(anchors) < num_keypoints:  # fewer cells than keypoints: some share one
        anchors = anchors.repeat(-(-num_keypoints // len(anchors)), 1)[:num_keypoints]
    if kind == "kmeans":
        some = everything[:: max(1, len(everything) // 20_000)]
        for _ in range(30):
            nearest = torch.cdist(some, anchors).argmin(1)
            count = torch.bincount(nearest, minlength=num_keypoints).unsqueeze(1)
            total = torch.zeros_like(anchors).index_add(0, nearest, some)
            anchors = torch.where(count > 0, total / count.clamp(min=1), anchors)
    return anchors


def subset(pos: Tensor, ptr: Tensor, num_points: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Rows of ``num_points`` points of each cloud, drawn without repetition (all of a smaller cloud), and their ptr."""
    sizes = ptr.cpu().diff()
    cloud = torch.arange(len(sizes)).repeat_interleave(sizes)
    # Sorted by cloud, and within a cloud by chance.
    order = (cloud + torch.rand(len(cloud), generator=generator, dtype=torch.float64)).argsort()
    first = ptr.cpu()[:-1]
    kept = torch.arange(len(cloud)) - first[cloud] < num_points
    counts = sizes.clamp(max=num_points)
    rows = order[kept].to(pos.device)
    return rows, torch.cat([counts.new_zeros(1), counts.cumsum(0)]).to(ptr.device)


def reconstruction(
    config: ReconstructionConfig,
    merger: SkeletonMerger,
    batch: Batch,
    temperature: float,
    generator: torch.Generator,
    *,
    sample: bool = True,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of one batch, and its parts for the log.

    With ``sample=False`` the keypoints are the expectation and all points count, whatever ``config`` says: how good
    the trained map is.
    """
    pos, ptr = batch.pos, batch.ptr

    def draw(logits: Tensor, pos: Tensor, ptr: Tensor) -> Tensor:
        bandwidth: float | Tensor | None = config.bandwidth
        if bandwidth is None:
            bandwidth = pcsa.knn_bandwidth(pos, scale=config.bandwidth_scale, ptr=ptr, validate=False)
        return draw_samples(config, logits, pos, bandwidth, ptr, temperature, generator)

    predicted = merger(None, pos, ptr=ptr, read_out=draw if sample and config.read_out == "sampling" else None)
    keypoints, activation, offsets = predicted["keypoints"], predicted["activation"], predicted["offsets"]
    skeleton = skeleton_points(
        keypoints,
        offsets,
        spacing=config.spacing,
        min_points=config.min_points,
        max_points=config.max_points,
    )
    target, target_ptr = pos, ptr
    if sample and config.num_loss_points is not None:
        rows, target_ptr = subset(pos, ptr, config.num_loss_points, generator)
        target = pos[rows]
    distance = composite_chamfer(
        skeleton.points,
        skeleton.ptr,
        activation,
        target,
        ptr=target_ptr,
        uncovered=config.uncovered,
        validate=False,
    )
    penalty = config.offset_weight * offsets.square().sum()
    loss = distance.fidelity + distance.coverage + penalty
    sets = keypoints if keypoints.dim() == 3 else keypoints.transpose(1, 2).flatten(0, 1)
    parts = {
        "loss_fidelity": distance.fidelity,
        "loss_coverage": distance.coverage,
        "loss_offsets": penalty,
        "activation": activation.mean(),
        "active_segments": (activation > 0.5).float().sum(1).mean(),
    }
    if config.separation_weight > 0:
        parts["loss_separation"] = keypoint_separation(sets, config.separation_distance)
        loss = loss + config.separation_weight * parts["loss_separation"]
    if config.mirror_weight > 0:
        points = pos[:, 0]
        high = points.new_full((batch.num_graphs,), -math.inf).scatter_reduce(0, batch.batch, points, "amax")
        low = points.new_full((batch.num_graphs,), math.inf).scatter_reduce(0, batch.batch, points, "amin")
        middle = ((low + high) / 2).repeat_interleave(len(sets) // batch.num_graphs)
        parts["loss_mirror"] = mirror_error(sets, middle)
        loss = loss + config.mirror_weight * parts["loss_mirror"]
    with torch.no_grad():
        own = torch.eye(sets.shape[1], dtype=torch.bool, device=sets.device)
        between = torch.cdist(sets, sets).masked_fill(own, math.inf)
        # Near zero: keypoints have collapsed into each other.
        parts["nearest_keypoints"] = between.amin((1, 2)).mean()
    return loss, {name: value.detach() for name, value in parts.items()}


class _Items(Dataset[Data]):
    """Normalized clouds without their labels; augmented where an item is asked for with its epoch."""

    def __init__(self, dataset: Dataset[Data], augment: Augment, seed: int) -> None:
        self.dataset, self.augment, self.seed = dataset, augment, seed
        self.normalize = Normalize("min_max")

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __getitem__(self, key: int | tuple[int, int]) -> Data:
        epoch, index = (None, key) if isinstance(key, int) else key
        cloud = self.normalize(Data(pos=self.dataset[index].pos))
        if epoch is None or self.augment == Augment():
            return cloud
        changed = self.augment(Data(pos=cloud.pos), item_generator(self.seed, epoch, index))
        return self.normalize(changed)


class ShapesData(StepData):
    """Loaders of one category; without a split ``val`` there is nothing to validate on."""

    def __init__(self, config: UnsupervisedConfig) -> None:
        train_items = _Items(open_clouds(config.data, config.data.split), config.data.augment, config.seed)
        try:
            val_items: _Items | None = _Items(open_clouds(config.data, "val"), Augment(), config.seed)
        except FileNotFoundError:
            val_items = None
        K = config.model.num_keypoints
        for items in (train_items, val_items):
            sizes = [len(items.dataset[i].pos) for i in range(len(items))] if items is not None else []
            if sizes and min(sizes) < K:
                smallest = items.dataset[sizes.index(min(sizes))].model_id  # type: ignore[union-attr]
                raise ValueError(
                    f"`model.num-keypoints` (={K}) must be at most the points of the smallest cloud: "
                    f"{smallest} has {min(sizes)}"
                )
        super().__init__(config, train_items, val_items)
        o = config.optimizer
        self.steps = o.steps if o.epochs is None else o.epochs * self.steps_per_epoch

    def anchors(self) -> Tensor | None:
        """What :func:`find_anchors` finds on at most 200 of the training clouds, if the configuration wants any."""
        kind = self.config.model.anchors
        if kind == "none":
            return None
        step = -(-len(self.train_items) // 200)
        clouds = [self.train_items[i].pos for i in range(0, len(self.train_items), step)]
        clouds = [box_coordinates(pos, torch.zeros(len(pos), dtype=torch.long), 1) for pos in clouds]
        return find_anchors(clouds, self.config.model.num_keypoints, kind)


class SkeletonTraining(StepTraining):
    """Trains a :class:`pcsa.models.SkeletonMerger`."""

    def __init__(self, config: UnsupervisedConfig, steps: int, anchors: Tensor | None = None) -> None:
        super().__init__(
            config,
            SKELETON_KIND,
            steps,
            category=config.data.category,
            names=[str(k) for k in range(config.model.num_keypoints)],
        )
        self.merger = build_merger(config.model, anchors)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """One optimizer step."""
        temperature, generator = self.begin_step()
        loss, parts = reconstruction(self.config.objective, self.merger, batch, temperature, generator)
        self.log_step(loss, parts, batch.num_graphs)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """The same loss of the expectation."""
        loss, parts = reconstruction(self.config.objective, self.merger, batch, 1.0, torch.Generator(), sample=False)
        self.log("val_loss", loss, prog_bar=True, batch_size=batch.num_graphs, sync_dist=True)
        for name, value in parts.items():
            self.log(f"val_{name.removeprefix('loss_')}", value, batch_size=batch.num_graphs, sync_dist=True)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Adam or Adadelta, with a schedule per step."""
        o = self.config.optimizer
        optimizer: torch.optim.Optimizer
        if o.kind == "adadelta":
            optimizer = torch.optim.Adadelta(self.parameters(), lr=o.lr, eps=1e-2, weight_decay=o.weight_decay)
        else:
            optimizer = torch.optim.Adam(self.parameters(), lr=o.lr, weight_decay=o.weight_decay)
        schedule: torch.optim.lr_scheduler.LRScheduler
        if o.schedule == "cosine":
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=self.steps)
        else:
            schedule = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def train_unsupervised(config: UnsupervisedConfig) -> Path:
    """Train a Skeleton Merger and return its checkpoint, ``<out>/last.ckpt``.

    The resolved configuration lies beside it from the start (``config.json``), the log in ``log/``. With ``resume``
    the run continues from its last checkpoint to the numbers it would have reached uninterrupted.
    """

    def build() -> Training:
        data = ShapesData(config)
        L.seed_everything(config.seed, verbose=False)
        module = SkeletonTraining(config, data.steps, data.anchors())
        epochs = -(-data.steps // data.steps_per_epoch)
        return Training(module, data, module.about, epochs, validate=data.val_items is not None)

    return fit(config, SKELETON_KIND, build)


def load_skeleton_merger(path: Path, device: str | torch.device = "cpu") -> tuple[SkeletonMerger, dict[str, Any]]:
    """A trained Skeleton Merger in eval mode, and what its checkpoint says of itself.

    It takes clouds as ``pcsa.datasets.transforms.Normalize("min_max")`` leaves them, and its keypoints are in that
    frame; :func:`pcsa.datasets.transforms.denormalize` leads back.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is no checkpoint of a Skeleton Merger.
    """

    def build(about: dict[str, Any]) -> SkeletonMerger:
        config = SkeletonConfig(**about["config"]["model"])
        return build_merger(config, None if config.anchors == "none" else torch.zeros(config.num_keypoints, 3))

    merger, about = restore(path, SKELETON_KIND, "merger.", build)
    return merger.to(device).eval(), about
