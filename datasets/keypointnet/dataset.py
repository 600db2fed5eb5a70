"""The dataset: the clouds of one category and split, with their keypoints."""

import logging
import operator
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor
from torch.utils.data import Dataset
from torch_geometric.data import Data

from pcsa.datasets.cache import Table, kept
from pcsa.datasets.faults import some
from pcsa.datasets.folds import Fold
from pcsa.datasets.keypointnet.changes import settle
from pcsa.datasets.keypointnet.layout import MISALIGNED, models_of_split
from pcsa.datasets.keypointnet.processed import processed_category
from pcsa.datasets.keypointnet.symmetry import Symmetry, rotation_groups
from pcsa.datasets.shots import Shots
from pcsa.datasets.splits import SPLITS, check_split
from pcsa.datasets.up import up_axis

_log = logging.getLogger(__name__)


class KeypointData(Data):
    """A cloud whose ``keypoint_index`` counts from its own first point in a batch too, so that -1 stays -1."""

    def __inc__(self, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        return 0 if key == "keypoint_index" else super().__inc__(key, value, *args, **kwargs)

    def __cat_dim__(self, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        return 0 if key == "keypoint_index" else super().__cat_dim__(key, value, *args, **kwargs)


class KeypointNet(Dataset[Data]):
    r"""The clouds of one category of KeypointNet with their keypoints.

    `"KeypointNet: A Large-scale 3D Keypoint Dataset Aggregated from Numerous Human Annotations"
    <https://arxiv.org/abs/2002.12687>`_. y is up, the frame is ShapeNet's, the units are those of the files (the
    bounding box of a shape has a diagonal of about 1).

    The root holds ``annotations/<category>.json``, ``pcds/<class_id>/<model_id>.pcd`` and ``splits/<split>.txt``.
    :func:`download` fetches them; :func:`pcsa.datasets.custom.write_labeled` writes the same layout from your own
    clouds, under any category name. A category without a file of its own is taken out of ``annotations/all.json``.
    Hidden files (``._bed.json``) are skipped.

    The root is only read. The processed category is kept in the cache (:mod:`pcsa.datasets.cache`), named by the
    contents of its annotations and clouds, so that it is built again when one of them changes. A ``processed`` folder
    in the root, which earlier versions wrote, is not read; it may be deleted.

    Where the root has a ``knife_misaligned.txt``, as the release has, the sign of x changes in the points and keypoints
    of the knives that it lists: ShapeNet has their x axis flipped. ``flipped`` names them, and a line of the log counts
    them. Meshes stay as they are.

    Each item is a :class:`torch_geometric.data.Data` with

    - ``pos [N, 3]`` and ``color [N, 3]`` uint8 (white where a file has none). ``pos`` is float32, or float64 for a
      category with a cloud that is so far from the origin that float32 would move a point by more than 1e-6 of the
      cloud's extent (:func:`pcsa.datasets.point_cloud.lossless_dtype`);
    - ``keypoints [1, K, 3]`` like ``pos``, ``visible [1, K]`` bool, ``keypoint_index [1, K]`` int64: the row of
      ``pos`` that is nearest to the keypoint; zeros, False and -1 where a keypoint is missing. Keypoints are points of
      the cloud, but in roots that were written without ``snap``;
    - ``reflection [1, P, 2]``, ``rotation [1, G, C]`` int64, ``is_circle [1, G]`` bool: the shape's
      symmetries in columns of ``keypoints``, filled up with -1 and False to the same size over the category
      (see :func:`rotation_groups`, or :meth:`symmetry` for plain lists);
    - ``model_id``, a str;
    - ``marks [1, K, M, 3]`` and ``marked [1, K, M]`` bool, where people marked keypoints several times: all places, of
      which ``keypoints`` has the mean;
    - ``up``, 0, 2 or -1, where the axis that points up is another than y (:func:`pcsa.datasets.up.up_axis`).

    Args:
        root: The folder.
        category: A name of the table below, or of a file in ``<root>/annotations``.
        split: ``"train"``, ``"val"``, ``"test"``, or ``"all"``.
        transform: Changes each item.
        strict: Whether a cloud that the split names and the root lacks is an error. Default: a warning says how many
            there are.
        keypoint_ids: The semantic ids that make the columns, in that order. Default: all that occur in the
            category, sorted, whatever the split. A symmetry that involves an id left out is left out too.
        cache_dir: Folder of the processed file. Default: one in :func:`pcsa.datasets.cache.cache_folder`.
        fold: What ``"train"`` and ``"val"`` mean in place of the split files: all folds but one, and this one. Clouds
            of one group, and clouds that are equal point by point, lie in one fold.
        shots: How many of the clouds of ``"train"`` there are to be, and which; other splits have all of theirs.

    Attributes:
        semantic_ids (tuple of int): Semantic id of each column.
        num_keypoints (int): The number of columns K.
        names (tuple of str): Name of each column; its semantic id where the annotations have no names.
        model_ids (list of str): Model id of each item.
        missing (list of str): Model ids that the split names and that lack a cloud or an annotation.
        class_id (str): Class id, from the annotations.
        flipped (tuple of str): Model ids of the split whose x axis was turned round.
        groups (dict of str to str): What clouds of the category belong to, by model id, of those that are not alone.
        up (str): The axis that points up, or ``"none"``, as :func:`pcsa.datasets.custom.write_labeled` was told.

    Raises:
        FileNotFoundError: If the root, its annotations or its split file is missing, or all clouds of the split are,
            or, with ``strict``, one of them.
        ValueError: If the category or split is unknown, if ``keypoint_ids`` has ids that the annotations lack, or if
            the data is broken: an unreadable cloud, a point index out of range, coordinates that are not those of the
            indexed point, a semantic id twice in a shape. :func:`check_root` lists all such faults.

    The categories, with the number of clouds that the split files name, where it was counted:

    ============ ========== ===== === ====
    category     class id   train val test
    ============ ========== ===== === ====
    airplane     02691156   715   102 205
    bathtub      02808440   344   49  99
    bed          02818832   102   14  30
    bottle       02876657   266   38  76
    cap          02954340   26    4   8
    car          02958343
    chair        03001627   699   100 200
    guitar       03467517
    helmet       03513137
    knife        03624134
    laptop       03642806
    motorcycle   03790512
    mug          03797390
    skateboard   04225987
    table        04379243
    vessel       04530566
    ============ ========== ===== === ====

    Example:
        >>> dataset = KeypointNet("data/keypointnet", "bed", "train")  # doctest: +SKIP
        >>> dataset  # doctest: +SKIP
        KeypointNet(bed, train, 102 clouds, 20 keypoints)

    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        category: str,
        split: str,
        *,
        transform: Callable[[Data], Data] | None = None,
        strict: bool = False,
        keypoint_ids: Sequence[int] | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        fold: Fold | None = None,
        shots: Shots | None = None,
    ) -> None:
        check_split(split, "all")
        self.root, self.category, self.split, self.fold = Path(root), category, split, fold
        self.transform = transform
        self._cache_dir = None if cache_dir is None else Path(cache_dir)
        settle(self.root)
        table = processed_category(self.root, category, self._cache_dir)

        self.class_id = str(table["class_id"])
        self.up = str(table["up"])
        grouped = zip(table["model_ids"].tolist(), table["groups"].tolist(), strict=True)
        self.groups: dict[str, str] = {model_id: group for model_id, group in grouped if group}
        self._points = torch.from_numpy(table["points"])
        self._colors = torch.from_numpy(table["colors"])
        self._ptr: list[int] = table["ptr"].tolist()
        self._select_columns(table, keypoint_ids)

        row_of = {model_id: row for row, model_id in enumerate(table["model_ids"].tolist())}
        wanted: dict[str, None] = {}
        for name in SPLITS if split == "all" else (split,) if fold is None else fold.sources(split):
            path = self.root / "splits" / f"{name}.txt"
            if split != "all" or path.exists():
                wanted.update(dict.fromkeys(models_of_split(path, self.class_id)))
        if split == "all":
            wanted.update(dict.fromkeys(row_of))
        elif fold is not None and wanted:
            clouds = {name: self._cloud(row_of[name]) for name in wanted if name in row_of}
            wanted = dict.fromkeys(fold.part(split, list(wanted), clouds, self.groups))
        if shots is not None and split == "train" and wanted:
            # What is not here cannot be trained on.
            here = [name for name in wanted if name in row_of]
            of = f"{category}, split {repr(split) if fold is None else fold.of_split(split)}"
            wanted = dict.fromkeys(shots.part(here, self.groups, of))
        self.model_ids = [model_id for model_id in wanted if model_id in row_of]
        self.missing = [model_id for model_id in wanted if model_id not in row_of]
        self._rows = [row_of[model_id] for model_id in self.model_ids]
        flipped = table["flipped"].tolist()
        self.flipped = tuple(name for name, row in zip(self.model_ids, self._rows, strict=True) if flipped[row])
        if self.flipped:
            path = self.root / MISALIGNED
            _log.warning("`%s`: x changes its sign in %d clouds of the %d", path, len(self.flipped), len(self._rows))
        self._report_missing(strict)

    def _select_columns(self, table: Table, keypoint_ids: Sequence[int] | None) -> None:
        known: list[int] = table["semantic_ids"].tolist()
        try:
            ids = known if keypoint_ids is None else [operator.index(i) for i in keypoint_ids]
        except TypeError:
            raise ValueError(f"`keypoint_ids` (={keypoint_ids!r}) must be whole numbers") from None
        absent = [i for i in ids if i not in known]
        if absent or not ids or len(set(ids)) < len(ids):
            raise ValueError(
                f"`keypoint_ids` (={ids}) must be different semantic ids of `{self.category}`, which has "
                f"{len(known)}: {known}"
            )
        columns = [known.index(i) for i in ids]
        names = table["names"].tolist()
        self.semantic_ids = tuple(ids)
        self.num_keypoints = len(ids)
        self.names = tuple(names[column] for column in columns)
        self._index = torch.from_numpy(table["keypoint_index"])[:, columns]
        targets, marks = (torch.from_numpy(table[name]) for name in ("targets", "marks"))
        self._targets = targets[:, columns] if targets.numel() else None
        self._marks = marks[:, columns] if marks.numel() else None

        new_column = torch.full((len(known) + 1,), -2)  # -2: left out; the last entry serves the filling, -1
        new_column[columns] = torch.arange(len(ids))
        new_column[-1] = -1
        reflection = new_column[torch.from_numpy(table["reflection"])]
        rotation = new_column[torch.from_numpy(table["rotation"])]
        self._reflection = torch.where((reflection == -2).any(-1, keepdim=True), -1, reflection)
        self._rotation = torch.where((rotation == -2).any(-1, keepdim=True), -1, rotation)
        self._is_circle = torch.from_numpy(table["is_circle"]) & (self._rotation >= 0).any(-1)

    @property
    def visible(self) -> Bool[Tensor, "n K"]:
        """Which keypoints each of the clouds has."""
        return self._index[self._rows] >= 0

    def _report_missing(self, strict: bool) -> None:
        if self.model_ids and not self.missing:
            return
        total = len(self.model_ids) + len(self.missing)
        split = repr(self.split) if self.fold is None else self.fold.of_split(self.split)
        if total == 0:
            raise FileNotFoundError(
                f"`{self.root}`: split {split} names no cloud of {self.category}: it has no line "
                f"`{self.class_id}-<model id>`"
            )
        message = (
            f"`{self.root}`: {len(self.missing)} of the {total} {self.category} clouds that split "
            f"{split} names are missing (cloud or annotation){': ' * bool(self.missing)}{some(self.missing)}"
        )
        if strict or not self.model_ids:
            raise FileNotFoundError(message)
        _log.warning(message)

    def _cloud(self, row: int) -> Tensor:
        return self._points[self._ptr[row] : self._ptr[row + 1]]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Data:
        row = self._rows[index]
        # Cloned, so that a transform that works in place cannot spoil the dataset.
        pos = self._cloud(row).clone()
        keypoint_index = self._index[row]
        visible = keypoint_index >= 0
        keypoints = torch.where(visible[:, None], pos[keypoint_index.clamp(min=0)], 0.0)
        if self._targets is not None:
            keypoints = torch.where(self._targets[row].isfinite(), self._targets[row], keypoints)
        data = KeypointData(
            pos=pos,
            color=self._colors[self._ptr[row] : self._ptr[row + 1]].clone(),
            keypoints=keypoints[None],
            visible=visible[None],
            keypoint_index=keypoint_index[None].clone(),
            reflection=self._reflection[row][None].clone(),
            rotation=self._rotation[row][None].clone(),
            is_circle=self._is_circle[row][None].clone(),
            model_id=self.model_ids[index],
        )
        if self._marks is not None:
            data.marked = self._marks[row].isfinite().all(-1)[None]
            data.marks = self._marks[row].nan_to_num(0.0)[None]
        if self.up != "y":
            data.up = up_axis(self.up)
        return data if self.transform is None else self.transform(data)

    def cached(self, name: str, make: Callable[[], Table]) -> Table:
        """Return arrays that are made once and then kept in a file beside the processed category, in the cache.

        Args:
            name: Name of the file, without its suffix. It must change with whatever `make` depends on.
            make: Makes the arrays, where there is no such file or a damaged one.

        """
        return kept(self._cache_dir, name, make)

    def symmetry(self, index: int) -> Symmetry:
        """Return the symmetries of item `index` as lists of columns."""
        row = self._rows[index]
        pairs = [(a, b) for a, b in self._reflection[row].tolist() if a >= 0]
        return Symmetry(rotation_groups(self._rotation[row], self._is_circle[row]), pairs)

    def __repr__(self) -> str:
        split = self.split if self.fold is None else self.fold.of_split(self.split)
        return f"KeypointNet({self.category}, {split}, {len(self)} clouds, {self.num_keypoints} keypoints)"
