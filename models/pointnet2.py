"""PointNet++ on ragged batches."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from pcsa._core.checks import check_count, check_one_of, check_positive
from pcsa._core.compiling import not_compiled
from pcsa._core.points import full_precision
from pcsa._core.triton import clouds, gathers
from pcsa.models.latent_attention import LatentAttention
from pcsa.models.layers import NormKind, PointNorm, mlp
from pcsa.models.local_block import LocalBlock
from pcsa.models.point_network import resolve_clouds
from pcsa.neighbors import ball_query, farthest_points, interpolation_weights, knn, weighted_gather
from pcsa.neighbors.ragged import on_device


@dataclass(frozen=True)
class Level:
    """One set abstraction: how many points remain, and what each of them looks at.

    Args:
        num_samples: Points that remain of each cloud (all of them if it has fewer), farthest-point sampled;
            None keeps every point.
        radii: Radii of the balls around a remaining point, one per scale, in the units of ``pos``.
        num_neighbors: Maximum number of points used in each ball, the nearest ones.
        channels: Widths of each scale's shared MLP.
    """

    num_samples: int | None
    radii: tuple[float, ...]
    num_neighbors: tuple[int, ...]
    channels: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        if not len(self.radii) == len(self.num_neighbors) == len(self.channels) > 0:
            raise ValueError(
                f"`radii` {self.radii}, `num_neighbors` {self.num_neighbors} and `channels` {self.channels} "
                "must have an entry per scale"
            )
        if self.num_samples is not None:
            check_count("num_samples", self.num_samples)
        for radius, count, widths in zip(self.radii, self.num_neighbors, self.channels, strict=True):
            check_positive("radii", radius)
            check_count("num_neighbors", count)
            if not widths:
                raise ValueError(f"`channels` (={self.channels}) must have a width at every scale")


# Radii for clouds in the unit sphere, as in the paper's segmentation networks.
SINGLE_SCALE = (
    Level(512, (0.1,), (16,), ((32, 32, 64),)),
    Level(128, (0.2,), (16,), ((64, 64, 128),)),
    Level(32, (0.4,), (16,), ((128, 128, 256),)),
)
MULTI_SCALE = (
    Level(512, (0.1, 0.2), (16, 32), ((32, 32, 64), (32, 48, 64))),
    Level(128, (0.2, 0.4), (16, 32), ((64, 64, 128), (64, 96, 128))),
    Level(32, (0.4, 0.8), (16, 32), ((128, 128, 256), (128, 192, 256))),
)


class LevelGeometry(NamedTuple):
    """Where one level's points are and what they see; nothing here carries a gradient."""

    index: Tensor  # type: ignore[assignment]  # [M] rows of the level below
    ptr: Tensor  # [B + 1]
    neighbors: Tensor  # [M, k] rows of the level below, nearest first
    inside: Tensor  # [M, k, scales] within a scale's radius
    coarse: Tensor  # [N, 3] nearest points of this level, for every point of the level below
    weight: Tensor  # [N, 3] their interpolation weights
    around: Tensor  # [N, local_neighbors] nearest points of the level below, for every point of it; first level only


