"""What a training step asks of an accelerator, counted without one.

A step runs on tensors that have shapes and no values ("meta"), on the path through the code that an accelerator takes.
Each operator that is not a view counts as one kernel, and moves what it reads and writes. Reading a value back, which
would wait for the device, is impossible on such tensors: what can be counted waits for nothing.
"""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

import pcsa.neighbors.farthest
import pcsa.neighbors.nearest
from pcsa import losses
from pcsa._core import kernel
from pcsa._core.triton import clouds, gathers, means, nearest, norms, origins, points
from pcsa._core.triton.launch import Launch
from pcsa.models.detector import KeypointDetector
from pcsa.models.pointnet2 import SINGLE_SCALE, LevelGeometry, PointNet2, build_geometry
from pcsa.neighbors.backends.contract import Start
from pcsa.neighbors.backends.torch import Torch
from pcsa.neighbors.ragged import Ragged, on_device
from pcsa.scripts.bench.config import BenchConfig
from pcsa.scripts.bench.contenders import sphere
from pcsa.scripts.bench.report import CARD, FAST, Result, deterministic

_META = torch.device("meta")
# What was counted when a step was promised to be bound by launches; more would be slower.
_KERNELS = {"network": 302, "operator": 154, "losses": 49, "farthest points, first level, if searched": 6144}
# Files that import Triton: `point_kernels` and others.
_KERNELS_OF = ("cloud", "gather", "mean", "nearest", "norm", "origin", "point")
# What a step may ask for, searches and optimizer included.
_STEP = 250
# They only make a tensor, or another look at one.
_FREE = ("empty", "new_empty", "empty_like", "empty_strided", "detach", "_unsafe_view", "lift_fresh", "_reshape_alias")


def bench_launches(config: BenchConfig, device: torch.device) -> list[Result]:
    """Count what an accelerator has to do in a training step, on any machine."""
    B, N, K, S = 8, config.points(2048), 20, 10
    checks = []
    for name, work in step_parts(B, N, K, S).items():
        target = _KERNELS.get(name)
        promise = FAST if target else None
        checks.append(deterministic(f"{name}: kernels", work.kernels, target=target, promise=promise))
        if work.bytes:
            checks.append(deterministic(f"{name}: read and written", work.bytes / 1e6, "MB"))
        if work.flops:
            checks.append(deterministic(f"{name}: matrix products", work.flops / 1e9, "GFLOP"))
    for name, (number, promised) in whole_steps(step_parts(B, N, K, S)).items():
        target = _STEP if promised else None
        checks.append(deterministic(name, number, target=target, promise=CARD if promised else None))
    title = f"Counted for an accelerator, not measured: forward and backward, B={B}, N={N:,}, K={K}, S={S}"
    return [Result("launches", title, checks=checks)]


class Work(TorchDispatchMode):
    """Kernels, bytes read and written, floating point operations of matrix products."""

    kernels = bytes = flops = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        touched = {id(x): x for x in tree_leaves((args, kwargs, out)) if isinstance(x, Tensor) and x.device == _META}
        if touched and not func.is_view and func.overloadpacket.__name__ not in _FREE:
            self.kernels += 1
            # An expanded tensor is read as often as it is used, but from the cache.
            self.bytes += sum(min(x.numel() * x.itemsize, x.untyped_storage().nbytes()) for x in touched.values())
        return out


def count(run: Callable[[], object]) -> Work:
    """Count what one call does to tensors without values."""
    with Work() as work, FlopCounterMode(display=False) as products:
        run()
    work.flops = products.get_total_flops()
    return work


