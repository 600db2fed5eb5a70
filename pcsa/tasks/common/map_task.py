"""What tasks on images, volumes and scans share: training, scoring, tables and pictures."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

import lightning as L
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from pcsa import grid
from pcsa.datasets.crops import CropAugment, to_source
from pcsa.datasets.scans import ScanAugment
from pcsa.datasets.splits import Split
from pcsa.localization import ReadOut
from pcsa.metrics import MeanKeypointError
from pcsa.tasks.common.engine import StepData, StepTraining, Training
from pcsa.tasks.common.held_out import check_held_out, check_same_names, warn_of_twin_files
from pcsa.tasks.common.map_inputs import ImagePredictOptions, ImagePredictor, Locate
from pcsa.tasks.common.maps import (
    LocatedMaps,
    MapConfig,
    MapItems,
    MapLabels,
    Row,
    map_loss,
    score_maps,
    strides,
)
from pcsa.tasks.common.mean_maps import MeanOfGridNetworks
from pcsa.tasks.common.read_outs import check_map_radius
from pcsa.tasks.common.tables import markdown_table, number
from pcsa.tasks.common.task import (
    EvaluateOptions,
    Evaluation,
    PredictOptions,
    Predictor,
    Run,
    Task,
    column,
)
from pcsa.viz import Overlay

log = logging.getLogger(__name__)

MapConfigT = TypeVar("MapConfigT", bound=MapConfig)

METHODS: dict[str, dict[str, str]] = {
    "soft": {"method": "soft", "regularization": "none"},
    "soft, variance": {"method": "soft", "regularization": "variance"},
    "soft, Jensen-Shannon": {"method": "soft", "regularization": "js"},
    "sampling, uniform": {"method": "sampling", "regularization": "none", "basis": "uniform"},
    "sampling, triangular": {"method": "sampling", "regularization": "none", "basis": "triangular"},
    "sampling, Gaussian": {"method": "sampling", "regularization": "none", "basis": "gaussian"},
}
"""What ``pcsa compare`` changes in the objective."""

PEARSON = column("Pearson r", "calibration", "pearson")


@dataclass(frozen=True)
class MapEvaluateOptions(EvaluateOptions):
    """Score a network of maps by the metric of its field."""

    flip_test: bool = True
    """Take the mean of the maps of the input and of its mirror image."""


class MapTraining(StepTraining[MapConfig]):
    """Trains a network of maps; validates by the mean distance of the expectation, in pixels of the network's input."""

    def __init__(self, task: MapTask[Any], config: MapConfig, network: nn.Module, steps_per_epoch: int) -> None:
        super().__init__(config, network, steps_per_epoch)
        self.task = task
        self.error = MeanKeypointError()

    @property
    def watched(self) -> Mapping[str, Literal["min", "max"]]:
        return {"val_error": "min"}

    def loss(
        self, batch: dict[str, Tensor], temperature: float, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor], int]:
        maps, target, visible = self.task.targets(self.config, batch, self.network(batch["image"])["logits"])
        loss, parts = map_loss(self.config.objective, maps, target, visible, temperature, generator)
        return loss, {f"loss_{name}": value for name, value in parts.items()}, len(batch["image"])

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        distance, visible = self.task.errors(batch, self.task.locate(self.config, self.network, batch["image"]))
        self.error.update(torch.where(visible, distance, 0.0), visible)

    def on_validation_epoch_end(self) -> None:
        """Log what the metric collected."""
        self.log("val_error", self.error.compute(), prog_bar=True, sync_dist=True)
        self.error.reset()


