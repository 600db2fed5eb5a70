"""The loop around every training: data in steps, Lightning's trainer, and a checkpoint to resume from.

A step's temperature and noise are functions of the seed, the step and the process, and an item's variation of the
seed, the epoch and the item: a resumed run, or one with other workers, reaches the same numbers.
"""

from __future__ import annotations

import itertools
import logging
import multiprocessing
import signal
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import lightning as L
import numpy as np
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import LearningRateMonitor, TQDMProgressBar
from lightning.pytorch.utilities.exceptions import SIGTERMException
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.utils.data import Dataset, Sampler
from torch_geometric.data import Batch
from torch_geometric.loader import DataLoader

import pcsa
from pcsa._core.memory import keep_freed_memory
from pcsa._core.progress import bars_shown
from pcsa._core.writing import remove_abandoned
from pcsa.datasets.transforms import item_generator
from pcsa.tasks.common.averaging import AveragedWeights
from pcsa.tasks.common.batches import Whole
from pcsa.tasks.common.best import BestCheckpoint, mode_of
from pcsa.tasks.common.checkpoint import check_resumable, started_from
from pcsa.tasks.common.claim import claimed
from pcsa.tasks.common.clipping import clip_together
from pcsa.tasks.common.config import OptimizerConfig, TrainConfig, TrainerConfig, to_plain
from pcsa.tasks.common.config_file import write_configuration
from pcsa.tasks.common.endings import await_the_end
from pcsa.tasks.common.last import LastCheckpoint, WholeCheckpoints
from pcsa.tasks.common.logs import check_logger, describe_run, flush_logs, make_loggers
from pcsa.tasks.common.processes import mean_over_processes
from pcsa.tasks.common.stopping import StopAtSignal, check_loss
from pcsa.tasks.common.together import ending_together

log = logging.getLogger(__name__)

# The log takes every tenth step.
_LOGGED_STEPS = 10

# Processes that load for a CUDA device at most, where nobody says how many.
_LOADING = 4

_Item = TypeVar("_Item")
ConfigT = TypeVar("ConfigT", bound=TrainConfig)


class TrainingItems(Dataset[_Item]):
    """Items as they are and, where one is asked for with its epoch, varied by its own randomness."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def plain(self, index: int) -> _Item:
        """The item as a network takes it."""

    @abstractmethod
    def varied(self, index: int, generator: torch.Generator) -> _Item:
        """The item varied at random."""

    def __getitem__(self, key: int | tuple[int, int]) -> _Item:
        if not isinstance(key, tuple):  # a NumPy number is no int
            return self.plain(int(key))
        epoch, index = key
        return self.varied(index, item_generator(self.seed, epoch, index))


def whole_batches(size: int, batch_size: int) -> int:
    """Steps in an epoch."""
    return max(1, size // batch_size)


class EpochSampler(Sampler[tuple[int, int]]):
    """Items of one process, shuffled by (seed, epoch); the epoch travels with the index, into any worker.

    How many steps are done is asked for rather than told: Lightning's own epoch may lag behind by one in a resumed run.
    One that was stopped within an epoch goes on with the items that the epoch has left.
    """

    def __init__(
        self, size: int, seed: int, step: Callable[[], int], rank: int, num_replicas: int, batch_size: int
    ) -> None:
        self.size, self.seed, self.step, self.rank, self.num_replicas = size, seed, step, rank, num_replicas
        self.batch_size, self.batches = batch_size, whole_batches(size, batch_size)
        # The same number in each process; a set smaller than a batch is repeated.
        self.total = self.batches * batch_size

    def __len__(self) -> int:
        return self.total // self.num_replicas

    def __iter__(self) -> Iterator[tuple[int, int]]:
        epoch, done = divmod(self.step(), self.batches)
        # A stream of its own: the items' augmentations use the indices below the size.
        order = torch.randperm(self.size, generator=item_generator(self.seed, epoch, self.size)).tolist()
        order = (order * (self.total // self.size + 1))[: self.total]
        for index in order[done * self.batch_size + self.rank :: self.num_replicas]:
            yield epoch, index


class ResumableLoader(DataLoader):
    """A loader whose sampler asks the run where it is; Lightning wants to hear that it can be resumed.

    Its batches cannot be taken apart, see :class:`pcsa.tasks.common.batches.Whole`.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.collate_fn: Callable[[list[Any]], Any] = Whole(self.collate_fn)

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        pass


