"""KeypointNet: annotated 3-D keypoints on ShapeNet models, read from its release layout."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils.data import Dataset
from torch_geometric.data import Data

from pcsa.datasets.pcd import read_pcd

_log = logging.getLogger(__name__)

CLASS_IDS = {
    "airplane": "02691156",
    "bathtub": "02808440",
    "bed": "02818832",
    "bottle": "02876657",
    "cap": "02954340",
    "car": "02958343",
    "chair": "03001627",
    "guitar": "03467517",
    "helmet": "03513137",
    "knife": "03624134",
    "laptop": "03642806",
    "motorcycle": "03790512",
    "mug": "03797390",
    "skateboard": "04225987",
    "table": "04379243",
    "vessel": "04530566",
}
"""KeypointNet's categories and their ShapeNet class ids."""

SPLITS = ("train", "val", "test")
REPO_ID = "qq456cvb/KeypointNet"
_CACHE_VERSION = 1
# The release prints xyz with more digits than the clouds have: they agree to 5e-7 of a shape of size 1.
_XYZ_TOLERANCE = 1e-5


class Symmetry(NamedTuple):
    """The symmetries of one shape, in columns of `keypoints`.

    ``rotation`` lists ``(columns, is_circle)``: keypoints that a rotation about the up axis takes into each
    other; ``reflection`` lists pairs of columns that a mirror plane (the data does not say which) exchanges.
    """

    rotation: list[tuple[list[int], bool]]
    reflection: list[tuple[int, int]]


