"""Batches on their way from a process that loads to the one that trains.

Torch hands each tensor over as shared memory, by a socket with a handshake of its own: a millisecond of the training's
processor time for each, which is well spent on images, and not on the fifth of a megabyte of a batch of clouds. Small
batches travel as bytes in the message itself.
"""

from __future__ import annotations

import functools
import io
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves
from torch.utils.data import get_worker_info
from torch_geometric.data import Batch

# Of more bytes, copying them through the pipe takes longer than the handshakes.
_MOST = 1 << 21


class Whole:
    """A way to put items into a batch that forgets which of them is where; in a worker, ready for the journey."""

    def __init__(self, collate: Callable[[list[Any]], Any]) -> None:
        self.collate = collate

    def __call__(self, items: list[Any]) -> Any:
        batch = self.collate(items)
        if isinstance(batch, Batch):
            batch._slice_dict = batch._inc_dict = None
        if get_worker_info() is None:
            return batch
        parts = batch.to_dict() if isinstance(batch, Batch) else batch
        size = sum(x.nbytes for x in tree_leaves(parts) if isinstance(x, Tensor))
        return batch if size > _MOST else Sent(batch)


class Sent:
    """A batch that becomes itself where it is received."""

    def __init__(self, batch: Any) -> None:
        file = io.BytesIO()
        _Pickler(file, 5).dump(batch)
        self.content = file.getvalue()

    def __reduce__(self) -> tuple[Any, ...]:
        return pickle.loads, (self.content,)


class _Pickler(pickle.Pickler):
    def reducer_override(self, obj: Any) -> Any:
        if type(obj) is Tensor and obj.device.type == "cpu" and obj.layout == torch.strided and not obj.requires_grad:
            try:
                return _received, (obj.contiguous().numpy(),)
            # Of a type that NumPy does not have.
            except TypeError:
                pass
        if isinstance(obj, Batch):
            _, classes, state = obj.__reduce__()
            return _empty, classes, state
        return NotImplemented


def _empty(*classes: type) -> Any:
    """A batch without anything in it."""
    made = _class_of(*classes)
    return made.__new__(made)


@functools.cache
def _class_of(batch: Any, items: type) -> Any:
    # PyG makes the class, and looks at signatures for it, whenever it makes a batch: most of the time of a message.
    return type(batch(_base_cls=items))


def _received(numbers: npt.NDArray[np.generic]) -> Tensor:
    # Copied: where the memory of a tensor begins decides how some of its sums are rounded, and torch aligns it.
    return torch.from_numpy(numbers).clone()
