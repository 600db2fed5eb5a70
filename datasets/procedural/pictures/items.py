"""What the procedural pictures have in common: items that are drawn when first asked for, each by itself, and kept."""

import zlib
from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np

Split = Literal["train", "val", "test"]


def check_split(split: str, argument: str, count: int, seed: int) -> None:
    """Refuse an unknown split, no items and negative seeds."""
    if split not in get_args(Split):
        raise ValueError(f"`split` (={split!r}) must be one of {', '.join(get_args(Split))}")
    if type(count) is not int or count < 1:
        raise ValueError(f"`{argument}` (={count!r}) must be a whole number of at least 1")
    if type(seed) is not int or seed < 0:
        raise ValueError(f"`seed` (={seed!r}) must be a whole number that is not negative")


def stream(name: str) -> int:
    """A number for the randomness of what has this name."""
    return zlib.crc32(name.encode())


class Items:
    """The items of a split. Item i's randomness is that of `key` and i: no other item's, however many there are."""

    def __init__(self, key: list[int], count: int) -> None:
        self._key = key
        self._kept: list[Any] = [None] * count

    def __len__(self) -> int:
        return len(self._kept)

    def place(self, index: int) -> int:
        """The index from 0, as negative ones count from the end."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"`index` (={index}) must be below {len(self)}")
        return index % len(self)

    def get(self, index: int, draw: Callable[[np.random.Generator], Any]) -> Any:
        """What `draw` made of the item's randomness when it was first asked for."""
        place = self.place(index)
        if self._kept[place] is None:
            self._kept[place] = draw(np.random.default_rng([*self._key, place]))
        return self._kept[place]
