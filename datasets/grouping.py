"""Clouds of one shape, which must not be trained on and scored on at once: in which split each group lies."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pcsa.datasets.faults import some
from pcsa.datasets.splits import SPLITS, check_split

PerItem = Sequence[Any] | Mapping[str, Any]
"""A value for each item, in their order, or by model id."""


def per_item(name: str, values: PerItem, model_ids: Sequence[str]) -> list[Any]:
    """Return a value for each item.

    Args:
        name: What the argument is called, for the message.
        values: In the order of the items, or by model id.
        model_ids: Those of the items.

    Raises:
        ValueError: If an item has no value, or a value no item.

    """
    if isinstance(values, Mapping):
        stray, absent = ([x for x in a if x not in b] for a, b in ((values, set(model_ids)), (model_ids, values)))
        if stray or absent:
            wrong = f"lacks {some(absent)}" if absent else f"has {some(stray)}, which no item is called"
            raise ValueError(f"`{name}` must have a value for the model id of each item: it {wrong}")
        return [values[model_id] for model_id in model_ids]
    listed = [values] if isinstance(values, str) else list(values)
    if isinstance(values, str) or len(listed) != len(model_ids):
        raise ValueError(f"`{name}` ({len(listed)} values) must have one for each of the {len(model_ids)} items")
    return listed


def group_names(groups: Iterable[Hashable]) -> list[str | None]:
    """Return the names of groups as the files will hold them; None for an item that is alone.

    Raises:
        ValueError: If a group has another name than a text or a whole number.

    """
    names: list[str | None] = []
    for group in groups:
        whole = isinstance(group, int | np.integer) and not isinstance(group, bool)
        if not (group is None or whole or (isinstance(group, str) and group.strip())):
            raise ValueError(
                f"`groups` (has {group!r}) must be names, whole numbers, or None for a cloud that is alone"
            )
        names.append(None if group is None else str(group))
    return names


def deal_out(groups: Sequence[str | None], fractions: tuple[float, float, float], seed: int) -> list[int]:
    """Return the number of the split of each item, at random; a group lies in one.

    Args:
        groups: The group of each item; None for one that is alone.
        fractions: Shares of train, val and test, of the groups. From three on, each share above 0 gets one at least.
        seed: Seed of the draw.

    """
    place: dict[tuple[str, Hashable], int] = {}
    of = [
        place.setdefault(("item", i) if group is None else ("group", group), len(place))
        for i, group in enumerate(groups)
    ]
    drawn = _draw(len(place), fractions, seed)
    return [int(drawn[number]) for number in of]


def _draw(n: int, fractions: tuple[float, float, float], seed: int) -> NDArray[np.int64]:
    val, test = (max(round(n * share), 1 if share > 0 and n >= 3 else 0) for share in fractions[1:])
    test = min(test, n - 1)
    val = min(val, n - 1 - test)
    return np.random.default_rng(seed).permutation(np.repeat([0, 1, 2], [n - val - test, val, test]))


def checked_splits(splits: Sequence[Any], groups: Sequence[str | None]) -> list[int]:
    """Return the numbers of splits that are given by name.

    Raises:
        ValueError: If one is unknown, no item is in train, or a group is in two.

    """
    for split in splits:
        check_split(split)
    numbers = [SPLITS.index(split) for split in splits]
    if 0 not in numbers:
        raise ValueError("`split` must have an item in 'train'")
    found = groups_apart(zip(groups, splits, strict=True))
    if found:
        told = "; ".join(f"{group!r} is in {' and '.join(names)}" for group, names in found.items())
        raise ValueError(f"`split` must leave each of `groups` in one split: {told}")
    return numbers


def groups_apart(items: Iterable[tuple[str | None, str]]) -> dict[str, list[str]]:
    """Return the groups that lie in several splits, with these.

    Args:
        items: Group and split of each cloud.

    Example:
        >>> groups_apart([("mug 1", "train"), ("mug 1", "val"), ("mug 2", "val"), (None, "train")])
        {'mug 1': ['train', 'val']}

    """
    splits: dict[str, list[str]] = {}
    for group, split in items:
        if group is not None and split not in splits.setdefault(group, []):
            splits[group].append(split)
    return {group: names for group, names in splits.items() if len(names) > 1}
