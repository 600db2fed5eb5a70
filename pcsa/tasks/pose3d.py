"""People's joints in three dimensions, from volumes and images: Human3.6M, procedural figures."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn

from pcsa import metrics
from pcsa.datasets.arrays import ARRAYS, read_volume
from pcsa.datasets.crops import CropAugment
from pcsa.datasets.human36m import DEPTH_RANGE, Human36M, to_camera
from pcsa.datasets.procedural import FigureImages3D, Figures3D
from pcsa.datasets.splits import Split
from pcsa.tasks.common.config import Count, Rule
from pcsa.tasks.common.map_inputs import ImagePredictOptions, ImagePredictor, WholePredictor, value_range_of
from pcsa.tasks.common.map_task import PEARSON, Collected, MapTask
from pcsa.tasks.common.maps import PUBLISHED, MapConfig, MapData, MapLabels, map_optimizer
from pcsa.tasks.common.poses import PoseModelConfig
from pcsa.tasks.common.scores import calibration, mean_or_none, per_keypoint
from pcsa.tasks.common.task import Predictor, Run, column


@dataclass(frozen=True)
class Pose3dData(MapData):
    """People in volumes or in images, with joints in three dimensions."""

    root: Path | None = None
    """Folder of Human3.6M frames; without it, procedural figures."""
    procedural: Literal["volume", "image"] = "volume"
    """The figures as volumes, or as images whose joints have a depth too."""
    train_subjects: tuple[str, ...] = ("S1", "S5", "S6", "S7", "S8")
    """Human3.6M's subjects to train on."""
    test_subjects: tuple[str, ...] = ("S9", "S11")
    """Human3.6M's subjects to validate and to be scored on."""
    input_size: Annotated[tuple[int, int, int], Rule(1)] = (32, 32, 32)
    """Depth, height and width. For images, the depth is that of the range in which joints are looked for."""
    num_items: Count = 1000
    """Procedural volumes or images to train on; a tenth as many to validate on, a fifth to test on."""
    augment: CropAugment = field(default_factory=lambda: CropAugment(flip=0.5, scale=0.2, rotation=20.0))
    """Variation of images; volumes are flipped half of the time, and varied by `custom`."""

    @property
    def is_volume(self) -> bool:
        return self.root is None and self.procedural == "volume"


@dataclass(frozen=True)
class Pose3dConfig(MapConfig):
    """Everything that determines a training of poses in three dimensions."""

    data: Pose3dData = field(default_factory=Pose3dData)
    model: PoseModelConfig = field(default_factory=PoseModelConfig)
    out: Path = Path("runs/pose3d")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.data.is_volume and self.model.network == "unet":
            raise ValueError(
                "`model.network` (='unet') must be 'simple_pose' for images whose joints have a depth, as in "
                "the presets 'image' and 'published'"
            )


_QUICK = Pose3dConfig(model=PoseModelConfig(network="unet"), optimizer=map_optimizer(steps=400, batch_size=8))