class Problem(NamedTuple):
    """One thing that is missing or broken in a root: where, and what."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


class KeypointData(Data):
    """A cloud whose ``keypoint_index`` stays a row of its own cloud, and -1 stays -1, in a batch."""

    def __inc__(self, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        return 0 if key == "keypoint_index" else super().__inc__(key, value, *args, **kwargs)

    def __cat_dim__(self, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        return 0 if key == "keypoint_index" else super().__cat_dim__(key, value, *args, **kwargs)


class KeypointNet(Dataset[Data]):
    r"""The clouds of one category of KeypointNet with their keypoints.

    From "KeypointNet: A Large-scale 3D Keypoint Dataset Aggregated from Numerous Human Annotations"
    (`arXiv:2002.12687 <https://arxiv.org/abs/2002.12687>`_). y is up, the frame is ShapeNet's, the units are
    those of the files (the bounding box of a shape has a diagonal of about 1).

    Reads ``<root>/annotations/<category>.json``, ``<root>/pcds/<class_id>/<model_id>.pcd`` and
    ``<root>/splits/<split>.txt``. :func:`download` fetches them; :func:`pcsa.datasets.custom.write_labeled`
    writes the same layout from your own clouds, and then any category name works.

    The processed category is kept in one file and rebuilt when an annotation or a cloud changes.

    Each item is a :class:`torch_geometric.data.Data` with

    - ``pos [N, 3]`` float32 and ``color [N, 3]`` uint8 (white where a file has none);
    - ``keypoints [1, K, 3]`` float32, ``visible [1, K]`` bool, ``keypoint_index [1, K]`` int64: the row of
      ``pos``; where a keypoint is missing it is zeros, False and -1;
    - ``reflection [1, P, 2]``, ``rotation [1, G, C]`` int64, ``is_circle [1, G]`` bool: the shape's
      symmetries in columns of ``keypoints``, filled up with -1 and False to the same size over the category
      (see :func:`rotation_groups`, or :meth:`symmetry` for plain lists);
    - ``model_id`` str.

    Args:
        root: The folder.
        category: A name of the table below, or of a file in ``<root>/annotations``.
        split: ``"train"``, ``"val"``, ``"test"``, or ``"all"``.
        transform: Applied to each item.
        strict: Raise if a cloud that the split names is missing, instead of logging how many are.
        keypoint_ids: The semantic ids that make the columns, in that order. Default: all that occur in the
            category, sorted, whatever the split. A symmetry that involves an id left out is left out too.
        cache_dir: Folder of the processed file. Default: ``<root>/processed``, or where that cannot be
            written a folder of its own under ``$XDG_CACHE_HOME/pcsa`` (``~/.cache/pcsa``).

    Attributes:
        semantic_ids (tuple of int): Semantic id of each column.
        num_keypoints (int): The number of columns K.
        names (tuple of str): Name of each column; its semantic id where the annotations have no names.
        model_ids (list of str): Model id of each item.
        missing (list of str): Model ids that the split names and the root lacks (the cloud or its
            annotation).
        class_id (str): Class id, from the annotations.

    Raises:
        FileNotFoundError: If the root, its annotations or its split file is missing, no cloud of the split is
            there, or (``strict``) any is missing.
        ValueError: If the category or split is unknown, ``keypoint_ids`` has ids that the annotations have
            not, or the data is broken: an unreadable cloud, a point index out of range, coordinates that are
            not those of the indexed point, a semantic id twice in a shape. :func:`check_root` lists all such
            faults.

    The categories, with the clouds that the split files name where counted:

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
    ) -> None:
        if split not in (*SPLITS, "all"):
            raise ValueError(f"`split` (={split!r}) must be one of {', '.join(SPLITS)}, all")
        self.root, self.category, self.split = Path(root), category, split
        self.transform = transform
        _check_category(self.root, category)
        self._cache_dir = None if cache_dir is None else Path(cache_dir)
        table = _load(self.root, category, self._cache_dir)

        self.class_id = str(table["class_id"])
        self._points = torch.from_numpy(table["points"])
        self._colors = torch.from_numpy(table["colors"])
        self._ptr: list[int] = table["ptr"].tolist()
        self._select_columns(table, keypoint_ids)

        row_of = {model_id: row for row, model_id in enumerate(table["model_ids"].tolist())}
        wanted: dict[str, None] = {}
        for name in SPLITS if split == "all" else (split,):
            path = self.root / "splits" / f"{name}.txt"
            if split != "all" or path.exists():
                wanted.update(dict.fromkeys(_read_split(path, self.class_id)))
        if split == "all":
            wanted.update(dict.fromkeys(row_of))
        self.model_ids = [model_id for model_id in wanted if model_id in row_of]
        self.missing = [model_id for model_id in wanted if model_id not in row_of]
        self._rows = [row_of[model_id] for model_id in self.model_ids]
        self._report_missing(strict)

    def _select_columns(self, table: dict[str, npt.NDArray], keypoint_ids: Sequence[int] | None) -> None:
        known: list[int] = table["semantic_ids"].tolist()
        ids = known if keypoint_ids is None else [int(i) for i in keypoint_ids]
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
        if total == 0:
            raise FileNotFoundError(f"`{self.root}`: split {self.split!r} names no cloud of {self.category}")
        first = ", ".join(self.missing[:3]) + (", …" if len(self.missing) > 3 else "")
        message = (
            f"`{self.root}`: {len(self.missing)} of the {total} {self.category} clouds that split "
            f"{self.split!r} names are missing (cloud or annotation){': ' + first if first else ''}"
        )
        if strict or not self.model_ids:
            raise FileNotFoundError(message)
        _log.warning(message)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Data:
        row = self._rows[index]
        # Cloned, so that a transform that works in place cannot spoil the dataset.
        pos = self._points[self._ptr[row] : self._ptr[row + 1]].clone()
        keypoint_index = self._index[row]
        visible = keypoint_index >= 0
        keypoints = torch.where(visible[:, None], pos[keypoint_index.clamp(min=0)], 0.0)
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
        return data if self.transform is None else self.transform(data)

    def cached(self, name: str, make: Callable[[], dict[str, npt.NDArray]]) -> dict[str, npt.NDArray]:
        """Return arrays that are made once and then kept in a file beside the processed category.

        Args:
            name: Of the file, less its suffix. It must change with whatever `make` depends on.
            make: Called if there is no such file, or a damaged one.

        """
        return _kept(name, self.root, self._cache_dir, lambda file: True, make)

    def symmetry(self, index: int) -> Symmetry:
        """Return the symmetries of item `index` as lists of columns."""
        row = self._rows[index]
        pairs = [(a, b) for a, b in self._reflection[row].tolist() if a >= 0]
        return Symmetry(rotation_groups(self._rotation[row], self._is_circle[row]), pairs)

    def __repr__(self) -> str:
        return f"KeypointNet({self.category}, {self.split}, {len(self)} clouds, {self.num_keypoints} keypoints)"


