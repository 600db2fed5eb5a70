"""What is compared: builders that make inputs and return the run, and the time and peak memory of such runs.

On a CPU the peak is that of a process beside (this module is what it runs), in which contenders run one after the
other. Each computes the same once at a tiny size (so that libraries and kernels are loaded); then the kernel's peak
counter is reset, and what comes on top of the inputs counts. On CUDA it is the peak of the allocator.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import math
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

import pcsa
from pcsa.scripts.bench import references
from pcsa.scripts.bench.measure import Run, run_module, take_turns, wait

Sizes = dict[str, Any]
"""Arguments of one of the builders, as JSON types."""
Contenders = dict[str, tuple[str, Sizes]]
"""A builder and its sizes, by the name that is shown."""
Mode = Literal["eager", "compiled", "forward"]
# A smaller peak is measured three times: pages that other load took from this process come back during a run.
_SMALL = 50_000_000


def sphere(B: int, N: int, device: torch.device) -> Tensor:
    """Draw B clouds of N points of the unit sphere, always the same."""
    torch.manual_seed(0)
    return nn.functional.normalize(torch.randn(B, N, 3), dim=-1).to(device)


def build_operator(
    device: torch.device, clouds: Sequence[int], K: int, S: int, literal: bool = False, mode: Mode = "eager"
) -> Run:
    """Run `sampling_argmax` or its literal reference at temperature 1, with the gradient to the logits unless forward.

    Clouds of one size are dense; clouds of several sizes are padded to the longest for the reference.
    """
    generator = torch.Generator().manual_seed(0)
    N, ptr = sum(clouds), None
    inputs = [2 * torch.randn(N, K, generator=generator), torch.randn(N, 3, generator=generator)]
    inputs[1] = nn.functional.normalize(inputs[1], dim=1)
    inputs.append(0.02 + 0.02 * torch.rand(N, generator=generator))
    direction = torch.randn(len(clouds), K, 1, 3, generator=generator).to(device)
    if literal or len(set(clouds)) == 1:
        pad = partial(nn.utils.rnn.pad_sequence, batch_first=True)
        inputs = [pad(x.split(list(clouds)), padding_value=-math.inf if x is inputs[0] else 0.0) for x in inputs]
    else:
        ptr = torch.tensor([0, *clouds]).cumsum(0).to(device)
    logits, pos, bandwidth = (x.to(device) for x in inputs)
    logits.requires_grad_()

    def sample(logits: Tensor) -> Tensor:
        if literal:
            return references.literal_sampling_argmax(logits, pos, bandwidth, S, 1.0)
        return pcsa.sampling_argmax(logits, pos, bandwidth, ptr=ptr, num_samples=S, validate=False)

    draw = torch.compile(sample, fullgraph=True) if mode == "compiled" else sample

    def run() -> Tensor:
        with torch.set_grad_enabled(mode != "forward"):
            samples = draw(logits)
            if mode == "forward":
                return samples
            return torch.autograd.grad(samples, logits, direction.expand_as(samples))[0]

    return run


def build_network(device: torch.device, B: int, N: int, kind: str, scales: str = "single") -> Run:
    """Run PointNet++ ("ours", "precomputed" or "dense") in training mode, forward and backward."""
    # Imported here: with it, each of the processes that measure memory would start a second later.
    from pcsa.models.pointnet2 import MULTI_SCALE, SINGLE_SCALE, PointNet2, build_geometry

    pos, ptr = sphere(B, N, device), torch.arange(0, B * N + 1, N, device=device)
    levels = SINGLE_SCALE if scales == "single" else MULTI_SCALE
    net = (references.DensePointNet2(levels) if kind == "dense" else PointNet2(levels=levels)).to(device)
    if kind == "dense":
        forward = partial(net, pos)
    else:
        rows = pos.view(-1, 3)
        geometry = build_geometry(rows, ptr, levels) if kind == "precomputed" else None
        forward = partial(net, None, rows, ptr=ptr, geometry=geometry)
    direction = torch.randn(128, device=device)

    def run() -> None:
        net.zero_grad(set_to_none=True)
        out = forward()
        out.backward(direction.expand_as(out))

    return run


def build_skeleton(device: torch.device, B: int, N: int, K: int, kind: str, scales: str = "merger") -> Run:
    """Train Skeleton Merger ("ours" or "literal") for a step: network, soft-argmax, loss, gradient and Adam."""
    # Imported here for the same reason.
    from pcsa.models.pointnet2 import PointNet2
    from pcsa.models.skeleton_merger import SkeletonMerger
    from pcsa.skeleton import composite_chamfer, skeleton_points
    from pcsa.tasks.unsupervised import LEVELS

    pos, levels = sphere(B, N, device), LEVELS[scales]
    # Keypoints far apart, as after training: the longest segments, the most points.
    anchors = nn.functional.normalize(torch.randn(K, 3), dim=-1)
    net: nn.Module
    if kind == "literal":
        net = references.LiteralSkeletonMerger(levels, K).to(device)
        loss: Callable[[], Tensor] = partial(net, pos, anchors.to(device))
    else:
        net = SkeletonMerger(PointNet2(levels=levels), K, anchors=anchors).to(device)
        rows, ptr = pos.view(-1, 3), torch.arange(0, B * N + 1, N, device=device)

        def loss() -> Tensor:
            out = net(None, rows, ptr=ptr)
            points, points_ptr = skeleton_points(out["keypoints"], out["offsets"])
            halves = composite_chamfer(points, points_ptr, out["activation"], rows, ptr=ptr, validate=False)
            return halves.fidelity + halves.coverage + 0.01 * out["offsets"].square().sum()

    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)

    def run() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss().backward()
        optimizer.step()

    return run


BUILDERS: dict[str, Callable[..., Run]] = {
    "sampler": build_operator,
    "literal": partial(build_operator, literal=True),
    "network": build_network,
    "skeleton": build_skeleton,
}


def replayed(run: Run) -> Run:
    """What replays a run that was captured as a CUDA graph: the time on the card, not that of launching."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


