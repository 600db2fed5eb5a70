"""Per-point bandwidths from neighbor distances, round or along the surface."""

import math
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pcsa._core.checks import (
    check_between,
    check_count,
    check_floating,
    check_mask,
    check_positive,
    check_shape,
    check_tensor,
    finite,
    raise_first,
    reads_values,
)
from pcsa._core.data import Cloud, unpacked
from pcsa._core.places import first_in_place
from pcsa._core.points import full_precision, resolve_batch, working_dtype
from pcsa._core.transforms import refuse_vmap
from pcsa._core.triangular import cholesky, lower_entries, lower_matrix
from pcsa.neighbors import knn

# A direction belongs to the surface if neighbors vary in it by a tenth more of the largest variance than across.
_TANGENT = 10.0
# cuSOLVER's batched eigensolver refuses more than some 32,000 matrices at once.
_MOST_MATRICES = 1 << 14


def knn_bandwidth(
    pos: Float[Tensor, "*N D"] | Cloud,
    batch: Int[Tensor, " N"] | None = None,
    *,
    ptr: Int[Tensor, " B_plus_1"] | None = None,
    k: int | None = None,
    scale: float = 1.0,
    mask: Bool[Tensor, "B N"] | None = None,
    batch_size: int | None = None,
    validate: bool = True,
) -> Float[Tensor, "*N"]:
    r"""Standard deviation of each point's basis from the distances to its neighbors.

    .. math:: \sigma_i = s \cdot \frac{1}{k} \sum_{j \in \mathrm{kNN}(i)} \lVert y_i - y_j \rVert

    With k = D, this is exactly the spacing c at every point of an isotropic regular grid, its corners included:
    the :math:`\sigma = c` of `"Localization with Sampling-Argmax" <https://arxiv.org/abs/2110.08825>`_, Eq. 9.

    The neighbors are the k nearest *places* other than the point's own: points in exactly the same place (invalid
    pixels at the origin, padding, a point that several scans share) count as one, so that copies change no bandwidth,
    and have that of a single point there. Points that rounding has moved apart are not copies.

    A cloud with no more than k places uses the neighbors there are. Never below
    :math:`\max(10^{-6} \cdot` the cloud's extent, the smallest normal number :math:`)`, so that all-equal points and
    one-point clouds have a positive bandwidth.

    Differentiable in ``pos``, with the neighbors held fixed; the first of some copies stands for them and gets their
    gradient. At the floor it is zero. The search reads the sizes of the clouds: call it outside of code compiled with
    ``fullgraph=True``, and hand the result over.

    Args:
        pos: Positions: ragged ``[N, D]`` or dense ``[B, N, D]``; or a PyTorch Geometric ``Data`` or ``Batch`` that has
            them, with its ``ptr`` or ``batch``.
        batch: Cloud of each point, sorted; without ``batch`` and ``ptr`` there is one cloud.
        ptr: Where each cloud begins, then N; instead of ``batch``.
        k: Number of neighbors; default D.
        scale: Factor s. Default 1. Positive.
        mask: True at the points of dense input that exist; the others are nobody's neighbors, and their bandwidth is 1.
        batch_size: Number of clouds; see :func:`pcsa.sampling_argmax`.
        validate: Check values (finite, sorted, no empty cloud) too.

    Returns:
        Bandwidths ``[N]`` or ``[B, N]`` in the units of ``pos``.

    Raises:
        ValueError: Naming the argument, its value and the rule.

    Example:
        >>> knn_bandwidth(torch.tensor([[0.0], [2.0], [3.0]]))
        tensor([2., 1., 1.])
    """
    pos, batch, ptr = unpacked(pos, batch, ptr)
    check_tensor("pos", pos)
    if pos.dim() not in (2, 3) or not pos.is_floating_point() or pos.shape[-1] == 0:
        raise ValueError(f"`pos` {list(pos.shape)} ({pos.dtype}) must be floating point [N, D] or [B, N, D]")
    if pos.numel() == 0:
        raise ValueError(f"`pos` {list(pos.shape)} must have at least one point")
    if pos.dim() == 3:
        if batch is not None or ptr is not None or batch_size not in (None, len(pos)):
            raise ValueError(
                "`batch`, `ptr` and `batch_size` are for ragged `pos` [N, D]; dense `pos` [B, N, D] takes `mask`"
            )
        return _of_dense(pos, mask, k=k, scale=scale, validate=validate)
    if mask is not None:
        raise ValueError(f"`mask` is for dense `pos` [B, N, D]; ragged `pos` {list(pos.shape)} has none")
    if k is not None:
        check_count("k", k)
    check_positive("scale", scale)
    check = reads_values(validate)
    batch, ptr, batch_size, rules = resolve_batch(
        pos.shape[0], pos.device, batch=batch, ptr=ptr, batch_size=batch_size, check=check
    )
    if check:
        raise_first([*rules, finite("pos", pos)])
    with full_precision(pos):
        pos = pos.to(working_dtype(pos))
        squared, valid, _ = _neighbor_places(pos, batch, ptr, k or pos.shape[1])
        # The root's slope is infinite at 0, where squares of tiny distances may end.
        apart = valid & (squared > 0)
        distance = torch.where(apart, squared, 1.0).sqrt() * apart
        mean = distance.sum(1) / valid.sum(1).clamp_min(1)
        index = batch[:, None].expand_as(pos)
        fill = pos.new_full((batch_size, pos.shape[1]), math.inf)
        low = fill.scatter_reduce(0, index, pos.detach(), "amin")
        high = (-fill).scatter_reduce(0, index, pos.detach(), "amax")
        floor = (1e-6 * (high - low).norm(dim=1)).clamp_min(torch.finfo(pos.dtype).tiny)
        return torch.maximum(scale * mean, floor.index_select(0, batch))


