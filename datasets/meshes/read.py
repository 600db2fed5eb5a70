"""Points of meshes, and of the clouds that formats of meshes hold."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from pcsa._core.checks import check_count
from pcsa.datasets.faults import reading
from pcsa.datasets.meshes.gltf import load_gltf
from pcsa.datasets.meshes.obj import load_obj
from pcsa.datasets.meshes.off import load_off
from pcsa.datasets.meshes.ply import load_ply
from pcsa.datasets.meshes.stl import load_stl
from pcsa.datasets.meshes.triangles import Mesh, sample_triangles
from pcsa.datasets.point_cloud import PointCloud

_READERS: dict[str, Callable[[str | os.PathLike[str]], Mesh]] = {
    ".obj": load_obj,
    ".off": load_off,
    ".stl": load_stl,
    ".ply": load_ply,
    ".glb": load_gltf,
    ".gltf": load_gltf,
}
#: Suffixes of the files that :func:`read_mesh` reads.
MESHES = tuple(_READERS)


def load_mesh(path: str | os.PathLike[str]) -> Mesh:
    """Read the vertices and triangles of a file as they are: nothing is merged, moved or left out.

    Args:
        path: A file of one of the suffixes :data:`MESHES`.

    Raises:
        ValueError: If the suffix is unknown, or the file cannot be read; the message names the file.

    """
    reader = _READERS.get(Path(path).suffix.lower())
    if reader is None:
        raise ValueError(f"`{os.fspath(path)}`: the suffix must be one of {', '.join(MESHES)}")
    return reader(path)


def read_mesh(
    path: str | os.PathLike[str], num_points: int = 2048, seed: int = 0, *, drop_invalid: bool = False
) -> PointCloud:
    r"""Sample points on a mesh, uniformly by area; of a file without faces, take the vertices.

    Vertices that no face uses are not sampled. The colors of samples are mixed from those of the corners.

    Args:
        path: A file of one of the suffixes :data:`MESHES`.
        num_points: Number of points sampled on a mesh.
        seed: Seed of the sampling.
        drop_invalid: Leave out vertices that are not finite, and the faces that use them, instead of raising.

    Returns:
        The points in the file's own units and frame. ``num_dropped`` counts the vertices that are not finite, on a mesh
        those that a face uses.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file cannot be read, holds no points or has no area, or a vertex is not finite; the message
            names the file.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "one.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
        ...     read_mesh(f"{folder}/one.obj", 100).points.shape
        (100, 3)

    """
    check_count("num_points", num_points)
    mesh = load_mesh(path)
    with reading(path, "a mesh"):
        if len(mesh.vertices) == 0:
            raise ValueError("the file holds no vertices")
        finite = np.asarray(np.isfinite(mesh.vertices).all(axis=1))
        whole = np.asarray(finite[mesh.faces].all(axis=1))
        lost = ~finite
        if len(mesh.faces):
            lost = np.zeros_like(finite)
            lost[mesh.faces[~whole]] = True
            lost &= ~finite
        num_dropped = int(lost.sum())
        if num_dropped and not drop_invalid:
            first = int(lost.argmax())
            values = " ".join(f"{value:g}" for value in mesh.vertices[first])
            faces = f", {int((~whole).sum())} faces use them" if len(mesh.faces) else ""
            raise ValueError(
                f"vertex {first} (={values}) must be finite: {num_dropped} of {len(finite)} vertices are not{faces} "
                "(`drop_invalid` leaves them out)"
            )
        if len(mesh.faces) == 0:
            if not finite.any():
                raise ValueError("no vertex is finite")
            colors = None if mesh.colors is None else mesh.colors[finite]
            return PointCloud(mesh.vertices[finite], colors, num_dropped)
        if not whole.any():
            raise ValueError("every face has a vertex that is not finite")
        points, colors = sample_triangles(mesh._replace(faces=mesh.faces[whole]), num_points, seed)
        return PointCloud(points, colors, num_dropped, is_sampled=True)
