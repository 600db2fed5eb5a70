"""The surfaces that people have drawn in retinal scans, from files: as arrays, and as MATLAB's delineations."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pcsa.datasets.arrays import read_arrays
from pcsa.datasets.faults import reading
from pcsa.datasets.matlab import read_matlab
from pcsa.datasets.scans import shown_scan
from pcsa.datasets.values import ValueRange

# Nine surfaces, in both datasets. Going down, the light falls at RNFL-GCL, IPL-INL, OPL-ONL and BM and rises at ILM,
# INL-OPL, ELM and OS-RPE: so it does in the scan that the labels of OctScans were measured on.
SURFACES = ("ILM", "RNFL-GCL", "IPL-INL", "INL-OPL", "OPL-ONL", "ELM", "IS-OS", "OS-RPE", "BM")


def read_delineation(path: Path, width: int, num_scans: int, base: int) -> NDArray[np.float64]:
    """Read the rows of the surfaces of a volume from MATLAB's file, counted from 0, `[scans, 9, columns]`.

    Args:
        path: The file, with ``bd_pts`` or ``control_pts``.
        width: Columns of the scans.
        num_scans: Number of scans.
        base: What the first row and column count as in the file.

    Raises:
        ValueError: If the file cannot be read or holds something else; the message names it.

    """
    data = read_matlab(path, ["bd_pts", "control_pts"])
    with reading(path, "delineated surfaces"):
        if "bd_pts" in data:
            dense, shape = data["bd_pts"], (width, num_scans, len(SURFACES))
            if dense.shape != shape or dense.dtype.kind not in "fiu":
                raise ValueError(f"`bd_pts` ({dense.dtype} {list(dense.shape)}) must be numbers {list(shape)}")
            return dense.astype(np.float64).transpose(1, 2, 0) - base
        return _joined(data["control_pts"], width, num_scans, base)


def _joined(cells: NDArray[Any], width: int, num_scans: int, base: int) -> NDArray[np.float64]:
    """Return the rows of surfaces that are given by control points, see :func:`read_delineation`."""
    from scipy.interpolate import PchipInterpolator

    number = len(SURFACES)
    if cells.ndim != 2 or len(cells) != num_scans or cells.dtype != object:
        raise ValueError(f"`control_pts` ({cells.dtype} {list(cells.shape)}) must be cells [{num_scans}, 11]")
    used = [k for k in range(cells.shape[1]) if any(np.size(cell) for cell in cells[:, k])]
    if len(used) != number:
        raise ValueError(f"`control_pts` (with {len(used)} surfaces) must have {number}")
    rows = np.full((num_scans, number, width), np.nan)
    for i in range(num_scans):
        for k, column in enumerate(used):
            points = np.asarray(cells[i, column])
            if points.size == 0:
                continue
            where = f"`control_pts`: scan {i + 1}, surface {k + 1}: points"
            if points.ndim != 2 or points.shape[1] != 2 or points.dtype.kind not in "fiu":
                raise ValueError(f"{where} ({points.dtype} {list(points.shape)}) must be numbers [n, 2]")
            points = points.astype(np.float64)
            if not np.isfinite(points).all():
                raise ValueError(f"{where} must be finite")
            if points[:, 0].min() < base - 1 or points[:, 0].max() > width + 1:
                raise ValueError(
                    f"{where} (columns {points[:, 0].min():g} to {points[:, 0].max():g}) must lie in the "
                    f"{width} columns of the scan"
                )
            x, first = np.unique(points[:, 0], return_index=True)
            if len(x) > 1:
                rows[i, k] = PchipInterpolator(x - base, points[first, 1], extrapolate=False)(np.arange(width)) - base
    return rows


def read_labels(
    path: Path, one_based: bool | None, value_range: ValueRange | None
) -> tuple[int, NDArray[np.float64], tuple[float, float]]:
    """Read the height of a scan, its surfaces' rows from 0 `[K, W]`, and its spacing (y, x) from a `.npz` file.

    Raises:
        ValueError: If the file cannot be read, lacks something, or has a picture or surfaces that cannot be right; the
            message names it.

    """
    data = read_arrays(path)
    with reading(path, "a scan"):
        key = next((name for name in ("boundaries_manual", "boundaries") if name in data), None)
        if key is None or not ("bscan" in data or "image" in data):
            raise ValueError(f"must hold bscan or image, and boundaries[_manual]: it has {', '.join(data)}")
        height, width = shown_scan(path, data, value_range).shape
        rows = np.asarray(data[key])
        if rows.ndim != 2 or rows.shape[1] != width or len(rows) == 0 or rows.dtype.kind not in "fiu":
            raise ValueError(
                f"`{key}` ({rows.dtype} {list(rows.shape)}) must be numbers [K, {width}], a row for every column"
            )
        shift = (key == "boundaries_manual") if one_based is None else one_based
        y, x = (_spacing(data, name) for name in ("scale_z_mm", "scale_x_mm"))
    return height, rows.astype(np.float64) - shift, (y, x)


def _spacing(data: dict[str, NDArray[Any]], name: str) -> float:
    """Return millimeters per pixel, 1 where they are not known."""
    if name not in data:
        return 1.0
    given = data[name]
    if given.size != 1 or given.dtype.kind not in "fiu":
        raise ValueError(f"`{name}` ({given.dtype} {list(given.shape)}) must be one number")
    value = float(given.ravel()[0])
    # Optical coherence tomography has a depth of a few millimeters and a field of a few centimeters.
    if value != 1 and not 1e-4 <= value <= 0.5:
        raise ValueError(f"`{name}` (={value:g}) must be from 0.0001 to 0.5 millimeters per pixel, or 1: not known")
    return value


def usable_labels(path: Path, boundaries: NDArray[Any], height: int) -> tuple[NDArray[np.bool_], int, int]:
    """Return which labels can be right, `[K, W]`, how many lie outside of the scan, and how many are out of order.

    Raises:
        ValueError: If most of them are: then they are not rows of this scan, from the top and in this order.

    """
    visible = np.isfinite(boundaries)
    labeled = int(visible.sum())
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
    num_outside, num_wrong = int(outside.sum()), int(wrong.sum())
    with reading(path, "a scan"):
        if 2 * num_outside > labeled:
            raise ValueError(
                f"surfaces (from {np.nanmin(boundaries):g} to {np.nanmax(boundaries):g}) must be rows of the scan, "
                f"from 0 to {height - 1}: {num_outside} of {labeled} lie outside"
            )
        if 2 * num_wrong > labeled:
            raise ValueError(
                f"surfaces must be rows from the top, the upper ones first: {num_wrong} of {labeled} are out of order"
            )
        if labeled and height > 16 and np.ptp(boundaries[np.isfinite(boundaries)]) > 0 and np.nanmax(boundaries) <= 1:
            raise ValueError(
                f"surfaces (from {np.nanmin(boundaries):g} to {np.nanmax(boundaries):g}) must be in pixels, the rows "
                f"of the scan from 0 to {height - 1}"
            )
    return visible, num_outside, num_wrong