def literal_bytes(clouds: Sequence[int], K: int, S: int) -> int:
    """Estimate what the literal reference needs: about 14 floats per element of [B, S, K, N], N the longest."""
    return len(clouds) * max(clouds) * K * S * 4 * 14


def compare_times(
    contenders: Contenders, turns: int, device: torch.device, graphs: bool = False, **more: str
) -> dict[str, list[float]]:
    """Measure the seconds in each turn, of CUDA graphs if asked; without turns nothing is built: it may be large."""
    if not turns:
        return {name: [] for name in contenders}
    runs = {name: BUILDERS[builder](device, **sizes, **more) for name, (builder, sizes) in contenders.items()}
    return take_turns({name: replayed(run) for name, run in runs.items()} if graphs else runs, turns, device)


def compare(contenders: Contenders, turns: int, device: torch.device) -> tuple[dict[str, list[float]], dict[str, int]]:
    """Measure the seconds in each turn and the peak memory of contenders: builders and their sizes."""
    seconds = compare_times(contenders, turns, device)
    return seconds, dict(zip(contenders, peak_memory(list(contenders.values()), device), strict=True))


def peak_memory(workloads: list[tuple[str, Sizes]], device: torch.device) -> list[int]:
    """Measure the bytes at the peak of each run, built as in :func:`compare`, above what its inputs occupy."""
    if device.type == "cuda":
        return [_peak_here(builder, sizes, device) for builder, sizes in workloads]
    arguments = {"workloads": workloads, "threads": torch.get_num_threads()}
    # Every tensor of 64 kB gets pages of its own and gives them back: the peak does not depend on what lay free.
    return run_module("pcsa.scripts.bench.contenders", arguments, MALLOC_MMAP_THRESHOLD_="65536")


def _tiny(sizes: Sizes) -> Sizes:
    """Shrink a computation, but keep its path through the code: clouds stay unequal where they are."""
    if "clouds" in sizes:
        return {**sizes, "clouds": [32 + (n != sizes["clouds"][0]) for n in sizes["clouds"]], "S": 2}
    return {**sizes, "B": 2, "N": 64, **({"K": 3} if "K" in sizes else {})}


def _peak_here(builder: str, sizes: Sizes, device: torch.device) -> int:
    BUILDERS[builder](device, **_tiny(sizes))()
    peaks: list[int] = []
    while not peaks or (len(peaks) < 3 and peaks[-1] < _SMALL):
        run = BUILDERS[builder](device, **sizes)
        gc.collect()
        before = _reset_peak(device)
        run()
        wait(device)
        after = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else _resident("VmHWM")
        peaks.append(after - before)
    return min(peaks)


def _reset_peak(device: torch.device) -> int:
    """Let the peak become what is allocated now, and return it."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    with contextlib.suppress(OSError, AttributeError):  # Linux only
        libc = ctypes.CDLL(None)
        libc.prctl(41, 1, 0, 0, 0)  # PR_SET_THP_DISABLE: huge pages round by 2 MB, now up, now down
        libc.malloc_trim(0)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
        return _resident("VmRSS")
    # The peak cannot be reset: what the inputs' making took hides a smaller run.
    return _resident("VmHWM")


def _resident(field: str) -> int:
    """Bytes of this process by Linux's name; elsewhere its peak."""
    with contextlib.suppress(OSError):
        return int(Path("/proc/self/status").read_text().partition(f"{field}:")[2].split()[0]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    torch.set_num_threads(asked["threads"])
    print([_peak_here(builder, sizes, torch.device("cpu")) for builder, sizes in asked["workloads"]])
