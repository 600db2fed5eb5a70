"""ShapeNet and ModelNet point clouds in HDF5, as Skeleton Merger and many classifiers use them."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pcsa.datasets.clouds import CloudList, as_tensors
from pcsa.datasets.faults import Problem, reading
from pcsa.datasets.folds import Fold
from pcsa.datasets.hdf5_files import own_dataset, read_dataset
from pcsa.datasets.hdf5_splits import SUFFIXES as SUFFIXES, hdf5_files as hdf5_files, hdf5_splits, is_hdf5 as is_hdf5
from pcsa.datasets.point_cloud import count_copies


class ShapeNetPoints(CloudList):
    """The clouds of one label in HDF5 files that hold ``data [n, N, 3]`` and ``label [n]`` or ``[n, 1]``.

    `"Skeleton Merger" <https://arxiv.org/abs/2103.10814>`_ reads the files of
    https://github.com/AnTao97/PointCloudDatasets (``shapenetcorev2_hdf5_2048/train0.h5``, …), in which the label is
    a number and the cloud is in the unit sphere. ModelNet40 (``ply_data_train0.h5``) and ShapeNetPart have the same
    layout. The items are those of :class:`~pcsa.datasets.clouds.CloudList`; a model id is the file's name and the row
    in it.

    ``data [n, N, 6]`` is taken where the last three columns are normals: vectors of length 1. They are left out, as
    other datasets of the file (``normal``, ``pid``, ``seg``) are.

    Args:
        root: One file, or a folder of files.
        label: The label to keep; None keeps all clouds, and then the files need no ``label``.
        split: ``"train"``, ``"val"``, ``"test"`` or ``"all"``. The split of a file is that of the list that names it
            (``train_files.txt``, lines that end with a file's name), of its folder, or of a whole word in its name:
            train or training, val, valid or validation, test or testing. A file that says nothing is in ``"all"`` only.
        fold: What ``"train"`` and ``"val"`` mean in place of the files' splits, see
            :class:`~pcsa.datasets.folds.Fold`.

    Raises:
        FileNotFoundError: If there is no file of the split, or the split of a file is not known; the message lists
            those files.
        ValueError: If a file cannot be read, lacks ``data`` (or ``label``), has another shape, or has values that are
            not finite, or if no cloud has the label; the message names the file.

    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        label: int | None = None,
        split: str = "train",
        fold: Fold | None = None,
    ) -> None:
        super().__init__(root, split, fold)
        self.label = label
        self.model_ids = []
        clouds: list[NDArray[Any]] = []
        seen: set[int] = set()
        sources = (split,) if fold is None else fold.sources(split)
        for path in (file for source in sources for file in hdf5_files(self.root, source)):
            file = _read(path, label is not None)
            rows = np.arange(len(file.points)) if file.labels is None else np.flatnonzero(file.labels == label)
            seen |= set() if file.labels is None else set(file.labels.tolist())
            clouds += [file.points[row] for row in rows]
            self.model_ids += [f"{path.stem}-{row}" for row in rows]
        if not clouds:
            raise ValueError(f"`{self.root}` has no cloud with `label` (={label}), only {sorted(seen)}")
        self._points = as_tensors(clouds)
        self._leave_part(self.model_ids)

    def __repr__(self) -> str:
        return f"ShapeNetPoints({self.root.name}, {self._split_name}, {len(self)} clouds)"


