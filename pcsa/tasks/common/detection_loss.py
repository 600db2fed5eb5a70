"""What the training of a detector minimizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch, Data

from pcsa import losses
from pcsa.tasks.common.config import BandwidthConfig, FromZero, LocalizationConfig, Positive
from pcsa.tasks.common.graphed import levels_of
from pcsa.tasks.common.objective import draw_samples, localization_loss, point_bandwidth
from pcsa.tasks.common.processes import share_of


@dataclass(frozen=True)
class ObjectiveConfig(LocalizationConfig, BandwidthConfig):
    """What is minimized. Lengths are in units of the normalized cloud (unit sphere)."""

    regularization_sigma: Positive = 0.02
    """Standard deviation that the regularization wants."""
    presence_weight: FromZero = 0.05
    """Weight of the presence score's binary cross-entropy."""


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
    loss, parts = localization_loss(
        config, samples, logits, pos, bandwidth, 1.0, target, visible, ptr=ptr, detour=detour
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


class DetectionStep(nn.Module):
    """Network and objective, as :class:`pcsa.tasks.common.graphed.Graphed` takes them; ``names`` of what follows."""

    def __init__(self, network: nn.Module, objective: ObjectiveConfig, names: Sequence[str], size: int | None) -> None:
        super().__init__()
        self.network, self.objective, self.names, self.size = network, objective, names, size

    def forward(self, pos: Tensor, ptr: Tensor, *others: Tensor) -> dict[str, Tensor]:
        named, geometry = others[: len(self.names)], others[len(self.names) :]
        batch = Data(pos=pos, ptr=ptr, **dict(zip(self.names, named, strict=True)))
        predicted = self.network(None, pos, ptr=ptr, geometry=levels_of(geometry))
        # It draws nothing.
        loss, parts = detection_loss(self.objective, predicted, batch, 1.0, torch.Generator(), self.size)
        return {"loss": loss, **parts}
