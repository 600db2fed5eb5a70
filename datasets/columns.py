"""Columns with names: which of them are the coordinates, and which the colors."""

import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pcsa.datasets.colors import color_bytes, unpack_colors
from pcsa.datasets.point_cloud import PointCloud

Columns = str | Sequence[str]
_ALIASES = {
    **{"red": "r", "green": "g", "blue": "b"},
    **{f"points{sign}{i}": axis for i, axis in enumerate("xyz") for sign in (":", "_")},  # ParaView's tables
    **{f"points_m_xyz:{i}": axis for i, axis in enumerate("xyz")},  # VeloView's
}


def column_names(columns: Columns | None) -> tuple[str, ...] | None:
    """Return the names in ``columns``, which the user gives; raise unless x, y and z are among them once each.

    Example:
        >>> column_names("label, X Y Z")
        ('label', 'x', 'y', 'z')

    """
    if columns is None:
        return None
    listed = re.split(r"[\s,;]+", columns.strip(" ,;\t")) if isinstance(columns, str) else columns
    names = tuple(plain_name(str(name)) for name in listed)
    if any(names.count(axis) != 1 for axis in "xyz"):
        raise ValueError(f"`columns` (={columns!r}) must name x, y and z once each, and any other columns of the file")
    return names


@functools.lru_cache
def plain_name(name: str) -> str:
    """Return a column's name in lower case, without quotes and unit: ``"X [m]"`` is x, Red is r.

    Example:
        >>> plain_name('"X [m]"'), plain_name("Red")
        ('x', 'r')

    """
    name = re.sub(r"\s*[\[(][^\])]*[\])]$", "", name.strip().strip("\"'").strip()).lower()
    return _ALIASES.get(name, name)


def coordinates(names: Sequence[str]) -> dict[str, int]:
    """Return the places of x, y and z, and of r, g and b (all or none), among names.

    Raises:
        ValueError: If x, y or z is missing, or stands twice.

    """
    plain = [plain_name(name) for name in names]
    if any(plain.count(axis) != 1 for axis in "xyz"):
        raise ValueError(f"the columns are called {_list(names)}: x, y and z must be among them once each")
    channels = "rgb" if all(plain.count(channel) == 1 for channel in "rgb") else ""
    return {name: plain.index(name) for name in "xyz" + channels}


def cloud_of_columns(columns: Mapping[str, NDArray[Any]]) -> PointCloud:
    """Return the cloud that columns spell; its points may not be finite yet.

    Args:
        columns: Arrays of one length by name; other names than x, y, z, r, g, b, rgb and rgba are skipped.

    Raises:
        ValueError: If x, y or z is missing or no numbers.

    """
    places = coordinates(list(columns))
    arrays = list(columns.values())
    for axis in "xyz":
        if arrays[places[axis]].dtype.kind not in "fiu":
            raise ValueError(f"`{axis}` must be real numbers, is {arrays[places[axis]].dtype}")
    lengths = {len(arrays[place]) for place in places.values()}
    if len(lengths) > 1:
        raise ValueError(f"the columns {', '.join(places)} must have one length, have {sorted(lengths)}")
    points = np.stack([arrays[places[axis]].astype(np.float64) for axis in "xyz"], axis=1)
    if "r" in places:
        channels = np.stack([arrays[places[channel]] for channel in "rgb"], axis=1)
        return PointCloud(points, color_bytes(channels) if channels.dtype.kind in "fiu" else None)
    packed = next((array for name, array in columns.items() if plain_name(name) in ("rgb", "rgba")), None)
    return PointCloud(points, unpack_colors(packed) if packed is not None and packed.dtype.kind in "fiu" else None)


def unnamed(rows: int, columns: int) -> str:
    """Say why a table that has more or fewer than three columns, and no names, is refused."""
    if columns < 3:
        return f"{rows} rows of {columns} values: must be rows of x, y and z"
    if columns > 12:
        return f"{rows} rows of {columns} values: must be rows of x, y and z, so transpose it if each column is a point"
    return (
        f"{columns} columns without names, and only three without names are x, y and z: name them with `columns`, "
        f"such as columns={' '.join(['x', 'y', 'z', 'nx', 'ny', 'nz', *'abcdef'][:columns])!r}"
    )


def _list(names: Sequence[str]) -> str:
    return ", ".join(names[:12]) + ", …" * (len(names) > 12)
