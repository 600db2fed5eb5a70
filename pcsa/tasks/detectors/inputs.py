"""Clouds as users have them: arrays, tensors, objects of Open3D, trimesh and PyTorch Geometric, files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcsa.datasets.meshes.triangles import Mesh, sample_triangles
from pcsa.datasets.points import UNNAMED, read_cloud
from pcsa.tasks.common.given_clouds import UNKNOWN_POINTS

KINDS = (
    "points [N, 3] (a NumPy array or a tensor), an Open3D point cloud or mesh, a trimesh object, a PyTorch Geometric "
    "`Data` with `pos`, or the path of a file"
)


class InputCloud(NamedTuple):
    """Points of one input."""

    pos: Tensor
    """``[N, 3]`` in the input's units, float32 or float64, on the CPU."""
    name: str
    """What a message calls it."""
    is_sampled: bool = False
    """Whether the points were sampled on a mesh."""


class Sampling(NamedTuple):
    """How points come about where an input has none, or has others than are wanted."""

    num_points: int | None = None
    """Points sampled on a mesh; None for 2048."""
    seed: int = 0
    columns: str | None = None
    """Names of the columns of files that have no names for them, see :func:`pcsa.datasets.points.read_cloud`."""
    drop_invalid: bool = False
    """Whether to leave out points that are not finite."""


def as_list(given: Any) -> tuple[list[Any], bool]:
    """The inputs that a call was given, and whether it was given several."""
    if isinstance(given, (list, tuple)):
        return list(given), True
    if hasattr(given, "to_data_list"):  # a PyG batch
        return given.to_data_list(), True
    if isinstance(given, (np.ndarray, Tensor)) and given.ndim == 3:
        return list(given), True
    return [given], False


def as_cloud(given: Any, how: Sampling, name: str = "the cloud") -> InputCloud:
    """The points of an input.

    Args:
        given: One of :data:`KINDS`. A mesh is sampled by area; one without faces, and a scene of trimesh, too.
        how: How.
        name: What a message calls an input that is no file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is something else, has no points, or has some that are not finite; the message names it.
    """
    if isinstance(given, (str, os.PathLike)):
        return _read(Path(given), how)
    mesh = _mesh_of(given)
    sampled = mesh is not None and len(mesh.faces) > 0
    if mesh is not None and sampled:
        _check_finite(mesh.vertices[np.unique(mesh.faces)], name)
        try:
            points, _ = sample_triangles(mesh, how.num_points or UNKNOWN_POINTS, how.seed)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    else:
        points = mesh.vertices if mesh is not None else _points_of(given, name)
    if points.ndim != 2 or points.shape[1] != 3 or points.dtype.kind not in "fiu":
        raise ValueError(f"{name} ({points.dtype} {list(points.shape)}) must be {KINDS}")
    if points.dtype not in (np.float32, np.float64):
        points = points.astype(np.float64)
    if how.drop_invalid:
        points = points[np.isfinite(points).all(axis=1)]
    if not len(points):
        raise ValueError(f"{name} must have at least one point{' that is finite' if how.drop_invalid else ''}")
    _check_finite(points, name)
    return InputCloud(torch.from_numpy(np.ascontiguousarray(points)), name, sampled)


def _read(path: Path, how: Sampling) -> InputCloud:
    columns = how.columns if path.suffix.lower() in UNNAMED else None
    drawn: dict[str, Any] = {"num_points": how.num_points or UNKNOWN_POINTS, "seed": how.seed}
    cloud = read_cloud(path, columns=columns, drop_invalid=how.drop_invalid, **drawn)
    return InputCloud(torch.from_numpy(cloud.points), str(path), cloud.is_sampled)


def _mesh_of(given: Any) -> Mesh | None:
    """Vertices and faces of an object that has them; without faces where it may have none. None for other objects."""
    if hasattr(given, "to_mesh") and hasattr(given, "geometry"):  # a scene of trimesh
        given = given.to_mesh()
    legacy = given.to_legacy() if hasattr(given, "to_legacy") else given  # the tensors of Open3D
    faces: Any = None
    if hasattr(legacy, "vertices"):
        # A mesh of trimesh has triangles, too: those are their corners.
        vertices, faces = legacy.vertices, getattr(legacy, "faces", getattr(legacy, "triangles", None))
    elif getattr(legacy, "face", None) is not None and getattr(legacy, "pos", None) is not None:
        vertices, faces = legacy.pos, legacy.face.t()
    else:
        return None
    rows = np.empty((0, 3), np.int64) if faces is None else np.asarray(as_array(faces), np.int64).reshape(-1, 3)
    return Mesh(np.asarray(as_array(vertices), np.float64), rows)


def _points_of(given: Any, name: str) -> NDArray[Any]:
    """The points of an object without faces."""
    if hasattr(given, "to_legacy"):
        given = given.to_legacy()
    if hasattr(given, "points") and not isinstance(given, (np.ndarray, Tensor)):
        return np.asarray(given.points)
    if getattr(given, "pos", None) is not None:
        given = given.pos
    if not isinstance(given, (np.ndarray, Tensor, Sequence)):
        raise ValueError(f"{name} (a {type(given).__name__}) must be {KINDS}")
    return as_array(given)


def as_array(values: Any) -> NDArray[Any]:
    """Values as NumPy's, in a precision that it computes with."""
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        # NumPy has no bfloat16, and a half has three digits.
        values = (values.float() if values.dtype in (torch.float16, torch.bfloat16) else values).numpy()
    array = np.asarray(values)
    return array.astype(np.float32) if array.dtype == np.float16 else array


def _check_finite(points: NDArray[Any], name: str) -> None:
    bad = ~np.isfinite(points).all(axis=1)
    if bad.any():
        raise ValueError(
            f"{name} must be finite: {int(bad.sum())} of its {len(points)} points are not, the first is point "
            f"{int(bad.argmax())} (`drop_invalid` leaves them out)"
        )