class Pose3dTask(MapTask[Pose3dConfig]):
    """See the module."""

    name = "pose3d"
    title = "a network of people's joints in volumes and images (Human3.6M, procedural figures)"
    columns = (
        column("MPJPE (mm)", "mpjpe_mm"),
        column("PA-MPJPE (mm)", "pa_mpjpe_mm"),
        column("PCK@150mm", "pck@150mm", factor=100),
        PEARSON,
    )
    presets = {
        # Procedural data on two cores: what is learned within five minutes, and within one minute and a half.
        "small": replace(_QUICK, optimizer=map_optimizer(steps=1200, batch_size=8)),
        "quick": _QUICK,
        "image": Pose3dConfig(
            data=Pose3dData(procedural="image", input_size=(64, 96, 72)), optimizer=map_optimizer(steps=1200)
        ),
        # Human3.6M by the same schedule: the paper names no other.
        "published": Pose3dConfig(
            data=Pose3dData(input_size=(256, 256, 256)),
            model=PoseModelConfig(layers="50"),
            **PUBLISHED,
        ),
    }

    def open(self, config: Pose3dConfig, split: Split) -> Any:
        data = config.data
        if data.root is not None:
            subjects = data.train_subjects if split == "train" else data.test_subjects
            options: dict[str, Any] = {"augment": data.augment, "value_range": data.value_range}
            return Human36M(data.root, split, subjects=subjects, input_size=data.input_size, **options)
        count = self.share(data.num_items, split)
        if data.is_volume:
            return Figures3D(split, num_volumes=count, input_size=data.input_size, custom=data.augment.custom)
        return FigureImages3D(split, num_images=count, input_size=data.input_size, augment=data.augment)

    def build(self, config: Pose3dConfig, labels: MapLabels) -> nn.Module:
        return config.model.build(len(labels.names), volume=config.data.is_volume, depth=self.depth(config))

    def pretrained(self, config: Pose3dConfig, network: nn.Module) -> None:
        config.model.load_weights(network)

    def identities(self, items: Any) -> Sequence[Hashable]:
        return items.subjects if isinstance(items, Human36M) else ()

    def correct_limit(self, items: Any) -> float:
        return 500.0  # the length of a thigh

    def depth(self, config: Pose3dConfig) -> int | None:
        return None if config.data.is_volume else config.data.input_size[0]

    def mirrors(self, config: Pose3dConfig) -> bool:
        # A mirrored volume of a figure would have the denser limbs on the wrong side.
        return not config.data.is_volume

    def scores(self, items: Any, found: Collected, correct_threshold: float | None) -> dict[str, Any]:
        """MPJPE from the root and after Procrustes alignment, in millimeters."""
        position = found.position
        if isinstance(items, Human36M):
            matrix, root, camera, lens = map(found.all, ("to_source", "root_depth", "camera", "distortion"))
            predicted = to_camera(position, matrix, root, camera, items.input_size[0], lens)
            target, visible = found.all("positions"), found.all("labeled")
        elif isinstance(items, Figures3D):
            size = found.all("voxel_size")[:, None, None]
            predicted, target, visible = position * size, found.all("keypoints") * size, found.all("visible")
        else:
            predicted = items.to_mm(position, found.all("mm_per_pixel"))
            target, visible = found.all("source_joints"), torch.ones_like(found.all("visible"))
        error = metrics.mpjpe(predicted, target, visible, root=0)
        # The root is right by construction. It counts in the mean, as is usual, but proves nothing of the network.
        others = (error.distance[:, 1:], error.counted[:, 1:])
        aligned = metrics.pa_mpjpe(predicted, target, visible)
        return {
            "mpjpe_mm": mean_or_none(*error),
            "pa_mpjpe_mm": mean_or_none(*aligned),
            "pck@150mm": float(metrics.pck(*others, (150.0,))[0]) if others[1].any() else None,
            **per_keypoint(*error),
            **calibration(correct_threshold or 100.0, "mm", *others, found.confidence[:, 1:]),
        }

    def predictor(self, run: Run[Pose3dConfig, MapLabels], options: ImagePredictOptions) -> Predictor:
        if not run.config.data.is_volume:
            items = FigureImages3D if run.config.data.root is None else Human36M
            # The boxes of Human3.6M have their margin, also where the picture ends.
            return DepthPredictor(
                self.locator(run, options), run, options, padding=items.padding, clips=items is FigureImages3D
            )
        if options.boxes is not None:
            raise ValueError(f"`boxes` (={str(options.boxes)!r}) must not be given for volumes: they are taken whole")
        read = partial(read_volume, value_range=value_range_of(run, options))
        return WholePredictor(self.locator(run, options), run.labels, ARRAYS, read)


class DepthPredictor(ImagePredictor):
    """Reads images; says how far behind the root each joint is."""

    def extra(self, position: Tensor) -> dict[str, Any]:
        depth = self.run.config.data.input_size[0]
        return {"depth_mm": ((position[:, 2] - position[0, 2]) * DEPTH_RANGE / depth).tolist()}


TASK = Pose3dTask()
