"""Few shots: a part of the training shapes, each number of them within the next."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pcsa._core.checks import check_count


@dataclass(frozen=True)
class Shots:
    """So many of the training shapes, for curves of what a few of them teach.

    The shapes are in an order that the seed and their names determine, and the first that are there are taken: so 5 are
    among 10, and 10 among 20, on every machine, and different folds share those that both train on. A group counts
    once, as it does where splits are drawn, and comes with all of its clouds.

    Attributes:
        count: Number of shapes or groups, at least 1.
        seed: Seed of the order.

    Example:
        >>> names = [f"skull {i}" for i in range(10)]
        >>> few, more = (Shots(count).part(names) for count in (3, 6))
        >>> len(few), set(few) < set(more)
        (3, True)
    """

    count: int
    seed: int = 0

    def __post_init__(self) -> None:
        check_count("shots", self.count)
        check_count("shots_seed", self.seed, least=0)

    def part(self, names: Sequence[str], groups: Mapping[str, str] | None = None, of: str = "") -> list[str]:
        """Those of the names that are taken, in the order in which they come.

        Args:
            names: Names of all training clouds.
            groups: What clouds belong to, by name, of those that are not alone.
            of: What the names are, for the message.

        Raises:
            ValueError: If there are fewer.
        """
        known = groups or {}
        group_of = {name: ("g", known[name]) if name in known else ("", name) for name in names}

        def place(group: tuple[str, str]) -> tuple[bytes, tuple[str, str]]:
            return hashlib.sha256(f"{self.seed}/{''.join(group)}".encode()).digest(), group

        order = sorted(set(group_of.values()), key=place)
        if self.count > len(order):
            grouped = f" in {len(order)} groups" * (len(order) < len(group_of))
            raise ValueError(
                f"`shots` (={self.count}) must be at most {len(order)}: there are {len(group_of)} clouds{grouped} to "
                f"train on{f' in {of}' * bool(of)}"
            )
        taken = set(order[: self.count])
        return [name for name in names if group_of[name] in taken]
