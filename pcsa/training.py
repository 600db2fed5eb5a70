"""Training keypoint detectors: configuration, objective, and the Lightning modules around them."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar, get_args, get_type_hints

import lightning as L
import numpy as np
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.utils.data import Dataset, Sampler
from torch_geometric.data import Batch, Data
from torch_geometric.loader import DataLoader

import pcsa
from pcsa import losses
from pcsa.datasets.hierarchy import Hierarchies, geometry_of, open_hierarchies
from pcsa.datasets.keypointnet import KeypointNet
from pcsa.datasets.procedural import embedded_root
from pcsa.datasets.transforms import Augment, Normalize, denormalize, item_generator
from pcsa.metrics import PCK, MeanKeypointError, keypoint_error
from pcsa.models.detector import KeypointDetector
from pcsa.models.pointnet2 import MULTI_SCALE, SINGLE_SCALE, Level, PointNet2

_Model = TypeVar("_Model", bound=torch.nn.Module)

CHECKPOINT_KIND = "pcsa keypoint detector"
GRID_TASKS = ("pose2d", "pose3d", "oct", "landmarks")
_NORMALIZE = Normalize("unit_sphere")
# No training step reads them, and every tensor of a batch that a worker hands over costs time.
_UNUSED = ("color", "keypoint_index", "reflection", "rotation", "is_circle", "offset", "scale", "model_id")


@dataclass(frozen=True)
class DataConfig:
    """Which clouds, and how they are varied while training."""

    root: Path | None = None
    """Folder in KeypointNet's release layout; without it the procedural twin is generated and cached."""
    category: str = "chair"
    """A category of KeypointNet, or of your own root."""
    num_shapes: int = 400
    """Clouds of the procedural twin, all splits together; unused with `root`."""
    num_keypoints: int | None = None
    """Train on the keypoints annotated most often only; default all."""
    strict: bool = False
    """Stop if a split names clouds that the root lacks, instead of reporting how many."""
    augment: Augment = field(default_factory=lambda: Augment(mirror=0.5, scale=0.1, axis_scale=0.15, shift=0.1))
    """Lengths are in units of the normalized cloud (unit sphere)."""
    precompute: bool = False
    """Search each training cloud's neighbors once and keep them with the dataset. Under `scale` the radii of the
    network's balls scale with the cloud. Not with axis-scale, jitter, drop or resample: they change the neighbors."""


@dataclass(frozen=True)
class ModelConfig:
    """The network of per-point features."""

    scales: Literal["single", "multi"] = "single"
    """PointNet++ with single- or multi-scale grouping."""
    out_channels: int = 128
    """Width of the per-point features."""
    norm: Literal["batch", "group"] = "batch"
    """Normalization layers."""


@dataclass(frozen=True)
class SamplerConfig:
    """How samples of keypoints are drawn while training."""

    num_samples: int = 10
    """Samples S of every keypoint."""
    temperature: Literal["constant", "linear", "exponential", "cosine"] = "linear"
    """How the temperature falls from start to end over the training."""
    temperature_start: float = 0.7
    temperature_end: float = 0.3
    noise: Literal["paper", "released"] = "released"
    """Temper the perturbed logits (Eq. 11), or only the noise, as the authors' released image code does:
    softmax(logits + g / temperature)."""
    basis_noise: Literal["relaxed", "mixture"] = "relaxed"
    """See pcsa.sampling_argmax."""


@dataclass(frozen=True)
class BandwidthConfig:
    """Standard deviations of the points' bases."""

    bandwidth: float | None = None
    """Standard deviation of a basis; without it, from the distances to each point's neighbors."""
    bandwidth_scale: float = 1.0
    """Factor on the bandwidth from neighbors."""


