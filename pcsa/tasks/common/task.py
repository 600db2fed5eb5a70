"""What a task is made of: the one interface through which the commands know it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Generic, Literal, NamedTuple, TypeVar

import torch
import tyro
from torch import nn
from torch.utils.data import DataLoader, Dataset

from pcsa._core.checks import check_positive
from pcsa._core.progress import progress_bars
from pcsa.localization import ReadOut
from pcsa.tasks.common.calibrations import Calibration, Calibrations, Way
from pcsa.tasks.common.config import TrainConfig
from pcsa.tasks.common.engine import StepData, Training, fit
from pcsa.tasks.common.initial import initialize
from pcsa.tasks.common.tables import markdown_table
from pcsa.tasks.common.training_clouds import TrainingClouds
from pcsa.viz import Overlay, Scene, save_overlay, save_overlays
from pcsa.viz.files import PictureFormat

ConfigT = TypeVar("ConfigT", bound=TrainConfig)
LabelsT = TypeVar("LabelsT")

Picture = Scene | Overlay
Checkpoint = Annotated[
    Path,
    tyro.conf.Positional,
    tyro.conf.arg(
        metavar="CHECKPOINT",
        help="Checkpoint that `pcsa train` wrote, the folder of its run or of a shared model, or owner/name or "
        "owner/name@revision on the Hugging Face hub.",
    ),
]


@dataclass(frozen=True)
class EvaluateOptions:
    """Options of ``pcsa evaluate`` that every task has."""

    checkpoint: Checkpoint
    split: Literal["val", "test"] | None = None
    """Items to score; default val, or test where val was trained on. Choose on val, report test once."""
    root: Path | None = None
    """Another root of the same layout; default that of the training."""
    read_out: ReadOut = "expectation"
    """Way to read a keypoint from its map, see pcsa.localize."""
    radius: float | None = None
    """Radius of the ball that a keypoint is read by, in units of the clouds (ball and ball_point: default 0.01, for
    KeypointNet's PCK@0.01), or in pixels of the network's input; the confidence is the probability within it."""
    correct_threshold: float | None = None
    """Error below which a keypoint counts as right, for the calibration; each task has its own default."""
    pictures: int = 0
    """Draw this many items, predictions beside annotations, into predictions-<split>.png beside the metrics."""
    picture_format: PictureFormat = "png"
    """Format of that picture; svg and pdf hold its pixels, in a form that papers take."""
    page: int = 0
    """Put this many clouds on a page to turn and look into, predictions-<split>.html; for tasks on clouds."""
    batch_size: int = 8
    """Items that the network takes at once."""
    num_workers: int = 0
    """Processes that load the items."""
    progress: bool = True
    """Show progress bars, with times, where standard error is a terminal and something takes over two seconds."""
    device: str = "auto"
    """Device: cpu, cuda or auto."""
    out: Path | None = None
    """Metrics file; default metrics-<split>.json beside the checkpoint (of a model of the hub, in this folder), with
    another ending for best.ckpt, several checkpoints and variations."""
    overwrite: bool = False
    """Discard what a call that was cut off has found with another checkpoint or other options, <out>.partial; else
    that is refused. With the same ones, this call goes on from there."""
    strict: bool = False
    """Stop at the first item that cannot be read; else it is listed as failed, and the exit status is 3."""
    ensemble: tuple[Path, ...] = ()
    """More of the same task and keypoints: the mean of their maps is read. They may follow the first one."""
    test_time: int = 1
    """Variations of each cloud as in the training, mirrored ones among them, of whose maps the mean is read."""
    trust_backbone: bool = False
    """Import the network outside of pcsa that a checkpoint names, and run its code; without it, such a checkpoint is
    refused, and what it names is said."""

    def __post_init__(self) -> None:
        for name, number, least in (
            ("batch_size", self.batch_size, 1),
            ("num_workers", self.num_workers, 0),
            ("pictures", self.pictures, 0),
            ("page", self.page, 0),
            ("test_time", self.test_time, 1),
        ):
            if number < least:
                raise ValueError(f"`{name}` (={number}) must be at least {least}")
        if self.radius is not None:
            check_positive("radius", self.radius)
        if self.correct_threshold is not None and not 0 < self.correct_threshold < math.inf:
            raise ValueError(f"`correct_threshold` (={self.correct_threshold}) must be positive and finite")


@dataclass(frozen=True)
class PredictOptions:
    """Options of ``pcsa predict`` that every task has."""

    checkpoint: Checkpoint
    inputs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Files, or folders of such files; what is hidden in a folder is left out."""
    recursive: bool = False
    """Also look into the sub-folders of folders."""
    out: Path = Path("predictions.json")
    """File of the predictions, .json or .npz. One that the same checkpoint and options made is added to: what it has
    of an input stays, unless the input has changed. A call that was cut off goes on in the same way, from
    <out>.partial."""
    overwrite: bool = False
    """Replace an `out` that another checkpoint, other options or another program made; else it is refused."""
    strict: bool = False
    """Stop at the first input that fails; else it is listed as failed, with the reason, and the exit status is 3."""
    read_out: ReadOut = "expectation"
    """Way to read a keypoint from its map, see pcsa.localize."""
    radius: float | None = None
    """Radius of the ball that a keypoint is read by, in units of the clouds (ball and ball_point: default 0.01, for
    KeypointNet's PCK@0.01), or in pixels of the network's input; the confidence is the probability within it."""
    png: Path | None = None
    """Folder for a picture of every prediction."""
    picture_format: PictureFormat = "png"
    """Format of these pictures; svg and pdf hold their pixels, in a form that papers take."""
    html: Path | None = None
    """Page with every cloud, to turn and look into; for tasks on clouds."""
    progress: bool = True
    """Show progress bars, with times, where standard error is a terminal and something takes over two seconds."""
    device: str = "auto"
    """Device: cpu, cuda or auto."""

    ensemble: tuple[Path, ...] = ()
    """More checkpoints of the same task and keypoints: the mean of their maps is read. Those that end in .ckpt may
    follow the first one."""
    test_time: int = 1
    """Variations of each cloud as in the training, mirrored ones among them, of whose maps the mean is read."""
    trust_backbone: bool = False
    """Import the network outside of pcsa that a checkpoint names, and run its code; without it, such a checkpoint is
    refused, and what it names is said."""

    out_suffixes: ClassVar[tuple[str, ...]] = (".json", ".npz")

    def __post_init__(self) -> None:
        if not self.out.name.endswith(self.out_suffixes):
            *others, last = self.out_suffixes
            raise ValueError(f"`out` (={self.out}) must end in {', '.join(others)} or {last}")
        if self.test_time < 1:
            raise ValueError(f"`test_time` (={self.test_time}) must be at least 1")
        if self.radius is not None:
            check_positive("radius", self.radius)


@dataclass(frozen=True)
class Run(Generic[ConfigT, LabelsT]):
    """A trained network and what its checkpoint says of it; see :func:`pcsa.tasks.open_run`."""

    path: Path
    task: Task[ConfigT, LabelsT]
    config: ConfigT
    labels: LabelsT
    model: nn.Module
    """The network, in eval mode."""
    step: int
    """Optimizer steps after which the checkpoint was written."""
    temperature: float
    """Temperature of the samples at that step."""
    calibration: Calibration = field(default_factory=Calibration)
    """Of the confidences."""
    calibrations: Calibrations = field(default_factory=dict)
    """All that the checkpoint has, for other ways of averaging too."""
    members: tuple[Run[Any, Any], ...] = ()
    """The runs whose networks, or variations, are averaged; none where nothing is."""
    way: Way | None = None
    """How they are averaged."""
    clouds: TrainingClouds | None = None
    """What the checkpoint knows of the clouds that the network was trained on; of tasks on clouds."""

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device


class Column(NamedTuple):
    """A column of the tables that compare runs."""

    title: str
    value: Callable[[Mapping[str, Any]], float | None]
    """Its number in what ``pcsa evaluate`` wrote, in the unit of the title; None where it is not defined."""


def column(title: str, *path: str, factor: float = 1.0) -> Column:
    """The column of the number, or the end of the curve, under ``path`` in the metrics, times ``factor``."""

    def value(metrics: Mapping[str, Any]) -> float | None:
        found: Any = metrics
        for name in path:
            found = found.get(name) if isinstance(found, Mapping) else None
        if isinstance(found, Sequence):
            found = found[-1]
        return None if found is None else factor * float(found)

    return Column(title, value)


class Details(NamedTuple):
    """What tables that compare runs show beside the columns: rows of numbers, by title and by the number's own."""

    rows: Mapping[str, Mapping[str, float | None]] = MappingProxyType({})
    """Of the run."""
    bounds: Mapping[str, Mapping[str, float | None]] = MappingProxyType({})
    """Of its items alone, whatever the run: floors, and ceilings."""


class Prediction(NamedTuple):
    """What is found in an input, or in a part of it."""

    fields: dict[str, Any]
    """JSON types, in the units of the input."""
    picture: Callable[[], Picture] | None
    """Makes the picture of it; None where that of an earlier prediction of the same input shows it, too."""


class Predictor(ABC):
    """Reads inputs of one kind and finds keypoints in them."""

    suffixes: tuple[str, ...]
    header: Mapping[str, Any] = {}
    """What holds for all inputs, as JSON types."""

    def expected(self, files: Sequence[Path]) -> Sequence[Path]:
        """The files in which something will be looked for, after a check that there will be any; called first."""
        return files

    @abstractmethod
    def predict(self, file: Path) -> Iterator[Prediction]:
        """The predictions of one file."""


@dataclass
class Evaluation(ABC):
    """Scores a network on the items of a split, batch after batch."""

    split: Literal["val", "test"]
    items: Dataset[Any]
    header: dict[str, Any] = field(default_factory=dict)
    """What the metrics file says of the items, as JSON types."""
    pictures: list[Picture] = field(default_factory=list)
    """Pictures of the first items, as many as were asked for."""
    num_pictures: int = 0
    """How many are asked for."""
    fitted: Calibration | None = None
    """What the scores found for the confidences, to be stored in the checkpoint."""
    loader: ClassVar[type[DataLoader[Any]]] = DataLoader
    """Makes batches of the items."""
    takes_all: ClassVar[bool] = False
    """Whether there are no scores of a part of the items: then an item that cannot be read ends the evaluation."""

    def update(self, batch: Any) -> None:
        """Find the keypoints of a batch and remember what the scores need of it."""
        self.take(self.find(batch))

    @abstractmethod
    def find(self, batch: Any) -> dict[str, Any]:
        """Find the keypoints of a batch and return what the scores need of it: tensors, lists and plain values.

        It is all that an evaluation that goes on has of the batch. Pictures are added to ``pictures``.
        """

    @abstractmethod
    def take(self, record: dict[str, Any]) -> None:
        """Remember what was found in a batch, in the order of the items."""

    def stamp(self, index: int) -> Any:
        """What tells whether an item is still the same, as JSON types; by default its number is all of it."""
        return None

    def draws(self, batch: Sequence[int], drawn: int) -> bool:
        """Whether a picture of an item of a batch is asked for, where that many were drawn before."""
        return drawn < self.num_pictures

    @abstractmethod
    def scores(self) -> dict[str, Any]:
        """The scores of all items, as JSON types."""


class Task(ABC, Generic[ConfigT, LabelsT]):
    """A kind of keypoints, from the options of its training to the table of its scores.

    Attributes:
        name: What stands after ``pcsa train``.
        title: What is trained, in a line.
        presets: Configurations by name; the first is the default.
        labels_type: Dataclass of what a trained network says about its keypoints; has ``names``.
        methods: Changes of the objective that ``pcsa compare`` can compare, by name.
        compared_methods: Those that it compares by default; none for all.
        compared: Preset that ``pcsa compare`` trains by default; None for the first.
        columns: Columns of the tables that compare runs.
        evaluate_options: Options of ``pcsa evaluate``.
        predict_options: Options of ``pcsa predict``.
        has_pages: Whether its pictures can be put on a page to turn and look into.
        named: Whether a name stands for the same keypoint in every training.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    labels_type: ClassVar[type[Any]]
    methods: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    compared_methods: ClassVar[Sequence[str]] = ()
    compared: ClassVar[str | None] = None
    columns: ClassVar[Sequence[Column]]
    evaluate_options: ClassVar[type[EvaluateOptions]] = EvaluateOptions
    predict_options: ClassVar[type[PredictOptions]] = PredictOptions
    has_pages: ClassVar[bool] = False
    named: ClassVar[bool] = True
    presets: Mapping[str, ConfigT]

    @property
    def config_type(self) -> type[ConfigT]:
        return type(next(iter(self.presets.values())))

    def train(self, config: ConfigT) -> Path:
        """Train a network and return its checkpoint, ``<out>/last.ckpt``.

        The resolved configuration lies beside it from the start (``config.json``, ``config.yaml``), the log in
        ``log/``. With ``resume`` the run continues from its last checkpoint to the numbers it would have reached
        uninterrupted.

        Raises:
            FileExistsError: If the folder has a checkpoint already.
            FileNotFoundError: If there is no checkpoint to resume from, or no data.
            ValueError: If data or trainer do not fit the configuration.
        """

        def build() -> Training:
            training = self.training(config)
            training.data.describe = partial(self.describe, training.data)
            if config.init_from is not None and not config.resume:
                initialize(
                    training.module.network,
                    config.init_from,
                    training.labels,
                    task=self.name,
                    named=self.named,
                    larger=lambda: self.build(*self.with_another(config, training.labels)),
                )
            return training

        with progress_bars(config.trainer.progress):
            return fit(self.name, config, build)

    @abstractmethod
    def training(self, config: ConfigT) -> Training:
        """Open the data and build what is trained."""

    def describe(self, data: StepData) -> dict[str, Any]:
        """What a checkpoint keeps of the items that it was trained on, as JSON types; by default nothing."""
        return {}

    @abstractmethod
    def build(self, config: ConfigT, labels: LabelsT) -> nn.Module:
        """The network that a configuration describes, for these labels."""

    def with_another(self, config: ConfigT, labels: LabelsT) -> tuple[ConfigT, LabelsT]:
        """Configuration and labels of a network with one more keypoint."""
        known: Any = labels
        more: dict[str, Any] = {"names": (*known.names, "one more")}
        if hasattr(known, "semantic_ids"):
            more["semantic_ids"] = (*known.semantic_ids, -1)
        return config, replace(known, **more)

    def mean(self, runs: Sequence[Run[ConfigT, LabelsT]]) -> nn.Module:
        """The networks of several runs that find the same keypoints, as one.

        Raises:
            ValueError: If their maps have no mean.
        """
        raise ValueError(f"`ensemble` (={str(runs[1].path)!r}) must not be given for {self.name}")

    def varied(self, run: Run[ConfigT, LabelsT], count: int) -> nn.Module:
        """The network of a run, asked about ``count`` variations of each input.

        Raises:
            ValueError: If inputs are not varied in this way.
        """
        raise ValueError(f"`test_time` (={count}) must not be given for {self.name}: only clouds are varied")

    def splits(self, config: ConfigT) -> tuple[Literal["val", "test"], ...]:
        """Splits with labels that the training does not use, the default of ``pcsa evaluate`` first."""
        return ("val", "test")

    def scored_split(self, config: ConfigT, asked: Literal["val", "test"] | None) -> Literal["val", "test"]:
        """The split to score on.

        Raises:
            ValueError: If it has no labels.
        """
        known = self.splits(config)
        if asked == "test" and "test" not in known:
            raise ValueError("`split` (='test') must be 'val' here: the test items have no public labels")
        return asked or known[0]

    @abstractmethod
    def evaluation(self, run: Run[ConfigT, LabelsT], options: Any) -> Evaluation:
        """Open the items that ``options`` name, to score a run on them."""

    def columns_of(self, metrics: Mapping[str, Any]) -> Sequence[Column]:
        """The columns for some metrics: by default the task's own, whatever thresholds were asked for."""
        return self.columns

    def details(self, metrics: Mapping[str, Any]) -> Details:
        """What the tables that compare runs show of its metrics beside the columns; by default nothing."""
        return Details()

    def table(self, metrics: Mapping[str, Any]) -> str:
        """What ``pcsa evaluate`` prints of its metrics: by default the columns."""
        values = ((column.title, column.value(metrics)) for column in self.columns_of(metrics))
        rows = [[title, "–" if value is None else f"{value:.3g}"] for title, value in values]
        return markdown_table([f"{self.name}, {metrics['split']}", "value"], rows)

    @abstractmethod
    def predictor(self, run: Run[ConfigT, LabelsT], options: Any) -> Predictor:
        """Reader and finder of what ``pcsa predict`` is given."""

    def save_panels(self, path: Path, pictures: Sequence[Picture]) -> None:
        """Draw pictures beside each other into one PNG; by default overlays."""
        save_overlays(path, [picture for picture in pictures if isinstance(picture, Overlay)])

    def save_pictures(self, pictures: Iterable[tuple[Path, Picture]]) -> None:
        """Draw each picture into its own PNG, before asking for the next one; by default overlays."""
        for path, picture in pictures:
            if isinstance(picture, Overlay):
                save_overlay(path, picture)

    def save_page(self, path: Path, pictures: Iterable[Picture], title: str) -> None:
        """Put pictures on a page to turn and look into, asking for one after the other."""
        raise ValueError(f"`page` (={str(path)!r}) must not be asked for {self.name}: only clouds have pages")