def rotation_groups(rotation: Int[Tensor, "G C"], is_circle: Bool[Tensor, " G"]) -> list[tuple[list[int], bool]]:
    """List the rotation groups of one shape, from the filled-up tensors of an item or a row of a batch.

    Example:
        >>> rotation_groups(torch.tensor([[0, 2], [1, -1], [-1, -1]]), torch.tensor([False, True, False]))
        [([0, 2], False), ([1], True)]

    """
    groups = [
        ([column for column in columns if column >= 0], circle)
        for columns, circle in zip(rotation.tolist(), is_circle.tolist(), strict=True)
    ]
    return [(columns, circle) for columns, circle in groups if columns]


def rotated_labelings(
    pos: Float[Tensor, "N 3"],
    keypoints: Float[Tensor, "K 3"],
    visible: Bool[Tensor, " K"],
    groups: Sequence[tuple[Sequence[int], bool]],
    *,
    category: str | None = None,
) -> tuple[Float[Tensor, "R K 3"], Int[Tensor, "R K"]]:
    """Find the labelings of a rotationally symmetric shape that are as right as the annotated one.

    The protocol of KeypointNet's benchmark: the keypoints are turned about the vertical (y) axis through the
    mean of the first group by 2πi/R and moved to the nearest point of the cloud; R is 36 if every group is a
    circle and the size of the first group otherwise. Shapes without groups and all chairs have R = 1.

    Args:
        pos: The cloud, in the dataset's own units and frame.
        keypoints: The annotated keypoints.
        visible: Which of them the shape has.
        groups: ``(columns, is_circle)`` per group, as in :meth:`KeypointNet.symmetry`.
        category: The shape's category: ``"chair"`` is exempt.

    Returns:
        ``(keypoints [R, K, 3], index [R, K])``: the positions and the rows of `pos` nearest to them. The
        first labeling is the annotated one. Keypoints that the shape has not are zeros and -1.
        Nothing is differentiable.

    """
    if len(pos) == 0:
        raise ValueError("`pos` has no points")
    groups = [(kept, circle) for g, circle in groups if (kept := [c for c in g if visible[c]])]
    num = 1
    if groups and category != "chair":
        num = 36 if all(circle for _, circle in groups) else len(groups[0][0])
    with torch.no_grad():
        turned = keypoints[None]
        if num > 1:
            center = keypoints[list(groups[0][0])].mean(0) * keypoints.new_tensor([1.0, 0.0, 1.0])
            angle = torch.arange(num, device=pos.device, dtype=pos.dtype) * (2 * torch.pi / num)
            cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
            rows = [cos, zero, sin, zero, zero + 1, zero, -sin, zero, cos]
            turned = (keypoints - center) @ torch.stack(rows, -1).view(num, 3, 3).mT + center
        # The exact mode: the matrix form loses digits where distances are compared.
        distance = torch.cdist(turned.flatten(0, 1), pos, compute_mode="donot_use_mm_for_euclid_dist")
        index = distance.argmin(-1).view(num, -1)
        labelings = pos[index]
        labelings[0] = keypoints
        labelings = torch.where(visible[:, None], labelings, 0.0)
        return labelings, torch.where(visible, index, -1)


