"""Folds: equal parts of a dataset, each held out in turn, whatever the order of the files."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from pcsa._core.checks import check_count
from pcsa.datasets.splits import Split, check_split


@dataclass(frozen=True)
class Fold:
    """One of several folds, held out: what ``"train"`` and ``"val"`` mean in place of the dataset's own splits.

    The names of all clouds of the splits ``of`` are sorted by a hash and dealt out in turn, so that folds have the same
    size, or one cloud more, and a cloud is in the same fold on every machine. ``"val"`` is then this fold and
    ``"train"`` the others; ``"test"`` stays the dataset's own. Clouds of one group, and clouds that are equal point by
    point, lie in one fold: a group goes, as a whole, to the fold that has the fewest clouds so far.

    Attributes:
        index: Which fold, from 0.
        count: Number of folds, at least 2.
        of: The splits that are dealt out, such as ``("train", "val")``.

    Raises:
        ValueError: If there is no such fold, or no such split.

    Example:
        >>> names = [f"cloud {i}" for i in range(10)]
        >>> [len(Fold(i, 3).part("val", names)) for i in range(3)]
        [4, 3, 3]

    """

    index: int
    count: int = 5
    of: tuple[Split, ...] = ("train",)

    def __post_init__(self) -> None:
        check_count("count", self.count, least=2)
        check_count("index", self.index, least=0, most=self.count - 1)
        for split in self.of:
            check_split(split)

    def sources(self, split: str) -> tuple[str, ...]:
        """The dataset's own splits from which a split takes its clouds."""
        return self.of if split in ("train", "val") else (split,)

    def part(
        self,
        split: str,
        names: Sequence[str],
        clouds: Mapping[str, Tensor] | None = None,
        groups: Mapping[str, str] | None = None,
    ) -> list[str]:
        """Those of the names that are in a split, in the order in which they come.

        Args:
            split: ``"train"`` or ``"val"``; any other has all of them.
            names: Names of all clouds of :meth:`sources`.
            clouds: Points by name, of those that are there: clouds that are equal point by point lie in one fold.
            groups: What clouds belong to, by name, of those that are not alone.

        Raises:
            ValueError: If the fold, or all others, would have none.
        """
        if split not in ("train", "val"):
            return list(names)
        # A group is dealt out by its own name, and a cloud that is alone by its.
        group_of = {name: ("", name) if not groups or name not in groups else ("g", groups[name]) for name in names}
        sizes = Counter(group_of.values())
        # The largest first, so that the others can make up for them.
        order = sorted(sizes, key=lambda g: (-sizes[g], hashlib.sha256("".join(g).encode()).digest(), g))
        fold_of: dict[tuple[str, str], int] = {}
        filled = [0] * self.count
        for group in order:
            fold_of[group] = filled.index(min(filled))
            filled[fold_of[group]] += sizes[group]
        joined = self._joined(order, group_of, clouds or {})
        part = [name for name in names if (fold_of[joined[group_of[name]]] == self.index) == (split == "val")]
        if not part:
            raise ValueError(
                f"`fold` (={self.index}) must leave clouds to train and to validate on: there are "
                f"{len(group_of)} clouds in {' and '.join(self.of)}"
                f"{f', of {len(sizes)} groups' * (len(sizes) < len(group_of))}, for {self.count} folds"
            )
        return part

    @staticmethod
    def _joined(
        order: Sequence[tuple[str, str]], group_of: Mapping[str, tuple[str, str]], clouds: Mapping[str, Tensor]
    ) -> dict[tuple[str, str], tuple[str, str]]:
        """For each group the first of those with which it shares equal clouds."""
        first: dict[bytes, tuple[str, str]] = {}
        joined = {group: group for group in order}

        def root(group: tuple[str, str]) -> tuple[str, str]:
            while joined[group] != group:
                group = joined[group]
            return group

        place = {group: i for i, group in enumerate(order)}
        for name in sorted(clouds.keys() & group_of.keys(), key=lambda name: (place[group_of[name]], name)):
            other = first.setdefault(content_digest(clouds[name]), group_of[name])
            early, late = sorted((root(other), root(group_of[name])), key=place.__getitem__)
            joined[late] = early
        return {group: root(group) for group in order}

    def of_split(self, split: str) -> str:
        """How a message calls a split."""
        return f"{split!r} ({self})" if split in ("train", "val") else repr(split)

    def __str__(self) -> str:
        return f"fold {self.index} of {self.count} of {' and '.join(self.of)}"


def content_digest(pos: Tensor) -> bytes:
    """Return what two clouds have in common only if they are equal, point by point."""
    return hashlib.blake2b(pos.contiguous().numpy().tobytes(), digest_size=16).digest()