@dataclass(frozen=True)
class LocalizationConfig(SamplerConfig):
    """What is minimized of a probability map, for points and for grids."""

    method: Literal["sampling", "soft", "discrete", "mixture", "nll", "cross_entropy"] = "sampling"
    """Expectation of the error by samples (Eq. 14), error of the expectation (Eq. 2), discrete expectation of the
    error (Eq. 4), its closed form under the mixture (Eq. 3), likelihood of the mixture (Eq. 6), or classification of
    the annotated point."""
    norm: Literal["l1", "l2", "squared"] = "l2"
    """The error of a position."""
    regularization: Literal["none", "variance", "js"] = "none"
    """Variance (Eq. 15) or Jensen-Shannon (Eq. 16) regularization of the map."""
    regularization_weight: float = 1.0


@dataclass(frozen=True)
class ObjectiveConfig(LocalizationConfig, BandwidthConfig):
    """What is minimized. Lengths are in units of the normalized cloud (unit sphere)."""

    regularization_sigma: float = 0.02
    """Standard deviation that the regularization wants."""
    presence_weight: float = 0.05
    """Weight of the presence score's binary cross-entropy."""


@dataclass(frozen=True)
class OptimizerConfig:
    """Adam."""

    steps: int = 800
    """Optimizer steps."""
    batch_size: int = 8
    """Clouds in a step, over all devices together."""
    lr: float = 2e-3
    """Largest learning rate; falls to zero as a cosine."""
    weight_decay: float = 0.0
    clip: float = 1.0
    """Largest norm of the gradient; 0 for no limit."""


@dataclass(frozen=True)
class TrainerConfig:
    """Flags of the Lightning trainer."""

    accelerator: str = "auto"
    devices: int = 1
    num_nodes: int = 1
    strategy: str = "auto"
    precision: str = "32-true"
    """For instance bf16-mixed; sampling stays in float32."""
    num_workers: int = 0
    """Processes that load and augment."""
    logger: Literal["tensorboard", "csv"] = "csv"
    validate_every: int = 10
    """Epochs between two validations."""
    save_every: int = 1
    """Epochs between two checkpoints to resume from."""
    progress: bool = True
    """Show a progress bar."""


