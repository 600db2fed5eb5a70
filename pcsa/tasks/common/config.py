"""What the configurations of all trainings have in common, and the rules on their values.

A configuration is a tree of frozen dataclasses: ``data``, ``model``, ``objective``, ``optimizer``, ``trainer``, and the
seed and folder of the run. Options of the command line are the fields' names with dashes.
"""

from __future__ import annotations

import dataclasses
import math
import numbers
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_type_hints

import numpy as np

from pcsa._core.checks import check_between, check_one_of

_T = TypeVar("_T")


@dataclass(frozen=True)
class Rule:
    """What an annotated number must be."""

    least: float
    strict: bool = False

    def check(self, name: str, value: float | Iterable[float], whole: bool = False) -> None:
        """Raise if a value, or one of several, breaks the rule, or is not a number (``whole``: a whole number)."""
        kind, what = (numbers.Integral, "a whole number") if whole else (numbers.Real, "a number")
        for x in value if isinstance(value, Iterable) and not isinstance(value, str) else (value,):
            rule = f"{'above' if self.strict else 'at least'} {self.least:g}{'' if whole else ' and finite'}"
            # To Python a bool is a number.
            if isinstance(x, bool) or not isinstance(x, kind):
                raise ValueError(f"`{name}` (={value!r}) must be {what}{'' if self.strict else ' of'} {rule}")
            if not (x > self.least if self.strict else x >= self.least) or not x < math.inf:
                raise ValueError(f"`{name}` (={value}) must be {rule}")


Count = Annotated[int, Rule(1)]
Positive = Annotated[float, Rule(0, strict=True)]
FromZero = Annotated[float, Rule(0)]


Method = Literal["sampling", "soft", "discrete", "mixture", "nll", "cross_entropy", "soft_label"]


@dataclass(frozen=True)
class DataConfig:
    """Where the data lie."""

    root: Path | None = None


@dataclass(frozen=True)
class SamplerConfig:
    """How samples of keypoints are drawn while training."""

    num_samples: Count = 10
    """Samples S of every keypoint."""
    temperature: Literal["constant", "linear", "exponential", "cosine"] = "linear"
    """How the temperature falls from start to end."""
    temperature_start: Positive = 0.7
    temperature_end: Positive = 0.3
    temperature_epochs: Positive | None = None
    """Epochs within which the temperature falls; default the whole training."""
    tempering: Literal["logits", "noise"] = "noise"
    """What the temperature divides: the perturbed logits (Eq. 11), or the noise alone, as in the authors' image code:
    softmax(logits + g / temperature)."""
    basis_noise: Literal["relaxed", "mixture"] = "relaxed"
    """See pcsa.sampling_argmax."""
    estimator: Literal["relaxed", "straight_through", "reinmax", "implicit"] = "relaxed"
    """Gradient of a sample, see pcsa.sampling_argmax. All but relaxed draw from the map itself: tempering and
    basis_noise are relaxed's alone, the temperature is that of straight_through's gradient too."""

    @property
    def final_temperature(self) -> float:
        return self.temperature_start if self.temperature == "constant" else self.temperature_end


@dataclass(frozen=True)
class BandwidthConfig:
    """Standard deviations of the points' bases."""

    bandwidth: Positive | None = None
    """Standard deviation of a basis; without it, from the distances to each point's neighbors."""
    bandwidth_scale: Positive = 1.0
    """Factor on the bandwidth from neighbors."""
    bandwidth_normal: Positive = 1.0
    """Standard deviation of a basis across the surface, as a share of the bandwidth, which is that along it; see
    pcsa.surface_bandwidth. At 1 bases are round."""

    def check_bandwidth(self) -> None:
        """Check what belongs together."""
        check_between("objective.bandwidth_normal", self.bandwidth_normal, 0, 1, "(]")
        if self.bandwidth_normal < 1 and getattr(self, "estimator", None) == "implicit":
            raise ValueError(
                f"`objective.bandwidth_normal` (={self.bandwidth_normal}) must be 1 with `objective.estimator` "
                "'implicit', whose bases are along the axes"
            )


FROM_NEIGHBORS = BandwidthConfig()
"""As wide as the nearest neighbors are far."""


