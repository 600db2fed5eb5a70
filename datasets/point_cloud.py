"""What a file of points holds, and which number format keeps it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LOSS = 1e-6  # of the extent: far below the distance between points; float32 near the origin loses 6e-8


@dataclass(frozen=True)
class PointCloud:
    """A cloud as its file has it. It unpacks as ``points, colors``.

    Args:
        points: `[N, 3]` float64, finite, in the file's own units and frame.
        colors: `[N, 3]` uint8 (r, g, b), or None.
        num_dropped: Number of points of the file that were left out because they are not finite.
        is_sampled: Whether the points were sampled on a mesh.

    """

    points: NDArray[np.float64]
    colors: NDArray[np.uint8] | None = None
    num_dropped: int = 0
    is_sampled: bool = False

    def __iter__(self) -> Iterator[NDArray[Any] | None]:
        yield self.points
        yield self.colors


def lossless_dtype(points: NDArray[np.floating]) -> np.dtype[Any]:
    """Return float32 where it keeps the shape of a cloud, else float64.

    float32 has seven digits. Near the origin they are enough; a bed of 2 m at UTM coordinates (4.6e6 m) would be
    rounded to steps of 0.5 m.

    Args:
        points: `[N, 3]`, in any units. Points at exactly (0, 0, 0) do not count for the extent where there are
            others: they may be a scanner's invalid pixels, or padding, and would hide how far off the others are.

    Returns:
        float32 if rounding to it moves no coordinate by more than 1e-6 of the extent (the longest side of the bounding
        box), else float64.

    Example:
        >>> bed = np.array([[0.0, 0.0, 0.0], [2.0, 1.2, 0.61]])
        >>> lossless_dtype(bed), lossless_dtype(bed + [500_000, 4_600_000, 0])
        (dtype('float32'), dtype('float64'))

    """
    single, double = np.dtype(np.float32), np.dtype(np.float64)
    points = np.asarray(points)
    if points.dtype == single or not len(points):
        return single
    with np.errstate(over="ignore", invalid="ignore"):  # beyond float32 the loss is infinite; NaN compares as no loss
        loss = np.nanmax(np.abs(points - points.astype(single)), initial=0.0)
        if not loss:
            return single
        finite = points[np.isfinite(points).all(axis=1)]
        extent = _extent(finite[finite.any(axis=1)]) or _extent(finite)
    return single if loss <= _LOSS * extent else double


def _extent(points: NDArray[np.floating]) -> float:
    return float(np.ptp(points, axis=0).max()) if len(points) else 0.0


def finite_cloud(
    points: NDArray[Any], colors: NDArray[np.uint8] | None = None, *, drop_invalid: bool = False
) -> PointCloud:
    """Make a cloud of what a file holds.

    Args:
        points: `[N, 3]`, any numbers.
        colors: `[N, 3]`, or None.
        drop_invalid: Whether to leave out the points that are not finite, and count them: the pixels of a depth camera
            that saw nothing.

    Raises:
        ValueError: If a point is not finite and ``drop_invalid`` is off.

    """
    points = np.asarray(points, dtype=np.float64)
    kept = np.isfinite(points).all(axis=1)
    num_dropped = int(len(kept) - kept.sum())
    if num_dropped == 0:
        return PointCloud(points, colors)
    if not drop_invalid:
        raise ValueError(
            f"{num_dropped} points are not finite, of {len(kept)}; the first is point {int(kept.argmin())} "
            f"(`drop_invalid` leaves them out)"
        )
    return PointCloud(points[kept], None if colors is None else colors[kept], num_dropped)


def count_copies(points: NDArray[Any]) -> int:
    """Count the points that repeat an earlier one exactly: padding, or a scanner's invalid pixels.

    Args:
        points: `[N, 3]`.

    Example:
        >>> count_copies(np.array([[0.0, 0.0, 0.0], [1.0, 2.0, 3.0], [0.0, 0.0, 0.0]]))
        1

    """
    if not len(points):
        return 0
    rows = np.ascontiguousarray(points + 0.0)  # -0.0 is 0.0
    rows = rows[np.lexsort(rows.T)]
    return int((rows[1:] == rows[:-1]).all(axis=1).sum())
