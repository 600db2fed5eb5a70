"""A keypoint detector on annotated clouds: KeypointNet, its procedural twin, your own."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, cast, get_args

import lightning as L
import torch
from torch import Tensor
from torch_geometric.data import Batch, Data

import pcsa
from pcsa._core.triton.launch import usable
from pcsa.datasets.keypointnet import KeypointCategories, KeypointNet
from pcsa.datasets.keypointnet.layout import models_of_split
from pcsa.datasets.mirrors import category_mirrors
from pcsa.datasets.shots import Shots
from pcsa.datasets.thinning import Thin
from pcsa.datasets.transforms import Augment, Normalize, check_turns, denormalize
from pcsa.datasets.turning import in_a_frame
from pcsa.datasets.up import Up, up_axis
from pcsa.metrics import PCK, THRESHOLDS, MeanKeypointError, keypoint_error
from pcsa.models import KeypointDetector, LevelGeometry, PointNet2, build_geometry
from pcsa.tasks.common.belief_tables import belief_details, pck_columns
from pcsa.tasks.common.categories import KeypointLabels, of_category
from pcsa.tasks.common.clouds import (
    CloudConfig,
    CloudPredictOptions,
    CloudsConfig,
    CloudTask,
    LocatedClouds,
    open_annotated,
)
from pcsa.tasks.common.config import (
    Count,
    Method,
    OptimizerConfig,
    Rule,
)
from pcsa.tasks.common.detection import DetectionEvaluation, SupervisedEvaluateOptions, detection_table
from pcsa.tasks.common.detection_loss import ObjectiveConfig as ObjectiveConfig, check_marked, detection_loss
from pcsa.tasks.common.detector import DetectorConfig, build_detector
from pcsa.tasks.common.detours import Detours, open_detours
from pcsa.tasks.common.engine import StepData, StepTraining, Training, TrainingItems, one_size
from pcsa.tasks.common.fitting import scale_of, suited, suits
from pcsa.tasks.common.graphed import Graphed, StepOfTensors, tensors_of
from pcsa.tasks.common.held_out import check_clouds_held_out
from pcsa.tasks.common.network_noise import network_noise
from pcsa.tasks.common.precompute import Hierarchies, geometry_of, open_hierarchies
from pcsa.tasks.common.tables import shown_thresholds
from pcsa.tasks.common.task import Column, Details, Evaluation, Predictor, Run, column
from pcsa.tasks.common.thinned import run_on, thinning
from pcsa.tasks.common.training_clouds import Turns

# No training step reads them, and every tensor of a batch that a worker hands over costs time.
_UNUSED = ("color", "keypoint_index", "reflection", "rotation", "is_circle", "offset", "scale", "model_id", "category")
_ALSO_UNUSED = ("up",)
_MARKS = ("marks", "marked")
# Precisions of a step that CUDA graphs may replay. 16-mixed scales the loss by what the last step gave; others were not
# tried.
_GRAPHED = ("32-true", "32", "bf16-mixed", "bf16")
_NORMALIZE = Normalize("unit_sphere")
# What the training logs: KeypointNet's thresholds, and these shares of the diagonal for clouds that they do not suit.
_WATCHED = (0.01, 0.05)
# Least weight of presence where clouds may be turned.
_FRAME_WEIGHT = 1.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SupervisedData(CloudsConfig):
    """Which clouds, and how they are varied while training."""

    category: str = "chair"
    """A category of KeypointNet, or of your own root. Several, with commas between, share a network: bed,bathtub."""
    num_keypoints: Count | None = None
    """Train on the keypoints annotated most often only; default all."""
    shots: Count | None = None
    """Train on so many of the training shapes only, of each category; default all. 5 are among 10, and 10 among 20. A
    group of clouds (`pcsa data import --group`) counts once, and comes whole."""
    shots_seed: Annotated[int, Rule(0)] = 0
    """Seed of the order in which `shots` takes them."""
    strict: bool = False
    """Stop if a split names clouds that the root lacks, instead of reporting how many."""
    augment: Augment = field(default_factory=lambda: Augment(mirror=0.5, scale=0.1, axis_scale=0.15, shift=0.1))
    """Lengths are in units of the normalized cloud (unit sphere)."""
    thin: Thin = field(default_factory=Thin)
    """Points that the clouds lack, those to validate and to score on, too: before they are normalized and varied."""
    precompute: bool = False
    """Search each training cloud's neighbors once and keep them with the dataset. Under `scale` the radii of the
    network's balls scale with the cloud. Not with axis-scale, jitter, drop or resample: they change the neighbors."""

    @property
    def few(self) -> Shots | None:
        return None if self.shots is None else Shots(self.shots, self.shots_seed)


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
            off = "None" if name == "custom" else 0
            raise ValueError(
                f"`data.augment.{name}` (={getattr(self.data.augment, name)}) must be {off} with `data.precompute`: it "
                "changes which points are neighbors"
            )
        if self.model.backbone is not None and self.data.precompute:
            raise ValueError(
                f"`data.precompute` (=True) must be False with `model.backbone` (={self.model.backbone!r}): what is "
                "searched once is what PointNet++ looks at"
            )


