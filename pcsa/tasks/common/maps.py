"""Maps on grids as tasks on images, volumes and scans train and read them.

Each keypoint has a map; positions are in pixels of the network's input, and the objectives are those of
:mod:`pcsa.losses` on the grid's cells.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from pcsa import grid
from pcsa._core.checks import check_interval
from pcsa.datasets.crops import flip_back
from pcsa.datasets.values import ValueRange
from pcsa.tasks.common.config import (
    DataConfig,
    LocalizationConfig,
    OptimizerConfig,
    Positive,
    Rule,
    TrainConfig,
    TrainerConfig,
)
from pcsa.tasks.common.engine import TrainingItems
from pcsa.tasks.common.objective import draw_samples, localization_loss, tempered_logits

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class MapData(DataConfig):
    """Where the items lie, and the size at which a network takes them."""

    input_size: Annotated[tuple[int, ...], Rule(1)] = ()
    value_range: ValueRange | None = None
    """What 0 and 1 stand for in the files of `root`, such as 0 4095 for 12 bits in 16. Default: the range of unsigned
    integers, 0 1 for floats; see pcsa.datasets.values."""

    def __post_init__(self) -> None:
        if self.value_range is not None:
            check_interval("data.value_range", self.value_range)
            if self.root is None:
                raise ValueError(f"`data.value_range` (={self.value_range}) must come with `data.root`")


@dataclass(frozen=True)
class MapObjectiveConfig(LocalizationConfig):
    """What is minimized. Lengths are in units of half the map's longest axis, standard deviations in cells."""

    basis: Literal["triangular", "uniform", "gaussian"] = "triangular"
    """Shape of a cell's density, see pcsa.grid.sampling_argmax."""
    form: Literal["paper", "released"] = "paper"
    """Sample as the paper says, or as all of the authors' code does, see pcsa.grid.sampling_argmax."""
    temperature: Literal["constant", "linear", "exponential", "cosine"] = "constant"
    """How the temperature falls from start to end."""
    temperature_start: Positive = 1.0
    regularization_sigma: Positive = 1.0
    """Standard deviation that the regularization wants, in cells."""
    norm_sigma: Positive = 2.0
    """Width of the bounded error, in cells."""
    label_sigma: Positive = 2.0
    """Standard deviation of the Gaussian of soft_label, in cells."""


def map_optimizer(**options: Any) -> OptimizerConfig:
    """Adam as the trainings on maps begin with it."""
    return OptimizerConfig(**{"steps": 500, "batch_size": 16, "lr": 1e-2, "schedule": "one_cycle", **options})


# The schedule of the paper's code for COCO. Its temperature falls by epochs, from 2 to 0.5 within the first 25.
PUBLISHED: dict[str, Any] = {
    "objective": MapObjectiveConfig(
        norm="l1",
        num_samples=30,
        temperature="linear",
        temperature_start=2.0,
        temperature_end=0.5,
        temperature_epochs=25,
    ),
    "optimizer": map_optimizer(
        batch_size=32, lr=1e-3, schedule="milestones", milestones=(90, 120), epochs=140, clip=0.0
    ),
}


@dataclass(frozen=True)
class MapConfig(TrainConfig):
    """Everything that determines a training on maps."""

    data: MapData = field(default_factory=MapData)
    objective: MapObjectiveConfig = field(default_factory=MapObjectiveConfig)
    optimizer: OptimizerConfig = field(default_factory=map_optimizer)
    trainer: TrainerConfig = field(default_factory=lambda: TrainerConfig(validate_every=1))

    def __post_init__(self) -> None:
        super().__post_init__()
        j = self.objective
        if j.form == "released" and j.basis_noise != "relaxed":
            raise ValueError("`objective.basis_noise` (='mixture') must be 'relaxed' with `objective.form` 'released'")
        if j.estimator != "relaxed" and (j.basis, j.form) != ("gaussian", "paper"):
            raise ValueError(
                f"`objective.estimator` (={j.estimator!r}) must be 'relaxed' unless `objective.basis` is 'gaussian' "
                f"and `objective.form` 'paper': they are {j.basis!r} and {j.form!r}"
            )
        if j.label_distance != "euclidean":
            raise ValueError(
                f"`objective.label_distance` (={j.label_distance!r}) must be 'euclidean': maps have no surface"
            )


