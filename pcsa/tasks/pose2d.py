"""People's joints in images: COCO, LSP, procedural figures."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from torch import nn

from pcsa import metrics
from pcsa.datasets.coco import CocoKeypoints, official, person_results
from pcsa.datasets.crops import CropAugment
from pcsa.datasets.lsp import Lsp
from pcsa.datasets.procedural import Figures2D
from pcsa.datasets.splits import Split
from pcsa.tasks.common.config import Count, Rule
from pcsa.tasks.common.map_inputs import ImagePredictor
from pcsa.tasks.common.map_task import PEARSON, Collected, MapEvaluateOptions, MapTask, filled
from pcsa.tasks.common.maps import PUBLISHED, MapConfig, MapData, MapLabels, map_optimizer
from pcsa.tasks.common.poses import PoseModelConfig
from pcsa.tasks.common.scores import calibration, per_keypoint
from pcsa.tasks.common.task import EvaluateOptions, Predictor, Run, column


@dataclass(frozen=True)
class Pose2dData(MapData):
    """People in images, each in the crop around a box, and how the crops are varied while training."""

    root: Path | None = None
    """Folder of COCO or LSP; without it, procedural figures."""
    layout: Literal["coco", "lsp"] = "coco"
    """Layout of `root`. COCO's is the official one, unless the files are named here."""
    annotations: str | None = None
    """COCO: annotation file to train on, relative to `root`."""
    images: str | None = None
    """COCO: folder of its images, relative to `root`."""
    val_annotations: str | None = None
    """COCO: annotation file to validate and to be scored on, relative to `root`."""
    val_images: str | None = None
    """COCO: folder of its images, relative to `root`."""
    one_based: bool = False
    """LSP: whether positions count from 1."""
    input_size: Annotated[tuple[int, int], Rule(1)] = (96, 72)
    """Height and width that the network takes."""
    num_images: Count = 2000
    """Procedural images to train on; a tenth as many to validate on, a fifth to test on."""
    augment: CropAugment = field(default_factory=lambda: CropAugment(flip=0.5, scale=0.3, rotation=40.0))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.one_based and self.layout != "lsp":
            raise ValueError("`data.one_based` (=True) must come with `data.layout` 'lsp': COCO's count from 0")
        if self.layout == "lsp" and self.root is None:
            raise ValueError("`data.layout` (='lsp') must come with `data.root`")
        for name in ("annotations", "images", "val_annotations", "val_images"):
            value = getattr(self, name)
            if value is not None and (self.root is None or self.layout != "coco"):
                raise ValueError(f"`data.{name}` (={value!r}) must come with a `data.root` in COCO's layout")

    @property
    def is_coco(self) -> bool:
        return self.root is not None and self.layout == "coco"

    def coco_files(self, split: Split) -> tuple[Path, Path]:
        """COCO: annotation file and image folder of a split."""
        assert self.root is not None
        annotations, images = official(self.root, "train" if split == "train" else "val")
        named = (self.annotations, self.images) if split == "train" else (self.val_annotations, self.val_images)
        return (
            annotations if named[0] is None else self.root / named[0],
            images if named[1] is None else self.root / named[1],
        )


@dataclass(frozen=True)
class Pose2dConfig(MapConfig):
    """Everything that determines a training of poses in images."""

    data: Pose2dData = field(default_factory=Pose2dData)
    model: PoseModelConfig = field(default_factory=PoseModelConfig)
    out: Path = Path("runs/pose2d")


@dataclass(frozen=True)
class Pose2dEvaluateOptions(MapEvaluateOptions):
    """Score a network of people's joints: PCK by the torso, COCO's average precision where labels are COCO's."""

    annotations: Path | None = None
    """COCO: annotation file to score on, relative to the root; default that of the training's validation."""
    images: Path | None = None
    """COCO: folder of its images."""
    detections: Path | None = None
    """COCO: person boxes of a detector, in place of the annotated ones."""


_QUICK = Pose2dConfig(
    data=Pose2dData(augment=CropAugment(scale=0.2, rotation=15.0)), optimizer=map_optimizer(steps=400)
)


