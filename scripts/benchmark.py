"""``pcsa bench``: time and memory of the package against what it replaces, and against the machine.

Times are wall times of repeats that take turns (A B A B …), so that a busy moment falls on all of them alike; a
ratio is the median of the ratios turn by turn. Peak memory on a CPU is that of the process: each measurement runs in
a process of its own, which computes the same once at a tiny size (so that libraries and kernels are loaded), hands
free memory back, resets the kernel's peak counter, and then counts from what the inputs occupy. On CUDA it is that of
the allocator.
"""

from __future__ import annotations

import contextlib
import ctypes
import datetime
import gc
import json
import logging
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import torch
import tyro
from torch import Tensor

import pcsa
from pcsa.neighbors import Backend
from pcsa.scripts import _references as references
from pcsa.scripts._report import duration, format_report, plot, size, split_page, write_page

Case = Literal[
    "limits",
    "operator",
    "compiled",
    "ragged",
    "scan",
    "neighbors",
    "pointnet2",
    "skeleton",
    "data",
    "step",
    "launches",
    "scaling",
]
CASES: tuple[Case, ...] = get_args(Case)
Run = Callable[[], object]


@dataclass(frozen=True)
class BenchConfig:
    """Measure time and memory on this machine. Everything takes about ten minutes, `--quick` less than one."""

    cases: Annotated[tuple[Case, ...], tyro.conf.Positional] = ()
    """Default all; with `--quick` all but compiled and scaling."""
    quick: bool = False
    """Fewer repeats and shorter curves; the scan is a tenth as large."""
    threads: int = 1
    """Of torch, on the CPU."""
    repeats: int | None = None
    """Turns of each timing; default 9, with `--quick` 3."""
    device: str = "cpu"
    """cpu or cuda."""
    root: Path | None = None
    """Folder in KeypointNet's layout, for data and step. Default the folder `keypointnet` in $PCSA_TEST_DATA, else
    procedural clouds."""
    num_workers: int = 1
    """Processes that load beside the training, in the case step."""
    memory_budget: float = 2.0
    """Gigabytes. A literal reference that needs more is left out."""
    shrink: int = 1
    """Divide every number of points by this: to try the command out. Targets do not apply then."""
    out: Path | None = None
    """Write everything here, as JSON."""
    plot: Path | None = None
    """Draw the curves of scaling here, as PNG."""
    markdown: Path | None = None
    """Replace the tables between the marks `pcsa bench: begin` and `end` in this file."""

    def __post_init__(self) -> None:
        for name, value in (("threads", self.threads), ("shrink", self.shrink), ("repeats", self.turns)):
            if value < 1:
                raise ValueError(f"`{name}` (={value}) must be at least 1")
        if self.num_workers < 1:
            raise ValueError(f"`num-workers` (={self.num_workers}) must be at least 1")
        if self.plot is not None and "scaling" not in self.selected:
            raise ValueError(f"`plot` (={str(self.plot)!r}) shows the curves of the case scaling: add it to the cases")
        if not self.memory_budget >= 0:
            raise ValueError(f"`memory-budget` (={self.memory_budget}) must not be negative")

    @property
    def selected(self) -> tuple[Case, ...]:
        """The cases to run, in their order."""
        chosen = self.cases or tuple(c for c in CASES if not (self.quick and c in ("compiled", "scaling")))
        return tuple(c for c in CASES if c in chosen)

    @property
    def turns(self) -> int:
        """How often each run is timed."""
        return self.repeats if self.repeats is not None else 3 if self.quick else 9

    def points(self, number: int) -> int:
        """A number of points, shrunk."""
        return max(number // self.shrink, 8)


def main(argv: list[str]) -> int:
    """Parse options, measure, print the tables."""
    if argv[:1] in (["--memory-of"], ["--start-of"]):  # the process of one measurement, started by `_in_process`
        here = _peak_memory_here if argv[0] == "--memory-of" else _start_here
        print(json.dumps(here(**json.loads(argv[1]))))
        return 0
    config = tyro.cli(BenchConfig, args=argv, prog="pcsa bench")
    # Found out now rather than after ten minutes.
    for name, path in (("out", config.out), ("plot", config.plot)):
        if path is not None and not path.parent.is_dir():
            raise FileNotFoundError(f"`{name}` (={str(path)!r}) must lie in a folder that exists")
    if config.markdown is not None:
        split_page(config.markdown)
    report = bench(config, log=lambda line: print(line, file=sys.stderr, flush=True))
    print(format_report(report))
    for path in write(report, config):
        print(f"written: {path}")
    return 0


def bench(config: BenchConfig, log: Callable[[str], None] = lambda line: None) -> dict[str, Any]:
    """Everything that is printed and written, as JSON types.

    ``results`` lists the cases: each has ``rows`` (time and memory of each contender) and ``checks`` (ratios and
    limits, with their targets). ``curves`` holds the curves of the case scaling.
    """
    if config.device.partition(":")[0] not in ("cpu", "cuda"):
        raise ValueError(f"`device` (={config.device!r}) must be cpu or cuda")
    device = torch.device(config.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"`device` (={config.device!r}) is not available: torch finds no CUDA device")
    threads_before = torch.get_num_threads()
    torch.set_num_threads(config.threads)
    report: dict[str, Any] = {"machine": describe_machine(device, config.threads), "results": [], "curves": []}
    report["settings"] = {"repeats": config.turns, "quick": config.quick, "shrink": config.shrink}
    functions: dict[str, Callable[[BenchConfig, torch.device], list[dict[str, Any]]]] = {
        "limits": bench_limits,
        "operator": bench_operator,
        "compiled": bench_compiled,
        "ragged": bench_ragged,
        "scan": bench_scan,
        "neighbors": bench_neighbors,
        "pointnet2": bench_pointnet2,
        "skeleton": bench_skeleton,
        "data": bench_data,
        "step": bench_step,
        "launches": bench_launches,
    }
    try:
        for case in config.selected:
            start = time.perf_counter()
            if case == "scaling":
                report["curves"] = bench_scaling(config, device, log)
            else:
                report["results"] += functions[case](config, device)
            log(f"{case}: {time.perf_counter() - start:.0f} s")
    finally:
        torch.set_num_threads(threads_before)
    report["machine"]["load_after"] = _load()
    return report


# --- measuring ---------------------------------------------------------------------------------------------


def take_turns(runs: dict[str, Run], turns: int, device: torch.device) -> dict[str, list[float]]:
    """Seconds of each run in each turn; runs of less than 10 ms are repeated within their turn."""
    inner = {}
    for name, run in runs.items():
        run()
        inner[name] = max(1, math.ceil(0.01 / max(_seconds(run, 1, device), 1e-6)))
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(turns):
        for name, run in runs.items():
            seconds[name].append(_seconds(run, inner[name], device))
    return seconds


def _seconds(run: Run, times: int, device: torch.device) -> float:
    _wait(device)
    start = time.perf_counter()
    for _ in range(times):
        run()
    _wait(device)
    return (time.perf_counter() - start) / times


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_memory(function: str, sizes: dict[str, Any], tiny: dict[str, Any], device: torch.device) -> int:
    """Bytes at the peak of one call of ``BUILDERS[function]`` above what its inputs occupy; see the module."""
    spec: dict[str, Any] = {"function": function, "sizes": sizes, "tiny": tiny, "device": str(device)}
    spec["threads"] = torch.get_num_threads()
    if device.type == "cuda":
        return _peak_memory_here(**spec)
    return int(_in_process("--memory-of", spec))


def _in_process(what: str, spec: dict[str, Any]) -> float:
    command = [sys.executable, "-m", "pcsa.scripts.benchmark", what, json.dumps(spec)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"measuring {what[2:].replace('-', ' ')} {spec} failed: {done.stderr.strip()[-2000:]}")
    return float(json.loads(done.stdout.splitlines()[-1]))


def _peak_memory_here(function: str, sizes: dict[str, Any], tiny: dict[str, Any], device: str, threads: int) -> int:
    torch.set_num_threads(threads)
    where = torch.device(device)
    BUILDERS[function](where, **tiny)()
    run = BUILDERS[function](where, **sizes)
    gc.collect()
    if where.type == "cuda":
        torch.cuda.reset_peak_memory_stats(where)
        before = torch.cuda.memory_allocated(where)
        run()
        _wait(where)
        return torch.cuda.max_memory_allocated(where) - before
    with contextlib.suppress(OSError, AttributeError):  # Linux only
        libc = ctypes.CDLL(None)
        libc.prctl(41, 1, 0, 0, 0)  # PR_SET_THP_DISABLE: huge pages round by 2 MB, now up, now down
        libc.malloc_trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak becomes what is resident now
        before = _status("VmRSS")
        run()
        return _status("VmHWM") - before
    except OSError:
        # Elsewhere the peak cannot be reset: what the inputs' making took hides a smaller run.
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        run()
        return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {field}")


def describe_machine(device: torch.device, threads: int) -> dict[str, Any]:
    """What the figures depend on."""
    cpu = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                cpu = line.split(":", 1)[1].strip()
                break
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": cpu,
        "cores": usable,
        "threads": threads,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "pcsa": pcsa.__version__,
        "device": device.type if device.type == "cpu" else torch.cuda.get_device_name(device),
        "load_before": _load(),
    }


