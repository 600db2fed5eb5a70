"""A scan with its surface: what landmarks are measured against."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pcsa.datasets.faults import reading
from pcsa.datasets.landmark_files.landmarks import Frame, frame_name
from pcsa.datasets.meshes.closest import distance_to
from pcsa.datasets.meshes.read import MESHES, load_mesh
from pcsa.datasets.meshes.triangles import Mesh, no_faces
from pcsa.datasets.points import UNNAMED, read_cloud

_HEAD = 4096  # bytes, in which Slicer says which frame a mesh is in


@dataclass(frozen=True)
class Scan:
    """A scan.

    Attributes:
        path: Its file.
        surface: Its mesh, or its points as a mesh without faces; all finite.
        frame: What its file says: Slicer writes SPACE=LPS into the header of a mesh.
        num_dropped: Vertices or points that are not finite, and were left out.

    """

    path: Path
    surface: Mesh
    frame: Frame | None
    num_dropped: int

    @cached_property
    def diagonal(self) -> float:
        """Of the bounding box."""
        used = self.surface.vertices
        if len(self.surface.faces):
            used = used[np.unique(self.surface.faces)]
        return float(np.linalg.norm(np.ptp(used, axis=0)))

    @cached_property
    def distance(self) -> Callable[[ArrayLike], NDArray[np.float64]]:
        """The distance of points `[n, 3]` to the surface."""
        return distance_to(self.surface)


def read_scan(path: Path, *, columns: str | None = None, drop_invalid: bool = False) -> Scan:
    """Read a cloud or a mesh as a surface.

    Args:
        path: The file.
        columns: See :func:`pcsa.datasets.points.read_cloud`; for formats whose columns have no names.
        drop_invalid: Whether to leave out vertices and points that are not finite, and the faces that use them.

    Raises:
        ValueError: If the file cannot be read, or has vertices or points that are not finite; the message names it.

    """
    suffix = path.suffix.lower()
    if suffix not in MESHES:
        named = columns if suffix in UNNAMED else None
        cloud = read_cloud(path, columns=named, drop_invalid=drop_invalid)
        return Scan(path, Mesh(cloud.points, no_faces()), None, cloud.num_dropped)
    mesh = load_mesh(path)
    with reading(path, "a mesh"):
        finite = np.asarray(np.isfinite(mesh.vertices).all(axis=1))
        whole = np.asarray(finite[mesh.faces].all(axis=1))
        bad = int((~finite).sum())
        if bad and not drop_invalid:
            raise ValueError(
                f"vertex {int(finite.argmin())} must be finite: {bad} of {len(finite)} vertices are not, "
                f"{int((~whole).sum())} faces use them (`drop_invalid` leaves them out)"
            )
        if not finite.any() or (len(mesh.faces) and not whole.any()):
            raise ValueError("has no part that is finite")
        if len(mesh.faces):
            # Their places are in no face that is left.
            surface = Mesh(np.where(finite[:, None], mesh.vertices, 0.0), mesh.faces[whole])
        else:
            surface = Mesh(mesh.vertices[finite], no_faces())
    return Scan(path, surface, stated_frame(path), bad)


def stated_frame(path: Path) -> Frame | None:
    """Return the frame that the header of a scan's file names, as Slicer writes it; None where it names none."""
    with path.open("rb") as file:
        found = re.search(rb"SPACE=(LPS|RAS)\b", file.read(_HEAD))
    return None if found is None else frame_name(found[1].decode())
