"""What the procedural pictures have in common: where an item's randomness comes from, and checks of arguments."""

import zlib

import numpy as np

SPLITS = ("train", "val", "test")


def item_rng(task: str, split: str, seed: int, index: int) -> np.random.Generator:
    """The randomness of one item of one split: of no other item's, however many there are."""
    return np.random.default_rng([seed, zlib.crc32(f"{task}/{split}".encode()), index])


def check_split(split: str, count: tuple[str, int], seed: int) -> None:
    """Refuse an unknown split, no items and negative seeds."""
    name, number = count
    if split not in SPLITS:
        raise ValueError(f"`split` (={split!r}) must be one of {', '.join(SPLITS)}")
    if number < 1:
        raise ValueError(f"`{name}` (={number}) must be at least 1")
    if seed < 0:
        raise ValueError(f"`seed` (={seed}) must not be negative")


def check_index(index: int, length: int) -> None:
    """Refuse an index that is not from 0 to `length` - 1, in the way that ends a loop over the items."""
    if not 0 <= index < length:
        raise IndexError(f"`index` (={index}) must be from 0 to {length - 1}")
