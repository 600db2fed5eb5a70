"""The base of all datasets of pictures, volumes and scans."""

import operator
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from pcsa._core.checks import check_size


def parts(source: Mapping[str, Any], names: Sequence[str]) -> tuple[Any, ...]:
    """Return what a source sample must have; raise if it lacks any of it."""
    missing = [name for name in names if name not in source]
    if missing:
        raise ValueError(f"`source` (with {', '.join(source)}) must have {', '.join(missing)} too")
    return tuple(source[name] for name in names)


class Samples(Dataset[dict[str, Any]]):
    """Samples of one size; a subclass sets its ``names`` and its items, and makes the sample of an item.

    Args:
        input_size: Size of the network's input, (height, width) or (depth, height, width).
        axes: Number of axes of ``input_size``.

    Attributes:
        names (tuple of str): Name of each keypoint.
        skipped (dict): What was left out, and how often.

    """

    names: tuple[str, ...]
    _items: Sequence[Any]

    def __init__(self, input_size: Sequence[int], axes: int = 2) -> None:
        self.input_size = check_size("input_size", input_size, axes)
        self.skipped: dict[str, int] = {}

    @property
    def num_keypoints(self) -> int:
        return len(self.names)

    def __len__(self) -> int:
        return len(self._items)

    def source(self, index: int) -> dict[str, Any]:
        """Return the item as the files have it."""
        raise NotImplementedError

    def files(self, index: int) -> list[Path]:
        """Return the files of which an item is made; none where it is drawn."""
        return []

    def _row(self, index: int) -> int:
        """Return an index from 0 on; negative ones count from the end."""
        row = operator.index(index)
        if not -len(self) <= row < len(self):
            raise IndexError(f"`index` (={row}) must be below {len(self)}")
        return row % len(self)

    def _skip(self, reason: str, count: int = 1) -> None:
        if count:
            self.skipped[reason] = self.skipped.get(reason, 0) + count