class Pose2dTask(MapTask[Pose2dConfig]):
    """See the module."""

    name = "pose2d"
    title = "a network of people's joints in images (COCO, LSP, procedural figures)"
    evaluate_options = Pose2dEvaluateOptions
    columns = (
        *(column(name, "average_precision", name, factor=100) for name in ("AP", "AP50", "AP75", "AR")),
        column("PCK@0.1", "pck_torso@0.1", factor=100),
        column("PCK@0.2", "pck_torso@0.2", factor=100),
        column("PCKh@0.5", "pck_head@0.5", factor=100),
        PEARSON,
    )
    presets = {
        # Procedural data on two cores: what is learned within five minutes, and within one minute and a half.
        "small": replace(_QUICK, optimizer=map_optimizer(steps=1200)),
        "quick": _QUICK,
        "published": Pose2dConfig(
            data=Pose2dData(input_size=(256, 192)),
            model=PoseModelConfig(layers="50"),
            **PUBLISHED,
        ),
    }

    def open(self, config: Pose2dConfig, split: Split) -> Any:
        data = config.data
        size, augment = data.input_size, data.augment
        if data.root is None:
            return Figures2D(split, num_images=self.share(data.num_images, split), input_size=size, augment=augment)
        if data.layout == "lsp":
            files: dict[str, Any] = {"one_based": data.one_based, "value_range": data.value_range}
            return Lsp(data.root, split, input_size=size, augment=augment, **files)
        return CocoKeypoints(*data.coco_files(split), input_size=size, augment=augment, value_range=data.value_range)

    def build(self, config: Pose2dConfig, labels: MapLabels) -> nn.Module:
        return config.model.build(len(labels.names))

    def pretrained(self, config: Pose2dConfig, network: nn.Module) -> None:
        config.model.load_weights(network)

    def identities(self, items: Any) -> Sequence[Hashable]:
        if not isinstance(items, CocoKeypoints):
            return ()
        # Two persons of one picture are no strangers.
        used = dict.fromkeys(person["image_id"] for person in items.coco.anns.values())
        return [items.images / items.coco.imgs[image_id]["file_name"] for image_id in used]

    def has_split(self, config: Pose2dConfig, split: Split) -> bool:
        # A file that is named has to be there.
        data = config.data
        return not data.is_coco or data.val_annotations is not None or data.coco_files(split)[0].exists()

    def trained_on_val(self, config: Pose2dConfig) -> bool:
        data = config.data
        if data.is_coco:  # one file may be named for both
            return data.coco_files("train")[0] == data.coco_files("val")[0]
        return data.root is not None

    def splits(self, config: Pose2dConfig) -> tuple[Literal["val", "test"], ...]:
        return ("val",) if config.data.is_coco else super().splits(config)

    def predictor(self, run: Run[Pose2dConfig, MapLabels], options: Any) -> Predictor:
        # The boxes of LSP reach beyond the joints, also where the picture ends; all others end there.
        data = run.config.data
        return ImagePredictor(self.locator(run, options), run, options, clips=data.root is None or data.is_coco)

    def evaluated(self, config: Pose2dConfig, options: Any) -> Pose2dConfig:
        config = super().evaluated(config, options)
        for name, file in (("annotations", options.annotations), ("images", options.images)):
            if file is not None:
                if not config.data.is_coco:
                    raise ValueError(f"`{name}` (={str(file)!r}) must come with a `root` in COCO's layout")
                changed: dict[str, Any] = {f"val_{name}": str(file)}
                config = replace(config, data=replace(config.data, **changed))
        return config

    def scored_items(self, config: Pose2dConfig, split: Literal["val", "test"], options: EvaluateOptions) -> Any:
        assert isinstance(options, Pose2dEvaluateOptions)
        detections, data = options.detections, config.data
        if detections is None:
            return self.items(config, split)
        if not data.is_coco:
            raise ValueError(f"`detections` (={str(detections)!r}) must come with a `root` in COCO's layout")
        items = CocoKeypoints(
            *data.coco_files(split), input_size=data.input_size, detections=detections, value_range=data.value_range
        )
        return filled(items, split, detections)

    def scores(self, items: Any, found: Collected, correct_threshold: float | None) -> dict[str, Any]:
        confidence, source = found.confidence, found.source_position
        target, visible = found.all("source_keypoints"), found.all("source_visible")
        scores: dict[str, Any] = {}
        if isinstance(items, (CocoKeypoints, Figures2D)):
            # No threshold: peaks of a probability map are not heights of a heatmap, whose 0.2 is SimplePose's.
            ids = found.all("item").tolist()
            if isinstance(items, CocoKeypoints):
                results = items.results(source, confidence, indices=ids, least_confidence=0.0)
                # Nobody could be found in a picture that cannot be read.
                annotations = items.coco_annotations(without=set(range(len(items))) - set(ids))
                pictures = {picture["id"] for picture in annotations["images"]}
                results = [person for person in results if person["image_id"] in pictures]
            else:
                areas, ones = found.all("source_area").tolist(), [1.0] * len(ids)
                results = person_results(
                    source, confidence, image_ids=ids, scores=ones, areas=areas, least_confidence=0.0
                )
                annotations = items.coco_annotations()
            scores["average_precision"] = metrics.coco_average_precision(annotations, results)
        if visible.any():
            names = items.names
            lengths: list[tuple[str, str, str, list[float]]] = [("torso", "left_shoulder", "right_hip", [0.1, 0.2])]
            if "neck" in names and "head_top" in names:
                lengths.append(("head", "neck", "head_top", [0.5]))
            for of, start, end, thresholds in lengths:
                reference = metrics.segment_length(target, visible, (names.index(start), names.index(end)))
                error = metrics.normalized_error(source, target, visible, *reference)
                if error.counted.any():
                    values = metrics.pck(*error, thresholds).tolist()
                    scores |= {f"pck_{of}@{t:g}": value for t, value in zip(thresholds, values, strict=True)}
                if of == "torso":
                    scores["num_without_torso"] = int((~reference.known).sum())
                    scores |= per_keypoint(*error)
                    scores |= calibration(correct_threshold or 0.2, "torsos", *error, confidence)
        return scores


TASK = Pose2dTask()
