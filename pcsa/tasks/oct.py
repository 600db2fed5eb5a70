"""Retinal surfaces in B-scans: your own, the Johns Hopkins volumes, procedural retinas.

A surface is one keypoint per column of the scan, on the column's own one-dimensional grid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from pcsa import grid, metrics
from pcsa.datasets.arrays import ARRAYS
from pcsa.datasets.images import IMAGES
from pcsa.datasets.oct import Mshc, OctScans
from pcsa.datasets.procedural import Retinas
from pcsa.datasets.scans import ScanAugment, read_scan_file
from pcsa.datasets.splits import Split
from pcsa.datasets.values import ValueRange
from pcsa.localization import ReadOut
from pcsa.models import SurfaceUNet, order_surfaces
from pcsa.tasks.common.config import Count, Rule
from pcsa.tasks.common.map_inputs import WholePredictor, value_range_of
from pcsa.tasks.common.map_task import PEARSON, Collected, MapTask
from pcsa.tasks.common.maps import (
    LocatedMaps,
    MapConfig,
    MapData,
    MapLabels,
    MapObjectiveConfig,
    map_optimizer,
)
from pcsa.tasks.common.scores import calibration
from pcsa.tasks.common.tables import number
from pcsa.tasks.common.task import EvaluateOptions, PredictOptions, Predictor, Run, column
from pcsa.viz import Overlay


@dataclass(frozen=True)
class OctData(MapData):
    """Retinal B-scans with the surfaces between layers."""

    root: Path | None = None
    """Folder of scans; without it, procedural retinas."""
    layout: Literal["scans", "mshc"] = "scans"
    """Layout of `root`: arrays with boundaries, or the Johns Hopkins volumes of healthy controls and multiple
    sclerosis."""
    train_columns: tuple[int, int] | None = None
    """Columns of every scan to train on, first and one after the last; default see pcsa.datasets.oct.OctScans."""
    test_columns: tuple[int, int] | None = None
    """Columns of every scan to validate and to be scored on."""
    one_based: bool | None = None
    """Whether the surfaces' rows count from 1; default those of boundaries_manual and of the Johns Hopkins volumes do,
    others do not."""
    input_size: Annotated[tuple[int, int], Rule(1)] = (128, 64)
    """Height and width of the windows trained on; scoring takes whole scans."""
    num_scans: Count = 200
    """Procedural scans to train on; a tenth as many to validate on, a fifth to test on."""
    augment: ScanAugment = field(default_factory=ScanAugment)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.layout == "mshc" and self.root is None:
            raise ValueError("`data.layout` (='mshc') must come with `data.root`")
        if self.layout == "mshc" and self.value_range is not None:
            raise ValueError(
                f"`data.value_range` (={self.value_range}) must not be given with `data.layout` 'mshc': the format of "
                "its volumes says what it is"
            )
        train, test = self.train_columns, self.test_columns
        if (train is None) != (test is None) or (train is not None and (self.root is None or self.layout != "scans")):
            raise ValueError(
                f"`data.train_columns` (={train}) and `data.test_columns` (={test}) must be given both or neither, "
                "with a `data.root` of scans as arrays"
            )
        if train is not None and test is not None and max(train[0], test[0]) < min(train[1], test[1]):
            raise ValueError(
                f"`data.test_columns` (={test}) must have no column of `data.train_columns` (={train}): columns "
                "trained on give no score"
            )


@dataclass(frozen=True)
class SurfaceModelConfig:
    """A U-Net at full resolution."""

    channels: tuple[int, ...] = (8, 16, 32, 64)
    """Channels of its levels."""


@dataclass(frozen=True)
class OctConfig(MapConfig):
    """Everything that determines a training of retinal surfaces."""

    data: OctData = field(default_factory=OctData)
    model: SurfaceModelConfig = field(default_factory=SurfaceModelConfig)
    out: Path = Path("runs/oct")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.objective.form == "released":
            raise ValueError("`objective.form` (='released') must be 'paper' for surfaces: it has none for one axis")


@dataclass(frozen=True)
class OctEvaluateOptions(EvaluateOptions):
    """Score a network of retinal surfaces on whole scans, by the absolute distance in rows."""


@dataclass(frozen=True)
class OctPredictOptions(PredictOptions):
    """Surfaces of your own scans, as images or arrays [H, W]: a row for every column."""

    value_range: ValueRange | None = None
    """What 0 and 1 stand for in the files, such as 0 4095 for 12 bits in 16. Default: as in the training's data."""


def columns_of(values: Tensor) -> Tensor:
    """The columns of scans as items of their own: ``[B, K, W]`` to ``[B * W, K]``, with H rows to ``[B * W, K, H]``."""
    return values.movedim(-1, 1).flatten(0, 1)


_QUICK = OctConfig(objective=MapObjectiveConfig(num_samples=5), optimizer=map_optimizer(steps=450, batch_size=4))


