"""Cases of the operator: against the machine, against Eq. 11-12 written out, on ragged clouds and large ones."""

from __future__ import annotations

import statistics

import torch

from pcsa.scripts.bench.config import BenchConfig
from pcsa.scripts.bench.contenders import Sizes, build_operator, compare, compare_times, literal_bytes, replayed
from pcsa.scripts.bench.measure import Run, available_cores, log, take_turns
from pcsa.scripts.bench.report import FAST, Curve, Result, deterministic, duration, ratio, row, size


def bench_limits(config: BenchConfig, device: torch.device) -> list[Result]:
    """Time what the operator cannot do without on this machine, and how far from it the operator is."""
    tile = 1 << (18 if device.type == "cpu" else 24)  # elements of a tile of the operator
    x = torch.rand(tile, device=device).clamp_min_(1e-6)
    y = torch.empty_like(x)
    large, other = torch.rand(1 << 24, device=device), torch.empty(1 << 24, device=device)
    matrix, columns = x.view(128, -1), torch.rand(tile // 128, 4, device=device)
    B, N, K, S = 8, config.points(2048), 10, 30
    runs: dict[str, Run] = {
        "uniform_": lambda: y.uniform_(),
        "exponential_": lambda: y.exponential_(),
        "normal_": lambda: y.normal_(),
        "log": lambda: torch.log(x, out=y),
        "exp": lambda: torch.exp(x, out=y),
        "multiply": lambda: torch.mul(x, x, out=y),
        "matrix product with 4 columns": lambda: matrix @ columns,
        "copy": lambda: other.copy_(large),
        "operator": build_operator(device, [N] * B, K, S),
    }
    if device.type == "cuda":
        runs["operator, CUDA graph"] = replayed(runs["operator"])
    drawn = [name for name in runs if name.startswith("operator")]
    elements = dict.fromkeys(runs, tile) | {"copy": large.numel()} | dict.fromkeys(drawn, B * N * K * S)
    seconds = take_turns(runs, config.turns, device)
    ns = {name: [1e9 * t / elements[name] for t in times] for name, times in seconds.items()}
    notes = {
        "copy": f"{elements['copy']:,} floats: {2 * 4 / statistics.median(ns['copy']):.1f} GB/s read and written",
        "operator": f"per element of B·K·N·S = {elements['operator']:,}, forward and backward",
    }
    rows = [row(name, values, note=notes.get(name, ""), unit="ns") for name, values in ns.items()]
    needed = [2 * (u + 2 * log + exp) for u, log, exp in zip(ns["uniform_"], ns["log"], ns["exp"], strict=True)]
    check = ratio("operator / (uniform + 2 log + exp) in both passes", ns["operator"], needed, promise=FAST)
    return [Result("limits", f"Machine: time per element, tiles of {tile:,} floats", rows, [check])]


def bench_operator(config: BenchConfig, device: torch.device) -> list[Result]:
    """Compare the operator with Eq. 11-12 written out, at last with all threads that the machine has."""
    K, N, B = 10, config.points(2048), 8
    clouds = [N] * B
    rows, checks, ours_memory = [], [], {}
    for S in (30, 100):
        sizes: Sizes = {"clouds": clouds, "K": K, "S": S}
        ours, literal = f"sampling_argmax, S={S}", f"literal Eq. 11-12, S={S}"
        fits = literal_bytes(**sizes) <= config.memory_budget * 1e9
        contenders = {ours: ("sampler", sizes)} | ({literal: ("literal", sizes)} if fits else {})
        seconds, memory = compare(contenders, config.turns, device)
        for name, times in compare_times(contenders, config.turns, device, mode="forward").items():
            note = f"forward alone {duration(statistics.median(times))}" if times else ""
            rows.append(row(name, seconds[name], memory[name], note))
        ours_memory[S] = memory[ours]
        if fits:
            time_target, memory_target, promise = (0.3, 0.1, FAST) if S == 30 else (None, None, None)
            share = memory[ours] / memory[literal]
            checks.append(ratio(f"time / literal, S={S}", seconds[ours], seconds[literal], time_target, promise))
            checks.append(deterministic(f"memory / literal, S={S}", share, "×", memory_target, promise))
            if device.type == "cuda":
                ours_alone, literal_alone = compare_times(contenders, config.turns, device, graphs=True).values()
                rows += [row(f"{ours}, CUDA graph", ours_alone), row(f"{literal}, CUDA graph", literal_alone)]
                checks.append(ratio(f"time / literal, both CUDA graphs, S={S}", ours_alone, literal_alone))
    share = ours_memory[100] / max(ours_memory[30], 1)
    checks.append(deterministic("memory, S=100 / S=30", share, "×", 1.2, FAST))
    threads = available_cores()
    if threads > config.threads and literal_bytes(clouds, K, 30) <= config.memory_budget * 1e9:
        torch.set_num_threads(threads)
        sizes = {"clouds": clouds, "K": K, "S": 30}
        seconds = compare_times({name: (name, sizes) for name in ("sampler", "literal")}, config.turns, device)
        torch.set_num_threads(config.threads)
        rows += [row(f"{name}, S=30, {threads} threads", times) for name, times in seconds.items()]
        checks.append(ratio("time / literal, S=30, all threads", seconds["sampler"], seconds["literal"], 0.3, FAST))
    return [Result("operator", f"Operator: B={B}, K={K}, N={N:,}, D=3, gradient to the logits", rows, checks)]


def bench_compiled(config: BenchConfig, device: torch.device) -> list[Result]:
    """Compare both under torch.compile(fullgraph=True)."""
    sizes: Sizes = {"clouds": [config.points(2048)] * 8, "K": 10, "S": 30}
    contenders = {
        "sampling_argmax, compiled": ("sampler", {**sizes, "mode": "compiled"}),
        "literal Eq. 11-12, compiled": ("literal", {**sizes, "mode": "compiled"}),
        "literal Eq. 11-12, eager": ("literal", sizes),
    }
    title = f"Operator compiled: B=8, K=10, N={sizes['clouds'][0]:,}, S=30"
    try:
        seconds = compare_times(contenders, config.turns, device)
    except torch._dynamo.exc.BackendCompilerFailed as error:  # no C++ compiler, say
        return [Result("compiled", f"{title}: left out, {str(error).strip().splitlines()[0]}")]
    ours, compiled, eager = seconds.values()
    checks = [ratio("time / literal eager", ours, eager, 0.2, FAST), ratio("time / literal compiled", ours, compiled)]
    return [Result("compiled", title, [row(name, times) for name, times in seconds.items()], checks)]


def bench_ragged(config: BenchConfig, device: torch.device) -> list[Result]:
    """Compare very unequal clouds with equal ones of the same total."""
    uneven = [config.points(1000)] * 31 + [config.points(100_000)]
    names = {"31 small clouds and a large one": uneven, "32 equal clouds": equal_clouds(sum(uneven), 32)}
    contenders = {name: ("sampler", {"clouds": clouds, "K": 10, "S": 10}) for name, clouds in names.items()}
    seconds, memory = compare(contenders, config.turns, device)
    rows = [
        row(name, seconds[name], memory[name], f"{clouds[0]:,} … {clouds[-1]:,} points")
        for name, clouds in names.items()
    ]
    unequal, equal = seconds.values()
    check = ratio("time, unequal / equal", unequal, equal, 1.3, FAST)
    return [Result("ragged", f"Ragged: {sum(uneven):,} points in 32 clouds, K=10, S=10", rows, [check])]


def equal_clouds(total: int, parts: int) -> list[int]:
    """Divide a number of points as evenly as it goes."""
    return [total // parts + (i < total % parts) for i in range(parts)]


def bench_scan(config: BenchConfig, device: torch.device) -> list[Result]:
    """Measure one cloud of a million points."""
    N, K, S = config.points(100_000 if config.quick else 1_000_000), 20, 10
    name = "sampling_argmax"
    seconds, memory = compare({name: ("sampler", {"clouds": [N], "K": K, "S": S})}, config.few_turns, device)
    inputs = 4 * N * (K + 3 + 1)
    target = None if config.quick else 4.0
    rows = [row(name, seconds[name], memory[name], f"inputs {size(inputs)}")]
    checks = [deterministic("memory, inputs included", (memory[name] + inputs) / 1e9, "GB", target, FAST)]
    return [Result("scan", f"Scan: one cloud of {N:,} points, K={K}, S={S}", rows, checks)]


def bench_large(config: BenchConfig, device: torch.device) -> list[Result]:
    """Measure a cloud of ten million points, and a batch of clouds from a hundred to a million."""
    K, S = 20, 10
    clouds = {
        "one cloud": [config.points(10**7)],
        "clouds of several sizes": [config.points(10**power) for power in range(2, 7)],
    }
    contenders = {name: ("sampler", {"clouds": sizes, "K": K, "S": S}) for name, sizes in clouds.items()}
    seconds, memory = compare(contenders, min(config.few_turns, 1), device)
    rows, checks = [], []
    for name, sizes in clouds.items():
        inputs = 4 * sum(sizes) * (K + 3 + 1)
        rows.append(row(name, seconds[name], memory[name], f"{sum(sizes):,} points, inputs {size(inputs)}"))
        # The gradient to the logits is as large as they are.
        checks.append(deterministic(f"{name}: memory / inputs", memory[name] / inputs, "×"))
    return [Result("large", f"Large clouds: K={K}, S={S}, both passes", rows, checks)]


def bench_scaling(config: BenchConfig, device: torch.device) -> list[Curve]:
    """Measure time and memory over one size at a time."""
    N = config.points(2048)
    base = {"B": 8, "K": 10, "N": N, "S": 30}
    numbers: dict[str, list[int]] = {
        "S": [1, 10, 100] if config.quick else [1, 3, 10, 30, 100, 300],
        "K": [1, 10, 40] if config.quick else [1, 3, 10, 30, 100],
        "N": [config.points(n) for n in ([512, 2048, 8192] if config.quick else [128, 512, 2048, 8192, 32_768])],
        "B": [1, 8, 16] if config.quick else [1, 2, 8, 32, 128],
    }
    curves = []
    for name, values in numbers.items():
        curves.append(Curve(name, ", ".join(f"{k}={v:,}" for k, v in base.items() if k != name)))
        for value in values:
            p = {**base, name: value}
            _add(curves[-1], value, {"clouds": [p["N"]] * p["B"], "K": p["K"], "S": p["S"]}, config, device)
        log(f"scaling over {name}")
    # The total is fixed; the largest cloud has this share of it.
    total = 8 * N
    curves.append(Curve("share of the largest cloud", f"B=8, K=10, S=10, {total:,} points in all"))
    for share in [1 / 8, 0.5, 0.9] if config.quick else [1 / 8, 0.25, 0.5, 0.75, 0.95]:
        largest = round(total * share)
        clouds = [*equal_clouds(total - largest, 7), largest]
        _add(curves[-1], share, {"clouds": clouds, "K": 10, "S": 10}, config, device)
    return curves


def _add(curve: Curve, value: float, sizes: Sizes, config: BenchConfig, device: torch.device) -> None:
    names = ["sampler", "literal"] if literal_bytes(**sizes) <= config.memory_budget * 1e9 else ["sampler"]
    seconds, memory = compare({name: (name, sizes) for name in names}, min(3, config.turns), device)
    curve.values.append(value)
    for name in curve.seconds:
        curve.seconds[name].append(statistics.median(seconds[name]) if name in seconds else None)
        curve.memory_bytes[name].append(memory.get(name))
