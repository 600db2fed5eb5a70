"""Scoring on turned clouds: the network is given each cloud turned, and what it finds is turned back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from pcsa._core.checks import check_count
from pcsa.datasets.rotations import random_turn
from pcsa.datasets.thinning import named_generator
from pcsa.datasets.up import Up, up_axis
from pcsa.models.turned_detector import Rotation
from pcsa.tasks.common.located_clouds import LocatedClouds
from pcsa.tasks.common.task import EvaluateOptions


@dataclass(frozen=True)
class CloudEvaluateOptions(EvaluateOptions):
    """Score a network on clouds."""

    rotate: Rotation = "none"
    """Give the network each cloud turned at random: about the axis that points up, or in any way. What it finds is
    turned back, so that all scores are as before. For networks trained with `model.rotation`; and to see what others
    lose."""
    rotate_seed: int = 0
    """Seed of the turns, beside the cloud's id: the same for all networks; with robustness, of all that is drawn."""
    robustness: bool = False
    """Score clouds that are turned, noisy, sparse, uneven, hidden in part, with outliers, without a part or sampled
    anew, each at several levels, in place of the clouds as they are: robustness-<split>.json, .csv and a plot."""
    robustness_kinds: tuple[str, ...] = ()
    """Of these corruptions alone: heading, rotation, noise, thinning, density, occlusion, outliers, missing,
    sampling."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("rotate_seed", self.rotate_seed, least=0)
        if self.robustness_kinds and not self.robustness:
            raise ValueError(
                f"`robustness_kinds` (={' '.join(self.robustness_kinds)}) must be given with `robustness` only"
            )
        if self.robustness and self.rotate != "none":
            raise ValueError(f"`rotate` (={self.rotate!r}) must be 'none' with `robustness`, which turns clouds itself")


def cloud_turns(options: CloudEvaluateOptions, names: Sequence[str], up: Up) -> list[Tensor] | None:
    """The turn of each cloud, by its id; None where clouds are not turned.

    Raises:
        ValueError: If clouds are to be turned about the axis that points up, and none does.
    """
    if options.rotate == "none":
        return None
    if options.rotate == "up" and up == "none":
        raise ValueError("`rotate` (='up') must be 'any' or 'none' for clouds whose `up` is 'none'")
    axis = up_axis(up) if options.rotate == "up" else None
    return [random_turn(named_generator(options.rotate_seed, name, "turn"), axis) for name in names]


def locate_turned(
    locate: Callable[[Sequence[Tensor]], LocatedClouds], clouds: Sequence[Tensor], turns: Sequence[Tensor] | None
) -> LocatedClouds:
    """What is found in clouds ``[N, 3]`` that are turned about their middles, in the frames before.

    Args:
        locate: Finds keypoints in clouds, in their own units and frames.
        clouds: The clouds.
        turns: A rotation of each; None to leave them as they are.
    """
    if turns is None:
        return locate(clouds)
    middles = [cloud.mean(0) for cloud in clouds]
    parts = list(zip(clouds, middles, turns, strict=True))
    located = locate([(cloud - middle) @ turn.to(cloud).mT + middle for cloud, middle, turn in parts])
    position, covariance = located.position.clone(), located.covariance.clone()
    for i, (_, middle, turn) in enumerate(parts):
        back = turn.to(position)
        position[i] = (position[i] - middle.to(position)) @ back + middle.to(position)
        back = turn.to(covariance)
        covariance[i] = back.mT @ covariance[i] @ back
    return located._replace(position=position, covariance=covariance)


def rotated_header(options: CloudEvaluateOptions) -> dict[str, Any]:
    """What a metrics file says of the turns; nothing where clouds are not turned."""
    if options.rotate == "none":
        return {}
    return {"rotated": options.rotate, "rotate_seed": options.rotate_seed}