def download(
    root: str | os.PathLike[str],
    categories: Iterable[str],
    *,
    meshes: bool = False,
    revision: str | None = None,
) -> None:
    """Download categories of KeypointNet from the Hugging Face hub (`qq456cvb/KeypointNet`) into `root`.

    Files that are already there and up to date are not fetched again. The annotations are under the MIT
    licence, the shapes under ShapeNet's terms (research).

    Args:
        root: The folder, made if it is missing.
        categories: Names out of :data:`CLASS_IDS`.
        meshes: Also fetch the meshes (``ShapeNetCore.v2.ply/<class_id>``).
        revision: A commit or tag of the hub's repository. Default: its newest.

    Raises:
        ValueError: If a category is unknown.
        ConnectionError: If the hub cannot be reached or does not deliver.

    """
    from huggingface_hub import snapshot_download

    names = list(categories)
    unknown = [name for name in names if name not in CLASS_IDS]
    if unknown or not names:
        raise ValueError(f"`categories` (={names}) must be one or more of {', '.join(CLASS_IDS)}")
    patterns = ["splits/*.txt"]
    for name in names:
        patterns += [f"annotations/{name}.json", f"pcds/{CLASS_IDS[name]}/*"]
        if meshes:
            patterns.append(f"ShapeNetCore.v2.ply/{CLASS_IDS[name]}/*")
    by_hand = (
        f"Check the network, or fetch {', '.join(patterns)} by hand from "
        f"https://huggingface.co/datasets/{REPO_ID} into `{os.fspath(root)}`."
    )
    try:
        snapshot_download(
            REPO_ID,
            repo_type="dataset",
            revision=revision,
            local_dir=os.fspath(root),
            allow_patterns=patterns,
        )
    except Exception as error:
        if isinstance(error, OSError) and error.filename is not None:  # a file here, not the network
            raise
        raise ConnectionError(f"the Hugging Face hub did not deliver `{REPO_ID}` ({error}). {by_hand}") from error
    # Offline, the hub's client may hand back what the folder already holds and raise nothing.
    for name in names:
        annotations, clouds = Path(root, "annotations", f"{name}.json"), Path(root, "pcds", CLASS_IDS[name])
        if not annotations.is_file() or not _cloud_files(clouds):
            raise ConnectionError(f"the Hugging Face hub did not deliver `{name}` of `{REPO_ID}`. {by_hand}")


def check_root(root: str | os.PathLike[str]) -> list[Problem]:
    """List everything missing or broken in a root in the layout of KeypointNet, in one list.

    Looks at every annotation file, every cloud and every split file that is there; an empty list means that
    :class:`KeypointNet` loads every category strictly. Clouds that are named and absent are counted, one
    problem per category and split.
    """
    root = Path(root)
    if not root.is_dir():
        return [Problem(str(root), "no such folder")]
    problems = [
        Problem(folder, "missing") for folder in ("annotations", "pcds", "splits") if not (root / folder).is_dir()
    ]

    annotated: dict[str, set[str]] = {}
    for path in sorted(root.glob("annotations/*.json")):
        _check_annotations(root, path, annotated, problems)
    if not annotated and (root / "annotations").is_dir():
        problems.append(Problem("annotations", "no annotation file (<category>.json)"))

    clouds: dict[str, set[str]] = {}
    for folder in sorted(path for path in root.glob("pcds/*") if path.is_dir()):
        class_id = folder.name
        clouds[class_id] = set(_cloud_files(folder))
        if class_id not in annotated:
            problems.append(
                Problem(f"pcds/{class_id}", f"{len(clouds[class_id])} clouds and no annotations of the class")
            )
            continue
        for model_id in sorted(clouds[class_id] - annotated[class_id]):
            problems.append(Problem(f"pcds/{class_id}/{model_id}.pcd", "a cloud without annotation"))

    split_of: dict[str, str] = {}
    for split in SPLITS:
        path = root / "splits" / f"{split}.txt"
        where = f"splits/{split}.txt"
        if not path.is_file():
            if path.parent.is_dir():
                problems.append(Problem(where, "missing"))
            continue
        absent: Counter[str] = Counter()
        for line, count in Counter(path.read_text().split()).items():
            class_id, _, model_id = line.partition("-")
            if count > 1:
                problems.append(Problem(where, f"`{line}` is named {count} times"))
            if line in split_of:
                problems.append(Problem(where, f"`{line}` is in split {split_of[line]!r} too"))
            split_of[line] = split
            # Classes that the root does not hold at all are no fault: the release's splits name all of them.
            held = annotated.get(class_id, set()) & clouds.get(class_id, set())
            if (class_id in annotated or class_id in clouds) and model_id not in held:
                absent[class_id] += 1
        for class_id, count in sorted(absent.items()):
            problems.append(Problem(where, f"{count} clouds of class {class_id} are named and not there"))
    if split_of:
        for class_id, models in annotated.items():
            stray = [m for m in models & clouds.get(class_id, set()) if f"{class_id}-{m}" not in split_of]
            if stray:
                problems.append(Problem("splits", f"{len(stray)} clouds of class {class_id} are in no split"))
    return problems


