"""The fused kernels of the rest of a training step as they are launched, noted on tensors without values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from pcsa._core.triton import clouds, gathers, means, nearest, origins
from pcsa.scripts.bench.operator_kernels import Recorded, recorded

_META = torch.device("meta")


def step_kernels() -> Iterator[tuple[str, Recorded]]:
    """Size and launch of the kernels of clouds, balls and objectives, for 8 clouds of 2,048 points and 20 keypoints."""
    B, N, K = 8, 2048, 20

    def empty(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.empty(shape, dtype=dtype, device=_META, requires_grad=dtype.is_floating_point)

    ptr, visible = empty(B + 1, dtype=torch.long), empty(B, K, dtype=torch.bool)
    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        name = str(dtype).removeprefix("torch.")
        real = torch.promote_types(dtype, torch.float32)
        rows = empty(B * N, 128, dtype=dtype)

        def of_clouds(rows: Tensor = rows) -> None:
            clouds.plus(rows, clouds.maximum(rows, ptr), ptr).backward(torch.empty_like(rows))

        pos, weight = empty(B * 512, 3, dtype=real).detach(), empty(128, 3, dtype=real)
        near, inside = empty(B * 128, 16, dtype=torch.long), empty(B * 128, 16, dtype=torch.bool)
        table = empty(B * 512, 128, dtype=dtype)

        def of_balls(
            table: Tensor = table,
            pos: Tensor = pos,
            weight: Tensor = weight,
            near: Tensor = near,
            inside: Tensor = inside,
        ) -> None:
            out = gathers.gathered(table, pos, pos[: B * 128], weight, near, inside, 16, 0.2)
            out.backward(torch.empty_like(out))

        yield from _noted(f"{B * N:,} rows of 128, {name}", of_clouds)
        yield from _noted(f"{B * 128:,} × 16 rows of 128, {name}", of_balls)
        if dtype == torch.bfloat16:
            continue
        score, target, points = empty(B * N, K, dtype=dtype), empty(B, K, 3, dtype=dtype), empty(B * N, 3, dtype=dtype)
        presence = empty(B, K, dtype=dtype)

        def of_objectives(
            score: Tensor = score, points: Tensor = points, target: Tensor = target, presence: Tensor = presence
        ) -> None:
            each = nearest.cross_entropy(score, points.detach(), target.detach(), ptr, torch.sum)
            (means.mean(each, visible) + means.binary_cross_entropy(presence, visible)).backward()

        yield from _noted(f"B={B}, N={N:,}, K={K}, {name}", of_objectives)
    yield from _noted(f"{B * N:,} points", lambda: clouds.owners(ptr, B * N))
    for dtype in (torch.float32, torch.float64):
        points = empty(B * N, 3, dtype=dtype)
        name = str(dtype).removeprefix("torch.")
        yield from _noted(f"{B * N:,} points, {name}", partial(origins.moved, points, ptr, 4.0))
    yield from _noted(f"{B * K} numbers", lambda: means.mean(empty(B, K), None).backward())


def _noted(size: str, run: Callable[[], object]) -> Iterator[tuple[str, Recorded]]:
    with recorded() as noted:
        run()
    for one in noted:
        yield size, one
