"""Networks with their read-outs as functions of tensors alone: what :mod:`pcsa.tasks.common.exporting` writes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

import pcsa
from pcsa._core.points import Points, cloud_max, cloud_sum
from pcsa.localization import ReadOut
from pcsa.models import Level, LevelGeometry, PointNet2
from pcsa.tasks.common.clouds import Frame
from pcsa.tasks.common.config import FROM_NEIGHBORS, BandwidthConfig
from pcsa.tasks.common.searched import search_all

_FAR = 10.0  # as in pcsa.datasets.transforms


@dataclass(frozen=True)
class Program:
    """A function of tensors, and what says whether a file does the same."""

    module: nn.Module
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    example: tuple[Tensor, ...]
    """Inputs to trace it with."""
    dynamic: tuple[dict[int, str], ...]
    """Of each input, the axes of any size, by name."""
    about: dict[str, Any]
    """What stands in the file beside the graph, as JSON types."""
    checks: Callable[[], Any]
    """Inputs of several sizes, each with a word for it and what the library itself finds: a tuple of three."""


@dataclass(frozen=True)
class ReadingOf:
    """How clouds are read."""

    frame: Frame
    read_out: ReadOut
    radius: float | None
    temperature: float
    bases: BandwidthConfig = FROM_NEIGHBORS


class CloudProgram(nn.Module):
    """Keypoints of clouds in their own units.

    Args:
        network: A detector or a Skeleton Merger on :class:`pcsa.models.PointNet2`.
        reading: How its maps are read.
    """

    def __init__(self, network: nn.Module, reading: ReadingOf) -> None:
        super().__init__()
        self.network, self.reading = network, reading

    def read(
        self, points: Tensor, ptr: Tensor, searched: Callable[[Tensor], tuple[list[LevelGeometry], Tensor]]
    ) -> tuple[Tensor, ...]:
        """Normalize, score, read, and go back."""
        reading = self.reading
        batch = torch.searchsorted(ptr, torch.arange(points.shape[0]), right=True) - 1
        pos, offset, scale = normalized(points, batch, ptr, reading.frame)
        geometry, bandwidth = searched(pos)
        out = self.network(None, pos, ptr=ptr, geometry=geometry)
        logits = out["logits"]
        reach = None if reading.radius is None else (reading.radius / scale[:, 0]).to(pos)
        how: dict[str, Any] = {"ptr": ptr, "validate": False}
        found = pcsa.localize(logits, pos, bandwidth, read_out=reading.read_out, radius=reach, **how)
        position, entropy, confidence = found.position, found.entropy, found.confidence
        if reading.temperature != 1:
            sure = pcsa.localize(logits, pos, bandwidth, temperature=reading.temperature, **how)
            entropy, confidence = sure.entropy, sure.peak
            if reach is not None:
                confidence = pcsa.ball_mass(logits, pos, position, reach, temperature=reading.temperature, **how)
        scale = scale.unsqueeze(2)
        position = (position * scale + offset.unsqueeze(1)).to(points.dtype)
        covariance = (found.covariance * scale.square().unsqueeze(3)).to(points.dtype)
        more = out["presence"].sigmoid() if "presence" in out else out["activation"]
        return position, covariance, confidence, entropy, more, logits


class Searching(CloudProgram):
    """One cloud: the graph searches its neighbors."""

    def forward(self, points: Tensor) -> tuple[Tensor, ...]:
        ptr = torch.arange(2) * points.shape[0]
        return self.read(points, ptr, self._search)

    def _search(self, pos: Tensor) -> tuple[list[LevelGeometry], Tensor]:
        backbone, bases = cast(PointNet2, self.network.backbone), self.reading.bases
        geometry, near = search_all(pos, backbone.levels, backbone.local_neighbors)
        if bases.bandwidth is not None:
            return geometry, torch.full_like(near, bases.bandwidth)
        return geometry, bases.bandwidth_scale * near


class Searched(CloudProgram):
    """Several clouds: whoever runs the graph has searched, see :mod:`pcsa.exported`."""

    def forward(self, points: Tensor, ptr: Tensor, bandwidth: Tensor, *searched: Tensor) -> tuple[Tensor, ...]:
        backbone = cast(PointNet2, self.network.backbone)
        geometry = unpacked(searched, backbone.levels, bool(backbone.local_neighbors))
        return self.read(points, ptr, lambda pos: (geometry, bandwidth))


def geometry_names(levels: Sequence[Level], local: bool) -> list[str]:
    """Names of the tensors that :func:`packed` returns."""
    parts = ("index", "neighbors", "inside", "coarse", "weight")
    return [f"{part}_{i}" for i in range(len(levels)) for part in parts] + ["coarse_ptr"] + ["around"] * local


def packed(geometry: Sequence[LevelGeometry], levels: Sequence[Level], local: bool) -> list[Tensor]:
    """What a network reads of its geometry, with as many columns whatever the clouds: more repeat the nearest."""
    out: list[Tensor] = []
    for level, found in zip(levels, geometry, strict=True):
        k = max(level.num_neighbors)
        out += [found.index, _widened(found.neighbors, k), _filled(found.inside, k)]
        out += [_widened(found.coarse, 3), _filled(found.weight, 3)]
    return [*out, geometry[-1].ptr, *([geometry[0].around] if local else [])]


def unpacked(tensors: Sequence[Tensor], levels: Sequence[Level], local: bool) -> list[LevelGeometry]:
    """What :func:`packed` took apart."""
    ptr = tensors[5 * len(levels)]
    out = []
    for i in range(len(levels)):
        index, neighbors, inside, coarse, weight = tensors[5 * i : 5 * i + 5]
        around = tensors[-1] if local and not i else coarse[:, :0]
        out.append(LevelGeometry(index, ptr, neighbors, inside, coarse, weight, around))
    return out


def _widened(index: Tensor, width: int) -> Tensor:
    return torch.cat([index, index[:, :1].expand(-1, width - index.shape[1])], 1)


def _filled(values: Tensor, width: int) -> Tensor:
    return torch.cat([values, values.new_zeros(len(values), width - values.shape[1], *values.shape[2:])], 1)


def normalized(points: Tensor, batch: Tensor, ptr: Tensor, frame: Frame) -> tuple[Tensor, Tensor, Tensor]:
    """Clouds as :class:`pcsa.datasets.transforms.Normalize` has them, float32, with offset [B, 3] and scale [B, 1].

    Sums are float64, so that a cloud is the same to the last digit wherever the graph runs.
    """
    p = points.double()
    clouds = Points(p, p, None, batch, ptr, ptr.numel() - 1, None)

    def spread(values: Tensor) -> Tensor:
        return values.index_select(0, batch)

    def middle(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        lowest, highest = low.amin(1, keepdim=True), high.amax(1, keepdim=True)
        return (lowest + highest) / 2, (highest - lowest) / 2

    if frame == "unit_sphere":
        offset = cloud_sum(p, clouds) / ptr.diff().unsqueeze(1)
        scale = cloud_max((p - spread(offset)).norm(dim=1, keepdim=True), clouds)
    else:
        low, high = -cloud_max(-p, clouds), cloud_max(p, clouds)
        offset, scale = middle(low, high)
        side = (high - low).amax(1, keepdim=True)
        # Far off, the range is that of the cloud's place, and leaves the shape no digits.
        center = (low + high) / 2
        own = p - spread(center)
        shift, own_scale = middle(-cloud_max(-own, clouds), cloud_max(own, clouds))
        far = (2 * scale > _FAR * side) & (side > 0)
        offset = torch.where(far, center + shift, offset.expand(-1, 3))
        scale = torch.where(far, own_scale, scale)
    scale = torch.where(scale > 0, scale, 1.0)
    return ((p - spread(offset)) / spread(scale)).float(), offset, scale


class MapProgram(nn.Module):
    """Keypoints of images, volumes or scans of one size, in pixels of the input.

    Args:
        network: A network of maps.
        read: From maps and the size of the input to positions, peaks and confidences.
    """

    def __init__(self, network: nn.Module, read: Callable[[Tensor, Sequence[int]], Any]) -> None:
        super().__init__()
        self.network, self.read = network, read

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        maps = self.network(image)["logits"].float()
        found = self.read(maps, image.shape[2:])
        return found.position, found.confidence, maps
