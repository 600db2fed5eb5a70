"""Retinal B-scans with labeled surfaces: a folder of arrays, and the Johns Hopkins data (MSHC) in its release layout.

A surface is one row per column: `[K, W]`, in pixels whose centers are integers, counted from 0 at the top. Both
datasets offer **windows**: a scan's columns are cut into windows as wide as ``input_size`` from left to right; the last
one ends with the scan, and columns that the one before it has too are not visible in it, so that an evaluation meets
every column once. ``augmented`` draws its columns anew.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from pcsa.datasets.faults import Problem, noting, refuse, some
from pcsa.datasets.files import existing, visible_files
from pcsa.datasets.limits import leads_out
from pcsa.datasets.lines import text_lines
from pcsa.datasets.samples import Samples
from pcsa.datasets.scans import ScanAugment, read_scan, window
from pcsa.datasets.splits import SPLITS, Split, checked_root
from pcsa.datasets.surface_labels import SURFACES, read_delineation, read_labels, usable_labels
from pcsa.datasets.values import ValueRange
from pcsa.datasets.vol import read_vol, read_vol_header

# MSHC's groups, and up to which number a volume of each is for testing.
_NUM_TEST = {"hc": 8, "ms": 12}
_VOLUME = re.compile(r"(hc|ms)(\d+)")


class _Scan(NamedTuple):
    """Where a scan is, and its labels in the columns from `start` on."""

    path: Path
    number: int
    start: int
    boundaries: NDArray[np.float32]
    visible: NDArray[np.bool_]
    spacing: tuple[float, float]


class _Scans(Samples):
    """What both datasets share: windows of scans whose pictures are read when they are asked for."""

    input_size: tuple[int, int]

    def __init__(
        self, root: str | os.PathLike[str], split: Split, input_size: Sequence[int], augment: ScanAugment | None
    ) -> None:
        super().__init__(input_size)
        self.root = checked_root(root, split)
        self.augment = ScanAugment() if augment is None else augment
        self._scans: list[_Scan] = []
        self._items: list[tuple[int, int]] = []

    def files(self, index: int) -> list[Path]:
        """Return the file of an item's scan."""
        return [self._scans[self._items[self._row(index)][0]].path]

    def source(self, index: int) -> dict[str, Any]:
        """Return the scan that an item is a window of, in all columns of the split.

        It has ``image`` `[1, H, W]` from 0 to 1, ``boundaries`` and ``visible`` `[K, W]`, and ``spacing`` `[2]` (mm
        per pixel, y and x; 1 where it is not known).
        """
        scan = self._scans[self._items[self._row(index)][0]]
        columns = slice(scan.start, scan.start + scan.boundaries.shape[1])
        image = np.ascontiguousarray(self._image(scan)[:, columns], dtype=np.float32)
        return {
            "image": torch.from_numpy(image)[None],
            "boundaries": torch.from_numpy(scan.boundaries.copy()),
            "visible": torch.from_numpy(scan.visible.copy()),
            "spacing": torch.tensor(scan.spacing, dtype=torch.float32),
        }

    def __getitem__(self, index: int) -> dict[str, Any]:
        index = self._row(index)
        start = self._items[index][1]
        source = self.source(index)
        width = source["image"].shape[2]
        sample = window(source, self.input_size, start=max(start, 0) if width >= self.input_size[1] else 0)
        if start > 0:
            again = -start % self.input_size[1]
            sample["visible"][:, :again] = False
            sample["boundaries"][:, :again] = 0
        return sample | {"index": index}

    def augmented(self, index: int, generator: torch.Generator) -> dict[str, Any]:
        """Return a random window of the item's scan; all randomness is the generator's."""
        index = self._row(index)
        return window(self.source(index), self.input_size, augment=self.augment, generator=generator) | {"index": index}

    def _image(self, scan: _Scan) -> NDArray[np.float32]:
        raise NotImplementedError

    def _add(self, path: Path, number: int, start: int, boundaries: NDArray[Any], height: int, spacing: Any) -> None:
        """Take in a scan; mask and count the labels that cannot be right."""
        visible, outside, wrong = usable_labels(path, boundaries, height)
        self._skip("labels outside of the scan", outside)
        self._skip("labels out of order", wrong)
        if not visible.any():
            self._skip("scans without labels")
            return
        rows = np.where(visible, boundaries, 0).astype(np.float32)
        y, x = (float(value) if np.isfinite(value) and value > 0 else 1.0 for value in spacing)
        self._scans.append(_Scan(path, number, start, rows, visible, (y, x)))
        width = rows.shape[1]
        starts = list(range(0, max(width - self.input_size[1], 0) + 1, self.input_size[1]))
        if width > self.input_size[1] and width % self.input_size[1]:
            starts.append(width - self.input_size[1])
        self._items += [(len(self._scans) - 1, first) for first in starts]


