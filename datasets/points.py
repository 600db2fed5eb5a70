"""Points of clouds and meshes, from files of many formats."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from numpy.typing import NDArray
from torch import Tensor

from pcsa.datasets.arrays import ARRAYS, read_arrays
from pcsa.datasets.pcd import read_pcd

CLOUDS = (".pcd", *ARRAYS)
MESHES = (".obj", ".off", ".stl", ".ply")  # a .ply file without faces is a cloud


def read_points(file: Path, num_points: int = 2048, seed: int = 0) -> Float64[Tensor, "N 3"]:
    """Read the points of a cloud, or sample points on a mesh by area.

    Args:
        file: A file of the suffixes :data:`CLOUDS` or :data:`MESHES`. A `.npz` file holds one array, or one that is
            named pos, points or xyz; further columns of an array are skipped.
        num_points: Number of points sampled on a mesh.
        seed: Seed of the sampling on a mesh.

    Returns:
        The points in the file's own units and frame; float64, so that far from the origin nothing is lost.

    Raises:
        ValueError: If the file cannot be read, has no points, or has values that are not finite; the message names
            the file.

    """
    try:
        if file.suffix.lower() == ".pcd":
            points: NDArray[Any] = read_pcd(file).points
        elif file.suffix.lower() in ARRAYS:
            points = _cloud_array(file)
        else:
            points = _vertices_or_samples(file, num_points, seed)
    except Exception as error:  # trimesh has no one class for what can be wrong with a file
        named = str(error).startswith(f"`{file}`")
        raise ValueError(str(error) if named else f"`{file}` cannot be read: {error}") from None
    if points.ndim != 2 or points.shape[1] < 3 or len(points) == 0 or points.dtype.kind not in "fiu":
        raise ValueError(
            f"`{file}` holds {points.dtype} {list(points.shape)}, must be numbers [N, 3] with N at least 1"
        )
    points = points[:, :3].astype(np.float64)
    if not np.isfinite(points).all():
        raise ValueError(f"`{file}` has {int((~np.isfinite(points)).any(1).sum())} points that are not finite")
    return torch.from_numpy(points)


def _cloud_array(file: Path) -> NDArray[Any]:
    arrays = read_arrays(file)
    if len(arrays) != 1 and not {"pos", "points", "xyz"} & set(arrays):
        raise ValueError(f"arrays {list(arrays)}, none of them named pos, points or xyz")
    return next(arrays[name] for name in ("pos", "points", "xyz", *arrays) if name in arrays)


def _vertices_or_samples(file: Path, num_points: int, seed: int) -> NDArray[Any]:
    import trimesh

    loaded = trimesh.load(file, process=False)
    if isinstance(loaded, trimesh.Scene):
        loaded = loaded.to_mesh()
    if not isinstance(loaded, trimesh.Trimesh) or not len(loaded.faces):
        return np.asarray(getattr(loaded, "vertices", ()))
    if not loaded.area > 0:
        raise ValueError("the mesh has no area to sample")
    return np.asarray(trimesh.sample.sample_surface(loaded, num_points, seed=seed)[0])
