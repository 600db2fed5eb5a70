"""Clouds of several categories with the keypoints of all of them."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool
from torch import Tensor
from torch.nn import functional as F
from torch_geometric.data import Data

from pcsa.datasets.cache import Table
from pcsa.datasets.keypointnet.dataset import KeypointNet
from pcsa.datasets.keypointnet.symmetry import Symmetry


class KeypointCategories(KeypointNet):
    """The clouds of several categories, one category after the other, with a column for each keypoint of each.

    A cloud lacks the keypoints of other categories: they are zeros, not ``visible``, and -1. An item has, beside what
    :class:`KeypointNet` gives (``marks`` if any category has some, as many of each keypoint as that with the most),

    - ``category``, a str;
    - ``counted [1, K]`` bool: the columns of its category. Where a column is not counted, ``visible`` says nothing of
      the cloud: nobody looked for that keypoint.

    Args:
        parts: The categories, of one split. Their names must differ, and have no comma.

    Attributes:
        parts (tuple of KeypointNet): The categories.
        category (str): Their names, with commas between.
        categories (tuple of str): The category of each column.
        semantic_ids (tuple of int): Semantic id of each column; different categories may use the same ones.
        names (tuple of str): ``"<category>/<name>"`` of each column.

    Raises:
        ValueError: If there is no part, if the parts are not different categories of one split, or if they do not have
            one axis that points up.
    """

    def __init__(self, parts: Sequence[KeypointNet]) -> None:
        names = [part.category for part in parts]
        if not parts or len(set(names)) < len(names) or len({part.split for part in parts}) > 1:
            raise ValueError(f"`parts` (={list(parts)}) must be different categories of one split")
        if len({part.up for part in parts}) > 1:
            ups = ", ".join(f"{part.category} {part.up}" for part in parts)
            raise ValueError(f"`parts` must have one axis that points up: {ups}")
        self.parts, self.up = tuple(parts), parts[0].up
        self.groups = {name: f"{part.category}/{group}" for part in parts for name, group in part.groups.items()}
        self.root, self.split, self.fold, self.transform = parts[0].root, parts[0].split, parts[0].fold, None
        self.category = ",".join(names)
        self.class_id = ",".join(part.class_id for part in parts)
        self.categories = tuple(part.category for part in parts for _ in part.semantic_ids)
        self.semantic_ids = tuple(i for part in parts for i in part.semantic_ids)
        self.names = tuple(f"{part.category}/{name}" for part in parts for name in part.names)
        self.num_keypoints = len(self.names)
        self.model_ids = [name for part in parts for name in part.model_ids]
        self.missing = [name for part in parts for name in part.missing]
        self.flipped = tuple(name for part in parts for name in part.flipped)
        self._items = [(p, i) for p, part in enumerate(parts) for i in range(len(part))]
        self._first = [sum(part.num_keypoints for part in parts[:p]) for p in range(len(parts))]
        self._dtype = torch.float32
        # A batch needs one type, and tables of symmetries of one size.
        self._sizes = {"reflection": 0, "rotation": 0}
        self._group = self._marks_of_each = 0
        for item in (part[0] for part in parts):
            self._dtype = torch.promote_types(self._dtype, item.pos.dtype)
            self._sizes = {name: max(size, item[name].shape[1]) for name, size in self._sizes.items()}
            self._group = max(self._group, item.rotation.shape[2])
            self._marks_of_each = max(self._marks_of_each, item.marked.shape[2] if "marked" in item else 0)

    @property
    def visible(self) -> Bool[Tensor, "n K"]:
        """Which keypoints each of the clouds has."""
        return torch.block_diag(*(part.visible.float() for part in self.parts)).bool()

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> Data:
        p, i = self._items[index]
        part, first = self.parts[p], self._first[p]
        data = part[i]
        sides = (first, self.num_keypoints - first - part.num_keypoints)
        data.pos = data.pos.to(self._dtype)
        data.keypoints = F.pad(data.keypoints.to(self._dtype), (0, 0, *sides))
        data.counted = F.pad(torch.ones_like(data.visible), sides)
        data.visible = F.pad(data.visible, sides)
        data.keypoint_index = F.pad(data.keypoint_index, sides, value=-1)
        for name, size in self._sizes.items():
            table = torch.where(data[name] >= 0, data[name] + first, -1)
            width = self._group - table.shape[2] if name == "rotation" else 0
            data[name] = F.pad(table, (0, width, 0, size - table.shape[1]), value=-1)
        data.is_circle = F.pad(data.is_circle, (0, self._sizes["rotation"] - data.is_circle.shape[1]))
        data.category = part.category
        if self._marks_of_each:
            missing = self._marks_of_each - (data.marked.shape[2] if "marked" in data else 0)
            shape = (1, part.num_keypoints, 0)
            marked = data.marked if "marked" in data else torch.zeros(shape, dtype=torch.bool)
            marks = data.marks.to(self._dtype) if "marks" in data else torch.zeros(*shape, 3, dtype=self._dtype)
            data.marked = F.pad(marked, (0, missing, *sides))
            data.marks = F.pad(marks, (0, 0, 0, missing, *sides))
        return data

    def cached(self, name: str, make: Callable[[], Table]) -> Table:
        """See :meth:`KeypointNet.cached`; the file lies with those of the first category."""
        return self.parts[0].cached(name, make)

    def symmetry(self, index: int) -> Symmetry:
        """Return the symmetries of item `index` as lists of columns."""
        p, i = self._items[index]
        rotation, reflection = self.parts[p].symmetry(i)
        first = self._first[p]
        moved = [([column + first for column in columns], circle) for columns, circle in rotation]
        return Symmetry(moved, [(a + first, b + first) for a, b in reflection])

    def __repr__(self) -> str:
        return f"KeypointCategories({self.category}, {self.split}, {len(self)} clouds, {self.num_keypoints} keypoints)"