@not_compiled  # searches depend on the clouds' sizes: traced, each new batch compiles for minutes
@torch.no_grad()
def build_geometry(
    pos: Tensor, ptr: Tensor, levels: Sequence[Level], local_neighbors: int = 0, *, validate: bool = True
) -> list[LevelGeometry]:
    """Do every neighbor search that a :class:`PointNet2` with these ``levels`` needs.

    For one with local blocks, give its ``local_neighbors``: the nearest points of every point, itself among them.

    ``ptr`` may be on the host beside positions on a device: then, without ``validate`` (a check that positions are
    finite), nothing waits for the device.

    The result depends on the positions only. Scales share one search: neighbors come nearest first, so a
    smaller ball is a prefix of a larger one.
    """
    geometry: list[LevelGeometry] = []
    ptr = ptr.cpu()  # the searches need the sizes on the host: waited for once
    for level in levels:
        # The levels above hold points of the first.
        check = validate and not geometry
        if level.num_samples is None:
            index, coarse_ptr = torch.arange(pos.shape[0], device=pos.device), ptr
        else:
            index, coarse_ptr = farthest_points(pos, ptr, level.num_samples, validate=check)
            check = False
        centers = pos.index_select(0, index)
        neighbors, squared, valid = ball_query(
            pos, ptr, max(level.radii), max(level.num_neighbors), query=centers, query_ptr=coarse_ptr, validate=check
        )
        # Roots are compared, as in the search: a point at the radius is inside.
        largest = max(level.radii)
        scales = [valid if r == largest else valid & (squared.sqrt() <= r) for r in level.radii]
        inside = torch.stack(scales, -1) if len(scales) > 1 else valid.unsqueeze(-1)
        coarse, weight = interpolation_weights(centers, coarse_ptr, pos, ptr, validate=False)
        if local_neighbors and not geometry:
            around = knn(pos, ptr, local_neighbors, validate=False).index
        else:
            around = coarse[:, :0]
        geometry.append(LevelGeometry(index, coarse_ptr, neighbors, inside, coarse, weight, around))
        pos, ptr = centers, coarse_ptr
    # One copy to the device.
    there = on_device(torch.cat([level.ptr for level in geometry]).tolist(), pos.device).to(ptr.dtype)
    there = there.view(len(geometry), -1)
    return [level._replace(ptr=own) for level, own in zip(geometry, there, strict=True)]


