"""A keypoint detector on annotated clouds: KeypointNet, its procedural twin, your own."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from torch import Tensor
from torch_geometric.data import Batch, Data

import pcsa
from pcsa import losses
from pcsa.datasets.keypointnet import KeypointNet, rotated_labelings, rotation_groups
from pcsa.datasets.keypointnet.layout import models_of_split
from pcsa.datasets.transforms import Augment, Normalize, denormalize
from pcsa.metrics import PCK, THRESHOLDS, KeypointMetrics, MeanKeypointError, keypoint_error, symmetric_error
from pcsa.metrics.geodesic import geodesic_error
from pcsa.models import MULTI_SCALE, SINGLE_SCALE, KeypointDetector, Level, PointNet2
from pcsa.tasks.common.clouds import (
    CloudConfig,
    CloudEvaluation,
    CloudsConfig,
    CloudTask,
    LocatedClouds,
    open_annotated,
)
from pcsa.tasks.common.config import (
    BandwidthConfig,
    Count,
    FromZero,
    LocalizationConfig,
    OptimizerConfig,
    Positive,
)
from pcsa.tasks.common.engine import StepData, StepTraining, Training, TrainingItems
from pcsa.tasks.common.fitting import check_suited, scale_of, suited, suits
from pcsa.tasks.common.held_out import check_clouds_held_out
from pcsa.tasks.common.objective import draw_samples, localization_loss, point_bandwidth
from pcsa.tasks.common.precompute import Hierarchies, geometry_of, open_hierarchies
from pcsa.tasks.common.shape_distances import shape_distances
from pcsa.tasks.common.tables import markdown_table, number
from pcsa.tasks.common.task import Column, EvaluateOptions, Evaluation, Run, column

# No training step reads them, and every tensor of a batch that a worker hands over costs time.
_UNUSED = ("color", "keypoint_index", "reflection", "rotation", "is_circle", "offset", "scale", "model_id")
_NORMALIZE = Normalize("unit_sphere")
# What the training logs: KeypointNet's thresholds, and these shares of the diagonal for clouds that they do not suit.
_WATCHED = (0.01, 0.05)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SupervisedData(CloudsConfig):
    """Which clouds, and how they are varied while training."""

    num_keypoints: Count | None = None
    """Train on the keypoints annotated most often only; default all."""
    strict: bool = False
    """Stop if a split names clouds that the root lacks, instead of reporting how many."""
    augment: Augment = field(default_factory=lambda: Augment(mirror=0.5, scale=0.1, axis_scale=0.15, shift=0.1))
    """Lengths are in units of the normalized cloud (unit sphere)."""
    precompute: bool = False
    """Search each training cloud's neighbors once and keep them with the dataset. Under `scale` the radii of the
    network's balls scale with the cloud. Not with axis-scale, jitter, drop or resample: they change the neighbors."""


@dataclass(frozen=True)
class DetectorConfig:
    """The network of per-point features."""

    scales: Literal["single", "multi"] = "single"
    """PointNet++ with single- or multi-scale grouping."""
    out_channels: Count = 128
    """Width of the per-point features."""
    norm: Literal["batch", "group"] = "batch"
    """Normalization layers."""

    @property
    def levels(self) -> tuple[Level, ...]:
        return SINGLE_SCALE if self.scales == "single" else MULTI_SCALE


@dataclass(frozen=True)
class ObjectiveConfig(LocalizationConfig, BandwidthConfig):
    """What is minimized. Lengths are in units of the normalized cloud (unit sphere)."""

    regularization_sigma: Positive = 0.02
    """Standard deviation that the regularization wants."""
    presence_weight: FromZero = 0.05
    """Weight of the presence score's binary cross-entropy."""