class OctScans(_Scans):
    """A folder of B-scans, ``*.npz``, one each.

    Every file has the picture (see :func:`pcsa.datasets.scans.read_scan`); the surfaces, ``boundaries_manual`` or
    ``boundaries`` `[K, W]`, NaN where not labeled; and, if known, ``scale_z_mm`` and ``scale_x_mm`` per pixel (down and
    across; 1 otherwise).

    **Counted from 1.** ``boundaries_manual`` comes from a MATLAB tool, so that 1 is subtracted. Measured on the 768
    columns of its scan: the steepest rise of the light at the ILM is 0.86 pixels above the label if that is taken to
    count from 0 (0.14 below it if from 1), and so it is with the labels of the device. ``boundaries`` count from 0.
    ``one_based`` says otherwise.

    Labels outside of the scan are not visible, nor are both of two surfaces that are in the wrong order in a column;
    ``skipped`` counts them.

    ======================  =========================================================================================
    scans                   splits
    ======================  =========================================================================================
    one, or ``columns``     by columns of every scan: train the first two thirds, test the last quarter (a gap between
                            them), val the last quarter of train (which the training uses too: for watching)
    ``splits/*.txt``        the names of the files, one per line, with or without ``.npz``; test names none of train
    otherwise               by the order of the names: 7/10 train, 1/10 val, 2/10 test; of two, train and val the first
    ======================  =========================================================================================

    Args:
        root: The folder.
        split: The split.
        input_size: (height, width) of a window.
        columns: The first column and the one after the last, in place of those of the table.
        augment: What ``augmented`` varies. Default: what :class:`~pcsa.datasets.scans.ScanAugment` varies.
        one_based: Whether the surfaces' rows count from 1. Default: those of ``boundaries_manual`` do.
        value_range: What 0 and 1 stand for in the pictures. Default: see
            :func:`pcsa.datasets.values.unit_values`.

    Raises:
        FileNotFoundError: If a file or folder is missing; the message names it.
        ValueError: If a file or an argument is broken; the message names it and the rule.

    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: Split,
        *,
        input_size: tuple[int, int] = (496, 64),
        columns: tuple[int, int] | None = None,
        augment: ScanAugment | None = None,
        one_based: bool | None = None,
        value_range: ValueRange | None = None,
    ) -> None:
        super().__init__(root, split, input_size, augment)
        self.value_range = value_range
        files = _files(self.root)
        by_columns = columns is not None or len(files) == 1
        names: tuple[str, ...] | None = None
        for path in files if by_columns else _scans_of(self.root, files, split):
            height, rows, spacing = read_labels(path, one_based, value_range)
            own = SURFACES if len(rows) == len(SURFACES) else tuple(f"surface {k}" for k in range(1, len(rows) + 1))
            if names is not None and own != names:
                raise ValueError(f"`{path}`: surfaces (={len(own)}) must be as many as before it: {len(names)}")
            names = own
            first, last = _columns(path, columns, split, rows.shape[1]) if by_columns else (0, rows.shape[1])
            self._add(path, 0, first, rows[:, first:last], height, spacing)
        self.names = names or ()

    def _image(self, scan: _Scan) -> NDArray[np.float32]:
        return read_scan(scan.path, self.value_range)


class Mshc(_Scans):
    """Healthy controls and multiple sclerosis, macular volumes of Johns Hopkins with nine surfaces.

    `"Retinal layer parcellation of optical coherence tomography images" <https://doi.org/10.1016/j.dib.2018.12.073>`_.
    The reader follows public descriptions of the files; it has met files of that form and not the release itself.

    ``root`` has ``vol/*.vol`` (Heidelberg raw, 49 B-scans of 496 x 1024 each) and ``delineation/*.mat`` of the same
    names (``hc01_spectralis_macula_v1_s1_R``, …; of MATLAB's version 7.3 too), of one of two forms: ``control_pts``,
    cells `[scans, 11]` of points `[n, 2]` (x, y) of which two columns are empty, or ``bd_pts`` `[columns, scans, 9]`.
    Both come from MATLAB and count from 1. Control points are joined by monotone cubics (PCHIP); columns beyond them
    are not labeled.

    Splits as in `He et al., MICCAI 2019 <https://doi.org/10.1007/978-3-030-32239-7_14>`_: of healthy and patients, test
    is numbers 1 to 8 and 1 to 12, train the others (6 and 9 of 35); val is the last of both, which the training uses
    too: for watching, not for choosing. The numbers are those in the names, so that no split changes where volumes are
    missing.

    Args:
        root: The folder.
        split: The split.
        input_size: (height, width) of a window.
        augment: What ``augmented`` varies. Default: what :class:`~pcsa.datasets.scans.ScanAugment` varies.
        one_based: Whether the surfaces' rows and columns count from 1.

    Raises:
        FileNotFoundError: If a file or folder is missing; the message names it.
        ValueError: If a file or an argument is broken; the message names it and the rule.

    """

    names = SURFACES

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: Split,
        *,
        input_size: tuple[int, int] = (496, 128),
        augment: ScanAugment | None = None,
        one_based: bool = True,
    ) -> None:
        super().__init__(root, split, input_size, augment)
        files, others = volumes(self.root)
        self._skip("files that are neither hc… nor ms…", len(others))
        for path in volumes_of(files, split):
            header = read_vol_header(path)
            _, height, rows = _volume_labels(self.root, path, one_based)
            for number in range(header.num_scans):
                self._add(path, number, 0, rows[number], height, (header.scale_y, header.scale_x))

    def _image(self, scan: _Scan) -> NDArray[np.float32]:
        return read_vol(scan.path, scan.number)

    def files(self, index: int) -> list[Path]:
        """Return the volume of an item, and the file of its surfaces."""
        (volume,) = super().files(index)
        return [volume, _labels_file(self.root, volume)]


def check_oct(
    root: str | os.PathLike[str],
    *,
    one_based: bool | None = None,
    value_range: ValueRange | None = None,
) -> list[Problem]:
    """List everything that is missing or broken in a folder of :class:`OctScans` or, if it has ``vol``, :class:`Mshc`.

    Args:
        root: The folder.
        one_based: As for the class.
        value_range: As for :class:`OctScans`.

    """
    root = Path(root)
    problems: list[Problem] = []
    if (root / "vol").is_dir():
        base = True if one_based is None else one_based
        with noting(problems, root / "vol"):
            for path in volumes(root)[0]:
                with noting(problems, path):
                    _check_labels(*_volume_labels(root, path, base), problems)
        return problems
    files: list[Path] = []
    with noting(problems, root):
        files = _files(root)
    numbers: dict[int, Path] = {}
    for path in files:
        with noting(problems, path):
            height, rows, _ = read_labels(path, one_based, value_range)
            _check_labels(path, height, rows[None], problems)
            numbers.setdefault(len(rows), path)
    if len(numbers) > 1:
        each = ", ".join(f"{path.name} {number}" for number, path in numbers.items())
        problems.append(Problem(str(root), f"scans must have equally many surfaces: {each}"))
    if (root / "splits").is_dir():
        for split in SPLITS:
            with noting(problems, root / "splits" / f"{split}.txt"):
                problems += _listed(root, split)[1]
        problems += _shared(root)
    return problems


def _check_labels(path: Path, height: int, scans: NDArray[np.float64], problems: list[Problem]) -> None:
    """Note the labels that the dataset would leave out, and those that cannot be rows of the scan."""
    outside = wrong = 0
    with noting(problems, path):
        for rows in scans:
            visible, off, crossed = usable_labels(path, rows, height)
            outside, wrong = outside + off, wrong + crossed
            if not visible.any():
                raise ValueError("has no surface that is labeled, within the scan and in order")
    for number, what in ((outside, "outside of the scan"), (wrong, "out of order")):
        if number:
            problems.append(Problem(str(path), f"{number} labels are {what}, and are left out"))


def _files(root: Path) -> list[Path]:
    files = [root / name for name in visible_files(existing(root), [".npz"])]
    if not files:
        raise FileNotFoundError(f"`{root}` has no scans (*.npz)")
    return files


def volumes(root: Path) -> tuple[list[Path], list[str]]:
    """List the volumes of MSHC in a folder, and the names of the files that are no such volume.

    Raises:
        FileNotFoundError: If there is none.

    """
    names = visible_files(existing(root / "vol"), [".vol"])
    known = [name for name in names if _VOLUME.match(name)]
    if not known:
        raise FileNotFoundError(f"`{root / 'vol'}` has no volumes (hc*.vol, ms*.vol)")
    return [root / "vol" / name for name in known], [name for name in names if name not in known]


def volumes_of(files: Sequence[Path], split: Split) -> list[Path]:
    """Return the volumes of a split, by the numbers in their names."""
    found: list[Path] = []
    for group, num_test in _NUM_TEST.items():
        own = [(int(match[2]), path) for path in files if (match := _VOLUME.match(path.name)) and match[1] == group]
        train = [path for number, path in sorted(own) if number > num_test]
        test = [path for number, path in sorted(own) if number <= num_test]
        found += {"test": test, "train": train, "val": train[-1:]}[split]
    return found


def _labels_file(root: Path, volume: Path) -> Path:
    return root / "delineation" / f"{volume.stem}.mat"


def _volume_labels(root: Path, path: Path, one_based: bool) -> tuple[Path, int, NDArray[np.float64]]:
    """Return the file of the labels of a volume, its height, and the rows of its surfaces `[scans, 9, columns]`."""
    header = read_vol_header(path)
    labels = existing(_labels_file(root, path))
    return labels, header.height, read_delineation(labels, header.width, header.num_scans, int(one_based))


def _columns(path: Path, columns: tuple[int, int] | None, split: Split, width: int) -> tuple[int, int]:
    if columns is None:
        train = width * 2 // 3
        return {"train": (0, train), "val": (train * 3 // 4, train), "test": (width * 3 // 4, width)}[split]
    if len(columns) != 2 or not 0 <= columns[0] < columns[1] <= width:
        raise ValueError(f"`columns` (={columns}) must be rising, from 0 to {width}: `{path}`")
    return columns


def _listed(root: Path, split: Split) -> tuple[list[Path], list[Problem]]:
    """Return the scans that ``splits/<split>.txt`` names, one a line, and what is wrong with the list."""
    listing = existing(root / "splits" / f"{split}.txt")
    found: dict[Path, int] = {}
    problems: list[Problem] = []
    for number, line in text_lines(listing):
        name = line.replace("\\", "/")
        path = root / (name if name.endswith(".npz") else f"{name}.npz")
        if leads_out(name):
            problems.append(
                Problem(str(listing), f"line {number}: `{line[:120]}` must lead to a file below the folder")
            )
        elif not path.exists():
            problems.append(Problem(str(listing), f"line {number}: `{path}` is missing"))
        elif path in found:
            rule = f"must be named once: line {found[path]} has it too"
            problems.append(Problem(str(listing), f"line {number}: `{line}` {rule}"))
        else:
            found[path] = number
    return list(found), problems


def _shared(root: Path) -> list[Problem]:
    """Return a problem if a scan to be scored on is also one to train on."""
    if not all((root / "splits" / f"{split}.txt").exists() for split in ("train", "test")):
        return []
    both = sorted({p.name for p in _listed(root, "train")[0]} & {p.name for p in _listed(root, "test")[0]})
    listing = str(root / "splits" / "test.txt")
    return [Problem(listing, f"must have no scan of train.txt: it has {some(both)}")] if both else []


def _scans_of(root: Path, files: list[Path], split: Split) -> list[Path]:
    if (root / "splits").is_dir():
        listed, problems = _listed(root, split)
        refuse([*problems, *_shared(root)])
        return listed
    test = max(1, round(0.2 * len(files)))
    val = max(1, round(0.1 * len(files))) if len(files) > 2 else 0
    train = len(files) - test - val
    if split == "val" and val == 0:
        return files[:train]
    return {"train": files[:train], "val": files[train : train + val], "test": files[train + val :]}[split]