def step_parts(B: int, N: int, K: int, S: int) -> dict[str, Work]:
    """Count the parts of a training step of the single-scale detector, searches done before; not the optimizer.

    With them, the first level's farthest points alone, for a step that searches by plain torch, and all searches and
    the operator as Triton's kernels do them, of which each counts as one.
    """
    # The real searches of some clouds, for their shapes.
    ends = ptr = torch.arange(0, B * N + 1, N)
    levels = build_geometry(sphere(B, N, torch.device("cpu")).view(-1, 3), ptr, SINGLE_SCALE)
    geometry = [LevelGeometry(*(x.to(_META) for x in level)) for level in levels]
    with _without_values():
        detector = KeypointDetector(PointNet2(), K).to(_META)
        pos, ptr = torch.empty(B * N, 3, device=_META), ptr.to(_META)

        def network() -> None:
            detector.zero_grad(set_to_none=True)
            out = detector(None, pos, ptr=ptr, geometry=geometry)
            heads = (out["logits"], out["presence"])
            torch.autograd.backward(heads, [torch.empty_like(x) for x in heads])

        logits, variance = torch.empty(B * N, K, device=_META), torch.empty(B * N, 1, device=_META)
        inputs = (logits, pos, variance, ptr, torch.tensor(0), torch.tensor(1.0, dtype=torch.float64))

        def operator() -> None:
            # The functions behind the operators `kernel.draw` and `kernel.draw_backward`: the operators themselves
            # are opaque, and on tensors without values they give shapes and do nothing.
            drawn = kernel._draw(*inputs, S, False, 0)
            kernel._draw_backward(drawn[0], *drawn, *inputs, False, 0, True, False, False)

        samples = torch.empty(B, K, S, 3, device=_META, requires_grad=True)
        presence = torch.empty(B, K, device=_META, requires_grad=True)
        target, visible = torch.empty(B, K, 3, device=_META), torch.empty(B, K, dtype=torch.bool, device=_META)

        def loss() -> None:
            error = losses.sample_error(samples, target, visible=visible, validate=False)
            (error + 0.05 * losses.presence_loss(presence, visible)).backward()

        scores = torch.empty(B * N, K, device=_META, requires_grad=True)

        def cross_entropy() -> None:
            options: Any = {"visible": visible, "validate": False}
            error = losses.nearest_point_cross_entropy(scores, pos, target, ptr=ptr, **options)
            (error + 0.05 * losses.presence_loss(presence, visible)).backward()

        clouds = [Start(b * N, N, min(SINGLE_SCALE[0].num_samples or N, N), 0) for b in range(B)]
        return {
            "network": count(network),
            "operator": count(operator),
            "losses": count(loss),
            "cross-entropy": count(cross_entropy),
            "farthest points, first level, if searched": count(lambda: Torch().farthest(pos, clouds)),
            "searches by Triton": _by_triton(lambda: build_geometry(pos, ends, SINGLE_SCALE, validate=False)),
            "network by Triton": _by_triton(network),
            "operator by Triton": _by_triton(operator),
            "losses by Triton": _by_triton(loss),
            "cross-entropy by Triton": _by_triton(cross_entropy),
            "optimizer": _optimizer([p for p in detector.parameters() if p.requires_grad]),
            "around graphs of all": count(
                lambda: _around([pos, ptr, target, visible], [torch.empty((), device=_META)], parts=2)
            ),
            "around graphs of the network": count(lambda: _around([pos, ptr], [scores, presence], parts=0)),
        }


def whole_steps(parts: dict[str, Work]) -> dict[str, tuple[int, bool]]:
    """Add up what the host launches in a step by Triton, clipping and optimizer included; and whether it is promised.

    As CUDA graphs, searches, network and an objective that draws nothing are two launches, and copies of what they
    read. An objective that draws stays outside.
    """
    kernels = {name: part.kernels for name, part in parts.items()}
    optimizer, searches, network = kernels["optimizer"], kernels["searches by Triton"], kernels["network by Triton"]
    sampled = kernels["operator by Triton"] + kernels["losses by Triton"]
    replayed, around = 2, "around graphs of the network"
    return {
        "step of default preset, by Triton: kernels": (
            searches + network + kernels["cross-entropy by Triton"] + optimizer,
            True,
        ),
        "step of default preset, by Triton and CUDA graphs: launches": (
            replayed + kernels["around graphs of all"] + optimizer,
            True,
        ),
        "step of sampling, bandwidth given, by Triton: kernels": (searches + network + sampled + optimizer, False),
        "step of sampling, bandwidth given, by Triton and CUDA graphs: launches": (
            replayed + kernels[around] + sampled + optimizer,
            True,
        ),
    }