class MapTask(Task[MapConfigT, MapLabels]):
    """A task on images, volumes or scans."""

    labels_type = MapLabels
    compared = "quick"
    methods = METHODS
    evaluate_options: ClassVar[type[EvaluateOptions]] = MapEvaluateOptions
    predict_options: ClassVar[type[PredictOptions]] = ImagePredictOptions

    @staticmethod
    def share(count: int, split: Split) -> int:
        """Procedural items of a split, of ``count`` to train on."""
        return {"train": count, "val": max(1, count // 10), "test": max(1, count // 5)}[split]

    @abstractmethod
    def open(self, config: MapConfigT, split: Split) -> Any:
        """The items of one split: what the configuration names, or procedural ones.

        Procedural items of different splits have nothing in common.
        """

    def items(self, config: MapConfigT, split: Split) -> Any:
        """The same, refused where there are none."""
        return filled(self.open(config, split), split, config.data.root)

    def scored_items(self, config: MapConfigT, split: Literal["val", "test"], options: EvaluateOptions) -> Any:
        """The items to score on."""
        return self.items(config, split)

    def identities(self, items: Any) -> Sequence[Hashable]:
        """What tells the items apart wherever they are listed, such as their files; none where they are drawn."""
        return ()

    def has_split(self, config: MapConfigT, split: Split) -> bool:
        """Whether the root says anything of a split; a root without items to validate on can be trained on."""
        return True

    def correct_limit(self, items: Any) -> float:
        """Error from which on a keypoint is not right in any sense, in the unit of the ``correct_threshold``.

        By default the length that errors are measured by.
        """
        return 1.0

    def trained_on_val(self, config: MapConfigT) -> bool:
        """Whether the layout holds no items out to validate on: what is called val is trained on, too."""
        return False

    def splits(self, config: MapConfigT) -> tuple[Literal["val", "test"], ...]:
        return ("test",) if self.trained_on_val(config) else ("val", "test")

    def pretrained(self, config: MapConfigT, network: nn.Module) -> None:
        """Load what a new network begins with."""
        return

    def depth(self, config: MapConfigT) -> int | None:
        """Pixels of depth that the maps of images stand for, where their keypoints have one."""
        return None

    def mirrors(self, config: MapConfigT) -> bool:
        """Whether the mirror image of an input is an input too."""
        return True

    columnwise: ClassVar[bool] = False
    """Whether each column of a map is a distribution of its own."""

    def mean(self, runs: Sequence[Run[MapConfigT, MapLabels]]) -> nn.Module:
        for run in runs[1:]:
            for name in ("input_size", "value_range"):
                here, first = (getattr(r.config.data, name) for r in (run, runs[0]))
                if here != first:
                    raise ValueError(
                        f"`ensemble` (={str(run.path)!r}) must have `data.{name}` {first}, as `{runs[0].path}`; has "
                        f"{here}"
                    )
        return MeanOfGridNetworks([run.model for run in runs], columns=self.columnwise)

    @torch.no_grad()
    def locate(
        self,
        config: MapConfigT,
        network: nn.Module,
        image: Tensor,
        *,
        read_out: ReadOut = "expectation",
        radius: float | None = None,
        flip_pairs: Sequence[tuple[int, int]] | None = None,
    ) -> LocatedMaps:
        """Keypoints of a batch of inputs ``[B, C, *input_size]``; ``radius`` in their pixels."""
        return self.read(config, score_maps(network, image, flip_pairs), image.shape[2:], read_out, radius)

    def read(
        self,
        config: MapConfigT,
        maps: Tensor,
        size: Sequence[int],
        read_out: ReadOut,
        radius: float | None = None,
    ) -> LocatedMaps:
        """Keypoints of the maps of inputs of ``size``."""
        depth = self.depth(config)
        spacing = strides([*([] if depth is None else [depth]), *size], maps)
        found = grid.localize(maps, read_out=read_out, radius=radius, frame="pixels", spacing=spacing, validate=False)
        return LocatedMaps(found.position, found.peak, found.confidence, maps, found.covariance)

    def targets(self, config: MapConfigT, batch: dict[str, Tensor], maps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Maps ``[B, K, *spatial]``, targets ``[B, K, D]`` in index units, and which of them are known."""
        spacing = strides(config.data.input_size, maps)
        target = grid.to_index(batch["keypoints"], maps.shape[2:], frame="pixels", spacing=spacing)
        return maps, target, batch["visible"]

    def errors(self, batch: dict[str, Tensor], found: LocatedMaps) -> tuple[Tensor, Tensor]:
        """Distances from the labels in pixels of the network's input, and which of the labels are known."""
        return (found.position - batch["keypoints"]).norm(dim=-1), batch["visible"]

    def overlay(self, items: Any, row: Mapping[str, Any], position: Tensor) -> Overlay:
        """Prediction beside annotation of one item, as the network takes it."""
        return Overlay(
            row["image"],
            predicted=position,
            annotated=row["keypoints"],
            visible=row["visible"],
            bones=items.bones,
            names=items.names,
        )

    @abstractmethod
    def scores(self, items: Any, found: Collected, correct_threshold: float | None) -> dict[str, Any]:
        """The scores of the field, as JSON types."""

    def training(self, config: MapConfigT) -> Training:
        augment = getattr(config.data, "augment", None)
        if isinstance(augment, CropAugment | ScanAugment):
            augment.prepare()
        train = self.items(config, "train")
        val = self.open_validation(config, train)
        data = StepData(config, MapItems(train, config.seed), None if val is None else MapItems(val, config.seed))
        L.seed_everything(config.seed, verbose=False)
        labels = labels_of(train)
        network = self.build(config, labels)
        # A resumed run has its weights from its checkpoint; the file may be gone.
        if not config.resume:
            self.pretrained(config, network)
        for split, items in (("train", train), ("val", val)):
            for reason, count in ({} if items is None else items.skipped).items():
                log.info("%s: %d left out: %s", split, count, reason)
        return Training(MapTraining(self, config, network, data.steps_per_epoch), data, labels)

    def open_validation(self, config: MapConfigT, train: Any) -> Any:
        """The items to validate on; None where there are none.

        Raises:
            ValueError: If they have other keypoints than those to train on, or are among them where the layout does
                not say so.
        """
        val = self.open(config, "val") if self.has_split(config, "val") else None
        if val is None:
            return None
        if not len(val):
            log.info("nothing in split 'val' can be used; left out: %s", reasons_of(val))
            return None
        where = f"`data.root` (={str(config.data.root)!r})"
        check_same_names(where, train.names, val.names)
        if self.trained_on_val(config):
            log.info("%s validates on what is trained on, too: for watching, not for choosing", where)
        else:
            known, held_out = self.identities(train), self.identities(val)
            check_held_out(where, known, held_out)
            warn_of_twin_files(*([name for name in names if isinstance(name, Path)] for names in (known, held_out)))
        return val

    def evaluated(self, config: MapConfigT, options: Any) -> MapConfigT:
        """The configuration of the training with the root that is named in place of its own."""
        return config if options.root is None else replace(config, data=replace(config.data, root=options.root))

    def evaluation(self, run: Run[MapConfigT, MapLabels], options: Any) -> Evaluation:
        return MapEvaluation(self, run, options)

    def locator(self, run: Run[MapConfigT, MapLabels], options: PredictOptions) -> Locate:
        """What finds the keypoints of inputs by a run."""
        check_map_radius(options.read_out, options.radius)

        def find(image: Tensor, flip_pairs: Sequence[tuple[int, int]] | None) -> LocatedMaps:
            image = image.to(run.device)
            how: dict[str, Any] = {"read_out": options.read_out, "radius": options.radius}
            return self.locate(run.config, run.model, image, **how, flip_pairs=flip_pairs)

        return find

    def predictor(self, run: Run[MapConfigT, MapLabels], options: Any) -> Predictor:
        return ImagePredictor(self.locator(run, options), run, options)

    def rows(self, metrics: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
        """Heads and rows of the table of one run; what its metrics lack is left out."""
        known = [(column.title, column.value(metrics)) for column in self.columns]
        return ["score", "value"], [[title, f"{value:.4g}"] for title, value in known if value is not None]

    def table(self, metrics: Mapping[str, Any]) -> str:
        left_out = "".join(f"; {count} left out: {reason}" for reason, count in metrics["left_out"].items())
        lines = [f"{self.name}, {metrics['data']}, {metrics['split']}: {metrics['num_items']} items{left_out}"]
        if metrics["trained_on"]:
            lines.append("these items were trained on as well: for watching, not for comparing")
        reach = f", radius {metrics['radius']:g} pixels" if metrics.get("radius") else ""
        lines += [f"read-out: {metrics['read_out']}{reach}" + (", flip test" if metrics["flip_test"] else ""), ""]
        lines.append(markdown_table(*self.rows(metrics)))
        if "calibration" in metrics:
            c = metrics["calibration"]
            said = f"Pearson r of peak probability with error < {c['threshold']:g} {c['unit']}"
            lines += ["", f"{said}: {number(c['pearson'], 3)}"]
        return "\n".join(lines)


def filled(items: Any, split: Split, where: Path | None) -> Any:
    """Items, refused where there are none."""
    if not len(items):
        raise ValueError(f"`{where}` must have something to use in split {split!r}; left out: {reasons_of(items)}")
    return items


def reasons_of(items: Any) -> str:
    """What a dataset left out, and how often."""
    return ", ".join(f"{count} {reason}" for reason, count in items.skipped.items()) or "nothing"


def labels_of(items: Any) -> MapLabels:
    """What a network learns to find on a dataset."""

    def pairs(name: str) -> tuple[tuple[int, int], ...]:
        return tuple((int(a), int(b)) for a, b in getattr(items, name, ()))

    return MapLabels(tuple(items.names), pairs("pairs"), pairs("bones"))


class WithSource(Dataset[Row]):
    """Items with the labels of their source, also of keypoints outside of the crop: they count too."""

    def __init__(self, items: Any) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Row:
        source = self.items.source(index)
        names = ("keypoints", "visible", "spacing", "area", "joints")
        # Where an item cannot be read, rows and items are not the same.
        return {
            "item": index,
            **self.items[index],
            **{f"source_{name}": source[name] for name in names if name in source},
        }


class Collected:
    """What the network found on all items, and what is true of them."""

    def __init__(self) -> None:
        self.batches: list[Row] = []
        self.found: list[LocatedMaps] = []

    def all(self, name: str) -> Tensor:
        """One field of all items."""
        return torch.cat([batch[name] for batch in self.batches])

    @property
    def position(self) -> Tensor:
        return torch.cat([found.position for found in self.found])

    @property
    def confidence(self) -> Tensor:
        return torch.cat([found.confidence for found in self.found]).clamp(0, 1)

    @property
    def source_position(self) -> Tensor:
        """Positions in the frame of the file."""
        return to_source(self.position, self.all("to_source"))


class MapEvaluation(Evaluation):
    """Scores a network of maps on the items of a split."""

    def __init__(self, task: MapTask[Any], run: Run[Any, MapLabels], options: Any) -> None:
        config = task.evaluated(run.config, options)
        split = task.scored_split(config, options.split)
        items = task.scored_items(config, split, options)
        if list(items.names) != list(run.labels.names):
            raise ValueError(
                f"`root` (={str(config.data.root)!r}) must have what the network was trained to find, "
                f"{', '.join(run.labels.names)}; has {', '.join(items.names)}"
            )
        correct = options.correct_threshold
        if correct is not None and correct >= (limit := task.correct_limit(items)):
            raise ValueError(
                f"`correct_threshold` (={correct:g}) must be below {limit:g}: any prediction would count as right"
            )
        check_map_radius(options.read_out, options.radius)
        flips = getattr(options, "flip_test", False) and task.mirrors(config)
        super().__init__(
            split,
            WithSource(items),
            {
                "trained_on": split not in task.splits(config) or (split == "val" and task.trained_on_val(config)),
                "data": "procedural" if config.data.root is None else type(items).__name__,
                "flip_test": flips,
                "radius": options.radius,
                "num_items": len(items),
                "left_out": items.skipped,
                "names": list(items.names),
            },
            num_pictures=options.pictures,
        )
        self.task, self.run, self.options, self.source = task, run, options, items
        self.flip_pairs = items.pairs if flips else None
        self.collected = Collected()

    def find(self, batch: Row) -> dict[str, Any]:
        image = batch.pop("image")
        found = self.task.locate(
            self.run.config,
            self.run.model,
            image.to(self.run.device),
            read_out=self.options.read_out,
            radius=self.options.radius,
            flip_pairs=self.flip_pairs,
        )
        position = found.position.cpu()
        for i in range(min(len(image), self.num_pictures - len(self.pictures))):
            row = {"image": image[i], **{name: values[i] for name, values in batch.items()}}
            self.pictures.append(self.task.overlay(self.source, row, position[i]))
        # The images and maps of a whole dataset need not lie in memory.
        return {"batch": batch, "position": position, "peak": found.peak.cpu(), "confidence": found.confidence.cpu()}

    def take(self, record: dict[str, Any]) -> None:
        self.collected.batches.append(record["batch"])
        found = {name: record[name] for name in ("position", "peak", "confidence")}
        empty = found["peak"].new_empty(0)
        self.collected.found.append(LocatedMaps(**found, maps=empty, covariance=empty))

    def stamp(self, index: int) -> list[list[int]]:
        """Size and time of the item's files; of drawn items there are none."""
        stats = [file.stat() for file in self.source.files(index)]
        return [[stat.st_size, stat.st_mtime_ns] for stat in stats]

    def scores(self) -> dict[str, Any]:
        return self.task.scores(self.source, self.collected, self.options.correct_threshold)