@dataclass(frozen=True)
class SupervisedConfig(CloudConfig):
    """Everything that determines a supervised training."""

    data: SupervisedData = field(default_factory=SupervisedData)
    model: DetectorConfig = field(default_factory=DetectorConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    out: Path = Path("runs/supervised")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.data.precompute and self.data.augment.deforming:
            name = self.data.augment.deforming[0]
            raise ValueError(
                f"`data.augment.{name}` (={getattr(self.data.augment, name)}) must be 0 with `data.precompute`: it "
                "changes which points are neighbors"
            )


@dataclass(frozen=True)
class KeypointLabels:
    """What a detector finds."""

    category: str
    names: tuple[str, ...]
    semantic_ids: tuple[int, ...]


DetectorRun = Run[SupervisedConfig, KeypointLabels]


@dataclass(frozen=True)
class SupervisedEvaluateOptions(EvaluateOptions):
    """Score a detector on clouds it was not trained on, in the dataset's own units."""

    thresholds: tuple[float, ...] = THRESHOLDS
    """Thresholds of the PCK, in the dataset's own units; the default is for shapes of size 1."""
    geodesic: bool = True
    """Also measure distances along the surface, as KeypointNet's benchmark does."""


def most_annotated(config: SupervisedData) -> tuple[int, ...] | None:
    """Semantic ids of the ``num_keypoints`` keypoints that the training clouds have most often; None for all."""
    if config.num_keypoints is None:
        return None
    everything = open_annotated(config, "train", strict=config.strict)
    if config.num_keypoints > everything.num_keypoints:
        raise ValueError(
            f"`data.num_keypoints` (={config.num_keypoints}) must be at most the {everything.num_keypoints} "
            f"keypoints that the annotations of {config.category!r} have"
        )
    counts = everything.visible.sum(0)
    most = counts.argsort(descending=True, stable=True)[: config.num_keypoints]
    return tuple(sorted(everything.semantic_ids[i] for i in most.tolist()))


def normalized(cloud: Data) -> Data:
    """A cloud as the network takes it: in float32, which is enough once it is normalized."""
    cloud = _NORMALIZE(cloud)
    cloud.pos, cloud.keypoints = cloud.pos.float(), cloud.keypoints.float()
    return cloud


def open_validation(config: SupervisedData, train: KeypointNet) -> KeypointNet | None:
    """The clouds to validate on, with the columns of the training; None where the root has none, and the log says so.

    Raises:
        FileNotFoundError: If clouds are named and missing, with ``config.strict``.
        ValueError: If some are trained on, too.
    """
    try:
        val = open_annotated(config, "val", strict=config.strict, keypoint_ids=train.semantic_ids)
    except FileNotFoundError as error:
        listed = train.root / "splits" / "val.txt"
        named = listed.exists() and models_of_split(listed, train.class_id)
        if config.strict and (named or config.fold is not None):
            raise
        log.warning("nothing to validate on, the training goes on without: %s", error)
        return None
    check_clouds_held_out(f"`data.root` (={str(train.root)!r})", train, val)
    return val


def watched_thresholds(val: KeypointNet | None) -> tuple[float, ...]:
    """Thresholds of the PCK that the training logs, in the dataset's own units."""
    if val is None:
        return _WATCHED
    scale = scale_of([val[i].pos for i in range(len(val))])
    if suits(_WATCHED, scale):
        return _WATCHED
    thresholds = suited(_WATCHED, scale)
    named = ", ".join(f"val_pck@{t:g}" for t in thresholds)
    log.info("%s: the median diagonal of the clouds' bounding boxes is %.3g", named, scale.diagonal)
    return thresholds


def detection_loss(
    config: ObjectiveConfig,
    predicted: dict[str, Tensor],
    batch: Batch,
    temperature: float,
    generator: torch.Generator,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of one batch, and its parts for the log."""
    logits, pos, target, visible = predicted["logits"], batch.pos, batch.keypoints, batch.visible
    bandwidth: float | Tensor | None = config.bandwidth
    if bandwidth is None and config.method in ("sampling", "mixture", "nll"):
        if "bandwidth" in batch:  # found before, see SupervisedData.precompute
            bandwidth = config.bandwidth_scale * batch.bandwidth
        else:
            bandwidth = point_bandwidth(config, pos, batch.ptr)
    samples = None
    if config.method == "sampling":
        assert bandwidth is not None
        samples = draw_samples(config, logits, pos, bandwidth, batch.ptr, temperature, generator)
    sigma = config.regularization_sigma
    loss, parts = localization_loss(config, samples, logits, pos, bandwidth, sigma, target, visible, ptr=batch.ptr)
    # Also at weight 0: several processes wait for the gradient of every parameter.
    presence = losses.presence_loss(predicted["presence"], visible)
    parts["presence"] = presence.detach()
    return loss + config.presence_weight * presence, parts


class DetectionItems(TrainingItems[Data]):
    """Normalized clouds with their keypoints."""

    def __init__(
        self, dataset: KeypointNet, augment: Augment, seed: int, hierarchies: Hierarchies | None = None
    ) -> None:
        super().__init__(seed)
        self.dataset, self.augment, self.hierarchies = dataset, augment, hierarchies

    def __len__(self) -> int:
        return len(self.dataset)

    def plain(self, index: int) -> Data:
        return normalized(self.dataset[index])

    def varied(self, index: int, generator: torch.Generator) -> Data:
        data = self.plain(index)
        if self.hierarchies is not None:
            data = self.hierarchies.attach(data, index)
        data = self.augment(data, generator)
        for name in _UNUSED:
            del data[name]
        return data


class Detection(StepTraining[SupervisedConfig]):
    """Trains a :class:`pcsa.models.KeypointDetector`; validates in the dataset's own units."""

    def __init__(
        self,
        config: SupervisedConfig,
        network: KeypointDetector,
        steps_per_epoch: int,
        thresholds: tuple[float, ...] = _WATCHED,
    ) -> None:
        super().__init__(config, network, steps_per_epoch)
        self.pck, self.error = PCK(thresholds), MeanKeypointError()

    def loss(
        self, batch: Batch, temperature: float, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor], int]:
        predicted = self.network(None, batch.pos, ptr=batch.ptr, geometry=geometry_of(batch))
        loss, parts = detection_loss(self.config.objective, predicted, batch, temperature, generator)
        return loss, {f"loss_{name}": value for name, value in parts.items()}, batch.num_graphs

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """PCK and mean error of the expectation, Euclidean, raw units, without symmetry."""
        predicted = self.network(None, batch.pos, ptr=batch.ptr)
        position = pcsa.soft_argmax(predicted["logits"], batch.pos, ptr=batch.ptr)
        raw = denormalize(position, batch.offset, batch.scale)
        target = denormalize(batch.keypoints, batch.offset, batch.scale)
        distance = keypoint_error(raw, target, batch.visible)
        self.pck.update(distance, batch.visible)
        self.error.update(distance, batch.visible)

    def on_validation_epoch_end(self) -> None:
        """Log what the metrics collected."""
        for i, (threshold, value) in enumerate(zip(self.pck.thresholds, self.pck.compute(), strict=True)):
            self.log(f"val_pck@{threshold:g}", value, prog_bar=i == 0, sync_dist=True)
        self.log("val_error", self.error.compute(), sync_dist=True)
        self.pck.reset()
        self.error.reset()


class DetectionEvaluation(CloudEvaluation):
    """PCK, mean error, presence and calibration, Euclidean and geodesic, with and without rotational symmetry."""

    def __init__(
        self,
        task: SupervisedTask,
        run: DetectorRun,
        options: SupervisedEvaluateOptions,
        split: Literal["val", "test"],
    ) -> None:
        dataset = task.annotated(run, split, options.root)
        super().__init__(
            split,
            dataset,
            {
                "category": dataset.category,
                "num_items": len(dataset),
                "num_missing": len(dataset.missing),
                **({} if run.config.data.fold is None or split == "test" else {"fold": str(run.config.data.held_out)}),
                "units": "the dataset's own",
            },
            num_pictures=max(options.pictures, options.page),
        )
        self.task, self.run, self.options, self.dataset = task, run, options, dataset
        scale = scale_of([dataset[i].pos for i in range(len(dataset))])
        check_suited("thresholds", options.thresholds, scale)
        correct = options.correct_threshold
        if correct is not None:
            check_suited("correct_threshold", [correct], scale, [0.01])
        elif suits([0.01], scale._replace(spacing=0.0)):
            correct = 0.01
        else:
            (correct,) = suited([0.01], scale)
        self.metrics = KeypointMetrics(
            thresholds=options.thresholds,
            correct_threshold=correct,
            categories=(dataset.category,),
            keypoint_names={dataset.category: list(run.labels.names)},
        )

    def find(self, batch: Batch) -> dict[str, Any]:
        clouds = batch.to_data_list()
        read_out = self.options.read_out
        located = self.task.locate(self.run, [cloud.pos for cloud in clouds], read_out)
        symmetric, geodesic, geodesic_symmetric = [], [], []
        for i, cloud in enumerate(clouds):
            groups = rotation_groups(cloud.rotation[0], cloud.is_circle[0])
            candidates, index = rotated_labelings(
                cloud.pos, cloud.keypoints[0], cloud.visible[0], groups, category=self.dataset.category
            )
            index[0] = cloud.keypoint_index[0]
            position, visible = located.position[i], cloud.visible[0]
            choice = symmetric_error(position, candidates, visible, logits=located.logits[i], index=index).choice
            symmetric.append(candidates[choice])
            if self.options.geodesic:
                geodesic.append(geodesic_error(position, cloud.pos, index[0], visible))
                geodesic_symmetric.append(geodesic_error(position, cloud.pos, index[choice], visible))
            if len(self.pictures) < self.num_pictures:
                self.pictures.append(
                    self.task.scene(self.run, cloud.pos, located, i, read_out, title=cloud.model_id, annotated=cloud)
                )
        return {
            "predicted": located.position,
            "target": batch.keypoints,
            "visible": batch.visible,
            "symmetric_target": torch.stack(symmetric),
            "geodesic": torch.stack(geodesic) if geodesic else None,
            "geodesic_symmetric": torch.stack(geodesic_symmetric) if geodesic else None,
            "confidence": located.peak.clamp(0, 1),
            "presence_logits": located.outputs["presence"],
        }

    def take(self, record: dict[str, Any]) -> None:
        self.metrics.update(**record)

    def scores(self) -> dict[str, Any]:
        visible, distances = self.metrics.per_shape()
        per_shape = shape_distances(self.dataset.model_ids, visible, {self.options.read_out: distances})
        return {**self.metrics.compute(), "per_shape": per_shape}


def _pck(title: str, kind: str, threshold: float) -> Column:
    """The column of the PCK at a threshold, in percent."""

    def value(metrics: Mapping[str, Any]) -> float | None:
        curve = metrics.get("overall", {}).get(kind)
        if curve is None or threshold not in metrics["thresholds"]:
            return None
        return 100 * float(curve["pck"][metrics["thresholds"].index(threshold)])

    return Column(f"{title}@{threshold:g}", value)


class SupervisedTask(CloudTask[SupervisedConfig, KeypointLabels]):
    """See the module."""

    name = "supervised"
    title = "a keypoint detector on labeled clouds (KeypointNet, your own, procedural shapes)"
    frame = "unit_sphere"
    labels_type = KeypointLabels
    evaluate_options = SupervisedEvaluateOptions
    methods = {"soft": {"method": "soft"}, "sampling": {"method": "sampling"}}
    columns = (
        *(_pck("PCK", "euclidean", t) for t in (0.01, 0.05, 0.1)),
        *(_pck("geod.", "geodesic", t) for t in (0.01, 0.05, 0.1)),
        column("mean error", "overall", "euclidean", "mean_error"),
        column("presence AP", "overall", "presence_average_precision"),
        column("Pearson r", "overall", "calibration", "pearson"),
    )
    presets = {
        # Sampling-argmax with the settings of the documentation's results.
        "sampling": SupervisedConfig(),
        # Its baseline: the same but for the objective.
        "soft": SupervisedConfig(objective=ObjectiveConfig(method="soft")),
        # What `make demo` runs: about two minutes on two cores.
        "demo": SupervisedConfig(data=SupervisedData(num_shapes=200), optimizer=OptimizerConfig(steps=250)),
    }

    def training(self, config: SupervisedConfig) -> Training:
        train = open_annotated(
            config.data, "train", strict=config.data.strict, keypoint_ids=most_annotated(config.data)
        )
        val = open_validation(config.data, train)
        for clouds in (train, val):
            if clouds is not None and not clouds.visible.any():
                raise ValueError(
                    f"`data.root` (={str(clouds.root)!r}) must have a keypoint to learn: none of the {len(clouds)} "
                    f"clouds of {clouds.category!r} in split {clouds.split!r} has any"
                )
        hierarchies = open_hierarchies(train, normalized, config.model.levels) if config.data.precompute else None
        data = StepData(
            config,
            DetectionItems(train, config.data.augment, config.seed, hierarchies),
            None if val is None else DetectionItems(val, Augment(), config.seed),
        )
        labels = KeypointLabels(train.category, tuple(str(n) for n in train.names), tuple(train.semantic_ids))
        L.seed_everything(config.seed, verbose=False)
        network, thresholds = self.build(config, labels), watched_thresholds(val)
        return Training(Detection(config, network, data.steps_per_epoch, thresholds), data, labels)

    def build(self, config: SupervisedConfig, labels: KeypointLabels) -> KeypointDetector:
        model = config.model
        backbone = PointNet2(levels=model.levels, out_channels=model.out_channels, norm=model.norm)
        return KeypointDetector(backbone, len(labels.semantic_ids))

    def evaluation(self, run: DetectorRun, options: SupervisedEvaluateOptions) -> Evaluation:
        return DetectionEvaluation(self, run, options, self.scored_split(run.config, options.split))

    def annotations(self, run: DetectorRun) -> dict[str, Any]:
        return {"strict": run.config.data.strict, "keypoint_ids": run.labels.semantic_ids}

    def about(
        self,
        run: DetectorRun,
        located: LocatedClouds,
        place: int,
        annotated: Data | None,
    ) -> dict[str, Any]:
        known: dict[str, Any] = {"names": run.labels.names, "ids": run.labels.semantic_ids}
        if annotated is None:
            return {**known, "present": located.outputs["presence"][place].sigmoid() > 0.5}
        visible = annotated.visible[0]
        return {**known, "annotated": annotated.keypoints[0], "visible": visible, "present": visible}

    def header(self, run: DetectorRun) -> dict[str, Any]:
        return {"semantic_ids": list(run.labels.semantic_ids)}

    def extra(self, located: LocatedClouds) -> dict[str, Tensor]:
        return {"presence": located.outputs["presence"].sigmoid()}

    def table(self, metrics: Mapping[str, Any]) -> str:
        overall, thresholds = metrics["overall"], metrics["thresholds"]
        shown = [i for i, t in enumerate(thresholds) if t in (0.01, 0.02, 0.05, 0.1)]
        if len(shown) < 4:  # not the default ones
            shown = sorted({round(i * (len(thresholds) - 1) / 3) for i in range(4)})
        missing = f" ({metrics['num_missing']} clouds missing)" if metrics["num_missing"] else ""
        rows = []
        for key, name in (
            ("euclidean", "Euclidean"),
            ("euclidean_symmetric", "Euclidean, rotational symmetry"),
            ("geodesic", "geodesic"),
            ("geodesic_symmetric", "geodesic, rotational symmetry"),
        ):
            if key in overall:
                row = overall[key]
                error = row["mean_error"]
                curve = [number(100 * row["pck"][i], 1) for i in shown]
                rows.append([name, *curve, "unreachable" if error is None else number(error, 4)])
        heads = ["distance (units of the dataset)", *(f"PCK@{thresholds[i]:g}" for i in shown), "mean error"]
        calibration = overall["calibration"]
        return "\n".join(
            [
                f"{metrics['category']}, {metrics.get('fold', metrics['split'])}: {metrics['num_items']} clouds, "
                f"{overall['num_keypoints']} annotated keypoints{missing}; read-out: {metrics['read_out']}",
                "",
                markdown_table(heads, rows),
                "",
                f"presence, average precision: {number(overall['presence_average_precision'], 3)}",
                f"Pearson r of peak probability with error < {calibration['threshold']:g}: "
                f"{number(calibration['pearson'], 3)}",
            ]
        )


TASK = SupervisedTask()