class StepData(L.LightningDataModule):
    """Loaders of the items to train on and, if there are any, to validate on."""

    def __init__(self, config: TrainConfig, train: TrainingItems[Any], val: TrainingItems[Any] | None) -> None:
        super().__init__()
        self.config, self.train_items, self.val_items = config, train, val
        self.steps_per_epoch = whole_batches(len(train), config.optimizer.batch_size)
        # Not the module's: averaged weights are those of a copy of it, and this holds the data.
        self.describe: Callable[[], dict[str, Any]] = dict

    def _loader(self, items: Any, batch_size: int, sampler: Sampler[Any] | None = None) -> DataLoader:
        # Items to validate on are not varied: one process keeps up.
        workers = self._num_workers(1 if sampler is None else _LOADING)
        return (DataLoader if sampler is None else ResumableLoader)(
            items,
            batch_size=batch_size,
            sampler=sampler,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=torch.cuda.is_available(),
            worker_init_fn=await_the_end,
        )

    def _num_workers(self, most: int) -> int:
        """Processes that load: on a CPU they would take the training's time, and by spawning long to start."""
        t = self.config.trainer
        if t.num_workers is not None:
            return t.num_workers
        start = multiprocessing.get_start_method(allow_none=True) or multiprocessing.get_all_start_methods()[0]
        if start != "fork" or self.trainer is None or self.trainer.strategy.root_device.type != "cuda":
            return 0
        return max(1, min(most, torch.get_num_threads() - 1))

    def train_dataloader(self) -> DataLoader:
        """Items varied anew in every epoch."""
        assert self.trainer is not None
        trainer, batch_size = self.trainer, self.config.optimizer.batch_size
        sampler = EpochSampler(
            len(self.train_items),
            self.config.seed,
            lambda: trainer.global_step,
            trainer.global_rank,
            trainer.world_size,
            batch_size,
        )
        return self._loader(self.train_items, batch_size // trainer.world_size, sampler)

    def val_dataloader(self) -> DataLoader:
        """Items without variation, all of them in each process.

        Parts of different lengths would leave processes waiting for each other: they exchange buffers in every
        batch. The metrics are means, which the repetition leaves as they are.
        """
        return self._loader(self.val_items, self.config.optimizer.batch_size)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """On a CUDA device, wait for no copy, and keep on the host where clouds begin: searches need it there."""
        if device.type != "cuda" or not isinstance(batch, Batch):
            return super().transfer_batch_to_device(batch, device, dataloader_idx)
        bounds = batch.ptr.tolist()
        batch = batch.to(device, non_blocking=True)
        batch.bounds = bounds
        return batch


def one_size(batch: Batch) -> int | None:
    """Points of every cloud, where the host knows that all have as many."""
    sizes = {end - begin for begin, end in itertools.pairwise(batch.bounds)} if "bounds" in batch else set()
    return sizes.pop() if len(sizes) == 1 else None


class StepTraining(L.LightningModule, Generic[ConfigT]):
    """Optimizer steps, each with its temperature and its own noise.

    Args:
        config: The configuration.
        network: What is trained.
        steps_per_epoch: Optimizer steps in a round over the items.
    """

    def __init__(self, config: ConfigT, network: nn.Module, steps_per_epoch: int) -> None:
        super().__init__()
        self.config, self.network, self.steps_per_epoch = config, network, steps_per_epoch
        self.steps = config.optimizer.num_steps(steps_per_epoch)
        self.about: dict[str, Any] = {}
        self.inputs: dict[str, Any] | None = None
        j = config.objective
        within = j.temperature_epochs
        self.temperature = pcsa.TemperatureSchedule(
            j.temperature,
            start=j.temperature_start,
            end=j.final_temperature,
            num_steps=self.steps if within is None else max(1, round(within * steps_per_epoch)),
        )

    @property
    def watched(self) -> Mapping[str, Literal["min", "max"]]:
        """Scores that the validation logs, and whether the lowest or the highest is the best; by default none."""
        return {}

    @abstractmethod
    def loss(self, batch: Any, temperature: float, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor], int]:
        """The loss of a batch, its parts for the log by name, and the number of its items."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """One optimizer step."""
        # The optimizer's step is what a checkpoint stores: a resumed run sees the same temperature and noise.
        self.temperature.go_to(self.global_step)
        state = np.random.SeedSequence([self.config.seed, self.global_step, self.global_rank])
        generator = torch.Generator().manual_seed(int(state.generate_state(1, np.uint64)[0]))
        loss, parts, size = self.loss(batch, self.temperature.value, generator)
        logged = {"loss": loss.detach(), **parts}
        # Lightning takes a millisecond to hear of a number, and writes those of few steps.
        written = (self.global_step + 1) % _LOGGED_STEPS == 0 or self.global_step + 1 >= self.steps
        if written or loss.device.type == "cpu":
            logged = mean_over_processes(logged)
        # On a CPU a loss that is no number in one process is none in all of them, and they end together.
        check_loss(logged["loss"], self.global_step, self.config.out / "last.ckpt")
        if written:
            for name, value in logged.items():
                self.log(name, value, prog_bar=name == "loss", batch_size=size)
            # A tensor of the host: of a number Lightning makes one on the device, and waits for it.
            self.log("temperature", torch.tensor(self.temperature.value), batch_size=size)
        return loss

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Optimizer and schedule of the configuration; the schedule goes by steps."""
        # One kernel for many parameters. In mixed precision Lightning clips no gradients of a fused optimizer.
        fused = self.device.type == "cuda" and self.config.trainer.precision == "32-true"
        optimizer, schedule = make_optimizer(
            self.config.optimizer, self.parameters(), self.steps, self.steps_per_epoch, fused=fused
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip by the norm, on a card with less of the host's time than Lightning and torch take."""
        parameters = (x for group in optimizer.param_groups for x in group["params"])
        quick = self.device.type == "cuda" and self.config.trainer.precision == "32-true" and bool(gradient_clip_val)
        if not (quick and clip_together(parameters, gradient_clip_val or 0.0)):
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Stop in the middle of the last epoch if the steps are up."""
        if self.global_step >= self.steps:
            self.trainer.should_stop = True

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Say what the checkpoint is, and of which configuration."""
        if self.inputs is None:
            # Not at the start, where the first step would wait for what it does without.
            data = getattr(self.trainer, "datamodule", None)
            self.inputs = data.describe() if isinstance(data, StepData) else {}
        checkpoint["pcsa"] = {**self.about, **self.inputs, "temperature": self.temperature.at(self.global_step)}
        flush_logs(self.trainer)


def make_optimizer(
    o: OptimizerConfig,
    parameters: Iterator[nn.Parameter],
    steps: int,
    steps_per_epoch: int,
    *,
    fused: bool = False,
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """The optimizer that a configuration names, and its schedule; ``fused``, where torch has it so."""
    optimizer: torch.optim.Optimizer
    how: dict[str, Any] = {"fused": True} if fused else {}
    if o.kind == "adadelta":
        optimizer = torch.optim.Adadelta(parameters, lr=o.lr, eps=1e-2, weight_decay=o.weight_decay)
    elif o.kind == "adamw":
        every = list(parameters)
        # Biases and what scales and shifts a normalization have no direction to shrink along.
        groups: list[dict[str, Any]] = [
            {"params": [p for p in every if p.dim() > 1]},
            {"params": [p for p in every if p.dim() <= 1], "weight_decay": 0.0},
        ]
        used = [group for group in groups if group["params"]]
        optimizer = torch.optim.AdamW(used, lr=o.lr, weight_decay=o.weight_decay, **how)
    else:
        optimizer = torch.optim.Adam(parameters, lr=o.lr, weight_decay=o.weight_decay, **how)
    schedule: torch.optim.lr_scheduler.LRScheduler
    ramp: list[torch.optim.lr_scheduler.LRScheduler] = []
    if o.warmup:
        # The first step is one already.
        first = 1 / (o.warmup + 1)
        ramp = [torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=first, total_iters=o.warmup)]
    if o.schedule == "cosine":
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    elif o.schedule == "constant":
        schedule = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
    elif o.schedule == "one_cycle":
        # One step more than there are: the scheduler may be asked once after the last. At least ten: a fifth of
        # fewer is no step to rise in, on which OneCycleLR divides by zero.
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, o.lr, total_steps=max(steps + 1, 10), pct_start=0.2, cycle_momentum=False
        )
    else:
        milestones = [epoch * steps_per_epoch for epoch in o.milestones]
        schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones, gamma=0.1)
    return optimizer, torch.optim.lr_scheduler.ChainedScheduler([*ramp, schedule]) if ramp else schedule


