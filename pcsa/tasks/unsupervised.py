"""Skeleton Merger: keypoints of aligned clouds without labels."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import lightning as L
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from torch_geometric.data import Batch, Data

from pcsa.datasets.clouds import UnlabeledClouds
from pcsa.datasets.keypointnet import KeypointNet
from pcsa.datasets.keypointnet.layout import ALL, annotation_files
from pcsa.datasets.shapenet import ShapeNetPoints, is_hdf5
from pcsa.datasets.transforms import Augment, Normalize, check_turns
from pcsa.datasets.up import Up, up_axis
from pcsa.localization import ReadOut
from pcsa.metrics import THRESHOLDS
from pcsa.models import MULTI_SCALE, SINGLE_SCALE, Level, PointNet2, SkeletonMerger
from pcsa.models.anchors import find_anchors
from pcsa.models.skeleton_merger import box_coordinates
from pcsa.skeleton import segment_pairs, segment_support
from pcsa.tasks.common.backbone import BackboneConfig
from pcsa.tasks.common.clouds import (
    CloudConfig,
    CloudEvaluation,
    CloudsConfig,
    CloudTask,
    LocatedClouds,
    open_annotated,
)
from pcsa.tasks.common.config import (
    Count,
    OptimizerConfig,
    Positive,
    Rule,
)
from pcsa.tasks.common.engine import StepData, StepTraining, Training, TrainingItems
from pcsa.tasks.common.fitting import check_suited, scale_of
from pcsa.tasks.common.floors import category_details, evaluate_category, format_category
from pcsa.tasks.common.held_out import check_clouds_held_out
from pcsa.tasks.common.read_outs import cloud_radius
from pcsa.tasks.common.reconstruction import ReconstructionConfig, reconstruction
from pcsa.tasks.common.task import Column, Details, Evaluation, Run, column
from pcsa.tasks.common.turned_clouds import CloudEvaluateOptions, cloud_turns, locate_turned, rotated_header
from pcsa.viz import Scene

log = logging.getLogger(__name__)

# The network of the paper's code: multi-scale grouping in balls of 0.05 to 0.8, for clouds in [-1, 1].
MERGER_SCALE = (
    Level(1024, (0.05, 0.1), (16, 32), ((16, 16, 32), (32, 32, 64))),
    Level(256, (0.1, 0.2), (16, 32), ((64, 64, 128), (64, 96, 128))),
    Level(64, (0.2, 0.4), (16, 32), ((128, 196, 256), (128, 196, 256))),
    Level(16, (0.4, 0.8), (16, 32), ((256, 256, 512), (256, 384, 512))),
)
SUPPORT_RADIUS, LEAST_SUPPORT = 0.05, 0.8
"""A picture shows the segments of which this share lies within this part of the diagonal of the shape's box."""
LEVELS: dict[str, tuple[Level, ...]] = {"single": SINGLE_SCALE, "multi": MULTI_SCALE, "merger": MERGER_SCALE}


@dataclass(frozen=True)
class UnsupervisedData(CloudsConfig):
    """Which clouds, and how they are varied while training.

    Every cloud is brought to [-1, 1] by one scalar minimum and maximum over all axes.
    """

    root: Path | None = None
    """Folder in KeypointNet's release layout (annotations are not needed), or HDF5 file or folder of such files with
    `data` and `label`; without it the procedural twin is generated and cached."""
    category: str = "chair"
    """A category of KeypointNet or of your own root; for HDF5 a label (a whole number), or all."""
    split: Literal["train", "all"] = "train"
    """Clouds to train on. There are no labels to learn, so `all` is fair where the same clouds are to be labeled."""
    augment: Augment = field(default_factory=Augment)
    """Lengths are in units of the normalized cloud; it is normalized again afterwards."""