class _Record(NamedTuple):
    """One shape's annotation; the symmetries as places in its own list of keypoints, as in the file."""

    class_id: str
    model_id: str
    semantic_ids: list[int]
    point_index: list[int]
    xyz: npt.NDArray[np.float64]
    names: list[str | None]
    rotation: list[tuple[list[int], bool]]
    reflection: list[tuple[int, int]]


def _parse_record(record: Any) -> _Record:
    try:
        keypoints = record["keypoints"]
        symmetries = record.get("symmetries") or {}
        return _Record(
            str(record["class_id"]),
            str(record["model_id"]),
            [int(k["semantic_id"]) for k in keypoints],
            [int(k["pcd_info"]["point_index"]) for k in keypoints],
            np.array([k["xyz"] for k in keypoints], dtype=np.float64).reshape(len(keypoints), 3),
            [k.get("name") for k in keypoints],
            [
                ([int(i) for i in group["kp_indexes"]], bool(group.get("is_circle")))
                for group in symmetries.get("rotation") or []
            ],
            [
                (int(group["kp_indexes"][0]), int(group["kp_indexes"][1]))
                for group in symmetries.get("reflection") or []
                if len(group["kp_indexes"]) == 2
            ],
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"not an annotation of KeypointNet ({type(error).__name__}: {error})") from error


def _faults(record: _Record, points: npt.NDArray[np.float32]) -> Iterator[str]:
    """Yield what is wrong between an annotation and its cloud."""
    if len(points) == 0:
        yield "the cloud has no points"
        return
    for semantic_id, count in Counter(record.semantic_ids).items():
        if count > 1:
            yield f"semantic id {semantic_id} occurs {count} times"
    size = max(np.ptp(points, axis=0).max(), np.abs(points).max())
    for semantic_id, index, xyz in zip(record.semantic_ids, record.point_index, record.xyz, strict=True):
        if not 0 <= index < len(points):
            yield f"`point_index` {index} of keypoint {semantic_id} is out of range for {len(points)} points"
        elif not np.abs(points[index] - xyz).max() <= _XYZ_TOLERANCE * size:
            yield f"`xyz` of keypoint {semantic_id} is not that of point {index}"
    groups = [columns for columns, _ in record.rotation] + [list(pair) for pair in record.reflection]
    if any(not 0 <= place < len(record.semantic_ids) for group in groups for place in group):
        yield f"`kp_indexes` of a symmetry points beyond the {len(record.semantic_ids)} keypoints"


def _read_annotations(path: Path) -> list[Any]:
    try:
        records = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"`{path}`: not a JSON file ({error})") from error
    if not isinstance(records, list) or not records:
        raise ValueError(f"`{path}`: must be a list of annotations with at least one")
    return records


def _check_annotations(root: Path, path: Path, annotated: dict[str, set[str]], problems: list[Problem]) -> None:
    where = f"annotations/{path.name}"
    try:
        entries = _read_annotations(path)
    except ValueError as error:
        problems.append(Problem(where, str(error)))
        return
    absent: dict[str, list[str]] = {}
    class_ids = set()
    num_keypoints = 0
    for number, entry in enumerate(entries):
        try:
            record = _parse_record(entry)
        except ValueError as error:
            problems.append(Problem(where, f"record {number}: {error}"))
            continue
        num_keypoints += len(record.semantic_ids)
        class_ids.add(record.class_id)
        models = annotated.setdefault(record.class_id, set())
        if record.model_id in models:
            problems.append(Problem(where, f"model {record.model_id} is annotated more than once"))
        models.add(record.model_id)
        cloud = root / "pcds" / record.class_id / f"{record.model_id}.pcd"
        if not cloud.is_file():
            absent.setdefault(record.class_id, []).append(record.model_id)
            continue
        try:
            points = read_pcd(cloud).points
        except (ValueError, OSError) as error:
            problems.append(Problem(str(cloud.relative_to(root)), str(error)))
            continue
        problems.extend(Problem(where, f"model {record.model_id}: {fault}") for fault in _faults(record, points))
    if len(class_ids) > 1:
        problems.append(Problem(where, f"more than one class id: {', '.join(sorted(class_ids))}"))
    if class_ids and not num_keypoints:
        problems.append(Problem(where, "no keypoint in the whole category"))
    for class_id, models_absent in absent.items():
        first = ", ".join(models_absent[:3]) + (", …" if len(models_absent) > 3 else "")
        problems.append(Problem(where, f"{len(models_absent)} annotated clouds are not in pcds/{class_id}: {first}"))


