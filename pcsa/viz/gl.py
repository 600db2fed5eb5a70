"""Open3D: getting it, a window of it, and what a scene is made of there."""

from __future__ import annotations

import importlib
import os
import tempfile
from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pcsa.viz.scene import Array, Scene, balls, cloud_colors, lines, map_shares, size_of

NEEDS = (
    "Open3D (pip install 'pcsa[viz]') and the system libraries EGL, GL and USB (Debian, Ubuntu: apt-get install "
    "libegl1 libgl1 libusb-1.0-0)"
)


def load_open3d() -> Any:
    """The module, quiet.

    Raises:
        ImportError: If Open3D or a system library of it is missing; names all of them.
    """
    try:
        o3d = importlib.import_module("open3d")
    except (ImportError, OSError) as error:
        raise ImportError(f"Open3D cannot be imported ({error}): it takes {NEEDS}") from None
    # What goes wrong is said by us, once; Open3D's own lines would come with every frame.
    o3d.utility.set_verbosity_level(o3d.utility.VerbosityLevel.Error)
    return o3d


def open_window(visualizer: Any, title: str, size: tuple[int, int], visible: bool) -> bool:
    """Whether Open3D could open a window, shown or not, on this machine."""
    # Without this variable the search for a Wayland display prints an error, though none is needed.
    unset = "XDG_RUNTIME_DIR" not in os.environ
    os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.gettempdir())
    try:
        made = visualizer.create_window(window_name=title, width=size[0], height=size[1], visible=visible)
    finally:
        if unset:
            del os.environ["XDG_RUNTIME_DIR"]
    # Without a context the window "exists", and its options are None.
    return bool(made) and visualizer.get_render_option() is not None


def mesh_of(o3d: Any, vertices: Array, normals: Array | None, colors: Array, faces: NDArray[np.int64]) -> Any:
    """An Open3D mesh; without normals, with those of its faces."""
    mesh = o3d.geometry.TriangleMesh(
        o3d.utility.Vector3dVector(np.ascontiguousarray(vertices, dtype=np.float64)),
        o3d.utility.Vector3iVector(np.ascontiguousarray(faces, dtype=np.int32)),
    )
    mesh.vertex_colors = o3d.utility.Vector3dVector(np.ascontiguousarray(colors, dtype=np.float64))
    if normals is None:
        mesh.compute_vertex_normals()
    else:
        mesh.vertex_normals = o3d.utility.Vector3dVector(np.ascontiguousarray(normals, dtype=np.float64))
    return mesh


def marks(o3d: Any, scene: Scene, layers: Collection[str], keypoint: int | None, axes: Array) -> list[Any]:
    """Balls and lines, in one mesh if there are any.

    Args:
        o3d: Open3D.
        scene: What is drawn.
        layers: Names of what is drawn.
        keypoint: The one whose map is shown.
        axes: Right, up and towards the viewer: rings are turned there, and shadows are part of the colors.
    """
    parts = []
    center, tint, radius, _ = balls(scene, layers, keypoint)
    # Samples come by the hundred and are seen as dots.
    for many, detail in ((True, 6), (False, 20)):
        some = (radius < 0.01 * size_of(scene)) == many
        if some.any():
            parts.append(_spheres(center[some], radius[some], tint[some], detail))
    start, end, tint, radius, _ = lines(scene, layers, keypoint, axes[2])
    if len(start):
        parts.append(_tubes(start, end, radius, tint))
    if not parts:
        return []
    counts = np.cumsum([0] + [len(p[0]) for p in parts])
    faces = np.concatenate([p[3] + n for p, n in zip(parts, counts, strict=False)])
    vertices, normals, colors = (np.concatenate([p[i] for p in parts]) for i in range(3))
    colors = colors * (0.55 + 0.5 * normals @ _lamp(axes)).clip(0.4, 1)[:, None]
    return [mesh_of(o3d, vertices, normals, colors, faces)]


def shape_mesh(o3d: Any, scene: Scene, axes: Array) -> Any:
    """The shape's own mesh; for ``axes`` see :func:`marks`."""
    corners = scene.vertices[scene.faces].reshape(-1, 3)  # unshared, so that edges stay sharp
    triangles = corners.reshape(-1, 3, 3)
    normal = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-300)
    color = mesh_colors(scene) * (0.5 + 0.36 * np.abs(normal @ _lamp(axes)))[:, None]
    return mesh_of(o3d, corners, None, np.repeat(color, 3, axis=0), np.arange(len(corners)).reshape(-1, 3))


def mesh_colors(scene: Scene) -> Array:
    """Color of each face [F, 3] in full light, white if the mesh has none."""
    if scene.vertex_color is None:
        return np.ones((len(scene.faces), 3))
    return np.asarray(np.clip(scene.vertex_color, 0, 1)[scene.faces].mean(1))


