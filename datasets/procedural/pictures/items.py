"""What the procedural pictures share: items that are drawn when first asked for, each by itself, and kept."""

import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pcsa._core.checks import check_count
from pcsa.datasets.crops import CropAugment
from pcsa.datasets.images import KeypointImages
from pcsa.datasets.procedural.types import Array
from pcsa.datasets.splits import SPLITS, Split, check_split


def stream(name: str) -> int:
    """Return the number that tells the randomness of what has this name from all other randomness."""
    return zlib.crc32(name.encode())


def check_arguments(split: str, argument: str, count: int, seed: int) -> None:
    """Raise unless the split is known, there are items, and the seed is a whole number of at least 0."""
    check_split(split)
    check_count(argument, count)
    check_count("seed", seed, 0)


class Items(Sequence[Any]):
    """Items that are drawn when first asked for, each by itself, and kept.

    The randomness of item i is that of `key` and i: no other item's, however many there are.

    Args:
        key: Whole numbers that no other items have.
        count: Number of items.
        draw: Makes an item of its randomness.

    """

    def __init__(self, key: Sequence[int], count: int, draw: Callable[[np.random.Generator], Any]) -> None:
        self._key, self._draw = key, draw
        self._kept: list[Any] = [None] * count

    def __len__(self) -> int:
        return len(self._kept)

    def __getitem__(self, index: Any) -> Any:
        if self._kept[index] is None:
            self._kept[index] = self._draw(np.random.default_rng([*self._key, range(len(self))[index]]))
        return self._kept[index]


def as_bytes(image: Array) -> NDArray[np.uint8]:
    """Return values from 0 to 1 as files have them: a byte each keeps a whole dataset in little memory."""
    return (image * 255 + 0.5).astype(np.uint8)


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
        seed: Whole number of at least 0.

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
        self._items = Items([seed, *self._stream(split)], num_images, self._draw)

    @classmethod
    def _stream(cls, split: Split) -> list[int]:
        return [stream(cls.__name__), SPLITS.index(split)]

    @classmethod
    def _draw(cls, rng: np.random.Generator) -> Any:
        """Draw what is kept of an item."""
        raise NotImplementedError