@dataclass(frozen=True)
class MapLabels:
    """What a network of maps finds."""

    names: tuple[str, ...]
    pairs: tuple[tuple[int, int], ...] = ()
    """Left and right keypoints."""
    bones: tuple[tuple[int, int], ...] = ()
    """Keypoints that a line joins in pictures."""


def as_points(maps: Tensor, unit: float = 1.0) -> tuple[Tensor, Tensor]:
    """Maps ``[B, K, *spatial]`` as logits ``[B, N, K]`` of a point set, and its positions, ``unit`` times the index."""
    pos = grid.cells(maps.shape[2:], dtype=torch.promote_types(maps.dtype, torch.float32), device=maps.device)
    # Multiplied before it is as large as the batch.
    return grid.flatten(maps), (unit * pos).expand(len(maps), -1, -1)


def strides(input_size: Sequence[int], maps: Tensor) -> list[float]:
    """Input pixels per cell along every axis of a position, x first."""
    return [n / cells for n, cells in zip(input_size[::-1], maps.shape[:1:-1], strict=True)]


def map_loss(
    config: MapObjectiveConfig,
    maps: Tensor,
    target: Tensor,
    visible: Tensor,
    temperature: float,
    generator: torch.Generator,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of maps ``[B, K, *spatial]`` for targets ``[B, K, D]`` in index units, and its parts for the log."""
    unit = 2 / max(maps.shape[2:])
    logits, pos = as_points(maps, unit)
    samples = None
    if config.has("sampling") and config.estimator != "relaxed":
        samples = draw_samples(config, logits, pos, unit, None, temperature, generator)
    elif config.has("sampling"):
        samples = unit * grid.sampling_argmax(
            # The released form tempers its logits itself.
            maps if config.form == "released" else tempered_logits(config, maps, temperature),
            config.basis,
            num_samples=config.num_samples,
            temperature=temperature,
            basis_noise=config.basis_noise,
            form=config.form,
            generator=generator,
            validate=False,
        )
    return localization_loss(config, samples, logits, pos, unit, unit, unit * target, visible)


class LocatedMaps(NamedTuple):
    """What :meth:`MapTask.locate` finds, in pixels of the network's input."""

    position: Tensor
    """``[B, K, D]``, x first; of surfaces, rows ``[B, K, W]``."""
    peak: Tensor
    """Largest probability of a cell, ``[B, K]``; of surfaces, of a cell of the column ``[B, K, W]``."""
    confidence: Tensor
    """Probability within the radius of the position, in the shape of ``peak``; the peak where no radius was given."""
    maps: Tensor
    """Scores ``[B, K, *spatial]``."""
    covariance: Tensor
    """Spread of the maps, ``[B, K, D, D]``, in pixels squared; of surfaces ``[B, K, W, 1, 1]``."""


def score_maps(network: nn.Module, image: Tensor, flip_pairs: Sequence[tuple[int, int]] | None = None) -> Tensor:
    """Maps ``[B, K, *spatial]`` of inputs ``[B, C, *input_size]``, float32.

    With ``flip_pairs``, left and right keypoints, they are the mean of those of the input and of its mirror image (the
    flip test).
    """
    maps: Tensor = network(image)["logits"].float()
    if flip_pairs is not None:
        mirrored = flip_back(network(image.flip(-1))["logits"].float(), flip_pairs)
        both = torch.stack([maps, mirrored]).flatten(3).log_softmax(-1)
        maps = (both.logsumexp(0) - math.log(2)).view_as(maps)
    return maps


Row = dict[str, Any]


class MapItems(TrainingItems[Row]):
    """Items of a dataset of images, volumes or scans."""

    def __init__(self, dataset: Any, seed: int) -> None:
        super().__init__(seed)
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def plain(self, index: int) -> Row:
        return dict(self.dataset[index])

    def varied(self, index: int, generator: torch.Generator) -> Row:
        return dict(self.dataset.augmented(index, generator))
