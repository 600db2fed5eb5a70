"""ShapeNet and ModelNet point clouds in HDF5, as Skeleton Merger and many classifiers use them."""

import os
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pcsa.datasets.clouds import CloudList
from pcsa.datasets.splits import SPLITS

SUFFIXES = (".h5", ".hdf5")


class ShapeNetPoints(CloudList):
    """The clouds of one label in HDF5 files that hold ``data [n, N, 3]`` and ``label [n]`` or ``[n, 1]``.

    `"Skeleton Merger" <https://arxiv.org/abs/2103.10814>`_ reads the files of
    https://github.com/AnTao97/PointCloudDatasets (``shapenetcorev2_hdf5_2048/train0.h5``, …), in which the label is
    a number and the cloud is in the unit sphere. The items are those of
    :class:`~pcsa.datasets.clouds.CloudList`; a model id is the file's name and the row in it.

    Args:
        root: One file, or a folder of files. In a folder, the files of a split lie in a folder of its name or begin
            with its name; where no file says so, all belong to ``"train"``, as one file does.
        label: The label to keep; None keeps all clouds, and then the files need no ``label``.
        split: ``"train"``, ``"val"``, ``"test"`` or ``"all"``.

    Raises:
        FileNotFoundError: If there is no file of the split.
        ValueError: If a file cannot be read, lacks ``data`` (or ``label``), has another shape, or has values that are
            not finite, or if no cloud has the label; the message names the file.

    """

    def __init__(self, root: str | os.PathLike[str], label: int | None = None, split: str = "train") -> None:
        super().__init__(root, split)
        self.label = label
        self.model_ids = []
        self._points = []
        seen: set[int] = set()
        for path in hdf5_files(self.root, split):
            data, rows, labels = _read(path, label)
            seen |= labels
            self._points += [torch.from_numpy(cloud) for cloud in data]
            self.model_ids += [f"{path.stem}-{row}" for row in rows]
        if not self.model_ids:
            raise ValueError(f"`{self.root}` has no cloud with `label` (={label}), only {sorted(seen)}")

    def __repr__(self) -> str:
        return f"ShapeNetPoints({self.root.name}, {self.split}, {len(self)} clouds)"


def is_hdf5(root: str | os.PathLike[str]) -> bool:
    """Whether ``root`` is an HDF5 file, by its name, or a folder that has some, in itself or in a split's folder."""
    return bool(_hdf5_in(Path(root)))


def hdf5_files(root: str | os.PathLike[str], split: str) -> list[Path]:
    """List the files of a split, see :class:`ShapeNetPoints`.

    Raises:
        FileNotFoundError: If the split has no file.

    """
    root = Path(root)
    files = _hdf5_in(root)
    if not files:
        raise FileNotFoundError(f"`{root}` must be a file or folder of {', '.join(SUFFIXES)} files: none found")
    split_of = {path: _split_of(path, root) for path in files}
    if split != "all":
        if all(name is None for name in split_of.values()):
            split_of = dict.fromkeys(files, "train")
        files = [path for path in files if split_of[path] == split]
    if not files:
        raise FileNotFoundError(f"`{root}` has no file of split {split!r}")
    return files


def _hdf5_in(root: Path) -> list[Path]:
    if root.is_file():
        return [root] if root.suffix in SUFFIXES else []
    folders = [root, *(root / name for name in SPLITS)]
    return sorted(path for folder in folders for suffix in SUFFIXES for path in folder.glob(f"*{suffix}"))


def _split_of(path: Path, root: Path) -> str | None:
    if path == root:
        return None
    if path.parent != root:
        return path.parent.name
    return next((name for name in SPLITS if path.name.startswith(name)), None)


def _read(path: Path, label: int | None) -> tuple[NDArray[np.float32], list[int], set[int]]:
    """Return the clouds that have the label, their rows, and all labels of the file."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            for name in ("data",) if label is None else ("data", "label"):
                if name not in file:
                    raise ValueError(f"it has no `{name}`, only {sorted(file)}")
            data = np.asarray(file["data"][:])
            labels = np.asarray(file["label"][:]) if label is not None else None
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"`{path}` cannot be read: {error}") from None
    if data.ndim != 3 or data.shape[2] != 3 or data.shape[1] == 0 or data.dtype.kind not in "fiu":
        raise ValueError(f"`{path}`: `data` {list(data.shape)} ({data.dtype}) must be numbers [n, N, 3]")
    rows, known = np.arange(len(data)), set()
    if labels is not None:
        if labels.size != len(data) or labels.dtype.kind not in "iu":
            raise ValueError(
                f"`{path}`: `label` {list(labels.shape)} ({labels.dtype}) must be whole numbers [n] or [n, 1] "
                f"for the {len(data)} clouds of `data`"
            )
        labels = labels.reshape(-1)
        known = set(labels.tolist())
        rows = rows[labels == label]
    with np.errstate(over="ignore"):  # doubles beyond float32 become infinite and are refused below
        kept = data[rows].astype(np.float32)
    bad = ~np.isfinite(kept).all(axis=(1, 2))
    if bad.any():
        raise ValueError(
            f"`{path}`: {int(bad.sum())} clouds of `data` have values that are not finite, the first is row "
            f"{int(rows[bad.argmax()])}"
        )
    return kept, rows.tolist(), known
