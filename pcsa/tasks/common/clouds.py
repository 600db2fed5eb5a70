"""What tasks on clouds share: one way from a cloud to keypoints in its own units, pictures, and files of users."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader

from pcsa.datasets.folds import Fold
from pcsa.datasets.keypointnet import KeypointCategories, KeypointNet
from pcsa.datasets.keypointnet.layout import models_of_split
from pcsa.datasets.landmark_files.files import LANDMARK_FILES
from pcsa.datasets.landmark_files.landmarks import Frame as LandmarkFrame, unit_name
from pcsa.datasets.point_cloud import PointCloud
from pcsa.datasets.points import CLOUDS, MESHES, UNNAMED, read_cloud
from pcsa.datasets.procedural import embedded_root
from pcsa.datasets.shots import Shots
from pcsa.datasets.transforms import Augment, Normalize
from pcsa.datasets.up import up_axis
from pcsa.localization import NEED_RADIUS, ReadOut
from pcsa.tasks.common.config import Count, DataConfig, Rule, TrainConfig, to_plain
from pcsa.tasks.common.engine import StepData
from pcsa.tasks.common.fitting import scale_of, suited, suits
from pcsa.tasks.common.given_clouds import give, locate_given, note_of, points_to_sample
from pcsa.tasks.common.located_clouds import (
    Frame as Frame,
    LocatedClouds as LocatedClouds,
    cloud_bandwidth,
    locate as locate,
)
from pcsa.tasks.common.mean_maps import MeanOfNetworks, MeanOfVariations
from pcsa.tasks.common.objective import bases_of
from pcsa.tasks.common.read_outs import KEYPOINTNET_RADIUS, cloud_radius
from pcsa.tasks.common.robustness import SHARE, Bench, own_keypoints
from pcsa.tasks.common.task import (
    Evaluation,
    LabelsT,
    Picture,
    Prediction,
    PredictOptions,
    Predictor,
    Run,
    Task,
)
from pcsa.tasks.common.training_clouds import training_clouds
from pcsa.tasks.common.turned_clouds import CloudEvaluateOptions
from pcsa.viz import Scene, keypoint_scene, save_html, save_panels, save_pngs
from pcsa.viz.scene import Up

LAYERS = ("mesh", "cloud", "keypoints", "annotated", "errors", "skeleton")
"""What pictures of predictions show; a page can show the rest too."""


@dataclass(frozen=True)
class CloudsConfig(DataConfig):
    """Which clouds."""

    root: Path | None = None
    """Folder in KeypointNet's release layout; without it the procedural twin is generated and cached."""
    category: str = "chair"
    """A category of KeypointNet, or of your own root."""
    num_shapes: Count = 400
    """Clouds of the procedural twin, all splits together; unused with `root`."""
    fold: Annotated[int, Rule(0)] | None = None
    """Train on all folds but this one (0, 1, …) and validate on it, in place of the splits; test stays as it is."""
    num_folds: Annotated[int, Rule(2)] = 5
    """Folds, of the same size; a cloud is in the same one on every machine."""
    fold_of: Literal["train", "train+val"] = "train"
    """Splits whose clouds are dealt out to folds: with `train` those of val are not used at all."""

    @property
    def held_out(self) -> Fold | None:
        """The fold that is held out."""
        if self.fold is None:
            return None
        return Fold(self.fold, self.num_folds, ("train",) if self.fold_of == "train" else ("train", "val"))

    @property
    def few(self) -> Shots | None:
        """Which of the training clouds are trained on; None for all."""
        return None


