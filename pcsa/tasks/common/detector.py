"""The detector that a configuration describes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pcsa.models import MULTI_SCALE, SINGLE_SCALE, KeypointDetector, Level, PointNet2
from pcsa.tasks.common.backbone import BackboneConfig
from pcsa.tasks.common.config import Count, FromZero, Rule


@dataclass(frozen=True)
class DetectorConfig(BackboneConfig):
    """The network of per-point features."""

    scales: Literal["single", "multi"] = "single"
    """PointNet++ with single- or multi-scale grouping."""
    out_channels: Count = 128
    """Width of the per-point features."""
    norm: Literal["batch", "group"] = "batch"
    """Normalization layers."""
    hidden_channels: Count | None = None
    """Width of the heads' hidden layers; default that of the features."""
    local_blocks: Annotated[int, Rule(0)] = 0
    """Residual blocks at the end in which every point looks at its nearest points, at full resolution."""
    local_neighbors: Count = 16
    """Nearest points that a local block looks at."""
    attention_blocks: Annotated[int, Rule(0)] = 0
    """Residual blocks after them in which every point attends to its whole cloud, through a few tokens."""
    dropout: FromZero = 0.0
    """Probability that the last layer of the scores does without a number while training."""
    drop_path: FromZero = 0.0
    """Stochastic depth: probability that a cloud does without a residual block while training."""

    @property
    def levels(self) -> tuple[Level, ...]:
        return SINGLE_SCALE if self.scales == "single" else MULTI_SCALE

    def described(self) -> tuple[str, ...]:
        """See :class:`BackboneConfig`."""
        blocks = ("local_blocks", "local_neighbors", "attention_blocks", "drop_path")
        return ("scales", "out_channels", "norm", *blocks)


def build_detector(model: DetectorConfig, num_keypoints: int) -> KeypointDetector:
    """The network, for so many keypoints."""
    backbone = model.own_backbone() or PointNet2(
        levels=model.levels,
        out_channels=model.out_channels,
        norm=model.norm,
        local_blocks=model.local_blocks,
        local_neighbors=model.local_neighbors,
        attention_blocks=model.attention_blocks,
        drop_path=model.drop_path,
    )
    return KeypointDetector(backbone, num_keypoints, hidden_channels=model.hidden_channels, dropout=model.dropout)