def _load() -> float | None:
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def _row(
    what: str, times: Sequence[float], memory: int | None = None, note: str = "", unit: str = "s"
) -> dict[str, Any]:
    return {"what": what, "unit": unit, **_spread(times), "memory_bytes": memory, "note": note}


def _spread(values: Sequence[float]) -> dict[str, float]:
    """Median and quartiles."""
    if len(values) < 2:
        return {"median": values[0], "low": values[0], "high": values[0]}
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": median, "low": low, "high": high}


def _ratio(what: str, ours: Sequence[float], theirs: Sequence[float], target: float | None = None) -> dict[str, Any]:
    """How many times of theirs, turn by turn."""
    return {"what": what, "unit": "×", **_spread([a / b for a, b in zip(ours, theirs, strict=True)]), "target": target}


def _check(what: str, value: float, unit: str, target: float | None = None) -> dict[str, Any]:
    return {"what": what, "unit": unit, **_spread([value]), "target": target}


def _result(case: str, title: str, rows: list[dict[str, Any]], checks: list[dict[str, Any]]) -> dict[str, Any]:
    return {"case": case, "title": title, "rows": rows, "checks": checks}


# --- what is measured: functions that build the inputs and return the run, for this process and for another ----


def _clouds(device: torch.device, clouds: Sequence[int], K: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Logits, positions, bandwidths, ptr and the gradient's direction for S = 1, of ragged clouds."""
    generator = torch.Generator().manual_seed(0)
    N = sum(clouds)
    logits = (2 * torch.randn(N, K, generator=generator)).to(device).requires_grad_()
    pos = torch.nn.functional.normalize(torch.randn(N, 3, generator=generator), dim=1).to(device)
    bandwidth = (0.02 + 0.02 * torch.rand(N, generator=generator)).to(device)
    ptr = torch.tensor([0, *clouds]).cumsum(0).to(device)
    return logits, pos, bandwidth, ptr, torch.randn(len(clouds), K, 1, 3, generator=generator).to(device)


def build_sampler(
    device: torch.device, clouds: Sequence[int], K: int, S: int, compiled: bool = False, backward: bool = True
) -> Run:
    """`sampling_argmax` at temperature 1 with its gradient to the logits; dense for clouds of one size."""
    logits, pos, bandwidth, ptr, direction = _clouds(device, clouds, K)
    B, dense = len(clouds), len(set(clouds)) == 1
    if dense:
        logits = logits.detach().view(B, -1, K).requires_grad_()
        pos, bandwidth = pos.view(B, -1, 3), bandwidth.view(B, -1)

    def sample(logits: Tensor) -> Tensor:
        return pcsa.sampling_argmax(logits, pos, bandwidth, ptr=None if dense else ptr, num_samples=S, validate=False)

    return _differentiated(torch.compile(sample, fullgraph=True) if compiled else sample, logits, direction, backward)


def build_literal(
    device: torch.device, clouds: Sequence[int], K: int, S: int, compiled: bool = False, backward: bool = True
) -> Run:
    """Its literal reference; clouds of several sizes are padded to the longest."""
    logits, pos, bandwidth, _, direction = _clouds(device, clouds, K)
    pad = torch.nn.utils.rnn.pad_sequence
    sizes = list(clouds)
    logits = pad(logits.detach().split(sizes), batch_first=True, padding_value=-math.inf).requires_grad_()
    pos = pad(pos.split(sizes), batch_first=True)
    bandwidth = pad(bandwidth.split(sizes), batch_first=True)

    def sample(logits: Tensor) -> Tensor:
        return references.literal_sampling_argmax(logits, pos, bandwidth, S, 1.0)

    return _differentiated(torch.compile(sample, fullgraph=True) if compiled else sample, logits, direction, backward)


def _differentiated(sample: Callable[[Tensor], Tensor], logits: Tensor, direction: Tensor, backward: bool) -> Run:
    def run() -> Tensor:
        samples = sample(logits)
        return torch.autograd.grad(samples, logits, direction.expand_as(samples))[0]

    def run_forward() -> Tensor:
        with torch.no_grad():
            return sample(logits)

    return run if backward else run_forward


def build_network(
    device: torch.device, B: int, N: int, kind: Literal["ours", "precomputed", "dense"], scales: str = "single"
) -> Run:
    """PointNet++ in training mode, forward and backward, on B clouds of N points of the unit sphere."""
    # Imported here: with it, each of the processes that measure memory would start a second later.
    from pcsa.models.pointnet2 import MULTI_SCALE, SINGLE_SCALE, PointNet2, build_geometry

    torch.manual_seed(0)
    pos = torch.nn.functional.normalize(torch.randn(B, N, 3), dim=-1).to(device)
    levels = SINGLE_SCALE if scales == "single" else MULTI_SCALE
    net: torch.nn.Module
    if kind == "dense":
        net = references.DensePointNet2(levels).to(device)
        forward: Callable[[], Tensor] = lambda: net(pos)  # noqa: E731
    else:
        net = PointNet2(levels=levels).to(device)
        rows, ptr = pos.view(-1, 3), torch.arange(0, B * N + 1, N)  # on the host, where its values are needed
        ptr_there = ptr.to(device)
        geometry = build_geometry(rows, ptr_there, levels) if kind == "precomputed" else None
        forward = lambda: net(None, rows, ptr=ptr_there, geometry=geometry)  # noqa: E731
    direction = torch.randn(128, device=device)

    def run() -> None:
        net.zero_grad(set_to_none=True)
        out = forward()
        out.backward(direction.expand_as(out))

    return run


def build_skeleton(
    device: torch.device, B: int, N: int, K: int, kind: Literal["ours", "literal"], scales: str = "released"
) -> Run:
    """One training step of Skeleton Merger on B clouds of N points: network, soft-argmax, loss, gradient and Adam."""
    # Imported here for the same reason.
    from pcsa.models.pointnet2 import PointNet2
    from pcsa.models.skeleton_merger import SkeletonMerger
    from pcsa.skeleton import composite_chamfer, skeleton_points
    from pcsa.unsupervised import LEVELS

    levels = LEVELS[scales]
    torch.manual_seed(0)
    pos = torch.nn.functional.normalize(torch.randn(B, N, 3), dim=-1).to(device)
    # Keypoints far apart, as after training: the longest segments, the most points.
    anchors = torch.nn.functional.normalize(torch.randn(K, 3), dim=-1)
    net: torch.nn.Module
    if kind == "literal":
        net = references.LiteralSkeletonMerger(levels, K).to(device)
        loss: Callable[[], Tensor] = lambda: net(pos, anchors_there)  # noqa: E731
    else:
        net = SkeletonMerger(PointNet2(levels=levels), K, anchors=anchors).to(device)
        rows, ptr = pos.view(-1, 3), torch.arange(0, B * N + 1, N, device=device)

        def loss() -> Tensor:
            out = net(None, rows, ptr=ptr)
            skeleton = skeleton_points(out["keypoints"], out["offsets"])
            distance = composite_chamfer(
                skeleton.points, skeleton.ptr, out["activation"], rows, ptr=ptr, validate=False
            )
            return distance.fidelity + distance.coverage + 0.01 * out["offsets"].square().sum()

    anchors_there = anchors.to(device)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)

    def run() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss().backward()
        optimizer.step()

    return run


