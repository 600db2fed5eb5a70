"""What the procedural pictures share: items that are drawn when first asked for, each by itself, and kept."""

import zlib
from collections.abc import Callable
from typing import Any, get_args

import numpy as np

from pcsa.datasets.crops import CropAugment
from pcsa.datasets.images import KeypointImages, Split, check_split


def stream(name: str) -> int:
    """Return the number that tells the randomness of what has this name from all other randomness."""
    return zlib.crc32(name.encode())


def check_arguments(split: str, argument: str, count: int, seed: int) -> None:
    """Raise unless the split is known, there are items, and the seed is a whole number that is not negative."""
    check_split(split)
    if type(count) is not int or count < 1:
        raise ValueError(f"`{argument}` (={count!r}) must be a whole number of at least 1")
    if type(seed) is not int or seed < 0:
        raise ValueError(f"`seed` (={seed!r}) must be a whole number that is not negative")


class Items:
    """The items of a split. Item i's randomness is that of `key` and i: no other item's, however many there are."""

    def __init__(self, key: list[int], count: int) -> None:
        self._key = key
        self._kept: list[Any] = [None] * count

    def __len__(self) -> int:
        return len(self._kept)

    def place(self, index: int) -> int:
        """Return the index from 0; negative ones count from the end."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"`index` (={index}) must be below {len(self)}")
        return index % len(self)

    def get(self, index: int, draw: Callable[[np.random.Generator], Any]) -> Any:
        """Return what `draw` made of the item's randomness when it was first asked for."""
        place = self.place(index)
        if self._kept[place] is None:
            self._kept[place] = draw(np.random.default_rng([*self._key, place]))
        return self._kept[place]


class DrawnImages(KeypointImages):
    """Pictures with keypoints that are drawn as they are asked for, and kept.

    Picture i depends on the class, `seed`, `split` and i alone: splits share none, and more pictures leave the first
    as they were. A subclass names its defaults and makes the source sample of an item.

    Args:
        split: ``"train"``, ``"val"`` or ``"test"``.
        num_images: Length of the split, at least 1.
        input_size: (height, width) of the network's input, after the depth where keypoints have one. Default: the
            class's `default_size`.
        augment: How :meth:`augmented` varies. Default: the class's `default_augment`.
        seed: Whole number that is not negative.

    Raises:
        ValueError: Naming the argument, its value and the rule.

    """

    default_size: tuple[int, ...]
    default_augment = CropAugment()

    def __init__(
        self,
        split: Split,
        *,
        num_images: int,
        input_size: tuple[int, ...] | None = None,
        augment: CropAugment | None = None,
        seed: int = 0,
    ) -> None:
        size = self.default_size if input_size is None else input_size
        super().__init__(size, augment or self.default_augment, axes=len(self.default_size))
        check_arguments(split, "num_images", num_images, seed)
        self._items = Items([seed, *self._stream(split)], num_images)

    def __len__(self) -> int:
        return len(self._items)

    @classmethod
    def _stream(cls, split: Split) -> list[int]:
        return [stream(cls.__name__), get_args(Split).index(split)]
