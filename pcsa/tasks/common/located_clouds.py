"""One way from clouds to keypoints in their own units, by a network that knows normalized clouds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch, Data

import pcsa
from pcsa.datasets.transforms import Normalize, denormalize
from pcsa.localization import ReadOut
from pcsa.tasks.common.config import FROM_NEIGHBORS, BandwidthConfig
from pcsa.tasks.common.objective import each_bandwidth, point_bandwidth

Frame = Literal["unit_sphere", "min_max"]


class LocatedClouds(NamedTuple):
    """What :func:`locate` finds in clouds, in their own units and on the CPU."""

    position: Tensor
    """``[B, K, 3]``, in the precision of the clouds."""
    covariance: Tensor
    """``[B, K, 3, 3]``."""
    peak: Tensor
    """Largest probability of a point, ``[B, K]``."""
    entropy: Tensor
    """``[B, K]``, in nats."""
    index: Tensor  # type: ignore[assignment]  # hides tuple.index
    """The most probable point, ``[B, K]``, a row of its cloud."""
    confidence: Tensor
    """Probability within the radius of the position, ``[B, K]``; the peak where no radius was given."""
    radius: float | None
    """The radius."""
    logits: list[Tensor]
    """Scores ``[N, K]`` of every cloud, float32."""
    outputs: dict[str, Tensor]
    """What else the network returned, one row per cloud."""


@torch.inference_mode()
def locate(
    network: nn.Module,
    clouds: Sequence[Tensor],
    frame: Frame,
    read_out: ReadOut,
    radius: float | None = None,
    *,
    temperature: float = 1.0,
    bases: BandwidthConfig = FROM_NEIGHBORS,
) -> LocatedClouds:
    """Keypoints of clouds ``[N, 3]``: normalize, score, find bandwidths, read the map, go back to the clouds' units.

    Args:
        network: Trained on clouds in ``frame``; called as ``network(None, pos, ptr=…)``.
        clouds: Far from the origin as float64, so that nothing is lost.
        frame: See :class:`pcsa.datasets.transforms.Normalize`.
        read_out: See :func:`pcsa.localize`.
        radius: The same, in the units of the clouds.
        temperature: Divides the logits where peak, entropy and confidence are computed; the positions are those of the
            maps as they are.
        bases: How wide the bases are: as in the training of the network, for covariances and modes are those of the
            mixture.
    """
    device = next(network.parameters()).device
    normalize = Normalize(frame)
    batch = Batch.from_data_list([normalize(Data(pos=pos)) for pos in clouds])
    pos, ptr = batch.pos.float().to(device), batch.ptr.to(device)
    outputs = network(None, pos, ptr=ptr)
    logits = outputs["logits"]
    # Each cloud has a scale of its own.
    reach = None if radius is None else (radius / batch.scale[:, 0]).to(pos)
    bandwidth = point_bandwidth(bases, pos, ptr)
    found = pcsa.localize(logits, pos, bandwidth, ptr=ptr, read_out=read_out, radius=reach)
    if temperature != 1:
        sure = pcsa.localize(logits, pos, bandwidth, ptr=ptr, temperature=temperature)
        mass = sure.peak
        if reach is not None:
            mass = pcsa.ball_mass(logits, pos, found.position, reach, ptr=ptr, temperature=temperature)
        found = found._replace(peak=sure.peak, entropy=sure.entropy, confidence=mass)
    return LocatedClouds(
        position=denormalize(found.position.cpu(), batch.offset, batch.scale),
        covariance=found.covariance.cpu() * batch.scale.square().view(-1, 1, 1, 1),
        peak=found.peak.cpu(),
        entropy=found.entropy.cpu(),
        index=(found.index - ptr[:-1, None]).cpu(),
        confidence=found.confidence.cpu(),
        radius=radius,
        logits=list(logits.float().cpu().split(batch.ptr.diff().tolist())),
        outputs={name: outputs[name].float().cpu() for name in ("presence", "activation") if name in outputs},
    )


def cloud_bandwidth(bases: BandwidthConfig, pos: Tensor, frame: Frame) -> Tensor:
    """Bandwidths ``[N]`` of a cloud ``[N, 3]`` in its own units, or factors ``[N, 3, 3]`` where they lie along it."""
    normal = Normalize(frame)(Data(pos=pos))
    return each_bandwidth(bases, normal.pos.float()) * float(normal.scale)