def surface_bandwidth(
    pos: Float[Tensor, "*N D"] | Cloud,
    batch: Int[Tensor, " N"] | None = None,
    *,
    ptr: Int[Tensor, " B_plus_1"] | None = None,
    bandwidth: float | Float[Tensor, "*N"] | None = None,
    normal: float = 0.1,
    k: int = 12,
    mask: Bool[Tensor, "B N"] | None = None,
    batch_size: int | None = None,
    validate: bool = True,
) -> Float[Tensor, "*N D D"]:
    r"""Bases along the surface: for each point a factor of its covariance, so that samples stay on the surface.

    With :math:`\lambda_1 \ge \dots \ge \lambda_D` and :math:`u_d` the principal variances and directions of the point
    and its k nearest neighbors, :math:`x_d = \lambda_d / \lambda_1`, and :math:`\sigma` the point's bandwidth,

    .. math::
        C = \sigma^2 \sum_d s_d^2\, u_d u_d^\top, \qquad
        s_d^2 = \rho^2 + (1 - \rho^2) \max(\min(1, 10 (x_d - x_D)),\, 2 x_D - 1,\, 0)

    On a surface that is :math:`\sigma` in all directions of the tangent plane, at its border too, and
    :math:`\rho \sigma` across it; on a line, :math:`\rho \sigma` in all directions across. Where neighbors spread about
    alike in all directions there is no surface, and the basis becomes round; so it is in a cloud of one place. C is a
    continuous function of the neighbors' covariance: where directions are as good as each other none is preferred, and
    with the cloud the bases turn, too.

    Neighbors are the nearest places as for :func:`knn_bandwidth`. Differentiable in ``bandwidth``, and through its
    default in ``pos``; the directions are held fixed. Where several neighbors are equally far and no more fit into k,
    which of them count is left to the search.

    Args:
        pos: Positions: ragged ``[N, D]`` or dense ``[B, N, D]``; or a PyTorch Geometric ``Data`` or ``Batch`` that has
            them, with its ``ptr`` or ``batch``.
        batch: Cloud of each point, sorted; without ``batch`` and ``ptr`` there is one cloud.
        ptr: Where each cloud begins, then N; instead of ``batch``.
        bandwidth: Standard deviation :math:`\sigma` along the surface, in the units of ``pos``: a number, or one for
            each point. Default :func:`knn_bandwidth`.
        normal: Standard deviation :math:`\rho` across the surface, as a share of the one along it: above 0, at most 1.
            At 1 all bases are round. Default 0.1.
        k: Number of neighbors that say how the surface lies. Default 12.
        mask: True at the points of dense input that exist; the matrices of the others are the identity.
        batch_size: Number of clouds; see :func:`pcsa.sampling_argmax`.
        validate: Check values (finite, sorted, no empty cloud) too.

    Returns:
        Lower-triangular factors A ``[N, D, D]`` or ``[B, N, D, D]`` of the covariances :math:`C = A A^\top`, in the
        units of ``pos``: the ``bandwidth`` of :func:`pcsa.sampling_argmax`, of the likelihood and of the closed forms.

    Raises:
        ValueError: Naming the argument, its value and the rule.

    Example:
        >>> plane = torch.cartesian_prod(torch.arange(3.0), torch.arange(3.0), torch.zeros(1))
        >>> surface_bandwidth(plane, normal=0.25)[4]
        tensor([[1.0000, 0.0000, 0.0000],
                [0.0000, 1.0000, 0.0000],
                [0.0000, 0.0000, 0.2500]])
    """
    check_count("k", k)
    check_between("normal", normal, 0, 1, "(]")
    pos, batch, ptr = unpacked(pos, batch, ptr)
    check_tensor("pos", pos)
    if bandwidth is None:
        bandwidth = knn_bandwidth(pos, batch, ptr=ptr, mask=mask, batch_size=batch_size, validate=validate)
    elif isinstance(bandwidth, Tensor):
        check_floating("bandwidth", bandwidth)
        check_shape("bandwidth", bandwidth, pos.shape[:-1])
    else:
        check_positive("bandwidth", bandwidth)
    if pos.dim() == 3:
        if batch is not None or ptr is not None or batch_size not in (None, len(pos)):
            raise ValueError(
                "`batch`, `ptr` and `batch_size` are for ragged `pos` [N, D]; dense `pos` [B, N, D] takes `mask`"
            )
        kept = pos.new_ones(pos.shape[:2], dtype=torch.bool) if mask is None else mask
        check_mask("mask", kept, pos.shape[:2])
        ends = kept.sum(1).cumsum(0)
        sigma = bandwidth[kept] if isinstance(bandwidth, Tensor) else bandwidth
        options: dict[str, Any] = {"bandwidth": sigma, "normal": normal, "k": k, "validate": validate}
        ragged = surface_bandwidth(pos[kept], ptr=torch.cat([ends.new_zeros(1), ends]), **options)
        out = torch.eye(pos.shape[-1], dtype=ragged.dtype, device=pos.device).repeat(*pos.shape[:2], 1, 1)
        return out.masked_scatter(kept[..., None, None], ragged)
    if mask is not None:
        raise ValueError(f"`mask` is for dense `pos` [B, N, D]; ragged `pos` {list(pos.shape)} has none")
    if pos.dim() != 2 or not pos.is_floating_point() or pos.numel() == 0:
        raise ValueError(f"`pos` {list(pos.shape)} ({pos.dtype}) must be floating point [N, D] or [B, N, D], not empty")
    check = reads_values(validate)
    batch, ptr, batch_size, rules = resolve_batch(
        pos.shape[0], pos.device, batch=batch, ptr=ptr, batch_size=batch_size, check=check
    )
    if check:
        if isinstance(bandwidth, Tensor):
            good = (bandwidth > 0) & bandwidth.isfinite()
            rules.append((good.all(), "`bandwidth` must be positive and finite everywhere"))
        raise_first([*rules, finite("pos", pos)])
    with full_precision(pos):
        shape = _local_shape(pos.detach().to(working_dtype(pos)), batch, ptr, k, normal)
        if isinstance(bandwidth, Tensor):
            bandwidth = bandwidth.to(shape.dtype).view(-1, 1, 1)
        return bandwidth * shape


