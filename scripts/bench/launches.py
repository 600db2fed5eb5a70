"""What a training step asks of an accelerator, counted without one.

A step runs on tensors that have shapes and no values ("meta"), on the path through the code that an accelerator takes.
Each operator that is not a view counts as one kernel, and moves what it reads and writes. Reading a value back, which
would wait for the device, is impossible on such tensors: what can be counted waits for nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from pcsa import losses
from pcsa._core import kernel
from pcsa.models.detector import KeypointDetector
from pcsa.models.pointnet2 import SINGLE_SCALE, LevelGeometry, PointNet2, build_geometry
from pcsa.neighbors.backends.contract import Start
from pcsa.neighbors.backends.torch import Torch
from pcsa.scripts.bench.config import BenchConfig
from pcsa.scripts.bench.contenders import sphere
from pcsa.scripts.bench.report import FAST, Result, deterministic

_META = torch.device("meta")
# What was counted when a step was promised to be bound by launches; more would be slower.
_KERNELS = {"network": 305, "operator": 157, "losses": 49, "farthest points, first level, if searched": 6144}
# They only make a tensor, or another look at one.
_FREE = ("empty", "new_empty", "empty_like", "empty_strided", "detach", "_unsafe_view", "lift_fresh", "_reshape_alias")


def bench_launches(config: BenchConfig, device: torch.device) -> list[Result]:
    """Count what an accelerator has to do in a training step, on any machine."""
    B, N, K, S = 8, config.points(2048), 20, 10
    checks = []
    for name, work in step_parts(B, N, K, S).items():
        checks.append(deterministic(f"{name}: kernels", work.kernels, target=_KERNELS[name], promise=FAST))
        checks.append(deterministic(f"{name}: read and written", work.bytes / 1e6, "MB"))
        if work.flops:
            checks.append(deterministic(f"{name}: matrix products", work.flops / 1e9, "GFLOP"))
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

    With them, the first level's farthest points alone, for a step that searches by plain torch.
    """
    # The real searches of some clouds, for their shapes.
    ptr = torch.arange(0, B * N + 1, N)
    levels = build_geometry(sphere(B, N, torch.device("cpu")).view(-1, 3), ptr, SINGLE_SCALE)
    geometry = [LevelGeometry(*(x.to(_META) for x in level)) for level in levels]
    with _without_values():
        detector = KeypointDetector(PointNet2(), K).to(_META)
        pos, ptr = torch.empty(B * N, 3, device=_META), ptr.to(_META)

        def network() -> None:
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

        clouds = [Start(b * N, N, min(SINGLE_SCALE[0].num_samples or N, N), 0) for b in range(B)]
        return {
            "network": count(network),
            "operator": count(operator),
            "losses": count(loss),
            "farthest points, first level, if searched": count(lambda: Torch().farthest(pos, clouds)),
        }


@contextlib.contextmanager
def _without_values() -> Iterator[None]:
    # Torch has no generator for tensors without values, and autocast, which the network and the losses switch off,
    # does not know them.
    generator = mock.Mock(manual_seed=lambda seed: None)
    no_generator = mock.patch.object(torch, "Generator", return_value=generator)
    no_autocast = mock.patch.object(torch, "autocast", return_value=contextlib.nullcontext())
    with no_generator, no_autocast:
        yield
