"""A detector's forward and backward pass as CUDA graphs: two launches in place of hundreds.

What a graph does is fixed when it is captured: shapes, addresses, and the numbers that a kernel is launched with. The
network is captured alone; the objective, whose temperature and seed change, and the optimizer follow outside.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pcsa.models.pointnet2 import LevelGeometry

log = logging.getLogger(__name__)


class GraphedNetwork:
    """A network that is captured at the first call; if that fails, it runs as it is, and the log says so.

    Args:
        network: Called as ``network(None, pos, ptr=ptr, geometry=geometry)``, returns a dict of tensors. It must be on
            a CUDA device by the first call, in train mode, and draw nothing.
    """

    def __init__(self, network: nn.Module) -> None:
        self._flat = _Flat(network)
        self._shapes: list[torch.Size] = []
        self._captured = False

    def __call__(self, pos: Tensor, ptr: Tensor, geometry: Sequence[LevelGeometry]) -> dict[str, Tensor]:
        """Replay the network.

        Raises:
            ValueError: If the shapes are not those of the first call.
        """
        parts = [pos, ptr, *(x for level in geometry for x in level)]
        shapes = [x.shape for x in parts]
        if not self._shapes:
            self._shapes = shapes
            self._captured = _capture(self._flat, parts)
        if self._captured and shapes != self._shapes:
            raise ValueError(
                "`trainer.cuda_graph` (=True) is for batches of one shape, of clouds of one size: the first batch had "
                f"{self._shapes[0][0]} points in {self._shapes[1][0] - 1} clouds, this one {len(pos)} in {len(ptr) - 1}"
            )
        out = self._flat(*parts)
        return dict(zip(self._flat.names, out, strict=True))


class _Flat(nn.Module):
    """The network as a function of tensors to tensors: all that a graph knows."""

    names: tuple[str, ...] = ()

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pos: Tensor, ptr: Tensor, *parts: Tensor) -> tuple[Tensor, ...]:
        size = len(LevelGeometry._fields)
        geometry = [LevelGeometry(*parts[i : i + size]) for i in range(0, len(parts), size)]
        out = self.network(None, pos, ptr=ptr, geometry=geometry)
        self.names = tuple(out)
        return tuple(out.values())


def _capture(flat: _Flat, parts: Sequence[Tensor]) -> bool:
    """Let ``flat`` replay graphs from now on; return whether that went well."""
    kind = parts[0].device.type
    # The passes that warm up must leave no trace in the statistics of normalization.
    before = [(buffer, buffer.clone()) for buffer in flat.buffers()]
    eager = flat.forward
    try:
        # Under bfloat16, a cache would hand weights from outside of the graph to it.
        with torch.autocast(
            kind, dtype=torch.get_autocast_dtype(kind), enabled=torch.is_autocast_enabled(kind), cache_enabled=False
        ):
            torch.cuda.make_graphed_callables(flat, tuple(x.clone() for x in parts))
    # Whatever a driver or an operator has against it.
    except RuntimeError as error:
        flat.forward = eager  # type: ignore[method-assign]
        log.warning(
            "`trainer.cuda_graph`: the network cannot be captured (%s); its kernels are launched one by one", error
        )
        return False
    finally:
        with torch.no_grad():
            for buffer, value in before:
                buffer.copy_(value)
    return True