def check_hdf5(root: str | os.PathLike[str]) -> list[Problem]:
    """List everything that is wrong with HDF5 files of clouds, see :class:`ShapeNetPoints`.

    Files without ``label``, files whose split is not known, and copies of points are listed too, although the clouds
    can be read.
    """
    root = Path(root)
    if not is_hdf5(root):
        return [Problem(str(root), f"no file of {', '.join(SUFFIXES)}")]
    splits = hdf5_splits(root)
    problems = [*splits.contradictions, *splits.absent]
    contradicted = {problem.path for problem in problems}
    for path, split in splits.split_of.items():
        where = str(path.relative_to(root)) if path != root else path.name
        if split is None and path != root and where not in contradicted:
            problems.append(Problem(where, "its split is not known: neither its name, its folder nor a list says so"))
        file = None
        for labeled in (True, False):
            try:
                file = _read(path, labeled)
                break
            except (ValueError, OSError) as error:
                problem = Problem(where, str(error).removeprefix(f"`{path}`: "))
                problems += [problem] if problem not in problems else []
        if file is None:
            continue
        copies = [count_copies(cloud) for cloud in file.points]
        if any(copies):
            most = int(np.argmax(copies))
            problems.append(
                Problem(
                    where,
                    f"{np.count_nonzero(copies)} clouds have points that are copies of others, the most in row {most}: "
                    f"{copies[most]} of {len(file.points[most])}",
                )
            )
    return problems


class _Clouds(NamedTuple):
    points: NDArray[Any]
    """``[n, N, 3]``, finite, in the file's own precision."""
    labels: NDArray[np.int64] | None


def _read(path: Path, labeled: bool) -> _Clouds:
    import h5py

    with reading(path, "an HDF5 file"), h5py.File(path, "r") as file:
        points = _points(_numbers(file, "data", h5py, path))
        labels = _labels(_numbers(file, "label", h5py, path), len(points)) if labeled else None
    return _Clouds(points, labels)


def _numbers(file: Any, name: str, h5py: Any, path: Path) -> NDArray[Any]:
    dataset = own_dataset(file, name)
    if not isinstance(dataset, h5py.Dataset):
        found: list[str] = []
        file.visititems(lambda key, value: found.append(f"{key} {list(getattr(value, 'shape', ()) or ())}"))
        raise ValueError(f"has no dataset `{name}`, only {', '.join(sorted(found)) or 'nothing'}")
    if dataset.dtype.kind not in "fiu":
        raise ValueError(f"`{name}` {list(dataset.shape or ())} ({dataset.dtype}) must be numbers")
    return read_dataset(dataset, path)


def _points(data: NDArray[Any]) -> NDArray[Any]:
    shape = list(data.shape)
    good = data.ndim == 3 and data.shape[1] > 0
    if good and data.shape[2] == 6:
        length = np.linalg.norm(data[..., 3:].astype(np.float64), axis=-1)
        if not ((np.abs(length - 1) < 0.01) | (length == 0)).all() or not length.any():
            raise ValueError(
                f"`data` {shape} has six columns, and the last three are no normals (vectors of length 1): it must be "
                "x, y, z, or x, y, z and a normal"
            )
    elif not good or data.shape[2] != 3:
        hint = ": its last two axes are exchanged" if data.ndim == 3 and data.shape[1] == 3 else ""
        raise ValueError(f"`data` {shape} ({data.dtype}) must be numbers [n, N, 3]{hint}")
    points = data[..., :3]
    if points.dtype != np.float32:
        points = points.astype(np.float64)
    bad = ~np.isfinite(points).all(axis=(1, 2))
    if bad.any():
        rows: Sequence[int] = np.flatnonzero(bad).tolist()
        raise ValueError(f"{len(rows)} clouds of `data` have values that are not finite, the first is row {rows[0]}")
    return points.astype(points.dtype.newbyteorder("="))


def _labels(labels: NDArray[Any], num_clouds: int) -> NDArray[np.int64]:
    # Some tools store whole numbers as floats.
    if labels.size != num_clouds or not (labels == np.trunc(labels)).all() or not np.isfinite(labels).all():
        raise ValueError(
            f"`label` {list(labels.shape)} ({labels.dtype}) must be whole numbers [n] or [n, 1] for the {num_clouds} "
            "clouds of `data`"
        )
    return labels.reshape(-1).astype(np.int64)