@dataclass(frozen=True)
class SkeletonConfig(BackboneConfig):
    """The network."""

    num_keypoints: Annotated[int, Rule(2)] = 10
    """K; the skeleton has K (K - 1) / 2 segments."""
    scales: Literal["single", "multi", "merger"] = "single"
    """PointNet++ with single- or multi-scale grouping, or the four levels of Skeleton Merger's code."""
    out_channels: Count = 128
    """Width of the per-point features."""
    norm: Literal["batch", "group"] = "batch"
    """Normalization layers."""
    competition: bool = False
    """Compare the keypoints at each point (a log-softmax over them), as the paper's code does."""
    box_features: bool = True
    """Tell the network where in the bounding box of its cloud each point is: as x, [N, 3], for one of your own."""
    anchors: Literal["none", "corners", "farthest", "repeated"] = "corners"
    """Where keypoints begin: spread over the middle of the cloud's points (none), or each at a place of its own in the
    bounding box: its corners (the rest of K far from them), or places chosen on the training clouds with their boxes
    laid over each other: far from each other on the parts that most of them have (farthest), or where most of them have
    a corner (repeated)."""
    anchor_width: Positive = 0.1
    """How far from its anchor a keypoint begins to look, as a standard deviation, where the box is 2 wide."""

    def described(self) -> tuple[str, ...]:
        """See :class:`BackboneConfig`."""
        return ("scales", "out_channels", "norm")


@dataclass(frozen=True)
class UnsupervisedConfig(CloudConfig):
    """Everything that determines an unsupervised training."""

    data: UnsupervisedData = field(default_factory=UnsupervisedData)
    model: SkeletonConfig = field(default_factory=SkeletonConfig)
    objective: ReconstructionConfig = field(default_factory=ReconstructionConfig)
    optimizer: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(steps=300))
    out: Path = Path("runs/unsupervised")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.data.fold is not None and self.data.split == "all":
            raise ValueError("`data.split` (='all') must be 'train' with `data.fold`: that holds clouds out")
        j = self.objective
        if j.max_points < j.min_points:
            raise ValueError(
                f"`objective.max_points` (={j.max_points}) must be at least `objective.min_points` (={j.min_points})"
            )


@dataclass(frozen=True)
class MergerLabels:
    """What a Skeleton Merger finds: keypoints without a meaning, by their numbers."""

    category: str
    names: tuple[str, ...]
    up: Up = "y"
    """The axis that points up."""


MergerRun = Run[UnsupervisedConfig, MergerLabels]


@dataclass(frozen=True)
class UnsupervisedEvaluateOptions(CloudEvaluateOptions):
    """Score keypoints found without labels, over the whole category and on held-out clouds, beside their floors."""

    thresholds: tuple[float, ...] = THRESHOLDS
    """Thresholds of the mIoU, in the dataset's own units; the default is for shapes of size 1."""
    geodesic: bool = True
    """Also measure distances along the surface."""


def open_clouds(config: UnsupervisedData, split: str) -> Dataset[Data]:
    """The clouds of one split, in the dataset's own units; what labels they have come along unused.

    Raises:
        FileNotFoundError: If the root, or any cloud of the split, is missing.
        ValueError: If a cloud cannot be read; names the file.
    """
    root = config.root
    if root is None:
        return open_annotated(config, split)
    if is_hdf5(root):
        if config.category == "all":
            return ShapeNetPoints(root, None, split, config.held_out)
        if not config.category.isdecimal():
            raise ValueError(
                f"`data.category` (={config.category!r}) must be a label (a whole number) or all, for HDF5"
            )
        return ShapeNetPoints(root, int(config.category), split, config.held_out)
    if (root / "annotations" / f"{config.category}.json").exists():
        return KeypointNet(root, config.category, split, fold=config.held_out)
    return UnlabeledClouds(root, config.category, split, fold=config.held_out)


