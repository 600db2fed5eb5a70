"""Searches, forward and backward pass of a detector and of its objective as CUDA graphs: two launches, not hundreds.

What a graph does is fixed when it is captured: shapes, addresses, and the numbers that a kernel is launched with. An
objective that draws samples, whose temperature and seed change, and the optimizer follow outside.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from pcsa.models.pointnet2 import LevelGeometry, PointNet2, build_geometry
from pcsa.neighbors.ragged import Tables, tables_kept

log = logging.getLogger(__name__)


class Graphed:
    """A function of tensors that is captured at the first call; if that fails, it runs as it is, and the log says so.

    What it returns is overwritten by the next call. A call must have the shapes of the first, see :meth:`fits`.

    Args:
        function: Called as ``function(pos, ptr, *others)``, all of them tensors. It must be on a CUDA device by the
            first call, in train mode, and draw nothing.
    """

    def __init__(self, function: StepOfTensors) -> None:
        self._flat = _Flat(function)
        self._shapes: list[torch.Size] = []
        self._captured = False

    def fits(self, pos: Tensor, ptr: Tensor) -> bool:
        """Whether clouds have the number and size of those that were captured, if any were."""
        return not self._captured or self._shapes[:2] == [pos.shape, ptr.shape]

    def __call__(
        self, pos: Tensor, ptr: Tensor, *others: Tensor, bounds: Sequence[int] | None = None
    ) -> dict[str, Tensor]:
        """Replay the function; ``bounds`` of clouds that all have one size, for one that searches.

        Raises:
            ValueError: If the shapes are not those of the first call.
        """
        self._flat.function.bounds = bounds
        parts = (pos, ptr, *others)
        shapes = [x.shape for x in parts]
        if not self._shapes:
            self._shapes, self._captured = shapes, _capture(self._flat, parts)
        if self._captured and shapes != self._shapes:
            raise ValueError(
                "what a batch has must have the shapes of the first batch for `trainer.cuda_graph` (=True), "
                f"{[tuple(x) for x in self._shapes]}, has {[tuple(x) for x in shapes]}"
            )
        out = self._flat(*parts)
        return dict(zip(self._flat.names, out, strict=True))


class StepOfTensors(nn.Module):
    """What a training step does to a detector, as :class:`Graphed` takes it: searches, network and objective.

    Args:
        network: Called as ``network(None, pos, ptr=ptr, geometry=geometry)``.
        names: What the objective reads of a batch beside positions, in the order in which it follows them.
        loss: The objective of what the network gives, a batch and the points of each cloud: a loss and its parts.
            Without it, the step ends with the network.

    Attributes:
        bounds: Where the clouds of the batch begin, and their end, for the searches; None where what they find is
            given, after all others.
    """

    def __init__(
        self,
        network: nn.Module,
        names: Sequence[str] = (),
        loss: Callable[[dict[str, Tensor], Data, int], tuple[Tensor, dict[str, Tensor]]] | None = None,
    ) -> None:
        super().__init__()
        self.network, self.names, self.loss = network, tuple(names), loss
        self.bounds: Sequence[int] | None = None
        self._tables: Tables = {}

    def forward(self, pos: Tensor, ptr: Tensor, *others: Tensor) -> dict[str, Tensor]:
        named, found = others[: len(self.names)], others[len(self.names) :]
        geometry = levels_of(found) if self.bounds is None else self._searched(pos, self.bounds)
        out: dict[str, Tensor] = self.network(None, pos, ptr=ptr, geometry=geometry)
        if self.loss is None:
            return out
        batch = Data(pos=pos, ptr=ptr, **dict(zip(self.names, named, strict=True)))
        loss, parts = self.loss(out, batch, len(pos) // (len(ptr) - 1))
        return {"loss": loss, **parts}

    def _searched(self, pos: Tensor, bounds: Sequence[int]) -> list[LevelGeometry]:
        backbone = cast(PointNet2, self.network.backbone)
        # A graph reads again what the host sent when it was captured.
        with tables_kept(self._tables):
            levels, around = backbone.levels, backbone.local_neighbors
            return build_geometry(pos, torch.tensor(bounds), levels, around, validate=False)


def tensors_of(geometry: Sequence[LevelGeometry]) -> list[Tensor]:
    """Every tensor of every level."""
    return [x for level in geometry for x in level]


def levels_of(tensors: Sequence[Tensor]) -> list[LevelGeometry]:
    """What :func:`tensors_of` took apart."""
    size = len(LevelGeometry._fields)
    return [LevelGeometry(*tensors[i : i + size]) for i in range(0, len(tensors), size)]


class _Flat(nn.Module):
    """A function of tensors to tensors: all that a graph knows."""

    names: tuple[str, ...] = ()

    def __init__(self, function: StepOfTensors) -> None:
        super().__init__()
        self.function = function

    def forward(self, *parts: Tensor) -> tuple[Tensor, ...]:
        out = self.function(*parts)
        self.names = tuple(out)
        return tuple(out.values())


@contextmanager
def _by_this_thread(device: torch.device) -> Iterator[None]:
    """Let a capture mind what this thread does alone: another one pins the next batches in the meantime.

    `torch.cuda.make_graphed_callables` hands no such mode on. A capture that fails may leave its stream behind.
    """
    whole, before = torch.cuda.graph, torch.cuda.current_stream() if device.type == "cuda" else None
    torch.cuda.graph = partial(whole, capture_error_mode="thread_local")  # type: ignore[misc,assignment]
    try:
        yield
    finally:
        torch.cuda.graph = whole  # type: ignore[misc]
        if before is not None:
            torch.cuda.set_stream(before)


def _capture(flat: _Flat, parts: Sequence[Tensor]) -> bool:
    """Let ``flat`` replay graphs from now on; return whether that went well."""
    kind = parts[0].device.type
    # The passes that warm up must leave no trace in the statistics of normalization.
    before = [(buffer, buffer.clone()) for buffer in flat.buffers()]
    eager = flat.forward
    try:
        # Under bfloat16, a cache would hand weights from outside of the graph to it.
        with (
            _by_this_thread(parts[0].device),
            torch.autocast(
                kind, dtype=torch.get_autocast_dtype(kind), enabled=torch.is_autocast_enabled(kind), cache_enabled=False
            ),
        ):
            torch.cuda.make_graphed_callables(flat, tuple(x.clone() for x in parts))
    # Whatever a driver or an operator has against it.
    except RuntimeError as error:
        flat.forward = eager  # type: ignore[method-assign]
        log.warning(
            "`trainer.cuda_graph`: the step cannot be captured (%s); its kernels are launched one by one", error
        )
        return False
    finally:
        with torch.no_grad():
            for buffer, value in before:
                buffer.copy_(value)
    return True