@dataclass(frozen=True)
class LocalizationConfig(SamplerConfig):
    """What is minimized of a probability map, for points and for grids."""

    method: Method = "sampling"
    """Expectation of the error by samples (Eq. 14), error of the expectation (Eq. 2), discrete expectation of the
    error (Eq. 4), its closed form under the mixture (Eq. 3), likelihood of the mixture (Eq. 6), classification of
    the annotated point, or cross-entropy with a Gaussian around it."""
    plus: tuple[tuple[Method, float], ...] = ()
    """Further terms of a sum, each with its weight, such as `cross_entropy 0.1 soft 2`; the weight of `method` is 1."""
    norm: Literal["l1", "l2", "squared", "bounded"] = "l2"
    """The error of a position; bounded is 1 - exp(-distance^2 / (2 norm_sigma^2))."""
    norm_sigma: Positive = 0.05
    """Width of the bounded error."""
    label_sigma: Positive = 0.03
    """Standard deviation of the Gaussian of soft_label."""
    label_distance: Literal["euclidean", "geodesic"] = "euclidean"
    """Distance in the Gaussian of soft_label: straight, or along the surface of an annotated cloud."""
    regularization: Literal["none", "variance", "js"] = "none"
    """Variance (Eq. 15) or Jensen-Shannon (Eq. 16) regularization of the map."""
    regularization_weight: FromZero = 1.0
    regularization_sigma: Positive = 1.0
    """Standard deviation that the regularization wants."""

    @property
    def terms(self) -> tuple[tuple[Method, float], ...]:
        """Every term of the sum and its weight."""
        return ((self.method, 1.0), *self.plus)

    def has(self, *methods: Method) -> bool:
        """Whether one of the terms is one of these."""
        return any(name in methods for name, _ in self.terms)

    def check(self) -> None:
        """Check what belongs together."""
        names = [name for name, _ in self.terms]
        for name, weight in self.plus:
            check_one_of("objective.plus", name, get_args(Method))
            Rule(0, strict=True).check("objective.plus", weight)
            if names.count(name) > 1:
                raise ValueError(f"`objective.plus` (={name!r}) must be a term that the sum does not have yet")
        if self.has("mixture") and self.norm == "l2":
            raise ValueError(
                "`objective.norm` (='l2') has no closed form under the mixture: use 'l1', 'squared' or 'bounded'"
            )


@dataclass(frozen=True)
class OptimizerConfig:
    """Optimizer, its schedule, and the length of the training."""

    steps: Count = 800
    """Optimizer steps."""
    epochs: Count | None = None
    """Rounds over the training items, in place of `steps`."""
    batch_size: Count = 8
    """Items in a step, over all devices together."""
    kind: Literal["adam", "adadelta", "adamw"] = "adam"
    """Adadelta has epsilon 0.01. AdamW shrinks the weights apart from the gradient, biases and norms not at all; the
    others add the weight decay to the gradient of every parameter."""
    lr: Positive = 2e-3
    """Largest learning rate."""
    schedule: Literal["cosine", "constant", "one_cycle", "milestones"] = "cosine"
    """The learning rate falls to zero as a cosine, stays, rises within the first fifth of the steps and falls to zero,
    or falls to a tenth at every milestone."""
    milestones: tuple[int, ...] = ()
    """Epochs at which the learning rate falls."""
    warmup: Annotated[int, Rule(0)] = 0
    """Steps within which the learning rate rises to that of the schedule."""
    weight_decay: FromZero = 0.0
    clip: FromZero = 1.0
    """Largest norm of the gradient; 0 for no limit."""
    averaging: Literal["none", "ema", "swa"] = "none"
    """Validate and keep an average of the weights of all steps, which weighs later ones more (ema), or of those of the
    last steps, all alike (swa)."""
    averaging_decay: FromZero = 0.99
    """What remains of an ema after a step; less in the first steps, so that it forgets how the training began."""
    averaging_start: FromZero | None = None
    """Share of the steps before the average begins; default 0 for ema and 0.75 for swa."""

    def num_steps(self, steps_per_epoch: int) -> int:
        """Steps of the whole training."""
        return self.steps if self.epochs is None else self.epochs * steps_per_epoch

    def check(self) -> None:
        """Check what belongs together."""
        rising = list(self.milestones) == sorted(set(self.milestones)) and all(epoch >= 1 for epoch in self.milestones)
        if (self.schedule == "milestones") != bool(self.milestones) or not rising:
            raise ValueError(
                f"`optimizer.milestones` (={self.milestones}) must be rising epochs with `optimizer.schedule` "
                f"'milestones', and none with another schedule; `optimizer.schedule` is {self.schedule!r}"
            )
        for name in ("averaging_decay", "averaging_start"):
            value = getattr(self, name)
            if value is not None and value >= 1:
                raise ValueError(f"`optimizer.{name}` (={value}) must be below 1")
        if self.warmup and self.schedule == "one_cycle":
            raise ValueError(f"`optimizer.warmup` (={self.warmup}) must be 0 with `optimizer.schedule` 'one_cycle'")
        if self.epochs is None and self.warmup >= self.steps:
            raise ValueError(f"`optimizer.warmup` (={self.warmup}) must be below `optimizer.steps` (={self.steps})")