@dataclass(frozen=True)
class Training:
    """What :func:`fit` trains."""

    module: StepTraining[Any]
    data: StepData
    labels: Any
    """Dataclass of what the network will be known to find."""


def fit(task: str, config: TrainConfig, build: Callable[[], Training]) -> Path:
    """Train what ``build`` makes into ``config.out``, from the start or, with ``config.resume``, from its checkpoint.

    Nothing is written, and nothing built, before it is known that the run may begin. Of two runs on one folder, the
    second is refused.

    Raises:
        Stopped: If a signal ends it; the step is finished and its checkpoint written.
        DivergedError: If its loss or weights are no numbers any more; the last checkpoint stays as it was.
    """
    out = config.out
    last = out / "last.ckpt"
    _check_start(task, config, last)
    keep_freed_memory()
    if config.resume:
        # What the run began with is a fact about it, whatever the call that resumes it says.
        config = replace(config, init_from=started_from(last))
    training = build()
    module, data = training.module, training.data
    if data.val_items is None:
        log.info("nothing to validate on: the log has the losses of the training alone")
    module.about = {
        "task": task,
        "version": pcsa.__version__,
        "config": to_plain(config),
        "labels": to_plain(training.labels),
    }
    try:
        trainer = make_trainer(
            config.trainer,
            out,
            clip=config.optimizer.clip,
            max_epochs=-(-module.steps // data.steps_per_epoch),
            validate=data.val_items is not None,
            callbacks=[
                *_options(config, module, validate=data.val_items is not None),
                StopAtSignal(last, module.steps),
            ],
        )
    except MisconfigurationException as error:
        raise ValueError(f"`trainer` cannot be set up: {error}") from None
    out.mkdir(parents=True, exist_ok=True)
    # The other processes of one run write nothing.
    with claimed(out) if trainer.is_global_zero else nullcontext():
        if trainer.is_global_zero:
            # Another run may have ended here while this one was built.
            _check_start(task, config, last)
            # What a kill left of a checkpoint, or a log, that was being written.
            for folder in (out, *out.glob("log/*/")):
                remove_abandoned(folder)
            if config.trainer.best and not config.resume:
                # A run that was cut off before its first checkpoint begins again.
                (out / "best.ckpt").unlink(missing_ok=True)
            write_configuration(out, module.about)
            describe_run(trainer.loggers, module.about)
        checkpoint = str(last) if config.resume else None
        try:
            with ending_together(trainer, last):
                trainer.fit(module, data, ckpt_path=checkpoint, weights_only=True)
                trainer.save_checkpoint(last)
        except SIGTERMException:  # before the first step: Lightning's own, which would end with status 0
            raise SystemExit(128 + signal.SIGTERM) from None
        finally:
            # After an error in a validation, Lightning leaves the processes that load for the training.
            trainer.fit_loop.teardown()
    return last


def _check_start(task: str, config: TrainConfig, last: Path) -> None:
    """Refuse to begin where a checkpoint lies, or to resume where none lies or one of another run."""
    check_logger(config.trainer.logger)
    if config.resume:
        if not last.exists():
            raise FileNotFoundError(f"`{last}` to resume from does not exist")
        check_resumable(config, last, task)
    elif last.exists():
        raise FileExistsError(f"`{last}` exists: set `resume` to continue it, or choose another `out`")


def _options(config: TrainConfig, module: StepTraining[Any], *, validate: bool) -> list[L.Callback]:
    """What a configuration asks for beside the last checkpoint and the log."""
    o, t = config.optimizer, config.trainer
    callbacks: list[L.Callback] = []
    if o.averaging != "none":
        callbacks.append(AveragedWeights(o, module.steps))
    if t.best is not None:
        mode = mode_of(t.best, module.watched if validate else {})
        callbacks.append(BestCheckpoint(config.out, t.best, mode))
    return callbacks


def make_trainer(
    t: TrainerConfig,
    out: Path,
    *,
    clip: float,
    max_epochs: int,
    validate: bool = True,
    callbacks: Sequence[L.Callback] = (),
) -> L.Trainer:
    """A Lightning trainer that keeps ``<out>/last.ckpt`` and a log in ``<out>/log``; ``callbacks`` come first."""
    shown = t.progress and bars_shown(in_stdout=True)
    callbacks = [
        *callbacks,
        LastCheckpoint(out, t.save_every, t.save_seconds),
        LearningRateMonitor("step"),
        *([TQDMProgressBar(leave=False)] if shown else []),
    ]
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
        logger=make_loggers(t.logger, out),
        callbacks=callbacks,
        log_every_n_steps=_LOGGED_STEPS,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        # torch has synchronized batch normalization on CUDA only; elsewhere each process normalizes by its own clouds.
        sync_batchnorm=t.devices * t.num_nodes > 1
        and t.accelerator in ("auto", "gpu", "cuda")
        and torch.cuda.is_available(),
        plugins=[WholeCheckpoints()],
        enable_progress_bar=shown,
        enable_model_summary=False,
        default_root_dir=out,
    )
