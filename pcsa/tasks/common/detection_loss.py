"""What the training of a detector minimizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch_geometric.data import Batch

from pcsa import losses
from pcsa.datasets.keypointnet import KeypointNet
from pcsa.tasks.common.config import BandwidthConfig, FromZero, LocalizationConfig, Positive
from pcsa.tasks.common.objective import OF_MARKS, draw_samples, localization_loss, point_bandwidth
from pcsa.tasks.common.processes import share_of


@dataclass(frozen=True)
class ObjectiveConfig(LocalizationConfig, BandwidthConfig):
    """What is minimized. Lengths are in units of the normalized cloud (unit sphere)."""

    regularization_sigma: Positive = 0.02
    """Standard deviation that the regularization wants."""
    presence_weight: FromZero = 0.05
    """Weight of the presence score's binary cross-entropy."""
    targets: Literal["mean", "marks"] = "mean"
    """Learn the annotated place of each keypoint, which is the mean of its marks where several people marked it, or
    all of its marks, each keypoint counting once. Marks are for the methods nll, cross_entropy and soft_label; a soft
    beside them takes the mean, which is where the expectation of a map of all marks lies."""

    def check(self) -> None:
        """Check what belongs together."""
        super().check()
        if self.targets == "mean":
            return
        for name, _ in self.terms:
            if name in OF_MARKS or (name == "soft" and self.has(*OF_MARKS)):
                continue
            raise ValueError(
                f"`objective.targets` (='marks') must be 'mean' with the method {name!r}: the best map for the "
                "expectation of an error is a single place, whatever the marks; all marks are for "
                f"{', '.join(OF_MARKS)}, with soft beside them"
            )
        if self.has("soft_label") and self.label_distance != "euclidean":
            raise ValueError(
                f"`objective.label_distance` (={self.label_distance!r}) must be 'euclidean' with `objective.targets` "
                "'marks': paths along the surface lead from annotated points"
            )


def detection_loss(
    config: ObjectiveConfig,
    predicted: dict[str, Tensor],
    batch: Batch,
    temperature: float,
    generator: torch.Generator,
    size: int | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of one batch, and its parts for the log; ``size`` if it is known to be that of every cloud."""
    logits, pos, target, visible = predicted["logits"], batch.pos, batch.keypoints, batch.visible
    ptr: Tensor | None = batch.ptr
    bandwidth: float | Tensor | None = config.bandwidth
    if config.has("sampling", "mixture", "nll"):
        # Found before, see SupervisedData.precompute.
        known = config.bandwidth_scale * batch.bandwidth if "bandwidth" in batch else None
        bandwidth = point_bandwidth(config, pos, batch.ptr, known)
    detour = batch.get("detour")
    if size is not None and detour is None:
        # Sums over a column of a dense tensor are no sums of rows whose number the device must look up.
        logits, pos, ptr = logits.view(-1, size, logits.shape[1]), pos.view(-1, size, pos.shape[1]), None
        if isinstance(bandwidth, Tensor):
            bandwidth = bandwidth.view(-1, size, *bandwidth.shape[1:])
    samples = None
    if config.has("sampling"):
        assert bandwidth is not None
        samples = draw_samples(config, logits, pos, bandwidth, ptr, temperature, generator)
    marks = None
    if config.targets == "marks":
        marks = places_to_learn(batch.marks, batch.marked, target, visible)
    loss, parts = localization_loss(
        config, samples, logits, pos, bandwidth, 1.0, target, visible, ptr=ptr, detour=detour, marks=marks
    )
    # Also at weight 0: several processes wait for the gradient of every parameter.
    if "counted" in batch:
        # Nobody looked for the keypoints of other categories.
        each = losses.presence_loss(predicted["presence"], visible, reduction="none")
        presence = torch.where(batch.counted, each, 0.0).sum() / batch.counted.sum()
        share = share_of(batch.counted)
        presence = presence if share is None else share * presence
    else:
        presence = losses.presence_loss(predicted["presence"], visible)
    parts["presence"] = presence.detach()
    return loss + config.presence_weight * presence, parts


def places_to_learn(marks: Tensor, marked: Tensor, keypoints: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
    """The marks of a batch ``[B, K, M, 3]``, and which there are; of a visible keypoint without any, its own place."""
    alone = visible & ~marked.any(2)
    first = torch.where(alone.unsqueeze(-1), keypoints, marks[:, :, 0])
    return torch.cat([first.unsqueeze(2), marks[:, :, 1:]], 2), torch.cat(
        [(marked[:, :, 0] | alone).unsqueeze(2), marked[:, :, 1:]], 2
    )


def check_marked(train: KeypointNet) -> None:
    """Refuse clouds without marks to learn."""
    clouds = (train[i] for i in range(len(train)))
    if not any("marks" in cloud and cloud.marked.any() for cloud in clouds):
        raise ValueError(
            f"`objective.targets` (='marks') must be 'mean' for `data.root` (={str(train.root)!r}): none of the "
            f"{len(train)} clouds of {train.category!r} in split {train.split!r} has marks of several people; `pcsa "
            "data import --marks all` keeps them"
        )
