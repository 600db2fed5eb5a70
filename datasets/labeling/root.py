"""The labels as a root that trainings read: a category in KeypointNet's layout, of the scans that are done."""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np

from pcsa.datasets.custom import LabeledCloud, write_labeled
from pcsa.datasets.faults import said
from pcsa.datasets.labeling.book import Book, Sheet
from pcsa.datasets.labeling.mirror import side_pairs
from pcsa.datasets.labeling.shape import Shape, sample_shape


class Written(NamedTuple):
    """What :meth:`RootWriter.write` did."""

    scans: list[str]
    """The scans that the root has now; none if it was left as it is."""
    failed: dict[str, str]
    """Why a scan that is done is not in the root."""
    moved: float
    """How far a keypoint moved at most to a point of its cloud, as a share of the diagonal of its scan."""


def model_ids(scans: Iterable[str]) -> dict[str, str]:
    """Name the clouds of scans: each by its path without the ending, with it where two would be equal.

    Example:
        >>> model_ids(["a.ply", "b.ply", "b.obj", "in/a (1).ply"])
        {'a.ply': 'a', 'b.ply': 'b.ply', 'b.obj': 'b.obj', 'in/a (1).ply': 'in__a _1_'}

    """
    listed = list(scans)
    short = [_plain(scan.rpartition(".")[0] or scan) for scan in listed]
    found: dict[str, str] = {}
    for scan, name in zip(listed, short, strict=True):
        name = name if short.count(name) == 1 else _plain(scan)
        number, free = 1, name
        while free in found.values():
            number, free = number + 1, f"{name}-{number + 1}"
        found[scan] = free
    return found


def _plain(scan: str) -> str:
    name = re.sub(r"[^\w .-]", "_", scan.replace("/", "__"))
    return re.sub(r"^\W+|[^\w]+$", "", name) or "scan"


class RootWriter:
    """Writes the scans that are done as the category of a book, in place of what was written of it before.

    Args:
        book: The labels.
        read: Reads a scan.
        names: Name of the cloud of each scan, from :func:`model_ids`.
        num_points: As for :func:`sample_shape`.
        options: Others of :func:`pcsa.datasets.custom.write_labeled`.

    """

    def __init__(
        self, book: Book, read: Callable[[str], Shape], names: Mapping[str, str], *, num_points: int, **options: Any
    ) -> None:
        self.book, self.names = book, names
        self._read, self._num_points, self._options = read, num_points, options
        # A scan is read again only if its labels have changed.
        self._made: dict[str, tuple[Sheet, LabeledCloud, float]] = {}
        self._tried: dict[str, Sheet] = {}
        self._written: dict[str, Sheet] | None = None
        self._last = Written([], {}, 0.0)

    @property
    def is_due(self) -> bool:
        """Whether there is something that was not written yet."""
        return self._written != {scan: self.book.sheets[scan] for scan in self.book.done}

    def prepare(self) -> bool:
        """Read one of the scans that are to be written; return whether more of them are left."""
        left = [scan for scan in self.book.done if self._tried.get(scan) != self.book.sheets[scan]]
        if left:
            self._tried[left[0]] = self.book.sheets[left[0]]
            # What is wrong is told when the root is written.
            with suppress(ValueError, OSError):
                self._cloud(left[0], self.book.sheets[left[0]])
        return len(left) > 1

    def write(self) -> Written:
        """Write, if anything is due; nothing where no keypoint is placed yet.

        Raises:
            OSError: If the root cannot be written.

        """
        if not self.is_due:
            return self._last
        made: dict[str, tuple[LabeledCloud, float]] = {}
        failed: dict[str, str] = {}
        done = {scan: self.book.sheets[scan] for scan in self.book.done}
        for scan, sheet in done.items():
            try:
                made[scan] = self._cloud(scan, sheet)
            except (ValueError, OSError) as error:
                failed[scan] = said(error)
        items = [item for item, _ in made.values()]
        if any(len(item.names) for item in items):
            # A click lies on its scan: how far the nearest sample is says nothing of it.
            write_labeled(
                self.book.root,
                self.book.category,
                items,
                names=self.book.names,
                mirror_pairs=side_pairs(self.book.names),
                tolerance=math.inf,
                overwrite=True,
                split={self.names[scan]: done[scan].split or "train" for scan in made},
                **self._options,
            )
        else:
            made = {}
        self._written = done
        self._last = Written(list(made), failed, max((moved for _, moved in made.values()), default=0.0))
        return self._last

    def _cloud(self, scan: str, sheet: Sheet) -> tuple[LabeledCloud, float]:
        """Return the cloud of a scan, and how far its keypoints are from its points."""
        from scipy.spatial import KDTree

        if scan in self._made and self._made[scan][0] == sheet:
            return self._made[scan][1:]
        if scan not in self.names:
            raise ValueError(f"`{scan}`: has labels, and is not among the scans")
        shape = self._read(scan)
        if shape.size != sheet.size:
            raise ValueError(
                f"`{scan}`: is not the scan that was labeled: it has {shape.size[0]} vertices and {shape.size[1]} "
                f"faces, and had {sheet.size[0]} and {sheet.size[1]}"
            )
        placed = {name: at for name, at in sheet.labels.items() if at is not None}
        keypoints = np.array(list(placed.values()), np.float64).reshape(-1, 3)
        points, colors = sample_shape(shape, self._num_points, keep=keypoints)
        distance = np.asarray(KDTree(points).query(keypoints)[0]) if len(placed) else np.zeros(1)
        moved = float(distance.max()) / (2 * shape.radius)
        item = LabeledCloud(points, keypoints, list(placed), colors, self.names[scan])
        self._made[scan] = (sheet, item, moved)
        return item, moved