def _around(inputs: list[Tensor], outputs: list[Tensor], parts: int) -> None:
    """Copy to graphs what they read, and the gradients of what they give; take the parts of the loss to the log."""
    for x in inputs:
        torch.empty_like(x).copy_(x)
    for x in outputs:
        # That of a loss is a one.
        torch.empty_like(x).copy_(torch.ones_like(x) if x.dim() == 0 else x)
    if parts:
        torch.stack([x.new_empty(()) for x in outputs * parts])


class _OneLaunch(Torch):
    """Searches as Triton's backend does them: a table goes to the device, and a kernel writes what it finds."""

    def distinct_farthest(self, pos: Tensor, clouds: list[Start]) -> Tensor:
        on_device([x for cloud in clouds for x in cloud], pos.device)
        return torch.empty(sum(cloud.wanted for cloud in clouds), dtype=torch.long, device=pos.device).zero_()

    def padded_nearest(self, points: Ragged, queries: Ragged, k: int, radius: float | None) -> Tensor:
        on_device([*points.bounds, *queries.bounds], points.pos.device)
        return torch.empty(len(queries.pos), k, dtype=torch.long, device=points.pos.device).zero_()

    def complete(
        self, points: Ragged, queries: Ragged, k: int, radius: float | None, weights: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        index = self.padded_nearest(points, queries, k, radius)
        return index, torch.empty_like(index, dtype=points.pos.dtype), torch.empty_like(index, dtype=torch.bool)


def _by_triton(run: Callable[[], object]) -> Work:
    """Count a run in which Triton's kernels would work; without them, for they have nothing to work on here."""
    launched: list[int] = []

    # Tensors that were kept here would be copied where they become gradients.
    def note(self: Launch, programs: int, *arguments: object) -> None:
        launched.append(sum(x.numel() * x.itemsize for x in arguments if isinstance(x, Tensor) and x.device == _META))

    one = mock.Mock(return_value=_OneLaunch())
    with (
        mock.patch.object(pcsa.neighbors.farthest, "choose", one),
        mock.patch.object(pcsa.neighbors.nearest, "choose", one),
        mock.patch.object(clouds, "owns", return_value=True),
        # The files of the kernels import Triton.
        mock.patch.dict(sys.modules, {f"pcsa._core.triton.{name}_kernels": mock.Mock() for name in _KERNELS_OF}),
        mock.patch.object(Launch, "run", note),
        contextlib.ExitStack() as stack,
    ):
        for module in (clouds, gathers, means, nearest, norms, origins, points):
            stack.enter_context(mock.patch.object(module, "takes", return_value=True))
        work = count(run)
    work.kernels += len(launched)
    work.bytes += sum(launched)
    return work


def _optimizer(parameters: list[Tensor]) -> Work:
    """Count clipping and torch's fused Adam, by the tensors that one of its launches takes.

    They refuse tensors without values. One list of tensors is taken 110 at a time, four lists 36.
    """
    work, lists = Work(), math.ceil(len(parameters) / 110)
    # The norms and their clean-up, the norm of them, the factor (sum, quotient in two, limit), the product.
    clipping = 2 * lists + 2 + 4 + lists
    work.kernels = clipping + lists + math.ceil(len(parameters) / 36)
    return work


@contextlib.contextmanager
def _without_values() -> Iterator[None]:
    # Torch has no generator for tensors without values, and autocast, which the network and the losses switch off,
    # does not know them.
    generator = mock.Mock(manual_seed=lambda seed: None)
    no_generator = mock.patch.object(torch, "Generator", return_value=generator)
    no_autocast = mock.patch.object(torch, "autocast", return_value=contextlib.nullcontext())
    with no_generator, no_autocast:
        yield
