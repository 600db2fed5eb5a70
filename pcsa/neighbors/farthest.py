"""Farthest point sampling."""

import itertools
import math
import numbers
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from pcsa._core.checks import check_between, check_count, check_generator, check_index, shown
from pcsa._core.data import Cloud, unpacked
from pcsa.neighbors.backends.choice import choose
from pcsa.neighbors.backends.contract import Backend, Start
from pcsa.neighbors.ragged import Clouds, for_search, on_device, read_ragged


def farthest_points(
    pos: Float[Tensor, "N D"] | Cloud,
    ptr: Int[Tensor, " B_plus_1"] | None = None,
    num_samples: int | float | Int[Tensor, " B"] | None = None,
    *,
    batch: Int[Tensor, " N"] | None = None,
    random_start: bool = False,
    generator: Generator | None = None,
    backend: Backend | None = None,
    validate: bool = True,
) -> tuple[Int[Tensor, " M"], Int[Tensor, " B_plus_1"]]:
    """Choose points that are far from each other, by farthest point sampling in each cloud.

    Each next point is the one farthest from those chosen before it, as in `PointNet++
    <https://arxiv.org/abs/1706.02413>`_. A point is chosen at most once: where only duplicates of chosen
    points are left, they follow in the order of their rows. Ties go to the lowest row.

    Args:
        pos: Positions ``[N, D]``, or what has them, see :mod:`pcsa.neighbors`.
        ptr: Where each cloud begins, then N; an empty cloud gives no points.
        num_samples: An int is that many points of each cloud, or all of a cloud that has fewer. A float in
            (0, 1] is the share of each cloud, rounded up. An int tensor ``[B]`` is a number for each cloud (on
            the CPU, to avoid a wait for the device).
        batch: Cloud of each point, sorted; instead of ``ptr``.
        random_start: Start at a random point of each cloud instead of its first. Default false.
        generator: Source of the random start; default torch's own.
        backend: See :mod:`pcsa.neighbors`. Default: on CUDA ``"triton"`` or a compiled one where installed, else
            ``"torch"``.
        validate: Check that ``pos`` is finite too; costs one synchronization on an accelerator.

    Returns:
        Rows of ``pos`` in the order of their choice, cloud by cloud, ``[M]``, and their ``ptr [B + 1]`` (on the
        device of the given one, else of ``pos``).

    Raises:
        ValueError: Naming the argument, its value and the rule.

    Example:
        >>> pos = torch.tensor([[0.0], [1.0], [2.0], [9.0]])
        >>> farthest_points(pos, torch.tensor([0, 4]), 3)
        (tensor([0, 3, 2]), tensor([0, 3]))
    """
    check_generator("generator", generator)
    if num_samples is None:
        raise ValueError("`num_samples` (=None) must be a number of points, or a share of each cloud")
    pos, batch, ptr = unpacked(pos, batch, ptr)
    clouds = read_ragged(Clouds(pos, ptr, batch), validate)
    sizes = clouds.sizes
    counts = _counts(num_samples, sizes)
    out_bounds = [0, *itertools.accumulate(counts)]
    ptr_out = on_device(out_bounds, pos.device) if ptr is None else on_device(out_bounds, ptr.device).to(ptr.dtype)
    if out_bounds[-1] == 0:
        return torch.empty(0, dtype=torch.long, device=pos.device), ptr_out

    starts = [0] * len(sizes)
    if random_start:
        device = generator.device if generator is not None else "cpu"
        draws = torch.rand(len(sizes), generator=generator, device=device, dtype=torch.float64)
        starts = [int(u * size) for u, size in zip(draws.tolist(), sizes, strict=True)]

    wanted = [Start(*cloud) for cloud in zip(clouds.bounds, sizes, counts, starts, strict=False) if cloud[2] > 0]
    searcher = choose(backend, "farthest", pos, max(sizes))
    return searcher.distinct_farthest(for_search(pos), wanted), ptr_out


def _counts(num_samples: int | float | Tensor, sizes: list[int]) -> list[int]:
    if isinstance(num_samples, Tensor):
        check_index("num_samples", num_samples, [len(sizes)])
        wanted = num_samples.tolist()
        if min(wanted, default=1) < 1:
            raise ValueError(f"`num_samples` (={shown(wanted)}) must be at least 1 for each cloud")
    elif isinstance(num_samples, numbers.Real) and not isinstance(num_samples, numbers.Integral):
        check_between("num_samples", num_samples, 0, 1, "(]")
        # Less a little, for 0.07 × 100 is 7.000000000000001 and means 7.
        wanted = [math.ceil(float(num_samples) * size * (1 - 1e-12)) for size in sizes]
    else:
        check_count("num_samples", cast(int, num_samples))
        wanted = [num_samples] * len(sizes)
    return [min(int(count), size) for count, size in zip(wanted, sizes, strict=True)]
