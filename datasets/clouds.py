"""Clouds without labels: a folder of `.pcd` files in KeypointNet's layout."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset
from torch_geometric.data import Data

from pcsa._core.progress import progress
from pcsa.datasets.folds import Fold
from pcsa.datasets.keypointnet.categories import CLASS_IDS
from pcsa.datasets.keypointnet.layout import models_of_split
from pcsa.datasets.pcd import read_pcd
from pcsa.datasets.point_cloud import lossless_dtype
from pcsa.datasets.splits import SPLITS, check_split


class CloudList(Dataset[Data]):
    """Clouds in memory; a subclass reads them.

    Each item is a :class:`torch_geometric.data.Data` with ``pos [N, 3]`` in the file's own units and frame, and
    ``model_id``, a str. ``pos`` is float32; where that would not keep the shape of one of the clouds
    (:func:`~pcsa.datasets.point_cloud.lossless_dtype`: clouds far from the origin), it is float64 in all items.

    Attributes:
        model_ids (list of str): Name of each item.

    """

    model_ids: list[str]
    _points: list[Tensor]

    def __init__(self, root: str | os.PathLike[str], split: str, fold: Fold | None = None) -> None:
        check_split(split, "all")
        self.root, self.split, self.fold = Path(root), split, fold

    def _leave_part(self, listed: Sequence[str]) -> None:
        """Keep the clouds that the fold has in the split; ``listed`` are the names of all that it deals out."""
        if self.fold is None:
            return
        clouds = dict(zip(self.model_ids, self._points, strict=True))
        part = self.fold.part(self.split, listed, clouds)
        self.model_ids = [name for name in part if name in clouds]
        self._points = [clouds[name] for name in self.model_ids]
        if not self.model_ids:
            raise FileNotFoundError(f"`{self.root}` has no cloud of split {self.fold.of_split(self.split)}")

    @property
    def _split_name(self) -> str:
        return self.split if self.fold is None else self.fold.of_split(self.split)

    def __len__(self) -> int:
        return len(self._points)

    def __getitem__(self, index: int) -> Data:
        return Data(pos=self._points[index].clone(), model_id=self.model_ids[index])


def as_tensors(clouds: Sequence[NDArray[np.floating]]) -> list[Tensor]:
    """Return clouds as tensors of the one dtype that keeps the shape of all, see :class:`CloudList`."""
    dtype = max((lossless_dtype(cloud) for cloud in clouds), key=lambda kept: kept.itemsize, default=None)
    return [torch.from_numpy(cloud.astype(dtype)) for cloud in clouds]


class UnlabeledClouds(CloudList):
    """The clouds ``<root>/pcds/<class_id>/*.pcd`` of one category, whether it has annotations or not.

    The items are those of :class:`CloudList`.

    Args:
        root: The folder.
        category: A name of :data:`pcsa.datasets.keypointnet.CLASS_IDS`, or the name of a folder in ``<root>/pcds``.
        split: ``"train"``, ``"val"`` or ``"test"``: the clouds that ``<root>/splits/<split>.txt`` names and that the
            root has; without any file of splits every cloud is in ``"train"``. Or ``"all"``.
        drop_invalid: Whether to leave out the points that are not finite.
        fold: What ``"train"`` and ``"val"`` mean in place of the files of splits, see :class:`Fold`.

    Attributes:
        num_dropped (int): Number of points that were left out.

    Raises:
        FileNotFoundError: If the folder is missing or has no cloud of the split.
        ValueError: If a cloud cannot be read, has no points or has values that are not finite; the message names the
            file. Hidden files are no clouds.

    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        category: str,
        split: str,
        *,
        drop_invalid: bool = False,
        fold: Fold | None = None,
    ) -> None:
        super().__init__(root, split, fold)
        self.category = category
        class_id = CLASS_IDS.get(category, category)
        folder = self.root / "pcds" / class_id
        if not folder.is_dir():
            raise FileNotFoundError(f"`{folder}` is missing: clouds of `category` (={category!r}) must lie in it")
        files = _clouds_in(folder)
        lists: dict[str, Path] = {name: self.root / "splits" / f"{name}.txt" for name in SPLITS}
        sources = (split,) if fold is None else fold.sources(split)
        listed = list(files)
        if split != "all" and any(path.exists() for path in lists.values()):
            listed = [n for s in sources if lists[s].exists() for n in models_of_split(lists[s], class_id)]
            files = {name: files[name] for name in listed if name in files}
        elif not {"train", "all"} & set(sources):
            files = {}
        if not files:
            raise FileNotFoundError(f"`{folder}` has no cloud of split {split!r}")
        self.model_ids = list(files)
        clouds = []
        self.num_dropped = 0
        for path in progress(files.values(), f"reading {category}"):
            cloud = read_pcd(path, drop_invalid=drop_invalid)
            if len(cloud.points) == 0:
                raise ValueError(f"`{path}`: has no points")
            clouds.append(cloud.points)
            self.num_dropped += cloud.num_dropped
        self._points = as_tensors(clouds)
        self._leave_part(listed)

    def __repr__(self) -> str:
        return f"UnlabeledClouds({self.category}, {self._split_name}, {len(self)} clouds)"


def _clouds_in(folder: Path) -> dict[str, Path]:
    """Return the clouds in a folder by name; hidden files, and the twins that macOS adds (`._*`), are none."""
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() == ".pcd" and not path.name.startswith(".") and path.is_file():
            if path.stem in files:
                raise ValueError(f"`{path}` and `{files[path.stem]}` have one name")
            files[path.stem] = path
    return files
