"""Points of clouds and meshes, from files of many formats."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from pcsa.datasets.array_clouds import HDF5, read_array_cloud
from pcsa.datasets.arrays import ARRAYS
from pcsa.datasets.columns import Columns, column_names
from pcsa.datasets.faults import Problem, reading
from pcsa.datasets.pcd import read_pcd
from pcsa.datasets.point_cloud import PointCloud, count_copies, finite_cloud
from pcsa.datasets.text import TEXTS, read_text

LASER = (".las", ".laz")
CLOUDS = (".pcd", *ARRAYS, *TEXTS, *LASER, *HDF5)
MESHES = (".obj", ".off", ".stl", ".ply", ".glb", ".gltf")  # a .ply file without faces is a cloud
_UNNAMED = (*ARRAYS, *TEXTS, *HDF5)  # their columns may have no names


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
        if suffix not in CLOUDS + MESHES:
            raise ValueError(f"must be a file of {', '.join(CLOUDS + MESHES)}")
        if columns is not None and suffix not in _UNNAMED:
            raise ValueError(f"`columns` (={columns!r}) must be None for {suffix}, which names its columns itself")
        if suffix in MESHES:
            cloud = finite_cloud(*_read_mesh(path, num_points, seed), drop_invalid=drop_invalid)
        else:
            cloud = _READERS[suffix](path, columns, drop_invalid)
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
        problems.append(
            f"{cloud.num_dropped} of {cloud.num_dropped + len(cloud.points)} points are not finite: "
            f"`drop_invalid` leaves them out"
        )
    copies = count_copies(cloud.points)
    if copies:
        zeros = int((cloud.points == 0).all(axis=1).sum())
        at_zero = f", {zeros} lie at (0, 0, 0)" * (zeros > 1)
        problems.append(f"{copies} of {len(cloud.points)} points repeat another one exactly{at_zero}")
    return [Problem(where, problem) for problem in problems]


def _read_las(path: Path, columns: Columns | None, drop_invalid: bool) -> PointCloud:
    from pcsa.datasets.las import read_las

    return finite_cloud(*read_las(path), drop_invalid=drop_invalid)


def _read_mesh(path: Path, num_points: int, seed: int) -> PointCloud:
    import trimesh

    loaded = trimesh.load(path, process=False)
    if isinstance(loaded, trimesh.Scene):
        loaded = loaded.to_mesh()
    if not isinstance(loaded, trimesh.Trimesh) or not len(loaded.faces):
        return PointCloud(np.asarray(getattr(loaded, "vertices", ())).reshape(-1, 3))
    if not loaded.area > 0:
        raise ValueError("the mesh has no area to sample")
    return PointCloud(np.asarray(trimesh.sample.sample_surface(loaded, num_points, seed=seed)[0]))


_READERS: dict[str, Callable[[Path, Columns | None, bool], PointCloud]] = {
    ".pcd": lambda path, columns, drop_invalid: read_pcd(path, drop_invalid=drop_invalid),
    **dict.fromkeys((*ARRAYS, *HDF5), lambda path, columns, drop: read_array_cloud(path, columns, drop_invalid=drop)),
    **dict.fromkeys(TEXTS, lambda path, columns, drop: read_text(path, columns, drop_invalid=drop)),
    **dict.fromkeys(LASER, _read_las),
}
