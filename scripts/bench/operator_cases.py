"""Cases of the operator: against the machine, against Eq. 11-12 written out, on ragged clouds and on a large scan."""

from __future__ import annotations

import statistics

import torch

from pcsa.scripts.bench.config import BenchConfig
from pcsa.scripts.bench.measure import Run, available_cores, take_turns
from pcsa.scripts.bench.memory import Sizes, compare
from pcsa.scripts.bench.report import duration, size
from pcsa.scripts.bench.results import FAST, Result, deterministic, ratio, row
from pcsa.scripts.bench.workloads import BUILDERS, build_literal, build_sampler, literal_bytes


def bench_limits(config: BenchConfig, device: torch.device) -> list[Result]:
    """Time what the operator cannot do without on this machine, and how far from it the operator is."""
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
    rows = [row(name, values, note=notes.get(name, ""), unit="ns") for name, values in nanoseconds.items()]
    needed = [
        2 * (u + 2 * log + exp)
        for u, log, exp in zip(nanoseconds["uniform_"], nanoseconds["log"], nanoseconds["exp"], strict=True)
    ]
    return [
        Result(
            "limits",
            f"Machine: time per element, tiles of {elements:,} floats",
            rows,
            [ratio("operator / (uniform + 2 log + exp) in both passes", nanoseconds["operator"], needed, promise=FAST)],
        )
    ]


def bench_operator(config: BenchConfig, device: torch.device) -> list[Result]:
    """Compare the operator with Eq. 11-12 written out, at last with all threads that the machine has."""
    K, N, B = 10, config.points(2048), 8
    clouds = [N] * B
    rows, checks, ours_memory = [], [], {}
    for S in (30, 100):
        sizes: Sizes = {"clouds": clouds, "K": K, "S": S}
        ours, literal = f"sampling_argmax, S={S}", f"literal Eq. 11-12, S={S}"
        contenders = {ours: ("sampler", sizes)}
        fits = literal_bytes(**sizes) <= config.memory_budget * 1e9
        if fits:
            contenders[literal] = ("literal", sizes)
        seconds, memory = compare(contenders, config.turns, device)
        forward = {
            name: BUILDERS[builder](device, **sizes, backward=False) for name, (builder, _) in contenders.items()
        }
        for name, times in take_turns(forward, config.turns, device).items():
            note = f"forward alone {duration(statistics.median(times))}" if times else ""
            rows.append(row(name, seconds[name], memory[name], note))
        ours_memory[S] = memory[ours]
        if fits:
            time_target, memory_target, promise = (0.3, 0.1, FAST) if S == 30 else (None, None, None)
            share = memory[ours] / memory[literal]
            checks.append(ratio(f"time / literal, S={S}", seconds[ours], seconds[literal], time_target, promise))
            checks.append(deterministic(f"memory / literal, S={S}", share, "×", memory_target, promise))
    share = ours_memory[100] / max(ours_memory[30], 1)
    checks.append(deterministic("memory, S=100 / S=30", share, "×", 1.2, FAST))
    threads = available_cores()
    if threads > config.threads and literal_bytes(clouds, K, 30) <= config.memory_budget * 1e9:
        torch.set_num_threads(threads)
        runs = {builder: BUILDERS[builder](device, clouds, K, 30) for builder in ("sampler", "literal")}
        seconds = take_turns(runs, config.turns, device)
        torch.set_num_threads(config.threads)
        rows += [row(f"{name}, S=30, {threads} threads", times) for name, times in seconds.items()]
        checks.append(ratio("time / literal, S=30, all threads", seconds["sampler"], seconds["literal"], 0.3, FAST))
    return [Result("operator", f"Operator: B={B}, K={K}, N={N:,}, D=3, gradient to the logits", rows, checks)]


def bench_compiled(config: BenchConfig, device: torch.device) -> list[Result]:
    """Compare both under torch.compile(fullgraph=True)."""
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
        return [Result("compiled", f"{title}: left out, {str(error).strip().splitlines()[0]}")]
    ours, compiled, eager = seconds.values()
    return [
        Result(
            "compiled",
            title,
            [row(name, times) for name, times in seconds.items()],
            [ratio("time / literal eager", ours, eager, 0.2, FAST), ratio("time / literal compiled", ours, compiled)],
        )
    ]


def bench_ragged(config: BenchConfig, device: torch.device) -> list[Result]:
    """Compare very unequal clouds with equal ones of the same total."""
    uneven = [config.points(1000)] * 31 + [config.points(100_000)]
    even = equal_clouds(sum(uneven), 32)
    K = S = 10
    names = {"31 small clouds and a large one": uneven, "32 equal clouds": even}
    contenders = {name: ("sampler", {"clouds": clouds, "K": K, "S": S}) for name, clouds in names.items()}
    seconds, memory = compare(contenders, config.turns, device)
    rows = [
        row(name, seconds[name], memory[name], f"{clouds[0]:,} … {clouds[-1]:,} points")
        for name, clouds in names.items()
    ]
    unequal, equal = seconds.values()
    check = ratio("time, unequal / equal", unequal, equal, 1.3, FAST)
    return [Result("ragged", f"Ragged: {sum(uneven):,} points in 32 clouds, K={K}, S={S}", rows, [check])]


def equal_clouds(total: int, parts: int) -> list[int]:
    """Divide a number of points as evenly as it goes."""
    return [total // parts + (i < total % parts) for i in range(parts)]


def bench_scan(config: BenchConfig, device: torch.device) -> list[Result]:
    """Measure one cloud of a million points."""
    N, K, S = config.points(100_000 if config.quick else 1_000_000), 20, 10
    contenders = {"sampling_argmax": ("sampler", {"clouds": [N], "K": K, "S": S})}
    seconds, peaks = compare(contenders, config.few_turns, device)
    memory = peaks["sampling_argmax"]
    inputs = 4 * N * (K + 3 + 1)
    return [
        Result(
            "scan",
            f"Scan: one cloud of {N:,} points, K={K}, S={S}",
            [row("sampling_argmax", seconds["sampling_argmax"], memory, f"inputs {size(inputs)}")],
            [
                deterministic(
                    "memory, inputs included", (memory + inputs) / 1e9, "GB", None if config.quick else 4.0, FAST
                )
            ],
        )
    ]