DetectorRun = Run[SupervisedConfig, KeypointLabels]


@dataclass(frozen=True)
class SupervisedPredictOptions(CloudPredictOptions):
    """Keypoints of clouds and meshes by a detector, in their own units."""

    category: str | None = None
    """Category of the inputs, for a detector of several."""


def most_annotated(config: SupervisedData) -> tuple[int, ...] | None:
    """Semantic ids of the ``num_keypoints`` keypoints that the training clouds have most often; None for all."""
    if config.num_keypoints is None:
        return None
    if "," in config.category:
        raise ValueError(
            f"`data.num_keypoints` (={config.num_keypoints}) must not be given with several categories, "
            f"`data.category` (={config.category!r})"
        )
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
        ids, transform = KeypointLabels.of(train).ids, thinning(config.thin)
        val = open_annotated(config, "val", strict=config.strict, keypoint_ids=ids, transform=transform)
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


class DetectionItems(TrainingItems[Data]):
    """Normalized clouds with their keypoints; varied ones with their marks only if the objective is about ``marks``."""

    def __init__(
        self,
        dataset: KeypointNet,
        augment: Augment,
        seed: int,
        hierarchies: Hierarchies | None = None,
        detours: Detours | None = None,
        turns: Turns = "none",
        marks: bool = False,
    ) -> None:
        super().__init__(seed)
        augment.prepare()
        self.dataset, self.augment, self.hierarchies, self.detours = dataset, augment, hierarchies, detours
        self.turns, self.marks = turns, marks

    def __len__(self) -> int:
        return len(self.dataset)

    def plain(self, index: int) -> Data:
        return normalized(self.dataset[index])

    def varied(self, index: int, generator: torch.Generator) -> Data:
        data = self.plain(index)
        if not self.marks:
            # Before a function of one's own varies the cloud: it need not know of them.
            _without(data, _MARKS)
        if self.hierarchies is not None:
            data = self.hierarchies.attach(data, index)
        if self.detours is not None:
            data = self.detours.attach(data, index)
        data = self.augment(data, generator)
        if self.turns != "none":
            data = in_a_frame(data, generator, None if self.turns == "any" else up_axis(self.turns))
        _without(data, (*_UNUSED, *_ALSO_UNUSED))
        return data