class OctTask(MapTask[OctConfig]):
    """See the module."""

    name = "oct"
    title = "a network of retinal surfaces in B-scans (your own, MSHC, procedural retinas)"
    evaluate_options: ClassVar[type[EvaluateOptions]] = OctEvaluateOptions
    predict_options: ClassVar[type[PredictOptions]] = OctPredictOptions
    columnwise = True
    columns = (column("MAD (px)", "mean_px"), column("std (px)", "std_px"), PEARSON)
    presets = {
        # Procedural data on two cores: what is learned within five minutes, and within one minute and a half.
        "small": replace(_QUICK, optimizer=map_optimizer(steps=1350, batch_size=4)),
        "quick": _QUICK,
        "large": OctConfig(
            data=OctData(input_size=(496, 128)),
            model=SurfaceModelConfig(channels=(32, 64, 128, 256, 512)),
            optimizer=map_optimizer(steps=20_000, batch_size=8, lr=1e-3),
        ),
    }

    def open(self, config: OctConfig, split: Split) -> Any:
        data = config.data
        size, augment = data.input_size, data.augment
        if data.root is None:
            return Retinas(split, num_scans=self.share(data.num_scans, split), input_size=size, augment=augment)
        if data.layout == "mshc":
            base = True if data.one_based is None else data.one_based
            return Mshc(data.root, split, input_size=size, augment=augment, one_based=base)
        columns = data.train_columns if split == "train" else data.test_columns
        files: dict[str, Any] = {"one_based": data.one_based, "value_range": data.value_range}
        return OctScans(data.root, split, input_size=size, columns=columns, augment=augment, **files)

    def scored_items(self, config: OctConfig, split: Literal["val", "test"], options: EvaluateOptions) -> Any:
        items = self.items(config, split)
        # Whole scans: one window as large as the largest. One that cannot be read is told when it is its turn.
        sizes = []
        for i in range(len(items)):
            with suppress(ValueError, OSError):
                sizes.append(items.source(i)["image"].shape[1:])
        if not sizes:
            items.source(0)
        size = (max(s[0] for s in sizes), max(s[1] for s in sizes))
        return self.items(replace(config, data=replace(config.data, input_size=size)), split)

    def correct_limit(self, items: Any) -> float:
        return 0.25 * float(min(items.source(i)["image"].shape[1] for i in range(len(items))))

    def trained_on_val(self, config: OctConfig) -> bool:
        return config.data.root is not None and config.data.test_columns is None

    def build(self, config: OctConfig, labels: MapLabels) -> nn.Module:
        return SurfaceUNet(len(labels.names), channels=config.model.channels)

    def mirrors(self, config: OctConfig) -> bool:
        # Surfaces have no sides to exchange.
        return False

    def read(
        self, config: OctConfig, maps: Tensor, size: Sequence[int], read_out: ReadOut, radius: float | None = None
    ) -> LocatedMaps:
        """Surfaces of the maps of scans, as rows ``[B, K, W]``.

        They come in order: one that would lie above the one before it is put on it (see
        :func:`pcsa.models.order_surfaces`).
        """
        found = grid.localize(columns_of(maps), read_out=read_out, radius=radius, validate=False)
        rows, peak, confidence, variance = (
            x.unflatten(0, (maps.shape[0], -1)).movedim(1, -1)
            for x in (found.position[..., 0], found.peak, found.confidence, found.covariance[..., 0, 0])
        )
        return LocatedMaps(order_surfaces(rows, 1), peak, confidence, maps, variance[..., None, None])

    def targets(self, config: OctConfig, batch: dict[str, Tensor], maps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        boundaries = columns_of(batch["boundaries"]).unsqueeze(-1)
        return columns_of(maps), boundaries, columns_of(batch["visible"])

    def errors(self, batch: dict[str, Tensor], found: LocatedMaps) -> tuple[Tensor, Tensor]:
        return columns_of((found.position - batch["boundaries"]).abs()), columns_of(batch["visible"])

    def overlay(self, items: Any, row: Mapping[str, Any], position: Tensor) -> Overlay:
        return Overlay(
            row["image"],
            surfaces=position,
            annotated_surfaces=row["boundaries"],
            visible=row["visible"],
            names=items.names,
        )

    def scores(self, items: Any, found: Collected, correct_threshold: float | None) -> dict[str, Any]:
        """Absolute distance of the surfaces over all labeled columns, mean and standard deviation."""
        predicted, target, visible = found.position, found.all("boundaries"), found.all("visible")
        spacing = found.all("source_spacing")
        rows = metrics.surface_error(predicted, target, visible)
        scores: dict[str, Any] = {"mean_px": float(rows.overall_mean), "std_px": float(rows.overall_std)}
        # A spacing that is not known is 1.
        if bool((spacing[:, 0] == spacing[0, 0]).all()) and float(spacing[0, 0]) != 1:
            micrometers = 1000 * float(spacing[0, 0])
            scores |= {"mean_um": micrometers * scores["mean_px"], "std_um": micrometers * scores["std_px"]}
        distance = torch.where(visible, (predicted - target).abs(), 0.0)
        scores["surfaces"] = {
            name: {"mean_px": mean if count else None, "std_px": std if count else None, "num_columns": count}
            for name, mean, std, count in zip(
                items.names, rows.mean.tolist(), rows.std.tolist(), rows.num_columns.tolist(), strict=True
            )
        }
        return {
            **scores,
            **calibration(correct_threshold or 1.0, "pixels", distance, visible, found.confidence),
        }

    def rows(self, metrics: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
        surfaces = {**metrics["surfaces"], "all": metrics}
        rows = [[name, number(row["mean_px"], 3), number(row["std_px"], 3)] for name, row in surfaces.items()]
        if "mean_um" in metrics:
            rows.append(["all, micrometers", number(metrics["mean_um"], 2), number(metrics["std_um"], 2)])
        return ["surface", "mean (pixels)", "std (pixels)"], rows

    def predictor(self, run: Run[OctConfig, MapLabels], options: PredictOptions) -> Predictor:
        suffixes = (*IMAGES, *ARRAYS)
        assert isinstance(options, OctPredictOptions)
        read = partial(read_scan_file, value_range=value_range_of(run, options))
        return WholePredictor(self.locator(run, options), run.labels, suffixes, read, "rows")


TASK = OctTask()
