"""The objective of Skeleton Merger: how well the skeleton of the keypoints rebuilds its cloud."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor
from torch_geometric.data import Batch

import pcsa
from pcsa._core.points import full_precision
from pcsa.losses import keypoint_contrast, place_spread
from pcsa.models.skeleton_merger import box_coordinates
from pcsa.skeleton import composite_chamfer, keypoint_separation, mirror_error, skeleton_points
from pcsa.tasks.common.config import BandwidthConfig, Count, FromZero, Positive, Rule, SamplerConfig
from pcsa.tasks.common.objective import draw_samples, point_bandwidth
from pcsa.tasks.common.processes import of_all_processes


@dataclass(frozen=True)
class ReconstructionConfig(SamplerConfig, BandwidthConfig):
    """What is minimized. Lengths are in units of the normalized cloud ([-1, 1])."""

    num_samples: Count = 1
    """Samples S of every keypoint."""
    read_out: Literal["sampling", "soft"] = "sampling"
    """Every sample of the keypoints rebuilds the cloud and the error is averaged (Eq. 14), or their expectation does
    (soft-argmax)."""
    spacing: Positive = 0.01
    """Distance between two points of a segment."""
    min_points: Annotated[int, Rule(2)] = 15
    """Minimum points per segment."""
    max_points: Count = 200
    """Maximum points per segment."""
    num_loss_points: Count | None = 512
    """Points of each cloud that the reconstruction is compared with, drawn anew in every step; None for all."""
    uncovered: FromZero = 20.0
    """Charge for what no segment covers."""
    offset_weight: FromZero = 0.01
    """Weight of the sum of squared offsets."""
    separation_weight: FromZero = 0.0
    """Weight of the penalty on keypoints near each other, see pcsa.losses.keypoint_separation."""
    separation_distance: Positive = 0.3
    """Distance from which on keypoints count as apart."""
    mirror_weight: FromZero = 0.0
    """Weight of the distance of the keypoints from their mirror image across x = the middle of the cloud, see
    pcsa.losses.mirror_error."""
    contrast_weight: FromZero = 0.0
    """Weight of the contrast between shapes: what a keypoint looks like should tell it from the others on every shape
    of the batch, see pcsa.losses.keypoint_contrast."""
    contrast_temperature: Positive = 0.1
    """Temperature of that contrast."""
    spread_weight: FromZero = 0.0
    """Weight of how far a keypoint's places in the boxes of the shapes of a batch are from each other, see
    pcsa.losses.place_spread."""


def subset(pos: Tensor, ptr: Tensor, num_points: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Rows of ``num_points`` points of each cloud, drawn without repetition (all of a smaller cloud), and their ptr."""
    sizes = ptr.cpu().diff()
    cloud = torch.arange(len(sizes)).repeat_interleave(sizes)
    # Sorted by cloud, and within a cloud by chance.
    order = (cloud + torch.rand(len(cloud), generator=generator, dtype=torch.float64)).argsort()
    first = ptr.cpu()[:-1]
    kept = torch.arange(len(cloud)) - first[cloud] < num_points
    counts = sizes.clamp(max=num_points)
    rows = order[kept].to(pos.device)
    return rows, torch.cat([counts.new_zeros(1), counts.cumsum(0)]).to(ptr.device)


def mean_features(logits: Tensor, features: Tensor, ptr: Tensor) -> Tensor:
    """What each map looks at on average, ``[B, K, C]``, from features ``[N, C]``."""
    sizes = ptr.diff().tolist()
    with full_precision(features):
        clouds = zip(logits.float().split(sizes), features.float().split(sizes), strict=True)
        return torch.stack([own.softmax(0).t() @ of_points for own, of_points in clouds])


def reconstruction(
    config: ReconstructionConfig,
    merger: torch.nn.Module,
    batch: Batch,
    temperature: float,
    generator: torch.Generator,
    *,
    sample: bool = True,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of one batch, and its parts for the log.

    With ``sample=False`` the keypoints are the expectation and all points count, whatever ``config`` says: how good
    the trained map is.
    """
    pos, ptr = batch.pos, batch.ptr
    # Each process has other shapes to train on, and the same to validate on.
    everywhere = of_all_processes if sample else lambda x: x

    def draw(logits: Tensor, pos: Tensor, ptr: Tensor) -> Tensor:
        return draw_samples(config, logits, pos, point_bandwidth(config, pos, ptr), ptr, temperature, generator)

    predicted = merger(
        None,
        pos,
        ptr=ptr,
        read_out=draw if sample and config.read_out == "sampling" else None,
        with_features=config.contrast_weight > 0,
    )
    keypoints, activation, offsets = predicted["keypoints"], predicted["activation"], predicted["offsets"]
    skeleton = skeleton_points(
        keypoints,
        offsets,
        spacing=config.spacing,
        min_points=config.min_points,
        max_points=config.max_points,
    )
    target, target_ptr = pos, ptr
    if sample and config.num_loss_points is not None:
        rows, target_ptr = subset(pos, ptr, config.num_loss_points, generator)
        target = pos[rows]
    distance = composite_chamfer(
        skeleton.points,
        skeleton.ptr,
        activation,
        target,
        ptr=target_ptr,
        uncovered=config.uncovered,
        validate=False,
    )
    penalty = config.offset_weight * offsets.square().sum()
    loss = distance.fidelity + distance.coverage + penalty
    sets = keypoints if keypoints.dim() == 3 else keypoints.transpose(1, 2).flatten(0, 1)
    parts = {
        "loss_fidelity": distance.fidelity,
        "loss_coverage": distance.coverage,
        "loss_offsets": penalty,
        "activation": activation.mean(),
        "active_segments": (activation > 0.5).float().sum(1).mean(),
    }
    if config.separation_weight > 0:
        parts["loss_separation"] = keypoint_separation(sets, config.separation_distance)
        loss = loss + config.separation_weight * parts["loss_separation"]
    if config.mirror_weight > 0:
        points = pos[:, 0]
        high = points.new_full((batch.num_graphs,), -math.inf).scatter_reduce(0, batch.batch, points, "amax")
        low = points.new_full((batch.num_graphs,), math.inf).scatter_reduce(0, batch.batch, points, "amin")
        middle = ((low + high) / 2).repeat_interleave(len(sets) // batch.num_graphs)
        parts["loss_mirror"] = mirror_error(sets, middle)
        loss = loss + config.mirror_weight * parts["loss_mirror"]
    if config.contrast_weight > 0:
        looks = mean_features(predicted["logits"], predicted["features"], ptr)
        parts["loss_contrast"] = keypoint_contrast(everywhere(looks), temperature=config.contrast_temperature)
        loss = loss + config.contrast_weight * parts["loss_contrast"]
    if config.spread_weight > 0:
        # Of the expectation: samples of a shape differ even where its map does not.
        box = box_coordinates(pos, batch.batch, batch.num_graphs)
        places = pcsa.soft_argmax(predicted["logits"], box, ptr=ptr, validate=False)
        parts["loss_spread"] = place_spread(everywhere(places))
        loss = loss + config.spread_weight * parts["loss_spread"]
    with torch.no_grad():
        own = torch.eye(sets.shape[1], dtype=torch.bool, device=sets.device)
        between = torch.cdist(sets, sets).masked_fill(own, math.inf)
        # Near zero: keypoints have collapsed into each other.
        parts["nearest_keypoints"] = between.amin((1, 2)).mean()
    return loss, {name: value.detach() for name, value in parts.items()}