def _without(data: Data, names: Sequence[str]) -> None:
    for name in names:
        if name in data:
            del data[name]


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
        self.graphed: Graphed | None = None
        self.objective = config.objective
        if config.model.rotation != "none":
            # Presence is what a frame is chosen by.
            weight = max(_FRAME_WEIGHT, config.objective.presence_weight)
            self.objective = replace(config.objective, presence_weight=weight)

    @property
    def draws(self) -> bool:
        """Whether the network draws random numbers; of one of one's own, nobody says."""
        model = self.config.model
        return bool(model.dropout or model.drop_path or model.backbone is not None)

    def takes_graphs(self, batch: Batch) -> bool:
        """Whether the step of a batch is replayed as CUDA graphs; the first such batch decides on their shapes."""
        t = self.config.trainer
        able = t.cuda_graph and t.devices * t.num_nodes == 1 and t.precision in _GRAPHED and not self.draws
        if not (able and batch.pos.is_cuda) or one_size(batch) is None:
            return False
        return self.graphed is None or self.graphed.fits(batch.pos, batch.ptr)

    def geometry(self, batch: Batch) -> list[LevelGeometry] | None:
        """What was searched before or, on a CUDA device, is searched now; elsewhere the network searches."""
        geometry = geometry_of(batch)
        backbone = self.network.backbone
        if geometry is None and batch.pos.is_cuda and isinstance(backbone, PointNet2):
            # The network would read back where clouds begin, and wait.
            ptr = torch.tensor(batch.bounds) if "bounds" in batch else batch.ptr
            return build_geometry(batch.pos, ptr, backbone.levels, backbone.local_neighbors, validate=False)
        return geometry

    @property
    def watched(self) -> Mapping[str, Literal["min", "max"]]:
        return {**{f"val_pck@{t:g}": "max" for t in self.pck.thresholds}, "val_error": "min"}

    def loss(
        self, batch: Batch, temperature: float, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor], int]:
        with network_noise(generator, batch.pos.device) if self.draws else nullcontext():
            if self.takes_graphs(batch):
                # By plain torch a search is thousands of launches, and may read what it finds.
                known = geometry_of(batch) if usable(batch.pos.device) else self.geometry(batch)
                loss, parts = self.replayed(batch, known, temperature, generator)
            else:
                geometry = self.geometry(batch)
                predicted = self.network(None, batch.pos, ptr=batch.ptr, geometry=geometry)
                loss, parts = detection_loss(self.objective, predicted, batch, temperature, generator, one_size(batch))
        return loss, {f"loss_{name}": value for name, value in parts.items()}, batch.num_graphs

    def replayed(
        self, batch: Batch, geometry: Sequence[LevelGeometry] | None, temperature: float, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch by CUDA graphs, of the objective, too, where it neither draws nor searches.

        Without ``geometry``, the searches are among what is captured.
        """
        objective, size = self.objective, one_size(batch)
        outside = objective.has("sampling") or objective.bandwidth_normal != 1
        if not outside and objective.has("mixture", "nll") and objective.bandwidth is None and "bandwidth" not in batch:
            # Its search reads what it finds.
            batch.bandwidth = pcsa.knn_bandwidth(batch.pos, ptr=batch.ptr, validate=False)
        read = () if outside else ("keypoints", "visible", "bandwidth", "detour", "counted", *_MARKS)
        names = [name for name in read if name in batch]

        def loss(predicted: dict[str, Tensor], batch: Any, size: int) -> tuple[Tensor, dict[str, Tensor]]:
            # It draws nothing.
            return detection_loss(objective, predicted, batch, 1.0, torch.Generator(), size)

        if self.graphed is None:
            self.graphed = Graphed(StepOfTensors(self.network, names, None if outside else loss))
        parts = [batch[name] for name in names] + ([] if geometry is None else tensors_of(geometry))
        out = self.graphed(batch.pos, batch.ptr, *parts, bounds=batch.bounds if geometry is None else None)
        if outside:
            return detection_loss(objective, out, batch, temperature, generator, size)
        total = out.pop("loss")
        # The next step overwrites what the log may still hold.
        return total, dict(zip(out, torch.stack([x.detach() for x in out.values()]).unbind(), strict=True))

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


_OTHER_COLUMNS = (
    column("mean error", "overall", "euclidean", "mean_error"),
    column("presence AP", "overall", "presence_average_precision"),
    column("Pearson r", "overall", "calibration", "pearson"),
)


class SupervisedTask(CloudTask[SupervisedConfig, KeypointLabels]):
    """See the module."""

    name = "supervised"
    title = "a keypoint detector on labeled clouds (KeypointNet, your own, procedural shapes)"
    frame = "unit_sphere"
    labels_type = KeypointLabels
    evaluate_options = SupervisedEvaluateOptions
    predict_options = SupervisedPredictOptions
    methods = {name: {"method": name} for name in get_args(Method)}
    compared_methods = ("soft", "sampling", "cross_entropy")
    columns = (*pck_columns((0.01, 0.05, 0.1)), *_OTHER_COLUMNS)
    presets = {
        # What finds the most keypoints of KeypointNet under this budget, see docs/results.md.
        "default": SupervisedConfig(objective=ObjectiveConfig(method="cross_entropy")),
        # Twice the steps. Networks of several seeds and variations of each cloud bring more: docs/results.md.
        "best": SupervisedConfig(
            objective=ObjectiveConfig(method="cross_entropy"), optimizer=OptimizerConfig(steps=1600)
        ),
        # The paper's: the same but for the objective.
        "sampling": SupervisedConfig(),
        "soft": SupervisedConfig(objective=ObjectiveConfig(method="soft")),
        # What `make demo` runs: about two minutes on two cores.
        "demo": SupervisedConfig(
            data=SupervisedData(num_shapes=200),
            objective=ObjectiveConfig(method="cross_entropy"),
            optimizer=OptimizerConfig(steps=250),
        ),
    }

    def training(self, config: SupervisedConfig) -> Training:
        options: dict[str, Any] = {"strict": config.data.strict, "keypoint_ids": most_annotated(config.data)}
        train = open_annotated(config.data, "train", transform=thinning(config.data.thin), **options)
        val = open_validation(config.data, train)
        for clouds in (train, val):
            if clouds is not None and not clouds.visible.any():
                raise ValueError(
                    f"`data.root` (={str(clouds.root)!r}) must have a keypoint to learn: none of the {len(clouds)} "
                    f"clouds of {clouds.category!r} in split {clouds.split!r} has any"
                )
        check_turns("data.augment.rotate", config.data.augment.rotate, train.up)
        if marks := config.objective.targets == "marks":
            check_marked(train)
        hierarchies = None
        if config.data.precompute:
            model = config.model
            local_neighbors = model.local_neighbors if model.local_blocks else 0
            hierarchies = open_hierarchies(train, normalized, model.levels, local_neighbors)
        along = config.objective.has("soft_label") and config.objective.label_distance == "geodesic"
        detours = open_detours(train) if along else None
        turns = config.model.turns(cast(Up, train.up))
        data = StepData(
            config,
            DetectionItems(train, config.data.augment, config.seed, hierarchies, detours, turns, marks),
            None if val is None else DetectionItems(val, Augment(), config.seed),
        )
        mirrors: dict[int, tuple[int, ...]] = {}
        # A plane of one category says nothing of another.
        if config.data.augment.mirror > 0 and not isinstance(train, KeypointCategories):
            # What a view point hides moves the middle of a cloud, and with it the plane.
            whole = open_annotated(config.data, "train", **options) if config.data.thin.active else train
            mirrors = category_mirrors((whole[i] for i in range(len(whole))), whole.num_keypoints)
        labels = KeypointLabels.of(train, mirrors)
        L.seed_everything(config.seed, verbose=False)
        network, thresholds = self.build(config, labels), watched_thresholds(val)
        return Training(Detection(config, network, data.steps_per_epoch, thresholds), data, labels)

    def build(self, config: SupervisedConfig, labels: KeypointLabels) -> KeypointDetector:
        return build_detector(config.model, len(labels.semantic_ids), labels.up)

    def evaluation(self, run: DetectorRun, options: SupervisedEvaluateOptions) -> Evaluation:
        return DetectionEvaluation(self, run, options, self.scored_split(run.config, options.split))

    def scored_clouds(self, run: DetectorRun, options: Any, split: Literal["val", "test"]) -> tuple[DetectorRun, Any]:
        if options.category is not None:
            run = of_category(run, options.category)
        run = run_on(run, options.thin)
        return run, self.annotated(run, split, options.root)

    def mirrors(self, run: DetectorRun) -> Mapping[int, Sequence[int]]:
        return run.labels.planes

    def annotations(self, run: DetectorRun) -> dict[str, Any]:
        data = run.config.data
        return {"strict": data.strict, "keypoint_ids": run.labels.ids, "transform": thinning(data.thin)}

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
        return {"semantic_ids": list(run.labels.semantic_ids), "names": list(run.labels.names)}

    def predictor(self, run: DetectorRun, options: Any) -> Predictor:
        return super().predictor(of_category(run, options.category), options)

    def extra(self, located: LocatedClouds) -> dict[str, Tensor]:
        return {"presence": located.outputs["presence"].sigmoid()}

    def columns_of(self, metrics: Mapping[str, Any]) -> Sequence[Column]:
        thresholds = metrics.get("thresholds", THRESHOLDS)
        if tuple(thresholds) == THRESHOLDS:
            return self.columns
        return (*pck_columns([thresholds[i] for i in shown_thresholds(thresholds)]), *_OTHER_COLUMNS)

    def details(self, metrics: Mapping[str, Any]) -> Details:
        return belief_details(metrics)

    def table(self, metrics: Mapping[str, Any]) -> str:
        return detection_table(metrics)


TASK = SupervisedTask()