BUILDERS: dict[str, Callable[..., Run]] = {
    "sampler": build_sampler,
    "literal": build_literal,
    "network": build_network,
    "skeleton": build_skeleton,
}


def literal_bytes(clouds: Sequence[int], K: int, S: int) -> int:
    """What the literal reference needs: about 14 floats per element of [B, S, K, N], N the longest."""
    return len(clouds) * max(clouds) * K * S * 4 * 14


# --- the cases ---------------------------------------------------------------------------------------------


def bench_limits(config: BenchConfig, device: torch.device) -> list[dict[str, Any]]:
    """What the machine needs for the parts that the operator cannot do without, and how far from it the operator is."""
    elements = 1 << (18 if device.type == "cpu" else 24)  # a tile of the operator
    x = torch.rand(elements, device=device).clamp_min_(1e-6)
    y = torch.empty_like(x)
    large = torch.rand(1 << 24, device=device)
    other = torch.empty_like(large)
    matrix, columns = x.view(128, -1), torch.rand(elements // 128, 4, device=device)
    runs: dict[str, Run] = {
        "uniform_": lambda: y.uniform_(),
        "exponential_": lambda: y.exponential_(),
        "normal_": lambda: y.normal_(),
        "log": lambda: torch.log(x, out=y),
        "exp": lambda: torch.exp(x, out=y),
        "multiply": lambda: torch.mul(x, x, out=y),
        "matrix product with 4 columns": lambda: matrix @ columns,
        "copy": lambda: other.copy_(large),
    }
    B, N, K, S = 8, config.points(2048), 10, 30
    clouds = [N] * B
    runs["operator"] = build_sampler(device, clouds, K, S)
    seconds = take_turns(runs, config.turns, device)
    nanoseconds = {
        name: [
            1e9 * t / (large.numel() if name == "copy" else B * N * K * S if name == "operator" else elements)
            for t in times
        ]
        for name, times in seconds.items()
    }
    bandwidth = 2 * 4 / statistics.median(nanoseconds["copy"])
    notes = {
        "copy": f"{large.numel():,} floats: {bandwidth:.1f} GB/s read and written",
        "operator": f"per element of B·K·N·S = {B * N * K * S:,}, forward and backward",
    }
    rows = [_row(name, values, note=notes.get(name, ""), unit="ns") for name, values in nanoseconds.items()]
    needed = [
        2 * (u + 2 * log + exp)
        for u, log, exp in zip(nanoseconds["uniform_"], nanoseconds["log"], nanoseconds["exp"], strict=True)
    ]
    return [
        _result(
            "limits",
            f"Machine: time per element, tiles of {elements:,} floats",
            rows,
            [_ratio("operator / (uniform + 2 log + exp) in both passes", nanoseconds["operator"], needed)],
        )
    ]


def bench_operator(config: BenchConfig, device: torch.device) -> list[dict[str, Any]]:
    """The operator against Eq. 11-12 written out."""
    K, N, B = 10, config.points(2048), 8
    rows, checks, ours_memory = [], [], {}
    for S in (30, 100):
        clouds = [N] * B
        names = {"sampler": f"sampling_argmax, S={S}"}
        if literal_bytes(clouds, K, S) <= config.memory_budget * 1e9:
            names["literal"] = f"literal Eq. 11-12, S={S}"
        runs: dict[str, Run] = {f: BUILDERS[f](device, clouds, K, S) for f in names}
        runs |= {f + " forward": BUILDERS[f](device, clouds, K, S, backward=False) for f in names}
        seconds = take_turns(runs, config.turns, device)
        del runs
        memory = {f: _sampler_memory(f, clouds, K, S, device) for f in names}
        ours_memory[S] = memory["sampler"]
        for f, name in names.items():
            forward = statistics.median(seconds[f + " forward"])
            rows.append(_row(name, seconds[f], memory[f], f"forward alone {duration(forward)}"))
        if "literal" in names:
            main_size = S == 30
            checks.append(
                _ratio(f"time / literal, S={S}", seconds["sampler"], seconds["literal"], 0.3 if main_size else None)
            )
            share = memory["sampler"] / memory["literal"]
            checks.append(_check(f"memory / literal, S={S}", share, "×", 0.1 if main_size else None))
    checks.append(_check("memory, S=100 / S=30", ours_memory[100] / max(ours_memory[30], 1), "×", 1.2))
    return [_result("operator", f"Operator: B={B}, K={K}, N={N:,}, D=3, gradient to the logits", rows, checks)]


def _sampler_memory(function: str, clouds: Sequence[int], K: int, S: int, device: torch.device) -> int:
    # Tiny clouds, but unequal where the clouds are: the same path through the code.
    tiny = [32 + (n != clouds[0]) for n in clouds]
    return peak_memory(function, {"clouds": list(clouds), "K": K, "S": S}, {"clouds": tiny, "K": K, "S": 2}, device)


def bench_compiled(config: BenchConfig, device: torch.device) -> list[dict[str, Any]]:
    """Both under torch.compile(fullgraph=True)."""
    clouds, K, S = [config.points(2048)] * 8, 10, 30
    runs = {
        "sampling_argmax, compiled": build_sampler(device, clouds, K, S, compiled=True),
        "literal Eq. 11-12, compiled": build_literal(device, clouds, K, S, compiled=True),
        "literal Eq. 11-12, eager": build_literal(device, clouds, K, S),
    }
    title = f"Operator compiled: B=8, K={K}, N={clouds[0]:,}, S={S}"
    try:
        seconds = take_turns(runs, config.turns, device)
    except torch._dynamo.exc.BackendCompilerFailed as error:  # no C++ compiler, say
        return [_result("compiled", f"{title}: left out, {str(error).strip().splitlines()[0]}", [], [])]
    ours, compiled, eager = seconds.values()
    return [
        _result(
            "compiled",
            title,
            [_row(name, times) for name, times in seconds.items()],
            [_ratio("time / literal eager", ours, eager, 0.2), _ratio("time / literal compiled", ours, compiled)],
        )
    ]


def bench_ragged(config: BenchConfig, device: torch.device) -> list[dict[str, Any]]:
    """Very unequal clouds against equal ones of the same total."""
    uneven = [config.points(1000)] * 31 + [config.points(100_000)]
    even = _equal(sum(uneven), 32)
    K = S = 10
    names = {"31 small clouds and a large one": uneven, "32 equal clouds": even}
    runs = {name: build_sampler(device, clouds, K, S) for name, clouds in names.items()}
    seconds = take_turns(runs, config.turns, device)
    del runs
    rows = [
        _row(
            name,
            seconds[name],
            _sampler_memory("sampler", clouds, K, S, device),
            f"{clouds[0]:,} … {clouds[-1]:,} points",
        )
        for name, clouds in names.items()
    ]
    unequal, equal = seconds.values()
    ratio = _ratio("time, unequal / equal", unequal, equal, 1.3)
    return [_result("ragged", f"Ragged: {sum(uneven):,} points in 32 clouds, K={K}, S={S}", rows, [ratio])]


def _equal(total: int, parts: int) -> list[int]:
    return [total // parts + (i < total % parts) for i in range(parts)]


def bench_scan(config: BenchConfig, device: torch.device) -> list[dict[str, Any]]:
    """One cloud of a million points."""
    N, K, S = config.points(100_000 if config.quick else 1_000_000), 20, 10
    seconds = take_turns({"sampling_argmax": build_sampler(device, [N], K, S)}, max(1, config.turns // 3), device)
    memory = _sampler_memory("sampler", [N], K, S, device)
    inputs = 4 * N * (K + 3 + 1)
    return [
        _result(
            "scan",
            f"Scan: one cloud of {N:,} points, K={K}, S={S}",
            [_row("sampling_argmax", seconds["sampling_argmax"], memory, f"inputs {size(inputs)}")],
            [_check("memory, inputs included", (memory + inputs) / 1e9, "GB", None if config.quick else 4.0)],
        )
    ]


def bench_neighbors(config: BenchConfig, device: torch.device) -> list[dict[str, Any]]:
    """Searches by every backend that is installed, and by the usual dense code."""
    B, N, M, k, radius = 8, config.points(2048), config.points(512), 16, 0.2
    torch.manual_seed(0)
    dense = torch.nn.functional.normalize(torch.randn(B, N, 3), dim=-1).to(device)
    pos, ptr = dense.view(-1, 3), torch.arange(0, B * N + 1, N)
    centers = references.gather(dense, references.farthest_points_loop(dense, M))
    query, query_ptr = centers.view(-1, 3), torch.arange(0, B * M + 1, M)
    searches: dict[str, tuple[Callable[[Backend | None], object], Run]] = {
        f"farthest points, {M:,}": (
            lambda backend: pcsa.neighbors.farthest_points(pos, ptr, M, backend=backend, validate=False),
            lambda: references.farthest_points_loop(dense, M),
        ),
        f"{k} nearest of each point": (
            lambda backend: pcsa.neighbors.knn(pos, ptr, k, backend=backend, validate=False),
            lambda: references.nearest_by_sort(dense, dense, k),
        ),
        f"ball of {radius:g}, {k} of {M:,} centers": (
            lambda backend: pcsa.neighbors.ball_query(
                pos, ptr, radius, k, query, query_ptr, backend=backend, validate=False
            ),
            lambda: references.ball_query_by_sort(radius, k, dense, centers),
        ),
        "3-nearest interpolation weights": (
            lambda backend: pcsa.neighbors.interpolation_weights(
                query, query_ptr, pos, ptr, backend=backend, validate=False
            ),
            lambda: references.nearest_by_sort(centers, dense, 3),
        ),
    }
    rows, checks = [], []
    for name, (search, reference) in searches.items():
        runs: dict[str, Run] = {"default": lambda search=search: search(None), "usual dense code": reference}  # type: ignore[misc]
        for backend in get_args(Backend):
            try:
                search(backend)
            except ValueError:  # not installed, or not for this device
                continue
            if not (backend == "scipy" and name.startswith("farthest")):  # there it is the same as torch
                runs[backend] = lambda search=search, backend=backend: search(backend)  # type: ignore[misc]
        seconds = take_turns(runs, config.turns, device)
        rows += [_row(f"{name}: {which}", times) for which, times in seconds.items()]
        checks.append(_ratio(f"{name}: time / usual", seconds["default"], seconds["usual dense code"]))
    return [_result("neighbors", f"Neighbors: {B} clouds of {N:,} points", rows, checks)]


def bench_pointnet2(config: BenchConfig, device: torch.device) -> list[dict[str, Any]]:
    """The network against the usual dense implementation of the same layers."""
    B, N = 8, config.points(2048)
    names = {
        "ours": "PointNet2, searches included",
        "precomputed": "PointNet2, searches done before",
        "dense": "usual dense code",
    }
    results = []
    for scales in ("single",) if config.quick else ("single", "multi"):
        runs = {kind: build_network(device, B, N, kind, scales) for kind in names}  # type: ignore[arg-type]
        seconds = take_turns(runs, config.turns, device)
        del runs
        rows = []
        for kind, name in names.items():
            sizes = {"B": B, "N": N, "kind": kind, "scales": scales}
            memory = peak_memory("network", sizes, {**sizes, "B": 2, "N": 64}, device)
            rows.append(_row(name, seconds[kind], memory))
        target = 1 / 3 if scales == "single" else None
        checks = [
            _ratio("time / dense, searches included", seconds["ours"], seconds["dense"], target),
            _ratio("time / dense, searches done before", seconds["precomputed"], seconds["dense"]),
            _check("memory / dense, searches included", rows[0]["memory_bytes"] / max(rows[2]["memory_bytes"], 1), "×"),
        ]
        title = f"PointNet++, {scales} scale: {B} clouds of {N:,} points, forward and backward"
        results.append(_result("pointnet2", title, rows, checks))
    return results


def bench_skeleton(config: BenchConfig, device: torch.device) -> list[dict[str, Any]]:
    """One training step of Skeleton Merger against a loop over segments with dense distances and networks."""
    B, N = 8, config.points(2048)
    K, more = (4, 8) if config.shrink > 1 else (10, 20)
    ours, twice, same, loop = (
        f"pcsa, K={K}",
        f"pcsa, K={more}",
        f"pcsa with the network of the paper's code, K={K}",
        f"loop over segments and the network of the paper's code, dense, K={K}",
    )
    runs: dict[str, dict[str, Any]] = {
        ours: {"B": B, "N": N, "K": K, "kind": "ours", "scales": "single"},
        twice: {"B": B, "N": N, "K": more, "kind": "ours", "scales": "single"},
        same: {"B": B, "N": N, "K": K, "kind": "ours"},
        loop: {"B": B, "N": N, "K": K, "kind": "literal"},
    }
    steps = {name: build_skeleton(device, **sizes) for name, sizes in runs.items()}
    seconds = take_turns(steps, max(1, config.turns // 3), device)
    del steps
    memory = {
        name: peak_memory("skeleton", sizes, {**sizes, "B": 2, "N": 64, "K": 3}, device) for name, sizes in runs.items()
    }
    rows = [_row(name, seconds[name], memory[name]) for name in runs]
    checks = [
        _ratio(f"time / loop, K={K}", seconds[ours], seconds[loop], 1 / 8),
        _check(f"memory / loop, K={K}", memory[ours] / max(memory[loop], 1), "×", 1 / 6),
        _ratio(f"time / loop, the same network, K={K}", seconds[same], seconds[loop]),
        _check(f"memory / loop, the same network, K={K}", memory[same] / max(memory[loop], 1), "×"),
        _ratio(f"time K={more} / K={K}", seconds[twice], seconds[ours], 4.5),
    ]
    title = f"Skeleton Merger: one training step, {B} clouds of {N:,} points, soft-argmax"
    return [_result("skeleton", title, rows, checks)]


def bench_data(config: BenchConfig, device: torch.device) -> list[dict[str, Any]]:
    """Reading every cloud of a root for the first time, from the cache, and starting a training on it."""
    from pcsa.datasets.keypointnet import KeypointNet

    first: list[float] = []
    first_wall: list[float] = []
    cached: list[float] = []
    cached_wall: list[float] = []
    starts: list[float] = []
    with _root(config) as root, _quiet():
        categories = _categories(root)
        category = _category(categories)
        count = 0

        def read(cache: str) -> None:
            nonlocal count
            datasets = [KeypointNet(root, category, "all", cache_dir=cache) for category in categories]
            count = sum(1 for dataset in datasets for i in range(len(dataset)) if dataset[i])

        for _ in range(max(1, config.turns // 3)):
            with tempfile.TemporaryDirectory() as cache:
                for processor, wall in ((first, first_wall), (cached, cached_wall)):
                    before, start = time.process_time(), time.perf_counter()
                    read(cache)
                    wall.append(time.perf_counter() - start)
                    processor.append(time.process_time() - before)
        for _ in range(max(1, config.turns // 3)):
            with tempfile.TemporaryDirectory() as out:
                spec = {"root": str(root), "category": category, "device": str(device), "out": out}
                starts.append(_in_process("--start-of", {**spec, "threads": config.threads}))
    checks = [
        _check("processor time per 500 clouds, first reading", 500 / count * statistics.median(first), "s", 2.0),
        _check("processor time per 500 clouds, from the cache", 500 / count * statistics.median(cached), "s", 0.2),
        _check("start and first step", statistics.median(starts), "s", 5.0),
    ]
    rows = [
        _row("first reading, processor time", first, note=f"wall {duration(statistics.median(first_wall))}"),
        _row("from the cache, processor time", cached, note=f"wall {duration(statistics.median(cached_wall))}"),
        _row(f"training of one step on {category}, after imports", starts, note="start, step and checkpoint"),
    ]
    return [_result("data", f"Data: {count} clouds of {len(categories)} categories", rows, checks)]


def _start_here(root: str, category: str, device: str, out: str, threads: int) -> float:
    """Seconds that the first training of this process takes, of one step; imports come before."""
    from pcsa.training import DataConfig, OptimizerConfig, SupervisedConfig, TrainerConfig, train_supervised

    torch.set_num_threads(threads)
    training = SupervisedConfig(
        data=DataConfig(root=Path(root), category=category),
        optimizer=OptimizerConfig(steps=1),
        trainer=TrainerConfig(progress=False, accelerator=_accelerator(torch.device(device)), validate_every=10**6),
        out=Path(out),
    )
    with _quiet():
        start = time.perf_counter()
        train_supervised(training)
        return time.perf_counter() - start


def bench_step(config: BenchConfig, device: torch.device) -> list[dict[str, Any]]:
    """Whole training steps in the trainer, and what they consist of."""
    from pcsa.datasets.transforms import Augment
    from pcsa.training import DataConfig, SupervisedConfig, TrainerConfig

    steps = 3 * config.turns
    rows, medians = [], {}
    with _root(config) as root, _quiet():
        category = _category(_categories(root))
        kept = Augment(mirror=0.5, rotate=15.0, scale=0.1, shift=0.1)
        for name, augment, precompute, workers in (
            ("searches in the step", Augment(mirror=0.5, scale=0.1, axis_scale=0.15, shift=0.1), False, 0),
            ("searches done before", kept, True, 0),
            (f"searches done before, {config.num_workers} loading", kept, True, config.num_workers),
        ):
            training = SupervisedConfig(
                data=DataConfig(root=root, category=category, augment=augment, precompute=precompute),
                trainer=TrainerConfig(num_workers=workers),
            )
            parts = _step_parts(training, steps, device)
            whole = [sum(step) for step in zip(*parts.values(), strict=True)]
            medians[name] = statistics.median(whole)
            rows.append(_row(name, whole, note="whole step"))
            for part, times in parts.items():
                rows.append(_row(f"  {part}", times, note=f"{statistics.median(times) / medians[name]:.0%}"))
    searched, before, _ = medians.values()
    title = f"Training step on {category}: {training.optimizer.batch_size} clouds, {steps} steps"
    return [_result("step", title, rows, [_check("searches done before / in the step", before / searched, "×")])]


def _step_parts(training: Any, steps: int, device: torch.device) -> dict[str, list[float]]:
    """Seconds of each part of each step of a ``SupervisedConfig``; data is the wait for it."""
    import lightning as L

    from pcsa.training import Detection, DetectionData

    clock = _Clock(device)
    data = DetectionData(training)
    L.seed_everything(0, verbose=False)
    module = Detection(training, data.train_set)
    module.detector.register_forward_hook(lambda *_: clock.mark("forward"))

    class Timing(L.Callback):
        def on_train_batch_start(self, *_: Any) -> None:
            clock.mark("data")

        def on_before_backward(self, *_: Any) -> None:
            clock.mark("objective")

        def on_after_backward(self, *_: Any) -> None:
            clock.mark("backward")

        def on_train_batch_end(self, *_: Any) -> None:
            clock.mark("optimizer")

    trainer = L.Trainer(
        accelerator=_accelerator(device),
        devices=1,
        max_steps=steps + 2,
        max_epochs=-1,
        limit_val_batches=0,
        gradient_clip_val=training.optimizer.clip or None,
        callbacks=[Timing()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(module, data)
    # The first steps warm up.
    return {name: clock.seconds[name][2:] for name in ("data", "forward", "objective", "backward", "optimizer")}


def bench_launches(config: BenchConfig, device: torch.device) -> list[dict[str, Any]]:
    """What an accelerator has to do in a training step: counted, on any machine."""
    from pcsa.scripts._launches import step_parts

    B, N, K, S = 8, config.points(2048), 20, 10
    checks = []
    for name, work in step_parts(B, N, K, S).items():
        checks += [
            _check(f"{name}: kernels", work.kernels, ""),
            _check(f"{name}: read and written", work.bytes / 1e6, "MB"),
            _check(f"{name}: matrix products", work.flops / 1e9, "GFLOP"),
        ]
    title = f"Counted for an accelerator, not measured: forward and backward, B={B}, N={N:,}, K={K}, S={S}"
    return [_result("launches", title, [], [check for check in checks if check["median"]])]


class _Clock:
    """Seconds between marks, by the name of the mark that ends them."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.last = device, time.perf_counter()
        self.seconds: dict[str, list[float]] = {}

    def mark(self, name: str) -> None:
        _wait(self.device)
        now = time.perf_counter()
        self.seconds.setdefault(name, []).append(now - self.last)
        self.last = now


@contextlib.contextmanager
def _root(config: BenchConfig) -> Iterator[Path]:
    """A folder in KeypointNet's layout: given, of the tests, or a temporary one of procedural clouds."""
    if config.root is not None:
        yield config.root
    elif os.environ.get("PCSA_TEST_DATA"):
        yield Path(os.environ["PCSA_TEST_DATA"]) / "keypointnet"
    else:
        from pcsa.datasets.procedural import generate

        with tempfile.TemporaryDirectory() as folder:
            generate(Path(folder), ["chair"], 40, num_points=max(config.points(2048), 256))
            yield Path(folder)


def _categories(root: Path) -> list[str]:
    categories = sorted(path.stem for path in (root / "annotations").glob("*.json"))
    if not categories:
        raise FileNotFoundError(
            f"`root` (={str(root)!r}) must be in KeypointNet's layout: it has no annotations/*.json"
        )
    return categories


def _category(categories: list[str]) -> str:
    """The one to train on."""
    return "bed" if "bed" in categories else categories[0]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the log lines of each reading and each training."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def _accelerator(device: torch.device) -> str:
    return "gpu" if device.type == "cuda" else "cpu"


def bench_scaling(config: BenchConfig, device: torch.device, log: Callable[[str], None]) -> list[dict[str, Any]]:
    """Time and memory over one size at a time, of the operator and its literal reference."""
    N = config.points(2048)
    base: dict[str, Any] = {"B": 8, "K": 10, "N": N, "S": 30}
    values: dict[str, list[Any]] = {
        "S": [1, 10, 100] if config.quick else [1, 3, 10, 30, 100, 300],
        "K": [1, 10, 40] if config.quick else [1, 3, 10, 30, 100],
        "N": [config.points(n) for n in ([512, 2048, 8192] if config.quick else [128, 512, 2048, 8192, 32_768])],
        "B": [1, 8, 16] if config.quick else [1, 2, 8, 32, 128],
    }
    curves = []
    for name, numbers in values.items():
        points = [{**base, name: n} for n in numbers]
        clouds = [([p["N"]] * p["B"], p["K"], p["S"]) for p in points]
        fixed = ", ".join(f"{k}={v:,}" for k, v in base.items() if k != name)
        curves.append(_curve(name, fixed, numbers, clouds, config, device))
        log(f"scaling over {name}")
    # The total is fixed; the largest cloud has this share of it.
    total, B, S = 8 * N, 8, 10
    shares = [1 / 8, 0.5, 0.9] if config.quick else [1 / 8, 0.25, 0.5, 0.75, 0.95]
    ragged = []
    for share in shares:
        largest = round(total * share)
        ragged.append(([*_equal(total - largest, B - 1), largest], 10, S))
    fixed = f"B={B}, K=10, S={S}, {total:,} points in all"
    curves.append(_curve("share of the largest cloud", fixed, shares, ragged, config, device))
    return curves


def _curve(
    over: str,
    fixed: str,
    values: list[Any],
    points: list[tuple[list[int], int, int]],
    config: BenchConfig,
    device: torch.device,
) -> dict[str, Any]:
    seconds: dict[str, list[float | None]] = {"sampler": [], "literal": []}
    memory: dict[str, list[int | None]] = {"sampler": [], "literal": []}
    for clouds, K, S in points:
        fits = literal_bytes(clouds, K, S) <= config.memory_budget * 1e9
        names = ["sampler", "literal"] if fits else ["sampler"]
        runs = {name: BUILDERS[name](device, clouds, K, S) for name in names}
        times = take_turns(runs, min(3, config.turns), device)
        del runs
        for name in seconds:
            seconds[name].append(statistics.median(times[name]) if name in times else None)
            memory[name].append(_sampler_memory(name, clouds, K, S, device) if name in times else None)
    return {"over": over, "fixed": fixed, "values": values, "seconds": seconds, "memory_bytes": memory}


def write(report: dict[str, Any], config: BenchConfig) -> list[Path]:
    """The files that the configuration asks for."""
    written = []
    if config.out is not None:
        config.out.write_text(json.dumps(report, indent=1) + "\n")
        written.append(config.out)
    if config.plot is not None:
        plot(report["curves"], config.plot)
        written.append(config.plot)
    if config.markdown is not None:
        write_page(report, config.markdown)
        written.append(config.markdown)
    return written


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