def discs(o3d: Any, scene: Scene, keypoint: int | None, axes: Array) -> Any:
    """The points as round discs turned to the viewer: the points of Open3D's windows are squares."""
    angle = np.linspace(0, 2 * np.pi, 8, endpoint=False)
    rim = np.outer(np.cos(angle), axes[0]) + np.outer(np.sin(angle), axes[1])
    N, n = len(scene.pos), len(rim)
    vertices = (scene.pos[:, None] + point_radius(scene, keypoint)[:, None, None] * rim).reshape(-1, 3)
    fan = np.stack([np.zeros(n - 2, int), np.arange(1, n - 1), np.arange(2, n)], axis=1)
    faces = (np.arange(N)[:, None, None] * n + fan).reshape(-1, 3)
    colors = np.repeat(seen_colors(scene, keypoint, axes), n, axis=0)
    return mesh_of(o3d, vertices, np.broadcast_to(axes[2], vertices.shape), colors, faces)


def seen_colors(scene: Scene, keypoint: int | None, axes: Array) -> Array:
    """Colors of the points in a view that does not change: the farther away, the paler."""
    colors, depth = cloud_colors(scene, keypoint, _lamp(axes)), scene.pos @ axes[2]
    haze = 0.5 * (depth.max() - depth) / max(float(np.ptp(depth)), 1e-300)
    if keypoint is not None:
        haze = haze * (1 - map_shares(scene, keypoint))
    return np.asarray(colors + (0.93 - colors) * haze[:, None])


def _lamp(axes: Array) -> Array:
    """Direction that the light comes from: over the viewer's left shoulder."""
    lamp = axes[2] + 0.7 * axes[1] - 0.4 * axes[0]
    return np.asarray(lamp / np.linalg.norm(lamp))


def point_radius(scene: Scene, keypoint: int | None = None) -> Array:
    """Size of each drawn point: smaller the more there are, so that a surface holds together and shows its marks."""
    radius = size_of(scene) * float(np.clip(0.011 * (2048 / len(scene.pos)) ** 0.5, 0.003, 0.02))
    # A map is often one or two points: they must be seen.
    share = 0.0 if keypoint is None else map_shares(scene, keypoint) ** 0.5
    return np.asarray(radius * (1 + share) * np.ones(len(scene.pos)))


def _spheres(center: Array, radius: Array, color: Array, detail: int) -> tuple[Array, Array, Array, NDArray[np.int64]]:
    rows, columns = detail // 2 + 1, detail
    polar, around = np.meshgrid(np.linspace(0, np.pi, rows), np.linspace(0, 2 * np.pi, columns, endpoint=False))
    unit = np.stack([np.sin(polar) * np.cos(around), np.cos(polar), np.sin(polar) * np.sin(around)], -1).reshape(-1, 3)
    i, j = (x.reshape(-1) for x in np.meshgrid(np.arange(columns), np.arange(rows - 1), indexing="ij"))
    a, b = i * rows + j, (i + 1) % columns * rows + j
    faces = np.concatenate([np.stack([a, b, a + 1], 1), np.stack([b, b + 1, a + 1], 1)])
    M, n = len(center), len(unit)
    vertices = (center[:, None] + radius[:, None, None] * unit).reshape(-1, 3)
    return vertices, np.tile(unit, (M, 1)), np.repeat(color, n, 0), _repeated(faces, n, M)


def _tubes(start: Array, end: Array, radius: Array, color: Array) -> tuple[Array, Array, Array, NDArray[np.int64]]:
    along = end - start
    length = np.linalg.norm(along, axis=1, keepdims=True)
    along = np.divide(along, length, out=np.tile([1.0, 0.0, 0.0], (len(start), 1)), where=length > 0)
    helper = np.eye(3)[np.abs(along).argmin(1)]
    u = np.cross(along, helper)
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    v = np.cross(along, u)
    # A little longer, so that the pieces of a ring leave no gaps.
    start, end = start - 0.15 * radius[:, None] * along, end + 0.15 * radius[:, None] * along
    sides = 8
    angle = np.linspace(0, 2 * np.pi, sides, endpoint=False)
    normal = np.cos(angle)[:, None] * u[:, None] + np.sin(angle)[:, None] * v[:, None]
    out = radius[:, None, None] * normal
    vertices = np.concatenate([start[:, None] + out, end[:, None] + out], axis=1).reshape(-1, 3)
    a = np.arange(sides)
    b = (a + 1) % sides
    faces = np.concatenate([np.stack([a, b, a + sides], 1), np.stack([b, b + sides, a + sides], 1)])
    M, n = len(start), 2 * sides
    return vertices, np.tile(normal, (1, 2, 1)).reshape(-1, 3), np.repeat(color, n, 0), _repeated(faces, n, M)


def _repeated(faces: NDArray[np.int64], num_vertices: int, times: int) -> NDArray[np.int64]:
    return (np.arange(times)[:, None, None] * num_vertices + faces).reshape(-1, 3)