@dataclass(frozen=True)
class CloudConfig(TrainConfig):
    """Everything that determines a training on clouds."""

    data: CloudsConfig = field(default_factory=CloudsConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.data.fold is not None and self.data.fold >= self.data.num_folds:
            raise ValueError(
                f"`data.fold` (={self.data.fold}) must be below `data.num_folds` (={self.data.num_folds}): the first "
                "is 0"
            )


CloudConfigT = TypeVar("CloudConfigT", bound=CloudConfig)


@dataclass(frozen=True)
class CloudPredictOptions(PredictOptions):
    """Keypoints of clouds and meshes, in their own units.

    Clouds are .pcd, .ply, .xyz, .txt, .pts, .csv, .las, .laz, .npy, .npz, .h5 and .hdf5, meshes .obj, .off, .stl, .ply,
    .glb and .gltf. Inputs must stand as the training clouds do, same up axis, same heading, unless the detector was
    trained with `model.rotation`. In a folder every file of these endings is an input: a README.txt or labels.csv among
    scans is listed as failed, because a damaged scan may look the same; the rest is predicted. Name the files
    (scans/*.xyz) to have only these.

    `--out` may be a file of landmarks, too: .mrk.json or .fcsv (Slicer), .pp (MeshLab), .txt (CloudCompare), .csv or
    .tsv (a table). {name} in its name stands for that of the input: marks/{name}.mrk.json. Such files are not added to.
    """

    num_points: int | None = None
    """Points sampled on a mesh, at random by area; default as many as the training clouds had, evenly spaced, or 2048
    at random where the checkpoint does not say how many those were."""
    resample: bool = True
    """Draw from a cloud that has many more points than the training clouds, or from a mesh, as many evenly spaced
    points as these had; without it, all points of a cloud are taken, and those of a mesh are random."""
    seed: int = 0
    """Seed of the sampling on meshes, and of the draw from clouds."""
    columns: str | None = None
    """Names of the columns of .xyz, .txt, .npy and the like, for instance "x y z label"."""
    drop_invalid: bool = False
    """Leave out points that are not finite, and count them; without it, a cloud that has some fails."""
    frame: LandmarkFrame | None = None
    """Frame of the inputs, for landmark files. Default: what their files say; else Slicer's files say LPS, as Slicer
    takes a mesh that says nothing."""
    units: str | None = None
    """Units of the inputs, such as mm, for landmark files."""
    out_suffixes: ClassVar[tuple[str, ...]] = (".json", ".npz", *LANDMARK_FILES)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, number, least in (("num_points", self.num_points, 1), ("seed", self.seed, 0)):
            if number is not None and number < least:
                raise ValueError(f"`{name}` (={number}) must be at least {least}")
        if self.units is not None:
            object.__setattr__(self, "units", unit_name(self.units))


def open_annotated(
    config: CloudsConfig,
    split: str,
    *,
    keypoint_ids: Sequence[int] | Mapping[str, Sequence[int]] | None = None,
    **options: Any,
) -> KeypointNet:
    """The annotated clouds of a split, in the dataset's own units; ``options`` are those of :class:`KeypointNet`.

    Where the configuration names several categories, with commas between, ``keypoint_ids`` are by category.
    """
    parts = []
    which: dict[str, Any] = {"fold": config.held_out, "shots": config.few}
    for category in map(str.strip, config.category.split(",")):
        root = embedded_root(category, config.num_shapes) if config.root is None else config.root
        ids = keypoint_ids.get(category) if isinstance(keypoint_ids, Mapping) else keypoint_ids
        parts.append(KeypointNet(root, category, split, keypoint_ids=ids, **which, **options))
    return parts[0] if len(parts) == 1 else KeypointCategories(parts)


class CloudTask(Task[CloudConfigT, LabelsT]):
    """A task on clouds.

    Attributes:
        frame: What the network's clouds are normalized to.
    """

    frame: ClassVar[Frame]
    has_pages = True
    predict_options = CloudPredictOptions

    def locate(
        self,
        run: Run[CloudConfigT, LabelsT],
        clouds: Sequence[Tensor],
        read_out: ReadOut,
        radius: float | None = None,
    ) -> LocatedClouds:
        """Keypoints of clouds ``[N, 3]``, in their own units."""
        how: dict[str, Any] = {"temperature": run.calibration.temperature, "bases": bases_of(run.config)}
        return locate(run.model, clouds, self.frame, read_out, radius, **how)

    def describe(self, data: StepData) -> dict[str, Any]:
        items = data.train_items
        turns: Any = getattr(items, "turns", "none")
        clouds = training_clouds(
            len(items), lambda epoch, i: items[i if epoch is None else (epoch, i)].pos, self.frame, turns
        )
        return {"clouds": to_plain(clouds)}

    def mean(self, runs: Sequence[Run[CloudConfigT, LabelsT]]) -> nn.Module:
        return MeanOfNetworks([run.model for run in runs])

    def varied(self, run: Run[CloudConfigT, LabelsT], count: int) -> nn.Module:
        # What clouds are varied by stands in each task's own configuration.
        augment = getattr(run.config.data, "augment", Augment())
        planes, up = self.mirrors(run), up_axis(getattr(run.labels, "up", "y"))
        return MeanOfVariations(run.model, count, augment, mirrors=planes, normalize=self.renormalize(), up=up)

    def mirrors(self, run: Run[CloudConfigT, LabelsT]) -> Mapping[int, Sequence[int]]:
        """Planes that mirror the category: by the axis of the normal, the keypoint that each becomes."""
        return {}

    def renormalize(self) -> Normalize | None:
        """What normalizes a varied cloud again, where the training does."""
        return None

    def annotated(self, run: Run[CloudConfigT, LabelsT], split: str, root: Path | None = None) -> KeypointNet:
        """The annotated clouds of a split, of the training's root or another, with the columns of the network.

        Raises:
            FileNotFoundError: If there are none; the message says how to get some.
        """
        data = run.config.data
        config = replace(data, root=root or data.root)
        options = self.annotations(run)
        try:
            return open_annotated(config, split, **options)
        except FileNotFoundError as error:
            # Raises what is wrong with the root itself.
            here = open_annotated(config, "all", **{**options, "strict": False})
            listed = here.root / "splits" / f"{split}.txt"
            if data.fold is not None and split != "test":
                raise
            if listed.exists() and set(models_of_split(listed, here.class_id)) & set(here.model_ids):
                raise
            raise FileNotFoundError(
                f"{error}; so there is nothing to score on: `--root` may name a root that has clouds in {split!r} "
                "(`write_labeled` puts some there by its `fractions`), or `--split` another split that has"
            ) from error

    def annotations(self, run: Run[CloudConfigT, LabelsT]) -> dict[str, Any]:
        """Options of :class:`KeypointNet` for the annotations that the network has learned; none by default."""
        return {}

    def scored_clouds(
        self, run: Run[CloudConfigT, LabelsT], options: CloudEvaluateOptions, split: Literal["val", "test"]
    ) -> tuple[Run[CloudConfigT, LabelsT], Any]:
        """The clouds to score a run on, and the run as it is to be asked."""
        return run, self.annotated(run, split, options.root)

    def robustness_bench(
        self, run: Run[CloudConfigT, LabelsT], options: CloudEvaluateOptions, split: Literal["val", "test"]
    ) -> tuple[Bench, dict[str, Any], Any]:
        """What `pcsa evaluate --robustness` scores a run on, what its file says of that, and the dataset."""
        run, dataset = self.scored_clouds(run, options, split)
        clouds = [dataset[i] for i in range(len(dataset))]
        scale = scale_of([cloud.pos for cloud in clouds])
        # Of KeypointNet, that of its benchmark.
        threshold = SHARE if suits([SHARE], scale) and 0.5 < scale.diagonal < 2 else suited([SHARE], scale)[0]
        radius = cloud_radius(options.read_out, options.radius, scale)

        def find(given: Sequence[Tensor]) -> LocatedClouds:
            return self.locate(run, given, options.read_out, radius)

        annotated = None
        if not self.named:
            annotated = dataset if isinstance(dataset, KeypointNet) else None
            clouds = own_keypoints(find, clouds, options.batch_size)
        bench = Bench(find, clouds, threshold, annotated, options.batch_size)
        about = {
            "category": getattr(run.labels, "category", ""),
            "against": "annotated" if self.named else "own",
            "units": "the dataset's own",
            "diagonal": scale.diagonal,
            "radius": radius,
        }
        return bench, about, dataset

    def scene(
        self,
        run: Run[CloudConfigT, LabelsT],
        pos: Tensor,
        located: LocatedClouds,
        place: int,
        read_out: ReadOut,
        *,
        title: str,
        annotated: Data | None = None,
        **options: Any,
    ) -> Scene:
        """The picture of the cloud at ``place`` of what was located, beside its annotations if it has any."""
        about = self.about(run, located, place, annotated)
        how: dict[str, Any] = {"read_out": read_out, "radius": located.radius, "up": up_of(run.labels)}
        how["bandwidth"] = cloud_bandwidth(bases_of(run.config), pos, self.frame)
        return keypoint_scene(pos, located.logits[place], title=title, **how, **about, **options)

    @abstractmethod
    def about(
        self, run: Run[CloudConfigT, LabelsT], located: LocatedClouds, place: int, annotated: Data | None
    ) -> dict[str, Any]:
        """Names, annotations and the like of a picture: fields of :class:`pcsa.viz.Scene`."""

    @abstractmethod
    def header(self, run: Run[CloudConfigT, LabelsT]) -> dict[str, Any]:
        """What holds for the keypoints of every cloud, as JSON types."""

    @abstractmethod
    def extra(self, located: LocatedClouds) -> dict[str, Tensor]:
        """What the network says of each cloud beside its keypoints."""

    def predictor(self, run: Run[CloudConfigT, LabelsT], options: CloudPredictOptions) -> Predictor:
        return CloudPredictor(self, run, options)

    def save_panels(self, path: Path, pictures: Sequence[Picture]) -> None:
        save_panels(path, list(_scenes(pictures)), layers=LAYERS)

    def save_pictures(self, pictures: Iterable[tuple[Path, Picture]]) -> None:
        # With one window for all of them.
        save_pngs(((path, scene) for path, scene in pictures if isinstance(scene, Scene)), layers=LAYERS)

    def save_page(self, path: Path, pictures: Iterable[Picture], title: str) -> None:
        save_html(path, _scenes(pictures), title=title, layers=LAYERS)


def up_of(labels: object) -> Up:
    """The axis that points up in pictures: y, as in KeypointNet, where the labels know of none."""
    axes: dict[Any, Up] = {"x": "x", "z": "z"}
    return axes.get(getattr(labels, "up", "y"), "y")


def _scenes(pictures: Iterable[Picture]) -> Iterator[Scene]:
    # One after the other: a thousand scenes with their maps need not lie in memory.
    return (picture for picture in pictures if isinstance(picture, Scene))


def read_input(file: Path, columns: str | None, **options: Any) -> PointCloud:
    """Read a cloud or a mesh; ``columns`` are those of formats that have no names for them, and of no other."""
    return read_cloud(file, columns=columns if file.suffix.lower() in UNNAMED else None, **options)


class CloudEvaluation(Evaluation):
    """Scores a network on clouds."""

    loader = DataLoader

    def stamp(self, index: int) -> str:
        digest = hashlib.sha256()
        # The clouds of a category lie in memory.
        items: Any = self.items
        for name, value in sorted(items[index].to_dict().items()):
            digest.update(name.encode())
            digest.update(value.numpy().tobytes() if isinstance(value, Tensor) else str(value).encode())
        return digest.hexdigest()[:16]


class CloudPredictor(Predictor):
    """Reads clouds and meshes."""

    suffixes = (*CLOUDS, *MESHES)

    def __init__(self, task: CloudTask[Any, Any], run: Run[Any, Any], options: CloudPredictOptions) -> None:
        self.task, self.run, self.options = task, run, options
        fitted = run.calibration
        self.header = {
            "category": run.labels.category,
            **task.header(run),
            **({} if fitted.split is None else {"temperature": fitted.temperature, "fitted_on": fitted.split}),
        }
        if options.radius is None and options.read_out in NEED_RADIUS:
            self.header["radius"] = KEYPOINTNET_RADIUS

    def predict(self, file: Path) -> Iterator[Prediction]:
        """One prediction."""
        o, known = self.options, self.run.clouds
        count = o.num_points or points_to_sample(known, resample=o.resample)
        cloud = read_input(file, o.columns, drop_invalid=o.drop_invalid, num_points=count, seed=o.seed)
        # As many as were asked for on a mesh are wanted.
        chosen = o.num_points is not None and cloud.is_sampled
        how: dict[str, Any] = {"sampled": cloud.is_sampled, "resample": o.resample and not chosen, "seed": o.seed}
        given = give(torch.from_numpy(cloud.points), known, **how)
        located = locate_given(self.run, [given], o.read_out, o.radius)
        found = {
            "position": located.position,
            "covariance": located.covariance,
            "confidence": located.confidence,
            "entropy": located.entropy,
            **self.task.extra(located),
            "index": located.index,
            "point": given.whole[located.index],
        }
        counts = {"num_points": len(given.whole), "num_used": len(given.pos), "num_dropped": cloud.num_dropped}
        fields: dict[str, Any] = {**counts, **{name: value[0].tolist() for name, value in found.items()}}
        if given.novelty is not None:
            fields |= {"novelty": given.novelty.score, "unlike": given.novelty.reason}
        about: dict[str, Any] = {"title": file.name, "note": note_of(given)}
        yield Prediction(
            fields, lambda: self.task.scene(self.run, given.pos, located, 0, self.options.read_out, **about)
        )
