"""Clouds without labels: a folder of `.pcd` files in KeypointNet's layout."""

import os
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torch_geometric.data import Data

from pcsa.datasets.keypointnet.categories import CLASS_IDS
from pcsa.datasets.keypointnet.layout import models_of_split
from pcsa.datasets.pcd import read_pcd
from pcsa.datasets.splits import SPLITS, check_split


class CloudList(Dataset[Data]):
    """Clouds in memory; a subclass reads them.

    Each item is a :class:`torch_geometric.data.Data` with ``pos [N, 3]``, float32 in the file's own units and frame,
    and ``model_id``, a str.

    Attributes:
        model_ids (list of str): Name of each item.

    """

    model_ids: list[str]
    _points: list[Tensor]

    def __init__(self, root: str | os.PathLike[str], split: str) -> None:
        check_split(split, "all")
        self.root, self.split = Path(root), split

    def __len__(self) -> int:
        return len(self._points)

    def __getitem__(self, index: int) -> Data:
        return Data(pos=self._points[index].clone(), model_id=self.model_ids[index])


class UnlabeledClouds(CloudList):
    """The clouds ``<root>/pcds/<class_id>/*.pcd`` of one category, whether it has annotations or not.

    The items are those of :class:`CloudList`.

    Args:
        root: The folder.
        category: A name of :data:`pcsa.datasets.keypointnet.CLASS_IDS`, or the name of a folder in ``<root>/pcds``.
        split: ``"train"``, ``"val"`` or ``"test"``: the clouds that ``<root>/splits/<split>.txt`` names and that the
            root has; without any file of splits every cloud is in ``"train"``. Or ``"all"``.

    Raises:
        FileNotFoundError: If the folder is missing or has no cloud of the split.
        ValueError: If a cloud cannot be read, has no points or has values that are not finite; the message names the
            file.

    """

    def __init__(self, root: str | os.PathLike[str], category: str, split: str) -> None:
        super().__init__(root, split)
        self.category = category
        class_id = CLASS_IDS.get(category, category)
        folder = self.root / "pcds" / class_id
        if not folder.is_dir():
            raise FileNotFoundError(f"`{folder}` is missing: clouds of `category` (={category!r}) must lie in it")
        files = {path.stem: path for path in sorted(folder.glob("*.pcd"))}
        lists: dict[str, Path] = {name: self.root / "splits" / f"{name}.txt" for name in SPLITS}
        if split != "all" and any(path.exists() for path in lists.values()):
            wanted = models_of_split(lists[split], class_id) if lists[split].exists() else []
            files = {name: files[name] for name in wanted if name in files}
        elif split in ("val", "test"):
            files = {}
        if not files:
            raise FileNotFoundError(f"`{folder}` has no cloud of split {split!r}")
        self.model_ids = list(files)
        self._points = []
        for path in files.values():
            points = read_pcd(path).points
            if len(points) == 0:
                raise ValueError(f"`{path}` has no points")
            self._points.append(torch.from_numpy(points))

    def __repr__(self) -> str:
        return f"UnlabeledClouds({self.category}, {self.split}, {len(self)} clouds)"