@torch.no_grad()
def _local_shape(pos: Tensor, batch: Tensor, ptr: Tensor, k: int, normal: float) -> Tensor:
    """Factors ``[N, D, D]`` of covariances whose widest direction has the deviation 1."""
    _, valid, index = _neighbor_places(pos, batch, ptr, k)
    near = torch.where(valid.unsqueeze(-1), pos[index] - pos.unsqueeze(1), 0.0)
    # In units of the farthest: squares of tiny distances would be 0.
    reach = near.abs().amax((1, 2), keepdim=True)
    near = near / torch.where(reach > 0, reach, 1.0)
    # With the point itself, at 0.
    count = valid.sum(1)[:, None, None] + 1
    mean = near.sum(1, keepdim=True) / count
    second = near.mT @ near / count - mean.mT * mean
    parts = [torch.linalg.eigh(part) for part in second.split(_MOST_MATRICES)]
    variance, directions = (torch.cat(x) for x in zip(*parts, strict=True))
    widest = variance[:, -1:]
    # Rounding leaves negative ones.
    share = torch.where(widest > 0, variance / torch.where(widest > 0, widest, 1.0), 1.0).clamp_min(0.0)
    least = share[:, :1]
    along = torch.maximum((_TANGENT * (share - least)).clamp(max=1.0), (2 * least - 1).clamp(min=0.0))
    square = normal**2 + (1 - normal**2) * along
    covariance = (directions * square.unsqueeze(1)) @ directions.mT
    entries = [covariance[:, d, e] for d, e in lower_entries(pos.shape[1])]
    return lower_matrix(cholesky(torch.stack(entries, 1)))


def _neighbor_places(pos: Tensor, batch: Tensor, ptr: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """Squared distances ``[N, k]`` to the k nearest other places, nearest first, which slots hold one, and its row."""
    refuse_vmap("searches for neighbors")
    first = first_in_place(pos, batch)
    is_first = first == torch.arange(len(pos), device=pos.device)
    # Read with what the search reads anyway: one wait for the device.
    *bounds, no_copies = torch.cat([ptr, is_first.all()[None]]).tolist()
    ptr = torch.tensor(bounds)
    if no_copies:
        found = knn(pos, ptr, k, exclude_self=True, validate=False)
        return found.sq_distance, found.valid, found.index
    rows = is_first.nonzero()[:, 0]
    found = knn(pos.index_select(0, rows), torch.searchsorted(rows.cpu(), ptr), k, exclude_self=True, validate=False)
    place = (is_first.cumsum(0) - 1).index_select(0, first)
    squared, valid, index = (x.index_select(0, place) for x in (found.sq_distance, found.valid, rows[found.index]))
    return squared, valid, index


def _of_dense(pos: Tensor, mask: Tensor | None, **options: Any) -> Tensor:
    B, N, _ = pos.shape
    if mask is None:
        return knn_bandwidth(pos.flatten(0, 1), ptr=torch.arange(B + 1, device=pos.device) * N, **options).view(B, N)
    check_mask("mask", mask, (B, N))
    ends = mask.sum(1).cumsum(0)
    kept = torch.cat([ends.new_zeros(1), ends])
    ragged = knn_bandwidth(pos[mask], ptr=kept, **options)
    return ragged.new_ones(B, N).masked_scatter(mask, ragged)
