"""``pcsa bench kernels``: what Triton's kernels are compiled to, and what they have to do; needs no GPU.

Compiled for a GPU that need not be there, a kernel shows its registers, its shared memory, and how much it spills.
The bytes and operations of a stated size give the least time that an H100 takes for them: an estimate, not a
measurement.
"""

from __future__ import annotations

import itertools
import math
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro

from pcsa._core.triton import norms
from pcsa._core.triton.launch import Launch
from pcsa.neighbors.backends.triton import farthest_launch, nearest_launch, nearest_programs
from pcsa.scripts.bench.operator_kernels import grid_kernels, operator_kernels, recorded
from pcsa.scripts.bench.step_kernels import step_kernels
from pcsa.tasks.common.tables import markdown_table

#: Compute capabilities of A100, H100 and B200, without the point.
TARGETS = (80, 90, 100)
# An H100: bytes a second, operations a second (its 67 TFLOP/s count a multiplication with an addition as two; other
# operations take as long), multiprocessors.
_BANDWIDTH, _OPERATIONS, _MULTIPROCESSORS = 3.35e12, 67e12 / 2, 132


@dataclass(frozen=True)
class Spec:
    """A kernel as it is launched on inputs of one size."""

    name: str
    size: str
    launch: Launch
    signature: dict[str, str]
    """Types of the arguments that are no constants: ``"*fp32"``, ``"i32"``, …"""
    programs: int
    bytes: float
    """Read and written once."""
    operations: float
    """A multiplication with an addition is one where they are fused."""

    @property
    def seconds(self) -> float:
        """Least time on an H100, where each program has one multiprocessor; an estimate."""
        share = min(1.0, self.programs / _MULTIPROCESSORS)
        return max(self.bytes / _BANDWIDTH, self.operations / (_OPERATIONS * share))


@dataclass(frozen=True)
class Built:
    """What a kernel needs on a target."""

    registers: int
    """Of a thread."""
    shared_bytes: int
    """Of a program."""
    spilled_bytes: int
    """Of a thread."""


def neighbor_specs() -> Iterator[Spec]:
    """Searches in 8 clouds: a first level of PointNet++, its interpolation, and what is hardest to fit."""
    B = 8
    for N, m, D, itemsize in ((2048, 512, 3, 4), (8192, 1024, 3, 4), (2048, 512, 3, 8), (100_000, 4096, 3, 4)):
        launch = farthest_launch(N, D, itemsize)
        real = f"*fp{8 * itemsize}"
        tiled = "nearest" in launch.kernel.arg_names
        signature = {"pos": real, "table": "*i64", **({"nearest": real} if tiled else {}), "out": "*i64"}
        moved = B * N * (D + 2 * m if tiled else D) * itemsize + 8 * B * m
        # Of each point in each step: its distance, the smaller one, and the largest with its number.
        work = B * m * N * (2 * D + 6)
        yield Spec("farthest points", f"B={B}, N={N:,}, m={m:,}, D={D}, {real[1:]}", launch, signature, B, moved, work)
    for N, M, k, D, dtype, weights in (
        (2048, 512, 32, 3, torch.float32, False),
        (512, 2048, 3, 3, torch.float32, True),
        (2048, 512, 128, 3, torch.float32, False),
        (2048, 512, 1024, 3, torch.float32, False),
        (2048, 512, 32, 32, torch.float32, False),
        (2048, 512, 32, 3, torch.float64, False),
        (2048, 512, 128, 16, torch.float64, True),
    ):
        launch = nearest_launch(k, D, dtype, weights)
        real = f"*fp{8 * dtype.itemsize}"
        tensors = {"pos": real, "query": real, "bounds": "*i64", "out": "*i64", "out_value": real, "out_valid": "*i1"}
        signature = {**tensors, "radius": "fp32", **dict.fromkeys(("clouds", "steps", "k"), "i32")}
        moved = B * (N + M) * D * dtype.itemsize + B * M * k * (9 + dtype.itemsize)
        # Points in no order come closer than the k-th so often.
        closer = k * (1 + math.log(N / k))
        work = B * M * (N * (2 * D + 3) + closer * (4 * launch.constants["POINTS"] + 6 * launch.constants["KEPT"]))
        programs = nearest_programs(B * M, B, launch)
        size = f"B={B}, N={N:,}, M={M:,}, k={k:,}, D={D}, {real[1:]}"
        yield Spec("weights" if weights else "nearest points", size, launch, signature, programs, moved, work)


