"""Clouds in files of arrays: NumPy's, and HDF5."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pcsa.datasets.arrays import ARRAYS, read_arrays
from pcsa.datasets.colors import color_bytes
from pcsa.datasets.columns import Columns, cloud_of_columns, column_names, plain_name, unnamed
from pcsa.datasets.faults import reading
from pcsa.datasets.hdf5_files import read_dataset
from pcsa.datasets.point_cloud import PointCloud, finite_cloud

HDF5 = (".h5", ".hdf5")
_POINTS = ("pos", "points", "xyz", "coord", "coords", "position", "positions", "vertices")
_COLORS = ("colors", "color", "rgb")


def read_array_cloud(
    path: str | os.PathLike[str], columns: Columns | None = None, *, drop_invalid: bool = False
) -> PointCloud:
    """Read the cloud of a `.npy`, `.npz`, `.h5` or `.hdf5` file.

    The cloud is an array `[N, 3]`; one of more columns is read where ``columns`` names them. Of several arrays it is
    the one that is called pos, points, xyz, coord, coords, position, positions or vertices (the first of them that is
    there), or, in HDF5, data; or three arrays are called x, y and z. A structured array has the fields x, y and z (and
    may have r, g and b, or a packed rgb), or one of three values with such a name.

    Args:
        path: The file.
        columns: Names of all columns of the array in their order, such as ``"x y z nx ny nz"``.
        drop_invalid: Whether to leave out the points that are not finite, and count them.

    Raises:
        ValueError: If no array, or more than one, may be the cloud; if it has another shape, holds no real numbers or a
            point that is not finite; or if it has three rows, which may be x, y and z, and ``columns`` does not say
            that rows are points. The message names the file.

    """
    names = column_names(columns)
    with reading(path, "arrays of points"):
        is_numpy = Path(path).suffix.lower() in ARRAYS
        cloud = _cloud(read_arrays(path), names) if is_numpy else _hdf5_cloud(path, names)
        return finite_cloud(cloud.points, cloud.colors, drop_invalid=drop_invalid)


def _hdf5_cloud(path: str | os.PathLike[str], names: tuple[str, ...] | None) -> PointCloud:
    """Read the cloud of an HDF5 file, wherever in it: the last parts of names count."""
    import h5py

    found: dict[str, list[Any]] = {}

    def visit(name: str, thing: Any) -> None:
        if isinstance(thing, h5py.Dataset):
            found.setdefault(name.rsplit("/", 1)[-1].lower(), []).append(thing)

    with h5py.File(path, "r") as file:
        file.visititems(visit)
        clouds = [name for name in (*_POINTS, "data") if name in found]
        if clouds and len(found[clouds[0]]) > 1:
            raise ValueError(f"holds {', '.join(thing.name for thing in found[clouds[0]][:6])}: one cloud per file")
        datasets = {name: things[0] for name, things in found.items()}
        if clouds == ["data"]:
            datasets["points"] = datasets.pop("data")
        return _cloud(datasets, names, lambda dataset: read_dataset(dataset, path))


def _cloud(
    arrays: Mapping[str, Any], names: tuple[str, ...] | None, read: Callable[[Any], NDArray[Any]] = np.asarray
) -> PointCloud:
    """Return the cloud among arrays, which may be datasets that are not read yet."""
    lower = {name.lower(): array for name, array in arrays.items()}
    arrays = lower if len(lower) == len(arrays) else arrays
    chosen = next((name for name in _POINTS if name in arrays), None)
    if chosen is None and {"x", "y", "z"} <= {plain_name(name) for name in arrays}:
        return cloud_of_columns({name: read(array).reshape(-1) for name, array in arrays.items()})
    if chosen is None and len(arrays) != 1:
        listed = ", ".join(f"{name} {list(array.shape)}" for name, array in list(arrays.items())[:8])
        raise ValueError(f"holds {listed or 'no array'}: one array, or one that is called pos, points, xyz or vertices")
    if chosen == "vertices" and {"faces", "triangles"} & set(arrays):
        raise ValueError("holds a mesh, vertices and faces: save it as .ply or .obj, or the vertices alone")
    array = read(arrays[chosen or next(iter(arrays))])
    if array.dtype.names is not None:
        return _structured(array, names)
    cloud = _points(array, names)
    colors = next((arrays[name] for name in _COLORS if name in arrays and arrays[name].shape == (len(array), 3)), None)
    if cloud.colors is None and colors is not None and colors.dtype.kind in "fiu":
        return PointCloud(cloud.points, color_bytes(read(colors)))
    return cloud


def _points(array: NDArray[Any], names: tuple[str, ...] | None) -> PointCloud:
    what = f"{array.dtype} {list(array.shape)}"
    if array.ndim == 3:
        raise ValueError(f"holds {what}: several clouds? One cloud [N, 3] must be in a file")
    if array.dtype.kind not in "fiu" or array.ndim != 2 or len(array) == 0 or array.shape[1] < 3:
        raise ValueError(f"holds {what}, must be numbers [N, 3] with N at least 1")
    rows, columns = array.shape
    if names is not None:
        if columns != len(names):
            raise ValueError(f"`columns` (={' '.join(names)!r}) names {len(names)} columns, the array has {columns}")
        return cloud_of_columns(dict(zip(_distinct(names), array.T, strict=True)))
    if rows == 3:
        raise ValueError(
            f"holds {what}: three rows may be x, y and z. Transpose it if each column is a point; "
            f"name its columns with `columns` if each row is"
        )
    if columns != 3:
        raise ValueError(f"holds {what}: {unnamed(rows, columns)}")
    return PointCloud(array)


def _structured(array: NDArray[Any], names: tuple[str, ...] | None) -> PointCloud:
    if names is not None:
        raise ValueError(f"`columns` (={' '.join(names)!r}) is for columns without names: {_fields(array)} are there")
    array = array.reshape(-1)  # of an organized cloud, [H, W]
    columns: dict[str, NDArray[Any]] = {}
    names = array.dtype.names or ()
    if not {"x", "y", "z"} <= {plain_name(field) for field in names} and not set(map(plain_name, names)) & set(_POINTS):
        raise ValueError(f"has the fields {_fields(array)}: x, y and z, or points of three values, must be among them")
    for field in array.dtype.names or ():
        values = array[field]
        if values.ndim == 1:
            columns[field] = values
        elif values.shape[1:] == (3,) and plain_name(field) in _POINTS:
            columns.update(zip("xyz", values.T, strict=True))
        elif values.shape[1:] == (3,) and plain_name(field) in _COLORS:
            columns.update(zip("rgb", values.T, strict=True))
    return cloud_of_columns(columns)


def _fields(array: NDArray[Any]) -> str:
    return ", ".join(array.dtype.names or ())


def _distinct(names: tuple[str, ...]) -> list[str]:
    """Return names of which none is there twice, so that they may be keys: the later ones get their place."""
    return [name if names.index(name) == place else f"{name} {place}" for place, name in enumerate(names)]
