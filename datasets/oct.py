"""Retinal B-scans with labeled surfaces: a folder of arrays, and the Johns Hopkins data (MSHC) in its release layout.

A surface is one row per column: `[K, W]`, in pixels whose centers are integers, counted from 0 at the top. Both
datasets offer **windows**: a scan's columns are cut into windows as wide as ``input_size`` from left to right; the last
one ends with the scan, and columns that the one before it has too are not visible in it, so that an evaluation meets
every column once. ``augmented`` draws its columns anew.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from pcsa.datasets.arrays import read_arrays
from pcsa.datasets.files import existing
from pcsa.datasets.samples import Samples
from pcsa.datasets.scans import ScanAugment, read_scan, window
from pcsa.datasets.splits import Split, checked_root
from pcsa.datasets.vol import read_vol, read_vol_header

# Nine surfaces, in both datasets. Going down, the light falls at RNFL-GCL, IPL-INL, OPL-ONL and BM and rises at ILM,
# INL-OPL, ELM and OS-RPE: so it does in the scan that the labels of OctScans were measured on.
SURFACES = ("ILM", "RNFL-GCL", "IPL-INL", "INL-OPL", "OPL-ONL", "ELM", "IS-OS", "OS-RPE", "BM")


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

    def source(self, index: int) -> dict[str, Any]:
        """Return the scan that an item is a window of, in all columns of the split.

        It has ``image`` `[1, H, W]` from 0 to 1, ``boundaries`` and ``visible`` `[K, W]`, and ``spacing`` `[2]` (mm
        per pixel, y and x; 1 where it is not known).
        """
        scan = self._scans[self._items[self._row(index)][0]]
        columns = slice(scan.start, scan.start + scan.boundaries.shape[1])
        image = np.ascontiguousarray(self._image(scan)[:, columns], dtype=np.float32)
        return {
            "image": torch.from_numpy(image)[None].clamp(0, 1),
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
        visible = np.isfinite(boundaries)
        rows = np.where(visible, boundaries, 0)
        outside = visible & ((rows < -0.5) | (rows > height - 0.5))
        visible &= ~outside
        # Surface i is above surface j where i < j: both of a pair that is not so are in doubt.
        wrong = np.zeros_like(visible)
        for i in range(len(rows)):
            crossed = visible[i] & visible[i + 1 :] & (rows[i] > rows[i + 1 :])
            wrong[i] |= crossed.any(0)
            wrong[i + 1 :] |= crossed
        visible &= ~wrong
        self._skip("labels outside of the scan", int(outside.sum()))
        self._skip("labels out of order", int(wrong.sum()))
        if not visible.any():
            self._skip("scans without labels")
            return
        rows = np.where(visible, rows, 0).astype(np.float32)
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
    ``splits/*.txt``        the names of the files, one per line, with or without ``.npz``
    otherwise               by the order of the names: 7/10 train, 1/10 val, 2/10 test; of two, train and val the first
    ======================  =========================================================================================

    Args:
        root: The folder.
        split: The split.
        input_size: (height, width) of a window.
        columns: The first column and the one after the last, in place of those of the table.
        augment: What ``augmented`` varies. Default: what :class:`~pcsa.datasets.scans.ScanAugment` varies.
        one_based: Whether the surfaces' rows count from 1. Default: those of ``boundaries_manual`` do.

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
    ) -> None:
        super().__init__(root, split, input_size, augment)
        files = sorted(self.root.glob("*.npz"))
        if not files:
            raise FileNotFoundError(f"`{self.root}` has no scans (*.npz)")
        by_columns = columns is not None or len(files) == 1
        names: tuple[str, ...] | None = None
        for path in files if by_columns else _scans_of(self.root, files, split):
            height, rows, spacing = _labels(path, one_based)
            own = SURFACES if len(rows) == len(SURFACES) else tuple(f"surface {k}" for k in range(1, len(rows) + 1))
            if names is not None and own != names:
                raise ValueError(f"`{path}` has {len(own)} surfaces, and those before it {len(names)}")
            names = own
            first, last = _columns(path, columns, split, rows.shape[1]) if by_columns else (0, rows.shape[1])
            self._add(path, 0, first, rows[:, first:last], height, spacing)
        self.names = names or ()

    def _image(self, scan: _Scan) -> NDArray[np.float32]:
        return read_scan(scan.path)


class Mshc(_Scans):
    """Healthy controls and multiple sclerosis, macular volumes of Johns Hopkins with nine surfaces.

    `"Retinal layer parcellation of optical coherence tomography images" <https://doi.org/10.1016/j.dib.2018.12.073>`_.
    The reader follows public descriptions of the files; it has met files of that form and not the release itself.

    ``root`` has ``vol/*.vol`` (Heidelberg raw, 49 B-scans of 496 x 1024 each) and ``delineation/*.mat`` of the same
    names (``hc01_spectralis_macula_v1_s1_R``, …), of one of two forms: ``control_pts``, cells `[scans, 11]` of points
    `[n, 2]` (x, y) of which two columns are empty, or ``bd_pts`` `[columns, scans, 9]`. Both come from MATLAB and count
    from 1. Control points are joined by monotone cubics (PCHIP); columns beyond them are not labeled.

    Splits as in `He et al., MICCAI 2019 <https://doi.org/10.1007/978-3-030-32239-7_14>`_: of healthy and patients, test
    is the first 8 and 12, train the others (6 and 9 of 35); val is the last of both, which the training uses too: for
    watching, not for choosing.

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
        files = sorted(existing(self.root / "vol").glob("*.vol"))
        healthy, patients = ([f for f in files if f.name.startswith(group)] for group in ("hc", "ms"))
        if not healthy + patients:
            raise FileNotFoundError(f"`{self.root / 'vol'}` has no volumes (hc*.vol, ms*.vol)")
        for group, num_test in ((healthy, 8), (patients, 12)):
            part = {"test": group[:num_test], "train": group[num_test:], "val": group[num_test:][-1:]}[split]
            for path in part:
                header = read_vol_header(path)
                labels = existing(self.root / "delineation" / f"{path.stem}.mat")
                rows = _delineation(labels, header.width, header.num_scans, int(one_based))
                for number in range(header.num_scans):
                    self._add(path, number, 0, rows[number], header.height, (header.scale_y, header.scale_x))

    def _image(self, scan: _Scan) -> NDArray[np.float32]:
        return read_vol(scan.path, scan.number)


def _delineation(path: Path, width: int, num_scans: int, base: int) -> NDArray[np.float64]:
    """Return the rows of the surfaces, counted from 0, `[scans, 9, columns]`."""
    from scipy.interpolate import PchipInterpolator
    from scipy.io import loadmat

    try:
        data = loadmat(path)
    except (ValueError, TypeError, NotImplementedError, OSError) as error:
        raise ValueError(f"`{path}` cannot be read as a MATLAB file ({error})") from error
    number = len(SURFACES)
    if "bd_pts" in data:
        dense = np.asarray(data["bd_pts"], dtype=np.float64)
        if dense.shape != (width, num_scans, number):
            raise ValueError(f"`{path}` has bd_pts of shape {list(dense.shape)}, not {[width, num_scans, number]}")
        return dense.transpose(1, 2, 0) - base
    if "control_pts" not in data:
        raise ValueError(f"`{path}` must have control_pts or bd_pts")
    cells = data["control_pts"]
    if cells.ndim != 2 or len(cells) != num_scans:
        raise ValueError(f"`{path}` has control_pts of shape {list(cells.shape)}, not [{num_scans}, 11]")
    used = [k for k in range(cells.shape[1]) if any(cell.size for cell in cells[:, k])]
    if len(used) != number:
        raise ValueError(f"`{path}` has {len(used)} surfaces in control_pts, not {number}")
    rows = np.full((num_scans, number, width), np.nan)
    for i in range(num_scans):
        for k, column in enumerate(used):
            points = np.asarray(cells[i, column], dtype=np.float64)
            if points.size == 0:
                continue
            if points.ndim != 2 or points.shape[1] != 2:
                raise ValueError(f"`{path}`, scan {i}: has control points of shape {list(points.shape)}, not [n, 2]")
            x, first = np.unique(points[:, 0], return_index=True)
            if len(x) > 1:
                rows[i, k] = PchipInterpolator(x - base, points[first, 1], extrapolate=False)(np.arange(width)) - base
    return rows


def _labels(path: Path, one_based: bool | None) -> tuple[int, NDArray[np.float64], tuple[float, float]]:
    """Return the height of a scan, its surfaces' rows from 0 `[K, W]`, and its spacing (y, x)."""
    data = read_arrays(path)
    picture = next((name for name in ("bscan", "image") if name in data), None)
    key = next((name for name in ("boundaries_manual", "boundaries") if name in data), None)
    if picture is None or key is None:
        raise ValueError(f"`{path}` (with {', '.join(data)}) must have bscan or image, and boundaries[_manual]")
    shape, rows = data[picture].shape, np.asarray(data[key])
    if len(shape) != 2 or 0 in shape or data[picture].dtype.kind != "f":
        raise ValueError(f"`{path}` has {picture} ({data[picture].dtype}) of shape {list(shape)}, not floats [H, W]")
    if rows.ndim != 2 or rows.shape[1] != shape[1] or len(rows) == 0 or rows.dtype.kind not in "fiu":
        raise ValueError(f"`{path}` has {key} ({rows.dtype}) of shape {list(rows.shape)}, not [K, {shape[1]}]")
    shift = (key == "boundaries_manual") if one_based is None else one_based
    y, x = (float(np.asarray(data.get(name, 1.0)).ravel()[0]) for name in ("scale_z_mm", "scale_x_mm"))
    return shape[0], rows.astype(np.float64) - shift, (y, x)


def _columns(path: Path, columns: tuple[int, int] | None, split: Split, width: int) -> tuple[int, int]:
    if columns is None:
        train = width * 2 // 3
        return {"train": (0, train), "val": (train * 3 // 4, train), "test": (width * 3 // 4, width)}[split]
    if len(columns) != 2 or not 0 <= columns[0] < columns[1] <= width:
        raise ValueError(f"`columns` (={columns}) must be rising, from 0 to {width}: `{path}`")
    return columns


def _scans_of(root: Path, files: list[Path], split: Split) -> list[Path]:
    if (root / "splits").is_dir():
        listed = existing(root / "splits" / f"{split}.txt").read_text().split()
        return [existing(root / (name if name.endswith(".npz") else f"{name}.npz")) for name in listed]
    test = max(1, round(0.2 * len(files)))
    val = max(1, round(0.1 * len(files))) if len(files) > 2 else 0
    train = len(files) - test - val
    if split == "val" and val == 0:
        return files[:train]
    return {"train": files[:train], "val": files[train : train + val], "test": files[train + val :]}[split]
