"""Points of clouds and meshes, from files of many formats."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float64
from torch import Tensor

from pcsa.datasets.array_clouds import HDF5, read_array_cloud
from pcsa.datasets.arrays import ARRAYS
from pcsa.datasets.columns import Columns, column_names
from pcsa.datasets.faults import Problem, reading
from pcsa.datasets.las import read_las
from pcsa.datasets.meshes import MESHES as MESHES, read_mesh
from pcsa.datasets.pcd import read_pcd
from pcsa.datasets.point_cloud import PointCloud, count_copies
from pcsa.datasets.text import TEXTS, read_text

LASER = (".las", ".laz")
CLOUDS = (".pcd", *ARRAYS, *TEXTS, *LASER, *HDF5)
UNNAMED = (*ARRAYS, *TEXTS, *HDF5)
"""Formats whose columns may have no names."""


class _Options(NamedTuple):
    columns: Columns | None
    drop_invalid: bool
    num_points: int
    seed: int


def read_cloud(
    path: str | os.PathLike[str],
    *,
    columns: Columns | None = None,
    drop_invalid: bool = False,
    num_points: int = 2048,
    seed: int = 0,
) -> PointCloud:
    """Read the cloud of a file, or sample points on a mesh by area.

    Args:
        path: A file of the suffixes :data:`CLOUDS` or :data:`MESHES`, in upper or lower case.
        columns: Names of all columns of a text file or of an array in their order, among them x, y and z (and r, g, b),
            such as ``"label x y z"``. Three columns need no names.
        drop_invalid: Whether to leave out the points that are not finite, and count them in ``num_dropped``.
        num_points: Number of points sampled on a mesh.
        seed: Seed of the sampling on a mesh.

    Returns:
        The points in the file's own units and frame, in float64, so that far from the origin nothing is lost; at least
        one. Points that repeat others are kept: :func:`~pcsa.datasets.point_cloud.count_copies` counts them.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file cannot be read, has no points or has some that are not finite, if what its columns are
            is not certain, or if ``columns`` is given for a format whose columns have names; the message names the
            file.

    """
    path = Path(path)
    suffix = path.suffix.lower()
    column_names(columns)
    with reading(path, "a cloud or a mesh"):
        if suffix not in _READERS:
            raise ValueError(f"must be a file of {', '.join(CLOUDS + MESHES)}")
        if columns is not None and suffix not in UNNAMED:
            raise ValueError(f"`columns` (={columns!r}) must be None for {suffix}, which names its columns itself")
        cloud = _READERS[suffix](path, _Options(columns, drop_invalid, num_points, seed))
        if not len(cloud.points):
            raise ValueError(f"has no points{', none of its points is finite' * (cloud.num_dropped > 0)}")
        return cloud


def read_points(
    path: str | os.PathLike[str],
    num_points: int = 2048,
    seed: int = 0,
    *,
    columns: Columns | None = None,
    drop_invalid: bool = False,
) -> Float64[Tensor, "N 3"]:
    """Read the points of a cloud, or sample points on a mesh by area; see :func:`read_cloud`."""
    cloud = read_cloud(path, columns=columns, drop_invalid=drop_invalid, num_points=num_points, seed=seed)
    return torch.from_numpy(cloud.points)


def check_cloud(path: str | os.PathLike[str], columns: Columns | None = None) -> list[Problem]:
    """List what is wrong with the cloud of a file.

    Args:
        path: The file.
        columns: As for :func:`read_cloud`.

    Returns:
        Why it cannot be read; or how many of its points are not finite, and how many repeat another one.

    """
    where = os.fspath(path)
    try:
        cloud = read_cloud(path, columns=columns, drop_invalid=True)
    except (ValueError, OSError) as error:
        return [Problem(where, str(error).removeprefix(f"`{where}`: "))]
    problems = []
    if cloud.num_dropped:
        # Of a mesh it is vertices that are left out, and its points are samples.
        total = "" if Path(path).suffix.lower() in MESHES else f", of {cloud.num_dropped + len(cloud.points)}"
        problems.append(f"{cloud.num_dropped} points are not finite{total} (`drop_invalid` leaves them out)")
    copies = count_copies(cloud.points)
    if copies:
        zeros = int((cloud.points == 0).all(axis=1).sum())
        at_zero = f", {zeros} lie at (0, 0, 0)" * (zeros > 1)
        problems.append(f"{copies} of {len(cloud.points)} points repeat another one exactly{at_zero}")
    return [Problem(where, problem) for problem in problems]


def _read_pcd(path: Path, options: _Options) -> PointCloud:
    return read_pcd(path, drop_invalid=options.drop_invalid)


def _read_text(path: Path, options: _Options) -> PointCloud:
    return read_text(path, options.columns, drop_invalid=options.drop_invalid)


def _read_arrays(path: Path, options: _Options) -> PointCloud:
    return read_array_cloud(path, options.columns, drop_invalid=options.drop_invalid)


def _read_laser(path: Path, options: _Options) -> PointCloud:
    return read_las(path)


def _read_mesh(path: Path, options: _Options) -> PointCloud:
    return read_mesh(path, options.num_points, options.seed, drop_invalid=options.drop_invalid)


_READERS: dict[str, Callable[[Path, _Options], PointCloud]] = {
    ".pcd": _read_pcd,
    **dict.fromkeys(TEXTS, _read_text),
    **dict.fromkeys((*ARRAYS, *HDF5), _read_arrays),
    **dict.fromkeys(LASER, _read_laser),
    **dict.fromkeys(MESHES, _read_mesh),
}
