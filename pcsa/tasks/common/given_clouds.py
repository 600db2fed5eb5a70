"""What a network is given of a user's cloud: as many points as the training clouds had; how unlike them it is."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pcsa.localization import NEED_RADIUS, ReadOut
from pcsa.tasks.common.fitting import scale_of
from pcsa.tasks.common.located_clouds import LocatedClouds
from pcsa.tasks.common.read_outs import cloud_radius
from pcsa.tasks.common.task import Run
from pcsa.tasks.common.training_clouds import Novelty, TrainingClouds

UNKNOWN_POINTS = 2048
"""Points sampled on a mesh where it is not known how many the training clouds had."""

# A cloud of up to so many times the points that the training clouds had is given to the network as it is.
_AS_MANY = 1.5

log = logging.getLogger(__name__)


class GivenCloud(NamedTuple):
    """A cloud as the network is given it."""

    pos: Tensor
    """``[M, 3]``, in the input's units."""
    rows: Tensor | None
    """Their rows in the input, ``[M]``; None where they are all of its points."""
    num_points: int
    """Points of the input."""
    novelty: Novelty | None
    """How far it is from the training clouds; None where the checkpoint does not know these."""


def give(pos: Tensor, known: TrainingClouds | None, *, resample: bool = True, seed: int = 0) -> GivenCloud:
    """Draw as many points as the training clouds had, where a cloud has many more, and compare it with these.

    The points are drawn at random, so that they are as dense here and there as the cloud's are. A cloud of fewer
    points stays as it is: there is nothing between its points, and its novelty says that it is sparse.

    Args:
        pos: ``[N, 3]``, in any units.
        known: What the checkpoint knows of the training clouds; None for nothing: the cloud stays as it is.
        resample: Whether to draw.
        seed: Seed of the draw.
    """
    rows = None
    if known is not None and resample and len(pos) > _AS_MANY * known.num_points:
        order = torch.randperm(len(pos), generator=torch.Generator().manual_seed(seed))
        rows = order[: known.num_points].sort().values
    taken = pos if rows is None else pos[rows]
    return GivenCloud(taken, rows, len(pos), None if known is None else known.novelty(taken))


def locate_given(
    run: Run[Any, Any], clouds: Sequence[GivenCloud], read_out: ReadOut, radius: float | None = None
) -> LocatedClouds:
    """Keypoints of clouds in their own units; ``index`` is that of the input, and presence falls with the novelty.

    Raises:
        ValueError: If the radius does not suit the clouds, or a read-out lacks one.
    """
    if radius is not None or read_out in NEED_RADIUS:
        # The same for all of them, if it suits each.
        radii = [cloud_radius(read_out, radius, scale_of([cloud.pos])) for cloud in clouds]
        radius = radii[0]
    task: Any = run.task
    located: LocatedClouds = task.locate(run, [cloud.pos for cloud in clouds], read_out, radius)
    index = [at if cloud.rows is None else cloud.rows[at] for at, cloud in zip(located.index, clouds, strict=True)]
    outputs = located.outputs
    if "presence" in outputs:
        kept = [1.0 if cloud.novelty is None else cloud.novelty.kept_presence for cloud in clouds]
        outputs = {**outputs, "presence": lowered(outputs["presence"], torch.tensor(kept))}
    return located._replace(index=torch.stack(index), outputs=outputs)


def note_of(cloud: GivenCloud) -> str:
    """What a picture says of a cloud below it; nothing where all is well."""
    taken = "" if cloud.rows is None else f"{len(cloud.pos)} of {cloud.num_points} points"
    reason = "" if cloud.novelty is None else cloud.novelty.reason
    unlike = f"unlike the training clouds: {reason}" if reason else ""
    return "; ".join(filter(None, (taken, unlike)))


def lowered(logit: Tensor, share: Tensor) -> Tensor:
    """Logits ``[B, K]`` of this share ``[B]`` of the probabilities that logits stand for; of a share of 1, the same."""
    p = share[:, None] * logit.double().sigmoid()
    return torch.where(share[:, None] < 1, (p.log() - (-p).log1p()).to(logit), logit)