def _check_category(root: Path, category: str) -> None:
    here = {path.stem for path in root.glob("annotations/*.json")}
    if category not in CLASS_IDS and category not in here:
        raise ValueError(f"`category` (={category!r}) must be one of {', '.join(sorted(here | set(CLASS_IDS)))}")
    if not root.is_dir():
        raise FileNotFoundError(f"`root` (={str(root)!r}) is no folder")
    if category not in here:
        raise FileNotFoundError(
            f"`{root / 'annotations' / category}.json` is missing: `root` must have KeypointNet's release "
            f"layout; pcsa.datasets.keypointnet.download fetches it"
        )


def _read_split(path: Path, class_id: str) -> list[str]:
    try:
        lines = path.read_text().split()
    except FileNotFoundError as error:
        raise FileNotFoundError(f"`{path}` is missing") from error
    prefix = f"{class_id}-"
    return [line[len(prefix) :] for line in lines if line.startswith(prefix)]


def _cloud_files(folder: Path) -> dict[str, os.DirEntry[str]]:
    """Model id -> file, for the clouds in a folder."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name[:-4]: entry for entry in entries if entry.name.endswith(".pcd")}
    except (FileNotFoundError, NotADirectoryError):
        return {}


def _fingerprint(root: Path, category: str, class_id: str) -> str:
    """Hash what changes whenever a file that the processed category is made of does."""
    annotations = (root / "annotations" / f"{category}.json").stat()
    listing: list[Any] = [_CACHE_VERSION, category, class_id, annotations.st_size, annotations.st_mtime_ns]
    for name, entry in sorted(_cloud_files(root / "pcds" / class_id).items()):
        stat = entry.stat()
        listing.append((name, stat.st_size, stat.st_mtime_ns))
    return hashlib.sha256(json.dumps(listing).encode()).hexdigest()


def _load(root: Path, category: str, cache_dir: Path | None) -> dict[str, npt.NDArray]:
    """Return the whole category as arrays, from the processed file if that is up to date."""

    def current(file: Mapping[str, npt.NDArray]) -> bool:
        return str(file["fingerprint"]) == _fingerprint(root, category, str(file["class_id"]))

    return _kept(category, root, cache_dir, current, lambda: _process(root, category))


def _kept(
    name: str,
    root: Path,
    cache_dir: Path | None,
    current: Callable[[Mapping[str, npt.NDArray]], bool],
    make: Callable[[], dict[str, npt.NDArray]],
) -> dict[str, npt.NDArray]:
    """Return the arrays of the file `name` in the cache, made and written if it is not there or not current."""
    if cache_dir is not None:
        folders = [cache_dir]
    else:
        user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "pcsa")
        folders = [root / "processed", user / hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:16]]
    for folder in folders:
        table = _read_cache(folder / f"{name}.npz", current)
        if table is not None:
            return table
    table = make()
    for number, folder in enumerate(folders):
        # The superuser could write to a root that is marked read-only, and should not.
        if cache_dir is None and folder.parent == root and not root.stat().st_mode & 0o222:
            continue
        try:
            _write_cache(folder / f"{name}.npz", table)
            break
        except OSError as error:
            last = number == len(folders) - 1
            _log.log(logging.WARNING if last else logging.INFO, "`%s` cannot be written: %s", folder, error)
    return table


def _read_cache(path: Path, current: Callable[[Mapping[str, npt.NDArray]], bool]) -> dict[str, npt.NDArray] | None:
    if not path.is_file():
        return None
    try:
        # Opened here, because numpy leaves a damaged file open.
        with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
            return {key: file[key] for key in file.files} if current(file) else None
    except Exception as error:  # whatever is wrong with it, it can be built again
        _log.warning("`%s` is damaged and is built again: %s", path, error)
        return None


def _write_cache(path: Path, table: dict[str, npt.NDArray]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # A name of its own and a rename: readers and other writers see the old file or a whole new one.
    temporary = path.with_name(f".{path.stem}-{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "xb") as file:
            np.savez(file, **table)  # type: ignore[arg-type]
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _process(root: Path, category: str) -> dict[str, npt.NDArray]:
    path = root / "annotations" / f"{category}.json"
    entries = _read_annotations(path)
    records: dict[str, _Record] = {}
    for number, entry in enumerate(entries):
        try:
            record = _parse_record(entry)
        except ValueError as error:
            raise ValueError(f"`{path}`: record {number}: {error}") from error
        if record.model_id in records:
            raise ValueError(f"`{path}`: model {record.model_id} is annotated more than once")
        records[record.model_id] = record
    class_ids = {record.class_id for record in records.values()}
    if len(class_ids) > 1:
        raise ValueError(f"`{path}`: more than one class id: {', '.join(sorted(class_ids))}")
    class_id = class_ids.pop()
    fingerprint = _fingerprint(root, category, class_id)  # before reading: a change meanwhile shows later

    names: dict[int, str] = {}
    for record in records.values():
        for semantic_id, name in zip(record.semantic_ids, record.names, strict=True):
            names.setdefault(semantic_id, str(semantic_id) if name is None else str(name))
    semantic_ids = sorted(names)
    if not semantic_ids:
        raise ValueError(f"`{path}`: no keypoint in the whole category")
    column_of = {semantic_id: column for column, semantic_id in enumerate(semantic_ids)}

    files = _cloud_files(root / "pcds" / class_id)
    present = [record for record in records.values() if record.model_id in files]
    n = len(present)
    keypoint_index = np.full((n, len(semantic_ids)), -1, dtype=np.int64)
    reflection = np.full((n, max((len(r.reflection) for r in present), default=0), 2), -1, dtype=np.int64)
    num_groups = max((len(r.rotation) for r in present), default=0)
    group_size = max((len(g) for r in present for g, _ in r.rotation), default=0)
    rotation = np.full((n, num_groups, group_size), -1, dtype=np.int64)
    is_circle = np.zeros((n, num_groups), dtype=bool)
    clouds = []
    for row, record in enumerate(present):
        cloud = read_pcd(files[record.model_id].path)
        for fault in _faults(record, cloud.points):
            raise ValueError(f"`{path}`: model {record.model_id}: {fault}")
        colors = np.full(cloud.points.shape, 255, np.uint8) if cloud.colors is None else cloud.colors
        clouds.append((cloud.points, colors))
        # The symmetries count in the shape's own list of keypoints.
        columns = np.array([column_of[i] for i in record.semantic_ids], dtype=np.int64)
        keypoint_index[row, columns] = record.point_index
        for number, pair in enumerate(record.reflection):
            reflection[row, number] = columns[list(pair)]
        for number, (group, circle) in enumerate(record.rotation):
            rotation[row, number, : len(group)] = columns[group]
            is_circle[row, number] = circle and len(group) > 0
    return {
        "fingerprint": np.array(fingerprint),
        "class_id": np.array(class_id),
        "points": np.concatenate([np.empty((0, 3), np.float32), *(points for points, _ in clouds)]),
        "colors": np.concatenate([np.empty((0, 3), np.uint8), *(colors for _, colors in clouds)]),
        "ptr": np.cumsum([0, *(len(points) for points, _ in clouds)], dtype=np.int64),
        "model_ids": np.array([record.model_id for record in present], dtype=np.str_),
        "semantic_ids": np.array(semantic_ids, dtype=np.int64),
        "names": np.array([names[i] for i in semantic_ids], dtype=np.str_),
        "keypoint_index": keypoint_index,
        "reflection": reflection,
        "rotation": rotation,
        "is_circle": is_circle,
    }
