"""What tasks on clouds share: one way from a cloud to keypoints in its own units, pictures, and files of users."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch, Data
from torch_geometric.loader import DataLoader

import pcsa
from pcsa.datasets.folds import Fold
from pcsa.datasets.keypointnet import KeypointCategories, KeypointNet
from pcsa.datasets.keypointnet.layout import models_of_split
from pcsa.datasets.point_cloud import PointCloud
from pcsa.datasets.points import CLOUDS, MESHES, UNNAMED, read_cloud
from pcsa.datasets.procedural import embedded_root
from pcsa.datasets.transforms import Augment, Normalize, denormalize
from pcsa.datasets.up import up_axis
from pcsa.localization import NEED_RADIUS, ReadOut
from pcsa.tasks.common.config import Count, DataConfig, Rule, TrainConfig
from pcsa.tasks.common.fitting import scale_of
from pcsa.tasks.common.mean_maps import MeanOfNetworks, MeanOfVariations
from pcsa.tasks.common.read_outs import KEYPOINTNET_RADIUS, cloud_radius
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
from pcsa.viz import Scene, keypoint_scene, save_html, save_panels, save_pngs

LAYERS = ("mesh", "cloud", "keypoints", "annotated", "errors", "skeleton")
"""What pictures of predictions show; a page can show the rest too."""

Frame = Literal["unit_sphere", "min_max"]


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
    .glb and .gltf. Inputs must stand as the training clouds do: same up axis, same heading. In a folder every file of
    these endings is an input: a README.txt or labels.csv among scans is listed as failed, because a damaged scan may
    look the same; the rest is predicted. Name the files (scans/*.xyz) to have only these.
    """

    num_points: int = 2048
    """Points sampled on a mesh, by area."""
    seed: int = 0
    """Seed of the sampling on meshes."""
    columns: str | None = None
    """Names of the columns of .xyz, .txt, .npy and the like, for instance "x y z label"."""
    drop_invalid: bool = False
    """Leave out points that are not finite, and count them; without it, a cloud that has some fails."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, number, least in (("num_points", self.num_points, 1), ("seed", self.seed, 0)):
            if number < least:
                raise ValueError(f"`{name}` (={number}) must be at least {least}")


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
    for category in map(str.strip, config.category.split(",")):
        root = embedded_root(category, config.num_shapes) if config.root is None else config.root
        ids = keypoint_ids.get(category) if isinstance(keypoint_ids, Mapping) else keypoint_ids
        parts.append(KeypointNet(root, category, split, keypoint_ids=ids, fold=config.held_out, **options))
    return parts[0] if len(parts) == 1 else KeypointCategories(parts)


class LocatedClouds(NamedTuple):
    """What :func:`locate` finds in clouds, in their own units and on the CPU."""

    position: Tensor
    """``[B, K, 3]``, in the precision of the clouds."""
    covariance: Tensor
    """``[B, K, 3, 3]``."""
    peak: Tensor
    """Largest probability of a point, ``[B, K]``."""
    entropy: Tensor
    """``[B, K]``, in nats."""
    index: Tensor  # type: ignore[assignment]  # hides tuple.index
    """The most probable point, ``[B, K]``, a row of its cloud."""
    confidence: Tensor
    """Probability within the radius of the position, ``[B, K]``; the peak where no radius was given."""
    radius: float | None
    """The radius."""
    logits: list[Tensor]
    """Scores ``[N, K]`` of every cloud, float32."""
    outputs: dict[str, Tensor]
    """What else the network returned, one row per cloud."""


@torch.inference_mode()
def locate(
    network: nn.Module,
    clouds: Sequence[Tensor],
    frame: Frame,
    read_out: ReadOut,
    radius: float | None = None,
    *,
    temperature: float = 1.0,
) -> LocatedClouds:
    """Keypoints of clouds ``[N, 3]``: normalize, score, find bandwidths, read the map, go back to the clouds' units.

    Args:
        network: Trained on clouds in ``frame``; called as ``network(None, pos, ptr=…)``.
        clouds: Far from the origin as float64, so that nothing is lost.
        frame: See :class:`pcsa.datasets.transforms.Normalize`.
        read_out: See :func:`pcsa.localize`.
        radius: The same, in the units of the clouds.
        temperature: Divides the logits where peak, entropy and confidence are computed; the positions are those of the
            maps as they are.
    """
    device = next(network.parameters()).device
    normalize = Normalize(frame)
    batch = Batch.from_data_list([normalize(Data(pos=pos)) for pos in clouds])
    pos, ptr = batch.pos.float().to(device), batch.ptr.to(device)
    outputs = network(None, pos, ptr=ptr)
    logits = outputs["logits"]
    # Each cloud has a scale of its own.
    reach = None if radius is None else (radius / batch.scale[:, 0]).to(pos)
    bandwidth = pcsa.knn_bandwidth(pos, ptr=ptr)
    found = pcsa.localize(logits, pos, bandwidth, ptr=ptr, read_out=read_out, radius=reach)
    if temperature != 1:
        sure = pcsa.localize(logits, pos, bandwidth, ptr=ptr, temperature=temperature)
        mass = sure.peak
        if reach is not None:
            mass = pcsa.ball_mass(logits, pos, found.position, reach, ptr=ptr, temperature=temperature)
        found = found._replace(peak=sure.peak, entropy=sure.entropy, confidence=mass)
    return LocatedClouds(
        position=denormalize(found.position.cpu(), batch.offset, batch.scale),
        covariance=found.covariance.cpu() * batch.scale.square().view(-1, 1, 1, 1),
        peak=found.peak.cpu(),
        entropy=found.entropy.cpu(),
        index=(found.index - ptr[:-1, None]).cpu(),
        confidence=found.confidence.cpu(),
        radius=radius,
        logits=list(logits.float().cpu().split(batch.ptr.diff().tolist())),
        outputs={name: outputs[name].float().cpu() for name in ("presence", "activation") if name in outputs},
    )


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
        temperature = run.calibration.temperature
        return locate(run.model, clouds, self.frame, read_out, radius, temperature=temperature)

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
        how: dict[str, Any] = {"read_out": read_out, "radius": located.radius}
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
        o = self.options
        cloud = read_input(file, o.columns, drop_invalid=o.drop_invalid, num_points=o.num_points, seed=o.seed)
        pos = torch.from_numpy(cloud.points)
        radius = cloud_radius(o.read_out, o.radius, scale_of([pos]))
        located = self.task.locate(self.run, [pos], o.read_out, radius)
        found = {
            "position": located.position,
            "covariance": located.covariance,
            "confidence": located.confidence,
            "entropy": located.entropy,
            **self.task.extra(located),
            "index": located.index,
            "point": pos[located.index],
        }
        counts = {"num_points": len(pos), "num_dropped": cloud.num_dropped}
        fields = {**counts, **{name: value[0].tolist() for name, value in found.items()}}
        yield Prediction(
            fields, lambda: self.task.scene(self.run, pos, located, 0, self.options.read_out, title=file.name)
        )