def norm_specs() -> Iterator[Spec]:
    """Normalization, ReLU and maximum of the levels of PointNet++, for 8 clouds, and in other precisions."""
    for M, C, K, dtype in (
        (8 * 512, 64, 16, torch.float32),
        (8 * 128, 256, 16, torch.float32),
        (8 * 2048, 128, 1, torch.float32),
        (8 * 512, 64, 32, torch.bfloat16),
        (8 * 512, 64, 16, torch.float64),
    ):
        with recorded() as noted:
            x = torch.empty(M * K, C, dtype=dtype, device="meta", requires_grad=True)
            norm = torch.nn.BatchNorm1d(C, device="meta", dtype=torch.promote_types(dtype, torch.float32))
            norms.normalized_maximum(x, norm, K).backward(torch.empty(M, C, dtype=dtype, device="meta"))
        size = f"{M:,} × {K} rows of {C}, {str(dtype).removeprefix('torch.')}"
        for one in noted:
            # A handful for each number that is read.
            work = 8.0 * max(x.numel() for x in one.tensors)
            yield Spec(one.name, size, *one.typed(), one.programs, one.bytes, work)


def operator_specs() -> Iterator[Spec]:
    """Samples of the operator and their gradients, and marginals of grids."""
    for name, size, noted, operations in itertools.chain(operator_kernels(), grid_kernels()):
        yield Spec(name, size, *noted.typed(), noted.programs, noted.bytes, operations)


def step_specs() -> Iterator[Spec]:
    """What clouds, balls and objectives of a training step take beside them."""
    for size, noted in step_kernels():
        # A handful for each number that is read.
        work = 8.0 * max(x.numel() for x in noted.tensors)
        yield Spec(noted.name, size, *noted.typed(), noted.programs, noted.bytes, work)


#: Where the kernels of the package are listed.
SPECS: list[Callable[[], Iterator[Spec]]] = [neighbor_specs, operator_specs, norm_specs, step_specs]


def specs() -> list[Spec]:
    """List all kernels; imports Triton."""
    return [spec for listed in SPECS for spec in listed()]


def build(spec: Spec, target: int) -> Built:
    """What a kernel needs on a compute capability such as 90; on any machine."""
    import triton

    kernel = compiled(spec, target)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
        usage = subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    registers, stack = (int(re.findall(rf"{name}:(\d+)", usage)[-1]) for name in ("REG", "STACK"))
    return Built(registers, kernel.metadata.shared, stack)


def compiled(spec: Spec, target: int) -> Any:
    """Compile a kernel as Triton does it for such a card."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    constants = spec.launch.constants
    signature = {**spec.signature, **dict.fromkeys(constants, "constexpr")}
    source = ASTSource(spec.launch.kernel, signature, constants)
    return triton.compile(source, target=GPUTarget("cuda", target, 32), options=spec.launch.options)


def table(targets: Sequence[int] = TARGETS) -> str:
    """Compile every kernel for every target, as a table."""
    rows = []
    for spec in specs():
        built = [build(spec, target) for target in targets]
        columns = [
            " / ".join(str(getattr(b, name)) for b in built) for name in ("registers", "shared_bytes", "spilled_bytes")
        ]
        work = [f"{spec.bytes / 1e6:.3g}", f"{spec.operations / 1e6:.3g}", f"{spec.seconds * 1e6:.3g}"]
        rows.append([spec.name, spec.size, *columns, *work])
    names = " / ".join(f"sm_{target}" for target in targets)
    heads = ["kernel", "size", f"registers ({names})", "shared bytes", "spilled bytes", "MB", "10⁶ operations"]
    return markdown_table([*heads, "µs on an H100 (estimate)"], rows)


@dataclass(frozen=True)
class KernelsConfig:
    """Compile Triton's kernels for GPUs that need not be there: registers, memory, and estimates of their times."""

    targets: Annotated[tuple[int, ...], tyro.conf.Positional] = TARGETS
    """Compute capabilities without the point."""


def main(argv: list[str]) -> int:
    """Parse options, compile, print the table."""
    print(table(tyro.cli(KernelsConfig, args=argv, prog="pcsa bench kernels").targets))
    return 0