@dataclass(frozen=True)
class SupervisedConfig:
    """Everything that determines a supervised training."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    seed: int = 0
    """Fixes initialization, shuffling, augmentation and noise."""
    out: Path = Path("runs/supervised")
    """Folder of the checkpoint, configuration, metrics and log."""
    resume: bool = False
    """Continue the run in `out` from its last checkpoint."""

    def __post_init__(self) -> None:
        j = self.objective
        check_settings(
            self,
            counts={
                "model.out-channels": (self.model.out_channels, 1),
                "data.num-keypoints": (self.data.num_keypoints, 1),
            },
            positive={"objective.bandwidth": j.bandwidth, "objective.bandwidth-scale": j.bandwidth_scale},
            from_zero={"objective.presence-weight": j.presence_weight},
        )
        check_localization(j)
        if self.data.precompute and self.data.augment.deforming:
            name = self.data.augment.deforming[0]
            raise ValueError(
                f"`data.augment.{name.replace('_', '-')}` (={getattr(self.data.augment, name)}) must be 0 with "
                "`data.precompute`: it changes which points are neighbors"
            )


def check_settings(
    config: Any,
    counts: dict[str, tuple[int | None, int]],
    positive: dict[str, float | None],
    from_zero: dict[str, float],
) -> None:
    """Check the numbers of a training's configuration: those given, and those that every training has.

    Args:
        config: The configuration.
        counts: Option to its value and the least that it may be; None is left to another rule.
        positive: Option to its value.
        from_zero: Option to its value.
    """
    o, j, t = config.optimizer, config.objective, config.trainer
    counts = {
        "optimizer.steps": (o.steps, 1),
        "optimizer.batch-size": (o.batch_size, 1),
        "trainer.devices": (t.devices, 1),
        "trainer.num-nodes": (t.num_nodes, 1),
        "trainer.validate-every": (t.validate_every, 1),
        "trainer.save-every": (t.save_every, 1),
        "objective.num-samples": (j.num_samples, 1),
        **counts,
    }
    positive = {
        "optimizer.lr": o.lr,
        "objective.temperature-start": j.temperature_start,
        "objective.temperature-end": j.temperature_end,
        **positive,
    }
    from_zero = {
        "optimizer.weight-decay": o.weight_decay,
        "optimizer.clip": o.clip,
        "trainer.num-workers": t.num_workers,
        **from_zero,
    }
    for name, (count, least) in counts.items():
        if count is not None and count < least:
            raise ValueError(f"`{name}` (={count}) must be at least {least}")
    for name, number in positive.items():
        if number is not None and not 0 < number < math.inf:
            raise ValueError(f"`{name}` (={number}) must be positive and finite")
    for name, weight in from_zero.items():
        if not 0 <= weight < math.inf:
            raise ValueError(f"`{name}` (={weight}) must be at least 0 and finite")
    if not 0 <= config.seed < 2**32:
        raise ValueError(f"`seed` (={config.seed}) must be from 0 to 2**32 - 1")
    if o.batch_size % (t.devices * t.num_nodes):
        raise ValueError(
            f"`optimizer.batch-size` (={o.batch_size}) must be a multiple of the number of devices "
            f"(={t.devices * t.num_nodes})"
        )


def check_localization(j: Any) -> None:
    """Check an objective that has ``regularization_sigma`` beside the fields of :class:`LocalizationConfig`."""
    if not 0 < j.regularization_sigma < math.inf:
        raise ValueError(f"`objective.regularization-sigma` (={j.regularization_sigma}) must be positive and finite")
    if not 0 <= j.regularization_weight < math.inf:
        raise ValueError(
            f"`objective.regularization-weight` (={j.regularization_weight}) must be at least 0 and finite"
        )
    if j.method == "mixture" and j.norm == "l2":
        raise ValueError("`objective.norm` (='l2') has no closed form under the mixture: use 'l1' or 'squared'")


def open_dataset(config: DataConfig, split: str, keypoint_ids: tuple[int, ...] | None = None) -> KeypointNet:
    """The clouds of one split, in the dataset's own units, with the columns that ``config`` asks for."""
    root = config.root
    if root is None:
        root = embedded_root(config.category, config.num_shapes)
    if keypoint_ids is not None or config.num_keypoints is None:
        return KeypointNet(root, config.category, split, strict=config.strict, keypoint_ids=keypoint_ids)
    everything = KeypointNet(root, config.category, "train", strict=config.strict)
    if config.num_keypoints > everything.num_keypoints:
        raise ValueError(
            f"`data.num-keypoints` (={config.num_keypoints}) must be at most the {everything.num_keypoints} "
            f"keypoints that the annotations of {config.category!r} have"
        )
    counts = everything.visible.sum(0)
    most = counts.argsort(descending=True, stable=True)[: config.num_keypoints]
    ids = tuple(sorted(everything.semantic_ids[i] for i in most.tolist()))
    return KeypointNet(root, config.category, split, strict=config.strict, keypoint_ids=ids)


def levels_of(config: ModelConfig) -> tuple[Level, ...]:
    """The set abstractions that ``config`` names."""
    return SINGLE_SCALE if config.scales == "single" else MULTI_SCALE


def build_detector(config: ModelConfig, num_keypoints: int) -> KeypointDetector:
    """The network that ``config`` describes."""
    backbone = PointNet2(levels=levels_of(config), out_channels=config.out_channels, norm=config.norm)
    return KeypointDetector(backbone, num_keypoints)