@dataclass(frozen=True)
class TrainerConfig:
    """Flags of the Lightning trainer."""

    accelerator: str = "auto"
    devices: Count = 1
    num_nodes: Count = 1
    strategy: str = "auto"
    precision: str = "32-true"
    """For instance bf16-mixed; sampling stays in float32."""
    num_workers: Annotated[int, Rule(0)] | None = None
    """Processes that load and augment; by default none, but for a CUDA device one less than torch has threads, at
    least one and at most four, and one that validates; where processes are forked, as on Linux."""
    logger: Literal["csv", "tensorboard", "wandb", "trackio"] = "csv"
    """What shows the log beside the CSV files, which are always written: TensorBoard from the same folder, Weights &
    Biases or trackio. Their environment variables hold, such as WANDB_MODE=offline and TRACKIO_DIR."""
    validate_every: Count = 10
    """Epochs between two validations."""
    save_every: Count = 1
    """Epochs between two checkpoints to resume from."""
    save_seconds: FromZero = 10.0
    """Seconds between two of them at least: of short epochs, most write none."""
    best: str | None = None
    """Also keep the weights with the best score of a validation in best.ckpt; a name from the log, such as val_error
    or val_pck@0.01. The last epoch is validated, too. Scores of few items choose by chance."""
    progress: bool = True
    """Show progress bars, where standard error is a terminal."""
    cuda_graph: bool = True
    """Launch the forward pass of a supervised detector, and of an objective that draws no samples, as one CUDA graph
    and the backward pass as another, captured in the first step. On one CUDA device, in 32-true or bf16-mixed, for
    batches of clouds of one size and networks that draw nothing; elsewhere kernels are launched one by one."""


@dataclass(frozen=True)
class TrainConfig:
    """Everything that determines a training. Each task has its own data, model and objective."""

    data: DataConfig = field(default_factory=DataConfig)
    model: Any = None
    objective: SamplerConfig = field(default_factory=SamplerConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    seed: int = 0
    """Fixes initialization, shuffling, augmentation and noise."""
    out: Path = Path("runs/run")
    """Folder of the checkpoint, configuration, metrics and log."""
    resume: bool = False
    """Continue the run in `out` from its last checkpoint."""
    init_from: Path | None = None
    """Begin with the weights of a checkpoint (or run, shared model, owner/name on the Hugging Face hub) of the same
    task and network, of other keypoints perhaps: what scores these is begun anew, but for keypoints that both have. A
    resumed run has its weights from its own."""

    def __post_init__(self) -> None:
        make_paths(self)
        check_numbers(self)
        o, t = self.optimizer, self.trainer
        o.check()
        if isinstance(self.objective, LocalizationConfig):
            self.objective.check()
        if isinstance(self.objective, BandwidthConfig):
            self.objective.check_bandwidth()
        if not isinstance(self.seed, numbers.Integral) or not 0 <= self.seed < 2**32:
            raise ValueError(f"`seed` (={self.seed}) must be from 0 to 2**32 - 1")
        devices = t.devices * t.num_nodes
        if o.batch_size % devices:
            raise ValueError(
                f"`optimizer.batch_size` (={o.batch_size}) must be a multiple of the number of devices (={devices})"
            )


def make_paths(config: Any) -> None:
    """Put a path in place of every text in a tree of configurations that stands for one."""
    hints = get_type_hints(type(config))
    for field_ in dataclasses.fields(config):
        value = getattr(config, field_.name)
        if dataclasses.is_dataclass(value):
            make_paths(value)
        elif isinstance(value, str) and Path in (hints[field_.name], *get_args(hints[field_.name])):
            object.__setattr__(config, field_.name, Path(value))


def check_numbers(config: Any, prefix: str = "") -> None:
    """Hold every number of a tree of configurations to the rules that its fields are annotated with.

    Raises:
        ValueError: Naming the field by its path, such as ``optimizer.batch_size``, its value and the rule.
    """
    hints = get_type_hints(type(config), include_extras=True)
    for field_ in dataclasses.fields(config):
        value = getattr(config, field_.name)
        if dataclasses.is_dataclass(value):
            check_numbers(value, f"{prefix}{field_.name}.")
        elif value is not None:
            for rule, whole in _rules(hints[field_.name]):
                rule.check(f"{prefix}{field_.name}", value, whole)


def _rules(hint: Any) -> Iterator[tuple[Rule, bool]]:
    """The rules anywhere in an annotation, such as in a type of a union or in the items of a tuple.

    With each, whether it is about whole numbers.
    """
    parts = get_args(hint)
    for part in parts:
        if isinstance(part, Rule):
            yield part, int in (parts[0], *get_args(parts[0]))
        else:
            yield from _rules(part)


def to_plain(config: Any) -> Any:
    """A configuration as JSON types."""
    if dataclasses.is_dataclass(config):
        return {f.name: to_plain(getattr(config, f.name)) for f in dataclasses.fields(config)}
    if isinstance(config, (tuple, list)):
        return [to_plain(x) for x in config]
    if isinstance(config, np.generic | np.ndarray):
        return config.tolist()
    # Where a relative path led when the run began, not where it leads from the next folder.
    return os.fspath(config.resolve()) if isinstance(config, Path) else config


def from_plain(kind: type[_T], plain: Mapping[str, Any]) -> _T:
    """What :func:`to_plain` took apart, as the dataclass ``kind``."""
    hints = get_type_hints(kind)
    return kind(**{name: _value(hints[name], value) for name, value in plain.items()})


def _value(hint: Any, plain: Any) -> Any:
    if dataclasses.is_dataclass(hint):
        return from_plain(hint, plain)  # type: ignore[arg-type]
    if isinstance(plain, list):
        inner = get_args(hint)[0] if get_args(hint) else None
        return tuple(_value(inner, x) for x in plain)
    return Path(plain) if isinstance(plain, str) and Path in (hint, *get_args(hint)) else plain
