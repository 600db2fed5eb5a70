"""What ``pcsa evaluate`` has found in batches of items, while it runs: the next call scores the rest."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pcsa.datasets.faults import reading
from pcsa.scripts.guarded import Failure, Guarded
from pcsa.scripts.partial import Partial
from pcsa.tasks.common.task import Evaluation

_OF = ("evaluate", "scores")


@dataclass(frozen=True)
class Found:
    """What was found in a batch."""

    record: Any
    """What :meth:`Evaluation.find` returned, None where no item can be read."""
    failed: list[Failure]
    """Its items that cannot be read."""


class Records:
    """The records of an evaluation, each with what tells whether its items are still the same.

    Args:
        out: The file of the scores; claim it before.
        made_with: What determines the records beside the items, as JSON types, by what a message calls it.
        evaluation: Whose records they are.
        batch_size: Items of a batch.
        overwrite: Discard records that are made with something else.

    Attributes:
        path: The file in which they are.
        batches: The items of every batch, in the order in which they count.

    Raises:
        ValueError: If the file has records that are made with something else, or is none of ``pcsa evaluate``.
    """

    def __init__(
        self, out: Path, made_with: dict[str, Any], evaluation: Evaluation, batch_size: int, *, overwrite: bool = False
    ) -> None:
        made_with = {**made_with, "batch_size": batch_size}
        self._partial = Partial(out, made_with, _OF, overwrite=overwrite)
        self.path, self.evaluation = self._partial.path, evaluation
        items: Any = evaluation.items
        self._guarded, size = Guarded(items), len(items)
        self.batches = [range(start, min(start + batch_size, size)) for start in range(0, size, batch_size)]
        # Before an item is read: what changes meanwhile is read again by the next call.
        self._stamps = {batch.start: [self._stamp(index) for index in batch] for batch in self.batches}
        self._lines: dict[int, dict[str, Any]] = {}
        with reading(self.path, "scores"):
            for line in self._partial.lines:
                self._lines[line["first"]] = line

    def known(self, batch: Sequence[int]) -> Found | None:
        """What an earlier call found in a batch, unless that would be another thing now."""
        line = self._lines.get(batch[0])
        if line is None:
            return None
        with reading(self.path, "scores"):
            if line["items"] != self._stamps[batch[0]]:
                return None
            failed = [Failure(**fault) for fault in line["failed"]]
            # What failed is tried again.
            if any(self._guarded[fault.index] != fault for fault in failed):
                return None
            return Found(None if line["record"] is None else _unpacked(line["record"]), failed)

    def add(self, batch: Sequence[int], found: Found) -> None:
        """Write down what was found in a batch."""
        self._partial.add(
            {
                "first": batch[0],
                "items": self._stamps[batch[0]],
                "failed": [{"index": fault.index, "reason": fault.reason} for fault in found.failed],
                "record": None if found.record is None else _packed(found.record),
            }
        )

    def finish(self) -> None:
        """Remove the records: the scores are written."""
        self._partial.finish()

    def close(self) -> None:
        """Leave the records for the next call."""
        self._partial.close()

    def _stamp(self, index: int) -> Any:
        try:
            return self.evaluation.stamp(index)
        except Exception:  # whatever its file holds: reading it will tell
            return None


def _packed(record: Any) -> str:
    """Write a record as text that keeps every bit, memory layouts too: sums depend on them."""
    buffer = io.BytesIO()
    torch.save(_owned(record), buffer)
    return base64.b64encode(buffer.getvalue()).decode()


def _unpacked(text: str) -> Any:
    return torch.load(io.BytesIO(base64.b64decode(text)), weights_only=True)


def _owned(value: Any) -> Any:
    """Tensors with a memory of their own: of a view, all that it is a view of would be written."""
    if isinstance(value, Tensor):
        return value.clone()
    if isinstance(value, dict):
        return {name: _owned(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_owned(part) for part in value)
    return value
