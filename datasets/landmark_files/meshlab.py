"""MeshLab's picked points (`.pp`)."""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree
from xml.sax.saxutils import quoteattr

import numpy as np

from pcsa._core.writing import replacing
from pcsa.datasets.faults import reading
from pcsa.datasets.files import existing
from pcsa.datasets.landmark_files.cells import check_small, flag_of, number_of
from pcsa.datasets.landmark_files.fcsv import only_one
from pcsa.datasets.landmark_files.landmarks import Landmarks, with_names
from pcsa.datasets.limits import read_whole


def read_meshlab(path: str | os.PathLike[str]) -> list[Landmarks]:
    """Read points that were picked in MeshLab.

    Points that are not ``active``, those of a template that were not picked, are not defined. The points are in the
    frame and units of the mesh.

    Args:
        path: A `.pp`.

    Returns:
        One :class:`Landmarks`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is no XML of picked points, a coordinate of an active point is missing or no finite
            number, or names repeat; the message names the file, the point, the value and the rule.

    """
    with reading(existing(path), "picked points of MeshLab"):
        check_small(path)
        content = read_whole(path)
        if b"<!entity" in content.lower():
            raise ValueError("must not define entities")
        try:
            root = ElementTree.fromstring(content)
        except (ElementTree.ParseError, LookupError, ValueError) as error:
            raise ValueError(f"not an XML file ({error})") from error
        if root.tag != "PickedPoints":
            raise ValueError(f"its root (={root.tag[:60]!r}) must be PickedPoints")
        points = list(root.iter("point"))
        places = [f"point {number}" for number in range(1, len(points) + 1)]
        defined = [flag_of(p.get("active", ""), f"{at}: `active`") for p, at in zip(points, places, strict=True)]
        positions = [
            [number_of(point.get(axis, ""), f"{place}: `{axis}`") for axis in "xyz"] if there else [math.nan] * 3
            for point, place, there in zip(points, places, defined, strict=True)
        ]
        return [
            Landmarks(
                with_names([point.get("name", "") for point in points], places),
                np.array(positions, dtype=np.float64).reshape(-1, 3),
                np.array(defined, dtype=bool),
                source=os.fspath(path),
            )
        ]


def write_meshlab(path: str | os.PathLike[str], lists: Landmarks | Sequence[Landmarks]) -> None:
    """Write a list of landmarks as picked points of MeshLab; those that are not defined are not ``active``.

    Args:
        path: The file, which is replaced as a whole.
        lists: One list; the format has no place for more, nor for frames, units and descriptions.

    Raises:
        ValueError: If there are several.

    """
    landmarks = only_one(lists, path)
    lines = ["<!DOCTYPE PickedPoints>", "<PickedPoints>"]
    for name, position, there in zip(landmarks.names, landmarks.points.tolist(), landmarks.there, strict=True):
        x, y, z = position if there else (0.0, 0.0, 0.0)
        lines.append(f' <point x="{x!r}" y="{y!r}" z="{z!r}" name={quoteattr(name)} active="{int(there)}"/>')
    lines.append("</PickedPoints>")
    with replacing(Path(path)) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
