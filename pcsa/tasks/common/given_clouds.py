"""What a network is given of a user's cloud: as many points as the training clouds had; how unlike them it is."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pcsa.datasets.thinning import POOL, evenly_spaced
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
    """Their rows in ``whole``, ``[M]``; None where they are all of its points."""
    whole: Tensor
    """Points of the input ``[N, 3]``; on a mesh, which has no points of its own, those that the network is given."""
    novelty: Novelty | None
    """How far it is from the training clouds; None where the checkpoint does not know these."""


def points_to_sample(known: TrainingClouds | None, *, resample: bool = True) -> int:
    """Number of points to sample on a mesh, for :func:`give` to choose from."""
    if known is None:
        return UNKNOWN_POINTS
    return known.num_points * (POOL if resample else 1)


def give(
    pos: Tensor, known: TrainingClouds | None, *, sampled: bool = False, resample: bool = True, seed: int = 0
) -> GivenCloud:
    """Draw as many points as the training clouds had, where a cloud has many more, and compare it with these.

    The network is given evenly spaced points: of random ones it finds keypoints less exactly, even if it was trained on
    random ones. Strays are the farthest points of all, so where some of the evenly spaced ones lie farther from all
    others than in training, and random ones are more like the training clouds, it is given these. A cloud of fewer
    points stays as it is: there is nothing between its points, and its novelty says that it is sparse. The novelty of
    the cloud is that of random points or of evenly spaced ones, whichever are more like the training clouds.

    Args:
        pos: ``[N, 3]``, in any units.
        known: What the checkpoint knows of the training clouds; None for nothing: the cloud stays as it is.
        sampled: Whether the points were sampled on a mesh, :func:`points_to_sample` of them.
        resample: Whether to draw.
        seed: Seed of the draw.
    """
    if known is None:
        return GivenCloud(pos, None, pos, None)
    count = known.num_points
    if not resample or len(pos) <= _AS_MANY * count:
        return GivenCloud(pos, None, pos, known.novelty(pos))
    generator = torch.Generator().manual_seed(seed)
    at_random = torch.randperm(len(pos), generator=generator)[:count].sort().values
    even = evenly_spaced(pos, count, generator)
    random_novelty, even_novelty = (known.novelty(pos[rows]) for rows in (at_random, even))
    novelty = min(random_novelty, even_novelty, key=lambda n: n.score)
    rows = at_random if novelty is random_novelty and known.has_lone_points(pos[even]) else even
    taken = pos[rows]
    return GivenCloud(taken, None, taken, novelty) if sampled else GivenCloud(taken, rows, pos, novelty)


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
    taken = "" if cloud.rows is None else f"{len(cloud.pos)} of {len(cloud.whole)} points"
    reason = "" if cloud.novelty is None else cloud.novelty.reason
    unlike = f"unlike the training clouds: {reason}" if reason else ""
    return "; ".join(filter(None, (taken, unlike)))


def lowered(logit: Tensor, share: Tensor) -> Tensor:
    """Logits ``[B, K]`` of this share ``[B]`` of the probabilities that logits stand for; of a share of 1, the same."""
    p = share[:, None] * logit.double().sigmoid()
    return torch.where(share[:, None] < 1, (p.log() - (-p).log1p()).to(logit), logit)
