"""Landmarks of faces: MTFL, procedural faces."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from torch import nn

from pcsa import metrics
from pcsa.datasets.crops import CropAugment
from pcsa.datasets.mtfl import Mtfl
from pcsa.datasets.procedural import Faces
from pcsa.datasets.splits import Split
from pcsa.models import LandmarkNet
from pcsa.tasks.common.config import Count, Rule
from pcsa.tasks.common.map_task import PEARSON, Collected, MapTask
from pcsa.tasks.common.maps import MapConfig, MapData, MapLabels, map_optimizer
from pcsa.tasks.common.scores import calibration, mean_or_none, per_keypoint
from pcsa.tasks.common.task import column


@dataclass(frozen=True)
class LandmarksData(MapData):
    """Faces with five landmarks."""

    root: Path | None = None
    """Folder of MTFL; without it, procedural faces."""
    num_test: Count = 100
    """Last images of the training list that are kept for scoring, where the folder has no testing list."""
    one_based: bool = True
    """Whether MTFL's positions count from 1."""
    input_size: Annotated[tuple[int, int], Rule(1)] = (64, 64)
    """Height and width that the network takes."""
    num_images: Count = 2000
    """Procedural images to train on; a tenth as many to validate on, a fifth to test on."""
    augment: CropAugment = field(default_factory=lambda: CropAugment(flip=0.5, scale=0.2, rotation=20.0, shift=0.05))


@dataclass(frozen=True)
class LandmarkModelConfig:
    """An encoder and decoder at half the resolution."""

    channels: tuple[int, ...] = (16, 32, 64)
    """Channels of its levels."""


@dataclass(frozen=True)
class LandmarksConfig(MapConfig):
    """Everything that determines a training of facial landmarks."""

    data: LandmarksData = field(default_factory=LandmarksData)
    model: LandmarkModelConfig = field(default_factory=LandmarkModelConfig)
    out: Path = Path("runs/landmarks")


_QUICK = LandmarksConfig(optimizer=map_optimizer(steps=450))


class LandmarksTask(MapTask[LandmarksConfig]):
    """See the module."""

    name = "landmarks"
    title = "a network of landmarks of faces (MTFL, procedural faces)"
    columns = (
        column("NME (%)", "nme", factor=100),
        column("failures (%)", "failure_rate@0.1", factor=100),
        PEARSON,
    )
    presets = {
        # Procedural data on two cores: what is learned within five minutes, and within one minute and a half.
        "small": replace(_QUICK, optimizer=map_optimizer(steps=1350)),
        "quick": _QUICK,
        "large": LandmarksConfig(
            model=LandmarkModelConfig(channels=(64, 128, 256, 256)),
            optimizer=map_optimizer(steps=20_000, batch_size=64, lr=1e-3),
        ),
    }

    def open(self, config: LandmarksConfig, split: Split) -> Any:
        data = config.data
        size, augment = data.input_size, data.augment
        if data.root is None:
            return Faces(split, num_images=self.share(data.num_images, split), input_size=size, augment=augment)
        files: dict[str, Any] = {"one_based": data.one_based, "value_range": data.value_range}
        return Mtfl(data.root, split, num_test=data.num_test, input_size=size, augment=augment, **files)

    def trained_on_val(self, config: LandmarksConfig) -> bool:
        return config.data.root is not None

    def build(self, config: LandmarksConfig, labels: MapLabels) -> nn.Module:
        return LandmarkNet(len(labels.names), channels=config.model.channels)

    def scores(self, items: Any, found: Collected, correct_threshold: float | None) -> dict[str, Any]:
        """Normalized mean error, by the distance of the eyes."""
        source = found.source_position
        target, visible = found.all("source_keypoints"), found.all("source_visible")
        eyes = (items.names.index("left_eye"), items.names.index("right_eye"))
        reference = metrics.segment_length(target, visible, eyes)
        error = metrics.normalized_error(source, target, visible, *reference)
        return {
            "nme": mean_or_none(*error),
            "failure_rate@0.1": float(metrics.failure_rate(*error)) if error.counted.any() else None,
            "num_without_eyes": int((~reference.known).sum()),
            **per_keypoint(*error),
            **calibration(correct_threshold or 0.05, "distances of the eyes", *error, found.confidence),
        }


TASK = LandmarksTask()
