"""Cases of the searches, PointNet++ and Skeleton Merger: against the usual dense code."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import get_args

import torch

from pcsa import neighbors
from pcsa.neighbors import Backend
from pcsa.scripts.bench import references
from pcsa.scripts.bench.config import BenchConfig
from pcsa.scripts.bench.contenders import Sizes, compare, sphere
from pcsa.scripts.bench.measure import Run, take_turns
from pcsa.scripts.bench.report import FAST, SKELETON, Result, deterministic, ratio, row


def bench_neighbors(config: BenchConfig, device: torch.device) -> list[Result]:
    """Compare searches by every backend that is installed with the usual dense code."""
    B, N, M, k, radius = 8, config.points(2048), config.points(512), 16, 0.2
    dense = sphere(B, N, device)
    pos, ptr = dense.view(-1, 3), torch.arange(0, B * N + 1, N)
    centers = references.gather(dense, references.farthest_points_loop(dense, M))
    query, query_ptr = centers.view(-1, 3), torch.arange(0, B * M + 1, M)
    searches: dict[str, Callable[..., object]] = {
        f"farthest points, {M:,}": partial(neighbors.farthest_points, pos, ptr, M),
        f"{k} nearest of each point": partial(neighbors.knn, pos, ptr, k),
        f"ball of {radius:g}, {k} of {M:,} centers": partial(
            neighbors.ball_query, pos, ptr, radius, k, query, query_ptr
        ),
        "3-nearest interpolation weights": partial(neighbors.interpolation_weights, query, query_ptr, pos, ptr),
    }
    usual: tuple[Run, ...] = (
        partial(references.farthest_points_loop, dense, M),
        partial(references.nearest_by_sort, dense, dense, k),
        partial(references.ball_query_by_sort, radius, k, dense, centers),
        partial(references.nearest_by_sort, centers, dense, 3),
    )
    rows, checks = [], []
    for (name, search), reference in zip(searches.items(), usual, strict=True):
        runs: dict[str, Run] = {"default": partial(search, validate=False), "usual dense code": reference}
        for backend in get_args(Backend):
            run = partial(search, backend=backend, validate=False)
            try:
                run()
            except ValueError:  # not installed, or not for this device
                continue
            if not (backend == "scipy" and name.startswith("farthest")):  # there it is the same as torch
                runs[backend] = run
        seconds = take_turns(runs, config.turns, device)
        rows += [row(f"{name}: {which}", times) for which, times in seconds.items()]
        checks.append(ratio(f"{name}: time / usual", seconds["default"], seconds["usual dense code"]))
    return [Result("neighbors", f"Neighbors: {B} clouds of {N:,} points", rows, checks)]


def bench_pointnet2(config: BenchConfig, device: torch.device) -> list[Result]:
    """Compare the network with the usual dense implementation of the same layers."""
    B, N = 8, config.points(2048)
    results = []
    for scales in ("single",) if config.quick else ("single", "multi"):
        ours, before, dense = (
            f"{name}, {scales} scale"
            for name in ("PointNet2, searches included", "PointNet2, searches done before", "usual dense code")
        )
        kinds = {ours: "ours", before: "precomputed", dense: "dense"}
        contenders = {
            name: ("network", {"B": B, "N": N, "kind": kind, "scales": scales}) for name, kind in kinds.items()
        }
        seconds, memory = compare(contenders, config.turns, device)
        rows = [row(name, seconds[name], memory[name]) for name in contenders]
        checks = [
            ratio(f"{scales} scale: time / dense", seconds[ours], seconds[dense], 1 / 3, FAST),
            ratio(f"{scales} scale: time / dense, searches done before", seconds[before], seconds[dense]),
            deterministic(f"{scales} scale: memory / dense", memory[ours] / max(memory[dense], 1), "×"),
        ]
        title = f"PointNet++, {scales} scale: {B} clouds of {N:,} points, forward and backward"
        results.append(Result("pointnet2", title, rows, checks))
    return results


def bench_skeleton(config: BenchConfig, device: torch.device) -> list[Result]:
    """Compare one training step of Skeleton Merger with a loop over segments with dense distances and networks."""
    B, N = 8, config.points(2048)
    K, more = (4, 8) if config.shrink > 1 else (10, 20)
    sizes: dict[str, Sizes] = {
        f"pcsa, K={K}": {"K": K, "kind": "ours", "scales": "single"},
        f"pcsa, K={more}": {"K": more, "kind": "ours", "scales": "single"},
        f"pcsa with the network of the paper's code, K={K}": {"K": K, "kind": "ours"},
        f"loop over segments and the network of the paper's code, dense, K={K}": {"K": K, "kind": "literal"},
    }
    ours, twice, same, loop = sizes
    contenders = {name: ("skeleton", {"B": B, "N": N, **own}) for name, own in sizes.items()}
    seconds, memory = compare(contenders, config.few_turns, device)
    rows = [row(name, seconds[name], memory[name]) for name in contenders]
    checks = [
        ratio(f"time / loop, K={K}", seconds[ours], seconds[loop], 1 / 8, SKELETON),
        deterministic(f"memory / loop, K={K}", memory[ours] / max(memory[loop], 1), "×", 1 / 6, SKELETON),
        ratio(f"time / loop, the same network, K={K}", seconds[same], seconds[loop]),
        deterministic(f"memory / loop, the same network, K={K}", memory[same] / max(memory[loop], 1), "×"),
        ratio(f"time K={more} / K={K}", seconds[twice], seconds[ours], 4.5, SKELETON),
    ]
    title = f"Skeleton Merger: one training step, {B} clouds of {N:,} points, soft-argmax"
    return [Result("skeleton", title, rows, checks)]