class PointNet2(nn.Module):
    r"""Per-point features by PointNet++ with single- or multi-scale grouping.

    `"PointNet++: Deep Hierarchical Feature Learning on Point Sets in a Metric Space"
    <https://arxiv.org/abs/1706.02413>`_. Each set abstraction computes
    :math:`\max_j h(f_j, (x_j - x_i)/r)` over the points of a ball; feature propagation interpolates back to
    every point. The first linear layer of each shared MLP runs before grouping, which is the same algebra on
    fewer rows: :math:`W[f_j, x_j - x_i] = (W_f f_j + W_x x_j) - W_x x_i`.

    Clouds may have any sizes, also fewer points than a level keeps. Sampling starts at each cloud's first
    point, so the output is a function of the input, in train mode too (but for the statistics of batch norm).

    Args:
        in_channels: Width of the point features ``x``; 0 for none.
        levels: One :class:`Level` per set abstraction. Default :data:`SINGLE_SCALE`.
        out_channels: Width of the features returned.
        norm: ``"batch"`` (over all rows of the batch), ``"group"`` (within each row; independent of the batch)
            or ``"none"``.
        use_pos: Whether the network takes the positions as features too, so that it can tell left from right in an
            aligned frame.
        global_context: Whether to add to the coarsest level what the whole cloud looks like (its maximum over points).
        local_blocks: Number of :class:`LocalBlock` at the end, in which every point looks at its neighbors at full
            resolution: feature propagation alone gives a point what is interpolated from the first level.
        local_neighbors: Nearest points that a local block looks at, the point itself among them.
        attention_blocks: Number of :class:`LatentAttention` after them, in which every point looks at the whole cloud.
        drop_path: Probability that a cloud does without a residual branch while training, see :class:`DropPath`; of
            local and attention blocks.

    Shapes:
        - x ``[N, in_channels]`` or None, pos ``[N, 3]``, batch ``[N]`` sorted or ptr ``[B + 1]``
        - output ``[N, out_channels]``

    Differentiable in ``x``, and in ``pos`` with neighbors and interpolation weights held fixed.
    """

    def __init__(
        self,
        in_channels: int = 0,
        levels: Sequence[Level] = SINGLE_SCALE,
        out_channels: int = 128,
        *,
        norm: NormKind = "batch",
        use_pos: bool = True,
        global_context: bool = True,
        local_blocks: int = 0,
        local_neighbors: int = 16,
        attention_blocks: int = 0,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        check_count("in_channels", in_channels, least=0)
        check_count("local_blocks", local_blocks, least=0)
        check_count("local_neighbors", local_neighbors)
        check_count("attention_blocks", attention_blocks, least=0)
        if drop_path and not (local_blocks or attention_blocks):
            raise ValueError(f"`drop_path` (={drop_path}) must be 0 without `local_blocks` or `attention_blocks`")
        check_count("out_channels", out_channels)
        check_one_of("norm", norm, get_args(NormKind))
        if not levels:
            raise ValueError("`levels` must have at least one set abstraction")
        self.in_channels, self.out_channels = in_channels, out_channels
        self.levels, self.use_pos = tuple(levels), use_pos
        widths = [in_channels + 3 * use_pos]
        self.abstractions = nn.ModuleList()
        for level in self.levels:
            balls = zip(level.channels, level.radii, level.num_neighbors, strict=True)
            self.abstractions.append(nn.ModuleList(_Scale(widths[-1], c, r, k, norm) for c, r, k in balls))
            widths.append(sum(c[-1] for c in level.channels))
        self.context = mlp([widths[-1], widths[-1], widths[-1]], norm) if global_context else None
        self.propagations = nn.ModuleList()
        coarse = widths[-1]
        for level_below, fine in reversed(list(enumerate(widths[:-1]))):
            width = max(fine, out_channels) if level_below else out_channels
            self.propagations.append(_Propagation(coarse, fine, [width, width], norm))
            coarse = width
        self.local_neighbors = local_neighbors if local_blocks else 0
        radius = min(self.levels[0].radii)
        self.local_blocks = nn.ModuleList(
            LocalBlock(out_channels, radius=radius, norm=norm, drop_path=drop_path) for _ in range(local_blocks)
        )
        self.attention_blocks = nn.ModuleList(
            LatentAttention(out_channels, drop_path=drop_path) for _ in range(attention_blocks)
        )

    def forward(
        self,
        x: Float[Tensor, "N C"] | None,
        pos: Float[Tensor, "N 3"],
        batch: Int[Tensor, " N"] | None = None,
        *,
        ptr: Int[Tensor, " B_plus_1"] | None = None,
        geometry: list[LevelGeometry] | None = None,
    ) -> Float[Tensor, "N out"]:
        """Features of every point; ``geometry`` is what :func:`build_geometry` gave for these positions."""
        if pos.dim() != 2 or pos.shape[1] != 3 or not pos.shape[0]:
            raise ValueError(f"`pos` {list(pos.shape)} must be [N, 3] with at least one point")
        if (x is None) != (self.in_channels == 0) or (x is not None and x.shape != (pos.shape[0], self.in_channels)):
            raise ValueError(
                f"`x` ({None if x is None else list(x.shape)}) must be [N, {self.in_channels}] "
                f"with the N of `pos` (={pos.shape[0]}), as `in_channels` says (None for 0)"
            )
        batch, ptr, batch_size = resolve_clouds(pos, batch, ptr, check=geometry is None)
        if geometry is None:
            geometry = build_geometry(pos.detach(), ptr, self.levels, self.local_neighbors)
        elif len(geometry) != len(self.levels):
            raise ValueError(f"`geometry` has {len(geometry)} levels, must have {len(self.levels)}")
        elif geometry[0].coarse.shape[0] != pos.shape[0]:
            raise ValueError(f"`geometry` is of {geometry[0].coarse.shape[0]} points, `pos` has {pos.shape[0]}")
        elif self.local_blocks and not geometry[0].around.shape[1]:
            raise ValueError(f"`geometry` must be built with `local_neighbors` (={self.local_neighbors})")
        points = pos
        parts = ([] if x is None else [x]) + ([pos] if self.use_pos else [])
        features = [torch.cat(parts, 1) if parts else pos[:, :0]]
        for scales, level in zip(self.abstractions, geometry, strict=True):
            centers = pos.index_select(0, level.index)
            found = [
                scale(features[-1], pos, centers, level.neighbors, inside)
                for scale, inside in zip(cast(nn.ModuleList, scales), level.inside.unbind(-1), strict=True)
            ]
            features.append(torch.cat(found, 1) if len(found) > 1 else found[0])
            pos = centers
        top = features[-1]
        if self.context is not None and clouds.takes(top):
            top = clouds.plus(top, self.context(clouds.maximum(top, geometry[-1].ptr)), geometry[-1].ptr)
        elif self.context is not None:
            rows = torch.arange(top.shape[0], device=top.device)
            owner = torch.searchsorted(geometry[-1].ptr, rows, right=True) - 1
            index = owner[:, None].expand_as(top)
            largest = top.new_zeros(batch_size, top.shape[1])
            largest = largest.scatter_reduce(0, index, top, "amax", include_self=False)
            top = top + self.context(largest).index_select(0, owner)
        for propagation, level, skip in zip(
            self.propagations, reversed(geometry), reversed(features[:-1]), strict=True
        ):
            top = propagation(top, skip, level.coarse, level.weight)
        for block in self.local_blocks:
            top = block(top, points, geometry[0].around, batch, batch_size)
        for block in self.attention_blocks:
            top = block(top, batch, ptr)
        return top


class _Scale(nn.Module):
    """Shared MLP and maximum over one ball."""

    def __init__(self, in_channels: int, channels: Sequence[int], radius: float, num_neighbors: int, norm: NormKind):
        super().__init__()
        self.radius, self.num_neighbors = radius, num_neighbors
        self.of_features = nn.Linear(in_channels, channels[0], bias=False) if in_channels else None
        self.of_offset = nn.Linear(3, channels[0], bias=norm == "none")
        self.norm = PointNorm(norm, channels[0])
        self.rest = mlp(channels, norm)

    def forward(self, x: Tensor, pos: Tensor, centers: Tensor, neighbors: Tensor, inside: Tensor) -> Tensor:
        k = min(self.num_neighbors, neighbors.shape[1])
        features = None if self.of_features is None else self.of_features(x)
        if features is not None and self.of_offset.bias is None and gathers.takes(features, pos, neighbors):
            shared = (self.of_offset.weight, neighbors, inside, k, self.radius)
            return self._finished(gathers.gathered(features, pos, centers, *shared), k)
        # A slot outside the ball repeats the nearest point: the maximum does not notice.
        index = torch.where(inside[:, :k], neighbors[:, :k], neighbors[:, :1])
        # W[f_j, x_j - x_i] = (W_f f_j + W_x x_j) - W_x x_i. The positions' part cancels: not in half precision.
        with full_precision(pos):
            weight = self.of_offset.weight / self.radius
            points, origin = F.linear(pos, weight, self.of_offset.bias), F.linear(centers, weight)
        if features is not None:
            points = points + features
        h = points.index_select(0, index.flatten()).view(*index.shape, -1) - origin[:, None]
        return self._finished(h.flatten(0, 1), k)

    def _finished(self, h: Tensor, k: int) -> Tensor:
        """Run what follows the first linear layer on rows ``[M * k, C]``."""
        if not len(self.rest):
            return self.norm.activated(h, k)
        return self.rest(self.norm.activated(h), k)


class _Propagation(nn.Module):
    """Interpolation to the finer level, beside its own features, and an MLP per point."""

    def __init__(self, coarse: int, fine: int, channels: Sequence[int], norm: NormKind):
        super().__init__()
        self.of_coarse = nn.Linear(coarse, channels[0], bias=norm == "none")
        self.of_fine = nn.Linear(fine, channels[0], bias=False) if fine else None
        self.norm = PointNorm(norm, channels[0])
        self.rest = mlp(channels, norm)

    def forward(self, coarse: Tensor, fine: Tensor, index: Tensor, weight: Tensor) -> Tensor:
        # Weights sum to one, so the linear layer may come first, on the few coarse rows.
        h = self.of_coarse(coarse)
        h = weighted_gather(h, index, weight)
        if self.of_fine is not None:
            h = h + self.of_fine(fine)
        return self.rest(self.norm.activated(h))