class ShapeItems(TrainingItems[Data]):
    """Normalized clouds without their labels."""

    def __init__(self, dataset: Dataset[Data], augment: Augment, seed: int) -> None:
        super().__init__(seed)
        augment.prepare()
        self.dataset, self.augment = dataset, augment
        self.up: Up = getattr(dataset, "up", "y")
        self.normalize = Normalize("min_max")

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def plain(self, index: int) -> Data:
        cloud = self.normalize(Data(pos=self.dataset[index].pos))
        # Enough once it is normalized.
        cloud.pos = cloud.pos.float()
        return cloud

    def varied(self, index: int, generator: torch.Generator) -> Data:
        cloud = self.plain(index)
        if self.augment == Augment():
            return cloud
        known = {} if self.up == "y" else {"up": up_axis(self.up)}
        return self.normalize(self.augment(Data(pos=cloud.pos, **known), generator))

    def anchors(self, config: SkeletonConfig) -> Tensor | None:
        """What :func:`find_anchors` finds on at most 200 of the clouds, if the configuration wants any."""
        if config.anchors == "none":
            return None
        clouds = [self.plain(i).pos for i in range(0, len(self), -(-len(self) // 200))]
        clouds = [box_coordinates(pos, torch.zeros(len(pos), dtype=torch.long), 1) for pos in clouds]
        return find_anchors(clouds, config.num_keypoints, config.anchors)


class SkeletonTraining(StepTraining[UnsupervisedConfig]):
    """Trains a :class:`pcsa.models.SkeletonMerger`."""

    @property
    def watched(self) -> Mapping[str, Literal["min", "max"]]:
        return {"val_loss": "min"}

    def loss(
        self, batch: Batch, temperature: float, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor], int]:
        loss, parts = reconstruction(self.config.objective, self.network, batch, temperature, generator)
        return loss, parts, batch.num_graphs

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """The same loss of the expectation."""
        loss, parts = reconstruction(self.config.objective, self.network, batch, 1.0, torch.Generator(), sample=False)
        self.log("val_loss", loss, prog_bar=True, batch_size=batch.num_graphs, sync_dist=True)
        for name, value in parts.items():
            self.log(f"val_{name.removeprefix('loss_')}", value, batch_size=batch.num_graphs, sync_dist=True)


class CategoryEvaluation(CloudEvaluation):
    """Dual alignment and mIoU over the whole category and on held-out clouds alone, beside their floors."""

    takes_all = True

    def __init__(
        self,
        task: UnsupervisedTask,
        run: MergerRun,
        options: UnsupervisedEvaluateOptions,
        split: Literal["val", "test"],
    ) -> None:
        name, root = run.labels.category, options.root or run.config.data.root
        if root is not None and not annotation_files(root).keys() & {name, ALL}:
            raise FileNotFoundError(
                f"`{root / 'annotations' / name}.json` is missing: without annotations there is nothing to score "
                "against; `root` may name other clouds of the category"
            )
        everything, held_out, train = (task.annotated(run, part, root) for part in ("all", split, "train"))
        super().__init__(split, everything, num_pictures=max(options.pictures, options.page))
        self.task, self.run, self.options = task, run, options
        self.everything, self.held_out, self.train = everything, held_out, train
        scale = scale_of([held_out[i].pos for i in range(len(held_out))])
        check_suited("thresholds", options.thresholds, scale)
        self.radius = cloud_radius(options.read_out, options.radius, scale)
        self.header |= {"radius": self.radius, **rotated_header(options)}
        self.shown = set(held_out.model_ids[: self.num_pictures])
        self.predicted: list[Tensor] = []

    def find(self, batch: Batch) -> dict[str, Any]:
        clouds = batch.to_data_list()
        read_out = self.options.read_out
        turns = cloud_turns(self.options, [cloud.model_id for cloud in clouds], cast(Up, self.everything.up))
        located = locate_turned(
            lambda given: self.task.locate(self.run, given, read_out, self.radius),
            [cloud.pos for cloud in clouds],
            turns,
        )
        for i, cloud in enumerate(clouds):
            if cloud.model_id in self.shown:
                self.pictures.append(self.task.scene(self.run, cloud.pos, located, i, read_out, title=cloud.model_id))
        return {"position": located.position}

    def take(self, record: dict[str, Any]) -> None:
        self.predicted += list(record["position"])

    def draws(self, batch: Sequence[int], drawn: int) -> bool:
        return any(self.everything.model_ids[index] in self.shown for index in batch)

    def scores(self) -> dict[str, Any]:
        scores = evaluate_category(
            self.predicted,
            self.everything,
            self.train,
            self.held_out,
            geodesic=self.options.geodesic,
            thresholds=self.options.thresholds,
            read_out=self.options.read_out,
        )
        return {"num_items": scores["held_out"]["num_clouds"], **scores}


def _score(title: str, part: str, *path: str) -> Column:
    """The column of a score of the detector, in percent."""
    return column(title, part, "rows", "detector", *path, factor=100)


def _miou(of: str, key: str, threshold: float = 0.1) -> Column:
    """The column of the detector's mIoU at the last threshold on held-out clouds, in percent."""
    curve = _score(f"mIoU@{threshold:g}{of}", "held_out", key)

    def value(metrics: Mapping[str, Any]) -> float | None:
        last = metrics.get("held_out", {}).get("thresholds", [threshold])[-1]
        return curve.value(metrics) if last == threshold else None

    return Column(curve.title, value)


class UnsupervisedTask(CloudTask[UnsupervisedConfig, MergerLabels]):
    """See the module."""

    name = "unsupervised"
    named = False
    title = "Skeleton Merger on aligned clouds without labels (KeypointNet, your own, ShapeNet, procedural shapes)"
    frame = "min_max"
    labels_type = MergerLabels
    evaluate_options = UnsupervisedEvaluateOptions
    methods = {"soft": {"read_out": "soft"}, "sampling": {"read_out": "sampling"}}
    columns = (
        _score("DAS, all shapes", "category", "dual_alignment", "mean"),
        _score("DAS", "held_out", "dual_alignment", "mean"),
        _miou("", "miou_euclidean"),
        _miou(" geodesic", "miou_geodesic"),
    )
    presets = {
        # What trained best on the real clouds.
        "default": UnsupervisedConfig(),
        # The same without samples.
        "soft": UnsupervisedConfig(objective=ReconstructionConfig(read_out="soft")),
        # Best aligned between shapes: begun where most of them have a corner, and held to it.
        "aligned": UnsupervisedConfig(
            model=SkeletonConfig(anchors="repeated"),
            objective=ReconstructionConfig(contrast_weight=0.1, spread_weight=1.0),
            optimizer=OptimizerConfig(steps=50),
        ),
        # The networks and settings of Skeleton Merger's code, with the samples of the sampling-argmax paper; its
        # schedule of the temperature is only known for images.
        "paper": UnsupervisedConfig(
            model=SkeletonConfig(scales="merger", competition=True, anchors="none", box_features=False),
            objective=ReconstructionConfig(
                num_samples=30,
                temperature_start=2.0,
                temperature_end=0.5,
                bandwidth=0.01,
                num_loss_points=None,
            ),
            optimizer=OptimizerConfig(steps=300, kind="adadelta", lr=1.0, schedule="constant", epochs=80, clip=0.0),
        ),
        # A few minutes on two cores.
        "demo": UnsupervisedConfig(data=UnsupervisedData(num_shapes=200), optimizer=OptimizerConfig(steps=200)),
    }

    def training(self, config: UnsupervisedConfig) -> Training:
        train = ShapeItems(open_clouds(config.data, config.data.split), config.data.augment, config.seed)
        check_turns("data.augment.rotate", config.data.augment.rotate, train.up)
        val: ShapeItems | None
        try:
            val = ShapeItems(open_clouds(config.data, "val"), Augment(), config.seed)
        except FileNotFoundError as error:  # nothing to validate on
            log.info("%s", error)
            val = None
        if val is not None and config.data.split == "train":
            check_clouds_held_out(f"`data.root` (={str(config.data.root)!r})", train.dataset, val.dataset)
        elif val is not None:
            log.info("`data.split` (='all') trains on the clouds to validate on, too: for watching, not for choosing")
        K = config.model.num_keypoints
        for items in (train, val):
            sizes = [len(items.dataset[i].pos) for i in range(len(items))] if items is not None else []
            if items is not None and sizes and min(sizes) < K:
                smallest = items.dataset[sizes.index(min(sizes))].model_id
                raise ValueError(
                    f"`model.num_keypoints` (={K}) must be at most the points of the smallest cloud: "
                    f"{smallest} has {min(sizes)}"
                )
        data = StepData(config, train, val)
        L.seed_everything(config.seed, verbose=False)
        labels = MergerLabels(config.data.category, tuple(str(k) for k in range(K)), train.up)
        network = self._network(config.model, train.anchors(config.model))
        return Training(SkeletonTraining(config, network, data.steps_per_epoch), data, labels)

    def mean(self, runs: Sequence[MergerRun]) -> nn.Module:
        raise ValueError(
            f"`ensemble` (={str(runs[1].path)!r}) must not be given for {self.name}: keypoints that two trainings find "
            "by themselves are not the same"
        )

    def renormalize(self) -> Normalize:
        return Normalize(self.frame)

    def with_another(self, config: UnsupervisedConfig, labels: MergerLabels) -> tuple[UnsupervisedConfig, MergerLabels]:
        more = replace(config.model, num_keypoints=config.model.num_keypoints + 1)
        return replace(config, model=more), labels

    def build(self, config: UnsupervisedConfig, labels: MergerLabels) -> SkeletonMerger:
        K = config.model.num_keypoints
        # The places themselves are among the weights.
        return self._network(config.model, None if config.model.anchors == "none" else torch.zeros(K, 3))

    def _network(self, config: SkeletonConfig, anchors: Tensor | None) -> SkeletonMerger:
        backbone = config.make_backbone(
            lambda: PointNet2(
                3 * config.box_features, LEVELS[config.scales], out_channels=config.out_channels, norm=config.norm
            )
        )
        return SkeletonMerger(
            backbone,
            config.num_keypoints,
            competition=config.competition,
            box_features=config.box_features,
            anchors=anchors,
            anchor_width=config.anchor_width,
        )

    def evaluation(self, run: MergerRun, options: UnsupervisedEvaluateOptions) -> Evaluation:
        return CategoryEvaluation(self, run, options, self.scored_split(run.config, options.split))

    def scored_clouds(self, run: MergerRun, options: Any, split: Literal["val", "test"]) -> tuple[MergerRun, Any]:
        # What is found again needs no annotations.
        return run, open_clouds(replace(run.config.data, root=options.root or run.config.data.root), split)

    def about(
        self,
        run: MergerRun,
        located: LocatedClouds,
        place: int,
        annotated: Data | None,  # keypoints without a meaning have no annotations to stand beside
    ) -> dict[str, Any]:
        return {"names": run.labels.names}

    def scene(
        self, run: MergerRun, pos: Tensor, located: LocatedClouds, place: int, read_out: ReadOut, **options: Any
    ) -> Scene:
        # The learned activations are nearly those of every other shape: what is drawn is what this shape has.
        keypoints = located.position[place]
        radius = SUPPORT_RADIUS * float((pos.amax(0) - pos.amin(0)).norm())
        if len(keypoints) > 1 and radius > 0:
            support = segment_support(keypoints[None].to(pos), pos, radius=radius)[0]
            options["segments"] = segment_pairs(len(keypoints)).t()
            options["activation"] = torch.where(support >= LEAST_SUPPORT, support, 0.0)
        return super().scene(run, pos, located, place, read_out, **options)

    def header(self, run: MergerRun) -> dict[str, Any]:
        # Which keypoints each activation joins.
        return {"segments": segment_pairs(len(run.labels.names)).t().tolist()}

    def extra(self, located: LocatedClouds) -> dict[str, Tensor]:
        return {"activation": located.outputs["activation"]}

    def columns_of(self, metrics: Mapping[str, Any]) -> Sequence[Column]:
        last = metrics.get("held_out", {}).get("thresholds", [0.1])[-1]
        alignment = self.columns[:2]
        return (*alignment, _miou("", "miou_euclidean", last), _miou(" geodesic", "miou_geodesic", last))

    def details(self, metrics: Mapping[str, Any]) -> Details:
        return category_details(metrics)

    def table(self, metrics: Mapping[str, Any]) -> str:
        return format_category(metrics)


TASK = UnsupervisedTask()