def draw_samples(
    config: SamplerConfig,
    logits: Tensor,
    pos: Tensor,
    bandwidth: float | Tensor,
    ptr: Tensor,
    temperature: float,
    generator: torch.Generator,
) -> Tensor:
    """Samples ``[B, K, S, 3]`` as ``config`` wants them."""
    return pcsa.sampling_argmax(
        # In float32: what half precision rounds off here would be divided by the temperature.
        logits.float() * temperature if config.noise == "released" else logits,
        pos,
        bandwidth,
        ptr=ptr,
        num_samples=config.num_samples,
        temperature=temperature,
        basis_noise=config.basis_noise,
        generator=generator,
        validate=False,
    )


def localization_loss(
    config: LocalizationConfig,
    samples: Tensor | None,
    logits: Tensor,
    pos: Tensor,
    bandwidth: float | Tensor | None,
    regularization_sigma: float,
    target: Tensor,
    visible: Tensor,
    ptr: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The objective that ``config`` names, with its regularization, and its parts for the log.

    ``samples`` are those of ``method="sampling"``; ragged ``[N, K]`` logits come with ``ptr``, dense ``[B, N, K]``
    without. All lengths are in the units of ``pos``.
    """
    # Values are checked where data is read; a check here would wait for the device in every step.
    masked: dict[str, Any] = {"visible": visible, "validate": False}
    points: dict[str, Any] = {"ptr": ptr, **masked}
    if config.method == "sampling":
        assert samples is not None
        loss = losses.sample_error(samples, target, norm=config.norm, **masked)
    elif config.method == "soft":
        loss = losses.expectation_error(logits, pos, target, norm=config.norm, **points)
    elif config.method == "discrete":
        loss = losses.discrete_expected_error(logits, pos, target, norm=config.norm, **points)
    elif config.method == "mixture":
        assert bandwidth is not None
        assert config.norm != "l2"
        loss = losses.mixture_expected_error(logits, pos, bandwidth, target, norm=config.norm, **points)
    elif config.method == "nll":
        assert bandwidth is not None
        loss = losses.mixture_nll(logits, pos, bandwidth, target, **points)
    else:
        loss = losses.nearest_point_cross_entropy(logits, pos, target, **points)
    parts = {"localization": loss.detach()}
    if config.regularization != "none":
        if config.regularization == "variance":
            extra = losses.variance_regularization(logits, pos, target_variance=regularization_sigma**2, **points)
        else:
            extra = losses.js_regularization(logits, pos, regularization_sigma, **points)
        parts[config.regularization] = extra.detach()
        loss = loss + config.regularization_weight * extra
    return loss, parts


def objective(
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
        if "bandwidth" in batch:  # found before, see DataConfig.precompute
            bandwidth = config.bandwidth_scale * batch.bandwidth
        else:
            bandwidth = pcsa.knn_bandwidth(pos, ptr=batch.ptr, scale=config.bandwidth_scale, validate=False)
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


class _Items(Dataset[Data]):
    """Normalized clouds; augmented where an item is asked for with its epoch."""

    def __init__(
        self, dataset: KeypointNet, augment: Augment, seed: int, hierarchies: Hierarchies | None = None
    ) -> None:
        self.dataset, self.augment, self.seed, self.hierarchies = dataset, augment, seed, hierarchies

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: int | tuple[int, int]) -> Data:
        if isinstance(key, int):
            return _NORMALIZE(self.dataset[key])
        epoch, index = key
        data = _NORMALIZE(self.dataset[index])
        if self.hierarchies is not None:
            data = self.hierarchies.attach(data, index)
        data = self.augment(data, item_generator(self.seed, epoch, index))
        for name in _UNUSED:
            del data[name]
        return data


def whole_batches(size: int, batch_size: int) -> int:
    """Steps in an epoch."""
    return max(1, size // batch_size)


class EpochSampler(Sampler[tuple[int, int]]):
    """Items of one process, shuffled by (seed, epoch); the epoch travels with the index, into any worker.

    The epoch is asked for rather than told: Lightning's own may lag behind by one in a resumed run.
    """

    def __init__(
        self, size: int, seed: int, epoch: Callable[[], int], rank: int, num_replicas: int, batch_size: int
    ) -> None:
        self.size, self.seed, self.epoch, self.rank, self.num_replicas = size, seed, epoch, rank, num_replicas
        # The same number in each process; a set smaller than a batch is repeated.
        self.total = whole_batches(size, batch_size) * batch_size

    def __len__(self) -> int:
        return self.total // self.num_replicas

    def __iter__(self) -> Iterator[tuple[int, int]]:
        epoch = self.epoch()
        # A stream of its own: the items' augmentations use the indices below the size.
        order = torch.randperm(self.size, generator=item_generator(self.seed, epoch, self.size)).tolist()
        order = (order * (self.total // self.size + 1))[: self.total]
        for index in order[self.rank :: self.num_replicas]:
            yield epoch, index


class StepData(L.LightningDataModule):
    """Loaders of items that take ``(epoch, index)`` while training and ``index`` else."""

    def __init__(self, config: Any, train_items: Any, val_items: Any) -> None:
        super().__init__()
        self.config, self.train_items, self.val_items = config, train_items, val_items
        self.steps_per_epoch = whole_batches(len(train_items), config.optimizer.batch_size)

    def _loader(self, items: Any, batch_size: int, sampler: Sampler[Any] | None = None) -> DataLoader:
        workers = self.config.trainer.num_workers
        return DataLoader(
            items,
            batch_size=batch_size,
            sampler=sampler,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=torch.cuda.is_available(),
        )

    def train_dataloader(self) -> DataLoader:
        """Varied anew in every epoch."""
        assert self.trainer is not None
        trainer, batch_size = self.trainer, self.config.optimizer.batch_size
        sampler = EpochSampler(
            len(self.train_items),
            self.config.seed,
            lambda: trainer.global_step // self.steps_per_epoch,
            trainer.global_rank,
            trainer.world_size,
            batch_size,
        )
        return self._loader(self.train_items, batch_size // trainer.world_size, sampler)

    def val_dataloader(self) -> DataLoader:
        """As they are, all of them in each process.

        Parts of different lengths would leave processes waiting for each other: they exchange buffers in every
        batch. The metrics are means, which the repetition leaves as they are.
        """
        return self._loader(self.val_items, self.config.optimizer.batch_size)


class DetectionData(StepData):
    """Loaders of one category."""

    def __init__(self, config: SupervisedConfig) -> None:
        self.train_set = open_dataset(config.data, "train")
        val_set = open_dataset(config.data, "val", self.train_set.semantic_ids)
        for split, clouds in (("train", self.train_set), ("val", val_set)):
            if not clouds.visible.any():
                raise ValueError(
                    f"`data.root` (={str(clouds.root)!r}) must have a keypoint to learn: none of the {len(clouds)} "
                    f"clouds of {clouds.category!r} in split {split!r} has any"
                )
        hierarchies = (
            open_hierarchies(self.train_set, _NORMALIZE, levels_of(config.model)) if config.data.precompute else None
        )
        super().__init__(
            config,
            _Items(self.train_set, config.data.augment, config.seed, hierarchies),
            _Items(val_set, Augment(), config.seed),
        )


class StepTraining(L.LightningModule):
    """What all trainings share: ``steps`` optimizer steps, each with its temperature and its own noise."""

    def __init__(
        self, config: Any, kind: str, steps: int, *, temperature_steps: int | None = None, **about: Any
    ) -> None:
        super().__init__()
        self.config, self.steps = config, steps
        self.about = {"kind": kind, "version": pcsa.__version__, "config": to_plain(config), **about}
        j = config.objective
        self.temperature = pcsa.TemperatureSchedule(
            j.temperature,
            start=j.temperature_start,
            end=j.temperature_start if j.temperature == "constant" else j.temperature_end,
            num_steps=steps if temperature_steps is None else temperature_steps,
        )

    def begin_step(self) -> tuple[float, torch.Generator]:
        """Temperature and noise of this step: functions of the seed, the step and the process."""
        # The optimizer's step is what a checkpoint stores: a resumed run sees the same temperature and noise.
        self.temperature.go_to(self.global_step)
        state = np.random.SeedSequence([self.config.seed, self.global_step, self.global_rank])
        generator = torch.Generator().manual_seed(int(state.generate_state(1, np.uint64)[0]))
        return self.temperature.value, generator

    def log_step(self, loss: Tensor, parts: dict[str, Tensor], batch_size: int) -> None:
        """Log the loss, its parts and the temperature."""
        self.log("loss", loss.detach(), prog_bar=True, batch_size=batch_size)
        for name, value in parts.items():
            self.log(name, value, batch_size=batch_size)
        self.log("temperature", self.temperature.value, batch_size=batch_size)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Stop in the middle of the last epoch if the steps are up."""
        if self.global_step >= self.steps:
            self.trainer.should_stop = True

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Say what the checkpoint is, and of which configuration."""
        checkpoint["pcsa"] = self.about


class Detection(StepTraining):
    """Trains a :class:`pcsa.models.KeypointDetector`; validates in the dataset's own units."""

    def __init__(self, config: SupervisedConfig, dataset: KeypointNet) -> None:
        super().__init__(
            config,
            CHECKPOINT_KIND,
            config.optimizer.steps,
            category=dataset.category,
            semantic_ids=list(dataset.semantic_ids),
            names=list(dataset.names),
        )
        self.detector = build_detector(config.model, dataset.num_keypoints)
        self.pck, self.error = PCK(), MeanKeypointError()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """One optimizer step."""
        temperature, generator = self.begin_step()
        predicted = self.detector(None, batch.pos, ptr=batch.ptr, geometry=geometry_of(batch))
        loss, parts = objective(self.config.objective, predicted, batch, temperature, generator)
        self.log_step(loss, {f"loss_{name}": value for name, value in parts.items()}, batch.num_graphs)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """PCK and mean error of the expectation, Euclidean, raw units, without symmetry."""
        predicted = self.detector(None, batch.pos, ptr=batch.ptr)
        position = pcsa.soft_argmax(predicted["logits"], batch.pos, ptr=batch.ptr)
        raw = denormalize(position, batch.offset, batch.scale)
        target = denormalize(batch.keypoints, batch.offset, batch.scale)
        distance = keypoint_error(raw, target, batch.visible)
        self.pck.update(distance, batch.visible)
        self.error.update(distance, batch.visible)

    def on_validation_epoch_end(self) -> None:
        """Log what the metrics collected."""
        curve = self.pck.compute()
        for threshold in (0.01, 0.05):
            value = curve[self.pck.thresholds.index(threshold)]
            self.log(f"val_pck@{threshold}", value, prog_bar=threshold == 0.01, sync_dist=True)
        self.log("val_error", self.error.compute(), sync_dist=True)
        self.pck.reset()
        self.error.reset()

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Adam with a cosine schedule per step."""
        o = self.config.optimizer
        optimizer = torch.optim.Adam(self.parameters(), lr=o.lr, weight_decay=o.weight_decay)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=o.steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def train_supervised(config: SupervisedConfig) -> Path:
    """Train a detector and return its checkpoint, ``<out>/last.ckpt``.

    The resolved configuration lies beside it from the start (``config.json``), the log in ``log/``. With ``resume``
    the run continues from its last checkpoint to the numbers it would have reached uninterrupted.
    """

    def build() -> Training:
        data = DetectionData(config)
        L.seed_everything(config.seed, verbose=False)
        module = Detection(config, data.train_set)
        return Training(module, data, module.about, -(-config.optimizer.steps // data.steps_per_epoch))

    return fit(config, CHECKPOINT_KIND, build)


class Training(NamedTuple):
    """What :func:`fit` trains."""

    module: L.LightningModule
    data: L.LightningDataModule
    about: dict[str, Any]
    """What the checkpoint will say of itself."""
    max_epochs: int
    validate: bool = True


def fit(config: Any, kind: str, build: Callable[[], Training]) -> Path:
    """Train what ``build`` makes into ``config.out``, from the start or, with ``config.resume``, from its checkpoint.

    Nothing is written, and nothing built, before it is known that the run may begin.
    """
    out = config.out
    last = out / "last.ckpt"
    if config.resume:
        if not last.exists():
            raise FileNotFoundError(f"`{last}` to resume from does not exist")
        check_resumable(config, last, kind)
    elif last.exists():
        raise FileExistsError(f"`{last}` exists: set `resume` to continue it, or choose another `out`")
    training = build()
    try:
        trainer = make_trainer(
            config.trainer,
            out,
            clip=config.optimizer.clip,
            max_epochs=training.max_epochs,
            validate=training.validate,
        )
    except MisconfigurationException as error:
        raise ValueError(f"`trainer` cannot be set up: {error}") from None
    out.mkdir(parents=True, exist_ok=True)
    if trainer.is_global_zero:
        write_json(out / "config.json", training.about)
    checkpoint = str(last) if config.resume else None
    trainer.fit(training.module, training.data, ckpt_path=checkpoint, weights_only=True)
    trainer.save_checkpoint(last)
    return last


class WholeCheckpoints(TorchCheckpointIO):
    """Replaces a checkpoint by a complete one.

    Lightning writes to the system's temporary folder and moves the file; from another file system that is a copy,
    and a run killed during it would lose the checkpoint that it has.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        temporary = Path(f"{path}.tmp")
        torch.save(checkpoint, temporary)
        temporary.replace(path)


def make_trainer(t: TrainerConfig, out: Path, *, clip: float, max_epochs: int, validate: bool = True) -> L.Trainer:
    """A Lightning trainer that keeps ``<out>/last.ckpt`` and a log in ``<out>/log``."""
    logger_type = TensorBoardLogger if t.logger == "tensorboard" else CSVLogger
    callbacks: list[L.Callback] = [
        ModelCheckpoint(
            dirpath=out,
            filename="last",
            every_n_epochs=t.save_every,
            # Lightning's default is to save only after a validation.
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        ),
        LearningRateMonitor("step"),
    ]
    if t.progress:
        callbacks.append(TQDMProgressBar(leave=False))
    return L.Trainer(
        accelerator=t.accelerator,
        devices=t.devices,
        num_nodes=t.num_nodes,
        strategy=t.strategy,
        precision=t.precision,  # type: ignore[arg-type]
        # No `max_steps`: with it, Lightning resumes between two epochs as if it were in the middle of one.
        max_epochs=max_epochs,
        check_val_every_n_epoch=t.validate_every,
        limit_val_batches=None if validate else 0,
        gradient_clip_val=clip or None,
        # A resumed run gets a folder of its own beside the first one's: nothing logged is lost.
        logger=logger_type(out, name="log"),
        callbacks=callbacks,
        log_every_n_steps=10,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        # torch has synchronized batch normalization on CUDA only; elsewhere each process normalizes by its own clouds.
        sync_batchnorm=t.devices * t.num_nodes > 1
        and t.accelerator in ("auto", "gpu", "cuda")
        and torch.cuda.is_available(),
        plugins=[WholeCheckpoints()],
        enable_progress_bar=t.progress,
        enable_model_summary=False,
        default_root_dir=out,
    )


def check_resumable(config: object, path: Path, kind: str) -> None:
    """A run may only be resumed with the configuration that determines its numbers."""
    before, now = load_about(path, kind)["config"], to_plain(config)
    for section in ("data", "model", "objective", "optimizer", "seed"):
        if before[section] != now[section]:
            raise ValueError(
                f"`{section}` (={now[section]}) must be what `{path}` was trained with, to resume it: {before[section]}"
            )


def task_of(kind: str) -> str | None:
    """The grid task that a checkpoint of this kind is of, if any."""
    task = kind.removeprefix("pcsa ")
    return task if task in GRID_TASKS else None


def load_about(path: Path, kind: str | None = None) -> dict[str, Any]:
    """What a checkpoint says of itself: its kind, configuration and category, and more by kind.

    ``kind`` is the only kind that will do; without it any of this package's.
    """
    return dict(load_checkpoint(path, kind)["pcsa"])


def load_step(path: Path) -> int:
    """Optimizer steps after which a checkpoint was written."""
    return int(load_checkpoint(path)["global_step"])


def load_detector(path: Path, device: str | torch.device = "cpu") -> tuple[KeypointDetector, dict[str, Any]]:
    """A trained detector in eval mode, and what its checkpoint says of itself.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is no checkpoint of a keypoint detector.
    """
    detector, about = restore(
        path,
        CHECKPOINT_KIND,
        "detector.",
        lambda about: build_detector(ModelConfig(**about["config"]["model"]), len(about["semantic_ids"])),
    )
    return detector.to(device).eval(), about


def restore(
    path: Path, kind: str, prefix: str, build: Callable[[dict[str, Any]], _Model]
) -> tuple[_Model, dict[str, Any]]:
    """The model that ``build`` makes of what a checkpoint says of itself, with its weights, and what it says."""
    checkpoint = load_checkpoint(path, kind)
    try:
        about = checkpoint["pcsa"]
        model = build(about)
        state = {k.removeprefix(prefix): v for k, v in checkpoint["state_dict"].items() if k.startswith(prefix)}
        model.load_state_dict(state)
    # What a checkpoint lacks, what another version adds, or weights of another size.
    except (KeyError, TypeError, RuntimeError) as error:
        first = " ".join(str(error).split())[:200]
        raise ValueError(
            f"`{path}` must fit pcsa {pcsa.__version__} and the model that it describes: "
            f"{type(error).__name__}, {first}"
        ) from None
    return model, about


def load_checkpoint(path: Path, kind: str | None = None) -> dict[str, Any]:
    """All that a checkpoint holds; see :func:`load_about`."""
    if not path.is_file():
        raise FileNotFoundError(f"`{path}` is no checkpoint: there is no such file")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(f"`{path}` cannot be read as a checkpoint ({type(error).__name__})") from None
    about = checkpoint.get("pcsa") if isinstance(checkpoint, dict) else None
    found = about.get("kind") if isinstance(about, dict) else None
    if found is None or (kind is not None and found != kind):
        raise ValueError(f"`{path}` must be a {kind or 'pcsa'!r} checkpoint, is {found!r}")
    return checkpoint


def to_plain(config: Any) -> Any:
    """A configuration as JSON types."""
    if dataclasses.is_dataclass(config):
        return {f.name: to_plain(getattr(config, f.name)) for f in dataclasses.fields(config)}
    if isinstance(config, (tuple, list)):
        return [to_plain(x) for x in config]
    # Where a relative path led when the run began, not where it leads from the next folder.
    return os.fspath(config.resolve()) if isinstance(config, Path) else config


def from_plain(kind: Any, plain: Any) -> Any:
    """What :func:`to_plain` took apart: ``kind`` is a dataclass, or the type of one of its fields."""
    if dataclasses.is_dataclass(kind):
        assert isinstance(kind, type)
        hints = get_type_hints(kind)
        return kind(**{name: from_plain(hints[name], value) for name, value in plain.items()})
    if isinstance(plain, list):
        return tuple(plain)
    return Path(plain) if isinstance(plain, str) and Path in (kind, *get_args(kind)) else plain


def write_json(path: Path, value: Any) -> None:
    """Write a file that is complete or not there, in a folder that is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(path.suffix + ".tmp")
    temporary.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n")
    temporary.replace(path)
