"""Several networks, or several variations of an input, as one network: the mean of their probability maps."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.data import Data

from pcsa._core.points import Points, cloud_log_softmax, cloud_max
from pcsa.datasets.transforms import Augment, Normalize, item_generator
from pcsa.models.point_network import resolve_clouds

Outputs = dict[str, Tensor]


def log_mean(log_prob: Sequence[Tensor]) -> Tensor:
    """Logarithm of the mean of probabilities that are given as logarithms."""
    return torch.stack(list(log_prob)).logsumexp(0) - math.log(len(log_prob))


def mean_presence(presence: Sequence[Tensor]) -> Tensor:
    """Logit of the mean of the probabilities that logits stand for."""
    return log_mean([F.logsigmoid(x) for x in presence]) - log_mean([F.logsigmoid(-x) for x in presence])


def mean_of_clouds(found: Sequence[Outputs], points: Callable[[Tensor], Points]) -> Outputs:
    """Mean of what networks return for clouds: of the maps, of the presence, and of the activation.

    Args:
        found: Outputs with ``logits [N, K]``; what else they have but these is left out.
        points: Makes the clouds of logits.
    """
    logits = [outputs["logits"].float() for outputs in found]
    mean = {"logits": log_mean([cloud_log_softmax(x, points(x)) for x in logits])}
    if "presence" in found[0]:
        mean["presence"] = mean_presence([outputs["presence"].float() for outputs in found])
    if "activation" in found[0]:
        mean["activation"] = torch.stack([outputs["activation"].float() for outputs in found]).mean(0)
    return mean


class MeanOfNetworks(nn.Module):
    """Networks on clouds that find the same keypoints, as one: the mean of their probability maps.

    Args:
        networks: Called as ``network(x, pos, ptr=…)``; see :func:`mean_of_clouds` for what they return.
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(
        self, x: Tensor | None, pos: Tensor, batch: Tensor | None = None, *, ptr: Tensor | None = None
    ) -> Outputs:
        """``logits`` are the logarithms of the mean probabilities; nothing is drawn."""
        batch, ptr, size = resolve_clouds(pos, batch, ptr, check=batch is not None)
        found = [network(x, pos, ptr=ptr) for network in self.networks]
        return mean_of_clouds(found, lambda logits: Points(logits, pos, None, batch, ptr, size, None))


class MeanOfGridNetworks(nn.Module):
    """Networks of maps that find the same keypoints, as one: the mean of their probability maps.

    Args:
        networks: Called as ``network(image)``, return ``logits [B, K, *spatial]``.
        columns: Whether each column has a distribution of its own, over its rows.
    """

    def __init__(self, networks: Sequence[nn.Module], *, columns: bool = False) -> None:
        super().__init__()
        self.networks, self.columns = nn.ModuleList(networks), columns

    def forward(self, image: Tensor) -> Outputs:
        """``logits`` are the logarithms of the mean probabilities."""
        maps = [network(image)["logits"].float() for network in self.networks]
        sizes = {tuple(x.shape) for x in maps}
        if len(sizes) > 1:
            raise ValueError(f"`ensemble` must have maps of one size, has {', '.join(str(list(s)) for s in sizes)}")
        if self.columns:
            return {"logits": log_mean([x.log_softmax(-2) for x in maps])}
        return {"logits": log_mean([x.flatten(2).log_softmax(-1) for x in maps]).view_as(maps[0])}


def _half(degrees: float) -> float:
    return degrees if degrees >= 180 else degrees / 2


class MeanOfVariations(nn.Module):
    """A network on clouds, asked about variations of each cloud in which points keep their identity.

    The first is the cloud itself. Each other one is scaled and moved as a variation of the training is, and turned by
    up to half as much, or in any way where the training turns clouds in any way: a cloud that stands as the most
    turned ones of the training do would else be turned farther than any of these. Its farthest points are sampled from
    another point on (the points are in another order), and every other one is mirrored, which exchanges keypoints. All
    clouds are varied alike, so that the clouds of a batch say nothing about each other, and a seed always gives the
    same variations.

    Args:
        network: Called as ``network(x, pos, ptr=…)`` without features ``x``.
        count: Number of variations.
        augment: What the training varied; ``jitter``, ``drop``, ``resample`` and ``custom`` are left out, and
            ``mirror`` too.
        mirrors: Planes to mirror at: by the axis of the normal, the keypoint that each becomes; -1 for one that is
            not looked for in mirror images.
        normalize: What brings a varied cloud back to the frame of the training, where that does.
        seed: Seed of the variations.
        up: The axis about which clouds are turned; y by default.
    """

    def __init__(
        self,
        network: nn.Module,
        count: int,
        augment: Augment,
        *,
        mirrors: Mapping[int, Sequence[int]] | None = None,
        normalize: Normalize | None = None,
        seed: int = 0,
        up: int = 1,
    ) -> None:
        super().__init__()
        self.network, self.count, self.seed, self.up = network, count, seed, up
        self.augment = replace(
            augment, mirror=0.0, jitter=0.0, drop=0.0, resample=0, custom=None,
            rotate=_half(augment.rotate), tilt=_half(augment.tilt),
        )  # fmt: skip
        self.mirrors = list((mirrors or {}).items())
        self.normalize = normalize

    def forward(
        self, x: Tensor | None, pos: Tensor, batch: Tensor | None = None, *, ptr: Tensor | None = None
    ) -> Outputs:
        """The mean over the variations; ``logits`` are the logarithms of the mean probabilities."""
        if x is not None:
            raise ValueError("`x` must be None: features cannot be varied with their points")
        batch, ptr, size = resolve_clouds(pos, batch, ptr, check=batch is not None)

        def points(logits: Tensor) -> Points:
            return Points(logits, pos, None, batch, ptr, size, None)

        plain = dict(self.network(None, pos, ptr=ptr))
        others = [self._varied(variation, points(pos), plain) for variation in range(1, self.count)]
        return mean_of_clouds([plain, *others], points)

    def _varied(self, variation: int, points: Points, plain: Outputs) -> Outputs:
        """What the network returns for a variation, its points and keypoints as in the cloud itself."""
        pos, batch, ptr = points.pos, points.batch, points.ptr
        generator = item_generator(self.seed, 0, variation)
        partner: Tensor | None = None
        if self.mirrors and variation % 2:
            axis, columns = self.mirrors[variation // 2 % len(self.mirrors)]
            partner = torch.tensor(columns, device=pos.device)
            middle = (cloud_max(pos, points) - cloud_max(-pos, points)) / 2
            pos = pos.clone()
            pos[:, axis] = 2 * middle.index_select(0, batch)[:, axis] - pos[:, axis]
        share = torch.rand((), generator=generator).item()
        pos = self.augment(Data(pos=pos, up=self.up), generator).pos
        if self.normalize is not None:
            parts = pos.split(ptr.diff().tolist())
            pos = torch.cat([self.normalize(Data(pos=part)).pos for part in parts])
        size, first = ptr.diff().index_select(0, batch), ptr.index_select(0, batch)
        place = torch.arange(len(pos), device=pos.device) - first
        order = first + (place + (share * size).long()) % size
        outputs = dict(self.network(None, pos.index_select(0, order), ptr=ptr))
        logits = torch.empty_like(outputs["logits"])
        outputs["logits"] = logits.index_copy(0, order, outputs["logits"])
        if partner is not None:
            for name in ("logits", "presence"):
                if name in outputs:
                    exchanged = outputs[name].index_select(1, partner.clamp(min=0))
                    outputs[name] = torch.where(partner >= 0, exchanged, plain[name])
        return outputs
