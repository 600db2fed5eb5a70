"""The fused kernels of the operator as they are launched, noted from a run on tensors without values."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from pcsa._core.triton import grids, points
from pcsa._core.triton.launch import Launch

_META = torch.device("meta")
_TYPES = {
    torch.float32: "fp32",
    torch.float64: "fp64",
    torch.bfloat16: "bf16",
    torch.int64: "i64",
    torch.int32: "i32",
    torch.bool: "i1",
}
# Operations of a number of noise (Philox's rounds for four of them, a conversion, a series, two logarithms) and of a
# weight (its logarithm, an exponential, two comparisons), as the compiled kernels have them.
_NOISE, _WEIGHT = 26, 8


@dataclass(frozen=True)
class Recorded:
    """A kernel, with what it would have been launched on."""

    launch: Launch
    programs: int
    arguments: tuple[Any, ...]

    @property
    def name(self) -> str:
        return str(self.launch.kernel.__name__)

    @property
    def tensors(self) -> list[Tensor]:
        return [x for x in self.arguments if isinstance(x, Tensor)]

    @property
    def bytes(self) -> int:
        """Of all arguments: each is read or written once."""
        return sum(x.numel() * x.itemsize for x in self.tensors)

    def typed(self) -> tuple[Launch, dict[str, str]]:
        """The launch with what is None among its constants, and the types of the other arguments."""
        signature: dict[str, str] = {}
        constants = dict(self.launch.constants)
        for name, value in zip(self.launch.kernel.arg_names, self.arguments, strict=False):
            if value is None:
                constants[name] = None
            elif isinstance(value, Tensor):
                signature[name] = f"*{_TYPES[value.dtype]}"
            else:
                signature[name] = "fp32" if isinstance(value, float) else "i64" if name == "seed" else "i32"
        return self.launch._replace(constants=constants), signature


@contextlib.contextmanager
def recorded() -> Iterator[list[Recorded]]:
    """Note launches instead of making them."""
    noted: list[Recorded] = []

    def run(self: Launch, programs: int, *arguments: Any) -> None:
        noted.append(Recorded(self, programs, arguments))

    with mock.patch.object(Launch, "run", run):
        yield noted


def operator_kernels() -> Iterator[tuple[str, str, Recorded, float]]:
    """Name, size, launch and operations of the kernels that draw, of those of their gradients and of the choice."""
    single, double = torch.float32, torch.float64
    for B, N, K, S, D, axes, mixture, dtype in (
        (8, 2048, 10, 30, 3, 1, False, single),
        (1, 1_000_000, 20, 10, 3, 1, False, single),
        (8, 2048, 10, 30, 3, 3, True, single),
        (8, 2048, 10, 30, 9, 9, False, single),
        (8, 2048, 10, 30, 3, 1, False, double),
    ):
        empty = lambda *shape, dtype=dtype: torch.empty(*shape, dtype=dtype, device=_META)  # noqa: E731
        ptr = empty(B + 1, dtype=torch.long)
        inputs = (empty(B * N, K), empty(B * N, D), empty(B * N, axes), ptr, torch.tensor(0), torch.tensor(1.0))
        elements, columns = B * N * K * 4 * math.ceil(S / 4), 1 + D + axes
        size = f"B={B}, N={N:,}, K={K}, S={S}, D={D}, {axes} axes, {_TYPES[dtype]}"
        noise = elements * (_NOISE + _WEIGHT)
        work = {
            "draw_kernel": noise + elements * 2 * columns,
            "choose_kernel": noise + elements * 3,
            "gradient_kernel": noise + elements * (2 * columns + D + axes),
            "sum_kernel": 0.0,
        }
        first = (N, D, mixture, dtype) == (2048, 3, False, single)
        with recorded() as noted:
            drawn = points.draw(*inputs, S, mixture)
            points.draw_backward(drawn[0], *drawn, *inputs, mixture, True, True, True)
        with recorded() as more:
            points.draw_backward(drawn[0], *drawn, *inputs, mixture, True, False, False)
            points.choose(inputs[0], *inputs[3:], S)
        # The others are small, and compiled alike but for the columns.
        for one in [*noted, *more[1:]] if first else [x for x in noted if x.name in ("draw_kernel", "gradient_kernel")]:
            alone = one.name == "gradient_kernel" and not one.launch.constants["POS"]
            pairs = float(B * K * S * (_NOISE + 10 * columns))
            yield _title(one) + (", logits alone" if alone else ""), size, one, work.get(one.name, pairs)


def grid_kernels() -> Iterator[tuple[str, str, Recorded, float]]:
    """Name, size, launch and operations of the kernels of the marginals of grids."""
    R, S, shape = 32 * 17, 30, [64, 48]
    N, total = math.prod(shape), sum(shape)
    logits = torch.empty(R, N, device=_META)
    inputs = (shape, torch.tensor(0), torch.tensor(1.0))
    with recorded() as noted:
        drawn = grids.draw(logits, *inputs, S)
        grids.draw_backward(drawn[0], *drawn, logits, *inputs)
    noise = R * N * 4 * math.ceil(S / 4) * (_NOISE + _WEIGHT)
    work: dict[str, Callable[[], float]] = {
        "norm_kernel": lambda: noise,
        "axes_kernel": lambda: noise * len(shape),
        "rest_kernel": lambda: 4 * R * S * total,
        "grid_gradient_kernel": lambda: noise,
    }
    for one in noted:
        yield _title(one), f"{R} maps of {shape[0]} × {shape[1]}, S={S}, fp32", one, float(work[one.name]())


def _title(one: Recorded) -> str:
    return one.name.removesuffix("_kernel").replace("_", " ")
