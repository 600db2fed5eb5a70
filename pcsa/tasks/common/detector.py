"""The detector that a configuration describes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pcsa.datasets.up import Up, up_axis
from pcsa.models import MULTI_SCALE, SINGLE_SCALE, KeypointDetector, Level, PointNet2, TurnedDetector
from pcsa.models.turned_detector import Rotation
from pcsa.tasks.common.backbone import BackboneConfig
from pcsa.tasks.common.config import Count, FromZero, Rule
from pcsa.tasks.common.training_clouds import Turns


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
    rotation: Rotation = "none"
    """How clouds may be turned that the network is asked about: not at all, about the axis that points up, or in any
    way. With up or any, it looks at each cloud in the 4 or 24 frames of its principal axes, and takes the one in which
    it sees the most keypoints. The training clouds themselves must stand alike; half of the time, a training sees one
    in a wrong frame, to learn which are, so give it twice the steps. `objective.presence-weight` is at least 1 then."""

    def turns(self, up: Up) -> Turns:
        """How clouds may be turned whose axis ``up`` points up.

        Raises:
            ValueError: If they are to be turned about that, and no axis points up.
        """
        if self.rotation != "up":
            return self.rotation
        if up == "none":
            raise ValueError("`model.rotation` (='up') must be 'any' for clouds whose `up` is 'none'")
        return up

    @property
    def levels(self) -> tuple[Level, ...]:
        return SINGLE_SCALE if self.scales == "single" else MULTI_SCALE

    def described(self) -> tuple[str, ...]:
        """See :class:`BackboneConfig`."""
        blocks = ("local_blocks", "local_neighbors", "attention_blocks", "drop_path")
        return ("scales", "out_channels", "norm", *blocks)


def build_detector(model: DetectorConfig, num_keypoints: int, up: Up = "y") -> KeypointDetector:
    """The network, for so many keypoints, of clouds of which the axis ``up`` points up."""
    backbone = model.make_backbone(
        lambda: PointNet2(
            levels=model.levels,
            out_channels=model.out_channels,
            norm=model.norm,
            local_blocks=model.local_blocks,
            local_neighbors=model.local_neighbors,
            attention_blocks=model.attention_blocks,
            drop_path=model.drop_path,
        )
    )
    options: dict[str, Any] = {"hidden_channels": model.hidden_channels, "dropout": model.dropout}
    turns = model.turns(up)
    if turns == "none":
        return KeypointDetector(backbone, num_keypoints, **options)
    return TurnedDetector(backbone, num_keypoints, up=None if turns == "any" else up_axis(turns), **options)
